"""Stage ``relax``, and relaxations for any stage: what did not converge leaves here and never enters a hull."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dpa4_flows.campaigns.context import Case, Scene
from dpa4_flows.campaigns.measured import Measured, relaxed
from dpa4_flows.campaigns.sections import Limits, RelaxSection, Section
from dpa4_flows.campaigns.stage import Finding, Stage
from dpa4_flows.compute.plan import Crystal, Property
from dpa4_flows.compute.relaxed import TIGHT_FMAX, Relaxed
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.documents.schemas import RelaxationDocument


@dataclass(frozen=True)
class Relaxation(Measured):
    """Relaxes one crystal for each candidate, with the settings of ``[relax]``: only these give comparable energies.

    Attributes:
        own: options that the table of the stage decides instead.
    """

    reasons: ClassVar[Mapping[str, ReasonKind]] = {
        **Measured.reasons,
        "not_converged": ReasonKind("not converged", "a relaxation did not converge", status="error"),
    }
    measures: Property[Any] = field(default_factory=Relaxed)
    own: tuple[str, ...] = ()

    @property
    def tables(self) -> Mapping[str, type[Section]]:
        return {"relax": RelaxSection}

    def settled(self, scene: Scene) -> Property[Any]:
        return Relaxed(**scene.run.relaxation(**{option: getattr(scene.settings, option) for option in self.own}))

    def failed(self, case: Case) -> Finding | None:
        """An unconverged structure has no energy that could be compared."""
        document = case.calculation
        if document.error is not None or document.converged:
            return super().failed(case)
        fmax = case.scene.run.campaign.relax.fmax
        reached = "unknown" if document.fmax is None else f"{document.fmax:.3g} eV/Å"
        why = f" ({document.reason})" if document.reason else ""
        sentence = (
            f"the relaxation did not converge: fmax {reached} after {document.n_steps} steps, wanted {fmax:g} eV/Å{why}"
        )
        return Finding(
            case.id,
            [Reason(code="not_converged", sentence=sentence)],
            values=document,
            limits={"fmax": fmax},
            keys=[document.key],
            provenance=document.provenance,
        )


def judge_relaxation(case: Case, suffix: str = "") -> Finding:
    """What a relaxation found.

    Args:
        case: the candidate.
        suffix: of the codes of its doubts.
    """
    document = case.calculation
    return Finding(
        case.id,
        [
            doubt.model_copy(update={"code": f"{doubt.code}{suffix}"})
            for doubt in document.doubts
            if doubt.code in DOUBTS
        ],
        values=document,
        sentences={
            "volume_change_percent": "the volume changed by {value:+.1f} % on relaxation (more than {limit:g} %): the "
            "input cell was far from equilibrium"
        },
        limits={"fmax": case.scene.run.campaign.relax.fmax},
        keys=[document.key],
        provenance=document.provenance,
    )


DOUBTS = {
    "dissociated": ReasonKind("fell apart", "it fell into pieces, or into layers or chains"),
    "close_contact": ReasonKind("atoms too close", "two of its atoms are closer than bonds are"),
    "saddle": ReasonKind(
        "not a minimum", "the relaxed structure is a saddle point: its energy is too high", disqualifies=True
    ),
    "vacuum_kept": ReasonKind(
        "vacuum in the cell", "its cell holds a vacuum: what is said per atom is that of a slab, chain or molecule"
    ),
}
"""Doubts of any relaxation, by their codes in `FLAG_SENTENCES`; of the volume limits decide."""

RELAX = Stage(
    name="relax",
    title="Relaxation",
    judge=judge_relaxation,
    quantities=RelaxationDocument,
    criteria={"volume_change_percent": Limits(max=30.0, otherwise="flag")},
    reasons={
        **DOUBTS,
        "input_far_off": ReasonKind(
            "input cell far off", "the volume changed much on relaxation: the input was guessed"
        ),
    },
    computes=Relaxation(),
)


def judge_rest(case: Case) -> Finding:
    """Whether a candidate came to rest; one that did not goes on as it is."""
    document = case.calculation
    words = f"it did not come to rest within {document.n_steps} steps: facets that are equal may count as different"
    reasons = [] if document.converged else [Reason(code="not_at_rest", sentence=words)]
    return Finding(case.id, reasons, keys=[document.key], provenance=document.provenance)


AT_REST = Stage(
    name="at_rest",
    title="Relaxation, tight",
    judge=judge_rest,
    reasons={"not_at_rest": ReasonKind("not at rest", "a crystal did not come to rest: its symmetry is doubtful")},
    needs=("relax",),
    computes=Measured(
        Relaxed(fmax=TIGHT_FMAX, max_steps=300, check_minimum=False), of="candidates, tight", crystal=relaxed
    ),
)
"""For what follows from the symmetry of a crystal, which a push hides where a relaxation stops early: cobalt that stops
at 0.02 eV/Å is sheared by 0.2 degrees, and has the facets of a monoclinic crystal."""


def at_rest(case: Case) -> Crystal:
    """A candidate as this stage left it."""
    return relaxed(case, AT_REST.name)

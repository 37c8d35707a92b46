"""Stage ``hull``, and hulls for any stage: how far phases lie above the competing phases by the same model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import BaseModel

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.completeness import hull_verdict
from dpa4_flows.analysis.frames import MIXED_ZEROS, UNDECIDED_ZEROS
from dpa4_flows.campaigns.context import Case, Scene, Screening
from dpa4_flows.campaigns.library import REFERENCES, run_library
from dpa4_flows.campaigns.measured import relaxed
from dpa4_flows.campaigns.sections import HullSection, Limits, RelaxSection, Section
from dpa4_flows.campaigns.stage import Computation, Finding, Stage
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import NO_NUMBER, Ask, Crystal, Crystals
from dpa4_flows.documents.hull import HullValues, products_text, words_of
from dpa4_flows.documents.quantities import STD
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.properties.competition import Competing, systems_of
from dpa4_flows.properties.hull import Hull, Place
from dpa4_flows.reference.entries import chemical_system
from dpa4_flows.reference.store import ReferenceStore

NOTICEABLY_BELOW = 0.02
"""eV/atom; a phase that lies further below all others may miss competitors; beyond `FAR_BELOW` it does."""

ZERO_REASONS = {
    MIXED_ZEROS: ReasonKind("mixed energy zeros", "fine-tuning shifted the energy zero of some elements only", "error"),
    UNDECIDED_ZEROS: ReasonKind(
        "energy zeros unknown", "the model's data do not tell the energy zeros of its elements one by one", "error"
    ),
}
"""Why energies of a model cannot be compared; for every stage that compares some."""

REASONS = {
    "no_hull_distance": ReasonKind("no distance", "no distance to the hull", status="error"),
    **ZERO_REASONS,
    "above_limit": ReasonKind("above the hull", "too far above the hull", status="failed"),
    "corrections_doubtful": ReasonKind("corrections doubtful", "how its energy is to be corrected is doubtful"),
    "phases_missing": ReasonKind(
        "known phases missing", "known phases of its system have no energy: its distance is a lower bound"
    ),
    "element_missing": ReasonKind(
        "element missing", "an element of its system has no reference: its stability is not known", disqualifies=True
    ),
    "no_known_competitor": ReasonKind(
        "no known competitor", "no known compound competes: its stability is not known", disqualifies=True
    ),
    "far_below_competitors": ReasonKind(
        "competitors unknown",
        "far below all competing phases: its competitors are not known, nor is its stability",
        disqualifies=True,
    ),
    "not_recorded": ReasonKind(
        "competitors unknown", "what competed was not recorded: its stability is not known", disqualifies=True
    ),
    "below_competitors": ReasonKind("below all phases", "below all competing phases: its stability is an upper bound"),
}


@dataclass(frozen=True)
class CompetingPhases(Computation):
    """Relaxes the competing phases of the candidates, with the settings of the candidates: a phase that stays on a
    saddle point would let every candidate near it look stable. The hull asks for what still lacks.
    """

    of: str = "competing phases"

    @property
    def tables(self) -> Mapping[str, type[Section]]:
        return {"hull": HullSection, "relax": RelaxSection}

    def work(self, scene: Scene, ids: Sequence[str]) -> dict[str, int]:
        return {phase.key: phase.n_atoms for phase in scene.competing.phases(self.systems(scene, ids))}

    def asks(self, scene: Scene, parts: Sequence[str]) -> Iterator[tuple[str, Ask[Any]]]:
        structures = scene.competing.structures(parts)
        return ((key, Ask(scene.run.relaxed, Crystal(structure))) for key, structure in structures.items())

    def covers(self, other: Computation) -> bool:
        return isinstance(other, CompetingPhases)

    def systems(self, scene: Scene, ids: Sequence[str]) -> set[str]:
        """Chemical systems of the candidates ``ids``."""
        found = (structure_of_fields(c.structure) for c in scene.table.candidates(ids) if c.structure is not None)
        return {chemical_system(structure) for structure in found}


@dataclass(frozen=True)
class OfRun(Competing[Any]):
    """What competes in a campaign are the phases that the run was prepared with, in its own table, since a worker need
    not have the files. To be named behind a property, whose defaults then count.

    Attributes:
        run: the campaign.
    """

    run: Screening | None = field(default=None, metadata=NO_NUMBER)

    @classmethod
    def of_run(cls, run: Screening, **settings: Any) -> Self:
        """With the settings of the campaign, and others."""
        return cls(relaxation=run.relaxed, corrections=run.scheme(), run=run, **settings)

    def known_phases(self, subject: Crystal | Crystals, systems: Sequence[str]) -> tuple[ReferenceStore, list[str]]:
        assert self.run is not None
        return run_library(self.run), []


@dataclass(frozen=True)
class RunHull(Hull, OfRun):
    """The hull in a campaign."""


def places(scene: Scene, crystals: Sequence[Crystal], aside: Iterable[int] = ()) -> list[Place]:
    """Where relaxed crystals lie, in order; those at the positions ``aside`` stand against no other.

    Raises:
        DPA4Error: there are no hulls at all.
    """
    subject = Crystals(tuple(crystals), frozenset(aside))
    ((_, found),) = compute([("", Ask(RunHull.of_run(scene.run), subject))], scene.run.model, scene.table)
    if found.error is not None:
        raise DPA4Error(found.error)
    rows = {row["key"]: row for row in scene.table.get_meta(REFERENCES, [])}
    rows |= {phase.key: phase._asdict() for phase in scene.competing.phases(systems_of(subject))}
    scene.table.set_meta(REFERENCES, list(rows.values()))
    scene.table.set_meta(f"{scene.stage.name}_summary", found.summary)
    listed: list[Place] = found.places
    return listed


def hull_finding(
    crystal: Crystal,
    place: Place,
    *,
    values: type[BaseModel] = HullValues,
    suffix: str = "",
    what: str = "",
    unknown: str = "",
    further: Sequence[Reason] = (),
) -> Finding:
    """What a place on the hull says. A distance that is unknown, or a lower bound by far, does not rank.

    Args:
        crystal: the candidate, relaxed.
        place: where it lies.
        values: document of the values; their names are those of `HullValues` with ``suffix``.
        suffix: of names of values and of codes.
        what: words before the formula, with a space at the end.
        unknown: code of the reasons for a distance that is not known, instead of one for each cause.
        further: other reasons.
    """
    position, completeness, document = place.position, place.completeness, place.document
    distance, below = position.energy_above_hull, position.distance_to_competing
    origin = document.provenance if document else None
    keys = [] if crystal.relaxed is None else [crystal.relaxed.key]
    error = place.error or position.error
    if error or distance is None or completeness is None:
        sentence = error or f"{position.formula} has no place on the hull"
        code = place.error_code if place.error_code in ZERO_REASONS else "no_hull_distance"
        return Finding(crystal.name, [Reason(code=code, sentence=sentence)], keys=keys, provenance=origin)
    products = products_text(position.formula, position.decomposition)
    verdict = hull_verdict(distance, below, completeness)
    codes = [("corrections_doubtful", sentence) for sentence in place.doubts]
    codes += [("phases_missing", f"not on the hull: {sentence}") for sentence in completeness.without_energy]
    if position.missing_references:
        elements = ", ".join(position.missing_references)
        codes.append(
            (unknown or "element_missing", f"no reference for {elements}: the distance to the hull is a lower bound")
        )
    if not verdict.documented:
        sentence = (
            f"whether {what}{position.formula} is stable is {verdict.sentence}"
            if verdict.code == "unknown"
            else f"{what}{position.formula}: {verdict.sentence}; its distance to the hull does not rank"
        )
        codes.append((unknown or verdict.reason, sentence))
    elif below is not None and below < -NOTICEABLY_BELOW:
        sentence = (
            f"{what}{position.formula} lies {-below:.3f} eV/atom below all competing phases: its stability is an "
            "upper bound, since a phase that is missing may lie between"
        )
        codes.append((f"below_competitors{suffix}", sentence))
    numbers = {
        "energy_above_hull": distance,
        "formation_energy_per_atom": position.formation_energy_per_atom,
        "distance_to_competing": below,
    }
    words = {"decomposition": words_of(verdict, position.formula, position.decomposition)}
    deviations = {name.removesuffix(STD): number for name, number in position.deviations().items()}
    named = {
        **{f"{name}{suffix}": number for name, number in numbers.items()},
        **{f"{name}{suffix}{STD}": number for name, number in deviations.items()},
        **words,
        "n_competing": position.n_competing,
    }
    return Finding(
        crystal.name,
        [*(Reason(code=code, sentence=sentence) for code, sentence in codes), *further],
        values=values.model_validate({name: value for name, value in named.items() if name in values.model_fields}),
        document=document,
        sentences={
            f"energy_above_hull{suffix}": f"{what}{position.formula} lies {{value:.3f}} eV/atom above the hull, more "
            f"than {{limit:g}}; it would turn into {products}"
        },
        keys=keys,
        provenance=origin,
    )


def judge_hull(scene: Scene, cases: Iterable[Case]) -> Iterable[Finding]:
    """Distance of the relaxed candidates, which compete with each other, too."""
    crystals = [relaxed(case) for case in cases]
    yield from map(hull_finding, crystals, places(scene, crystals))


HULL = Stage(
    name="hull",
    title="Convex hull",
    over_all=judge_hull,
    quantities=HullValues,
    criteria={"energy_above_hull": Limits(max=0.05)},
    reasons=REASONS,
    needs=("relax",),
    computes=CompetingPhases(),
)

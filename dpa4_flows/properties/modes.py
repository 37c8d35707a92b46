"""Down along imaginary modes: displace, relax, look again, until there is no imaginary mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pymatgen.core import Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.errors import plural
from dpa4_flows.analysis.stability import primitive_cell, space_group
from dpa4_flows.compute.plan import Ask, Crystal, Plan, PlanError, answered
from dpa4_flows.compute.relaxed import TIGHT_FMAX, Relaxed
from dpa4_flows.documents.schemas import RelaxationDocument
from dpa4_flows.documents.stability import FollowedMode, FollowedPart, PhononPart
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.limits import check_counts
from dpa4_flows.properties.part import StabilityProperty, had_room, whole_crystal
from dpa4_flows.properties.phonons import Phonons

MIN_GAIN_EV = 1e-4
"""eV/atom; a structure that is lower by less is the one that the displacement came from."""
SAME_ENERGY_EV = 2e-5
"""eV/atom; of structures that differ by less, the most symmetric one is taken."""


@dataclass(frozen=True)
class FollowedModes(StabilityProperty[FollowedPart]):
    """Where a relaxed crystal with imaginary modes goes: displaced along the lowest one in all its directions, relaxed,
    the lowest taken, its phonons calculated, and so on.

    Attributes:
        relaxation: of the displaced crystals, tight.
        phonons: of the crystal and of what lies lower.
        max_follow_steps: how often a crystal is displaced and relaxed.
    """

    name: ClassVar[str] = "follow modes"
    example: ClassVar[str] = "BaTiO3.cif --max-follow-steps 2"
    document: ClassVar[type[FollowedPart]] = FollowedPart
    version: ClassVar[int] = 3

    relaxation: Relaxed = field(default_factory=lambda: Relaxed(fmax=TIGHT_FMAX, max_steps=1000, check_minimum=False))
    phonons: Phonons = field(default_factory=Phonons)
    max_follow_steps: int = 3

    def check(self) -> None:
        check_counts(self, "max_follow_steps", least=0)
        self.relaxation.check()
        self.phonons.check()

    def settings(self, model: ModelRef) -> dict[str, Any]:
        return {
            "calculation": self.name,
            "max_follow_steps": int(self.max_follow_steps),
            "relax": self.relaxation.settings(model),
            "phonons": self.phonons.settings(model),
        }

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        symbol = space_group(crystal.structure) if isinstance(crystal.structure, Structure) else "?"
        return {**super().facts(crystal, error), "space_group_before": symbol, "space_group": symbol}

    def plan(self, crystal: Crystal) -> Plan[FollowedPart]:
        structure, start = whole_crystal(crystal), crystal.relaxed
        if start is None:
            start = answered((yield {"relaxed": Ask(self.relaxation, crystal)})["relaxed"])
            structure = structure_of_fields(start.structure or {})
        now, energy = structure, start.energy_per_atom or 0.0
        phonons: PhononPart = answered((yield from self._phonons(now)))
        first, steps, ended = (structure, energy, phonons), list[FollowedMode](), ""
        while phonons.verdict == "unstable" and phonons.along_mode and len(steps) < self.max_follow_steps:
            tried = [structure_of_fields(fields) for fields in phonons.along_mode]
            relaxed = yield {str(i): Ask(self.relaxation, Crystal(one)) for i, one in enumerate(tried)}
            had_room(relaxed.values())
            good = [d for d in relaxed.values() if d.error is None]
            if not good:
                lost = relaxed["0"]
                raise PlanError(f"no displaced cell could be relaxed: {lost.error}", lost.error_code or "not_computed")
            lower = _lowest(good, energy - MIN_GAIN_EV)
            if lower is None:
                ended = f"no structure lower by {1000 * MIN_GAIN_EV:g} meV/atom was found along the mode"
                break
            below, document = lower
            further = yield from self._phonons(below)
            steps.append(_step((now, energy, phonons), below, document, len(tried), further))
            now, energy, phonons = below, steps[-1].energy_per_atom, further
        return self._document(crystal, first, steps, ended)

    def _phonons(self, structure: Structure) -> Plan[Any]:
        found = yield {"phonons": Ask(self.phonons, Crystal(structure))}
        had_room(found.values())
        return found["phonons"]

    def _document(
        self, crystal: Crystal, first: tuple[Structure, float, PhononPart], steps: list[FollowedMode], ended: str
    ) -> FollowedPart:
        structure, energy, phonons = first
        before = space_group(structure)
        common: dict[str, Any] = {"space_group_before": before, "provenance": self.origin(crystal)}
        if not steps:
            told = {"verdict": phonons.verdict, "reason": "; ".join(filter(None, (phonons.reason, ended)))}
            return FollowedPart(**told, converged=phonons.converged, space_group=before, **common)
        last = steps[-1]
        gain = energy - last.energy_per_atom
        way = " → ".join([before, *(step.space_group for step in steps)])
        words = f"{way}: {1000 * gain:.1f} meV/atom lower after {plural(len(steps), 'step')}"
        left = "no imaginary mode is left" if last.phonons.verdict == "stable" else last.phonons.reason
        return FollowedPart(
            verdict=last.phonons.verdict,
            reason="; ".join(filter(None, (words, f"there: {left}", ended))),
            converged=all(step.converged for step in steps),
            steps=steps,
            energy_gain_ev_per_atom=gain,
            space_group=last.space_group,
            structure=last.structure,
            **common,
        )


def _lowest(documents: Sequence[RelaxationDocument], below: float) -> tuple[Structure, RelaxationDocument] | None:
    """The lowest relaxation below an energy; among equals the one with the fewest atoms and the highest symmetry."""
    lower = [d for d in documents if d.energy_per_atom is not None and d.energy_per_atom < below]
    if not lower:
        return None
    lowest = min(d.energy_per_atom or 0.0 for d in lower)
    equals = []
    for document in lower:
        if (document.energy_per_atom or 0.0) <= lowest + SAME_ENERGY_EV:
            structure = structure_of_fields(document.structure or {})
            equals.append((_primitive(structure), document))
    return min(equals, key=lambda pair: (not pair[1].converged, len(pair[0]), pair[1].energy_per_atom))


def _primitive(structure: Structure) -> Structure:
    try:
        return primitive_cell(structure)
    except ValueError:
        return structure


def _step(
    before: tuple[Structure, float, PhononPart],
    structure: Structure,
    document: RelaxationDocument,
    n_tried: int,
    phonons: PhononPart,
) -> FollowedMode:
    there, energy, modes = before
    assert document.energy_per_atom is not None and modes.f_min_commensurate_thz is not None
    return FollowedMode(
        q=list(modes.lowest_q or []),
        frequency_thz=modes.f_min_commensurate_thz,
        energy_gain_ev_per_atom=energy - document.energy_per_atom,
        space_group_before=space_group(there),
        space_group=space_group(structure),
        n_atoms=len(structure),
        n_tried=n_tried,
        structure=structure.as_dict(),
        energy_per_atom=document.energy_per_atom,
        converged=document.converged,
        phonons=phonons,
    )

"""Down along imaginary modes: displace, relax, look again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymatgen.core import Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.stability import primitive_cell, space_group
from dpa4_flows.makers.batch import BatchRelaxMaker
from dpa4_flows.makers.phonons import BatchPhononMaker
from dpa4_flows.provenance import provenance
from dpa4_flows.results import ResultsTable
from dpa4_flows.schemas import RelaxationDocument
from dpa4_flows.schemas_stability import FollowedMode, FollowedPart, PhononPart

MIN_GAIN_EV = 1e-4
"""eV/atom; a structure that is lower by less is the one that the displacement came from."""
SAME_ENERGY_EV = 2e-5
"""eV/atom; of structures that differ by less, the most symmetric one is taken."""


@dataclass(frozen=True)
class Descent:
    """A crystal on its way down.

    Attributes:
        structure: relaxed crystal.
        energy_per_atom: eV/atom.
        phonons: of ``structure``.
    """

    structure: Structure
    energy_per_atom: float
    phonons: PhononPart


@dataclass
class ModeFollower:
    """Displace unstable crystals along their lowest imaginary mode, relax, take the lowest structure, calculate its
    phonons, and so on until there is no imaginary mode.

    All directions of all crystals relax in the same batch. Relaxations and phonons are kept in the results table.

    Args:
        relax_maker: relaxes the displaced crystals, tightly.
        phonon_maker: calculates phonons of the lower structures.
        max_follow_steps: how often a crystal is displaced and relaxed.
    """

    relax_maker: BatchRelaxMaker
    phonon_maker: BatchPhononMaker
    max_follow_steps: int = 3

    def settings(self) -> dict[str, Any]:
        return {
            "calculation": "follow modes",
            "max_follow_steps": int(self.max_follow_steps),
            "relax": self.relax_maker.settings(),
            "phonons": self.phonon_maker.settings(),
        }

    def run(self, starts: Sequence[Descent], table: ResultsTable) -> list[FollowedPart]:
        """Where each crystal goes.

        Args:
            starts: crystals whose phonons are unstable.
            table: relaxations and phonons are found and kept here.
        """
        steps: list[list[FollowedMode]] = [[] for _ in starts]
        now = list(starts)
        going = [i for i, start in enumerate(starts) if start.phonons.along_mode]
        for _ in range(self.max_follow_steps):
            going = [i for i in going if now[i].phonons.verdict == "unstable"]
            lower = self._lower([now[i] for i in going], table)
            phonons = iter(self.phonon_maker.run([found[0] for found in lower if found is not None], table))
            still = []
            for i, found in zip(going, lower, strict=True):
                if found is None:
                    continue
                step = _step(now[i], *found, next(phonons))
                steps[i].append(step)
                now[i] = Descent(found[0], step.energy_per_atom, step.phonons)
                still.append(i)
            going = still
            if not going:
                break
        return [self._part(start, path) for start, path in zip(starts, steps, strict=True)]

    def _lower(
        self, descents: Sequence[Descent], table: ResultsTable
    ) -> list[tuple[Structure, RelaxationDocument, int] | None]:
        """The lowest structure along the mode of each crystal, its relaxation and the number of directions."""
        tried = [[structure_of_fields(s) for s in descent.phonons.along_mode] for descent in descents]
        self.relax_maker.run(table, [structure for group in tried for structure in group])
        found: list[tuple[Structure, RelaxationDocument, int] | None] = []
        for descent, group in zip(descents, tried, strict=True):
            keys = [self.relax_maker.key(structure) for structure in group]
            stored = table.calculations(keys)
            documents = [stored[key] for key in keys if stored[key].error is None]
            best = _lowest(documents, descent.energy_per_atom - MIN_GAIN_EV)
            found.append(None if best is None else (*best, len(group)))
        return found

    def _part(self, start: Descent, steps: list[FollowedMode]) -> FollowedPart:
        info = self.relax_maker.model.info()
        before = space_group(start.structure)
        common: dict[str, Any] = {
            "space_group_before": before,
            "provenance": provenance(info, self.settings()),
        }
        if not steps:
            sentence = f"no structure lower by {1000 * MIN_GAIN_EV:g} meV/atom was found along the imaginary mode"
            return FollowedPart(verdict="unknown", reason=sentence, converged=True, space_group=before, **common)
        last = steps[-1]
        gain = start.energy_per_atom - last.energy_per_atom
        way = " → ".join([before, *(step.space_group for step in steps)])
        words = f"{way}: {1000 * gain:.1f} meV/atom lower after {len(steps)} step{'s' if len(steps) > 1 else ''}"
        left = "no imaginary mode is left" if last.phonons.verdict == "stable" else last.phonons.reason
        return FollowedPart(
            verdict=last.phonons.verdict,
            reason=f"{words}; there: {left}",
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
    before: Descent, structure: Structure, document: RelaxationDocument, n_tried: int, phonons: PhononPart
) -> FollowedMode:
    energy = document.energy_per_atom
    assert energy is not None and before.phonons.f_min_commensurate_thz is not None
    return FollowedMode(
        q=list(before.phonons.lowest_q or []),
        frequency_thz=before.phonons.f_min_commensurate_thz,
        energy_gain_ev_per_atom=before.energy_per_atom - energy,
        space_group_before=space_group(before.structure),
        space_group=space_group(structure),
        n_atoms=len(structure),
        n_tried=n_tried,
        structure=structure.as_dict(),
        energy_per_atom=energy,
        converged=document.converged,
        phonons=phonons,
    )

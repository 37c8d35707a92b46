"""How certain a place on a hull is: each member of a committee places all phases by its own energies.

What members get wrong alike in a phase and in those that it competes with cancels in the distance; variances of phases,
which know nothing of that, are never added.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_flows.analysis.hull import PlaceSpread, SystemHull, elements_of, is_converged

DEVIATIONS = "member_deviations"
"""In the data of an entry: energy by each member less that of the entry, eV/atom. Corrections are the same for all."""

_CORNER = 1e-6  # eV/atom; a phase that is not above the hull may be a corner of it


def place_spreads(
    candidates: Sequence[ComputedEntry], competing: Sequence[ComputedEntry], rivals: Sequence[ComputedEntry] = ()
) -> list[PlaceSpread | None]:
    """Spread of the place of every candidate; None of a single model, or where a phase is not by the same members.

    Arguments as of `analysis.hull.phase_positions`.
    """
    by_system: dict[frozenset[str], list[int]] = {}
    for index, entry in enumerate(candidates):
        if is_converged(entry):
            by_system.setdefault(elements_of(entry), []).append(index)
    out: list[PlaceSpread | None] = [None] * len(candidates)
    for system, indices in by_system.items():
        alone, beside = (
            [e for e in entries if is_converged(e) and elements_of(e) <= system] for entries in (competing, rivals)
        )
        members = {len(e.data.get(DEVIATIONS) or ()) for e in (*(candidates[i] for i in indices), *alone, *beside)}
        if len(members) == 1 and members != {0}:
            found = _Members(system, alone, [*alone, *beside], members.pop())
            for index in indices:
                out[index] = found.spread(candidates[index])
    return out


class _Members:
    """The hulls of one chemical system by each member: of the competing phases, and of these and the rivals."""

    def __init__(
        self, system: frozenset[str], alone: list[ComputedEntry], joint: list[ComputedEntry], n_members: int
    ) -> None:
        self.system, self.joint, self.has_rivals = system, joint, len(joint) > len(alone)
        self.below = [self._hull(alone, k) for k in range(n_members)]
        self.together = [self._hull(joint, k) for k in range(n_members)] if self.has_rivals else self.below

    def spread(self, entry: ComputedEntry) -> PlaceSpread:
        """Of the place of one phase."""
        spreads = np.std([self._place(entry, k) for k in range(len(self.below))], axis=0, ddof=1)
        return PlaceSpread(*(float(value) if np.isfinite(value) else None for value in spreads))

    def _place(self, entry: ComputedEntry, k: int) -> tuple[float, float, float]:
        energy, below = _energies([entry], k)[0], self.below[k]
        distance = _above(energy, self.together[k], entry)
        if self.has_rivals and distance < _CORNER:  # perhaps a corner of it
            distance = _above(energy, self._hull([phase for phase in self.joint if phase is not entry], k), entry)
        return distance, _above(energy, below, entry), energy - below.fractions([entry])[0] @ below.references

    def _hull(self, entries: list[ComputedEntry], k: int) -> SystemHull:
        return SystemHull(self.system, entries, _energies(entries, k))


def _above(energy: float, hull: SystemHull, entry: ComputedEntry) -> float:
    (lowest,) = hull.energies([entry])
    return np.nan if lowest is None else energy - lowest


def _energies(entries: Sequence[ComputedEntry], k: int) -> NDArray[np.float64]:
    """By member ``k``, eV/atom."""
    return np.array([entry.energy_per_atom + entry.data[DEVIATIONS][k] for entry in entries])

"""Hops that are the same forwards and backwards: an operation of the crystal takes one end of the path to the other."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
from numpy.typing import NDArray

from dpa4_core.data.spglib_search import found_by
from dpa4_core.data.structures import System, check_system, from_system, to_system
from dpa4_core.relax.operations import cartesian, targets

SYMPREC = 0.05
"""Å; ends that were relaxed one by one differ by a few hundredths from each other's images."""
CLOSEST = 0.2
"""Of the sum of covalent radii; where atoms come nearer on straight lines, no symmetry is looked for."""


@dataclass(frozen=True, eq=False)
class Mirror:
    """An operation that takes each end of a path to the other.

    Attributes:
        rotation: [3, 3] Cartesian.
        translation: [3] Å.
        target: [n] the atom at whose place each atom comes to lie.
        near: [n, 3] Å, about where the atoms of the other end are.
        cell: [3, 3] Å.

    """

    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    target: NDArray[np.int64]
    near: NDArray[np.float64]
    cell: NDArray[np.float64]

    def other_end(self, end: Any) -> Any:
        """The other end, of the type of ``end``; atoms go the shorter way, and need not be in the cell."""
        system = to_system(end)
        return from_system(end, dataclasses.replace(system, positions=self._taken(system.positions)))

    def _taken(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        image = np.empty_like(positions)
        image[self.target] = positions @ self.rotation.T + self.translation
        cells = np.round((self.near - image) @ np.linalg.inv(self.cell))
        return np.asarray(image + cells @ self.cell)


def mirror_of(start: Any, end: Any, symprec: float = SYMPREC) -> Mirror | None:
    """What takes ``start`` to ``end`` and back; None if nothing does, for molecules, and where atoms are fixed.

    Args:
        start, end: structures with their atoms in the same order, on continuous ways (`matched_end`).
        symprec: Å, within which both are images of each other.

    """
    first, last = to_system(start), to_system(end)
    half_way = dataclasses.replace(first, positions=(first.positions + last.positions) / 2)
    overlap = check_system(half_way, first.numbers.tolist(), min_distance_ratio=CLOSEST)
    if not first.pbc.all() or first.fixed.any() or overlap is not None:
        return None
    middle = half_way.positions @ np.linalg.inv(first.cell)  # what swaps the ends keeps the middle
    cell: Any = first.cell, middle, first.numbers
    found = found_by(spglib.get_symmetry, cell, symprec=symprec)
    for rotation, translation in () if found is None else zip(found["rotations"], found["translations"], strict=True):
        target = targets(first.cell, middle, first.numbers, rotation, translation)
        if target is None:
            continue
        turned = cartesian(first.cell, rotation)
        mirror = Mirror(turned, translation @ first.cell, target, last.positions, first.cell)
        if _apart(mirror._taken(first.positions), last) < symprec:
            back = dataclasses.replace(mirror, near=first.positions)
            if _apart(back._taken(last.positions), first) < symprec:
                return mirror
    return None


def _apart(positions: NDArray[np.float64], system: System) -> float:
    return float(np.linalg.norm(positions - system.positions, axis=1).max())

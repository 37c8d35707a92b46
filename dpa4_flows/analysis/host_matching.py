"""Which host atom of one cell is which in another: the same framework, whatever the order, labels or setting.

Atoms are assigned by element so that the sum of squared distances is least (H. W. Kuhn, Naval Res. Logist. Q. 2, 83
(1955)), between nearest images, after the change of the cell and a rigid shift are taken off.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure
from pymatgen.util.coord import pbc_shortest_vectors
from scipy.optimize import linear_sum_assignment

_LENGTH_TOLERANCE, _ANGLE_TOLERANCE = 0.2, 10.0
"""Of a setting of the cell that may be the same one: relative, degrees; hosts swell by less along any axis."""
_STRAIN_MARGIN = 0.02
"""By which another setting may be more strained than the given one and still be believed."""
_MAX_SETTINGS = 100
_MAX_PAIRS = 5_000_000
"""Pairs of atoms compared in all settings, a few seconds; large cells are matched in the given setting alone."""
_REFINEMENTS = 3
_SAME_SHIFT = 1e-3  # Å


class HostMatch(NamedTuple):
    """A framework found in another cell.

    Attributes:
        displacement: largest distance of an atom from where it was, Å.
        lattice: of the second cell, in the setting of the first one.
    """

    displacement: float
    lattice: Lattice


def match_hosts(first: Structure, second: Structure, good_enough: float) -> HostMatch | None:
    """The best assignment of the atoms of ``second`` to those of ``first``; None if they hold other elements.

    Args:
        first: ordered structure.
        second: ordered structure, measured in whose cell.
        good_enough: Å; other settings of the second cell are tried if atoms move further in the given one.
    """
    numbers = [np.array([site.specie.Z for site in structure]) for structure in (first, second)]
    if sorted(numbers[0].tolist()) != sorted(numbers[1].tolist()) or not len(first):
        return None
    best = _in_setting(first, second.lattice, second.frac_coords, numbers)
    if best.displacement <= good_enough:
        return best
    allowed = _strain(first.lattice, second.lattice) + _STRAIN_MARGIN
    for strain, scale in _settings(first, second, numbers[0]):
        if strain > allowed:
            break
        lattice = Lattice(scale @ second.lattice.matrix)
        match = _in_setting(first, lattice, second.frac_coords @ np.linalg.inv(scale), numbers)
        if match.displacement < best.displacement - _SAME_SHIFT:  # of equal ones the least strained
            best = match
    return best


def in_cell_like(cell: Structure, other: Structure, n_cells: int) -> Structure | None:
    """A supercell of so many cells of ``other`` that resembles ``cell``, the least strained one; None without any."""
    found = other.lattice.find_all_mappings(
        cell.lattice, ltol=_LENGTH_TOLERANCE, atol=_ANGLE_TOLERANCE, skip_rotation_matrix=True
    )
    scales = (np.array(scale) for _, _, scale in islice(found, _MAX_SETTINGS))
    right = [scale for scale in scales if round(abs(np.linalg.det(scale))) == n_cells]
    if not right:
        return None
    best = min(right, key=lambda scale: _strain(cell.lattice, Lattice(scale @ other.lattice.matrix)))
    return other.copy().make_supercell(best.astype(int))


def _settings(
    first: Structure, second: Structure, numbers: NDArray[np.int64]
) -> list[tuple[float, NDArray[np.float64]]]:
    """Other bases of the second lattice that resemble the first cell, as matrices, the least strained ones first."""
    n_shifts = np.unique(numbers, return_counts=True)[1].min()
    n_settings = min(_MAX_SETTINGS, _MAX_PAIRS // int(n_shifts * len(numbers) ** 2))
    found = second.lattice.find_all_mappings(
        first.lattice, ltol=_LENGTH_TOLERANCE, atol=_ANGLE_TOLERANCE, skip_rotation_matrix=True
    )
    scales = [np.array(scale, dtype=np.float64) for _, _, scale in islice(found, n_settings)]
    strains = [_strain(first.lattice, Lattice(scale @ second.lattice.matrix)) for scale in scales]
    return sorted(zip(strains, scales, strict=True), key=lambda pair: pair[0])


def _strain(first: Lattice, second: Lattice) -> float:
    """Largest principal strain between two cells."""
    stretches = np.linalg.svd(np.linalg.solve(first.matrix, second.matrix), compute_uv=False)
    return float(np.abs(stretches - 1).max())


def _in_setting(
    first: Structure, lattice: Lattice, fractional: NDArray[np.float64], numbers: list[NDArray[np.int64]]
) -> HostMatch:
    """The best match over rigid shifts, each of which brings one atom of the rarest element onto another one."""
    elements, counts = np.unique(numbers[0], return_counts=True)
    rarest = elements[counts.argmin()]
    start = first.frac_coords[np.flatnonzero(numbers[0] == rarest)[0]]
    best = (np.inf, np.inf)
    for place in fractional[numbers[1] == rarest]:
        best = min(best, _displacement(first.frac_coords + (place - start), lattice, fractional, numbers))
    return HostMatch(best[1], lattice)


def _displacement(
    before: NDArray[np.float64], lattice: Lattice, after: NDArray[np.float64], numbers: list[NDArray[np.int64]]
) -> tuple[float, float]:
    """Root mean square and largest displacement in Å, both after the mean one is taken off."""
    moved = np.empty_like(before)
    for _ in range(_REFINEMENTS):
        for element in np.unique(numbers[0]):
            rows, columns = (np.flatnonzero(each == element) for each in numbers)
            vectors, squares = pbc_shortest_vectors(lattice, before[rows], after[columns], return_d2=True)
            chosen = linear_sum_assignment(squares)
            moved[rows[chosen[0]]] = vectors[chosen]
        mean = moved.mean(axis=0)
        if np.linalg.norm(mean) < _SAME_SHIFT:
            break
        before = before + lattice.get_fractional_coords(mean)
    lengths = np.linalg.norm(moved - moved.mean(axis=0), axis=1)
    return float(np.sqrt((lengths**2).mean())), float(lengths.max())

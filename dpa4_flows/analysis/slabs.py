"""Slabs as arrays of atoms: cut from planes, widened in the plane, with halves of a plane on either face."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from dpa4_flows.analysis.facets import operations, shortest
from dpa4_flows.analysis.planes import PLANE

Array = NDArray[np.float64]

MIDDLE = 0.1
"""Å below the middle of a slab, from which on its atoms are fixed: a plane in the middle is free."""


def cut_slab(unit: Structure, bottom: float, height: float, vacuum: float) -> Structure:
    """The planes of an oriented unit cell from ``bottom`` to ``bottom + height``, in the middle of an upright cell."""
    rows = unit.lattice.matrix
    spacing = rows[2, 2]
    periods = math.ceil(height / spacing + 1)
    first = unit.frac_coords - np.array([0, 0, 1]) * np.floor(unit.frac_coords[:, 2:] - bottom / spacing)
    coords = np.concatenate([first + np.array([0, 0, k]) for k in range(periods)]) @ rows
    inside = coords[:, 2] < bottom + height
    species = [site.specie for _ in range(periods) for site in unit]
    return upright(rows, [kind for kind, stays in zip(species, inside, strict=True) if stays], coords[inside], vacuum)


def upright(rows: Array, species: Sequence[Any], coords: Array, vacuum: float) -> Structure:
    """Atoms at ``coords``, in the middle of a cell whose third axis is the normal of the first two ``rows``."""
    low, high = coords[:, 2].min(), coords[:, 2].max()
    depth = high - low + vacuum
    cell = Lattice([rows[0], rows[1], [0, 0, depth]])
    shifted = coords + np.array([0, 0, (depth - low - high) / 2])
    return Structure(cell, species, shifted, coords_are_cartesian=True, to_unit_cell=True).get_sorted_structure()


def halved_slabs(unit: Structure, bottom: float, min_thickness: float, vacuum: float) -> list[Structure]:
    """Whole periods from ``bottom`` on, of whose uppermost plane one half has moved below the lowest one.

    So a stack of charged planes loses its dipole (P. W. Tasker, J. Phys. C 12, 4977 (1979)), if the plane has a half in
    the smallest surface cell. What is kept has two equal faces; slabs that an operation of the crystal maps onto one
    another are one.
    """
    rows = unit.lattice.matrix
    spacing = rows[2, 2]
    periods = math.ceil(min_thickness / spacing - 1e-8)
    whole = cut_slab(unit, bottom, periods * spacing, vacuum)
    heights = whole.cart_coords[:, 2]
    top = np.flatnonzero(heights > heights.max() - PLANE)
    if len(top) % 2 or len({whole[i].specie for i in top}) > 1:
        return []
    found: list[Structure] = []
    for half in itertools.combinations(top.tolist(), len(top) // 2):
        coords = whole.cart_coords.copy()
        coords[list(half)] -= periods * rows[2]
        slab = upright(rows, whole.species, coords, vacuum)
        if has_equal_faces(slab) and not any(_same(slab, other) for other in found):
            found.append(slab)
    return found


def has_equal_faces(slab: Structure) -> bool:
    """Whether an operation of the slab turns it over."""
    return bool((operations(slab)[0][:, 2, 2] == -1).any())


def turned_over(slab: Structure) -> Structure:
    """The slab seen from below: turned by half a turn about its first axis."""
    axis = slab.lattice.matrix[0] / slab.lattice.a
    coords = 2 * np.outer(slab.cart_coords @ axis, axis) - slab.cart_coords
    rows = 2 * np.outer(slab.lattice.matrix @ axis, axis) - slab.lattice.matrix
    cell = Lattice([rows[0], -rows[1], -rows[2]])
    return Structure(cell, slab.species, coords, coords_are_cartesian=True, to_unit_cell=True)


def widened(slab: Structure, min_length: float) -> tuple[Structure, int]:
    """The smallest supercell in the plane in which an atom is at least ``min_length`` Å from its images, and how many
    surface cells it holds; of equal ones the roundest. It is not turned.
    """
    rows = slab.lattice.matrix[:2]
    densest = math.sqrt(0.75) * min_length**2  # no lattice with these distances has a smaller cell than the hexagonal
    for size in itertools.count(max(1, math.ceil(densest / np.linalg.norm(np.cross(*rows)) - 1e-6))):
        reduced = [_reduced(basis, rows) for basis in _sublattices(size)]
        lengths = [np.linalg.norm(basis @ rows, axis=1) for basis in reduced]
        fitting = [i for i, pair in enumerate(lengths) if pair.min() >= min_length - 1e-6]
        if fitting:
            best = min(fitting, key=lambda i: (round(-lengths[i].min(), 4), round(lengths[i].max(), 4), i))
            whole = slab.copy()
            first, second = reduced[best]
            whole.make_supercell([[*first, 0], [*second, 0], [0, 0, 1]], to_unit_cell=True)
            return whole, size
    raise AssertionError("unreachable")


def _sublattices(size: int) -> Iterator[NDArray[np.int64]]:
    """All two-dimensional sublattices of an index, as Hermite normal forms."""
    for first in range(1, size + 1):
        if size % first == 0:
            for shift in range(size // first):
                yield np.array([[size // first, 0], [shift, first]])


def _reduced(basis: NDArray[np.int64], rows: Array) -> NDArray[np.int64]:
    """The two shortest vectors of a sublattice, right-handed."""
    a, b = shortest(basis, rows)
    return np.array([a, b if np.cross(a @ rows, b @ rows)[2] > 0 else -b])


def below_middle(slab: Structure) -> NDArray[np.bool_]:
    """[n_atoms] which atoms make the lower half of a slab."""
    heights = slab.cart_coords[:, 2]
    return np.asarray(heights < (heights.min() + heights.max()) / 2 - MIDDLE)


def _same(one: Structure, other: Structure) -> bool:
    return StructureMatcher(primitive_cell=False, scale=False).fit(one, other)

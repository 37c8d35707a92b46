"""Facets of a crystal: which indices symmetry tells apart, and the cell in which a facet lies flat.

Miller indices refer to the conventional cell in the standard setting of spglib; names have four of them where its axes
are hexagonal.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.core import Element, Lattice, Structure

from dpa4_core.data.spglib_search import found_by
from dpa4_core.data.structures import StructureError

Array = NDArray[np.float64]
Miller = tuple[int, int, int]

SYMPREC = 0.01
"""Å, for the space group."""


def equivalent_facets(crystal: Structure, miller: Miller) -> list[Miller]:
    """All that the Laue class of a conventional cell makes of one, opposite faces included; the simplest first."""
    rotations = operations(crystal)[0]
    images = np.concatenate([miller @ rotations, -(miller @ rotations)]).tolist()
    found: set[Miller] = {(h, k, l_) for h, k, l_ in images}
    return sorted(found, key=lambda hkl: (max(map(abs, hkl)), sum(i < 0 for i in hkl), *(-i for i in hkl)))


def distinct_facets(crystal: Structure, max_index: int) -> list[Miller]:
    """One index triple of every family up to ``max_index``, of a conventional cell; low indices first."""
    span = range(max_index, -max_index - 1, -1)
    left: set[Miller] = {(h, k, l_) for h, k, l_ in itertools.product(span, repeat=3) if math.gcd(h, k, l_) == 1}
    found = []
    while left:
        family = equivalent_facets(crystal, next(iter(left)))
        left -= set(family)
        found.append(family[0])
    return sorted(found, key=lambda hkl: (max(map(abs, hkl)), sum(map(abs, hkl)), *(-i for i in hkl)))


def chosen_facets(crystal: Structure, max_index: int, facets: Sequence[Miller] = ()) -> list[Miller]:
    """Those of `distinct_facets`, or of every family in ``facets`` the indices that stand for it, each once.

    Raises:
        ValueError: indices that are no facet.
    """
    for miller in facets:
        if math.gcd(*miller) != 1:
            raise ValueError(
                f"{' '.join(map(str, miller))} are no indices of a facet: give three without a common divisor"
            )
    found = [equivalent_facets(crystal, miller)[0] for miller in facets]
    return list(dict.fromkeys(found)) if facets else distinct_facets(crystal, max_index)


def miller_of(name: str) -> Miller:
    """Indices of a facet by its name: 111, 1-10, 0001, or with spaces.

    Raises:
        ValueError: other than three indices, or four whose first three add up to zero.
    """
    indices = [int(part) for part in re.findall(r"-?\d+" if " " in name.strip() else r"-?\d", name)]
    if len(indices) == 4 and sum(indices[:3]) == 0:
        del indices[2]
    if len(indices) != 3 or re.search(r"[^-\d ]", name):
        raise ValueError(f"{name!r} is no facet: write its Miller indices in a row, 111, 10-10 or 1 -1 10")
    return indices[0], indices[1], indices[2]


def termination_of(name: str) -> tuple[Miller, int | None]:
    """Indices of a facet and the number of one of its terminations, by a name such as 10-11_2; None for all of them.

    Raises:
        ValueError: as of `miller_of`.
    """
    facet, mark, number = name.partition("_")
    if mark and not (number.isdecimal() and int(number)):
        raise ValueError(f"{name!r} is no termination: write the facet and its number, 10-11_2")
    return miller_of(facet), int(number) if mark else None


def facet_name(lattice: Lattice, miller: Miller) -> str:
    """Indices in a row, with the third of four, −h − k, where the axes of the conventional cell are hexagonal."""
    h, k, index_l = miller
    return "".join(map(str, (h, k, -h - k, index_l) if lattice.is_hexagonal() else miller))


def standard_cells(structure: Structure) -> tuple[Structure, Structure]:
    """The symmetrised conventional and primitive cell, in the same orientation, with bare elements as species."""
    return standardized(structure, to_primitive=False), standardized(structure, to_primitive=True)


def standardized(structure: Structure, *, to_primitive: bool, no_idealize: bool = False) -> Structure:
    """What ``standardize_cell`` of spglib makes of a crystal, with bare elements as species.

    Raises:
        StructureError: it finds no symmetry.
    """
    found = found_by(
        spglib.standardize_cell,
        _cell(structure),
        to_primitive=to_primitive,
        no_idealize=no_idealize,
        symprec=SYMPREC,
    )
    if found is None:
        raise _no_space_group(structure, SYMPREC)
    lattice, coords, numbers = found
    return Structure(Lattice(lattice), [Element.from_Z(int(z)) for z in numbers], coords)


def symmetry(structure: Structure, symprec: float = SYMPREC) -> spglib.SpglibDataset:
    """What spglib says of a crystal or slab.

    Raises:
        StructureError: it finds no symmetry.
    """
    found = found_by(spglib.get_symmetry_dataset, _cell(structure), symprec=symprec)
    if found is None:
        raise _no_space_group(structure, symprec)
    return found


def operations(structure: Structure, symprec: float = SYMPREC) -> tuple[NDArray[np.int64], Array]:
    """Rotations [n, 3, 3] and translations [n, 3] on fractional coordinates."""
    found = symmetry(structure, symprec)
    return found.rotations.astype(np.int64), np.asarray(found.translations)


def _cell(structure: Structure) -> Any:
    return structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers


def _no_space_group(structure: Structure, symprec: float) -> StructureError:
    return StructureError(
        f"no space group of {structure.formula} found within {symprec:g} Å: do atoms lie on one another?"
    )


def oriented_unit_cell(crystal: Structure, primitive: Structure, miller: Miller) -> Structure:
    """The primitive cell of which two axes, as short as can be, span the facet: the first along x, the second in xy.

    Args:
        crystal: conventional cell that the indices refer to.
        primitive: the same crystal, in the same orientation.
        miller: three coprime indices.

    Returns:
        A cell whose height along z is the interplanar spacing.
    """
    rows = primitive.lattice.matrix
    # indices on the primitive axes: thirds and halves for centred cells
    index = np.rint(6 * rows @ np.linalg.inv(crystal.lattice.matrix) @ miller).astype(int)
    basis = _completed(index // math.gcd(*map(int, index)))
    basis = _reduced_in_plane(basis, rows)
    oriented = basis @ rows
    coords = primitive.frac_coords @ np.linalg.inv(basis)
    lower = np.linalg.cholesky(oriented @ oriented.T)  # the same axes, turned
    return Structure(Lattice(lower), primitive.species, coords - np.floor(coords))


def _completed(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integer rows of determinant ±1, two in the plane of coprime indices, the third one spacing above (Euclid)."""
    basis, left = np.eye(3, dtype=np.int64), index.copy()
    while np.count_nonzero(left) > 1:
        pivot = min(np.flatnonzero(left), key=lambda i: abs(left[i]))
        for i in range(3):
            if i != pivot:
                times = left[i] // left[pivot]
                left[i] -= times * left[pivot]
                basis[i] -= times * basis[pivot]
    last = int(np.flatnonzero(left)[0])
    order = [i for i in range(3) if i != last] + [last]
    return basis[order] * np.array([[1], [1], [left[last]]])


def shortest(pair: NDArray[np.int64], rows: Array) -> NDArray[np.int64]:
    """The two shortest vectors of a lattice in a plane (Lagrange and Gauss), in terms of the rows of a cell."""
    a, b = pair
    while True:
        if np.linalg.norm(a @ rows) > np.linalg.norm(b @ rows) + 1e-8:
            a, b = b, a
        times = round(float((a @ rows) @ (b @ rows) / ((a @ rows) @ (a @ rows))) - 1e-8)
        if times == 0:
            return np.array([a, b])
        b = b - times * a


def _reduced_in_plane(basis: NDArray[np.int64], rows: Array) -> NDArray[np.int64]:
    """The two shortest in-plane axes, the third as upright as they allow; right-handed."""
    (a, b), c = shortest(basis[:2], rows), basis[2]
    shares = np.linalg.lstsq((np.array([a, b]) @ rows).T, c @ rows, rcond=None)[0]
    c = c - np.rint(shares - 1e-8).astype(int) @ np.array([a, b])
    found = np.array([a, b, c])
    return found if np.linalg.det(found @ rows) > 0 else found * np.array([[1], [-1], [1]])

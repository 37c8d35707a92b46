"""Supercells whose lattice points are far enough apart: of phonons, defects, vacancies and motion."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

Array = NDArray[np.float64]


class Supercell(NamedTuple):
    """Of a primitive cell.

    Attributes:
        matrix: [3, 3] whole numbers: rows of the supercell are this times rows of the primitive cell.
        length: Å, of its shortest lattice vector.
    """

    matrix: NDArray[np.int64]
    length: float

    @property
    def size(self) -> int:
        """Primitive cells in it."""
        return round(abs(np.linalg.det(self.matrix)))

    def of(self, primitive: Structure, *, to_unit_cell: bool = False) -> Structure:
        """The crystal in it; images of each atom of ``primitive`` follow each other."""
        cell = primitive.copy()
        cell.make_supercell(self.matrix, to_unit_cell=to_unit_cell)
        return cell


def best_supercell(
    primitive: Structure, conventional: Lattice, min_length: float, max_atoms: int, *, even: bool = True
) -> Supercell:
    """The smallest supercell whose lattice points are ``min_length`` apart.

    Along each axis 1 or an even number of primitive or conventional cells: then the zone boundary, where a distorted
    crystal doubles its cell, is calculated and not interpolated. Axes of equal length get the same number.

    Args:
        primitive: primitive cell.
        conventional: lattice, whose vectors are whole combinations of the primitive ones.
        min_length: Å.
        max_atoms: largest supercell.
        even: False takes odd numbers of cells, too.

    Raises:
        ValueError: it has more than ``max_atoms`` atoms.
    """
    unit = primitive.lattice
    fewest = math.floor(min_length**3 / (math.sqrt(2) * unit.volume))  # no lattice is packed closer than fcc
    refuse_large(fewest * len(primitive), min_length, max_atoms)  # a search for it might not end
    best: tuple[float, float, NDArray[np.int64]] | None = None
    too_short = _short_vectors(unit, min_length)
    for lattice in (unit, conventional):
        exact = lattice.matrix @ np.linalg.inv(unit.matrix)
        base = np.round(exact).astype(int)
        if np.abs(exact - base).max() > 1e-3:  # not a lattice of the same orientation
            continue
        heights = 1 / np.linalg.norm(np.linalg.inv(lattice.matrix), axis=0)
        step = 2 if even else 1
        choices = [[1, *range(2, step * int(np.ceil(min_length / (step * height))) + 1, step)] for height in heights]
        for multiples in itertools.product(*choices):
            if any(
                abs(a - b) < 1e-3 and n != m
                for (a, n), (b, m) in itertools.combinations(zip(lattice.abc, multiples, strict=True), 2)
            ):
                continue
            matrix = np.diag(multiples) @ base
            size = abs(np.linalg.det(matrix))
            if best is not None and size > best[0] + 0.5:
                continue
            inside = too_short @ np.linalg.inv(matrix)
            if (np.abs(inside - np.round(inside)).max(axis=1, initial=0) < 1e-6).any():
                continue
            length = shortest_vector(matrix @ unit.matrix)
            if best is None or size < best[0] - 0.5 or length > best[1]:
                best = (size, length, matrix)
    assert best is not None, "the largest multiples are long enough by construction"
    found = Supercell(best[2], best[1])
    refuse_large(found.size * len(primitive), min_length, max_atoms)
    return found


def refuse_large(n_atoms: int, min_length: float, max_atoms: int) -> None:
    """Raises:
    ValueError: there are more than ``max_atoms`` atoms.
    """
    if n_atoms > max_atoms:
        raise ValueError(
            f"images {min_length:g} Å apart need a supercell of {n_atoms:,} atoms, more than {max_atoms:,}: choose a "
            "smaller min_length, or raise the limit"
        )


def shortest_vector(matrix: Array) -> float:
    """Length of the shortest vector of a lattice."""
    reduced = Lattice(matrix).get_lll_reduced_lattice().matrix
    steps = np.array([n for n in itertools.product((-2, -1, 0, 1, 2), repeat=3) if any(n)])
    return float(np.linalg.norm(steps @ reduced, axis=1).min())


def _short_vectors(lattice: Lattice, length: float) -> Array:
    """Whole numbers [n, 3] of the lattice vectors shorter than ``length``, without zero."""
    points = lattice.get_points_in_sphere([[0.0, 0.0, 0.0]], [0.0, 0.0, 0.0], length - 1e-6, zip_results=False)
    whole = np.round(np.asarray(points[0])).astype(int)
    return whole[np.abs(whole).max(axis=1) > 0]

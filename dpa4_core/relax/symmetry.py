"""The symmetry of a crystal at the start of a relaxation, as a projection of everything that moves."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import spglib
from ase import Atoms
from ase.spacegroup.symmetrize import refine_symmetry
from numpy.typing import NDArray

from dpa4_core.data.spglib_search import found_by
from dpa4_core.data.structures import StructureError, System
from dpa4_core.data.system import complete_cell
from dpa4_core.relax.operations import cartesian, targets


@dataclass(frozen=True, eq=False)
class Symmetry:
    """Averages over the operations of a space group.

    Attributes:
        number: of the space group.
        cell: [9, 9] projection of a strain, row by row.
        src, dst: [n_pairs] atoms that operations map onto each other.
        rotations: [n_pairs, 3, 3] weights: the average of a vector field f is Σ rotations · f[src] at dst.

    """

    number: int
    cell: NDArray[np.float64]
    src: NDArray[np.int64]
    dst: NDArray[np.int64]
    rotations: NDArray[np.float64]


def symmetrised(system: System, symprec: float) -> tuple[System, Symmetry]:
    """The structure with its symmetry made exact, and that symmetry.

    Args:
        system: a crystal, or a slab, whose number is that of a crystal of such slabs.
        symprec: Å within which the symmetry holds.

    Raises:
        StructureError: not a crystal, fixed atoms, or the symmetry cannot be found.

    """
    if np.count_nonzero(system.pbc) < 2:
        raise StructureError("keep_symmetry=True needs a crystal or a slab; relax chains and molecules without it")
    if system.fixed.any():
        raise StructureError("keep_symmetry=True does not go with fixed atoms; drop one of them")
    if not system.pbc.all():
        return _symmetrised_slab(system, symprec)
    atoms = Atoms(numbers=system.numbers, positions=system.positions, cell=system.cell, pbc=True)
    found = _dataset(atoms, symprec)
    exact = None if found_by(refine_symmetry, atoms, symprec) is None else _dataset(atoms, 1e-4)
    if found is None or exact is None:
        raise StructureError(f"no space group was found within {symprec:g} Å; use another symprec")
    if found.number != exact.number:
        raise StructureError(
            f"the space group is {found.number} within {symprec:g} Å, but {exact.number} after it was made exact; "
            "use another symprec, or keep_symmetry=False"
        )
    system = dataclasses.replace(system, positions=atoms.positions.copy(), cell=atoms.cell.array.copy())
    return system, _averages(system, exact)


def _symmetrised_slab(system: System, symprec: float) -> tuple[System, Symmetry]:
    """As `symmetrised`: the operations of the slab are those of a crystal of slabs far apart, one above the other."""
    open_axis = ~system.pbc
    normal = complete_cell(np.where(open_axis[:, None], 0.0, system.cell))[open_axis][0]
    heights = system.positions @ normal
    # longer than the slab and than its vectors: no operation can turn it over onto another axis
    period = 2 * float(np.ptp(heights)) + 2 * float(np.linalg.norm(system.cell[system.pbc], axis=1).max()) + 10
    up = (period / 2 - heights.mean()) * normal
    cell = np.where(open_axis[:, None], period * normal, system.cell)
    apart = dataclasses.replace(system, positions=system.positions + up, cell=cell, pbc=np.ones(3, dtype=bool))
    exact, symmetry = symmetrised(apart, symprec)
    cell = np.where(open_axis[:, None], system.cell, exact.cell)
    return dataclasses.replace(system, positions=exact.positions - up, cell=cell), symmetry


def _dataset(atoms: Atoms, symprec: float) -> spglib.SpglibDataset | None:
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    return found_by(spglib.get_symmetry_dataset, cell, symprec=symprec)


def _averages(system: System, dataset: spglib.SpglibDataset) -> Symmetry:
    n = system.n_atoms
    fractional = system.positions @ np.linalg.inv(system.cell)
    weights = np.zeros((0, 3, 3))
    keys = np.zeros(0, dtype=np.int64)
    cell = np.zeros((9, 9))
    n_operations = len(dataset.rotations)
    for rotation, translation in zip(dataset.rotations, dataset.translations, strict=True):
        rotated = cartesian(system.cell, rotation)
        cell += np.kron(rotated, rotated) / n_operations
        target = targets(system.cell, fractional, system.numbers, rotation, translation)
        if target is None:
            raise StructureError("a symmetry operation does not map the atoms onto each other; use another symprec")
        keys = np.concatenate([keys, target * n + np.arange(n)])
        weights = np.concatenate([weights, np.broadcast_to(rotated / n_operations, (n, 3, 3))])
        if len(keys) > 100_000:  # supercells have thousands of operations
            keys, weights = _merged(keys, weights)
    keys, weights = _merged(keys, weights)
    return Symmetry(dataset.number, cell, keys % n, keys // n, weights)


def _merged(keys: NDArray[np.int64], weights: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """One entry for every key, the weights added up."""
    unique, place = np.unique(keys, return_inverse=True)
    total = np.zeros((len(unique), 3, 3))
    np.add.at(total, place, weights)
    return unique, total

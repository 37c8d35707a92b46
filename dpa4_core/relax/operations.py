"""How the symmetry operations of a crystal move its atoms, its cell, and vectors on both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spglib
from numpy.typing import NDArray

from dpa4_core.data.spglib_search import found_by
from dpa4_core.data.structures import System

MAX_ATOMS = 200
"""Atoms up to which operations are looked for; the search compares every atom with every other, for each operation."""

MAX_OPERATIONS = 192
"""Operations that are used; a supercell of a cubic crystal has thousands."""


@dataclass(frozen=True, eq=False)
class Operations:
    """Symmetry operations of one structure.

    Attributes:
        rotations: [n_operations, 3, 3] Cartesian.
        sources: [n_operations, n_atoms] the atom that each operation takes to the place of each atom.

    """

    rotations: NDArray[np.float64]
    sources: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rotations)

    def of(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Images [n_operations, ..., 3·n_atoms + 9] of displacements and strains [..., 3·n_atoms + 9]."""
        lead, n_atoms = vectors.shape[:-1], self.sources.shape[1]
        atoms = vectors[..., :-9].reshape(*lead, n_atoms, 3)
        strain = vectors[..., -9:].reshape(*lead, 3, 3)
        moved = np.einsum("gij,...gnj->g...ni", self.rotations, np.take(atoms, self.sources, axis=-2))
        turned = np.einsum("gij,...jk,glk->g...il", self.rotations, strain, self.rotations)
        flat = (len(self), *lead)
        return np.concatenate([moved.reshape(*flat, 3 * n_atoms), turned.reshape(*flat, 9)], axis=-1)

    def keeping(self, cell: NDArray[np.float64]) -> Operations:
        """Those that commute with a projection [9, 9] of strains."""
        on_strains = np.einsum("gij,gkl->gikjl", self.rotations, self.rotations).reshape(len(self), 9, 9)
        keep = np.abs(on_strains @ cell - cell @ on_strains).max((1, 2)) < 1e-3
        return Operations(self.rotations[keep], self.sources[keep])

    def only(self, keep: NDArray[np.bool_]) -> Operations:
        """Those where the mask [n_operations] holds."""
        return Operations(self.rotations[keep], self.sources[keep])


def identity(n_atoms: int) -> Operations:
    """The operation that every structure has."""
    return Operations(np.eye(3)[None], np.arange(n_atoms)[None])


def operations(system: System, symprec: float) -> Operations:
    """The operations of a crystal within ``symprec`` Å that map fixed atoms onto fixed ones; identity if none is found.

    Those of a structure with open axes, or with atoms that are fixed along some directions only, are not looked for.
    """
    n = system.n_atoms
    held = system.fixed.all(axis=1)
    if not system.pbc.all() or n > MAX_ATOMS or (system.fixed.any(axis=1) & ~held).any():
        return identity(n)
    kinds = 2 * system.numbers + held
    fractional = system.positions @ np.linalg.inv(system.cell)
    cell = system.cell.tolist(), fractional.tolist(), kinds.tolist()
    found = found_by(spglib.get_symmetry, cell, symprec=symprec)
    if found is None:
        return identity(n)
    rotations, sources = [], []
    every = list(zip(found["rotations"], found["translations"], strict=True))
    for rotation, translation in every[:MAX_OPERATIONS]:
        target = targets(system.cell, fractional, kinds, rotation, translation)
        if target is not None:
            rotations.append(cartesian(system.cell, rotation))
            sources.append(np.argsort(target))
    return Operations(np.array(rotations), np.array(sources))


def cartesian(cell: NDArray[np.float64], rotation: NDArray[np.int64]) -> NDArray[np.float64]:
    """A rotation of fractional coordinates in Cartesian ones."""
    return cell.T @ rotation @ np.linalg.inv(cell.T)


def targets(
    cell: NDArray[np.float64],
    fractional: NDArray[np.float64],
    kinds: NDArray[np.int64],
    rotation: NDArray[np.int64],
    translation: NDArray[np.float64],
) -> NDArray[np.int64] | None:
    """Where an operation takes every atom: atom k to the place of atom ``targets[k]``; None if two meet in one."""
    images = fractional @ rotation.T + translation
    apart = images[:, None] - fractional
    apart = np.linalg.norm((apart - apart.round()) @ cell, axis=2)
    apart[kinds[:, None] != kinds] = np.inf
    nearest = apart.argmin(axis=1)
    return nearest if len(np.unique(nearest)) == len(nearest) else None

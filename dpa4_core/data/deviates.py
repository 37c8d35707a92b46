"""Random displacements and strains that belong to a structure, and not to the file that it came from.

They depend on elements and count the atoms of each one, and they turn with the lattice vectors: a file that turns the
crystal, drops digits or sorts atoms by element changes nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dpa4_core.data.system import System, complete_cell


def random_displacements(system: System) -> NDArray[np.float64]:
    """Vectors [n_atoms, 3] of normal deviates of width one."""
    out = np.empty((system.n_atoms, 3))
    for number in np.unique(system.numbers):
        atoms = system.numbers == number
        out[atoms] = np.random.default_rng(int(number)).normal(size=(int(atoms.sum()), 3))
    return out @ _axes(system)


def random_strain(system: System) -> NDArray[np.float64]:
    """A tensor [3, 3] of normal deviates of width one."""
    axes = _axes(system)
    return np.asarray(axes.T @ np.random.default_rng(0).normal(size=(3, 3)) @ axes)


def _axes(system: System) -> NDArray[np.float64]:
    """Orthonormal axes [3, 3]: along the first lattice vector, in the plane of the first two, and across it."""
    columns, triangle = np.linalg.qr(complete_cell(system.cell).T)
    return (columns * np.sign(np.diag(triangle))).T

"""Pairs of near atoms of one structure, for checks of structures; the model has edges of its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Pairs(NamedTuple):
    """Pairs of atoms, each once.

    Attributes:
        atoms: [n, 2] int64.
        shifts: [n, 3] int64, image of the second atom.
        distances: [n] float64, Å.
    """

    atoms: NDArray[np.int64]
    shifts: NDArray[np.int64]
    distances: NDArray[np.float64]


def near_pairs(positions: NDArray, cell: NDArray, pbc: NDArray, radius: float) -> Pairs:
    """All pairs nearer than ``radius`` (Å), periodic images included; arrays as in `System`."""
    import vesin  # it imports torch where that is installed, which takes seconds: whoever checks nothing does not wait

    search = vesin.NeighborList(cutoff=radius, full_list=False, n_threads=1)
    atoms, shifts, distances = search.compute(positions, cell, pbc, "PSd")
    return Pairs(atoms.astype(np.int64), shifts.astype(np.int64), distances)

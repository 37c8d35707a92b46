"""The tables of D3: coordination numbers and C6 coefficients of reference molecules, moments and radii of atoms."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpa4_core.units import BOHR_ANGSTROM, HARTREE_EV

_FILE = Path(__file__).with_name("reference.npz")
MAX_ELEMENT = 103


class Reference(NamedTuple):
    """Rows are atomic numbers, the first is empty.

    Attributes:
        coordination: [104, 7] of an element in each of its reference molecules; −1 where there is none.
        c6: [104, 104, 7, 7] eV Å⁶ between an element in one molecule and another one in another.
        moment: [104] Å, Q = √(½ √Z ⟨r⁴⟩/⟨r²⟩), of which C8 = 3 Q Q C6.
        radius: [104] Å, 4/3 of the covalent radius, at which a bond counts half.
    """

    coordination: NDArray[np.float64]
    c6: NDArray[np.float64]
    moment: NDArray[np.float64]
    radius: NDArray[np.float64]


@functools.cache
def reference() -> Reference:
    """The tables, read once in a process; their source stands in the README beside the file."""
    with np.load(_FILE, allow_pickle=False) as stored:
        coordination, packed = stored["coordination"], stored["c6"] * 1e-4
        ratio, radius = stored["r4_over_r2"], stored["covalent_radius"]
    n_elements = len(coordination)
    counts = (coordination >= 0).sum(1)
    c6 = np.zeros((n_elements, n_elements, 7, 7))
    place = 0
    for i in range(1, n_elements):  # row by row of the lower triangle, only what is there
        for j in range(1, i + 1):
            size = counts[i] * counts[j]
            block = packed[place : place + size].reshape(counts[i], counts[j])
            c6[i, j, : counts[i], : counts[j]] = block
            c6[j, i, : counts[j], : counts[i]] = block.T
            place += size
    return Reference(
        coordination=coordination,
        c6=c6 * (HARTREE_EV * BOHR_ANGSTROM**6),
        moment=np.sqrt(0.5 * ratio * np.sqrt(np.arange(n_elements))) * BOHR_ANGSTROM,
        radius=4 / 3 * radius,
    )

"""How far the atoms of a crystal move about their places at one temperature."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

Array = NDArray[np.float64]

STABLE, MELTS = 0.10, 0.15
"""Of the distance of nearest neighbours, by which atoms move (root mean square): crystals melt where they move by 0.10
to 0.15 (F. A. Lindemann, Phys. Z. 11, 609 (1910); J. J. Gilvarry, Phys. Rev. 102, 308 (1956))."""
SHORTEST_PS = 1.0
"""Of a run that says something: the slowest waves of a supercell of 8 Å have periods of up to 1 ps."""
SETTLED = 1.25
"""Ratio of displacements in the second half to those in the first, beyond which a run was too short."""


class Lindemann(NamedTuple):
    """How far atoms move.

    Attributes:
        ratio: root mean square displacement about the mean place over the distance of nearest neighbours.
        by_element: the same of each element.
        growth: displacement in the second half of the run over that in the first; 1 where it has settled.
        farthest: largest distance of a mean place in the second half from where the atom began, over the same distance.
    """

    ratio: float
    by_element: dict[str, float]
    growth: float
    farthest: float


def lindemann(start: Structure, places: NDArray[np.floating]) -> Lindemann:
    """From the places [n_times, n, 3] in Å of a run, not folded back into the cell, at equal times.

    Args:
        start: the crystal at rest, in its supercell.
        places: of at least four times.
    """
    track = places.astype(np.float64)
    track = track - (track - start.cart_coords).mean(axis=1, keepdims=True)  # a crystal that drifts as a whole is none
    distances = start.distance_matrix
    spacing = distances[distances > 0].min()
    half = len(track) // 2
    squares = _squares(track)
    first, second = (float(np.sqrt(_squares(part).mean())) for part in (track[:half], track[half:]))
    symbols = np.array([site.specie.symbol for site in start])
    return Lindemann(
        ratio=float(np.sqrt(squares.mean()) / spacing),
        by_element={s: float(np.sqrt(squares[symbols == s].mean()) / spacing) for s in sorted(set(symbols.tolist()))},
        growth=second / first,
        farthest=float(np.linalg.norm(track[half:].mean(axis=0) - start.cart_coords, axis=1).max() / spacing),
    )


def _squares(track: Array) -> Array:
    """Mean square displacement [n] of each atom about its mean place."""
    return np.asarray(((track - track.mean(axis=0)) ** 2).sum(axis=2).mean(axis=0))

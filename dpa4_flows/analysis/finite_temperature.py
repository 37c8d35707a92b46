"""Atoms in motion at one temperature, step by step, and how far they move about their places.

The integrator is BAOAB (B. Leimkuhler and C. Matthews, Appl. Math. Res. Express 2013, 34), whose averages of positions
are those of the temperature to fourth order in the time step near a minimum. It asks for forces between two halves of a
step, so that whoever computes them can do so for many crystals at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ase.units import fs, kB
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
TOO_HOT = 3.0
"""Of the temperature asked for, beyond which the steps are too long."""


class Motion:
    """Atoms under Langevin dynamics, their centre of mass at rest.

    Args:
        positions: [n, 3] Å, at a minimum.
        masses: [n] u.
        temperature: K.
        timestep_fs: fs.
        friction_per_ps: 1/ps.
        seed: of all random numbers.
    """

    def __init__(
        self, positions: Array, masses: Array, temperature: float, timestep_fs: float, friction_per_ps: float, seed: int
    ) -> None:
        self.positions = positions.copy()
        self._masses = masses[:, None]
        self._step = timestep_fs * fs
        self._kept = float(np.exp(-friction_per_ps * timestep_fs / 1000))
        self._width = np.sqrt(kB * temperature / self._masses)
        self._rng = np.random.default_rng(seed)
        self._velocities = self._random()

    def before(self, forces: Array) -> None:
        """First part of a step, by the ``forces`` [n, 3] in eV/Å at `positions`, which it moves."""
        self._velocities += 0.5 * self._step * forces / self._masses
        self.positions = self.positions + 0.5 * self._step * self._velocities
        self._velocities = self._kept * self._velocities + np.sqrt(1 - self._kept**2) * self._random()
        self.positions = self.positions + 0.5 * self._step * self._velocities

    def after(self, forces: Array) -> None:
        """Last part of a step, by the forces at the new `positions`."""
        self._velocities += 0.5 * self._step * forces / self._masses

    @property
    def temperature(self) -> float:
        """Of the motion at this moment, K."""
        n_free = 3 * len(self.positions) - 3
        return float((self._masses * self._velocities**2).sum() / (n_free * kB))

    def _random(self) -> Array:
        drawn = self._width * self._rng.standard_normal(self.positions.shape)
        return np.asarray(drawn - (self._masses * drawn).sum(axis=0) / self._masses.sum())


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


def lindemann(start: Structure, places: Sequence[Array]) -> Lindemann:
    """From the places [n, 3] in Å of a run, not folded back into the cell, at equal times.

    Args:
        start: the crystal at rest, in its supercell.
        places: of at least four times.
    """
    track = np.array(places)
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

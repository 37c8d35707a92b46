"""Nudged elastic bands in a batch: what couples the images of each.

The images of a band are systems of the batch like all others, but the forces that move them are those of the improved
tangent (G. Henkelman, H. Jónsson, J. Chem. Phys. 113, 9978 (2000)): the force of the potential perpendicular to the
path and that of springs along it. The highest image climbs instead (G. Henkelman, B. P. Uberuaga, H. Jónsson, ibid.
9901): its force along the path is turned round, and it feels no springs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpa4_core.data.structures import System

CLIMB_BELOW = 0.5
"""eV/Å; a band climbs from when its perpendicular forces are below, so that its highest image is near the saddle."""

UNEVEN = 0.1
"""Of the way from neighbour to neighbour, by which an image may be off its middle before it is shifted."""


@dataclass(frozen=True, eq=False)
class Chain:
    """The images of one band.

    Attributes:
        images: from one end to the other, along which atoms move continuously, not wrapped into the cell.
        energies: of both ends, eV.
        spring: eV/Å², between neighbouring images.
        climb: whether the highest image climbs.

    """

    images: tuple[System, ...]
    energies: tuple[float, float]
    spring: float
    climb: bool

    @property
    def moving(self) -> tuple[System, ...]:
        """All images but the ends."""
        return self.images[1:-1]


class ChainForces(NamedTuple):
    """Forces [n_atoms, 3] in all systems of a batch, eV/Å, and where the paths lead.

    Attributes:
        forces: that move the atoms.
        residual: that vanish on the path of lowest energy: without springs. The same outside of bands.
        climbing: [n_systems] 2 for an image that climbs, 1 for the others of its band, 0 where none climbs.
        tangent: [n_atoms, 3] unit vectors along the paths; zero outside of bands.
        shift: [n_systems] Å along the tangent that would bring it close enough to the middle between its neighbours.

    """

    forces: Tensor
    residual: Tensor
    climbing: Tensor
    tangent: Tensor
    shift: Tensor


class Coupling:
    """How the images of all bands in a batch pull at each other.

    Args:
        chains: of every task of the batch, None for one that is no band; the images of a chain that move are
            systems of the batch one after the other.
        counts: atoms of every system.
        device: of the batch.

    """

    def __init__(self, chains: Sequence[Chain | None], counts: Sequence[int], device: torch.device) -> None:
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        ends: list[System] = []
        energies: list[float] = []
        rows: list[int] = []
        bands: list[int] = []
        atoms: list[NDArray[np.int64]] = []
        around: list[tuple[int, int]] = []  # systems before and after, those beyond the batch are ends
        atoms_around: list[NDArray[np.int64]] = []
        n_systems, n_end_atoms, row = len(counts), int(starts[-1]), 0
        for chain in chains:
            if chain is None:
                row += 1
                continue
            n, n_atoms = len(chain.moving), chain.images[0].n_atoms
            first = n_systems + len(ends)
            systems = [first, *range(row, row + n), first + 1]
            of_atoms = [n_end_atoms, *starts[row : row + n].tolist(), n_end_atoms + n_atoms]
            for i in range(1, n + 1):
                rows.append(systems[i])
                bands.append(len(ends) // 2)
                atoms.append(of_atoms[i] + np.arange(n_atoms))
                around.append((systems[i - 1], systems[i + 1]))
                places = [of_atoms[i - 1] + np.arange(n_atoms), of_atoms[i + 1] + np.arange(n_atoms)]
                atoms_around.append(np.stack(places))
            ends += [chain.images[0], chain.images[-1]]
            energies += chain.energies
            n_end_atoms += 2 * n_atoms
            row += n
        present = [chain for chain in chains if chain is not None]

        def tensor(array: NDArray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        per_image = [len(chain.moving) for chain in present]
        self._rows, self._bands = tensor(np.array(rows)), tensor(np.array(bands))
        self._atoms = tensor(np.concatenate(atoms))
        self._image = tensor(np.repeat(np.arange(len(rows)), [len(one) for one in atoms]))
        self._before, self._after = tensor(np.array(around).T)
        self._atoms_before, self._atoms_after = tensor(np.concatenate(atoms_around, axis=1))
        self._ends = tensor(np.concatenate([system.positions for system in ends]))
        self._end_energies = tensor(np.array(energies, dtype=np.float64))
        self._spring = tensor(np.repeat([chain.spring for chain in present], per_image))
        self._climb = tensor(np.repeat([chain.climb for chain in present], per_image))
        self._n_bands = len(present)

    def forces(self, positions: Tensor, forces: Tensor, energy: Tensor, fixed: Tensor, climbing: Tensor) -> ChainForces:
        """Forces on the images of all bands; those on other systems are as they are.

        Args:
            positions: [n_atoms, 3] Å.
            forces: [n_atoms, 3] eV/Å, zero on fixed coordinates.
            energy: [n_systems] eV.
            fixed: [n_atoms, 3] bool.
            climbing: [n_systems] as it was at the last force call.

        """
        everywhere, energies = torch.cat((positions, self._ends)), torch.cat((energy, self._end_energies))
        here, held = positions[self._atoms], fixed[self._atoms]
        back = torch.where(held, 0.0, here - everywhere[self._atoms_before])
        ahead = torch.where(held, 0.0, everywhere[self._atoms_after] - here)
        now, before, after = energies[self._rows], energies[self._before], energies[self._after]
        tangent = self._tangent(back, ahead, now, before, after)
        force = forces[self._atoms]
        along = self._sum(force * tangent)[self._image, None] * tangent
        perpendicular = force - along
        quiet = self._of_band(self._sum_max(perpendicular), "amax") < CLIMB_BELOW
        climbs = (climbing[self._rows] > 0) | (self._climb & quiet)
        top = self._is_highest(now) & (now > before) & (now > after) & climbs
        to_next, to_last = self._sum(ahead * ahead).sqrt(), self._sum(back * back).sqrt()
        apart = to_next - to_last
        pull = self._spring * apart
        uneven = (apart.abs() - UNEVEN * (to_next + to_last)).clamp(min=0.0)
        residual = perpendicular - torch.where(top[self._image, None], along, 0.0)
        moving = residual + torch.where(top, 0.0, pull)[self._image, None] * tangent
        return ChainForces(
            forces.index_copy(0, self._atoms, moving),
            forces.index_copy(0, self._atoms, residual),
            climbing.index_copy(0, self._rows, climbs.long() + top.long()),
            torch.zeros_like(forces).index_copy(0, self._atoms, tangent),
            torch.zeros_like(energy).index_copy(0, self._rows, apart.sign() * uneven / 2),
        )

    def _tangent(self, back: Tensor, ahead: Tensor, now: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Unit vectors along the path: towards the higher neighbour, a mean of both where a path turns."""
        up, down = (after > now) & (now > before), (after < now) & (now < before)
        steps = torch.stack(((after - now).abs(), (before - now).abs()))
        steep, flat = steps.amax(0), steps.amin(0)
        level = steep == 0
        rising = after > before
        w_ahead = torch.where(up | level, 1.0, torch.where(down, 0.0, torch.where(rising, steep, flat)))
        w_back = torch.where(down | level, 1.0, torch.where(up, 0.0, torch.where(rising, flat, steep)))
        tangent = w_ahead[self._image, None] * ahead + w_back[self._image, None] * back
        length = self._sum(tangent * tangent).sqrt().clamp(min=1e-300)  # images that coincide have no direction
        return tangent / length[self._image, None]

    def _is_highest(self, energy: Tensor) -> Tensor:
        """Whether each image is the highest one of its band, the first of several."""
        at_top = energy == self._of_band(energy, "amax")
        place = torch.arange(len(energy), device=energy.device)
        return place == self._of_band(torch.where(at_top, place, len(place)), "amin")

    def _of_band(self, values: Tensor, reduce: str) -> Tensor:
        """The largest or smallest of ``values`` [n_images] in the band of each image."""
        return values.new_zeros(self._n_bands).scatter_reduce(0, self._bands, values, reduce, include_self=False)[
            self._bands
        ]

    def _sum(self, vectors: Tensor) -> Tensor:
        """Sums of all components [n_band_atoms, 3] in each image."""
        return vectors.new_zeros(len(self._rows)).index_add(0, self._image, vectors.sum(1))

    def _sum_max(self, vectors: Tensor) -> Tensor:
        """Length of the longest of vectors [n_band_atoms, 3] in each image."""
        squares = vectors.square().sum(1)
        return vectors.new_zeros(len(self._rows)).scatter_reduce(0, self._image, squares, "amax").sqrt()

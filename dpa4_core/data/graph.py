"""The one batched type: atoms of many systems, flattened, with their directed edges.

A single system is a batch of one. Positions and cells are float64 whatever the precision of the network, since edge
vectors are differences of large numbers.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

UNSPECIFIED_CHARGE_SPIN = (0, -1)
"""Marks a system that names no charge and spin in a batch where others do; a conditioned model takes its default."""


@dataclass(frozen=True)
class Graph:
    """Atoms and edges of ``n_systems`` systems.

    An edge runs from a neighbour ``src`` to a centre ``dst``; its vector points from the centre to the neighbour,
    ``positions[src] + shift @ cell - positions[dst]``. Both directions of a pair are present and edges are sorted by
    ``dst``.

    Attributes:
        positions: [n_atoms, 3] float64, Å.
        cell: [n_systems, 3, 3] float64, Å, rows are lattice vectors; zeros for a system without periodicity.
        periodic: [n_systems] bool; a system is periodic in all directions or in none.
        atomic_numbers: [n_atoms] int64.
        system_idx: [n_atoms] int64, ascending.
        src: [n_edges] int64.
        dst: [n_edges] int64, ascending.
        shift: [n_edges, 3] float64 holding integers, periodic image of the neighbour.
        n_systems: number of systems, also when some have no atoms.
        charge_spin: [n_systems, 2] int64 total charge (e) and spin multiplicity, or None.
    """

    positions: Tensor
    cell: Tensor
    periodic: Tensor
    atomic_numbers: Tensor
    system_idx: Tensor
    src: Tensor
    dst: Tensor
    shift: Tensor
    n_systems: int
    charge_spin: Tensor | None = None

    @property
    def n_atoms(self) -> int:
        return self.positions.shape[0]

    @property
    def n_edges(self) -> int:
        return self.src.shape[0]

    @property
    def device(self) -> torch.device:
        return self.positions.device

    def to(self, device: torch.device | str) -> Graph:
        """The same graph with every tensor on ``device``."""
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return dataclasses.replace(self, **moved)

    def edge_vectors(self) -> Tensor:
        """Vectors from centre to neighbour, [n_edges, 3] float64, Å."""
        image = torch.einsum("ei,eij->ej", self.shift, self.cell[self.system_idx[self.dst]])
        return self.positions[self.src] + image - self.positions[self.dst]

    def volume(self) -> Tensor:
        """Cell volumes [n_systems], Å³; NaN for systems without periodicity."""
        volume = torch.linalg.det(self.cell).abs()
        return torch.where(self.periodic, volume, torch.nan)

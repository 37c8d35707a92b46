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
        cell: [n_systems, 3, 3] float64, Å, rows are lattice vectors; zeros for a system without periodicity,
            and for a missing vector along an axis without.
        pbc: [n_systems, 3] bool, which lattice vectors repeat a system.
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
    pbc: Tensor
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

    def part(self, first: int, last: int) -> Graph:
        """Systems ``first`` to ``last``, the latter left out."""
        from_atom, to_atom = torch.searchsorted(self.system_idx, self.system_idx.new_tensor([first, last])).tolist()
        from_edge, to_edge = torch.searchsorted(self.dst, self.dst.new_tensor([from_atom, to_atom])).tolist()
        systems, atoms, edges = slice(first, last), slice(from_atom, to_atom), slice(from_edge, to_edge)
        return Graph(
            positions=self.positions[atoms],
            cell=self.cell[systems],
            pbc=self.pbc[systems],
            atomic_numbers=self.atomic_numbers[atoms],
            system_idx=self.system_idx[atoms] - first,
            src=self.src[edges] - from_atom,
            dst=self.dst[edges] - from_atom,
            shift=self.shift[edges],
            n_systems=last - first,
            charge_spin=None if self.charge_spin is None else self.charge_spin[systems],
        )

    def select(self, systems: Tensor) -> Graph:
        """The systems where the mask [n_systems] holds."""
        atoms = systems[self.system_idx]
        number, edges = torch.cumsum(atoms, 0) - 1, atoms[self.dst]
        return Graph(
            positions=self.positions[atoms],
            cell=self.cell[systems],
            pbc=self.pbc[systems],
            atomic_numbers=self.atomic_numbers[atoms],
            system_idx=(torch.cumsum(systems, 0) - 1)[self.system_idx[atoms]],
            src=number[self.src[edges]],
            dst=number[self.dst[edges]],
            shift=self.shift[edges],
            n_systems=int(systems.sum()),
            charge_spin=None if self.charge_spin is None else self.charge_spin[systems],
        )

    def edge_vectors(self) -> Tensor:
        """Vectors from centre to neighbour, [n_edges, 3] float64, Å."""
        image = torch.einsum("ei,eij->ej", self.shift, self.cell[self.system_idx[self.dst]])
        return self.positions[self.src] + image - self.positions[self.dst]

    @property
    def periodic(self) -> Tensor:
        """Whether any axis repeats a system, [n_systems] bool."""
        return self.pbc.any(1)

    def volume(self) -> Tensor:
        """Cell volumes [n_systems], Å³; NaN for systems without periodicity.

        A missing vector counts as 1 Å perpendicular to the others, see `System.volume`.
        """
        missing = torch.diag_embed((self.cell == 0).all(2).to(self.cell))
        gram = self.cell @ self.cell.transpose(1, 2) + missing  # its determinant is the square of the volume
        open_volume = torch.where(self.pbc.any(1), torch.linalg.det(gram).clamp(min=0).sqrt(), torch.nan)
        return torch.where(self.pbc.all(1), torch.linalg.det(self.cell).abs(), open_volume)

    def span(self) -> Tensor:
        """Projection [n_systems, 3, 3] onto the span of the periodic lattice vectors; 1 for a crystal."""
        return dual_vectors(self.cell, self.pbc).transpose(1, 2) @ torch.where(self.pbc[:, :, None], self.cell, 0.0)


def dual_vectors(cell: Tensor, pbc: Tensor) -> Tensor:
    """Vectors d_i [n_systems, 3, 3] (rows) within the span of the periodic lattice vectors c_j, d_i · c_j = δ_ij.

    Zero for axes without periodicity. With ``M`` the periodic rows, others zero, it is (M Mᵀ + 1_open)⁻¹ M.
    """
    repeats = torch.where(pbc[:, :, None], cell, 0.0)
    gram = repeats @ repeats.transpose(1, 2) + torch.diag_embed((~pbc).to(cell))
    return torch.linalg.inv_ex(gram).inverse @ repeats

"""Solving for displacements under the springs: by factorisation where matrices are small, else by iteration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dpa4_core.relax.springs import Springs

MAX_ENTRIES = 4_000_000
"""Entries of the matrices of a batch, padded to its largest system; 32 MB. One system of 660 atoms reaches it."""

TOLERANCE = 1e-4
"""Of the residual, in the norm of the diagonal."""
MAX_ITERATIONS = 100


class Preconditioner(Protocol):
    """Gives displacements for forces."""

    def solve(self, forces: Tensor, cell_forces: Tensor) -> tuple[Tensor, Tensor]:
        """Displacements H⁻¹f for forces [n_atoms, 3] and cell forces [n_systems, 3, 3], same shapes."""
        ...


def preconditioner(springs: Springs) -> Preconditioner:
    """The solver that suits the sizes of the systems."""
    width = 9 + 3 * int(springs.n_atoms.max())
    return factorise(springs) if len(springs.n_atoms) * width**2 <= MAX_ENTRIES else Iterative(springs)


@dataclass(frozen=True)
class Factorised:
    """Cholesky factors of systems with different numbers of atoms.

    Attributes:
        factor: [n_systems, 9 + 3·n_max, 9 + 3·n_max]; the cell (9) comes before the atoms.
        place: [n_atoms, 3] places of the coordinates of every atom among the rows of all systems.

    """

    factor: Tensor
    place: Tensor

    def solve(self, forces: Tensor, cell_forces: Tensor) -> tuple[Tensor, Tensor]:
        n_systems, width, _ = self.factor.shape
        padded = forces.new_zeros(n_systems, width)
        padded[:, :9] = cell_forces.reshape(n_systems, 9)
        padded.view(-1)[self.place] = forces
        solution = torch.cholesky_solve(padded[:, :, None], self.factor)[:, :, 0]
        return solution.reshape(-1)[self.place], solution[:, :9].reshape(n_systems, 3, 3)


def factorise(springs: Springs) -> Factorised:
    """Set up the matrices of all systems and factorise them."""
    system_idx, device = springs.system_idx, springs.vector.device
    n_systems = len(springs.n_atoms)
    counts = springs.n_atoms.long()
    width = 9 + 3 * int(counts.max())
    within = torch.arange(len(system_idx), device=device) - (counts.cumsum(0) - counts)[system_idx]
    rows = 9 + 3 * within[:, None] + torch.arange(3, device=device)  # [n_atoms, 3]
    place = system_idx[:, None] * width + rows

    src, dst, stiffness, vector = springs.src, springs.dst, springs.stiffness, springs.vector
    system = system_idx[dst]
    per_atom = 1 / springs.n_atoms[system, None, None]
    matrix = vector.new_zeros(n_systems * width * width)

    def add(at: Tensor, columns: Tensor, blocks: Tensor) -> None:
        index = (system[:, None, None] * width + at[:, :, None]) * width + columns[:, None, :]
        matrix.index_add_(0, index.reshape(-1), blocks.reshape(-1))

    add(rows[dst], rows[dst], stiffness)
    add(rows[dst], rows[src], -stiffness)
    cell = torch.arange(9, device=device).expand(len(src), 9)
    coupling = -per_atom * torch.einsum("eca,eb->ecab", stiffness, vector).reshape(-1, 3, 9)
    add(rows[dst], cell, coupling)
    add(cell, rows[dst], coupling.transpose(1, 2))
    strain = torch.einsum("eac,eb,ed->eabcd", stiffness, vector, vector).reshape(-1, 9, 9)
    add(cell, cell, 0.5 * per_atom.square() * strain)

    moves = torch.zeros(n_systems, width, dtype=torch.bool, device=device)
    moves[:, :9] = springs.cell_moves[:, None]
    moves.view(-1)[place] = springs.free
    held = torch.full((n_systems, width), springs.ground, dtype=vector.dtype, device=device)
    held[:, :9] = springs.cell_diagonal[:, None]
    matrix = torch.where(moves[:, :, None] & moves[:, None, :], matrix.view(n_systems, width, width), 0.0)
    matrix.diagonal(dim1=1, dim2=2).add_(torch.where(moves, held, 1.0))
    return Factorised(torch.linalg.cholesky_ex(matrix).L, place)


@dataclass(frozen=True)
class Iterative:
    """Conjugate gradients for all systems at once, preconditioned by the diagonal."""

    springs: Springs

    def solve(self, forces: Tensor, cell_forces: Tensor) -> tuple[Tensor, Tensor]:
        system_idx = self.springs.system_idx
        diagonal, cell_diagonal = self.springs.diagonal()

        def dot(a: Tensor, a_cell: Tensor, b: Tensor, b_cell: Tensor) -> Tensor:
            return (a_cell * b_cell).sum((1, 2)).index_add(0, system_idx, (a * b).sum(1))

        x, x_cell = torch.zeros_like(forces), torch.zeros_like(cell_forces)
        r, r_cell = forces, cell_forces
        p, p_cell = r / diagonal, r_cell / cell_diagonal
        square = dot(r, r_cell, p, p_cell)
        enough = TOLERANCE**2 * square
        for _ in range(MAX_ITERATIONS):
            going = square > enough
            if not bool(going.any()):
                break
            q, q_cell = self.springs.multiply(p, p_cell)
            step = torch.where(going, square / dot(p, p_cell, q, q_cell), 0.0)
            x, x_cell = x + step[system_idx, None] * p, x_cell + step[:, None, None] * p_cell
            r, r_cell = r - step[system_idx, None] * q, r_cell - step[:, None, None] * q_cell
            z, z_cell = r / diagonal, r_cell / cell_diagonal
            last, square = square, torch.where(going, dot(r, r_cell, z, z_cell), square)
            ratio = torch.where(going, square / last, 0.0)
            p, p_cell = z + ratio[system_idx, None] * p, z_cell + ratio[:, None, None] * p_cell
        return x, x_cell

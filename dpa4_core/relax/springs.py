"""A guess of the stiffness of any structure from its bond lengths, to precondition quasi-Newton steps.

Every pair is a spring whose stiffness falls exponentially with its length in units of the sum of covalent radii
(after Packwood et al., J. Chem. Phys. 144, 164109, 2016, and the model Hessians of quantum chemistry, Lindh et al.,
Chem. Phys. Lett. 241, 423, 1995). A spring resists stretching and, weaker, bending:

    E = ½ Σ_pairs d · K d,   K = k(r) [(1 − b) r̂ r̂ᵀ + b 1],   d = u_src − u_dst + U v

with displacements ``u``, the pair vector ``v`` and the strain ``U``. The springs couple atoms and cell, so that the
cell has the right stiffness whatever the number of atoms. A weak spring holds every coordinate to its place, which
makes the matrix positive definite.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from ase.data import covalent_radii
from torch import Tensor

from dpa4_core.data.graph import Graph


@dataclass(frozen=True)
class SpringOptions:
    """The springs.

    Twice or half of the stiffness, bending or ground changed the force calls per structure of a test set by a sixth at
    most; the others were not tried so.

    Attributes:
        stiffness: eV/Å² at the sum of the covalent radii.
        decay: of the logarithm of the stiffness per sum of covalent radii.
        shortest: sums of covalent radii; shorter pairs are as stiff as these.
        longest: sums of covalent radii; longer pairs have no spring.
        bending: weight of the part that does not depend on direction.
        ground: eV/Å², holds every atom in its place.
        cell_ground: eV per atom, holds the cell in its shape.
        small: Å, covalent radii below: H, C, N, O, F, and of noble gases He and Ne.
        close: sums of covalent radii, within which two such atoms have a double or triple bond.
        multiple: factor on its stiffness against stretching, whole from 0.05 sums of radii closer: 88 eV/Å² in CO,
            whose vibration has 118. Without it the first steps of CO on a metal go too far.

    """

    stiffness: float = 6.0
    decay: float = 4.0
    shortest: float = 0.8
    longest: float = 2.2
    bending: float = 0.2
    ground: float = 0.6
    cell_ground: float = 6.0
    small: float = 0.8
    close: float = 0.9
    multiple: float = 8.0


@dataclass(frozen=True)
class Springs:
    """The springs of a batch, in both directions of every pair.

    Coordinates are displacements [n_atoms, 3] and ``n_atoms · U`` [n_systems, 3, 3], as in `cell_filter`. Those that
    do not move are decoupled and have unit stiffness.

    Attributes:
        src, dst: [n_springs] int64.
        vector: [n_springs, 3] Å, from dst to src.
        stiffness: [n_springs, 3, 3] eV/Å².
        system_idx: [n_atoms].
        n_atoms: [n_systems] float64.
        free: [n_atoms, 3] bool, coordinates that move.
        cell_moves: [n_systems] bool.
        ground: eV/Å².
        cell_ground: eV.

    """

    src: Tensor
    dst: Tensor
    vector: Tensor
    stiffness: Tensor
    system_idx: Tensor
    n_atoms: Tensor
    free: Tensor
    cell_moves: Tensor
    ground: float
    cell_ground: float

    @property
    def cell_diagonal(self) -> Tensor:
        """Stiffness that holds ``n_atoms · U``, [n_systems] eV/Å²."""
        return self.cell_ground / self.n_atoms

    def multiply(self, steps: Tensor, cell_steps: Tensor) -> tuple[Tensor, Tensor]:
        """The matrix times displacements [..., n_atoms, 3] and [..., n_systems, 3, 3], same shapes."""
        moves, per_atom = self.cell_moves[:, None, None], 1 / self.n_atoms[:, None, None]
        inner, inner_cell = torch.where(self.free, steps, 0.0), torch.where(moves, cell_steps, 0.0)
        system = self.system_idx[self.dst]
        stretch = inner[..., self.src, :] - inner[..., self.dst, :]
        stretch = stretch + torch.einsum("...eij,ej->...ei", (inner_cell * per_atom)[..., system, :, :], self.vector)
        tension = torch.einsum("eij,...ej->...ei", self.stiffness, stretch)
        out = (self.ground * inner).index_add(-2, self.dst, tension, alpha=-1)
        # both directions of a pair are there, hence the half
        strained = 0.5 * per_atom[system] * tension[..., None] * self.vector[:, None, :]
        out_cell = (self.cell_diagonal[:, None, None] * inner_cell).index_add(-3, system, strained)
        return torch.where(self.free, out, steps), torch.where(moves, out_cell, cell_steps)

    def diagonal(self) -> tuple[Tensor, Tensor]:
        """Diagonal of the matrix, [n_atoms, 3] and [n_systems, 3, 3]."""
        own = self.stiffness.diagonal(dim1=1, dim2=2)
        atoms = torch.full_like(self.free, self.ground, dtype=own.dtype)
        image = self.src == self.dst  # a spring to an own image does not hold an atom
        atoms = atoms.index_add(0, self.dst, torch.where(image[:, None], 0.0, own))
        system = self.system_idx[self.dst]
        strain = 0.5 * own[:, :, None] * self.vector.square()[:, None, :] / self.n_atoms[system, None, None].square()
        cell = self.cell_diagonal[:, None, None].expand(-1, 3, 3).index_add(0, system, strain)
        return torch.where(self.free, atoms, 1.0), torch.where(self.cell_moves[:, None, None], cell, 1.0)


def springs(graph: Graph, free: Tensor, cell_moves: Tensor, *, options: SpringOptions) -> Springs:
    """The springs of every pair of ``graph`` that is short enough.

    Args:
        graph: positions, cells and edges.
        free: [n_atoms, 3] bool, coordinates that move.
        cell_moves: [n_systems] bool.
        options: of the springs.

    """
    radii = torch.as_tensor(covalent_radii, dtype=torch.float64, device=graph.device)[graph.atomic_numbers]
    vector = graph.edge_vectors()
    length = torch.linalg.vector_norm(vector, dim=1)
    ratio = length / (radii[graph.src] + radii[graph.dst])
    near = torch.nonzero(ratio < options.longest)[:, 0]
    vector = vector[near]
    direction = vector / length[near, None]
    eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
    along = direction[:, :, None] * direction[:, None, :]
    size = options.stiffness * torch.exp(-options.decay * (ratio[near].clamp(min=options.shortest) - 1))
    small = torch.maximum(radii[graph.src], radii[graph.dst])[near] < options.small
    closer = torch.where(small, (options.close - ratio[near]) / 0.05, 0.0).clamp(0.0, 1.0)
    stretch = (1 - options.bending) * size * options.multiple**closer
    return Springs(
        src=graph.src[near],
        dst=graph.dst[near],
        vector=vector,
        stiffness=stretch[:, None, None] * along + options.bending * size[:, None, None] * eye,
        system_idx=graph.system_idx,
        n_atoms=torch.bincount(graph.system_idx, minlength=graph.n_systems).to(vector.dtype),
        free=free,
        cell_moves=cell_moves,
        ground=options.ground,
        cell_ground=options.cell_ground,
    )

"""A toy potential for tests of everything that uses a potential: instant, smooth, and without weights."""

from __future__ import annotations

import torch
from ase.data import covalent_radii
from torch import Tensor

from dpa4_core.committee import Committee
from dpa4_core.data.graph import Graph
from dpa4_core.potential import Output, derive

NOBLE_GASES = frozenset({2, 10, 18, 36, 54, 86})
ANIONS = frozenset({7, 8, 9, 16, 17, 34, 35, 53})
ANION_CONTACT = 1.4
"""Å by which the minimum of two anions lies beyond their covalent distance: they do not bond in an oxide."""


class MorsePotential:
    """Morse pairs at the sum of covalent radii; a `PotentialLike` in float64.

    E = Σ_i E₀(Z_i) + ½ Σ_ij D_ij [(1 − exp(−a (r − r_ij)))² − 1] s(r), where ``s`` falls from 1 at 0.6 of the
    cutoff to 0 at the cutoff with three continuous derivatives. Cation and anion bind with ``depth``, two
    cations with 0.6 of it, two anions with 0.2 of it at van der Waals distance. Metals and oxides relax to
    compact structures near their real densities; nothing else about them is meant to be real. E₀ = −Z/100 eV,
    so that a forgotten elemental reference changes a formation energy. Noble gases and Z > 94 are refused.

    Args:
        cutoff: Å.
        depth: eV.
        stiffness: ``a`` in 1/Å.
        device: where to compute.

    """

    def __init__(self, cutoff: float = 6.0, depth: float = 0.5, stiffness: float = 1.6, device: str = "cpu") -> None:
        self.cutoff = cutoff
        self.stiffness = stiffness
        self.device = torch.device(device)
        self.elements = frozenset(range(1, 95)) - NOBLE_GASES
        radii = torch.as_tensor(covalent_radii, dtype=torch.float64)
        anion = torch.tensor([z in ANIONS for z in range(len(radii))])
        n_anions = anion[:, None].int() + anion[None, :].int()
        distance = radii[:, None] + radii[None, :]
        self._distance = torch.where(n_anions == 2, distance + ANION_CONTACT, distance).to(self.device)
        factor = torch.tensor([0.6, 1.0, 0.2], dtype=torch.float64)
        self._depth = (depth * factor[n_anions]).to(self.device)

    def pair_energy(self, distance: Tensor, z_i: Tensor, z_j: Tensor) -> Tensor:
        """Energy of pairs [n] in eV at ``distance`` [n] in Å."""
        decay = torch.exp(-self.stiffness * (distance - self._distance[z_i, z_j]))
        start = 0.6 * self.cutoff
        x = ((distance - start) / (self.cutoff - start)).clamp(0.0, 1.0)
        envelope = 1 - x**4 * (35 - 84 * x + 70 * x**2 - 20 * x**3)
        return self._depth[z_i, z_j] * ((1 - decay) ** 2 - 1) * envelope

    def compute(self, graph: Graph) -> Output:
        """Energies, forces, virial and stress of every system in ``graph``."""
        numbers = graph.atomic_numbers
        edge_vec = graph.edge_vectors().detach().requires_grad_()
        with torch.enable_grad():
            distance = torch.linalg.vector_norm(edge_vec, dim=1)
            pair = self.pair_energy(distance, numbers[graph.src], numbers[graph.dst])
            atom_energies = (-0.01 * numbers.double()).index_add(0, graph.dst, 0.5 * pair)
        return derive(atom_energies, edge_vec, graph)


def morse_committee(n_members: int = 3, scatter: float = 0.05) -> Committee:
    """Toy potentials whose depths and stiffnesses lie within ``scatter`` of the default on both sides."""
    shifts = [scatter * (2 * k / (n_members - 1) - 1) for k in range(n_members)]
    return Committee([MorsePotential(depth=0.5 * (1 + s), stiffness=1.6 * (1 - s / 2)) for s in shifts])

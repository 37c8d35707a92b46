"""First node features: species, charge and spin, and what the environment of an atom says before any message
passing."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpa4_core.nn.edges import EdgeStrategy
from dpa4_core.nn.linear import normal
from dpa4_core.nn.norm import ScaleNorm


class SpeciesTable(nn.Module):
    """One vector per species; the extra last row of the published layout stays zero and unused."""

    def __init__(self, n_species: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.table = normal(n_species + 1, width, std=1 / math.sqrt(n_species + width), dtype=dtype)
        with torch.no_grad():
            self.table[-1] = 0.0

    def forward(self, species: Tensor) -> Tensor:
        return self.table.index_select(0, species)


class ChargeSpinEmbedding(nn.Module):
    """silu([Q_c[charge + 100]; Q_s[spin]] W + b) per system, added to every species vector of that system."""

    CHARGE_OFFSET = 100

    def __init__(self, channels: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.charge = normal(200, channels, std=1 / math.sqrt(199 + channels), dtype=dtype)
        self.spin = normal(100, channels, std=1 / math.sqrt(99 + channels), dtype=dtype)
        self.weight = normal(2 * channels, channels, std=1 / math.sqrt(3 * channels), dtype=dtype)
        self.bias = normal(channels, std=1.0, dtype=dtype)

    def forward(self, charge_spin: Tensor) -> Tensor:
        """[n_systems, 2] int64 → [n_systems, C]."""
        both = torch.cat([self.charge[charge_spin[:, 0] + self.CHARGE_OFFSET], self.spin[charge_spin[:, 1]]], dim=1)
        return F.silu(both @ self.weight + self.bias)


def environment_widths(channels: int) -> tuple[int, int, int, int, int]:
    """Widths of the environment embedding: (embedding, axis, species, radial, hidden)."""
    embed = min(channels, 128)
    axis = min(4 if embed < 64 else 8, embed - 1)
    species = min(max(channels // 4, 8), 32)
    radial = max(32, embed - 2 * species)
    hidden = min(256, max(2 * embed, radial + 2 * species))
    return embed, axis, species, radial, hidden


class EnvironmentFiLM(nn.Module):
    """Scale and shift of the species vector by an invariant of the neighbourhood (the DeepPot-SE environment matrix).

    With s = w/r and the four-vector ũ = (s, s·v/r) of an edge, g its embedding of length and species, A = n Σ ũ ⊗ g
    and P = AᵀA[:, :a]; two logits α, β are linear in P, and T ⊙ (1 + e^λs tanh α̂) + e^λb tanh β̂ results.
    """

    def __init__(
        self, n_species: int, channels: int, n_radial: int, eps: float, dtype: torch.dtype, *, normalise: bool
    ) -> None:
        super().__init__()
        embed, self.axis, species, radial, hidden = environment_widths(channels)
        self.eps = eps

        def dense(n_in: int, n_out: int) -> nn.Parameter:
            return normal(n_in, n_out, std=1 / math.sqrt(n_in + n_out), dtype=dtype)

        self.species = SpeciesTable(n_species, species, dtype)
        self.radial_1, self.radial_2 = dense(n_radial, radial), dense(radial, radial)
        self.edge_1, self.edge_2 = dense(radial + 2 * species, hidden), dense(hidden, embed)
        self.out = nn.Parameter(torch.zeros(embed * self.axis, 2 * channels, dtype=dtype))
        self.scale_norm = ScaleNorm((1, channels), dtype) if normalise else nn.Identity()
        self.shift_norm = ScaleNorm((1, channels), dtype) if normalise else nn.Identity()
        self.log_scale = nn.Parameter(torch.full((1,), math.log(0.01), dtype=dtype))
        self.log_shift = nn.Parameter(torch.full((1,), math.log(0.01), dtype=dtype))

    def forward(
        self,
        type_vectors: Tensor,
        species: Tensor,
        src: Tensor,
        dst: Tensor,
        edge_vec: Tensor,
        basis: Tensor,
        weight: Tensor,
        norm: Tensor,
        strategy: EdgeStrategy,
    ) -> Tensor:
        """Scalar features [n_atoms, C].

        Args:
            type_vectors: T [n_atoms, C]; species: [n_atoms]; edge_vec: [n_edges, 3]; basis: φ [n_edges, n_radial];
            weight: w, gated under bridging, [n_edges, 1]; norm: n [n_atoms, 1];
            strategy: how sums over edges are taken.
        """
        inverse = torch.rsqrt(edge_vec.square().sum(-1, keepdim=True) + self.eps**2)
        s = weight * inverse
        four_vector = torch.cat([s, s * inverse * edge_vec], dim=1)
        radial = F.silu(basis @ self.radial_1) @ self.radial_2
        n_radial, n_species = radial.shape[1], self.species.table.shape[1]
        # the species rows of G₁ act once per species, not once per edge
        by_source = self.species.table @ self.edge_1[n_radial : n_radial + n_species]
        by_centre = self.species.table @ self.edge_1[n_radial + n_species :]
        hidden = radial @ self.edge_1[:n_radial] + by_source[species[src]] + by_centre[species[dst]]
        g = F.silu(hidden) @ self.edge_2
        a = strategy.outer(four_vector, g, dst, type_vectors.shape[0]) * norm[:, :, None]
        invariant = a.transpose(1, 2) @ a[:, :, : self.axis]
        alpha, beta = (invariant.flatten(1) @ self.out).chunk(2, dim=1)
        scale = torch.exp(self.log_scale) * torch.tanh(self.scale_norm(alpha))
        shift = torch.exp(self.log_shift) * torch.tanh(self.shift_norm(beta))
        return type_vectors * (1.0 + scale) + shift


def zonal_seed(
    harmonic: Tensor,
    radial: Tensor,
    dst: Tensor,
    norm: Tensor,
    degrees: Tensor,
    gate: Tensor | None,
    strategy: EdgeStrategy,
) -> Tensor:
    """First l ≥ 1 features, x_i[l, m] = n_i Σ_e S_lm(u_e) ρ_e[l]: [n_atoms, D − 1, C].

    Args:
        harmonic: [n_edges, D]; radial: ρ [n_edges, L+1, C]; norm: [n_atoms, 1]; degrees: [D]; gate: [n_edges, 1];
        strategy: how sums over edges are taken.
    """
    harmonic = harmonic[:, 1:] if gate is None else harmonic[:, 1:] * gate
    return strategy.by_degree(harmonic, radial, degrees[1:], dst, norm.shape[0]) * norm[:, :, None]

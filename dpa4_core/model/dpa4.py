"""The DPA4 network: edge vectors in, atomic energies out (arXiv 2606.02419).

edge vectors ─► length, envelope w, basis φ, rotation D
     ├─ radial MLP ─► ρ               species T, FiLM from the environment ─► x[l=0]
     ├─ zonal seed Σ S(u)·ρ ─► x[l≥1]            ρ + T[src] + T[dst] ─► edge condition
     └─ n_blocks × { x += norm(conv(x));  x += ffn(norm(x)) } ─► read-out ─► fitting net ─► energy per atom
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from dpa4_core.model.config import DPA4Config
from dpa4_core.model.zbl import zbl_pair_energy
from dpa4_core.nn.convolution import SO2Convolution
from dpa4_core.nn.edges import PLAIN, EdgeData, EdgeStrategy
from dpa4_core.nn.embedding import ChargeSpinEmbedding, EnvironmentFiLM, SpeciesTable, zonal_seed
from dpa4_core.nn.feedforward import FittingNet, GridFFN, ScalarFFN, auto_width
from dpa4_core.nn.layout import packed_degrees
from dpa4_core.nn.norm import EquivariantRMSNorm
from dpa4_core.nn.radial import BesselBasis, GaussianBasis, RadialMLP, bridge_clamp, bridge_switch, envelope
from dpa4_core.nn.rotation import Harmonics, edge_frame
from dpa4_core.nn.segment import segment_sum


class Block(nn.Module):
    """x ← x + post(conv(pre(x))), then x ← x + post(ffn(pre(x))) for each feed-forward branch."""

    def __init__(self, config: DPA4Config, dtype: torch.dtype) -> None:
        super().__init__()
        norms, lmax, channels = config.norms, config.lmax, config.channels

        def norm(present: bool, eps: float = 1e-5) -> nn.Module:
            return EquivariantRMSNorm(lmax, channels, dtype, eps=eps) if present else nn.Identity()

        self.conv_pre = norm(norms.conv_pre)
        self.conv = SO2Convolution(
            lmax,
            channels,
            n_focus=config.n_focus,
            mixing_layers=config.mixing_layers,
            mixer_rank=config.mixer_rank,
            message_node=config.message_node,
            normalise_focus=norms.focus,
            eps=config.eps,
            dtype=dtype,
        )
        # without edge norms a unit floor keeps the messages of sparse neighbourhoods small
        self.conv_post = norm(norms.conv_post, eps=1e-5 if norms.radial else 1.0)
        self.ffn_pre = nn.ModuleList(norm(norms.ffn_pre) for _ in range(config.ffn_blocks))
        self.ffns = nn.ModuleList(
            GridFFN(config.ffn_product, lmax, channels, config.hidden, dtype, rotations=config.ffn_grid == "rotations")
            for _ in range(config.ffn_blocks)
        )
        self.ffn_post = nn.ModuleList(norm(norms.ffn_post) for _ in range(config.ffn_blocks))

    def forward(self, x: Tensor, edges: EdgeData) -> Tensor:
        x = x + self.conv_post(self.conv(self.conv_pre(x), edges))
        for pre, ffn, post in zip(self.ffn_pre, self.ffns, self.ffn_post, strict=True):
            x = x + post(edges.strategy.on_nodes(ffn, pre(x)))
        return x


class DPA4(nn.Module):
    """Atomic energies as a function of edge vectors and species.

    Args:
        config: what to build.
        dtype: precision of weights and arithmetic. Tables are made in it, so build a float64 model to get
            float64 results rather than converting a float32 one.

    Attributes:
        block_precision: of the matrix products in the blocks, by autocast; bfloat16 say, or None for ``dtype``, in
            which norms, softmax, sums over edges and all outside the blocks stay. A float64 model ignores it.
    """

    block_precision: torch.dtype | None = None

    fit_bias: Tensor
    out_bias: Tensor
    degrees: Tensor
    nuclear_charge: Tensor

    def __init__(self, config: DPA4Config, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.dtype = config, dtype
        lmax, channels, n_species = config.lmax, config.channels, len(config.elements)
        radial = config.radial
        self.species = SpeciesTable(n_species, channels, dtype)
        self.charge_spin = ChargeSpinEmbedding(channels, dtype) if config.charge_spin is not None else None
        if radial.basis == "bessel":
            self.basis: nn.Module = BesselBasis(radial.n_radial, config.cutoff, dtype)
        else:
            self.basis = GaussianBasis(radial.n_radial, config.cutoff, dtype, trainable=radial.trainable)
        self.radial = RadialMLP(
            radial.n_radial,
            [width or channels for width in radial.hidden],
            (lmax + 1) * channels,
            dtype,
            normalise=config.norms.radial,
        )
        self.film = EnvironmentFiLM(
            n_species, channels, radial.n_radial, config.eps, dtype, normalise=config.norms.film
        )
        self.harmonics = Harmonics(lmax, dtype)
        self.blocks = nn.ModuleList(Block(config, dtype) for _ in range(config.n_blocks))
        if config.readout == "mlp":
            self.readout: nn.Module = GridFFN("mlp", lmax, channels, config.hidden, dtype, rotations=True)
        else:
            self.readout = ScalarFFN(channels, config.hidden, dtype)
        self.fitting = FittingNet(
            channels, tuple(width or auto_width(channels) for width in config.fitting_hidden), dtype
        )
        self.register_buffer("fit_bias", torch.zeros(n_species, 1, dtype=torch.float64))
        self.register_buffer("out_bias", torch.zeros(1, n_species, 1, dtype=torch.float64))
        self.register_buffer("out_std", torch.ones(1, n_species, 1, dtype=torch.float64))
        self.register_buffer("degrees", packed_degrees(lmax), persistent=False)
        self.register_buffer("nuclear_charge", torch.tensor(config.atomic_numbers), persistent=False)

    def descriptor(
        self,
        edge_vec: Tensor,
        src: Tensor,
        dst: Tensor,
        species: Tensor,
        conditioning: Tensor | None = None,
        roll: Tensor | None = None,
        strategy: EdgeStrategy = PLAIN,
    ) -> Tensor:
        """Invariant descriptor [n_atoms, C] of every atom.

        Args:
            edge_vec: [n_edges, 3] Å, from centre to neighbour, any float dtype.
            src, dst: [n_edges] int64, neighbour and centre.
            species: [n_atoms] int64, position in ``config.elements``.
            conditioning: charge and spin multiplicity of the system of each atom, [n_atoms, 2] int64.
            roll: [n_edges, 1] radians, a gauge; see `edge_frame`.
            strategy: how sums over edges are taken; with another than the plain one weights are constants.
        """
        config = self.config
        floored = config.version >= 1.1
        edge_vec = edge_vec.to(self.dtype)
        length = torch.sqrt(edge_vec.square().sum(-1, keepdim=True) + config.eps**2)
        direction = edge_vec / length
        gate = None
        if config.bridge is not None:
            seen = bridge_clamp(length, config.bridge.inner, config.bridge.outer)
            switch = bridge_switch(seen, config.bridge.inner, config.bridge.outer)
            gate = source_gate(switch, src, species.shape[0])[src]
            edge_vec, length = edge_vec * (seen / length), seen

        weight = envelope(length, config.cutoff, config.radial.message_envelope)
        basis = self.basis(length)
        if config.radial.basis_envelope is not None:
            basis = basis * envelope(length, config.cutoff, config.radial.basis_envelope)
        radial = self.radial(basis).unflatten(-1, (config.lmax + 1, config.channels))
        if floored:
            radial = radial * weight[:, :, None]
        n_atoms = species.shape[0]
        degree = segment_sum(weight.square(), dst, n_atoms)
        norm = torch.rsqrt(degree + (0.25 if floored else config.eps))

        type_vectors = self.species(species)
        if self.charge_spin is not None:
            if conditioning is None:
                conditioning = torch.tensor([config.charge_spin], device=species.device).expand(n_atoms, -1)
            type_vectors = type_vectors + self.charge_spin(conditioning)
        gated = weight if gate is None else weight * gate
        scalars = self.film(type_vectors, species, src, dst, edge_vec, basis, gated, norm, strategy)

        rotation = self.harmonics.rows(direction, *edge_frame(direction, roll))
        seed = zonal_seed(rotation[:, 0], radial, dst, norm, self.degrees, gate, strategy)
        x = torch.cat([scalars[:, None], seed], dim=1)

        condition = radial + (type_vectors[src] + type_vectors[dst])[:, None]
        edges = EdgeData(src, dst, rotation, condition, weight, gate, strategy)
        with self._autocast(x.device):
            for block in self.blocks:
                x = block(x, edges)
        if isinstance(self.readout, GridFFN):
            return x[:, 0] + strategy.on_nodes(self.readout.scalar, x)
        return x[:, 0] + self.readout(x[:, 0])

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        if self.block_precision is None:
            return nullcontext()
        # a cached cast of a weight would outlive the graph that it belongs to
        return torch.autocast(device.type, dtype=self.block_precision, cache_enabled=False)

    def forward(
        self,
        edge_vec: Tensor,
        src: Tensor,
        dst: Tensor,
        species: Tensor,
        conditioning: Tensor | None = None,
        roll: Tensor | None = None,
        strategy: EdgeStrategy = PLAIN,
    ) -> Tensor:
        """Atomic energies [n_atoms] float64, eV; arguments as in `descriptor`."""
        energies = self.fitting(self.descriptor(edge_vec, src, dst, species, conditioning, roll, strategy))
        energies = energies + self.fit_bias[species, 0].to(energies.dtype)
        energies = energies.double() + self.out_bias[0, species, 0]
        if self.config.bridge is not None:
            energies = energies + self.repulsion(edge_vec, src, dst, species)
        return energies

    def repulsion(self, edge_vec: Tensor, src: Tensor, dst: Tensor, species: Tensor) -> Tensor:
        """Nuclear repulsion per atom [n_atoms] float64, eV; zero in a model without zone bridging."""
        if self.config.bridge is None:
            return edge_vec.new_zeros(species.shape[0], dtype=torch.float64)
        charge = self.nuclear_charge[species]
        length = torch.sqrt(edge_vec.double().square().sum(-1) + self.config.eps**2)
        # the published form ends at the cutoff without a taper; edges of a list with a skin lie beyond it
        pair = zbl_pair_energy(length, charge[src], charge[dst]) * (length <= self.config.cutoff)
        return 0.5 * segment_sum(pair, dst, species.shape[0])


def source_gate(switch: Tensor, src: Tensor, n_atoms: int) -> Tensor:
    """η_j = Π over the edges with source j of ``switch`` [n_edges, 1]: [n_atoms, 1]; 1 without edges.

    Sum of logarithms over the non-zero factors and a count of the zeros: a product scatter has no usable second
    derivative.
    """
    closed = switch <= 0
    log = torch.where(closed, 1.0, switch).log()
    product = torch.exp(segment_sum(log, src, n_atoms))
    return torch.where(segment_sum(closed.to(switch.dtype), src, n_atoms) > 0, 0.0, product)

"""The SO(2) convolution: rotate the neighbour's features into the frame of the edge, mix them there with matrices
that only commute with rotations about the edge, rotate back, and sum with attention weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpa4_core.nn.grid import MessageNodeProduct
from dpa4_core.nn.layout import packed_degrees, reduced_degrees
from dpa4_core.nn.linear import SO2Linear, SO3Linear, truncated_normal, uniform
from dpa4_core.nn.norm import ScaleNorm
from dpa4_core.nn.segment import segment_max, segment_sum


@dataclass(frozen=True)
class EdgeData:
    """What every block knows about the edges.

    Attributes:
        src, dst: [n_edges] int64.
        rotation: rows |m| ≤ 1 of D, global → edge frame, [n_edges, Dm, D].
        condition: ρ + T[src] + T[dst], [n_edges, L+1, C].
        weight: envelope w, [n_edges, 1].
        gate: η of the source atom under zone bridging, [n_edges, 1], or None.
    """

    src: Tensor
    dst: Tensor
    rotation: Tensor
    condition: Tensor
    weight: Tensor
    gate: Tensor | None


def envelope_softmax(logits: Tensor, edges: EdgeData, floor: Tensor, n_atoms: int) -> Tensor:
    """α_e = w²η eˡ / (ζ + Σ w²η eˡ) over the edges of a centre, [n_edges, F]; zero with the envelope.

    The floor ζ [F] keeps lonely atoms finite and lets α vanish smoothly with the last neighbour. Exponents are taken
    relative to the largest of their centre, which cancels and carries no gradient.
    """
    mass = edges.weight.square()
    with torch.no_grad():
        reachable = logits + torch.where(mass > 0, mass.log(), -torch.inf)
        log_floor = floor.log().expand(n_atoms, -1)
    top = segment_max(reachable, edges.dst, log_floor)
    within = mass > 0
    if edges.gate is not None:
        mass = mass * edges.gate  # linear in η: its logarithm would have a singular derivative at closed gates
    # beyond the cutoff the mass is zero, but eˡ alone could overflow
    share = mass * torch.exp(torch.where(within, logits - top[edges.dst], -torch.inf))
    total = floor * torch.exp(-top) + segment_sum(share, edges.dst, n_atoms)
    return share / total[edges.dst]


class DegreeMixer(nn.Module):
    """Mixes degrees within each order by a kernel that the edge condition predicts, of low rank in the channels.

    z'[l', ±m, c] = Σ_ρ B[ρ, c] Σ_l κ[l, l', m, ρ] z[l, ±m, c], the same kernel for both signs of m.
    """

    def __init__(self, lmax: int, width: int, rank: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.lmax, self.rank = lmax, rank
        n_in, n_kernel = (lmax + 1) * width, (lmax + 1) ** 2 + lmax**2
        std = 1 / math.sqrt(n_in + n_kernel * rank)
        self.weight = truncated_normal(n_in, n_kernel * rank, std=std, dtype=dtype)
        self.channel_basis = truncated_normal(rank, width, std=1 / math.sqrt(rank + width), dtype=dtype)

    def forward(self, rotation: Tensor, condition: Tensor, projection: Tensor | None) -> Tensor:
        """Rotation and kernel in one: [n_edges, Dm, D] → [n_edges, Dm, rank·D], rank outside.

        The kernel acts on the rows of D, a far smaller matrix than the features. ``projection`` [C, H] maps the
        condition to the hidden width and is merged into the weight.
        """
        n, size = self.lmax + 1, self.lmax
        weight: Tensor = self.weight
        if projection is not None:
            weight = (projection @ weight.view(n, projection.shape[1], -1)).flatten(0, 1)
        kernel = (condition.flatten(1) @ weight).unflatten(1, (-1, self.rank)).transpose(1, 2)
        order_0 = kernel[:, :, : n * n].unflatten(2, (n, n)).transpose(2, 3)
        order_1 = kernel[:, :, n * n :].unflatten(2, (size, size)).transpose(2, 3)
        zero, minus, plus = rotation[:, None].split([n, size, size], dim=2)
        mixed = torch.cat([order_0 @ zero, order_1 @ minus, order_1 @ plus], dim=2)
        return mixed.transpose(1, 2).flatten(2)


class SO2Convolution(nn.Module):
    """Message passing of one block, x [n_atoms, D, C] → [n_atoms, D, C].

    The hidden width H = F·C is split into F focus streams of C channels, which share the geometry and nothing else
    until the post mix.
    """

    rescale: Tensor
    reduced_degrees: Tensor

    def __init__(
        self,
        lmax: int,
        channels: int,
        *,
        n_focus: int,
        mixing_layers: int,
        mixer_rank: int,
        message_node: bool,
        normalise_focus: bool,
        eps: float,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.lmax, self.channels, self.n_focus, self.eps = lmax, channels, n_focus, eps
        width, hidden = channels, n_focus * channels
        degrees = packed_degrees(lmax)
        rescale = torch.where(degrees > 1, ((2 * degrees + 1).double() / 3.0).sqrt(), 1.0)
        self.register_buffer("rescale", rescale.to(dtype), persistent=False)
        self.register_buffer("reduced_degrees", reduced_degrees(lmax), persistent=False)

        self.pre_mix = SO3Linear(lmax, channels, hidden, dtype)
        self.post_mix = SO3Linear(lmax, hidden, channels, dtype, zero=True)
        bound = 1 / math.sqrt(channels)
        self.condition_projection = uniform(channels, hidden, bound=bound, dtype=dtype) if n_focus > 1 else None
        self.degree_mixer = DegreeMixer(lmax, hidden, mixer_rank, dtype) if mixer_rank else None
        self.mixing = nn.ModuleList(SO2Linear(lmax, n_focus, width, dtype) for _ in range(mixing_layers))
        self.gates = nn.ParameterList(
            nn.Parameter(0.01 * torch.randn(width, n_focus * lmax * width, dtype=dtype))
            for _ in range(mixing_layers - 1)
        )
        if n_focus > 1:
            self.focus_norm = ScaleNorm((n_focus, width), dtype) if normalise_focus else nn.Identity()
            self.focus_weight = nn.Parameter(0.01 * torch.randn(width, n_focus, dtype=dtype))
        self.qk_norm = ScaleNorm((n_focus, width), dtype)
        self.query = uniform(width, hidden, bound=1 / math.sqrt(width), dtype=dtype)
        self.key = uniform(width, hidden, bound=1 / math.sqrt(width), dtype=dtype)
        self.logit_weight = nn.Parameter(0.01 * torch.randn(width, n_focus, 1, dtype=dtype))
        self.floor_raw = nn.Parameter(torch.full((n_focus, 1), 0.5413, dtype=dtype))
        self.gate_norm = ScaleNorm((n_focus, width), dtype)
        self.gate_weight = nn.Parameter(0.01 * torch.randn(width, n_focus, 1, dtype=dtype))
        self.message_node = MessageNodeProduct(lmax, n_focus, width, dtype) if message_node else None

    def attention(self, scalars: Tensor, edges: EdgeData) -> Tensor:
        """Attention weights α [n_edges, F] from the l = 0 features [n_atoms, F, Cf] and the edge condition."""
        n_atoms, _, width = scalars.shape
        normed = self.qk_norm(scalars)
        query = torch.einsum("nfi,ifo->nfo", normed, self.query.view(width, self.n_focus, width))
        key = torch.einsum("nfi,ifo->nfo", normed, self.key.view(width, self.n_focus, width))
        logits = (query[edges.dst] * key[edges.src]).sum(-1, dtype=self.floor_raw.dtype) / math.sqrt(width)
        weight = self.logit_weight[:, :, 0]  # [Cf, F]
        if self.condition_projection is not None:
            projection = self.condition_projection.view(self.channels, self.n_focus, width)
            weight = torch.einsum("cfk,kf->cf", projection, weight)
        logits = logits + edges.condition[:, 0] @ weight
        floor = F.softplus(self.floor_raw[:, 0]) + self.eps
        return envelope_softmax(logits.to(floor.dtype), edges, floor, n_atoms)

    def mix(
        self, even: Tensor, odd: Tensor, focus: int, matrices: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """The residual mixing stack of one focus stream on z₀ [n_edges, (L+1)·Cf] and (z₋, z₊) [n_edges, 2·L·Cf]."""
        width, lmax = self.channels, self.lmax
        for layer, (order_0, order_1) in enumerate(matrices):
            out_0, out_1 = even @ order_0[focus], odd @ order_1[focus]
            if layer < len(self.gates):
                scalar = out_0[:, :width]
                gate_weight = self.gates[layer].view(width, self.n_focus, lmax * width)[:, focus]
                gate = torch.sigmoid(scalar @ gate_weight)
                out_0 = torch.cat([F.silu(scalar), out_0[:, width:] * gate], dim=1)
                out_1 = (out_1.unflatten(1, (2, lmax * width)) * gate[:, None]).flatten(1)
            even, odd = even + out_0, odd + out_1
        return even, odd

    def focus_share(self, scalars: Tensor) -> Tensor:
        """Competition between the streams from their initial scalars [n_edges, F, Cf], smoothed: [n_edges, F]."""
        score = torch.einsum("efk,kf->ef", self.focus_norm(scalars), self.focus_weight)
        return 0.98 * torch.softmax(score.to(self.focus_weight.dtype), dim=-1) + 0.02 / self.n_focus

    def forward(self, x: Tensor, edges: EdgeData) -> Tensor:
        n_atoms, size, width = x.shape[0], x.shape[1], self.channels
        y = self.pre_mix(x).unflatten(-1, (self.n_focus, width))  # [n, D, F, Cf]
        alpha = self.attention(y[:, 0], edges)

        rotate_in, features, condition = edges.rotation, y, None
        if self.degree_mixer is not None:
            rotate_in = self.degree_mixer(edges.rotation, edges.condition, self.condition_projection)
            basis = self.degree_mixer.channel_basis.view(-1, 1, self.n_focus, width).to(y.dtype)
            features = (y[:, None] * basis).flatten(1, 2)  # [n, rank·D, F, Cf], matching the columns of rotate_in
        else:
            condition = edges.condition
            if self.condition_projection is not None:
                condition = condition @ self.condition_projection
            condition = condition.to(y.dtype).unflatten(-1, (self.n_focus, width))[:, self.reduced_degrees]
        local = []  # under autocast these are of low precision, like y, and stay so until they are summed
        for focus in range(self.n_focus):
            z = rotate_in @ features[:, :, focus].index_select(0, edges.src)  # [n_edges, Dm, Cf]
            local.append(z if condition is None else z * condition[:, :, focus])
        share = alpha
        if self.n_focus > 1:
            share = alpha * self.focus_share(torch.stack([z[:, 0] for z in local], dim=1))
        rotate_out = edges.rotation * self.rescale

        matrices = [cast(SO2Linear, layer).matrices() for layer in self.mixing]
        gates = torch.sigmoid(torch.einsum("nfk,kf->nf", self.gate_norm(y[:, 0]), self.gate_weight[:, :, 0]))
        streams = []
        for focus, z in enumerate(local):
            even, odd = z[:, : self.lmax + 1].flatten(1), z[:, self.lmax + 1 :].flatten(1)
            even, odd = self.mix(even, odd, focus, matrices)
            z = torch.cat([even, odd], dim=1).view(z.shape)
            # the weight goes onto the matrix, which is smaller than the features
            weighted = (rotate_out * share[:, focus, None, None]).transpose(1, 2)
            message = segment_sum((weighted @ z).flatten(1), edges.dst, n_atoms).view(n_atoms, size, width)
            own = y[:, :, focus]
            message = message * gates[:, focus, None, None]
            if self.message_node is not None:
                message = message + self.message_node(message, own, focus)
            streams.append(message)
        return self.post_mix(torch.cat(streams, dim=-1))

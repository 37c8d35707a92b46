"""The SO(2) convolution: features in the hidden width, attention weights of the edges, the messages of `Messages`
summed with them, and their products with the features of the node.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpa4_core.nn.edges import EdgeData
from dpa4_core.nn.grid import MessageNodeProduct
from dpa4_core.nn.layout import packed_degrees, reduced_degrees
from dpa4_core.nn.linear import SO2Linear, SO3Linear, normal, uniform
from dpa4_core.nn.messages import DegreeMixer, Messages
from dpa4_core.nn.norm import ScaleNorm
from dpa4_core.nn.rotation import spread_rows
from dpa4_core.nn.segment import segment_max, segment_sum


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


class SO2Convolution(nn.Module):
    """Message passing of one block, x [n_atoms, D, C] → [n_atoms, D, C].

    The hidden width H = F·C is split into F focus streams of C channels, which share the geometry and nothing else
    until the post mix.
    """

    rescale: Tensor
    spread: Tensor
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
        self.register_buffer("spread", spread_rows(lmax, dtype), persistent=False)
        self.register_buffer("reduced_degrees", reduced_degrees(lmax), persistent=False)

        self.pre_mix = SO3Linear(lmax, channels, hidden, dtype)
        self.post_mix = SO3Linear(lmax, hidden, channels, dtype, zero=True)
        bound = 1 / math.sqrt(channels)
        self.condition_projection = uniform(channels, hidden, bound=bound, dtype=dtype) if n_focus > 1 else None
        self.degree_mixer = DegreeMixer(lmax, hidden, mixer_rank, dtype) if mixer_rank else None
        self.mixing = nn.ModuleList(SO2Linear(lmax, n_focus, width, dtype) for _ in range(mixing_layers))
        self.gates = nn.ParameterList(
            normal(width, n_focus * lmax * width, std=0.01, dtype=dtype) for _ in range(mixing_layers - 1)
        )
        if n_focus > 1:
            self.focus_norm = ScaleNorm((n_focus, width), dtype) if normalise_focus else nn.Identity()
            self.focus_weight = normal(width, n_focus, std=0.01, dtype=dtype)
        self.qk_norm = ScaleNorm((n_focus, width), dtype)
        self.query = uniform(width, hidden, bound=1 / math.sqrt(width), dtype=dtype)
        self.key = uniform(width, hidden, bound=1 / math.sqrt(width), dtype=dtype)
        self.logit_weight = normal(width, n_focus, 1, std=0.01, dtype=dtype)
        self.floor_raw = nn.Parameter(torch.full((n_focus, 1), 0.5413, dtype=dtype))
        self.gate_norm = ScaleNorm((n_focus, width), dtype)
        self.gate_weight = normal(width, n_focus, 1, std=0.01, dtype=dtype)
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

    def formula(self) -> Messages:
        """What happens on an edge, with the present weights."""
        width, n_focus = self.channels, self.n_focus
        return Messages(
            self.lmax,
            width,
            n_focus,
            self.spread,
            self.reduced_degrees,
            self.degree_mixer,
            matrices=[cast(SO2Linear, layer).matrices() for layer in self.mixing],
            gates=[gate.view(width, n_focus, self.lmax * width).transpose(0, 1) for gate in self.gates],
            focus_norm=self.focus_norm if n_focus > 1 else None,
            focus_weight=self.focus_weight if n_focus > 1 else None,
        )

    def forward(self, x: Tensor, edges: EdgeData) -> Tensor:
        width = self.channels
        y = self.pre_mix(x).unflatten(-1, (self.n_focus, width))  # [n, D, F, Cf]
        alpha = self.attention(y[:, 0], edges)
        condition, features = edges.condition, y.movedim(2, 0)
        if self.degree_mixer is not None:
            condition = self.degree_mixer.kernel(condition, self.condition_projection)
            basis = self.degree_mixer.channel_basis.view(-1, 1, self.n_focus, width).to(y.dtype)
            features = (y[:, None] * basis).flatten(1, 2).movedim(2, 0)  # matching the columns of rotate_in
        elif self.condition_projection is not None:
            condition = condition @ self.condition_projection

        strategy = edges.strategy
        message = strategy.messages(self.formula(), edges.src, edges.dst, features, edges.rotation, condition, alpha)
        message = (message * self.rescale[:, None]).unflatten(-1, (self.n_focus, width))
        gates = torch.sigmoid(torch.einsum("nfk,kf->nf", self.gate_norm(y[:, 0]), self.gate_weight[:, :, 0]))
        message = message * gates[:, None, :, None]
        return strategy.on_nodes(self._join, message, y)

    def _join(self, message: Tensor, own: Tensor) -> Tensor:
        """Messages, their products with the features of the node, and the post mix, [n, D, F, C] both → [n, D, C]."""
        if self.message_node is None:
            return self.post_mix(message.flatten(2))
        streams = [
            m + self.message_node(m, y, focus)
            for focus, (m, y) in enumerate(zip(message.unbind(2), own.unbind(2), strict=True))
        ]
        return self.post_mix(torch.cat(streams, dim=-1))

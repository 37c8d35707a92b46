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

from dpa4_core.nn.chunked import chunked
from dpa4_core.nn.grid import MessageNodeProduct
from dpa4_core.nn.layout import packed_degrees, reduced_degrees
from dpa4_core.nn.linear import SO2Linear, SO3Linear, normal, truncated_normal, uniform
from dpa4_core.nn.norm import ScaleNorm
from dpa4_core.nn.rotation import spread_rows
from dpa4_core.nn.segment import segment_max, segment_sum
from dpa4_core.nn.tiled import tiled_messages
from dpa4_core.nn.tiling import Tiling


@dataclass(frozen=True)
class EdgeData:
    """What every block knows about the edges.

    Attributes:
        src, dst: [n_edges] int64.
        rotation: rows m = 0, −1, +1 of D, global → edge frame, as `Harmonics.rows` gives them, [n_edges, 3, D].
        condition: ρ + T[src] + T[dst], [n_edges, L+1, C].
        weight: envelope w, [n_edges, 1].
        gate: η of the source atom under zone bridging, [n_edges, 1], or None.
        tiling: how inference on a CPU cuts the edges; None for the plain formula, which is differentiable twice.
    """

    src: Tensor
    dst: Tensor
    rotation: Tensor
    condition: Tensor
    weight: Tensor
    gate: Tensor | None
    tiling: Tiling | None = None

    @property
    def keep(self) -> bool:
        """Whether intermediates are kept for the derivative."""
        return self.tiling is None or self.tiling.keep


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

    expand: Tensor

    def __init__(self, lmax: int, width: int, rank: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.lmax, self.rank = lmax, rank
        n_in, n_kernel = (lmax + 1) * width, (lmax + 1) ** 2 + lmax**2
        std = 1 / math.sqrt(n_in + n_kernel * rank)
        self.weight = truncated_normal(n_in, n_kernel * rank, std=std, dtype=dtype)
        self.channel_basis = truncated_normal(rank, width, std=1 / math.sqrt(rank + width), dtype=dtype)
        self.register_buffer("expand", _expand_kernel(lmax, rank, dtype), persistent=False)

    def kernel(self, condition: Tensor, projection: Tensor | None) -> Tensor:
        """κ [n_edges, ((L+1)² + L²)·rank] from the edge condition [n_edges, L+1, C].

        ``projection`` [C, H] maps the condition to the hidden width and is merged into the weight.
        """
        weight: Tensor = self.weight
        if projection is not None:
            weight = (projection @ weight.view(self.lmax + 1, projection.shape[1], -1)).flatten(0, 1)
        return condition.flatten(1) @ weight

    def forward(self, rotation: Tensor, kernel: Tensor) -> Tensor:
        """Rotation [n_edges, 3, D] and kernel in one: [n_edges, Dm, rank·D], rank outside.

        A column of D belongs to one degree l, so entry (l', m; l, ·) of the product is κ[l, l', |m|] times row m of D:
        there is nothing to sum.
        """
        even, odd = self._factors(kernel, rotation.shape[2])
        zero, minus, plus = rotation[:, :, None, None].unbind(1)
        return torch.cat([even * zero, odd * minus, odd * plus], dim=1).flatten(2)

    def backward(self, rotation: Tensor, kernel: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of rotation and kernel, by hand, from that of `forward`."""
        n_edges, _, size = rotation.shape
        even, odd = self._factors(kernel, size)
        zero, signed = rotation[:, 0, None, None], rotation[:, 1:, None, None]
        grad = grad.view(n_edges, 3 * self.lmax + 1, self.rank, size)
        grad_even, grad_odd = grad[:, : self.lmax + 1], grad[:, self.lmax + 1 :].unflatten(1, (2, self.lmax))
        row_0 = (grad_even * even).sum((1, 2))
        rows_1 = (grad_odd * odd[:, None]).sum((2, 3))
        factors = torch.cat([grad_even * zero, (grad_odd * signed).sum(1)], dim=1)
        return torch.cat([row_0[:, None], rows_1], dim=1), factors.flatten(1) @ self.expand.T

    def _factors(self, kernel: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """κ for every column of D, of order 0 [n_edges, L+1, rank, D] and 1 [n_edges, L, rank, D]."""
        factors = (kernel @ self.expand.to(kernel.dtype)).view(len(kernel), 2 * self.lmax + 1, self.rank, size)
        even, odd = factors.split([self.lmax + 1, self.lmax], dim=1)
        return even, odd


def _expand_kernel(lmax: int, rank: int, dtype: torch.dtype) -> Tensor:
    """Zeros and ones that repeat κ for every column of D: [((L+1)² + L²)·rank, (2L+1)·rank·D].

    Rows are sorted as stored: (l, l') of order 0, then of order 1, the rank last. Columns are (l' of order 0, then of
    order 1; rank; packed index of degree l).
    """
    n, degrees = lmax + 1, packed_degrees(lmax).tolist()
    expand = torch.zeros(n * n + lmax * lmax, rank, n + lmax, rank, len(degrees), dtype=dtype)
    for column, degree in enumerate(degrees):
        for row in range(n):
            for term in range(rank):
                expand[degree * n + row, term, row, term, column] = 1.0
                if degree and row:
                    expand[n * n + (degree - 1) * lmax + row - 1, term, n + row - 1, term, column] = 1.0
    return expand.view((n * n + lmax * lmax) * rank, -1)


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
        """Competition between the streams from their initial scalars [F, n_edges, Cf], smoothed: [n_edges, F]."""
        scalars, weight = scalars.to(self.focus_weight.dtype), self.focus_weight.T
        norm: Tensor | float = 1.0
        if isinstance(self.focus_norm, ScaleNorm):  # its scale goes onto the weight, its factor onto the score
            weight, norm = weight * self.focus_norm.scale, self.focus_norm.factor(scalars)[..., 0]
        score = (scalars @ weight[:, :, None])[..., 0].to(weight.dtype) * norm
        return 0.98 * torch.softmax(score, dim=0).T + 0.02 / self.n_focus

    def rotate_in(self, rotation: Tensor, condition: Tensor) -> tuple[Tensor, Tensor | None]:
        """What takes the features of a neighbour into the frame of the edge, mixed by the edge condition.

        Args:
            rotation: [n_edges, 3, D].
            condition: κ of the degree mixer, or without one ρ in the hidden width, [n_edges, L+1, H].

        Returns:
            Matrices [n_edges, Dm, rank·D], and factors [n_edges, Dm, F, C] of the result, or None for 1.
        """
        if self.degree_mixer is not None:
            return self.degree_mixer(rotation, condition), None
        return self.rotate_out(rotation), condition.unflatten(-1, (self.n_focus, self.channels))[
            :, self.reduced_degrees
        ]

    def rotate_in_back(
        self, rotation: Tensor, condition: Tensor, grad: Tensor, grad_factors: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the arguments of `rotate_in` from those of its results."""
        if grad_factors is None:
            assert self.degree_mixer is not None
            return self.degree_mixer.backward(rotation, condition, grad)
        even, minus, plus = grad_factors.flatten(2).split([self.lmax + 1, self.lmax, self.lmax], dim=1)
        odd = F.pad(minus + plus, (0, 0, 1, 0))
        return (grad.flatten(1) @ self.spread.T).view_as(rotation), even + odd

    def rotate_out(self, rotation: Tensor) -> Tensor:
        """Rows |m| ≤ 1 of D, [n_edges, 3, D] → [n_edges, Dm, D]; the transpose leads back to the global frame."""
        return (rotation.flatten(1) @ self.spread.to(rotation.dtype)).unflatten(1, (-1, rotation.shape[2]))

    def messages(
        self, src: Tensor, dst: Tensor, features: Tensor, rotation: Tensor, condition: Tensor, alpha: Tensor
    ) -> Tensor:
        """Σ over the edges of a centre of α · D⁻¹ mix(D features[src]), [n_atoms, D, H]; arguments as in `rotate_in`.

        Args:
            src, dst: [n_edges].
            features: [F, n_atoms, rank·D, C].
            alpha: attention weights [n_edges, F].
        """
        n_atoms, size, width = features.shape[1], rotation.shape[2], self.channels
        rotate_in, scale = self.rotate_in(rotation, condition)
        local = []  # under autocast these are of low precision, like y, and stay so until they are summed
        for focus, part in enumerate(features):
            z = rotate_in @ part.index_select(0, src)  # [n_edges, Dm, Cf]
            local.append(z if scale is None else z * scale[:, :, focus].to(z.dtype))
        share = alpha
        if self.n_focus > 1:
            share = alpha * self.focus_share(torch.stack([z[:, 0] for z in local]))
        matrices = [cast(SO2Linear, layer).matrices() for layer in self.mixing]
        rotate_out = self.rotate_out(rotation)
        streams = []
        for focus, z in enumerate(local):
            even, odd = z[:, : self.lmax + 1].flatten(1), z[:, self.lmax + 1 :].flatten(1)
            even, odd = self.mix(even, odd, focus, matrices)
            z = torch.cat([even, odd], dim=1).view(z.shape)
            # the weight goes onto the matrix, which is smaller than the features
            weighted = (rotate_out * share[:, focus, None, None]).transpose(1, 2)
            streams.append(segment_sum((weighted @ z).flatten(1), dst, n_atoms).view(n_atoms, size, width))
        return torch.cat(streams, dim=-1)

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

        if edges.tiling is None:
            message = self.messages(edges.src, edges.dst, features, edges.rotation, condition, alpha)
        else:
            message = tiled_messages(self, edges.tiling, edges.src, features, edges.rotation, condition, alpha)
        message = (message * self.rescale[:, None]).unflatten(-1, (self.n_focus, width))
        gates = torch.sigmoid(torch.einsum("nfk,kf->nf", self.gate_norm(y[:, 0]), self.gate_weight[:, :, 0]))
        message = message * gates[:, None, :, None]
        return self._join(message, y) if edges.keep else chunked(self._join, message, y)

    def _join(self, message: Tensor, own: Tensor) -> Tensor:
        """Messages, their products with the features of the node, and the post mix, [n, D, F, C] both → [n, D, C]."""
        if self.message_node is None:
            return self.post_mix(message.flatten(2))
        streams = [
            m + self.message_node(m, y, focus)
            for focus, (m, y) in enumerate(zip(message.unbind(2), own.unbind(2), strict=True))
        ]
        return self.post_mix(torch.cat(streams, dim=-1))

"""What happens on an edge: the features of the neighbour are rotated into the frame of the edge, mixed there with
matrices that only commute with rotations about the edge, and rotated back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpa4_core.nn.layout import packed_degrees
from dpa4_core.nn.linear import truncated_normal
from dpa4_core.nn.norm import ScaleNorm
from dpa4_core.nn.segment import segment_sum


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


@dataclass(frozen=True)
class Messages:
    """The messages of one convolution as a function of features and geometry, with F focus streams.

    Attributes:
        lmax, channels, n_focus: L, C, F.
        spread, reduced_degrees: of `spread_rows` and of each reduced row.
        degree_mixer: if the edge condition mixes degrees.
        matrices: of orders 0 and 1 for each layer of the mixing stack, [F, rows, rows] each.
        gates: [F, C, L·C] of every layer but the last.
        focus_norm, focus_weight: of the competition, if there is more than one stream.
    """

    lmax: int
    channels: int
    n_focus: int
    spread: Tensor
    reduced_degrees: Tensor
    degree_mixer: DegreeMixer | None
    matrices: list[tuple[Tensor, Tensor]]
    gates: list[Tensor]
    focus_norm: nn.Module | None
    focus_weight: Tensor | None

    def __call__(
        self, src: Tensor, dst: Tensor, features: Tensor, rotation: Tensor, condition: Tensor, alpha: Tensor
    ) -> Tensor:
        """Σ over the edges of a centre of α · D⁻¹ mix(D features[src]), [n_atoms, D, H]; arguments as in `rotate_in`.

        Args:
            src, dst: [n_edges].
            features: [F, n_atoms, rank·D, C].
            alpha: attention weights [n_edges, F].
        """
        n_atoms = features.shape[1]
        rotate_in, scale = self.rotate_in(rotation, condition)
        local = []  # under autocast these are of low precision, like y, and stay so until they are summed
        for focus, part in enumerate(features):
            z = self.gather(rotate_in, part, src)  # [n_edges, Dm, Cf]
            local.append(z if scale is None else z * scale[:, :, focus].to(z.dtype))
        share = alpha
        if self.n_focus > 1:
            share = alpha * self.focus_share(torch.stack([z[:, 0] for z in local]))
        rotate_out = self.rotate_out(rotation)
        streams = []
        for focus, z in enumerate(local):
            z = self.mix(z.flatten(1), focus).view(z.shape)
            # the weight goes onto the matrix, which is smaller than the features
            streams.append(self.collect(rotate_out * share[:, focus, None, None], z, dst, n_atoms))
        return torch.cat(streams, dim=-1)

    def gather(self, rows: Tensor, features: Tensor, src: Tensor) -> Tensor:
        """rows[e] features[src]: [n_edges, Dm, rank·D], [n_atoms, rank·D, C] → [n_edges, Dm, C]."""
        return rows @ features.index_select(0, src)

    def mix(self, z: Tensor, focus: int) -> Tensor:
        """The residual mixing stack of one focus stream on z [n_edges, Dm·C], order 0 before −1 and +1."""
        n_vectors = self.lmax * self.channels
        even, odd = z.split([n_vectors + self.channels, 2 * n_vectors], dim=1)
        for layer, (order_0, order_1) in enumerate(self.matrices):
            out_0, out_1 = even @ order_0[focus], odd @ order_1[focus]
            if layer < len(self.gates):
                even, odd = self.gated(even, odd, out_0, out_1, self.gates[layer][focus])
            else:
                even, odd = even + out_0, odd + out_1
        return torch.cat([even, odd], dim=1)

    def gated(self, even: Tensor, odd: Tensor, out_0: Tensor, out_1: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """Both orders [n_edges, (L+1)·C] and [n_edges, 2·L·C] and their products, the latter gated by its scalars."""
        width, n_vectors = gate.shape
        scalar = out_0[:, :width]
        factor = torch.sigmoid(scalar @ gate)
        out_0 = torch.cat([F.silu(scalar), out_0[:, width:] * factor], dim=1)
        out_1 = (out_1.unflatten(1, (2, n_vectors)) * factor[:, None]).flatten(1)
        return even + out_0, odd + out_1

    def collect(self, rows: Tensor, z: Tensor, dst: Tensor, n_atoms: int) -> Tensor:
        """Σ rows[e]ᵀ z[e] over the edges of a centre: [n_edges, Dm, D], [n_edges, Dm, C] → [n_atoms, D, C]."""
        summed = segment_sum((rows.transpose(1, 2) @ z).flatten(1), dst, n_atoms)
        return summed.view(n_atoms, rows.shape[2], z.shape[2])

    def focus_share(self, scalars: Tensor) -> Tensor:
        """Competition between the streams from their initial scalars [F, n_edges, Cf], smoothed: [n_edges, F]."""
        assert self.focus_weight is not None
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

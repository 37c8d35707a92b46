"""Products of equivariant fields on a quadrature grid.

Coefficients c[(l, m), k] describe a function on rotations, f(R) = Σ c[(l, m), k] D^l_{k,m}(R), with frame
orders k = 0, −1, +1 (k only 0 for a function on the sphere). Two functions are multiplied point by point and
projected back onto degrees ≤ L and |k| ≤ 1. For R = R_z(γ) R_p, p on the sphere,

    f = a + P cos γ + Q sin γ,   a = Σ S c₀,   P = Σ (D₋ c₋ + D₊ c₊),   Q = Σ (D₋ c₊ − D₊ c₋),

so the roll γ is integrated by hand, F₀ = aa' + (PP' + QQ')/2, F_P = aP' + Pa', F_Q = aQ' + Qa', and only the
sphere needs points: a Lebedev rule of precision 3L, exact for the product. Any exact quadrature gives the same
result to rounding.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.integrate import lebedev_rule
from torch import Tensor, nn
from torch.nn import functional as F

from dpa4_core.nn.layout import degree_slice, packed_degrees, packed_size
from dpa4_core.nn.linear import per_degree, uniform
from dpa4_core.nn.rotation import Harmonics, edge_frame

N_FRAMES = 3  # k = 0, −1, +1
_LEBEDEV_PRECISIONS = (3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)


def lebedev(precision: int) -> tuple[Tensor, Tensor]:
    """Points [n, 3] and weights [n] (sum 1) of the smallest rule exact to ``precision``, float64."""
    order = next(p for p in _LEBEDEV_PRECISIONS if p >= precision)
    points, weights = lebedev_rule(order)
    return torch.from_numpy(np.ascontiguousarray(points.T)), torch.from_numpy(weights / weights.sum())


class SphereGrid(nn.Module):
    """Functions on the sphere, one frame. The scale 1/sqrt(L+1) per field is part of the published model."""

    n_frames = 1
    to_grid: Tensor
    from_grid: Tensor

    def __init__(self, lmax: int, dtype: torch.dtype) -> None:
        super().__init__()
        points, weights = lebedev(3 * lmax)
        harmonic = Harmonics(lmax, torch.float64)(points)
        factor = (2 * packed_degrees(lmax) + 1).double()
        self.register_buffer("to_grid", (harmonic / math.sqrt(lmax + 1)).to(dtype), persistent=False)
        back = factor[:, None] * math.sqrt(lmax + 1) * (weights[:, None] * harmonic).T
        self.register_buffer("from_grid", back.to(dtype), persistent=False)

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """Two fields [n, D, 1, channels] → their product, same shape."""
        values = (self.to_grid @ left[:, :, 0]) * (self.to_grid @ right[:, :, 0])
        return (self.from_grid @ values)[:, :, None]


class RotationGrid(nn.Module):
    """Functions on rotations with frame orders |k| ≤ 1."""

    n_frames = N_FRAMES
    to_even: Tensor
    from_even: Tensor
    to_odd: Tensor
    from_odd: Tensor

    def __init__(self, lmax: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.size = packed_size(lmax)
        points, weights = lebedev(3 * lmax)
        harmonics = Harmonics(lmax, torch.float64)
        harmonic, minus, plus = harmonics.rows(points, *edge_frame(points)).unbind(1)
        minus, plus = minus[:, 1:], plus[:, 1:]  # D₋ and D₊, one entry per (l ≥ 1, m)
        to_odd = torch.cat([torch.cat([minus, plus], 1), torch.cat([-plus, minus], 1)])  # (c₋, c₊) → (P, Q)
        factor = (2 * packed_degrees(lmax) + 1).double()
        from_odd = 0.5 * torch.cat([factor[1:]] * 2)[:, None] * (to_odd * torch.cat([weights] * 2)[:, None]).T
        for name, table in {
            "to_even": harmonic,
            "from_even": factor[:, None] * (harmonic * weights[:, None]).T,
            "to_odd": to_odd,
            "from_odd": from_odd,
        }.items():
            self.register_buffer(name, table.to(dtype), persistent=False)

    def _values(self, field: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a = self.to_even @ field[:, :, 0]
        odd = self.to_odd @ torch.cat([field[:, 1:, 1], field[:, 1:, 2]], dim=1)
        p, q = odd.chunk(2, dim=1)
        return a, p, q

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """Two fields [n, D, 3, channels] → their product, same shape; the entries l = 0, k ≠ 0 are zero."""
        a, p, q = self._values(left)
        b, r, s = self._values(right)
        even = self.from_even @ (a * b + 0.5 * (p * r + q * s))
        odd = self.from_odd @ torch.cat([a * r + p * b, a * s + q * b], dim=1)
        odd = odd.unflatten(1, (2, self.size - 1)).transpose(1, 2)  # [n, D − 1, 2, channels]
        odd = F.pad(odd, (0, 0, 0, 0, 1, 0))
        return torch.cat([even[:, :, None], odd], dim=2)


def scalar_path(result: Tensor, first: Tensor, second: Tensor, gate: Tensor) -> Tensor:
    """Gate a product by two scalars and add their own product to its (l, k) = (0, 0) entry.

    Args:
        result: [n, D, K, h]; first, second: scalar parts of the two operands [n, h]; gate: [2h, h].
    """
    result = result * torch.sigmoid(torch.cat([first, second], dim=-1) @ gate)[:, None, None]
    scalar = result[:, :1, :1] + (F.silu(first) * second)[:, None, None]
    rest = torch.cat([scalar, result[:, :1, 1:]], dim=2) if result.shape[2] > 1 else scalar
    return torch.cat([rest, result[:, 1:]], dim=1)


class MessageNodeProduct(nn.Module):
    """Product of the aggregated message with the node features that it came from, per focus stream."""

    def __init__(self, lmax: int, n_focus: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.n_focus = n_focus
        self.grid = RotationGrid(lmax, dtype)
        k = N_FRAMES
        self.frame_expand = uniform(lmax + 1, width, k * width, bound=1 / math.sqrt(width), dtype=dtype)
        self.frame_contract = uniform(lmax + 1, k * width, width, bound=1 / math.sqrt(k * width), dtype=dtype)
        self.scalar_gate = nn.Parameter(0.01 * torch.randn(2 * width, n_focus * width, dtype=dtype))
        self.residual_scale = nn.Parameter(torch.full((n_focus, width), 1e-3, dtype=dtype))

    def forward(self, message: Tensor, node: Tensor, focus: int) -> Tensor:
        """Message and node [n, D, width] of one focus stream → [n, D, width]."""
        width = message.shape[-1]
        frames = (N_FRAMES, width)
        left = per_degree(message, self.frame_expand).unflatten(-1, frames)
        right = per_degree(node, self.frame_expand).unflatten(-1, frames)
        gate = self.scalar_gate[:, focus * width : (focus + 1) * width]
        product = scalar_path(self.grid.product(left, right), message[:, 0], node[:, 0], gate)
        return per_degree(product.flatten(2), self.frame_contract) * self.residual_scale[focus]


class FieldProduct(nn.Module):
    """Point-wise operation on the two halves of an FFN's hidden field, with the scalar path.

    "glu": the plain product; "branch": channel maps on both sides and after it (with the single branch of the
    published models the router has no effect; it is kept for their files); "mlp": both halves mixed before and after.
    """

    def __init__(self, kind: str, lmax: int, hidden: int, dtype: torch.dtype, *, rotations: bool) -> None:
        super().__init__()
        self.kind, self.lmax, self.hidden = kind, lmax, hidden
        self.grid = RotationGrid(lmax, dtype) if rotations else SphereGrid(lmax, dtype)
        self.scalar_gate = nn.Parameter(0.01 * torch.randn(2 * hidden, hidden, dtype=dtype))
        inner = {"glu": 0, "branch": hidden, "mlp": 2 * hidden}[kind]
        if inner:
            bound = 1 / math.sqrt(inner)
            self.left = uniform(inner, inner, bound=bound, dtype=dtype)
            self.right = uniform(inner, inner, bound=bound, dtype=dtype)
            self.out = uniform(inner, hidden, bound=bound, dtype=dtype)
        if kind == "branch":
            self.router = uniform(2 * hidden, 1, bound=1 / math.sqrt(2 * hidden), dtype=dtype)

    @property
    def n_frames(self) -> int:
        return self.grid.n_frames

    def _operands(self, field: Tensor) -> tuple[Tensor, Tensor]:
        """Field [n, D, 2, K, h] → what is multiplied."""
        if self.kind == "mlp":
            both = torch.cat([field[:, :, 0], field[:, :, 1]], dim=-1)
            return both @ self.left, both @ self.right
        if self.kind == "branch":
            return field[:, :, 0] @ self.left, field[:, :, 1] @ self.right
        return field[:, :, 0], field[:, :, 1]

    def forward(self, field: Tensor) -> Tensor:
        """Field [n, D, 2, K, hidden] → [n, D, K, hidden]."""
        product = self.grid.product(*self._operands(field))
        if self.kind != "glu":
            product = product @ self.out
        return scalar_path(product, field[:, 0, 0, 0], field[:, 0, 1, 0], self.scalar_gate)

    def scalar(self, field: Tensor) -> Tensor:
        """Only the (l, k) = (0, 0) entry of `forward` on rotations, [n, hidden].

        By the orthogonality of the D^l_{k,m} the mean of a product over all rotations is Σ c c'/(2l+1); no grid needed.
        """
        left, right = self._operands(field)
        mean = left[:, 0, 0] * right[:, 0, 0]
        for degree in range(1, self.lmax + 1):
            part = degree_slice(degree)
            mean = mean + (left[:, part] * right[:, part]).sum((1, 2)) / (2 * degree + 1)
        if self.kind != "glu":
            mean = mean @ self.out
        first, second = field[:, 0, 0, 0], field[:, 0, 1, 0]
        gate = torch.sigmoid(torch.cat([first, second], dim=-1) @ self.scalar_gate)
        return mean * gate + F.silu(first) * second

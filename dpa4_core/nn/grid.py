"""Products of equivariant fields on a quadrature grid.

Coefficients c[(l, m), k] describe a function on rotations, f(R) = Σ c[(l, m), k] D^l_{k,m}(R), with frame
orders k = 0, −1, +1 (k only 0 for a function on the sphere). Two functions are multiplied point by point and
projected back onto degrees ≤ L and |k| ≤ 1. For R = R_z(γ) R_p, p on the sphere,

    f = a + P cos γ + Q sin γ,   a = Σ S c₀,   P = Σ (D₋ c₋ + D₊ c₊),   Q = Σ (D₋ c₊ − D₊ c₋),

so the roll γ is integrated by hand, F₀ = aa' + (PP' + QQ')/2, F_P = aP' + Pa', F_Q = aQ' + Qa', and only the
sphere needs points: a Lebedev rule of precision 3L, exact for the product. Any exact quadrature gives the same
result to rounding.

Inside this module the coefficients come first, so that maps of channels and of coefficients are plain matrix products.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import lebedev_rule
from torch import Tensor, nn
from torch.nn import functional as F

from dpa4_core.nn.layout import packed_degrees
from dpa4_core.nn.linear import normal, uniform
from dpa4_core.nn.rotation import Harmonics, edge_frame

N_FRAMES = 3  # k = 0, −1, +1
_LEBEDEV_PRECISIONS = (3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)


def lebedev(precision: int) -> tuple[Tensor, Tensor]:
    """Points [n, 3] and weights [n] (sum 1) of the smallest rule exact to ``precision``, float64."""
    order = next(p for p in _LEBEDEV_PRECISIONS if p >= precision)
    points, weights = lebedev_rule(order)
    return torch.from_numpy(np.ascontiguousarray(points.T)), torch.from_numpy(weights / weights.sum())


class Field(NamedTuple):
    """Coefficients of functions, h channels at n nodes.

    Attributes:
        even: [D, n, h] of frame order 0.
        odd: [2·(D − 1), n, h] of the frame orders −1, then +1, degrees l ≥ 1; None for functions on the sphere.
    """

    even: Tensor
    odd: Tensor | None


def by_degree(x: Tensor) -> tuple[Tensor, ...]:
    """Node features [n, D, C] as one [2l+1, n, C] for every degree."""
    lmax = math.isqrt(x.shape[1]) - 1
    return x.transpose(0, 1).contiguous().split([2 * degree + 1 for degree in range(lmax + 1)])


def expand(parts: tuple[Tensor, ...], weight: Tensor) -> Field:
    """Features, as `by_degree` gives them, times ``weight`` [L+1, C, K, h]."""
    degrees = list(zip(parts, weight.unbind(0), strict=True))
    even = torch.cat([x @ w[:, 0] for x, w in degrees])
    if weight.shape[2] == 1:
        return Field(even, None)
    return Field(even, torch.cat([x @ w[:, frame] for frame in (1, 2) for x, w in degrees[1:]]))


def contract(field: Field, weight: Tensor, extra: Tensor) -> Tensor:
    """Field times ``weight`` [L+1, K, h, C], with ``extra`` [n, h] added to its scalar: [n, D, C]."""
    sizes = [2 * degree + 1 for degree in range(weight.shape[0])]
    even = list(field.even.split(sizes))
    even[0] = even[0] + extra
    rows = [x @ w[0] for x, w in zip(even, weight, strict=True)]
    if field.odd is not None:
        minus, plus = (part.split(sizes[1:]) for part in field.odd.chunk(2))
        for degree, (m, p) in enumerate(zip(minus, plus, strict=True), start=1):
            rows[degree] = rows[degree] + m @ weight[degree, 1] + p @ weight[degree, 2]
    return torch.cat(rows).transpose(0, 1)


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

    def product(self, left: Field, right: Field) -> Field:
        """Two fields → their product."""
        values = (self.to_grid @ left.even.flatten(1)) * (self.to_grid @ right.even.flatten(1))
        return Field((self.from_grid @ values).view_as(left.even), None)


class RotationGrid(nn.Module):
    """Functions on rotations with frame orders |k| ≤ 1."""

    n_frames = N_FRAMES
    to_even: Tensor
    from_even: Tensor
    to_odd: Tensor
    from_odd: Tensor

    def __init__(self, lmax: int, dtype: torch.dtype) -> None:
        super().__init__()
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

    def _values(self, field: Field) -> tuple[Tensor, Tensor, Tensor]:
        assert field.odd is not None
        p, q = (self.to_odd @ field.odd.flatten(1)).chunk(2)
        return self.to_even @ field.even.flatten(1), p, q

    def product(self, left: Field, right: Field) -> Field:
        """Two fields → their product; its entries l = 0, k ≠ 0 are zero and left out."""
        a, p, q = self._values(left)
        b, r, s = self._values(right)
        even = self.from_even @ (a * b + 0.5 * (p * r + q * s))
        odd = self.from_odd @ torch.cat([a * r + p * b, a * s + q * b])
        assert left.odd is not None
        return Field(even.view_as(left.even), odd.view_as(left.odd))


def scalar_path(first: Tensor, second: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
    """Factor of a product and what is added to its scalar, [n, h] both, from the scalars of its operands [n, h].

    ``gate`` is [2h, h].
    """
    return torch.sigmoid(torch.cat([first, second], dim=-1) @ gate), F.silu(first) * second


def scaled(field: Field, factor: Tensor) -> Field:
    """Every coefficient times ``factor`` [n, h]."""
    return Field(field.even * factor, None if field.odd is None else field.odd * factor)


class MessageNodeProduct(nn.Module):
    """Product of the aggregated message with the node features that it came from, per focus stream."""

    def __init__(self, lmax: int, n_focus: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.n_focus = n_focus
        self.grid = RotationGrid(lmax, dtype)
        k = N_FRAMES
        self.frame_expand = uniform(lmax + 1, width, k * width, bound=1 / math.sqrt(width), dtype=dtype)
        self.frame_contract = uniform(lmax + 1, k * width, width, bound=1 / math.sqrt(k * width), dtype=dtype)
        self.scalar_gate = normal(2 * width, n_focus * width, std=0.01, dtype=dtype)
        self.residual_scale = nn.Parameter(torch.full((n_focus, width), 1e-3, dtype=dtype))

    def forward(self, message: Tensor, node: Tensor, focus: int) -> Tensor:
        """Message and node [n, D, width] of one focus stream → [n, D, width]."""
        width = message.shape[-1]
        weight = self.frame_expand.unflatten(-1, (N_FRAMES, width))
        left, right = by_degree(message), by_degree(node)
        gate = self.scalar_gate[:, focus * width : (focus + 1) * width]
        factor, extra = scalar_path(left[0][0], right[0][0], gate)
        product = scaled(self.grid.product(expand(left, weight), expand(right, weight)), factor)
        back = self.frame_contract.unflatten(1, (N_FRAMES, width)) * self.residual_scale[focus]
        return contract(product, back, extra)


class FieldProduct(nn.Module):
    """Point-wise operation on the two halves of an FFN's hidden field, with the scalar path.

    "glu": the plain product; "branch": channel maps on both sides and after it (with the single branch of the
    published models the router has no effect; it is kept for their files); "mlp": both halves mixed before and after.
    Maps before the product are merged into the weight that makes the field: one product instead of two.
    """

    def __init__(self, kind: str, lmax: int, hidden: int, dtype: torch.dtype, *, rotations: bool) -> None:
        super().__init__()
        self.kind, self.lmax, self.hidden = kind, lmax, hidden
        self.grid = RotationGrid(lmax, dtype) if rotations else SphereGrid(lmax, dtype)
        self.scalar_gate = normal(2 * hidden, hidden, std=0.01, dtype=dtype)
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

    def _operands(self, parts: tuple[Tensor, ...], weight: Tensor) -> tuple[Field, Field]:
        """What is multiplied, from the features of each degree and the weight [L+1, C, 2, K, h] of the field."""
        first, second = weight.unbind(2)
        if self.kind == "mlp":
            both = torch.cat([first, second], dim=-1)
            first, second = both @ self.left, both @ self.right
        elif self.kind == "branch":
            first, second = first @ self.left, second @ self.right
        return expand(parts, first), expand(parts, second)

    def _scalar_path(self, parts: tuple[Tensor, ...], weight: Tensor) -> tuple[Tensor, Tensor]:
        first, second = (parts[0][0] @ weight[0, :, half, 0] for half in (0, 1))
        return scalar_path(first, second, self.scalar_gate)

    def forward(self, parts: tuple[Tensor, ...], weight: Tensor) -> tuple[Field, Tensor]:
        """The product, and what `contract` adds to its scalar; arguments as in `_operands`."""
        product = self.grid.product(*self._operands(parts, weight))
        if self.kind != "glu":
            product = Field(product.even @ self.out, None if product.odd is None else product.odd @ self.out)
        factor, extra = self._scalar_path(parts, weight)
        return scaled(product, factor), extra

    def scalar(self, parts: tuple[Tensor, ...], weight: Tensor) -> Tensor:
        """Only the (l, k) = (0, 0) entry of `forward` on rotations, [n, hidden].

        By the orthogonality of the D^l_{k,m} the mean of a product over all rotations is Σ c c'/(2l+1); no grid needed.
        """
        left, right = self._operands(parts, weight)
        assert left.odd is not None and right.odd is not None
        share = 1.0 / (2 * packed_degrees(self.lmax).to(left.even) + 1)
        shares = torch.cat([share, share[1:], share[1:]])[:, None, None]
        mean = (torch.cat([left.even, left.odd]) * torch.cat([right.even, right.odd]) * shares).sum(0)
        if self.kind != "glu":
            mean = mean @ self.out
        factor, extra = self._scalar_path(parts, weight)
        return mean * factor + extra

"""Real spherical harmonics and the rows |m| ≤ 1 of the rotation into the frame of an edge.

The harmonics S_lm have Σ_m S_lm² = 1 and the sign convention of the published weights, S_lm(x, y, z) =
Y_lm(−x, y, z) with Y the real harmonics without Condon–Shortley phase. For a rotation R with R u = z, rows e_x,
e_y, u, the rows of the matrix D^l(R), S_l(R v) = D^l(R) S_l(v), follow from the addition theorem
Σ_m S_lm(v) S_lm(w) = P_l(v·w):

    D^l_{0,m}  = S_lm(u)
    D^l_{−1,m} = +sqrt(2/(l(l+1))) · (e_y·∇) S_lm(u)
    D^l_{+1,m} = −sqrt(2/(l(l+1))) · (e_x·∇) S_lm(u)

which is polynomial in the frame: no angles, no square roots, safe to differentiate twice in every direction. (Derived
here; checked in the tests against the full matrices of the reference.)
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.polynomial import Legendre
from torch import Tensor, nn

from dpa4_core.nn.layout import packed_degrees, packed_size, reduced_degrees, reduced_orders


def edge_frame(direction: Tensor, roll: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Two unit vectors that complete unit ``direction`` [n, 3] to a right-handed frame (e_x, e_y, direction).

    The roll about ``direction`` is a gauge on which no energy depends, so the chart may switch: the helper axis is
    z, or x near the poles, where z would be parallel. ``roll`` [n, 1] in radians turns the frame; training draws it
    at random so that rounding in low precision prefers no direction.
    """
    near_pole = direction[:, 2:].detach().abs() > 0.8
    x_axis = direction.new_tensor([1.0, 0.0, 0.0])
    z_axis = direction.new_tensor([0.0, 0.0, 1.0])
    helper = torch.where(near_pole, x_axis, z_axis)
    e_x = helper - (helper * direction).sum(-1, keepdim=True) * direction
    e_x = e_x * torch.rsqrt(e_x.square().sum(-1, keepdim=True))
    e_y = torch.linalg.cross(direction, e_x)
    if roll is not None:
        cos, sin = torch.cos(roll), torch.sin(roll)
        e_x, e_y = cos * e_x - sin * e_y, sin * e_x + cos * e_y
    return e_x, e_y


def _polynomials(lmax: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of Q_lm(z) = sqrt(2(l−m)!/(l+m)!)·d^m P_l/dz^m and of its derivative, [lmax+1, D] each (power, lm).

    S_lm = Q_l|m|(z)·A_m with A_m = Re, Im (x+iy)^m for m ≥ 0, m < 0; the factor √2 is absent at m = 0.
    """
    value = np.zeros((lmax + 1, packed_size(lmax)))
    slope = np.zeros_like(value)
    for degree in range(lmax + 1):
        for order in range(degree + 1):
            norm = math.sqrt((2 if order else 1) * math.factorial(degree - order) / math.factorial(degree + order))
            q = Legendre.basis(degree).deriv(order).convert(kind=np.polynomial.Polynomial) * norm
            for signed in {order, -order}:
                column = degree**2 + degree + signed
                value[: len(q.coef), column] = q.coef
                dq = q.deriv().coef
                slope[: len(dq), column] = dq
    return value, slope


class Harmonics(nn.Module):
    """S_lm and the rows |m| ≤ 1 of D for unit vectors, up to ``lmax``; tables in ``dtype``."""

    q_coefficients: Tensor
    dq_coefficients: Tensor
    order_size: Tensor
    tangent_norm: Tensor
    azimuth: Tensor
    lower_re: Tensor
    lower_im: Tensor
    negative: Tensor

    def __init__(self, lmax: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.lmax = lmax
        value, slope = _polynomials(lmax)
        degrees = packed_degrees(lmax)
        orders = torch.arange(packed_size(lmax), device="cpu") - degrees**2 - degrees
        tangent_norm = torch.zeros(packed_size(lmax), dtype=torch.float64, device="cpu")
        tangent_norm[1:] = torch.sqrt(2.0 / (degrees[1:] * (degrees[1:] + 1)).double())
        tables = {
            "q_coefficients": torch.from_numpy(value),
            "dq_coefficients": torch.from_numpy(slope),
            "order_size": orders.abs().double(),
            "tangent_norm": tangent_norm,
        }
        for name, table in tables.items():
            self.register_buffer(name, table.to(dtype), persistent=False)
        # columns of the table [A_0..A_L, B_1..B_L] (real and imaginary parts of (x+iy)^m)
        self.register_buffer("azimuth", torch.where(orders >= 0, orders, lmax - orders), persistent=False)
        lower = (orders.abs() - 1).clamp(min=0)  # |m|−1, only used where m ≠ 0
        self.register_buffer("lower_re", lower, persistent=False)
        self.register_buffer("lower_im", torch.where(lower > 0, lmax + lower, -1), persistent=False)
        self.register_buffer("negative", orders < 0, persistent=False)

    def _parts(self, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Q(z) and dQ/dz [n, D], and real and imaginary powers of (x + iy) [n, 2·lmax + 2], the last column zero."""
        x, y, z = -direction[:, 0], direction[:, 1], direction[:, 2]  # S(x, y, z) = Y(−x, y, z)
        real, imag, height = [torch.ones_like(x)], [torch.zeros_like(x)], [torch.ones_like(x)]
        for _ in range(self.lmax):
            real.append(x * real[-1] - y * imag[-1])
            imag.append(x * imag[-1] + y * real[-2])
            height.append(height[-1] * z)
        powers = torch.stack(real + imag[1:] + imag[:1], dim=1)
        heights = torch.stack(height, dim=1)
        return heights @ self.q_coefficients, heights @ self.dq_coefficients, powers

    def forward(self, direction: Tensor) -> Tensor:
        """S_lm [n, D] of unit vectors [n, 3]."""
        q, _, powers = self._parts(direction)
        return q * powers[:, self.azimuth]

    def rows(self, direction: Tensor, e_x: Tensor, e_y: Tensor) -> Tensor:
        """Rows m' = 0, −1, +1 of D for frames with rows (e_x, e_y, direction), all degrees side by side: [n, 3, D].

        Row 0 holds the harmonics of ``direction``; the rows ±1 are zero at l = 0. `spread_rows` says where they belong.
        """
        q, dq, powers = self._parts(direction)
        azimuth = powers[:, self.azimuth]
        harmonic = q * azimuth
        # ∂(x+iy)^m = m (x+iy)^(m−1) (∂x + i ∂y): the lower power supplies the in-plane gradient
        re, im = powers[:, self.lower_re], powers[:, self.lower_im]
        d_x = torch.where(self.negative, im, re) * self.order_size * q
        d_y = torch.where(self.negative, re, -im) * self.order_size * q
        d_z = dq * azimuth

        def along(tangent: Tensor) -> Tensor:
            return (-tangent[:, :1] * d_x + tangent[:, 1:2] * d_y + tangent[:, 2:] * d_z) * self.tangent_norm

        return torch.stack([harmonic, along(e_y), -along(e_x)], dim=1)


def spread_rows(lmax: int, dtype: torch.dtype) -> Tensor:
    """The zeros and ones that turn `Harmonics.rows`, flattened, into D by a product: [3·D, Dm·D].

    D restricted to |m| ≤ 1 has a row per (m, l), in reduced order, and is zero outside of the columns of its degree.
    """
    size, degrees = packed_size(lmax), packed_degrees(lmax)
    spread = torch.zeros(3, size, 3 * lmax + 1, size, dtype=dtype)
    for row, (degree, order) in enumerate(zip(reduced_degrees(lmax), reduced_orders(lmax), strict=True)):
        kind = {0: 0, -1: 1, 1: 2}[int(order)]
        for column in torch.nonzero(degrees == degree)[:, 0].tolist():
            spread[kind, column, row, column] = 1.0
    return spread.view(3 * size, -1)

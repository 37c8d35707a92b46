"""Linear maps that commute with rotations: one matrix per degree (SO3), one complex matrix per order (SO2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dpa4_core.nn.layout import degree_slice


def normal(*shape: int, std: float, dtype: torch.dtype) -> nn.Parameter:
    """Normal with the given standard deviation."""
    weight = torch.empty(*shape, dtype=dtype)
    if weight.is_meta:  # only the shape is wanted, and random numbers without values import the compiler
        return nn.Parameter(weight)
    return nn.Parameter(std * torch.randn(*shape, dtype=dtype))


def truncated_normal(*shape: int, std: float, dtype: torch.dtype) -> nn.Parameter:
    """Normal with the given standard deviation, cut at three of them."""
    weight = torch.empty(*shape, dtype=dtype)
    return nn.Parameter(nn.init.trunc_normal_(weight, std=std, a=-3 * std, b=3 * std))


def uniform(*shape: int, bound: float, dtype: torch.dtype) -> nn.Parameter:
    """Uniform in (−bound, bound)."""
    return nn.Parameter(torch.empty(*shape, dtype=dtype).uniform_(-bound, bound))


def per_degree(x: Tensor, weight: Tensor) -> Tensor:
    """Product of x [n, D, ..., in] times weight [L+1, in, out], each degree with its own matrix."""
    return torch.cat([x[:, degree_slice(degree)] @ weight[degree] for degree in range(weight.shape[0])], dim=1)


class SO3Linear(nn.Module):
    """Channel mixing within each degree, [n, D, in] → [n, D, out]; starts at zero where it ends a residual branch."""

    def __init__(self, lmax: int, n_in: int, n_out: int, dtype: torch.dtype, *, zero: bool = False) -> None:
        super().__init__()
        if zero:
            self.weight = nn.Parameter(torch.zeros(lmax + 1, n_in, n_out, dtype=dtype))
        else:
            self.weight = truncated_normal(lmax + 1, n_in, n_out, std=1 / math.sqrt(n_in + n_out), dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return per_degree(x, self.weight)


class SO2Linear(nn.Module):
    """Mixing of degrees and channels in the edge frame, separately for each order and focus stream.

    m = 0: a plain matrix over (l, channel). m = 1: a complex one, out₋ = in₋U − in₊V, out₊ = in₋V + in₊U,
    written as the real block matrix [[U, V], [−V, U]].
    """

    def __init__(self, lmax: int, n_focus: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.n_focus = n_focus
        n_0, n_1 = (lmax + 1) * width, lmax * width
        self.weight_m0 = truncated_normal(n_0, n_focus * n_0, std=1 / math.sqrt(2 * n_0), dtype=dtype)
        self.weight_m1 = truncated_normal(n_1, n_focus * 2 * n_1, std=1 / math.sqrt(3 * n_1), dtype=dtype)
        with torch.no_grad():
            self.weight_m1.div_(math.sqrt(2.0))

    def matrices(self) -> tuple[Tensor, Tensor]:
        return order_matrices(self.weight_m0, self.weight_m1, self.n_focus)


def order_matrices(weight_m0: Tensor, weight_m1: Tensor, n_focus: int) -> tuple[Tensor, Tensor]:
    """The matrices of order 0, [F, n_0, n_0], and 1, [F, 2·n_1, 2·n_1], n_m the number of (l, channel) pairs.

    Args:
        weight_m0, weight_m1: as stored, [n_0, F·n_0] and [n_1, F·2·n_1].
        n_focus: F.
    """
    n_0, n_1 = weight_m0.shape[0], weight_m1.shape[0]
    order_0 = weight_m0.view(n_0, n_focus, n_0).transpose(0, 1)
    u, v = weight_m1.view(n_1, n_focus, 2, n_1).permute(2, 1, 0, 3)
    order_1 = torch.cat([torch.cat([u, v], dim=2), torch.cat([-v, u], dim=2)], dim=1)
    return order_0, order_1

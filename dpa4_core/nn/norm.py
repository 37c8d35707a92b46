"""Root-mean-square norms. They run in at least float32 also under autocast."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dpa4_core.nn.layout import packed_degrees


class ScaleNorm(nn.Module):
    """y · (mean(y²) + 10⁻⁷)^(−1/2) · g over the last axis; ``shape`` of g broadcasts against y. No mean, no bias."""

    def __init__(self, shape: Sequence[int], dtype: torch.dtype) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(*shape, dtype=dtype))

    def forward(self, y: Tensor) -> Tensor:
        y = y.to(self.scale.dtype)
        return y * self.factor(y) * self.scale

    @staticmethod
    def factor(y: Tensor) -> Tensor:
        """(mean(y²) + 10⁻⁷)^(−1/2), the last axis of length 1."""
        return torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-7)


class EquivariantRMSNorm(nn.Module):
    """Norm over degrees, orders and channels of x [n, D, C] with a scale per degree and channel and a bias on l = 0.

    The channel mean is taken off the l = 0 row, then ν = Σ x² / ((2l+1)(L+1)C) and y = x (ν + ε)^(−1/2) g[l].
    With ε = 1 it leaves small messages small.
    """

    degrees: Tensor
    weight: Tensor

    def __init__(self, lmax: int, channels: int, dtype: torch.dtype, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(lmax + 1, 1, channels, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(1, channels, dtype=dtype))
        degrees = packed_degrees(lmax)
        weight = 1.0 / ((2 * degrees + 1) * (lmax + 1) * channels).double()
        self.register_buffer("degrees", degrees, persistent=False)
        self.register_buffer("weight", weight.to(dtype)[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.scale.dtype)
        scalar = x[:, :1]
        x = torch.cat([scalar - scalar.mean(-1, keepdim=True), x[:, 1:]], dim=1)
        variance = (x.square() * self.weight).sum((1, 2), keepdim=True)
        y = x * torch.rsqrt(variance + self.eps) * self.scale[self.degrees, 0]
        return torch.cat([y[:, :1] + self.bias, y[:, 1:]], dim=1)

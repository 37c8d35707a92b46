"""Functions of the edge length: envelope, radial bases, radial MLP, and the clamp and gate of the repulsion bridge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpa4_core.nn.linear import normal
from dpa4_core.nn.norm import ScaleNorm


def envelope(length: Tensor, cutoff: float, exponent: int) -> Tensor:
    """C³ polynomial that is 1 at r = 0 and vanishes with three derivatives at the cutoff.

    env_p(r) = u⁴ Σ_{k<p} binom(k+3, 3) xᵏ with u = clamp((rc − r)/rc, 0, 1), x = 1 − u; larger ``exponent`` p
    stays near 1 for longer. Zero beyond the cutoff.
    """
    u = torch.clamp((cutoff - length) / cutoff, 0.0, 1.0)
    x = 1.0 - u
    series = torch.full_like(x, math.comb(exponent + 2, 3))
    for k in range(exponent - 2, -1, -1):
        series = series * x + math.comb(k + 3, 3)
    return u**4 * series


class BesselBasis(nn.Module):
    """φ_n(r) = sin(ω_n r)/r with trainable ω, initially nπ/rc; [n_edges, 1] → [n_edges, n_radial]."""

    def __init__(self, n_radial: int, cutoff: float, dtype: torch.dtype) -> None:
        super().__init__()
        frequencies = torch.arange(1, n_radial + 1, dtype=torch.float64, device="cpu") * (math.pi / cutoff)
        self.frequencies = nn.Parameter(frequencies.to(dtype)[None])

    def forward(self, length: Tensor) -> Tensor:
        # torch.sinc(x) = sin(πx)/(πx): finite with finite derivatives at 0
        return self.frequencies * torch.sinc(self.frequencies * (length / math.pi))


class GaussianBasis(nn.Module):
    """φ_n(r) = exp(−(r − μ_n)²/(2σ²)), centres on a line from 0 to rc, σ their spacing; trained or fixed."""

    def __init__(self, n_radial: int, cutoff: float, dtype: torch.dtype, *, trainable: bool) -> None:
        super().__init__()
        self.sigma = cutoff / (n_radial - 1)
        centres = torch.linspace(0.0, cutoff, n_radial, dtype=torch.float64, device="cpu")
        self.frequencies = nn.Parameter(centres.to(dtype)[None], requires_grad=trainable)

    def forward(self, length: Tensor) -> Tensor:
        return torch.exp(-0.5 * ((length - self.frequencies) / self.sigma) ** 2)


class RadialMLP(nn.Module):
    """Bias-free MLP from the basis to one channel vector per degree; maps 0 to 0, so it decays with the envelope."""

    def __init__(
        self, n_radial: int, hidden: Sequence[int], n_out: int, dtype: torch.dtype, *, normalise: bool
    ) -> None:
        super().__init__()
        widths = [n_radial, *hidden, n_out]
        self.weights = nn.ParameterList(
            normal(a, b, std=1 / math.sqrt(a + b), dtype=dtype) for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(ScaleNorm((w,), dtype) if normalise else nn.Identity() for w in hidden)

    def forward(self, basis: Tensor) -> Tensor:
        hidden = basis
        for layer, norm in enumerate(self.norms):  # by number: torch 2.8 does not compile iteration over parameters
            hidden = F.silu(norm(hidden @ self.weights[layer]))
        return hidden @ self.weights[-1]


def bridge_clamp(length: Tensor, inner: float, outer: float) -> Tensor:
    """Length that the network sees under zone bridging: r beyond ``outer``, frozen at ``inner`` below it, C³
    between."""
    t = torch.clamp((length - inner) / (outer - inner), 0.0, 1.0)
    smooth = t**4 * (20.0 - 45.0 * t + 36.0 * t**2 - 10.0 * t**3)
    return torch.where(length >= outer, length, inner + (outer - inner) * smooth)


def bridge_switch(length: Tensor, inner: float, outer: float) -> Tensor:
    """Weight of a message under zone bridging: 0 below ``inner``, 1 beyond ``outer``, C³ between."""
    t = torch.clamp((length - inner) / (outer - inner), 0.0, 1.0)
    return t**4 * (35.0 - 84.0 * t + 70.0 * t**2 - 20.0 * t**3)

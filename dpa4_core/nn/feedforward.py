"""Feed-forward networks on equivariant features."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dpa4_core.nn.grid import FieldProduct, by_degree, contract
from dpa4_core.nn.linear import SO3Linear, normal


def auto_width(channels: int) -> int:
    """Hidden width of a gated FFN, 8/3 of the channels rounded up to a multiple of 32."""
    return 32 * math.ceil(8 * channels / 3 / 32)


class GridFFN(nn.Module):
    """Expand each degree to two fields of K frames, multiply them on the grid, contract: [n, D, C] → [n, D, C]."""

    def __init__(
        self, kind: str, lmax: int, channels: int, hidden: int, dtype: torch.dtype, *, rotations: bool
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.product = FieldProduct(kind, lmax, hidden, dtype, rotations=rotations)
        frames = self.product.n_frames
        self.expand = SO3Linear(lmax, channels, 2 * frames * hidden, dtype)
        self.contract = SO3Linear(lmax, frames * hidden, channels, dtype, zero=True)

    def _weight(self) -> Tensor:
        return self.expand.weight.unflatten(-1, (2, self.product.n_frames, self.hidden))

    def forward(self, x: Tensor) -> Tensor:
        product, extra = self.product(by_degree(x), self._weight())
        return contract(product, self.contract.weight.unflatten(1, (self.product.n_frames, self.hidden)), extra)

    def scalar(self, x: Tensor) -> Tensor:
        """Only the l = 0 row of `forward`, [n, C]; for the read-out."""
        return self.product.scalar(by_degree(x), self._weight()) @ self.contract.weight[0, : self.hidden]


class ScalarFFN(nn.Module):
    """Gated linear unit on l = 0 only, the plain read-out: [n, C] → [n, C]."""

    def __init__(self, channels: int, hidden: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.expand = SO3Linear(0, channels, 2 * hidden, dtype)
        self.contract = SO3Linear(0, hidden, channels, dtype, zero=True)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = (x @ self.expand.weight[0]).chunk(2, dim=-1)
        return (value * F.silu(gate)) @ self.contract.weight[0]


class FittingNet(nn.Module):
    """Descriptor → atomic energy: gated linear layers, then one number; shared by all species."""

    def __init__(self, channels: int, hidden: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__()
        widths = [channels, *hidden]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for n_in, n_out in pairwise(widths):
            self.weights.append(normal(n_in, 2 * n_out, std=1 / math.sqrt(n_in + 2 * n_out), dtype=dtype))
            self.biases.append(normal(2 * n_out, std=1.0, dtype=dtype))
        self.out = normal(widths[-1], 1, std=1 / math.sqrt(widths[-1] + 1), dtype=dtype)

    def forward(self, descriptor: Tensor) -> Tensor:
        """[n, C] → [n]."""
        hidden = descriptor
        for layer in range(len(self.weights)):  # by number: torch 2.8 does not compile iteration over parameters
            value, gate = (hidden @ self.weights[layer] + self.biases[layer]).chunk(2, dim=-1)
            hidden = value * F.silu(gate)
        return (hidden @ self.out)[:, 0]

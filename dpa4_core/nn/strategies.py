"""The strategies of inference on a CPU: edges in tiles, with what the derivative needs kept or computed again.

They are differentiable once, and weights are constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dpa4_core.nn.chunked import chunked
from dpa4_core.nn.edges import ProductStrategy
from dpa4_core.nn.messages import Messages
from dpa4_core.nn.tiled import tiled_messages
from dpa4_core.nn.tiling import Tiling


class Tiled(ProductStrategy):
    """All intermediates are kept for the derivative.

    Args:
        tiling: of the edges, for one evaluation.
    """

    keep = True

    def __init__(self, tiling: Tiling) -> None:
        self.tiling = tiling

    def outer(self, left: Tensor, right: Tensor, dst: Tensor, n_atoms: int) -> Tensor:
        out: Tensor = _OuterSum.apply(left, right, n_atoms, self.tiling)
        return out

    def messages(self, messages: Messages, *tensors: Tensor) -> Tensor:
        return tiled_messages(messages, self.tiling, self.keep, *tensors)


class Lean(Tiled):
    """Intermediates are computed again for the derivative: a third more time, little memory."""

    keep = False

    def on_nodes(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        return chunked(function, *tensors)


class _OuterSum(torch.autograd.Function):
    """One matrix product per centre."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, n_segments: int, tiling: Tiling) -> Tensor:
        ctx.save_for_backward(left, right)
        ctx.tiling = tiling
        out = left.new_zeros(n_segments, left.shape[1], right.shape[1])
        for segment, rows in tiling.segments():
            torch.mm(left[rows].T, right[rows], out=out[segment])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        grad = grad.contiguous()
        left_slope, right_slope = torch.empty_like(left), torch.empty_like(right)
        for segment, rows in ctx.tiling.segments():
            torch.mm(right[rows], grad[segment].T, out=left_slope[rows])
            torch.mm(left[rows], grad[segment], out=right_slope[rows])
        return left_slope, right_slope, None, None

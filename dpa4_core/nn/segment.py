"""Sums and maxima over the edges of a node; the one place that decides how they are computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dpa4_core.nn.tiling import Tiling


def segment_sum(values: Tensor, index: Tensor, n_segments: int) -> Tensor:
    """Σ values[e] over index[e] = i: [n, ...] → [n_segments, ...]. Accumulates and returns at least float32."""
    if values.dtype in (torch.bfloat16, torch.float16):
        values = values.float()
    out = values.new_zeros(n_segments, *values.shape[1:])
    return out.index_add(0, index, values)


def segment_max(values: Tensor, index: Tensor, floor: Tensor) -> Tensor:
    """Maximum of ``floor`` [n_segments, k] and of values[e] [n, k] with index[e] = i; without gradient."""
    with torch.no_grad():
        return floor.clone().scatter_reduce(0, index[:, None].expand_as(values), values, reduce="amax")


def segment_outer(left: Tensor, right: Tensor, index: Tensor, n_segments: int, tiling: Tiling | None) -> Tensor:
    """Σ left[e] ⊗ right[e] over index[e] = i: [n, a], [n, b] → [n_segments, a, b].

    With the ``tiling`` of ``index``, by one matrix product per segment; then differentiable once.
    """
    if tiling is None:
        return segment_sum(left[:, :, None] * right[:, None, :], index, n_segments)
    out: Tensor = _SegmentOuter.apply(left, right, n_segments, tiling)
    return out


class _SegmentOuter(torch.autograd.Function):
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

"""Sums and maxima over the edges of a node; the one place that decides how they are computed."""

from __future__ import annotations

import torch
from torch import Tensor


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

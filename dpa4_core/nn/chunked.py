"""A function of rows, a few of them at a time: what it needs in between is computed again for the derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

ROWS = 64


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        ctx.function, ctx.tensors = function, [tensor.detach() for tensor in tensors]
        with torch.no_grad():
            return torch.cat([function(*part) for part in zip(*(t.split(ROWS) for t in ctx.tensors), strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        slopes: list[tuple[Tensor, ...]] = []
        for *part, outer in zip(*(t.split(ROWS) for t in (*ctx.tensors, grad)), strict=True):
            with torch.enable_grad():
                inputs = [tensor.detach().requires_grad_() for tensor in part]
                result = ctx.function(*inputs)
            slopes.append(torch.autograd.grad(result, inputs, outer, materialize_grads=True))
        return None, *(torch.cat(parts) for parts in zip(*slopes, strict=True))


def chunked(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """``function`` of tensors whose rows do not depend on each other, [n, …] each, differentiable once in them.

    Takes a third more time and the memory of some rows; weights inside are constants.
    """
    if tensors[0].shape[0] <= ROWS:
        return function(*tensors)
    out: Tensor = _Chunked.apply(function, *tensors)
    return out

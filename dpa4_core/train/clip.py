"""Clipping of gradients by their global norm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class GradientNorm(NamedTuple):
    """Norm of all gradients before clipping (float64 scalar) and whether it is finite (bool scalar), on the device."""

    norm: Tensor
    finite: Tensor


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], max_norm: float = 5.0) -> GradientNorm:
    """Scale all gradients so that their global L2 norm is at most ``max_norm``.

    Gradients that are not finite are replaced by zeros, all of them, so that the step which follows coasts on its
    momentum and the weights stay sound until the flag is read. Nothing waits for the device.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return GradientNorm(torch.zeros((), dtype=torch.float64), torch.tensor(True))
    # squares of float32 numbers cannot overflow in float64
    norms = torch._foreach_norm(gradients, 2, dtype=torch.float64)
    norm = torch.linalg.vector_norm(torch.stack(norms))
    finite = norm.isfinite()
    torch._foreach_mul_(gradients, (max_norm / norm.clamp_min(max_norm)).to(gradients[0].dtype))
    for gradient in gradients:
        gradient.masked_fill_(~finite, 0.0)  # zero times infinity is not zero
    return GradientNorm(norm, finite)

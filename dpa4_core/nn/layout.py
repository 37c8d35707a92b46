"""Index layouts of spherical-harmonic coefficients.

Packed: (l, m) sits at ``l² + l + m``, size D = (lmax + 1)². Reduced: what the convolution keeps in the frame of an
edge, the orders |m| ≤ 1, sorted by order: all (l, 0), then all (l, −1), then all (l, +1), size Dm = 3·lmax + 1. All
published models truncate at |m| = 1, which makes the rows of the rotation a harmonic and its two tangential
derivatives (`rotation.py`) and the mixing two plain matrix products (`linear.py`).

The indices are made on the CPU also inside of ``torch.device("meta")``, where only the shapes of weights are wanted.
"""

from __future__ import annotations

import torch
from torch import Tensor


def packed_size(lmax: int) -> int:
    """Number of (l, m) pairs up to ``lmax``."""
    return (lmax + 1) ** 2


def degree_slice(degree: int) -> slice:
    """Packed indices of one degree."""
    return slice(degree**2, (degree + 1) ** 2)


def packed_degrees(lmax: int) -> Tensor:
    """Degree of each packed index, [D] int64."""
    degrees = torch.arange(lmax + 1, device="cpu")
    return degrees.repeat_interleave(2 * degrees + 1)


def reduced_degrees(lmax: int) -> Tensor:
    """Degree of each reduced index, [Dm] int64."""
    positive = torch.arange(1, lmax + 1, device="cpu")
    return torch.cat([torch.arange(lmax + 1, device="cpu"), positive, positive])


def reduced_orders(lmax: int) -> Tensor:
    """Order m of each reduced index, [Dm] int64."""
    return torch.tensor([0] * (lmax + 1) + [-1] * lmax + [1] * lmax, device="cpu")


def reduced_index(lmax: int) -> Tensor:
    """Packed index of each reduced index, [Dm] int64."""
    degrees = reduced_degrees(lmax)
    return degrees**2 + degrees + reduced_orders(lmax)

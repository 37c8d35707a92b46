"""Folding of low-rank adapters into the matrices that they adapt.

SO3 linear maps: ΔW[l, i, o] = s Σ_r B[l, o, r] A[l, r, i]; SO2: ΔW[i, o] = s Σ_r A[r, i] B[o, r]; s is stored with
them.
"""

from __future__ import annotations

from torch import Tensor

_PAIRS = (  # adapter names and the matrix that they belong to
    ("A_by_l", "B_by_l", "weight"),
    ("A_m0", "B_m0", "weight_m0"),
    ("A_m.0", "B_m.0", "weight_m.0"),
)


def fold_adapters(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an official checkpoint with every adapter added to its base matrix and removed; a new dictionary."""
    folded = dict(tensors)
    for key in [key for key in tensors if key.endswith(".lora_scaling")]:
        layer = key.removesuffix("lora_scaling")
        scale = folded.pop(key)
        for name_a, name_b, name_w in _PAIRS:
            if layer + name_a not in folded:
                continue
            a, b = folded.pop(layer + name_a).double(), folded.pop(layer + name_b).double()
            base = folded[layer + name_w]
            delta = scale.double() * (b @ a).transpose(-1, -2)
            folded[layer + name_w] = base.double() + delta
    return folded

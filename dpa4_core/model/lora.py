"""Low-rank adapters: W + s·(B A)ᵀ on the matrices that mix degrees and channels, for fine-tuning with few weights.

SO3 linear maps: ΔW[l, i, o] = s Σ_r B[l, o, r] A[l, r, i]; SO2: ΔW[i, o] = s Σ_r A[r, i] B[o, r], in the stored layout
(inputs, streams · outputs), for m = 1 with the two parts of the complex matrix side by side. An update of this form
commutes with rotations as W does. s = α/r.

Files hold folded matrices only: official ones are folded on reading, a model under training by `merge_adapters`.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor, nn

from dpa4_core.errors import DPA4Error
from dpa4_core.nn.linear import SO2Linear, SO3Linear, order_matrices, per_degree

_PAIRS = (  # adapter names and the matrix that they belong to
    ("A_by_l", "B_by_l", "weight"),
    ("A_m0", "B_m0", "weight_m0"),
    ("A_m.0", "B_m.0", "weight_m.0"),
)
_TRAINED = re.compile(
    r"^(fitting|radial)\."
    r"|^film\.(?!species)"
    r"|\.conv\.(query|key|logit_weight|gate_weight|focus_weight|floor_raw|condition_projection)$"
    r"|\.scale$"
    r"|\.bias$"
)
"""What is trained in full beside the adapters; the rest of a pretrained model stays."""


class Adapter(nn.Module):
    """W [..., in, out] → W + (α/r)·(B A)ᵀ with A [..., r, in] random and B [..., out, r] zero at the start."""

    def __init__(self, weight: Tensor, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        *lead, n_in, n_out = weight.shape
        noise = torch.randn(*lead, rank, n_in, generator=generator, dtype=weight.dtype) / math.sqrt(rank)
        self.down = nn.Parameter(noise.to(weight.device))
        self.up = nn.Parameter(weight.new_zeros(*lead, n_out, rank))
        self.scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        return weight + low_rank_update(self.down, self.up, self.scale)

    @torch.no_grad()
    def fold_into(self, weight: Tensor) -> None:
        """Add the update to ``weight`` in place, in float64."""
        weight.copy_(weight.double() + low_rank_update(self.down.double(), self.up.double(), self.scale))


class AdaptedSO3Linear(nn.Module):
    """Stands in the place of an `SO3Linear`."""

    def __init__(self, base: SO3Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.adapter = Adapter(base.weight, rank, alpha, generator)

    @property
    def weight(self) -> Tensor:
        out: Tensor = self.adapter(self.base.weight)
        return out

    def forward(self, x: Tensor) -> Tensor:
        return per_degree(x, self.weight)

    def merge(self) -> SO3Linear:
        self.adapter.fold_into(self.base.weight)
        return self.base


class AdaptedSO2Linear(nn.Module):
    """Stands in the place of an `SO2Linear`."""

    def __init__(self, base: SO2Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.adapter_m0 = Adapter(base.weight_m0, rank, alpha, generator)
        self.adapter_m1 = Adapter(base.weight_m1, rank, alpha, generator)

    def matrices(self) -> tuple[Tensor, Tensor]:
        base = self.base
        return order_matrices(self.adapter_m0(base.weight_m0), self.adapter_m1(base.weight_m1), base.n_focus)

    def merge(self) -> SO2Linear:
        self.adapter_m0.fold_into(self.base.weight_m0)
        self.adapter_m1.fold_into(self.base.weight_m1)
        return self.base


def add_adapters(model: nn.Module, rank: int = 16, alpha: float = 16.0, seed: int = 0) -> list[str]:
    """Put an adapter on every `SO3Linear` and `SO2Linear` and leave trainable what low-rank fine-tuning trains.

    Trainable are the adapters, fitting net, radial MLP, environment embedding, attention projections and vectors,
    scales of norms, and biases; the species tables, radial frequencies, gates, grid products and degree mixers stay,
    as do the adapted matrices. The function of the model does not change.

    Args:
        rank: r, at least 1.
        alpha: α, the update is scaled by α/r.
        seed: of the factors A.

    Returns:
        Names of the adapted layers; their matrix is ``NAME.base.weight`` now, ``NAME.adapter.down`` and ``up`` the
        factors A and B.

    Raises:
        DPA4Error: a rank below 1, or a model that has adapters already.
    """
    if rank < 1:
        raise DPA4Error(f"the rank of adapters must be at least 1, got {rank}")
    if has_adapters(model):
        raise DPA4Error("the model has adapters already; merge_adapters folds them into its matrices")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_TRAINED.search(name) is not None)
    generator = torch.Generator().manual_seed(seed)
    adapted = []
    for path, layer in list(model.named_modules()):
        if isinstance(layer, SO3Linear):
            model.set_submodule(path, AdaptedSO3Linear(layer, rank, alpha, generator))
        elif isinstance(layer, SO2Linear):
            model.set_submodule(path, AdaptedSO2Linear(layer, rank, alpha, generator))
        else:
            continue
        adapted.append(path)
    return adapted


def has_adapters(model: nn.Module) -> bool:
    """Whether any matrix carries an adapter."""
    return any(isinstance(module, Adapter) for module in model.modules())


def merge_adapters(model: nn.Module) -> None:
    """Fold every adapter into its matrix, in float64, and remove it: a plain model again, in place.

    What was frozen stays frozen. To store the best state of a run that goes on, merge a ``copy.deepcopy``.
    """
    for path, layer in list(model.named_modules()):
        if isinstance(layer, AdaptedSO3Linear | AdaptedSO2Linear):
            model.set_submodule(path, layer.merge())


def fold_adapters(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an official checkpoint with every adapter added to its base matrix and removed; a new dictionary.

    Raises:
        DPA4Error: factors that do not fit their matrix.
    """
    folded = dict(tensors)
    for key in [key for key in tensors if key.endswith(".lora_scaling")]:
        layer = key.removesuffix("lora_scaling")
        scale = folded.pop(key)
        for name_a, name_b, name_w in _PAIRS:
            if layer + name_a not in folded:
                continue
            if layer + name_b not in folded or layer + name_w not in folded:
                raise DPA4Error(f"checkpoint has half an adapter, {layer + name_a!r}; use another checkpoint")
            a, b, weight = folded.pop(layer + name_a), folded.pop(layer + name_b), folded[layer + name_w]
            shapes = a.shape, b.shape, weight.shape
            fits = min(map(len, shapes)) >= 2 and a.shape[-2] == b.shape[-1] and scale.numel() == 1
            if not fits or (*a.shape[:-2], a.shape[-1], b.shape[-2]) != tuple(weight.shape) or len(a.shape) != b.ndim:
                raise DPA4Error(f"adapter {layer + name_a!r} does not fit its matrix; use another checkpoint")
            folded[layer + name_w] = weight.double() + low_rank_update(a.double(), b.double(), scale.double())
    return folded


def low_rank_update(down: Tensor, up: Tensor, scale: float | Tensor) -> Tensor:
    """s·(B A)ᵀ [..., in, out] of the factors A [..., r, in] and B [..., out, r]."""
    return scale * (down.transpose(-1, -2) @ up.transpose(-1, -2))

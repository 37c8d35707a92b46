"""Which tensors a configuration asks for, known without making them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from dpa4_core.errors import DPA4Error
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.dpa4 import DPA4


def expected_shapes(
    config: DPA4Config, around: Callable[[DPA4], nn.Module] = lambda model: model
) -> dict[str, torch.Size]:
    """Shapes by name of the state of a model; only the tables of one block are made.

    Args:
        config: of the network.
        around: what stands around it.
    """
    with torch.device("meta"):
        module = around(DPA4(dataclasses.replace(config, n_blocks=1)))
    shapes: dict[str, torch.Size] = {}
    for name, tensor in module.state_dict().items():
        first = "blocks.0."
        repeats = config.n_blocks if first in name else 1
        shapes |= {name.replace(first, f"blocks.{block}.", 1): tensor.shape for block in range(repeats)}
    return shapes


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size], path: Path) -> None:
    """Compare the weights in a file with what its configuration asks for.

    Raises:
        DPA4Error: missing or unknown tensors, another shape, no floating-point numbers, or some that are not finite.
    """
    if wrong := sorted(set(expected) ^ set(tensors)):
        raise DPA4Error(f"model file {path} has missing or unknown tensors, first {wrong[0]!r}")
    for name, shape in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape:
            raise DPA4Error(
                f"tensor {name!r} of {path} has shape {tuple(tensor.shape)}, its configuration asks for {tuple(shape)}"
            )
        if tensor.dtype not in (torch.float32, torch.float64):
            raise DPA4Error(f"tensor {name!r} of {path} holds {_word(tensor.dtype)}; weights are float32 or float64")
    check_finite(tensors, path)


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that are no numbers.

    Raises:
        DPA4Error: naming the first tensor.
    """
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise DPA4Error(f"tensor {name!r} of {path} holds values that are not finite; use another copy of the file")


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

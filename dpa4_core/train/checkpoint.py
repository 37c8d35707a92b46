"""The whole state of a run in one file: tensors and plain values, nothing that is executed on reading."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dpa4_core.errors import DPA4Error

_VERSION = 1


@dataclass(frozen=True)
class TrainState:
    """What a run needs to go on as if it had never stopped.

    Attributes:
        values: plain JSON types: step, position in the data, schedule, best validation, configuration, ...
        tensors: weights, averages, moments of the optimiser, by name.
    """

    values: dict[str, Any]
    tensors: dict[str, Tensor]


def write_state(state: TrainState, path: Path) -> None:
    """Replace ``path`` by ``state``; whenever the process dies, the old or the new file is there, whole."""
    scratch = path.with_name(path.name + ".part")
    header = {"format": "dpa4-training", "version": str(_VERSION), "values": json.dumps(state.values)}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.tensors.items()}
    try:
        save_file(tensors, scratch, metadata=header)
        with scratch.open("rb+") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
    except (SafetensorError, OSError) as error:
        raise DPA4Error(f"{path} cannot be written ({error}); make room and run the same command again") from error


def read_state(path: Path) -> TrainState:
    """The state in ``path``.

    Raises:
        DPA4Error: damaged file, or one of another kind or version.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            header = handle.metadata() or {}
            tensors: dict[str, Tensor] = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DPA4Error(f"{path} is damaged ({error}); delete it to start the run again") from error
    if header.get("format") != "dpa4-training" or header.get("version") != str(_VERSION):
        raise DPA4Error(f"{path} is no training checkpoint of this version; delete it to start the run again")
    return TrainState(json.loads(header["values"]), tensors)


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """``tensors`` with ``prefix/`` before each name."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def part(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under ``prefix/``, without it."""
    start = prefix + "/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def load_exactly(target: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load a state dict that must match ``target`` name by name."""
    try:
        target.load_state_dict(tensors)
    except RuntimeError as error:
        raise DPA4Error(f"{path} does not belong to this model; delete it to start the run again") from error

"""The whole state of a run in one file, sealed with a digest: tensors and plain values, nothing that is executed on
reading. The state before it is kept as well, for the day on which the last one cannot be read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from dpa4_core.errors import DPA4Error
from dpa4_core.files import replacing
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.sealed import read_sealed, sealed_bytes
from dpa4_core.model.shapes import expected_shapes
from dpa4_core.strict import Within, build, parsed
from dpa4_core.train.counters import Count, Counters
from dpa4_core.train.loss import LossConfig
from dpa4_core.train.packing import Budget

CHECKPOINT = "checkpoint.safetensors"
_VERSION, _READABLE, _UNSEALED = "3", ("1", "2", "3"), "1"
_COUNTED = ("step", "epoch", "steps_in_epoch", "bad_validations", "n_skipped", "seconds", "best", "best_errors")
"""Counters that versions 1 and 2 had beside the other values."""
_REMEDY = "delete it to start the run again"


@dataclass(frozen=True)
class TrainState:
    """What a run needs to go on as if it had never stopped.

    Attributes:
        values: plain JSON types: counters, schedule, configuration, ....
        tensors: weights, averages, moments of the optimiser, by name.
    """

    values: dict[str, Any]
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class ScheduleState:
    """See `dpa4_core.train.schedule.Schedule.state`."""

    n_steps: Annotated[int, Within(1, 2**53)]
    end: Annotated[int, Within(1, 2**53)]
    start: Count | None
    start_lr: Annotated[float, Within(0.0, 1e6)]


@dataclass(frozen=True)
class StoredValues:
    """The schema of the plain values of a run; see `dpa4_core.train.trainer.Trainer.save`."""

    config: dict[str, Any]
    network: DPA4Config
    head: dict[str, Any] | None
    info: dict[str, Any]
    notes: dict[str, Any]
    shift: tuple[float, ...]
    cutoff: Annotated[float, Within(0.1, 20.0)]
    data: str
    budget: Budget
    schedule: ScheduleState
    meter: dict[str, Any]
    counters: Counters
    others: tuple[float, ...] | None = None  # older versions had none, and none of the next
    loss: LossConfig | None = None


class Found(NamedTuple):
    """The state that a run goes on from, its file, and, if that is not the last one, why; else "" ."""

    state: TrainState
    path: Path
    why: str


def write_state(state: TrainState, path: Path) -> None:
    """Replace ``path`` by ``state`` and keep what was there as the previous one.

    Whenever the process dies, the old or the new file is there, whole, under one of the two names.

    Raises:
        WriteError: a full disk, say.
    """
    texts = {"format": "dpa4-training", "version": _VERSION, "values": json.dumps(state.values)}
    content = sealed_bytes(texts, state.tensors)
    with replacing(path) as part_file:
        part_file.write_bytes(content)
        if path.exists():
            path.replace(previous_of(path))


def previous_of(path: Path) -> Path:
    """Where the checkpoint before ``path`` is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def exists(path: Path) -> bool:
    """Whether there is a checkpoint ``path`` or one before it."""
    return path.exists() or previous_of(path).exists()


def forget(path: Path) -> None:
    """Remove ``path`` and the one before it."""
    for file in (path, previous_of(path)):
        file.unlink(missing_ok=True)


def latest_state(path: Path) -> Found:
    """The state in ``path``, or the one before it if that cannot be read.

    Raises:
        DPA4Error: neither can be read; the sentence is about ``path``.
    """
    older = previous_of(path)
    if not path.exists() and older.exists():
        return Found(read_state(older), older, f"{path} is missing")
    try:
        return Found(read_state(path), path, "")
    except DPA4Error as error:
        if not older.exists():
            raise
        try:
            return Found(read_state(older), older, str(error).removesuffix(f"; {_REMEDY}"))
        except DPA4Error:
            raise error from None


def read_state(path: Path) -> TrainState:
    """The state in ``path``.

    Raises:
        DPA4Error: damaged file, or one of another kind or version.
    """
    texts, tensors, sealed = read_sealed(path, _REMEDY)
    version = texts.get("version", "")
    if texts.get("format") != "dpa4-training" or version not in _READABLE or "values" not in texts:
        raise DPA4Error(f"{path} is no training checkpoint of this version; {_REMEDY}")
    if not sealed and version != _UNSEALED:
        raise DPA4Error(f"{path} is damaged (it lacks the digest of its content); {_REMEDY}")
    values = parsed(texts["values"], f"the state in {path}")
    return TrainState(values if version == _VERSION else _with_counters(values), tensors)


def _with_counters(values: Any) -> Any:
    """The values of version 1 or 2 as those of version 3."""
    if not isinstance(values, dict):
        return values
    counted = {name: values[name] for name in _COUNTED if name in values}
    return {name: value for name, value in values.items() if name not in counted} | {"counters": counted}


def check_state(state: TrainState, path: Path) -> None:
    """Compare what a checkpoint holds with its schema and its weights with its network, before that is built.

    Raises:
        DPA4Error: unknown or missing values, numbers out of bounds, weights that do not belong to the network.
    """
    try:
        values = build(StoredValues, state.values, str(path))
    except DPA4Error as error:
        raise DPA4Error(f"{error}; {_REMEDY}") from error
    weights = part("model", state.tensors)
    # adapters stand beside matrices, which are called base then; a property model has its backbone under that name
    plain = {
        name.removeprefix("backbone.").replace(".base.", "."): tensor.shape
        for name, tensor in weights.items()
        if ".adapter" not in name and not name.startswith("head.")
    }
    if plain != expected_shapes(values.network):
        raise DPA4Error(f"{path} does not belong to this model; {_REMEDY}")
    if wrong := [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]:
        raise DPA4Error(f"tensor {wrong[0]!r} of {path} holds values that are not finite; {_REMEDY}")


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

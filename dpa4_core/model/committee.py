"""Several models in one file: what they share is stored once.

Members have one architecture. A tensor that is the same in all of them is stored once under its name, any other one for
each member under ``member.K.NAME``. Where members were fine-tuned by adapters from one base, a matrix of the base is
stored under its name and for each member the two factors of its difference, ``member.K.NAME.down`` and ``.up``, so that
a member costs its adapters only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from dpa4_core.errors import DPA4Error
from dpa4_core.files import write_bytes
from dpa4_core.model.checkpoint import (
    FORMAT_VERSION,
    fill,
    read_container,
    read_model,
    stored_dtype,
    stored_info,
)
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.lora import low_rank_update
from dpa4_core.model.registry import resolve
from dpa4_core.model.sealed import sealed_bytes
from dpa4_core.model.shapes import check_tensors, expected_shapes
from dpa4_core.strict import Within, build, typed

FORMAT = "dpa4-committee"
MAX_MEMBERS = 64


class LowRank(NamedTuple):
    """A matrix [..., in, out] as that of a base and a difference of two factors [..., r, in] and [..., out, r]."""

    base: Tensor
    down: Tensor
    up: Tensor

    def whole(self) -> Tensor:
        """The matrix, added up in float64."""
        full = self.base.double() + low_rank_update(self.down.double(), self.up.double(), 1.0)
        return full.to(self.base.dtype)


Weights = dict[str, Tensor | LowRank]
"""By the names of the state of a network."""


def write_committee(
    models: Sequence[str | Path],
    path: str | Path,
    *,
    name: str = "",
    base: str | Path | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write models as one committee file, which `dpa4_core.load` opens like any model.

    Args:
        models: files or registry names of the members, two or more of one architecture and level of theory.
        path: of the file; it appears under its name only when complete.
        name: of the committee; by default the stem of ``path``.
        base: model that the members were fine-tuned from; with adapters, differences from it are all that is stored.
        facts: for the identity card, under ``training``.

    Raises:
        DPA4Error: members that cannot be one committee; one sentence.
    """
    path = Path(path)
    read = [read_model(file, dtype=None, entry=entry) for file, entry in map(resolve, models)]
    infos = [info for _, info in read]
    if not 2 <= len(read) <= MAX_MEMBERS:
        raise DPA4Error(f"a committee has 2 to {MAX_MEMBERS} members, not {len(read)}")
    config = read[0][0].config
    for model, info in read[1:]:
        if model.config != config:
            raise DPA4Error(
                f"{info.name} and {infos[0].name} are networks of different form; a committee file holds members that "
                "differ in their weights only"
            )
    states = [model.state_dict() for model, _ in read]
    start: dict[str, Tensor] = {}
    if base is not None:
        file, entry = resolve(base)
        start = read_model(file, dtype=read[0][0].dtype, entry=entry)[0].state_dict()
    tensors: dict[str, Tensor] = {}
    for key in states[0]:
        tensors |= _stored(key, [state[key] for state in states], start.get(key))
    info = common_card(infos, name or path.stem)
    info.training.update(facts or {})
    texts = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "members": json.dumps(len(read))}
    texts |= {"config": json.dumps(config.to_dict()), "info": json.dumps(info.to_dict())}
    write_bytes(path, sealed_bytes(texts, tensors))
    return path


def read_committee(path: Path, dtype: torch.dtype | None = torch.float32) -> tuple[DPA4, list[Weights], ModelInfo]:
    """A network, the weights in which each member differs from the others, and the identity card of the committee.

    Args:
        path: file of `write_committee`.
        dtype: precision; None keeps that of the stored weights.

    Raises:
        DPA4Error: damaged, or of another kind; one sentence.
    """
    content, tensors = read_container(path, FORMAT, ("config", "info", "members"))
    config = build(DPA4Config, content["config"], f"model file {path}")
    n_members = typed(Annotated[int, Within(2, MAX_MEMBERS)], content["members"], f"members of {path}")
    shapes = expected_shapes(config)
    names = [{name: _names(name, k, tensors) for name in shapes} for k in range(n_members)]
    expected = {key for member in names for keys in member.values() for key in keys}
    if wrong := sorted(expected ^ set(tensors)):
        raise DPA4Error(f"model file {path} has missing or unknown tensors, first {wrong[0]!r}")
    model = None
    members: list[Weights] = []
    for member in names:
        parts = {name: [tensors[key] for key in keys] for name, keys in member.items()}
        if unfit := [name for name, part in parts.items() if len(part) == 3 and not _fit(part, shapes[name])]:
            raise DPA4Error(f"tensor {member[unfit[0]][1]!r} of {path} does not fit its matrix; use another copy")
        stored = {name: LowRank(*part) if len(part) == 3 else part[0] for name, part in parts.items()}
        whole = {name: value.whole() if isinstance(value, LowRank) else value for name, value in stored.items()}
        check_tensors(whole, shapes, path)
        if model is None:
            model = DPA4(config, dtype or stored_dtype(whole))
            fill(model, whole)
        members.append({name: value for name, value in stored.items() if member[name] != (name,)})
    assert model is not None
    return model, members, stored_info(content, path)


def common_card(infos: Sequence[ModelInfo], name: str) -> ModelInfo:
    """The identity card of models whose energies have a mean: what they have in common.

    Raises:
        DPA4Error: they were trained on different levels of theory.
    """
    levels = list(dict.fromkeys(info.level_of_theory for info in infos))
    if len(levels) > 1:
        raise DPA4Error(f"models of different levels of theory are no committee: {levels[0]!r} and {levels[1]!r}")
    same: dict[str, Any] = {
        field: getattr(infos[0], field)
        for field in ("level_of_theory", "corrections", "trained_for", "licence", "n_parameters")
        if len({getattr(info, field) for info in infos}) == 1
    }
    elements = set.intersection(*(set(info.elements) for info in infos))
    shifted = {symbol: {info.zeros.get(symbol, "") for info in infos} for info in infos for symbol in info.zeros}
    zeros = {symbol: "+".join(sorted(labels)) for symbol, labels in shifted.items()}
    undecided = tuple(sorted({symbol for info in infos for symbol in info.undecided}))
    named = [f"{info.name} ({info.sha256[:12]})" for info in infos]
    facts = {"members": named}
    return ModelInfo(name, elements=tuple(sorted(elements)), training=facts, zeros=zeros, undecided=undecided, **same)


# ---- what is stored of one tensor


def _stored(name: str, values: Sequence[Tensor], base: Tensor | None) -> dict[str, Tensor]:
    if all(torch.equal(values[0], value) for value in values[1:]):
        return {name: values[0]}
    if base is not None and base.shape == values[0].shape and base.dtype == values[0].dtype:
        factors = [_factors(value, base) for value in values]
        if None not in factors:
            found = {name: base}
            for k, (down, up) in enumerate(filter(None, factors)):
                found |= {f"member.{k}.{name}.down": down, f"member.{k}.{name}.up": up}
            return found
    return {f"member.{k}.{name}": value for k, value in enumerate(values)}


def _factors(value: Tensor, base: Tensor) -> tuple[Tensor, Tensor] | None:
    """Factors of ``value`` − ``base``, [..., r, in] and [..., out, r]; None where they would not be smaller than it.

    The rank is the number of singular values above the rounding of the weights.
    """
    if value.dim() < 2:
        return None
    n_in, n_out = value.shape[-2:]
    u, sizes, vh = torch.linalg.svd(value.double() - base.double(), full_matrices=False)
    rounding = torch.finfo(value.dtype).eps * float(value.abs().max()) * (n_in**0.5 + n_out**0.5)
    rank = max(int((sizes > rounding).sum(-1).max()), 1)
    if rank * (n_in + n_out) >= n_in * n_out:
        return None
    root = sizes[..., :rank].sqrt()
    down = (u[..., :rank] * root[..., None, :]).transpose(-1, -2)
    up = vh[..., :rank, :].transpose(-1, -2) * root[..., None, :]
    return down.to(value.dtype), up.to(value.dtype)


def _names(name: str, k: int, tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """What the tensor ``name`` of a member is called in the file: one name, or those of base and factors."""
    if f"member.0.{name}.down" in tensors:
        return name, f"member.{k}.{name}.down", f"member.{k}.{name}.up"
    return (f"member.{k}.{name}" if f"member.0.{name}" in tensors else name,)


def _fit(parts: Sequence[Tensor], shape: torch.Size) -> bool:
    """Whether a base and factors belong to a matrix of this shape."""
    base, down, up = parts
    if len(shape) < 2 or down.dim() < 2 or base.dtype not in (torch.float32, torch.float64):
        return False
    *lead, n_in, n_out = shape
    rank = down.shape[-2]
    right = base.shape == shape and down.shape == (*lead, rank, n_in) and up.shape == (*lead, n_out, rank)
    return right and base.dtype == down.dtype == up.dtype

"""Reading and writing models: official ``.pt`` files and our own ``.dpa4`` files.

A ``.dpa4`` file is a safetensors file: tensors plus the configuration, the identity card and the format version as
JSON in its header, sealed with a digest. Nothing in either format is executed on reading, and no network is built
before its configuration is within bounds and asks for the tensors that the file holds.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from dpa4_core.errors import DPA4Error
from dpa4_core.files import replacing, write_bytes
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.lora import has_adapters
from dpa4_core.model.official import from_official, to_official
from dpa4_core.model.registry import RegistryEntry, no_file, resolve, sha256_of, split_branch
from dpa4_core.model.sealed import read_sealed, sealed_bytes
from dpa4_core.model.shapes import check_tensors, expected_shapes
from dpa4_core.model.torch_file import read_torch, what_it_is
from dpa4_core.strict import build, parsed, typed

FORMAT_VERSION = 2
_SEALED_SINCE = 2
_IDENTITY = ("name", "level_of_theory", "corrections", "trained_for", "licence")
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: lambda content: content,  # version 2 has a digest of texts and tensors, nothing else is new
}
"""Step from each old format version of the header to the next one."""
_KINDS = {
    "dpa4": "holds a potential; use dpa4_core.load or predict",
    "dpa4-committee": "holds a committee of models where one is wanted; name the file of one of its members",
    "dpa4-property": "holds a property model; use load_property or predict_property of dpa4_core.properties",
}


def read_model(
    path: str | Path, dtype: torch.dtype | None = torch.float32, entry: RegistryEntry | None = None
) -> tuple[DPA4, ModelInfo]:
    """Model and identity card from a file of either format; ``path`` may end in ``#branch`` for a multi-task file.

    Args:
        path: ``.pt`` or ``.dpa4`` file; the content decides, not the suffix.
        dtype: precision of the model; None keeps that of the stored weights.
        entry: what the registry knows about the file.

    Raises:
        DPA4Error: missing, damaged or refused file; one sentence that names it.
    """
    path, head = split_branch(path)
    if not path.is_file():
        raise no_file(path)
    with path.open("rb") as handle:
        start = handle.read(9)
    if start[8:9] == b"{":  # safetensors: eight bytes of header length, then JSON
        if head is not None:
            raise DPA4Error(f"model file {path} has no branches, but {head!r} was asked for; leave out '#{head}'")
        return _read_own(path, dtype)
    if not start.startswith(b"PK"):  # the zip archive that torch writes
        raise DPA4Error(f"model file {path} is {what_it_is(path)}")
    return _read_official(path, dtype, head, entry)


def _read_official(
    path: Path, dtype: torch.dtype | None, head: str | None, entry: RegistryEntry | None
) -> tuple[DPA4, ModelInfo]:
    content = read_torch(path)
    state = content.get("model", content) if isinstance(content, dict) else None
    extra = state.get("_extra_state") if isinstance(state, dict) else None
    if not isinstance(extra, dict) or not isinstance(extra.get("model_params"), dict):
        raise DPA4Error(f"model file {path} is a torch file but not a DPA4 checkpoint (no model_params inside)")
    assert isinstance(state, dict)
    try:
        model, params = from_official(state, dtype, head)
        about = typed(dict[str, Any], params.get("info") or {}, "info")
        train = typed(dict[str, Any], extra.get("train_infos") or {}, "train_infos")
        observed = typed(tuple[str, ...], about.get("observed_type") or model.config.elements, "info.observed_type")
        if unknown := [symbol for symbol in observed if symbol not in atomic_numbers]:
            raise DPA4Error(f"info.observed_type names {unknown[0]!r}, which is no element")
        zeros = typed(dict[str, str], about.get("zeros") or {}, "info.zeros")
        undecided = typed(tuple[str, ...], about.get("undecided") or (), "info.undecided")
        training = {
            "step": typed(int, train.get("step", 0), "train_infos.step"),
            "lr": typed(float, train.get("lr", 0), "train_infos.lr"),
        }
    except DPA4Error as error:
        raise DPA4Error(f"{path}: {error}") from error
    info = ModelInfo(
        **{"name": path.stem} | {key: str(about[key]) for key in _IDENTITY if about.get(key)},
        sha256=sha256_of(path),
        elements=tuple(sorted(atomic_numbers[symbol] for symbol in observed)),
        n_parameters=sum(p.numel() for p in model.parameters()),
        source=str(path),
        training=training,
        zeros=zeros,
        undecided=undecided,
    )
    return model, entry.describe(info) if entry is not None else info


def _read_own(path: Path, dtype: torch.dtype | None) -> tuple[DPA4, ModelInfo]:
    content, tensors = read_container(path, "dpa4", ("config", "info"))
    config = build(DPA4Config, content["config"], f"model file {path}")
    check_tensors(tensors, expected_shapes(config), path)
    model = DPA4(config, dtype or stored_dtype(tensors))
    fill(model, tensors)
    return model, stored_info(content, path)


def kind_of(path: Path) -> str:
    """What a file of ours says that it holds, by its header; "" for anything else or nothing."""
    if not path.is_file():
        return ""
    try:
        with safe_open(path, framework="pt") as handle:
            return str((handle.metadata() or {}).get("format", ""))
    except (SafetensorError, OSError):
        return ""


def read_container(path: Path, kind: str, keys: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON values ``keys`` in the header of a file of ours, upgraded, and its tensors.

    Raises:
        DPA4Error: damaged, of another kind, or written by a newer version.
    """
    texts, tensors, sealed = read_sealed(path, "copy or convert it again")
    found = texts.pop("format", "")
    if found != kind:
        what = _KINDS.get(found, f"not a {'DPA4' if kind == 'dpa4' else kind} model")
        raise DPA4Error(f"model file {path} is a safetensors file but {what}")
    if lacking := [key for key in ("format_version", *keys) if key not in texts]:
        raise DPA4Error(f"model file {path} lacks {lacking[0]!r} in its header; convert or save it again")
    number = texts.pop("format_version")
    if not (number.isdecimal() and 1 <= int(number[:9]) < 10**8):
        raise DPA4Error(f"model file {path} is damaged (format version {number[:20]!r}); copy or convert it again")
    version = int(number)
    if version > FORMAT_VERSION:
        raise DPA4Error(
            f"model file {path} has format version {version}; update dpa4-flows (it reads {FORMAT_VERSION})"
        )
    if unknown := sorted(set(texts) - set(keys)):
        raise DPA4Error(f"model file {path} has the unknown entry {unknown[0]!r} in its header; copy it again")
    if version >= _SEALED_SINCE and not sealed:
        raise DPA4Error(f"model file {path} lacks the digest of its content; copy or convert it again")
    content: dict[str, Any] = {key: parsed(texts[key], f"{key!r} in the header of {path}") for key in keys}
    for step in range(version, FORMAT_VERSION):
        content = UPGRADES[step](content)
    return content, tensors


def stored_dtype(tensors: dict[str, Tensor], prefix: str = "") -> torch.dtype:
    """Precision of the weights in a file of ours."""
    return tensors[f"{prefix}species.table"].dtype


def stored_info(content: dict[str, Any], path: Path) -> ModelInfo:
    """Identity card of a file of ours."""
    stated = build(ModelInfo, content["info"], f"model file {path}, identity card")
    return dataclasses.replace(stated, sha256=sha256_of(path), dispersion="")


def fill(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load ``tensors``, which were checked, in the precision of ``model``."""
    expected = model.state_dict()
    model.load_state_dict({key: value.to(expected[key].dtype) for key, value in tensors.items()})


def write_model(model: DPA4, info: ModelInfo, path: Path) -> Path:
    """Write a ``.dpa4`` file; it appears under its name only when complete."""
    return write_container(path, "dpa4", model, {"config": model.config.to_dict(), "info": info.to_dict()})


def write_container(path: Path, kind: str, model: nn.Module, content: dict[str, Any]) -> Path:
    """Write tensors and ``content``, plain JSON types, as a file of ours; the inverse of `read_container`."""
    _check_merged(model)
    texts = {"format": kind, "format_version": str(FORMAT_VERSION)}
    texts |= {key: json.dumps(value) for key, value in content.items()}
    write_bytes(path, sealed_bytes(texts, model.state_dict()))
    return path


def write_official(model: DPA4, info: ModelInfo, path: str | Path) -> Path:
    """Write an official ``.pt`` checkpoint that the reference implementation reads."""
    _check_merged(model)
    symbols = {number: symbol for symbol, number in atomic_numbers.items()}
    observed = [symbols[number] for number in info.elements] or list(model.config.elements)
    about = {"observed_type": observed} | {key: getattr(info, key) for key in _IDENTITY}
    about |= {"zeros": dict(info.zeros), "undecided": list(info.undecided)}
    state = to_official(model, about, info.training)
    with replacing(path) as part, part.open("wb") as stream:
        torch.save({"model": state}, stream)
    return Path(path)


def convert(source: str | Path, target: str | Path) -> Path:
    """Convert a model file or registry name to the format that the suffix of ``target`` names, ``.pt`` or ``.dpa4``.

    What the registry knows about a published file goes along.

    Raises:
        DPA4Error: another suffix, or an unreadable source.
    """
    target = Path(target)
    if target.suffix not in (".pt", ".dpa4"):
        raise DPA4Error(f"cannot tell the format from {target.name!r}; end the name in .pt or .dpa4")
    path, entry = resolve(source)
    model, info = read_model(path, dtype=None, entry=entry)
    if target.suffix == ".pt":
        return write_official(model, info, target)
    return write_model(model, dataclasses.replace(info, source=str(source)), target)


def _check_merged(model: nn.Module) -> None:
    if has_adapters(model):
        raise DPA4Error("a model with adapters cannot be stored; call merge_adapters on a copy first")

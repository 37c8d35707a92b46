"""Reading and writing models: official ``.pt`` files and our own ``.dpa4`` files.

A ``.dpa4`` file is a safetensors file: tensors plus the configuration, the identity card and the format version as
JSON in its header. Nothing in either format is executed on reading.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dpa4_core.errors import DPA4Error
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.lora import has_adapters
from dpa4_core.model.official import from_official, to_official
from dpa4_core.model.registry import RegistryEntry, resolve, sha256_of, split_branch

FORMAT_VERSION = 1
_IDENTITY = ("name", "level_of_theory", "corrections", "trained_for", "licence")
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Step from each old format version of the header to the next one."""
_KINDS = {
    "dpa4": "holds a potential; use dpa4_core.load or predict",
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
        raise DPA4Error(f"model file {path} does not exist; give a path to a .pt or .dpa4 file or a registry name")
    with path.open("rb") as handle:
        start = handle.read(9)
    if start[8:9] == b"{":  # safetensors: eight bytes of header length, then JSON
        return _read_own(path, dtype)
    if not start.startswith((b"PK", b"\x80")):  # a zip archive or a bare pickle, the two forms that torch writes
        raise DPA4Error(f"model file {path} is damaged or not a torch checkpoint; download or copy it again")
    return _read_official(path, dtype, head, entry)


def _read_official(
    path: Path, dtype: torch.dtype | None, head: str | None, entry: RegistryEntry | None
) -> tuple[DPA4, ModelInfo]:
    try:
        with warnings.catch_warnings():  # torch warns about the protocol of a foreign pickle before it refuses it
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DPA4Error(
            f"model file {path} holds more than tensors and plain values (a pickle?) and is refused for safety; "
            "use a checkpoint that torch can read with weights_only=True"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise DPA4Error(f"model file {path} is damaged or not a torch checkpoint; download or copy it again") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or "model_params" not in (state.get("_extra_state") or {}):
        raise DPA4Error(f"model file {path} is a torch file but not a DPA4 checkpoint (no model_params inside)")
    try:
        model, params = from_official(state, dtype, head)
    except DPA4Error as error:
        raise DPA4Error(f"{path}: {error}") from error
    train = state["_extra_state"].get("train_infos") or {}
    about = params.get("info") or {}
    observed = about.get("observed_type") or model.config.elements
    info = ModelInfo(
        **{"name": path.stem} | {key: str(about[key]) for key in _IDENTITY if about.get(key)},
        sha256=sha256_of(path),
        elements=tuple(sorted(atomic_numbers[symbol] for symbol in observed)),
        n_parameters=sum(p.numel() for p in model.parameters()),
        source=str(path),
        training={"step": int(train.get("step", 0)), "lr": float(train.get("lr", 0))},
    )
    return model, entry.describe(info) if entry is not None else info


def _read_own(path: Path, dtype: torch.dtype | None) -> tuple[DPA4, ModelInfo]:
    content, tensors = read_container(path, "dpa4", ("config", "info"))
    model = DPA4(DPA4Config.from_dict(content["config"]), dtype or stored_dtype(tensors))
    fill(model, tensors, path)
    return model, stored_info(content, path)


def read_container(path: Path, kind: str, keys: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The JSON values ``keys`` in the header of a file of ours, upgraded, and its tensors.

    Raises:
        DPA4Error: damaged, of another kind, or written by a newer version.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            header = handle.metadata() or {}
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise DPA4Error(f"model file {path} is damaged ({error}); copy or convert it again") from error
    found = header.get("format", "")
    if found != kind:
        what = _KINDS.get(found, f"not a {'DPA4' if kind == 'dpa4' else kind} model")
        raise DPA4Error(f"model file {path} is a safetensors file but {what}")
    if lacking := [key for key in ("format_version", *keys) if key not in header]:
        raise DPA4Error(f"model file {path} lacks {lacking[0]!r} in its header; convert or save it again")
    version = int(header["format_version"])
    if version > FORMAT_VERSION:
        raise DPA4Error(
            f"model file {path} has format version {version}; update dpa4-flows (it reads {FORMAT_VERSION})"
        )
    content: dict[str, Any] = {key: json.loads(header[key]) for key in keys}
    for step in range(version, FORMAT_VERSION):
        content = UPGRADES[step](content)
    return content, tensors


def stored_dtype(tensors: dict[str, Tensor], prefix: str = "") -> torch.dtype:
    """Precision of the weights in a file of ours."""
    key = f"{prefix}species.table"
    return tensors[key].dtype if key in tensors else torch.float32


def stored_info(content: dict[str, Any], path: Path) -> ModelInfo:
    """Identity card of a file of ours."""
    return ModelInfo(
        **content["info"] | {"elements": tuple(content["info"]["elements"]), "sha256": sha256_of(path)},
    )


def fill(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load ``tensors``, which must be those of ``model``, in its precision."""
    expected = model.state_dict()
    if missing := sorted(set(expected) ^ set(tensors)):
        raise DPA4Error(f"model file {path} has missing or unknown tensors, first {missing[0]!r}")
    if wrong := [key for key in expected if expected[key].shape != tensors[key].shape]:
        raise DPA4Error(
            f"tensor {wrong[0]!r} of {path} has shape {tuple(tensors[wrong[0]].shape)}, "
            f"its configuration asks for {tuple(expected[wrong[0]].shape)}"
        )
    model.load_state_dict({key: value.to(expected[key].dtype) for key, value in tensors.items()})


def write_model(model: DPA4, info: ModelInfo, path: Path) -> Path:
    """Write a ``.dpa4`` file; it appears under its name only when complete."""
    return write_container(path, "dpa4", model, {"config": model.config.to_dict(), "info": info.to_dict()})


def write_container(path: Path, kind: str, model: nn.Module, content: dict[str, Any]) -> Path:
    """Write tensors and ``content``, plain JSON types, as a file of ours; the inverse of `read_container`."""
    _check_merged(model)
    header = {"format": kind, "format_version": str(FORMAT_VERSION)}
    header |= {key: json.dumps(value) for key, value in content.items()}
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    _write_whole(path, lambda target: save_file(tensors, target, metadata=header))
    return path


def write_official(model: DPA4, info: ModelInfo, path: str | Path) -> Path:
    """Write an official ``.pt`` checkpoint that the reference implementation reads."""
    _check_merged(model)
    symbols = {number: symbol for symbol, number in atomic_numbers.items()}
    observed = [symbols[number] for number in info.elements] or list(model.config.elements)
    about = {"observed_type": observed} | {key: getattr(info, key) for key in _IDENTITY}
    state = to_official(model, about, info.training)
    _write_whole(Path(path), lambda target: torch.save({"model": state}, target))
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


def _write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        scratch = Path(folder) / path.name
        write(scratch)
        (Path(folder) / "mode").touch()
        scratch.chmod((Path(folder) / "mode").stat().st_mode)  # safetensors writes for the owner only
        scratch.replace(path)

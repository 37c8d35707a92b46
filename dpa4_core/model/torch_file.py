"""Files that ``torch.save`` wrote, read with bounds: nothing is executed, nothing exceeds the size of the file.

Torch itself compares no checksums, so the archive is looked through first: its parts are stored as they are, without
compression, and each has a CRC-32.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dpa4_core.errors import DPA4Error

_MAX_PICKLE = 64 * 2**20
"""Bytes of the part that lists names and options; that of DPA4-Neo has 48 kB."""

_MAX_DEPTH, _MAX_VALUES = 32, 1_000_000
"""Nesting and number of the plain values in a checkpoint."""

_CHUNK = 2**20

_REMEDY = "download or copy it again"
_BEGINNINGS = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself; run `git lfs pull` or download the file"),
    (b"<!doctype html", "a web page; download the file itself instead of the page about it"),
    (b"<html", "a web page; download the file itself instead of the page about it"),
    (b"<?xml", "an XML text, as a server sends in place of a file it does not have; download it again"),
    (b"\x1f\x8b", "compressed with gzip; unpack it"),
    (b"BZh", "compressed with bzip2; unpack it"),
    (b"\xfd7zXZ", "compressed with xz; unpack it"),
    (b"(\xb5/\xfd", "compressed with zstd; unpack it"),
    (b"\x89HDF", "an HDF5 file; models are .pt or .dpa4 files"),
    (b"\x80", "a bare pickle, which could run code, and is refused for safety; save the model with a newer torch"),
)


def what_it_is(path: Path) -> str:
    """What a file is that holds no model, and the remedy, to follow "model file PATH is"."""
    with path.open("rb") as handle:
        start = handle.read(1024)
    if not start:
        return f"empty; {_REMEDY}"
    lowered = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for mark, sentence in _BEGINNINGS:
        if start.startswith(mark) or lowered.startswith(mark):
            return sentence
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if text and all(letter.isprintable() or letter.isspace() for letter in text):
        return f"a text, not a model; give a .pt or .dpa4 file (it begins with {text.split(maxsplit=1)[0][:20]!r})"
    return f"damaged or not a torch checkpoint; {_REMEDY}"


def read_torch(path: Path) -> Any:
    """The content of a torch checkpoint: tensors in the memory of the CPU and plain values.

    Raises:
        DPA4Error: damaged, or more than tensors and plain values; one sentence.
    """
    _check_archive(path)
    try:
        with warnings.catch_warnings():  # torch warns about the protocol of a foreign pickle before it refuses it
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DPA4Error(
            f"model file {path} holds more than tensors and plain values (a pickle?) and is refused for safety; "
            "use a checkpoint that torch can read with weights_only=True"
        ) from error
    except (
        *(RuntimeError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError),
        *(AssertionError, ArithmeticError, MemoryError, ImportError),
    ) as error:  # whatever the unpickler and the constructors of tensors say about bytes that make no sense
        raise DPA4Error(f"model file {path} is damaged or not a torch checkpoint; {_REMEDY}") from error
    _check_content(content, path)
    return content


def _check_archive(path: Path) -> None:
    """Sizes and checksums of the parts."""
    damaged = f"model file {path} is damaged"
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if any(part.compress_type != zipfile.ZIP_STORED or part.flag_bits & 1 for part in parts):
                raise DPA4Error(f"model file {path} is a packed archive, not a torch checkpoint; unpack it")
            if not any(part.filename.endswith("/data.pkl") for part in parts):
                raise DPA4Error(f"model file {path} is a zip archive but not a torch checkpoint; unpack it")
            if sum(part.file_size for part in parts) > size:
                raise DPA4Error(f"{damaged} (its parts would be larger than the file); {_REMEDY}")
            for part in parts:
                if part.filename.endswith(".pkl") and part.file_size > _MAX_PICKLE:
                    raise DPA4Error(f"{damaged} (its list of tensors has {part.file_size:,} bytes); {_REMEDY}")
                with archive.open(part) as stream:
                    while stream.read(_CHUNK):  # compares the checksum at the end
                        pass
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError, RuntimeError) as error:
        if isinstance(error, DPA4Error):
            raise
        raise DPA4Error(f"{damaged} (it is cut off, or bytes in it changed); {_REMEDY}") from error


def _check_content(content: Any, path: Path) -> None:
    """Tables, plain values and tensors that lie in what was read, and nothing else.

    Tables have names, or numbers as in the state of an optimizer, which a training stores beside the model.
    """
    size, storages, n_values = path.stat().st_size, {}, 0
    waiting = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        n_values += 1
        if depth > _MAX_DEPTH or n_values > _MAX_VALUES:
            raise DPA4Error(f"model file {path} is nested too deeply to be a checkpoint; use another one")
        if isinstance(value, dict):
            if not all(isinstance(key, str | int) for key in value):
                raise DPA4Error(f"model file {path} has entries without a name; it is not a DPA4 checkpoint")
            waiting += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += [(item, depth + 1) for item in value]
        elif isinstance(value, Tensor):
            if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
                raise DPA4Error(f"model file {path} has tensors that are not plain arrays; convert them before")
            storage = value.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            if value.numel() * value.element_size() > storage.nbytes():
                raise DPA4Error(f"model file {path} has a tensor that is larger than its data; {_REMEDY}")
        elif not isinstance(value, str | int | float | None) or (isinstance(value, int) and abs(value) >= 2**63):
            raise DPA4Error(
                f"model file {path} holds more than tensors and plain values and is refused for safety; "
                "use a checkpoint that torch can read with weights_only=True"
            )
    if sum(storages.values()) > size:
        raise DPA4Error(f"model file {path} is damaged (its tensors would be larger than the file); {_REMEDY}")

"""Tensors and plain values in one safetensors file, sealed with a digest: our models and checkpoints.

The digest is a SHA-256 over the texts of the header and over names, dtypes, shapes and bytes of the tensors, so that no
bit can change unseen. What a file announces never exceeds its size: safetensors checks the table of its tensors
against the length of the file before anything is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dpa4_core.errors import DPA4Error

DIGEST = "digest"
_MAX_HEADER = 32 * 2**20
"""Bytes; the header of a large model has 100 kB."""


class Sealed(NamedTuple):
    """What such a file holds: texts by name, tensors by name, and whether a digest vouches for both."""

    texts: dict[str, str]
    tensors: dict[str, Tensor]
    sealed: bool


def digest_of(texts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the content of a file, whatever the order in it, 64 hex digits."""
    total = hashlib.sha256(json.dumps(sorted(texts.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        # a single number may have any stride and counts as contiguous still: only a copy has one of 1 for sure
        flat = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.reshape(-1))
        total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()


def sealed_bytes(texts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a file that `read_sealed` reads."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(tensors, metadata=dict(texts) | {DIGEST: digest_of(texts, tensors)})


def read_sealed(path: Path, remedy: str) -> Sealed:
    """The content of a file, whose digest, if it has one, was compared.

    Args:
        path: the file.
        remedy: what to do about a damaged one, the end of the sentence.

    Raises:
        DPA4Error: damaged, or no file of this kind; one sentence.
    """
    try:
        with path.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
        if length > _MAX_HEADER:
            raise DPA4Error(f"{path} is damaged (its header would have {length:,} bytes); {remedy}")
        with safe_open(path, framework="pt") as handle:
            texts = dict(handle.metadata() or {})
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 (not a mapping)
    except OSError as error:
        raise DPA4Error(f"{path} cannot be read ({error.strerror or 'no such file'}); {remedy}") from error
    except (SafetensorError, AttributeError) as error:  # the latter: a dtype that this torch does not know
        raise DPA4Error(f"{path} is damaged ({_reason(path)}); {remedy}") from error
    stored = texts.pop(DIGEST, None)
    if stored is not None and stored != digest_of(texts, tensors):
        raise DPA4Error(f"{path} is damaged (its content does not match the digest stored in it); {remedy}")
    return Sealed(texts, tensors, stored is not None)


def _reason(path: Path) -> str:
    """Why safetensors refuses a file, as far as its size tells."""
    size = path.stat().st_size
    if size == 0:
        return "it is empty"
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
    return "it is cut off" if length + 8 > size else "its table of tensors and its length do not agree"

"""When a batch was too large for the device."""

from __future__ import annotations

import torch

_SIGNS = ("out of memory", "can't allocate memory", "failed to allocate")


def is_out_of_memory(error: Exception) -> bool:
    """Whether ``error`` says that memory ran out, on whatever device; a smaller batch may then succeed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def release_memory() -> None:
    """Give the cached memory of a failed computation back; call it outside of the except clause."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

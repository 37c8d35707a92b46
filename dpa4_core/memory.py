"""When a batch was too large for the device."""

from __future__ import annotations

import torch

_SIGNS = (  # of PyTorch, CUDA, its libraries and C++, in lower case
    "out of memory",
    "out_of_memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate",
    "alloc_failed",
    "allocation failed",
    "allocation_failed",
    "memoryallocation",
    "bad_alloc",
)


def is_out_of_memory(error: Exception) -> bool:
    """Whether ``error`` says that memory ran out, on whatever device; a smaller batch may then succeed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def release_memory() -> None:
    """Give the cached memory of a failed computation back; call it outside of the except clause."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

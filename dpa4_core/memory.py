"""When a batch was too large for the device."""

from __future__ import annotations

import ctypes
import os
import sys

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's mallopt

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


def keep_freed_memory() -> None:
    """Let this process keep the memory of freed tensors for the next ones, where the C library is glibc.

    By default each large tensor is mapped anew and every page of it faults on first use, which costs a training step
    on the CPU about 5 % of its time and a force call 20 %. The process then does not shrink before it ends; the
    environment variable DPA4_KEEP_MEMORY=0 leaves the allocator alone.
    """
    if not sys.platform.startswith("linux") or os.environ.get("DPA4_KEEP_MEMORY") == "0":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries of Linux do not have it
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)

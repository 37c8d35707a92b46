"""How much memory there is, and when it was too little."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from pathlib import Path

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

_n_sharing = 1


def is_out_of_memory(error: Exception) -> bool:
    """Whether ``error`` says that memory ran out, on whatever device; a smaller batch may then succeed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def free_memory(device: torch.device) -> float:
    """Bytes that a computation on ``device`` may still take; infinite where nobody says.

    On a CPU the least of what the system has available and what the control group of the process leaves.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + cached)
    known = [_system_memory(), _group_memory()]
    return min((value for value in known if value is not None), default=math.inf)


def share_memory(n_processes: int) -> None:
    """Say among how many processes what is free is shared."""
    global _n_sharing
    _n_sharing = n_processes


def memory_share(device: torch.device) -> float:
    """Bytes that this process may take of what is free on ``device``, where others compute at the same time."""
    return free_memory(device) / (_n_sharing if device.type == "cpu" else 1)


def _system_memory() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return None
    available = next((line for line in lines if line.startswith("MemAvailable:")), None)
    return float(available.split()[1]) * 1024 if available else None


def _group_memory(folder: Path = Path("/sys/fs/cgroup")) -> float | None:
    """What batch systems and containers allow, by version 2 of control groups.

    What files of theirs the system keeps in memory counts as used, and gives way.
    """
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
        parts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    kept = float(parts["active_file"]) + float(parts["inactive_file"])
    return None if limit == "max" else max(float(limit) - float(used) + kept, 0.0)


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

"""Operations on one thread, where those of OpenMP cost more than they bring."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """What torch computes within takes one thread: others are busy with parts of their own, or not worth waking."""
    before = stay_on_one_thread()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def stay_on_one_thread() -> int:
    """Let what torch computes in the calling thread, and in no other, take one thread; the number before."""
    with _lock:
        before = torch.get_num_threads()
        if before > 1:
            torch.set_num_threads(1)
            # torch gives the number that was set last to each thread that begins to compute, for good
            other = threading.Thread(target=torch.set_num_threads, args=(before,))
            other.start()
            other.join()
    return before


def _new_lock() -> None:
    global _lock
    _lock = threading.Lock()


_lock: threading.Lock
_new_lock()
if hasattr(os, "register_at_fork"):  # not on Windows; who held it does not live on in a forked process
    os.register_at_fork(after_in_child=_new_lock)

"""Operations on one thread, where those of OpenMP cost more than they bring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """What torch computes within takes one thread: others are busy with parts of their own, or not worth waking."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

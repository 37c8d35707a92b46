"""Who is relaxing the phases of a chemical system: two processes share the work instead of doing it twice."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: work may be done twice there, with the same result
    fcntl = None  # type: ignore[assignment]

_SLOTS = 2**31 - 1


@contextmanager
def hold_systems(path: Path, systems: Iterable[str], *, wait: bool) -> Iterator[list[str]]:
    """Hold chemical systems while the block runs; gives those that are held.

    Each system is one byte of a lock file, and the operating system gives it back when the process ends, however it
    ends. A block that waits should ask for one system, or two processes might wait for each other.

    Args:
        path: the lock file, made if missing.
        systems: names of chemical systems.
        wait: wait for other processes; otherwise what they hold is left out.
    """
    names = sorted(set(systems))
    if fcntl is None:
        yield names
        return
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        held = []
        for name in names:
            slot = int(hashlib.sha256(name.encode()).hexdigest(), 16) % _SLOTS
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, slot)
            except BlockingIOError:
                continue
            held.append(name)
        yield held
    finally:
        os.close(file)

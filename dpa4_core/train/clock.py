"""What ends a run before its steps are done: time and signals."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_PACE_STEPS = 50
"""Steps that the pace is taken over: a machine may become busier during a run."""


class Clock:
    """Wall time of a run, from the start of this process on and in earlier ones.

    Args:
        limit: seconds for the run, 0 for no limit.
        save_every: seconds between checkpoints.
    """

    def __init__(self, limit: float, save_every: float) -> None:
        self.limit, self.save_every = limit, save_every
        self._began = self._last_save = time.monotonic()
        self._ticks = 0
        self._recent: deque[float] = deque(maxlen=_PACE_STEPS)

    def add(self, used: float) -> None:
        """Count ``used`` seconds of earlier processes."""
        self._began -= used

    def tick(self) -> float:
        """A step is done; seconds so far."""
        self._ticks += 1
        if self._ticks >= 2:  # the first steps compile and fill caches
            self._recent.append(time.monotonic())
        return time.monotonic() - self._began

    def steps_left(self) -> int:
        """Steps that fit into the rest of the time at the pace of the last ones, at least one."""
        now = time.monotonic()
        pace = (now - self._recent[0]) / max(len(self._recent) - 1, 1) if self._recent else 0.0
        return max(1, int((self.limit - (now - self._began)) / max(pace, 1e-9)))

    def share_is_over(self, share: float) -> bool:
        """Whether this share of the time has passed; never without a limit or before the pace is known."""
        return bool(self.limit) and self._ticks > 5 and time.monotonic() - self._began >= share * self.limit

    def is_over(self) -> bool:
        """Whether the time has passed."""
        return bool(self.limit) and time.monotonic() - self._began >= self.limit

    def save_is_due(self) -> bool:
        """Whether the last checkpoint is too old."""
        return time.monotonic() - self._last_save > self.save_every

    def saved(self) -> None:
        """A checkpoint was written."""
        self._last_save = time.monotonic()


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, so that a step is finished and stored; a second SIGINT interrupts."""
    stop = threading.Event()

    def handle(number: int, frame: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""What ends a run before its steps are done: time and signals."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_PACE_STEPS = 50
"""Steps that the pace is taken over: a machine may become busier during a run."""


class Clock:
    """Time of a run, from the start of this process on and in earlier ones.

    Args:
        limit: seconds for the run, 0 for no limit.
        save_every: seconds between checkpoints, 0 for none by time.
        now: seconds since whenever; by default that of the wall, or of the processor for a measurement on a busy
            machine.

    Attributes:
        reserve: seconds of the limit that are kept for what comes after the last step, a validation.
    """

    def __init__(self, limit: float, save_every: float, now: Callable[[], float] | None = None) -> None:
        self.limit, self.save_every, self.reserve = limit, save_every, 0.0
        self.now = now or time.monotonic
        self._began = self._last_save = self.now()
        self._from = self._share = self._share_before = 0.0
        self._recent: deque[float] = deque(maxlen=_PACE_STEPS)

    def add(self, used: float) -> None:
        """Count ``used`` seconds of earlier processes."""
        self._began -= used

    @property
    def seconds(self) -> float:
        """So far."""
        return self.now() - self._began

    def start(self, share: float) -> None:
        """The first step of this process comes; ``share`` of the run was done before."""
        self._from = self.seconds
        self._share = self._share_before = share

    def tick(self) -> float:
        """A step is done; seconds so far."""
        self._recent.append(self.now())
        return self.seconds

    def share(self) -> float:
        """Share of the time for steps that has passed, 0 ... 1; 0 without a limit. It never falls."""
        if self.limit:
            room = self.limit - self.reserve - self._from
            done = min((self.seconds - self._from) / room, 1.0) if room > 0 else 1.0
            self._share = max(self._share, self._share_before + (1 - self._share_before) * done)
        return self._share

    def steps_left(self) -> int:
        """Steps that fit into the rest of the time at the pace of the last ones."""
        if len(self._recent) < 2:
            return 0
        pace = (self._recent[-1] - self._recent[0]) / (len(self._recent) - 1)
        return max(0, round((self.limit - self.reserve - self.seconds) / max(pace, 1e-9)))

    def save_is_due(self) -> bool:
        """Whether the last checkpoint is too old."""
        return bool(self.save_every) and self.now() - self._last_save > self.save_every

    def saved(self) -> None:
        """A checkpoint was written."""
        self._last_save = self.now()


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

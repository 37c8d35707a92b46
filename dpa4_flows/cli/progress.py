"""Live progress of a run: a bar for each part of its work, plain lines where the console is no terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dpa4_core.errors import DPA4Error
from dpa4_flows.cli.console import err, remark, warn
from dpa4_flows.plots.words import duration
from dpa4_flows.runs import Part

_POLL_S = 0.5
_LINE_S = 30.0  # between two lines where there is no terminal
_SPEED_PERIOD_S = 900.0  # relaxations finish in bursts; a short memory would make the time left jump


class ConsoleWatch:
    """Shows on stderr what a run has to say.

    Args:
        quiet: show no progress.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def note(self, label: str, text: str) -> None:
        warn(label, text)

    def remark(self, text: str) -> None:
        remark(text)

    def showing(self, parts: Callable[[], Sequence[Part]]) -> Showing:
        return Showing(parts, err, quiet=self._quiet)


class Showing:
    """Shows the parts of some work while the block runs.

    Args:
        parts: asked now and then.
        console: where to show them.
        quiet: say nothing.
    """

    def __init__(self, parts: Callable[[], Sequence[Part]], console: Console, *, quiet: bool = False) -> None:
        self._parts, self._console, self._quiet = parts, console, quiet
        self._bar = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[count]:>9}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[words]}"),
            console=console,
            speed_estimate_period=_SPEED_PERIOD_S,
            disable=quiet or not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._finished: set[str] = set()
        self._began: dict[str, tuple[float, float]] = {}
        self._last_line = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="dpa4-progress", daemon=True)

    def __enter__(self) -> Self:
        if not self._quiet:
            self._bar.start()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._quiet:
            return
        self._stop.set()
        self._thread.join()
        if error is None:
            self._update(last=True)
        self._bar.stop()

    def _watch(self) -> None:
        pause = _POLL_S
        while not self._stop.wait(pause):
            started = time.monotonic()
            try:
                self._update()
            except (DPA4Error, OSError):  # busy files: the display waits, and the run says what is wrong
                continue
            pause = max(_POLL_S, 20 * (time.monotonic() - started))  # at most 5 % of a core

    def _update(self, *, last: bool = False) -> None:
        for part in self._parts():
            if part.title in self._finished:
                continue
            if self._console.is_terminal:
                self._bring_up_to_date(part)
            elif part.finished or last or time.monotonic() - self._last_line > _LINE_S:
                self._line(part)
            if part.finished:
                self._finished.add(part.title)

    def _bring_up_to_date(self, part: Part) -> None:
        if part.title not in self._tasks:
            self._tasks[part.title] = self._bar.add_task(part.title, total=part.total, count="", words="")
        task = self._tasks[part.title]
        self._bar.update(task, total=part.total, completed=part.done, count=part.count, words=part.words)
        if part.finished:
            self._bar.stop_task(task)

    def _line(self, part: Part) -> None:
        """One line for a log."""
        self._last_line = now = time.monotonic()
        before, since = self._began.setdefault(part.title, (part.done, now))
        left = ""
        if not part.finished and before < part.done < part.total:
            left = f"{duration((part.total - part.done) * (now - since) / (part.done - before))} left"
        line = f"{part.title:<24} {part.count:>9}  {', '.join(filter(None, (part.words, left)))}"
        self._console.print(line.rstrip(), highlight=False, markup=False)

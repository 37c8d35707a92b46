"""The progress bar of a run: steps, nanoseconds per day, time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text


class _Speed(ProgressColumn):
    """Steps per second, and what that makes of a day."""

    def __init__(self, timestep_fs: float) -> None:
        super().__init__()
        self._timestep_fs = timestep_fs

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text("")
        return Text(f"{speed:.3g} steps/s, {speed * self._timestep_fs * 86400 / 1e6:.3g} ns/day")


@contextmanager
def step_bar(
    total: int, done: int, timestep_fs: float, *, shown: bool, description: str = "md"
) -> Iterator[Callable[[int], None]]:
    """A bar on stderr; yields the function that counts steps."""
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), _Speed(timestep_fs), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        task = progress.add_task(description, total=total, completed=done)
        yield lambda steps: progress.advance(task, steps)

"""One progress bar for everything that works through structures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g} structures/s")


@contextmanager
def structure_bar(
    description: str, total: int, *, done: int = 0, shown: bool = True
) -> Iterator[Callable[[int], None]]:
    """A bar on stderr with structures per second; yields the function that counts finished structures.

    Args:
        description: what is done.
        total: structures.
        done: of them before the start, which do not count as speed.
        shown: whether to show anything.
    """
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as progress:
        task = progress.add_task(description, total=total, completed=done)
        yield lambda more: progress.advance(task, more)

"""Live progress of a run, read from its results table: one line per stage, time left where structures are computed.

The table is all that is needed, so the display works for a run in this process and would for one elsewhere; it
costs the computation nothing but a query now and then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pymatgen.core import Structure
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dpa4_flows.campaigns.battery import STAGES, BatteryRun, charged_structures
from dpa4_flows.makers.references import reference_sizes
from dpa4_flows.makers.sources import find_structures
from dpa4_flows.report.labels import stage_title
from dpa4_flows.results import ResultsError, ResultsTable

_POLL_S = 0.5
_LINE_S = 30.0  # between two lines where there is no terminal
_SPEED_PERIOD_S = 900.0  # relaxations finish in bursts; a short memory would make the time left jump

_RELAXATIONS = {"relax": "duplicates", "relax_charged": "delithiate"}
"""Stages that compute structures, and the stage whose survivors these are."""

REFERENCES = "references"
"""The step between two stages that relaxes competing phases; it judges no candidate."""

_STEPS = tuple(step for stage in STAGES for step in ((REFERENCES, stage) if stage == "hull" else (stage,)))


@dataclass
class _Work:
    """Calculations of one step: atoms by key, as a measure of time."""

    atoms: dict[str, int]
    done: set[str]


class RunProgress:
    """Shows the progress of a run while the block runs; plain lines where the console is no terminal.

    Args:
        run: the run.
        console: where to show it.
    """

    def __init__(self, run: BatteryRun, console: Console) -> None:
        self._run = run
        self._table: ResultsTable = run.open()
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[count]:>9}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[verdict]}"),
            console=console,
            speed_estimate_period=_SPEED_PERIOD_S,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._finished: set[str] = set()
        self._work: dict[str, _Work] = {}
        self._last_line = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="dpa4-progress", daemon=True)

    def __enter__(self) -> Self:
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if error is None:
            self._update()
        self._bar.stop()

    def _watch(self) -> None:
        pause = _POLL_S
        while not self._stop.wait(pause):
            started = time.monotonic()
            try:
                self._update()
            except ResultsError:  # a busy table: the display waits, and the run itself says what is wrong
                continue
            pause = max(_POLL_S, 20 * (time.monotonic() - started))  # at most 5 % of a core

    def _update(self) -> None:
        """Bring the display up to date with the table."""
        counts = self._table.stage_counts()
        for step in _STEPS:
            if step in self._finished:
                continue
            if step in counts:
                entered = sum(counts[step].values())
                self._finish(step, entered, _verdict(counts[step]))
                continue
            if step == REFERENCES and "hull" in counts:
                self._finish(step, len(self._table.get_meta("references", [])), "")
                continue
            self._advance(step)
            return

    def _advance(self, step: str) -> None:
        """Show how far the current step is, if it computes anything."""
        if step not in self._work:
            self._work[step] = _Work(self._calculations(step), set())
        work = self._work[step]
        if not work.atoms:
            del self._work[step]  # not known yet
            return
        if self._console.is_terminal and step not in self._tasks:
            self._tasks[step] = self._bar.add_task(_title(step), total=sum(work.atoms.values()), count="", verdict="")
        work.done |= self._table.existing_keys(work.atoms.keys() - work.done)
        if step in self._tasks:
            self._bar.update(
                self._tasks[step],
                completed=sum(work.atoms[key] for key in work.done),
                count=f"{len(work.done)}/{len(work.atoms)}",
            )
        elif time.monotonic() - self._last_line > _LINE_S:
            self._line(step, f"{len(work.done)}/{len(work.atoms)}", "")

    def _finish(self, step: str, count: int, verdict: str) -> None:
        self._finished.add(step)
        if not self._console.is_terminal:
            self._line(step, str(count), verdict)
            return
        if step not in self._tasks:
            self._tasks[step] = self._bar.add_task(_title(step), total=1, count="", verdict="")
        task = self._tasks[step]
        total = next(t.total for t in self._bar.tasks if t.id == task)
        self._bar.update(task, completed=total, count=str(count), verdict=verdict)
        self._bar.stop_task(task)

    def _line(self, step: str, count: str, verdict: str) -> None:
        """One line for a log."""
        self._last_line = time.monotonic()
        self._console.print(f"{_title(step):<24} {count:>9}  {verdict}".rstrip(), highlight=False)

    def _calculations(self, step: str) -> dict[str, int]:
        """Keys and sizes of the structures that a step computes; empty if it computes none or has not begun."""
        maker = self._run.relax_maker(step, charged=step == "relax_charged")
        structures: Sequence[Structure] = ()
        if step == REFERENCES:
            return reference_sizes(self._table)
        if step == "relax":
            structures = find_structures(self._table, self._table.survivors(_RELAXATIONS[step]))
        if step == "relax_charged":
            structures = charged_structures(self._table, self._table.survivors(_RELAXATIONS[step]))
        return {maker.key(structure): len(structure) for structure in structures}


def _title(step: str) -> str:
    return "Competing phases" if step == REFERENCES else stage_title(step)


def _verdict(counts: dict[str, int]) -> str:
    """``7 go on, 2 rejected``."""
    on = counts.get("passed", 0) + counts.get("flagged", 0)
    parts = [f"{on} go on"]
    if rejected := counts.get("failed", 0):
        parts.append(f"{rejected} rejected")
    if errors := counts.get("error", 0):
        parts.append(f"{errors} failed")
    return ", ".join(parts)

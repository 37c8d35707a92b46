"""`dpa4 relax` and `dpa4 predict` into a run folder or a Parquet file, and what `status` and `export` say of them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer

from dpa4_core.errors import DPA4Error
from dpa4_core.progress import structure_bar
from dpa4_flows.cli.console import err, print_json, remark, say, warn
from dpa4_flows.cli.lazy import SOME_FAILED, USER_ERROR
from dpa4_flows.large.claims import file_time, read_workers
from dpa4_flows.large.export import export_run
from dpa4_flows.large.folder import COMMANDS, RunFolder, Task, is_run_folder, open_folder, prepare_folder
from dpa4_flows.large.inputs import distinct, fingerprint
from dpa4_flows.large.launch import Ended, Resources, run_workers, share
from dpa4_flows.large.rows import Row
from dpa4_flows.large.summary import Summary, count_done, summarise
from dpa4_flows.large.worker import RunWorker
from dpa4_flows.model_ref import ModelRef

STOPPED = 130  # as a shell says it of Ctrl-C
_LINE_S = 30.0  # between two lines where there is no terminal
_LOOK_S = 0.5


@dataclass(frozen=True)
class RunOptions:
    """How to go about a run, on top of what is computed.

    Attributes:
        n_workers: processes on this machine.
        resources: of all of them together, or of the only one.
        retry_errors: compute failures again.
        as_json: counts as JSON on stdout.
    """

    n_workers: int
    resources: Resources
    retry_errors: bool
    as_json: bool


def run_task(model: str, settings: dict[str, Any], *, with_forces: bool) -> Task:
    """What a run computes; loads the model, whose checksum identifies the results.

    Args:
        model: as on the command line.
        settings: as `dpa4_flows.calculations` makes them.
        with_forces: whether results hold forces.
    """
    reference = ModelRef(model, dtype=settings["dtype"]).resolve()
    return Task(settings["calculation"], reference, settings, with_forces, reference.info().level_of_theory)


def run_large(inputs: Sequence[Path], output: Path, task: Task, options: RunOptions) -> None:
    """Compute what is missing in a run folder, or in the one behind a Parquet file, and say what came out."""
    files = distinct(inputs)
    single = output.suffix.lower() == ".parquet"
    folder = output.with_name(f".{output.name}.run") if single else output
    if single and output.exists() and not is_run_folder(folder):
        _refuse_other_file(output, task, files)
        say(f"{output} is complete")
        return
    run = _prepare(folder, task, files, options)
    try:
        _compute(run, files, task.model, options)
    except KeyboardInterrupt:
        remark(f"stopped; the same command goes on, and `dpa4 status {folder}` shows what is there")
        raise typer.Exit(STOPPED) from None
    summary = summarise(run)
    if single:
        export_run(run, output)
        shutil.rmtree(folder)
    finish(summary, output, as_json=options.as_json)


def finish(summary: Summary, output: Path, *, as_json: bool) -> None:
    """Say what came out; exit with 3 if something failed, with 1 if everything did."""
    if as_json:
        print_json(summary.to_dict())
    else:
        print_summary(summary, output)
    if summary.n_failed or summary.n_unconverged:
        raise typer.Exit(USER_ERROR if summary.n_failed == summary.n_structures else SOME_FAILED)


def print_summary(summary: Summary, output: Path) -> None:
    """Counts, and the first of what did not work."""
    good = summary.n_done - summary.n_failed - summary.n_unconverged
    say(f"{output}: {summary.n_done:,} of {summary.n_structures:,} structures done")
    say(f"  {good:,} fine, {summary.n_unconverged:,} not converged, {summary.n_failed:,} failed")
    if summary.n_flagged:
        say(f"  {summary.n_flagged:,} deserve a look, see the columns `flags` and `warnings`")
    if summary.n_workers and not summary.complete:
        say(f"  {summary.n_workers} at work, {summary.per_second:.3g} structures/s, {_left(summary.seconds_left)}")
    for source, error in summary.failures:
        warn("failed", error if source.rpartition("/")[2] in error else f"{source}: {error}", "bold red")
    if summary.n_failed > len(summary.failures):
        warn("failed", f"and {summary.n_failed - len(summary.failures):,} more, in the column `error`", "bold red")
    for source in summary.unconverged:
        warn("not converged", f"{source}; raise --max-steps", "bold yellow")
    if summary.n_unconverged > len(summary.unconverged):
        warn("not converged", f"and {summary.n_unconverged - len(summary.unconverged):,} more", "bold yellow")


def print_run_status(folder: Path, *, as_json: bool) -> None:
    """What `dpa4 status` says of a run folder."""
    run = open_folder(folder)
    summary = summarise(run)
    if as_json:
        print_json({**run.facts(), "created": run.created, "inputs": run.inputs, **summary.to_dict()})
        return
    print_summary(summary, folder)
    settings = ", ".join(f"{name} {value}" for name, value in run.task.settings.items())
    say(f"  model {run.task.model.name} ({str(run.task.model.sha256)[:12]}…), {settings}")
    if not summary.complete and not summary.n_workers:
        say("  nobody is at work; the command that made it goes on")


class Meter:
    """Progress of a run on stderr: a bar on a terminal, a line now and then in a log.

    Args:
        verb: what is done.
        total: structures of the run.
        done: of them before.
        quiet: show no bar.
    """

    def __init__(self, verb: str, total: int, done: int, *, quiet: bool) -> None:
        self._verb, self._total, self._before = verb, total, done
        self._shown = err.is_terminal and not quiet
        self._new = self._failed = 0
        self._started = self._last = time.monotonic()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        bar = structure_bar(self._verb, self._total, done=self._before, shown=self._shown)
        self._advance = self._stack.enter_context(bar)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        if not self._shown and self._new:
            self._line()

    def show(self, new: int, failed: int) -> None:
        """Bring the display up to date: structures done and failed since the start."""
        self._advance(new - self._new)
        self._new, self._failed = new, failed
        if not self._shown and time.monotonic() - self._last >= _LINE_S:
            self._line()

    def _line(self) -> None:
        self._last = time.monotonic()
        rate = self._new / max(1e-9, self._last - self._started)
        done = self._before + self._new
        left = _left((self._total - done) / rate if rate else None)
        remark(f"{self._verb}: {done:,} of {self._total:,}, {rate:.3g} structures/s, {self._failed:,} failed, {left}")


def _prepare(folder: Path, task: Task, files: Sequence[Path], options: RunOptions) -> RunFolder:
    last = time.monotonic()

    def counted(total: int) -> None:
        nonlocal last
        if time.monotonic() - last > (_LOOK_S if err.is_terminal else _LINE_S):
            last = time.monotonic()
            if err.is_terminal:
                status.update(f"counting structures: {total:,}")
            else:
                remark(f"counting structures: {total:,}")

    with err.status("counting structures") as status:
        return prepare_folder(folder, task, files, counted)


def _compute(run: RunFolder, files: Sequence[Path], model: ModelRef, options: RunOptions) -> None:
    since = file_time(run.path / "workers") if options.retry_errors else None
    before = count_done(run)
    if before:
        remark(f"{before:,} of {run.n_structures:,} structures were computed before")
    if since is not None:
        before -= summarise(run).n_failed
    elif not run.unfinished():
        return
    verb = COMMANDS[run.task.calculation]
    with Meter(verb, run.n_structures, before, quiet=options.as_json) as meter:
        if options.n_workers > 1:
            _compute_with_others(run, files, model, options, since, meter)
        else:
            _compute_here(run, files, model, options, since, meter)


def _compute_here(
    run: RunFolder, files: Sequence[Path], model: ModelRef, options: RunOptions, since: float | None, meter: Meter
) -> None:
    new = failed = 0
    last = time.monotonic()

    def count(row: Row) -> None:
        nonlocal new, failed, last
        new, failed = new + 1, failed + (row.get("error") is not None)
        if time.monotonic() - last > _LOOK_S:
            last = time.monotonic()
            meter.show(new, failed)

    if options.resources.threads:
        torch.set_num_threads(options.resources.threads)
    RunWorker(
        run,
        files,
        replace(model, device=options.resources.device).load(),
        max_atoms_per_batch=options.resources.max_atoms_per_batch,
        retry_since=since,
        on_result=count,
    ).work()
    meter.show(new, failed)


def _compute_with_others(
    run: RunFolder, files: Sequence[Path], model: ModelRef, options: RunOptions, since: float | None, meter: Meter
) -> None:
    before = _counts(run)

    def look() -> None:
        now = _counts(run)
        meter.show(now[0] - before[0], now[1] - before[1])

    def ended(process: Ended) -> None:
        warn("worker", f"{process.number} has ended: {process.why} (more in {process.log})")

    resources = share(options.resources, options.n_workers)
    run_workers(run, files, model, resources, retry_since=since, look=look, ended=ended)
    look()


def _counts(run: RunFolder) -> tuple[int, int]:
    """Structures that all processes of the run have done, and those of them that failed."""
    workers = read_workers(run.path / "workers").values()
    return sum(w["n_done"] for w in workers), sum(w["n_failed"] for w in workers)


def _refuse_other_file(path: Path, task: Task, files: Sequence[Path]) -> None:
    """Refuse to overwrite a Parquet file with results of anything else."""
    try:
        facts: dict[str, Any] = json.loads((pq.read_schema(path).metadata or {})[b"dpa4"])
    except (KeyError, ValueError, OSError, pa.ArrowException):
        raise DPA4Error(f"{path} exists and is not of this program; give another name") from None
    if any(facts.get(key) != value for key, value in task.identity().items()):
        raise DPA4Error(f"{path} holds results of another model or other settings; give another name")
    if facts["fingerprint"] != fingerprint(files):
        raise DPA4Error(f"{path} holds results of another input; give another name")


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "time left unknown"
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} left"
    return f"{seconds:.0f} s left"

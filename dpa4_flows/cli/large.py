"""`dpa4 relax` and `dpa4 predict` into a run folder or a Parquet file."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from dpa4_core.errors import DPA4Error
from dpa4_flows.cli.console import end, err, print_json, remark, say
from dpa4_flows.cli.progress import ConsoleWatch
from dpa4_flows.cli.run_output import INTERRUPTED, show_notes, show_status
from dpa4_flows.large.export import export_run, unpack
from dpa4_flows.large.folder import RunFolder, Task, is_run_folder, prepare_folder
from dpa4_flows.large.inputs import distinct, fingerprint
from dpa4_flows.large.summary import Summary, summarise, summarise_file
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.runs import How
from dpa4_flows.runs.large import LargeRun, Workers, compute, notes_of

_LINE_S = 30.0  # between two lines where there is no terminal
_LOOK_S = 0.5


@dataclass(frozen=True)
class RunOptions:
    """How to go about a run, on top of what is computed.

    Attributes:
        workers: who computes.
        retry_errors: compute failures again.
        as_json: counts as JSON on stdout.
    """

    workers: Workers
    retry_errors: bool
    as_json: bool


def run_task(model: ModelRef, settings: dict[str, Any], *, with_forces: bool) -> Task:
    """What a run computes; loads the model, whose checksum identifies the results.

    Args:
        model: that computes.
        settings: as `dpa4_flows.documents.calculations` makes them.
        with_forces: whether results hold forces.
    """
    reference = replace(model, device="auto").resolve()
    return Task(settings["calculation"], reference, settings, with_forces, reference.info().level_of_theory)


def run_large(inputs: Sequence[Path], output: Path, task: Task, options: RunOptions) -> None:
    """Compute what is missing in a run folder, or in the one behind a Parquet file, and say what came out."""
    files = distinct(inputs)
    single = output.suffix.lower() == ".parquet"
    folder = output.with_name(f".{output.name}.run") if single else output
    before = None
    if single and output.exists() and not is_run_folder(folder):
        _refuse_other_file(output, task, files)
        before = summarise_file(output)
        if not (options.retry_errors and before.n_failed):
            if options.as_json:
                print_json(before.to_dict())
            else:
                say(f"{output} is complete: {before.words}")
                show_notes(notes_of(before))
            _end(before)
            return
    run = _prepare(folder, task, files)
    if before is not None:
        unpack(output, run)
    how = How(ConsoleWatch(quiet=options.as_json), retry_errors=options.retry_errors)
    try:
        compute(run, files, task.model, how, options.workers)
    except KeyboardInterrupt:
        remark(f"stopped; the same command goes on, and `dpa4 status {folder}` shows what is there")
        raise typer.Exit(INTERRUPTED) from None
    done, summary = LargeRun.open(folder), summarise(run)
    status = done.status()
    if options.as_json:
        print_json(status.to_dict())
    else:
        show_status(done, status, name=output)
    if single:
        export_run(run, output)
        shutil.rmtree(folder)
    _end(summary)


def _end(summary: Summary) -> None:
    """Exit with 3 if something failed or did not converge, with 1 if everything failed."""
    end(summary.n_failed, summary.n_structures, unfinished=summary.n_unconverged > 0)


def _prepare(folder: Path, task: Task, files: Sequence[Path]) -> RunFolder:
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
    n_rows, n_structures = pq.read_metadata(path).num_rows, facts.get("n_structures")
    if n_structures not in (None, n_rows):  # exported on the way
        raise DPA4Error(f"{path} holds {n_rows:,} of {n_structures:,} structures; give another name")

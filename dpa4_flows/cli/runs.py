"""`dpa4 status`, `resume`, `report`, `export`: one set of answers for every folder that this program filled."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dpa4_flows.cli.console import out, print_json, remark, say, warn
from dpa4_flows.cli.lazy import SOME_FAILED
from dpa4_flows.cli.options import AsJson
from dpa4_flows.cli.progress import ConsoleWatch
from dpa4_flows.runs import How, Outcome, Run, RunStatus, open_run
from dpa4_flows.runs.export import StructureFormat
from dpa4_flows.runs.export import export as export_results

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""
STOPPED = 75
"""Exit code: stopped by a signal, and the same command goes on (EX_TEMPFAIL of sysexits.h)."""

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, for example runs/battery.")]
LaunchPadFile = Annotated[
    Path | None, typer.Option(help="my_launchpad.yaml of a FireWorks run; default: where FireWorks finds it.")
]
RetryErrors = Annotated[
    bool, typer.Option("--retry-errors", help="Compute again what failed before; want of memory always is.")
]

app = typer.Typer()


@app.command()
def status(
    run: RunFolder,
    launchpad: LaunchPadFile = None,
    everyone: Annotated[bool, typer.Option("--all", help="List every candidate, ranked or not.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False,
) -> None:
    """How far a run is: candidates per stage, who left where and why, and the ranking if there is one; for a training
    run the step and the errors so far; for the folder of a large relaxation or prediction counts, rate and failures;
    for molecular dynamics the averages so far.

    For example:

      dpa4 status runs/battery
    """
    found = open_run(run, launchpad)
    answer = found.status()
    if as_json:
        print_json({"kind": found.kind, **answer.to_dict()})
        return
    show_status(found, answer, everyone=everyone)


@app.command()
def resume(
    run: RunFolder,
    launchpad: LaunchPadFile = None,
    retry_errors: RetryErrors = False,
    as_json: AsJson = False,
) -> None:
    """Continue a run that was stopped, with the settings and structures that are stored in its folder: a campaign, a
    large relaxation or prediction, a training, molecular dynamics.

    For example:

      dpa4 resume runs/battery
    """
    found = open_run(run, launchpad)
    how = How(ConsoleWatch(quiet=as_json), retry_errors)
    with interruptible(f"dpa4 resume {run}"):
        outcome = found.resume(how)
    present(found, outcome, as_json=as_json)


@app.command()
def report(
    run: RunFolder,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="HTML", help="Default: report.html in the run folder."),
    ] = None,
) -> None:
    """Write the report of a run as one HTML file that needs no network, finished or not.

    For example:

      dpa4 report runs/battery
    """
    found = open_run(run)
    path = output or found.page
    found.report(path)
    say(f"wrote {path}")


@app.command()
def export(
    run: RunFolder,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="FILE.csv, .json or .extxyz (with relaxed structures); of a large run also .parquet. Or a FOLDER, for "
            "a CIF file of each structure and index.csv, where all candidates stand with stage and verdict.",
        ),
    ],
    structure_format: Annotated[
        StructureFormat, typer.Option("--format", help="Of the structures in a folder: cif or poscar.")
    ] = "cif",
    everyone: Annotated[
        bool, typer.Option("--all", help="In a folder, also the structures of candidates that left.")
    ] = False,
) -> None:
    """Write every candidate of a run, rejected ones included, or the results of a large run, for other programs; or the
    structures that are left as files.

    For example:

      dpa4 export runs/battery -o battery.csv

      dpa4 export runs/battery -o relaxed.extxyz

      dpa4 export runs/battery -o survivors/ --format poscar
    """
    written = export_results(open_run(run), output, structure_format, everyone=everyone)
    say(f"wrote {written} to {output}")


def show_status(run: Run, answer: RunStatus, *, everyone: bool = False, name: Path | None = None) -> None:
    """Print how far a run is and what came out.

    Args:
        run: the run.
        answer: its status.
        everyone: all lines of long tables.
        name: what to call it; by default its folder.
    """
    say(f"{name or run.folder}: {answer.words}")
    run.show(out, everyone=everyone)
    if answer.next_step:
        say(answer.next_step)
    for note in answer.notes:
        warn(note.label, note.text, note.style)


def present(run: Run, outcome: Outcome, *, as_json: bool) -> None:
    """Show what became of a run, and exit with 3 if something could not be computed."""
    if as_json:
        files = {key: str(path) for key, path in outcome.files.items()}
        print_json({"folder": str(run.folder), "reused": outcome.reused, **files, **outcome.facts})
    elif outcome.words:
        for line in outcome.words:
            say(line)
    else:
        if outcome.reused:
            say(f"{run.folder} was complete before; nothing was computed")
        show_status(run, run.status())
        for label, path in outcome.files.items():
            say(f"{label}: {path}")
    if outcome.n_failed:
        warn("note", f"{outcome.n_failed:,} could not be computed; the report lists the reasons")
        raise typer.Exit(SOME_FAILED)


@contextmanager
def interruptible(again: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block with a line that says how to go on."""
    by_signal = False

    def stop(number: int, frame: object) -> None:
        nonlocal by_signal
        by_signal = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        remark(f"\nstopped; what is computed is kept. Continue with: {again}")
        raise typer.Exit(STOPPED if by_signal else INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)

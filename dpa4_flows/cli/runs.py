"""`dpa4 status`, `report`, `export`: what is in a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dpa4_flows import report as reports
from dpa4_flows.campaigns.run import open_run
from dpa4_flows.cli.console import out, plural, print_json, remark, say, warn
from dpa4_flows.cli.large import print_run_status
from dpa4_flows.cli.train_output import print_training_status
from dpa4_flows.engines import EngineError, fireworks_state
from dpa4_flows.large.export import export_run
from dpa4_flows.large.folder import is_run_folder, open_folder
from dpa4_flows.report.collect import take_snapshot
from dpa4_flows.report.training import write_training_report
from dpa4_flows.results import ResultsTable
from dpa4_flows.training import TrainingRun, is_running, is_training_folder, measure, read_run

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, for example runs/battery.")]

app = typer.Typer()


@app.callback()
def _family() -> None:
    """Runs."""


@app.command()
def status(
    run: RunFolder,
    launchpad: Annotated[
        Path | None,
        typer.Option(help="my_launchpad.yaml of a FireWorks run; default: where FireWorks finds it."),
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="List every candidate, ranked or not.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False,
) -> None:
    """How far a run is: candidates per stage, who left where and why, and the ranking if there is one; for a training
    run the step and the errors so far; for the folder of a large relaxation or prediction counts, rate and failures.

    For example:

      dpa4 status runs/battery
    """
    if is_run_folder(run):
        print_run_status(run, as_json=as_json)
        return
    if is_training_folder(run):
        training = read_run(run)
        if as_json:
            print_json(_training_status(training))
        else:
            print_training_status(training)
        return
    table = open_run(run)
    fireworks = _fireworks(table, launchpad)
    if as_json:
        print_json(_status(table, fireworks))
        return
    state = table.get_meta("state", "not started")
    say(f"{run}: {state}, engine {table.get_meta('engine', 'local')}")
    if fireworks is not None:
        counts = ", ".join(f"{count} {name}" for name, count in fireworks.items()) or "none left on the LaunchPad"
        say(f"Fireworks: {counts}")
    reports.print_funnel(table, out, limit=None if everyone else 50)
    if table.ranking():
        reports.print_ranking(table, out, limit=None if everyone else 50)
    if state != "complete" and fireworks is None:
        say(f"continue with: dpa4 resume {run}")


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
    path = output or run / "report.html"
    if is_training_folder(run):
        measure(run, notify=lambda text: remark(f"computing {text}"))
        say(f"wrote {write_training_report(run, path)}")
        return
    table = open_run(run)
    reports.write_report(table, path)
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
            help="FILE.csv, .json or .extxyz (with relaxed structures); of a large run also .parquet.",
        ),
    ],
) -> None:
    """Write every candidate of a run, rejected ones included, or the results of a large run, for other programs.

    For example:

      dpa4 export runs/battery -o battery.csv

      dpa4 export runs/battery -o relaxed.extxyz
    """
    if is_run_folder(run):
        large = open_folder(run)
        written = export_run(large, output)
        say(f"wrote {plural(written, 'structure')} of {large.n_structures} to {output}")
        return
    reports.export(open_run(run), output)
    say(f"wrote {output}")


def _fireworks(table: ResultsTable, launchpad: Path | None) -> dict[str, int] | None:
    """Fireworks by state; None for a local run or when the database does not answer."""
    ids = table.get_meta("fireworks")
    if not ids:
        return None
    try:
        return fireworks_state(ids, launchpad)
    except EngineError as error:
        warn("note", f"{error}")
        return None


def _training_status(run: TrainingRun) -> dict[str, Any]:
    return {
        "state": "finished" if run.end is not None else "running" if is_running(run.folder) else "stopped",
        "name": run.config["name"],
        "step": run.step,
        "end": run.last_step,
        "seconds": run.seconds,
        "skipped": len(run.skipped),
        "training": run.train[-1] if run.train else None,
        "best": run.best,
    }


def _status(table: ResultsTable, fireworks: dict[str, int] | None) -> dict[str, Any]:
    snapshot = take_snapshot(table)
    return {
        "state": snapshot.meta.get("state"),
        "engine": snapshot.meta.get("engine"),
        "campaign": (snapshot.meta.get("campaign") or {}).get("campaign", {}).get("name"),
        "model": snapshot.model,
        "started": snapshot.meta.get("started"),
        "finished": snapshot.meta.get("finished"),
        "fireworks": fireworks,
        "stages": [stage._asdict() for stage in snapshot.stages],
        "candidates": [
            {
                "candidate_id": row.candidate_id,
                "formula": row.formula,
                "stage": row.outcome.stage,
                "status": row.outcome.status,
                "reasons": [reason.model_dump() for reason in row.reasons],
            }
            for row in snapshot.rows()
        ],
        "ranking": [row.model_dump(mode="json") for row in table.ranking()],
        "calculations": snapshot.calculations._asdict(),
    }

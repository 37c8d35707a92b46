"""`dpa4 status`, `resume`, `report`, `export`: one set of answers for every folder that this program filled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpa4_flows.cli.console import print_json, say
from dpa4_flows.cli.options import OUTPUT, AsJson, RetryErrors
from dpa4_flows.cli.progress import ConsoleWatch
from dpa4_flows.cli.run_output import interruptible, present, show_status
from dpa4_flows.cli.targets import a_file, a_file_or_folder, a_folder
from dpa4_flows.runs import How
from dpa4_flows.runs.export import StructureFormat
from dpa4_flows.runs.export import export as export_results
from dpa4_flows.runs.kinds import open_run

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, for example runs/battery.")]
LaunchPadFile = Annotated[
    Path | None, typer.Option(help="my_launchpad.yaml of a FireWorks run; default: where FireWorks finds it.")
]
app = typer.Typer()


@app.command()
def status(
    run: RunFolder,
    launchpad: LaunchPadFile = None,
    everyone: Annotated[bool, typer.Option("--all", help="List every candidate, ranked or not.")] = False,
    as_json: AsJson = False,
) -> None:
    """How far a run is: candidates per stage, who left where and why, and the ranking if there is one; for a training
    run the step and the errors so far; for the folder of a large relaxation or prediction counts, rate and failures;
    for properties the answers, for molecular dynamics the averages so far.

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
    """Continue a run that was stopped, with the settings and structures that are stored in its folder: a campaign,
    properties, a large relaxation or prediction, a training, molecular dynamics.

    For example:

      dpa4 resume runs/battery
    """
    found = open_run(run, launchpad)
    a_folder(run if run.is_dir() else run.parent)
    how = How(ConsoleWatch(quiet=as_json), retry_errors)
    with interruptible(f"dpa4 resume {run}"):
        outcome = found.resume(how)
    present(found, outcome, as_json=as_json)


@app.command()
def report(
    run: RunFolder,
    output: Annotated[
        Path | None,
        typer.Option(*OUTPUT, metavar="HTML", callback=a_file, help="Default: report.html in the run folder."),
    ] = None,
) -> None:
    """Write the report of a run as one HTML file that needs no network, finished or not.

    For example:

      dpa4 report runs/battery
    """
    found = open_run(run)
    path = output or found.page
    if output is None:
        a_file(path)
    found.report(path)
    say(f"wrote {path}")


@app.command()
def export(
    run: RunFolder,
    output: Annotated[
        Path,
        typer.Option(
            *OUTPUT,
            metavar="OUT",
            callback=a_file_or_folder,
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

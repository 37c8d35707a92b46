"""`dpa4 init`, `screen`: campaigns from a file to a ranked table."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from dpa4_flows.bundled import bundled_campaigns
from dpa4_flows.campaigns.bundled import copy_campaign, find_campaign
from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.campaigns.plan import Plan, plan_campaign
from dpa4_flows.campaigns.run import Engine
from dpa4_flows.cli.console import out, print_json, remark, say, warn
from dpa4_flows.cli.options import ANEW, OUTPUT, AsJson, RetryErrors
from dpa4_flows.cli.progress import ConsoleWatch
from dpa4_flows.cli.run_output import interruptible, present
from dpa4_flows.cli.targets import a_folder
from dpa4_flows.runs import How
from dpa4_flows.runs.campaign import Assignment, CampaignRun

LaunchPadFile = Annotated[
    Path | None,
    typer.Option(help="my_launchpad.yaml for --engine fireworks; default: where FireWorks finds it."),
]
app = typer.Typer()


@app.command()
def init(
    campaign: Annotated[str, typer.Argument(help=f"Name of a bundled campaign: {', '.join(bundled_campaigns())}.")],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", callback=a_folder, help="Where to; default: a folder of that name."),
    ] = None,
) -> None:
    """Copy a bundled campaign, to change its structures and thresholds.

    For example:

      dpa4 init battery my-cathodes
    """
    target = folder or Path(campaign)
    for path in copy_campaign(campaign, target):
        say(f"wrote {path}")
    say(f"next: dpa4 screen {target / 'campaign.toml'}")


@app.command()
def screen(
    campaign: Annotated[
        str, typer.Argument(metavar="CAMPAIGN", help="Campaign file, or the name of a bundled campaign.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and say what would be computed.")
    ] = False,
    engine: Annotated[
        Engine, typer.Option(help="local: in this process; fireworks: on the workers of a LaunchPad.")
    ] = "local",
    folder: Annotated[
        Path | None,
        typer.Option(
            *OUTPUT, metavar="FOLDER", callback=a_folder, help="Run folder; default: runs/NAME beside the file."
        ),
    ] = None,
    launchpad: LaunchPadFile = None,
    force: Annotated[
        bool, typer.Option(*ANEW, help="Delete the results table with all its calculations and compute all anew.")
    ] = False,
    retry_errors: RetryErrors = False,
    as_json: AsJson = False,
) -> None:
    """Run a screening campaign to a ranked table, a CSV file and an HTML report.

    Results are kept: the same command again continues after an interruption, shows a finished run in seconds, and
    with changed thresholds computes only what is missing. Every rejected candidate is listed with its reason.
    The exit code is 3 if candidates could not be computed (did not converge, ...); rejections are results and
    leave it 0.

    For example:

      dpa4 screen battery

      dpa4 screen campaign.toml --dry-run

      dpa4 screen campaign.toml --engine fireworks --launchpad my_launchpad.yaml
    """
    file, runs = find_campaign(campaign)
    config = load_campaign(file)
    target = folder or runs / config.campaign.name
    if dry_run:
        plan = plan_campaign(config, target)
        print_json(plan.to_dict()) if as_json else _print_plan(plan)
        return
    a_folder(target)
    given = {"-o": folder, "--engine": engine if engine != "local" else None, "--launchpad": launchpad}
    options = (part for name, value in given.items() if value is not None for part in (name, str(value)))
    again = shlex.join(["dpa4", "screen", campaign, *options])
    run = CampaignRun(target, launchpad)
    how = How(ConsoleWatch(quiet=as_json), retry_errors)
    with interruptible(again):
        outcome = run.compute(Assignment(config, engine, file=file, force=force), how)
    if outcome.reused:
        remark("--restart computes it anew")
    present(run, outcome, as_json=as_json)


def _print_plan(plan: Plan) -> None:
    """What a dry run found out."""
    scheme = plan.corrections or "chosen when the model is there"
    say(f"{plan.name} with {plan.model}, corrections: {scheme}, run folder: {plan.folder}")
    for note in plan.notes:
        warn("note", note)
    if plan.rejected:
        table = Table("candidate", "leaves at", "reason", title="Rejected without computation", title_justify="left")
        for verdict in plan.rejected:
            why = "; ".join(reason.sentence for reason in verdict.reasons)
            table.add_row(*map(escape, (verdict.candidate_id, verdict.stage, why)))
        out.print(table)
    table = Table("calculations of", "structures", "atoms", "already stored", title="To compute", title_justify="left")
    for item in plan.work:
        most = "at most " if item.at_most else ""
        stored = "" if item.at_most else str(item.n_stored)
        table.add_row(item.name, f"{most}{item.n_structures}", f"{most}{item.n_atoms}", stored)
    out.print(table)
    if plan.chemical_systems:
        table = Table("chemical system", "candidates", "what competes", title="Hulls", title_justify="left")
        for system, found in plan.completeness.items():
            table.add_row(system, str(plan.chemical_systems[system]), escape(found.sentence))
        out.print(table)
    graded = plan.completeness.values()
    if alone := [found.chemsys for found in graded if not found.compares]:
        warn("note", f"no known competitor in {', '.join(alone)}: distances to these hulls will be unknown")
    for found in graded:
        if found.missing_elements:
            warn("note", f"no reference for {', '.join(found.missing_elements)} in {found.chemsys}")

"""`dpa4 init`, `screen`, `resume`: campaigns from a file to a ranked table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.markup import escape
from rich.table import Table

from dpa4_core.model import registry
from dpa4_flows import report
from dpa4_flows.campaigns.battery import ScreeningMaker
from dpa4_flows.campaigns.bundled import copy_campaign, find_campaign
from dpa4_flows.campaigns.config import BatteryCampaign, ConfigError, load_campaign
from dpa4_flows.campaigns.plan import Plan, plan_campaign
from dpa4_flows.campaigns.run import (
    JOBS_FOLDER,
    TABLE_FILE,
    Engine,
    PreparedRun,
    finish_run,
    is_begun,
    open_run,
    prepare_run,
    run_lock,
    stored_campaign,
    table_files,
)
from dpa4_flows.cli.console import err, out, plural, print_json, remark, say, warn
from dpa4_flows.cli.lazy import SOME_FAILED
from dpa4_flows.cli.progress import RunProgress
from dpa4_flows.engines import fireworks_state, open_launchpad, run_local, submit_fireworks
from dpa4_flows.results import ResultsError
from dpa4_flows.stores import load_job_store

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""

_ROWS = 30
"""Ranked candidates that the terminal shows."""

_WAITING = {"READY", "WAITING", "RESERVED", "RUNNING"}

LaunchPadFile = Annotated[
    Path | None,
    typer.Option(help="my_launchpad.yaml for --engine fireworks; default: where FireWorks finds it."),
]
RetryErrors = Annotated[
    bool, typer.Option("--retry-errors", help="Compute again what failed before; want of memory always is.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, for machines.")]

app = typer.Typer()


@app.callback()
def _family() -> None:
    """Campaigns."""


@app.command()
def init(
    campaign: Annotated[str, typer.Argument(help="Name of a bundled campaign: battery.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Where to; default: a folder of that name.")
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
    folder: Annotated[Path | None, typer.Option("--out", help="Run folder; default runs/NAME beside the file.")] = None,
    launchpad: LaunchPadFile = None,
    force: Annotated[
        bool, typer.Option("--force", help="Delete the results table with all its calculations and compute all anew.")
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
    again = f"dpa4 screen {campaign}" + (f" --out {folder}" if folder else "")
    _run(config, target, engine, launchpad, as_json, again, campaign_file=file, force=force, retry_errors=retry_errors)


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, for example runs/battery.")],
    launchpad: LaunchPadFile = None,
    retry_errors: RetryErrors = False,
    as_json: AsJson = False,
) -> None:
    """Continue a run that was stopped, with the campaign and the structures that are stored in its folder.

    For example:

      dpa4 resume runs/battery
    """
    config, engine = stored_campaign(run)
    again = f"dpa4 resume {run}"
    _run(config, run, engine, launchpad, as_json, again, stored_inputs=True, retry_errors=retry_errors)


def _run(
    config: BatteryCampaign,
    folder: Path,
    engine: Engine,
    launchpad: Path | None,
    as_json: bool,
    again: str,
    *,
    campaign_file: Path | None = None,
    force: bool = False,
    stored_inputs: bool = False,
    retry_errors: bool = False,
) -> None:
    if config.model.threads:
        torch.set_num_threads(config.model.threads)
    if config.model.name in registry.REGISTRY:
        registry.fetch(config.model.name, report=remark)
    if engine == "fireworks":
        load_job_store()  # what cannot be submitted is said before anything is prepared
        with open_launchpad(launchpad):
            pass
    with run_lock(folder):
        if force:
            _announce_deletion(folder)
        else:
            _refuse_second_start(folder, launchpad)
        prepared = prepare_run(
            config,
            folder,
            engine=engine,
            campaign_file=campaign_file,
            force=force,
            stored_inputs=stored_inputs,
            retry_errors=retry_errors,
        )
        for note in prepared.notes:
            warn("note", note)
        if not prepared.finished and engine == "fireworks":
            _submit(prepared, launchpad, as_json)
            return
        if not prepared.finished:
            _compute(prepared, again)
            for note in finish_run(prepared):
                warn("note", note)
        _present(prepared, as_json)


def _compute(prepared: PreparedRun, again: str) -> None:
    """Run the funnel in this process."""
    run = prepared.run
    name = run.campaign.campaign.name
    n_candidates = len(prepared.table.candidates())
    remark(
        f"{name}: {plural(n_candidates, 'candidate')}, model {run.model.name}, corrections {run.corrections}, "
        f"in {prepared.folder}"
    )
    flow = ScreeningMaker(run=run, name=name).make()
    try:
        with RunProgress(run, err):
            run_local(flow, prepared.folder / JOBS_FOLDER)
    except KeyboardInterrupt:
        remark(f"\nstopped; what is computed is kept. Continue with: {again}")
        raise typer.Exit(INTERRUPTED) from None


def _submit(prepared: PreparedRun, launchpad: Path | None, as_json: bool) -> None:
    """Put the funnel on a LaunchPad."""
    name = prepared.run.campaign.campaign.name
    flow = ScreeningMaker(run=prepared.run, name=name).make()
    ids = submit_fireworks(flow, launchpad, tags=[f"dpa4:{name}"], metadata={"results": prepared.run.table})
    prepared.table.set_meta("fireworks", ids)
    if as_json:
        print_json({"folder": str(prepared.folder), "fireworks": ids})
        return
    say(f"{plural(len(ids), 'Firework')} on the LaunchPad; jobs for the structures are added when they run")
    say("run them on any machine that sees the run folder: rlaunch rapidfire, or qlaunch rapidfire")
    say(f"watch and report: dpa4 status {prepared.folder}, dpa4 report {prepared.folder}")


def _announce_deletion(folder: Path) -> None:
    """Say what ``--force`` is about to delete."""
    path = folder / TABLE_FILE
    if not path.is_file():
        return
    try:
        held = plural(sum(1 for _ in open_run(folder).iter_calculations()), "calculation")
    except ResultsError:
        held = "whatever it holds, which cannot be read"  # that is a reason for --force
    size = sum(file.stat().st_size for file in table_files(folder) if file.is_file())
    warn("note", f"--force deletes {path} with {held} ({size / 1e6:.1f} MB)")


def _refuse_second_start(folder: Path, launchpad: Path | None) -> None:
    """Two workflows over one table would compute everything twice, and a local run beside one would clear its verdicts.

    Raises:
        ConfigError: Fireworks of the run are still to run.
        EngineError: the run was submitted and its database does not answer.
    """
    if not is_begun(folder):
        return
    table = open_run(folder)
    ids = table.get_meta("fireworks")
    if not ids or table.get_meta("state") == "complete":
        return
    waiting = sum(count for state, count in fireworks_state(ids, launchpad).items() if state in _WAITING)
    if waiting:
        raise ConfigError(
            f"this run is on the LaunchPad already ({plural(waiting, 'Firework')} to run): start workers with rlaunch "
            f"and see `dpa4 status {folder}`; after lost workers `lpad detect_lostruns --rerun`, after failed jobs "
            f"`lpad rerun_fws -s FIZZLED`; to start anew with the calculations kept, `lpad defuse_wflows -i {ids[0]}` "
            "first"
        )


def _present(prepared: PreparedRun, as_json: bool) -> None:
    """Write CSV and HTML, show the ranking and who left, and exit with 3 if something could not be computed."""
    table, folder = prepared.table, prepared.folder
    report.write_csv(table, folder / "ranking.csv")
    report.write_report(table, folder / "report.html")
    errors = sum(counts.get("error", 0) for counts in table.stage_counts().values())
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "reused": prepared.finished,
                "csv": str(folder / "ranking.csv"),
                "html": str(folder / "report.html"),
                "stages": table.stage_counts(),
                "ranking": [row.model_dump(mode="json") for row in table.ranking()],
            }
        )
    else:
        if prepared.finished:
            say(f"this campaign is complete in {folder}; --force computes it anew")
        report.print_funnel(table, out, limit=50)
        report.print_ranking(table, out, limit=_ROWS)
        if len(table.ranking()) > _ROWS:
            say("all ranked candidates are in these files:")
        say(f"table:  {folder / 'ranking.csv'}")
        say(f"report: {folder / 'report.html'}")
    if errors:
        warn("note", f"{plural(errors, 'candidate')} could not be computed; the report lists the reasons")
        raise typer.Exit(SOME_FAILED)


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
    table = Table("relaxations of", "structures", "atoms", "already stored", title="To compute", title_justify="left")
    for item in plan.work:
        table.add_row(item.name, str(item.n_structures), str(item.n_atoms), str(item.n_stored))
    table.add_row("charged hosts", f"at most {plan.work[0].n_structures}", "", "")
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

"""Screening campaigns: prepared, computed here or handed to workers, and what came out of them."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from rich.console import Console

from dpa4_core.errors import plural
from dpa4_core.files import size_of
from dpa4_core.locks import holder
from dpa4_core.model import registry
from dpa4_flows import report as reports
from dpa4_flows.campaigns.config import Campaign
from dpa4_flows.campaigns.flow import CampaignMaker
from dpa4_flows.campaigns.outdated import changed_files, mended_stages
from dpa4_flows.campaigns.progress import CampaignProgress, share
from dpa4_flows.campaigns.run import (
    JOBS_FOLDER,
    LOCK_FILE,
    TABLE_FILE,
    Engine,
    PreparedRun,
    finish_run,
    is_begun,
    open_run,
    prepare_run,
    run_lock,
    stored_campaign,
)
from dpa4_flows.campaigns.sections import ConfigError
from dpa4_flows.campaigns.snapshot import Snapshot, take_snapshot
from dpa4_flows.engines import Engine as RunningEngine
from dpa4_flows.engines import EngineError, FireWorks, engine_of
from dpa4_flows.engines.fireworks import n_waiting
from dpa4_flows.report.caveats import campaign_caveats
from dpa4_flows.report.structures import rows_with_frames
from dpa4_flows.runs.run import ROWS, How, Note, Outcome, Part, Run, RunStatus, RunStructure
from dpa4_flows.store.table import ResultsError, ResultsTable, table_files

TABLE_NAME = "ranking.csv"
_TAKES_IN = "dpa4 screen takes in what it holds now, dpa4 resume does not"


@dataclass(frozen=True)
class Assignment:
    """A campaign that is to be computed in a folder.

    Attributes:
        config: what to run.
        engine: what runs it.
        file: copied into the folder.
        force: forget everything that the folder holds, calculations included.
        stored_inputs: take candidates and competing phases as the folder holds them.
    """

    config: Campaign
    engine: Engine = "local"
    file: Path | None = None
    force: bool = False
    stored_inputs: bool = False


class CampaignRun(Run):
    """The folder of a screening campaign."""

    kind: ClassVar[str] = "campaign"
    numbers: ClassVar[tuple[str, ...]] = ("rank", "score", "energy_ev", "converged")

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        return (folder / TABLE_FILE).is_file()

    @property
    def _snapshot(self) -> Snapshot:
        return take_snapshot(open_run(self.folder))

    def status(self) -> RunStatus:
        snapshot = self._snapshot
        meta, fireworks, notes = snapshot.meta, None, []
        ids = snapshot.table.get_meta("fireworks")
        if ids:
            try:
                fireworks = FireWorks(self.launchpad).state(ids)
            except EngineError as error:
                notes.append(Note("note", str(error)))
            else:
                counts = ", ".join(f"{count} {name}" for name, count in fireworks.items())
                notes.append(Note("Fireworks", counts or "none left on the LaunchPad"))
        waits = bool(ids) and (fireworks is None or n_waiting(fireworks) > 0)
        state = self._state(meta.get("state"), waits=waits)
        older, changed = list(mended_stages(snapshot.table, snapshot.funnel)), self._changed(snapshot)
        notes += [
            Note(
                "mended",
                f"{one.number} of {one.total} answers behind {one.title} are from before "
                f"{one.property.replace('_', ' ')} was mended",
            )
            for one in older
        ]
        notes += [Note("changed", f"{path} was written since; {_TAKES_IN}") for path in changed]
        steps = {"stopped": f"continue with: dpa4 resume {self.folder}"}
        if older:
            steps["complete"] = f"compute those anew, from the calculations that are kept: dpa4 resume {self.folder}"
        next_step = steps.get(state, "")
        decided = sum(1 for outcome in snapshot.outcomes.values() if outcome.status != "in progress")
        facts = {
            "engine": meta.get("engine"),
            "campaign": (meta.get("campaign") or {}).get("campaign", {}).get("name"),
            "model": snapshot.model,
            "started": meta.get("started"),
            "finished": meta.get("finished"),
            "fireworks": fireworks,
            "stages": [stage._asdict() for stage in snapshot.stages],
            "candidates": list(self.table()),
            "ranking": [row.model_dump(mode="json") for row in snapshot.ranking.values()],
            "calculations": snapshot.calculations._asdict(),
            "outdated": [one._asdict() for one in older],
            "changed": list(map(str, changed)),
        }
        n_total = len(snapshot.outcomes)
        codes = (meta["code_version"],) if "code_version" in meta else ()
        return RunStatus(state, "candidates", decided, n_total, None, facts, tuple(notes), next_step, codes)

    def _changed(self, snapshot: Snapshot) -> list[Path]:
        """Files of candidates and competing phases that hold something else by now."""
        try:
            campaign, _ = stored_campaign(self.folder)
        except ConfigError:  # never started, or of a kind that is not installed here
            return []
        return changed_files(campaign, snapshot.table.get_meta("inputs") or {})

    def _state(self, stored: str | None, *, waits: bool) -> str:
        """In the words that all runs have."""
        if stored in (None, "complete"):
            return stored or "not started"
        return "running" if waits or holder(self.folder / LOCK_FILE) is not None else "stopped"

    def show(self, console: Console, *, everyone: bool = False) -> None:
        table = open_run(self.folder)
        limit = None if everyone else ROWS
        reports.print_funnel(table, console, limit=limit)
        if table.ranking():
            reports.print_ranking(table, console, limit=limit)

    def resume(self, how: How) -> Outcome:
        config, engine = stored_campaign(self.folder)
        return self.compute(Assignment(config, engine, stored_inputs=True), how)

    def compute(self, campaign: Assignment, how: How) -> Outcome:
        """Run a campaign in this folder, or hand it to workers.

        Raises:
            DPA4Error: it cannot be run or submitted.
            ResultsError: the folder holds something else.
        """
        config, folder = campaign.config, self.folder
        if config.model.threads:
            torch.set_num_threads(config.model.threads)
        if config.model.name in registry.REGISTRY:
            registry.fetch(config.model.name, report=how.watch.remark)
        engine = engine_of(campaign.engine, folder.resolve() / JOBS_FOLDER, self.launchpad)
        engine.check()
        with run_lock(folder):
            if campaign.force:
                self._announce_deletion(how)
            else:
                self._refuse_second_start()
            prepared = prepare_run(
                config,
                folder,
                engine=campaign.engine,
                campaign_file=campaign.file,
                force=campaign.force,
                stored_inputs=campaign.stored_inputs,
                retry_errors=how.retry_errors,
            )
            for note in prepared.notes:
                how.watch.note("note", note)
            if not prepared.finished:
                ids = _submit(prepared, engine, how)
                if not engine.in_process:
                    return _submitted(prepared, ids)
                for note in finish_run(prepared):
                    how.watch.note("note", note)
            return _written(prepared, self.page)

    def table(self) -> Iterator[dict[str, Any]]:
        for row in self._snapshot.rows():
            yield {
                "candidate_id": row.candidate_id,
                "formula": row.formula,
                "stage": row.outcome.stage,
                "status": row.outcome.status,
                "reasons": [reason.model_dump() for reason in row.reasons],
            }

    def to_dataframe(self) -> Any:
        found = super().to_dataframe()
        if len(found):
            found["reasons"] = [" | ".join(reason["sentence"] for reason in one) for one in found["reasons"]]
        return found

    def _repr_html_(self) -> str:
        said = (f"<p>mind: {html.escape(text)}</p>" for text in campaign_caveats(self._snapshot))
        return super()._repr_html_() + "".join(said)

    def report(self, path: Path) -> None:
        reports.write_report(open_run(self.folder), path)

    def structures(self) -> Iterator[RunStructure]:
        for row, frames in rows_with_frames(self._snapshot):
            ranked = row.ranked
            one = RunStructure(
                row.candidate_id,
                row.formula,
                row.outcome.status,
                {"rank": ranked.rank, "score": ranked.score} if ranked else {},
                survives=not row.outcome.left,
                at=row.outcome.stage,
                reasons=" | ".join(reason.sentence for reason in row.reasons),
            )
            if not frames:
                yield one
            for frame in frames:
                found = {"energy_ev": frame.calculation.energy, "converged": frame.calculation.converged}
                yield replace(one, role=frame.stage.stage, atoms=frame.atoms(), numbers=one.numbers | found)

    @property
    def writers(self) -> dict[str, Callable[[Path], str]]:
        def write(path: Path) -> str:
            reports.export(open_run(self.folder), path)
            return "all candidates"

        return dict.fromkeys((".csv", ".json", ".extxyz"), write)

    def _announce_deletion(self, how: How) -> None:
        """Say what is about to be deleted."""
        path = self.folder / TABLE_FILE
        if not path.is_file():
            return
        try:
            n = sum(1 for _ in open_run(self.folder).iter_calculations())
            held = plural(n, "calculation")
        except ResultsError:
            held = "whatever it holds, which cannot be read"  # that is a reason to delete it
        size = sum(map(size_of, table_files(path)))
        how.watch.note("note", f"--restart deletes {path} with {held} ({size / 1e6:.1f} MB)")

    def _refuse_second_start(self) -> None:
        """Two workflows over one table would compute everything twice, and a local run beside one would clear its
        verdicts.

        Raises:
            ConfigError: Fireworks of the run are still to run.
            EngineError: the run was submitted and its database does not answer.
        """
        if not is_begun(self.folder):
            return
        table = open_run(self.folder)
        ids = table.get_meta("fireworks")
        if not ids or table.get_meta("state") == "complete":
            return
        if waiting := n_waiting(FireWorks(self.launchpad).state(ids)):
            raise ConfigError(
                f"this run is on the LaunchPad already ({plural(waiting, 'Firework')} to run): start "
                f"workers with rlaunch and see `dpa4 status {self.folder}`; after lost workers "
                "`lpad detect_lostruns --rerun`, after failed jobs `lpad rerun_fws -s FIZZLED`; to start anew with the "
                f"calculations kept, `lpad defuse_wflows -i {ids[0]}` first"
            )


def _submit(prepared: PreparedRun, engine: RunningEngine, how: How) -> list[int | str]:
    """Run the funnel, or have it run."""
    run, table = prepared.run, prepared.table
    name = run.campaign.campaign.name
    flow = CampaignMaker(run=run, name=name).make()
    if not engine.in_process:
        ids = engine.submit(flow, tags=[f"dpa4:{name}"], metadata={"results": run.table})
        table.set_meta("fireworks", ids)
        return ids
    n = len(table.sizes())
    how.watch.remark(
        f"{name}: {plural(n, 'candidate')}, model {run.model.title}, corrections {run.corrections}, "
        f"in {prepared.folder}"
    )
    progress = CampaignProgress(run)
    with how.watch.showing(lambda: _parts(progress)):
        return engine.submit(flow)


def _parts(progress: CampaignProgress) -> list[Part]:
    """What is finished, and how far the steps are that are being done."""
    steps = progress.steps()
    parts = [
        Part(step.title, 1, 1, str(step.total), _words(step.counts), finished=True) for step in steps if step.finished
    ]
    words = f"{100 * share(steps):.0f} % of all work"
    going = [step for step in steps if not step.finished]
    for step in going[:1] + [step for step in going[1:] if step.done]:  # of a leg several are at work
        if step.total_atoms:
            parts.append(Part(step.title, step.done_atoms, step.total_atoms, f"{step.done}/{step.total}", words))
            words = _words(step.counts)
    return parts


def _words(counts: Mapping[str, int]) -> str:
    """``7 go on, 2 rejected``; nothing for a step that judges nobody."""
    if not counts:
        return ""
    named = (("failed", "rejected"), ("error", "failed"))
    on = counts.get("passed", 0) + counts.get("flagged", 0)
    return ", ".join([f"{on} go on", *(f"{counts[key]} {word}" for key, word in named if counts.get(key))])


def _submitted(prepared: PreparedRun, ids: list[int | str]) -> Outcome:
    folder = prepared.folder
    words = (
        f"{plural(len(ids), 'Firework')} on the LaunchPad; jobs for the structures are added when they run",
        "run them on any machine that sees the run folder: rlaunch rapidfire, or qlaunch rapidfire",
        f"watch and report: dpa4 status {folder}, dpa4 report {folder}",
    )
    return Outcome(words=words, facts={"fireworks": ids})


def _written(prepared: PreparedRun, page: Path) -> Outcome:
    """Write table and report."""
    table: ResultsTable = prepared.table
    files = {"csv": prepared.folder / TABLE_NAME, "html": page}
    reports.write_csv(table, files["csv"])
    reports.write_report(table, files["html"])
    counts = table.stage_counts()
    return Outcome(
        files=files,
        reused=prepared.finished,
        n_failed=sum(by_status.get("error", 0) for by_status in counts.values()),
        facts={"stages": counts, "ranking": [row.model_dump(mode="json") for row in table.ranking()]},
    )

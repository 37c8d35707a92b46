"""Run folders: one campaign with one model, prepared, found again, continued.

A run folder holds ``campaign.toml`` as it was run, ``results.sqlite``, ``jobs/`` and the reports. Calculations are kept
whatever changes in the campaign; verdicts belong to exactly one campaign, model and version of the code.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from dpa4_core.model.info import ModelInfo
from dpa4_flows.campaigns.battery import STAGES, BatteryRun
from dpa4_flows.campaigns.candidates import read_candidates
from dpa4_flows.campaigns.config import BatteryCampaign, ConfigError, campaign_hash
from dpa4_flows.makers.references import correction_scheme
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.provenance import code_version
from dpa4_flows.results import ResultsTable
from dpa4_flows.schemas import Candidate

TABLE_FILE = "results.sqlite"
CAMPAIGN_COPY = "campaign.toml"
JOBS_FOLDER = "jobs"

Engine = Literal["local", "fireworks"]


@dataclass(frozen=True)
class PreparedRun:
    """A run that is ready to be handed to an engine.

    Attributes:
        folder: run folder.
        table: results table.
        run: what the jobs get.
        finished: the results of exactly this campaign are there already.
        notes: sentences that the user should read before the run.
    """

    folder: Path
    table: ResultsTable
    run: BatteryRun
    finished: bool
    notes: tuple[str, ...] = ()


def model_of(campaign: BatteryCampaign) -> ModelRef:
    """Handle of the model that a campaign names, not loaded yet."""
    section = campaign.model
    return ModelRef(section.name, sha256=section.sha256, device=section.device, dtype=section.dtype)


def choose_corrections(campaign: BatteryCampaign, info: ModelInfo) -> tuple[str, list[str]]:
    """Correction scheme of a campaign and what to say about the choice."""
    asked = campaign.hull.corrections
    scheme = correction_scheme(info, asked)
    if asked == "auto" and not info.corrections:
        return scheme, [f"no correction scheme is known for model {info.name}: energies are used uncorrected"]
    if info.corrections and scheme != info.corrections:
        return scheme, [f"corrections {scheme} were asked for, {info.corrections} is what fits {info.name}"]
    return scheme, []


def prepare_run(
    campaign: BatteryCampaign,
    folder: Path,
    *,
    engine: Engine = "local",
    campaign_file: Path | None = None,
    force: bool = False,
) -> PreparedRun:
    """Make or open a run folder for a campaign. Loads the model, since its checksum identifies the results.

    Args:
        campaign: what to run.
        folder: run folder, made if missing.
        engine: with ``fireworks`` the table is set up for several machines.
        campaign_file: copied into the folder.
        force: forget everything that the folder holds, calculations included.

    Raises:
        DPA4Error: model or structure files cannot be used.
        ResultsError: the folder holds something else.
    """
    model = model_of(campaign).resolve()
    info = model.info()
    corrections, notes = choose_corrections(campaign, info)
    candidates = read_candidates(campaign.campaign.candidates)
    identity = campaign_hash(campaign, info.sha256, code_version())
    folder = folder.resolve()
    path = folder / TABLE_FILE
    if force:
        for suffix in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    shared = engine == "fireworks"
    table = ResultsTable(path, shared=shared)
    run = BatteryRun(table=str(path), model=model, campaign=campaign, corrections=corrections, shared_table=shared)
    finished = table.get_meta("campaign_hash") == identity and table.get_meta("state") == "complete"
    prepared = PreparedRun(folder, table, run, finished, tuple(notes))
    if not finished:
        _start(prepared, candidates, info, engine, identity)
        if campaign_file is not None:
            target = folder / CAMPAIGN_COPY
            if campaign_file.resolve() != target:
                shutil.copyfile(campaign_file, target)
    return prepared


def open_run(folder: Path) -> ResultsTable:
    """Results table of an existing run folder.

    Raises:
        ConfigError: there is no run in the folder.
        ResultsError: the table cannot be read.
    """
    path = folder / TABLE_FILE
    if not path.is_file():
        raise ConfigError(f"{folder} is not a run folder (no {TABLE_FILE} in it); `dpa4 screen` makes one")
    return ResultsTable(path, shared=_is_shared(path))


def stored_campaign(folder: Path) -> tuple[BatteryCampaign, Engine]:
    """Campaign and engine of an existing run.

    Raises:
        ConfigError: no run in the folder, or a run of another version of the program.
    """
    table = open_run(folder)
    stored = table.get_meta("campaign")
    if stored is None:
        raise ConfigError(f"the run in {folder} was never started; use `dpa4 screen CAMPAIGN.toml`")
    try:
        campaign = BatteryCampaign.model_validate(stored)
    except ValidationError as error:
        problem = error.errors()[0]
        message = problem.get("ctx", {}).get("error", problem["msg"])
        raise ConfigError(f"the campaign stored in {folder} cannot be used: {message}") from None
    return campaign, table.get_meta("engine", "local")


def _start(prepared: PreparedRun, candidates: list[Candidate], info: ModelInfo, engine: Engine, identity: str) -> None:
    """Write candidates and facts of the run, and forget verdicts that followed other criteria."""
    table = prepared.table
    table.set_meta("state", "preparing")
    table.clear_stages()
    table.put_candidates(candidates)
    run = prepared.run
    facts: dict[str, Any] = {
        "campaign": run.campaign.model_dump(mode="json"),
        "campaign_hash": identity,
        "corrections": run.corrections,
        "model": {"info": info.to_dict(), "ref": {"name": run.model.name, "dtype": run.model.dtype}},
        "stages": STAGES,
        "engine": engine,
        "code_version": code_version(),
        "started": datetime.now(UTC).isoformat(),
        "finished": None,
        "hull_summary": {},
        "references": [],
        "reference_structures": {},
        "fireworks": [],
        "state": "running",
    }
    for name, value in facts.items():
        table.set_meta(name, value)


def _is_shared(path: Path) -> bool:
    """Whether the table was set up for several machines: then it has no write-ahead log, and must not get one."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return str(connection.execute("PRAGMA journal_mode").fetchone()[0]).lower() != "wal"
    except sqlite3.DatabaseError:
        return False  # ResultsTable says what is wrong with it

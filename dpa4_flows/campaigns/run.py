"""Run folders: one campaign with one model, prepared, found again, continued.

A run folder holds ``campaign.toml`` as it was run, ``results.sqlite``, ``jobs/``, ``inputs/`` (copies of files that
stages read) and the reports. Calculations are kept whatever changes in the campaign; verdicts belong to exactly one
campaign, model and version of the code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.files import write_bytes
from dpa4_core.locks import locked
from dpa4_core.model.info import ModelInfo
from dpa4_core.terms import checksum_with_dispersion
from dpa4_core.version import code_version
from dpa4_flows.analysis.completeness import PROTOTYPE, Survey
from dpa4_flows.analysis.hull_warnings import scheme_warnings, without_dispersion
from dpa4_flows.analysis.schemes import REFIT, find_scheme
from dpa4_flows.campaigns.candidates import read_candidates
from dpa4_flows.campaigns.config import Campaign, campaign_hash, campaign_of, input_checksums, named_files
from dpa4_flows.campaigns.context import REFIT_FILE, Screening
from dpa4_flows.campaigns.library import (
    REFERENCES,
    borrow,
    campaign_library,
    earlier_phases,
    further_phases,
    give_back,
    keyed,
    put_phases,
    replace_phases,
    run_library,
)
from dpa4_flows.campaigns.outdated import mended_stages
from dpa4_flows.campaigns.sections import ConfigError, InputFile, Section
from dpa4_flows.documents.schemas import Candidate
from dpa4_flows.makers.property import RETRY_SINCE
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.competition import joined
from dpa4_flows.reference.entries import chemical_system, correction_scheme
from dpa4_flows.reference.library import ReferencePhase
from dpa4_flows.reference.proposed import with_proposals
from dpa4_flows.reference.sources import file_surveys, find_phases
from dpa4_flows.reference.store import ReferenceStore
from dpa4_flows.store.table import EmptyTableError, ResultsTable, table_files

TABLE_FILE = "results.sqlite"
CAMPAIGN_COPY = "campaign.toml"
JOBS_FOLDER = "jobs"
LOCK_FILE = "run.lock"
INPUTS_FOLDER = "inputs"
_STORED = ("campaign.candidates", "hull.competing", "hull.corrections")
"""Keys whose files a run takes into its table, or beside it."""
_FURTHER = "further systems"
"""Among the inputs: those whose phases the run has with the elements of each candidate."""

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
    run: Screening
    finished: bool
    notes: tuple[str, ...] = ()


def model_of(campaign: Campaign) -> ModelRef:
    """Handle of the model that a campaign names, not loaded yet."""
    section = campaign.model
    dispersion, sha256 = section.dispersion, section.sha256
    if dispersion is not None and sha256 is not None:
        sha256 = checksum_with_dispersion(sha256, dispersion)
    return ModelRef(section.name, sha256, device=section.device, dtype=section.dtype, dispersion=dispersion)


def further_models(campaign: Campaign) -> dict[str, ModelRef]:
    """The same of the models that its stages name for themselves, by name: as they were published, since dispersion is
    that of the level of theory of the campaign's model.
    """
    own = replace(model_of(campaign), sha256=None, dispersion=None)
    return {name: replace(own, name=name) for name in campaign.further_models}


def check_models(campaign: Campaign, models: Mapping[str, ModelRef]) -> None:
    """Refuse a model that a stage can compute nothing with.

    Args:
        campaign: the settings.
        models: by the name that a stage gives, "" for that of the campaign; those that are to be looked at.

    Raises:
        DPA4Error: a property model where an energy is wanted, or one that is about something else.
    """
    for stage in campaign.funnel.stages:
        named = getattr(getattr(campaign, stage.name, None), "model", None) or ""
        if stage.shown is not None and named in models:
            stage.shown.check_model(models[named])


def choose_corrections(campaign: Campaign, info: ModelInfo, stored_refit: Path | None = None) -> tuple[str, list[str]]:
    """Correction scheme of a campaign and what to say about the choice.

    Args:
        campaign: the settings.
        info: identity card of the model.
        stored_refit: copy of the refit that the campaign names, where its file may be gone.
    """
    if campaign.competition is None:
        return "none", []
    asked = campaign.competition.corrections if stored_refit is None else str(stored_refit)
    scheme = correction_scheme(info, asked)
    if info.zeros and scheme == "none":
        return scheme, scheme_warnings(info.level_of_theory, info.corrections, scheme, info.zeros)
    if asked == "auto" and not info.corrections:
        return scheme, [f"no correction scheme is known for model {info.name}: energies are used uncorrected"]
    if info.dispersion and scheme != "none" and not scheme.startswith(REFIT):
        return scheme, [without_dispersion(scheme)]
    if info.corrections and scheme != info.corrections and not scheme.startswith(REFIT):
        return scheme, [f"corrections {scheme} were asked for, {info.corrections} is what fits {info.name}"]
    return scheme, []


def prepare_run(
    campaign: Campaign,
    folder: Path,
    *,
    engine: Engine = "local",
    campaign_file: Path | None = None,
    force: bool = False,
    stored_inputs: bool = False,
    retry_errors: bool = False,
) -> PreparedRun:
    """Make or open a run folder for a campaign. Loads the model, since its checksum identifies the results.

    Args:
        campaign: what to run.
        folder: run folder, made if missing.
        engine: with ``fireworks`` the table is set up for several machines.
        campaign_file: copied into the folder.
        force: forget everything that the folder holds, calculations included.
        stored_inputs: take candidates and competing phases as the folder holds them, whatever became of their files.
        retry_errors: compute again what failed before.

    Raises:
        DPA4Error: model or structure files cannot be used.
        ResultsError: the folder holds something else.
    """
    model = model_of(campaign).resolve()
    info = model.info()
    folder = folder.resolve()
    path, shared = folder / TABLE_FILE, engine == "fireworks"
    refit = folder / REFIT_FILE
    corrections, notes = choose_corrections(campaign, info, refit if stored_inputs and refit.is_file() else None)
    models = {name: one.resolve() for name, one in further_models(campaign).items()}
    check_models(campaign, {"": model, **models})
    run = Screening(str(path), model, campaign, corrections, shared_table=shared, models=models)
    library, remarks = campaign_library(run)
    notes += remarks
    if library is not None and is_begun(folder):  # what an interrupted run, or workers elsewhere, have computed
        notes += give_back(library, open_run(folder))
    inputs = open_run(folder).get_meta("inputs") if stored_inputs else None
    added: dict[str, ReferencePhase] = {}
    if inputs is None:  # also in the folder of an older version
        candidates, phases, surveys, inputs = read_inputs(run, library, info.elements)
    else:
        begun = open_run(folder)
        run = replace(run, campaign=_with_copies(campaign, folder, inputs))  # what it named may be gone
        candidates, (phases, surveys) = begun.candidates(), earlier_phases(run, begun)
        added, inputs = lacking_phases(run, library, candidates, inputs)
    if n_further := len(inputs.get("library", ())):
        notes.append(f'{n_further} competing phases are from the library; library = "none" in [hull] leaves them out')
    checksums = {name: one.sha256 for name, one in models.items()}
    identity = campaign_hash(campaign, info.sha256, code_version(), inputs, checksums)
    if force:
        for file in table_files(path):
            file.unlink(missing_ok=True)
    table = ResultsTable(path, shared=shared)
    run = replace(run, run_id=table.run_id, campaign=_with_copies(campaign, folder, inputs))
    finished = table.get_meta("campaign_hash") == identity and table.get_meta("state") == "complete"
    finished = finished and not any(mended_stages(table, campaign.funnel))  # also by a package that brings a stage
    if retry_errors:
        finished = False
        table.set_meta(RETRY_SINCE, datetime.now(UTC).isoformat())
    prepared = PreparedRun(folder, table, run, finished, tuple(notes))
    if not finished:
        table.set_meta("state", "preparing")
        table.set_meta("inputs", None)  # until all of them are there
        if phases or not stored_inputs:
            replace_phases(table, phases, surveys)
        put_phases(table, added)
        if campaign.competition is not None:
            own = run_library(run)
            keys = [phase.key for phase in own.table.phases()]
            own.take_over(keys)
            if library is not None:
                borrow(library, table, keys)
        if (scheme := find_scheme(corrections)).model_sha256 and scheme.file is not None and scheme.file != refit:
            write_bytes(refit, scheme.file.read_bytes())
        _start(prepared, candidates, info, engine, identity)
        table.set_meta("inputs", inputs)
        table.set_meta("state", "running")
        if campaign_file is not None:
            target = folder / CAMPAIGN_COPY
            if campaign_file.resolve() != target:
                write_bytes(target, campaign_file.read_bytes())
    return prepared


def _with_copies(campaign: Campaign, folder: Path, inputs: Mapping[str, list[str]]) -> Campaign:
    """The campaign with copies, in its folder, of the files that stages read: jobs on other machines see these, and a
    run that goes on does not meet another content.
    """
    for place, names in named_files(campaign).items():
        if place in _STORED or place not in inputs:
            continue
        copies = list(names)
        for i, (name, checksum) in enumerate(zip(names, inputs[place], strict=True)):
            if isinstance(name, InputFile):
                copies[i] = InputFile(folder / INPUTS_FOLDER / checksum[:12] / Path(name).name)
                if not Path(copies[i]).is_file():
                    write_bytes(Path(copies[i]), Path(name).read_bytes())
        table, _, key = place.partition(".")
        own: Section = getattr(campaign, table)
        value = getattr(own, key)
        told = type(value)(copies) if isinstance(value, list | tuple) else copies[0]
        campaign = campaign.model_copy(update={table: own.model_copy(update={key: told})})
    return campaign


def finish_run(prepared: PreparedRun) -> list[str]:
    """Add what a run computed of competing phases to the library; gives what to say if that failed."""
    library, remarks = campaign_library(prepared.run)
    return remarks if library is None else [*remarks, *give_back(library, prepared.table)]


def read_inputs(
    run: Screening, library: ReferenceStore | None, elements: Collection[int]
) -> tuple[list[Candidate], dict[str, ReferencePhase], dict[str, Survey], dict[str, list[str]]]:
    """Candidates, competing phases by the key of their relaxation, surveys of them, and what identifies the files and
    the library of all that.

    ``elements``: atomic numbers that the model knows.
    """
    campaign = run.campaign
    candidates = read_candidates(campaign.campaign.candidates, disordered=bool(campaign.funnel.orders))
    if campaign.competition is None:
        return candidates, {}, {}, input_checksums(campaign)
    systems, more = _systems(candidates), further_systems(campaign)
    wider = {*systems, *(joined(system, one) for system in systems for one in more)}
    phases = keyed(run, find_phases(wider, campaign.competition.competing, bundled=campaign.competition.bundled))
    further = {} if library is None else further_phases(library, wider, phases)
    proposed_for = systems if campaign.competition.prototypes else set()
    further = {k: one for k, one in further.items() if one.role != PROTOTYPE or _within(one, proposed_for)}
    phases |= further
    if campaign.competition.prototypes:
        phases |= keyed(run, with_proposals(systems, phases.values(), elements)[len(phases) :])
    surveys = file_surveys(campaign.competition.competing, wider)
    surveys |= {} if library is None else library.surveys(sorted(wider))
    told = sorted(f"{system}: {survey.words}" for system, survey in surveys.items())
    inputs = input_checksums(campaign) | {"library": sorted(further), "surveys": told, _FURTHER: sorted(more)}
    return candidates, phases, surveys, inputs


def lacking_phases(
    run: Screening, library: ReferenceStore | None, candidates: list[Candidate], inputs: Mapping[str, list[str]]
) -> tuple[dict[str, ReferencePhase], dict[str, list[str]]]:
    """Phases of further systems that a run lacks since the version that began it knew of no stage that wants them, by
    key, and what identifies the inputs then. Files of phases have no part in it: they may be gone.
    """
    competition, wanted = run.campaign.competition, further_systems(run.campaign)
    if competition is None or wanted <= {*inputs.get(_FURTHER, ())}:
        return {}, dict(inputs)
    systems = _systems(candidates)
    wider = {joined(system, one) for system in systems for one in wanted}
    phases = keyed(run, find_phases(wider, bundled=competition.bundled))
    further = {} if library is None else further_phases(library, wider, phases)
    further = {k: one for k, one in further.items() if one.role != PROTOTYPE and not _within(one, systems)}
    phases = {k: one for k, one in phases.items() if not _within(one, systems)} | further
    return phases, {**inputs, "library": sorted({*inputs.get("library", ()), *further}), _FURTHER: sorted(wanted)}


def _systems(candidates: Iterable[Candidate]) -> set[str]:
    return {chemical_system(structure_of_fields(c.structure)) for c in candidates if c.structure is not None}


def _within(phase: ReferencePhase, systems: Iterable[str]) -> bool:
    return any(phase.elements <= {*system.split("-")} for system in systems)


def further_systems(campaign: Campaign) -> set[str]:
    """Chemical systems that stages want competing phases of, together with the elements of each candidate."""
    found: set[str] = set()
    for stage in campaign.funnel.stages:
        if stage.computes is not None:
            found.update(stage.computes.further_systems(campaign, getattr(campaign, stage.name, Section())))
    return found


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Keep every other process from starting the run of ``folder`` while the block runs.

    A second start would clear the verdicts of the first.

    Raises:
        LockedError: another process has the lock.
    """
    folder = folder.resolve()
    made = [f for f in (folder, *folder.parents) if not f.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / LOCK_FILE, "this run is being computed"):
            yield
    finally:
        with suppress(OSError):  # something is in it
            for empty in made:
                empty.rmdir()


def is_begun(folder: Path) -> bool:
    """Whether the table of a run is in the folder; one that a full disk kept from being made is none.

    Raises:
        ResultsError: the table cannot be read.
    """
    try:
        open_run(folder)
    except (ConfigError, EmptyTableError):
        return False
    return True


def open_run(folder: Path) -> ResultsTable:
    """Results table of an existing run folder, to be read only.

    Raises:
        ConfigError: there is no run in the folder.
        ResultsError: the table cannot be read.
    """
    path = folder / TABLE_FILE
    if not path.is_file():
        raise ConfigError(f"{folder} is not a run folder (no {TABLE_FILE} in it); `dpa4 screen` makes one")
    return ResultsTable(path, read_only=True)


def _as_it_was(stored: dict[str, Any]) -> dict[str, Any]:
    """Stored settings with what was done before there was a choice: nobody looked for a way down."""
    return stored | {"relax": {"check_minimum": False} | stored.get("relax", {})}


def stored_campaign(folder: Path) -> tuple[Campaign, Engine]:
    """Campaign and engine of an existing run.

    Raises:
        ConfigError: no run in the folder, or a run of another version of the program.
    """
    table = open_run(folder)
    stored = table.get_meta("campaign")
    if stored is None:
        raise ConfigError(f"the run in {folder} was never started; use `dpa4 screen CAMPAIGN.toml`")
    try:
        campaign = campaign_of(_as_it_was(stored))
    except ConfigError as error:
        raise ConfigError(f"the campaign stored in {folder} cannot be used: {error}") from None
    return campaign, table.get_meta("engine", "local")


def _start(prepared: PreparedRun, candidates: list[Candidate], info: ModelInfo, engine: Engine, identity: str) -> None:
    """Write candidates and facts of the run, and forget verdicts that followed other criteria."""
    table = prepared.table
    table.clear_stages()
    table.put_candidates(candidates)
    run = prepared.run
    facts: dict[str, Any] = {
        "campaign": run.campaign.to_dict(),
        "campaign_hash": identity,
        "corrections": run.corrections,
        "model": {"info": info.to_dict(), "ref": {"name": run.model.name, "dtype": run.model.dtype}},
        "stages": run.campaign.funnel.names,
        "engine": engine,
        "code_version": code_version(),
        "started": datetime.now(UTC).isoformat(),
        "finished": None,
        "hull_summary": {},
        REFERENCES: [],
        "fireworks": [],
    }
    for name, value in facts.items():
        table.set_meta(name, value)

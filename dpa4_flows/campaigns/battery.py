"""The battery funnel as jobs: which insertion electrodes are stable, and what voltage and capacity they give.

    sanity → duplicates → relax → relaxed duplicates → references → hull → delithiate → relax charged → electrode
    → charged hull → rank

Cheap criteria come first. Relaxations fan out into chunk jobs when they start, since only then it is known who is left.
Each stage job reads its candidates from the results table and writes one verdict each; the physics is in
`dpa4_flows.analysis`, the criteria are in the campaign file.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobflow import Flow, Job, JobOrder, Maker, Response, job
from monty.json import MSONable
from pymatgen.core import Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.completeness import HullCompleteness, HullVerdict, hull_completeness
from dpa4_flows.analysis.duplicates import group_duplicates, relaxed_duplicates
from dpa4_flows.analysis.electrode import ElectrodeError, electrode_properties
from dpa4_flows.analysis.hull import hull_summary, phase_positions
from dpa4_flows.analysis.ranking import Objective, rank_candidates
from dpa4_flows.analysis.schemes import REFIT, scheme_name
from dpa4_flows.campaigns import battery_verdicts as verdicts
from dpa4_flows.campaigns.battery_reasons import because
from dpa4_flows.campaigns.config import BatteryCampaign
from dpa4_flows.campaigns.funnel import (
    StageSummary,
    calculation_keys,
    judge_relaxation,
    relaxed_structure,
    stored,
    write_verdicts,
)
from dpa4_flows.makers.batch import BatchRelaxMaker
from dpa4_flows.makers.chunks import fan_out
from dpa4_flows.makers.hull import hull_document
from dpa4_flows.makers.model_reference import as_model
from dpa4_flows.makers.references import (
    ReferenceMaker,
    lowest_element,
    reference_entries,
    stored_phases,
    stored_surveys,
)
from dpa4_flows.makers.sources import find_structures
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.relaxed import Relaxed
from dpa4_flows.provenance import energy_frame, provenance
from dpa4_flows.reasons import Reason, voided
from dpa4_flows.reference.entries import chemical_system, document_entry
from dpa4_flows.results import ResultsError, ResultsTable, TableRef
from dpa4_flows.schemas import ChunkSummary, RankedCandidate, StageResult

STAGES = (
    *("sanity", "duplicates", "relax", "relaxed_duplicates", "hull"),
    *("delithiate", "relax_charged", "electrode", "charged_hull"),
)

REFIT_FILE = "corrections.yaml"
"""Copy of the refit that a campaign names, in its run folder."""

CHARGED_SOURCE = "dpa4_flows.campaigns.battery:charged_structures"


@dataclass(frozen=True)
class BatteryRun(MSONable):
    """What every job of a run needs to know; small, since it is serialised with each of them.

    Args:
        table: absolute path of the results table.
        run_id: of the table.
        shared_table: it lies on a network file system and several machines write to it.
        model: potential, best with its checksum.
        campaign: the campaign file.
        corrections: name of the correction scheme, chosen.
    """

    table: str
    model: ModelRef
    campaign: BatteryCampaign
    corrections: str
    shared_table: bool = False
    run_id: str | None = None

    @property
    def ref(self) -> TableRef:
        """What jobs open."""
        return TableRef(self.table, self.run_id, self.shared_table)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", as_model(self.model))

    def scheme(self) -> str:
        """Name of the correction scheme. A refit is read from the run folder, since a worker need not have it in its
        cache, from which it is found by name afterwards.
        """
        file = Path(self.table).with_name(REFIT_FILE)
        return scheme_name(str(file)) if self.corrections.startswith(REFIT) and file.is_file() else self.corrections

    def open(self) -> ResultsTable:
        """The results table, which is there.

        Raises:
            ResultsError: it cannot be seen from this host, or is that of another run.
        """
        return self.ref.open()

    def relax_maker(self, name: str, *, charged: bool = False) -> BatchRelaxMaker:
        """Relaxes candidates, charged hosts and competing phases: only equal settings give comparable energies.

        Args:
            name: of the job.
            charged: of hosts without their ions, which may be left on a saddle point: see ``[charged]``.
        """
        settings = self.campaign.relax
        return BatchRelaxMaker(
            property=Relaxed(
                fmax=settings.fmax,
                max_steps=settings.max_steps,
                rattle=settings.rattle,
                check_minimum=self.campaign.charged.check_minimum if charged else settings.check_minimum,
            ),
            name=name,
            model=self.model,
            max_atoms_per_batch=self.campaign.engine.max_atoms_per_batch,
            shared_table=self.shared_table,
        )


@dataclass
class ScreeningMaker(Maker):
    """The whole screening as one flow.

    Args:
        run: table, model and criteria.
        name: name of the flow.
    """

    run: BatteryRun = field(kw_only=True)
    name: str = "battery screening"

    def make(self) -> Flow:
        """Flow over the candidates that are in the results table when it runs."""
        run = self.run
        chunk_size = run.campaign.engine.chunk_size
        relaxation = fan_out(
            run.relax_maker("relax"),
            run.ref,
            survivors_of="duplicates",
            order=list(STAGES),
            chunk_size=chunk_size,
        )
        charging = fan_out(
            run.relax_maker("relax charged", charged=True),
            run.ref,
            survivors_of="delithiate",
            order=list(STAGES),
            source=CHARGED_SOURCE,
            chunk_size=chunk_size,
        )
        jobs: list[Flow | Job] = [
            check_sanity(run),
            drop_duplicates(run),
            relaxation,
            judge_relaxed(run),
            drop_relaxed_duplicates(run),
            compute_references(run),
            judge_stability(run),
            delithiate(run),
            charging,
            judge_charged(run),
            judge_electrodes(run),
            judge_charged_stability(run),
            rank(run),
        ]
        return Flow(jobs, name=self.name, order=JobOrder.LINEAR)


@job(output_schema=StageSummary)
def check_sanity(run: BatteryRun) -> StageSummary:
    """Stage ``sanity``: reads every candidate of the table."""
    table = run.open()
    elements = run.model.info().elements
    candidates = table.candidates()
    if not candidates:
        raise ResultsError(f"results table {table.path} holds no candidates; start the run again")
    return write_verdicts(table, "sanity", [verdicts.judge_sanity(c, run.campaign, elements) for c in candidates])


@job(output_schema=StageSummary)
def drop_duplicates(run: BatteryRun) -> StageSummary:
    """Stage ``duplicates``: the first of equal structures stands for all of them."""
    table = run.open()
    ids = table.survivors("sanity", STAGES)
    representatives = group_duplicates(dict(zip(ids, find_structures(table, ids), strict=True)))
    return write_verdicts(table, "duplicates", [verdicts.judge_duplicate(i, r) for i, r in representatives.items()])


@job(output_schema=StageSummary)
def judge_relaxed(run: BatteryRun) -> StageSummary:
    """Stage ``relax``: what did not converge leaves here and never enters a hull."""
    table = run.open()
    ids = table.survivors("duplicates", STAGES)
    structures = dict(zip(ids, find_structures(table, ids), strict=True))
    return _judge_relaxations(run, table, "relax", structures, run.campaign.relax.max_volume_change_percent)


@job(output_schema=StageSummary)
def drop_relaxed_duplicates(run: BatteryRun) -> StageSummary:
    """Stage ``relaxed_duplicates``: of candidates that relaxed to one minimum the lowest stands for all."""
    table = run.open()
    documents = stored(table, calculation_keys(table, "relax", table.survivors("relax", STAGES)))
    window = run.campaign.relax.duplicate_window
    representatives = relaxed_duplicates(documents, energy_window=window) if documents else {}
    return write_verdicts(
        table,
        "relaxed_duplicates",
        [verdicts.judge_relaxed_duplicate(i, r, documents, window) for i, r in representatives.items()],
    )


@job
def compute_references(run: BatteryRun) -> Response | ChunkSummary:
    """Relax the competing phases of the chemical systems that are left, with the settings of the candidates: a phase
    that stays on a saddle point would let every candidate near it look stable.

    They come from the table, since a worker need not have the files.
    """
    table = run.open()
    systems = {chemical_system(s) for s in find_structures(table, table.survivors("relaxed_duplicates", STAGES))}
    maker = ReferenceMaker(
        relax_maker=run.relax_maker("competing phases"),
        chunk_size=run.campaign.engine.chunk_size,
    )
    return maker.replace_phases(table, stored_phases(table, systems))


@job(output_schema=StageSummary)
def judge_stability(run: BatteryRun) -> StageSummary:
    """Stage ``hull``: distance of the discharged phases to the hull of competing phases by the same model."""
    table = run.open()
    limit = run.campaign.hull.max_energy_above_hull
    left = set(table.survivors("relaxed_duplicates", STAGES))
    return _judge_hull(run, table, "hull", "relaxed_duplicates", limit, rivals=left)


@job(output_schema=StageSummary)
def delithiate(run: BatteryRun) -> StageSummary:
    """Stage ``delithiate``: take all working ions out of the relaxed structures."""
    table = run.open()
    ids = table.survivors("hull", STAGES)
    documents = stored(table, calculation_keys(table, "relax", ids))
    ion = run.campaign.campaign.working_ion
    return write_verdicts(
        table,
        "delithiate",
        [verdicts.judge_delithiation(i, relaxed_structure(documents[i]), ion) for i in ids],
    )


def charged_structures(table: ResultsTable, ids: list[str]) -> list[Structure]:
    """Hosts without working ions as the stage ``delithiate`` left them; a source of chunk jobs."""
    results = table.stage("delithiate", ids)
    return [structure_of_fields((results[i].document or {})["structure"]) for i in ids]


@job(output_schema=StageSummary)
def judge_charged(run: BatteryRun) -> StageSummary:
    """Stage ``relax_charged``: verdicts on the relaxed hosts; their volume is judged with the electrode."""
    table = run.open()
    ids = table.survivors("delithiate", STAGES)
    structures = dict(zip(ids, charged_structures(table, ids), strict=True))
    return _judge_relaxations(run, table, "relax_charged", structures, None)


@job(output_schema=StageSummary)
def judge_electrodes(run: BatteryRun) -> StageSummary:
    """Stage ``electrode``: voltage from uncorrected energies, in which the +U of host and electrode cancels."""
    table = run.open()
    ids = table.survivors("relax_charged", STAGES)
    discharged = stored(table, calculation_keys(table, "relax", ids))
    charged = stored(table, calculation_keys(table, "relax_charged", ids))
    ion = run.campaign.campaign.working_ion
    origin = provenance(run.model, {"working_ion": ion})
    try:
        metal = lowest_element(table, ion)
    except DPA4Error as error:
        reasons = [because("no_voltage", f"no voltage: {error}")]
        return write_verdicts(
            table,
            "electrode",
            [StageResult(candidate_id=i, stage="electrode", status="error", reasons=reasons) for i in ids],
        )
    results = []
    for i in ids:
        try:
            properties = electrode_properties(
                relaxed_structure(discharged[i]),
                relaxed_structure(charged[i]),
                energy_discharged=_number(discharged[i].energy),
                energy_charged=_number(charged[i].energy),
                energy_per_ion_metal=_number(metal.energy_per_atom),
                working_ion=ion,
            )
        except ElectrodeError as error:
            reasons = [because("no_voltage", f"no voltage: {error}")]
            results.append(StageResult(candidate_id=i, stage="electrode", status="error", reasons=reasons))
            continue
        result = verdicts.judge_electrode(i, properties, run.campaign, origin)
        result.calculation_keys = [discharged[i].key, charged[i].key, metal.key]
        results.append(result)
    return write_verdicts(table, "electrode", results)


@job(output_schema=StageSummary)
def judge_charged_stability(run: BatteryRun) -> StageSummary:
    """Stage ``charged_hull``: distance of the charged hosts to the hull.

    Every reliable host competes, also one whose voltage does not please: a criterion must not move a hull.
    """
    table = run.open()
    electrodes = table.stage("electrode")
    reliable = {
        i
        for i, electrode in electrodes.items()
        if electrode.document and "energy_above_hull_charged" not in voided(electrode.reasons)
    }
    limit = run.campaign.charged.max_energy_above_hull
    return _judge_hull(run, table, "charged_hull", "electrode", limit, rivals=reliable)


@job
def rank(run: BatteryRun) -> dict[str, int]:
    """Score and order what is left, and close the run."""
    table = run.open()
    ids = table.survivors("charged_hull", STAGES)
    results = {stage: table.stage(stage) for stage in STAGES}
    rows: list[dict[str, Any]] = []
    for candidate in table.candidates(ids):
        i = candidate.candidate_id
        values: dict[str, Any] = {}
        for stage in (
            "charged_hull",
            "electrode",
            "hull",
        ):  # the decomposition shown is that of the discharged phase
            values |= results[stage][i].values
        flags: list[Reason] = []
        for stage in STAGES:
            flags += [reason for reason in results[stage][i].reasons if reason not in flags]
        rows.append({"candidate_id": i, "formula": candidate.formula, "values": values, "flags": flags})
    objectives = [
        Objective(name, o.weight, o.goal, low=o.low, high=o.high) for name, o in run.campaign.ranking.objectives.items()
    ]
    ranking: list[RankedCandidate] = rank_candidates(rows, objectives) if rows else []
    table.put_ranking(ranking)
    table.set_meta("finished", datetime.now(UTC).isoformat())
    table.set_meta("state", "complete")
    return {"n_ranked": len(ranking)}


def _number(value: float | None) -> float:
    assert value is not None  # a converged calculation has every number
    return value


def _judge_relaxations(
    run: BatteryRun,
    table: ResultsTable,
    stage: str,
    structures: dict[str, Structure],
    max_volume_change_percent: float | None,
) -> StageSummary:
    maker = run.relax_maker(stage, charged=stage == "relax_charged")
    documents = stored(table, {i: maker.key(structure) for i, structure in structures.items()})
    return write_verdicts(
        table,
        stage,
        [
            judge_relaxation(
                i, stage, document, fmax=maker.property.fmax, max_volume_change_percent=max_volume_change_percent
            )
            for i, document in documents.items()
        ],
    )


def _judge_hull(
    run: BatteryRun, table: ResultsTable, stage: str, after: str, limit: float, *, rivals: Set[str]
) -> StageSummary:
    """Verdicts of a hull stage on the survivors of ``after``.

    The charged hosts are those of the stage relax_charged, the discharged phases those of the stage relax. ``rivals``
    are the ids whose phases stand against the others; the rest is judged and competes with nothing.
    """
    ids = table.survivors(after, STAGES)
    computed = list(dict.fromkeys([*ids, *sorted(rivals)]))
    documents = stored(table, calculation_keys(table, "relax" if stage == "hull" else "relax_charged", computed))
    scheme = run.scheme()
    origin = provenance(run.model, {"corrections": scheme}, with_pymatgen=True)
    judged = set(ids)
    results: list[StageResult] = []
    entries: dict[str, ComputedStructureEntry] = {}
    warnings: dict[str, tuple[str, ...]] = {}
    for i in computed:
        corrected = document_entry(documents[i], scheme, i)
        if corrected.entry is not None:
            entries[i], warnings[i] = corrected.entry, corrected.warnings
        elif i in judged:
            reasons = [because("no_hull_distance", corrected.reason or "no corrected energy")]
            results.append(StageResult(candidate_id=i, stage=stage, status="error", reasons=reasons, provenance=origin))
    references = reference_entries(table, scheme)
    judged_entries = {i: entry for i, entry in entries.items() if i in judged}
    competitors = [entry for i, entry in entries.items() if i in rivals]
    positions = phase_positions(list(judged_entries.values()), references.entries, rivals=competitors)
    frame = energy_frame(run.model, scheme)
    surveys = stored_surveys(table)
    hull_verdicts: dict[str, HullVerdict] = {}
    graded: dict[str, HullCompleteness] = {}
    for i, position in zip(judged_entries, positions, strict=True):
        system, survey = position.chemsys, surveys.get(position.chemsys)
        if system not in graded:
            graded[system] = hull_completeness(
                system, position.competing, without_energy=references.missing_in(system), survey=survey
            )
        missing = graded[system].without_energy
        result = verdicts.judge_hull(
            i,
            position,
            stage=stage,
            limit=limit,
            missing_phases=missing,
            survey=survey,
            warnings=warnings[i],
            reliable=i in rivals,
        )
        result.provenance = origin
        if position.error is None and position.formation_energy_per_atom is not None:
            document = hull_document(position, frame, origin, missing, survey)
            result.document, hull_verdicts[i] = document.model_dump(mode="json"), document.verdict
        result.calculation_keys = [documents[i].key]
        results.append(result)
    if stage == "hull":
        summary = hull_summary(
            sorted(graded), references.entries, list(entries.values()), completeness=graded, verdicts=hull_verdicts
        )
        table.set_meta("hull_summary", summary)
    return write_verdicts(table, stage, results)

"""What a campaign would do, found out without computing anything: the answer of `dpa4 screen --dry-run`.

The stages that come before the first computation judge for real, in a table that is thrown away.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.completeness import HullCompleteness, Survey, hull_completeness, tally
from dpa4_flows.campaigns.config import Campaign
from dpa4_flows.campaigns.context import Scene, Screening, scene_of
from dpa4_flows.campaigns.flow import write_verdicts
from dpa4_flows.campaigns.hull import CompetingPhases
from dpa4_flows.campaigns.library import campaign_library, replace_phases
from dpa4_flows.campaigns.run import (
    TABLE_FILE,
    check_models,
    choose_corrections,
    further_models,
    is_begun,
    model_of,
    open_run,
    read_inputs,
)
from dpa4_flows.documents.schemas import StageResult
from dpa4_flows.reference.bundled_phases import bundled_keys
from dpa4_flows.reference.entries import chemical_system
from dpa4_flows.reference.library import ReferencePhase, select_for_chemsys
from dpa4_flows.store.table import ResultsTable

_UNKNOWN_SHA256 = "0" * 64
"""Stands for that of a model that is not in the cache; nothing is stored under it."""


@dataclass(frozen=True)
class Work:
    """Calculations of one stage.

    Attributes:
        name: what is computed.
        n_structures: how many; at most so many where stages before decide who is left.
        n_atoms: their atoms.
        n_stored: of them there already.
        at_most: whether fewer may come.
    """

    name: str
    n_structures: int
    n_atoms: int
    n_stored: int
    at_most: bool = False


@dataclass(frozen=True)
class Plan:
    """What would be computed.

    Attributes:
        name: name of the campaign.
        folder: run folder.
        model: model as the campaign names it.
        corrections: scheme that would be used; empty if the model is not there to tell.
        n_candidates: candidates read.
        rejected: verdicts of the stages that need no computation.
        work: calculations of each stage that computes something.
        chemical_systems: candidates by chemical system.
        completeness: what would compete in each chemical system, and what is missing there.
        notes: sentences for the user.
    """

    name: str
    folder: str
    model: str
    corrections: str
    n_candidates: int
    rejected: list[StageResult]
    work: list[Work]
    chemical_systems: dict[str, int]
    completeness: dict[str, HullCompleteness]
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain types."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["work"] = [asdict(item) for item in self.work]
        fields["completeness"] = {system: found.model_dump() for system, found in self.completeness.items()}
        fields["rejected"] = [
            r.model_dump(mode="json", include={"candidate_id", "stage", "reasons"}) for r in self.rejected
        ]
        return fields


def plan_campaign(campaign: Campaign, folder: Path) -> Plan:
    """Read everything that the campaign names, apply the stages that cost nothing, and count the rest.

    A model that is not in the cache yet is not fetched; then its elements are not checked.

    Raises:
        DPA4Error: a model or structure files cannot be used.
    """
    model = model_of(campaign)
    elements: Collection[int] = range(1, 119)
    asked = "none" if campaign.competition is None else campaign.competition.corrections
    corrections = "" if asked == "auto" else asked
    named = {"": model, **further_models(campaign)}
    notes = [words for one in named.values() if (words := one.not_here) is not None]
    check_models(campaign, {name: one for name, one in named.items() if one.not_here is None})
    present = model.not_here is None
    if present:
        info = model.info()
        elements = info.elements
        corrections, remarks = choose_corrections(campaign, info)
        notes += remarks
    model, *others = (
        one.resolve() if one.not_here is None else replace(one, sha256=_UNKNOWN_SHA256) for one in named.values()
    )
    models = dict(zip(further_models(campaign), others, strict=True))
    run = Screening(str(folder / TABLE_FILE), model, campaign, corrections, models=models)
    library = None
    if present:
        library, remarks = campaign_library(run, make=False)
        notes += remarks
    candidates, phases, surveys, _ = read_inputs(run, library, elements)
    stores: list[ResultsTable] = [open_run(folder)] if is_begun(folder) else []
    stores += [] if library is None else [library.table]
    with tempfile.TemporaryDirectory() as empty:
        table = ResultsTable(Path(empty) / TABLE_FILE)
        table.put_candidates(candidates)
        replace_phases(table, phases, surveys)
        rejected, ids, work = _pass(run, table, elements, stores)
        structures = [structure_of_fields(c.structure) for c in table.candidates(ids) if c.structure is not None]
    compared = any(type(stage.computes) is CompetingPhases for stage in campaign.funnel.stages)
    systems = Counter(map(chemical_system, structures)) if compared else Counter()
    return Plan(
        name=campaign.campaign.name,
        folder=str(folder),
        model=model.title,
        corrections=corrections,
        n_candidates=len(candidates),
        rejected=rejected,
        work=work,
        chemical_systems=dict(sorted(systems.items())),
        completeness={system: _completeness(system, list(phases.values()), surveys) for system in sorted(systems)},
        notes=notes,
    )


def _pass(
    run: Screening, table: ResultsTable, elements: Collection[int], stores: Sequence[ResultsTable]
) -> tuple[list[StageResult], list[str], list[Work]]:
    """Who leaves before anything is computed, who is left then, and what would be computed of these."""
    funnel = run.campaign.funnel
    rejected: list[StageResult] = []
    ids: list[str] | None = None
    work = []
    for stage in funnel.stages:
        scene = scene_of(run, stage.name, table)
        scene.known_elements = elements
        if stage in funnel.computing:
            entering = scene.ids() if ids is None else ids
            found = _work(scene, entering, stores)
            work += [found] if found.n_structures or not found.at_most else []
            if found.n_structures or stage not in funnel.orders:
                ids = entering
                continue
        if ids is None:
            write_verdicts(table, stage.name, scene.verdicts())
            rejected += [verdict for verdict in table.stage(stage.name).values() if not verdict.goes_on]
    if ids is None:
        ids = table.survivors(funnel.names[-1], funnel.names)
    return rejected, ids, work


def _work(scene: Scene, ids: list[str], stores: Sequence[ResultsTable]) -> Work:
    """Calculations of a stage, and how many of them there are already."""
    computes = scene.stage.computes
    assert computes is not None
    if not computes.from_inputs:  # made of what stages before find; of a candidate's size, as far as anybody knows
        atoms = [len(c.structure["sites"]) for c in scene.table.candidates(ids) if c.structure is not None]
        n_structures, n_atoms = computes.foreseen(scene, ids) or (len(ids), sum(atoms))
        return Work(computes.of, n_structures, n_atoms, 0, at_most=True)
    found = computes.work(scene, ids)
    stored = set(bundled_keys(scene.run.model.sha256 or "", found.keys()))
    for store in stores:
        stored |= computes.stored(store, found)
    return Work(computes.of, len(found), sum(found.values()), len(stored))


def _completeness(system: str, phases: Sequence[ReferencePhase], surveys: Mapping[str, Survey]) -> HullCompleteness:
    """What would compete in one chemical system if every phase gets an energy."""
    inside = select_for_chemsys(phases, [system])
    counted = tally((phase.structure.composition, phase.role) for phase in inside)
    return hull_completeness(system, counted, survey=surveys.get(system))

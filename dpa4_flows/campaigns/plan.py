"""What a campaign would do, found out without computing anything: the answer of `dpa4 screen --dry-run`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.model import registry
from dpa4_flows.analysis.completeness import HullCompleteness, Survey, hull_completeness, tally
from dpa4_flows.analysis.duplicates import group_duplicates
from dpa4_flows.campaigns.battery import BatteryRun
from dpa4_flows.campaigns.battery_verdicts import judge_duplicate, judge_sanity
from dpa4_flows.campaigns.candidates import read_candidates
from dpa4_flows.campaigns.config import BatteryCampaign
from dpa4_flows.campaigns.library import campaign_library, further_phases
from dpa4_flows.campaigns.run import TABLE_FILE, choose_corrections, is_begun, model_of, open_run
from dpa4_flows.makers.references import find_phases
from dpa4_flows.reference.bundled_phases import bundled_keys
from dpa4_flows.reference.library import ReferencePhase, select_for_chemsys
from dpa4_flows.reference.proposed import with_proposals
from dpa4_flows.reference.sources import file_surveys
from dpa4_flows.reference.store import ReferenceStore
from dpa4_flows.schemas import StageResult


@dataclass(frozen=True)
class Work:
    """Relaxations of one kind."""

    name: str
    n_structures: int
    n_atoms: int
    n_stored: int


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
        work: relaxations.
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
            {
                "candidate_id": r.candidate_id,
                "stage": r.stage,
                "reasons": [reason.model_dump() for reason in r.reasons],
            }
            for r in self.rejected
        ]
        return fields


def plan_campaign(campaign: BatteryCampaign, folder: Path) -> Plan:
    """Read everything that the campaign names, apply the stages that cost nothing, and count the rest.

    A model that is not in the cache yet is not fetched; then its elements are not checked.

    Raises:
        DPA4Error: model or structure files cannot be used.
    """
    model = model_of(campaign)
    notes = []
    elements: Collection[int] = range(1, 119)
    corrections: str = "" if campaign.hull.corrections == "auto" else campaign.hull.corrections
    present = model.name not in registry.REGISTRY or registry.is_cached(model.name)
    if present:
        model = model.resolve()
        info = model.info()
        elements = info.elements
        corrections, remarks = choose_corrections(campaign, info)
        notes += remarks
    else:
        notes.append(f"model {model.name} is not in the cache: its elements were not checked, and it will be fetched")
    candidates = read_candidates(campaign.campaign.candidates)
    verdicts = [judge_sanity(candidate, campaign, elements) for candidate in candidates]
    alive = {verdict.candidate_id for verdict in verdicts if verdict.goes_on}
    structures = {
        c.candidate_id: structure_of_fields(c.structure)
        for c in candidates
        if c.candidate_id in alive and c.structure is not None
    }
    verdicts += [judge_duplicate(i, other) for i, other in group_duplicates(structures).items()]
    rejected = [verdict for verdict in verdicts if not verdict.goes_on]
    for verdict in rejected:
        structures.pop(verdict.candidate_id, None)
    systems = Counter(structure.composition.chemical_system for structure in structures.values())
    phases = find_phases(systems, campaign.hull.competing, bundled=campaign.hull.bundled)
    run = BatteryRun(table=str(folder / TABLE_FILE), model=model, campaign=campaign, corrections=corrections)
    library = None
    if present:
        library, remarks = campaign_library(run, make=False)
        notes += remarks
    if library is not None:
        phases += further_phases(library, systems, phases).values()
    surveys = file_surveys(campaign.hull.competing, systems)
    surveys |= {} if library is None else library.surveys(systems)
    if campaign.hull.prototypes:
        phases = with_proposals(systems, phases, elements)
    work = [
        _work("candidates", list(structures.values()), run, folder, present),
        _work("competing phases", [phase.structure for phase in phases], run, folder, present, library),
    ]
    return Plan(
        name=campaign.campaign.name,
        folder=str(folder),
        model=model.name,
        corrections=corrections,
        n_candidates=len(candidates),
        rejected=rejected,
        work=work,
        chemical_systems=dict(sorted(systems.items())),
        completeness={system: _completeness(system, phases, surveys) for system in sorted(systems)},
        notes=notes,
    )


def _completeness(system: str, phases: Sequence[ReferencePhase], surveys: Mapping[str, Survey]) -> HullCompleteness:
    """What would compete in one chemical system if every phase gets an energy."""
    inside = select_for_chemsys(phases, [system])
    counted = tally((phase.structure.composition, phase.role) for phase in inside)
    return hull_completeness(system, counted, survey=surveys.get(system))


def _work(
    name: str,
    structures: Sequence[Structure],
    run: BatteryRun,
    folder: Path,
    present: bool,
    library: ReferenceStore | None = None,
) -> Work:
    """Count relaxations, and those that the run folder or the library has already."""
    stored: set[str] = set()
    if present:
        maker = run.relax_maker(name)
        keys = {maker.key(structure) for structure in structures}
        stored |= bundled_keys(maker.model.sha256 or "", keys)
        if is_begun(folder):
            stored |= open_run(folder).existing_keys(keys)
        if library is not None:
            stored |= library.table.existing_keys(keys)
    return Work(name, len(structures), sum(map(len, structures)), len(stored))

"""What competes in a campaign: phases in the results table of the run, taken from files and from the library that all
hulls share, which gets what was computed.

Both happen where the campaign is started: jobs on other machines need to see neither. Keys of calculations agree, since
the library is one of the same model and settings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.completeness import Survey
from dpa4_flows.campaigns.context import Screening
from dpa4_flows.campaigns.sections import CACHE, NONE
from dpa4_flows.compute.plan import Crystal
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.calculations import plain_structure
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.reference.library import ReferencePhase
from dpa4_flows.reference.store import ReferenceStore
from dpa4_flows.reference.table import PhaseRow, ReferenceTable, usable_problem
from dpa4_flows.store.table import ResultsError, ResultsTable, TableRef

REFERENCES = "references"
"""Fact of a run: the phases that stand on its hulls, for the report."""
_EARLIER, _EARLIER_SURVEYS = "competing", "surveys"
"""Facts of a run in which earlier versions kept the phases, and who surveyed them."""


def campaign_library(run: Screening, *, make: bool = True) -> tuple[ReferenceStore | None, list[str]]:
    """The library that belongs to model and settings of a campaign, and what to say if it cannot be used.

    Args:
        run: the campaign with its model.
        make: make a new one where there is none; otherwise there is none then.
    """
    competition = run.campaign.competition
    if competition is None or competition.library == NONE:
        return None, []
    folder = None if competition.library == CACHE else competition.library
    try:
        find = ReferenceStore.for_model if make else ReferenceStore.find
        return find(run.model, run.relaxed, folder), []
    except (OSError, ResultsError) as error:
        return None, [f"the library of competing phases cannot be used, all are computed anew: {error}"]


def run_library(run: Screening) -> ReferenceStore:
    """The phases that compete in a run as a library of their own; one object for all candidates, as `for_model` has."""
    return _library(run.ref, run.model, run.relaxed)


@lru_cache(maxsize=2)
def _library(table: TableRef, model: ModelRef, relaxation: Relaxed) -> ReferenceStore:
    return ReferenceStore(ReferenceTable.in_run(table.open()), model, relaxation, model.info())


def keyed(run: Screening, phases: Iterable[ReferencePhase]) -> dict[str, ReferencePhase]:
    """Phases by the key of their relaxation; one that two files hold is one."""
    found: dict[str, ReferencePhase] = {}
    for phase in phases:
        found.setdefault(run.relaxed.key(Crystal(phase.structure), run.model), phase)
    return found


def replace_phases(table: ResultsTable, phases: Mapping[str, ReferencePhase], surveys: Mapping[str, Survey]) -> None:
    """Let phases compete in a run, instead of those of before."""
    ReferenceTable.in_run(table).replace_phases(_rows(phases), surveys)


def put_phases(table: ResultsTable, phases: Mapping[str, ReferencePhase]) -> None:
    """Let further phases compete in a run."""
    if phases:
        ReferenceTable.in_run(table).put_phases(_rows(phases))


def _rows(phases: Mapping[str, ReferencePhase]) -> list[tuple[str, ReferencePhase, Any]]:
    return [(key, one, plain_structure(one.structure)) for key, one in phases.items()]


def earlier_phases(run: Screening, table: ResultsTable) -> tuple[dict[str, ReferencePhase], dict[str, Survey]]:
    """Phases of a run of an earlier version, and surveys of them; nothing of a run of today."""
    if ReferenceTable.in_run(table).phases():
        return {}, {}
    rows = [{**row, "structure": structure_of_fields(row["structure"])} for row in table.get_meta(_EARLIER, [])]
    surveys = table.get_meta(_EARLIER_SURVEYS, {})
    told = {system: Survey.model_validate(survey) for system, survey in surveys.items()}
    return keyed(run, (ReferencePhase(**row) for row in rows)), told


def further_phases(store: ReferenceStore, systems: Iterable[str], present: Iterable[str]) -> dict[str, ReferencePhase]:
    """Phases of the chemical systems that the library knows beside those that are ``present``, by key."""
    have = set(present)
    return phases_of(store.table, (row for row in store.table.phases(systems) if row.key not in have))


def phases_of(table: ReferenceTable, rows: Iterable[PhaseRow]) -> dict[str, ReferencePhase]:
    """Phases with their structures, by key."""
    by_key = {row.key: row for row in rows}
    structures = table.structures(list(by_key))
    return {key: ReferencePhase(row.name, structures[key], row.source, row.role) for key, row in by_key.items()}


def borrow(store: ReferenceStore, table: ResultsTable, keys: Iterable[str]) -> None:
    """Copy relaxations that the library has and the run has not."""
    wanted = _lacking(ReferenceTable.in_run(table), store.table, set(keys))
    table.put_calculations(store.table.calculations(wanted).values())


def _lacking(there: ReferenceTable, elsewhere: ReferenceTable, keys: Collection[str]) -> set[str]:
    """Relaxations that are nowhere in a table, or without a usable energy there and with one elsewhere."""
    known, others = there.states(list(keys)), elsewhere.states(list(keys))
    return {
        key
        for key in keys
        if key not in known or (usable_problem(known, key) is not None and usable_problem(others, key) is None)
    }


def give_back(store: ReferenceStore, table: ResultsTable) -> list[str]:
    """Add competing phases that the run relaxed to the library; gives what to say if that is not possible."""
    own = ReferenceTable.in_run(table)
    rows = {row.key: row for row in own.phases()}
    missing = _lacking(store.table, own, rows.keys())
    documents = {key: d for key, d in table.calculations(missing).items() if d.error is None}
    try:
        store.add(phases_of(own, map(rows.__getitem__, documents)).values(), documents.values())
    except ResultsError as error:
        return [f"the competing phases of this run were not added to the library: {error}"]
    return []

"""A campaign takes competing phases from the library that all hulls share, and gives it what it computed.

Both happen where the campaign is started, and go through the results table of the run: jobs on other machines need not
see the library. Keys of calculations agree, since the library is one of the same model and settings.
"""

from __future__ import annotations

from collections.abc import Iterable

from dpa4_flows.campaigns.context import Screening
from dpa4_flows.campaigns.sections import CACHE, NONE
from dpa4_flows.makers.references import stored_phases
from dpa4_flows.reference.library import ReferencePhase
from dpa4_flows.reference.store import ReferenceStore
from dpa4_flows.store.table import ResultsError, ResultsTable


def campaign_library(run: Screening, *, make: bool = True) -> tuple[ReferenceStore | None, list[str]]:
    """The library that belongs to model and settings of a campaign, and what to say if it cannot be used.

    Args:
        run: the campaign with its model.
        make: make a new one where there is none; otherwise there is none then.
    """
    competition = run.campaign.competition
    if competition is None or competition.library == NONE:
        return None, []
    name = competition.library
    maker, folder = run.relax_maker("competing phases"), None if name == CACHE else name
    try:
        find = ReferenceStore.for_model if make else ReferenceStore.find
        return find(maker.model, maker.property, folder), []
    except (OSError, ResultsError) as error:
        return None, [f"the library of competing phases cannot be used, all are computed anew: {error}"]


def further_phases(
    store: ReferenceStore, systems: Iterable[str], phases: Iterable[ReferencePhase]
) -> dict[str, ReferencePhase]:
    """Phases of the chemical systems that the library knows and ``phases`` lack, by the key of their relaxation."""
    present = {store.key(phase.structure) for phase in phases}
    rows = [row for row in store.table.phases(systems) if row.key not in present]
    structures = store.table.structures([row.key for row in rows])
    return {row.key: ReferencePhase(row.name, structures[row.key], row.source, row.role) for row in rows}


def borrow(store: ReferenceStore, table: ResultsTable, phases: Iterable[ReferencePhase]) -> None:
    """Copy relaxations of ``phases`` that the library has and the run has not."""
    keys = {store.key(phase.structure) for phase in phases}
    known = store.table.calculations(keys - table.existing_keys(keys))
    table.put_calculations(known.values())


def give_back(store: ReferenceStore, table: ResultsTable) -> list[str]:
    """Add competing phases that the run relaxed to the library; gives what to say if that is not possible."""
    phases = {store.key(phase.structure): phase for phase in stored_phases(table)}
    missing = phases.keys() - store.table.existing_keys(phases)
    documents = {key: d for key, d in table.calculations(missing).items() if d.error is None}
    try:
        store.add((phases[key] for key in documents), documents.values())
    except ResultsError as error:
        return [f"the competing phases of this run were not added to the library: {error}"]
    return []

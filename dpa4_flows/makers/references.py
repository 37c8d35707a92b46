"""Competing phases, computed by the same model with the same settings as the candidates: the only ones that
may stand on a hull beside them. They are named in the results table, and so are those that could not be
computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from jobflow import Flow, Response, job
from pymatgen.core import Composition, Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.completeness import Survey
from dpa4_flows.documents.calculations import plain_structure
from dpa4_flows.documents.schemas import ChunkSummary, RelaxationDocument
from dpa4_flows.makers.batch import BatchRelaxMaker
from dpa4_flows.makers.chunks import chunk_flow
from dpa4_flows.makers.model_reference import WholeMaker, takes_model
from dpa4_flows.makers.table_reference import takes_table
from dpa4_flows.reference.bundled_phases import bundled_relaxations
from dpa4_flows.reference.entries import ReferenceEntries, chemical_system, entries_of_phases
from dpa4_flows.reference.library import ReferencePhase, select_for_chemsys
from dpa4_flows.reference.proposed import with_proposals
from dpa4_flows.reference.sources import file_surveys, find_phases
from dpa4_flows.store.table import ResultsTable, TableRef, open_for_job

SOURCE = "dpa4_flows.makers.references:reference_structures"
"""Where chunk jobs find the structures of competing phases, whose ids are the keys of their relaxations."""

_COMPETING = "competing"  # meta entry: [{name, structure, source, role}], as read when the run was prepared
_SURVEYS = "surveys"  # meta entry: {chemical system: survey of its phases}
_ROWS = "references"  # meta entry: [{name, formula, source, role, key, n_atoms}]
_STRUCTURE = "reference_structure/"  # meta entries, each with a key: structure; a worker need not have the files
_STRUCTURES = "reference_structures"  # meta entry of earlier versions: {key: structure}


@dataclass
class ReferenceMaker(WholeMaker):
    """Relax the competing phases of chemical systems: those that come with the program and whatever the files hold.

    Args:
        name: name of the job.
        model: potential.
        relax_maker: the Maker that relaxes the candidates, so that model and settings are the same.
        files: files of competing phases, see `load_phases`.
        bundled: compounds that come with the program compete; elements always do.
        prototypes: propose compounds for systems of two or three elements in which none is known.
        chunk_size: structures per job.
    """

    name: str = "competing phases"
    relax_maker: BatchRelaxMaker = field(default_factory=BatchRelaxMaker)
    files: list[str] = field(default_factory=list)
    bundled: bool = True
    prototypes: bool = True
    chunk_size: int = 100

    @takes_table
    @takes_model(job)
    def make(
        self,
        table: str | TableRef,
        chemical_systems: list[str] | None = None,
        structures: list[Structure] | None = None,
    ) -> Response | ChunkSummary:
        """Find the phases, record them in the table, and relax those that are not there yet.

        Args:
            table: the results table, or its path; made here, where the job is made, if missing.
            chemical_systems: as ``"Co-Li-O"``.
            structures: instead, structures whose chemical systems are meant.
        """
        systems = sorted({*(chemical_systems or ()), *map(chemical_system, structures or ())})
        results = open_for_job(table, shared=self.relax_maker.shared_table)
        phases = find_phases(systems, self.files, bundled=self.bundled)
        if self.prototypes:
            phases = with_proposals(systems, phases, self.relax_maker.model.info().elements)
        put_surveys(results, stored_surveys(results) | file_surveys(self.files, systems))
        return self.replace_phases(results, phases)

    def replace_phases(self, table: ResultsTable, phases: Iterable[ReferencePhase]) -> Response | ChunkSummary:
        """What `make` returns, for phases that were found already."""
        keys = add_references(table, phases, self.relax_maker)
        if not keys:
            return ChunkSummary(n_requested=0, n_computed=0, n_reused=0, n_failed=0)
        flow: Flow = chunk_flow(
            self.relax_maker, table.ref(), keys, source=SOURCE, chunk_size=self.chunk_size, name=self.name
        )
        return Response(replace=flow)


def put_phases(table: ResultsTable, phases: Iterable[ReferencePhase]) -> None:
    """Store phases as they were read, for jobs on machines that do not have the files."""
    rows = [
        {
            "name": phase.name,
            "structure": plain_structure(phase.structure).as_dict(),
            "source": phase.source,
            "role": phase.role,
        }
        for phase in phases
    ]
    table.set_meta(_COMPETING, rows)


def put_surveys(table: ResultsTable, surveys: Mapping[str, Survey]) -> None:
    """Store who surveyed the phases of chemical systems, beside `put_phases`."""
    table.set_meta(_SURVEYS, {system: survey.model_dump() for system, survey in surveys.items()})


def stored_surveys(table: ResultsTable) -> dict[str, Survey]:
    """What `put_surveys` stored, by chemical system."""
    return {system: Survey.model_validate(survey) for system, survey in table.get_meta(_SURVEYS, {}).items()}


def stored_phases(table: ResultsTable, chemical_systems: Iterable[str] | None = None) -> list[ReferencePhase]:
    """Phases that `put_phases` stored, all or as far as they lie in one of the chemical systems."""
    rows = table.get_meta(_COMPETING, [])
    phases = [ReferencePhase(**{**row, "structure": structure_of_fields(row["structure"])}) for row in rows]
    return phases if chemical_systems is None else select_for_chemsys(phases, chemical_systems)


def add_references(table: ResultsTable, phases: Iterable[ReferencePhase], maker: BatchRelaxMaker) -> list[str]:
    """Record ``phases`` in the table, beside those that are there, with the relaxations that come with the program.

    Returns the keys of their relaxations by ``maker``.
    """
    rows = {row["key"]: row for row in table.get_meta(_ROWS, [])}
    structures = {}
    keys = []
    for phase in phases:
        key = maker.key(phase.structure)
        keys.append(key)
        if key not in rows:  # a phase that two files hold is one phase
            rows[key] = phase.row(key)
            structures[_STRUCTURE + key] = plain_structure(phase.structure).as_dict()
    table.set_metas(structures)
    table.set_meta(_ROWS, list(rows.values()))
    known = bundled_relaxations(maker.model.sha256 or "", set(keys) - table.existing_keys(keys))
    table.put_calculations(known.values())
    return list(dict.fromkeys(keys))


def reference_structures(table: ResultsTable, ids: list[str]) -> list[Structure]:
    """Input structures of competing phases by the keys of their relaxations; a source of chunk jobs."""
    found = table.get_metas([_STRUCTURE + key for key in ids])
    earlier = {} if len(found) == len(set(ids)) else table.get_meta(_STRUCTURES, {})
    return [structure_of_fields(found.get(_STRUCTURE + key) or earlier[key]) for key in ids]


def reference_entries(table: ResultsTable, scheme: str) -> ReferenceEntries:
    """Corrected entries of all competing phases that the table records.

    Args:
        table: the results table.
        scheme: correction scheme, see `correction_scheme`.
    """
    rows = table.get_meta(_ROWS, [])
    return entries_of_phases(rows, table.calculations(row["key"] for row in rows), scheme)


def lowest_element(table: ResultsTable, symbol: str) -> RelaxationDocument:
    """The converged elemental phase of lowest energy per atom, uncorrected, among the recorded references.

    Raises:
        DPA4Error: there is none.
    """
    keys = [row["key"] for row in table.get_meta(_ROWS, []) if Composition(row["formula"]).chemical_system == symbol]
    documents = [d for d in table.calculations(keys).values() if d.converged and d.energy_per_atom is not None]
    if not documents:
        raise DPA4Error(
            f"results table {table.path} has no energy of elemental {symbol}: compute the competing phases first"
        )
    return min(documents, key=lambda d: d.energy_per_atom or 0.0)

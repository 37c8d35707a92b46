"""Energies above the hull of any structures: relax them, relax what competes with them, correct, and compare.

flow = ConvexHullMaker(files=["li_co_o_phases.json.gz"]).make(structures)
responses = run_local(flow, "hull")
for document in responses[flow.output.uuid][1].output.documents:
    print(document.formula, document.energy_above_hull)

With ``store="cache"`` the competing phases come from the library that all hulls share, see `ReferenceStore`.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jobflow import Flow, Job, JobOrder, job
from pydantic import Field
from pymatgen.core import Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

from dpa4_core.model.info import ModelInfo
from dpa4_flows.analysis.completeness import HullCompleteness, Survey, hull_completeness, hull_verdict
from dpa4_flows.analysis.hull import HullResult, hull_summary, phase_positions
from dpa4_flows.analysis.hull_warnings import scheme_warnings, system_warnings
from dpa4_flows.analysis.thermodynamics import at_temperature, gibbs_entries
from dpa4_flows.calculations import RATTLE
from dpa4_flows.makers.batch import BatchRelaxMaker
from dpa4_flows.makers.model_reference import WholeMaker
from dpa4_flows.makers.references import ReferenceMaker, reference_entries, stored_surveys
from dpa4_flows.properties.relaxed import Relaxed
from dpa4_flows.provenance import energy_frame, provenance
from dpa4_flows.reference.entries import ReferenceEntries, chemical_system, correction_scheme, document_entry
from dpa4_flows.reference.sources import default_sources
from dpa4_flows.reference.store import BuildSummary, ReferenceStore, library_folder
from dpa4_flows.results import ResultsError, TableRef, open_for_job, table_for_jobs
from dpa4_flows.schemas import Document, EnergyFrame, HullDocument, Provenance, RelaxationDocument
from dpa4_flows.site_conversion import all_with_written_masses

CACHE = "cache"
"""Name of the library in the cache folder of the program, where a folder of another library may be given."""


class HullSet(Document):
    """Where some structures lie with respect to the hulls of their chemical systems."""

    documents: list[HullDocument | None] = Field(
        description="One per structure, in order; None where there is an error"
    )
    errors: list[str | None] = Field(description="One sentence per structure that has no document")
    warnings: list[str] = Field(default_factory=list, description="What to know before quoting the numbers")
    frame: EnergyFrame
    completeness: dict[str, HullCompleteness] = Field(
        default_factory=dict, description="What competes in each chemical system, without the structures themselves"
    )
    summary: dict[str, Any] = Field(description="Phases of each chemical system, see analysis.hull.hull_summary")


def pushed_relaxation() -> BatchRelaxMaker:
    """Relaxations as `dpa4 hull` and campaigns make them, so that all read one library."""
    return BatchRelaxMaker(property=Relaxed(rattle=RATTLE))


@dataclass
class ConvexHullMaker(WholeMaker):
    """Flow that relaxes structures and their competing phases with one model and places them on the hull.

    The competing phases are those that come with the program and those in ``files``: a distance is only as good
    as they are complete. For more than some hundred structures make a campaign, whose jobs carry ids instead of
    structures.

    Args:
        name: name of the flow.
        model: potential of all relaxations.
        relax_maker: relaxes candidates and competing phases; by default pushes atoms off saddle points.
        files: files of competing phases.
        bundled: compounds that come with the program compete; elements always do.
        prototypes: propose compounds for systems of two or three elements in which none is known.
        corrections: ``"auto"`` takes the scheme that fits the model; ``"none"``, ``"MP2020"``, ``"OMat24"``.
        candidates_compete: structures also stand against each other.
        store: library of competing phases to use and to add to: ``"cache"``, or the folder of another one. None
            computes them for this hull alone.
    """

    name: str = "convex hull"
    relax_maker: BatchRelaxMaker = field(default_factory=pushed_relaxation)
    files: list[str] = field(default_factory=list)
    bundled: bool = True
    prototypes: bool = True
    corrections: str = "auto"
    candidates_compete: bool = True
    store: str | None = None

    def make(self, structures: list[Structure], table: str | Path | TableRef = "hull.sqlite") -> Flow:
        """Flow whose output is a `HullSet`.

        Args:
            structures: structures, or the output of a job that gives a list of them.
            table: results table; what it holds from earlier runs is not computed again.
        """
        path = table_for_jobs(table, shared=self.relax_maker.shared_table)
        structures = all_with_written_masses(structures)
        files = [str(Path(file).resolve()) for file in self.files]
        relaxation = self.relax_maker.make(table=path, structures=structures)
        references: Flow | Job
        if self.store is None:
            references = ReferenceMaker(
                relax_maker=self.relax_maker, files=files, bundled=self.bundled, prototypes=self.prototypes
            ).make(path, structures=structures)
        else:
            references = build_references(
                self.store, structures, self.relax_maker, files, self.bundled, self.prototypes
            )
        placing = place_on_hull(
            path, structures, self.relax_maker, self.corrections, self.candidates_compete, self.store
        )
        placing.name = self.name
        return Flow([relaxation, references, placing], output=placing.output, name=self.name, order=JobOrder.LINEAR)


@job(output_schema=BuildSummary)
def build_references(
    store: str,
    structures: list[Structure],
    relax_maker: BatchRelaxMaker,
    files: list[str],
    bundled: bool = True,
    prototypes: bool = True,
) -> BuildSummary:
    """Relax what a library lacks for the chemical systems of ``structures``."""
    library = ReferenceStore.for_model(relax_maker, _folder(store))
    sources = default_sources(files, bundled=bundled)
    systems = [chemical_system(structure) for structure in structures]
    return library.build(systems, sources, prototypes=prototypes)


@job(output_schema=HullSet)
def place_on_hull(
    table: str | TableRef,
    structures: list[Structure],
    relax_maker: BatchRelaxMaker,
    corrections: str,
    candidates_compete: bool,
    store: str | None = None,
) -> HullSet:
    """Hull documents of structures whose relaxations, and those of their competing phases, are in the table or
    the library.

    Raises:
        FrameError: the table holds energies of another model or level of theory under the same phases.
    """
    results = open_for_job(table, shared=relax_maker.shared_table)
    info = relax_maker.model.info()
    scheme = correction_scheme(info, corrections)
    keys = [relax_maker.key(structure) for structure in structures]
    stored = results.calculations(keys)
    if lost := [structure for structure, key in zip(structures, keys, strict=True) if key not in stored]:
        raise ResultsError(
            f"{len(lost)} relaxations are not in {results.path}, that of {lost[0].reduced_formula} is the first; start "
            "the flow again"
        )
    if store is None:
        references, surveys = reference_entries(results, scheme), stored_surveys(results)
    else:
        if ReferenceStore.find(relax_maker, _folder(store)) is None:  # the job before has made it
            where = library_folder(_folder(store))
            raise ResultsError(
                f"there is no library of competing phases in {where} on {socket.gethostname()}: "
                "name a folder that all workers share as store, or none"
            )
        library = ReferenceStore.for_model(relax_maker, _folder(store))
        systems = {chemical_system(structure) for structure in structures}
        references, surveys = library.references(systems, scheme), library.surveys(systems)
    return hull_set(
        [stored[key] for key in keys],
        references,
        info,
        scheme,
        settings=relax_maker.settings(),
        candidates_compete=candidates_compete,
        surveys=surveys,
    )


@dataclass(frozen=True)
class HullPhases:
    """Entries of one frame that can stand on one hull.

    Attributes:
        candidates: entries of the structures that have one, by their position.
        competing: entries of the competing phases.
        reasons: why the others have none, by their position.
        warnings: sentences on the corrections, by position.
    """

    candidates: dict[int, ComputedEntry]
    competing: list[ComputedEntry]
    reasons: dict[int, str]
    warnings: dict[int, tuple[str, ...]]


def hull_phases(
    documents: Sequence[RelaxationDocument],
    references: ReferenceEntries,
    scheme: str,
    temperature: float | None = None,
) -> HullPhases:
    """Entries of calculated structures and of what competes with them; arguments as in `hull_set`."""
    corrected = [document_entry(document, scheme, f"structure {i}") for i, document in enumerate(documents)]
    candidates = {i: c.entry for i, c in enumerate(corrected) if c.entry is not None}
    reasons = {i: c.reason or "no corrected energy" for i, c in enumerate(corrected) if c.entry is None}
    warnings = {i: c.warnings for i, c in enumerate(corrected)}
    if temperature is None:
        return HullPhases(dict(candidates), list(references.entries), reasons, warnings)
    for i, entry in candidates.items():
        entry.data["position"] = i
    solids = [entry for entry in references.entries if isinstance(entry, ComputedStructureEntry)]
    found = gibbs_entries([*candidates.values(), *solids], temperature)
    at = {entry.data["position"]: entry for entry in found if "position" in entry.data}
    for i in candidates.keys() - at.keys():
        formula = candidates[i].composition.reduced_formula
        reasons[i] = (
            f"{formula} has no Gibbs energy: only the lowest form of an element has one, a compound needs them all"
        )
        if not documents[i].converged:
            reasons[i] = f"the relaxation of {formula} did not converge; unconverged energies do not enter a hull"
    competing = [entry for entry in found if "position" not in entry.data]
    return HullPhases(dict(at), list(competing), reasons, warnings)


def hull_set(
    documents: Sequence[RelaxationDocument],
    references: ReferenceEntries,
    info: ModelInfo,
    scheme: str,
    *,
    settings: Mapping[str, Any],
    candidates_compete: bool = True,
    surveys: Mapping[str, Survey] = MappingProxyType({}),
    competing_energies: str = "the same model",
    temperature: float | None = None,
) -> HullSet:
    """Where calculated structures lie above the hull of references.

    Args:
        documents: calculations of the structures.
        references: competing phases in the same energy frame.
        info: identity card of the model.
        scheme: correction scheme of the references.
        settings: of the calculations, for the provenance.
        candidates_compete: structures also stand against each other.
        surveys: who surveyed the phases of chemical systems; the others nobody did.
        competing_energies: who computed the references.
        temperature: K; Gibbs energies take the place of those at 0 K. References need structures then, see
            `ReferenceStore.with_structures`.

    Raises:
        FrameError: the frames differ.
        ThermodynamicsError: a temperature that the descriptor of Gibbs energies does not reach.
    """
    phases = hull_phases(documents, references, scheme, temperature)
    entries = list(phases.candidates.values())
    places = dict(
        zip(
            phases.candidates,
            phase_positions(entries, phases.competing, candidates_compete=candidates_compete),
            strict=True,
        )
    )
    of_product: dict[str, list[str]] = {}
    for entry in references.entries:
        of_product.setdefault(entry.composition.reduced_formula, []).extend(entry.data.get("warnings", []))

    frame = energy_frame(info, scheme)
    origin = provenance(info, {**settings, "corrections": scheme}, with_pymatgen=True)
    if temperature is not None:
        frame.correction = at_temperature(scheme, temperature)
        origin.settings["temperature"] = temperature
    found = HullSet(documents=[], errors=[], frame=frame, summary={})
    found.warnings += scheme_warnings(info.level_of_theory, info.corrections, scheme)
    lost: dict[str, list[str]] = {}  # by chemical system, phases without an energy
    for i in range(len(documents)):
        position = places.get(i)
        error = phases.reasons[i] if position is None else _problem(position)
        document = None
        if position is not None and error is None:
            system = position.chemsys
            warnings = [
                *phases.warnings[i],
                *system_warnings(system.split("-"), info.level_of_theory, scheme),
                *(text for product in position.decomposition for text in of_product.get(product, [])),
            ]
            survey = surveys.get(system)
            if system not in lost:
                lost[system] = references.missing_in(system)
                found.completeness[system] = hull_completeness(
                    system, position.competing, without_energy=lost[system], survey=survey
                )
            document = hull_document(position, frame, origin, lost[system], survey)
            document.competing_energies = competing_energies
            document.warnings = list(dict.fromkeys(warnings))
        found.documents.append(document)
        found.errors.append(error)
    said = [text for document in found.documents if document is not None for text in document.warnings]
    found.warnings = list(dict.fromkeys([*found.warnings, *said]))
    found.completeness = dict(sorted(found.completeness.items()))
    verdicts = {
        str(phases.candidates[i].entry_id): document.verdict
        for i, document in enumerate(found.documents)
        if document is not None
    }
    found.summary = hull_summary(
        list(found.completeness), phases.competing, entries, completeness=found.completeness, verdicts=verdicts
    )
    return found


def _folder(store: str) -> str | None:
    return None if store == CACHE else store


def _problem(position: HullResult) -> str | None:
    """Why there is no document; a hull without an elemental reference has distances but no formation
    energies.
    """
    if position.error is None and position.formation_energy_per_atom is None:
        missing = ", ".join(position.missing_references)
        return f"{position.formula} has no formation energy: no reference for {missing}"
    return position.error


def hull_document(
    position: HullResult,
    frame: EnergyFrame,
    origin: Provenance,
    missing_phases: Sequence[str] = (),
    survey: Survey | None = None,
) -> HullDocument:
    """Document of one position.

    Args:
        position: from `phase_positions`, with formation energy and without error.
        frame: energy frame of candidates and competing phases.
        origin: provenance.
        missing_phases: competing phases that are known but have no energy.
        survey: of the phases of the chemical system.
    """
    assert position.formation_energy_per_atom is not None and position.energy_above_hull is not None
    completeness = position.completeness(missing_phases, survey)
    verdict = hull_verdict(position.energy_above_hull, position.distance_to_competing, completeness)
    return HullDocument(
        formula=position.formula,
        chemsys=position.chemsys,
        energy_per_atom_corrected=position.energy_per_atom_corrected,
        correction_per_atom=position.correction_per_atom,
        corrections=position.corrections,
        formation_energy_per_atom=position.formation_energy_per_atom,
        energy_above_hull=None if verdict.code == "unknown" else position.energy_above_hull,
        distance_to_competing=position.distance_to_competing,
        decomposition=position.decomposition,
        n_competing=position.n_competing,
        verdict=verdict,
        completeness=completeness,
        frame=frame,
        provenance=origin,
    )

"""A whole hull of the model against that of computed entries: does it find the same phases stable?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pymatgen.entries.computed_entries import ComputedStructureEntry

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.completeness import on_hull
from dpa4_flows.analysis.duplicates import group_duplicates
from dpa4_flows.analysis.hull import phase_positions
from dpa4_flows.analysis.hull_comparison import (
    Agreement,
    ComparedPhase,
    ComparisonError,
    agreement,
    compare_hulls,
    distinct_crystals,
)
from dpa4_flows.compute.files import names_files
from dpa4_flows.compute.plan import Ask, Crystal, Crystals, Plan, PlanError, Property
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.quantities import Unit, shown
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.competition import together
from dpa4_flows.properties.part import whole_crystal
from dpa4_flows.reference.entries import correction_scheme, entries_of_phases
from dpa4_flows.reference.entries_file import read_entries


class Comparison(Document):
    """What one correction scheme gives."""

    scheme: str = Field(description="Corrections of the model")
    phases: list[ComparedPhase] = Field(description="Every phase on both hulls, eV/atom")
    entries: Agreement = Field(description="Agreement on all of them")
    crystals: Agreement = Field(description="Where a crystal counts once, in the lowest of its states in the file")


class PhaseComparison(AnswerDocument):
    """One crystal on the hull of a model and on that of a file of computed entries, by the first correction scheme."""

    entry: str | None = shown("Entry", description="Id of the crystal in the file")
    above_hull_expected: float | None = shown("E above hull, file", "eV/atom", 3)
    above_hull_found: float | None = shown("E above hull, model", "eV/atom", 3)
    formation_expected: Annotated[float | None, Unit("eV/atom")] = Field(
        None, description="Formation energy in the file, eV/atom"
    )
    formation_found: Annotated[float | None, Unit("eV/atom")] = Field(
        None, description="Formation energy by the model, eV/atom"
    )


class HullComparisonDocument(AnswerDocument):
    """The hull of a model against that of a file of computed entries."""

    n_entries: int = Field(0, description="Entries in the file")
    n_too_large: int = Field(0, description="Left out, since their cells are too large and above the hull of the file")
    formulas: dict[str, str] = Field(default_factory=dict, description="Reduced formulas of the others, by id")
    without_energy: dict[str, str] = Field(default_factory=dict, description="Why phases have none, by id")
    comparisons: list[Comparison] = Field(default_factory=list, description="One for each correction scheme")
    asked: list[str | None] = Field(
        default_factory=list, description="Id of each crystal that was asked for; null if it is none in the file"
    )


@dataclass(frozen=True)
class HullComparison(Property[Any]):
    """Distances to the hull of a model's energies against those to the hull of the energies in a file; no phase outside
    the file competes.

    Of one crystal it gives a `PhaseComparison`, of several or none a `HullComparisonDocument` of all in the file.

    Attributes:
        entries: JSON of computed entries with structures, as pymatgen writes them.
        relaxation: of every structure in the file.
        corrections: schemes for the model, as in `correction_scheme`.
        thresholds: eV/atom; stable means this close to the hull.
        max_atoms: leaves out larger cells, but for those on the hull of the file.
    """

    name: ClassVar[str] = "hull comparison"
    example: ClassVar[str] = "LiCoO2.cif --entries Li-Co-Ni-O.json.gz"
    document: ClassVar[type[PhaseComparison]] = PhaseComparison
    anew: ClassVar[bool] = True  # the file may change

    entries: str = field(default="", metadata=names_files())
    relaxation: Relaxed = field(default_factory=Relaxed)
    corrections: tuple[str, ...] = ("auto",)
    thresholds: tuple[float, ...] = (0.0, 0.05)
    max_atoms: int | None = None

    @property
    def together(self) -> bool:
        return True

    def settings(self, model: ModelRef) -> dict[str, Any]:
        return self.relaxation.settings(model)

    def failed(self, crystal: Crystal | Crystals, error: PlanError) -> Any:
        why = {"error": str(error), "error_code": error.code}
        return self.document_of(crystal, HullComparisonDocument(**why, provenance=self.origin(crystal)))

    def each(self, crystals: Crystals, found: HullComparisonDocument) -> list[PhaseComparison]:
        if found.error is not None:
            why = {"error": found.error, "error_code": found.error_code}
            return [PhaseComparison(**why, provenance=found.provenance) for _ in crystals.crystals]
        phases = {phase.name: phase for phase in found.comparisons[0].phases}
        return [self._one(name, phases, found) for name in found.asked]

    def _one(
        self, name: str | None, phases: Mapping[str, ComparedPhase], found: HullComparisonDocument
    ) -> PhaseComparison:
        phase = None if name is None else phases.get(name)
        if phase is not None:
            told = {key: value for key, value in asdict(phase).items() if key in PhaseComparison.model_fields}
            return PhaseComparison(entry=name, **told, provenance=found.provenance)
        missing = f"{Path(self.entries).name} has no entry with this crystal"
        why = missing if name is None else found.without_energy.get(name, f"{name} is on neither hull")
        return PhaseComparison(entry=name, error=why, error_code="no_entry", provenance=found.provenance)

    def plan(self, crystal: Crystal | Crystals) -> Plan[Any]:
        if not self.entries:
            raise DPA4Error("a comparison of hulls needs a file of computed entries: name it with --entries FILE")
        schemes = list(dict.fromkeys(correction_scheme(crystal.info, scheme) for scheme in self.corrections))
        everything = read_entries(Path(self.entries))
        chosen = everything if self.max_atoms is None else _small_or_stable(everything, self.max_atoms)
        documents = yield {name: Ask(self.relaxation, Crystal(entry.structure)) for name, entry in chosen.items()}
        thresholds = sorted(set(self.thresholds))
        failures: dict[str, str] = {}
        comparisons = []
        for scheme in schemes:
            rows = [{"name": name, "key": name, "source": "", "role": ""} for name in chosen]
            found = entries_of_phases(rows, documents, scheme)
            failures |= {row["name"]: reason for row, reason in found.missing}
            energies = {str(entry.entry_id): entry for entry in found.entries}
            try:
                phases = compare_hulls(chosen, energies, n_atoms={n: len(e.structure) for n, e in chosen.items()})
            except ComparisonError as error:
                raise PlanError(str(error), "not_comparable") from error
            crystals = distinct_crystals(phases, {name: entry.structure for name, entry in chosen.items()})
            both = agreement(phases, thresholds), agreement(crystals, thresholds)
            comparisons.append(Comparison(scheme=scheme, phases=phases, entries=both[0], crystals=both[1]))
        document = HullComparisonDocument(
            n_entries=len(everything),
            n_too_large=len(everything) - len(chosen),
            formulas={name: entry.composition.reduced_formula for name, entry in chosen.items()},
            without_energy=failures,
            comparisons=comparisons,
            asked=[_entry_of(one, chosen) for one in together(crystal)],
            provenance=self.origin(crystal),
        )
        return self.document_of(crystal, document)


def _entry_of(crystal: Crystal, entries: Mapping[str, ComputedStructureEntry]) -> str | None:
    """Id of the entry that a crystal is: that of its name, or the lowest of those with the same structure."""
    formula = crystal.structure.composition.reduced_formula
    same = {name: entry for name, entry in entries.items() if entry.composition.reduced_formula == formula}
    if crystal.name in same:
        return crystal.name
    lowest_first = sorted(same, key=lambda name: same[name].energy_per_atom)
    structures = {name: same[name].structure for name in lowest_first}
    return group_duplicates(structures | {"": whole_crystal(crystal)})[""] or None


def _small_or_stable(
    entries: Mapping[str, ComputedStructureEntry], max_atoms: int
) -> dict[str, ComputedStructureEntry]:
    """Entries with small cells, and those that make the hull of the file, so that it stays what it is."""
    positions = phase_positions(list(entries.values()), list(entries.values()))
    return {
        name: entry
        for (name, entry), position in zip(entries.items(), positions, strict=True)
        if len(entry.structure) <= max_atoms
        or (position.energy_above_hull is not None and on_hull(position.energy_above_hull))
    }

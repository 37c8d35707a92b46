"""Stability in water: a crystal and its competing phases as Gibbs energies by the model, ions as measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pymatgen.analysis.pourbaix_diagram import PourbaixDiagram, PourbaixEntry

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.completeness import HullCompleteness, on_hull
from dpa4_flows.analysis.hull_warnings import scheme_warnings, system_warnings
from dpa4_flows.analysis.pourbaix import (
    TEMPERATURE,
    ReferencedIon,
    aqueous_stability,
    check_ions,
    pourbaix_diagram,
    pourbaix_entries,
    reference_shifts,
)
from dpa4_flows.analysis.thermodynamics import ThermodynamicsError
from dpa4_flows.compute.files import names_files
from dpa4_flows.compute.plan import Crystal, Plan, PlanError
from dpa4_flows.documents.quantities import Listing, Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument
from dpa4_flows.properties.competition import Competing, joined
from dpa4_flows.properties.limits import check_positive
from dpa4_flows.properties.part import whole_crystal
from dpa4_flows.reference.entries import chemical_system
from dpa4_flows.reference.ions import BUNDLED, read_ions

IN_WATER, ALONE = "energies_in_water", "no_solid_competes"
"""Codes of what is known of the energies, and of a crystal beside which no other solid is known."""


class PourbaixDocument(AnswerDocument):
    """How far a solid is from the stable species in water."""

    formula: str = Field(description="Reduced formula")
    lowest_energy: float | None = shown(
        "E in water, lowest", "eV/atom", 2, "above the stable species, at the best pH and potential", goal="min"
    )
    highest_energy: float | None = shown(
        "E in water, highest", "eV/atom", 2, "above the stable species, at the worst pH and potential", goal="min"
    )
    ph: list[float] = Field(default_factory=list, description="pH")
    potential: list[float] = Field(default_factory=list, description="V against the standard hydrogen electrode")
    decomposition_energy: list[list[float]] = Field(
        default_factory=list, description="eV/atom above the stable species, [potential, pH]"
    )
    products: list[list[str]] = Field(default_factory=list, description="The stable species there")
    reference_shifts: dict[str, float] = Field(
        default_factory=dict, description="Model minus measured for each reference solid, eV per formula"
    )
    sources: list[str] = Field(default_factory=list, description="Of the measured ions")
    completeness: HullCompleteness | None = Field(None, description="What competes among the solids")
    concentration: Annotated[float, Unit("mol/L")] = Field(description="Of each ion, mol/L")
    solid: str = Field("", description="Name of the solid among the species")
    species: list[dict[str, Any]] = Field(default_factory=list, description="Solids and ions (pymatgen), to draw it")
    warnings: list[Reason] = Field(default_factory=list, description="What to know before quoting the numbers")

    @property
    def listings(self) -> list[Listing]:
        """The map over potential and pH: energy and stable species."""
        if self.completeness is None:
            return []
        compares, lowest = self.completeness.compares, "lowest"
        if self.completeness.grade != "surveyed":
            lowest += " of what is known"
        rows = [
            [f"{volt:g}", *(_cell(*at, compares=compares) for at in zip(energies, products, strict=True))]
            for volt, energies, products in zip(self.potential, self.decomposition_energy, self.products, strict=True)
        ]
        shifts = ", ".join(f"{solid} {shift:+.2f} eV" for solid, shift in self.reference_shifts.items())
        title = f"eV/atom above the species that is {lowest}, ions {self.concentration:g} mol/L"
        note = f"reference solids, model minus measured, per formula: {shifts}"
        return [Listing(title, ("V (SHE)", *(f"pH {x:g}" for x in self.ph)), rows, note)]


def _cell(energy: float, product: str, *, compares: bool) -> str:
    """Where the solid itself is the lowest nothing is known of it without another solid."""
    if energy < _SHOWN_AS_ZERO and not compares:
        return f"unknown: {product}"
    return f"{energy + 0.0:.2f} {product}"


_SHOWN_AS_ZERO = 0.005
"""eV/atom: what the table shows as 0.00."""


@dataclass(frozen=True)
class Pourbaix(Competing[PourbaixDocument]):
    """Energy of a crystal above the stable species in water, at given pH and potential.

    Attributes:
        ions: file of measured ions, see `dpa4_flows.reference.ions`; by default the bundled table of 41 elements.
        ph: values of pH.
        potential: V against the standard hydrogen electrode.
        concentration: of each ion, mol/L.
    """

    name: ClassVar[str] = "pourbaix"
    document: ClassVar[type[PourbaixDocument]] = PourbaixDocument
    version: ClassVar[int] = 2
    figures: ClassVar[str] = "dpa4_flows.report.pourbaix_plot:diagrams"

    temperature: float | None = TEMPERATURE
    ions: str = field(default="", metadata=names_files())
    ph: tuple[float, ...] = (0.0, 7.0, 14.0)
    potential: tuple[float, ...] = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
    concentration: float = 1e-6

    @property
    def together(self) -> bool:
        return False

    def check(self) -> None:
        check_positive(self, "concentration")
        if self.temperature != TEMPERATURE:
            raise DPA4Error(f"ions are measured at 298 K: a Pourbaix diagram is one of {TEMPERATURE:g} K")
        self.known_ions()  # refused before anything is computed

    def known_ions(self) -> list[ReferencedIon]:
        """What the file of ions holds.

        Raises:
            DPA4Error: the file cannot be used.
        """
        return read_ions(Path(self.ions) if self.ions else BUNDLED)

    def further(self) -> set[str]:
        """Chemical systems of which phases with the elements of a crystal compete, or are the reference of an ion."""
        return {"-".join(sorted({"H", "O"} | ion.reference_elements - {ion.element})) for ion in self.known_ions()}

    def plan(self, crystal: Crystal) -> Plan[PourbaixDocument]:
        composition = whole_crystal(crystal).composition.element_composition
        elements = frozenset(composition.get_el_amt_dict())
        known = self.known_ions()
        try:
            check_ions(elements, known)
            ions = [ion for ion in known if ion.element in elements]
            return (yield from self._in_water(crystal, ions))
        except ThermodynamicsError as error:
            raise PlanError(str(error), "not_comparable") from error

    def _in_water(self, crystal: Crystal, ions: Sequence[ReferencedIon]) -> Plan[PourbaixDocument]:
        further = frozenset(("O", "H")).union(*(ion.reference_elements for ion in ions))
        standing = yield from self.standing(crystal, ["-".join(further)])
        if 0 in standing.reasons:
            raise standing.reasons[0]
        own = standing.candidates[0]
        entries = [own, *standing.competing]
        solids = pourbaix_entries(entries, ions)
        phase = next(solid for solid in solids if solid.entry_id == str(own.entry_id))
        diagram = pourbaix_diagram(phase, solids, self.concentration)
        found = aqueous_stability(phase, diagram, ph=self.ph, potential=self.potential)
        system = chemical_system(whole_crystal(crystal))
        rivals, info = standing.rivals, standing.info
        survey = rivals.surveys.get(joined(system, *further))
        in_water = joined(system, "H-O")
        completeness = rivals.references.completeness(in_water, survey, formula=found.formula)
        said = [
            *rivals.notes,
            *standing.warnings[0],
            *scheme_warnings(info.level_of_theory, info.corrections, standing.scheme, info.zeros, info.dispersion),
            *system_warnings(in_water.split("-"), info.level_of_theory, standing.scheme),
        ]
        return PourbaixDocument(
            lowest_energy=_known(found.decomposition_energy.min(), completeness),
            highest_energy=_known(found.decomposition_energy.max(), completeness),
            formula=found.formula,
            ph=list(found.ph),
            potential=list(found.potential),
            decomposition_energy=found.decomposition_energy.tolist(),
            products=[list(row) for row in found.products],
            reference_shifts=dict(reference_shifts(entries, ions)),
            sources=sorted({ion.source for ion in ions}),
            completeness=completeness,
            concentration=self.concentration,
            solid=str(phase.entry_id),
            species=[entry.as_dict() for entry in solids],
            warnings=[
                *standing.documents[0].doubts,
                *(Reason(code=IN_WATER, sentence=text) for text in said),
                *_missing(found.formula, completeness),
            ],
            provenance=self.origin(crystal),
        )


def _known(energy: float, completeness: HullCompleteness) -> float | None:
    """None where a solid is the lowest and no other is known, which says nothing."""
    return float(energy) if completeness.compares or not on_hull(energy) else None


def _missing(formula: str, completeness: HullCompleteness) -> list[Reason]:
    """What is missing among the solids that a structure stands against."""
    if completeness.grade == "surveyed":
        return []
    code, words = "incomplete_hull", completeness.sentence
    if not completeness.compares:
        code, words = ALONE, f"no known competitor, {words}"
    words = f"{formula}: {words}; energies above the stable species are lower bounds"
    return [Reason(code=code, sentence=text) for text in (words, *completeness.without_energy)]


def diagram_of(document: PourbaixDocument) -> tuple[PourbaixEntry, PourbaixDiagram]:
    """The solid of a document, and the diagram that it is in."""
    species = [PourbaixEntry.from_dict(fields) for fields in document.species]
    phase = next(entry for entry in species if entry.entry_id == document.solid)
    return phase, pourbaix_diagram(phase, species, document.concentration)

"""Documents on what becomes of a surface at work: exchanges with the inside, dissolution, decomposition in water."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dpa4_flows.documents.quantities import Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.documents.surfaces import SkippedTerminations


class SurfaceExchange(Document):
    """A surface atom that changed places with one inside."""

    facet: str = Field(description="Termination")
    up: str = Field(description="Element that comes to the surface")
    down: str = Field(description="Element that goes inside")
    level: str = Field(description="Layer that it comes from: next, the highest one; deep, the lowest that is free")
    depth: float = Field(description="Between the two layers, Å")
    energy: float | None = Field(None, description="By which it changes the energy of the slab, eV; null if it failed")
    reasons: list[Reason] = Field(default_factory=list, description="What to know of it, with codes")


class SegregationDocument(AnswerDocument):
    """Exchanges of surface atoms with atoms of other elements inside, clean and in vacuum."""

    formula: str = Field(description="Reduced formula")
    exchanges: list[SurfaceExchange] = Field(default_factory=list, description="Every one, on every termination")
    skipped: list[SkippedTerminations] = Field(default_factory=list, description="What has no slab, and why")
    segregation_energy: float | None = shown(
        "Segregation energy",
        "eV",
        2,
        "lowest exchange of a surface atom with one inside; below 0 the surface changes its composition; clean, in "
        "vacuum: adsorbates can invert it",
        goal="max",
        scale=(-0.5, 0.2),
        description="Of the exchange that costs least, eV; below 0 the surface changes its composition",
    )
    segregating: str | None = shown("Comes up", note="element of this exchange")
    segregation_facet: str | None = shown("Facet", note="of this exchange")
    converged: bool = Field(False, description="Whether every slab reached its fmax")
    warnings: list[Reason] = Field(default_factory=list, description="What to know before quoting these numbers")


class RemovedAtom(Document):
    """A surface atom that is taken out and becomes an ion."""

    facet: str = Field(description="Termination")
    element: str = Field(description="Of the atom")
    removal_energy: float | None = Field(None, description="Out of the surface and into its own metal, eV")
    ion: str | None = Field(None, description="That it becomes")
    n_electrons: float | None = Field(None, description="That it gives off")
    standard_potential: float | None = Field(None, description="Of the metal itself at this pH, measured, V")
    potential: float | None = Field(None, description="At which the atom dissolves, V (SHE), 1 mol/L")
    reasons: list[Reason] = Field(default_factory=list, description="What to know of it, with codes")


class DissolutionDocument(AnswerDocument):
    """Potentials at which atoms of the surface, and the crystal as a whole, dissolve in water."""

    formula: str = Field(description="Reduced formula")
    ph: Annotated[float | None, Unit()] = Field(None, description="pH")
    atoms: list[RemovedAtom] = Field(default_factory=list, description="Every kind of surface atom that was taken out")
    skipped: list[SkippedTerminations] = Field(default_factory=list, description="What has no slab, and why")
    dissolution_potential: float | None = shown(
        "Dissolution potential",
        "V",
        2,
        "SHE, 1 mol/L; of the atom that leaves flat terraces first; atoms at steps and kinks leave earlier",
        error=0.2,
        goal="max",
        scale=(0.0, 1.5),
    )
    dissolving: str | None = shown("Leaves first", note="element of this atom")
    whole_potential: float | None = shown(
        "Whole crystal dissolves",
        "V",
        2,
        "SHE, 1 mol/L; all its metals together, as from kinks",
        goal="max",
        description="At which all its metals dissolve together, V; null where not all are metals with ions",
    )
    converged: bool = Field(False, description="Whether every slab reached its fmax")
    warnings: list[Reason] = Field(default_factory=list, description="What to know before quoting these numbers")


class ServiceDocument(AnswerDocument):
    """Whether a crystal and its surface last at a pH and in a window of potentials."""

    formula: str = Field(description="Reduced formula")
    ph: Annotated[float | None, Unit()] = Field(None, description="pH")
    window: tuple[float, float] | None = Field(None, description="Potentials at work, V (RHE)")
    decomposition_energy: float | None = shown(
        "Decomposition in water",
        "eV/atom",
        2,
        "largest in the window of potentials, ions 1e-6 mol/L; up to 0.2 it may last, above 0.5 it dissolves; films "
        "are not seen",
        goal="min",
        scale=(0.0, 0.5),
    )
    products: str | None = shown("Products", note="stable species there", detail=True)
    segregation_energy: float | None = shown(
        "Segregation energy", "eV", 2, "below 0 the surface changes its composition", goal="max"
    )
    segregating: str | None = shown("Comes up", note="element of this exchange")
    dissolution_potential: float | None = shown(
        "Dissolution potential", "V", 2, "SHE, ions 1 mol/L; of a flat terrace", error=0.2, goal="max"
    )
    dissolving: str | None = shown("Leaves first", note="element of this atom")
    whole_potential: Annotated[float | None, Unit("V")] = Field(
        None, description="At which all its metals dissolve together, V (SHE)"
    )
    margin: float | None = shown(
        "Margin to dissolution",
        "V",
        2,
        "of the first atoms of terraces, or of the crystal as a whole, to the upper end of the window; ions 1 mol/L: "
        "at 1e-6 an ion of charge 2 leaves 0.18 V earlier",
        error=0.2,
        goal="max",
        scale=(-0.5, 0.5),
    )
    warnings: list[Reason] = Field(default_factory=list, description="What is missing, and what to know")

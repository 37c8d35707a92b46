"""Chemical potentials of the elements at which a compound grows alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pydantic import Field
from pymatgen.core import Element
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_flows.analysis.completeness import on_hull
from dpa4_flows.analysis.thermodynamics import ChemicalPotentialRegion, chemical_potential_region, dopant_limit
from dpa4_flows.compute.plan import PlanError
from dpa4_flows.documents.quantities import Listing, shown
from dpa4_flows.documents.schemas import Document, HullDocument
from dpa4_flows.properties.view import HullView, View, ViewSet

_SAME = 1e-6  # eV
_ABOVE_HULL, _IS_ELEMENT = _NONE = ("above_hull", "is_element")
"""Codes of crystals that have no region."""


class RegionDocument(View):
    """Chemical potentials, in eV from the elements, at which a phase is in equilibrium with no other."""

    formula: str | None = Field(None, description="Reduced formula")
    corners: list[dict[str, float]] = Field(default_factory=list, description="Of the region, eV by element")
    coexisting: list[list[str]] = Field(default_factory=list, description="Phases in equilibrium at each corner")
    limits: dict[str, tuple[float, float]] = Field(default_factory=dict, description="Lowest and highest, eV")
    zeros: dict[str, float] = Field(
        default_factory=dict, description="What they count from in the uncorrected energies of the phase, eV/atom"
    )
    stable: dict[str, float] = Field(
        default_factory=dict, description="Formation energies of the stable phases of its elements, eV/atom by formula"
    )
    ranges: str | None = shown("Chemical potentials", "eV", note="from the elements, lowest to highest of each")

    @property
    def has_none(self) -> bool:
        return self.error_code in _NONE

    @property
    def listings(self) -> list[Listing]:
        """Corners of the region, the elements from the most metallic on."""
        symbols = sorted(self.limits, key=lambda symbol: Element(symbol).X)
        rows = [
            [*(f"{corner[symbol] + 0.0:.3f}" for symbol in symbols), ", ".join(phases)]
            for corner, phases in zip(self.corners, self.coexisting, strict=True)
        ]
        heads = [*(f"Δμ({symbol}), eV" for symbol in symbols), "in equilibrium with"]
        return [Listing("corners of the region of chemical potentials, from the elements", heads, rows)] if rows else []

    def potentials(self, rich: str = "", poor: str = "") -> dict[str, float]:
        """In the uncorrected energies of the phase, as surfaces take them, eV/atom by element: in the middle of the
        corners, or of those with most of one element, or least of it.
        """
        symbol = rich or poor
        edge = {symbol: self.limits[symbol][1 if rich else 0]} if symbol else {}
        at = [one for one in self.corners if all(abs(one[s] - value) < _SAME for s, value in edge.items())]
        return {s: round(zero + sum(one[s] for one in at) / len(at), 6) for s, zero in self.zeros.items()}


class DopantPlace(Document):
    """Highest chemical potential of a dopant at one corner of a region: above it another phase forms."""

    potential: float = Field(description="From the element, eV")
    zero: float = Field(description="What it counts from in uncorrected energies, eV/atom")
    beside: str = Field(description="The phase that forms above it")


class ReservoirDocument(RegionDocument):
    """Chemical potentials beside a crystal, stable or not, also of an element that it does not hold."""

    energy_above_hull: float = Field(0.0, description="Of the crystal, eV/atom; its potentials are higher by that")
    dopant: list[DopantPlace] = Field(default_factory=list, description="At each corner; none without a dopant")


class RegionSet(ViewSet):
    """Regions of chemical potentials of some structures."""

    documents: list[RegionDocument] = Field(description="One per structure, in order")


class ReservoirSet(ViewSet):
    """Reservoirs of some structures."""

    documents: list[ReservoirDocument] = Field(description="One per structure, in order")


@dataclass(frozen=True)
class ChemicalPotentials(HullView):
    """Regions of chemical potentials in which one crystal, or each of several, is stable."""

    name: ClassVar[str] = "chempots"
    example: ClassVar[str] = "LiCoO2.cif"
    document: ClassVar[type[RegionDocument]] = RegionDocument
    several: ClassVar[type[ViewSet]] = RegionSet
    figures: ClassVar[str] = "dpa4_flows.report.figures_thermodynamics:regions"

    def view(self, phase: ComputedEntry, others: Sequence[ComputedEntry], document: HullDocument) -> dict[str, Any]:
        above = document.energy_above_hull or 0.0
        if not on_hull(above):
            sentence = f"it lies {above:.4f} eV/atom above the hull and is stable at no chemical potentials"
            raise PlanError(sentence, _ABOVE_HULL)
        if len(phase.composition.elements) == 1:
            sentence = "an element sets a chemical potential of its own; regions are for compounds"
            raise PlanError(sentence, _IS_ELEMENT)
        return _fields(chemical_potential_region(document.formula, [phase, *others]))


def _fields(region: ChemicalPotentialRegion) -> dict[str, Any]:
    ranges = (f"{symbol} {low:.2f} to {high + 0.0:.2f}" for symbol, (low, high) in region.limits.items())
    return {**asdict(region), "ranges": ", ".join(ranges)}


@dataclass(frozen=True)
class Reservoirs(ChemicalPotentials):
    """Chemical potentials of the atoms of a crystal and of a dopant, for defects: also of an element, which sets its
    own, and of a crystal above the hull.

    Attributes:
        dopant: an element that comes from outside.
        prototypes: propose compounds where none is known.
    """

    name: ClassVar[str] = "reservoirs"
    document: ClassVar[type[RegionDocument]] = ReservoirDocument
    several: ClassVar[type[ViewSet]] = ReservoirSet

    dopant: str = ""
    prototypes: bool = False  # of a crystal with each of several dopants there are very many

    def further(self) -> Sequence[str]:
        return (self.dopant,) if self.dopant else ()

    def view(self, phase: ComputedEntry, others: Sequence[ComputedEntry], document: HullDocument) -> dict[str, Any]:
        entries = [phase, *others]
        region = chemical_potential_region(document.formula, entries, metastable=True)
        limits = [dopant_limit(corner, self.dopant, entries) for corner in region.corners if self.dopant]
        return {
            **_fields(region),
            "energy_above_hull": document.energy_above_hull or 0.0,
            "dopant": [limit._asdict() for limit in limits],
        }

"""Conversion and alloying electrodes: what a crystal turns into as it takes up an ion, by the hull."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pymatgen.core import Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.electrode import MAH_PER_G
from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.analysis.thermodynamics import check_corrected, whole_hull
from dpa4_flows.analysis.titration import Titration, reaction_words, titrate
from dpa4_flows.compute.plan import PlanError
from dpa4_flows.documents.quantities import Unit, shown
from dpa4_flows.documents.schemas import Document, HullDocument
from dpa4_flows.properties.view import HullView, View, ViewSet


class ConversionStep(Document):
    """One plateau of the voltage."""

    voltage: float = Field(description="Against the metal of the ion, V")
    capacity: float = Field(description="Up to its end, mAh per g of the crystal")
    ions: float = Field(description="Taken up at its end, per formula unit of the crystal")
    products: dict[str, float] = Field(description="At its end, formula units per formula unit of the crystal")
    expansion_percent: float | None = Field(None, description="At its end, % of the volume of the crystal")


class ConversionDocument(View):
    """A conversion or alloying electrode at equilibrium."""

    formula: str | None = Field(None, description="Reduced formula")
    working_ion: str | None = Field(None, description="Element that goes in")
    voltage: float | None = shown(
        "Voltage", "V", 2, "mean over all steps, equilibrium; observed ones are lower", error=0.3, priority=10
    )
    capacity: float | None = shown(
        "Capacity", "mAh/g", 0, "per mass of the crystal without the ions that come in", goal="max", priority=11
    )
    expansion_percent: float | None = shown("Expansion", "%", 0, "of all solids, at the end", goal="zero", priority=15)
    specific_energy: float | None = shown(
        "Specific energy", "Wh/kg", 0, "per mass of the crystal", detail=True, priority=12
    )
    first_voltage: float | None = shown("First step", "V", 2, detail=True, description="Voltage of the first step, V")
    last_voltage: float | None = shown("Last step", "V", 2, detail=True, description="Voltage of the last step, V")
    reaction: str = shown("Reaction", default="", description="From beginning to end, per formula unit")
    energy_above_hull: Annotated[float | None, Unit("eV/atom")] = Field(
        None, description="eV/atom; the first step sets it free, too"
    )
    steps: list[ConversionStep] = Field(default_factory=list, description="From the highest voltage down")


class ConversionSet(ViewSet):
    """Conversion electrodes of some structures."""

    documents: list[ConversionDocument] = Field(description="One per structure, in order")


@dataclass(frozen=True)
class Conversion(HullView):
    """Voltage, capacity and expansion of an electrode that turns into other phases as it takes up an ion.

    Attributes:
        working_ion: element that goes in, whose phases compete, too.
        min_voltage: V; steps below are left out.
    """

    name: ClassVar[str] = "conversion"
    example: ClassVar[str] = "FeF2.cif Si.cif"
    document: ClassVar[type[ConversionDocument]] = ConversionDocument
    several: ClassVar[type[ConversionSet]] = ConversionSet
    figures: ClassVar[str] = "dpa4_flows.report.figures_thermodynamics:conversion_profiles"
    caveats: ClassVar[tuple[str, ...]] = (
        "Voltages of conversion and alloying are those of equilibrium along the hull at 0 K: an electrode may skip "
        "phases, insert ions before it converts, or stop at a phase that is not on the hull.",
    )
    structures: ClassVar[bool] = True
    without_survey: ClassVar[str] = "steps may be missing"

    working_ion: str = "Li"
    min_voltage: float = 0.0

    def check(self) -> None:
        super().check()
        ion_charge(self.working_ion)
        if self.min_voltage < 0:
            raise DPA4Error(f"min_voltage {self.min_voltage:g} V is below the metal itself; it is at least 0")

    def further(self) -> Sequence[str]:
        return [self.working_ion]

    def view(self, phase: ComputedEntry, others: Sequence[ComputedEntry], document: HullDocument) -> dict[str, Any]:
        ion, formula, charge = self.working_ion, document.formula, ion_charge(self.working_ion)
        composition = phase.composition.reduced_composition
        if set(composition.get_el_amt_dict()) == {ion}:
            raise PlanError(f"{formula} is the metal of the ion itself", "no_host")
        entries = [phase, *others]
        check_corrected(entries)
        reactions = titrate(whole_hull(composition + {ion: 1}, entries), phase, ion)
        kept = [one for one in reactions if -one.potential / charge >= self.min_voltage]
        if not kept:
            raise PlanError(self._nothing(formula, entries, reactions), "takes_up_no_ion")
        per_ion = charge * MAH_PER_G / float(composition.weight)
        before = _volume(((phase, 1.0),))
        steps = []
        for one in kept:
            after = _volume(one.products)
            steps.append(
                ConversionStep(
                    voltage=-one.potential / charge,
                    capacity=one.end * per_ion,
                    ions=one.end,
                    products=one.formulas,
                    expansion_percent=None if before is None or after is None else 100.0 * (after / before - 1.0),
                )
            )
        voltage = mean_voltage(kept, charge)
        return {
            "formula": formula,
            "working_ion": ion,
            "voltage": voltage,
            "capacity": steps[-1].capacity,
            "specific_energy": voltage * steps[-1].capacity,
            "expansion_percent": steps[-1].expansion_percent,
            "first_voltage": steps[0].voltage,
            "last_voltage": steps[-1].voltage,
            "reaction": reaction_words(formula, steps[-1].products, (ion, steps[-1].ions)),
            "energy_above_hull": document.energy_above_hull,
            "steps": steps,
        }

    def _nothing(self, formula: str, entries: Sequence[ComputedEntry], reactions: Sequence[Titration]) -> str:
        if reactions:
            highest = -reactions[0].potential / ion_charge(self.working_ion)
            return f"{formula} takes up {self.working_ion} at {highest:.2f} V and less, below {self.min_voltage:g} V"
        compounds = {e.composition.reduced_formula for e in entries if not e.composition.is_element}
        known = sorted(name for name in compounds - {formula} if self.working_ion in name)
        what = f"{len(known)} compounds of {self.working_ion} compete" if known else "no compound of it competes"
        return f"{formula} takes up no {self.working_ion} at equilibrium; {what}"


def mean_voltage(steps: Sequence[Titration], charge: int) -> float:
    """V, over all that the steps take up."""
    energy = sum(step.potential * (step.end - step.start) for step in steps)
    return -energy / (charge * (steps[-1].end - steps[0].start))


def _volume(products: Sequence[tuple[ComputedEntry, float]]) -> float | None:
    """Of formula units, Å³; None where a phase comes without its structure."""
    total = 0.0
    for entry, amount in products:
        if not isinstance(entry, ComputedStructureEntry):
            return None
        structure: Structure = entry.structure
        total += amount * structure.volume * entry.composition.reduced_composition.num_atoms / len(structure)
    return total

"""Electrochemical windows: the voltages at which a crystal neither takes up nor gives off an ion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.completeness import on_hull
from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.analysis.windows import ElectrochemicalWindow, electrochemical_window
from dpa4_flows.documents.quantities import Listing, Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Document, HullDocument
from dpa4_flows.properties.view import HullView, View, ViewSet


class WindowStepDocument(Document):
    """Voltages at which it turns into the same phases."""

    start: float = Field(description="V against the metal of the ion")
    end: float | None = Field(None, description="V; null for the last, which goes on")
    taken: float = Field(description="Ions that go in, per formula unit; negative: out")
    products: dict[str, float] = Field(description="Formula units per formula unit, the metal of the ion left out")
    energy_start: float = Field(description="Decomposition energy there, eV/atom")
    energy_end: float | None = Field(None, description="The same at its end; null for the last step")


class WindowDocument(View):
    """The electrochemical window of one composition, at equilibrium; voltages against the metal of the ion."""

    formula: str | None = Field(None, description="Reduced formula")
    ion: str | None = Field(None, description="Element of the reservoir")
    lower: float | None = shown(
        "From",
        "V",
        2,
        "against the metal of the ion",
        priority=20,
        description="Below it the ion goes in, V; 0: stable beside the metal",
    )
    upper: float | None = shown(
        "To",
        "V",
        2,
        "against the metal of the ion",
        priority=21,
        description="Above it the ion goes out, V; null if there is none to give",
    )
    width: float | None = shown(
        "Window",
        "V",
        2,
        "at equilibrium; above the hull: that of what it turns into",
        goal="max",
        scale=(0.0, 4.0),
        priority=22,
    )
    reduction_energy: float | None = shown(
        "E decomp, metal",
        "eV/atom",
        3,
        "at 0 V, with as many ions as it takes up",
        goal="min",
        scale=(0.0, 1.0),
        priority=23,
    )
    oxidation_energy: float | None = shown(
        "E decomp, cathode", "eV/atom", 3, "at the voltage of the cathode", goal="min", scale=(0.0, 0.5), priority=24
    )
    cathode_voltage: Annotated[float | None, Unit("V")] = Field(None, description="V")
    reduction_products: list[str] = Field(default_factory=list, description="Formulas just below the window")
    oxidation_products: list[str] = Field(default_factory=list, description="Formulas just above the window")
    energy_above_hull: Annotated[float | None, Unit("eV/atom")] = Field(
        None, description="eV/atom; above 0 it is the window of the equilibrium; null where nothing is known of it"
    )
    equilibrium: dict[str, float] = Field(default_factory=dict, description="Phases there, by atomic fraction")
    steps: list[WindowStepDocument] = Field(default_factory=list, description="From 0 V upwards")
    charge_per_atom: Annotated[float | None, Unit()] = Field(
        None, description="Charges of an ion over the atoms of the formula"
    )
    doubts: list[Reason] = Field(default_factory=list, description="What is the matter with it")

    @property
    def listings(self) -> list[Listing]:
        """What it turns into, by voltage."""
        rows = [
            [
                f"above {step.start:.2f}" if step.end is None else f"{step.start:.2f} to {step.end:.2f}",
                f"{step.taken:+.2f}" if step.taken else "0",
                " + ".join(step.products),
            ]
            for step in self.steps
        ]
        heads = ("V", f"{self.ion} taken up per f.u.", "turns into")
        return [Listing(f"products by voltage against {self.ion}", heads, rows)] if rows else []


class WindowSet(ViewSet):
    """Electrochemical windows of some structures."""

    documents: list[WindowDocument] = Field(description="One per structure, in order")


@dataclass(frozen=True)
class ElectrochemicalWindows(HullView):
    """Electrochemical windows of one crystal or several; what is observed is wider by overpotentials.

    Attributes:
        working_ion: element of the reservoir, whose phases compete, too.
        cathode_voltage: V against its metal, at which the decomposition energy is quoted.
    """

    name: ClassVar[str] = "window"
    example: ClassVar[str] = "Li6PS5Cl.cif LiCl.cif --report windows.html"
    document: ClassVar[type[WindowDocument]] = WindowDocument
    version: ClassVar[int] = 2
    several: ClassVar[type[WindowSet]] = WindowSet
    without_survey: ClassVar[str] = "windows may be too wide"

    figures: ClassVar[str] = "dpa4_flows.report.figures_electrolytes:windows"
    caveats: ClassVar[tuple[str, ...]] = (
        "Electrochemical windows are those of equilibrium: what is observed is wider by the overpotentials of the "
        "reactions, and by interphases that let no electrons through.",
    )

    working_ion: str = "Li"
    cathode_voltage: float = 4.0

    def check(self) -> None:
        super().check()
        ion_charge(self.working_ion)
        if self.cathode_voltage < 0:
            raise DPA4Error(f"cathode_voltage {self.cathode_voltage:g} V is below the metal itself; it is at least 0")

    def further(self) -> Sequence[str]:
        return [self.working_ion]

    def view(self, phase: ComputedEntry, others: Sequence[ComputedEntry], document: HullDocument) -> dict[str, Any]:
        found = electrochemical_window(phase, others, ion=self.working_ion)
        return {
            **asdict(found),
            "energy_above_hull": None if document.verdict.code == "unknown" else found.energy_above_hull,
            "width": None if found.upper is None else found.upper - found.lower,
            "reduction_energy": found.energy_at(0.0),
            "oxidation_energy": found.energy_at(self.cathode_voltage),
            "cathode_voltage": self.cathode_voltage,
            "doubts": _doubts(found),
        }


def _doubts(found: ElectrochemicalWindow) -> list[Reason]:
    if on_hull(found.energy_above_hull):
        return []
    sentence = (
        f"{found.formula} lies {found.energy_above_hull:.3f} eV/atom above the hull and has no window: that of "
        f"{' + '.join(found.equilibrium)} is given, and what it gains at each voltage"
    )
    return [Reason(code="window_of_products", sentence=sentence)]

"""Electrochemical windows: the voltages at which a crystal neither takes up nor gives off an ion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.analysis.thermodynamics import electrochemical_window
from dpa4_flows.documents.quantities import Quantity
from dpa4_flows.documents.schemas import HullDocument
from dpa4_flows.properties.view import HullView, View, ViewSet


class WindowDocument(View):
    """The electrochemical window of one composition, at equilibrium; voltages against the metal of the ion."""

    formula: str | None = Field(None, description="Reduced formula")
    ion: str | None = Field(None, description="Element of the reservoir")
    lower: Annotated[float | None, Quantity("From", "V", 2, "against the metal of the ion")] = Field(
        None, description="Below it the ion goes in, V; 0: stable beside the metal"
    )
    upper: Annotated[float | None, Quantity("To", "V", 2, "against the metal of the ion")] = Field(
        None, description="Above it the ion goes out, V; null if there is none to give"
    )
    reduction_products: list[str] = Field(default_factory=list, description="Formulas just below the window")
    oxidation_products: list[str] = Field(default_factory=list, description="Formulas just above the window")
    energy_above_hull: float | None = Field(None, description="eV/atom; above 0 it is the window of the equilibrium")
    equilibrium: dict[str, float] = Field(default_factory=dict, description="Phases there, by atomic fraction")


class WindowSet(ViewSet):
    """Electrochemical windows of some structures."""

    documents: list[WindowDocument] = Field(description="One per structure, in order")


@dataclass(frozen=True)
class ElectrochemicalWindows(HullView):
    """Electrochemical windows of one crystal or several; what is observed is wider by overpotentials.

    Attributes:
        ion: element of the reservoir, whose phases compete, too.
    """

    name: ClassVar[str] = "window"
    document: ClassVar[type[WindowDocument]] = WindowDocument
    several: ClassVar[type[WindowSet]] = WindowSet
    without_survey: ClassVar[str] = "windows may be too wide"

    ion: str = "Li"

    def check(self) -> None:
        ion_charge(self.ion)

    def further(self) -> Sequence[str]:
        return [self.ion]

    def view(self, phase: ComputedEntry, others: Sequence[ComputedEntry], document: HullDocument) -> dict[str, Any]:
        return asdict(electrochemical_window(phase, others, ion=self.ion))

"""Release of oxygen: what an oxide turns into when it gives off O2, and at which temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.oxygen import (
    AIR,
    BOUND_TOO_STRONGLY,
    TOO_STRONG,
    Release,
    oxygen_releases,
    release_energy,
    with_oxygen,
)
from dpa4_flows.analysis.thermodynamics import T_RANGE
from dpa4_flows.analysis.titration import reaction_words
from dpa4_flows.compute.plan import PlanError
from dpa4_flows.documents.quantities import Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Document, HullDocument
from dpa4_flows.properties.view import HullView, View, ViewSet

ROOM = T_RANGE[0]
"""K, the lowest temperature of the table of the gas."""


class OxygenStep(Document):
    """One reaction that gives off oxygen."""

    temperature: float | None = Field(None, description="K, from which on it runs; null beyond the table")
    released: float = Field(description="O2 given off when it is over, per formula unit")
    products: dict[str, float] = Field(description="Formula units per formula unit of the crystal, O2 left out")
    low: float | None = Field(None, description="Of the first one, K one standard error earlier; 300 and null as above")
    high: float | None = Field(None, description="The same one standard error later")


class OxygenReleaseDocument(View):
    """At which oxygen potential and temperature an oxide gives off O2; what comes first."""

    formula: str | None = Field(None, description="Reduced formula")
    temperature: float | None = shown(
        "O₂ release",
        "K",
        0,
        "equilibrium; 300 stands for that and less",
        goal="max",
        scale=(300.0, 900.0),  # 470 Li0.5CoO2; FePO4 beyond 800
        priority=20,
        description="K, from which on O2 leaves; 300 if it does there; null if not at 2000 K",
    )
    temperature_std: float | None = shown(
        "Error of O₂ release",
        "K",
        0,
        "of energies and entropies",
        detail=True,
        description="What it may be off by, K; null where it is beyond 2000 K, or surely below 300",
    )
    reaction: str = shown("Turns into", default="", description="The first reaction, per formula unit")
    reaction_energy: float | None = shown(
        "Energy of O₂ release", "eV/O₂", 2, "0 K; negative gives off heat", goal="max"
    )
    products: list[str] = Field(default_factory=list, description="Formulas after the first reaction, O2 left out")
    released_percent: float | None = shown("Oxygen lost", "% of its mass", 1, "by the first reaction", detail=True)
    pressure: Annotated[float | None, Unit("bar")] = Field(None, description="Of O2, bar")
    energy_above_hull: Annotated[float | None, Unit("eV/atom")] = Field(
        None, description="eV/atom; the first reaction sets it free, too"
    )
    steps: list[OxygenStep] = Field(default_factory=list, description="All reactions up to the loss of all oxygen")
    flags: list[Reason] = Field(default_factory=list, description="What is the matter with it")

    @property
    def later(self) -> float | None:
        """By how much later than at `temperature` oxygen may leave, K."""
        return _later(self.steps[0]) if self.steps else self.temperature_std


class OxygenReleaseSet(ViewSet):
    """Release of oxygen of some structures."""

    documents: list[OxygenReleaseDocument] = Field(description="One per structure, in order")


@dataclass(frozen=True)
class OxygenRelease(HullView):
    """Temperature at which an oxide, such as a charged electrode, gives off O2, and what is left of it.

    Attributes:
        pressure: of O2 in the gas, bar; 0.21 is air.
    """

    name: ClassVar[str] = "oxygen_release"
    example: ClassVar[str] = "CoO2.cif --pressure 0.21"
    document: ClassVar[type[OxygenReleaseDocument]] = OxygenReleaseDocument
    version: ClassVar[int] = 3
    several: ClassVar[type[OxygenReleaseSet]] = OxygenReleaseSet
    figures: ClassVar[str] = "dpa4_flows.report.figures_thermodynamics:oxygen_losses"
    caveats: ClassVar[tuple[str, ...]] = (
        "Release of oxygen is that of equilibrium, with entropies of solids by their volume alone; its error is that "
        "of energies and entropies in measured reactions. Kinetics delay it, electrolytes and surfaces bring it "
        "forward, and water or carbon dioxide may leave before.",
    )

    structures: ClassVar[bool] = True  # whose volumes tell the entropies

    pressure: float = AIR

    def check(self) -> None:
        if not 1e-12 <= self.pressure <= 1000:
            raise DPA4Error(f"pressure {self.pressure:g} bar of O2 is outside 1e-12 to 1000")
        if self.temperature is not None:
            raise DPA4Error("the temperature of oxygen release is what comes out: leave that of the hull out")

    def view(self, phase: Any, others: Sequence[Any], document: HullDocument) -> dict[str, Any]:
        formula = document.formula
        if "O" not in phase.composition.get_el_amt_dict() or phase.composition.is_element:
            raise PlanError(f"{formula} is no oxide: it has no oxygen to give off", "no_oxide")
        if document.completeness.grade == "no_competitor":
            sentence = f"nothing is known of what {formula} turns into without oxygen: {document.completeness.sentence}"
            raise PlanError(sentence, "no_known_competitor")
        steps = oxygen_releases(phase, others, self.pressure)
        first = steps[0]
        energy = release_energy(phase, others, first)
        weight = float(phase.composition.reduced_composition.weight)
        return {
            "formula": formula,
            "temperature": first.temperature,
            "temperature_std": _error(first),
            "reaction_energy": energy,
            "reaction": reaction_words(formula, with_oxygen(first)),
            "products": sorted(first.products),
            "released_percent": 100.0 * first.released * 31.998 / weight,
            "pressure": self.pressure,
            "energy_above_hull": document.energy_above_hull,
            "steps": [OxygenStep(**one._asdict()) for one in steps],
            "flags": [*_flags(formula, first, energy, self.pressure), *_too_strong(phase)],
        }


def _error(first: Release) -> float | None:
    """The larger part of its range on both sides, K; where that is cut at 300 K the other."""
    if first.temperature is None or first.low is None:
        return None
    return max(_later(first) or 0.0, first.temperature - first.low) or None


def _later(first: Release | OxygenStep) -> float | None:
    if first.temperature is None:
        return None
    return (T_RANGE[1] if first.high is None else first.high) - first.temperature


def _flags(formula: str, first: Release, energy: float, pressure: float) -> list[Reason]:
    if first.temperature is None:
        sentence = f"{formula} keeps its oxygen up to {T_RANGE[1]:g} K, where the table of the gas ends"
        return [Reason(code="keeps_oxygen", sentence=sentence)]
    if first.temperature > ROOM:
        return []
    sentence = (
        f"{formula} gives off oxygen at room temperature already ({pressure:g} bar of O2, {energy:+.2f} eV "
        "per O2): nothing but slow kinetics keeps it"
    )
    if first.high != ROOM:
        later = f"{T_RANGE[1]:g} K or more" if first.high is None else f"{first.high:.0f} K"
        sentence += f"; within the error of energies and entropies it may begin as late as {later}"
    return [Reason(code="releases_oxygen_at_room_temperature", sentence=sentence)]


def _too_strong(phase: Any) -> list[Reason]:
    metals = sorted(BOUND_TOO_STRONGLY & phase.composition.get_el_amt_dict().keys())
    if not metals:
        return []
    sentence = (
        f"the correction of oxides binds oxygen to {' and '.join(metals)} too strongly, by some {TOO_STRONG:g} eV per "
        "O2 in measured oxides of such metals: it may leave hundreds of kelvin earlier, not later"
    )
    return [Reason(code="oxygen_bound_too_strongly", sentence=sentence)]

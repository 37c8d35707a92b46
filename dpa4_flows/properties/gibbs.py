"""Gibbs energies: what a crystal is worth against its elements and competing phases at several temperatures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pydantic import Field

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.completeness import on_hull
from dpa4_flows.analysis.thermodynamics import check_temperature
from dpa4_flows.compute.plan import Ask, Crystal, Crystals, Plan, PlanError
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.schemas import HullDocument
from dpa4_flows.properties.hull import Hull
from dpa4_flows.properties.view import View, Viewed, ViewSet, caveat


class GibbsDocument(View):
    """Gibbs energies of one crystal; lists go with the temperatures."""

    formula: str | None = Field(None, description="Reduced formula")
    temperatures: list[float] = Field(default_factory=list, description="K, rising")
    formation: float | None = shown("Gibbs energy of formation", "eV/atom", 3, "at the lowest temperature", goal="min")
    stable_to: float | None = shown(
        "Stable to",
        "K",
        0,
        "the highest of the temperatures; then it decomposes, or nothing is known, as its caveat says",
        goal="max",
        description="K: on the hull at this temperature and all below; null if never, or nothing is known",
    )
    products: list[str] = shown(
        "Then turns into",
        default=[],
        description="Formulas at the next temperature; none if there is no such temperature",
    )
    formation_energies: list[float] = Field(default_factory=list, description="From the elements, eV/atom")
    energies_above_hull: list[float | None] = Field(
        default_factory=list, description="Above the hull, eV/atom; null where nothing is known of it"
    )


class GibbsSet(ViewSet):
    """Gibbs energies of some structures."""

    documents: list[GibbsDocument] = Field(description="One per structure, in order")


@dataclass(frozen=True)
class GibbsEnergies(Viewed):
    """Gibbs energies of formation and distances to the hull at several temperatures, by the descriptor of Bartel et
    al. (2018) for solids and measured values for the elements at 1 bar.

    Attributes:
        temperatures: K, 300 to 2000.
        hull: what competes, and how; without a temperature of its own.
    """

    name: ClassVar[str] = "gibbs"
    example: ClassVar[str] = "LiCoO2.cif --temperatures 300,900,1500"
    document: ClassVar[type[GibbsDocument]] = GibbsDocument
    several: ClassVar[type[GibbsSet]] = GibbsSet
    version: ClassVar[int] = 2
    anew: ClassVar[bool] = True  # what competes may change

    temperatures: tuple[float, ...] = (300.0, 600.0, 900.0, 1200.0, 1500.0)
    hull: Hull = field(default_factory=Hull)

    def check(self) -> None:
        if not self.temperatures:
            raise DPA4Error("Gibbs energies need a temperature, such as 300 K")
        if self.hull.temperature is not None:
            raise DPA4Error("the temperatures of Gibbs energies are a setting of their own, not one of the hull")
        for temperature in self.temperatures:
            check_temperature(temperature)
        self.hull.check()

    def plan(self, crystal: Crystal | Crystals) -> Plan[Any]:
        subject = crystal if isinstance(crystal, Crystals) else Crystals((crystal,))
        temperatures = sorted(set(self.temperatures))
        sets = yield {f"{t:g} K": Ask(replace(self.hull, temperature=t), subject) for t in temperatures}
        found = list(sets.values())
        for one in found:
            if one.error is not None:
                raise PlanError(one.error, one.error_code or "not_comparable")
        views = []
        for number in range(len(subject.crystals)):
            documents = [one.documents[number] for one in found]
            if missing := next((one for one in found if one.documents[number] is None), None):
                views.append(GibbsDocument(error=missing.errors[number], error_code=missing.error_codes[number]))
            else:
                views.append(_view(temperatures, documents))
        warnings = list(dict.fromkeys(text for one in found for text in one.notes))
        return self.document_of(crystal, GibbsSet(documents=views, warnings=warnings, provenance=self.origin(crystal)))


def _view(temperatures: list[float], places: list[HullDocument]) -> GibbsDocument:
    """What places on the hulls of rising temperatures say together; where a distance is unknown, so is what follows."""
    above = [place.energy_above_hull for place in places]
    n_stable = next((i for i, energy in enumerate(above) if energy is None or not on_hull(energy)), len(places))
    after = places[n_stable] if 0 < n_stable < len(places) else None
    said = caveat(places[0].verdict, places[0].completeness)
    if after is not None and after.energy_above_hull is None:
        unknown = f"above {temperatures[n_stable - 1]:g} K {after.verdict.sentence}"
        said, after = "; ".join(filter(None, (said, unknown))), None
    return GibbsDocument(
        formula=places[0].formula,
        warnings=list(dict.fromkeys(text for place in places for text in place.warnings)),
        temperatures=temperatures,
        formation=places[0].formation_energy_per_atom,
        stable_to=temperatures[n_stable - 1] if n_stable else None,
        products=[] if after is None else sorted(after.decomposition),
        formation_energies=[place.formation_energy_per_atom for place in places],
        energies_above_hull=above,
        verdict=places[0].verdict.code,
        caveat=said,
    )

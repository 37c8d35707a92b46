"""What air does to a crystal: reactions with water, carbon dioxide and oxygen, to hydroxides, carbonates and gases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pymatgen.core import Composition
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.contacts import conducting, share_a_compound
from dpa4_flows.analysis.gases import unreduced, with_gases
from dpa4_flows.analysis.thermodynamics import check_temperature, whole_hull
from dpa4_flows.analysis.titration import reaction_words, titrate
from dpa4_flows.documents.quantities import Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Document, HullDocument
from dpa4_flows.properties.competition import Standing, joined
from dpa4_flows.properties.view import StandingView, View, ViewSet

TEMPERATURE = 300.0
"""K, as in water: the lowest of the table of gases."""

_GASES = {"H2O": "water", "CO2": "carbon dioxide", "O2": "oxygen"}
_POISONS = ("H2S", "PH3", "H3N", "HF", "HCl", "HBr", "SO2", "CO")  # as pymatgen writes their formulas
_LEAST = 1e-3  # eV per formula unit
_UNCERTAIN = 0.5
"""eV per formula unit: 0.05 eV/atom of the descriptor (C. J. Bartel et al., Nat. Commun. 9, 4168 (2018)), ten atoms."""


class AirReaction(Document):
    """What a crystal turns into in as much of a gas as it takes."""

    gas: str = Field(description="Formula of the gas")
    pressure: float = Field(description="Of it, bar")
    energy: float | None = Field(
        None, description="Gibbs energy, eV per formula unit; 0 without a reaction; null: unknown"
    )
    taken: float = Field(0.0, description="Molecules taken up, per formula unit")
    products: dict[str, float] = Field(default_factory=dict, description="Formula units per formula unit")
    reaction: str = Field("", description="In words; empty without a reaction")
    grade: str = Field("", description="Of what competes, see completeness of a hull")
    competing: str = Field("", description="The same in words")


def _energy(label: str, note: str, priority: int) -> Any:
    how: dict[str, Any] = {"error": 0.2, "goal": "max", "scale": (-2.0, 0.0), "voided_by": ("air_unknown",)}
    return shown(label, "eV/f.u.", 2, note, priority=priority, **how)


class AirDocument(View):
    """Gibbs energies of the reactions of a crystal with gases of the air."""

    formula: str | None = Field(None, description="Reduced formula")
    temperature_k: float | None = Field(None, description="K")
    hydrolysis_energy: float | None = _energy("With water", "300 K, in as much water vapour as it takes", 30)
    hydrolysis: str = shown("In water vapour", priority=45, default="", description="That reaction in words")
    carbonation_energy: float | None = _energy("With CO₂", "300 K, dry carbon dioxide of air", 31)
    oxidation_energy_o2: float | None = _energy("With O₂", "300 K; slow where it needs heat, as with sulfides", 32)
    reactions: list[AirReaction] = Field(default_factory=list, description="With each gas alone")
    energy_above_hull: Annotated[float | None, Unit("eV/atom")] = Field(
        None, description="eV/atom; a reaction sets it free, too"
    )
    doubts: list[Reason] = Field(default_factory=list, description="What is the matter with it")


class AirSet(ViewSet):
    """Reactions of some structures with air."""

    documents: list[AirDocument] = Field(description="One per structure, in order")


@dataclass(frozen=True)
class Air(StandingView):
    """Gibbs energies of the reactions of a crystal with water vapour, carbon dioxide and oxygen, each alone: solids by
    the descriptor of Bartel et al. (2018), gases as measured. Salts react without reducing water or carbon dioxide;
    metals and hydrides may reduce both.

    Attributes:
        water: bar; by default half of what saturates air at 300 K, in a dry room some 1e-4.
        carbon_dioxide, oxygen: bar, those of air.
        evolved: bar, of other gases, which leave, such as H2S; 1e-6 is a part per million.
        prototypes: propose compounds where none is known.
    """

    name: ClassVar[str] = "air"
    example: ClassVar[str] = "Li2S.cif Li3PS4.cif --water 1e-4"
    document: ClassVar[type[AirDocument]] = AirDocument
    version: ClassVar[int] = 4
    several: ClassVar[type[AirSet]] = AirSet
    figures: ClassVar[str] = "dpa4_flows.report.figures_electrolytes:air_reactions"
    caveats: ClassVar[tuple[str, ...]] = (
        "Reactions with air are those of equilibrium, one gas at a time, as much of it as the crystal takes: "
        "kinetics decide what is seen, oxygen above all, and hydrates that are not among the phases are missing.",
    )

    temperature: float | None = TEMPERATURE
    water: float = 0.0177
    carbon_dioxide: float = 4.2e-4
    oxygen: float = 0.21
    evolved: float = 1e-6
    prototypes: bool = False

    @property
    def pressures(self) -> Mapping[str, float]:
        """bar, by formula."""
        return {"H2O": self.water, "CO2": self.carbon_dioxide, "O2": self.oxygen}

    def check(self) -> None:
        if self.temperature is None:
            raise DPA4Error("gases have no energy at 0 K: the temperature of air is one from 300 to 2000 K")
        check_temperature(self.temperature)
        for name, pressure in (*self.pressures.items(), ("gases that leave", self.evolved)):
            if not 1e-30 <= pressure <= 1000:
                raise DPA4Error(f"the pressure of {name}, {pressure:g} bar, is outside 1e-30 to 1000")

    def further(self) -> Sequence[str]:
        return ["-".join(sorted(Composition(gas).get_el_amt_dict())) for gas in _GASES]

    def read(
        self, standing: Standing, position: int, document: HullDocument, beside: Sequence[ComputedEntry]
    ) -> dict[str, Any]:
        phase, others = standing.candidates[position], standing.all_but(position)
        reactions = [self._reaction(standing, phase, others, gas) for gas in _GASES]
        water, carbonate, oxide = reactions
        return {
            "formula": document.formula,
            "temperature_k": self.temperature,
            "hydrolysis_energy": water.energy,
            "hydrolysis": water.reaction,
            "carbonation_energy": carbonate.energy,
            "oxidation_energy_o2": oxide.energy,
            "reactions": reactions,
            "energy_above_hull": document.energy_above_hull,
            "doubts": _doubts(document.formula, reactions),
        }

    def _reaction(
        self, standing: Standing, phase: ComputedEntry, others: Sequence[ComputedEntry], gas: str
    ) -> AirReaction:
        assert self.temperature is not None  # check
        own = phase.composition.reduced_composition
        system = joined(own.chemical_system, Composition(gas).chemical_system)
        completeness = standing.rivals.completeness(system, formula=own.reduced_formula)
        told: dict[str, Any] = {"gas": gas, "pressure": self.pressures[gas]}
        told |= {"grade": completeness.grade, "competing": completeness.sentence}
        salt = gas != "O2" and "H" not in own and not conducting([own.reduced_formula])
        # a carbide of sodium says nothing of its carbonate, which is what a salt would turn into
        known = unreduced([phase, *others], gas) if salt else others
        if not share_a_compound(own, Composition(gas), known):
            return AirReaction(**told)
        entries = with_gases([phase, *others], system.split("-"), self.temperature, self.pressures, self.evolved)
        if salt:
            entries = unreduced(entries, gas)
        steps = titrate(whole_hull(Composition(dict.fromkeys(system.split("-"), 1)), entries), phase, gas)
        energy = sum(step.potential * (step.end - step.start) for step in steps)
        if energy > -_LEAST:
            return AirReaction(**told, energy=0.0)
        last = steps[-1]
        words = reaction_words(own.reduced_formula, last.formulas, (gas, last.end))
        return AirReaction(**told, energy=energy, taken=last.end, products=last.formulas, reaction=words)


def _doubts(formula: str, reactions: Sequence[AirReaction]) -> list[Reason]:
    found = []
    for one in reactions:
        if one.energy is None:
            sentence = (
                f"what {_GASES[one.gas]} does to {formula} is unknown: no compound that it could turn into is known; "
                f"{one.competing}"
            )
            found.append(Reason(code="air_unknown", sentence=sentence))
        elif one.energy and abs(one.energy) < _UNCERTAIN:
            sentence = (
                f"the {one.energy:.2f} eV that {formula} gains in {_GASES[one.gas]} ({one.reaction}) are within the "
                "error of Gibbs energies: it may not react"
            )
            found.append(Reason(code="air_uncertain", sentence=sentence))
    poisons = [gas for gas in reactions[0].products if gas in _POISONS]
    if poisons:
        sentence = f"{formula} gives off {', '.join(poisons)} in water vapour: {reactions[0].reaction}"
        found.append(Reason(code="gives_off_poison", sentence=sentence))
    return found

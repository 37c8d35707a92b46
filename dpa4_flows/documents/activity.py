"""Documents on the activity of electrodes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dpa4_flows.documents.quantities import Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document


class ActivityStep(Document):
    """One step of a reaction: protons and as many electrons."""

    name: str = Field(description="What it starts from, and what it leads to")
    free_energy: float = Field(description="At 298 K and 0 V, eV")
    electrons: int = Field(1, description="That move; several where states between are not computed")


class ActivityFacet(Document):
    """One termination, with the best site of every adsorbate; numbers are null where an adsorbate is missing."""

    name: str = Field(description="Facet, with _1, _2 where it has several terminations")
    facet: str = Field(description="Miller indices in a row, four of them for hexagonal axes")
    miller: tuple[int, int, int] = Field(description="Miller indices, of the conventional cell")
    share: float | None = Field(None, description="Of the area of the equilibrium shape; null if it is not weighted")
    free_energies: dict[str, float] = Field(
        default_factory=dict,
        description="Of each adsorbate on its best intact site, 298 K and 0 V, with solvation, eV; carbon counts from "
        "CO as measured",
    )
    sites: dict[str, str] = Field(default_factory=dict, description="Kind of this site, with the elements of its atoms")
    other_sites: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="Free energies on intact sites of other kinds, by adsorbate and kind, eV"
    )
    steps: list[ActivityStep] = Field(default_factory=list, description="Of the reaction, in order")
    limiting_step: str | None = Field(None, description="The one that is uphill longest")
    limiting_potential: float | None = Field(None, description="At which no step is uphill any more, V")
    overpotential: float | None = Field(None, description="From the equilibrium potential to this one, V")
    selectivity: float | None = Field(None, description="Limiting potential less that of hydrogen evolution, V")
    descriptor: float | None = Field(None, description="What a volcano is drawn against, eV")
    relative_descriptor: float | None = Field(None, description="The same above the reference of the settings, eV")
    from_top: float | None = Field(None, description="The same from the top of the volcano, signed, eV")
    ooh_above_oh: float | None = Field(None, description="Free energy of OOH above OH, both computed, eV")
    reasons: list[Reason] = Field(default_factory=list, description="What to know of these numbers, with codes")


class ActivityDocument(AnswerDocument):
    """Activity of the facets of one crystal for one reaction, by the computational hydrogen electrode."""

    formula: str = Field(description="Reduced formula")
    reaction: str = shown("Reaction", detail=True, default="", description="HER, ORR, OER, CO2RR, CO2RR_CO or NRR")
    from_top: float | None = shown(
        "From the top",
        "eV",
        2,
        "descriptor from the top of the volcano, below 0 binds too well; of the facet nearest to it",
        goal="zero",
        scale=(0.0, 0.5),  # each 0.06 eV is a decade of the current
        priority=20,
    )
    mean_from_top: float | None = shown(
        "From the top, mean",
        "eV",
        2,
        "magnitude, over facets by their share of the shape; equally where a flag says so",
        goal="min",
        scale=(0.0, 0.5),
        priority=21,
    )
    best_facet: str | None = shown("Facet", note="the one nearest to the top", priority=22)
    selectivity: float | None = shown(
        "Before hydrogen",
        "V",
        2,
        "limiting potential less that of hydrogen evolution, of this facet",
        priority=28,
        description="Of this facet, V; below 0 hydrogen evolves first; null where it does not compete",
    )
    descriptor: float | None = shown(
        "Descriptor",
        "eV",
        2,
        "ΔG(H), ΔG(OH), ΔG(O) − ΔG(OH), ΔG(CO), ... of this facet; PBE numbers do not belong on an RPBE volcano",
        priority=23,
    )
    mean_descriptor: float | None = shown(
        "Mean descriptor", "eV", 2, "over facets, by area if weighted is true", priority=24
    )
    relative_descriptor: float | None = shown(
        "Above reference",
        "eV",
        2,
        "descriptor above that of Pt (111) or of the settings",
        priority=25,
        description="The same above the reference of the settings, eV; null without one",
    )
    overpotential: float | None = shown(
        "Overpotential",
        "V",
        2,
        "thermodynamic, without barriers; of this facet, in the numbers of the model",
        goal="min",
        scale=(0.0, 1.0),
        priority=26,
    )
    mean_overpotential: float | None = shown(
        "Mean overpotential",
        "V",
        2,
        "over facets, by area if weighted is true",
        goal="min",
        scale=(0.0, 1.0),
        detail=True,
        description="Over all facets, by area if `weighted`; null if one that counts has none, V",
    )
    limiting_potential: float | None = shown(
        "Limiting potential", "V", 2, "against the reversible hydrogen electrode; of this facet", priority=27
    )
    limiting_step: str | None = shown("Limiting step", note="on this facet", priority=28)
    level_of_theory: str = shown("Level", note="of theory, of all numbers of the activity", priority=29, default="")
    mean_limiting_potential: Annotated[float | None, Unit("V")] = Field(
        None, description="Mean over facets of the limiting potential, V"
    )
    rerouted: list[ActivityFacet] = Field(
        default_factory=list,
        description="Adsorbates beside those of the reaction that another model computed: their free energies are of "
        "another level of theory and meet no others",
    )
    rerouted_level: str | None = shown(
        "Level of adsorbates beside", note="of theory, where another model computed them", detail=True
    )
    weighted: bool = Field(False, description="Whether means are over the area of the equilibrium shape")
    reference: Annotated[float | None, Unit("eV")] = Field(
        None, description="Descriptor that others are compared with, eV"
    )
    facets: list[ActivityFacet] = Field(default_factory=list, description="Every termination with a slab")
    converged: bool = Field(False, description="Whether every slab and every intact site reached its fmax")
    warnings: list[Reason] = Field(default_factory=list, description="What to know before quoting these numbers")

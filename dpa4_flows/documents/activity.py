"""Documents on the activity of electrodes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dpa4_flows.documents.quantities import Quantity
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Document, Provenance


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
    steps: list[ActivityStep] = Field(default_factory=list, description="Of the reaction, in order")
    limiting_step: str | None = Field(None, description="The one that is uphill longest")
    limiting_potential: float | None = Field(None, description="At which no step is uphill any more, V")
    overpotential: float | None = Field(None, description="From the equilibrium potential to this one, V")
    selectivity: float | None = Field(None, description="Limiting potential less that of hydrogen evolution, V")
    descriptor: float | None = Field(None, description="What a volcano is drawn against, eV")
    relative_descriptor: float | None = Field(None, description="The same above the reference of the settings, eV")
    ooh_above_oh: float | None = Field(None, description="Free energy of OOH above OH, both computed, eV")
    reasons: list[Reason] = Field(default_factory=list, description="What to know of these numbers, with codes")


class ActivityDocument(Document):
    """Activity of the facets of one crystal for one reaction, by the computational hydrogen electrode."""

    formula: str = Field(description="Reduced formula")
    reaction: Annotated[str, Quantity("Reaction")] = Field("", description="HER, ORR, OER, CO2RR, CO2RR_CO or NRR")
    overpotential: Annotated[
        float | None,
        Quantity("Overpotential", "V", 2, "thermodynamic, without barriers; of the most active facet", goal="min"),
    ] = Field(None, description="Of the most active facet, V")
    best_facet: Annotated[str | None, Quantity("Facet", note="the most active one")] = Field(
        None, description="Termination with the smallest overpotential"
    )
    limiting_potential: Annotated[
        float | None, Quantity("Limiting potential", "V", 2, "against the reversible hydrogen electrode; of this facet")
    ] = Field(None, description="At which no step is uphill on this facet, V against the reversible hydrogen electrode")
    limiting_step: Annotated[str | None, Quantity("Limiting step", note="on this facet")] = Field(
        None, description="Of this facet"
    )
    selectivity: Annotated[
        float | None,
        Quantity("Before hydrogen", "V", 2, "limiting potential less that of hydrogen evolution, of this facet"),
    ] = Field(None, description="Of this facet, V; below 0 hydrogen evolves first; null where it does not compete")
    descriptor: Annotated[
        float | None,
        Quantity(
            "Descriptor",
            "eV",
            2,
            "ΔG(H), ΔG(OH), ΔG(O) − ΔG(OH), ΔG(CO), ... of this facet; PBE numbers do not belong on an RPBE volcano",
        ),
    ] = Field(None, description="ΔG(H), ΔG(OH), ΔG(O) − ΔG(OH), ΔG(CO), ΔG(COOH) or ΔG(N) of this facet, eV")
    relative_descriptor: Annotated[
        float | None, Quantity("Descriptor above reference", "eV", 2, "as the settings name it; that of Pt, say")
    ] = Field(None, description="The same above the reference of the settings, eV; null without one")
    mean_overpotential: Annotated[
        float | None, Quantity("Mean overpotential", "V", 2, "over facets, by area if weighted is true", goal="min")
    ] = Field(None, description="Over all facets, by area if `weighted`; null if one that counts has none, V")
    mean_descriptor: Annotated[
        float | None, Quantity("Mean descriptor", "eV", 2, "over facets, by area if weighted is true")
    ] = Field(None, description="The same of the descriptor, eV")
    mean_limiting_potential: float | None = Field(None, description="The same of the limiting potential, V")
    weighted: bool = Field(False, description="Whether means are over the area of the equilibrium shape")
    reference: float | None = Field(None, description="Descriptor that others are compared with, eV")
    facets: list[ActivityFacet] = Field(default_factory=list, description="Every termination with a slab")
    converged: bool = Field(False, description="Whether every slab and every intact site reached its fmax")
    warnings: list[Reason] = Field(default_factory=list, description="What to know before quoting these numbers")
    error: str | None = Field(None, description="One sentence if there is no activity")
    error_code: str | None = Field(None, description="The same for programs")
    provenance: Provenance

"""Documents on facets and what is adsorbed on them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document


class SkippedTerminations(Document):
    """Terminations without a slab, for one reason."""

    facet: str = Field(description="Miller indices in a row")
    miller: tuple[int, int, int] = Field(description="Miller indices, of the conventional cell")
    code: str = Field(
        description="polar: the planes are charged, slabs have a dipole, and no half of the outermost plane can move "
        "to the other face; nonstoichiometric: a slab with two such faces differs from the crystal in composition; "
        "asymmetric: the two faces of every slab differ; breaks_more_bonds: than the terminations that are kept; "
        "too_many_atoms: the slab is too large to be computed; no_termination: the facet has none of this number; "
        "slab_failed: the clean slab failed"
    )
    n_terminations: int = Field(description="How many")
    whole_facet: bool = Field(description="Whether the facet has no slab at all, so that the shape lacks it")
    reason: str = Field(description="One sentence")


class AdsorbateVibrations(Document):
    """Harmonic vibrations of an adsorbate on atoms that stay where they are, at 298.15 K."""

    energies_mev: list[float] = Field(description="Of all modes, lowest first, meV; imaginary ones negative")
    zero_point_energy: float = Field(description="Without imaginary modes, eV")
    heat_content: float = Field(description="H(298.15 K) − H(0), eV")
    ts: float = Field(description="Temperature times entropy, eV")
    correction: float = Field(description="ΔZPE − TΔS with heat contents, from the gas references, eV")


class AdsorptionSite(Document):
    """One start of one adsorbate on one facet, and what became of it."""

    adsorbate: str = Field(description="Name of the adsorbate")
    start: str = Field(description="Kind of the site that it was put on: on_top, bridge, hollow_fcc, ...")
    start_elements: str = Field(description="Elements of the atoms of this site, as a formula")
    missing_bonds: float = Field(description="Neighbours that these atoms lack compared with the crystal, on average")
    angle: float = Field(description="About the normal, in which the adsorbate was put there, degrees")
    end: str | None = Field(None, description="Kind of the site where it is at the end")
    end_elements: str | None = Field(None, description="Elements of the atoms of this site, as a formula")
    position: tuple[float, float, float] | None = Field(None, description="Of the bound atom at the end, Å")
    height: float | None = Field(None, description="Of the bound atom above the atoms that bind it, mean, Å")
    energy: float | None = Field(None, description="Of slab and adsorbate, uncorrected, eV")
    adsorption_energy: float | None = Field(
        None, description="Electronic energy of adsorption from the gas references, eV; null where it means nothing"
    )
    free_energy: float | None = Field(
        None, description="The same as a free energy at 298 K and 0 V, eV; null without a correction of this adsorbate"
    )
    vibrations: AdsorbateVibrations | None = Field(
        None, description="Of the adsorbate there, where they were asked for"
    )
    converged: bool = Field(False, description="Whether it reached its fmax")
    n_steps: int = Field(0, description="Optimiser steps")
    intact: bool = Field(False, description="Whether it is the adsorbate, bound to a surface that is still the same")
    reasons: list[Reason] = Field(default_factory=list, description="What happened to it, with codes")
    structure: dict[str, Any] | None = Field(
        None,
        description="Slab and adsorbate, whose atoms are the last, a pymatgen dictionary; of the best site, and of one "
        "site for each way in which an adsorbate did not stay what it was",
    )

    @property
    def codes(self) -> list[str]:
        return [reason.code for reason in self.reasons]


class AdsorptionFacet(Document):
    """One termination of one facet, clean, and all that was adsorbed on it."""

    name: str = Field(description="Facet, with _1, _2 where it has several terminations")
    facet: str = Field(description="Miller indices in a row, four of them for hexagonal axes")
    miller: tuple[int, int, int] = Field(description="Miller indices, of the conventional cell")
    n_atoms: int = Field(description="Atoms of the clean slab")
    n_fixed: int = Field(description="Atoms that keep their places in the crystal: the lower half")
    area: float = Field(description="Å², in which there is one adsorbate")
    coverage: float = Field(description="Adsorbates per smallest surface cell")
    excess: dict[str, float] = Field(
        default_factory=dict, description="Atoms that the slab has beyond the composition of the crystal, by element"
    )
    reconstructed: bool = Field(False, description="Whether half of a plane moved to the other face: a polar facet")
    energy: float | None = Field(None, description="Of the clean slab, uncorrected, eV")
    converged: bool = Field(False, description="Whether the clean slab reached its fmax")
    structure: dict[str, Any] = Field(description="Clean slab as a pymatgen dictionary; as cut if it failed")
    sites: list[AdsorptionSite] = Field(default_factory=list, description="Every start of every adsorbate")
    reasons: list[Reason] = Field(
        default_factory=list, description="What to know of the clean slab, or of all sites of an adsorbate"
    )
    error: str | None = Field(None, description="One sentence if the clean slab failed")

    def best(self, adsorbate: str) -> AdsorptionSite | None:
        """The intact site of lowest energy, if there is one."""
        intact = [site for site in self.sites if site.adsorbate == adsorbate and site.intact]
        return min(intact, key=lambda site: site.adsorption_energy or 0.0, default=None)


class AdsorptionDocument(AnswerDocument):
    """Adsorption on the facets of one crystal: every site, and the best one of each facet."""

    formula: str = Field(description="Reduced formula")
    crystal: dict[str, Any] | None = Field(None, description="Conventional cell of the indices, a pymatgen dictionary")
    adsorbates: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="Atoms of each adsorbate by element"
    )
    refused: dict[str, Reason] = Field(
        default_factory=dict, description="Adsorbates that this model must not be asked about here, with the reason"
    )
    references: dict[str, float] = Field(
        default_factory=dict, description="Energy of an atom of each element in its gas reference, eV"
    )
    facets: list[AdsorptionFacet] = Field(default_factory=list, description="Every termination with a slab")
    skipped: list[SkippedTerminations] = Field(default_factory=list, description="What has no slab, and why")
    adsorption_energy: float | None = shown(
        "Adsorption energy", "eV", 2, "electronic; of the first adsorbate, on the best site", detail=True
    )
    free_energy: float | None = shown(
        "Free energy of adsorption", "eV", 2, "298 K, 0 V; of the first adsorbate, on this site", detail=True
    )
    best_facet: str | None = shown("Facet", note="of this site")
    best_site: str | None = shown("Site", note="of this adsorption energy")
    n_sites: int = shown("Sites", digits=0, note="starts of all adsorbates on all facets", detail=True, default=0)
    n_intact: int = shown(
        "Intact", digits=0, note="sites whose energy is that of the adsorbate", detail=True, default=0
    )
    converged: bool = Field(False, description="Whether every clean slab and every intact site reached its fmax")
    warnings: list[Reason] = Field(default_factory=list, description="What to know before quoting these numbers")

    def best(self, adsorbate: str) -> dict[str, AdsorptionSite]:
        """The best site of an adsorbate by the name of the termination."""
        found = {facet.name: facet.best(adsorbate) for facet in self.facets}
        return {name: site for name, site in found.items() if site is not None}

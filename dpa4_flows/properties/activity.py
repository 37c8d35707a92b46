"""Activity of the facets of a crystal as an electrode, from free energies of adsorbates on their best sites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pymatgen.core import Structure

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.activity import activity, descriptor, mean_over, steps
from dpa4_flows.analysis.adsorbates import Adsorbate
from dpa4_flows.analysis.facets import equivalent_facets, miller_of
from dpa4_flows.analysis.gas_references import carbon_error
from dpa4_flows.analysis.reactions import OOH_ABOVE_OH, SCALING_SPREAD, Reaction, reaction_of
from dpa4_flows.analysis.selectivity import POISONS, beside_hydrogen, poisoning
from dpa4_flows.compute.driver import OUT_OF_MEMORY
from dpa4_flows.compute.plan import Ask, Crystal, Plan, PlanError, Property
from dpa4_flows.documents.activity import ActivityDocument, ActivityFacet, ActivityStep
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Document
from dpa4_flows.documents.surfaces import AdsorptionDocument, AdsorptionFacet
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.adsorption import Adsorption
from dpa4_flows.properties.surface import SurfaceDocument, SurfaceEnergies

_APPEARS = 1e-3
"""Share of the area from which a facet counts."""
_OF_THE_BEST = (
    "overpotential",
    "limiting_potential",
    "limiting_step",
    "selectivity",
    "descriptor",
    "relative_descriptor",
)


@dataclass(frozen=True)
class Activity(Property[ActivityDocument]):
    """Limiting potential and overpotential of a reaction of an electrode on every facet, and what stands in its way.

    Attributes:
        reaction: HER, ORR, OER, CO2RR (to methane), CO2RR_CO (to carbon monoxide) or NRR.
        adsorption: slabs and sites; its adsorbates are those of the reaction, and any that are named there beside them.
        weighted: whether means over facets go by their share of the equilibrium shape, for which slabs of their own are
            computed.
        surface: surface energies that the shape is made of.
        solvation: eV, by adsorbate, by which water lowers (below 0) its free energy: -0.5 for OH and -0.4 for OOH on
            metals, -0.25 for COOH and -0.1 for CHO, say; 0 without.
        poison_limits: eV, by adsorbate, free energy at the limiting potential below which it covers the surface; unless
            others are given, CO -0.4 (from 0.2 ppm of it) and OH 0. An adsorbate is judged if it is computed.
        scale_ooh: whether OOH is put 3.2 eV above OH and not computed; so it is where OOH has no intact site.
        reference: descriptor that others are compared with, that of Pt (111) with the same model and settings, say, eV.
    """

    name: ClassVar[str] = "activity"
    document: ClassVar[type[Document]] = ActivityDocument
    starts_from_rest: ClassVar[bool] = True
    figures: ClassVar[str] = "dpa4_flows.report.figures_activity:activity_figures"

    reaction: str = "HER"
    adsorption: Adsorption = field(default_factory=lambda: Adsorption(adsorbates=()))
    weighted: bool = True
    surface: SurfaceEnergies = field(default_factory=SurfaceEnergies)
    solvation: dict[str, float] = field(default_factory=dict)
    poison_limits: dict[str, float] = field(default_factory=dict)
    scale_ooh: bool = False
    reference: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "reaction", self.reaction.upper())

    def check(self) -> None:
        reaction = reaction_of(self.reaction)
        if self.scale_ooh and "OOH" not in reaction.adsorbates:
            raise DPA4Error(f"scale_ooh is for reactions with OOH; {reaction.name} has none")
        self._adsorption().check()
        names = [one.name for one in self._adsorption().adsorbates]
        if unknown := [name for name in self.solvation if name not in names]:
            raise DPA4Error(f"solvation is given for {', '.join(unknown)}; the adsorbates are {', '.join(names)}")
        if self.weighted:
            self.surface.check()

    def _adsorption(self) -> Adsorption:
        reaction = reaction_of(self.reaction)
        needed = [n for n in (*reaction.adsorbates, *reaction.beside) if not (self.scale_ooh and n == "OOH")]
        others = [one for one in self.adsorption.adsorbates if one.name not in needed]
        return replace(self.adsorption, adsorbates=(*map(Adsorbate.named, needed), *others))

    def key(self, crystal: Crystal, model: ModelRef) -> str | None:
        """None where the shape is made anew each time; what is behind it has keys of its own."""
        lasting = not self.weighted or self.surface.key(crystal, model) is not None
        return super().key(crystal, model) if lasting else None

    def plan(self, crystal: Crystal) -> Plan[ActivityDocument]:
        sites: AdsorptionDocument = (yield {"sites": Ask(self._adsorption(), crystal)})["sites"]
        if sites.error is not None:
            raise PlanError(sites.error, sites.error_code or "not_computed")
        shape: SurfaceDocument | None = None
        if self.weighted:
            shape = (yield {"shape": Ask(self.surface, crystal)})["shape"]
            if shape is not None and shape.error_code == OUT_OF_MEMORY:
                raise PlanError(str(shape.error), OUT_OF_MEMORY)
        return self._document(crystal, sites, shape)

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        return {"formula": crystal.structure.composition.reduced_formula, "reaction": self.reaction}

    def _document(self, crystal: Crystal, sites: AdsorptionDocument, shape: SurfaceDocument | None) -> ActivityDocument:
        reaction = reaction_of(self.reaction)
        carbon = 0.0 if "C" in self.adsorption.references else carbon_error(crystal.info.level_of_theory)
        shifts = {name: self.solvation.get(name, 0.0) + carbon * n.get("C", 0) for name, n in sites.adsorbates.items()}
        facets = [self._facet(reaction, facet, shifts) for facet in sites.facets]
        shares, problem = shares_of(sites, shape) if shape else ({}, "weighted is false")
        document = ActivityDocument(
            formula=sites.formula,
            reaction=reaction.name,
            facets=facets,
            reference=self.reference,
            weighted=not problem,
            converged=sites.converged,
            provenance=self.origin(crystal),
        )
        document.warnings = [*sites.warnings, *(reason for facet in facets for reason in facet.reasons)]
        if (bound := sorted({"OH", "OOH", "COOH", "CHO"} & {*reaction.adsorbates})) and not self.solvation:
            words = (
                f"{' and '.join(bound)} are taken without water, which binds them: this may decide the limiting step"
            )
            document.warnings.append(Reason(code="no_solvent", sentence=f"{words} (setting solvation)"))
        if problem:
            words = f"means are over facets as they are, not by their area: {problem}"
            document.warnings.append(Reason(code="facets_not_weighted", sentence=words))
        elif shape is not None:
            document.warnings += [reason for reason in shape.warnings if reason.code == "facets_missing"]
            for facet in facets:
                facet.share = shares.get(facet.name, 0.0)
        for name in ("overpotential", "descriptor", "limiting_potential"):
            values = {facet.name: getattr(facet, name) for facet in facets}
            setattr(document, f"mean_{name}", mean_over(values, None if problem else shares))
        known = [facet for facet in facets if facet.overpotential is not None]
        if known:
            best = min(known, key=lambda facet: facet.overpotential or 0.0)
            document.best_facet = best.name
            for name in _OF_THE_BEST:
                setattr(document, name, getattr(best, name))
        return document

    def _facet(self, reaction: Reaction, sites: AdsorptionFacet, shifts: Mapping[str, float]) -> ActivityFacet:
        facet = ActivityFacet(name=sites.name, facet=sites.facet, miller=sites.miller)
        best = {name: site for name in shifts if (site := sites.best(name)) is not None}
        energies = {
            name: site.free_energy + shifts[name] for name, site in best.items() if site.free_energy is not None
        }
        facet.free_energies = energies
        facet.sites = {name: f"{best[name].end} {best[name].end_elements}" for name in energies}
        facet.reasons += self._remarks(reaction, sites, energies)
        if "OOH" in energies and "OH" in energies:
            facet.ooh_above_oh = energies["OOH"] - energies["OH"]
        elif "OOH" in reaction.adsorbates and "OH" in energies:
            facet.free_energies = energies = energies | {"OOH": energies["OH"] + OOH_ABOVE_OH}
        if any(name not in energies for name in reaction.adsorbates):
            return facet
        facet.steps = [ActivityStep(**step._asdict()) for step in steps(reaction, energies)]
        found = activity(reaction, energies)
        facet.limiting_step, facet.limiting_potential, facet.overpotential = found
        facet.selectivity, rival = beside_hydrogen(reaction, energies, found.limiting_potential)
        if rival is not None:
            facet.reasons.append(Reason(code=rival[0], sentence=f"on ({facet.name}) {rival[1]}"))
        limits = {**POISONS, **self.poison_limits}
        facet.reasons += poisoning(reaction, energies, found.limiting_potential, limits, f"on ({facet.name})")
        facet.descriptor = descriptor(reaction, energies)
        if self.reference is not None:
            facet.relative_descriptor = facet.descriptor - self.reference
        return facet

    def _remarks(self, reaction: Reaction, sites: AdsorptionFacet, energies: Mapping[str, float]) -> Iterator[Reason]:
        where = f"on ({sites.name})"
        missing = [name for name in reaction.adsorbates if name not in energies]
        if "OOH" in missing and "OH" in energies:
            missing.remove("OOH")
            why = "as asked" if self.scale_ooh else "as no site of it is intact"
            words = f"OOH {where} is put {OOH_ABOVE_OH:g} ± {SCALING_SPREAD:g} eV above OH, {why}"
            yield Reason(code="ooh_by_scaling", sentence=words)
        if missing:
            words = f"there is no activity {where}: no free energy of {', '.join(missing)} is known"
            yield Reason(code="adsorbate_missing", sentence=words)
        unfinished = [name for name in energies if (site := sites.best(name)) is not None and not site.converged]
        if unfinished:
            words = f"{', '.join(unfinished)} {where} did not reach fmax: raise adsorption.max_steps"
            yield Reason(code="incomplete", sentence=words)
        if "OOH" in energies and "OH" in energies:
            apart = energies["OOH"] - energies["OH"]
            if abs(apart - OOH_ABOVE_OH) > SCALING_SPREAD:
                words = f"OOH {where} lies {apart:.2f} eV above OH; on most surfaces it is {OOH_ABOVE_OH:g} ± "
                yield Reason(code="off_scaling", sentence=f"{words}{SCALING_SPREAD:g} eV")


def shares_of(sites: AdsorptionDocument, shape: SurfaceDocument) -> tuple[dict[str, float], str]:
    """Share of the area of each termination that appears on the equilibrium shape, or why they are not known.

    Of several terminations of a facet the one of lowest surface energy appears; it has the same name in both documents
    only if both have the same ones.
    """
    if shape.shape is None or sites.crystal is None:
        return {}, shape.error or "there is no equilibrium shape"
    crystal = Structure.from_dict(sites.crystal)
    shares: dict[str, float] = {}
    for facet, share in shape.shape.area_fractions.items():
        family = equivalent_facets(crystal, miller_of(facet))
        mine = [one.name for one in sites.facets if one.miller in family]
        theirs = {one.name: one.lowest for one in shape.terminations if one.miller in family}
        if not mine and share > _APPEARS:
            return {}, f"({facet}) has {share:.0%} of the area, and nothing was adsorbed on it"
        if len(mine) > 1 and share > _APPEARS and set(mine) != set(theirs):
            return {}, f"which of {', '.join(mine)} appears is not known, as surface energies have other terminations"
        shares |= {name: share if len(mine) == 1 or theirs[name] else 0.0 for name in mine if share > _APPEARS}
    return shares, ""

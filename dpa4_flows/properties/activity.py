"""Activity of the facets of a crystal as an electrode, from free energies of adsorbates on their best sites."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from monty.json import MSONable
from pymatgen.core import Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.activity import activity, descriptor, mean_over, steps
from dpa4_flows.analysis.adsorbates import Adsorbate
from dpa4_flows.analysis.facets import equivalent_facets, miller_of
from dpa4_flows.analysis.frames import SEAM, seam_problem
from dpa4_flows.analysis.free_energy import SOLVATION
from dpa4_flows.analysis.gas_references import carbon_error
from dpa4_flows.analysis.platinum import FACET, PLATINUM, from_top, platinum
from dpa4_flows.analysis.reactions import OOH_ABOVE_OH, SCALING_SPREAD, Reaction, reaction_of
from dpa4_flows.analysis.selectivity import POISONS, beside_hydrogen, poisoning
from dpa4_flows.compute.plan import Ask, Crystal, Plan, PlanError, Property, Steps, answered
from dpa4_flows.compute.relaxed import PUSHED, Relaxed
from dpa4_flows.documents.activity import ActivityDocument, ActivityFacet, ActivityStep
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Document, RelaxationDocument
from dpa4_flows.documents.surfaces import AdsorptionDocument, AdsorptionFacet
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.adsorption import Adsorption
from dpa4_flows.properties.limits import check_counts
from dpa4_flows.properties.part import had_room
from dpa4_flows.properties.surface import SurfaceDocument, SurfaceEnergies

_OF_THE_BEST = (
    "overpotential",
    "limiting_potential",
    "limiting_step",
    "selectivity",
    "descriptor",
    "relative_descriptor",
    "from_top",
)


@dataclass(frozen=True)
class Reroute(MSONable):
    """Another model for what this one cannot compute: adsorbates that move a slab across the seam of PBE and PBE+U.

    Attributes:
        model: that computes them, with crystals and slabs of its own.
        references: energy of an atom by element in the gas references of its level of theory, eV, where the program has
            no table of it.
    """

    model: ModelRef
    references: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def from_short(text: str) -> dict[str, Any]:
        """Fields of one of which nothing but the name of the model is known."""
        return {"model": {"name": text}}


@dataclass(frozen=True)
class Activity(Property[ActivityDocument]):
    """Limiting potential and overpotential of a reaction of an electrode on every facet, and what stands in its way.

    Attributes:
        reaction: HER, ORR, OER, CO2RR (to methane), CO2RR_CO (to carbon monoxide) or NRR.
        adsorption: slabs and sites; its adsorbates are those of the reaction, and any that are named there beside them.
        weighted: whether means over facets go by their share of the equilibrium shape, for which slabs of their own are
            computed.
        surface: surface energies that the shape is made of.
        water: whether the table of metals in water is used: OH -0.5, OOH -0.4, COOH -0.25, CO and CHO -0.1 eV.
        solvation: eV, by adsorbate, by which water lowers (below 0) its free energy, before the table; 0 without.
        poison_limits: eV, by adsorbate, free energy at the limiting potential below which it covers the surface; unless
            others are given, CO -0.4 (from 0.2 ppm of it) and OH 0. An adsorbate is judged if it is computed.
        scale_ooh: whether OOH is put 3.2 eV above OH and not computed; so it is where OOH has no intact site.
        reference: descriptor of Pt (111) with the same model and settings, eV, from which the top of the volcano is
            counted; Pt computes it.
        min_share: of the area; facets with less neither count in means nor lack there.
        at_rest: relaxation of crystals that are not given: Pt, and those of another model.
        reroute: another model for adsorbates across the +U seam. If the reaction has one of these, all of it is
            computed by that model, so that no energies of two levels of theory meet.
    """

    name: ClassVar[str] = "activity"
    example: ClassVar[str] = "Pt.cif Cu.cif --reaction HER --report volcano.html"
    document: ClassVar[type[Document]] = ActivityDocument
    starts_from_rest: ClassVar[bool] = True
    figures: ClassVar[str] = "dpa4_flows.report.figures_activity:activity_figures"
    caveats: ClassVar[tuple[str, ...]] = (
        "Limiting potentials and overpotentials are bounds from thermodynamics: no barriers, no electric field, and no "
        "coverage but the one computed.",
        "PBE numbers do not belong on a volcano of RPBE, which lies 0.1 to 0.5 eV higher: compare with platinum of the "
        "same model and settings.",
    )

    reaction: str = "HER"
    adsorption: Adsorption = field(default_factory=lambda: Adsorption(adsorbates=()))
    weighted: bool = True
    surface: SurfaceEnergies = field(default_factory=SurfaceEnergies)
    water: bool = False
    solvation: dict[str, float] = field(default_factory=dict)
    poison_limits: dict[str, float] = field(default_factory=dict)
    scale_ooh: bool = False
    reference: float | str | None = None
    min_share: float = 1e-3
    at_rest: Relaxed = PUSHED
    reroute: Reroute | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "reaction", self.reaction.upper())

    def check(self) -> None:
        check_counts(self, "min_share", least=0)
        reaction = reaction_of(self.reaction)
        if self.scale_ooh and "OOH" not in reaction.adsorbates:
            raise DPA4Error(f"scale_ooh is for reactions with OOH; {reaction.name} has none")
        self.all_sites().check()
        names = [one.name for one in self.all_sites().adsorbates]
        if unknown := [name for name in self.solvation if name not in names]:
            raise DPA4Error(f"solvation is given for {', '.join(unknown)}; the adsorbates are {', '.join(names)}")
        if isinstance(self.reference, str) and self.reference != PLATINUM:
            raise DPA4Error(f"reference is {self.reference!r}; it is {PLATINUM!r}, or its descriptor in eV")
        if self.weighted:
            self.surface.check()
        self.at_rest.check()

    def settings(self, model: ModelRef) -> dict[str, Any]:
        if self.reroute is None:
            return super().settings(model)
        other = self.reroute.model
        named = {"sha256": other.sha256 or other.info().sha256, "dtype": other.dtype}
        return super().settings(model) | {"reroute": {**named, "references": self.reroute.references}}

    def _needed(self) -> list[str]:
        reaction = reaction_of(self.reaction)
        names = (*reaction.adsorbates, *reaction.beside)
        return [name for name in names if not (self.scale_ooh and name == "OOH")]

    def all_sites(self) -> Adsorption:
        """What is adsorbed: what the reaction needs, and what is named beside."""
        needed = self._needed()
        others = [one for one in self.adsorption.adsorbates if one.name not in needed]
        return replace(self.adsorption, adsorbates=(*map(Adsorbate.named, needed), *others))

    def key(self, crystal: Crystal, model: ModelRef) -> str | None:
        """None where the shape is made anew each time; what is behind it has keys of its own."""
        lasting = not self.weighted or self.surface.key(crystal, model) is not None
        return super().key(crystal, model) if lasting else None

    @property
    def parts(self) -> tuple[Property[Any], ...]:
        return (self.all_sites(), *((self.surface,) if self.weighted else ()))

    def plan(self, crystal: Crystal) -> Plan[ActivityDocument]:
        adsorption = self.all_sites()
        refused = [] if self.reroute is None else _across_seam(adsorption.adsorbates, crystal)
        if any(adsorbate.name in self._needed() for adsorbate in refused):
            return (yield from self._by_the_other(crystal))
        sites: AdsorptionDocument = answered((yield {"sites": Ask(adsorption, crystal)})["sites"])
        shape = None
        if self.weighted:
            shape = (yield {"shape": Ask(self.surface, crystal)})["shape"]
            had_room([shape])
        reference, problem = yield from self._reference()
        document = self._document(crystal, sites, shape, reference)
        if problem:
            words = f"Pt (111), by which the volcano is put in place, has no activity: {problem}"
            document.warnings.append(Reason(code="reference_missing", sentence=words))
        if refused:
            yield from self._beside(crystal, refused, document)
        return document

    def _reference(self) -> Steps[tuple[float | None, str]]:
        """Descriptor of platinum, and why there is none if it was asked for."""
        if not isinstance(self.reference, str):
            return self.reference, ""
        try:
            rest = yield from self._at_rest(Crystal(platinum(), PLATINUM))
        except PlanError as error:
            return None, str(error)
        plain = replace(self.adsorption, adsorbates=(), on_first_facet=(), facets=(FACET,))
        water = {name: energy for name, energy in self.solvation.items() if name in self._needed()}
        alone = replace(self, reference=None, adsorption=plain, weighted=False, reroute=None, solvation=water)
        found: ActivityDocument = (yield {PLATINUM: Ask(alone, rest)})[PLATINUM]
        return found.descriptor, "" if found.descriptor is not None else found.error or "it has no intact site"

    def _at_rest(self, crystal: Crystal, model: ModelRef | None = None) -> Steps[Crystal]:
        """A crystal as a model relaxes it, by default that of the plan."""
        rest: RelaxationDocument = (yield {"rest": Ask(self.at_rest, crystal, model=model)})["rest"]
        if rest.structure is None or not rest.converged:
            why = rest.error or f"it did not reach fmax within {rest.n_steps} steps"
            raise PlanError(
                f"{crystal.name or 'the crystal'} was not relaxed: {why}", rest.error_code or "not_computed"
            )
        return Crystal(structure_of_fields(rest.structure), crystal.name, relaxed=rest)

    def _by_the_other(self, crystal: Crystal) -> Plan[ActivityDocument]:
        """All of the reaction by the other model."""
        assert self.reroute is not None
        rest = yield from self._at_rest(Crystal(crystal.structure, crystal.name), self.reroute.model)
        sites = replace(self.adsorption, references=self.reroute.references)
        reference = None if self.reference is None else PLATINUM  # a number is one of the other level
        mine = replace(self, reroute=None, adsorption=sites, reference=reference)
        found: ActivityDocument = (yield {"": Ask(mine, rest, model=self.reroute.model)})[""]
        if found.error is not None:
            words = (
                f"{self.reroute.model.title}, which computes what {crystal.model.title} cannot, fails: {found.error}"
            )
            raise PlanError(words, found.error_code or "not_computed")
        words = (
            f"all of {found.reaction} is computed by {found.provenance.model_name} ({found.level_of_theory}), since "
        )
        words += f"{crystal.info.level_of_theory} has a seam here: compare with others of that level alone"
        return found.model_copy(update={"warnings": [Reason(code="rerouted", sentence=words), *found.warnings]})

    def _beside(self, crystal: Crystal, refused: Sequence[Adsorbate], document: ActivityDocument) -> Steps[None]:
        """Adsorbates that the reaction does not need, by the other model, in a place of their own."""
        assert self.reroute is not None
        names = ", ".join(adsorbate.name for adsorbate in refused)
        try:
            rest = yield from self._at_rest(Crystal(crystal.structure, crystal.name), self.reroute.model)
        except PlanError as error:
            document.warnings.append(Reason(code="not_rerouted", sentence=f"{names}: {error}"))
            return
        asked = replace(self.adsorption, adsorbates=tuple(refused), references=self.reroute.references)
        other = replace(self, adsorption=asked)
        found: AdsorptionDocument = (yield {"": Ask(asked, rest, model=self.reroute.model)})[""]
        if found.error is not None:
            document.warnings.append(Reason(code="not_rerouted", sentence=f"{names}: {found.error}"))
            return
        level = document.rerouted_level = found.provenance.level_of_theory
        document.rerouted = [_plain_facet(facet, other._shifts(found, level)) for facet in found.facets]
        words = f"{names} are computed by {found.provenance.model_name} ({level}) instead"
        document.warnings = [reason for reason in document.warnings if reason.code != SEAM]
        document.warnings.append(Reason(code="rerouted_beside", sentence=words))

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        return super().facts(crystal, error) | {"reaction": self.reaction}

    def _document(
        self,
        crystal: Crystal,
        sites: AdsorptionDocument,
        shape: SurfaceDocument | None,
        reference: float | None = None,
    ) -> ActivityDocument:
        reaction = reaction_of(self.reaction)
        shifts = self._shifts(sites, crystal.info.level_of_theory)
        facets = [self._facet(reaction, facet, shifts, reference) for facet in sites.facets]
        shares, problem = shares_of(sites, shape, self.min_share) if shape else ({}, "weighted is false")
        document = ActivityDocument(
            formula=sites.formula,
            reaction=reaction.name,
            facets=facets,
            reference=reference,
            weighted=not problem,
            level_of_theory=crystal.info.level_of_theory,
            converged=sites.converged,
            provenance=self.origin(crystal),
        )
        document.warnings = [*sites.warnings, *(reason for facet in facets for reason in facet.reasons)]
        if (bound := sorted({"OH", "OOH", "COOH", "CHO"} & {*reaction.adsorbates})) and not self._in_water():
            words = (
                f"{' and '.join(bound)} are taken without water, which binds them: this may decide the limiting step"
            )
            document.warnings.append(Reason(code="no_solvent", sentence=f"{words} (settings water, solvation)"))
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
        away = {facet.name: None if facet.from_top is None else abs(facet.from_top) for facet in facets}
        document.mean_from_top = mean_over(away, None if problem else shares)
        known = [facet for facet in facets if facet.overpotential is not None]
        if known:
            best = min(known, key=_from_ideal)
            document.best_facet = best.name
            for name in _OF_THE_BEST:
                setattr(document, name, getattr(best, name))
        return document

    def _facet(
        self, reaction: Reaction, sites: AdsorptionFacet, shifts: Mapping[str, float], reference: float | None
    ) -> ActivityFacet:
        facet = _plain_facet(sites, shifts)
        energies = facet.free_energies
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
        facet.from_top = from_top(reaction, facet.descriptor, reference)
        if reference is not None:
            facet.relative_descriptor = facet.descriptor - reference
        return facet

    def _shifts(self, sites: AdsorptionDocument, level_of_theory: str) -> dict[str, float]:
        """What is added to the free energy of each adsorbate, eV: water, and the error of the level for carbon."""
        carbon = 0.0 if "C" in self.adsorption.references else carbon_error(level_of_theory)
        water = self._in_water()
        return {name: water.get(name, 0.0) + carbon * n.get("C", 0) for name, n in sites.adsorbates.items()}

    def _in_water(self) -> dict[str, float]:
        return {**(SOLVATION if self.water else {}), **self.solvation}

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


def _plain_facet(sites: AdsorptionFacet, shifts: Mapping[str, float]) -> ActivityFacet:
    """The best sites of a facet and the others, with their free energies."""
    best = {name: site for name in shifts if (site := sites.best(name)) is not None}
    energies = {name: site.free_energy + shifts[name] for name, site in best.items() if site.free_energy is not None}
    kinds = {name: f"{best[name].end} {best[name].end_elements}" for name in energies}
    others: dict[str, dict[str, float]] = {name: {} for name in energies}
    for site in sites.sites:
        name, kind = site.adsorbate, f"{site.end} {site.end_elements}"
        if site.intact and site.free_energy is not None and kind != kinds.get(name, kind):
            energy = site.free_energy + shifts[name]
            others[name][kind] = min(energy, others[name].get(kind, energy))
    return ActivityFacet(
        name=sites.name,
        facet=sites.facet,
        miller=sites.miller,
        free_energies=energies,
        sites=kinds,
        other_sites={name: found for name, found in others.items() if found},
    )


def _from_ideal(facet: ActivityFacet) -> float:
    """From the top of the volcano, where this is known; else the overpotential."""
    if facet.from_top is not None:
        return abs(facet.from_top)
    return math.inf if facet.overpotential is None else facet.overpotential


def _across_seam(adsorbates: Iterable[Adsorbate], crystal: Crystal) -> list[Adsorbate]:
    """Those that the model of a crystal cannot compute there."""
    composition, level = crystal.structure.composition, crystal.info.level_of_theory
    problems = [(one, seam_problem(composition, one.amounts, level)) for one in adsorbates]
    return [adsorbate for adsorbate, problem in problems if problem is not None and problem[0] == SEAM]


def shares_of(
    sites: AdsorptionDocument, shape: SurfaceDocument, min_share: float = 1e-3
) -> tuple[dict[str, float], str]:
    """Share of the area of each termination that appears on the equilibrium shape, or why they are not known.

    Of several terminations of a facet the one of lowest surface energy appears; it has the same name in both documents
    only if both have the same ones. Facets with less than ``min_share`` do not count.
    """
    if shape.shape is None or sites.crystal is None:
        return {}, shape.error or "there is no equilibrium shape"
    crystal = Structure.from_dict(sites.crystal)
    shares: dict[str, float] = {}
    for facet, share in shape.shape.area_fractions.items():
        family = equivalent_facets(crystal, miller_of(facet))
        mine = [one.name for one in sites.facets if one.miller in family]
        theirs = {one.name: one.lowest for one in shape.terminations if one.miller in family}
        if not mine and share > min_share:
            return {}, f"({facet}) has {share:.0%} of the area, and nothing was adsorbed on it"
        appears = next((name for name, lowest in theirs.items() if lowest), "")
        if mine and set(mine) < set(theirs) and appears not in mine and share > min_share:
            return {}, f"({appears}) has {share:.0%} of the area, and nothing was adsorbed on it"
        if len(mine) > 1 and share > min_share and not set(mine) <= set(theirs):
            return {}, f"which of {', '.join(mine)} appears is not known, as surface energies have other terminations"
        shares |= {name: share if len(mine) == 1 or name == appears else 0.0 for name in mine if share > min_share}
    return shares, ""

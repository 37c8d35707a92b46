"""Catalyst campaigns: which surfaces are stable, what adsorbs on them, and how active that makes them for a reaction.

    sanity → duplicates → relax → relaxed duplicates → hull → at rest → surface → adsorption → activity
    (→ service)

The reaction of the file decides adsorbates and descriptor. A facet or a site that fails never takes its candidate with
it, and what the model cannot compute is refused with a code, or computed by the model of ``[reroute]``.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from dpa4_core.strict import meant
from dpa4_flows.analysis.adsorbates import KNOWN_ADSORBATES, Adsorbate
from dpa4_flows.analysis.anomalies import NO_ENERGY
from dpa4_flows.analysis.frames import SEAM
from dpa4_flows.analysis.reactions import reaction_of
from dpa4_flows.campaigns.catalyst_service import SERVICE
from dpa4_flows.campaigns.context import Case, Scene
from dpa4_flows.campaigns.disorder import DISORDER
from dpa4_flows.campaigns.duplicates import DUPLICATES, RELAXED_DUPLICATES
from dpa4_flows.campaigns.hull import HULL
from dpa4_flows.campaigns.kind import CampaignKind
from dpa4_flows.campaigns.measured import LOST, Codes, Measured, as_given, finding, section_of
from dpa4_flows.campaigns.relaxed import AT_REST, RELAX, at_rest
from dpa4_flows.campaigns.sanity import SANITY
from dpa4_flows.campaigns.sections import Limits, ModelName, Section, part_of
from dpa4_flows.campaigns.stage import Finding, Stage
from dpa4_flows.compute.plan import Property
from dpa4_flows.documents.activity import ActivityDocument
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.documents.surfaces import AdsorptionDocument, SkippedTerminations
from dpa4_flows.properties.activity import Activity, Reroute
from dpa4_flows.properties.adsorption import Adsorption
from dpa4_flows.properties.surface import SurfaceDocument, SurfaceEnergies


def _reaction(name: str) -> str:
    return reaction_of(name).name


def _adsorbate(name: str) -> str:
    if name not in KNOWN_ADSORBATES:
        raise ValueError(f"there is no adsorbate {name!r}; {meant(name, KNOWN_ADSORBATES)}")
    return name


class ReactionSection(Section):
    """What the electrodes are to do, and how free energies become numbers of a volcano."""

    name: Annotated[str, AfterValidator(_reaction)] = Field("HER", description="HER, ORR, OER, ...")
    beside: list[Annotated[str, AfterValidator(_adsorbate)]] = Field(
        default_factory=list, description="Adsorbates that are put there, too: what may poison the surface"
    )
    beside_everywhere: bool = Field(True, description="On every facet, or only on that with the largest share")
    water: bool = Field(False, description="Whether the table of adsorbates on metals in water is used")
    solvation: dict[str, float] = Field(
        default_factory=dict, description="By adsorbate, eV, below 0 where water binds it, before the table"
    )
    poison_limits: dict[str, float] = Field(
        default_factory=dict, description="By adsorbate, eV, free energy below which it covers the surface"
    )
    reference: float | str | None = Field("Pt", description="Pt, its descriptor on (111) in eV, or none")
    scale_ooh: bool = Field(False, description="OOH is put 3.2 eV above OH and not computed")

    def activity(self, adsorption: Adsorption, **settings: Any) -> Activity:
        """The property of this reaction on sites like those of ``adsorption``."""
        reaction, beside = reaction_of(self.name), tuple(map(Adsorbate.named, self.beside))
        needed = (*reaction.adsorbates, *reaction.beside, *(self.beside if self.beside_everywhere else ()))
        alone = tuple(name for name in self.beside if name not in needed)
        return Activity(
            self.name,
            dataclasses.replace(adsorption, adsorbates=beside, on_first_facet=alone),
            water=self.water,
            solvation=self.solvation,
            poison_limits=self.poison_limits,
            reference=self.reference,
            scale_ooh=self.scale_ooh,
            **settings,
        )

    @model_validator(mode="after")
    def _makes_sense(self) -> ReactionSection:
        self.activity(Adsorption()).check()
        return self


class RerouteSection(Section):
    """Which other model computes what that of the campaign refuses."""

    model: ModelName | None = Field(None, description="One that was trained without +U; without it they stay refused")
    references: dict[str, float] = Field(
        default_factory=dict, description="Energy of an atom by element in the gases of its level of theory, eV"
    )


class FacetSection(Section):
    """On which facets something is adsorbed."""

    max_facets: int = Field(3, ge=1, description="Facets of each candidate, by their share of the equilibrium shape")
    min_share: float = Field(0.05, ge=0, lt=1, description="Of the area; facets with less count nowhere")


# ---- surfaces


class SurfaceSection(section_of(SurfaceEnergies(), without=("model", "region", "chemical_potentials"))):  # type: ignore[misc]
    """How surface energies are computed."""

    chemical_potentials: dict[str, float] | None = Field(
        None, description="By element, eV/atom in the energies of the model, for slabs of another composition"
    )


_SITES = section_of(Adsorption(), without=("model", "adsorbates", "on_first_facet"))


def judge_surface(case: Case) -> Finding:
    """Surface energies and what has none."""
    document = case.document(SurfaceDocument)
    reasons = [*document.warnings, *_without_slab(document.skipped)]
    return finding(case, reasons)


def _without_slab(skipped: Sequence[SkippedTerminations]) -> Iterator[Reason]:
    """Facets that cannot be computed at all, as it stands there."""
    kinds = {"polar": "polar_facet", "too_many_atoms": "facet_too_large"}
    for entry in skipped:
        if entry.code in kinds and (entry.whole_facet or entry.code == "too_many_atoms"):
            yield Reason(code=kinds[entry.code], sentence=entry.reason)


_FACET_REASONS = {
    "polar_facet": ReasonKind("polar facet", "a facet is polar: it has no slab and is left out"),
    "facet_too_large": ReasonKind("facet too large", "the slab of a facet has too many atoms: it is left out"),
}

SURFACE = Stage(
    name="surface",
    title="Surface energies",
    judge=judge_surface,
    quantities=SurfaceDocument,
    reasons={
        **_FACET_REASONS,
        "no_surface_energy": ReasonKind("no surface energy", "no slab has a surface energy of its own"),
        "facets_missing": ReasonKind("shape incomplete", "the equilibrium shape lacks facets that have no slab"),
        "no_shape": ReasonKind("no shape", "facets with an energy enclose nothing"),
        "slab_failed": ReasonKind("slab failed", "a slab could not be computed: its facet is left out"),
        "slab_not_converged": ReasonKind("slab not converged", "a slab did not reach fmax"),
        "slab_dissociated": ReasonKind("slab came apart", "a slab came apart: its facet is left out"),
        "no_chemical_potentials": ReasonKind(
            "no chemical potentials", "the hull has none: facets of another composition are left out"
        ),
        "hull_caveat": ReasonKind("hull of potentials", "what stands behind chemical potentials of the hull"),
        "strained_crystal": ReasonKind("strained", "a stress is left on the crystal"),
    },
    needs=("at_rest",),
    # whose sites can be computed all the same
    computes=Measured(SurfaceEnergies(), "slabs", at_rest, table=SurfaceSection, without={"": "no_surface_energy"}),
)


# ---- adsorption


@dataclass(frozen=True)
class Sites(Measured):
    """What adsorbs on the facets that the equilibrium shape shows, from the table of this stage and ``[reaction]``."""

    # whether a refusal is the end, the activity says, for which there may be another model
    without: Codes = field(default_factory=lambda: {**LOST, SEAM: SEAM, "": "no_facet_left"})
    measures: Property[Any] = field(default_factory=Adsorption)
    of: str = "sites of adsorbates"
    crystal: Any = at_rest

    @property
    def tables(self) -> Mapping[str, type[Section]]:
        return {"": _SITES, "reaction": ReactionSection, "surface": SurfaceSection, "reroute": RerouteSection}

    def settled(self, scene: Scene) -> Property[Any]:
        return _activity(scene).all_sites()

    def of_case(self, case: Case) -> Property[Any]:
        return _activity(case.scene, facets_of(case)).all_sites()

    def foreseen(self, scene: Scene, ids: Sequence[str]) -> tuple[int, int] | None:
        if not self.adds:
            return 0, 0
        sites, n, n_atoms = self.settled(scene), 0, 0
        assert isinstance(sites, Adsorption)
        for candidate in scene.table.candidates(ids):
            costs = sorted(sites.costs(as_given(Case(scene, candidate, {}))).values(), key=lambda cost: -cost[1])
            for calculations, atoms in costs[: scene.settings.max_facets]:
                n, n_atoms = n + calculations, n_atoms + atoms
        return n, n_atoms


@dataclass(frozen=True)
class OfReaction(Sites):
    """The activity that follows from these sites."""

    without: Codes = field(default_factory=lambda: {**LOST, SEAM: "seam_refused", "": "nothing_adsorbs"})
    measures: Property[Any] = field(default_factory=Activity)
    of: str = "activities"
    adds: bool = False

    @property
    def tables(self) -> Mapping[str, type[Section]]:
        return {}

    def settled(self, scene: Scene) -> Property[Any]:
        return _activity(scene)

    def of_case(self, case: Case) -> Property[Any]:
        return _activity(case.scene, facets_of(case))


def _activity(scene: Scene, facets: Sequence[str] = ()) -> Activity:
    """The activity with the settings of the campaign, on some facets or on all."""
    campaign, reaction = scene.run.campaign, scene.run.campaign.reaction
    assert isinstance(reaction, ReactionSection)
    sites = campaign.adsorption
    chosen = part_of(sites, _SITES) | ({"facets": tuple(facets)} if facets else {})
    shape = part_of(campaign.surface, SurfaceSection)
    other = None
    if campaign.reroute.model is not None:
        other = Reroute(scene.run.models[campaign.reroute.model], campaign.reroute.references)
    return reaction.activity(
        Adsorption(**chosen),
        surface=SurfaceEnergies(**shape),
        min_share=sites.min_share,
        at_rest=scene.run.relaxed,
        reroute=other,
    )


def facets_of(case: Case) -> list[str]:
    """Facets on which something is adsorbed: those of the file, or those with the largest shares of the equilibrium
    shape, or the cheapest ones without a shape, or all that have no energy of their own. Of several terminations it is
    the one that appears, where adsorption has the same ones.
    """
    found, limits = case.documents["surface"], case.scene.run.campaign.adsorption
    assert isinstance(found, SurfaceDocument)
    if limits.facets:
        return list(limits.facets)
    if found.shape is not None:
        shares = {name: share for name, share in found.shape.area_fractions.items() if share >= limits.min_share}
        names = sorted(shares, key=lambda name: -shares[name])
    else:
        known = [one for one in found.terminations if one.surface_energy is not None]
        known.sort(key=lambda one: one.surface_energy or 0.0)
        names = list(dict.fromkeys([one.facet for one in known] or [one.facet for one in found.skipped]))
    return [_that_appears(name, found, limits.max_terminations) for name in names[: limits.max_facets]]


def _that_appears(facet: str, found: SurfaceDocument, most: int) -> str:
    """The name of the termination that costs least, or of the facet if slabs for adsorption are numbered otherwise:
    they may have another composition than the crystal or faces that differ.
    """
    mine = [one for one in found.terminations if one.facet == facet]
    others = {"nonstoichiometric", "asymmetric"} & {one.code for one in found.skipped if one.facet == facet}
    appears = [one.name for number, one in enumerate(mine, start=1) if one.lowest and number <= most]
    return appears[0] if len(mine) > 1 and most > 1 and appears and not others else facet


def judge_sites(case: Case) -> Finding:
    """What adsorbs where; anomalies of single sites are in the document."""
    document = case.document(AdsorptionDocument)
    codes = Counter(code for facet in document.facets for site in facet.sites for code in {*site.codes} & {*NO_ENERGY})
    lost = [
        Reason(
            code=f"{code}_of_sites",
            sentence=f"{n} of {document.n_sites} sites have no energy: {code.replace('_', ' ')}",
        )
        for code, n in codes.items()
    ]
    said = [reason for reason in document.warnings if reason.code != SEAM]
    refused = list(document.refused.values())
    if len(refused) > 1:  # for one reason: one flag
        words = f"{', '.join(document.refused)} are refused: {refused[0].sentence}"
        refused = [Reason(code=SEAM, sentence=words)]
    reasons = [*refused, *said, *_without_slab(document.skipped), *lost]
    return finding(case, reasons)


_SITE_REASONS = {
    **_FACET_REASONS,
    SEAM: ReasonKind("refused: +U seam", "adsorbates with O or F on V, Cr, Mn, Fe, Co, Ni, Mo or W are refused"),
    "plus_u_surface": ReasonKind("+U surface", "slab and adsorbate lie on the +U side alike: little tested"),
    "no_intact_site": ReasonKind("no intact site", "an adsorbate stays intact on no site of a facet"),
    "slab_failed": SURFACE.reasons["slab_failed"],
    "slab_not_converged": SURFACE.reasons["slab_not_converged"],
    "clean_slab_changed": ReasonKind("slab reconstructed", "a clean slab reconstructed"),
    "energy_jump_of_sites": ReasonKind("energy jump", "an adsorbate changes the energy of the slab as no bond can"),
    "implausible_energy_of_sites": ReasonKind("implausible", "an adsorption energy is beyond all that are known"),
    "not_computed_of_sites": ReasonKind("sites failed", "some sites could not be computed"),
    "incomplete": ReasonKind("not converged", "a site did not reach fmax: its energy is an upper bound"),
    "imaginary_modes": ReasonKind("no minimum", "an adsorbate on its best site has imaginary modes: they are left out"),
    "no_vibrations": ReasonKind("no vibrations", "vibrations of an adsorbate are not known: the table is taken"),
}

ADSORPTION = Stage(
    name="adsorption",
    title="Adsorption",
    judge=judge_sites,
    quantities=AdsorptionDocument,
    settings=FacetSection,
    reasons={
        **_SITE_REASONS,
        "no_facet_left": ReasonKind("no facet", "no facet has a slab on which something could adsorb", status="failed"),
    },
    needs=("at_rest", "surface"),
    computes=Sites(),
)


# ---- activity


def judge_activity(case: Case) -> Finding:
    """How active the facets are; what is not known stays unknown and wins nothing."""
    document = case.document(ActivityDocument)
    reasons = [reason for reason in document.warnings if reason.code not in _OF_ALL]
    if document.overpotential is None:
        sentence = f"the activity for {document.reaction} is not known: no facet has all of its adsorbates"
        reasons.append(Reason(code="activity_unknown", sentence=sentence))
    return finding(case, reasons)


_OF_ALL = ("no_solvent", "facets_missing", SEAM)
"""Codes of what holds for every candidate, or was said by a stage before."""

ACTIVITY = Stage(
    name="activity",
    title="Activity",
    judge=judge_activity,
    quantities=ActivityDocument,
    reasons={
        **_SITE_REASONS,
        "seam_refused": ReasonKind(
            "refused: +U seam", "its adsorbates lie across the +U seam of the model", status="failed"
        ),
        "nothing_adsorbs": ReasonKind(
            "no activity", "nothing of it can be computed for this reaction", status="failed"
        ),
        "activity_unknown": ReasonKind("activity unknown", "no facet has all adsorbates", disqualifies=True),
        "adsorbate_missing": ReasonKind("adsorbate missing", "an adsorbate of the reaction is missing on a facet"),
        "facets_not_weighted": ReasonKind("not weighted", "means are over facets as they are, not by their area"),
        "reference_missing": ReasonKind(
            "no reference", "platinum could not be computed: the top of the volcano is not known", disqualifies=True
        ),
        "rerouted": ReasonKind("other level of theory", "computed by the model of [reroute]: another level of theory"),
        "rerouted_beside": ReasonKind("beside: other level", "adsorbates beside are of the model of [reroute]"),
        "not_rerouted": ReasonKind("not rerouted", "the model of [reroute] could not compute them either"),
        "ooh_by_scaling": ReasonKind("OOH by scaling", "OOH is put on the line above OH"),
        "poisoned_by_co": ReasonKind("poisoned by CO", "traces of CO cover a facet at its limiting potential"),
        "poisoned_by_oh": ReasonKind("covered by OH", "OH of the water covers a facet at its limiting potential"),
        "poisoned_by_other": ReasonKind("poisoned", "an adsorbate beside covers a facet at its limiting potential"),
        "hydrogen_evolves_first": ReasonKind("hydrogen first", "hydrogen evolves before the reaction goes on a facet"),
        "hydrogen_covers_surface": ReasonKind("covered by H", "hydrogen covers a facet before the reaction goes"),
        "off_scaling": ReasonKind("off the scaling line", "OOH lies far from the line above OH"),
    },
    needs=("at_rest", "surface", "adsorption"),
    computes=OfReaction(),
    figures="dpa4_flows.campaigns.catalyst_known:known_metals",
)


CATALYST = CampaignKind(
    name="catalyst",
    stages=(
        SANITY,
        DUPLICATES,
        RELAX,
        RELAXED_DUPLICATES,
        dataclasses.replace(HULL, criteria={"energy_above_hull": Limits(max=0.1)}),
        AT_REST,
        SURFACE,
        ADSORPTION,
        ACTIVITY,
    ),
    further=(SERVICE,),
    front=(DISORDER,),
    ranking={"mean_from_top": {}, "energy_above_hull": {"weight": 0.5}},
)

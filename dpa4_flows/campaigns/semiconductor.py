"""Semiconductor campaigns: what is stable against everything, how it conducts heat, and on which wafer it grows.

    sanity → duplicates → relax → relaxed duplicates → hull → gap → at rest → phonons → modes → elastic → expansion
           → heat → epitaxy (→ defects → finite temperature)

and, where a file names it, the scattering of phonons, which costs most.

A crystal with imaginary modes is followed down along them, and what it becomes goes on. The band gap is that of a
property model, of the candidate's file, or a guess: a model of energies has none.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.finite_temperature import MELTS
from dpa4_flows.campaigns.applications import GENERAL, known_application, with_application
from dpa4_flows.campaigns.context import Case
from dpa4_flows.campaigns.disorder import DISORDER
from dpa4_flows.campaigns.duplicates import DUPLICATES, RELAXED_DUPLICATES
from dpa4_flows.campaigns.hull import HULL
from dpa4_flows.campaigns.kind import CampaignKind
from dpa4_flows.campaigns.measured import Measured, by_verdict, finding, relaxed, section_of
from dpa4_flows.campaigns.relaxed import AT_REST, RELAX, at_rest
from dpa4_flows.campaigns.sanity import SANITY, check
from dpa4_flows.campaigns.sections import CampaignSection, Limits, Section
from dpa4_flows.campaigns.semiconductor_defects import defects_stage
from dpa4_flows.campaigns.stage import Finding, Stage
from dpa4_flows.compute.plan import Crystal
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.documents.stability import ElasticPart, FollowedPart, PhononPart
from dpa4_flows.properties.alloy import NOTHING_TO_REPLACE, Alloy, AlloyDocument
from dpa4_flows.properties.band_gap import BandGap, BandGapDocument
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.epitaxy import Epitaxy, EpitaxyDocument
from dpa4_flows.properties.finite_temperature import FiniteTemperature, FiniteTemperatureDocument
from dpa4_flows.properties.heat_conductivity import HeatConductivity, HeatConductivityDocument
from dpa4_flows.properties.modes import FollowedModes
from dpa4_flows.properties.phonon_scattering import PhononScattering, PhononScatteringDocument
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.properties.quasi_harmonic import STRAINED_MODES, QuasiHarmonic, QuasiHarmonicDocument


class SemiconductorSection(CampaignSection):
    """What is screened, for what, and without which elements."""

    application: Annotated[str, AfterValidator(known_application)] = Field(
        GENERAL, description="Sets limits and ranking where the file names none"
    )
    avoid: list[str] = Field(default_factory=list, description="Elements that no candidate may hold")


def with_preset(data: dict[str, Any]) -> dict[str, Any]:
    """The content of a campaign file with the tables of its application."""
    return with_application(data, SEMICONDUCTOR.funnel)


def _avoided(case: Case) -> list[str]:
    section = case.scene.run.campaign.campaign
    assert isinstance(section, SemiconductorSection)
    held = sorted({site.specie.symbol for site in case.structure} & set(section.avoid))
    return [f"{', '.join(held)} in it, which this campaign avoids"] if held else []


SEMICONDUCTOR_SANITY = dataclasses.replace(SANITY, judge=lambda case: check(case, _avoided))

# ---- the gap, which costs nothing


def with_statements(case: Case) -> Crystal:
    """The relaxed crystal of a candidate with what its file states of it."""
    crystal = relaxed(case)
    crystal.structure.properties = dict(case.structure.properties)
    return crystal


def judge_gap(case: Case) -> Finding:
    """A gap that is not known breaks no limit; where there is one, that is told."""
    document = case.document(BandGapDocument)
    reasons = list(document.doubts)
    if document.band_gap is None and "band_gap" in case.scene.run.campaign.limits(case.scene.stage):
        words = "its band gap is not known: no property model, none in its file, and no guess from its composition"
        reasons.append(Reason(code="gap_unknown", sentence=words))
    return finding(case, reasons)


GAP = Stage(
    name="gap",
    title="Band gap",
    judge=judge_gap,
    quantities=BandGapDocument,
    reasons={
        "gap_unknown": ReasonKind("gap unknown", "nothing says what its band gap is: limits on it were not applied"),
        "gap_not_computed": ReasonKind("gap not computed", "the property model could not compute it"),
        "gap_not_usable": ReasonKind("gap not usable", "its file states a gap without level of theory or error"),
        "gap_as_stated": ReasonKind(
            "gap as stated", "nothing is known of measured gaps beside those of its level of theory"
        ),
    },
    needs=("relax",),
    computes=Measured(BandGap(), of="band gaps", crystal=with_statements, adds=False),
)

# ---- at rest, and down along imaginary modes


def followed(case: Case) -> Crystal:
    """What a candidate becomes along its imaginary modes; itself where it has none."""
    part = case.document(FollowedPart)
    if not part.steps or part.structure is None:
        return at_rest(case)
    return Crystal(structure_of_fields(part.structure), case.id)


_PHONONS = section_of(Phonons(), without=("model", "force_constants_folder"))
_ELASTIC = section_of(Elastic(), without=("model",))
_EXPANSION = section_of(QuasiHarmonic(), without=("model",))
_HEAT = section_of(HeatConductivity(), without=("model", "elastic", "quasi_harmonic", "method", "scattering"))
_OF_ELASTIC = {"elastic": ("elastic", _ELASTIC)}


PHONONS = Stage(
    name="phonons",
    title="Phonons",
    judge=by_verdict(unstable="imaginary_modes", marginal="phonons_undecided"),
    quantities=PhononPart,
    reasons={
        "imaginary_modes": ReasonKind("imaginary modes", "a displacement of its atoms lowers the energy: no minimum"),
        "phonons_undecided": ReasonKind("phonons undecided", "the calculation cannot tell whether a mode is imaginary"),
        "not_at_rest": ReasonKind("not at rest", "forces were left on undisplaced atoms"),
    },
    needs=("at_rest",),
    computes=Measured(Phonons(), of="phonons", crystal=at_rest, table=_PHONONS),
)


class ModesSection(Section):
    """How far imaginary modes are followed."""

    max_follow_steps: int = Field(2, ge=0, description="How often a crystal is displaced along a mode and relaxed")


def judge_modes(case: Case) -> Finding:
    """What a crystal becomes along its imaginary modes, and whether that is a minimum."""
    part = case.document(FollowedPart)
    reasons = []
    if part.verdict == "unstable" and case.settings.max_follow_steps:  # else the stage of phonons has said it
        reasons.append(Reason(code="no_minimum", sentence=part.reason))
    elif part.steps:
        sentence = (
            f"imaginary modes lead from {part.space_group_before} to {part.space_group}, "
            f"{1000 * part.energy_gain_ev_per_atom:.1f} meV/atom lower: what follows is about that crystal"
        )
        reasons.append(Reason(code="mode_followed", sentence=sentence))
    return finding(case, [*reasons, *(part.unsettled if part.steps else [])])


MODES = Stage(
    name="modes",
    title="Along imaginary modes",
    judge=judge_modes,
    quantities=FollowedPart,
    settings=ModesSection,
    reasons={
        "no_minimum": ReasonKind("no minimum", "imaginary modes lead to no minimum in so many steps", status="failed"),
        "not_at_rest": ReasonKind("not at rest", "a crystal along its imaginary modes did not come to rest"),
        "mode_followed": ReasonKind("distorted", "imaginary modes were followed to a crystal of lower symmetry"),
    },
    needs=("at_rest", "phonons"),
    computes=Measured(
        FollowedModes(),
        of="crystals along imaginary modes",
        crystal=at_rest,
        adds=False,
        table=Section,
        parts={"phonons": ("phonons", _PHONONS)},
    ),
)

# ---- what the crystal does then


ELASTIC = Stage(
    name="elastic",
    title="Elastic tensor",
    judge=by_verdict(unstable="born_unstable", marginal="strain_undecided"),
    quantities=ElasticPart,
    reasons={
        "born_unstable": ReasonKind("shears away", "a strain lowers the energy: no crystal", status="failed"),
        "strain_undecided": ReasonKind("strain undecided", "the calculation cannot tell whether a strain costs energy"),
        "not_at_rest": ReasonKind("not at rest", "strained cells did not come to rest, or a stress was left"),
    },
    needs=("at_rest", "modes"),
    computes=Measured(Elastic(), of="strained crystals", crystal=followed, table=_ELASTIC),
)

_ANHARMONIC = {
    STRAINED_MODES: ReasonKind("imaginary when strained", "a mode is imaginary at a volume: free energies lack it"),
    "cells_not_converged": ReasonKind("cells not at rest", "cells of other volumes did not reach fmax"),
    "not_at_rest": ReasonKind("not at rest", "forces were left on undisplaced atoms"),
    "beyond_volumes": ReasonKind("curve ends", "its volume leaves what was computed before the last temperature"),
    "no_volume": ReasonKind("no volume", "the free energy has no minimum at some temperature"),
}

EXPANSION = Stage(
    name="expansion",
    title="Thermal expansion",
    quantities=QuasiHarmonicDocument,
    reasons=_ANHARMONIC,
    needs=("at_rest", "modes"),
    computes=Measured(QuasiHarmonic(), of="crystals at several volumes", crystal=followed, table=_EXPANSION),
)
HEAT = Stage(
    name="heat",
    title="Heat conductivity",
    quantities=HeatConductivityDocument,
    reasons={
        "no_anharmonicity": ReasonKind("no Grüneisen parameter", "an acoustic mode is imaginary at one of the volumes"),
        "not_at_rest": _ANHARMONIC["not_at_rest"],
        "no_phonons": ReasonKind("no phonons", "the Grüneisen parameter is that of the Poisson ratio"),
    },
    needs=("at_rest", "modes"),
    computes=Measured(
        HeatConductivity(),
        of="conductivities",
        crystal=followed,
        adds=False,
        table=_HEAT,
        parts={**_OF_ELASTIC, "quasi_harmonic": ("expansion", _EXPANSION)},
    ),
)
SCATTERING = Stage(
    name="scattering",
    title="Scattering of phonons",
    quantities=PhononScatteringDocument,
    reasons={
        "imaginary_modes": ReasonKind("imaginary modes", "there are no phonons to scatter"),
        "mesh_unsettled": ReasonKind("mesh unsettled", "more wave vectors would change the conductivity by over 10 %"),
        "phonons_undecided": ReasonKind("phonons undecided", "the calculation cannot tell whether a mode is imaginary"),
        "not_at_rest": _ANHARMONIC["not_at_rest"],
        "no_splitting": ReasonKind("no LO-TO", "polar modes lack the splitting that fields make of them"),
        "soft_mode": ReasonKind(
            "soft mode", "an optical mode is soft: the order of conductivities holds, not the size"
        ),
    },
    needs=("at_rest", "modes"),
    computes=Measured(
        PhononScattering(),
        of="supercells at random",
        crystal=followed,
        table=section_of(PhononScattering(), without=("model", "field_response")),
    ),
)
EPITAXY = Stage(
    name="epitaxy",
    title="Wafers",
    quantities=EpitaxyDocument,
    reasons={
        "no_elastic_tensor": ReasonKind("no strain energy", "the film has no elastic tensor"),
        "no_interface": ReasonKind("no interface energy", "the interface was not computed"),
        "interface_not_at_rest": ReasonKind("interface not at rest", "its energy is an upper bound"),
        "interface_across_seam": ReasonKind("+U seam", "film and wafer together are on another level of theory"),
    },
    needs=("at_rest", "modes"),
    computes=Measured(
        Epitaxy(),
        of="films on wafers",
        crystal=followed,
        adds=False,
        table=section_of(Epitaxy(), without=("model", "elastic", "relaxation")),
        parts=_OF_ELASTIC,
    ),
)
DEFECTS = defects_stage(followed)
FINITE_TEMPERATURE = Stage(
    name="finite_temperature",
    title="Finite temperature",
    quantities=FiniteTemperatureDocument,
    criteria={"lindemann": Limits(max=MELTS)},
    reasons={
        "lindemann_too_high": ReasonKind(
            "falls apart when warm", "its atoms move as far as those of a melting crystal"
        ),
        "too_short": ReasonKind("dynamics too short", "its atoms still move farther as the run goes on"),
        "left_its_place": ReasonKind("atoms leave", "an atom moved to another place while the crystal was warm"),
    },
    needs=("at_rest", "modes"),
    computes=Measured(FiniteTemperature(), of="crystals in motion", crystal=followed),
)


_ALLOY = section_of(Alloy(), without=("model",))
ALLOY = Stage(
    name="alloy",
    title="Alloy",
    quantities=AlloyDocument,
    reasons={
        "not_random": ReasonKind("not random", "the cells of the alloy are too small to be uncorrelated"),
        "not_regular": ReasonKind("not regular", "the alloy is no regular solution: its miscibility is doubtful"),
        "cell_failed": ReasonKind("a composition failed", "one composition of the alloy has no energy at rest"),
    },
    needs=("at_rest", "modes"),
    # who does not hold the element which is replaced goes on
    computes=Measured(Alloy(), "alloys", followed, table=_ALLOY, without={NOTHING_TO_REPLACE: None}),
)

SEMICONDUCTOR = CampaignKind(
    name="semiconductor",
    stages=(
        SEMICONDUCTOR_SANITY,
        DUPLICATES,
        RELAX,
        RELAXED_DUPLICATES,
        dataclasses.replace(HULL, criteria={"energy_above_hull": Limits(max=0.1)}),
        GAP,
        AT_REST,
        PHONONS,
        MODES,
        ELASTIC,
        EXPANSION,
        HEAT,
        EPITAXY,
    ),
    further=(SCATTERING, DEFECTS, FINITE_TEMPERATURE, ALLOY),
    front=(DISORDER,),
    section=SemiconductorSection,
    upgrade=with_preset,
)

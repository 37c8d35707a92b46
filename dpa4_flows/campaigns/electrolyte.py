"""Electrolyte campaigns: which solids let an ion through a cell and are not eaten by it.

    sanity → duplicates → relax → relaxed duplicates → hull → window → interface → air → at rest → elastic

Everything up to `air` reads hulls of relaxations; the elastic tensor costs most. How fast the ion moves is asked by
stages that a file may add.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pydantic import Field

from dpa4_flows.analysis.electrode import redox_bound
from dpa4_flows.analysis.oxidation import guess_oxidation_states
from dpa4_flows.campaigns.context import Case
from dpa4_flows.campaigns.disorder import DISORDER
from dpa4_flows.campaigns.duplicates import DUPLICATES, RELAXED_DUPLICATES
from dpa4_flows.campaigns.hull import HULL
from dpa4_flows.campaigns.ion import IonSection, ion_of
from dpa4_flows.campaigns.kind import CampaignKind
from dpa4_flows.campaigns.measured import Measured, by_verdict
from dpa4_flows.campaigns.relaxed import AT_REST, RELAX, at_rest
from dpa4_flows.campaigns.rivals import AgainstPhases, Stored
from dpa4_flows.campaigns.sanity import INPUT_DOUBTFUL, SANITY, SanitySection, check
from dpa4_flows.campaigns.sections import Limits
from dpa4_flows.campaigns.stage import Finding, Stage
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.documents.stability import ElasticPart
from dpa4_flows.properties.air import Air, AirDocument
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.interfaces import InterfaceDocument, Interfaces
from dpa4_flows.properties.windows import ElectrochemicalWindows, WindowDocument

# ---- sanity: an ion, and nothing that carries electrons


class ElectrolyteSanity(SanitySection):
    """What a structure must hold, and what not."""

    require_charge_balance: bool = Field(True, description="Oxidation states must balance its charges")
    allow_redox_metal: bool = Field(False, description="A transition metal that can be oxidised may be present")


def judge_input(case: Case) -> Finding:
    """Whether a candidate can be computed, holds the ion, and has nothing that is sure to carry electrons."""
    found = check(case, _no_ion)
    if any(reason.code != INPUT_DOUBTFUL for reason in found.reasons):
        return found
    composition, ion = case.structure.composition.element_composition, ion_of(case.scene.run.campaign)
    formula = composition.reduced_formula
    reasons = list(found.reasons)
    if case.settings.require_charge_balance and not guess_oxidation_states(composition):
        sentence = f"no oxidation states balance the charges of {formula}: it has electrons to spare, as a metal has"
        reasons.append(Reason(code="charges_unbalanced", sentence=sentence))
    else:
        bound = redox_bound(composition, ion)
        if bound.reason is None and not case.settings.allow_redox_metal:
            metals = ", ".join(bound.redox_elements)
            sentence = f"{metals} in {formula} can be oxidised: it takes part in the cell and lets electrons through"
            reasons.append(Reason(code="redox_metal", sentence=sentence))
    return dataclasses.replace(found, reasons=reasons)


def _no_ion(case: Case) -> list[str]:
    ion = ion_of(case.scene.run.campaign)
    held = {site.specie.symbol for site in case.structure}
    return [] if ion in held else [f"no {ion} in it, the working ion of this campaign"]


ELECTROLYTE_SANITY = dataclasses.replace(
    SANITY,
    judge=judge_input,
    settings=ElectrolyteSanity,
    reasons={
        **SANITY.reasons,
        "charges_unbalanced": ReasonKind("charges unbalanced", "no oxidation states balance its charges", "failed"),
        "redox_metal": ReasonKind("redox metal", "a transition metal in it can be oxidised", "failed"),
    },
)


# ---- what it does beside electrodes and in air


@dataclass(frozen=True)
class RunWindows(ElectrochemicalWindows, Stored):
    """Windows in a campaign."""


@dataclass(frozen=True)
class RunInterfaces(Interfaces, Stored):
    """Interfaces in a campaign."""


@dataclass(frozen=True)
class RunAir(Air, Stored):
    """Reactions with air in a campaign."""


WINDOW = Stage(
    name="window",
    title="Electrochemical window",
    quantities=WindowDocument,
    reasons={"window_of_products": ReasonKind("above the hull", "the window is that of what it turns into")},
    needs=("relax",),
    computes=AgainstPhases(RunWindows(), of="phases with the ion"),
)
INTERFACE = Stage(
    name="interface",
    title="Interfaces",
    quantities=InterfaceDocument,
    reasons={
        "worst_energy_too_low": ReasonKind("reacts with electrodes", "it gives off much energy beside an electrode"),
        "interface_unknown": ReasonKind("interface unknown", "no compound of it and an electrode is known"),
        "reacts_alone": ReasonKind("reacts alone", "the worst reaction beside an electrode is of one side alone"),
        "interphase_conducts": ReasonKind("interphase conducts", "a product beside an electrode conducts electrons"),
    },
    needs=("relax",),
    computes=AgainstPhases(RunInterfaces(), of="phases with the electrodes"),
)
AIR = Stage(
    name="air",
    title="Air",
    quantities=AirDocument,
    reasons={
        "hydrolysis_energy_too_low": ReasonKind("hydrolyses", "it gives off much energy in water vapour"),
        "air_unknown": ReasonKind("air unknown", "no compound of it and a gas of the air is known"),
        "air_uncertain": ReasonKind("air uncertain", "a reaction with air gains less than the error of Gibbs energies"),
        "gives_off_poison": ReasonKind("gives off poison", "a poisonous gas leaves in water vapour"),
    },
    needs=("relax",),
    computes=AgainstPhases(RunAir(), of="phases with H, C and O"),
)


# ---- stiffness


ELASTIC = Stage(
    name="elastic",
    title="Elastic tensor",
    judge=by_verdict(unstable="born_unstable"),  # how stiff it is the limits judge
    quantities=ElasticPart,
    criteria={"g_vrh_gpa": Limits(min=6.8, otherwise="flag")},  # twice that of lithium
    reasons={
        "born_unstable": ReasonKind("shears away", "a strain lowers the energy: no crystal", "failed"),
        "not_at_rest": ReasonKind("not at rest", "strained cells did not come to rest, or a stress was left"),
        "g_vrh_gpa_too_low": ReasonKind("softer than dendrites", "its shear modulus does not press dendrites flat"),
    },
    needs=("at_rest",),
    computes=Measured(Elastic(), of="strained crystals", crystal=at_rest),
    caveats=(
        "A separator presses a dendrite flat if its shear modulus is about twice that of the metal (Monroe and Newman "
        "2005): linear elasticity of a flat interface. In ceramics metal grows through cracks, pores and grain "
        "boundaries all the same, so that the limit is necessary and not enough.",
    ),
)

ELECTROLYTE = CampaignKind(
    name="electrolyte",
    stages=(
        ELECTROLYTE_SANITY,
        DUPLICATES,
        RELAX,
        RELAXED_DUPLICATES,
        dataclasses.replace(HULL, criteria={"energy_above_hull": Limits(max=0.1)}),
        WINDOW,
        INTERFACE,
        AIR,
        AT_REST,
        ELASTIC,
    ),
    front=(DISORDER,),
    ranking={
        "worst_energy": {},
        "width": {},
        "hydrolysis_energy": {"weight": 0.5},
        "energy_above_hull": {"weight": 0.5},
    },
    section=IonSection,
)

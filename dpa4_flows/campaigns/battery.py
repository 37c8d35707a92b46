"""Battery campaigns: which insertion electrodes are stable, and what voltage and capacity they give.

    sanity → duplicates → relax → relaxed duplicates → hull → profile → delithiate → relax charged → electrode
    → charged hull → oxygen

Cheap criteria come first. What a window of voltages can use of the profile decides about a candidate; its full removal
does where there is no profile. The physics is in `dpa4_flows.analysis.electrode`; the stages that know no battery come
from their own files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.electrode import ElectrodeError, redox_bound, remove_ions
from dpa4_flows.analysis.ions import STANDARD_POTENTIALS
from dpa4_flows.campaigns.battery_charged import CHARGED_HULL, OXYGEN
from dpa4_flows.campaigns.battery_migration import MIGRATION
from dpa4_flows.campaigns.battery_profile import PROFILE, MetalOfRun, decided_by_profile, metal_forms
from dpa4_flows.campaigns.battery_upgrade import upgrade
from dpa4_flows.campaigns.context import Case, Scene
from dpa4_flows.campaigns.disorder import DISORDER
from dpa4_flows.campaigns.duplicates import DUPLICATES, RELAXED_DUPLICATES
from dpa4_flows.campaigns.hull import HULL, ZERO_REASONS, CompetingPhases
from dpa4_flows.campaigns.ion import IonSection, ion_of
from dpa4_flows.campaigns.kind import CampaignKind
from dpa4_flows.campaigns.measured import relaxed
from dpa4_flows.campaigns.relaxed import AT_REST, DOUBTS, RELAX, Relaxation, judge_relaxation
from dpa4_flows.campaigns.sanity import INPUT_DOUBTFUL, SANITY, InputDocument, SanitySection, check
from dpa4_flows.campaigns.sections import Limits, Section
from dpa4_flows.campaigns.stage import Computation, Finding, Stage
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.documents.schemas import Document, RelaxationDocument
from dpa4_flows.properties.electrode import Electrode, ElectrodeDocument
from dpa4_flows.properties.insertion import CHARGED
from dpa4_flows.properties.voltage_profile import WINDOW, VoltageProfile

# ---- sanity: ion and redox metal


class BatterySanitySection(SanitySection):
    """What a structure must hold, too."""

    require_redox_metal: bool = Field(True, description="An oxidisable transition metal must be present")


class ElectrodeInput(InputDocument):
    """What is known of an electrode before anything is computed."""

    capacity_bound: float | None = shown(
        "Bound of the capacity",
        "mAh/g",
        0,
        detail=True,
        description="Capacity if all ions leave, or as far as the metals can be oxidised, mAh/g",
    )


def judge_input(case: Case) -> Finding:
    """Whether a candidate can and should be computed: also ion and redox metal."""
    finding = check(case, _no_host)
    structure, ion = case.structure, ion_of(case.scene.run.campaign)
    if any(reason.code != INPUT_DOUBTFUL for reason in finding.reasons):
        return finding
    bound = redox_bound(structure.composition, ion)
    if case.settings.require_redox_metal and bound.reason:
        return dataclasses.replace(finding, reasons=[Reason(code="no_redox_metal", sentence=bound.reason)])
    reasons = list(finding.reasons)
    if bound.limit is not None:
        reasons.append(Reason(code="oxidation_limit", sentence=bound.limit))
    values = ElectrodeInput(n_atoms=len(structure), capacity_bound=bound.capacity)
    return dataclasses.replace(finding, reasons=reasons, values=values)


def _no_host(case: Case) -> list[str]:
    ion, symbols = ion_of(case.scene.run.campaign), {site.specie.symbol for site in case.structure}
    if ion not in symbols:
        return [f"no {ion} in it, the working ion of this campaign"]
    return [f"nothing but {ion}; an electrode needs a host for the ion"] if len(symbols) == 1 else []


BATTERY_SANITY = dataclasses.replace(
    SANITY,
    judge=judge_input,
    quantities=ElectrodeInput,
    settings=BatterySanitySection,
    reasons={
        **SANITY.reasons,
        "no_redox_metal": ReasonKind("no redox metal", "no transition metal can be oxidised", status="failed"),
        "oxidation_limit": ReasonKind(
            "capacity limited", "the highest oxidation states of its metals allow less than full removal of the ion"
        ),
    },
)


# ---- charged hosts


class HostDocument(Document):
    """A host without the working ion."""

    charged_formula: str = shown("Charged", detail=True, default=..., description="Reduced formula")
    n_ions_removed: int = shown("Ions removed", detail=True, default=..., description="From the cell")
    structure: dict[str, Any] = Field(description="Not relaxed, as a pymatgen dictionary")


def judge_delithiation(case: Case) -> Finding:
    """Take all working ions out of the relaxed structure."""
    discharged = case.relaxed("relax")
    try:
        charged = remove_ions(discharged, ion_of(case.scene.run.campaign))
    except ElectrodeError as error:
        return Finding(case.id, [Reason(code="nothing_left", sentence=str(error))])
    document = HostDocument(
        charged_formula=charged.composition.reduced_formula,
        n_ions_removed=len(discharged) - len(charged),
        structure=charged.as_dict(),
    )
    return Finding(case.id, values=document, document=document)


DELITHIATE = Stage(
    name="delithiate",
    title="Ion removal",
    judge=judge_delithiation,
    quantities=HostDocument,
    reasons={"nothing_left": ReasonKind("no host", "nothing is left without the working ion", status="failed")},
    needs=("relax",),
    caveats=(
        "Layered hosts come apart along the stacking axis when the ion between the layers is removed, where the model "
        "has no dispersion. Their voltage moves by up to 0.1 V, their volume change is meaningless and marked as "
        "unreliable.",
    ),
)


class ChargedSection(Section):
    """How the host without the working ion relaxes."""

    check_minimum: bool = Field(False, description="Look for a way down from where forces vanish, and go it")


def charged_host(case: Case) -> Crystal:
    """The host without working ions as the stage before left it."""
    return Crystal(structure_of_fields(case.said("delithiate")["structure"]), case.id)


def judge_charged(case: Case) -> Finding:
    """Whether a host relaxed; its volume is judged with the electrode."""
    return judge_relaxation(case, CHARGED)


RELAX_CHARGED = Stage(
    name="relax_charged",
    title="Relaxation, charged",
    judge=judge_charged,
    quantities=RelaxationDocument,
    settings=ChargedSection,
    reasons={
        f"{code}{CHARGED}": dataclasses.replace(kind, badge=f"charged: {kind.badge}", phrase=f"charged: {kind.phrase}")
        for code, kind in DOUBTS.items()
    },
    needs=("delithiate",),
    computes=Relaxation(of="charged hosts", crystal=charged_host, own=("check_minimum",)),
)


# ---- voltage and capacity


@dataclass(frozen=True)
class IonMetal(CompetingPhases):
    """Relaxes the metal of the working ion, whose energy a voltage needs; it is among the competing phases."""

    of: str = "working-ion metal"

    def covers(self, other: Computation) -> bool:
        return self == other

    def systems(self, scene: Scene, ids: Sequence[str]) -> set[str]:
        return {ion_of(scene.run.campaign)}


@dataclass(frozen=True)
class RunElectrode(MetalOfRun, Electrode):
    """The electrode in a campaign."""

    @classmethod
    def of_scene(cls, scene: Scene) -> RunElectrode:
        """With the settings of the campaign."""
        run = scene.run
        return cls(ion_of(run.campaign), run.relaxed, run.campaign.relax_charged.check_minimum, metal_forms(scene))


def judge_electrodes(scene: Scene, cases: Iterable[Case]) -> Iterable[Finding]:
    """Voltages by the property; what it asks for, the stages before have relaxed.

    Limits on full removal do not decide about a candidate whose profile says what of it can be used.
    """
    asked = scene.shared(RunElectrode.of_scene)
    subjects, keys = {}, {}
    for case in cases:
        subjects[case.id] = relaxed(case)
        keys[case.id] = [case.calculations[stage].key for stage in ELECTRODE.needs]
    judged = decided_by_profile(scene, subjects)
    asks = ((name, Ask(asked, crystal)) for name, crystal in subjects.items())
    for name, document in compute(asks, scene.run.model, scene.table):
        found = electrode_finding(name, document, keys[name])
        yield dataclasses.replace(found, waives=OF_FULL_REMOVAL) if name in judged else found


OF_FULL_REMOVAL = ("average_voltage", "capacity_grav")
"""What decides about a candidate without a profile."""


def electrode_finding(name: str, document: ElectrodeDocument, keys: Sequence[str] = ()) -> Finding:
    """What a candidate is worth as an electrode; flags of its relaxations are those of their stages."""
    if document.error is not None:
        code = document.error_code if document.error_code in ZERO_REASONS else "no_voltage"
        return Finding(name, [Reason(code=code, sentence=f"no voltage: {document.error}")])
    return Finding(
        name,
        [reason for reason in document.warnings if reason.code in ELECTRODE.reasons],
        values=document,
        document=document,
        sentences={
            "average_voltage": "average voltage {value:.2f} V is {side}{limit:g} V",
            "capacity_grav": "capacity {value:.0f} mAh/g is {side}{limit:g} mAh/g",
            "volume_change_percent": "the volume changes by {value:+.1f} % on charging, more than {limit:g} %",
        },
        keys=keys,
        provenance=document.provenance,
    )


class RoleSection(Section):
    """What candidates are looked at as."""

    role: Literal["cathode", "anode"] = Field("cathode", description="Anodes have stages of their own")


def kind_of_role(data: Mapping[str, Any]) -> str:
    """The kind of campaign that a file means by ``role`` in its table of the electrode."""
    table = data.get(ELECTRODE.name)
    return "anode" if isinstance(table, Mapping) and table.get("role") == "anode" else "battery"


def upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of today; where a file names no limits of voltage, those of lithium against the metal of its ion."""
    tables = upgrade(data)
    section, table = tables.get("campaign"), tables.get(ELECTRODE.name, {})
    if not isinstance(section, Mapping) or not isinstance(table, Mapping):
        return tables
    ion, stages = section.get("working_ion", "Li"), section.get("stages")
    judged = not stages or (isinstance(stages, list | tuple) and ELECTRODE.name in stages)
    if judged and ion != "Li" and ion in [*STANDARD_POTENTIALS]:
        low, high = (round(limit, 2) for limit in VoltageProfile(working_ion=ion).window)
        tables[ELECTRODE.name] = {"average_voltage": {"min": low, "max": high}, **table}
    return tables


ELECTRODE = Stage(
    name="electrode",
    title="Electrode properties",
    over_all=judge_electrodes,
    by_formula=True,  # it compares none
    quantities=ElectrodeDocument,
    settings=RoleSection,
    criteria={
        "average_voltage": Limits(min=WINDOW[0], max=WINDOW[1]),
        "capacity_grav": Limits(min=100.0),
        "volume_change_percent": Limits(max=10.0, otherwise="flag"),
    },
    reasons={
        "no_voltage": ReasonKind("no voltage", "no voltage", status="error"),
        **ZERO_REASONS,
        "voltage_too_low": ReasonKind("low voltage", "the voltage is below the limit", status="failed"),
        "voltage_too_high": ReasonKind("high voltage", "the voltage is above the limit", status="failed"),
        "capacity_too_low": ReasonKind("low capacity", "the capacity is below the limit", status="failed"),
        "unreliable_vdw": ReasonKind(
            "host swells",
            "no dispersion in the model: the host swells, volume change and charged hull distance not meaningful",
        ),
        "not_topotactic": ReasonKind(
            "not topotactic",
            "not topotactic: the host rearranges on charging, its charge may not come back",
            disqualifies=True,
        ),
        "unusual_oxidation": ReasonKind(
            "unusual oxidation", "charging needs Fe beyond 3+, or Co or Ni beyond 4+, in an oxide: oxygen may react"
        ),
        "no_insertion": ReasonKind("takes up no ion", "the host does not take up the ion", disqualifies=True),
        "across_u_seam": ReasonKind(
            "across PBE and PBE+U",
            "charged and discharged form lie on different sides of the PBE/PBE+U seam",
            disqualifies=True,
        ),
        "large_volume_change": ReasonKind("large volume change", "the volume change on charging exceeds the limit"),
    },
    needs=("relax", "relax_charged"),
    computes=IonMetal(),
    figures="dpa4_flows.campaigns.battery_figures:electrode_figures",
)


BATTERY = CampaignKind(
    name="battery",
    stages=(
        BATTERY_SANITY,
        DUPLICATES,
        RELAX,
        RELAXED_DUPLICATES,
        HULL,
        PROFILE,
        DELITHIATE,
        RELAX_CHARGED,
        ELECTRODE,
        CHARGED_HULL,
        OXYGEN,
    ),
    front=(DISORDER,),
    further=(AT_REST, MIGRATION),
    ranking={"energy_grav": {}, "energy_above_hull": {"weight": 0.5}, "energy_above_hull_charged": {"weight": 0.5}},
    instead={"energy_grav": "usable_energy"},
    section=IonSection,
    variant=kind_of_role,
    upgrade=upgraded,
)

"""Stage ``profile`` of battery campaigns: voltage over charge, and what of it a window can use, which decides."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from pymatgen.core import Structure

from dpa4_flows.campaigns.context import Case, Scene
from dpa4_flows.campaigns.ion import ion_of
from dpa4_flows.campaigns.measured import LOST, Codes, Measured, relaxed
from dpa4_flows.campaigns.sections import Limits
from dpa4_flows.campaigns.stage import Finding, Stage
from dpa4_flows.compute.plan import Property
from dpa4_flows.documents.quantities import quantities
from dpa4_flows.documents.reasons import ReasonKind, voided
from dpa4_flows.properties.voltage_profile import VoltageProfile, VoltageProfileDocument

_OF_THE_RUN = ("working_ion", "relaxation", "check_charged", "forms")


def metal_forms(scene: Scene) -> tuple[Structure, ...]:
    """Forms of the metal of the ion of the campaign among the phases of the run."""
    ion = ion_of(scene.run.campaign)
    return tuple(scene.competing.structures([phase.key for phase in scene.competing.phases([ion])]).values())


@dataclass(frozen=True)
class MetalOfRun:
    """Put before a property of insertion: forms of the metal are those among the phases of the run.

    Attributes:
        forms: of the metal.
    """

    forms: tuple[Structure, ...] = ()

    def metal(self) -> Iterable[Structure]:
        return self.forms


@dataclass(frozen=True)
class RunProfile(MetalOfRun, VoltageProfile):
    """The profile in a campaign."""


@dataclass(frozen=True)
class Profiles(Measured):
    """Profiles of the ion of the campaign, with the relaxations of the run."""

    without: Codes = field(default_factory=lambda: {**LOST, "": "no_profile"})
    decided: ClassVar[tuple[str, ...]] = ("model", *_OF_THE_RUN)
    measures: Property[Any] = field(default_factory=partial(RunProfile, n_steps=2, n_relaxed=2))
    of: str = "orderings of ions"
    crystal: Any = relaxed

    def settled(self, scene: Scene) -> Property[Any]:
        settings: Any = super().settled(scene)
        campaign = scene.run.campaign
        charged = getattr(campaign, "relax_charged", None)
        return dataclasses.replace(
            settings,
            working_ion=ion_of(campaign),
            relaxation=scene.run.relaxed,
            check_charged=charged is not None and charged.check_minimum,
            forms=scene.shared(metal_forms),
        )

    def judged(self, case: Case) -> Finding:
        """What can be used, unless it is doubtful: then nothing is decided here."""
        found = super().judged(case)
        doubted = voided(map(case.scene.funnel.completed, found.reasons))
        return dataclasses.replace(
            found, waives=[name for name in quantities(VoltageProfileDocument) if name in doubted]
        )


def decided_by_profile(scene: Scene, ids: Iterable[str]) -> set[str]:
    """Those of some candidates whose profile says what can be used of them, and no flag voids it."""
    verdicts = scene.table.stage(PROFILE.name, ids) if PROFILE.name in scene.funnel.names else {}
    return {
        name
        for name, one in verdicts.items()
        if one.values.get("usable_capacity") is not None and "usable_capacity" not in voided(one.reasons)
    }


PROFILE = Stage(
    name="profile",
    title="Voltage profile",
    quantities=VoltageProfileDocument,
    criteria={"usable_capacity": Limits(min=100.0)},
    reasons={
        "usable_capacity_too_low": ReasonKind(
            "little usable", "the window of voltages leaves too little capacity", status="failed"
        ),
        "no_profile": ReasonKind("no profile", "no voltage profile"),
        "used_host_rearranges": ReasonKind(
            "host rearranges in use",
            "the host rearranges inside the window, its charge may not come back",
            disqualifies=True,
        ),
        "ends_alone": ReasonKind("no ordering", "the cell is too small for an ordering between full and empty"),
        "orderings_left_out": ReasonKind("orderings missing", "orderings did not relax, or their host changed"),
        "composition_missing": ReasonKind("composition missing", "no ordering is left at a composition"),
        "no_charges": ReasonKind("random orderings", "orderings are random: no oxidation states are known"),
    },
    needs=("relax",),
    computes=Profiles(),
)

"""Stages ``insertion`` and ``conversion`` of battery campaigns: what becomes of a candidate as it takes up the ion, as
long as it stays the same crystal, or in equilibrium."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dpa4_flows.campaigns.battery_profile import MetalOfRun, Profiles, RunProfile
from dpa4_flows.campaigns.config import Campaign
from dpa4_flows.campaigns.context import Case
from dpa4_flows.campaigns.ion import ion_of
from dpa4_flows.campaigns.measured import LOST, Codes, finding
from dpa4_flows.campaigns.rivals import AgainstPhases, Stored
from dpa4_flows.campaigns.sections import Section
from dpa4_flows.campaigns.stage import Finding, Stage
from dpa4_flows.compute.plan import Property
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.documents.schemas import Document
from dpa4_flows.properties.conversion import Conversion
from dpa4_flows.properties.ion_insertion import IonInsertion
from dpa4_flows.properties.voltage_profile import VoltageProfile


@dataclass(frozen=True)
class RunInsertion(MetalOfRun, IonInsertion):
    """Insertion in a campaign."""

    removal: ClassVar[type[VoltageProfile]] = RunProfile


@dataclass(frozen=True)
class Insertions(Profiles):
    """Insertion of the ion of the campaign, with the relaxations of the run."""

    without: Codes = field(default_factory=lambda: {**LOST, "": "no_ion_goes_in"})
    measures: Property[Any] = field(default_factory=RunInsertion)
    of: str = "hosts with ions"

    def further_systems(self, campaign: Campaign, table: Section) -> Iterable[str]:
        return [ion_of(campaign)]

    def judged(self, case: Case) -> Finding:
        """What goes in; its doubts are told where it counts, since who alloys is not touched by them."""
        return finding(case, [])


DOUBTS = {
    "unreliable_vdw": ReasonKind("host swells", "no dispersion in the model: its volume change is not meaningful"),
    "across_u_seam": ReasonKind("across PBE and PBE+U", "host and filled host lie on two sides of the +U seam"),
    "used_host_rearranges": ReasonKind("host rearranges", "the host is another one at the end of the window"),
    "removal_missing": ReasonKind("removal missing", "what leaves the host has no profile"),
}
"""Of an insertion, by code."""


class Inserted(Document):
    """What goes into a host, of an `IonInsertionDocument`; what counts is said of the electrode."""

    usable_capacity: float | None = shown(
        "Insertion, capacity", "mAh/g", 0, "inside the window, with the ions", detail=True
    )
    usable_voltage: float | None = shown("Insertion, voltage", "V", 2, detail=True)
    taken: float | None = shown("Ions taken up", "", 2, "per formula unit", detail=True)


class Converted(Document):
    """What a candidate turns into, of a `ConversionDocument`."""

    voltage: float | None = shown("Conversion, voltage", "V", 2, "mean", detail=True)
    capacity: float | None = shown("Conversion, capacity", "mAh/g", 0, detail=True)
    expansion_percent: float | None = shown("Conversion, expansion", "%", 0, detail=True)


INSERTION = Stage(
    name="insertion",
    title="Insertion",
    quantities=Inserted,
    reasons={
        "no_ion_goes_in": ReasonKind("no insertion", "ions do not go in as long as the host stays what it is"),
    },
    needs=("relax",),
    computes=Insertions(),
)


@dataclass(frozen=True)
class RunConversion(Conversion, Stored):
    """Conversion in a campaign."""


_SAID = {"takes_up_no_ion": "takes_up_no_ion", "no_host": "no_conversion", "not_comparable": "no_conversion"}


@dataclass(frozen=True)
class Conversions(AgainstPhases):
    """What the hull says that a candidate turns into; one that turns into nothing goes on."""

    without: Codes = field(default_factory=lambda: _SAID)
    measures: Property[Any] = field(default_factory=RunConversion)
    of: str = "phases with the ion"

    def judged(self, case: Case) -> Finding:
        caveat = getattr(case.found, "caveat", None)
        return finding(case, [] if caveat is None else [Reason(code="phases_unsure", sentence=caveat)])


CONVERSION = Stage(
    name="conversion",
    title="Conversion and alloying",
    quantities=Converted,
    reasons={
        "takes_up_no_ion": ReasonKind("takes up no ion", "no phase with more of the ion is on the hull"),
        "no_conversion": ReasonKind("no conversion", "the hull does not say what it turns into"),
        "phases_unsure": ReasonKind("phases unsure", "nobody surveyed the phases that it turns into"),
    },
    needs=("relax",),
    computes=Conversions(),
)

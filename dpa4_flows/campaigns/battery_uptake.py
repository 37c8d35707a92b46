"""Stages ``insertion`` and ``conversion`` of battery campaigns: what becomes of a candidate as it takes up the ion, as
long as it stays the same crystal, or in equilibrium."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pymatgen.core import Structure

from dpa4_flows.campaigns.battery_profile import Profiles
from dpa4_flows.campaigns.config import Campaign
from dpa4_flows.campaigns.context import Case, Scene
from dpa4_flows.campaigns.hull import CompetingPhases, OfRun
from dpa4_flows.campaigns.measured import relaxed, section_of
from dpa4_flows.campaigns.sections import Section
from dpa4_flows.campaigns.snapshot import Row, Snapshot
from dpa4_flows.campaigns.stage import Finding, Stage
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import NO_NUMBER, Ask, Crystals, Property
from dpa4_flows.documents.reasons import Reason, ReasonKind
from dpa4_flows.plots.figure import Block
from dpa4_flows.properties.conversion import Conversion, ConversionDocument
from dpa4_flows.properties.ion_insertion import IonInsertion, IonInsertionDocument
from dpa4_flows.report.figures_thermodynamics import conversion_profiles


def ion_of(campaign: Campaign) -> str:
    """The ion of a campaign for batteries."""
    section: Any = campaign.campaign
    ion: str = section.working_ion
    return ion


@dataclass(frozen=True)
class RunInsertion(IonInsertion):
    """Insertion in a campaign: forms of the metal are those among the phases of the run.

    Attributes:
        forms: of the metal.
    """

    forms: tuple[Structure, ...] = field(default=(), metadata=NO_NUMBER)

    def metal(self) -> Iterable[Structure]:
        return self.forms


@dataclass(frozen=True)
class Insertions(Profiles):
    """Insertion of the ion of the campaign, with the relaxations of the run."""

    measures: Property[Any] = field(default_factory=RunInsertion)
    of: str = "hosts with ions"
    nothing: str = "no_ion_goes_in"

    def further(self, campaign: Campaign) -> Collection[str]:
        return (ion_of(campaign),)


INSERTION = Stage(
    name="insertion",
    title="Insertion",
    quantities=IonInsertionDocument,
    reasons={
        "no_ion_goes_in": ReasonKind("no insertion", "ions do not go in as long as the host stays what it is"),
        "unreliable_vdw": ReasonKind("host swells", "no dispersion in the model: its volume change is not meaningful"),
        "across_u_seam": ReasonKind("across PBE and PBE+U", "host and filled host lie on two sides of the +U seam"),
        "used_host_rearranges": ReasonKind("host rearranges", "the host is another one at the end of the window"),
        "removal_missing": ReasonKind("removal missing", "what leaves the host has no profile"),
    },
    needs=("relax",),
    computes=Insertions(),
)


@dataclass(frozen=True)
class PhasesWithIon(CompetingPhases):
    """Competing phases of the candidates and of the ion with them."""

    wider: ClassVar[bool] = True

    @property
    def tables(self) -> Mapping[str, type[Section]]:
        own = section_of(Conversion(), without=("model", *_OF_THE_RUN))
        return {**super().tables, "": own}

    def further(self, campaign: Campaign) -> Collection[str]:
        return (ion_of(campaign),)


@dataclass(frozen=True)
class RunConversion(OfRun, Conversion):
    """Conversion in a campaign."""


_OF_THE_RUN = tuple(name for name in Conversion.__dataclass_fields__ if name != "min_voltage")


def judge_conversions(scene: Scene, cases: list[Case]) -> Iterable[Finding]:
    """What the hull says that the candidates turn into."""
    settings = {"working_ion": ion_of(scene.run.campaign), "min_voltage": scene.settings.min_voltage}
    subject = Crystals(tuple(relaxed(case) for case in cases))
    asked = Ask(RunConversion.of_run(scene.run, **settings), subject)
    ((_, found),) = compute([("", asked)], scene.run.model, scene.table)
    for case, view in zip(cases, found.documents, strict=True):
        yield conversion_finding(case, view)


def conversion_finding(case: Case, view: ConversionDocument) -> Finding:
    """What a candidate is worth as an electrode that converts."""
    if view.error is not None:
        code = "takes_up_no_ion" if view.error_code == "takes_up_no_ion" else "no_conversion"
        return Finding(case.id, [Reason(code=code, sentence=view.error)], document=view)
    reasons = [] if view.caveat is None else [Reason(code="phases_unsure", sentence=view.caveat)]
    return Finding(case.id, reasons, values=view, document=view, provenance=view.provenance)


def conversion_figures(snapshot: Snapshot, rows: Sequence[Row]) -> list[Block]:
    """Voltage against capacity of what converts."""
    stored = snapshot.table.stage("conversion", [row.candidate_id for row in rows])
    documents = {name: ConversionDocument.model_validate(one.document) for name, one in stored.items() if one.document}
    return [*conversion_profiles(documents)]


CONVERSION = Stage(
    name="conversion",
    title="Conversion and alloying",
    over_all=judge_conversions,
    quantities=ConversionDocument,
    reasons={
        "takes_up_no_ion": ReasonKind("takes up no ion", "no phase with more of the ion is on the hull"),
        "no_conversion": ReasonKind("no conversion", "the hull does not say what it turns into"),
        "phases_unsure": ReasonKind("phases unsure", "nobody surveyed the phases that it turns into"),
    },
    needs=("relax",),
    computes=PhasesWithIon(of="phases with the ion"),
    figures="dpa4_flows.campaigns.battery_uptake:conversion_figures",
    caveats=Conversion.caveats,
)

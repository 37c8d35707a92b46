"""Stages of battery campaigns about charged hosts: whether they would decompose, and when they give off oxygen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import Field
from pymatgen.core import Composition

from dpa4_flows.analysis.completeness import on_hull
from dpa4_flows.analysis.hull import HullResult
from dpa4_flows.analysis.nearby import NEAR, nearest_compound
from dpa4_flows.analysis.oxygen import AIR
from dpa4_flows.campaigns.context import Case, Scene
from dpa4_flows.campaigns.hull import HULL, CompetingPhases, OfRun, hull_finding, places
from dpa4_flows.campaigns.measured import relaxed
from dpa4_flows.campaigns.sections import Limits, Section
from dpa4_flows.campaigns.stage import Finding, Stage
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal, Crystals
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason, ReasonKind, voided
from dpa4_flows.documents.schemas import Document
from dpa4_flows.properties.hull import Place
from dpa4_flows.properties.insertion import CHARGED
from dpa4_flows.properties.oxygen_release import ROOM, OxygenRelease, OxygenReleaseDocument


class ChargedHullValues(Document):
    """What the hull says of a charged host."""

    energy_above_hull_charged: float | None = shown(
        "E above hull, charged",
        "eV/atom",
        3,
        "host without the working ion, 0 K; high values mean oxygen release or collapse",
        short="E hull ch.",
        goal="min",
        within=on_hull,
        scale=(0.0, 0.2),  # beyond, oxygen leaves while charging
        voided_by=("saddle", "saddle_charged", "charged_hull_unknown", "unreliable_vdw"),
        too_high="above_limit",
        priority=14,
    )
    energy_above_hull_charged_std: float | None = shown(
        "Deviation of E above hull, charged", "eV/atom", 3, "of a committee", goal="min", detail=True
    )
    distance_to_competing_charged: float | None = shown(
        "Distance to competing phases, charged",
        "eV/atom",
        3,
        "signed: negative means below all known phases",
        detail=True,
        priority=32,
    )
    decomposition: str = shown("Decomposes into", detail=True, priority=43, default="")
    n_competing: int = shown(
        "Competing phases",
        digits=0,
        detail=True,
        priority=19,
        default=0,
        description="Competing phases in the chemical system",
    )


def judge_charged_hull(scene: Scene, cases: Iterable[Case]) -> Iterable[Finding]:
    """Distance of the charged hosts to the hull.

    Every reliable host competes, also one whose voltage does not please: a criterion must not move a hull.
    """
    hosts, aside, n = charged_hosts(scene, cases)
    found = places(scene, hosts, aside=aside)
    for i, place in enumerate(found[:n]):
        yield charged_finding(hosts[i], place, reliable=i not in aside)


def charged_hosts(scene: Scene, cases: Iterable[Case]) -> tuple[list[Crystal], set[int], int]:
    """Hosts without the ion, those of the cases first, positions of those that stand against no other, and how many the
    cases are.
    """
    name = "energy_above_hull_charged"
    electrodes = scene.table.stage("electrode")
    hosts = [relaxed(case, "relax_charged") for case in cases]
    judged = {host.name for host in hosts}
    reliable = {i for i, found in electrodes.items() if found.document and name not in voided(found.reasons)}
    if "electrode" not in scene.funnel.names:
        reliable = judged
    hosts += [relaxed(case, "relax_charged") for case in scene.cases(sorted(reliable - judged))]
    return hosts, {i for i, host in enumerate(hosts) if host.name not in reliable}, len(judged)


def charged_finding(host: Crystal, place: Place, *, reliable: bool = True) -> Finding:
    """What a place on the hull says of a charged host.

    Args:
        host: the host, relaxed.
        place: where it lies.
        reliable: False for a host whose structure the model cannot describe; its distance is marked so.
    """
    what, position = "the charged host ", place.position
    codes = []
    if far := _far_from_phases(position):
        codes.append(("charged_far_from_phases", f"{what}{position.formula}: {far}"))
    if not reliable:
        sentence = (
            f"the distance of {what}{position.formula} to the hull is not reliable, as its volume is not; "
            "it does not compete with other hosts"
        )
        codes.append(("charged_hull_unknown", sentence))
    return hull_finding(
        host,
        place,
        values=ChargedHullValues,
        suffix=CHARGED,
        what=what,
        unknown="charged_hull_unknown",
        further=[Reason(code=code, sentence=sentence) for code, sentence in codes],
    )


def _far_from_phases(position: HullResult) -> str:
    """A sentence if no compound that competes is near the composition; empty if one is, or if none competes at all."""
    compounds = [*position.competing.known, *position.competing.prototypes]
    nearest = nearest_compound(Composition(position.formula), compounds)
    if nearest is None or nearest.near:
        return ""
    return (
        f"no compound near its composition competes; the nearest, {nearest.formula}, differs in "
        f"{100 * nearest.distance:.0f} % of the atoms (near: {100 * NEAR:.0f} %)"
    )


CHARGED_HULL = Stage(
    name="charged_hull",
    title="Hull, charged",
    over_all=judge_charged_hull,
    quantities=ChargedHullValues,
    criteria={"energy_above_hull_charged": Limits(max=0.2)},
    reasons={
        **HULL.reasons,
        "below_competitors_charged": ReasonKind(
            "charged: below all phases",
            "the charged host lies below all competing phases: an upper bound of its stability",
        ),
        "charged_far_from_phases": ReasonKind(
            "charged: no compound near", "no compound near the composition of the charged host competes"
        ),
        "charged_hull_unknown": ReasonKind("charged hull unknown", "the stability of the charged host is not known"),
    },
    needs=("relax_charged",),
    computes=CompetingPhases(),
    figures="dpa4_flows.campaigns.battery_figures:charged_figures",
)


# ---- oxygen

_VOID = ("saddle", "saddle_charged", "charged_hull_unknown", "unreliable_vdw")


class OxygenSection(Section):
    """The gas around a charged host."""

    pressure: float = Field(AIR, ge=1e-12, le=1000, description="Of O2, bar; 0.21 is air")


class ChargedOxygen(Document):
    """When a charged host gives off oxygen."""

    oxygen_release_k: float | None = shown(
        "O₂ release, charged",
        "K",
        0,
        "of the host without the working ion, equilibrium; 300 stands for that and less, kinetics delay it",
        short="O₂ release",
        goal="max",
        scale=(300.0, 900.0),
        voided_by=_VOID,
        spares_error=True,
        unsure="oxygen_unsure",
        too_low="loses_oxygen",
        priority=20,
        description="K; 300 if it does there; null if not at 2000 K",
    )
    oxygen_release_k_std: float | None = shown(
        "Error of O₂ release",
        "K",
        0,
        "of energies and entropies",
        detail=True,
        description="K; null where it is not at 2000 K, or surely below 300",
    )
    oxygen_energy: float | None = shown(
        "Energy of O₂ release", "eV/O₂", 2, "0 K; negative gives off heat", voided_by=_VOID, detail=True
    )
    oxygen_lost_percent: float | None = shown("Oxygen lost", "% of its mass", 1, "then", detail=True)
    oxygen_reaction: str = shown("Turns into", note="when it gives off O₂", detail=True, default="")


@dataclass(frozen=True)
class RunOxygen(OfRun, OxygenRelease):
    """Release of oxygen in a campaign."""


def judge_oxygen(scene: Scene, cases: Iterable[Case]) -> Iterable[Finding]:
    """When the charged hosts give off oxygen; one that has none passes without numbers."""
    hosts, aside, n = charged_hosts(scene, cases)
    if not n:
        return
    asked = RunOxygen.of_run(scene.run, pressure=scene.settings.pressure)
    subject = Crystals(tuple(hosts), frozenset(aside))
    ((_, found),) = compute([("", Ask(asked, subject))], scene.run.model, scene.table)
    for i, document in enumerate(found.documents[:n]):
        said = document.model_copy(update={"provenance": found.provenance})
        yield oxygen_finding(hosts[i], said, reliable=i not in aside)


def oxygen_finding(host: Crystal, found: OxygenReleaseDocument, *, reliable: bool = True) -> Finding:
    """What the release of oxygen of a charged host says of a candidate; nothing is decided by an unreliable one."""
    keys = [] if host.relaxed is None else [host.relaxed.key]
    if found.error is not None:
        sentence = f"when {found.formula or 'the charged host'} gives off oxygen is not known: {found.error}"
        reasons = [] if found.error_code == "no_oxide" else [Reason(code="oxygen_unknown", sentence=sentence)]
        return Finding(host.name, reasons, keys=keys)
    values = ChargedOxygen(
        oxygen_release_k=found.temperature,
        oxygen_release_k_std=found.temperature_std,
        oxygen_energy=found.reaction_energy,
        oxygen_lost_percent=found.released_percent,
        oxygen_reaction=found.reaction,
    )
    least = " or less" if found.temperature == ROOM else ""
    words = f"{found.formula} gives off oxygen at {{value:.0f}} K{least}, {{side}}{{limit:g}} K"
    return Finding(
        host.name,
        [flag for flag in found.flags if flag.code in OXYGEN.reasons],
        values=values,
        document=found,
        sentences={"oxygen_release_k": words},
        errors_above={"oxygen_release_k": found.later},
        waives=() if reliable else ("oxygen_release_k",),
        keys=keys,
        provenance=found.provenance,
    )


OXYGEN = Stage(
    name="oxygen_release",
    title="Oxygen release",
    over_all=judge_oxygen,
    quantities=ChargedOxygen,
    settings=OxygenSection,
    # Charged cells are heated to 400 K in abuse tests (130 °C); oxygen that comes earlier burns the electrolyte
    criteria={"oxygen_release_k": Limits(min=400.0, otherwise="flag")},
    reasons={
        "loses_oxygen": ReasonKind("loses oxygen", "the charged host gives off oxygen below the limit, at equilibrium"),
        "oxygen_unsure": ReasonKind("oxygen unsure", "the limit is within the error of the release of oxygen"),
        "oxygen_unknown": ReasonKind("oxygen unknown", "when the charged host gives off oxygen is not known"),
        "oxygen_bound_too_strongly": ReasonKind(
            "oxygen may leave earlier", "the correction of oxides binds oxygen to a metal in it too strongly"
        ),
    },
    needs=("relax_charged",),
    computes=CompetingPhases(),
    figures="dpa4_flows.campaigns.battery_figures:oxygen_figures",
    caveats=OxygenRelease.caveats,
)

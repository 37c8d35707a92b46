"""Stage ``defects`` of semiconductor campaigns, which a file may add: native defects and dopants, neutral only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dpa4_flows.analysis.frames import SEAM
from dpa4_flows.campaigns.config import Campaign
from dpa4_flows.campaigns.context import Case, Scene
from dpa4_flows.campaigns.measured import Codes, Measured, each_once, finding, section_of
from dpa4_flows.campaigns.rivals import COMPETITION, Stored
from dpa4_flows.campaigns.sections import Limits, Section, part_of
from dpa4_flows.campaigns.stage import Finding, Stage
from dpa4_flows.compute.plan import Crystal, Property
from dpa4_flows.documents.defects import DefectsDocument
from dpa4_flows.documents.reasons import ReasonKind
from dpa4_flows.properties.chemical_potentials import Reservoirs
from dpa4_flows.properties.defects import Defects

_TABLE = section_of(Defects(), without=("model", "region"))


@dataclass(frozen=True)
class RunReservoirs(Reservoirs, Stored):
    """Chemical potentials in a campaign."""


@dataclass(frozen=True)
class WithDefects(Measured):
    """Defects at the chemical potentials of the phases that compete in the run."""

    # who stays with a flag: nothing is wrong with the crystal
    without: Codes = field(
        default_factory=lambda: {code: code for code in (SEAM, "no_supercell", "no_defect", "implausible_energy")}
    )
    measures: Property[Any] = field(default_factory=Defects)
    of: str = "defects in supercells"

    @property
    def tables(self) -> Mapping[str, type[Section]]:
        return {"": _TABLE, **COMPETITION}

    def settled(self, scene: Scene) -> Property[Any]:
        return Defects(**part_of(scene.settings, _TABLE), region=RunReservoirs.of_scene(scene))

    def further_systems(self, campaign: Campaign, table: Section) -> Iterable[str]:
        return Defects(**part_of(table, _TABLE)).foreign


_REASONS = {
    "native_energy_too_low": ReasonKind("defects form by themselves", "a native defect costs so little that it counts"),
    "dopant_energy_too_high": ReasonKind("dopant insoluble", "no dopant dissolves"),
    "metastable_host": ReasonKind("metastable host", "it lies above the hull: chemical potentials are extrapolated"),
    SEAM: ReasonKind("refused: +U seam", "a dopant would move the supercell to the other side of PBE and PBE+U"),
    "plus_u_host": ReasonKind("+U crystal", "crystal and defects are computed with +U"),
    "plus_u_unknown": ReasonKind("+U unknown", "the model does not say whether its data have +U"),
    "no_supercell": ReasonKind("supercell too large", "its defects need more atoms than max_atoms"),
    "no_defect": ReasonKind("no such defect", "it can have none of the kinds that were asked for"),
    "implausible_energy": ReasonKind("implausible", "a formation energy is beyond all that are known"),
    "not_dilute": ReasonKind("not dilute", "a defect has a formation energy below zero"),
    "incomplete": ReasonKind("not converged", "a supercell did not reach fmax: its energy is an upper bound"),
    "defect_failed": ReasonKind("defect failed", "a defect could not be computed"),
}


def judge_defects(case: Case) -> Finding:
    """What stands against the numbers; of several doubts of one kind the first is told. How atoms rearranged is in the
    document, and no flaw.
    """
    document = case.document(DefectsDocument)
    said = each_once([*document.doubts, *document.warnings], "defect_failed")
    return finding(case, [reason for reason in said if reason.code in _REASONS])


def defects_stage(crystal: Callable[[Case], Crystal]) -> Stage:
    """The stage, of crystals that ``crystal`` makes of candidates."""
    return Stage(
        name="defects",
        title="Defects",
        judge=judge_defects,
        quantities=DefectsDocument,
        # eV. Native defects below 0.5 eV are there by more than 1e19 cm⁻³ at 1000 K; above 1 eV no dopant dissolves
        criteria={
            "native_energy": Limits(min=0.5, otherwise="flag"),
            "dopant_energy": Limits(max=1.0, otherwise="flag"),
        },
        reasons=_REASONS,
        needs=("at_rest", "modes"),
        computes=WithDefects(crystal=crystal),
    )

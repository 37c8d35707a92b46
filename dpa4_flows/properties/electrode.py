"""Insertion electrodes: all ions leave a relaxed crystal, its host relaxes, and both stand against the metal.

Energies are the uncorrected ones of one model, in which the +U of crystal and host cancels. The numbers are those of
`dpa4_flows.analysis.electrode`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from dpa4_flows.compute.plan import Crystal, Plan, PlanError
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.insertion import Insertion

_CAPACITY_VOID = ("oxidation_limit", "not_topotactic")
_VOLTAGE_VOID = ("saddle", "saddle_charged", "across_u_seam")
_VOLUME_VOID = ("saddle", "saddle_charged", "unreliable_vdw")


class ElectrodeDocument(AnswerDocument):
    """An insertion electrode between one discharged and one charged composition."""

    working_ion: str = Field(description="Element that moves")
    discharged_formula: str = Field(description="Reduced formula with the working ion")
    charged_formula: str = Field("", description="Reduced formula without it; empty if there is no such host")
    average_voltage: float | None = shown(
        "Voltage",
        "V",
        2,
        "average over full removal of the ion, 0 K; ±0.25 V against PBE+U",
        error=0.3,
        goal="max",
        scale=(2.5, 4.5),  # below, a cathode gives energy away; above, electrolytes oxidise
        voided_by=_VOLTAGE_VOID,
        too_low="voltage_too_low",
        too_high="voltage_too_high",
        priority=10,
    )
    capacity_grav: float | None = shown(
        "Capacity",
        "mAh/g",
        0,
        "theoretical, all working ions removed, per discharged mass",
        goal="max",
        scale=(100.0, 300.0),  # 148 LiMn2O4, 170 LiFePO4, 274 LiCoO2
        voided_by=_CAPACITY_VOID,
        too_low="capacity_too_low",
        priority=11,
    )
    capacity_vol: float | None = shown(
        "Vol. capacity",
        "mAh/cm³",
        0,
        "theoretical, per discharged volume",
        short="capacity",
        goal="max",
        scale=(400.0, 1400.0),  # 606 LiFePO4, 1,390 LiCoO2
        voided_by=_CAPACITY_VOID,
        priority=16,
    )
    energy_grav: float | None = shown(
        "Specific energy",
        "Wh/kg",
        0,
        "active material only; a cell reaches roughly half of it",
        short="energy",
        goal="max",
        scale=(300.0, 1200.0),  # 560 LiMn2O4, 585 LiFePO4, 1,000 LiCoO2, 1,110 LiNiO2
        voided_by=(*_CAPACITY_VOID, *_VOLTAGE_VOID),
        priority=12,
    )
    energy_vol: float | None = shown(
        "Energy density",
        "Wh/L",
        0,
        "active material only, per discharged volume",
        short="energy",
        goal="max",
        scale=(1000.0, 5500.0),  # 2,080 LiFePO4, 5,090 LiCoO2
        voided_by=(*_CAPACITY_VOID, *_VOLTAGE_VOID),
        priority=17,
    )
    volume_change_percent: float | None = shown(
        "Volume change",
        "%",
        1,
        "relative to the discharged volume; without dispersion in the model layered hosts come apart",
        short="ΔV",
        goal="zero",
        scale=(0.0, 10.0),  # particles crack beyond about 10
        voided_by=_VOLUME_VOID,
        too_high="large_volume_change",
        priority=15,
    )
    interlayer_change_percent: float | None = shown(
        "Largest stretch",
        "%",
        1,
        "largest principal stretch of the cell on charging, signed; in a layered host the change of the interlayer "
        "distance",
        voided_by=_VOLUME_VOID,
        goal="zero",
        detail=True,
        priority=30,
    )
    volume_change_reliable: bool | None = Field(
        None, description="False if the charged host fell apart along one axis and the model has no dispersion"
    )
    host_displacement: float | None = shown(
        "Host displacement", "Å", 2, "largest of a host atom on charging", detail=True
    )
    warnings: list[Reason] = Field(default_factory=list, description="What to know before quoting these numbers")


@dataclass(frozen=True)
class Electrode(Insertion[ElectrodeDocument]):
    """Voltage, capacity and volume change of an insertion electrode that gives off all its ions.

    Attributes:
        working_ion: element that moves.
        relaxation: of the crystal, its host and the metal of the ion; by default that of hulls, so that what these
            relaxed is found again.
        check_charged: let the host go down from a saddle; by default it stays in the basin in which the ions leave it.
    """

    name: ClassVar[str] = "electrode"
    example: ClassVar[str] = "LiFePO4.cif"
    document: ClassVar[type[Document]] = ElectrodeDocument

    def key(self, crystal: Crystal, model: ModelRef) -> str | None:
        """None for a crystal that comes with its relaxation, which may be any."""
        return None if crystal.relaxed is not None else super().key(crystal, model)

    def plan(self, crystal: Crystal) -> Plan[ElectrodeDocument]:
        ends = yield from self.ends(crystal)
        fields = dataclasses.asdict(ends.properties) | {"warnings": ends.reasons}
        return ElectrodeDocument(**fields, provenance=self.origin(crystal))

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        formula = crystal.structure.composition.reduced_formula
        return {"working_ion": self.working_ion, "discharged_formula": formula}

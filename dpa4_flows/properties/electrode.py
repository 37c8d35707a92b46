"""Insertion electrodes: all ions leave a relaxed crystal, its host relaxes, and both stand against the metal.

Energies are the uncorrected ones of one model, in which the +U of crystal and host cancels. The numbers are those of
`dpa4_flows.analysis.electrode`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pymatgen.core import Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.electrode import ElectrodeError, electrode_properties, redox_bound, remove_ions
from dpa4_flows.analysis.frames import zero_problem
from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.compute.plan import Ask, Crystal, Plan, PlanError, Property
from dpa4_flows.compute.relaxed import PUSHED, Relaxed
from dpa4_flows.documents.quantities import Quantity
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document, RelaxationDocument
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.part import whole_crystal
from dpa4_flows.reference.bundled_phases import bundled_relaxations
from dpa4_flows.reference.library import bundled_elements
from dpa4_flows.site_conversion import free_crystal

_CAPACITY_VOID = ("oxidation_limit", "not_topotactic")
_VOLTAGE_VOID = ("saddle", "saddle_charged", "across_u_seam")
_VOLUME_VOID = ("saddle", "saddle_charged", "unreliable_vdw")


class ElectrodeDocument(AnswerDocument):
    """An insertion electrode between one discharged and one charged composition."""

    working_ion: str = Field(description="Element that moves")
    discharged_formula: str = Field(description="Reduced formula with the working ion")
    charged_formula: str = Field("", description="Reduced formula without it; empty if there is no such host")
    average_voltage: Annotated[
        float | None,
        Quantity(
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
        ),
    ] = Field(None, description="Average voltage against the working-ion metal, V, 0 K")
    capacity_grav: Annotated[
        float | None,
        Quantity(
            "Capacity",
            "mAh/g",
            0,
            "theoretical, all working ions removed, per discharged mass",
            goal="max",
            scale=(100.0, 300.0),  # 148 LiMn2O4, 170 LiFePO4, 274 LiCoO2
            voided_by=_CAPACITY_VOID,
            too_low="capacity_too_low",
            priority=11,
        ),
    ] = Field(None, description="Gravimetric capacity per discharged mass, mAh/g")
    capacity_vol: Annotated[
        float | None,
        Quantity(
            "Vol. capacity",
            "mAh/cm³",
            0,
            "theoretical, per discharged volume",
            short="capacity",
            goal="max",
            scale=(400.0, 1400.0),  # 606 LiFePO4, 1,390 LiCoO2
            voided_by=_CAPACITY_VOID,
            priority=16,
        ),
    ] = Field(None, description="Volumetric capacity per discharged volume, mAh/cm³")
    energy_grav: Annotated[
        float | None,
        Quantity(
            "Specific energy",
            "Wh/kg",
            0,
            "active material only; a cell reaches roughly half of it",
            short="energy",
            goal="max",
            scale=(300.0, 1200.0),  # 560 LiMn2O4, 585 LiFePO4, 1,000 LiCoO2, 1,110 LiNiO2
            voided_by=(*_CAPACITY_VOID, *_VOLTAGE_VOID),
            priority=12,
        ),
    ] = Field(None, description="Specific energy per discharged mass, Wh/kg")
    energy_vol: Annotated[
        float | None,
        Quantity(
            "Energy density",
            "Wh/L",
            0,
            "active material only, per discharged volume",
            short="energy",
            goal="max",
            scale=(1000.0, 5500.0),  # 2,080 LiFePO4, 5,090 LiCoO2
            voided_by=(*_CAPACITY_VOID, *_VOLTAGE_VOID),
            priority=17,
        ),
    ] = Field(None, description="Energy density per discharged volume, Wh/L")
    volume_change_percent: Annotated[
        float | None,
        Quantity(
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
        ),
    ] = Field(None, description="Volume change on charging, % of the discharged volume")
    interlayer_change_percent: Annotated[
        float | None,
        Quantity(
            "Largest stretch",
            "%",
            1,
            "largest principal stretch of the cell on charging, signed; in a layered host the change of the interlayer "
            "distance",
            voided_by=_VOLUME_VOID,
            goal="zero",
            detail=True,
            priority=30,
        ),
    ] = Field(None, description="Largest principal stretch of the cell on charging, signed, %")
    volume_change_reliable: bool | None = Field(
        None, description="False if the charged host fell apart along one axis and the model has no dispersion"
    )
    host_displacement: Annotated[
        float | None, Quantity("Host displacement", "Å", 2, "largest of a host atom on charging", detail=True)
    ] = Field(None, description="Largest displacement of a host atom relative to the cell on charging, Å")
    warnings: list[Reason] = Field(default_factory=list, description="What to know before quoting these numbers")


@dataclass(frozen=True)
class Electrode(Property[ElectrodeDocument]):
    """Voltage, capacity and volume change of an insertion electrode that gives off all its ions.

    Attributes:
        working_ion: element that moves.
        relaxation: of the crystal, its host and the metal of the ion; by default that of hulls, so that what these
            relaxed is found again.
        check_charged: let the host go down from a saddle; by default it stays in the basin in which the ions leave it.
    """

    name: ClassVar[str] = "electrode"
    document: ClassVar[type[Document]] = ElectrodeDocument

    working_ion: str = "Li"
    relaxation: Relaxed = PUSHED
    check_charged: bool = False

    def check(self) -> None:
        self.relaxation.check()
        ion_charge(self.working_ion)

    def key(self, crystal: Crystal, model: ModelRef) -> str | None:
        """None for a crystal that comes with its relaxation, which may be any."""
        return None if crystal.relaxed is not None else super().key(crystal, model)

    def host(self, discharged: Structure) -> Crystal:
        """What is left of a crystal without its ions, in the same cell.

        Raises:
            PlanError: there are none, or nothing else.
        """
        try:
            return Crystal(remove_ions(discharged, self.working_ion))
        except ElectrodeError as error:
            raise PlanError(str(error), "no_host") from error

    def metal(self) -> Iterable[Structure]:
        """Forms of the metal of the ion; the lowest counts."""
        return (phase.structure for phase in bundled_elements([self.working_ion]))

    def plan(self, crystal: Crystal) -> Plan[ElectrodeDocument]:
        start = free_crystal(whole_crystal(crystal))[0]
        self.host(start)  # nothing is computed of what is no electrode
        origin = crystal.info if crystal.relaxed is None else crystal.relaxed.provenance
        elements = {*start.composition.get_el_amt_dict(), self.working_ion}
        if problem := zero_problem(elements, origin.zeros, origin.undecided):
            raise PlanError(problem[1], problem[0])
        forms = {self.relaxation.key(Crystal(form), crystal.model): Crystal(form) for form in self.metal()}
        known = bundled_relaxations(crystal.info.sha256, forms)
        asks = {key: Ask(self.relaxation, form) for key, form in forms.items() if key not in known}
        if crystal.relaxed is None:
            asks["discharged"] = Ask(self.relaxation, Crystal(start, crystal.name))
        answers = {**known, **(yield asks)}
        discharged: Any = crystal.relaxed or answers["discharged"]
        full = _at_rest(discharged)
        checked = replace(self.relaxation, check_minimum=self.check_charged)
        charged = (yield {"charged": Ask(checked, self.host(full))})["charged"]
        try:
            found = electrode_properties(
                full,
                _at_rest(charged),
                energy_discharged=discharged.energy,
                energy_charged=charged.energy,
                energy_per_ion_metal=_lowest(self.working_ion, (answers[key] for key in forms)),
                working_ion=self.working_ion,
                dispersion=bool(origin.dispersion),
            )
        except ElectrodeError as error:
            raise PlanError(str(error), "no_electrode") from error
        flags = dict(found.warnings)
        bound = redox_bound(full.composition, self.working_ion)
        for code, sentence in (
            ("no_redox_metal", bound.reason),
            ("oxidation_limit", bound.limit),
            ("unusual_oxidation", bound.unusual),
        ):
            flags |= {} if sentence is None else {code: sentence}
        for code, document in (("saddle", discharged), ("saddle_charged", charged)):
            if document.minimum == "saddle":
                flags[code] = f"{document.formula} rests on a saddle that it could not leave: a lower form is near"
        reasons = [Reason(code=code, sentence=sentence) for code, sentence in flags.items()]
        fields = dataclasses.asdict(found) | {"warnings": reasons}
        return ElectrodeDocument(**fields, provenance=self.origin(crystal))

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        formula = crystal.structure.composition.reduced_formula
        return {"working_ion": self.working_ion, "discharged_formula": formula}


def _at_rest(document: RelaxationDocument) -> Structure:
    """The relaxed structure.

    Raises:
        PlanError: it failed or did not converge; such energies are not compared.
    """
    if document.error is not None:
        raise PlanError(f"the relaxation of {document.formula} failed: {document.error}", "not_computed")
    if not document.converged:
        why = f" ({document.reason})" if document.reason else ""
        raise PlanError(f"the relaxation of {document.formula} did not converge{why}: raise max_steps", "not_converged")
    return structure_of_fields(document.structure or {})


def _lowest(ion: str, forms: Iterable[RelaxationDocument]) -> float:
    """Energy of a metal in its form of lowest energy, eV/atom."""
    energies = [form.energy_per_atom for form in forms if form.converged and form.energy_per_atom is not None]
    if not energies:
        raise PlanError(f"no form of elemental {ion} has an energy", "no_metal")
    return min(energies)

"""What properties of insertion electrodes share: a crystal and its host without the ion, both relaxed, and the metal.

Energies are the uncorrected ones of one model, in which the +U of crystal and host cancels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, TypeVar

from pymatgen.core import Structure

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.electrode import (
    ElectrodeError,
    ElectrodeProperties,
    electrode_properties,
    redox_bound,
    remove_ions,
)
from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.compute.plan import Ask, Crystal, PlanError, Property, Steps
from dpa4_flows.compute.relaxed import PUSHED, Relaxed
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, RelaxationDocument
from dpa4_flows.properties.part import BASIN, check_zeros, whole_crystal
from dpa4_flows.reference.bundled_phases import bundled_relaxations
from dpa4_flows.reference.library import bundled_elements
from dpa4_flows.site_conversion import free_crystal

CHARGED = "_charged"
"""Behind names and codes of what is said of the host without the ion."""

D = TypeVar("D", bound=AnswerDocument)


class Ends(NamedTuple):
    """A full and an empty electrode at rest.

    Attributes:
        full, empty: structures.
        energy_full, energy_empty: of their cells, eV.
        energy_metal: of the ion in its metal, eV/atom.
        properties: of the couple.
        reasons: what to know before quoting them.
    """

    full: Structure
    empty: Structure
    energy_full: float
    energy_empty: float
    energy_metal: float
    properties: ElectrodeProperties
    reasons: list[Reason]


@dataclass(frozen=True)
class Insertion(Property[D]):
    """Base of properties of what gives off all its ions.

    Attributes:
        working_ion: element that moves.
        relaxation: of the crystal, its host and the metal of the ion; by default that of hulls, so that what these
            relaxed is found again.
        check_charged: let what has lost ions go down from a saddle; by default it stays in the basin in which the ions
            leave it.
    """

    caveats: ClassVar[tuple[str, ...]] = (BASIN,)

    working_ion: str = "Li"
    relaxation: Relaxed = PUSHED
    check_charged: bool = False

    def check(self) -> None:
        self.relaxation.check()
        ion_charge(self.working_ion)

    @property
    def charging(self) -> Relaxed:
        """The relaxation of what has lost ions."""
        return replace(self.relaxation, check_minimum=self.check_charged)

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

    def beside_metal(
        self, crystal: Crystal, start: Structure, asks: Mapping[str, Ask[Any]]
    ) -> Steps[tuple[Mapping[str, Any], list[RelaxationDocument]]]:
        """Answers of ``asks`` and the forms of the metal, in one step.

        Args:
            crystal: the subject.
            start: its structure.
            asks: what is asked for beside the metal.

        Raises:
            PlanError: energies of crystal and metal have no zero in common.
        """
        origin = crystal.info if crystal.relaxed is None else crystal.relaxed.provenance
        elements = {*start.composition.get_el_amt_dict(), self.working_ion}
        check_zeros(elements, origin)
        forms = {self.relaxation.key(Crystal(form), crystal.model): Crystal(form) for form in self.metal()}
        known = bundled_relaxations(crystal.info.sha256, forms)
        lacking = {key: Ask(self.relaxation, form) for key, form in forms.items() if key not in known}
        answers: Mapping[str, Any] = {**known, **(yield {**lacking, **asks})}
        return answers, [answers[key] for key in forms]

    def ends(self, crystal: Crystal) -> Steps[Ends]:
        """Relax the crystal, its host and the metal.

        Raises:
            PlanError: one of them has no energy, or they are no couple.
        """
        start = free_crystal(whole_crystal(crystal))[0]
        self.host(start)  # nothing is computed of what is no electrode
        origin = crystal.info if crystal.relaxed is None else crystal.relaxed.provenance
        asks = {} if crystal.relaxed else {"discharged": Ask(self.relaxation, Crystal(start, crystal.name))}
        answers, forms = yield from self.beside_metal(crystal, start, asks)
        discharged: Any = crystal.relaxed or answers["discharged"]
        full = at_rest(discharged)
        charged = (yield {"charged": Ask(self.charging, self.host(full))})["charged"]
        empty, metal = at_rest(charged), lowest(self.working_ion, forms)
        try:
            found = electrode_properties(
                full,
                empty,
                energy_discharged=discharged.energy,
                energy_charged=charged.energy,
                energy_per_ion_metal=metal,
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
        for suffix, document in (("", discharged), (CHARGED, charged)):
            flags |= {
                f"{doubt.code}{suffix}": f"{document.formula}: {doubt.sentence}"
                for doubt in document.doubts
                if doubt.code != "large_volume_change"  # a number of its own
            }
        reasons = [Reason(code=code, sentence=sentence) for code, sentence in flags.items()]
        return Ends(full, empty, discharged.energy, charged.energy, metal, found, reasons)


def at_rest(document: RelaxationDocument) -> Structure:
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


def lowest(ion: str, forms: Iterable[RelaxationDocument]) -> float:
    """Energy of a metal in its form of lowest energy, eV/atom.

    Raises:
        PlanError: none of them has one.
    """
    energies = [form.energy_per_atom for form in forms if form.converged and form.energy_per_atom is not None]
    if not energies:
        raise PlanError(f"no form of elemental {ion} has an energy", "no_metal")
    return min(energies)

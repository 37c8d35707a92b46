"""Insertion into hosts that have room: ions go where a potential puts them, step by step, until the metals of the host
take no more electrons, nothing is gained any more, or the host is no longer the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field
from pymatgen.core import Structure

from dpa4_core.predict import Prediction
from dpa4_core.relax import Static
from dpa4_flows.analysis.electrode import (
    TOPOTACTIC_LIMIT,
    ElectrodeError,
    electrode_properties,
    host_displacement,
    redox_bound,
)
from dpa4_flows.analysis.ion_sites import filled_cell, keeps_bonds, numbers_tried, places, surroundings, uptake
from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.analysis.voltage_profile import Couple, State, ideal_cell, mean_voltage, profile
from dpa4_flows.compute.plan import Ask, Crystal, Plan, PlanError, Steps
from dpa4_flows.documents.calculations import plain_structure
from dpa4_flows.documents.quantities import Unit
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Document, RelaxationDocument
from dpa4_flows.properties.insertion import Insertion, at_rest, lowest
from dpa4_flows.properties.limits import check_counts, check_positive, check_voltages
from dpa4_flows.properties.part import BASIN, had_room, whole_crystal
from dpa4_flows.properties.voltage_profile import OrderingOnProfile, VoltageProfile, VoltageProfileDocument, conclude
from dpa4_flows.site_conversion import free_crystal

_SAME_PLACE = 1e-3  # eV, within which two cells hold an ion at equal places
_NO_METAL_SAYS = 12
"""Ions that are tried in hosts without a metal that says how many they take."""


class IonInsertionDocument(VoltageProfileDocument):
    """The voltage of a host over what it takes up; contents are shares of what went in."""

    host_formula: str = Field("", description="Reduced formula of the host as it was given")
    taken: Annotated[float | None, Unit()] = Field(None, description="Ions per formula unit of the host as given")
    n_places: int | None = Field(None, description="Kinds of places with room for the first ion")
    place: str = Field("", description="What is around the ion that went in first, once it is at rest")
    ended: Reason | None = Field(None, description="Why no more went in")
    structure: dict[str, Any] | None = Field(None, description="With all that went in, as a pymatgen dictionary")


class _Start(NamedTuple):
    """A cell with ions that were put in and have not moved yet."""

    structure: Structure
    number: int
    energy: float


class _Rest(NamedTuple):
    """A cell at rest.

    Attributes:
        added: ions that went in.
        structure: the cell.
        energy: of the cell, eV.
        number: of equal places for the last ion that went in.
        left_out: why it is not part of the profile.
        displacement: of the host atoms, Å.
    """

    added: int
    structure: Structure
    energy: float
    number: int = 1
    left_out: Reason | None = None
    displacement: float | None = None


@dataclass(frozen=True)
class IonInsertion(Insertion[IonInsertionDocument]):
    """Voltage of a host as it takes up ions, from places that are found in it.

    Attributes:
        working_ion: element that goes in.
        relaxation: of the metal, and of the host but for the search below.
        check_charged: let host and filled host go down from saddles.
        min_length: Å between an ion and its image: of the cell that is filled.
        n_steps: parts into which the uptake that the metals of the host pay for is cut. Whole oxidation states are
            looked at besides. Where no such metal is, ions go in one by one.
        n_relaxed: arrangements that are relaxed at each step, those of the lowest energy before.
        max_places: kinds of places that are tried for each ion, those with most room.
        min_voltage: V; a step that brings less is the end.
        max_atoms: a host that needs larger cells has an error instead.
        v_min: V, below which an electrolyte or a cell cannot be used.
        v_max: V, above which it cannot.
    """

    name: ClassVar[str] = "ion_insertion"
    example: ClassVar[str] = "FePO4.cif --n-steps 3"
    document: ClassVar[type[Document]] = IonInsertionDocument
    version: ClassVar[int] = 2
    figures: ClassVar[str] = VoltageProfile.figures
    caveats: ClassVar[tuple[str, ...]] = (
        "Insertion follows one way into a host at 0 K: ions go in where the energy is lowest at each step, in a small "
        "cell. Another order of filling may be lower, and other phases may form before it is full.",
        BASIN,
    )

    removal: ClassVar[type[VoltageProfile]] = VoltageProfile
    """The profile of what leaves a host that came with ions, with the settings that both have."""

    min_length: float = 4.0
    n_steps: int = 4
    n_relaxed: int = 2
    max_places: int = 12
    min_voltage: float = 0.0
    max_atoms: int = 120
    v_min: float = 0.0
    v_max: float = 4.5

    def check(self) -> None:
        super().check()
        check_counts(self, "n_steps", "n_relaxed", "max_places", "max_atoms")
        check_positive(self, "min_length")
        check_voltages(self.v_min, self.v_max)

    def cost(self, crystal: Crystal) -> tuple[int, int] | None:
        """The relaxations, at most; energies of places come to about as much again."""
        cell = self._cell(crystal)
        numbers = self._numbers(cell)
        return 1 + self.n_relaxed * len(numbers), len(cell) + sum(self.n_relaxed * (len(cell) + n) for n in numbers)

    def plan(self, crystal: Crystal) -> Plan[IonInsertionDocument]:
        self.check()
        given = self._cell(crystal)
        numbers = self._numbers(given)
        asks = {"host": Ask(self.charging, Crystal(given, crystal.name))}
        answers, forms = yield from self.beside_metal(crystal, given, asks)
        rests = [_Rest(0, at_rest(answers["host"]), answers["host"].energy)]
        metal = lowest(self.working_ion, forms)
        left: list[_Rest] = []
        places_of_first, site = 0, given
        ended = None
        for number in numbers:
            starts, n_places = yield from self._put_in(site, number - rests[-1].added)
            places_of_first = places_of_first or n_places
            if not starts:
                words = f"no place is left for another {self.working_ion}"
                ended = Reason(code="no_place", sentence=words)
                break
            found = yield from self._relaxed(starts, number, rests[0].structure)
            ended = self._end(found, rests[-1], metal)
            if ended is not None:
                left += [one._replace(left_out=one.left_out or ended) for one in found]
                break
            best = min((one for one in found if one.left_out is None), key=lambda one: one.energy)
            left += [one for one in found if one is not best]
            rests.append(best)
            site = best.structure
        if ended is None:
            ended = self._all_in(given, numbers)
        if len(rests) == 1:
            why = f"{given.composition.reduced_formula} takes up no {self.working_ion}: {ended.sentence}"
            raise PlanError(why, "takes_up_no_ion")
        document = self._document(crystal, rests, left, metal)
        document.n_places, document.ended = places_of_first, ended
        if redox_bound(given.composition, self.working_ion).reason is None:
            document = yield from self._both_ways(document, rests[-1].structure)
        return document

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        formula = crystal.structure.composition.reduced_formula
        known = {"formula": formula, "host_formula": formula, "v_min": self.v_min, "v_max": self.v_max}
        return {"working_ion": self.working_ion, **known}

    # ---- the host

    def _cell(self, crystal: Crystal) -> Structure:
        """The cell that is filled.

        Raises:
            PlanError: it is the metal of the ion, or too large.
        """
        start = free_crystal(whole_crystal(crystal))[0]
        if set(start.symbol_set) == {self.working_ion}:
            raise PlanError(f"{start.composition.reduced_formula} is the metal of the ion itself", "no_host")
        cell = filled_cell(ideal_cell(start), self.min_length)
        if len(cell) > self.max_atoms:
            words = (
                f"ions {self.min_length:g} Å from their images need a cell of {len(cell)} atoms, more than max_atoms = "
                f"{self.max_atoms}: choose a smaller min_length or a larger max_atoms"
            )
            raise PlanError(words, "too_large")
        return cell

    def _numbers(self, cell: Structure) -> tuple[int, ...]:
        """Ions in the cell after each step.

        Raises:
            PlanError: its metals have no electron to take.
        """
        numbers = numbers_tried(uptake(cell.composition, self.working_ion), self.n_steps, _NO_METAL_SAYS)
        if not numbers:
            words = f"the metals of {cell.composition.reduced_formula} are at their lowest oxidation states"
            raise PlanError(words, "redox_limit")
        return numbers

    def _all_in(self, cell: Structure, numbers: tuple[int, ...]) -> Reason:
        if uptake(cell.composition, self.working_ion).most is None:
            words = f"{numbers[-1]} ions in a cell of {len(cell)} atoms of the host are as many as are tried"
            return Reason(code="as_many_as_tried", sentence=words)
        return Reason(code="redox_limit", sentence="its metals are at their lowest oxidation states then")

    # ---- what goes in

    def _put_in(self, host: Structure, count: int) -> Steps[tuple[list[_Start], int]]:
        """Cells with ``count`` more ions, the lowest first, and how many kinds of places the first of them had."""
        beam = [_Start(host, 1, 0.0)]
        n_places = 0
        for _ in range(count):
            tried = []
            for one in beam:
                for place in places(one.structure, self.working_ion, self.max_places):
                    cell = one.structure.copy()
                    cell.append(self.working_ion, place.fractional)
                    tried.append(_Start(cell, place.number, math.inf))
            n_places = n_places or len(tried)
            asks = {str(i): Static(one.structure) for i, one in enumerate(tried)}
            answers: Mapping[str, Prediction] = (yield asks) if asks else {}
            had_room(answers.values())
            known = [
                one._replace(energy=answer.energy)
                for one, answer in zip(tried, answers.values(), strict=True)
                if answer.error is None and answer.energy is not None
            ]
            beam = _distinct(sorted(known, key=lambda one: one.energy))[: self.n_relaxed]
        return beam, n_places

    def _relaxed(self, starts: list[_Start], added: int, empty: Structure) -> Steps[list[_Rest]]:
        """The cells at rest, those whose host is another one marked."""
        asks = {str(i): Ask(self.charging, Crystal(one.structure)) for i, one in enumerate(starts)}
        answers: Mapping[str, RelaxationDocument] = yield asks
        had_room(answers.values())
        found = []
        for one, answer in zip(starts, answers.values(), strict=True):
            try:
                structure = at_rest(answer)
            except PlanError as error:
                why = Reason(code=error.code, sentence=str(error))
                found.append(_Rest(added, one.structure, math.inf, one.number, why))
                continue
            assert answer.energy is not None, "a converged relaxation has an energy"
            moved = host_displacement(empty, structure, self.working_ion)
            rest = _Rest(added, structure, answer.energy, one.number, displacement=moved)
            if moved is not None and moved > TOPOTACTIC_LIMIT and not keeps_bonds(empty, structure, self.working_ion):
                words = f"with {answer.formula} host atoms have moved by {moved:.2f} Å and have other neighbours"
                rest = rest._replace(left_out=Reason(code="host_rearranges", sentence=words))
            found.append(rest)
        return found

    def _end(self, found: list[_Rest], before: _Rest, metal: float) -> Reason | None:
        """Why a step is none; None if it is one."""
        kept = [one for one in found if one.left_out is None]
        if not kept:
            return found[0].left_out
        best = min(kept, key=lambda one: one.energy)
        number = best.added - before.added
        voltage = -(best.energy - before.energy - number * metal) / (number * ion_charge(self.working_ion))
        if voltage >= self.min_voltage:
            return None
        words = (
            f"{best.structure.composition.reduced_formula} would form at {voltage:.2f} V, below {self.min_voltage:g} V"
        )
        return Reason(code="below_min_voltage", sentence=words)

    # ---- the document

    def _document(self, crystal: Crystal, rests: list[_Rest], left: list[_Rest], metal: float) -> IonInsertionDocument:
        empty, full = rests[0], rests[-1]
        try:
            ends = electrode_properties(
                full.structure,
                empty.structure,
                energy_discharged=full.energy,
                energy_charged=empty.energy,
                energy_per_ion_metal=metal,
                working_ion=self.working_ion,
                dispersion=bool(crystal.info.dispersion),
            )
        except ElectrodeError as error:
            raise PlanError(str(error), "no_electrode") from error
        units = full.structure.composition.get_reduced_composition_and_factor()[1]
        couple = Couple(full.added / units, ion_charge(self.working_ion), metal, ends.capacity_grav)
        ordered = [*rests, *left]
        rows = [
            OrderingOnProfile(
                formula=one.structure.composition.reduced_formula,
                content=one.added / full.added,
                degeneracy=one.number,
                host_displacement=one.displacement,
                left_out=one.left_out,
                volume=None if math.isinf(one.energy) else one.structure.volume / units,
            )
            for one in ordered
        ]
        on = [i for i, one in enumerate(ordered) if one.left_out is None]
        states = [State(rows[i].content, ordered[i].energy / units, float(rows[i].volume or 0.0)) for i in on]
        found = profile(states, couple)
        for i, mixing, above in zip(on, found.mixing, found.above_hull, strict=True):
            rows[i].mixing_mev, rows[i].above_hull_mev = 1000 * mixing, 1000 * above
        between = [1000 * m for i, m in zip(on, found.mixing, strict=True) if 0 < ordered[i].added < full.added]
        host_units = empty.structure.composition.get_reduced_composition_and_factor()[1]
        document = IonInsertionDocument(
            working_ion=self.working_ion,
            formula=ends.discharged_formula,
            charged_formula=ends.charged_formula,
            host_formula=ends.charged_formula,
            v_min=self.v_min,
            v_max=self.v_max,
            mean_voltage=mean_voltage(found.plateaus),
            full_capacity=couple.capacity,
            n_plateaus=len(found.plateaus),
            first_step=found.plateaus[0].voltage,
            last_step=found.plateaus[-1].voltage,
            mixing_mev=min(between, default=None),
            n_formula_units=units,
            n_left_out=sum(one.left_out is not None for one in ordered),
            taken=full.added / host_units,
            place=surroundings(rests[1].structure, len(rests[1].structure) - rests[1].added, self.working_ion),
            structure=plain_structure(full.structure).as_dict(),
            doubts=[Reason(code=c, sentence=s) for c, s in ends.warnings.items() if c != "not_topotactic"],
            provenance=self.origin(crystal),
        )
        conclude(document, found, states, [rows[i] for i in on], [ordered[i].structure for i in on])
        document.orderings = sorted(rows, key=lambda row: (-row.content, row.left_out is not None, row.mixing_mev or 0))
        return document

    def _both_ways(self, document: IonInsertionDocument, full: Structure) -> Steps[IonInsertionDocument]:
        """The profile of the filled host down to the empty one, where the host came with ions that can leave."""
        shared = {one.name for one in fields(self)} & {one.name for one in fields(self.removal)}
        asked = self.removal(**{name: getattr(self, name) for name in shared})
        found = (yield {"profile": Ask(asked, Crystal(full))})["profile"]
        if found.error is not None:
            words = f"what leaves the host is not in it: {found.error}"
            document.doubts.append(Reason(code="removal_missing", sentence=words))
            return document
        told = {name: getattr(found, name) for name in VoltageProfileDocument.model_fields if name != "provenance"}
        return document.model_copy(update=told)


def _distinct(starts: list[_Start]) -> list[_Start]:
    """Of cells in the order of their energies one of each set of equal ones."""
    kept: list[_Start] = []
    for one in starts:
        if not kept or one.energy - kept[-1].energy > _SAME_PLACE:
            kept.append(one)
    return kept

"""Voltage profiles: orderings of ion and vacancy between the full and the empty electrode, and their lower hull."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pymatgen.core import Structure

from dpa4_flows.analysis.electrode import TOPOTACTIC_LIMIT, ElectrodeError, host_displacement, host_ratio, redox_bound
from dpa4_flows.analysis.ion_sites import keeps_bonds
from dpa4_flows.analysis.ions import against_metal, ion_charge
from dpa4_flows.analysis.orderings import (
    DisorderedCell,
    OrderingError,
    candidates,
    disordered_cell,
    mean_charges,
    partly_filled,
)
from dpa4_flows.analysis.voltage_profile import (
    Couple,
    Profile,
    State,
    cells_of,
    contents_tried,
    ideal_cell,
    mean_voltage,
    off_sites,
    profile,
    whole_states,
    with_empty_sites,
)
from dpa4_flows.compute.plan import Ask, Crystal, Plan, PlanError
from dpa4_flows.documents.quantities import Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document, RelaxationDocument
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.insertion import Ends, Insertion, at_rest
from dpa4_flows.properties.limits import check_counts, check_voltages
from dpa4_flows.properties.part import BASIN, had_room, whole_crystal
from dpa4_flows.site_conversion import free_crystal

_VOLTAGE_VOID = ("saddle", "saddle_charged", "across_u_seam")
_SAME = 1e-6  # content
_SEARCHED = 8  # times as many orderings are looked at for those with ions on other sites
_USABLE_VOID = (*_VOLTAGE_VOID, "used_host_rearranges", "composition_missing", "ends_alone")
WINDOW = (2.5, 4.5)
"""V against lithium: below, a cathode gives energy away; above, carbonate electrolytes oxidise."""


class PlateauDocument(Document):
    """Part of the profile at one voltage: between two neighbouring compositions on the hull."""

    formula_from: str = Field(description="Reduced formula before, while the electrode is charged")
    formula_to: str = Field(description="Reduced formula behind")
    content_from: float = Field(description="Share of the ions before")
    content_to: float = Field(description="Share of the ions behind")
    voltage: float = Field(description="V against the metal of the ion")
    capacity_from: float = Field(description="Charge that has left before, mAh per g of the full compound")
    capacity_to: float = Field(description="The same behind, mAh/g")
    in_window: bool = Field(description="Whether anything of it is within v_min and v_max")
    capacity_in_window: float | None = Field(
        None, description="Capacity of what of it is within v_min and v_max, mAh/g"
    )
    rise: float = Field(0.0, description="V from its beginning to its end; 0 where two phases coexist")


class OrderingOnProfile(Document):
    """One ordering of ion and vacancy."""

    formula: str = Field(description="Reduced formula")
    content: float = Field(description="Share of the ions that are there")
    degeneracy: int = Field(description="Arrangements of the cell that are equal to it by symmetry, itself counted")
    mixing_mev: float | None = Field(
        None, description="Energy above the line between full and empty, meV per formula unit of the full compound"
    )
    above_hull_mev: float | None = Field(None, description="Above the lower hull, meV per formula unit")
    volume: float | None = Field(None, description="Å³ per formula unit of the full compound")
    host_displacement: float | None = Field(None, description="Largest of a host atom, Å; null where not comparable")
    left_out: Reason | None = Field(None, description="Why it is not on the hull that is drawn; null if it took part")


class VoltageProfileDocument(AnswerDocument):
    """The voltage of one electrode over its charge."""

    working_ion: str = Field(description="Element that moves")
    formula: str = Field(description="Reduced formula of the full compound")
    charged_formula: str = Field("", description="Reduced formula of the empty host")
    v_min: Annotated[float, Unit("V")] = Field(description="Lower end of the window, V")
    v_max: Annotated[float, Unit("V")] = Field(description="Upper end of the window, V")
    usable_capacity: float | None = shown(
        "Usable capacity",
        "mAh/g",
        0,
        "of the plateaus inside the window, per mass of the full compound",
        goal="max",
        scale=(100.0, 300.0),
        voided_by=_USABLE_VOID,
        priority=8,
        description="Capacity of the plateaus inside the window, mAh/g; 0 if there is none",
    )
    usable_voltage: float | None = shown(
        "Usable voltage",
        "V",
        2,
        "mean inside the window, 0 K",
        error=0.3,
        goal="max",
        scale=WINDOW,
        voided_by=_USABLE_VOID,
        priority=7,
        description="Mean voltage inside the window, V; null if no plateau is in it",
    )
    usable_energy: float | None = shown(
        "Usable energy",
        "Wh/kg",
        0,
        "inside the window, active material only",
        goal="max",
        scale=(300.0, 1200.0),
        voided_by=_USABLE_VOID,
        priority=9,
    )
    usable_energy_vol: float | None = shown(
        "Usable energy density",
        "Wh/L",
        0,
        "inside the window, active material only",
        goal="max",
        scale=(1000.0, 5500.0),
        voided_by=_USABLE_VOID,
        priority=17,
    )
    first_step: float | None = shown(
        "First step", "V", 2, "where charging begins", voided_by=_VOLTAGE_VOID, priority=31
    )
    last_step: float | None = shown(
        "Last step", "V", 2, "where the last ions leave", voided_by=_VOLTAGE_VOID, priority=31
    )
    n_plateaus: int | None = shown(
        "Plateaus",
        digits=0,
        priority=31,
        description="Plateaus of the profile; 1: full and empty phase coexist all the way",
    )
    mean_voltage: float | None = shown("Mean voltage", "V", 2, "over full removal, that of the electrode", detail=True)
    full_capacity: float | None = shown(
        "Full capacity", "mAh/g", 0, detail=True, description="Capacity of all ions, mAh/g"
    )
    mixing_mev: float | None = shown(
        "Mixing",
        "meV/f.u.",
        0,
        "of the lowest ordering between, against full and empty; negative orders, positive separates",
        detail=True,
        description="Lowest energy of the orderings between against full and empty phase side by side, meV per formula "
        "unit; positive: phases separate",
    )
    volume_change_percent_in_window: float | None = shown(
        "Volume change used",
        "%",
        1,
        "between the ends of the part inside the window",
        goal="zero",
        scale=(0.0, 10.0),
        voided_by=(*_VOLTAGE_VOID, "unreliable_vdw"),
        priority=32,
    )
    contents_in_window: tuple[float, float] | None = Field(
        None, description="Share of the ions at the lower and the upper end of what the window can use; null if nothing"
    )
    plateaus: list[PlateauDocument] = Field(default_factory=list, description="From full to empty: the voltage rises")
    orderings: list[OrderingOnProfile] = Field(default_factory=list, description="All that were relaxed, ends too")
    n_formula_units: Annotated[float | None, Unit()] = Field(None, description="Of the cells of the orderings")
    n_left_out: int = Field(0, description="Orderings that did not relax, or whose host changed")
    doubts: list[Reason] = Field(default_factory=list, description="What to know before quoting these numbers")


class _Cell(NamedTuple):
    """A cell that orders; which of its shared sites are none of the full compound."""

    cell: DisorderedCell
    others: NDArray[np.bool_]


class _Tried(NamedTuple):
    """An ordering before its relaxation."""

    content: float
    start: Structure
    degeneracy: int


@dataclass(frozen=True)
class VoltageProfile(Insertion[VoltageProfileDocument]):
    """Voltage of an insertion electrode over its charge, and what of it a window of voltages can use.

    Attributes:
        working_ion: element that moves.
        relaxation: of everything, as in the electrode; by default that of hulls.
        check_charged: let what has lost ions go down from a saddle; by default it stays in the basin in which the ions
            leave it.
        formula_units: of the cells with vacancies, at most; a crystal whose primitive cell has more is taken as it is.
        n_steps: parts into which full removal is cut. Compositions with whole oxidation states are looked at besides.
        n_relaxed: orderings that are relaxed at each composition, those of the lowest electrostatic energy.
        other_sites: relax as many orderings in which ions have moved to places that are empty in the full compound.
        max_atoms: a crystal that needs larger cells has an error instead.
        v_min: V, below which an electrolyte or a cell cannot be used; by default 2.5 V against lithium, as it is
            against the metal of the ion.
        v_max: V, above which it cannot; by default 4.5 V against lithium, where carbonate electrolytes oxidise.
        seed: of the orderings where no oxidation states are known.
    """

    name: ClassVar[str] = "voltage_profile"
    example: ClassVar[str] = "LiCoO2.cif --v-min 2.5 --v-max 4.3"
    document: ClassVar[type[Document]] = VoltageProfileDocument
    version: ClassVar[int] = 2
    figures: ClassVar[str] = "dpa4_flows.report.figures_voltage:profiles"
    caveats: ClassVar[tuple[str, ...]] = (
        "Voltage profiles are those of 0 K, of the orderings that were tried, in small cells: steps of real electrodes "
        "are rounded by entropy, and an ordering that was not tried adds steps.",
        BASIN,
    )

    formula_units: int = 4
    n_steps: int = 4
    n_relaxed: int = 3
    other_sites: bool = True
    max_atoms: int = 120
    v_min: float | None = None
    v_max: float | None = None
    seed: int = 0

    @property
    def window(self) -> tuple[float, float]:
        """Of voltages, V against the metal of the ion."""
        low, high = (against_metal(limit, self.working_ion) for limit in WINDOW)
        return low if self.v_min is None else self.v_min, high if self.v_max is None else self.v_max

    def check(self) -> None:
        super().check()
        check_counts(self, "formula_units", "n_steps", "n_relaxed", "max_atoms")
        check_voltages(*self.window)

    def key(self, crystal: Crystal, model: ModelRef) -> str | None:
        """With that of the relaxation that the crystal comes with."""
        key = super().key(crystal, model)
        return key if key is None or crystal.relaxed is None else f"{key} {crystal.relaxed.key}"

    def cost(self, crystal: Crystal) -> tuple[int, int] | None:
        """Crystal, host and orderings; the metal is known, or small."""
        full = free_crystal(whole_crystal(crystal))[0]
        n_ends = len(full) + len(self.host(full).structure)
        cells = self._cells(full)
        numbers = [
            (min(self.n_relaxed, cell.n_arrangements), len(cell.structure(next(cell.every())))) for cell, _ in cells
        ]
        return 2 + sum(n for n, _ in numbers), n_ends + sum(n * size for n, size in numbers)

    def plan(self, crystal: Crystal) -> Plan[VoltageProfileDocument]:
        self.check()
        ends = yield from self.ends(crystal)
        tried: list[_Tried] = []
        uncharged = []
        for cell, others in self._cells(ends.full):
            charges, label = mean_charges(cell), cell.labels.index(self.working_ion)
            number = self.n_relaxed * (_SEARCHED if others.any() else 1)
            found = candidates(cell, number, charges, self.seed).arrangements
            if others.any():
                found = [one for one in found if (one[others] == label).any()][: self.n_relaxed]
            structures = [cell.structure(one) for one in found]
            if not found:
                continue
            content = self._content(structures[0], ends.full)
            uncharged += [] if charges else [structures[0].composition.reduced_formula]
            degeneracies = map(cell.degeneracy, found)
            tried += map(_Tried, [content] * len(found), structures, degeneracies)
        asks = {str(i): Ask(self.charging, Crystal(one.start)) for i, one in enumerate(tried)}
        answers: Mapping[str, RelaxationDocument] = (yield asks) if asks else {}
        had_room(answers.values())
        document = self._document(crystal, ends, tried, [answers[str(i)] for i in range(len(tried))])
        if uncharged:
            words = f"no oxidation states are known of {', '.join(uncharged)}: its orderings are random ones"
            document.doubts.append(Reason(code="no_charges", sentence=words))
        return document

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        formula = crystal.structure.composition.reduced_formula
        low, high = self.window
        return {"working_ion": self.working_ion, "formula": formula, "v_min": low, "v_max": high}

    # ---- orderings

    def _cells(self, full: Structure) -> list[_Cell]:
        """Supercells in which ion and vacancy share the sites of the ion, from full to empty; where the host has room
        elsewhere, also those in which they share these places, too.

        Raises:
            PlanError: there are none.
        """
        ideal, ion = ideal_cell(full), self.working_ion
        composition = ideal.composition
        n_sites = round(composition.get_el_amt_dict()[ion])
        whole = whole_states(composition, ion)
        size = cells_of(n_sites, composition.get_reduced_composition_and_factor()[1], self.formula_units, whole)
        if size * len(ideal) > self.max_atoms:
            words = f"a cell of {size * len(ideal)} sites is larger than max_atoms = {self.max_atoms}: raise it"
            raise PlanError(words, "too_large")
        wide = with_empty_sites(ideal, ion) if self.other_sites else ideal
        cells = []
        try:
            for content in contents_tried(n_sites * size, self.n_steps, whole):
                for sites in (ideal, wide)[: 1 + (len(wide) > len(ideal))]:
                    share = content * n_sites / (n_sites + len(sites) - len(ideal))
                    cell = disordered_cell(partly_filled(sites, ion, share), n_cells=size)
                    cells.append(_Cell(cell, off_sites(cell, ideal, ion)))
        except OrderingError as error:
            raise PlanError(str(error), "not_ordered") from error
        return cells

    def _content(self, structure: Structure, full: Structure) -> float:
        amounts = [one.composition.get_el_amt_dict().get(self.working_ion, 0.0) for one in (structure, full)]
        return amounts[0] / amounts[1] / host_ratio(structure, full, self.working_ion)

    # ---- the profile

    def _document(
        self, crystal: Crystal, ends: Ends, tried: list[_Tried], answers: list[RelaxationDocument]
    ) -> VoltageProfileDocument:
        full, ion = ends.full, self.working_ion
        unit, factor = full.composition.get_reduced_composition_and_factor()
        states = [
            State(1.0, ends.energy_full / factor, float(full.volume) / factor),
            State(0.0, ends.energy_empty / factor, float(ends.empty.volume) / factor),
        ]
        rows = [
            OrderingOnProfile(formula=one.composition.reduced_formula, content=state.content, degeneracy=1)
            for one, state in zip((full, ends.empty), states, strict=True)
        ]
        rows[1].host_displacement = ends.properties.host_displacement
        places, rested = [0, 1], [full, ends.empty]
        for one, answer in zip(tried, answers, strict=True):
            row = OrderingOnProfile(
                formula=one.start.composition.reduced_formula, content=one.content, degeneracy=one.degeneracy
            )
            rows.append(row)
            row.left_out = self._unfit(one, answer, row)
            if row.left_out is None:
                units = factor * host_ratio(one.start, full, ion)
                assert answer.energy is not None and answer.volume is not None, "a converged relaxation has both"
                states.append(State(one.content, answer.energy / units, answer.volume / units))
                rested.append(at_rest(answer))
                places.append(len(rows) - 1)
        amount = unit.get_el_amt_dict()[ion]
        couple = Couple(amount, ion_charge(ion), ends.energy_metal, ends.properties.capacity_grav)
        try:
            found = profile(states, couple)
        except ElectrodeError as error:
            raise PlanError(str(error), "no_electrode") from error
        for place, state, mixing, above in zip(places, states, found.mixing, found.above_hull, strict=True):
            rows[place].mixing_mev, rows[place].above_hull_mev = 1000 * mixing, 1000 * above
            rows[place].volume = state.volume
        document = VoltageProfileDocument(
            working_ion=ion,
            formula=ends.properties.discharged_formula,
            charged_formula=ends.properties.charged_formula,
            v_min=self.window[0],
            v_max=self.window[1],
            mean_voltage=mean_voltage(found.plateaus),
            full_capacity=couple.capacity,
            n_plateaus=len(found.plateaus),
            first_step=found.plateaus[0].voltage,
            last_step=found.plateaus[-1].voltage,
            mixing_mev=min((1000 * mixing for mixing in found.mixing[2:]), default=None),
            n_formula_units=None if not tried else factor * host_ratio(tried[0].start, full, ion),
            n_left_out=len(rows) - len(places),
            doubts=list(ends.reasons),
            provenance=self.origin(crystal),
        )
        conclude(document, found, states, [rows[place] for place in places], rested)
        document.orderings = sorted(
            rows, key=lambda row: (-row.content, row.left_out is not None, row.mixing_mev or 0.0)
        )
        document.doubts += _doubts(rows)
        return document

    def _unfit(self, one: _Tried, answer: RelaxationDocument, row: OrderingOnProfile) -> Reason | None:
        """Why an ordering says nothing of this host; None if it does."""
        try:
            relaxed = at_rest(answer)
        except PlanError as error:
            return Reason(code=error.code, sentence=str(error))
        row.host_displacement = host_displacement(one.start, relaxed, self.working_ion)
        if row.host_displacement is None or row.host_displacement <= TOPOTACTIC_LIMIT:
            return None
        words = (
            f"host atoms of {row.formula} move by up to {row.host_displacement:.2f} Å, more than {TOPOTACTIC_LIMIT} Å"
        )
        return Reason(code="host_rearranges", sentence=words)


def conclude(
    document: VoltageProfileDocument,
    found: Profile,
    states: list[State],
    rows: list[OrderingOnProfile],
    rested: list[Structure],
) -> None:
    """Write the plateaus into a document, and what of them is in its window, before the metals are at their highest
    oxidation states.

    Args:
        document: with ion and window.
        found: the profile.
        states, rows, rested: energies, rows of the document and relaxed structures, in the same order.
    """
    full = rested[found.corners[0]]
    bound = redox_bound(full.composition, document.working_ion)
    usable = found.within(document.v_min, document.v_max, bound.capacity)
    corners = list(found.corners)
    for number, one in enumerate(found.plateaus):
        before, behind = (rows[corners[i]] for i in (number, number + 1))
        inside = math.fsum(
            part.capacity for part in usable if one.capacity_from <= part.capacity_from < one.capacity_to
        )
        document.plateaus.append(
            PlateauDocument(
                formula_from=before.formula,
                formula_to=behind.formula,
                content_from=one.content_from,
                content_to=one.content_to,
                voltage=one.voltage,
                capacity_from=one.capacity_from,
                capacity_to=one.capacity_to,
                in_window=inside > 0,
                capacity_in_window=inside,
                rise=one.slope * one.capacity,
            )
        )
    document.usable_capacity = math.fsum(one.capacity for one in usable)
    document.usable_voltage = mean_voltage(usable)
    document.usable_energy = math.fsum(one.capacity * one.voltage for one in usable)
    document.usable_energy_vol = document.usable_energy * float(full.density)  # kg per L
    if usable:
        known = np.array(sorted((states[i].content, states[i].volume) for i in corners))
        ends = [usable[0].content_from, usable[-1].content_to]
        first, last = np.interp(ends, known[:, 0], known[:, 1]).tolist()
        document.volume_change_percent_in_window = 100 * (last / first - 1)
        document.contents_in_window = ends[0], ends[1]
        used = [rested[i] for i in corners if ends[1] - _SAME <= states[i].content <= ends[0] + _SAME]
        moved = host_displacement(used[0], used[-1], document.working_ion) if len(used) > 1 else None
        if moved is not None and moved > TOPOTACTIC_LIMIT and not keeps_bonds(used[0], used[-1], document.working_ion):
            words = f"host atoms move by up to {moved:.2f} Å inside the window, more than {TOPOTACTIC_LIMIT} Å"
            document.doubts.append(Reason(code="used_host_rearranges", sentence=words))


def _doubts(rows: list[OrderingOnProfile]) -> list[Reason]:
    """What is said of the orderings together."""
    left = [row for row in rows if row.left_out is not None]
    doubts = []
    if len(rows) == 2:
        words = "no ordering between full and empty fits into the cell: raise formula_units"
        doubts.append(Reason(code="ends_alone", sentence=words))
    if left:
        first = left[0].left_out
        words = f"{len(left)} of {len(rows) - 2} orderings are not on the hull: {first.sentence if first else ''}"
        doubts.append(Reason(code="orderings_left_out", sentence=words))
    missing = sorted({row.content for row in left} - {row.content for row in rows if row.left_out is None})
    if missing:
        words = f"no ordering is left at {', '.join(f'{content:.2f}' for content in missing)} of the ions"
        doubts.append(Reason(code="composition_missing", sentence=words))
    return doubts

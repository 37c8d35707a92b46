"""Ordered cells of a crystal with shared sites: what electrostatics proposes, swaps with the potential, and relaxations
of the lowest ones.

    voltage profile:  Ask(Ordering(ion="Li", content=x), Crystal(host)) for each x
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from pymatgen.core import Structure

from dpa4_core.errors import DPA4Error
from dpa4_core.relax import Relax, RelaxOptions, RelaxResult, Static
from dpa4_core.units import BOLTZMANN_EV_K
from dpa4_flows.analysis.orderings import (
    SHARE_TOLERANCE,
    Arrangement,
    DisorderedCell,
    EwaldEnergies,
    OrderingError,
    candidates,
    disordered_cell,
    mean_charges,
    partly_filled,
    stated_charges,
)
from dpa4_flows.compute.plan import Crystal, Plan, PlanError, Property, Request, Steps
from dpa4_flows.documents.calculations import RATTLE, rattled
from dpa4_flows.documents.quantities import Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.properties.limits import check_counts
from dpa4_flows.properties.part import had_room, whole_crystal
from dpa4_flows.site_conversion import structure_fields

_SETTLED = 0.5
"""Of the swaps that were tried: a search whose last gain is older has stopped finding lower cells."""


class OrderedCell(Document):
    """One arrangement of the atoms."""

    number: int = Field(description="Place in the order in which they were computed")
    energy_above_lowest_mev: float | None = Field(
        None, description="As the search computed it, above the lowest of all, meV/atom; null if it failed"
    )
    relaxed_above_lowest_mev: float | None = Field(
        None, description="Relaxed, above the lowest of the relaxed ones, meV/atom; null if it was not relaxed"
    )
    ewald_above_lowest_mev: float | None = Field(
        None, description="Electrostatic energy of point charges, above the lowest of all, meV/atom"
    )
    degeneracy: int = Field(
        description="Arrangements of the supercell that are equal to it by symmetry, itself counted"
    )
    converged: bool | None = Field(None, description="Whether the relaxation reached fmax; null without one")
    structure: dict[str, Any] | None = Field(
        None, description="Relaxed, a pymatgen dictionary; null without relaxation"
    )
    error: str | None = Field(None, description="Why a calculation of it failed, one sentence")


class OrderingDocument(AnswerDocument):
    """The lowest ordered cell of one crystal, and those that it was compared with."""

    formula: str = Field(description="Reduced formula of the ordered cell")
    structure: dict[str, Any] | None = Field(None, description="Lowest cell, relaxed, a pymatgen dictionary")
    energy: Annotated[float | None, Unit("eV")] = Field(
        None, description="Of the lowest cell, relaxed, uncorrected, eV"
    )
    energy_per_atom: float | None = shown(
        "Energy", "eV/atom", 4, "lowest ordered cell, uncorrected", goal="min", detail=True
    )
    next_above_mev: float | None = shown("Next cell above", "meV/atom", 1, "relaxed; small where disorder costs little")
    spread_mev: float | None = shown("Spread", "meV/atom", 1, "standard deviation over all cells that were tried")
    n_tried: int = shown("Cells tried", digits=0, default=0, description="Distinct cells whose energy was computed")
    n_distinct: int | None = shown(
        "Distinct cells",
        digits=0,
        note="empty where too many to count",
        description="Distinct arrangements of this supercell; null where there are too many to count",
    )
    settled: bool | None = shown("Settled", note="whether the last half of the search found nothing lower")
    lowest_found_at: int | None = Field(None, description="Number of the calculation that found the lowest cell")
    n_arrangements: Annotated[float | None, Unit()] = Field(
        None, description="Arrangements of this supercell, equal ones too"
    )
    n_atoms: int | None = shown("Atoms", digits=0, detail=True, description="Atoms of the ordered cell")
    n_cells: int | None = Field(None, description="Primitive cells of the disordered crystal in the supercell")
    supercell: list[list[int]] | None = Field(None, description="[3, 3], rows in terms of those of the primitive cell")
    composition_off: Annotated[float | None, Unit()] = Field(
        None, description="Largest difference of a share from that of the input"
    )
    charges: dict[str, float] = Field(
        default_factory=dict, description="Mean oxidation states of the electrostatic energies; empty without them"
    )
    cells: list[OrderedCell] = Field(default_factory=list, description="All that were tried, the lowest first")
    converged: bool = Field(False, description="Whether the lowest cell reached fmax")
    doubts: list[Reason] = Field(default_factory=list)

    @property
    def further(self) -> dict[str, dict[str, Any]]:
        above = [one for one in self.cells if one.relaxed_above_lowest_mev]
        return {f"cell {one.number}": one.structure for one in above if one.structure is not None}


@dataclass(frozen=True)
class Ordering(Property[OrderingDocument]):
    """The lowest ordered cell of a crystal with partial occupancies, or of one from which part of an ion is taken.

    Attributes:
        ion: element of which only a part stays on its sites, as in a cathode that is half charged; by default what the
            occupancies of the input say.
        content: share of the ion that stays, 0 to 1.
        max_atoms: sites of the supercell at most; the largest that has the composition is taken.
        n_cells: primitive cells of the supercell instead; 0 chooses.
        n_candidates: cells of lowest electrostatic energy that the search begins with; random ones without charges.
        replicas: searches side by side, from the lowest of these.
        temperatures_k: of the swaps one after the other, K, for the energy of the whole cell.
        steps: swaps of each replica at each temperature, at most.
        patience: swaps of each replica without a lower cell after which a temperature ends.
        relax_steps: optimiser steps of each cell in the search. As it is, with 0, a cell with the bond lengths of the
            parent ranks badly: ions move by more than orders differ.
        n_relaxed: lowest cells that are relaxed in the end.
        fmax: eV/Å, of these relaxations.
        max_steps: optimiser steps of these relaxations.
        seed: of the random numbers.
    """

    name: ClassVar[str] = "ordering"
    example: ClassVar[str] = "LiNiO2.cif --ion Li --content 0.5"
    document: ClassVar[type[Document]] = OrderingDocument
    takes_disorder: ClassVar[bool] = True
    figures: ClassVar[str] = "dpa4_flows.report.figures_orderings:orderings"

    ion: str = ""
    content: float = 1.0
    max_atoms: int = 48
    n_cells: int = 0
    n_candidates: int = 20
    replicas: int = 4
    temperatures_k: tuple[float, ...] = (4000.0, 2000.0, 1000.0, 500.0)
    steps: int = 4
    patience: int = 3
    relax_steps: int = 8
    n_relaxed: int = 5
    fmax: float = 0.02
    max_steps: int = 500
    seed: int = 0

    def check(self) -> None:
        if not 0 <= self.content <= 1:
            raise DPA4Error(f"content is the share of the ion that stays, from 0 to 1, not {self.content:g}")
        if self.content < 1 and not self.ion:
            raise DPA4Error(f"content = {self.content:g} of what? Name the element in ion")
        check_counts(self, "max_atoms", "n_candidates", "replicas", "n_relaxed", "patience")
        check_counts(self, "n_cells", "steps", "relax_steps", least=0)
        if any(not 0 < temperature < math.inf for temperature in self.temperatures_k):
            raise DPA4Error("temperatures_k must be temperatures above 0 K")
        self._options()

    def _options(self, **changes: Any) -> RelaxOptions:
        return RelaxOptions(**{"fmax": self.fmax, "max_steps": self.max_steps} | changes)

    def cost(self, crystal: Crystal) -> tuple[int, int]:
        size = len(self.cell_of(crystal).cell)
        n = self.n_candidates + self.replicas * self.steps * len(self.temperatures_k) + self.n_relaxed
        return n, n * size

    def cell_of(self, crystal: Crystal) -> DisorderedCell:
        """The supercell that is ordered.

        Raises:
            PlanError: there is none.
        """
        structure = whole_crystal(crystal)
        try:
            if self.ion:
                structure = partly_filled(structure, self.ion, self.content)
            elif structure.is_ordered:
                raise OrderingError(
                    f"{structure.composition.reduced_formula} is ordered: no site is shared; with --ion and --content, "
                    "part of an element is taken out"
                )
            return disordered_cell(structure, self.max_atoms, self.n_cells)
        except OrderingError as error:
            raise PlanError(str(error), "not_ordered") from error

    def plan(self, crystal: Crystal) -> Plan[OrderingDocument]:
        self.check()
        cell = self.cell_of(crystal)
        charges = mean_charges(cell, stated_charges(whole_crystal(crystal)))
        first = candidates(cell, self.n_candidates, charges, self.seed)
        search = _Search(cell, self._request)
        yield from search.computed(first.arrangements)
        exhaustive = first.n_distinct is not None and len(first.arrangements) == first.n_distinct
        n_first, n_swaps = len(search.energies), 0
        if not exhaustive and search.lowest():
            n_swaps = yield from self._swaps(search, first.n_distinct)
        lowest = search.lowest()[: self.n_relaxed]
        if not lowest:
            raise PlanError(f"no ordered cell could be computed: {next(iter(search.errors.values()))}", "not_computed")
        begins = [search.ends.get(name) or _pushed(cell, search.arrangements[name]) for name in lowest]
        answers = yield {str(i): Relax(begin, self._options()) for i, begin in enumerate(begins)}
        ends = {name: answers[str(i)] for i, name in enumerate(lowest)}
        had_room(ends.values())
        if all(end.error is not None for end in ends.values()):
            raise PlanError(f"no ordered cell could be relaxed: {ends[lowest[0]].error}", "not_computed")
        tried_all = first.n_distinct is not None and len(search.energies) == first.n_distinct
        found_at = list(search.energies).index(lowest[0])
        settled = tried_all or found_at < n_first + (1 - _SETTLED) * (len(search.energies) - n_first)
        settled = settled and (tried_all or n_swaps > 0)
        rows = _rows(search, ends, charges, cell)
        best = min((end for end in ends.values() if end.error is None), key=lambda end: end.energy)
        above = sorted(row.relaxed_above_lowest_mev for row in rows if row.relaxed_above_lowest_mev is not None)
        known = [row.energy_above_lowest_mev for row in rows if row.energy_above_lowest_mev is not None]
        return OrderingDocument(
            formula=best.structure.composition.reduced_formula,
            structure=structure_fields(best.structure),
            energy=best.energy,
            energy_per_atom=best.energy / len(best.structure),
            next_above_mev=above[1] if len(above) > 1 else None,
            spread_mev=float(np.std(known)) if len(known) > 1 else None,
            n_tried=len(search.energies),
            n_distinct=first.n_distinct,
            settled=settled,
            lowest_found_at=found_at,
            n_arrangements=float(cell.n_arrangements),
            n_atoms=len(best.structure),
            n_cells=round(abs(float(np.linalg.det(cell.matrix)))),
            supercell=cell.matrix.tolist(),
            composition_off=cell.deviation,
            charges=charges,
            cells=rows,
            converged=best.converged,
            doubts=_doubts(cell, charges, settled),
            provenance=self.origin(crystal),
        )

    def _request(self, cell: DisorderedCell, arrangement: Arrangement) -> Request:
        if self.relax_steps:
            return Relax(_pushed(cell, arrangement), self._options(max_steps=self.relax_steps, check_minimum=False))
        return Static(cell.structure(arrangement))

    def _swaps(self, search: _Search, n_distinct: int | None) -> Steps[int]:
        """Simulated annealing of all replicas at once; returns the number of swaps."""
        random = np.random.default_rng(self.seed + 1)
        states = [search.arrangements[name] for name in search.lowest()[: self.replicas]]
        states += [states[i % len(states)] for i in range(self.replicas - len(states))]
        n_swaps = 0
        for temperature in self.temperatures_k:
            quiet = 0
            for _ in range(self.steps):
                if len(search.energies) == n_distinct:
                    return n_swaps
                lowest = min(search.energies.values())
                proposed = [search.cell.swapped(state, random) for state in states]
                yield from search.computed(proposed)
                for i, after in enumerate(proposed):
                    n_swaps += 1
                    change = search.energy(after) - search.energy(states[i])
                    if change <= 0 or random.random() < math.exp(-change / (BOLTZMANN_EV_K * temperature)):
                        states[i] = after
                quiet = 0 if min(search.energies.values()) < lowest else quiet + 1
                if quiet == self.patience:
                    break
        return n_swaps

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        return {"formula": crystal.structure.composition.reduced_formula}


@dataclass
class _Search:
    """Energies of the distinct arrangements tried so far, eV per cell, in their order; one that failed has infinity.
    ``ends`` has the cells that were relaxed for it, from which a relaxation goes on.
    """

    cell: DisorderedCell
    request: Any
    energies: dict[bytes, float] = field(default_factory=dict)
    arrangements: dict[bytes, Arrangement] = field(default_factory=dict)
    errors: dict[bytes, str] = field(default_factory=dict)
    ends: dict[bytes, Structure] = field(default_factory=dict)

    def computed(self, arrangements: Sequence[Arrangement]) -> Steps[None]:
        """Ask for those that are new."""
        new = {self.cell.name(one): one for one in arrangements}
        new = {name: one for name, one in new.items() if name not in self.energies}
        if not new:
            return
        answers = yield {str(i): self.request(self.cell, one) for i, one in enumerate(new.values())}
        had_room(answers.values())
        for (name, one), answer in zip(new.items(), answers.values(), strict=True):
            self.arrangements[name] = one
            self.energies[name] = math.inf if answer.error is not None else float(answer.energy)
            if answer.error is not None:
                self.errors[name] = answer.error
            elif isinstance(answer, RelaxResult):
                self.ends[name] = answer.structure

    def energy(self, arrangement: Arrangement) -> float:
        return self.energies[self.cell.name(arrangement)]

    def lowest(self) -> list[bytes]:
        """Those that have an energy, the lowest first."""
        return sorted(
            (n for n, energy in self.energies.items() if math.isfinite(energy)), key=self.energies.__getitem__
        )


def _pushed(cell: DisorderedCell, arrangement: Arrangement) -> Structure:
    """Off the symmetry of the parent, on top of which a relaxation would stay."""
    pushed = rattled(cell.structure(arrangement), RATTLE)
    assert isinstance(pushed, Structure), "a crystal is no molecule"
    return pushed


def _rows(
    search: _Search, ends: Mapping[bytes, RelaxResult], charges: Mapping[str, float], cell: DisorderedCell
) -> list[OrderedCell]:
    names = list(search.energies)
    n_atoms = len(cell.structure(search.arrangements[names[0]]))
    lowest = min(search.energies.values())
    good = [end.energy for end in ends.values() if end.error is None]
    ewald: list[float | None] = [None] * len(names)
    if charges and len(cell.shared):
        sums = EwaldEnergies(cell, charges).of([search.arrangements[name] for name in names])
        ewald = [1000 * float(one - sums.min()) / n_atoms for one in sums]
    rows = []
    for number, (name, electrostatic) in enumerate(zip(names, ewald, strict=True)):
        end, energy = ends.get(name), search.energies[name]
        relaxed = end if end is not None and end.error is None else None
        rows.append(
            OrderedCell(
                number=number,
                energy_above_lowest_mev=1000 * (energy - lowest) / n_atoms if math.isfinite(energy) else None,
                relaxed_above_lowest_mev=None if relaxed is None else 1000 * (relaxed.energy - min(good)) / n_atoms,
                ewald_above_lowest_mev=electrostatic,
                degeneracy=cell.degeneracy(search.arrangements[name]),
                converged=None if relaxed is None else relaxed.converged,
                structure=None if relaxed is None else structure_fields(relaxed.structure),
                error=search.errors.get(name) or (None if end is None else end.error),
            )
        )
    far = math.inf

    def height(row: OrderedCell) -> tuple[float, float]:
        relaxed, unrelaxed = row.relaxed_above_lowest_mev, row.energy_above_lowest_mev
        return (far if relaxed is None else relaxed, far if unrelaxed is None else unrelaxed)

    return sorted(rows, key=height)


def _doubts(cell: DisorderedCell, charges: Mapping[str, float], settled: bool) -> list[Reason]:
    doubts = []
    if cell.deviation > SHARE_TOLERANCE:
        words = (
            f"the supercell of {len(cell.cell)} sites cannot hold the composition: a share is off by "
            f"{cell.deviation:.3f}; a larger max_atoms comes nearer"
        )
        doubts.append(Reason(code="composition_off", sentence=words))
    if not charges:
        words = "no oxidation states are known: the search began with random cells instead of those of low Ewald energy"
        doubts.append(Reason(code="no_charges", sentence=words))
    if not settled:
        words = "the search still found lower cells in its last half; more steps or replicas may find others"
        doubts.append(Reason(code="still_falling", sentence=words))
    return doubts

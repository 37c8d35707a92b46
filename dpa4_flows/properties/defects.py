"""Neutral point defects: the supercells of all defects, starts and candidates are relaxed in the same batch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar, get_args

import numpy as np
from ase.data import atomic_numbers

from dpa4_core.errors import DPA4Error
from dpa4_core.predict import Prediction
from dpa4_core.relax import Relax, RelaxOptions, RelaxResult, Static
from dpa4_core.strict import meant
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.analysis.completeness import on_hull
from dpa4_flows.analysis.defects import (
    Defect,
    Host,
    Kind,
    binding_energy,
    concentration_cm3,
    formation_energy,
    host_cell,
    implausible,
    point_defects,
    rearrangement,
    relaxation_volume,
    starts,
)
from dpa4_flows.analysis.equation_of_state import scaled
from dpa4_flows.analysis.frames import SEAM, seam_problem
from dpa4_flows.compute.plan import NO_NUMBER, Ask, Crystal, Plan, PlanError, Property, Request, answered, checked
from dpa4_flows.documents.calculations import RATTLE, rattled
from dpa4_flows.documents.defects import DefectCell, DefectCellsDocument, DefectRow, DefectsDocument, GrowthConditions
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import Document
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.chemical_potentials import ReservoirDocument, Reservoirs
from dpa4_flows.properties.limits import check_positive
from dpa4_flows.properties.part import BASIN, had_room, whole_crystal

NATIVE = ("vacancy", "antisite", "interstitial")
_VOLUME_STRAIN = 0.01  # of the cells that give the bulk modulus
_LED_ELSEWHERE = 0.05  # eV, by which a start must end lower than the one without a broken symmetry to be told
_SMALL_CELL = 0.1  # eV that holding the cell may add before it is told

D = TypeVar("D", bound=Document)


@dataclass(frozen=True)
class DefectSettings(Property[D]):
    """Base of properties of defects in supercells.

    Attributes:
        dopants: elements from outside, "P,As" or a list; those that a crystal holds itself are left out there.
        kinds: vacancy, antisite, interstitial, substitution (by dopants) and dopant_interstitial; text or a list, too.
        complexes: pairs on the nearest two sites, v_Si+P_Si, or all of those of the kinds.
        min_length: Å, between a defect and its image.
        max_atoms: a crystal that needs a larger supercell has an error instead.
        n_starts: of each defect; all but the first have their symmetry broken on purpose, and the lowest counts.
        max_holes: places for interstitials, the widest ones.
        fmax: eV/Å, to which atoms relax in the held cell.
        max_steps: optimiser steps of each start.
    """

    starts_from_rest: ClassVar[bool] = True

    dopants: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("vacancy", "antisite", "interstitial", "substitution")
    complexes: tuple[str, ...] = ()
    min_length: float = 10.0
    max_atoms: int = field(default=300, metadata=NO_NUMBER)
    n_starts: int = 3
    max_holes: int = 2
    fmax: float = 0.02
    max_steps: int = 300

    def __post_init__(self) -> None:
        for name in ("dopants", "kinds", "complexes"):
            given = [part.strip() for one in getattr(self, name) for part in one.split(",")]
            object.__setattr__(self, name, tuple(given))

    def check(self) -> None:
        self.options()
        check_positive(self, "min_length", "max_atoms", "n_starts", "max_holes")
        for symbol in self.dopants:
            if atomic_numbers.get(symbol, 0) < 1:
                raise DPA4Error(f"dopants: {meant(symbol, list(atomic_numbers)[1:])}")
        known = [kind for kind in get_args(Kind) if kind != "complex"]
        for kind in self.kinds:
            if kind not in known:
                raise DPA4Error(f"kinds: {meant(kind, known)}")
        for name in self.complexes:
            if name != "all" and not _is_pair(name):
                raise DPA4Error(f"{name!r} is no pair of defects: write two with a plus, as v_Si+P_Si, or all")

    @property
    def foreign(self) -> set[str]:
        """Elements that are named; those that a crystal holds itself are none there."""
        return {*self.dopants, *(symbol for name in self.complexes for symbol in _dopants_of(name))}

    def options(self) -> RelaxOptions:
        """How supercells relax: from starts that are off symmetry, so that no further way down is looked for."""
        return RelaxOptions(fmax=self.fmax, max_steps=self.max_steps, relax_cell=False, check_minimum=False)

    def cost(self, crystal: Crystal) -> tuple[int, int]:
        host, found = self.made(crystal)
        n_atoms = sum(len(defect.structure) for defect in found)
        return (self.n_starts + 1) * len(found) + 3, (self.n_starts + 1) * n_atoms + len(host.perfect)

    def made(self, crystal: Crystal) -> tuple[Host, list[Defect]]:
        """The supercell and its defects.

        Raises:
            PlanError: there is no supercell within bounds, or no defect.
        """
        try:
            host = host_cell(whole_crystal(crystal), self.min_length, self.max_atoms)
        except ValueError as error:
            raise PlanError(str(error), "no_supercell") from error
        found = point_defects(host, self.kinds, sorted(self.foreign), self.complexes, self.max_holes)
        wanted = [one for one in found if one.kind != "substitution" or {*one.added} & {*self.dopants}]
        if not wanted:
            words = f"{crystal.structure.composition.reduced_formula} has no defect of the kinds that were asked for"
            raise PlanError(f"{words}: name kinds, dopants or complexes that it can have", "no_defect")
        return host, wanted


@dataclass(frozen=True)
class DefectCells(DefectSettings[DefectCellsDocument]):
    """Defects in relaxed supercells, without the chemical potentials that make formation energies of them."""

    name: ClassVar[str] = "defect_cells"
    document: ClassVar[type[Document]] = DefectCellsDocument

    def plan(self, crystal: Crystal) -> Plan[DefectCellsDocument]:
        self.check()
        host, defects = self.made(crystal)
        told = {defect.name: _seam(crystal, defect) for defect in defects}
        asked = [defect for defect in defects if not any(one.code == SEAM for one in told[defect.name])]
        pressed = scaled(host.primitive, (-_VOLUME_STRAIN, _VOLUME_STRAIN))
        wanted: dict[str, Request] = {"perfect": Static(host.perfect)}
        wanted |= {f"volume {i}": Relax(cell, self.options()) for i, cell in enumerate(pressed)}
        for defect in asked:
            wanted[f"unrelaxed {defect.name}"] = Static(defect.structure)
            for i, start in enumerate(starts(defect, self.n_starts)):
                off = rattled(start, RATTLE) if i <= len(defect.turned) else start  # others are off symmetry
                wanted[f"{defect.name} {i}"] = Relax(off, self.options())
        answers = yield wanted
        had_room(answers.values())
        perfect: Prediction = checked(answers["perfect"], "the perfect supercell")
        bulk_modulus = _bulk_modulus([checked(answers[f"volume {i}"], "a pressed cell") for i in range(2)])
        rows = []
        for defect in defects:
            row = DefectCell(
                name=defect.name,
                kind=defect.kind,
                added=defect.added,
                density=defect.density,
                n_atoms=len(defect.structure),
                reasons=told[defect.name],
            )
            if defect in asked:
                ends = [answers[f"{defect.name} {i}"] for i in range(self.n_starts)]
                _fill(row, host, defect, perfect, answers[f"unrelaxed {defect.name}"], ends, bulk_modulus)
            rows.append(row)
        return DefectCellsDocument(
            formula=host.perfect.composition.reduced_formula,
            cells=rows,
            n_atoms=len(host.perfect),
            length=host.length,
            energy_per_atom=perfect.energy / len(host.perfect),
            volume_per_atom=host.primitive.volume / len(host.primitive),
            bulk_modulus_gpa=bulk_modulus * EV_PER_ANGSTROM3_TO_GPA,
            converged=all(row.converged for row in rows if row.energy_change is not None),
            provenance=self.origin(crystal),
        )


@dataclass(frozen=True)
class Defects(DefectSettings[DefectsDocument]):
    """Formation energies of neutral point defects of a relaxed crystal, at the chemical potentials at which it grows.

    Attributes:
        temperature_k: of the concentrations, K.
        region: of chemical potentials; not needed for an element without dopants, whose own energy counts.
    """

    name: ClassVar[str] = "defects"
    example: ClassVar[str] = "Si.cif --dopants P,As -o run"
    document: ClassVar[type[Document]] = DefectsDocument
    figures: ClassVar[str] = "dpa4_flows.report.figures_defects:defect_figures"
    caveats: ClassVar[tuple[str, ...]] = (
        "Defects are neutral only: there are no charge states, no transition levels and no doping levels. In "
        "semiconductors and insulators charged states of the same defects mostly lie lower, so that energies are upper "
        "bounds and concentrations lower ones; use them to compare dopants and to find what distorts or dissolves.",
        BASIN,
    )

    temperature_k: float = 1000.0
    region: Reservoirs = field(default_factory=Reservoirs)

    def check(self) -> None:
        super().check()
        check_positive(self, "temperature_k")
        self.region.check()

    def key(self, crystal: Crystal, model: ModelRef) -> str | None:
        """None where what competes may change; the supercells are stored."""
        return None if self.region.anew else super().key(crystal, model)

    def plan(self, crystal: Crystal) -> Plan[DefectsDocument]:
        self.check()
        own = {site.specie.symbol for site in whole_crystal(crystal)}
        shared = {one.name: getattr(self, one.name) for one in dataclasses.fields(DefectCells)}
        wanted: dict[str, Ask[Any]] = {"cells": Ask(DefectCells(**shared), crystal)}
        foreign = sorted(self.foreign - own)
        # one dopant at a time, since phases of two dopants limit neither where both are dilute
        elements = foreign or ([""] if len(own) > 1 else [])
        regions = {one: dataclasses.replace(self.region, dopant=one) for one in elements}
        wanted |= {f"region {one}": Ask(region, crystal) for one, region in regions.items()}
        found = yield wanted
        for part in found.values():
            answered(part)
        cells: DefectCellsDocument = found["cells"]
        reservoirs: dict[str, ReservoirDocument] = {one: found[f"region {one}"] for one in regions}
        assert cells.energy_per_atom is not None, "a document without an error has an energy"
        own_energy = {symbol: cells.energy_per_atom for symbol in own if len(own) == 1}
        corners = list(_corners(reservoirs, own_energy))
        rows = [self._row(cell, cells, corners, foreign) for cell in cells.cells]
        _bind(rows)
        rows.sort(key=lambda row: math.inf if row.lowest is None else row.lowest)
        document = DefectsDocument(
            formula=cells.formula,
            temperature_k=self.temperature_k,
            conditions=[corner.conditions for corner in corners],
            defects=rows,
            n_atoms=cells.n_atoms,
            length=cells.length,
            bulk_modulus_gpa=cells.bulk_modulus_gpa,
            converged=cells.converged,
            doubts=list(_doubts(list(reservoirs.values()))),
            warnings=[
                Reason(code=reason.code, sentence=f"{row.name}: {reason.sentence}")
                for row in rows
                for reason in row.reasons
            ],
            provenance=self.origin(crystal),
        )
        _headline(document, len(corners))
        return document

    def _row(
        self, cell: DefectCell, cells: DefectCellsDocument, corners: Sequence[_Corner], foreign: Sequence[str]
    ) -> DefectRow:
        row = DefectRow(**cell.model_dump())
        if cell.energy_change is None:
            return row
        energies = [formation_energy(cell.energy_change, cell.added, corner.uncorrected) for corner in corners]
        if words := implausible(min(energies, key=lambda one: -abs(one))):
            row.reasons.append(Reason(code="implausible_energy", sentence=words))
            return row
        row.energies, row.lowest = energies, min(energies)
        row.concentration_cm3 = concentration_cm3(row.lowest, cell.density, self.temperature_k)
        if row.concentration_cm3 is None:
            words = (
                f"a formation energy of {row.lowest:.2f} eV: the crystal takes it up by itself, and it is not dilute"
            )
            row.reasons.append(Reason(code="not_dilute", sentence=words))
        if {*cell.added} & {*foreign}:
            at_elements = [one.uncorrected | {s: one.zeros[s] for s in foreign} for one in corners]
            row.from_elements = min(formation_energy(cell.energy_change, cell.added, one) for one in at_elements)
        if cell.relaxation_volume_a3 is not None and cells.volume_per_atom:
            row.size_misfit_percent = 100 * cell.relaxation_volume_a3 / (3 * cells.volume_per_atom)
        return row


@dataclass(frozen=True)
class _Corner:
    """Chemical potentials at one corner.

    Attributes:
        conditions: as the document tells them.
        uncorrected: in energies of supercells, eV/atom.
        zeros: of the dopants, in the same.
    """

    conditions: GrowthConditions
    uncorrected: dict[str, float]
    zeros: Mapping[str, float] = field(default_factory=dict)


def _corners(regions: Mapping[str, ReservoirDocument], own_energy: Mapping[str, float]) -> Iterator[_Corner]:
    """Those of the regions, by dopant, which differ in the dopant alone; ``own_energy`` is that of an element in its
    supercell, eV/atom, which its atoms count from.
    """
    if not regions:
        (symbol,) = own_energy
        yield _Corner(GrowthConditions(name=symbol, potentials={symbol: 0.0}), dict(own_energy))
        return
    first = next(iter(regions.values()))
    for corner, beside in zip(first.corners, first.coexisting, strict=True):
        places = {symbol: region.dopant[_same(corner, region)] for symbol, region in regions.items() if symbol}
        own = own_energy or {symbol: first.zeros[symbol] + value for symbol, value in corner.items()}
        yield _Corner(
            GrowthConditions(
                name=" + ".join(beside) or str(first.formula),
                potentials={**corner, **{symbol: place.potential for symbol, place in places.items()}},
                limited_by={symbol: place.beside for symbol, place in places.items()},
            ),
            {**own, **{symbol: place.zero + place.potential for symbol, place in places.items()}},
            {symbol: place.zero for symbol, place in places.items()},
        )


def _same(corner: Mapping[str, float], region: ReservoirDocument) -> int:
    """Where a region has the same corner."""
    apart = [max(abs(other[symbol] - value) for symbol, value in corner.items()) for other in region.corners]
    return int(np.argmin(apart))


def _doubts(regions: Collection[ReservoirDocument]) -> Iterator[Reason]:
    """What to know of the chemical potentials, each once."""
    texts = dict[str, None]()
    for region in regions:
        texts |= dict.fromkeys(text for text in (region.caveat, *region.warnings) if text)
    above = next((region.energy_above_hull for region in regions), 0.0)
    if not on_hull(above):
        words = (
            f"it lies {1000 * above:.0f} meV/atom above the hull: chemical potentials are those of what it decomposes "
            "into, raised by that"
        )
        yield Reason(code="metastable_host", sentence=words)
    for text in texts:
        yield Reason(code="hull_caveat", sentence=text)


def _headline(document: DefectsDocument, n_corners: int) -> None:
    """The native defect that limits the crystal where it is least limited, and the dopant that dissolves best."""
    known = [row for row in document.defects if row.energies]
    if not known:
        first = document.defects[0].reasons[-1]
        raise PlanError(f"no defect has a formation energy, {document.defects[0].name}: {first.sentence}", first.code)
    native = [row for row in known if row.kind in NATIVE]
    if native:
        at = [min(native, key=lambda row, i=i: row.energies[i]) for i in range(n_corners)]  # type: ignore[misc]
        best = max(range(n_corners), key=lambda i: at[i].energies[i])
        document.native_defect, document.native_energy = at[best].name, at[best].energies[best]
    if dopants := [row for row in known if row.kind in ("substitution", "dopant_interstitial")]:
        first_in = dopants[0]
        document.dopant, document.dopant_energy = first_in.name, first_in.lowest
        document.dopant_misfit_percent = first_in.size_misfit_percent
        if first_in.concentration_cm3:
            document.dopant_log10_cm3 = math.log10(first_in.concentration_cm3)


def _bind(rows: Sequence[DefectRow]) -> None:
    """Give complexes their binding energy, where their parts were computed and each has one site."""
    alone = {row.name: row.energy_change for row in rows if row.energies and row.kind != "complex"}
    for row in rows:
        parts = [alone.get(part.strip()) for part in row.name.split("+")] if row.kind == "complex" else []
        if len(parts) == 2 and parts[0] is not None and parts[1] is not None and row.energies:
            assert row.energy_change is not None, "it has formation energies"
            row.binding_energy = binding_energy(row.energy_change, parts[0], parts[1])


def _seam(crystal: Crystal, defect: Defect) -> list[Reason]:
    """What the +U policy means for a defect."""
    problem = seam_problem(crystal.structure.composition, defect.added, crystal.info.level_of_theory)
    if problem is None:
        return []
    code, words = problem
    if code == "plus_u_surface":
        return [Reason(code="plus_u_host", sentence="crystal and defect are computed with +U alike: little tested")]
    return [Reason(code=code, sentence=f"it {words}")]


def _fill(
    row: DefectCell,
    host: Host,
    defect: Defect,
    perfect: Prediction,
    unrelaxed: Prediction,
    ends: Sequence[RelaxResult],
    bulk_modulus: float,
) -> None:
    """What the starts of one defect came to."""
    good = [end for end in ends if end.error is None]
    if not good:
        row.reasons.append(Reason(code="not_computed", sentence=f"it failed: {ends[0].error}"))
        return
    best = min(good, key=lambda end: end.energy)
    row.energy_change, row.converged = float(best.energy - perfect.energy), best.converged
    row.starts = [None if end.error is not None else float(end.energy - best.energy) for end in ends]
    row.structure = best.structure.as_dict()
    if unrelaxed.error is None:
        row.relaxation_energy = float(unrelaxed.energy - best.energy)
    assert best.stress is not None and perfect.stress is not None, "crystals have a stress"
    volume = host.perfect.volume
    grown = relaxation_volume(np.array(best.stress), np.array(perfect.stress), volume, bulk_modulus)
    row.relaxation_volume_a3, row.strain_energy = grown, bulk_modulus * grown**2 / (2 * volume)
    if not best.converged:
        words = f"it did not reach fmax within {best.n_steps} steps: its energy is an upper bound"
        row.reasons.append(Reason(code="incomplete", sentence=words))
    if change := rearrangement(host, defect, best.structure):
        row.reasons.append(Reason(code="rearranged", sentence=f"its atoms rearranged: {change}"))
    gained = row.starts[0]
    if not defect.turned and (gained is None or gained > _LED_ELSEWHERE):
        words = "failed" if gained is None else f"ended {gained:.2f} eV higher"
        words = f"the start that kept its symmetry {words}: breaking it led to another defect"
        row.reasons.append(Reason(code="led_elsewhere", sentence=words))
    if row.strain_energy > _SMALL_CELL:
        words = f"holding the cell adds up to {row.strain_energy:.2f} eV: a larger min_length lowers that"
        row.reasons.append(Reason(code="small_cell", sentence=words))


def _bulk_modulus(ends: Sequence[RelaxResult]) -> float:
    """eV/Å³, from the pressures of a smaller and a larger cell.

    Raises:
        PlanError: it is not positive.
    """
    low, high = (float(np.trace(np.array(end.stress))) / 3 for end in ends)
    small, large = (float(end.structure.volume) for end in ends)
    modulus = (high - low) / (large - small) * (small + large) / 2
    if not modulus > 0:
        raise PlanError("the crystal gives way when it is pressed: it is no place for defects", "no_modulus")
    return modulus


def _is_pair(name: str) -> bool:
    parts = [part.strip().partition("_") for part in name.split("+")]
    known = {*atomic_numbers, "v"} - {"X"}
    sites = [site.rstrip("0123456789") for _, _, site in parts]
    return (
        len(parts) == 2 and all(one in known for one, _, _ in parts) and all(site in atomic_numbers for site in sites)
    )


def _dopants_of(name: str) -> list[str]:
    """Elements that a pair puts in; v is nothing."""
    parts = [part.strip().partition("_")[0] for part in name.split("+")] if name != "all" else []
    return [part for part in parts if part != "v"]

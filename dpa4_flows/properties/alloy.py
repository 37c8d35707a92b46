"""Alloys: mixing enthalpy, miscibility and lattice constants of a crystal in which one element replaces another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field
from pymatgen.core import Element, Lattice, Structure

from dpa4_core.errors import DPA4Error
from dpa4_core.relax import Relax, RelaxOptions, RelaxResult
from dpa4_flows.analysis.alloys import bowing, mean_lattice, regular_solution
from dpa4_flows.analysis.orderings import DisorderedCell, OrderingError, disordered_cell
from dpa4_flows.analysis.sqs import QuasiRandom, quasi_random, shared
from dpa4_flows.compute.plan import Crystal, Plan, PlanError, Property, checked
from dpa4_flows.documents.quantities import Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.properties.limits import check_counts
from dpa4_flows.properties.part import BASIN, check_zeros, had_room, whole_crystal
from dpa4_flows.site_conversion import structure_fields

NOTHING_TO_REPLACE = "nothing_to_replace"
"""Code of a crystal without the element."""

_RANDOM = 0.1  # of a pair correlation, up to which a cell counts as random
_REGULAR = 0.15  # of the largest enthalpy, up to which a regular solution describes the others


class AlloyCell(Document):
    """One composition."""

    fraction: float = Field(description="Share of the sites that the new element has")
    mixing_enthalpy_mev: float | None = Field(
        None, description="At 0 K above the mixture of both ends, meV/atom; null if it failed"
    )
    a: float | None = Field(None, description="Mean conventional lattice constant, Å")
    b: float | None = Field(None, description="The same of the second axis, Å")
    c: float | None = Field(None, description="The same of the third axis, Å")
    volume_per_atom: float | None = Field(None, description="Å³/atom")
    correlations: list[float] = Field(
        default_factory=list, description="Warren-Cowley parameters of the pairs by shell, 0 in a random alloy"
    )
    residual: float = Field(0.0, description="Largest magnitude of them, shells with images of an atom left out")
    n_atoms: int = Field(description="Atoms of the cell")
    converged: bool = Field(False, description="Whether it reached fmax")
    structure: dict[str, Any] | None = Field(None, description="Relaxed, a pymatgen dictionary")
    error: str | None = Field(None, description="Why it failed, one sentence")


class AlloyDocument(AnswerDocument):
    """An alloy over its composition, by quasi-random cells at 0 K."""

    formula: str = Field(description="Reduced formula of the parent")
    substitute: str = Field(description="Which element is replaced by which, as Ga:In")
    end: str = Field("", description="Reduced formula where all of it is replaced")
    mixing_enthalpy_mev: float | None = shown(
        "Mixing enthalpy", "meV/atom", 2, "largest in magnitude, 0 K, all atoms counted"
    )
    omega_kj_mol: float | None = shown(
        "Interaction Ω", "kJ/mol", 2, "regular solution, for each mole of sites that mix"
    )
    critical_temperature_k: float | None = shown(
        "Miscible above",
        "K",
        0,
        "Ω/2R; no vibrations, no order, no strain of a film; empty if Ω < 0",
        description="Ω/2R, K: an upper bound; null where mixing gives off heat",
    )
    bowing_a: float | None = shown(
        "Bowing of a",
        "Å",
        4,
        "below Vegard's line: b in −b x(1−x)",
        goal="zero",
        description="Of the lattice constant a, Å; positive below Vegard's line",
    )
    bowing_c: Annotated[float | None, Unit("Å")] = Field(None, description="The same of c, Å")
    misfit: Annotated[float | None, Unit()] = Field(
        None, description="Largest deviation from the regular solution, in units of the largest enthalpy"
    )
    residual: float | None = shown("Pair correlation left", "", 3, "0 in a random alloy", goal="zero", detail=True)
    cells: list[AlloyCell] = Field(default_factory=list, description="By composition, both ends among them")
    converged: bool = Field(False, description="Whether all cells reached fmax")
    doubts: list[Reason] = Field(default_factory=list)

    @property
    def further(self) -> dict[str, dict[str, Any]]:
        return {f"x = {one.fraction:.3g}": one.structure for one in self.cells if one.structure is not None}


class _Cell(NamedTuple):
    cell: DisorderedCell
    random: QuasiRandom
    fraction: float


@dataclass(frozen=True)
class Alloy(Property[AlloyDocument]):
    """Mixing enthalpy, miscibility and lattice constants of a relaxed crystal in which one element replaces another.

    Attributes:
        substitute: which element by which, as Ga:In.
        fractions: of the sites that the new element takes, between 0 and 1; both ends are always computed.
        max_atoms: atoms of the quasi-random cells at most; the largest that has the composition is taken.
        n_shells: of neighbours whose pairs are to be uncorrelated, the nearer the more.
        fmax: eV/Å, at the end of each relaxation.
        max_steps: optimiser steps of each.
        seed: of the random numbers.
    """

    name: ClassVar[str] = "alloy"
    example: ClassVar[str] = "GaAs.cif --substitute Ga:In"
    document: ClassVar[type[Document]] = AlloyDocument
    version: ClassVar[int] = 2
    starts_from_rest: ClassVar[bool] = True
    figures: ClassVar[str] = "dpa4_flows.report.figures_orderings:alloys"
    caveats: ClassVar[tuple[str, ...]] = (BASIN,)

    substitute: str = ""
    fractions: tuple[float, ...] = (0.25, 0.5, 0.75)
    max_atoms: int = 64
    n_shells: int = 6
    fmax: float = 0.01
    max_steps: int = 500
    seed: int = 0

    def check(self) -> None:
        if self.substitute:
            self.elements  # noqa: B018 - checks them
        if not self.fractions or not all(0 < x < 1 for x in self.fractions):
            raise DPA4Error("fractions must be numbers between 0 and 1, at least one")
        check_counts(self, "n_shells", "max_atoms")
        self._options()

    def _options(self) -> RelaxOptions:
        return RelaxOptions(fmax=self.fmax, max_steps=self.max_steps, check_minimum=False)

    @property
    def elements(self) -> tuple[str, str]:
        """What is replaced, and by what.

        Raises:
            DPA4Error: not two elements.
        """
        old, _, new = (part.strip() for part in self.substitute.partition(":"))
        if not (Element.is_valid_symbol(old) and Element.is_valid_symbol(new)) or old == new:
            raise DPA4Error(f"substitute = {self.substitute!r} should name two elements, as Ga:In (gallium by indium)")
        return old, new

    def admit(self, crystal: Crystal) -> None:
        if not self.substitute:
            raise PlanError("name which element replaces which: --substitute Ga:In", "no_substitute")
        structure = whole_crystal(crystal)
        check_zeros({*structure.composition.element_composition.get_el_amt_dict(), *self.elements}, crystal.info)
        try:
            shared(structure, *self.elements, 0.5)
        except OrderingError as error:
            raise PlanError(str(error), NOTHING_TO_REPLACE) from error

    def cost(self, crystal: Crystal) -> tuple[int, int]:
        largest = max(1, self.max_atoms // len(crystal.structure)) * len(crystal.structure)
        return 2 + len(self.fractions), 2 * len(crystal.structure) + len(self.fractions) * largest

    def plan(self, crystal: Crystal) -> Plan[AlloyDocument]:
        self.check()
        self.admit(crystal)
        parent, cells = self._cells(whole_crystal(crystal))
        old, new = self.elements
        end = parent.copy()
        end.replace_species({old: new})
        ends = yield {"0": Relax(parent, self._options()), "1": Relax(end, self._options())}
        rest = [
            self._settled(ends[name], one.composition.reduced_formula)
            for name, one in zip("01", (parent, end), strict=True)
        ]
        lattices = [result.structure.lattice.matrix for result in rest]
        starts = []
        for one in cells:
            start = one.cell.structure(one.random.arrangement)
            mixed = (1 - one.fraction) * lattices[0] + one.fraction * lattices[1]
            starts.append(Structure(Lattice(one.cell.matrix @ mixed), start.species, start.frac_coords))
        found = yield {str(i): Relax(start, self._options()) for i, start in enumerate(starts)}
        results: list[RelaxResult] = [found[str(i)] for i in range(len(cells))]
        had_room(results)
        return self._document(crystal, parent, cells, rest, results)

    def _settled(self, result: RelaxResult, formula: str) -> RelaxResult:
        """An end of the alloy, from which all enthalpies count.

        Raises:
            PlanError: it failed or is not at rest.
        """
        if not checked(result, f"the relaxation of {formula}").converged:
            words = f"the relaxation of {formula} did not reach {self.fmax:g} eV/Å: raise max_steps"
            raise PlanError(words, "not_converged")
        return result

    def _cells(self, structure: Structure) -> tuple[Structure, list[_Cell]]:
        """The parent in the cell that all supercells are made of, and a quasi-random cell of each composition.

        Raises:
            PlanError: the crystal is not one of these alloys.
        """
        old, new = self.elements
        cells = []
        try:
            for fraction in sorted(set(self.fractions)):
                cell = disordered_cell(shared(structure, old, new, fraction), self.max_atoms)
                if len(cell.shared) < 2:
                    raise OrderingError(f"a cell of {self.max_atoms} atoms has one site of {old}: raise max_atoms")
                random = quasi_random(cell, self.n_shells, self.seed)
                cells.append(_Cell(cell, random, float(np.mean([cell.labels[i] == new for i in random.arrangement]))))
        except OrderingError as error:
            raise PlanError(str(error), "no_cell") from error
        primitive = cells[0].cell.parent
        species = [site.species.elements[0].symbol if site.is_ordered else old for site in primitive]
        return Structure(primitive.lattice, species, primitive.frac_coords), cells

    def _document(
        self,
        crystal: Crystal,
        parent: Structure,
        cells: list[_Cell],
        rest: list[RelaxResult],
        results: list[RelaxResult],
    ) -> AlloyDocument:
        old, _ = self.elements
        per_atom = [end.energy / len(parent) for end in rest]
        sites = sum(site.specie.symbol == old for site in parent) / len(parent)
        identity = np.eye(3, dtype=np.int64)
        rows = [_row(0.0, rest[0], 0.0, mean_lattice(parent, identity, rest[0].structure.lattice))]
        for one, result in zip(cells, results, strict=True):
            error = result.error
            if error is None and not result.converged:
                error = f"it did not reach {self.fmax:g} eV/Å: raise max_steps"
            if error is not None:
                rows.append(AlloyCell(fraction=one.fraction, n_atoms=len(one.cell.cell), error=error))
                continue
            n = len(result.structure)
            heat = result.energy / n - (1 - one.fraction) * per_atom[0] - one.fraction * per_atom[1]
            row = _row(one.fraction, result, heat, mean_lattice(parent, one.cell.matrix, result.structure.lattice))
            row.correlations, row.residual = one.random.correlations, one.random.residual
            rows.append(row)
        rows.append(_row(1.0, rest[1], 0.0, mean_lattice(parent, identity, rest[1].structure.lattice)))
        document = AlloyDocument(
            formula=parent.composition.reduced_formula,
            substitute=self.substitute,
            end=rest[1].structure.composition.reduced_formula,
            cells=rows,
            residual=max(one.random.residual for one in cells),
            converged=all(row.converged for row in rows),
            provenance=self.origin(crystal),
        )
        good = [row for row in rows[1:-1] if row.error is None]
        if not good:
            raise PlanError(f"no alloy could be computed: {rows[1].error}", "not_computed")
        x = [row.fraction for row in good]
        heats = [row.mixing_enthalpy_mev or 0.0 for row in good]
        solution = regular_solution(x, [0.001 * heat / sites for heat in heats])
        document.mixing_enthalpy_mev = max(heats, key=abs)
        document.omega_kj_mol = solution.omega_kj_mol
        document.critical_temperature_k = solution.critical_temperature_k
        document.misfit = solution.misfit
        document.bowing_a = bowing(x, [row.a or 0.0 for row in good], rows[0].a or 0.0, rows[-1].a or 0.0)
        document.bowing_c = bowing(x, [row.c or 0.0 for row in good], rows[0].c or 0.0, rows[-1].c or 0.0)
        document.doubts = _doubts(document)
        return document

    def facts(self, crystal: Crystal, error: PlanError) -> dict[str, Any]:
        return {"formula": crystal.structure.composition.reduced_formula, "substitute": self.substitute}


def _row(fraction: float, result: RelaxResult, heat: float, lattice: Lattice) -> AlloyCell:
    structure = result.structure
    return AlloyCell(
        fraction=fraction,
        mixing_enthalpy_mev=1000 * heat,
        a=lattice.a,
        b=lattice.b,
        c=lattice.c,
        volume_per_atom=structure.volume / len(structure),
        n_atoms=len(structure),
        converged=result.converged,
        structure=structure_fields(structure),
    )


def _doubts(document: AlloyDocument) -> list[Reason]:
    doubts = []
    if document.residual is not None and document.residual > _RANDOM:
        words = (
            f"a pair correlation of {document.residual:.2f} is left, where a random alloy has 0: a larger max_atoms "
            "has room for less"
        )
        doubts.append(Reason(code="not_random", sentence=words))
    if document.misfit is not None and len(document.cells) > 3 and document.misfit > _REGULAR:
        words = (
            f"enthalpies lie up to {100 * document.misfit:.0f} % of the largest beside the parabola of a regular "
            "solution: its gap is not symmetric, or the ends have other structures"
        )
        doubts.append(Reason(code="not_regular", sentence=words))
    if failed := [row for row in document.cells if row.error is not None]:
        doubts.append(Reason(code="cell_failed", sentence=f"x = {failed[0].fraction:g} is left out: {failed[0].error}"))
    return doubts

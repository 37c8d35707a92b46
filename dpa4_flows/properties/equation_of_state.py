"""Energy against volume: equilibrium volume, bulk modulus and its derivative by pressure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from dpa4_core.errors import DPA4Error
from dpa4_core.relax import Relax, RelaxOptions
from dpa4_flows.analysis.equation_of_state import MIN_POINTS, STRAINS, Form, fit_equation_of_state, scaled
from dpa4_flows.compute.plan import Crystal, Plan, PlanError, Property
from dpa4_flows.documents.quantities import Unit, shown
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import AnswerDocument, Document
from dpa4_flows.properties.part import cells_not_converged, had_room, whole_crystal


class EquationOfStateDocument(AnswerDocument):
    """Equation of state of one crystal at 0 K, of cells of one shape."""

    formula: str = Field(description="Reduced formula")
    form: Form = Field(description="Of the fit")
    volumes: list[float] = Field(default_factory=list, description="Of the cells, Å³/atom")
    energies: list[float] = Field(default_factory=list, description="Of the cells, atoms relaxed, eV/atom")
    volume: float | None = shown(
        "Volume",
        "Å³/atom",
        3,
        detail=True,
        description="At the minimum, Å³/atom; null, as the next three, if there is none",
    )
    energy: Annotated[float | None, Unit("eV/atom")] = Field(None, description="At the minimum, eV/atom")
    bulk_modulus_gpa: float | None = shown(
        "Bulk modulus",
        "GPa",
        1,
        "of equal strains (Voigt), 0 K",
        goal="max",
        scale=(0.0, 400.0),
        description="At the minimum, GPa; equal strains (Voigt)",
    )
    bulk_modulus_derivative: float | None = shown(
        "Its derivative by pressure", digits=2, detail=True, description="By pressure at the minimum, dimensionless"
    )
    residual: Annotated[float | None, Unit("eV/atom")] = Field(
        None, description="Root mean square of what the fit leaves, eV/atom"
    )
    converged: bool = Field(False, description="Whether the atoms of every cell reached fmax")
    doubts: list[Reason] = Field(default_factory=list, description="Why the fit may mean little; empty if it is good")


@dataclass(frozen=True)
class EquationOfState(Property[EquationOfStateDocument]):
    """Equation of state from cells of several volumes and one shape, atoms relaxed in each.

    Attributes:
        strains: of the volume, at least five.
        form: birch-murnaghan or vinet.
        fmax: eV/Å, to which the atoms relax in each cell.
        max_steps: optimiser steps of each cell.
    """

    name: ClassVar[str] = "equation_of_state"
    example: ClassVar[str] = "Cu.cif"
    document: ClassVar[type[Document]] = EquationOfStateDocument
    starts_from_rest: ClassVar[bool] = True
    figures: ClassVar[str] = "dpa4_flows.report.figures_properties:equations_of_state"

    strains: tuple[float, ...] = STRAINS
    form: Form = "birch-murnaghan"
    fmax: float = 0.005
    max_steps: int = 500

    def check(self) -> None:
        self._options()
        if len(self.strains) < MIN_POINTS:
            raise DPA4Error(f"an equation of state needs at least {MIN_POINTS} strains, not {len(self.strains)}")

    def _options(self) -> RelaxOptions:
        # a cell that went down elsewhere would have the energy of another structure
        return RelaxOptions(fmax=self.fmax, max_steps=self.max_steps, relax_cell=False, check_minimum=False)

    def plan(self, crystal: Crystal) -> Plan[EquationOfStateDocument]:
        cells = scaled(whole_crystal(crystal), self.strains)
        answers = yield {str(number): Relax(cell, self._options()) for number, cell in enumerate(cells)}
        results = [answers[str(number)] for number in range(len(cells))]
        had_room(results)
        pairs = [(c.volume / len(c), r) for c, r in zip(cells, results, strict=True) if r.error is None]
        failed = [result.error for result in results if result.error is not None]
        if len(pairs) < MIN_POINTS:
            raise PlanError(f"{len(failed)} of {len(cells)} cells failed: {[*failed, 'too few strains'][0]}", "too_few")
        volumes = [volume for volume, _ in pairs]
        energies = [result.energy / len(crystal.structure) for _, result in pairs]
        fit = fit_equation_of_state(volumes, energies, self.form)
        doubts = [Reason(code=doubt.code, sentence=doubt.sentence) for doubt in fit.doubts]
        if failed:
            words = f"{len(failed)} of {len(cells)} cells failed: {failed[0]}"
            doubts.append(Reason(code="cells_failed", sentence=words))
        doubts += cells_not_converged([result for _, result in pairs], self.fmax)
        return EquationOfStateDocument(
            formula=crystal.structure.composition.reduced_formula,
            form=self.form,
            volumes=volumes,
            energies=energies,
            volume=fit.volume,
            energy=fit.energy,
            bulk_modulus_gpa=fit.bulk_modulus_gpa,
            bulk_modulus_derivative=fit.bulk_modulus_derivative,
            residual=fit.residual,
            converged=all(result.converged for result in results),
            doubts=doubts,
            provenance=self.origin(crystal),
        )

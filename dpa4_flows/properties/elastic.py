"""Elastic tensor: the strained cells of all crystals relax in the same force calls."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pymatgen.core import Structure

from dpa4_core.errors import DPA4Error
from dpa4_core.relax import Relax, RelaxOptions
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.analysis.elasticity import (
    STRAINS,
    alike_by_symmetry,
    elastic_deformations,
    fit_elastic_tensor,
    structure_under,
)
from dpa4_flows.analysis.stability import primitive_cell
from dpa4_flows.compute.plan import Crystal, Plan, PlanError
from dpa4_flows.documents.stability import ElasticPart
from dpa4_flows.properties.part import StabilityProperty, whole_crystal

LOOSE_GPA = 0.5
"""Under a stress of some share of the moduli the criteria for a free crystal do not hold: what costs energy then are
eigenvalues less up to twice the stress (D. C. Wallace, Thermodynamics of Crystals (1972))."""


@dataclass(frozen=True)
class Elastic(StabilityProperty[ElasticPart]):
    """Elastic tensor of a relaxed crystal from four magnitudes of each of six strains, atoms relaxed in each cell.

    Of strained cells that the symmetry of the crystal makes the same, one is computed: 6 of 24 in cubic crystals.

    Attributes:
        fmax: eV/Å, of the atoms in the strained cells.
        max_steps: optimiser steps of each strained cell.
        strains: magnitudes of each strain.
    """

    name: ClassVar[str] = "elastic"
    example: ClassVar[str] = "Cu.cif -o run"
    document: ClassVar[type[ElasticPart]] = ElasticPart
    version: ClassVar[int] = 2

    fmax: float = 1e-3
    max_steps: int = 500
    strains: tuple[float, ...] = STRAINS

    def check(self) -> None:
        self._options()
        if not self.strains or 0 in self.strains:
            raise DPA4Error("strains must be magnitudes other than 0")

    def _options(self) -> RelaxOptions:
        # a strained cell that went down elsewhere has the stress of another structure
        return RelaxOptions(fmax=self.fmax, max_steps=self.max_steps, relax_cell=False, check_minimum=False)

    def cost(self, crystal: Crystal) -> tuple[int, int]:
        cell = self._cell(crystal)
        n = 1 + len({one.first for one in alike_by_symmetry(cell, elastic_deformations(self.strains))})
        return n, n * len(cell)

    def _cell(self, crystal: Crystal) -> Structure:
        """Raises:
        PlanError: nothing is known of its symmetry.
        """
        structure = whole_crystal(crystal)
        try:
            return primitive_cell(structure)
        except ValueError as error:
            raise PlanError(f"no symmetry found: {error}", "no_symmetry") from error

    def plan(self, crystal: Crystal) -> Plan[ElasticPart]:
        cell = self._cell(crystal)
        deformations = elastic_deformations(self.strains)
        alike = alike_by_symmetry(cell, deformations)
        strained = {str(i): structure_under(cell, deformations[i]) for i in sorted({one.first for one in alike})}
        found = yield {name: Relax(one, self._options()) for name, one in {"rest": cell, **strained}.items()}
        results = list(found.values())
        failed = [result.error for result in results if result.error is not None]
        if failed:
            raise PlanError(f"{len(failed)} of {len(results)} strained cells failed: {failed[0]}", "not_computed")
        rest = found["rest"].stress
        stresses = [one.turn @ found[str(one.first)].stress @ one.turn.T for one in alike]
        tensor = fit_elastic_tensor(cell, deformations, stresses, rest)
        unconverged = sum(not result.converged for result in results)
        warnings = []
        if unconverged:
            warnings.append(
                f"{unconverged} of {len(results)} strained cells did not reach {self.fmax:g} eV/Å: raise max_steps"
            )
        left = float(np.abs(rest).max()) * EV_PER_ANGSTROM3_TO_GPA
        if left > LOOSE_GPA:
            warnings.append(f"a stress of {left:.2f} GPa is left on the cell: relax it before an elastic calculation")
        stability = tensor.stability
        verdict: Literal["stable", "marginal", "unstable"] = "stable" if stability.stable else "unstable"
        if stability.marginal or abs(stability.eigenvalues_gpa[0]) <= 2 * left or (unconverged and stability.stable):
            verdict = "marginal"
        return ElasticPart(
            verdict=verdict,
            reason="; ".join([stability.reason, *warnings]) if verdict == "marginal" else stability.reason,
            converged=not unconverged and left <= LOOSE_GPA,
            warnings=warnings,
            crystal_system=tensor.crystal_system,
            c_ij_gpa=tensor.c_ij_gpa.tolist(),
            eigenvalues_gpa=list(stability.eigenvalues_gpa),
            failed_criteria=list(stability.failed),
            asymmetry_gpa=tensor.asymmetry_gpa,
            nonlinearity=tensor.nonlinearity,
            provenance=self.origin(crystal),
            **({} if tensor.moduli is None else dataclasses.asdict(tensor.moduli)),
        )

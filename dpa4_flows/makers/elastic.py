"""Elastic tensors of many crystals: the strained cells of all of them relax in the same force calls."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from pymatgen.core import Structure

from dpa4_core.model.info import ModelInfo
from dpa4_core.potential import PotentialLike
from dpa4_core.relax import RelaxResult, relax
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.analysis.elasticity import elastic_deformations, fit_elastic_tensor, structure_under
from dpa4_flows.analysis.stability import primitive_cell
from dpa4_flows.makers.parts import PartMaker
from dpa4_flows.provenance import provenance
from dpa4_flows.schemas_stability import ElasticPart

LOOSE_GPA = 0.5
"""Under a stress of some share of the moduli the criteria for a free crystal do not hold."""


@dataclass
class BatchElasticMaker(PartMaker[ElasticPart]):
    """Elastic tensor of relaxed crystals from four magnitudes of each of six strains, atoms relaxed in each cell.

    Args:
        name: name of the job.
        model: potential.
        max_atoms_per_batch: atoms computed at the same time; None leaves it to the device.
        fmax: eV/Å, of the atoms in the strained cells.
        max_steps: optimiser steps of each strained cell.
        strains: magnitudes of each strain.
    """

    name: str = "DPA4 elastic"
    fmax: float = 1e-3
    max_steps: int = 500
    strains: tuple[float, ...] = (-0.01, -0.005, 0.005, 0.01)

    def settings(self) -> dict[str, Any]:
        return {
            "calculation": "elastic",
            "fmax": float(self.fmax),
            "max_steps": int(self.max_steps),
            "strains": [float(strain) for strain in self.strains],
            "dtype": self.model.dtype,
        }

    @property
    def document(self) -> type[ElasticPart]:
        return ElasticPart

    def _work(self, structure: Structure) -> int:
        return 6 * len(self.strains) * len(structure)

    def _compute(self, structures: list[Structure], potential: PotentialLike, info: ModelInfo) -> list[ElasticPart]:
        deformations = [np.eye(3), *elastic_deformations(self.strains)]
        prepared: list[Structure | str] = []
        for structure in structures:
            try:
                prepared.append(primitive_cell(structure))
            except ValueError as error:
                prepared.append(f"no symmetry found: {error}")
        cells = [cell for cell in prepared if isinstance(cell, Structure)]
        results = iter(
            relax(
                [structure_under(cell, deformation) for cell in cells for deformation in deformations],
                potential,
                fmax=self.fmax,
                max_steps=self.max_steps,
                relax_cell=False,
                check_minimum=False,  # a strained cell that went down elsewhere has the stress of another structure
                max_atoms_per_batch=self._budget(potential),
            )
        )
        return [
            self._failed(cell, info)
            if isinstance(cell, str)
            else self._part(cell, deformations[1:], [next(results) for _ in deformations], info)
            for cell in prepared
        ]

    def _failed(self, sentence: str, info: ModelInfo) -> ElasticPart:
        return ElasticPart(
            verdict="unknown",
            reason=sentence,
            error=sentence,
            converged=False,
            provenance=provenance(info, self.settings()),
        )

    def _part(
        self, cell: Structure, deformations: list[np.ndarray], results: list[RelaxResult], info: ModelInfo
    ) -> ElasticPart:
        failed = [result.error for result in results if result.error is not None]
        if failed:
            return self._failed(f"{len(failed)} of {len(results)} strained cells failed: {failed[0]}", info)
        stresses = [result.stress for result in results if result.stress is not None]
        found = fit_elastic_tensor(cell, deformations, stresses[1:], stresses[0])
        unconverged = sum(not result.converged for result in results)
        warnings = []
        if unconverged:
            warnings.append(
                f"{unconverged} of {len(results)} strained cells did not reach {self.fmax:g} eV/Å: raise max_steps"
            )
        rest = float(np.abs(stresses[0]).max()) * EV_PER_ANGSTROM3_TO_GPA
        if rest > LOOSE_GPA:
            warnings.append(f"a stress of {rest:.2f} GPa is left on the cell: relax it before an elastic calculation")
        stability = found.stability
        return ElasticPart(
            verdict="unstable" if not stability.stable else "marginal" if stability.marginal else "stable",
            reason=stability.reason,
            converged=not unconverged and rest <= LOOSE_GPA,
            warnings=warnings,
            crystal_system=found.crystal_system,
            c_ij_gpa=found.c_ij_gpa.tolist(),
            eigenvalues_gpa=list(stability.eigenvalues_gpa),
            failed_criteria=list(stability.failed),
            asymmetry_gpa=found.asymmetry_gpa,
            nonlinearity=found.nonlinearity,
            provenance=provenance(info, self.settings()),
            **({} if found.moduli is None else dataclasses.asdict(found.moduli)),
        )

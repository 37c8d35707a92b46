"""Harmonic phonons: the displaced supercells of all crystals are computed in the same force calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from dpa4_core.relax import Static
from dpa4_flows.analysis.force_constants import DISPLACEMENT, PhononCalculation
from dpa4_flows.analysis.phonons import dynamical_stability, thermal_properties
from dpa4_flows.compute.plan import NO_NUMBER, Crystal, Plan, PlanError
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.stability import PhononPart, ThermalRow
from dpa4_flows.extras import require_extra
from dpa4_flows.properties.limits import check_positive
from dpa4_flows.properties.part import StabilityProperty, whole_crystal

TEMPERATURES = (0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 800.0, 1000.0)
"""K."""
LOOSE_FMAX = 5e-3
"""eV/Å; forces beyond this on the undisplaced atoms say that the crystal was not relaxed tightly enough."""


def supercells(
    structure: Structure,
    min_length: float,
    displacement: float,
    max_atoms: int,
    matrix: NDArray[np.int64] | None = None,
) -> PhononCalculation:
    """The displaced supercells of a crystal; arguments as of `PhononCalculation`.

    Raises:
        PlanError: they would be too large.
    """
    try:
        return PhononCalculation(
            structure, min_length=min_length, displacement=displacement, max_atoms=max_atoms, supercell_matrix=matrix
        )
    except ValueError as error:
        raise PlanError(str(error), "no_supercell") from error


def requests(calculation: PhononCalculation) -> dict[str, Static]:
    """What a calculation of phonons needs: the crystal at rest, and its displaced supercells."""
    return {str(i): Static(cell) for i, cell in enumerate([calculation.primitive, *calculation.displaced])}


def forces_of(results: Sequence[Any]) -> list[NDArray[np.float64]]:
    """Forces of supercells, eV/Å.

    Raises:
        PlanError: one of them failed.
    """
    if wrong := [result.error for result in results if result.error is not None]:
        raise PlanError(f"a displaced supercell could not be computed: {wrong[0]}", "not_computed")
    return [result.forces for result in results]


def set_forces(calculation: PhononCalculation, results: Sequence[Any]) -> float:
    """Hand over the answers to `requests`, in their order.

    Returns:
        eV/Å, the largest force that was left on an atom at rest.

    Raises:
        PlanError: one of them failed.
    """
    at_rest, *displaced = forces_of(results)
    calculation.set_forces(displaced, at_rest)
    return float((at_rest**2).sum(axis=1).max() ** 0.5)


def not_at_rest(rest: float, remedy: str = "relax more tightly before phonons") -> list[Reason]:
    """The doubt that forces of this size on undisplaced atoms, eV/Å, raise, if they do."""
    if rest <= LOOSE_FMAX:
        return []
    words = f"forces of {rest:.3f} eV/Å on undisplaced atoms: {remedy}"
    return [Reason(code="not_at_rest", sentence=words)]


@dataclass(frozen=True)
class Phonons(StabilityProperty[PhononPart]):
    """Harmonic phonons of a relaxed crystal by finite displacements (phonopy; ``pip install 'dpa4-flows[phonons]'``).

    Attributes:
        min_length: Å, shortest distance between an atom and its image in the supercell.
        displacement: Å, of one atom.
        mesh_length: Å; there are about ``mesh_length`` / (lattice constant) wave vectors along each axis.
        temperatures_k: K, of the thermal properties.
        mode_amplitude: Å, largest displacement of an atom in the structures along an imaginary mode.
        max_supercell_atoms: a crystal that needs a larger supercell has an error instead.
        force_constants_folder: gets a phonopy YAML file with force constants for each crystal that is computed.
    """

    name: ClassVar[str] = "phonons"
    example: ClassVar[str] = "Si.cif --min-length 8"
    document: ClassVar[type[PhononPart]] = PhononPart
    version: ClassVar[int] = 2
    figures: ClassVar[str] = "dpa4_flows.report.figures_properties:heat_capacities"

    min_length: float = 10.0
    displacement: float = DISPLACEMENT
    mesh_length: float = 60.0
    temperatures_k: tuple[float, ...] = TEMPERATURES
    mode_amplitude: float = 0.1
    max_supercell_atoms: int = field(default=1000, metadata=NO_NUMBER)
    force_constants_folder: str | None = field(default=None, metadata=NO_NUMBER)

    def check(self) -> None:
        check_positive(self, "min_length", "displacement", "mesh_length", "mode_amplitude", "max_supercell_atoms")
        require_extra("phonons", "a calculation of phonons")

    def cost(self, crystal: Crystal) -> tuple[int, int]:
        made = supercells(whole_crystal(crystal), self.min_length, self.displacement, self.max_supercell_atoms)
        return 1 + len(made.displaced), len(made.primitive) + len(made.displaced) * made.n_atoms

    def plan(self, crystal: Crystal) -> Plan[PhononPart]:
        self.check()
        calculation = supercells(whole_crystal(crystal), self.min_length, self.displacement, self.max_supercell_atoms)
        found = yield requests(calculation)
        rest = set_forces(calculation, list(found.values()))
        mesh = calculation.mesh(self.mesh_length)
        stability = dynamical_stability(mesh, calculation.commensurate(), calculation.near_gamma)
        warnings = [doubt.sentence for doubt in not_at_rest(rest)]
        unstable, at_rest = stability.verdict == "unstable", rest <= LOOSE_FMAX
        thermal = [] if unstable else thermal_properties(mesh, self.temperatures_k)
        if thermal and stability.imaginary_fraction > 0:
            warnings.append("imaginary modes are left out of the thermal properties")
        starts = calculation.displaced_along(stability.lowest_q, self.mode_amplitude) if unstable else []
        self._save(calculation, crystal)
        facts = dataclasses.asdict(stability)
        if not (at_rest or unstable):  # the curvature where forces do not vanish says nothing of a minimum
            facts |= {"verdict": "marginal", "reason": f"{stability.reason}; {warnings[0]}"}
        return PhononPart(
            **{**facts, "gamma_optical_thz": list(stability.gamma_optical_thz), "lowest_q": list(stability.lowest_q)},
            converged=at_rest,
            warnings=warnings,
            acoustic_noise_thz=calculation.acoustic_noise_thz,
            n_displacements=len(calculation.displaced),
            n_supercell_atoms=calculation.n_atoms,
            supercell_length=calculation.supercell_length,
            supercell_matrix=calculation.supercell_matrix.tolist(),
            thermal=[ThermalRow(**dataclasses.asdict(row)) for row in thermal],
            along_mode=[start.as_dict() for start in starts],
            provenance=self.origin(crystal),
        )

    def _save(self, calculation: PhononCalculation, crystal: Crystal) -> None:
        if self.force_constants_folder is None:
            return
        folder = Path(self.force_constants_folder)
        folder.mkdir(parents=True, exist_ok=True)
        key = self.key(crystal, crystal.model) or ""
        formula = crystal.structure.composition.reduced_formula
        calculation.save(folder / f"{formula}-{key.split()[-1][:8]}.phonopy.yaml")

"""DPA4 for everything that takes an ASE calculator."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from dpa4_core.batches import predictions_of
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import StructureError, check_distance_ratio, check_system, to_system
from dpa4_core.loaded import as_potential
from dpa4_core.potential import PotentialLike

MIN_DISTANCE_RATIO = 0.1
"""Lower than in `predict`: atoms of a trajectory may collide, but not lie on top of each other."""


class DPA4Calculator(Calculator):
    """ASE calculator with energy, energies per atom, forces and, for periodic systems, stress.

    Axes are periodic or not as ``atoms.pbc`` says; the stress of slabs and chains is zero along open axes, and refers
    to the volume of the cell, in which a missing vector counts as 1 Å. Total charge
    and spin multiplicity are read from ``atoms.info["charge"]`` and ``atoms.info["spin"]``; only models that
    were trained with them respond. Models given by name or path are loaded once per process, and copies share
    the network.

    Args:
        potential: registry name, path, or a potential.
        device: "cpu", "cuda", ...; for names and paths.
        dtype: "float32" or "float64"; for names and paths.
        dispersion: name of what is added for dispersion, see `dpa4_core.load`; None for nothing.
        min_distance_ratio: atoms closer than this fraction of the sum of covalent radii are an error; 0 allows
            everything.

    Raises:
        DPA4Error: an option that makes no sense, no such model.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012  (of ASE)

    def __init__(
        self,
        potential: PotentialLike | str | Path = "dpa4-neo",
        device: str = "cpu",
        dtype: str = "float32",
        *,
        dispersion: str | None = None,
        min_distance_ratio: float = MIN_DISTANCE_RATIO,
    ) -> None:
        super().__init__()
        self.potential = as_potential(potential, device, dtype, dispersion=dispersion)
        check_distance_ratio(min_distance_ratio)
        self.min_distance_ratio = min_distance_ratio

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute all properties at once; ASE calls this when the atoms changed.

        Raises:
            StructureError: the atoms cannot be computed (unknown element, NaN, singular cell, overlap).
            CalculationFailed: the potential gives no finite energy and forces.
        """
        super().calculate(atoms, properties, system_changes)
        system = to_system(self.atoms)
        problem = check_system(system, self.potential.elements, min_distance_ratio=self.min_distance_ratio)
        if problem is not None:
            raise StructureError(problem)
        output = self.potential.compute(build_graph([system], self.potential.cutoff, self.potential.device))
        (found,) = predictions_of(output, [system])
        if found.error is not None:
            raise CalculationFailed(f"{found.error}: {self.atoms.symbols}")
        self.results = {"energy": found.energy, "free_energy": found.energy, "forces": found.forces}
        if found.atom_energies is not None:
            self.results["energies"] = found.atom_energies
        if found.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(found.stress)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, of all that an energy depends on.

        The comparison of ASE takes as long as a step of dynamics does otherwise, several times per step; it also looks
        at charges and moments of atoms, which no potential here reads, and not at ``info``, where charge and spin are.
        """
        last = self.atoms
        if last is None:
            return list(all_changes)
        changes = [
            name
            for name, new, old in (
                ("positions", atoms.positions, last.positions),
                ("numbers", atoms.numbers, last.numbers),
                ("cell", atoms.cell.array, last.cell.array),
                ("pbc", atoms.pbc, last.pbc),
            )
            if not np.array_equal(new, old)
        ]
        if any(not np.array_equal(atoms.info.get(key), last.info.get(key)) for key in ("charge", "spin")):
            changes.append("charge and spin")
        return changes

    def __deepcopy__(self, memo: dict[int, Any]) -> DPA4Calculator:
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        memo[id(self.potential)] = self.potential
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

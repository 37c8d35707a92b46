"""Forces, virial and stress against central differences of the energy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from dpa4_core.data.structures import System
from dpa4_core.potential import PotentialLike
from dpa4_core.testing.compare import TOLERANCE, assert_close, refine
from dpa4_core.testing.samples import as_systems, evaluate, moved

STENCIL = {-2: 1 / 12, -1: -8 / 12, 1: 8 / 12, 2: -1 / 12}
"""Weights of the five-point first derivative, error O(h⁴)."""
ATOMS_CHECKED = 4


def check_forces_against_differences(
    potential: PotentialLike, structures: Sequence[Any] | None = None, *, tolerance: float = TOLERANCE
) -> None:
    """Forces are minus the derivative of the energy, for every coordinate of a few atoms."""
    rng = np.random.default_rng(5)
    for label, system in as_systems(structures, potential).items():
        atoms = rng.permutation(len(system.numbers))[:ATOMS_CHECKED]
        coordinates = [(int(atom), axis) for atom in atoms for axis in range(3)]
        refine(partial(_compare_forces, potential, system, coordinates, tolerance, label), tolerance, times=2)


def check_stress_against_differences(
    potential: PotentialLike, structures: Sequence[Any] | None = None, *, tolerance: float = TOLERANCE
) -> None:
    """Virial (of any system) and stress (along periodic axes) are derivatives with respect to all strains."""
    for label, system in as_systems(structures, potential).items():
        refine(partial(_compare_stress, potential, system, tolerance, label), tolerance, times=2)


def _compare_forces(
    potential: PotentialLike,
    system: System,
    coordinates: list[tuple[int, int]],
    tolerance: float,
    label: str,
    step: float,
) -> None:
    changed = []
    for atom, axis in coordinates:
        unit = np.zeros_like(system.positions)
        unit[atom, axis] = step
        changed += [moved(system, system.positions + k * unit) for k in STENCIL]
    slopes = _slopes(potential, changed, step)
    forces = evaluate(potential, [system])[0].forces
    for (atom, axis), slope in zip(coordinates, slopes, strict=True):
        what = f"force along {'xyz'[axis]} on atom {atom} of {label}"
        # Two energies that are good to `tolerance`, divided by the step.
        assert_close(forces[atom, axis], -slope, 2 * tolerance / step, what, "eV/Å")


def _compare_stress(potential: PotentialLike, system: System, tolerance: float, label: str, step: float) -> None:
    # Neighbours at half the cutoff are displaced by `step`.
    step = step / (0.5 * potential.cutoff)
    changed = []
    for component in np.ndindex(3, 3):
        strain = np.zeros((3, 3))
        strain[component] = step
        changed += [_strained(system, k * strain) for k in STENCIL]
    gradient = _slopes(potential, changed, step).reshape(3, 3)
    result = evaluate(potential, [system])[0]
    allowed = 2 * tolerance * len(system.numbers) / step
    assert_close(result.virial, -gradient, allowed, f"virial of {label}", "eV")
    if result.stress is not None:
        repeats = system.cell[system.pbc]
        span = np.linalg.pinv(repeats) @ repeats  # open axes have no strain
        gradient = span @ gradient @ span
        volume = system.volume
        assert_close(result.stress, gradient / volume, allowed / volume, f"stress of {label}", "eV/Å³")
        assert_close(result.stress, result.stress.T, tolerance, f"transposed stress of {label}", "eV/Å³")


def _strained(system: System, strain: np.ndarray) -> System:
    deformation = np.eye(3) + strain
    return moved(system, system.positions @ deformation.T, system.cell @ deformation.T)


def _slopes(potential: PotentialLike, changed: list[System], step: float) -> np.ndarray:
    """Derivatives from consecutive groups of energies on the stencil."""
    energies = np.array([result.energy for result in evaluate(potential, changed)])
    return energies.reshape(-1, len(STENCIL)) @ np.array(list(STENCIL.values())) / step

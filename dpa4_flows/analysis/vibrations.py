"""Vibrations of an adsorbate on atoms that stay where they are, and its free energy as harmonic oscillators.

Each atom of the adsorbate goes a little way along each axis and back; differences of forces give its Hessian. The free
energy is Σ [ε/2 + ε/(exp(ε/kT) − 1)] − TS with S of independent oscillators (T. L. Hill, An Introduction to Statistical
Thermodynamics (1960); C. J. Cramer, Essentials of Computational Chemistry (2004), 10.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import numpy as np
from ase.data import atomic_masses
from ase.units import _amu, _e, _hbar
from numpy.typing import NDArray
from pymatgen.core import Structure

from dpa4_core.data.structures import to_system
from dpa4_core.units import BOLTZMANN_EV_K

Array = NDArray[np.float64]
Move = tuple[int, int, int]
"""Atom of the adsorbate, axis, and 1 or −1."""

STEP = 0.01
"""Å, of the displacements."""
KT = BOLTZMANN_EV_K * 298.15
"""eV."""
LOWEST = 0.0062
"""eV, 50 cm⁻¹: modes below it move freely rather than vibrate, and harmonic entropy knows no bound."""
_TO_EV = _hbar * 1e10 / np.sqrt(_e * _amu)
"""ħ√(1 eV/Å²/u), eV."""


class HarmonicEnergy(NamedTuple):
    """Of one adsorbate, eV: zero-point energy, heat content and TS at 298.15 K."""

    zero_point: float
    heat: float
    ts: float

    @property
    def total(self) -> float:
        return self.zero_point + self.heat - self.ts


def moved(structure: Structure, n_atoms: int, step: float = STEP) -> dict[Move, Structure]:
    """The structure with each of its last ``n_atoms`` atoms ``step`` Å along each axis, to both sides."""
    found = {}
    for atom, axis, sign in product(range(n_atoms), range(3), (1, -1)):
        copy = structure.copy()
        copy.translate_sites([len(structure) - n_atoms + atom], sign * step * np.eye(3)[axis], frac_coords=False)
        found[atom, axis, sign] = copy
    return found


def mode_energies(structure: Structure, forces: Mapping[Move, Array], step: float = STEP) -> Array:
    """Energies of the modes [3 n], eV, the lowest first; those of imaginary ones are negative.

    Args:
        structure: whose last n atoms vibrate.
        forces: [n_all, 3], eV/Å, by the move, as of `moved`.
        step: of the moves, Å.
    """
    n = len(forces) // 6
    system = to_system(structure)
    masses = (atomic_masses[system.numbers] if system.masses is None else system.masses)[-n:].repeat(3)
    rows = [
        (forces[atom, axis, -1][-n:] - forces[atom, axis, 1][-n:]).ravel() / (2 * step)
        for atom, axis in product(range(n), range(3))
    ]
    hessian = (np.array(rows) + np.array(rows).T) / 2
    curvatures = np.linalg.eigvalsh(hessian / np.sqrt(masses[:, None] * masses))
    return np.asarray(np.sign(curvatures) * np.sqrt(np.abs(curvatures)) * _TO_EV)


def harmonic(energies: Array) -> HarmonicEnergy:
    """Free energy of modes at 298.15 K, those below `LOWEST` as if they were there; imaginary ones have none."""
    modes = np.maximum(energies[energies > 0], LOWEST)
    x = modes / KT
    occupied = 1 / np.expm1(x)
    entropy = x * occupied - np.log1p(-np.exp(-x))
    return HarmonicEnergy(float(modes.sum() / 2), float(modes @ occupied), float(KT * entropy.sum()))

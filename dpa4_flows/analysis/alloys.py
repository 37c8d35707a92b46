"""Mixing and lattice constants of a substitutional alloy A(1-x)B(x), from energies and cells of a few compositions.

    ΔH(x) = E(x) − (1−x) E(0) − x E(1)  ≈  Ω x (1−x)          regular solution, per mole of the sites that mix
    T_c = Ω / 2R                                              top of its miscibility gap, at x = 1/2
    a(x) = (1−x) a(0) + x a(1) − b x (1−x)                    Vegard's line and the bowing b

(E. A. Guggenheim, Mixtures, Oxford (1952)). Ω counts the sites that mix, gallium's and indium's of GaInAs, and not all
atoms: of energies per atom it would be half as large there, and T_c with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from dpa4_flows.analysis.facets import symmetry

KJ_MOL_PER_EV = 96.48533212
GAS_CONSTANT_KJ_MOL_K = 8.314462618e-3


@dataclass(frozen=True)
class RegularSolution:
    """What a regular solution says of mixing enthalpies.

    Attributes:
        omega_kj_mol: Ω, kJ per mole of mixing sites.
        critical_temperature_k: T_c, K; None where mixing gives heat off, so that nothing separates.
        misfit: largest deviation of an enthalpy from Ω x (1−x), in units of the largest enthalpy.
    """

    omega_kj_mol: float
    critical_temperature_k: float | None
    misfit: float


def regular_solution(fractions: Sequence[float], enthalpies: Sequence[float]) -> RegularSolution:
    """Least squares of Ω x (1−x).

    Args:
        fractions: x, of each alloy.
        enthalpies: of mixing, eV per site that mixes.
    """
    x, heat = np.array(fractions), np.array(enthalpies)
    shape = x * (1 - x)
    omega = float(shape @ heat / (shape @ shape))
    largest = float(np.abs(heat).max())
    kj = omega * KJ_MOL_PER_EV
    return RegularSolution(
        omega_kj_mol=kj,
        critical_temperature_k=kj / (2 * GAS_CONSTANT_KJ_MOL_K) if kj > 0 else None,
        misfit=float(np.abs(heat - omega * shape).max() / largest) if largest > 0 else 0.0,
    )


def bowing(fractions: Sequence[float], values: Sequence[float], first: float, last: float) -> float:
    """B of ``values`` = (1−x) first + x last − b x (1−x), by least squares, in the unit of the values."""
    x = np.array(fractions)
    shape = x * (1 - x)
    below = (1 - x) * first + x * last - np.array(values)
    return float(shape @ below / (shape @ shape))


def mean_lattice(parent: Structure, matrix: NDArray[np.int64], relaxed: Lattice) -> Lattice:
    """Conventional lattice that a relaxed supercell of a parent has on average.

    The strain of the supercell is averaged over the point group of the parent: a quasi-random cell is strained a little
    out of the symmetry that the alloy has.

    Args:
        parent: primitive cell, ordered.
        matrix: [3, 3], rows of the supercell in terms of those of the parent.
        relaxed: lattice of the supercell.
    """
    found = symmetry(parent)
    own = parent.lattice.matrix
    deformation = np.linalg.solve(matrix @ own, relaxed.matrix)  # of rows: new = old @ deformation
    square = deformation @ deformation.T
    rotations = [own.T @ rotation @ np.linalg.inv(own.T) for rotation in found.rotations]
    square = np.mean([rotation @ square @ rotation.T for rotation in rotations], axis=0)
    values, vectors = np.linalg.eigh(square)
    stretch = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    return Lattice(found.std_lattice @ found.std_rotation_matrix @ stretch)

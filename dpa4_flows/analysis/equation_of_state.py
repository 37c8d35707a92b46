"""Equation of state: energy against volume, and the volume, bulk modulus and its derivative at the minimum.

    cells = scaled(structure, STRAINS)
    # relax the atoms of each in its fixed cell, take the energies; then
    fit = fit_equation_of_state([cell.volume / len(cell) for cell in cells], energies_per_atom)
    print(fit.bulk_modulus_gpa, [doubt.sentence for doubt in fit.doubts])

Cells keep their shape: of a crystal that is not cubic the bulk modulus is that of equal strains (Voigt), an upper bound
of what a hydrostatic pressure measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure
from scipy.optimize import least_squares

from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA

Array = NDArray[np.float64]
Form = Literal["birch-murnaghan", "vinet"]

STRAINS = (-0.06, -0.04, -0.02, 0.0, 0.02, 0.04, 0.06)
"""Of the volume: the range of K. Lejaeghere et al., Science 351, aad3000 (2016)."""
GOOD_RESIDUAL = 5e-4
"""eV/atom. Solids stay below a tenth of it within ±6 % of volume."""
GOOD_SHARE = 0.02
"""Residual as a share of the spread of the energies; decides for soft solids, whose energies hardly differ."""
JUMP = 1e-3
"""eV/atom, below which a step is not told from the anharmonicity that the form leaves out."""
MIN_POINTS = 5
MIN_POINTS_JUMP = 7
"""A step needs a parameter more than the four of the form, and points to spare."""


@dataclass(frozen=True)
class Doubt:
    """Why a fit may mean little: a code for programs, a sentence for people."""

    code: Literal["no_minimum", "minimum_outside", "poor_fit", "energy_jumps"]
    sentence: str


@dataclass(frozen=True)
class EquationOfState:
    """A fitted equation of state, of one atom.

    Attributes:
        form: of the fit.
        volume: Å³/atom at the minimum; None, as the next three, if the energies have none.
        energy: eV/atom at the minimum.
        bulk_modulus_gpa: GPa at the minimum.
        bulk_modulus_derivative: by pressure, at the minimum.
        residual: root mean square of what the fit leaves, eV/atom.
        doubts: none for a fit that can be quoted.
    """

    form: Form
    volume: float | None
    energy: float | None
    bulk_modulus_gpa: float | None
    bulk_modulus_derivative: float | None
    residual: float
    doubts: tuple[Doubt, ...]


def scaled(structure: Structure, strains: Sequence[float] = STRAINS) -> list[Structure]:
    """The structure with its volume changed by a share of it, shape and fractional coordinates kept.

    Raises:
        ValueError: for a strain of −1 or less, which leaves no volume.
    """
    if min(strains, default=0.0) <= -1:
        raise ValueError(f"a volume strain of {min(strains)} leaves no volume; strains must be above -1")
    cells = []
    for strain in strains:
        cell = structure.copy()
        cell.scale_lattice(structure.volume * (1 + strain))
        cells.append(cell)
    return cells


def fit_equation_of_state(
    volumes: Sequence[float], energies: Sequence[float], form: Form = "birch-murnaghan"
) -> EquationOfState:
    """Fit and judge.

    Args:
        volumes: Å³/atom, in any order.
        energies: eV/atom.
        form: third-order Birch-Murnaghan (F. Birch, Phys. Rev. 71, 809 (1947)), which is linear in its parameters, or
            the form of P. Vinet et al., J. Phys. Condens. Matter 1, 1941 (1989), for large compressions.

    Raises:
        ValueError: for fewer than five different volumes, or as many energies as volumes.
    """
    if len(volumes) != len(energies):
        raise ValueError(f"{len(volumes)} volumes, but {len(energies)} energies")
    if len(set(volumes)) < MIN_POINTS:
        raise ValueError(f"an equation of state has four parameters: {len(set(volumes))} volumes are too few, give 5")
    order = np.argsort(volumes)
    v, e = np.asarray(volumes, dtype=float)[order], np.asarray(energies, dtype=float)[order]
    terms = _terms(v, v.mean())
    coefficients = np.linalg.lstsq(terms, e, rcond=None)[0]
    minimum = _minimum(coefficients, v)
    residual = _rms(e - terms @ coefficients)
    if minimum is not None and form == "vinet":
        start = minimum
        minimum = least_squares(lambda p: vinet(v, *p) - e, start, x_scale=np.abs(start) + 1e-3, xtol=1e-12).x
        residual = _rms(e - vinet(v, *minimum))
    doubts = tuple(_doubts(v, e, minimum, residual))
    if minimum is None:
        return EquationOfState(form, None, None, None, None, residual, doubts)
    volume, energy, modulus, derivative = map(float, minimum)
    return EquationOfState(form, volume, energy, modulus * EV_PER_ANGSTROM3_TO_GPA, derivative, residual, doubts)


def birch_murnaghan(volume: Array, v0: float, e0: float, b0: float, b1: float) -> Array:
    """Energy in eV of the third-order form; Å³, eV, eV/Å³ and dimensionless."""
    f = (v0 / volume) ** (2 / 3) - 1
    return np.asarray(e0 + 9 / 16 * b0 * v0 * (f**3 * b1 + f**2 * (2 - 4 * f)))


def vinet(volume: Array, v0: float, e0: float, b0: float, b1: float) -> Array:
    x = np.cbrt(volume / v0)
    eta = 1.5 * (b1 - 1)
    return np.asarray(e0 + 2 * b0 * v0 / (b1 - 1) ** 2 * (2 - (5 + 3 * b1 * (x - 1) - 3 * x) * np.exp(eta * (1 - x))))


def _terms(volumes: Array, unit: float) -> Array:
    """[n, 4]: Birch-Murnaghan is a cubic in x = (V/unit)^(-2/3)."""
    return np.vander((volumes / unit) ** (-2 / 3), 4, increasing=True)


def _minimum(coefficients: Array, volumes: Array) -> Array | None:
    """V₀, E₀, B₀ and B₀′ of the cubic in x, or None if it has no minimum at a positive volume.

    With E(x): dE/dV = E′ x_V and so on, where x = (V/unit)^(-2/3).
    """
    unit = volumes.mean()
    cubic = np.polynomial.Polynomial(coefficients)
    first, second, third = cubic.deriv(1), cubic.deriv(2), cubic.deriv(3)
    roots = [complex(root) for root in first.roots()]
    minima = [r.real for r in roots if abs(r.imag) < 1e-12 and r.real > 0 and float(second(r.real)) > 0]
    if not minima:
        return None
    x = minima[0]  # of a cubic, the only one
    v0 = unit * x**-1.5
    x_v, x_vv = -2 / 3 * x / v0, 10 / 9 * x / v0**2
    e_vv = second(x) * x_v**2
    e_vvv = third(x) * x_v**3 + 3 * second(x) * x_v * x_vv
    return np.array([v0, cubic(x), v0 * e_vv, -1 - v0 * e_vvv / e_vv])


def _rms(left: Array) -> float:
    return float(np.sqrt(np.mean(left**2)))


# ---- doubts --------------------------------------------------------------------------------------------------------


def _doubts(v: Array, e: Array, minimum: Array | None, residual: float) -> list[Doubt]:
    span = f"{v[0]:.2f} to {v[-1]:.2f} Å³/atom"
    found = []
    if minimum is None:
        found.append(Doubt("no_minimum", f"the energy has no minimum near the volumes from {span}"))
    elif not v[0] <= minimum[0] <= v[-1]:
        words = f"the minimum at {minimum[0]:.2f} Å³/atom lies outside the volumes from {span}: relax the crystal first"
        found.append(Doubt("minimum_outside", words))
    jump = _jump(v, e, residual)
    if jump is not None:
        found.append(jump)
    elif residual > min(GOOD_RESIDUAL, GOOD_SHARE * float(np.ptp(e))):
        words = f"the fit leaves {1000 * residual:.2f} meV/atom of energies that differ by {1000 * np.ptp(e):.1f}"
        found.append(Doubt("poor_fit", words))
    return found


def _jump(v: Array, e: Array, residual: float) -> Doubt | None:
    """The one step, or the one energy off the curve, that explains nearly all of what the fit leaves.

    A step between two volumes is a change of structure or magnetism; a single energy is a failed relaxation.
    """
    if len(v) < MIN_POINTS_JUMP:
        return None
    steps = [(np.arange(len(v)) > i).astype(float) for i in range(len(v) - 1)]
    points = list(np.eye(len(v))[1:-1])  # at the ends it is a step, too
    best, size, place = residual, 0.0, 0
    for number, extra in enumerate(steps + points):
        terms = np.column_stack([_terms(v, v.mean()), extra])
        found = np.linalg.lstsq(terms, e, rcond=None)[0]
        left = _rms(e - terms @ found)
        if left < best:
            best, size, place = left, float(found[-1]), number
    if best > residual / 5 or abs(size) < JUMP:
        return None
    if place < len(steps):
        where = f"between {v[place]:.2f} and {v[place + 1]:.2f} Å³/atom"
        return Doubt("energy_jumps", f"the energy jumps by {1000 * size:+.1f} meV/atom {where}: two states, not one")
    where = f"at {v[place - len(steps) + 1]:.2f} Å³/atom"
    return Doubt("energy_jumps", f"the energy {where} lies {1000 * size:+.1f} meV/atom off the curve of the others")

"""Which unit or sign labels seem to have, by comparison with numbers that they should be equal to.

A label y should be x; it may have been stored as s·x with one of a few factors s that stand for a unit or a sign. The
factor is believed that leaves the smallest part of y unexplained, if "as it should be" leaves far more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpa4_core.units import BOHR_ANGSTROM, EV_PER_ANGSTROM3_TO_GPA, EV_PER_ANGSTROM3_TO_KBAR, KJ_PER_MOL_TO_EV

Array = NDArray[np.float64]

HARTREE_EV, KCAL_PER_KJ = 27.211386246, 1 / 4.184

ENERGY_UNITS = {
    "Hartree": 1 / HARTREE_EV,
    "Rydberg": 2 / HARTREE_EV,
    "kcal/mol": KCAL_PER_KJ / KJ_PER_MOL_TO_EV,
    "kJ/mol": 1 / KJ_PER_MOL_TO_EV,
    "meV": 1e3,
}
"""Factor from eV."""

FORCE_UNITS = {
    "Hartree/Bohr": BOHR_ANGSTROM / HARTREE_EV,
    "Rydberg/Bohr": 2 * BOHR_ANGSTROM / HARTREE_EV,
    "Hartree/Å": 1 / HARTREE_EV,
    "eV/Bohr": BOHR_ANGSTROM,
    "kcal/mol/Å": KCAL_PER_KJ / KJ_PER_MOL_TO_EV,
    "kJ/mol/Å": 1 / KJ_PER_MOL_TO_EV,
    "meV/Å": 1e3,
}
"""Factor from eV/Å."""

STRESS_UNITS = {
    "GPa": EV_PER_ANGSTROM3_TO_GPA,
    "kbar": EV_PER_ANGSTROM3_TO_KBAR,
    "MPa": 1e3 * EV_PER_ANGSTROM3_TO_GPA,
    "bar": 1e3 * EV_PER_ANGSTROM3_TO_KBAR,
    "Hartree/Bohr³": BOHR_ANGSTROM**3 / HARTREE_EV,
    "Rydberg/Bohr³": 2 * BOHR_ANGSTROM**3 / HARTREE_EV,
}
"""Factor from eV/Å³."""

_BELIEVED = 0.6
"""Unexplained part of the labels, relative, up to which a factor is believed: models of other levels of theory are
soft or stiff by a quarter.
"""

_ALIKE = 0.25
"""Relative difference of two factors below which both are named: Rydberg/Bohr and Hartree/Å differ by 6 %."""

_BETTER = 0.5
"""How much less than "as it should be" a factor leaves unexplained before it is named."""


class Guess(NamedTuple):
    """A factor and what it means.

    Attributes:
        code: "unit", "sign", "unit_and_sign", "per_atom" or "virial", for machines.
        unit: the unit that the labels seem to have, "" where it is not one.
        factor: stored label over right one.
        sentence: what to say, to follow "the forces ".
    """

    code: str
    unit: str
    factor: float
    sentence: str


@dataclass(frozen=True)
class Hypothesis:
    """Labels stored as ``scale`` [n] times what they should be."""

    code: str
    unit: str
    scale: Array
    sentence: str


def hypotheses(units: dict[str, float], n: int, opposite: str = "") -> list[Hypothesis]:
    """Labels of ``n`` entries in other units and, if ``opposite`` names that, with the other sign."""
    found = [Hypothesis("unit", unit, np.full(n, s), f"look like {unit}") for unit, s in units.items()]
    if opposite:
        found.append(Hypothesis("sign", "", np.full(n, -1.0), f"seem to have the opposite sign ({opposite})"))
        found += [
            Hypothesis("unit_and_sign", unit, np.full(n, -s), f"look like {unit} with the opposite sign ({opposite})")
            for unit, s in units.items()
        ]
    return found


def guess(labels: Array, expected: Array, others: Sequence[Hypothesis], free: Array | None = None) -> Guess | None:
    """What the labels seem to be instead of what they should be; None if nothing speaks against them.

    Args:
        labels, expected: [n], in the unit that they should have.
        others: what else they may be.
        free: [n, k] what may be added to ``expected`` with any weights: energies have an offset per element.
    """
    n = len(labels)
    if not n or not np.isfinite(labels).all() or not np.isfinite(expected).all():
        return None
    right = _unexplained(labels, expected, np.ones(n), free)
    if right is None:
        return None
    left = [(_unexplained(labels, expected, other.scale, free), other) for other in others]
    best, other = min(((part, other) for part, other in left if part is not None), key=lambda pair: pair[0])
    if best >= _BELIEVED or best >= _BETTER * right:
        return None
    factor, sentence = float(np.mean(other.scale)), other.sentence
    twins = [o.unit for _, o in left if o.code == other.code and o is not other and _alike(o.scale, other.scale)]
    if other.unit and twins:
        sentence = sentence.replace(other.unit, " or ".join([other.unit, *twins]), 1)
    return Guess(other.code, other.unit, factor, sentence)


def _alike(one: Array, other: Array) -> bool:
    """Whether two factors are too close to each other to be told apart."""
    return bool((np.abs(one / other - 1) < _ALIKE).all())


def _unexplained(labels: Array, expected: Array, scale: Array, free: Array | None) -> float | None:
    """|y − s·x|/|y|, without what ``free`` explains; None for labels that are all zero."""
    y, x = labels, scale * expected
    if free is not None:
        basis, singular, _ = np.linalg.svd(scale[:, None] * free, full_matrices=False)
        basis = basis[:, singular > 1e-10 * max(float(singular.max()), 1e-300)]
        y, x = y - basis @ (basis.T @ y), x - basis @ (basis.T @ x)
    size = float(np.linalg.norm(y))
    return float(np.linalg.norm(y - x)) / size if size > 1e-12 * max(float(np.linalg.norm(labels)), 1.0) else None

"""Whether the forces of a data set have the sign and the unit that its energies say.

Between two frames in one cell whose atoms moved by u, to second order, ΔE = −½ (F₁ + F₂) · u. A trajectory and rattled
copies of a crystal have many such pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dpa4_core.data.frame import Frame
from dpa4_core.data.label_units import ENERGY_UNITS, FORCE_UNITS, Hypothesis, guess, hypotheses

MAX_CELLS, MAX_COPIES = 100, 30
"""Cells and frames of each that are kept for the comparison."""

MIN_PAIRS = 6
MIN_SHIFT, MAX_SHIFT = 0.003, 0.4
"""Å, largest displacement of an atom between two frames: above rounding, below where the cubic term counts."""

MIN_CORRELATION = 0.9


class ForceCheck:
    """Collects frames one by one; `verdict` compares those with the same atoms in the same cell."""

    def __init__(self) -> None:
        self._copies: dict[bytes, list[Frame]] = {}

    def add(self, frame: Frame) -> None:
        """Keep a frame that has energy and forces, as long as there is room."""
        if frame.energy is None or frame.forces is None or frame.system.n_atoms < 2:
            return
        key = frame.system.numbers.tobytes() + np.round(frame.system.cell, 6).tobytes()
        if key not in self._copies and len(self._copies) == MAX_CELLS:
            return
        copies = self._copies.setdefault(key, [])
        if len(copies) < MAX_COPIES:
            copies.append(frame)

    def verdict(self) -> str | None:
        """One sentence if the forces contradict the energies; None if they do not, or nothing can be said."""
        pairs = [terms for copies in self._copies.values() for terms in _all_terms(copies)]
        if len(pairs) < MIN_PAIRS:
            return None
        energy, work, n_atoms = np.array(pairs).T
        norms = float(np.linalg.norm(work) * np.linalg.norm(energy))
        if norms == 0 or abs(work @ energy) < MIN_CORRELATION * norms:
            return None
        n = len(energy)
        # the labels that are judged are the energies; forces in a unit s make the work s times too large
        others = [*_named(hypotheses(ENERGY_UNITS, n), "energies in {}")]
        others.append(Hypothesis("per_atom", "", 1 / n_atoms, "energies that are stored per atom, not in total"))
        of_forces = [
            Hypothesis(other.code, other.unit, 1 / other.scale, other.sentence)
            for other in hypotheses(FORCE_UNITS, n, opposite="gradients of the energy")
        ]
        others += _named(of_forces, "forces in {}")
        found = guess(energy, work, others)
        if found is None:
            return None
        ratio = float(np.linalg.norm(work) / np.linalg.norm(energy))
        sign = "" if work @ energy > 0 else "minus "
        return (
            f"the work of the forces is {sign}{ratio:.3g} times the change of the energy in {n} pairs of frames, as "
            f"with {found.sentence}; energies must be in eV per frame and forces in eV/Å"
        )


_OTHER_WORDS = {"sign": "forces of the opposite sign", "unit_and_sign": "{} and of the opposite sign"}


def _named(found: Iterable[Hypothesis], words: str) -> Iterator[Hypothesis]:
    """The same with names that say whether energies or forces are meant."""
    for other in found:
        unit = words.format(other.unit) if other.unit else ""
        yield Hypothesis(other.code, unit, other.scale, _OTHER_WORDS.get(other.code, "{}").format(unit))


def _all_terms(copies: list[Frame]) -> list[tuple[float, float, float]]:
    found = (_terms(one, two) for one, two in pairwise(copies))
    return [terms for terms in found if terms is not None]


def _terms(one: Frame, two: Frame) -> tuple[float, float, float] | None:
    """Change of the energy and work of the forces, eV, and number of atoms; None if too close or too far apart."""
    assert one.energy is not None and two.energy is not None and one.forces is not None and two.forces is not None
    shift = _shift(one, two)
    largest = float(np.abs(shift).max())
    if not MIN_SHIFT < largest < MAX_SHIFT:
        return None
    work = -float(((one.forces + two.forces) / 2 * shift).sum())
    return two.energy - one.energy, work, float(one.system.n_atoms)


def _shift(one: Frame, two: Frame) -> NDArray[np.float64]:
    """Displacements to the nearest images, Å, [n, 3]."""
    cell = one.system.cell
    shift: NDArray[np.float64] = two.system.positions - one.system.positions
    if abs(float(np.linalg.det(cell))) > 1e-6:
        shift = shift - np.round(shift @ np.linalg.inv(cell)) @ cell
    return shift

"""Whether the stresses of a data set have the sign and the unit that its energies say.

Between two frames of one crystal with strain ε and internal displacements u, to second order,

    ΔE = ½ (V₁σ₁ + V₂σ₂) : ε − ½ (F₁ + F₂) · u,

so the slope of ΔE + ½ (F₁ + F₂) · u against the first term is 1 where the stress has the sign and unit of ASE, and
−1/1602 where it is VASP's.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dpa4_core.data.frame import Frame
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA, EV_PER_ANGSTROM3_TO_KBAR

MAX_CRYSTALS, MAX_COPIES = 100, 40
"""Crystals and strained copies of each that are kept for the comparison."""

MAX_SAME_CELL = 3
"""Copies with one cell, so that a trajectory at fixed volume does not fill the list."""

MIN_STRAIN, MAX_STRAIN = 1e-3, 0.1
MAX_SHIFT = 0.15
"""Å, internal displacement between two frames up to which the mean force gives the energy."""

MIN_PAIRS, MIN_CORRELATION = 3, 0.9

KNOWN_FACTORS = {
    -1.0: "have the opposite sign (positive under compression)",
    EV_PER_ANGSTROM3_TO_GPA: "are in GPa",
    -EV_PER_ANGSTROM3_TO_GPA: "are in GPa with the opposite sign",
    EV_PER_ANGSTROM3_TO_KBAR: "are in kbar",
    -EV_PER_ANGSTROM3_TO_KBAR: "are in kbar with the sign of VASP",
    -EV_PER_ANGSTROM3_TO_GPA / EV_PER_ANGSTROM3_TO_KBAR: "were taken for kbar of VASP but are in GPa of ASE's sign",
    EV_PER_ANGSTROM3_TO_KBAR / EV_PER_ANGSTROM3_TO_GPA: "are ten times too large",
    -EV_PER_ANGSTROM3_TO_KBAR / EV_PER_ANGSTROM3_TO_GPA: "are ten times too large with the opposite sign",
    EV_PER_ANGSTROM3_TO_GPA / EV_PER_ANGSTROM3_TO_KBAR: "are ten times too small",
    1 / EV_PER_ANGSTROM3_TO_KBAR: "were divided by 1602 although they were in eV/Å³",
    -1 / EV_PER_ANGSTROM3_TO_KBAR: "were taken for kbar of VASP but are in eV/Å³ of ASE's sign",
}
"""Stored over right stress, and what it means."""


class StressCheck:
    """Collects frames one by one; `verdict` compares those that are strained copies of each other."""

    def __init__(self) -> None:
        self._copies: dict[bytes, list[Frame]] = {}
        self._cells: Counter[bytes] = Counter()

    def add(self, frame: Frame) -> None:
        """Keep a frame that has energy and stress, as long as there is room."""
        if frame.energy is None or frame.stress is None:
            return
        key = frame.system.numbers.tobytes()
        if key not in self._copies and len(self._copies) == MAX_CRYSTALS:
            return
        copies = self._copies.setdefault(key, [])
        cell = key + np.round(frame.system.cell, 6).tobytes()
        if len(copies) < MAX_COPIES and self._cells[cell] < MAX_SAME_CELL:
            self._cells[cell] += 1
            copies.append(frame)

    def verdict(self) -> str | None:
        """One sentence if the stress contradicts the energies; None if it does not, or nothing can be said."""
        pairs = [terms for copies in self._copies.values() for terms in _all_terms(copies)]
        if len(pairs) < MIN_PAIRS:
            return None
        work, energy = np.array(pairs).T
        norms = float(np.linalg.norm(work) * np.linalg.norm(energy))
        if norms == 0 or abs(work @ energy) < MIN_CORRELATION * norms:
            return None
        factor = float(work @ work / (work @ energy))  # stored over right stress
        if 0.5 < factor < 2:
            return None
        name = next((text for known, text in KNOWN_FACTORS.items() if abs(factor / known - 1) < 0.3), None)
        told = name or f"are {factor:.3g} times what they should be"
        return (
            f"the stresses {told}: they are {factor:.4g} times the change of energy with strain in {len(pairs)} pairs "
            "of frames; stress must be in eV/Å³ and positive under tension"
        )


def _all_terms(copies: list[Frame]) -> list[tuple[float, float]]:
    fractional = [np.linalg.solve(frame.system.cell.T, frame.system.positions.T).T for frame in copies]
    pairs = combinations(range(len(copies)), 2)
    found = (_terms(copies[i], copies[j], fractional[j] - fractional[i]) for i, j in pairs)
    return [terms for terms in found if terms is not None]


def _terms(one: Frame, two: Frame, moved: NDArray[np.float64]) -> tuple[float, float] | None:
    """Work of the stress and change of energy without the work of the forces, eV per atom; None if too far apart.

    Args:
        one: first frame.
        two: second frame, same atoms in the same order.
        moved: [n, 3] fractional displacement.
    """
    assert one.energy is not None and two.energy is not None and one.stress is not None and two.stress is not None
    deformation = np.linalg.solve(one.system.cell, two.system.cell)  # rows: cell₂ = cell₁ · deformation
    if np.abs(deformation - np.eye(3)).max() > MAX_STRAIN:
        return None
    strain = 2 * np.linalg.solve(deformation + np.eye(3), deformation - np.eye(3))  # refers to the middle
    strain = (strain + strain.T) / 2
    if np.abs(strain).max() < MIN_STRAIN:
        return None
    moved = moved - np.round(moved)
    moved = moved - moved.mean(axis=0)
    shift = moved @ (one.system.cell + two.system.cell) / 2
    if np.abs(shift).max() > (MAX_SHIFT if one.forces is not None and two.forces is not None else 0.01):
        return None
    virials = [abs(np.linalg.det(frame.system.cell)) * frame.stress for frame in (one, two)]  # −W
    work = float(((virials[0] + virials[1]) / 2 * strain).sum())
    energy = two.energy - one.energy
    if one.forces is not None and two.forces is not None:
        energy += float(((one.forces + two.forces) / 2 * shift).sum())
    return work / one.system.n_atoms, energy / one.system.n_atoms

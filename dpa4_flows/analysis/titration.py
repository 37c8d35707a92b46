"""What a composition turns into as one element goes in or out, step by step along the hull.

Along c(n) = c ± n e the energy of the hull, H(n) = max_f μ_f·c(n) over its facets f, is convex and made of straight
pieces. Each piece is a reaction at one chemical potential of the element, ±dH/dn: a plateau of the voltage of an
electrode, or the loss of oxygen at one temperature. What begins above the hull, by ε, does so by the first reaction,
whose potential is that of the crystal itself, ±(H(n₁) − H(0) − ε)/n₁; no other reaction would begin earlier. It is one
of at least 5 % of the atoms: what loses less decays, and the element is no part of that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pymatgen.core import Composition
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_flows.analysis.hull import SystemHull

_TOUCHING = 1e-9  # eV/atom; facets that meet at a composition
_SAME = 1e-6  # eV; slopes of coplanar facets differ by rounding
_LITTLE = 0.05
"""Atoms by atom of the crystal: with fewer there is no reaction that all of a distance to the hull could belong to."""


@dataclass(frozen=True)
class Titration:
    """One reaction along the line of an element.

    Attributes:
        potential: of the element at which it runs, eV per atom from the element itself.
        start: amount that went in or out before, atoms per formula unit of what it began with.
        end: the same after it.
        products: phases after it, each with its formula units per formula unit of what it began with.
    """

    potential: float
    start: float
    end: float
    products: tuple[tuple[ComputedEntry, float], ...]

    @cached_property
    def formulas(self) -> dict[str, float]:
        """The products by formula."""
        return {entry.composition.reduced_formula: amount for entry, amount in self.products}


def titrate(hull: SystemHull, phase: ComputedEntry, element: str, *, out: bool = False) -> list[Titration]:
    """Reactions of a phase as an element goes in, up to where it stays behind as the element; or out, to the last atom.

    Args:
        hull: of all elements, the phase among its entries.
        phase: what it begins with, on the hull or above it.
        element: one of the hull.
        out: whether it leaves.
    """
    formula = phase.composition.reduced_composition
    column, sign = hull.symbols.index(element), -1.0 if out else 1.0
    amounts = hull.fractions([phase])[0] * formula.num_atoms
    slopes, heights = sign * hull.potentials[:, column], hull.potentials @ amounts
    last = amounts[column] if out else math.inf
    reached, energy = 0.0, phase.energy_per_atom * formula.num_atoms
    touching = _TOUCHING * formula.num_atoms
    least = _LITTLE * formula.num_atoms if energy - heights.max() > touching else 0.0
    found: list[Titration] = []
    while reached < last:
        now = heights + slopes * reached
        slope = slopes[now > now.max() - touching].max()
        if not out and slope > hull.references[column] - _SAME:
            break
        steeper = slopes > slope + _SAME
        crossings = reached + (now.max() - now[steeper]) / (slopes[steeper] - slope)
        end = min([*crossings, last])
        if not found:
            end = min(max(end, least), last)
        there = float((heights + slopes * end).max())
        potential = sign * (there - energy) / (end - reached) - hull.references[column]
        mixed = amounts.copy()
        mixed[column] += sign * end
        found.append(Titration(float(potential), float(reached), float(end), _units(hull, mixed)))
        reached, energy = end, there
    return found


def _units(hull: SystemHull, amounts: np.ndarray) -> tuple[tuple[ComputedEntry, float], ...]:
    """Formula units of the phases that make up amounts of atoms."""
    total = amounts.sum()
    mixture = hull.mixture(amounts / total)
    return tuple(
        (entry, float(share * total) / entry.composition.reduced_composition.num_atoms) for entry, share in mixture
    )


def reaction_words(formula: str, products: dict[str, float], taken: tuple[str, float] | None = None) -> str:
    """``FeF2 + 2 Li → 2 LiF + Fe``.

    Args:
        formula: of what reacts.
        products: amounts by formula.
        taken: what it takes up, and how much of it.
    """
    left = {formula: 1.0} | ({} if taken is None else {taken[0]: taken[1]})
    return " → ".join(" + ".join(_times(name, amount) for name, amount in side.items()) for side in (left, products))


def _times(formula: str, amount: float) -> str:
    number = f"{amount:.3g}"
    return formula if number == "1" else f"{number} {formula}"


def pure(symbol: str) -> str:
    """Formula of an element as reactions write it: O2, Li."""
    return Composition(symbol).reduced_formula

"""What a composition turns into as one element goes in or out, step by step along the hull.

Along c(n) = c ± n e the energy of the hull, H(n) = max_f μ_f·c(n) over its facets f, is convex and made of straight
pieces. Each piece is a reaction at one chemical potential of the element, ±dH/dn: a plateau of the voltage of an
electrode, or the loss of oxygen at one temperature. What begins above the hull, by ε, does so by the first reaction,
whose potential is that of the crystal itself, ±(H(n₁) − H(0) − ε)/n₁; no other reaction would begin earlier. It is one
of at least 5 % of the atoms: what loses less decays, and the element is no part of that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_flows.analysis.hull import SystemHull

Array = NDArray[np.float64]
_TOUCHING = 1e-9  # eV/atom; facets that meet at a composition
_SAME = 1e-6  # eV; slopes of coplanar facets differ by rounding
_AT_ONCE = 1e-9  # of the element per formula unit; places that are one but for rounding
_LITTLE = 0.05
"""Atoms by atom of the crystal: with fewer there is no reaction that all of a distance to the hull could belong to."""


@dataclass(frozen=True)
class Titration:
    """One reaction along the line of an element.

    Attributes:
        potential: of the element at which it runs, eV per atom (of a compound: per formula unit) from itself.
        start: amount that went in or out before, per formula unit of what it began with.
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
        return formulas_of(self.products)


class Piece(NamedTuple):
    """A straight piece of the hull along a line."""

    end: float
    slope: float  # eV


def pieces(heights: Array, slopes: Array, last: float = math.inf, touching: float = _TOUCHING) -> Iterator[Piece]:
    """The straight pieces of max_f(heights + slopes t), from t = 0 to ``last``.

    Args:
        heights: of all facets at the beginning, eV.
        slopes: of all facets along the line, eV.
        last: where it ends.
        touching: eV, within which facets meet.
    """
    reached = 0.0
    while last - reached > _AT_ONCE:
        now = heights + slopes * reached
        slope = slopes[now > now.max() - touching].max()
        steeper = slopes > slope + _SAME
        crossings = reached + (now.max() - now[steeper]) / (slopes[steeper] - slope)
        reached = min([*crossings, last])
        if last - reached <= _AT_ONCE:
            reached = last
        yield Piece(float(reached), float(slope))


def titrate(hull: SystemHull, phase: ComputedEntry, element: str, *, out: bool = False) -> list[Titration]:
    """Reactions of a phase as an element goes in, up to where it stays behind as the element; or out, to the last atom.

    Args:
        hull: of all elements, the phase among its entries.
        phase: what it begins with, on the hull or above it.
        element: one of the hull; or the formula of a compound of its elements, such as that of a gas.
        out: whether it leaves.
    """
    formula = phase.composition.reduced_composition
    direction, sign = atoms_of(hull, Composition(element)), -1.0 if out else 1.0
    amounts = atoms_of(hull, formula)
    slopes, heights = sign * hull.potentials @ direction, hull.potentials @ amounts
    reference = float((hull.potentials @ direction).max())
    moved = direction > 0
    last = float((amounts[moved] / direction[moved]).min()) if out else math.inf
    reached, energy = 0.0, phase.energy_per_atom * formula.num_atoms
    touching = _TOUCHING * formula.num_atoms
    least = _LITTLE * formula.num_atoms if energy - heights.max() > touching else 0.0
    found: list[Titration] = []
    for piece in pieces(heights, slopes, last, touching):
        if not out and piece.slope > reference - _SAME:
            break
        end = piece.end if found else min(max(piece.end, least), last)
        if end - reached <= _AT_ONCE:
            continue
        there = float((heights + slopes * end).max())
        potential = sign * (there - energy) / (end - reached) - reference
        found.append(Titration(potential, reached, end, units(hull, amounts + sign * end * direction)))
        reached, energy = end, there
    return found


def atoms_of(hull: SystemHull, composition: Composition) -> Array:
    """Amounts of the elements of a hull in a formula, by its columns."""
    return np.array([composition[symbol] for symbol in hull.symbols], dtype=np.float64)


def units(hull: SystemHull, amounts: Array) -> tuple[tuple[ComputedEntry, float], ...]:
    """Formula units of the phases that make up amounts of atoms."""
    total = amounts.sum()
    mixture = hull.mixture(amounts / total) if total > _SAME else ()
    return tuple(
        (entry, float(share * total) / entry.composition.reduced_composition.num_atoms) for entry, share in mixture
    )


def formulas_of(mixture: Sequence[tuple[ComputedEntry, float]]) -> dict[str, float]:
    """The phases of a mixture by formula."""
    return {entry.composition.reduced_formula: amount for entry, amount in mixture}


def reaction_words(formula: str, products: Mapping[str, float], *taken: tuple[str, float]) -> str:
    """``FeF2 + 2 Li → 2 LiF + Fe``.

    Args:
        formula: of what reacts.
        products: amounts by formula.
        taken: what it takes up, and how much of it.
    """
    left = {formula: 1.0, **dict(taken)}
    return " → ".join(" + ".join(_times(name, amount) for name, amount in side.items()) for side in (left, products))


def _times(formula: str, amount: float) -> str:
    number = f"{amount:.3g}"
    return formula if number == "1" else f"{number} {formula}"


def pure(symbol: str) -> str:
    """Formula of an element as reactions write it: O2, Li."""
    return Composition(symbol).reduced_formula

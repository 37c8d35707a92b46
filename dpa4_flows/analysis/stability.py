"""From energies above hull and verdicts on strain and displacement to one answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from dpa4_flows.analysis.isotopic_symmetry import marked_by_mass, unmarked

ON_HULL_EV = 5e-4
"""eV/atom: two relaxations of one phase differ by so much."""
METASTABLE_EV = 0.1
"""eV/atom: few compounds that were ever made lie higher (W. Sun et al., Sci. Adv. 2, e1600225 (2016): 90 % of the known
metastable phases lie below 67 meV/atom, of nitrides below 190)."""
SYMPREC = 0.01
"""Å, for space groups."""

Part = Literal["stable", "metastable", "marginal", "unstable", "unknown"]
Overall = Literal["stable", "metastable", "undecided", "unstable"]


def hull_verdict(energy_above_hull: float, *, complete: bool, products: str) -> tuple[Part, str]:
    """Verdict and sentence for a distance to the hull.

    Args:
        energy_above_hull: eV/atom.
        complete: whether all known phases of the system compete; else the distance is a lower bound.
        products: what it would turn into, in words.
    """
    bound = "" if complete else "; phases of the system were not surveyed: the distance is a lower bound"
    if energy_above_hull <= ON_HULL_EV:
        return "stable", f"on the convex hull{bound}"
    words = f"{1000 * energy_above_hull:.0f} meV/atom above the hull, towards {products}{bound}"
    return ("metastable" if energy_above_hull <= METASTABLE_EV else "unstable"), words


def overall_verdict(parts: Mapping[str, Part]) -> Overall:
    """The worst part decides; a part that decides nothing leaves the answer open unless another one is negative."""
    verdicts = set(parts.values())
    if "unstable" in verdicts:
        return "unstable"
    if verdicts & {"marginal", "unknown"} or not verdicts:
        return "undecided"
    return "metastable" if "metastable" in verdicts else "stable"


def space_group(structure: Structure, symprec: float = SYMPREC) -> str:
    """Hermann-Mauguin symbol; ``"?"`` where none is found, of atoms on one another for example."""
    try:
        return SpacegroupAnalyzer(structure, symprec=symprec).get_space_group_symbol()
    except (TypeError, ValueError):
        return "?"


def primitive_cell(structure: Structure, symprec: float = SYMPREC) -> Structure:
    """Symmetrised primitive cell, with the masses of the structure."""
    return unmarked(SpacegroupAnalyzer(marked_by_mass(structure), symprec=symprec).find_primitive(), structure)

"""From energies above hull and verdicts on strain and displacement to one answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from dpa4_flows.analysis.completeness import HullCompleteness, HullVerdict, on_hull
from dpa4_flows.analysis.isotopic_symmetry import marked_by_mass, unmarked

METASTABLE_EV = 0.1
"""eV/atom: few compounds that were ever made lie higher (W. Sun et al., Sci. Adv. 2, e1600225 (2016): 90 % of the known
metastable phases lie below 67 meV/atom, of nitrides below 190)."""
SYMPREC = 0.01
"""Å, for space groups."""

PARTS = ("hull", "elastic", "phonons")
"""What stability is made of: against other phases, against strain, against displacements of atoms."""
NOT_ASKED: Literal["not asked"] = "not asked"

Part = Literal["stable", "metastable", "marginal", "unstable", "unknown", "not asked"]
Overall = Literal["stable", "metastable", "undecided", "unstable"]


def hull_part(
    verdict: HullVerdict, completeness: HullCompleteness, energy_above_hull: float | None, products: str
) -> tuple[Part, str]:
    """Verdict and sentence of the hull as a part of stability.

    Args:
        verdict: on the distance.
        completeness: of what competes.
        energy_above_hull: eV/atom; None if it is unknown.
        products: what the phase would turn into, in words.
    """
    if verdict.code == "stable":
        return "stable", verdict.sentence
    if verdict.code == "unknown" or energy_above_hull is None:
        return "unknown", verdict.sentence
    words = f"{1000 * energy_above_hull:.0f} meV/atom above the hull, towards {products}"
    if completeness.grade != "surveyed":
        words += f"; {completeness.sentence}: the distance is a lower bound"
    if not on_hull(energy_above_hull, METASTABLE_EV):
        return "unstable", words
    return ("metastable" if verdict.documented else "unknown"), words


def overall_verdict(parts: Mapping[str, Part]) -> Overall:
    """The worst part decides. A part that decides nothing, or was not asked, leaves the answer open unless another one
    is negative."""
    verdicts = {parts.get(name, NOT_ASKED) for name in PARTS}
    if "unstable" in verdicts:
        return "unstable"
    if verdicts & {"marginal", "unknown", NOT_ASKED}:
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

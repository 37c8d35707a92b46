"""What a hull says of one phase, in numbers and words for tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpa4_flows.analysis.completeness import HullCompleteness, HullVerdict, on_hull
from dpa4_flows.documents.quantities import shown
from dpa4_flows.documents.schemas import Document, HullDocument

_UNKNOWN = ("no_known_competitor", "far_below_competitors", "not_recorded")
"""Codes of reasons for which nothing is known of a distance."""
_SPREAD = "of the members of a committee, each of which places all phases by its own energies"


class HullValues(Document):
    """What a hull says of one phase, in numbers and words for a table; the distance also where it means nothing."""

    energy_above_hull: float | None = shown(
        "E above hull",
        "eV/atom",
        3,
        "0 K, no entropy; a lower bound: a competing phase that is missing can only raise it",
        short="E hull",
        goal="min",
        within=on_hull,
        scale=(0.0, 0.05),  # 90 % of the known metastable compounds lie within 0.067
        voided_by=("saddle", "element_missing", *_UNKNOWN),
        too_high="above_limit",
        priority=13,
    )
    energy_above_hull_std: float | None = shown(
        "Deviation of E above hull", "eV/atom", 3, _SPREAD, goal="min", detail=True
    )
    formation_energy_per_atom: float | None = shown(
        "Formation energy",
        "eV/atom",
        3,
        "from the elements, corrected, 0 K",
        short="E form",
        error=0.1,
        goal="min",
        scale=(-3.0, 0.0),  # phosphates reach −2.6
        voided_by=("saddle", "element_missing"),
        priority=18,
    )
    formation_energy_per_atom_std: float | None = shown(
        "Deviation of the formation energy", "eV/atom", 3, _SPREAD, goal="min", detail=True
    )
    distance_to_competing: float | None = shown(
        "Distance to competing phases",
        "eV/atom",
        3,
        "signed: negative means below all known phases",
        detail=True,
        priority=31,
    )
    distance_to_competing_std: float | None = shown(
        "Deviation of the distance to competing phases", "eV/atom", 3, _SPREAD, goal="min", detail=True
    )
    n_competing: int = shown(
        "Competing phases",
        digits=0,
        note="phases of the chemical system that made the hull",
        short="phases",
        priority=19,
        default=0,
    )
    decomposition: str = shown(
        "Decomposes into", note="or what it is stable against, or why that is not known", priority=43, default=""
    )


def values_of(found: HullDocument) -> dict[str, Any]:
    """The fields of `HullValues`."""
    numbers = {name: getattr(found, name) for name in HullValues.model_fields if name != "decomposition"}
    return {**numbers, "decomposition": words_of(found.verdict, found.formula, found.decomposition)}


def words_of(verdict: HullVerdict, formula: str, decomposition: Mapping[str, float]) -> str:
    """What a phase turns into, or why it need not."""
    return products_text(formula, decomposition) if verdict.code == "above_hull" else verdict.sentence


def products_text(formula: str, decomposition: Mapping[str, float]) -> str:
    """What a phase turns into, in words; fractions count atoms, not formula units."""
    if list(decomposition) == [formula]:
        return f"another structure of {formula}"
    return (
        " + ".join(f"{100 * fraction:.0f} % {product}" for product, fraction in decomposition.items()) + " (by atoms)"
    )


def missing_from(completeness: HullCompleteness) -> list[str]:
    """What is missing in a chemical system, and what follows from it."""
    if completeness.grade == "surveyed":
        return []
    return [f"{text}; distances are lower bounds" for text in (completeness.sentence, *completeness.without_energy)]

"""Words for people: titles of stages, labels, digits and notes of values, formulas with subscripts.

Values that are not listed here are shown all the same, under their own name with four significant digits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape


@dataclass(frozen=True)
class Quantity:
    """How one value is shown.

    Attributes:
        label: name in tables and figures.
        digits: decimals; -1 for four significant digits.
        priority: place among the columns, the smallest first.
        note: what to know before quoting the number; stands beside it.
        short: label where there is little room.
    """

    label: str
    digits: int
    priority: int
    note: str = ""
    short: str = ""


QUANTITIES: dict[str, Quantity] = {
    "average_voltage": Quantity(
        "Voltage",
        2,
        10,
        "average over full removal of the ion, 0 K; ±0.25 V against PBE+U, ±0.3 V against experiment",
    ),
    "capacity_grav": Quantity("Capacity", 0, 11, "theoretical, all working ions removed, per discharged mass"),
    "energy_grav": Quantity(
        "Specific energy", 0, 12, "active material only; a cell reaches roughly half of it", short="energy"
    ),
    "energy_above_hull": Quantity(
        "E above hull",
        3,
        13,
        "0 K, no entropy; a lower bound: a competing phase that is missing can only raise it",
        short="E hull",
    ),
    "energy_above_hull_charged": Quantity(
        "E above hull, charged",
        3,
        14,
        "host without the working ion, 0 K; high values mean oxygen release or collapse",
        short="E hull ch.",
    ),
    "volume_change_percent": Quantity(
        "Volume change",
        1,
        15,
        "relative to the discharged volume; no dispersion in the model: layered hosts come apart",
        short="ΔV",
    ),
    "capacity_vol": Quantity("Vol. capacity", 0, 16, "theoretical, per discharged volume", short="capacity"),
    "energy_vol": Quantity("Energy density", 0, 17, "active material only, per discharged volume", short="energy"),
    "formation_energy_per_atom": Quantity(
        "Formation energy",
        3,
        18,
        "from the elements, corrected, 0 K; 0.05-0.1 eV/atom against experiment",
        short="E form",
    ),
    "n_competing": Quantity(
        "Competing phases", 0, 19, "phases of the chemical system that made the hull", short="phases"
    ),
    "interlayer_change_percent": Quantity(
        "Largest stretch",
        1,
        30,
        "largest principal stretch of the cell on charging, signed; in a layered host the change of the interlayer "
        "distance",
    ),
    "distance_to_competing": Quantity(
        "Distance to competing phases", 3, 31, "signed: negative means below all known phases"
    ),
    "distance_to_competing_charged": Quantity(
        "Distance to competing phases, charged", 3, 32, "signed: negative means below all known phases"
    ),
    "energy_per_atom": Quantity("Energy", 4, 40, "uncorrected model energy"),
    "fmax": Quantity("Largest force", 3, 41),
    "n_steps": Quantity("Optimiser steps", 0, 42),
    "decomposition": Quantity("Decomposes into", 0, 43),
    "energy_above_representative": Quantity("Above the one that stands for it", 4, 44),
}

HISTORY_ONLY = {"distance_to_competing", "distance_to_competing_charged", "energy_above_representative"}
"""Values that stand in the history of a row and in the CSV, but make the ranking too wide."""

STAGE_ORDERS: dict[str, tuple[str, ...]] = {
    "battery": (
        "sanity",
        "duplicates",
        "relax",
        "relaxed_duplicates",
        "hull",
        "delithiate",
        "relax_charged",
        "electrode",
        "charged_hull",
    )
}

STAGE_TITLES: dict[str, str] = {
    "input": "Input",
    "sanity": "Sanity checks",
    "duplicates": "Duplicates",
    "relax": "Relaxation",
    "relaxed_duplicates": "Duplicates, relaxed",
    "hull": "Convex hull",
    "delithiate": "Ion removal",
    "relax_charged": "Relaxation, charged",
    "electrode": "Electrode properties",
    "charged_hull": "Hull, charged",
}

OUTCOME_TITLES: dict[str, str] = {
    "ranked": "ranked",
    "passed": "passed",
    "in progress": "in progress",
    "rejected": "rejected",
    "error": "not computable",
}

_SUBSCRIPTS = str.maketrans("0123456789.", "₀₁₂₃₄₅₆₇₈₉.")
_FORMULA = re.compile(r"(?:[A-Z][a-z]?|[()\[\]]|\d+(?:\.\d+)?)+")
_COUNT = re.compile(r"(?<=[A-Za-z)\]])(\d+(?:\.\d+)?)")


def order_stages(entered: Mapping[str, int], declared: Sequence[str] | None = None) -> list[str]:
    """Stages in funnel order: as declared by the run, as campaign kinds know them, or by falling numbers.

    Args:
        entered: candidates that have a verdict, by stage.
        declared: order that the run itself recorded, if any.
    """
    known = list(declared or [])
    if not known:
        known = list(max(STAGE_ORDERS.values(), key=lambda order: len(set(order) & set(entered))))
    rest = sorted(set(entered) - set(known), key=lambda stage: (-entered[stage], stage))
    return [stage for stage in known if stage in entered] + rest


def stage_title(stage: str) -> str:
    return STAGE_TITLES.get(stage, stage.replace("_", " ").capitalize())


def quantity(name: str) -> Quantity:
    """Label and digits of a value; a plain guess for names that nobody described."""
    return QUANTITIES.get(name, Quantity(name.replace("_", " ").capitalize(), -1, 100))


def format_value(name: str, value: Any) -> str:
    """The value with the digits that make sense for it, without its unit; an en dash if there is none."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        digits = quantity(name).digits
        text = f"{value:.{digits}f}" if digits >= 0 else f"{value:.4g}"
        text = text.lstrip("-") if float(text) == 0 and "e" not in text else text
        return text.replace("-", "−", 1) if text.startswith("-") else text
    return str(value)


def formula_html(formula: str) -> Markup:
    """The formula with subscripts if it is one; any other text escaped."""
    if not _FORMULA.fullmatch(formula):
        return escape(formula)
    pieces = _COUNT.split(formula)  # every second one is a count
    return Markup("").join(Markup("<sub>{}</sub>").format(p) if i % 2 else p for i, p in enumerate(pieces))


def formula_text(formula: str) -> str:
    """The formula with Unicode subscripts if it is one; any other text as it is."""
    if not _FORMULA.fullmatch(formula):
        return formula
    return _COUNT.sub(lambda match: match[0].translate(_SUBSCRIPTS), formula)


FLAG_PHRASES: dict[str, tuple[str, str]] = {
    "unreliable_vdw": ("host swells", "no dispersion in the model: the host swells, volume change not meaningful"),
    "not_topotactic": ("not topotactic", "not topotactic: the host rearranges on charging"),
}
"""Words for a badge and a clear phrase, by the name that a warning of `ElectrodeDocument` starts with."""

FLAG_PATTERNS: tuple[tuple[str, str, str], ...] = (
    (
        "below all competing phases",
        "no close competitor",
        "below all competing phases: none near its composition is known, its stability is an upper bound",
    ),
    ("counts as 0 in the score", "not scored", "an unreliable value counts as 0 in the score"),
    (
        "distance of the charged host",
        "charged hull uncertain",
        "the charged host's distance to the hull is not reliable, as its volume is not",
    ),
    ("the volume changes by", "large volume change", "the volume change on charging exceeds the limit"),
)
"""The same for other warnings, by words in them."""


def _general(sentence: str) -> tuple[str, str] | None:
    """Words for a badge and a phrase, if the warning is a known one."""
    if (name := sentence.partition(":")[0]) in FLAG_PHRASES:
        return FLAG_PHRASES[name]
    return next(((badge, phrase) for words, badge, phrase in FLAG_PATTERNS if words in sentence), None)


def flag_phrase(sentence: str) -> str:
    """What a warning says in general, for a legend: one phrase for all candidates that carry it."""
    general = _general(sentence)
    return general[1] if general else re.split("[:;]", sentence, maxsplit=1)[0]


def flag_text(sentence: str) -> str:
    """A warning for people: where it starts with a name, a phrase instead, and then the numbers."""
    name, colon, rest = sentence.partition(":")
    if not colon or name not in FLAG_PHRASES:
        return sentence
    rest = rest.strip()
    return f"{FLAG_PHRASES[name][1]} ({rest})" if rest else FLAG_PHRASES[name][1]


def badge_text(sentence: str) -> str:
    """A few words for a badge; the sentence itself goes into the tooltip."""
    if general := _general(sentence):
        return general[0]
    sentence = sentence.removeprefix("the ")
    head = re.split(r"[:;,(]", sentence, maxsplit=1)[0].strip().replace("_", " ")
    return head if 0 < len(head) <= 28 else sentence[:26].rsplit(" ", 1)[0].rstrip() + "…"


def duration(seconds: float) -> str:
    """Wall time in the unit a person would use."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"

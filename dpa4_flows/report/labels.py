"""Words for people: titles of stages, labels, digits and notes of values, formulas with subscripts.

Values that are not listed here are shown all the same, under their own name with four significant digits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from dpa4_flows.campaigns.battery_reasons import BATTERY_REASONS
from dpa4_flows.quantities import quantity
from dpa4_flows.reasons import Reason
from dpa4_flows.schemas import RankedCandidate

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


def score_text(row: RankedCandidate) -> str:
    """The score, or the interval in which it lies where a ranked property is unknown."""
    low, high = row.score_interval or (row.score, row.score)
    if low is None or high is None:
        return "–"
    return f"{low:.3f}" if high - low < 5e-4 else f"{low:.2f}–{high:.2f}"


def score_low(row: RankedCandidate) -> float | None:
    """What the ranking sorts by: the lower end of the score."""
    return row.score if row.score_interval is None else row.score_interval[0]


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


def flag_phrase(flag: Reason) -> str:
    """What a flag says in general, for a legend: one phrase for all candidates that carry it."""
    kind = BATTERY_REASONS.get(flag.code)
    return kind.phrase if kind else re.split("[:;]", flag.sentence, maxsplit=1)[0]


def flag_text(flag: Reason) -> str:
    """A flag for people: the phrase and then the numbers; why a candidate left in its own words."""
    kind = BATTERY_REASONS.get(flag.code)
    return f"{kind.phrase} ({flag.sentence})" if kind and not kind.decides else flag.sentence


def badge_text(flag: Reason) -> str:
    """A few words for a badge; the sentence itself goes into the tooltip."""
    if kind := BATTERY_REASONS.get(flag.code):
        return kind.badge
    sentence = flag.sentence.removeprefix("the ")
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

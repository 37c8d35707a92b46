"""Words for people: formulas with subscripts, numbers with the digits that make sense, durations."""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup, escape
from rich.table import Column

from dpa4_flows.documents.quantities import Quantity

_SUBSCRIPTS = str.maketrans("0123456789.", "₀₁₂₃₄₅₆₇₈₉.")
_FORMULA = re.compile(r"(?:[A-Z][a-z]?|[()\[\]]|\d+(?:\.\d+)?)+")
_COUNT = re.compile(r"(?<=[A-Za-z)\]])(\d+(?:\.\d+)?)")


def format_value(declared: Quantity, value: Any, std: Any = None) -> str:
    """The value with the digits that make sense for it, without its unit; an en dash if there is none.

    Args:
        declared: its digits.
        value: of the quantity.
        std: its standard deviation, shown behind a ±; None where it is not known.
    """
    if std is not None and value is not None:
        return f"{format_value(declared, value)} ± {format_value(declared, std)}"
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        digits = declared.digits
        text = f"{value:.{digits}f}" if digits >= 0 else f"{value:.4g}"
        text = text.lstrip("-") if float(text) == 0 and "e" not in text else text
        return text.replace("-", "−", 1) if text.startswith("-") else text
    return str(value)


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, a real minus; 0 has none."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


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


def first_of(found: int, most: int) -> str:
    """Says how many are not shown."""
    return f"The first {most} of {found}." if found > most else ""


def capitalised(text: str) -> str:
    """The text with a capital at its start."""
    return text[:1].upper() + text[1:]


def right(*heads: str) -> list[Column]:
    """Columns of numbers of a table in the terminal."""
    return [Column(head, justify="right") for head in heads]


def duration(seconds: float) -> str:
    """Wall time in the unit a person would use."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"

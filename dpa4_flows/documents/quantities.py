"""What is known of a value that people look at, declared once: beside its field in the document that carries it.

    voltage: float | None = shown("Voltage", "V", 2, "at rest", goal="max", scale=(2.5, 4.5))

Columns, heads, tooltips, limits of campaign files, keys of rankings and figures follow from it, and so does what the
schema of the document says of the field, unless its description says more. The standard deviation
of a value that a committee computed is in the field of its name with ``_std`` behind it, and is shown behind a ±.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import le
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

Goal = Literal["max", "min", "zero"]
"""More is better, less is better, a small magnitude is."""


@dataclass(frozen=True)
class Quantity:
    """How one value is shown, judged and ranked.

    Attributes:
        label: name in tables and figures.
        unit: of the value; empty for numbers without one.
        digits: decimals; -1 for four significant digits.
        note: what to know before quoting the number; stands beside it.
        short: label where there is little room.
        error: what the number may be off by, in its unit; stands beside it.
        goal: what counts as good in a ranking; limits on a quantity with the goal ``zero`` are on its magnitude.
        scale: ends of its scale in a score where the campaign file names none; of the magnitude if 0 is best. Fixed, so
            that a score does not depend on who else is in the campaign.
        within: whether a value keeps an upper limit: a function of both.
        voided_by: codes of the reasons that make the value meaningless.
        spares_error: whether a value beyond a limit by less than its standard deviation (`STD`) is only flagged.
        unsure: code of the reason for such a value, and for one that keeps the limit by less than that; by default the
            former has that of a value beyond, and the latter none.
        too_low, too_high: codes of the reasons for a value beyond its limits; by default ``NAME_too_low``, ...
        detail: stands in the history of a candidate and in the CSV file, and would make the ranking too wide.
        priority: place among the columns, the smallest first.
    """

    label: str
    unit: str = ""
    digits: int = -1
    note: str = ""
    short: str = ""
    error: float | None = None
    goal: Goal | None = None
    scale: tuple[float, float] | None = None
    within: Callable[[float, float], bool] = le
    voided_by: tuple[str, ...] = ()
    spares_error: bool = False
    unsure: str = ""
    too_low: str = ""
    too_high: str = ""
    detail: bool = False
    priority: int = 50

    @property
    def tooltip(self) -> str:
        """The note with the error bar."""
        bar = "" if self.error is None else f"typical error ±{self.error:g} {self.unit}".rstrip()
        return "; ".join(filter(None, (self.note, bar)))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Label, note and unit as the description of the field in the schema of its document."""
        said = ", ".join(filter(None, (self.label, self.note, self.unit)))
        return {**handler(schema), "description": said}


def shown(
    label: str,
    unit: str = "",
    digits: int = -1,
    note: str = "",
    *,
    default: Any = None,
    description: str | None = None,
    **further: Any,
) -> Any:
    """A field of a document that people look at.

    Args:
        label, unit, digits, note: as in `Quantity`.
        default: of the field; ``...`` where it has to be given.
        description: in the schema, where label, note and unit do not say all.
        **further: what else a `Quantity` knows.
    """
    field = Field(default, description=description)
    field.metadata.append(Quantity(label, unit, digits, note, **further))
    return field


@dataclass(frozen=True)
class Unit:
    """Of a value that files hold and no table shows; empty for a number without one.

    Attributes:
        name: as a head shows it.
    """

    name: str = ""


class Listing(NamedTuple):
    """What one document lists, as a table of its own below those of numbers.

    Attributes:
        title: a word or two.
        heads: of the columns.
        rows: cells as text.
        note: a line below it.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


STD = "_std"
"""At the end of the name of a field: the standard deviation of the field whose name stands before."""


@cache
def quantities(document: type[BaseModel]) -> dict[str, Quantity]:
    """The quantities of a document by the name of their field, in the order of the fields."""
    found = {
        name: [item for item in field.metadata if isinstance(item, Quantity)]
        for name, field in document.model_fields.items()
    }
    return {name: declared[0] for name, declared in found.items() if declared}


def unit_of(document: type[BaseModel], name: str) -> str | None:
    """Unit of a field; None if nobody said it."""
    for item in document.model_fields[name].metadata:
        if isinstance(item, Quantity):
            return item.unit
        if isinstance(item, Unit):
            return item.name
    return None


def is_number(document: type[BaseModel], name: str) -> bool:
    """Whether a field holds numbers, on which there can be limits."""
    annotation = document.model_fields[name].annotation
    return bool({float, int} & {annotation, *get_args(annotation)})


def plain_quantity(name: str) -> Quantity:
    """A guess for a value that nobody declared."""
    return Quantity(name.replace("_", " ").capitalize(), priority=100)

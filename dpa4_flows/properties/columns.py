"""Columns of tables of documents: the values that people look at, declared beside their fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from dpa4_flows.documents.quantities import STD, Quantity, plain_quantity, quantities, unit_of
from dpa4_flows.plots.words import format_value

Scalar = bool | int | float | str | None

_NOT_SHOWN = ("error", "error_code")  # stand below a table


class Column(NamedTuple):
    """One column.

    Attributes:
        document: name of the document that the value is in.
        field: of the document.
        quantity: label, unit and digits.
    """

    document: str
    field: str
    quantity: Quantity

    @property
    def head(self) -> str:
        """Label and unit."""
        label, unit = self.quantity.label, self.quantity.unit
        return f"{label}, {unit}" if unit else label

    def value(self, documents: Mapping[str, Any]) -> Scalar:
        """The value of one row."""
        document = documents.get(self.document)
        return None if document is None or document.error is not None else getattr(document, self.field)

    def text(self, documents: Mapping[str, Any]) -> str:
        """The same as it is shown, without the unit."""
        std = getattr(documents.get(self.document), self.field + STD, None)
        return format_value(self.quantity, self.value(documents), std)


def columns(documents: Mapping[str, type[BaseModel]]) -> list[Column]:
    """What is shown of documents by name: their quantities, or the numbers of one that declares none."""
    found: list[Column] = []
    for name, kind in documents.items():
        numbers = (field for field in scalar_fields(kind) if _holds(kind, field, float, int))
        declared = quantities(kind) or {field: plain_quantity(field) for field in numbers}
        found += [
            Column(name, field, quantity)
            for field, quantity in declared.items()
            if field.removesuffix(STD) == field or field.removesuffix(STD) not in declared
        ]
    return found


def tables(document: BaseModel) -> dict[str, tuple[list[Column], list[BaseModel]]]:
    """Lists within a document whose rows declare quantities, by the name of their field: columns and rows."""
    found: dict[str, tuple[list[Column], list[BaseModel]]] = {}
    for name in type(document).model_fields:
        rows = getattr(document, name)
        if isinstance(rows, list) and rows and isinstance(rows[0], BaseModel):
            declared = quantities(type(rows[0]))
            shown = [Column("", field, quantity) for field, quantity in declared.items()]
            if shown and len(shown) > 1:
                found[name] = shown, rows
    return found


_IN_NAMES = ("gpa", "k", "mev", "percent", "thz", "w_mk", "nm", "a2", "a3", "m_s", "kj_mol", "cm3", "ev_per_atom", "ev")
"""Units that names of fields end in."""


def file_head(kind: type[BaseModel], field: str) -> str:
    """Name of a field at the head of a column of a file, with its unit where the name does not carry it."""
    unit = unit_of(kind, field)
    return f"{field} ({unit})" if unit and not field.endswith(tuple(f"_{one}" for one in _IN_NAMES)) else field


def scalars(document: BaseModel) -> dict[str, Scalar]:
    """Every plain value of a document, for files."""
    return {name: getattr(document, name) for name in scalar_fields(type(document))}


def scalar_fields(kind: type[BaseModel]) -> list[str]:
    """Fields that hold one plain value."""
    return [name for name in kind.model_fields if name not in _NOT_SHOWN and _holds(kind, name, float, int, str, bool)]


def _holds(kind: type[BaseModel], field: str, *types: type) -> bool:
    """Whether the values of a field are all of some plain types, or null."""
    return set(_kinds(kind.model_fields[field].annotation)) - {type(None)} <= set(types)


def _kinds(annotation: Any) -> Iterator[Any]:
    """Types of the alternatives of an annotation; of literals those of the values."""
    if get_origin(annotation) is Literal:
        yield from map(type, get_args(annotation))
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _kinds(part)
    else:
        yield annotation

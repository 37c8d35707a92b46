"""Columns of tables of documents: the values that people look at, declared beside their fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

from dpa4_flows.compute.plan import Property
from dpa4_flows.documents.quantities import STD, Listing, Quantity, plain_quantity, quantities, unit_of
from dpa4_flows.documents.schemas import Document
from dpa4_flows.plots.words import format_value

Scalar = bool | int | float | str | None

_NOT_SHOWN = ("error", "error_code")  # stand below a table


class Column(NamedTuple):
    """One column.

    Attributes:
        document: name of the document that the value is in.
        field: of the document, or of a part of it: ``"elastic.k_vrh_gpa"``.
        quantity: label, unit and digits.
    """

    document: str
    field: str
    quantity: Quantity

    @property
    def of_part(self) -> bool:
        """Whether it is of a part of the document, which may not have been asked for."""
        return "." in self.field

    @property
    def head(self) -> str:
        """Label and unit."""
        label, unit = self.quantity.label, self.quantity.unit
        return f"{label}, {unit}" if unit else label

    def value(self, documents: Mapping[str, Any]) -> Scalar:
        """The value of one row."""
        document = documents.get(self.document)
        return None if getattr(document, "error", None) is not None else _value(document, self.field)

    def text(self, documents: Mapping[str, Any]) -> str:
        """The same as it is shown, without the unit."""
        std = _value(documents.get(self.document), self.field + STD)
        return format_value(self.quantity, self.value(documents), std)


def _value(document: Any, field: str) -> Any:
    """A field of a document or of a part of it; None where there is none."""
    for name in field.split("."):
        document = getattr(document, name, None)
    return document


def parts(kind: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Documents with quantities that a document is made of, by the name of their field."""
    found = {
        name: [one for one in _kinds(field.annotation) if _declares(one)] for name, field in kind.model_fields.items()
    }
    return {name: kinds[0] for name, kinds in found.items() if kinds}


def _declares(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel) and bool(quantities(kind))


def columns(properties: Mapping[str, Property[Any]]) -> list[Column]:
    """What is shown of properties by name: the quantities of their documents, or the numbers of one that declares
    none."""
    found: list[Column] = []
    for name, property_ in properties.items():
        kind = property_.document
        numbers = (field for field in scalar_fields(kind) if _holds(kind, field, float, int))
        declared = quantities(property_.shown or kind) or {field: plain_quantity(field) for field in numbers}
        own = _columns(name, "", declared)
        further = [
            [one for one in _columns(name, f"{part}.", quantities(inner)) if one.quantity.label not in said]
            for said in ({one.quantity.label for one in own},)
            for part, inner in parts(kind).items()
        ]
        of_parts = (one for row in zip_longest(*further) for one in row if one is not None)  # the first of each before
        found += sorted([*own, *of_parts], key=lambda one: one.quantity.detail)
    return found


def _columns(document: str, prefix: str, declared: Mapping[str, Quantity]) -> list[Column]:
    """One for each quantity; a deviation stands beside its value."""
    return [
        Column(document, prefix + field, quantity)
        for field, quantity in declared.items()
        if field.removesuffix(STD) == field or field.removesuffix(STD) not in declared
    ]


def listings(document: Document) -> list[Listing]:
    """Tables of one document: its own, and lists whose entries declare several quantities, without empty columns."""
    found = list(document.listings)
    for name in type(document).model_fields:
        rows = getattr(document, name)
        if isinstance(rows, list) and rows and isinstance(rows[0], BaseModel):
            declared = _columns("", "", quantities(type(rows[0])))
            known = [one for one in declared if any(getattr(row, one.field) is not None for row in rows)]
            cells = [[one.text({"": row}) for one in known] for row in rows]
            if len(declared) > 1:
                found.append(Listing(name.replace("_", " "), [one.head for one in known], cells))
    return found


_IN_NAMES = ("gpa", "k", "mev", "percent", "thz", "w_mk", "nm", "a2", "a3", "m_s", "kj_mol", "cm3", "ev_per_atom", "ev")
"""Units that names of fields end in."""


def file_head(kind: type[BaseModel], field: str) -> str:
    """Name of a field at the head of a column of a file, with its unit where the name does not carry it."""
    unit = unit_of(*home_of(kind, field))
    return f"{field} ({unit})" if unit and not field.endswith(tuple(f"_{one}" for one in _IN_NAMES)) else field


def home_of(kind: type[BaseModel], field: str) -> tuple[type[BaseModel], str]:
    """The document that declares a field, and its name there: of ``"elastic.k_vrh_gpa"`` the part."""
    *outer, name = field.split(".")
    for part in outer:
        kind = parts(kind)[part]
    return kind, name


def scalars(document: BaseModel) -> dict[str, Scalar]:
    """Every plain value of a document and of its parts, for files."""
    return {name: _value(document, name) for name in scalar_fields(type(document))}


def scalar_fields(kind: type[BaseModel]) -> list[str]:
    """Fields that hold one plain value, of a document and, as ``PART.FIELD``, of its parts."""
    own = [name for name in kind.model_fields if name not in _NOT_SHOWN and _holds(kind, name, float, int, str, bool)]
    return [*own, *(f"{part}.{name}" for part, inner in parts(kind).items() for name in scalar_fields(inner))]


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

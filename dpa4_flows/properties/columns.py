"""Columns of tables of documents: the values that people look at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

Scalar = bool | int | float | str | None

_NOT_SHOWN = ("error", "error_code")  # stand below a table


class Column(NamedTuple):
    """One column.

    Attributes:
        document: name of the document that the value is in.
        field: of the document.
    """

    document: str
    field: str

    @property
    def label(self) -> str:
        """Name of the value."""
        return self.field.replace("_", " ")

    @property
    def unit(self) -> str:
        """Of the value; empty for numbers without one."""
        return ""

    @property
    def head(self) -> str:
        """Label and unit."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    def value(self, documents: Mapping[str, Any]) -> Scalar:
        """The value of one row."""
        document = documents.get(self.document)
        return None if document is None or document.error is not None else getattr(document, self.field)

    def text(self, documents: Mapping[str, Any]) -> str:
        """The same as it is shown."""
        return shown(self.value(documents), -1)


def columns(documents: Mapping[str, type[BaseModel]]) -> list[Column]:
    """What is shown of documents by name: their numbers."""
    return [
        Column(name, field)
        for name, kind in documents.items()
        for field in scalar_fields(kind)
        if _holds(kind, field, float, int)
    ]


def scalars(document: BaseModel) -> dict[str, Scalar]:
    """Every plain value of a document, for files."""
    return {name: getattr(document, name) for name in scalar_fields(type(document))}


def scalar_fields(kind: type[BaseModel]) -> list[str]:
    """Fields that hold one plain value."""
    return [name for name in kind.model_fields if name not in _NOT_SHOWN and _holds(kind, name, float, int, str, bool)]


def shown(value: Scalar, digits: int) -> str:
    """A value as text; a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if digits < 0 else f"{value:.{digits}f}"


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

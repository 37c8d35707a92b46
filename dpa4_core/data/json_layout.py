"""Where in a JSON file its rows are: in a list, in a mapping by name, under a key, or in the columns of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dpa4_core.data.identifiers import identifier
from dpa4_core.data.json_structures import STRUCTURE_KEYS, holds_structure

CONTAINERS = ("entries", "structures", "phases", "candidates", "materials", "data")
"""Keys under which a file has its rows, beside others that tell of the file: `reference export`, Alexandria,
answers of OPTIMADE servers (``data``)."""


class Row(NamedTuple):
    """One row of a file.

    Attributes:
        part: where in the file, ``7``, ``name`` or ``group/name``; empty for the only one.
        key: name in a mapping; None in a list.
        value: the row.
        group: name of the mapping that the row is in, where mappings are in a mapping (MPtrj).
    """

    part: str
    key: str | None
    value: Any
    group: str | None = None

    def name(self, otherwise: str) -> str:
        """What the row is called: by the mapping, by itself, or ``otherwise`` with its part."""
        if self.key is not None:
            return self.key
        return identifier(
            self.value if isinstance(self.value, Mapping) else {},
            f"{otherwise}:{self.part}" if self.part else otherwise,
        )


def rows_of(data: Any) -> Iterator[Row]:
    """The rows of a file that was read as a whole; none of a value that is neither a list nor a mapping."""
    if isinstance(data, list):
        yield from (Row(str(number), None, row) for number, row in enumerate(data))
    elif isinstance(data, Mapping):
        column = _structure_column(data)
        container = None if column is not None else container_key(data)
        if column is not None:
            yield from _rows_of_table(data, column)
        elif holds_structure(data):
            yield Row("", None, data)
        elif container is not None:
            yield from rows_of(data[container])
        else:
            yield from _rows_of_mapping(data)


def container_key(data: Mapping[str, Any]) -> str | None:
    """The key under which a mapping has its rows, if no other value is a structure itself."""
    if any(holds_structure(value) for key, value in data.items() if key not in CONTAINERS):
        return None
    return next((key for key in CONTAINERS if isinstance(data.get(key), list | Mapping)), None)


def _structure_column(data: Mapping[str, Any]) -> str | None:
    """The column of structures of a table that pandas wrote by columns, {column: {index: value}}."""
    for key in STRUCTURE_KEYS:
        column = data.get(key)
        if not isinstance(column, Mapping) or not column or holds_structure(column):
            continue
        if all(map(holds_structure, column.values())):
            return key
    return None


def _rows_of_table(data: Mapping[str, Any], column: str) -> Iterator[Row]:
    for index in data[column]:
        row = {key: values.get(index) for key, values in data.items() if isinstance(values, Mapping)}
        yield Row(index, None if index.isdecimal() else index, row)


def _rows_of_mapping(data: Mapping[str, Any]) -> Iterator[Row]:
    for name, value in data.items():
        if isinstance(value, list) and any(map(holds_structure, value)):
            yield from (Row(f"{name}/{number}", None, row, str(name)) for number, row in enumerate(value))
        elif isinstance(value, Mapping) and not holds_structure(value) and any(map(holds_structure, value.values())):
            yield from (Row(f"{name}/{inner}", str(inner), row, str(name)) for inner, row in value.items())
        else:
            yield Row(str(name), str(name), value)

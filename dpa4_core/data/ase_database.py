"""Rows of ASE's databases, SQLite or JSON, read without the help of ASE, which would trust them.

An SQLite file is opened for reading only and asked for plain columns. Damaged pages may lead in circles: identifiers
must grow, and a question may take no more than `_STEPS` steps of SQLite's machine.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from dpa4_core.data.ase_fields import arrays_of, atoms_of_fields, decode_fields
from dpa4_core.data.bounded import LARGEST_ENTRY, LARGEST_FILE, open_bytes, parse_json, whole_text
from dpa4_core.data.plain_fields import plain_integers, plain_value
from dpa4_core.data.system import StructureError

_ROWS_AT_ONCE = 1000
_STEPS = 10_000_000
"""Of SQLite's machine for one question: a thousand numbers of rows take 5,000, a row of 100,000 atoms 100."""
_OLDEST = 5  # version of ASE's tables from which on the columns are as below

_ARRAYS = {
    "numbers": "<i4",
    "positions": "<f8",
    "cell": "<f8",
    "initial_magmoms": "<f8",
    "initial_charges": "<f8",
    "masses": "<f8",
    "tags": "<i4",
    "momenta": "<f8",
    "forces": "<f8",
    "stress": "<f8",
    "dipole": "<f8",
    "magmoms": "<f8",
    "charges": "<f8",
}
_VECTORS = ("positions", "cell", "momenta", "forces")
_VALUES = ("pbc", "energy", "free_energy", "magmom", "calculator", "constraints", "key_value_pairs", "data")


@dataclass(frozen=True)
class DatabaseRow:
    """One row.

    Attributes:
        number: its identifier in the database.
        fields: what `atoms_of_fields` takes.
        key_value_pairs: numbers and texts that somebody noted.
        data: whatever else was stored beside the structure, plain values and arrays.
    """

    number: int
    fields: Mapping[str, Any]
    key_value_pairs: Mapping[str, Any]
    data: Mapping[str, Any]

    def atoms(self) -> Atoms:
        """The structure with its calculated values.

        Raises:
            StructureError: a field is missing or is not what it should be.
        """
        return atoms_of_fields(self.fields)


def sqlite_rows(path: Path) -> Iterator[tuple[int, Callable[[], DatabaseRow]]]:
    """Number of each row of an SQLite file in order, and a function that reads it.

    Raises:
        StructureError: it is no database of ASE, or damaged from some row on.
        sqlite3.Error: the same.
    """
    columns = _columns(path)
    last = -1
    while True:
        with closing(_connect(path)) as connection:
            found = connection.execute(
                "SELECT id FROM systems WHERE id > ? ORDER BY id LIMIT ?", (last, _ROWS_AT_ONCE)
            ).fetchall()
        if not found:
            return
        for (number,) in found:
            if not isinstance(number, int) or number <= last:
                raise StructureError(f"the database is damaged after row {last}: the numbers of its rows do not grow")
            last = number
            yield number, _Row(path, number, columns).read


@dataclass(frozen=True)
class _Row:
    path: Path
    number: int
    columns: tuple[str, ...]

    def read(self) -> DatabaseRow:
        question = f"SELECT {', '.join(self.columns)} FROM systems WHERE id = ?"  # noqa: S608  # names are ours
        with closing(_connect(self.path)) as connection:
            found = connection.execute(question, (self.number,)).fetchone()
        if found is None:
            raise StructureError(f"the database is damaged: row {self.number} is listed and not there")
        values = dict(zip(self.columns, found, strict=True))
        fields = {key: value for key, value in values.items() if value is not None}
        for name, kind in _ARRAYS.items():
            if name in fields:
                fields[name] = _blob(fields[name], kind, name)
        pairs, data = fields.pop("key_value_pairs", None), fields.pop("data", None)
        return DatabaseRow(self.number, fields, _mapping(pairs), _mapping(data))


def json_database_rows(path: Path) -> Iterator[tuple[int, Callable[[], DatabaseRow]]]:
    """Number of each row of a JSON database in the order of its list, and a function that makes it.

    Raises:
        StructureError: it is no database of ASE.
    """
    with open_bytes(path) as stream:
        content = parse_json(whole_text(stream, LARGEST_FILE))
    numbers = content.get("ids") if isinstance(content, dict) else None
    numbers = arrays_of(numbers)
    for number in plain_integers(numbers, "the list of rows (ids)").tolist():
        yield number, _JsonRow(content.get(str(number)), number).read


@dataclass(frozen=True)
class _JsonRow:
    content: Any
    number: int

    def read(self) -> DatabaseRow:
        if not isinstance(self.content, dict):
            raise StructureError(f"row {self.number} is listed and not there")
        fields = arrays_of(self.content)
        pairs, data = fields.pop("key_value_pairs", None), fields.pop("data", None)
        return DatabaseRow(self.number, fields, _mapping(pairs), _mapping(data))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    connection.execute("PRAGMA trusted_schema = OFF")  # no function may run that the file names
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_ENTRY)
    connection.set_progress_handler(_stop, _STEPS)
    return connection


def _stop() -> int:
    """Called after `_STEPS` steps, and ends the question."""
    return 1


def _columns(path: Path) -> tuple[str, ...]:
    """Names of the columns that we read, as far as the file has them."""
    with closing(_connect(path)) as connection:
        kind = connection.execute("SELECT type FROM sqlite_master WHERE name = 'systems'").fetchone()
        if kind != ("table",):
            raise StructureError("the file is an SQLite database but not one of ASE")
        found = {row[1] for row in connection.execute("PRAGMA table_info(systems)")}
        version = _version(connection)
    if not version.isdecimal() or int(version) < _OLDEST:
        raise StructureError("the database is of an old version of ASE; run `python -m ase.db.convert` on it")
    return tuple(name for name in (*_ARRAYS, *_VALUES) if name in found)


def _version(connection: sqlite3.Connection) -> str:
    """Of ASE's tables; the oldest have none. Where its page is damaged, rows on other pages can still be read."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'information' AND type = 'table'").fetchone():
        return ""
    try:
        found = connection.execute("SELECT value FROM information WHERE name = 'version'").fetchone()
    except sqlite3.DatabaseError:
        return str(_OLDEST)
    return "" if found is None else str(found[0])[:9]


def _blob(content: Any, kind: str, name: str) -> Any:
    """The array of a column."""
    dtype = np.dtype(kind)
    if not isinstance(content, bytes) or len(content) % dtype.itemsize:
        raise StructureError(f"the column {name} does not hold an array")
    flat = np.frombuffer(content, dtype).astype(np.int64 if dtype.kind == "i" else np.float64)
    if name not in _VECTORS:
        return flat
    if len(flat) % 3:
        raise StructureError(f"the column {name} does not hold vectors")
    return flat.reshape(-1, 3)


def _mapping(stored: Any) -> dict[str, Any]:
    """A mapping from text, from the binary form of ASE, or as it is; anything else counts as empty."""
    if isinstance(stored, str):
        stored = decode_fields(stored)
    elif isinstance(stored, bytes):
        stored = _binary(stored)
    return plain_value(stored) if isinstance(stored, dict) else {}


def _binary(record: bytes) -> Any:
    """ASE's binary form: where the JSON begins, the arrays one after the other, and the JSON."""
    start = struct.unpack("<q", record[:8])[0] if len(record) >= 8 else -1
    if not 8 <= start <= len(record):
        raise StructureError("the stored data of the row are damaged")
    return arrays_of(parse_json(record[start:].decode("utf-8", errors="replace")), record)

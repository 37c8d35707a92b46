"""ASE databases (SQLite, JSON) and trajectories."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dpa4_core.data.ase_database import DatabaseRow
from dpa4_core.data.formats import database_rows, stem
from dpa4_core.data.frame import BrokenFrame, Frame, LabelKeys, attempt, frame_of_atoms
from dpa4_core.data.identifiers import identifier
from dpa4_core.data.parse_errors import PARSE_ERRORS, reason
from dpa4_core.data.trajectory import open_trajectory


def read_database(path: Path, keys: LabelKeys, source: str, kind: str = "db") -> Iterator[Frame | BrokenFrame]:
    """Rows of an ASE database; key-value pairs and ``data`` count as fields of the frame."""
    for number, read in database_rows(path, kind):
        name = f"{stem(path)}:{number}"
        try:
            row = read()
        except PARSE_ERRORS as error:
            yield BrokenFrame(name, f"{source}, {name}: {reason(error, 'database')}")
            continue
        name = identifier(row.key_value_pairs, name)
        yield attempt(name, source, partial(_frame_of_row, row, keys, name, source), "database")


def read_trajectory(path: Path, keys: LabelKeys, source: str) -> Iterator[Frame | BrokenFrame]:
    """Frames of an ASE trajectory."""

    def read(number: int, name: str) -> Frame:
        return frame_of_atoms(frames.frame(number), keys, name=name, source=source)

    with open_trajectory(path) as frames:
        for number in range(len(frames)):
            name = f"{stem(path)}:{number}"
            yield attempt(name, source, partial(read, number, name), "trajectory")


def _frame_of_row(row: DatabaseRow, keys: LabelKeys, name: str, source: str) -> Frame:
    atoms = row.atoms()
    fields = {**row.data, **row.key_value_pairs}
    atoms.info.update({key: fields[key] for key in ("charge", "spin") if key in fields})
    return frame_of_atoms(atoms, keys, name=name, source=source, fields=fields)

"""ASE databases (SQLite, JSON) and trajectories."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ase.io.trajectory import Trajectory

from dpa4_core.data.formats import database_rows, stem
from dpa4_core.data.frame import BrokenFrame, Frame, LabelKeys, attempt, frame_of_atoms
from dpa4_core.data.identifiers import identifier


def read_database(path: Path, keys: LabelKeys, source: str, kind: str = "db") -> Iterator[Frame | BrokenFrame]:
    """Rows of an ASE database; key-value pairs and ``data`` count as fields of the frame."""
    for row in database_rows(path, kind):
        name = identifier(row.key_value_pairs, f"{stem(path)}:{row.id}")
        yield attempt(name, source, partial(_frame_of_row, row, keys, name, source))


def read_trajectory(path: Path, keys: LabelKeys, source: str) -> Iterator[Frame | BrokenFrame]:
    """Frames of an ASE trajectory."""

    def read(number: int, name: str) -> Frame:
        return frame_of_atoms(frames[number], keys, name=name, source=source)

    with Trajectory(path) as frames:
        for number in range(len(frames)):
            name = f"{stem(path)}:{number}"
            yield attempt(name, source, partial(read, number, name))


def _frame_of_row(row: Any, keys: LabelKeys, name: str, source: str) -> Frame:
    atoms = row.toatoms()
    # a key-value pair "charge" is hidden behind a property of the row that adds up initial charges
    stored = {key: vars(row).get(key, value) for key, value in row.key_value_pairs.items()}
    fields = {**row.data, **stored}
    atoms.info.update({key: fields[key] for key in ("charge", "spin") if key in fields})
    return frame_of_atoms(atoms, keys, name=name, source=source, fields=fields)

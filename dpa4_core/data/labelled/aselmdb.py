"""Rows of ``.aselmdb`` files (OMat24, OMol25): zlib-compressed JSON in ASE's encoding under integer keys."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io.jsonio import decode

from dpa4_core.data.formats import stem
from dpa4_core.data.frame import BrokenFrame, Frame, LabelKeys, attempt, labelled_frame
from dpa4_core.data.identifiers import ID_KEYS
from dpa4_core.data.system import StructureError

ROW_ID_KEYS = (*ID_KEYS, "sid")


def read_ase_rows(transaction: Any, path: Path, keys: LabelKeys, source: str) -> Iterator[Frame | BrokenFrame]:
    """Rows in order of their number; ``nextid``, ``metadata`` and ``deleted_ids`` are no rows."""
    numbers = [int(key) for key in transaction.cursor().iternext(values=False) if bytes(key).isdigit()]
    deleted = transaction.get(b"deleted_ids")
    gone = set(_decoded(deleted)) if deleted is not None else set()
    for number in sorted(numbers):
        if number not in gone:
            name = f"{stem(path)}:{number}"
            record = bytes(transaction.get(str(number).encode()))
            yield attempt(name, source, partial(_frame_of_row, record, keys, name, source))


def _decoded(record: bytes) -> Any:
    return decode(zlib.decompress(record).decode(), always_array=False)


def _frame_of_row(record: bytes, keys: LabelKeys, name: str, source: str) -> Frame:
    row = _decoded(record)
    if not isinstance(row, dict):
        raise StructureError("the row is no mapping")
    extra = [row[key] for key in ("data", "key_value_pairs") if isinstance(row.get(key), dict)]
    fields = {key: value for mapping in (*extra, row) for key, value in mapping.items()}
    atoms = Atoms(row["numbers"], row["positions"], cell=row.get("cell"), pbc=row.get("pbc", False))
    atoms.info = {key: fields[key] for key in ("charge", "spin") if key in fields}
    own = next((fields[key] for key in ROW_ID_KEYS if isinstance(fields.get(key), str)), None)
    return labelled_frame(
        atoms,
        keys.find(fields),
        name=name if own is None else f"{name} ({own})",
        source=source,
        fields=fields,
        properties=keys.find_properties(fields),
        look_alikes=keys.look_alikes(fields, len(atoms)),
    )

"""Rows of ``.aselmdb`` files (OMat24, OMol25): zlib-compressed JSON in ASE's encoding under integer keys."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dpa4_core.data.ase_fields import atoms_of_fields, decode_fields
from dpa4_core.data.bounded import LARGEST_ENTRY
from dpa4_core.data.formats import stem
from dpa4_core.data.frame import BrokenFrame, Frame, LabelKeys, attempt, labelled_frame
from dpa4_core.data.identifiers import identifier
from dpa4_core.data.labelled.lmdb_pages import LmdbFile
from dpa4_core.data.plain_fields import plain_integers
from dpa4_core.data.system import StructureError

_STRUCTURE = ("numbers", "positions", "cell", "pbc")
_MOST_DIGITS = 19


def read_ase_rows(
    database: LmdbFile, found: Sequence[bytes], path: Path, keys: LabelKeys, source: str
) -> Iterator[Frame | BrokenFrame]:
    """Rows in order of their number; ``nextid``, ``metadata`` and ``deleted_ids`` are no rows."""
    numbers = {int(key): key for key in found if len(key) < _MOST_DIGITS}
    deleted = database.get(b"deleted_ids")
    gone = _numbers_of(deleted)
    for number in sorted(numbers):
        if number not in gone:
            name = f"{stem(path)}:{number}"
            yield attempt(
                name, source, partial(_frame_of_row, database, numbers[number], keys, name, source), "database"
            )


def _numbers_of(record: bytes | None) -> set[int]:
    """The numbers of deleted rows, none without the list."""
    if record is None:
        return set()
    deleted = _decoded(record)
    return set(plain_integers(deleted, "the list of deleted rows").tolist())


def _decoded(record: bytes) -> Any:
    unpacked = zlib.decompressobj()
    text = unpacked.decompress(record, LARGEST_ENTRY)
    if unpacked.unconsumed_tail:
        raise StructureError(
            f"the row grows beyond {LARGEST_ENTRY // 2**20} MiB when unpacked, too much for a structure"
        )
    if not unpacked.eof:
        raise StructureError("the row is cut off")
    return decode_fields(text.decode("utf-8", errors="replace"))


def _frame_of_row(database: LmdbFile, key: bytes, keys: LabelKeys, name: str, source: str) -> Frame:
    row = _decoded(database.get(key) or b"")
    if not isinstance(row, dict):
        raise StructureError("the row is no mapping")
    extra = [row[key] for key in ("data", "key_value_pairs") if isinstance(row.get(key), dict)]
    fields = {key: value for mapping in (*extra, row) for key, value in mapping.items()}
    # the labels are found under their names, so that the structure needs none
    atoms = atoms_of_fields({key: row[key] for key in _STRUCTURE if key in row})
    atoms.info = {key: fields[key] for key in ("charge", "spin") if key in fields}
    own = identifier({key: value for key, value in fields.items() if isinstance(value, str)}, "")
    return labelled_frame(
        atoms,
        keys.find(fields),
        name=f"{name} ({own})" if own else name,
        source=source,
        fields=fields,
        properties=keys.find_properties(fields),
        look_alikes=keys.look_alikes(fields, len(atoms)),
        weights=keys.find_weights(fields),
    )

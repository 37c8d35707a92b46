"""Which of the two kinds of LMDB data sets a file is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dpa4_core.data.formats import stem
from dpa4_core.data.frame import BrokenFrame, Frame, LabelKeys
from dpa4_core.data.labelled.aselmdb import read_ase_rows
from dpa4_core.data.labelled.deepmd_lmdb import METADATA, read_deepmd_records
from dpa4_core.data.labelled.lmdb_pages import open_lmdb
from dpa4_core.data.system import StructureError


def read_lmdb(path: Path, keys: LabelKeys, source: str) -> Iterator[Frame | BrokenFrame]:
    """Frames of a data set in ASE's row encoding (OMat24, OMol25) or in DeePMD's records, told apart by content."""
    with open_lmdb(path) as database:
        if database.n_entries == 0:
            raise StructureError("the database is empty")
        found = list(database.keys())
        reader = read_deepmd_records if METADATA in found else read_ase_rows
        yield from reader(database, [key for key in found if key.isdigit()], path, keys, source)
        if database.lost:
            more = f" and {len(database.lost) - 1} more" if len(database.lost) > 1 else ""
            problem = (
                f"{database.lost[0]}{more}; {len(found)} of {database.n_entries} entries were found; copy it again"
            )
            yield BrokenFrame(f"{stem(path)}:end", f"{source}: {problem}")

"""Which of the two kinds of LMDB data sets a file is, and transactions that cannot change it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpa4_core.data.frame import BrokenFrame, Frame, LabelKeys
from dpa4_core.data.labelled.aselmdb import read_ase_rows
from dpa4_core.data.labelled.deepmd_lmdb import METADATA, read_deepmd_records
from dpa4_core.data.labelled.optional import optional_package
from dpa4_core.data.system import StructureError

_UNWRITTEN_PAGES = 4
"""Pages that LMDB may count at the end of a healthy file without having written them."""


def read_lmdb(path: Path, keys: LabelKeys, source: str) -> Iterator[Frame | BrokenFrame]:
    """Frames of a data set in ASE's row encoding (OMat24, OMol25) or in DeePMD's records, told apart by content."""
    with _transaction(path) as transaction:
        if transaction.stat()["entries"] == 0:
            raise StructureError("the database is empty")
        reader = read_ase_rows if transaction.get(METADATA) is None else read_deepmd_records
        yield from reader(transaction, path, keys, source)


@contextmanager
def _transaction(path: Path) -> Iterator[Any]:
    lmdb = optional_package("lmdb", "an LMDB data set")
    try:
        # without a lock file, so that data on a read-only disk can be read
        environment = lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise StructureError(f"not an LMDB database ({error})") from error
    try:
        _check_length(environment, path / "data.mdb" if path.is_dir() else path)
        with environment.begin() as transaction:
            yield transaction
    except lmdb.Error as error:
        raise StructureError(f"the LMDB database is damaged ({error})") from error
    finally:
        environment.close()


def _check_length(environment: Any, file: Path) -> None:
    """Refuse a file that was cut off: LMDB maps it into memory, and reading past its end kills the process."""
    expected = (environment.info()["last_pgno"] + 1 - _UNWRITTEN_PAGES) * environment.stat()["psize"]
    if file.stat().st_size < expected:
        raise StructureError(f"the LMDB database was cut off: {file.stat().st_size} of {expected} bytes; copy it again")

"""The input of a run as a numbered sequence of structures: files with their sizes, times and numbers of entries.

The list of files is what a run is recognised by, and lets a process pass over a file without opening it when all
structures in it are done.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dpa4_core.data.readers import Entry, iter_entries, walk
from dpa4_core.data.structures import StructureError
from dpa4_core.files import replacing

_SCHEMA = pa.schema(
    [
        ("input", pa.int32()),
        ("label", pa.binary()),  # names of files need not be text
        ("relative", pa.binary()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("n_entries", pa.int64()),
    ]
)
_FILES_AT_ONCE = 10_000


@dataclass(frozen=True)
class InputFile:
    """One file of an input.

    Attributes:
        input: number of the input, a file or folder, that it belongs to.
        label: what the file is called in the results.
        relative: path inside the input; empty if the input is the file itself.
        size, mtime_ns: bytes, and time of the last change in ns.
        n_entries: structures in it, broken ones included; 0 as long as they were not counted.
    """

    input: int
    label: str
    relative: str
    size: int
    mtime_ns: int
    n_entries: int = 0

    def path(self, inputs: Sequence[Path]) -> Path:
        """Where the file is, if the inputs are at ``inputs``."""
        return inputs[self.input] / self.relative if self.relative else inputs[self.input]


def list_files(inputs: Sequence[Path]) -> Iterator[InputFile]:
    """All files of the inputs in their order, not opened.

    Raises:
        StructureError: an input is missing.
    """
    for number, path in enumerate(inputs):
        if not path.exists():
            raise StructureError(f"there is no file {path}")
        for file in walk(path) if path.is_dir() else [path]:
            relative = file.relative_to(path).as_posix() if path.is_dir() else ""
            status = file.stat()
            yield InputFile(number, str(file), relative, status.st_size, status.st_mtime_ns)


def distinct(inputs: Iterable[Path]) -> list[Path]:
    """The inputs without repetitions, ``~`` expanded."""
    found: dict[Path, Path] = {}
    for path in inputs:
        found.setdefault(path.expanduser().resolve(), path.expanduser())
    return list(found.values())


def write_index(path: Path, inputs: Sequence[Path], counted: Callable[[int], None]) -> tuple[int, str]:
    """Count the structures of every file and write the list of files.

    Args:
        path: Parquet file to write.
        inputs: files and folders.
        counted: told now and then how many structures were found.

    Returns:
        The number of structures, and the fingerprint of the files.

    Raises:
        StructureError: there is no structure.
    """
    total, identity = 0, hashlib.sha256()
    with replacing(path) as part:
        with pq.ParquetWriter(part, _SCHEMA, compression="zstd") as writer:
            for files in _chunks(list_files(inputs)):
                rows = []
                for file in files:
                    _digest(identity, file)
                    n_entries = 0
                    for _ in iter_entries(file.path(inputs)):
                        n_entries += 1
                        total += 1
                        if total % 1000 == 0:
                            counted(total)
                    names = {"label": os.fsencode(file.label), "relative": os.fsencode(file.relative)}
                    rows.append({**file.__dict__, **names, "n_entries": n_entries})
                writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
        if not total:
            raise StructureError(f"there is no structure in {', '.join(map(str, inputs))[:200]}")
    return total, identity.hexdigest()


def fingerprint(inputs: Sequence[Path]) -> str:
    """What `write_index` returns for the same, unchanged files."""
    identity = hashlib.sha256()
    for file in list_files(inputs):
        _digest(identity, file)
    return identity.hexdigest()


def first_difference(index: Path, inputs: Sequence[Path]) -> str:
    """The first file that is not as the list of files has it, and in what."""
    stored = read_index(index)
    for file in list_files(inputs):
        other = next(stored, None)
        if other is None:
            return f"{file.label} is new"
        if (_name(other), other.input) != (_name(file), file.input):
            return f"{other.label} then, {file.label} now"
        if (other.size, other.mtime_ns) != (file.size, file.mtime_ns):
            return f"{file.label} has changed"
    left = next(stored, None)
    return "" if left is None else f"{left.label} is missing"


def read_index(path: Path) -> Iterator[InputFile]:
    """The list of files, a part at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_FILES_AT_ONCE):
            for row in batch.to_pylist():
                names = {"label": os.fsdecode(row["label"]), "relative": os.fsdecode(row["relative"])}
                yield InputFile(**{**row, **names})


def numbered_entries(
    index: Path, inputs: Sequence[Path], wanted: Callable[[int, int], bool]
) -> Iterator[tuple[int, Entry]]:
    """Entries with their numbers in the whole input.

    Args:
        index: list of files.
        inputs: where the files and folders are.
        wanted: asked with first number and end of each file whether to open it.

    Raises:
        StructureError: a file has another number of structures than the list says.
    """
    start = 0
    for file in read_index(index):
        end = start + file.n_entries
        if file.n_entries and wanted(start, end):
            number = start
            for entry in iter_entries(file.path(inputs), file.label):
                yield number, entry
                number += 1
            if number != end:
                raise StructureError(
                    f"{file.label} has changed during the run: {number - start} structures, not {file.n_entries}; "
                    "start in a new folder"
                )
        start = end


def _chunks(files: Iterator[InputFile]) -> Iterator[list[InputFile]]:
    chunk: list[InputFile] = []
    for file in files:
        chunk.append(file)
        if len(chunk) == _FILES_AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _digest(identity: hashlib._Hash, file: InputFile) -> None:
    identity.update(f"{file.input}\0{_name(file)}\0{file.size}\0{file.mtime_ns}\n".encode(errors="surrogateescape"))


def _name(file: InputFile) -> str:
    """What stays when the input is moved to another place."""
    return file.relative or Path(file.label).name

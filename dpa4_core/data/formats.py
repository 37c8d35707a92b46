"""One reader per format: each finds the entries of a file one after the other and leaves parsing them to the caller.

Finding is cheap and needs the memory of one entry, so that a run may pass over what it has computed. A broken entry
gives its reason when it is parsed; a file that breaks off raises where it does.

CIF and JSON entries become pymatgen structures where pymatgen is installed (it is not needed) and ase.Atoms
elsewhere; all other formats become ase.Atoms. Nothing is ever unpickled.
"""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import io
import json
import lzma
import re
import sqlite3
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO, TypeVar, cast

import ase.db
import ase.io
from ase.io.formats import UnknownFileTypeError
from ase.io.trajectory import Trajectory

from dpa4_core.data.cif import read_block
from dpa4_core.data.identifiers import identifier
from dpa4_core.data.json_rows import json_rows
from dpa4_core.data.json_structures import HAS_PYMATGEN, holds_structure, is_database, structure_of
from dpa4_core.data.poscar import poscar_atoms
from dpa4_core.data.star import split_blocks, title_of
from dpa4_core.data.system import StructureError
from dpa4_core.data.xyz import xyz_frame, xyz_frames

T = TypeVar("T")

WHOLE_JSON = 16 * 2**20
"""Characters up to which a JSON file is read at once; larger ones are read row by row."""
_ROWS_AT_ONCE = 1000

OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

# what the parsers of ASE, pymatgen and the standard library raise on files that they do not understand
PARSE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,  # a damaged header that announces terabytes
    OSError,
    RuntimeError,
    StopIteration,
    SyntaxError,  # of XML, and of array headers
    TypeError,
    ValueError,
    UnknownFileTypeError,
    ase.io.ParseError,
    sqlite3.Error,
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    tokenize.TokenError,  # of array headers
    zlib.error,
)


@dataclass(frozen=True)
class NamedStructure:
    """One entry of a file.

    Attributes:
        name: identifier in the file, or the name of the file with the number of the entry if it has several.
        structure: ase.Atoms, pymatgen Structure or Molecule; None if it could not be read.
        error: why it cannot be used, in one sentence that names the file; None if it can.
        warnings: what to know of its content before using it, one sentence each.
    """

    name: str
    structure: Any
    error: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unread:
    """An entry that was found in a file and is not parsed yet.

    Attributes:
        part: where in the file, unique in it and the same in every pass: ``":7"``, ``"/member.cif"``; empty for the
            only entry.
        read: parses it; never raises for a broken entry.
    """

    part: str
    read: Callable[[], NamedStructure]


def _format_of(name: str) -> str:
    """Suffix of the format of a file of this name without the one of a compression; ``.poscar`` for POSCAR_2."""
    name = name.lower()
    suffix = "." + name.rpartition(".")[2]
    if suffix in OPENERS:
        name = name[: -len(suffix)]
    suffix = "." + name.rpartition(".")[2]
    if suffix not in STREAM_READERS and suffix not in PATH_READERS and re.match(r"(poscar|contcar)(\b|_)", name):
        return ".poscar"
    return suffix


def stream_reader(name: str) -> StreamReader | None:
    """The reader of binary streams for a file of this name; None if there is none."""
    return STREAM_READERS.get(_format_of(name))


def reader_of(path: Path) -> Callable[[Path], Iterator[Unread]] | None:
    """The reader for a file of this name; None if the format is unknown."""
    if stream_reader(path.name) is not None:
        return _read_stream
    return PATH_READERS.get(_format_of(path.name)) if path.suffix.lower() not in OPENERS else None


def _read_stream(path: Path) -> Iterator[Unread]:
    reader = stream_reader(path.name)
    assert reader is not None
    if reader is _read_json and _is_json_database(path):
        yield from _read_database(path, kind="json")
        return
    opener = OPENERS.get(path.suffix.lower(), open)
    with opener(path, "rb") as stream:
        yield from reader(stream, stem(path))


def unknown_format(path: Path, known: str = "") -> str:
    """Why no file of this name is read, and which formats are."""
    if path.suffix.lower() in (".pkl", ".pickle"):
        return f"{path} is a pickle, which may run code when read; save the structures as JSON or extended XYZ"
    return f"{path} has no known format ({known or KNOWN_FORMATS}); convert it, for example with `ase convert`"


def stem(path: Path) -> str:
    """Name of the file without the suffixes of format and compression."""
    name = path.name
    if path.suffix.lower() in OPENERS:
        name = name[: -len(path.suffix)]
    stem, dot, suffix = name.rpartition(".")
    known = "." + suffix.lower() in (*STREAM_READERS, *PATH_READERS)
    return stem if dot and known else name


def reason(error: Exception) -> str:
    """The first line of what a parser said; a sentence of ours as it is."""
    lines = str(error).strip().splitlines()
    if isinstance(error, StructureError) and lines:
        return lines[0]
    message = lines[0][:120] if lines else "the text ends early or is not in this format"
    return f"{type(error).__name__}: {message}"


def _attempt(name: str, read: Callable[[], Any]) -> NamedStructure:
    """One entry, or the reason why it cannot be read."""
    try:
        return NamedStructure(name, read())
    except PARSE_ERRORS as error:
        return NamedStructure(name, None, reason(error))


def read_text(path: Path) -> str:
    """The whole of a plain or compressed text file."""
    opener = OPENERS.get(path.suffix.lower(), open)
    with opener(path, "rb") as stream:
        return stream.read().decode("utf-8-sig", errors="replace")


@contextmanager
def _text(stream: IO[bytes]) -> Iterator[io.TextIOWrapper]:
    """The stream as text; who opened it closes it, also when its entries are not read to the end."""
    text = io.TextIOWrapper(cast("BinaryIO", stream), encoding="utf-8-sig", errors="replace")
    try:
        yield text
    finally:
        text.detach()


def _numbered(entries: Iterator[T]) -> Iterator[tuple[str, T]]:
    """``(":0", first), (":1", second), ...``; the only entry of a file has no number."""
    first = list(islice(entries, 2))
    for number, entry in enumerate(chain(first, entries)):
        yield (f":{number}" if len(first) > 1 else ""), entry


def _read_cif(stream: IO[bytes], stem: str) -> Iterator[Unread]:
    with _text(stream) as text:
        for part, block in _numbered(split_blocks(text)):
            name = f"{stem}:{title_of(block)}" if part else stem
            yield Unread(part, partial(_cif_entry, name, block))


def _cif_entry(name: str, block: list[str]) -> NamedStructure:
    entry = _attempt(name, partial(read_block, block, pymatgen=HAS_PYMATGEN))
    if entry.structure is None:
        return entry
    structure, said = entry.structure
    return NamedStructure(name, structure, warnings=said)


def _read_poscar(stream: IO[bytes], stem: str) -> Iterator[Unread]:
    with _text(stream) as text:
        content = text.read()
    yield Unread("", partial(_attempt, stem, partial(poscar_atoms, content)))


def _read_xyz(stream: IO[bytes], stem: str) -> Iterator[Unread]:
    with _text(stream) as text:
        for part, frame in _numbered(xyz_frames(text)):
            yield Unread(part, partial(_xyz_entry, frame, f"{stem}{part}"))


def _xyz_entry(frame: list[str], name: str) -> NamedStructure:
    entry = _attempt(name, partial(xyz_frame, frame))
    if entry.structure is None:
        return entry
    return dataclasses.replace(entry, name=identifier(entry.structure.info, name))


def _read_json(stream: IO[bytes], stem: str) -> Iterator[Unread]:
    with _text(stream) as text:
        head = text.read(WHOLE_JSON)
        if len(head) < WHOLE_JSON:
            yield from _whole_json(json.loads(head), stem)
        else:
            yield from _large_json(head, text, stem)


def _large_json(head: str, text: TextIO, stem: str) -> Iterator[Unread]:
    for key, row in json_rows(head, text):
        if isinstance(key, str) and not isinstance(row, dict):
            raise StructureError(
                f"a JSON file of this size must be a list or a mapping of structures, and {key[:40]!r} is none; "
                "split it or write JSON lines"
            )
        yield _json_row(row, f":{key}", str(key) if isinstance(key, str) else f"{stem}:{key}")


def _whole_json(data: Any, stem: str) -> Iterator[Unread]:
    if isinstance(data, dict) and is_database(data):
        raise StructureError("an ASE database in a compressed file or archive is not read; unpack it")
    if isinstance(data, dict) and holds_structure(data):
        yield _json_row(data, "", stem)
    elif isinstance(data, dict):
        for name, row in data.items():
            yield Unread(f":{name}", partial(_attempt, str(name), partial(structure_of, row)))
    elif isinstance(data, list):
        for number, row in enumerate(data):
            yield _json_row(row, f":{number}", f"{stem}:{number}")


def _json_row(row: Any, part: str, otherwise: str) -> Unread:
    name = identifier(row if isinstance(row, dict) else {}, otherwise)
    return Unread(part, partial(_attempt, name, partial(structure_of, row)))


def _read_json_lines(stream: IO[bytes], stem: str) -> Iterator[Unread]:
    with _text(stream) as text:
        for number, line in enumerate(line for line in text if line.strip()):
            yield Unread(f":{number}", partial(_json_line, line, f"{stem}:{number}"))


def _json_line(line: str, name: str) -> NamedStructure:
    try:
        row = json.loads(line)
    except PARSE_ERRORS as error:
        return NamedStructure(name, None, reason(error))
    return _json_row(row, "", name).read()


def _is_json_database(path: Path) -> bool:
    """Whether a JSON file is a database of ASE, which ends with the next free number."""
    if path.suffix.lower() in OPENERS:
        return False
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 200))
        return b'"nextid"' in stream.read()


def _read_database(path: Path, kind: str = "db") -> Iterator[Unread]:
    if kind != "db":  # ASE reads such a file as a whole
        for row in database_rows(path, kind):
            yield Unread(f":{row.id}", partial(_row_entry, partial(_itself, row), f"{stem(path)}:{row.id}"))
        return
    database = ase.db.connect(path, type=kind, use_lock_file=False)
    for number in _row_numbers(path):
        yield Unread(f":{number}", partial(_row_entry, partial(database.get, id=number), f"{stem(path)}:{number}"))


def _itself(row: Any) -> Any:
    return row


def _row_entry(find: Callable[[], Any], name: str) -> NamedStructure:
    try:
        row = find()
    except PARSE_ERRORS as error:
        return NamedStructure(name, None, reason(error))
    return _attempt(identifier(row.key_value_pairs, name), row.toatoms)


def _row_numbers(path: Path) -> Iterator[int]:
    """Identifiers of the rows of an SQLite database in their order; ASE's own selection reads all rows at once."""
    _refuse_foreign(path)
    last = -1
    while True:
        with closing(_connect(path)) as connection:
            found = connection.execute(
                "SELECT id FROM systems WHERE id > ? ORDER BY id LIMIT ?", (last, _ROWS_AT_ONCE)
            ).fetchall()
        if not found:
            return
        yield from (number for (number,) in found)
        last = found[-1][0]


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def _refuse_foreign(path: Path) -> None:
    """ASE would write its tables into any other SQLite file."""
    with closing(_connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'systems'").fetchone():
            raise StructureError("the file is an SQLite database but not one of ASE")


def database_rows(path: Path, kind: str = "db") -> Iterator[Any]:
    """Rows of an ASE database in an SQLite (``db``) or ``json`` file, which is not touched."""
    if kind == "db":
        _refuse_foreign(path)
    yield from ase.db.connect(path, type=kind, use_lock_file=False).select()


def _read_trajectory(path: Path) -> Iterator[Unread]:
    with Trajectory(path) as frames:
        for number in range(len(frames)):
            part = f":{number}" if len(frames) > 1 else ""
            yield Unread(part, partial(_attempt, f"{stem(path)}{part}", partial(frames.__getitem__, number)))


StreamReader = Callable[[IO[bytes], str], Iterator[Unread]]
"""Entries of a binary stream; the second argument names the file."""

STREAM_READERS: dict[str, StreamReader] = {
    ".cif": _read_cif,
    ".mcif": _read_cif,
    ".vasp": _read_poscar,
    ".poscar": _read_poscar,
    ".contcar": _read_poscar,
    ".xyz": _read_xyz,
    ".extxyz": _read_xyz,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
}
PATH_READERS: dict[str, Callable[[Path], Iterator[Unread]]] = {".db": _read_database, ".traj": _read_trajectory}
ONE_STRUCTURE = (_read_poscar, _read_cif)
"""Readers of formats whose files are small."""
KNOWN_FORMATS = ", ".join([*STREAM_READERS, *PATH_READERS, "POSCAR", "CONTCAR", "tar or zip archives of them"])

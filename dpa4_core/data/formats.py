"""One reader per format: each finds the entries of a file one after the other and leaves parsing them to the caller.

Finding is cheap and needs the memory of one entry, so that a run may pass over what it has computed. A broken entry
gives its reason when it is parsed; a file that breaks off raises where it does.

CIF and JSON entries become pymatgen structures where pymatgen is installed (it is not needed) and ase.Atoms
elsewhere; all other formats become ase.Atoms. Nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import IO, Any, TextIO, TypeVar

from dpa4_core.data.ase_database import DatabaseRow, json_database_rows, sqlite_rows
from dpa4_core.data.bounded import (
    LARGEST_ENTRY,
    LARGEST_FILE,
    OPENERS,
    bounded_lines,
    open_bytes,
    parse_json,
    storable,
    text_of,
    whole_text,
)
from dpa4_core.data.cif import read_block
from dpa4_core.data.identifiers import ID_KEYS, STATED, identifier
from dpa4_core.data.json_layout import CONTAINERS, Row, rows_of
from dpa4_core.data.json_rows import json_rows
from dpa4_core.data.json_structures import (
    HAS_PYMATGEN,
    STRUCTURE_KEYS,
    holds_structure,
    is_database,
    structure_of,
)
from dpa4_core.data.optimade import is_other_line
from dpa4_core.data.parse_errors import PARSE_ERRORS, reason
from dpa4_core.data.poscar import poscar_atoms
from dpa4_core.data.recognise import peeked, recognise
from dpa4_core.data.star import split_blocks, title_of
from dpa4_core.data.system import StructureError
from dpa4_core.data.trajectory import open_trajectory
from dpa4_core.data.xyz import xyz_frame, xyz_frames

T = TypeVar("T")

WHOLE_JSON = 16 * 2**20
"""Characters up to which a JSON file is read at once; larger ones are read row by row."""


LABELS = (*ID_KEYS, "formula", "tags", "source", "role")
"""Keys of a row of a JSON file that are handed on with its structure."""


@dataclass(frozen=True)
class NamedStructure:
    """One entry of a file.

    Attributes:
        name: identifier in the file, or the name of the file with the number of the entry if it has several.
        structure: ase.Atoms, pymatgen Structure or Molecule; None if it could not be read. One whose sites are shared
            is there beside the error that says so.
        error: why it cannot be used, in one sentence that names the file; None if it can.
        warnings: what to know of its content before using it, one sentence each.
        labels: what its row of a JSON file says of it, by those of `LABELS` that it has.
        origin: its file, and the member of an archive; empty for what is of no file.
    """

    name: str
    structure: Any
    error: str | None = None
    warnings: tuple[str, ...] = ()
    labels: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""

    @property
    def is_disordered(self) -> bool:
        """Whether several elements, or one and nothing, share a site: an error for all but those who order it."""
        return not getattr(self.structure, "is_ordered", True)


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
    with open_bytes(path) as stream:
        yield from stream_entries(reader, stream, stem(path))


def stream_entries(reader: StreamReader, stream: IO[bytes], stem: str) -> Iterator[Unread]:
    """Entries of a stream by its reader, or by that of another text format which the content clearly has."""
    head, stream = peeked(stream)
    found = recognise(head)
    if found is not None and reader not in _OF_CONTENT[found]:
        reader = _OF_CONTENT[found][0]
    yield from reader(stream, stem)


def unknown_format(path: Path, known: str = "") -> str:
    """Why no file of this name is read, and which formats are."""
    if path.suffix.lower() in (".pkl", ".pickle"):
        return f"{path} is a pickle, which may run code when read; save the structures as JSON or extended XYZ"
    return f"{path} has no known format ({known or KNOWN_FORMATS}); convert it, for example with `ase convert`"


def stem(path: PurePath) -> str:
    """Name of the file without the suffixes of format and compression."""
    name = path.name
    if path.suffix.lower() in OPENERS:
        name = name[: -len(path.suffix)]
    stem, dot, suffix = name.rpartition(".")
    known = "." + suffix.lower() in (*STREAM_READERS, *PATH_READERS)
    return stem if dot and known else name


def _attempt(form: str, name: str, read: Callable[[], Any]) -> NamedStructure:
    """One entry, or the reason why it cannot be read."""
    try:
        return NamedStructure(name, read())
    except PARSE_ERRORS as error:
        return NamedStructure(name, None, reason(error, form))


def read_text(path: Path) -> str:
    """The whole of a plain or compressed text file."""
    with open_bytes(path) as stream:
        return whole_text(stream, LARGEST_FILE)


def _numbered(entries: Iterator[T]) -> Iterator[tuple[str, T]]:
    """``(":0", first), (":1", second), ...``; the only entry of a file has no number."""
    first = list(islice(entries, 2))
    for number, entry in enumerate(chain(first, entries)):
        yield (f":{number}" if len(first) > 1 else ""), entry


def _read_cif(stream: IO[bytes], stem: str) -> Iterator[Unread]:
    with text_of(stream) as text:
        for part, block in _numbered(split_blocks(bounded_lines(text))):
            name = f"{stem}:{title_of(block)}" if part else stem
            yield Unread(part, partial(_cif_entry, name, block))


def _cif_entry(name: str, block: list[str]) -> NamedStructure:
    entry = _attempt("CIF", name, partial(read_block, block, pymatgen=HAS_PYMATGEN))
    if entry.structure is None:
        return entry
    structure, said = entry.structure
    return NamedStructure(name, structure, warnings=said)


def _read_poscar(stream: IO[bytes], stem: str) -> Iterator[Unread]:
    yield Unread("", partial(_attempt, "POSCAR", stem, partial(poscar_atoms, whole_text(stream))))


def _read_xyz(stream: IO[bytes], stem: str) -> Iterator[Unread]:
    with text_of(stream) as text:
        for part, frame in _numbered(xyz_frames(bounded_lines(text))):
            yield Unread(part, partial(_xyz_entry, frame, f"{stem}{part}"))


def _xyz_entry(frame: list[str], name: str) -> NamedStructure:
    entry = _attempt("XYZ", name, partial(xyz_frame, frame))
    if entry.structure is None:
        return entry
    return dataclasses.replace(entry, name=identifier(entry.structure.info, name))


def _read_json(stream: IO[bytes], stem: str) -> Iterator[Unread]:
    with text_of(stream) as text:
        head = text.read(WHOLE_JSON)
        if len(head) < WHOLE_JSON:
            yield from _whole_json(parse_json(head), stem)
        else:
            yield from _large_json(head, text, stem)


def _large_json(head: str, text: TextIO, stem: str) -> Iterator[Unread]:
    """Rows of a list, of a mapping, or of a list or mapping under one of `CONTAINERS`; others tell of the file."""
    others: list[str] = []
    is_inside = is_mapping = False
    for outer, key, row in json_rows(head, text, {*CONTAINERS, *STRUCTURE_KEYS}):
        part = f"{key}" if outer is None else f"{outer}/{key}"
        if outer is None and isinstance(key, str) and not holds_structure(row):
            inner = [each for each in rows_of({key: row}) if each.group]
            yield from (_json_row(each, stem) for each in inner)
            is_inside = is_inside or bool(inner)
            others.append(key)
            continue
        is_inside, is_mapping = is_inside or outer is not None, is_mapping or (outer is None and isinstance(key, str))
        is_number = isinstance(key, int) or (outer in STRUCTURE_KEYS and key.isdecimal())  # of a list, of a table
        yield _json_row(Row(part, None if is_number else str(key), row), stem)
    if is_mapping and not is_inside:  # then they should have been structures too
        for key in others:
            yield Unread(
                f":{key}", partial(NamedStructure, storable(key), None, f"{storable(key, 40)!r} is no structure")
            )
    elif others and not is_inside:
        raise StructureError(
            f"{storable(others[0], 40)!r} and {len(others) - 1} more keys of the file are no structures; a JSON file "
            f"of this size must be a list or a mapping of structures, also under {', '.join(CONTAINERS)}"
        )


def _whole_json(data: Any, stem: str) -> Iterator[Unread]:
    if isinstance(data, dict) and is_database(data):
        raise StructureError("an ASE database in a compressed file or archive is not read; unpack it")
    for row in rows_of(data):
        yield _json_row(row, stem)


def _json_row(row: Row, stem: str) -> Unread:
    return Unread(f":{row.part}" if row.part else "", partial(_json_entry, row, row.name(stem)))


def _json_entry(row: Row, name: str) -> NamedStructure:
    entry = _attempt("JSON", name, partial(structure_of, row.value))
    labels = row.value if isinstance(row.value, dict) else {}
    about = getattr(entry.structure, "properties" if hasattr(entry.structure, "properties") else "info", None)
    if about is not None:
        about.update({key: labels[key] for key in STATED if isinstance(labels.get(key), str | int | float)})
    return dataclasses.replace(entry, labels={key: labels[key] for key in LABELS if key in labels})


def _read_json_lines(stream: IO[bytes], stem: str) -> Iterator[Unread]:
    with text_of(stream) as text:
        for number, line in enumerate(line for line in bounded_lines(text, LARGEST_ENTRY) if line.strip()):
            if is_other_line(line):
                continue
            yield Unread(f":{number}", partial(_json_line, line, f"{stem}:{number}"))


def _json_line(line: str, name: str) -> NamedStructure:
    try:
        row = parse_json(line)
    except PARSE_ERRORS as error:
        return NamedStructure(name, None, reason(error, "JSON"))
    named = Row("", None, row)
    return _json_entry(named, named.name(name))


def _is_json_database(path: Path) -> bool:
    """Whether a JSON file is a database of ASE, which ends with the next free number."""
    if path.suffix.lower() in OPENERS:
        return False
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 200))
        return b'"nextid"' in stream.read()


def _read_database(path: Path, kind: str = "db") -> Iterator[Unread]:
    for number, read in database_rows(path, kind):
        yield Unread(f":{number}", partial(_row_entry, read, f"{stem(path)}:{number}"))


def _row_entry(read: Callable[[], DatabaseRow], name: str) -> NamedStructure:
    try:
        row = read()
    except PARSE_ERRORS as error:
        return NamedStructure(name, None, reason(error, "database"))
    return _attempt("database", identifier(row.key_value_pairs, name), row.atoms)


def database_rows(path: Path, kind: str = "db") -> Iterator[tuple[int, Callable[[], DatabaseRow]]]:
    """Number of each row of an ASE database in an SQLite (``db``) or ``json`` file, and a function that reads it."""
    return sqlite_rows(path) if kind == "db" else json_database_rows(path)


def _read_trajectory(path: Path) -> Iterator[Unread]:
    with open_trajectory(path) as frames:
        for number in range(len(frames)):
            part = f":{number}" if len(frames) > 1 else ""
            yield Unread(part, partial(_attempt, "trajectory", f"{stem(path)}{part}", partial(frames.frame, number)))


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
_OF_CONTENT: dict[str, tuple[StreamReader, ...]] = {
    "cif": (_read_cif,),
    "poscar": (_read_poscar,),
    "xyz": (_read_xyz,),
    "json": (_read_json, _read_json_lines),
    "jsonl": (_read_json_lines, _read_json),
}
"""Readers of what `recognise` finds, the first for files whose ending says another format."""
ONE_STRUCTURE = (_read_poscar, _read_cif)
"""Readers of formats whose files are small."""
KNOWN_FORMATS = ", ".join([*STREAM_READERS, *PATH_READERS, "POSCAR", "CONTCAR", "tar or zip archives of them"])

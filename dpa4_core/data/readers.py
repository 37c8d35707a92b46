"""Structures from files, folders and archives; one bad entry does not spoil the others."""

from __future__ import annotations

import dataclasses
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dpa4_core.data.archives import archive_entries, is_archive
from dpa4_core.data.bounded import LONGEST_SENTENCE, LONGEST_SOURCE, storable
from dpa4_core.data.formats import (
    KNOWN_FORMATS,
    NamedStructure,
    Unread,
    reader_of,
    stem,
    unknown_format,
)
from dpa4_core.data.identifiers import ID_KEYS
from dpa4_core.data.parse_errors import PARSE_ERRORS, reason
from dpa4_core.data.run_names import names_of_dynamics
from dpa4_core.data.structures import StructureError, to_system
from dpa4_core.data.told_apart import told_apart

__all__ = [
    "ID_KEYS",
    "RUN_FILE",
    "Entry",
    "NamedStructure",
    "iter_entries",
    "iter_structures",
    "read_files",
    "read_structures",
    "walk",
]

logger = logging.getLogger(__name__)

RUN_FILE = "dpa4-run.json"
"""A file of this name says that a folder holds results, not input."""
_RESULTS = frozenset({RUN_FILE, "results.sqlite", "log.jsonl"})
"""With those of campaigns and trainings, in folders that are not given themselves."""


@dataclass(frozen=True)
class Entry:
    """A structure that was found and is not parsed yet.

    Attributes:
        source: path, member of the archive and number in the file: ``"a.extxyz:7"``, ``"set.tar.gz/x.cif"``. The same
            in every pass over unchanged files, and unique (but for an archive that holds a name twice).
        read: parses it; what is wrong with it is in the ``error`` of the result.
    """

    source: str
    read: Callable[[], NamedStructure]


def read_structures(path: str | Path) -> list[NamedStructure]:
    """Every structure of a file or archive, or of all files of a folder and its subfolders that have a known format,
    sorted by name, with names that tell them apart.

    Formats: CIF, POSCAR/CONTCAR, (extended) XYZ, pymatgen JSON (a structure, a list, rows with a ``structure``, one
    row in each line of a .jsonl), ASE databases and trajectories; text formats may be compressed (.gz, .bz2, .xz).
    Archives: .tar, also compressed, and .zip. See `iter_structures` for more structures than fit into memory.

    Raises:
        StructureError: the path is missing, empty, of an unknown format, or cannot be read to its end.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        return told_apart(_read_file(path))
    entries: list[NamedStructure] = []
    for file in walk(path):
        try:
            entries += _read_file(file)
        except StructureError as error:
            entries.append(_failed(file, str(error)))
    if not entries:
        raise StructureError(f"the folder {path} holds no file of structures ({KNOWN_FORMATS})")
    return told_apart(entries)


def read_files(paths: Sequence[str | Path]) -> list[NamedStructure]:
    """Every structure of all files; among several, one that cannot be read fails alone.

    Raises:
        StructureError: the only one cannot be read.
    """
    found: list[NamedStructure] = []
    for path in paths:
        try:
            found += read_structures(path)
        except StructureError as error:
            if len(paths) == 1:
                raise
            found.append(NamedStructure(storable(str(path)), None, storable(str(error), LONGEST_SENTENCE)))
    return told_apart(found)


def _read_file(path: Path) -> list[NamedStructure]:
    entries: list[NamedStructure] = []
    names: set[str] = set()  # a trajectory repeats the identifier of its system
    for entry in _file_entries(path, str(path)):
        named = entry.read()
        if named.name in names and ":" in entry.source:
            named = dataclasses.replace(named, name=f"{named.name}:{entry.source.rpartition(':')[2]}")
        names.add(named.name)
        entries.append(named)
    return entries


def iter_structures(path: str | Path) -> Iterator[NamedStructure]:
    """What `read_structures` reads, one after the other and in bounded memory, subfolders included.

    Names may repeat here, where the file repeats them. A file that cannot be read, or not to its end, is one failed
    entry.
    """
    for entry in iter_entries(path):
        yield entry.read()


def iter_entries(path: str | Path, label: str | None = None) -> Iterator[Entry]:
    """Entries of a file, an archive or a folder with its subfolders, found one by one and not yet parsed.

    Files of a folder come in the order of their names, and those of unknown formats are passed over. Reading all rows
    to pass over them costs little next to parsing them.

    Args:
        path: where to read.
        label: what to call it in `Entry.source` instead of ``path``.
    """
    path = Path(path).expanduser()
    label = label or str(path)
    if not path.is_dir():
        yield from _until_broken(path, label)
        return
    for file in walk(path):
        yield from _until_broken(file, f"{label}/{file.relative_to(path).as_posix()}")


def walk(folder: Path) -> Iterator[Path]:
    """All files of known formats in a folder and its subfolders, in the order of their names.

    Not entered are folders of runs, which hold results, and links to folders, which may lead in circles. Files of
    molecular dynamics are passed over, too, which may stand beside their input.
    """
    return _walk(folder, frozenset({RUN_FILE}))


def _walk(folder: Path, marks: frozenset[str]) -> Iterator[Path]:
    with os.scandir(folder) as found:
        listed = {e.name: e.is_dir(follow_symlinks=False) for e in found if not e.name.startswith(".")}
    if any(listed.get(mark) is False for mark in marks):
        return
    trajectories = names_of_dynamics(listed)
    for name, is_folder in sorted(listed.items()):
        if is_folder:
            yield from _walk(folder / name, _RESULTS)
        elif name not in trajectories and _is_known(folder / name) and (folder / name).is_file():
            yield folder / name


def _is_known(path: Path) -> bool:
    return is_archive(path.name) or reader_of(path) is not None


def _until_broken(path: Path, label: str) -> Iterator[Entry]:
    """The entries of a file; where it cannot be read any further, one that says so."""
    last = None
    try:
        for entry in _file_entries(path, label):
            yield entry
            last = entry.source
    except StructureError as error:
        source = label if last is None else f"{label}:end"
        yield Entry(storable(source, LONGEST_SOURCE), partial(_failed, path, str(error)))


def _file_entries(path: Path, label: str) -> Iterator[Entry]:
    """The entries of one file.

    Raises:
        StructureError: the file is missing, empty, of an unknown format, or ends in a way that its format forbids.
    """
    if not path.exists():
        raise StructureError(f"there is no file {path}")
    if not path.is_file():
        raise StructureError(f"{path} is not a file")
    if path.stat().st_size == 0:
        raise StructureError(f"{path} is empty; write the structure again")
    reader = archive_entries if is_archive(path.name) else reader_of(path)
    if reader is None:
        raise StructureError(unknown_format(path))
    found = reader(path)
    count = 0
    while True:
        try:
            with _logged_warnings(path):
                unread = next(found, None)
        except StructureError as error:
            raise StructureError(f"{path}: {error}") from error
        except PARSE_ERRORS as error:
            raise StructureError(f"{path} cannot be read: {reason(error)}") from error
        if unread is None:
            break
        count += 1
        yield Entry(storable(f"{label}{unread.part}", LONGEST_SOURCE), partial(_checked, unread, label))
    if not count:
        raise StructureError(f"{path} holds no structure")


def _checked(unread: Unread, label: str) -> NamedStructure:
    """The structure, with an error if it cannot be used.

    Args:
        unread: where in its file it stands.
        label: what the file is called.
    """
    with _logged_warnings(label) as caught:
        entry = unread.read()
    said = [storable(text, LONGEST_SENTENCE) for text in (*entry.warnings, *(w.text for w in caught if w.of_content))]
    error = entry.error
    if error is None:
        try:
            to_system(entry.structure)
        except PARSE_ERRORS as problem:
            error = reason(problem)
    name = storable(entry.name)
    is_member = unread.part.startswith("/")
    if error is not None:
        where = f", {unread.part[1:] if is_member else name}" if unread.part else ""
        error = storable(f"{label}{where}: {error}", LONGEST_SENTENCE)
    origin = storable(f"{label}{unread.part}" if is_member else label, LONGEST_SOURCE)
    return dataclasses.replace(entry, name=name, error=error, warnings=tuple(dict.fromkeys(said)), origin=origin)


def _failed(path: Path, error: str) -> NamedStructure:
    """A file that cannot be used, in words that every file can hold."""
    origin = storable(str(path), LONGEST_SOURCE)
    return NamedStructure(storable(stem(path)), None, storable(error, LONGEST_SENTENCE), origin=origin)


class _Warning(NamedTuple):
    """What a parser said.

    Attributes:
        text: its words.
        of_content: it is about the file and not about the code of the parser, whose warnings have classes of their own.
    """

    text: str
    of_content: bool


@contextmanager
def _logged_warnings(path: str | Path) -> Iterator[list[_Warning]]:
    """What was said within, complete at the end, and in the log."""
    found: list[_Warning] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield found
        found += [_Warning(" ".join(str(w.message).split()), w.category is UserWarning) for w in caught]
    for text in dict.fromkeys(warning.text for warning in found):
        logger.info("%s: %s", path, text)

"""Structures from files and folders; one bad entry does not spoil the others."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpa4_core.data.formats import (
    ID_KEYS,
    KNOWN_FORMATS,
    PARSE_ERRORS,
    NamedStructure,
    reader_of,
    reason,
    stem,
    unknown_format,
)
from dpa4_core.data.structures import StructureError, to_system

__all__ = ["ID_KEYS", "NamedStructure", "read_structures"]

logger = logging.getLogger(__name__)


def read_structures(path: str | Path) -> list[NamedStructure]:
    """Every structure of a file, or of all files of a folder that have a known format, sorted by name.

    Formats: CIF, POSCAR/CONTCAR, (extended) XYZ, pymatgen JSON (a structure, a list, or rows with a
    ``structure``), ASE databases and trajectories; text formats may be compressed (.gz, .bz2, .xz).

    Raises:
        StructureError: the path is missing, empty, of an unknown format, or cannot be read at all.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise StructureError(f"there is no file {path}")
    if path.stat().st_size == 0:
        raise StructureError(f"{path} is empty; write the structure again")
    reader = reader_of(path)
    if reader is None:
        raise StructureError(unknown_format(path))
    try:
        with _logged_warnings(path):
            entries = [_checked(entry, path) for entry in reader(path)]
    except StructureError as error:
        raise StructureError(f"{path}: {error}") from error
    except PARSE_ERRORS as error:
        raise StructureError(f"{path} cannot be read: {reason(error)}") from error
    if not entries:
        raise StructureError(f"{path} holds no structure")
    return entries


def _read_folder(folder: Path) -> list[NamedStructure]:
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    files = [path for path in files if reader_of(path) is not None]
    if not files:
        raise StructureError(f"the folder {folder} holds no file of structures ({KNOWN_FORMATS})")
    entries: list[NamedStructure] = []
    for path in files:
        try:
            entries += read_structures(path)
        except StructureError as error:
            entries.append(NamedStructure(stem(path), None, str(error)))
    return entries


def _checked(entry: NamedStructure, path: Path) -> NamedStructure:
    """The entry, with an error if its structure cannot be used."""
    error = entry.error
    if error is None:
        try:
            to_system(entry.structure)
        except StructureError as problem:
            error = str(problem)
    if error is None:
        return entry
    return dataclasses.replace(entry, error=f"{path.name}, {entry.name}: {error}")


@contextmanager
def _logged_warnings(path: Path) -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(warning.message).strip() for warning in caught):
        logger.info("%s: %s", path, text)

"""Labelled frames from files and folders of any known format; one bad frame does not spoil the others.

Formats, told by name and where needed by content:

* extended XYZ (``.xyz``, ``.extxyz``), also compressed (.gz, .bz2, .xz);
* ASE databases (``.db``, ``.json``) and trajectories (``.traj``);
* LMDB data sets (``.aselmdb``, ``.lmdb``): ASE's rows (OMat24, OMol25) and DeePMD's records;
* DeePMD's folders of NumPy arrays, also mixed ones;
* JSON with pymatgen structures: MPtrj, MatPES, lists of rows; also compressed;
* VASP's ``vasprun.xml`` and ``OUTCAR``, also compressed.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from dpa4_core.data.bounded import OPENERS
from dpa4_core.data.formats import stem, unknown_format
from dpa4_core.data.frame import BrokenFrame, Frame, LabelKeys, frame_of_atoms, labelled_frame
from dpa4_core.data.labelled.ase_files import read_database, read_trajectory
from dpa4_core.data.labelled.deepmd import is_deepmd_system, read_deepmd_system
from dpa4_core.data.labelled.lmdb_files import read_lmdb
from dpa4_core.data.labelled.pymatgen_json import read_json
from dpa4_core.data.labelled.text import read_xyz
from dpa4_core.data.labelled.vasp import read_outcar, read_vasprun
from dpa4_core.data.parse_errors import PARSE_ERRORS, reason
from dpa4_core.data.system import StructureError
from dpa4_core.errors import DPA4Error

__all__ = ["BrokenFrame", "Frame", "LabelKeys", "frame_of_atoms", "labelled_frame", "read_frames"]

Reader = Callable[[Path, LabelKeys, str], Iterator[Frame | BrokenFrame]]

BINARY: dict[str, Reader] = {
    ".db": read_database,
    ".traj": read_trajectory,
    ".aselmdb": read_lmdb,
    ".lmdb": read_lmdb,
}
TEXT: dict[str, Reader] = {".xyz": read_xyz, ".extxyz": read_xyz, ".json": read_json}
KNOWN_FORMATS = ", ".join([*TEXT, *BINARY, "vasprun.xml", "OUTCAR", "folders of DeePMD arrays"])


_RUN_MARK = "log.jsonl"
"""A folder with this file is the output of a training run."""


def read_frames(path: str | Path, keys: LabelKeys | None = None) -> Iterator[Frame | BrokenFrame]:
    """Frames of a file, or of all files of known format in a folder and the folders in it, sorted by name.

    Text, databases and trajectories are streamed; JSON and ``vasprun.xml`` are read one file at a time. What cannot be
    read comes as a `BrokenFrame`, and a label that cannot be used is missing from its frame, which says so.

    Args:
        path: file or folder.
        keys: what the labels are called, if not as usual.

    Raises:
        StructureError: the path is missing, empty or of an unknown format, or a folder holds no known file.
    """
    given, keys = str(path), keys or LabelKeys()
    path = Path(path).expanduser()
    if not path.exists():
        raise StructureError(f"there is no file {given}")
    files = list(_files(path)) if path.is_dir() else [(path, reader_of(path))]
    if not files:
        raise StructureError(f"the folder {given} holds no file of labelled structures ({KNOWN_FORMATS})")
    if path.is_file() and path.stat().st_size == 0:
        raise StructureError(f"{given} is empty; write the frames again")
    known = [(file, reader) for file, reader in files if reader is not None]
    if not known:
        raise StructureError(unknown_format(path, KNOWN_FORMATS))
    return _frames(known, path, given, keys)


def data_files(path: str | Path) -> list[Path]:
    """The files whose content `read_frames` would see, sorted; what training runs in a folder wrote is not data.

    Raises:
        StructureError: there is no such path.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise StructureError(f"there is no file {path}")
    if not path.is_dir():
        return [path]
    found = [entry for entry, _ in _files(path)]
    return sorted(
        part
        for entry in found
        for part in (entry.rglob("*") if entry.is_dir() else (entry,))
        if part.is_file() and not part.name.endswith("lock.mdb")  # of LMDB, changes on reading
    )


def reader_of(path: Path) -> Reader | None:
    """The reader for a file or folder of this name; None if the format is unknown."""
    if path.is_dir():
        if is_deepmd_system(path):
            return read_deepmd_system
        return read_lmdb if (path / "data.mdb").is_file() else None
    name = path.name.lower()
    suffix = path.suffix.lower()
    if suffix in BINARY:
        return BINARY[suffix]
    if suffix in OPENERS:
        name = name[: -len(suffix)]
    if re.search(r"vasprun.*\.xml", name):
        return read_vasprun
    if re.match(r"outcar(\b|_)", name) or name.endswith(".outcar"):
        return read_outcar
    return TEXT.get("." + name.rpartition(".")[2])


def _files(folder: Path) -> Iterator[tuple[Path, Reader | None]]:
    """Files and data folders below ``folder``; of a VASP run only the more precise of its two outputs."""
    if reader := reader_of(folder):
        yield folder, reader
        return
    if (folder / _RUN_MARK).exists():
        return
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    has_vasprun = any(entry.is_file() and reader_of(entry) is read_vasprun for entry in entries)
    for entry in entries:
        if entry.is_dir():
            yield from _files(entry)
        elif (reader := reader_of(entry)) and not (has_vasprun and reader is read_outcar):
            yield entry, reader


def _frames(files: list[tuple[Path, Reader]], path: Path, given: str, keys: LabelKeys) -> Iterator[Frame | BrokenFrame]:
    for file, reader in files:
        source = given if file == path else str(Path(given) / file.relative_to(path))
        is_empty = True
        frames = reader(file, keys, source)
        while True:
            try:
                with warnings.catch_warnings():  # remarks of parsers; what matters is checked on the frame
                    warnings.simplefilter("ignore")
                    frame = next(frames, None)
            except StructureError as error:
                frame = BrokenFrame(stem(file), f"{source}: {error}")
                frames = iter(())
            except DPA4Error:  # a package is missing
                raise
            except PARSE_ERRORS as error:
                frame = BrokenFrame(stem(file), f"{source} cannot be read: {reason(error)}")
                frames = iter(())
            if frame is None:
                break
            is_empty = False
            yield frame
        if is_empty:
            yield BrokenFrame(stem(file), f"{source} holds no frame")

"""One reader per format: each yields the entries of a file, a broken one with its reason.

CIF and JSON entries become pymatgen structures where pymatgen is installed (it is not needed) and ase.Atoms
elsewhere; all other formats become ase.Atoms. Nothing is ever unpickled.
"""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import importlib
import importlib.util
import io
import json
import lzma
import re
import sqlite3
import tokenize
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ase.db
import ase.io
from ase import Atoms
from ase.io.formats import UnknownFileTypeError
from ase.io.jsonio import decode
from ase.io.trajectory import Trajectory

from dpa4_core.data.system import StructureError

HAS_PYMATGEN = importlib.util.find_spec("pymatgen") is not None

ID_KEYS = ("id", "material_id", "mp_id", "entry_id", "task_id", "name")
"""Keys that name a row of a JSON list or a frame of an extended XYZ file, first match wins."""

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
    """

    name: str
    structure: Any
    error: str | None = None


def reader_of(path: Path) -> Callable[[Path], Iterator[NamedStructure]] | None:
    """The reader for a file of this name; None if the format is unknown."""
    name = path.name.lower()
    compressed = path.suffix.lower() in OPENERS
    if compressed:
        name = name[: -len(path.suffix)]
    reader = READERS.get("." + name.rpartition(".")[2])
    if compressed and reader in (_read_database, _read_trajectory):
        return None
    if reader is None and re.match(r"(poscar|contcar)(\b|_)", name):
        return _read_poscar
    return reader


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
    return stem if dot and "." + suffix.lower() in READERS else name


def reason(error: Exception) -> str:
    """The first line of what a parser said."""
    lines = str(error).strip().splitlines()
    message = lines[0][:120] if lines else "the text ends early or is not in this format"
    return message if isinstance(error, StructureError) else f"{type(error).__name__}: {message}"


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


def _read_cif(path: Path) -> Iterator[NamedStructure]:
    text = read_text(path)
    blocks = [block for block in re.split(r"(?mi)^(?=data_)", text) if "_atom_site_" in block.lower()]
    for block in blocks:
        title = block.split(maxsplit=1)[0][len("data_") :]
        name = stem(path) if len(blocks) == 1 else f"{stem(path)}:{title}"
        yield _attempt(name, partial(_cif_block, block))


def _cif_block(block: str) -> Any:
    if not HAS_PYMATGEN:
        return ase.io.read(io.StringIO(block), format="cif")
    parser = importlib.import_module("pymatgen.io.cif").CifParser.from_str(block)
    return parser.parse_structures(primitive=False, on_error="raise")[0]


def _read_poscar(path: Path) -> Iterator[NamedStructure]:
    text = read_text(path)
    yield _attempt(stem(path), lambda: ase.io.read(io.StringIO(text), format="vasp"))


def _read_xyz(path: Path) -> Iterator[NamedStructure]:
    opener = OPENERS.get(path.suffix.lower(), open)
    names: set[str] = set()  # a trajectory repeats the identifier of its system
    with opener(path, "rt", encoding="utf-8", errors="replace") as stream:
        frames = list(xyz_frames(stream))
    for number, frame in enumerate(frames):
        name = f"{stem(path)}:{number}" if len(frames) > 1 else stem(path)
        entry = _attempt(name, partial(xyz_frame, frame))
        if entry.structure is not None:
            label = identifier(entry.structure.info, name)
            entry = dataclasses.replace(entry, name=f"{label}:{number}" if label in names else label)
        names.add(entry.name)
        yield entry


def xyz_frames(stream: Iterator[str]) -> Iterator[list[str]]:
    """Lines of each frame. A line that holds one integer, and is no comment, begins a new one."""
    frame: list[str] = []
    for line in stream:
        is_comment = len(frame) == 1 and _is_count(frame[0])
        if _is_count(line) and not is_comment:
            if frame:
                yield frame
            frame = []
        if frame or line.strip():
            frame.append(line)
    if frame:
        yield frame


def _is_count(line: str) -> bool:
    return line.strip().isdecimal()


def xyz_frame(lines: list[str]) -> Atoms:
    """The atoms of one frame of an (extended) XYZ file."""
    if not _is_count(lines[0]):
        raise StructureError(f"the frame begins with {lines[0].strip()[:40]!r} and not with the number of atoms")
    n_atoms = int(lines[0])
    n_found = sum(bool(line.strip()) for line in lines[2:])
    if n_found < n_atoms or n_atoms == 0:
        raise StructureError(f"the frame announces {n_atoms} atoms and holds {n_found}")
    atoms = ase.io.read(io.StringIO("".join(lines)), format="extxyz")
    assert isinstance(atoms, Atoms)  # one, not a list, by the default index
    return atoms


def identifier(labels: Mapping[str, Any], otherwise: str) -> str:
    """The name that a row gives itself."""
    found = (labels[key] for key in ID_KEYS if isinstance(labels.get(key), str | int))
    return str(next(found, otherwise))


def _read_json(path: Path) -> Iterator[NamedStructure]:
    data = json.loads(read_text(path))
    if isinstance(data, dict) and "ids" in data and "nextid" in data:
        yield from _read_database(path, kind="json")
    elif isinstance(data, dict) and holds_structure(data):
        yield _attempt(identifier(data, stem(path)), partial(structure_of, data))
    elif isinstance(data, dict):
        for name, row in data.items():
            yield _attempt(str(name), partial(structure_of, row))
    elif isinstance(data, list):
        for number, row in enumerate(data):
            labels = row if isinstance(row, dict) else {}
            name = identifier(labels, f"{stem(path)}:{number}")
            yield _attempt(name, partial(structure_of, row))


def holds_structure(row: Mapping[str, Any]) -> bool:
    """Whether a row of a JSON file has a key that `structure_of` understands."""
    return any(key in row for key in ("structure", "sites", "lattice", "species", "atoms_json"))


def structure_of(row: Any) -> Any:
    """From {"structure": ...}, pymatgen's dictionaries, or {lattice, species, frac_coords | coords}."""
    if not isinstance(row, dict) or not holds_structure(row):
        raise StructureError("the entry has neither a structure nor sites nor lattice, species and frac_coords")
    if "structure" in row:
        return structure_of(row["structure"])
    if "atoms_json" in row:
        return decode(row["atoms_json"])
    if "sites" in row:
        if not HAS_PYMATGEN:
            raise StructureError("structures in pymatgen's JSON need pymatgen; run `pip install pymatgen`")
        core = importlib.import_module("pymatgen.core")
        return (core.Structure if "lattice" in row else core.Molecule).from_dict(row)
    lattice, species = row["lattice"], row["species"]
    cartesian = "frac_coords" not in row
    coordinates = row["coords"] if cartesian else row["frac_coords"]
    if HAS_PYMATGEN:
        core = importlib.import_module("pymatgen.core")
        return core.Structure(lattice, species, coordinates, coords_are_cartesian=cartesian)
    where = {"positions" if cartesian else "scaled_positions": coordinates}
    return Atoms(species, cell=lattice, pbc=True, **where)


def _read_database(path: Path, kind: str = "db") -> Iterator[NamedStructure]:
    for row in database_rows(path, kind):
        name = identifier(row.key_value_pairs, f"{stem(path)}:{row.id}")
        yield _attempt(name, row.toatoms)


def database_rows(path: Path, kind: str = "db") -> Iterator[Any]:
    """Rows of an ASE database in an SQLite (``db``) or ``json`` file, which is not touched."""
    if kind == "db":  # ASE would write its tables into any other SQLite file
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'systems'").fetchone():
                raise StructureError("the file is an SQLite database but not one of ASE")
    yield from ase.db.connect(path, type=kind, use_lock_file=False).select()


def _read_trajectory(path: Path) -> Iterator[NamedStructure]:
    with Trajectory(path) as frames:
        for number in range(len(frames)):
            name = f"{stem(path)}:{number}" if len(frames) > 1 else stem(path)
            yield _attempt(name, partial(frames.__getitem__, number))


READERS: dict[str, Callable[[Path], Iterator[NamedStructure]]] = {
    ".cif": _read_cif,
    ".vasp": _read_poscar,
    ".poscar": _read_poscar,
    ".contcar": _read_poscar,
    ".xyz": _read_xyz,
    ".extxyz": _read_xyz,
    ".json": _read_json,
    ".db": _read_database,
    ".traj": _read_trajectory,
}
KNOWN_FORMATS = ", ".join([*READERS, "POSCAR", "CONTCAR"])

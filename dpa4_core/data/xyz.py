"""Frames of (extended) XYZ: one parser for structures and for training data.

The second line holds pairs of keys and values, ``Properties`` among them names the columns. Keys that the format or the
labels define may be in any case, as in the files of GPUMD and NEP (``lattice=``, ``properties=``); all others keep
theirs. Results with ASE's names end in a calculator, as ASE's own reader has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from ase.io.extxyz import key_val_str_to_dict, per_config_properties
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from dpa4_core.data.bounded import LARGEST_ENTRY, LINE_COST
from dpa4_core.data.plain_fields import plain_value
from dpa4_core.data.species import atoms_of
from dpa4_core.data.system import StructureError

_THREE_BY_THREE = re.compile(r"(?<!\S)(Lattice|stress|virial)(?=\s*=)")
"""Keys under which ASE takes nothing but nine numbers; they pass it with a mark, so that six are read as well."""
_MARK = "\0"

_KEYS = ("Lattice", "Properties", "pbc", "energy", "virial", "stress")
_COLUMNS = {"species": "species", "pos": "pos", "position": "pos", "positions": "pos", "force": "forces"}
_COLUMNS |= {name: name for name in ("forces", "move_mask", "tags", "masses", "Z")}
_CANONICAL = {key.lower(): key for key in _KEYS}
_CANONICAL_COLUMNS = {key.lower(): name for key, name in _COLUMNS.items()}
_ASE_NAMES = {"charge": "charges"}
_PLAIN = "species:S:1:pos:R:3"
_MAX_COLUMNS = 1000
_MOST_DIGITS = 12
_BOOLEANS = {"T": True, "F": False, "1": True, "0": False, "TRUE": True, "FALSE": False}


def xyz_frames(stream: Iterator[str]) -> Iterator[list[str]]:
    """Lines of each frame. A line that holds one integer, and is no comment, begins a new one."""
    frame: list[str] = []
    size = 0
    for line in stream:
        is_comment = len(frame) == 1 and _is_count(frame[0])
        if _is_count(line) and not is_comment:
            if frame:
                yield frame
            frame, size = [], 0
        size += len(line) + LINE_COST
        if size > LARGEST_ENTRY:
            raise StructureError(f"a frame has more than {LARGEST_ENTRY // 2**20} MiB without the beginning of another")
        if frame or line.strip():
            frame.append(line)
    if frame:
        yield frame


def _is_count(line: str) -> bool:
    return line.strip().isdecimal()


def xyz_frame(lines: list[str]) -> Atoms:
    """The atoms of one frame of an (extended) XYZ file.

    Raises:
        StructureError: the frame is not what it announces; one sentence.
    """
    if not _is_count(lines[0]):
        raise StructureError(f"the frame begins with {lines[0].strip()[:40]!r} and not with the number of atoms")
    if len(digits := lines[0].strip()) > _MOST_DIGITS:
        raise StructureError(f"the frame announces {digits[:_MOST_DIGITS]}... atoms, more than a file can hold")
    n_atoms = int(digits)
    rows = [line.split() for line in lines[2:] if line.strip()]
    if len(rows) < n_atoms or n_atoms == 0:
        raise StructureError(f"the frame announces {n_atoms} atoms and holds {len(rows)}")
    fields = comment_fields(lines[1] if len(lines) > 1 else "")
    columns = _columns(rows[:n_atoms], str(fields.pop("Properties", _PLAIN)))
    species = columns.pop("Z", None) if "Z" in columns else columns.pop("species", None)
    positions = columns.pop("pos", None)
    if species is None or positions is None or positions.shape != (n_atoms, 3) or species.shape != (n_atoms,):
        raise StructureError("Properties names no column of species (species:S:1) or no positions (pos:R:3)")
    atoms = atoms_of([str(name) for name in species.tolist()], positions)
    _set_cell(atoms, fields)
    atoms.info = plain_value(fields)
    if (movable := columns.pop("move_mask", None)) is not None:
        _constrain(atoms, movable)
    _set_arrays(atoms, columns)
    return atoms


def comment_fields(comment: str) -> dict[str, Any]:
    """Keys and values of a comment line, numbers and logical values as such, a key without a value as True."""
    try:
        found = key_val_str_to_dict(_THREE_BY_THREE.sub(rf"\1{_MARK}", comment))
    except ValueError:
        raise StructureError("the second line of the frame holds a value that begins with _JSON and is none") from None
    fields = {
        key.replace(_MARK, ""): value.replace(_MARK, "") if isinstance(value, str) else value
        for key, value in found.items()
    }
    for key in list(fields):
        name = _CANONICAL.get(key.lower(), key)
        if name not in fields:  # where a file has both, the one in the usual case counts
            fields[name] = fields.pop(key)
    return fields


def _columns(rows: list[list[str]], properties: str) -> dict[str, NDArray[Any]]:
    """Each column under its name, [n] or [n, width]."""
    parts = properties.split(":")
    kinds, widths = parts[1::3], parts[2::3]
    if len(parts) % 3 or not set(kinds) <= set("RISLrisl") or not all(w.isdecimal() and 0 < len(w) < 4 for w in widths):
        raise StructureError(
            f"Properties={properties[:60]} is no list of name:type:columns, such as {_PLAIN}, with types R, I, S or L"
        )
    total = sum(map(int, widths))
    if total > _MAX_COLUMNS:
        raise StructureError(f"Properties announces {total} columns, more than {_MAX_COLUMNS}")
    short = next((i for i, row in enumerate(rows) if len(row) < total), None)
    if short is not None:
        raise StructureError(f"atom {short} has {len(rows[short])} columns, Properties announces {total}")
    found: dict[str, NDArray[Any]] = {}
    start = 0
    for name, kind, width in zip(parts[::3], kinds, map(int, widths), strict=True):
        texts = [row[start : start + width] for row in rows]
        start += width
        array = _converted(name, kind.upper(), texts)
        canonical = _CANONICAL_COLUMNS.get(name.lower(), name)
        found[name if canonical in found else canonical] = array[:, 0] if width == 1 else array
    return found


def _converted(name: str, kind: str, texts: list[list[str]]) -> NDArray[Any]:
    try:
        if kind == "R":
            return np.array(texts, dtype=np.float64)
        if kind == "I":
            return np.array(texts, dtype=np.int64)
        if kind == "L":
            return np.array([[_BOOLEANS[text.upper()] for text in row] for row in texts])
    except (ValueError, KeyError, OverflowError):
        what = {"R": "number", "I": "integer", "L": "T or F"}[kind]
        raise StructureError(f"the column {name[:40]!r} holds something that is no {what}") from None
    return np.array(texts, dtype=object)


def _set_cell(atoms: Atoms, fields: dict[str, Any]) -> None:
    lattice, periodic = fields.pop("Lattice", None), fields.pop("pbc", None)
    if lattice is not None:
        numbers = np.asarray(lattice)
        if numbers.shape not in ((9,), (3, 3)) or numbers.dtype.kind not in "if":
            raise StructureError("Lattice needs nine numbers, the three lattice vectors one after the other")
        atoms.cell = numbers.reshape(3, 3).astype(np.float64)
    if periodic is None:
        atoms.pbc = lattice is not None
        return
    flags = np.atleast_1d(np.asarray(periodic))
    if flags.shape not in ((1,), (3,)) or flags.dtype.kind not in "bif":
        raise StructureError('pbc needs three of T and F, such as pbc="T T F"')
    atoms.pbc = flags.astype(bool)


def _constrain(atoms: Atoms, movable: NDArray[Any]) -> None:
    movable = movable.astype(bool)
    if movable.shape == (len(atoms),):
        atoms.set_constraint(FixAtoms(mask=~movable))
    elif movable.shape == (len(atoms), 3):
        atoms.set_constraint([FixCartesian(i, ~free) for i, free in enumerate(movable) if not free.all()])
    else:
        raise StructureError("move_mask needs one or three columns of T and F")


def _set_arrays(atoms: Atoms, columns: dict[str, NDArray[Any]]) -> None:
    """Columns of ASE's own names become arrays of the atoms or results of a calculator, and so do energy and stress."""
    results: dict[str, Any] = {}
    for name, array in columns.items():
        name = _ASE_NAMES.get(name, name)
        if name == "initial_charges":
            atoms.set_initial_charges(array)
        elif name in all_properties and _is_numeric(array):
            results[name] = array
        else:
            atoms.new_array(name, array.astype(str) if array.dtype == object else array)
    for key in [key for key in atoms.info if key in per_config_properties and _is_numeric(atoms.info[key])]:
        results[key] = atoms.info.pop(key)
    stress = np.asarray(results.get("stress"))
    if stress.shape in ((9,), (3, 3)) and stress.dtype.kind in "if":
        matrix = stress.reshape(3, 3)
        if np.array_equal(matrix, matrix.T):  # else it stays as it is, for who reads labels to judge
            results["stress"] = full_3x3_to_voigt_6_stress(matrix)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)


def _is_numeric(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "bif"

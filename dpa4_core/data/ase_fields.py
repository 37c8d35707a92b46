"""ase.Atoms from the plain fields of ASE's files: databases, trajectories, LMDB rows, JSON.

ASE's own decoder makes objects by name and arrays of whatever shape a file announces. Here arrays are checked against
the numbers that are there, and nothing but arrays, complex numbers and plain values is made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import ase.constraints
import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from dpa4_core.data.bounded import parse_json, storable
from dpa4_core.data.plain_fields import built, numbers_of, numbers_of_any, plain_integers, plain_value
from dpa4_core.data.system import StructureError

NUMBER_TYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
"""Types of arrays that are read, by the names of NumPy; no objects, no text."""
_CONSTRAINTS = ("FixAtoms", "FixCartesian", "FixScaled")
"""What a relaxation keeps. The others are made too, where they are data alone, so that it can refuse them by name."""
_OTHER_CONSTRAINTS = (
    *("FixBondLengths", "FixBondLength", "FixedLine", "FixedPlane", "FixInternals", "FixCom", "FixSubsetCom"),
    *("FixLinearTriatomic", "Hookean", "FixedMode", "ExternalForce", "MirrorForce", "MirrorTorque"),
)
_PER_ATOM = {"forces": (3,), "magmoms": (), "charges": (), "energies": (), "stresses": (6,)}


def decode_fields(text: str) -> Any:
    """The value of a text in ASE's JSON, arrays as arrays.

    Raises:
        StructureError: the text is not JSON, or an array does not hold what it announces.
    """
    return arrays_of(parse_json(text))


def arrays_of(value: Any, buffer: bytes | None = None) -> Any:
    """A decoded value with {"__ndarray__": [shape, type, numbers]} and the like replaced by arrays.

    Args:
        value: from `parse_json`, so its depth is bounded.
        buffer: where arrays of a binary record lie; their third part is then a position in it.
    """
    if isinstance(value, list):
        return [arrays_of(entry, buffer) for entry in value]
    if not isinstance(value, dict):
        return value
    if "__ndarray__" in value:
        return _array(value["__ndarray__"], buffer)
    if "__complex__" in value:
        real, imaginary = numbers_of(value["__complex__"], (2,), "a complex number").tolist()
        return complex(real, imaginary)
    if value.get("__ase_objtype__") == "cell":
        return arrays_of(value.get("array"), buffer)
    return {key: arrays_of(entry, buffer) for key, entry in value.items() if key != "__ase_objtype__"}


def _array(description: Any, buffer: bytes | None) -> NDArray[Any]:
    if not isinstance(description, list) or len(description) != 3:
        raise StructureError("an array is not described by its shape, type and numbers")
    shape, name, content = description
    size = announced_size(shape)
    if name not in NUMBER_TYPES:
        raise StructureError(f"an array is of the type {storable(str(name), 40)!r}, which is not one of numbers")
    dtype = np.dtype(name)
    if buffer is not None:
        return array_of_bytes(buffer, content, shape, dtype)
    if dtype.kind == "c":
        parts = numbers_of(content, (2 * size,), "an array of complex numbers")
        return parts.view(np.complex128).astype(dtype).reshape(shape)
    if dtype.kind == "f":
        return numbers_of(content, (size,), "an array").astype(dtype).reshape(shape)
    flat = plain_integers(content, "an array")
    if len(flat) != size:
        raise StructureError(f"an array announces {size} numbers and holds {len(flat)}")
    return flat.astype(dtype).reshape(shape)


def announced_size(shape: Any) -> int:
    """How many numbers an array of this shape has.

    Raises:
        StructureError: it is no shape.
    """
    if not isinstance(shape, list | tuple) or len(shape) > 8:
        raise StructureError("an array announces no shape")
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**40 for n in shape):
        raise StructureError("an array announces a shape that no array has")
    return math.prod(shape)


def array_of_bytes(buffer: bytes, start: Any, shape: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array that lies in ``buffer`` from ``start`` on, lower bytes first.

    Raises:
        StructureError: the bytes end before the array does.
    """
    size = announced_size(shape)
    if not isinstance(start, int) or not 0 <= start <= len(buffer) - size * dtype.itemsize:
        raise StructureError(f"an array announces {size} numbers, and the record ends before them")
    flat = np.frombuffer(buffer, dtype.newbyteorder("<"), size, start)
    return flat.astype(dtype).reshape(shape)


def atoms_of_fields(fields: Mapping[str, Any]) -> Atoms:
    """The structure, with its calculated values, of a row of ASE's files.

    Args:
        fields: by the names of ASE: ``numbers``, ``positions``, ``cell``, ``pbc``, ``tags``, ``masses``, ``momenta``,
            ``initial_magmoms``, ``initial_charges``, ``constraints``, ``info``, and any of ``all_properties``. Values
            are numbers, lists or arrays; ``constraints`` may be the text that ASE stores.

    Raises:
        StructureError: a field is missing or is not what it should be; one sentence.
    """
    if fields.get("numbers") is None or fields.get("positions") is None:
        raise StructureError("the row has no atomic numbers or no positions")
    numbers = plain_integers(fields["numbers"], "the list of atomic numbers")
    n_atoms = len(numbers)
    positions = _per_atom(fields["positions"], (3,), n_atoms, "positions")
    if n_atoms and not (numbers.min() >= -1 and numbers.max() < 2**31):
        raise StructureError("an atomic number is far from any element")
    cell = fields.get("cell")
    atoms = built(
        Atoms,
        numbers=numbers,
        positions=positions,
        cell=None if cell is None else numbers_of(cell, (3, 3), "the cell"),
        pbc=_flags(fields.get("pbc")),
    )
    for name, shape in {
        "tags": (),
        "masses": (),
        "momenta": (3,),
        "initial_magmoms": None,
        "initial_charges": (),
    }.items():
        if fields.get(name) is not None:
            array = (
                np.asarray(numbers_of_any(fields[name], name))
                if shape is None
                else _per_atom(fields[name], shape, n_atoms, name)
            )
            if len(array) != n_atoms:
                raise StructureError(f"there are {len(array)} {name} for {n_atoms} atoms")
            atoms.set_array(name, array.astype(np.int64) if name == "tags" else array)
    if fields.get("constraints") is not None:
        atoms.set_constraint(_constraints(fields["constraints"], n_atoms))
    info = fields.get("info")
    if isinstance(info, Mapping):
        atoms.info.update(plain_value(info))
    results = {name: _result(name, fields[name], n_atoms) for name in all_properties if fields.get(name) is not None}
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.calc.name = storable(str(fields.get("calculator") or "unknown"))
    return atoms


def _per_atom(value: Any, shape: tuple[int, ...], n_atoms: int, what: str) -> NDArray[np.float64]:
    array = numbers_of(value, (-1, *shape), f"the list of {what.replace('_', ' ')}")
    if len(array) != n_atoms:
        raise StructureError(f"there are {len(array)} {what.replace('_', ' ')} for {n_atoms} atoms")
    return array


def _result(name: str, value: Any, n_atoms: int) -> Any:
    """A calculated value; its use is checked where it is used, but it must be numbers for these atoms."""
    if name in _PER_ATOM and np.ndim(value):
        array = numbers_of_any(value, f"the list of {name}")
        if array.ndim and len(array) != n_atoms:
            raise StructureError(f"there are {len(array)} {name} for {n_atoms} atoms")
        return array
    array = numbers_of_any(value, f"the {name.replace('_', ' ')}")
    return array if array.ndim else float(array)


def _flags(value: Any) -> Any:
    """Periodic axes, of three flags, one flag or the sum of 1, 2 and 4 that databases hold."""
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return [bool(value & bit) for bit in (1, 2, 4)]
    array = numbers_of(value, (3,), "the list of periodic axes")
    return array.astype(bool)


def _constraints(stored: Any, n_atoms: int) -> list[Any]:
    """Constraints from what ASE stores: text or a list of {"name": ..., "kwargs": {...}}."""
    if isinstance(stored, str):
        stored = decode_fields(stored)
    if not isinstance(stored, list):
        raise StructureError("the constraints are no list")
    return [_constraint(each, n_atoms) for each in stored]


def _constraint(stored: Any, n_atoms: int) -> Any:
    if isinstance(stored, Mapping) and "__name__" in stored:  # of old databases
        stored = {"name": stored["__name__"], "kwargs": {k: v for k, v in stored.items() if k != "__name__"}}
    name = stored.get("name") if isinstance(stored, Mapping) else None
    options = stored.get("kwargs", {}) if isinstance(stored, Mapping) else None
    if not isinstance(name, str) or not isinstance(options, Mapping):
        raise StructureError("a constraint has no name")
    name = name.rpartition(".")[2]
    if name not in _CONSTRAINTS and name not in _OTHER_CONSTRAINTS:  # parametric ones would evaluate expressions
        raise StructureError(f"the constraint {storable(name, 40)!r} is not read from files; remove it")
    if name in _CONSTRAINTS:
        index = options.get("indices", options.get("a"))
        if index is not None:
            atoms = plain_integers(np.atleast_1d(numbers_of_any(index, "a constraint")), "a constraint")
            if len(atoms) and not (-n_atoms <= atoms.min() and atoms.max() < n_atoms):
                raise StructureError(f"a constraint fixes atom {int(abs(atoms).max())} of {n_atoms}")
    return built(getattr(ase.constraints, name), **{str(key): value for key, value in options.items()})

"""DeePMD's folders of NumPy arrays: one system with ``type.raw``, ``type_map.raw`` and ``set.*/*.npy``.

Rows of ``box`` hold the lattice vectors one after the other; the virial is −volume · stress (`dpa4_core.units`). In
mixed systems ``real_atom_types.npy`` gives the element of each atom in each frame, −1 where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

from dpa4_core.data.frame import BrokenFrame, Frame, LabelKeys, attempt, broken_rest, labelled_frame
from dpa4_core.data.parse_errors import PARSE_ERRORS
from dpa4_core.data.system import StructureError

_LABELS = {"energy": "energy", "forces": "force", "virial": "virial"}


def is_deepmd_system(folder: Path) -> bool:
    """Whether a folder is one system in this layout."""
    return (folder / "type.raw").is_file() and any(folder.glob("set.*/coord.npy"))


def read_deepmd_system(folder: Path, keys: LabelKeys, source: str) -> Iterator[Frame | BrokenFrame]:
    """Frames of all sets of one system."""
    if not (folder / "type_map.raw").is_file():
        raise StructureError("type_map.raw is missing, so the elements are unknown; write one symbol per line")
    type_map = (folder / "type_map.raw").read_text().split()
    types = np.array((folder / "type.raw").read_text().split(), dtype=np.int64)
    periodic = not (folder / "nopbc").exists()
    for set_folder in sorted(folder.glob("set.*")):
        name = f"{folder.name}/{set_folder.name}"
        try:
            arrays = _load_set(set_folder, keys)
        except PARSE_ERRORS as error:
            yield broken_rest(name, source, error, "arrays")
            continue
        for number in range(len(arrays["coord"])):
            label = f"{name}:{number}"
            yield attempt(
                label, source, partial(_frame_of_set, arrays, number, types, type_map, periodic, keys, label, source)
            )


def deepmd_frame(
    types: NDArray[Any],
    type_map: Sequence[str],
    coordinates: NDArray[np.float64],
    box: NDArray[np.float64] | None,
    labels: Mapping[str, Any],
    *,
    name: str,
    source: str,
    properties: Mapping[str, float],
) -> Frame:
    """A frame from types [n], −1 for no atom, flat coordinates [3n] in Å, box [9] in Å and flat labels."""
    real = types >= 0
    if types.max(initial=-1) >= len(type_map):
        raise StructureError(f"type {types.max()} has no entry in the element list of {len(type_map)}")
    symbols = [type_map[kind] for kind in types[real]]
    unknown = sorted({symbol for symbol in symbols if symbol not in atomic_numbers})
    if unknown:
        raise StructureError(f"the element list names {', '.join(unknown)}, which is no element")
    positions = coordinates.reshape(len(types), 3)[real]
    atoms = Atoms(symbols, positions, cell=None if box is None else box.reshape(3, 3), pbc=box is not None)
    given = dict(labels)
    if given.get("forces") is not None:
        forces = np.asarray(given["forces"], dtype=np.float64)
        given["forces"] = forces.reshape(-1, 3)[real] if forces.size == 3 * len(types) else forces
    if given.get("virial") is not None:
        given["virial"] = np.asarray(given["virial"], dtype=np.float64).ravel()
    return labelled_frame(atoms, given, name=name, source=source, properties=properties)


def _load_set(folder: Path, keys: LabelKeys) -> dict[str, NDArray[Any]]:
    names = ["coord", "box", "real_atom_types", *_LABELS.values(), *keys.properties]
    arrays = {name: _load_array(folder / f"{name}.npy") for name in names if (folder / f"{name}.npy").is_file()}
    n_frames = len(arrays["coord"])
    for name, array in arrays.items():
        if len(array) != n_frames:
            raise StructureError(f"{name}.npy has {len(array)} rows and coord.npy {n_frames}")
    return arrays


def _load_array(path: Path) -> NDArray[Any]:
    """The numbers of a .npy file, whose header must announce as many as there are.

    Raises:
        StructureError: they are no numbers, or the file is cut off.
    """
    with path.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        if dtype.hasobject:
            raise StructureError(f"{path.name} holds Python objects, which are not read")
        left = path.stat().st_size - stream.tell()
    if dtype.kind not in "biuf" or min(shape, default=1) < 0 or not shape:
        raise StructureError(f"{path.name} does not hold rows of numbers")
    if math.prod(shape) * dtype.itemsize > left:
        raise StructureError(f"{path.name} announces {math.prod(shape)} numbers and ends before them; copy it again")
    array: NDArray[Any] = np.load(path, allow_pickle=False)
    return array


def _frame_of_set(
    arrays: dict[str, NDArray[Any]],
    number: int,
    types: NDArray[np.int64],
    type_map: list[str],
    periodic: bool,
    keys: LabelKeys,
    name: str,
    source: str,
) -> Frame:
    row = {key: array[number] for key, array in arrays.items()}
    if periodic and "box" not in row:
        raise StructureError("box.npy is missing; add an empty file nopbc if the system is a cluster")
    return deepmd_frame(
        row.get("real_atom_types", types),
        type_map,
        row["coord"].astype(np.float64),
        row["box"].astype(np.float64) if periodic else None,
        {label: row.get(key) for label, key in _LABELS.items()},
        name=name,
        source=source,
        properties=keys.find_properties(row),
    )

"""Frames of ASE's trajectories (``.traj``), read without the help of ASE, which would trust what they announce.

The format is ULM: a header with the places of the frames; each frame a JSON text whose arrays lie elsewhere in the
file, described by shape, type and place.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from ase import Atoms

from dpa4_core.data.ase_fields import NUMBER_TYPES, announced_size, arrays_of, atoms_of_fields
from dpa4_core.data.bounded import LARGEST_ENTRY, parse_json, storable
from dpa4_core.data.system import StructureError

_MAGIC = (b"- of Ulm", b"AFFormat")
_COMMON = ("pbc", "numbers", "masses", "constraints")
"""Fields that only the first frame has where they do not change."""
_RENAMED = {"magmoms": "initial_magmoms", "charges": "initial_charges"}


class TrajectoryFile:
    """An open trajectory; its length is the number of frames.

    Raises:
        StructureError: the file is no trajectory of ASE, or its list of frames is damaged.
    """

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._size = stream, size
        header = stream.read(48)
        if len(header) < 48 or header[:8] not in _MAGIC:
            raise StructureError("the file is no trajectory of ASE")
        if header[8:24].rstrip() != b"ASE-Trajectory":
            raise StructureError("the file holds something else than a trajectory of ASE")
        _, count, start = struct.unpack("<3q", header[24:])
        if count < 0 or start < 0 or start + 8 * count > size:
            raise StructureError("the list of frames of the trajectory is damaged; copy the file again")
        self._places = struct.unpack(f"<{count}q", self._bytes(start, 8 * count))
        self._first: dict[str, Any] | None = None
        self._taken = 0

    def __len__(self) -> int:
        return len(self._places)

    def frame(self, number: int) -> Atoms:
        """The structure of a frame with its calculated values.

        Raises:
            StructureError: the frame is damaged.
        """
        self._taken = 0
        content = self._content(self._places[number])
        if "numbers" not in content:
            if self._first is None:
                first = self._content(self._places[0])
                self._first = {name: first[name] for name in _COMMON if name in first}
            content = self._first | content
        results = content.pop("calculator", {})
        fields = {_RENAMED.get(name, name): value for name, value in content.items()}
        if isinstance(results, dict):
            calculator = {name: value for name, value in results.items() if name not in ("name", "parameters")}
            fields |= {**calculator, "calculator": results.get("name")}
        return atoms_of_fields(fields)

    def _content(self, place: int) -> dict[str, Any]:
        (length,) = struct.unpack("<q", self._bytes(place, 8))
        if length > LARGEST_ENTRY:
            raise StructureError("the frame announces more text than a frame has")
        content = parse_json(self._bytes(place + 8, length).decode("utf-8", errors="replace"))
        if not isinstance(content, dict):
            raise StructureError("the frame is no mapping")
        order: Literal["<", ">"] = "<" if content.pop("_little_endian", True) else ">"
        return {name: arrays_of(value) for name, value in self._with_arrays(content, order).items()}

    def _with_arrays(self, content: dict[str, Any], order: Literal["<", ">"]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in content.items():
            if name.endswith(".") and isinstance(value, dict):
                is_array = "ndarray" in value
                found[name[:-1]] = self._array(value["ndarray"], order) if is_array else self._with_arrays(value, order)
            else:
                found[name] = value
        return found

    def _array(self, description: Any, order: Literal["<", ">"]) -> Any:
        if not isinstance(description, list) or len(description) != 3:
            raise StructureError("an array of the frame is not described by its shape, type and place")
        shape, kind, place = description
        if kind not in NUMBER_TYPES:
            raise StructureError(f"an array is of the type {storable(str(kind), 40)!r}, which is not one of numbers")
        dtype = np.dtype(kind).newbyteorder(order)
        length = announced_size(shape) * dtype.itemsize
        self._taken += length
        if self._taken > self._size:  # the same bytes again and again
            raise StructureError("the arrays of the frame are larger than the file; copy it again")
        content = self._bytes(place, length)
        return np.frombuffer(content, dtype).astype(np.dtype(kind)).reshape(shape)

    def _bytes(self, place: Any, length: int) -> bytes:
        if not isinstance(place, int) or length < 0 or place < 0 or place + length > self._size:
            raise StructureError("the trajectory ends before what it announces; copy the file again")
        self._stream.seek(place)
        return self._stream.read(length)


@contextmanager
def open_trajectory(path: Path) -> Iterator[TrajectoryFile]:
    """The trajectory in a file.

    Raises:
        StructureError: see `TrajectoryFile`.
    """
    with path.open("rb") as stream:
        yield TrajectoryFile(stream, path.stat().st_size)

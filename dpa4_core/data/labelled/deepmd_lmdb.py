"""DeePMD's LMDB data sets: one msgpack record per frame under a zero-padded number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa4_core.data.bounded import check_depth
from dpa4_core.data.formats import stem
from dpa4_core.data.frame import BrokenFrame, Frame, LabelKeys, attempt
from dpa4_core.data.labelled.deepmd import deepmd_frame
from dpa4_core.data.labelled.lmdb_pages import LmdbFile
from dpa4_core.data.labelled.optional import optional_package
from dpa4_core.data.system import StructureError

METADATA = b"__metadata__"


def read_deepmd_records(
    database: LmdbFile, found: Sequence[bytes], path: Path, keys: LabelKeys, source: str
) -> Iterator[Frame | BrokenFrame]:
    """Records in order of their key; the element list is in the metadata or in the record itself."""
    unpack = partial(optional_package("msgpack", "a DeePMD LMDB data set").unpackb, raw=False, strict_map_key=False)
    metadata = _unpacked(unpack, database.get(METADATA) or b"")
    type_map = metadata.get("type_map") if isinstance(metadata, dict) else None

    def read(key: bytes, name: str) -> Frame:
        arrays = _unpacked(unpack, database.get(key) or b"")
        if not isinstance(arrays, dict):
            raise StructureError("the record is no mapping")
        return _frame_of_record(arrays, type_map, keys, name, source)

    for key in found:
        name = f"{stem(path)}:{key.decode().lstrip('0') or '0'}"
        yield attempt(name, source, partial(read, key, name))


def _frame_of_record(
    record: Mapping[str, Any], type_map: list[str] | None, keys: LabelKeys, name: str, source: str
) -> Frame:
    def first(*names: str) -> Any:
        return next((record[key] for key in names if record.get(key) is not None), None)

    elements = first("type_map") or type_map
    types = first("real_atom_types", "atom_types", "type")
    coordinates = first("coord", "coords")
    if elements is None or types is None or coordinates is None:
        raise StructureError("the record or its metadata lacks type_map, atom_types or coord")
    box = first("box", "cell", "cells")
    return deepmd_frame(
        np.asarray(types).ravel(),
        [str(element) for element in elements],
        np.asarray(coordinates, dtype=np.float64).ravel(),
        None if box is None or record.get("nopbc") is True or not np.any(box) else np.asarray(box, dtype=np.float64),
        {
            "energy": first("energy", "energies"),
            "forces": first("force", "forces"),
            "virial": first("virial", "virials"),
        },
        name=name,
        source=source,
        properties=keys.find_properties(record),
    )


def _unpacked(unpack: Callable[[bytes], Any], record: bytes) -> Any:
    value = unpack(record)
    check_depth(value)
    return _plain(value)


def _plain(value: Any) -> Any:
    """Numbers and arrays in place of {type, shape, data}, in whatever depth and with text or bytes as keys."""
    if isinstance(value, dict):
        mapping = {key.decode() if isinstance(key, bytes) else key: entry for key, entry in value.items()}
        kind = next((mapping[key] for key in ("type", "dtype") if key in mapping), None)
        if "data" in mapping and "shape" in mapping and kind is not None:
            return _array(kind, mapping["shape"], mapping["data"])
        return {key: _plain(entry) for key, entry in mapping.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _array(kind: Any, shape: Any, data: Any) -> NDArray[Any]:
    dtype = np.dtype(kind.decode() if isinstance(kind, bytes) else kind)
    if dtype.hasobject:
        raise StructureError("the record holds Python objects, which are not read")
    if dtype.kind not in "biuf":
        raise StructureError("an array of the record does not hold numbers")
    flat = np.frombuffer(data, dtype=dtype) if isinstance(data, bytes) else np.asarray(data, dtype=dtype)
    return flat.reshape(shape)

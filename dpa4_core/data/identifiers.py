"""How entries of files are called: the one place that says which key of a row is its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

ID_KEYS = (
    *("id", "frame_id", "matpes_id", "sid", "material_id", "mp_id", "mat_id", "entry_id", "task_id", "jid", "name"),
)
"""Keys that name a row of a JSON list or a frame of an extended XYZ file, the most particular first."""

STATED = ("band_gap", "band_gap_level", "band_gap_error", "is_gap_direct", "material_id")
"""Keys of what a row says of its crystal that no model computes; they stay with the structure, as its properties."""


def identifier(labels: Mapping[str, Any], otherwise: str) -> str:
    """The name that a row gives itself, by the first of `ID_KEYS` that is a text or a whole number.

    A row without one may have it in its ``data``, as the entries of Alexandria do.
    """
    inner = labels.get("data")
    for fields in (labels, inner if isinstance(inner, Mapping) else {}):
        for key in ID_KEYS:
            if _is_name(fields.get(key)):
                return str(fields[key])
    return otherwise


def _is_name(value: Any) -> bool:
    """A word without a value in the title of an XYZ file, ``name``, is the value True and no name."""
    return isinstance(value, str | int | np.integer) and not isinstance(value, bool) and value != ""

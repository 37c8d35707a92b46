"""How entries of files are called: the one place that says which key of a row is its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

ID_KEYS = ("id", "material_id", "mp_id", "entry_id", "task_id", "name")
"""Keys that name a row of a JSON list or a frame of an extended XYZ file, first match wins."""


def identifier(labels: Mapping[str, Any], otherwise: str) -> str:
    """The name that a row gives itself, by the first of `ID_KEYS` that is a text or a whole number."""
    found = (labels[key] for key in ID_KEYS if _is_name(labels.get(key)))
    return str(next(found, otherwise))


def _is_name(value: Any) -> bool:
    """A word without a value in the title of an XYZ file, ``name``, is the value True and no name."""
    return isinstance(value, str | int | np.integer) and not isinstance(value, bool) and value != ""

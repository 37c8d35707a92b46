"""How entries of files are called: the one place that says which key of a row is its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ID_KEYS = ("id", "material_id", "mp_id", "entry_id", "task_id", "name")
"""Keys that name a row of a JSON list or a frame of an extended XYZ file, first match wins."""


def identifier(labels: Mapping[str, Any], otherwise: str) -> str:
    """The name that a row gives itself."""
    found = (labels[key] for key in ID_KEYS if isinstance(labels.get(key), str | int))
    return str(next(found, otherwise))

"""Plain values as TOML, for configurations that are written back; `tomllib` reads them to the same values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def toml_value(value: Any) -> str:
    """One value on one line: text, numbers, truth values, lists and tables of them; None in a table is left out."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)  # inf and nan are TOML too
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(key)} = {toml_value(item)}" for key, item in value.items() if item is not None)
        return f"{{{pairs}}}"
    raise TypeError(f"TOML has no {type(value).__name__}: {value!r}")


def toml_text(data: Mapping[str, Any], path: str = "") -> str:
    """A whole file: values first, then a section for each table in ``data``; None is left out.

    Args:
        data: plain values by name.
        path: dotted name of the section that ``data`` is.
    """
    plain = {key: value for key, value in data.items() if value is not None and not isinstance(value, Mapping)}
    tables = {key: value for key, value in data.items() if isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {_block(value)}\n" for key, value in plain.items()]
    for key, table in tables.items():
        name = f"{path}.{_key(key)}" if path else _key(key)
        lines.append(f"\n[{name}]\n{toml_text(table, name)}")
    return "".join(lines)


def _block(value: Any) -> str:
    """A list of tables over several lines, anything else on one."""
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        return "[\n" + "".join(f"    {toml_value(item)},\n" for item in value) + "]"
    return toml_value(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)

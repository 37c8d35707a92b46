"""The record of a run: one JSON object per line, cut back to the checkpoint when the run goes on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from dpa4_core.files import write_text


class RunLog:
    """Appends records to ``log.jsonl``; every record has a ``kind`` and all but the first a ``step``.

    Kinds: ``start`` (configuration, environment, data, network), ``train`` (means since the last one),
    ``validation``, ``skipped`` (a step that was not taken, with its frames), ``decay``, ``end``.

    Args:
        path: the file; None writes nothing, for processes other than the first.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def write(self, kind: str, **values: Any) -> dict[str, Any]:
        """Append a record and return it; numbers that are not finite become null."""
        record = {"kind": kind, **{key: _plain(value) for key, value in values.items()}}
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")
        return record

    def holds(self, kind: str) -> bool:
        """Whether a record of this kind was written."""
        exists = self.path is not None and self.path.exists()
        return exists and any(record["kind"] == kind for record in read_log(self.path))  # type: ignore[arg-type]

    def cut(self, step: int) -> None:
        """Remove what was recorded after ``step``: the run goes on from there."""
        if self.path is None or not self.path.exists():
            return
        kept = [record for record in read_log(self.path) if record.get("step", 0) <= step]
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log; a last line that was not finished is left out."""
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value

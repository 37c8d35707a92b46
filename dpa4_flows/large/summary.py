"""What has become of a run so far, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dpa4_flows.large.claims import read_workers
from dpa4_flows.large.folder import RunFolder

_SHOWN_FAILURES = 20


@dataclass(frozen=True)
class Summary:
    """Counts of a run.

    Attributes:
        n_structures: in the input.
        n_done: with a result, failures included.
        n_failed: could not be computed.
        n_unconverged: ran out of steps.
        n_flagged: deserve a look, among all with numbers.
        n_workers: processes at work.
        per_second: structures that these finish together; 0 without any.
        failures: names and errors of the first failures.
        unconverged: names of the first that ran out of steps.
    """

    n_structures: int
    n_done: int
    n_failed: int
    n_unconverged: int
    n_flagged: int
    n_workers: int
    per_second: float
    failures: list[tuple[str, str]]
    unconverged: list[str]

    @property
    def complete(self) -> bool:
        return self.n_done == self.n_structures

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        state = "complete" if self.complete else "running" if self.n_workers else "stopped"
        counts = {name: value for name, value in vars(self).items() if name not in ("failures", "unconverged")}
        failures = [{"source": source, "error": error} for source, error in self.failures]
        return {"state": state, **counts, "failures": failures}


def summarise(run: RunFolder) -> Summary:
    """Counts of a run, read from its columns; a second for a million structures."""
    done = failed = unconverged = flagged = 0
    failures: list[tuple[str, str]] = []
    slow: list[str] = []

    def note(source: str, error: str | None) -> None:
        if error is not None and len(failures) < _SHOWN_FAILURES:
            failures.append((source, error))
        if error is None and len(slow) < _SHOWN_FAILURES:
            slow.append(source)

    for number in range(run.n_slices):
        rows = {} if run.shard(number).exists() else run.journal_rows(number)
        if run.shard(number).exists():
            with pq.ParquetFile(run.shard(number)) as file:  # shards of older versions have no warnings
                table = file.read(columns=["source", "error", "converged", "flags", "warnings"])
            done += table.num_rows
            flagged += _count_any(table, "flags", "warnings")
            bad = table.filter(pc.invert(table["converged"]))
            n_failed = bad.num_rows - bad["error"].null_count
            failed, unconverged = failed + n_failed, unconverged + bad["error"].null_count
            for row in bad.slice(0, _SHOWN_FAILURES).to_pylist():
                note(row["source"], row["error"])
            continue
        done += len(rows)
        flagged += sum(bool(row.get("flags") or row.get("warnings")) for row in rows.values())
        for row in (row for row in rows.values() if not row["converged"]):
            error = row.get("error")
            failed, unconverged = failed + (error is not None), unconverged + (error is None)
            note(row["source"], error)
    at_work = [worker for worker in read_workers(run.path / "workers").values() if worker["alive"]]
    rate = sum(w["n_done"] / w["seconds"] for w in at_work if w["seconds"] > 0)
    return Summary(run.n_structures, done, failed, unconverged, flagged, len(at_work), rate, failures, slow)


def _count_any(table: pa.Table, *columns: str) -> int:
    """Rows in which one of these lists is not empty."""
    found = [
        pc.greater(pc.list_value_length(table[name]), 0).fill_null(False)
        for name in columns
        if name in table.column_names
    ]
    return int(pc.sum(reduce(pc.or_, found)).as_py() or 0)


def count_done(run: RunFolder) -> int:
    """Structures with a result."""
    finished = run.finished()
    left = run.n_slices - len(finished)
    in_journals = sum(len(run.journal_rows(number)) for number in run.unfinished()) if left else 0
    return sum(map(run.slice_length, finished)) + in_journals

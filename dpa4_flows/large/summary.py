"""What has become of a run so far, in numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dpa4_flows.large.claims import read_workers
from dpa4_flows.large.folder import RunFolder
from dpa4_flows.large.rows import Row

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

    @property
    def words(self) -> str:
        """What came out, in a phrase."""
        good = self.n_done - self.n_failed - self.n_unconverged
        return f"{good:,} fine, {self.n_unconverged:,} not converged, {self.n_failed:,} failed"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        state = "complete" if self.complete else "running" if self.n_workers else "stopped"
        counts = {name: value for name, value in vars(self).items() if name not in ("failures", "unconverged")}
        failures = [{"source": source, "error": error} for source, error in self.failures]
        return {"state": state, **counts, "failures": failures}


def summarise(run: RunFolder) -> Summary:
    """Counts of a run, read from its columns; a second for a million structures."""
    count = _Count()
    for number in range(run.n_slices):
        rows = {} if run.shard(number).exists() else run.journal_rows(number)
        if run.shard(number).exists():  # perhaps by now, and its journals are gone
            count.file(run.shard(number))
        else:
            count.rows(list(rows.values()))
    at_work = [worker for worker in read_workers(run.path / "workers").values() if worker["alive"]]
    rate = sum(w["n_done"] / w["seconds"] for w in at_work if w["seconds"] > 0)
    return Summary(run.n_structures, n_workers=len(at_work), per_second=rate, **vars(count))


def summarise_file(path: Path) -> Summary:
    """The same of a run that has become one file."""
    count = _Count()
    count.file(path)
    return Summary(count.n_done, n_workers=0, per_second=0.0, **vars(count))


@dataclass
class _Count:
    """What rows say, under the names of `Summary`."""

    n_done: int = 0
    n_failed: int = 0
    n_unconverged: int = 0
    n_flagged: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    unconverged: list[str] = field(default_factory=list)

    def file(self, path: Path) -> None:
        """All rows of a shard."""
        with pq.ParquetFile(path) as file:  # shards of older versions have no warnings
            table = file.read(columns=["source", "error", "converged", "flags", "warnings"])
        bad = table.filter(pc.invert(table["converged"]))
        n_unconverged = bad["error"].null_count
        self.n_done += table.num_rows
        self.n_flagged += _count_any(table, "flags", "warnings")
        self._bad(bad.num_rows - n_unconverged, n_unconverged, bad.slice(0, _SHOWN_FAILURES).to_pylist())

    def rows(self, rows: Sequence[Row]) -> None:
        """Rows of a journal."""
        bad = [row for row in rows if not row["converged"]]
        n_failed = sum(row.get("error") is not None for row in bad)
        self.n_done += len(rows)
        self.n_flagged += sum(bool(row.get("flags") or row.get("warnings")) for row in rows)
        self._bad(n_failed, len(bad) - n_failed, bad)

    def _bad(self, n_failed: int, n_unconverged: int, rows: Iterable[Row]) -> None:
        self.n_failed += n_failed
        self.n_unconverged += n_unconverged
        for row in rows:
            error = row.get("error")
            if error is not None and len(self.failures) < _SHOWN_FAILURES:
                self.failures.append((row["source"], error))
            if error is None and len(self.unconverged) < _SHOWN_FAILURES:
                self.unconverged.append(row["source"])


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

"""What one process does in a run: claim slices, compute what they lack, publish them; take over those of the dead.

The potential is fed without a break: the next slice is claimed as soon as the structures of the last one have been
read, while its slow ones still relax. A slice becomes a shard when its last structure is done.

A structure that kills its process must not stop the others: slices of dead processes are computed one structure at a
time, and the one to blame becomes a failed row.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpa4_core.data.readers import Entry
from dpa4_core.errors import DPA4Error, words_of
from dpa4_core.potential import PotentialLike
from dpa4_core.relax import BandResult, DynamicsResult, Relax, RelaxOptions, Result, Static, stream
from dpa4_core.version import code_version
from dpa4_flows.compute.flight import SafeFlight
from dpa4_flows.large.claims import Claims, Worker
from dpa4_flows.large.folder import INDEX_FILE, RunFolder, RunFolderError
from dpa4_flows.large.inputs import numbered_entries
from dpa4_flows.large.rows import Journal, Row, Rows, error_code, read_shard, storable_row, write_shard

logger = logging.getLogger(__name__)

POLL_S = 2.0
"""Between two looks at what the others do, when they hold everything that is left."""
_LARGEST_WINDOW = 256  # structures that one of several workers reads ahead

_DEATHS = 2
"""Owners of a slice that were killed, after which it is computed one structure at a time; and attempts on a structure
alone that ended a process, after which it has failed."""

RELAX_OPTIONS = (
    *("fmax", "max_steps", "relax_cell", "pressure_gpa"),
    *("optimizer", "max_step", "cell", "keep_symmetry", "check_minimum"),
)
"""Settings that are options of a relaxation; the others say what is computed in which precision."""


@dataclass
class _Slice:
    """A slice of the input that this process holds."""

    number: int
    length: int
    journal: Journal
    done: set[int]  # indices of the structures whose results are there
    attempts: Counter[int]  # at a structure alone, by index
    careful: bool  # its owners were killed: one structure at a time

    @property
    def complete(self) -> bool:
        return len(self.done) == self.length


@dataclass(frozen=True, eq=False)
class _Item:
    """A structure in flight."""

    slice: _Slice
    index: int
    source: str
    name: str
    structure: Any
    warnings: tuple[str, ...] = ()


class RunWorker:
    """One process of a run.

    Args:
        run: the run.
        inputs: where its files and folders are, in the order in which it was made.
        potential: the model of the run.
        n_workers: processes that share the run on this machine; the more, the less each one reads ahead.
        max_atoms_per_batch: atoms computed at the same time; None leaves it to the device.
        retry_since: compute failures again that are in shards older than this, seconds since 1970.
        on_result: told of every result.
    """

    def __init__(
        self,
        run: RunFolder,
        inputs: Sequence[Path],
        potential: PotentialLike,
        *,
        n_workers: int = 1,
        max_atoms_per_batch: int | None = None,
        retry_since: float | None = None,
        on_result: Callable[[Row], None] | None = None,
    ) -> None:
        self._run, self._inputs, self._potential = run, list(inputs), potential
        self._rows = Rows(run.task.model, run.task.settings, with_forces=run.task.with_forces)
        self._window = None if n_workers == 1 else max(1, min(_LARGEST_WINDOW, run.n_structures // (4 * n_workers)))
        self._max_atoms = max_atoms_per_batch
        self._options: RelaxOptions | None = None  # of relaxations; None for single points
        if run.task.calculation != "static":
            stored = {name: run.task.settings[name] for name in RELAX_OPTIONS if name in run.task.settings}
            self._options = RelaxOptions(**{"check_minimum": False} | stored)
        self._retry_since = retry_since
        self._on_result = on_result
        self._worker = Worker(run.path / "workers")
        self._claims = Claims(run.path / "claims", run.path / "workers", self._worker)

    def work(self) -> None:
        """Compute until the run is complete, also what dead processes leave behind."""
        with self._worker:
            try:
                while todo := self._unfinished():
                    free = self._claims.free(todo)
                    if not free or not self._pass(free):  # the others have all that is left
                        time.sleep(POLL_S)
                self._run.clean(self._claims.free(range(self._run.n_slices)))  # others may try failures again
            finally:
                self._claims.give_all_back()

    def _unfinished(self) -> list[int]:
        left = self._run.unfinished()
        return left if self._retry_since is None else sorted({*left, *filter(self._to_retry, self._run.finished())})

    def _to_retry(self, number: int) -> bool:
        """Whether a shard holds failures from before the time after which they are tried again."""
        shard = self._run.shard(number)
        if self._retry_since is None or shard.stat().st_mtime >= self._retry_since:
            return False
        return any(row["error"] is not None for row in read_shard(shard, ["error"]))

    def _pass(self, free: set[int]) -> bool:
        """Go through the input once for the slices that seemed free; False if nothing could be claimed."""
        self._open: dict[int, _Slice] = {}
        self._claimed = False
        try:
            requests = ((item, self._request(item)) for item in self._items(free))
            for item, result in stream(requests, SafeFlight(self._potential, self._max_atoms), window=self._window):
                self._store(item.slice, self._row(item, result))
        finally:
            for slice_ in self._open.values():
                slice_.journal.close()
                self._claims.give_back(slice_.number)  # or this process would wait for itself
        return self._claimed

    def _request(self, item: _Item) -> Relax | Static:
        return Static(item.structure) if self._options is None else Relax(item.structure, self._options)

    def _row(self, item: _Item, result: Result) -> Row:
        assert not isinstance(result, BandResult | DynamicsResult), "a run asks for no band and no trajectory"
        try:
            row = self._rows.computed(item.index, item.source, item.name, item.structure, result)
        except (DPA4Error, OSError):
            raise
        except Exception as problem:  # whatever is made of a strange structure
            logger.exception("%s has no row", item.source)
            sentence = f"the result cannot be stored: {words_of(problem)}"
            row = self._rows.unusable(item.index, item.source, item.name, sentence, "crashed")
        return row | {"warnings": list(item.warnings)}

    def _items(self, free: set[int]) -> Iterator[_Item]:
        """Structures of the slices that this process could claim; broken entries are stored at once."""
        size = self._run.slice_size
        current: _Slice | None = None
        asked = -1

        def wanted(start: int, end: int) -> bool:
            return any(n in free or n in self._open for n in range(start // size, (end - 1) // size + 1))

        for index, entry in numbered_entries(self._run.path / INDEX_FILE, self._inputs, wanted):
            if index // size != asked:
                asked = index // size
                current = self._open.get(asked)
                if current is None and asked in free:
                    current = self._claim(asked)
            if current is None or index in current.done:
                continue
            if current.careful:
                self._alone(current, index, entry)
            elif (item := self._item(current, index, entry)) is not None:
                yield item

    def _item(self, slice_: _Slice, index: int, entry: Entry) -> _Item | None:
        """The structure of an entry; None if it has none, and then its failure is stored."""
        named = entry.read()
        if named.error is None:
            return _Item(slice_, index, entry.source, named.name, named.structure, named.warnings)
        self._store(slice_, self._rows.unusable(index, entry.source, named.name, named.error))
        return None

    def _alone(self, slice_: _Slice, index: int, entry: Entry) -> None:
        """Compute one structure, and store what it did to the potential or to earlier processes."""
        if slice_.attempts[index] >= _DEATHS:
            error = f"{slice_.attempts[index]} processes were killed while they computed this structure alone"
            self._store(slice_, self._rows.unusable(index, entry.source, entry.source, error, "crashed"))
            return
        item = self._item(slice_, index, entry)
        if item is None:
            return
        slice_.journal.attempt(index)
        flight = SafeFlight(self._potential, self._max_atoms)
        ((_, result),) = stream([(item, self._request(item))], flight)
        self._store(slice_, self._row(item, result))

    def _claim(self, number: int) -> _Slice | None:
        """Slice ``number`` with what was computed of it before; None if another process has it or it is done."""
        generation = self._claims.take(number)
        if generation is None:
            return None
        rows: dict[int, Row] = {}
        if self._run.shard(number).exists():
            if not self._to_retry(number):  # published between the two looks
                self._claims.keep(number)
                return None
            rows = {row["index"]: row for row in read_shard(self._run.shard(number), ["index", "error", "error_code"])}
        rows |= self._run.journal_rows(number)
        done = {index for index, row in rows.items() if not self._again(row)}
        journal = Journal(self._run.journal(number, generation))
        self._claimed = True
        slice_ = _Slice(
            number,
            self._run.slice_length(number),
            journal,
            done,
            attempts=self._run.attempts(number),
            careful=generation >= _DEATHS,
        )
        self._open[number] = slice_
        if slice_.complete:  # its process died between the last structure and the shard
            self._publish(slice_)
        return slice_

    def _again(self, row: Row) -> bool:
        """Whether a stored failure is tried again: on request, and for want of memory, which is no property of it."""
        if row.get("error") is None:
            return False
        return self._retry_since is not None or error_code(row) == "out_of_memory"

    def _store(self, slice_: _Slice, row: Row) -> None:
        try:
            row = storable_row(row)
        except ValueError as problem:
            names = (row["index"], str(row["source"]), str(row["name"]))
            row = storable_row(self._rows.unusable(*names, f"the result cannot be stored: {words_of(problem)}"))
        slice_.journal.append(row)
        slice_.done.add(row["index"])
        failed = row.get("error") is not None
        self._worker.count(failed=failed, unconverged=not failed and not row["converged"])
        if self._on_result is not None:
            self._on_result(row)
        if slice_.complete:
            self._publish(slice_)

    def _publish(self, slice_: _Slice) -> None:
        """Turn a complete slice into a shard, and drop its journals when that is safe on the disk."""
        slice_.journal.close()
        del self._open[slice_.number]
        if not self._claims.is_mine(slice_.number):  # this process was suspended, and another one took over
            logger.warning("slice %d was taken over by another process, which publishes it", slice_.number)
            self._claims.keep(slice_.number)
            return
        shard = self._run.shard(slice_.number)
        rows = {row["index"]: row for row in read_shard(shard)} if shard.exists() else {}  # failures tried again
        rows |= self._run.journal_rows(slice_.number)
        if len(rows) != slice_.length:
            raise RunFolderError(
                f"slice {slice_.number} of {self._run.path} has {len(rows)} results for {slice_.length} structures; "
                f"delete its journals {[path.name for path in self._run.journals(slice_.number)]} and start again"
            )
        try:
            write_shard(shard, rows.values(), self._run.facts() | {"code_version": code_version()})
        except (DPA4Error, OSError):
            raise
        except Exception as problem:  # nothing that computing once more would mend
            raise RunFolderError(
                f"slice {slice_.number} of {self._run.path} cannot be published ({words_of(problem)}); its results are "
                "in the journal folder, and the same command tries again"
            ) from problem
        for path in self._run.journals(slice_.number):
            path.unlink(missing_ok=True)
        self._claims.keep(slice_.number)

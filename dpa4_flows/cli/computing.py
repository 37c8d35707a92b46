"""Computing from the command line: the loop, and a bar that follows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dpa4_flows.cli.console import err
from dpa4_flows.cli.options import BatchMachine
from dpa4_flows.cli.progress import Showing
from dpa4_flows.compute.driver import Counts, compute
from dpa4_flows.compute.plan import Ask
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.runs import Part
from dpa4_flows.store.protocol import Store
from dpa4_flows.store.table import ResultsTable


@contextmanager
def table_in(folder: Path | None, name: str) -> Iterator[ResultsTable]:
    """A results table that a folder keeps, or without one a table for the time of the block."""
    with TemporaryDirectory() if folder is None else nullcontext(folder) as place:
        yield ResultsTable(Path(place) / name)


def documents_of(
    asks: Mapping[Any, Ask[Any]], model: ModelRef, store: Store, machine: BatchMachine, *, quiet: bool
) -> dict[Any, Any]:
    """Documents of all that is asked for, by the same keys.

    Args:
        asks: what is wanted.
        model: the potential.
        store: finds and keeps what is computed.
        machine: how much of it at the same time.
        quiet: no progress.
    """
    counts, budget = Counts(), machine.max_atoms_per_batch
    with showing(counts, quiet=quiet):
        found = dict(compute(asks.items(), model, store, max_atoms_per_batch=budget, counts=counts))
    return {key: found[key] for key in asks}


def showing(counts: Counts, *, quiet: bool) -> Showing:
    """Shows how many calculations of a loop are done, of those that were asked for so far; nothing if none is."""

    def parts() -> list[Part]:
        done, asked = counts.n_requests, counts.n_asked
        return [Part("computing", done, asked, f"{done}/{asked}")] if asked else []

    return Showing(parts, err, quiet=quiet)

"""Building the library of competing phases with a progress bar, for `dpa4 reference build` and `dpa4 hull`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dpa4_flows.cli.console import err, plural, remark
from dpa4_flows.reference.mp_cache import MaterialsProjectError
from dpa4_flows.reference.sources import (
    MaterialsProjectPhases,
    PhaseSource,
    default_sources,
    has_materials_project_key,
)
from dpa4_flows.reference.store import BuildSummary, ReferenceStore
from dpa4_flows.reference.table import PhaseRow

_POLL_S = 1.0


def build_library(
    store: ReferenceStore,
    systems: Sequence[str],
    files: Sequence[Path] = (),
    mp: bool | None = None,
    *,
    files_survey: bool = False,
    refresh: bool = False,
    retry_errors: bool = False,
    quiet: bool = False,
) -> tuple[BuildSummary, list[str]]:
    """Build with a progress bar; gives what was done and what could not be asked.

    Args:
        store: the library.
        systems: chemical systems.
        files: structures to add.
        files_survey: the files hold all known phases of their systems.
        mp: True asks the Materials Project, None does if it answers.
        refresh: ask again.
        retry_errors: relax again what failed.
        quiet: no progress bar.
    """
    notes: list[str] = []
    with _progress(store, quiet) as on_work:

        def attempt(sources: Sequence[PhaseSource]) -> BuildSummary:
            return store.build(systems, sources, refresh=refresh, retry_errors=retry_errors, on_work=on_work)

        if mp is False:
            return attempt(default_sources(files, files_survey=files_survey)), notes
        try:
            # without a key only the cache of answers can help, and the network is not waited for
            source = MaterialsProjectPhases(offline=mp is None and not has_materials_project_key())
            return attempt(default_sources(files, source, files_survey=files_survey)), notes
        except MaterialsProjectError as error:
            if mp:
                raise
            if not source.offline:
                notes.append(f"without the Materials Project: {error}")
        return attempt(default_sources(files, files_survey=files_survey)), notes


class _Work:
    """What a build is relaxing, for the bar."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __call__(self, rows: list[PhaseRow]) -> None:
        self.keys += [row.key for row in rows]


def _announced(work: _Work, store: ReferenceStore) -> Callable[[list[PhaseRow]], None]:
    """Say in a log what is about to take time."""

    def announce(rows: list[PhaseRow]) -> None:
        n_atoms = sum(row.n_atoms for row in rows)
        remark(f"relaxing {plural(len(rows), 'competing phase')} ({n_atoms} atoms) with {store.info.name}")
        work(rows)

    return announce


@contextmanager
def _progress(store: ReferenceStore, quiet: bool, console: Console = err) -> Iterator[Callable[[list[PhaseRow]], None]]:
    """A bar that counts what is in the table on a terminal, a line in a log."""
    work = _Work()
    if quiet:
        yield work
        return
    if not console.is_terminal:
        yield _announced(work, store)
        return
    columns = (TextColumn("competing phases"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    stop = threading.Event()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def watch() -> None:
            while not stop.wait(_POLL_S):
                if work.keys:
                    bar.update(task, total=len(work.keys), completed=len(store.table.existing_keys(work.keys)))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield work
        finally:
            stop.set()
            watcher.join()

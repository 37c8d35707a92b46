"""Relaxations of a command with a progress bar, kept in a results table."""

from __future__ import annotations

from collections.abc import Sequence

from pymatgen.core import Structure
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dpa4_flows.cli.console import err, plural, remark
from dpa4_flows.makers.batch import BatchRelaxMaker
from dpa4_flows.results import ResultsTable

_AT_ONCE = 24  # structures between two steps of the progress bar


def relax_missing(
    maker: BatchRelaxMaker, table: ResultsTable, structures: Sequence[Structure], *, progress: bool
) -> None:
    """Relax what the table lacks, small cells first.

    Args:
        maker: model and settings.
        table: where results are found and stored, as soon as they are there.
        structures: what is wanted.
        progress: show a bar on stderr.
    """
    keyed = {maker.key(structure): structure for structure in structures}
    done = table.existing_keys(keyed)
    todo = sorted((structure for key, structure in keyed.items() if key not in done), key=len)
    if done:
        remark(f"{plural(len(done), 'relaxation')} found in {table.path}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=err, disable=not progress) as bar:
        task = bar.add_task("relaxing", total=len(todo))
        for start in range(0, len(todo), _AT_ONCE):
            part = todo[start : start + _AT_ONCE]
            maker.run(table, part)
            bar.advance(task, len(part))

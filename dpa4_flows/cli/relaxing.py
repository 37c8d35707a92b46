"""Relaxations of a command: their options, and a progress bar while the results table lacks some."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pymatgen.core import Structure
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dpa4_flows.calculations import RATTLE
from dpa4_flows.cli.console import err, plural, remark
from dpa4_flows.cli.options import BatchMachine
from dpa4_flows.makers.batch import BatchRelaxMaker
from dpa4_flows.properties.relaxed import Relaxed
from dpa4_flows.results import ResultsTable

_AT_ONCE = 24  # structures between two steps of the progress bar

Library = Annotated[
    Path | None, typer.Option("--library", metavar="FOLDER", help="Folder of the library; default: in the cache.")
]


@dataclass(frozen=True)
class Convergence:
    """When a relaxation is done."""

    fmax: Annotated[float, typer.Option(min=1e-6, help="Largest force at the end of a relaxation, eV/Å.")] = 0.02
    max_steps: Annotated[int, typer.Option(min=1, help="Optimiser steps before giving up.")] = 500

    def maker(self, model: str, machine: BatchMachine) -> BatchRelaxMaker:
        """Relaxes with these settings on ``machine``."""
        return BatchRelaxMaker(
            property=Relaxed(fmax=self.fmax, max_steps=self.max_steps),
            model=machine.model(model),
            max_atoms_per_batch=machine.max_atoms_per_batch,
        )


@dataclass(frozen=True)
class LibraryRelaxations(Convergence):
    """Relaxations that are kept in the library of competing phases and found there."""

    fmax: Annotated[float, typer.Option(min=1e-6, help="Largest force on atoms and cell at the end, eV/Å.")] = 0.02
    rattle: Annotated[
        float,
        typer.Option(
            min=0.0, max=0.2, help="Random displacements that relaxations start with, Å; 0 keeps the symmetry."
        ),
    ] = RATTLE
    library: Library = None

    def maker(self, model: str, machine: BatchMachine) -> BatchRelaxMaker:
        maker = super().maker(model, machine)
        return dataclasses.replace(maker, property=dataclasses.replace(maker.property, rattle=self.rattle))


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

"""Tables of numbers beside their references."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from dpa4_flows.cli.computing import showing, table_in
from dpa4_flows.cli.console import number, out, plural, print_json, say, warn
from dpa4_flows.cli.lazy import SOME_FAILED, USER_ERROR
from dpa4_flows.cli.options import BatchMachine
from dpa4_flows.compute.driver import Counts
from dpa4_flows.makers.validation import ValidationDocument, ValidationRow
from dpa4_flows.plots.words import right

DIGITS = {
    "Å": 3,
    "GPa": 1,
    "THz": 2,
    "J/mol/K": 2,
    "J/m²": 3,
    "eV": 2,
    "meV": 2,
    "meV/atom": 1,
    "W/(m K)": 1,
    "V": 3,
    "mAh/g": 1,
    "%": 2,
}


def print_rows(rows: Sequence[ValidationRow]) -> None:
    """Every number with its reference and verdict; sources stand below the table."""
    measured = any(row.experiment is not None for row in rows)
    compared = right("value", "reference", "deviation")
    columns = ["tolerance", "", *(right("experiment") if measured else ()), "source"]
    sources = list(dict.fromkeys(row.reference_source for row in rows))
    table = Table("solid", "quantity", *compared, *columns)
    before = ""
    for row in rows:
        digits = DIGITS.get(row.unit, 0)
        table.add_row(
            row.formula if row.formula != before else "",
            f"{row.quantity}, {row.unit}" if row.unit else row.quantity,
            number(row.value, digits) if row.unit else "",
            _range(row.reference, digits),
            "" if row.deviation is None else f"{row.deviation:+.{digits}f}",
            row.tolerance,
            "[green]pass[/]" if row.passed else "[bold red]fail[/]",
            *([_range(row.experiment, digits)] if measured else ()),
            str(1 + sources.index(row.reference_source)),
        )
        before = row.formula
    out.print(table)
    for i, source in enumerate(sources, start=1):
        say(f"{i}  {source}")


def print_verdict(rows: Sequence[ValidationRow]) -> None:
    """How many numbers lie within their tolerance."""
    say(f"{sum(row.passed for row in rows)} of {len(rows)} within the tolerance")


@dataclass(frozen=True)
class Validation:
    """What commands that compare a model with a table of references have in common.

    Attributes:
        file: name of the results table in ``folder``.
        model: the potential.
        folder: where results are kept.
        machine: computes.
        as_json: instead of a table.
    """

    file: str
    model: str
    folder: Path | None
    machine: BatchMachine
    as_json: bool

    def show(self, document: Callable[..., ValidationDocument], **which: Any) -> None:
        """Compute what ``document`` makes of model and results table, and print it; ``which`` are its arguments."""
        self.machine.use_threads()
        counts, limit = Counts(), self.machine.max_atoms_per_batch
        with table_in(self.folder, self.file) as table, showing(counts, quiet=self.as_json):
            model = self.machine.model(self.model)
            found = document(model, table, max_atoms_per_batch=limit, counts=counts, **which)
        show(found, self.as_json)


def show(document: ValidationDocument, as_json: bool) -> None:
    """The table, and what lies outside its tolerance, which ends the command with code 3."""
    if as_json:
        print_json(document.model_dump(mode="json"))
    else:
        print_rows(document.rows)
        print_verdict(document.rows)
    end_of(document.rows, document.failures)
    if off := [row for row in document.rows if not row.passed]:
        names = ", ".join(f"{row.formula} {row.quantity}" for row in off)
        warn("outside", f"{plural(len(off), 'number')} outside the tolerance: {names}", "bold red")
        raise typer.Exit(SOME_FAILED)


def end_of(rows: Sequence[ValidationRow], failures: Mapping[str, str]) -> None:
    """Tell what has no answer; exit with 3, or with 1 if nothing has."""
    for name, error in failures.items():
        warn("failed", f"{name}: {error}", "bold red")
    if failures:
        raise typer.Exit(USER_ERROR if not rows else SOME_FAILED)


def _range(ends: Sequence[float] | None, digits: int) -> str:
    return "" if ends is None else " to ".join(number(end, digits) for end in ends)

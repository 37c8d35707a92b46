"""Tables of numbers beside their references."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import typer
from rich.table import Table

from dpa4_core.errors import plural
from dpa4_flows.cli.computing import showing, table_in
from dpa4_flows.cli.console import number, out, print_json, say, warn
from dpa4_flows.cli.lazy import SOME_FAILED, USER_ERROR
from dpa4_flows.cli.options import AsJson, BatchMachine, Kept, Model
from dpa4_flows.compute.driver import Counts
from dpa4_flows.makers.validation import ValidationDocument, ValidationRow
from dpa4_flows.plots.words import right

D = TypeVar("D")

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
    """What commands that compare a model with a table of references have in common."""

    model: Model = "dpa4-neo"
    folder: Kept = None
    as_json: AsJson = False

    def computed(self, name: str, document: Callable[..., D], machine: BatchMachine, **which: Any) -> D:
        """What ``document`` makes of model and results table; ``which`` are its further arguments."""
        machine.use_threads()
        counts, limit = Counts(), machine.max_atoms_per_batch
        with table_in(self.folder, f"{name}.sqlite") as table, showing(counts, quiet=self.as_json):
            model = machine.model(self.model)
            return document(model, table, max_atoms_per_batch=limit, counts=counts, **which)

    def show(self, name: str, document: Callable[..., ValidationDocument], machine: BatchMachine, **which: Any) -> None:
        """The table, and what lies outside its tolerance, which ends the command with code 3."""
        found = self.computed(name, document, machine, **which)
        if self.as_json:
            print_json(found.model_dump(mode="json"))
        else:
            print_rows(found.rows)
            print_verdict(found.rows)
        end_of(found.rows, found.failures)
        if off := [row for row in found.rows if not row.passed]:
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

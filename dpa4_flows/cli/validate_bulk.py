"""`dpa4 validate bulk`: lattice constants, elastic constants and phonons of well-known solids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dpa4_core.errors import DPA4Error
from dpa4_flows.cli.computing import showing, table_in
from dpa4_flows.cli.console import number, out, print_json, say, warn
from dpa4_flows.cli.lazy import SOME_FAILED, USER_ERROR
from dpa4_flows.cli.options import AsJson, BatchMachine, Model
from dpa4_flows.compute.driver import Counts
from dpa4_flows.extras import require_extra
from dpa4_flows.makers.bulk_validation import TEMPERATURE_K, BulkDocument, BulkRow, bulk_document, bulk_solids
from dpa4_flows.plots.words import right
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.properties.stability import Stability

TABLE = "bulk.sqlite"
"""Results table in the folder of `dpa4 validate bulk`."""

_DIGITS = {"Å": 3, "GPa": 1, "THz": 2, "J/mol/K": 2}


def bulk(
    solids: Annotated[
        list[str] | None, typer.Argument(metavar="[SOLIDS]...", help="Formulas of the table; all by default.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Four solids only: Si, MgO, Cu, BaTiO3.")] = False,
    no_phonons: Annotated[bool, typer.Option("--no-phonons", help="Lattice and elastic constants only.")] = False,
    model: Model = "dpa4-neo",
    folder: Annotated[
        Path | None, typer.Option("--folder", "-o", metavar="DIR", help="Keep what is computed here and reuse it.")
    ] = None,
    min_length: Annotated[
        float, typer.Option(min=3.0, help="Distance between an atom and its image in phonon supercells, Å.")
    ] = 10.0,
    *,
    machine: BatchMachine,
    as_json: AsJson = False,
) -> None:
    """Lattice constants, elastic constants and phonons of 26 solids beside PBE and experiment.

    A number passes if it lies within the tolerance of its reference: PBE where the table has it, else what DPA4-Neo
    gives through the reference implementation; entropies of measurement. Experiment stands beside.

    For example:

      dpa4 validate bulk --quick

      dpa4 validate bulk -m my.dpa4 --folder bulk
    """
    if quick and solids:
        raise DPA4Error("--quick chooses the solids: drop it, or the names")
    if not no_phonons:
        require_extra("phonons", "a calculation of phonons (left out by --no-phonons)")
    chosen = bulk_solids(solids, quick=quick)
    machine.use_threads()
    property_ = Stability(
        phonons=None if no_phonons else Phonons(min_length=min_length, temperatures_k=(TEMPERATURE_K,))
    )
    counts, limit = Counts(), machine.max_atoms_per_batch
    with table_in(folder, TABLE) as table, showing(counts, quiet=as_json):
        document = bulk_document(
            property_, machine.model(model), table, chosen, max_atoms_per_batch=limit, counts=counts
        )
    if as_json:
        print_json(document.model_dump(mode="json"))
    else:
        _print_rows(document.rows)
        _print_errors(document)
        say(f"{document.n_passed} of {len(document.rows)} within the tolerance")
    for formula, error in document.failures.items():
        warn("failed", f"{formula}: {error}", "bold red")
    if document.failures:
        raise typer.Exit(USER_ERROR if not document.rows else SOME_FAILED)


def _print_rows(rows: Sequence[BulkRow]) -> None:
    compared = right("value", "reference", "deviation")
    table = Table("solid", "quantity", *compared, "tolerance", "", *right("experiment"), "reference is")
    before = ""
    for row in rows:
        digits = _DIGITS[row.unit]
        table.add_row(
            row.formula if row.formula != before else "",
            f"{row.quantity}, {row.unit}",
            number(row.value, digits),
            _range(row.reference, digits),
            "" if row.deviation is None else f"{row.deviation:+.{digits}f}",
            row.tolerance,
            "[green]pass[/]" if row.passed else "[bold red]fail[/]",
            _range(row.experiment, digits),
            row.reference_source,
        )
        before = row.formula
    out.print(table)


def _range(ends: Sequence[float] | None, digits: int) -> str:
    return "" if ends is None else " to ".join(number(end, digits) for end in ends)


def _print_errors(document: BulkDocument) -> None:
    table = Table("mean absolute deviation", *right("solids", "from the reference", "%", "from experiment", "%"))
    for error in document.errors:
        digits = _DIGITS[error.unit] + 1
        table.add_row(
            f"{error.quantity}, {error.unit}",
            str(error.n),
            number(error.reference, digits),
            number(error.reference_percent, 1),
            number(error.experiment, digits),
            number(error.experiment_percent, 1),
        )
    out.print(table)

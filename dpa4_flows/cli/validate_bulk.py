"""`dpa4 validate bulk`: lattice constants, elastic constants and phonons of well-known solids."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from dpa4_core.errors import DPA4Error
from dpa4_flows.cli.console import number, out, print_json
from dpa4_flows.cli.options import BatchMachine
from dpa4_flows.cli.validation_table import DIGITS, Validation, end_of, print_rows, print_verdict
from dpa4_flows.extras import require_extra
from dpa4_flows.makers.bulk_validation import TEMPERATURE_K, BulkDocument, bulk_document, bulk_solids
from dpa4_flows.plots.words import right
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.properties.stability import Stability


def bulk(
    solids: Annotated[
        list[str] | None, typer.Argument(metavar="[SOLIDS]...", help="Formulas of the table; all by default.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Four solids only: Si, MgO, Cu, BaTiO3.")] = False,
    no_phonons: Annotated[bool, typer.Option("--no-phonons", help="Lattice and elastic constants only.")] = False,
    min_length: Annotated[
        float | None,
        typer.Option(
            min=3.0,
            help="Distance between an atom and its image in phonon supercells, Å; by default as in the references.",
        ),
    ] = None,
    *,
    run: Validation,
    machine: BatchMachine,
) -> None:
    """Lattice constants, elastic constants and phonons of 26 solids beside PBE and experiment.

    A number passes if it lies within the tolerance of its reference: PBE where the table has it, else what DPA4-Neo
    gives through the reference implementation; entropies of measurement. Experiment stands beside.

    For example:

      dpa4 validate bulk --quick

      dpa4 validate bulk -m my.dpa4 -o bulk
    """
    if quick and solids:
        raise DPA4Error("--quick chooses the solids: drop it, or the names")
    if not no_phonons:
        require_extra("phonons", "a calculation of phonons (left out by --no-phonons)")
    chosen = bulk_solids(solids, quick=quick)
    property_ = Stability(phonons=None if no_phonons else Phonons(temperatures_k=(TEMPERATURE_K,)))
    which = {"property_": property_, "solids": chosen, "min_length": min_length}
    document = run.computed("bulk", bulk_document, machine, **which)
    if run.as_json:
        print_json(document.model_dump(mode="json"))
    else:
        print_rows(document.rows)
        _print_errors(document)
        print_verdict(document.rows)
    end_of(document.rows, document.failures)


def _print_errors(document: BulkDocument) -> None:
    table = Table("mean absolute deviation", *right("solids", "from the reference", "%", "from experiment", "%"))
    for error in document.errors:
        digits = DIGITS[error.unit] + 1
        table.add_row(
            f"{error.quantity}, {error.unit}",
            str(error.n),
            number(error.reference, digits),
            number(error.reference_percent, 1),
            number(error.experiment, digits),
            number(error.experiment_percent, 1),
        )
    out.print(table)

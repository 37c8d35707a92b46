"""`dpa4 validate catalyst`: surface and adsorption energies of well-known metals."""

from __future__ import annotations

from typing import Annotated

import typer

from dpa4_core.errors import DPA4Error
from dpa4_flows.cli.options import AsJson, BatchMachine, Kept, Model
from dpa4_flows.cli.validation_table import Validation
from dpa4_flows.makers.catalyst_validation import catalyst_document

TABLE = "catalyst.sqlite"
"""Results table in the folder of `dpa4 validate catalyst`."""


def catalyst(
    metals: Annotated[
        list[str] | None, typer.Argument(metavar="[METALS]...", help="Symbols of the table; all by default.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Three metals only: Cu, Pt, Ni.")] = False,
    model: Model = "dpa4-neo",
    folder: Kept = None,
    *,
    machine: BatchMachine,
    as_json: AsJson = False,
) -> None:
    """Surface energies and adsorption on twelve metals beside published PBE.

    Energies of seven (111) surfaces; H, O, OH and CO on the best site of closest-packed faces at a quarter of a layer,
    from the table of gas energies; the order of metals along the volcano of hydrogen evolution; what has to be refused
    across the +U seam; published slabs by our arithmetic. Ends with exit code 3 if a number is outside its tolerance.

    For example:

      dpa4 validate catalyst --quick

      dpa4 validate catalyst -m my.dpa4 -o catalyst
    """
    if quick and metals:
        raise DPA4Error("--quick chooses the metals: drop it, or the names")
    run = Validation(TABLE, model, folder, machine, as_json)
    run.show(catalyst_document, metals=metals, quick=quick)

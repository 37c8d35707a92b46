"""`dpa4 validate semiconductor`: cells, phonons, polymorphs, films, heat and defects of well-known crystals."""

from __future__ import annotations

from typing import Annotated

import typer

from dpa4_flows.cli.options import AsJson, BatchMachine, Kept, Model
from dpa4_flows.cli.validation_table import Validation
from dpa4_flows.extras import require_extra
from dpa4_flows.makers.semiconductor_validation import semiconductor_document

TABLE = "semiconductor.sqlite"
"""Results table in the folder of `dpa4 validate semiconductor`."""


def semiconductor(
    quick: Annotated[bool, typer.Option("--quick", help="Silicon, GaN and ZnO only.")] = False,
    model: Model = "dpa4-neo",
    folder: Kept = None,
    *,
    machine: BatchMachine,
    as_json: AsJson = False,
) -> None:
    """What a campaign for semiconductors rests on, beside PBE and experiment.

    Lattice constants, bulk moduli, phonons and entropies of 21 solids; zincblende against wurtzite; GaN on sapphire;
    the order of heat conductivities, where phono3py is installed by the scattering of phonons too; vacancies and
    dopants of silicon. Ends with exit code 3 if a number is outside its tolerance.

    For example:

      dpa4 validate semiconductor --quick

      dpa4 validate semiconductor -m my.dpa4 -o semiconductor
    """
    require_extra("phonons", "a calculation of phonons")
    run = Validation(TABLE, model, folder, machine, as_json)
    run.show(semiconductor_document, quick=quick)

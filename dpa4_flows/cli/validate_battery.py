"""`dpa4 validate battery`: voltages, plateaus, windows and hops of well-known electrodes."""

from __future__ import annotations

from typing import Annotated

import typer

from dpa4_core.errors import DPA4Error
from dpa4_flows.cli.options import AsJson, BatchMachine, Kept, Model
from dpa4_flows.cli.validation_table import Validation
from dpa4_flows.makers.battery_validation import battery_document

TABLE = "battery.sqlite"
"""Results table in the folder of `dpa4 validate battery`."""


def battery(
    quick: Annotated[bool, typer.Option("--quick", help="LiTiS2, LiFePO4, two salts and silicon only.")] = False,
    long: Annotated[
        bool, typer.Option("--long", help="Also hops in LiFePO4, and Li4Ti5O12: as long again as all the rest.")
    ] = False,
    model: Model = "dpa4-neo",
    folder: Kept = None,
    *,
    machine: BatchMachine,
    as_json: AsJson = False,
) -> None:
    """What a campaign for batteries rests on, beside PBE and experiment.

    Voltages of oxides, phosphates and a sulfide; the two plateaus of Li2CoO2; lithium that goes into TiS2 and FePO4;
    windows of five salts of lithium; FeF2 and silicon that turn into other phases; published entries by our
    arithmetic. Ends with exit code 3 if a number is outside its tolerance.

    For example:

      dpa4 validate battery --quick

      dpa4 validate battery -m my.dpa4 -o battery --long
    """
    if quick and long:
        raise DPA4Error("--quick leaves out what --long adds: drop one of them")
    run = Validation(TABLE, model, folder, machine, as_json)
    run.show(battery_document, quick=quick, long=long)

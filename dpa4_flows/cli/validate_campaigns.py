"""`dpa4 validate battery`, `catalyst`, `semiconductor`: what a campaign rests on, beside references."""

from __future__ import annotations

from typing import Annotated

import typer

from dpa4_core.errors import DPA4Error
from dpa4_flows.cli.options import BatchMachine
from dpa4_flows.cli.validation_table import Validation
from dpa4_flows.extras import require_extra
from dpa4_flows.makers.battery_validation import battery_document
from dpa4_flows.makers.catalyst_validation import catalyst_document
from dpa4_flows.makers.semiconductor_validation import semiconductor_document


def battery(
    quick: Annotated[bool, typer.Option("--quick", help="LiTiS2, LiFePO4, two salts and silicon only.")] = False,
    long: Annotated[
        bool, typer.Option("--long", help="Also hops in LiFePO4, and Li4Ti5O12: as long again as all the rest.")
    ] = False,
    *,
    run: Validation,
    machine: BatchMachine,
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
    run.show("battery", battery_document, machine, quick=quick, long=long)


def catalyst(
    metals: Annotated[
        list[str] | None, typer.Argument(metavar="[METALS]...", help="Symbols of the table; all by default.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Three metals only: Cu, Pt, Ni.")] = False,
    *,
    run: Validation,
    machine: BatchMachine,
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
    run.show("catalyst", catalyst_document, machine, metals=metals, quick=quick)


def semiconductor(
    quick: Annotated[bool, typer.Option("--quick", help="Silicon, GaN and ZnO only.")] = False,
    *,
    run: Validation,
    machine: BatchMachine,
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
    run.show("semiconductor", semiconductor_document, machine, quick=quick)

"""`dpa4 validate`: what is known about a model's accuracy, computed anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dpa4_core.errors import DPA4Error, plural
from dpa4_core.model.info import ModelInfo
from dpa4_flows.analysis.frames import is_pbe
from dpa4_flows.analysis.schemes import PUBLISHED
from dpa4_flows.cli.computing import documents_of, table_in
from dpa4_flows.cli.console import finish, number, out, print_json, remark, say
from dpa4_flows.cli.lists import SEVERAL
from dpa4_flows.cli.options import AsJson, BatchMachine, Kept, Model, grouped
from dpa4_flows.cli.relaxing import Convergence
from dpa4_flows.cli.targets import a_file
from dpa4_flows.cli.validate_bulk import bulk
from dpa4_flows.cli.validate_campaigns import battery, catalyst, semiconductor
from dpa4_flows.cli.validate_hull import hull
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.makers.corrections import (
    VALIDATION,
    CorrectionRefitDocument,
    ThermoDocument,
    ThermoRow,
    bundled_compounds,
    elements_of,
    refit_document,
    thermo_document,
)
from dpa4_flows.makers.named import BatchRelaxMaker
from dpa4_flows.reference.entries import correction_scheme

TABLE = "thermo.sqlite"
"""Results table in the folder of `dpa4 validate thermo`."""

app = typer.Typer()
validate = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})


@validate.callback()
def _group() -> None:
    """Check a model against measurements and other calculations."""


app.add_typer(validate, name="validate")
for command in (bulk, battery, catalyst, semiconductor, hull):
    validate.command()(grouped(command))


@validate.command()
@grouped
def thermo(
    model: Model = "dpa4-neo",
    corrections: Annotated[
        list[str] | None,
        typer.Option(
            "--corrections",
            "-c",
            help=f"none, MP2020, OMat24, auto, refit:<hash> or the file of a refit; {SEVERAL}; by default the "
            "published ones.",
        ),
    ] = None,
    refit: Annotated[
        Path | None,
        typer.Option(
            "--refit",
            metavar="FILE",
            callback=a_file,
            help="Also fit corrections to the model and write them (.yaml).",
        ),
    ] = None,
    folder: Kept = None,
    *,
    relaxing: Convergence,
    machine: BatchMachine,
    as_json: AsJson = False,
) -> None:
    """Formation energies of 41 compounds against experiment.

    Relaxes the compounds and their elements with the model. With --refit, 60 more compounds serve to fit a correction
    scheme to the model, which --corrections FILE and hulls accept for this model only.

    For example:

      dpa4 validate thermo

      dpa4 validate thermo -m my.dpa4 -o thermo --refit my-corrections.yaml
    """
    machine.use_threads()
    if refit is not None and refit.suffix not in (".yaml", ".yml"):
        raise DPA4Error(f"{refit.name} cannot hold a refit: give a name that ends in .yaml")
    maker = BatchRelaxMaker(property=relaxing.relaxation(), model=machine.model(model))
    schemes = _schemes(corrections, maker.model.info(), refit=refit is not None)
    compounds = bundled_compounds(VALIDATION)
    everything = bundled_compounds() if refit is not None else compounds
    with table_in(folder, TABLE) as table:
        phases = [*everything, *elements_of(everything)]
        asks = {i: Ask(maker.property, Crystal(phase.structure)) for i, phase in enumerate(phases)}
        if known := table.existing_keys(maker.key(phase.structure) for phase in phases):
            remark(f"{plural(len(known), 'relaxation')} found in {table.path}")
        documents_of(asks, maker.model, table, machine, quiet=as_json)
        fitted = None if refit is None else refit_document(table, maker, everything, refit)
        document = thermo_document(table, maker, compounds, [*schemes, *([fitted.scheme] if fitted else [])])
    if as_json:
        print_json({"thermo": document.model_dump(), "refit": None if fitted is None else fitted.model_dump()})
    else:
        _print_rows(document)
        _print_errors(document)
        if fitted is not None:
            _print_refit(fitted)
    finish((row.formula, row.error) for row in document.rows)


def _schemes(asked: list[str] | None, info: ModelInfo, *, refit: bool) -> list[str]:
    """Names of the correction schemes to show: those asked for, else the published ones that fit the model."""
    if not is_pbe(info.level_of_theory):
        if refit or set(asked or ()) - {"none"}:
            raise DPA4Error(f"corrections of this form are for PBE and PBE+U, {info.name} gives {info.level_of_theory}")
        return ["none"]
    return list(dict.fromkeys(correction_scheme(info, scheme) for scheme in asked or PUBLISHED))


def _print_rows(document: ThermoDocument) -> None:
    schemes = list(document.provenance.settings["schemes"])
    table = Table("compound", "+U", "measured", *schemes, title="Formation energy, eV/atom", title_justify="left")
    for row in document.rows:
        cells = [_with_error(row, scheme) for scheme in schemes]
        table.add_row(row.formula, "U" if row.hubbard_u else "", f"{row.experiment:.3f}", *cells)
    out.print(table)


def _with_error(row: ThermoRow, scheme: str) -> str:
    energy = row.formation_energies.get(scheme)
    return number(None, 3) if energy is None else f"{energy:.3f} ({energy - row.experiment:+.3f})"


def _print_errors(document: ThermoDocument) -> None:
    complete = [row for row in document.rows if row.error is None]
    n_u = sum(row.hubbard_u for row in complete)
    table = Table("mean absolute error, eV/atom", *document.mae, title_justify="left")
    for title, errors in (
        (plural(len(complete), "compound"), document.mae),
        (f"{n_u} with +U", document.mae_hubbard_u),
        (f"{len(complete) - n_u} without", document.mae_others),
    ):
        table.add_row(title, *(number(errors.get(scheme), 3) for scheme in document.mae))
    out.print(table)
    if set(document.mae) - {"none"}:
        say("The schemes were fitted to largely the same measurements: these are errors within the fit.")


def _print_refit(fitted: CorrectionRefitDocument) -> None:
    table = Table("correction", "eV per atom of the kind", title=fitted.scheme, title_justify="left")
    for kind, value in fitted.values.items():
        table.add_row(kind, f"{value:.3f} ± {fitted.errors[kind]:.3f}")
    out.print(table)
    say(
        f"{plural(len(fitted.residuals), 'compound')} fitted to {fitted.mae:.3f} eV/atom; each predicted by a fit "
        f"without it: {fitted.left_out_mae:.3f} eV/atom; scatter {fitted.scatter:.3f} eV/atom"
    )
    for formula, reason in fitted.left_out.items():
        if reason != "nothing to correct":
            remark(f"not fitted: {formula}, {reason}")
    facts = fitted.content["Fit"]
    if facts["kept"]:
        remark(f"kept from {facts['kept_from']}, because no compound decides them: {', '.join(facts['kept'])}")
    say(f"wrote {fitted.file}")

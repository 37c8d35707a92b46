"""`dpa4 evaluate`: how far a model is from labelled structures."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from dpa4_core.data.frames import LabelKeys
from dpa4_core.errors import plural
from dpa4_core.evaluate import FrameErrors, Metrics
from dpa4_core.evaluate import evaluate as compare
from dpa4_core.files import write_csv
from dpa4_core.properties import is_property_model
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.cli.console import err, number, out, print_json, remark, warn
from dpa4_flows.cli.lazy import SOME_FAILED
from dpa4_flows.cli.options import AsJson, BatchMachine, grouped
from dpa4_flows.cli.targets import a_file_beside
from dpa4_flows.documents.provenance import origin_row
from dpa4_flows.runs.committee import uncertainty_table

app = typer.Typer()

MAX_GROUPS = 30
"""Longer tables of groups are not read; --by group prints them all the same."""

MAX_WARNINGS = 20
"""Frames that are named on the screen; --json has them all."""


class Breakdown(StrEnum):
    """Which tables beside the one over everything."""

    auto = "auto"
    element = "element"
    group = "group"
    none = "none"


class EnergyChoice(StrEnum):
    """Which total energy of an MPtrj frame."""

    uncorrected = "uncorrected"
    corrected = "corrected"


@app.command()
@grouped
def evaluate(
    model: Annotated[str, typer.Argument(help="Registry name, .pt or .dpa4 file, or package.module:callable.")],
    data: Annotated[
        list[Path],
        typer.Argument(
            help="Files or folders with energies, forces or stresses: extended XYZ, ASE database or trajectory, "
            "aselmdb, DeePMD npy or lmdb, JSON of MPtrj or MatPES, vasprun.xml, OUTCAR."
        ),
    ],
    by: Annotated[Breakdown, typer.Option(help="Tables per element, per group of frames, or both where short.")] = (
        Breakdown.auto
    ),
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", callback=a_file_beside, help="Write the errors of each frame to this file."),
    ] = None,
    energy_choice: Annotated[EnergyChoice, typer.Option(help="Which energy of MPtrj frames.")] = (
        EnergyChoice.uncorrected
    ),
    *,
    machine: BatchMachine,
    as_json: AsJson = False,
) -> None:
    """Compare a model with the energies, forces and stresses stored in files, or a property model with its property.

    For example:

      dpa4 evaluate dpa4-neo test.extxyz

      dpa4 evaluate my.dpa4 runs/vasp more.aselmdb --by group --csv errors.csv
    """
    potential: Any = machine.load_property(model) if is_property_model(model) else machine.load(model)
    metrics = compare(
        data,
        potential,
        keys=LabelKeys(energy_choice=energy_choice.value),
        max_atoms_per_batch=machine.max_atoms_per_batch,
        keep=csv_file is not None,
        progress=err.is_terminal and not as_json,
    )
    if csv_file is not None and metrics.parity is not None:
        _write_csv(csv_file, metrics.parity.frames)
        metrics = dataclasses.replace(metrics, parity=None)
    if as_json:
        print_json({**origin_row(machine.model(model).info()), **dataclasses.asdict(metrics)})
    else:
        _print_metrics(metrics, ", ".join(map(str, data)))
        print_uncertainty(metrics)
        if metrics.by_element and by in (Breakdown.auto, Breakdown.element):
            print_elements(metrics)
        if by == Breakdown.group or (by == Breakdown.auto and 2 <= len(metrics.by_group) <= MAX_GROUPS):
            print_groups(metrics)
    for name, error in metrics.errors[:MAX_WARNINGS]:
        warn("not compared", f"{name}: {error}", "bold red")
    if len(metrics.errors) > MAX_WARNINGS:
        remark(f"and {len(metrics.errors) - MAX_WARNINGS} more; --json lists them all")
    if metrics.errors:
        raise typer.Exit(SOME_FAILED)


def _print_metrics(metrics: Metrics, title: str) -> None:
    title = f"{title}: {plural(metrics.n_structures, 'structure')}, {plural(metrics.n_atoms, 'atom')}"
    if metrics.property_name:
        table = Table("property", "MAE", "RMSE", "unit", "references", title=title, title_justify="left")
        errors = (number(value, 3) for value in (metrics.property_mae, metrics.property_rmse))
        table.add_row(metrics.property_name, *errors, metrics.property_unit, str(metrics.n_properties))
        out.print(table)
        return
    table = Table("quantity", "MAE", "RMSE", "unit", "references", title=title, title_justify="left")
    for quantity, mae, rmse, factor, unit, count in (
        ("energy", metrics.energy_mae, metrics.energy_rmse, 1e3, "meV/atom", metrics.n_energies),
        ("force", metrics.force_mae, metrics.force_rmse, 1e3, "meV/Å", metrics.n_forces),
        (
            "stress",
            metrics.stress_mae,
            metrics.stress_rmse,
            EV_PER_ANGSTROM3_TO_GPA,
            "GPa",
            metrics.n_stresses,
        ),
    ):
        table.add_row(quantity, _scaled(mae, factor), _scaled(rmse, factor), unit, str(count))
    table.add_row("force norm", _scaled(metrics.force_norm_mae, 1e3), "", "meV/Å", str(metrics.n_forces // 3))
    out.print(table)
    if metrics.force_cosine is not None:
        out.print(f"mean cosine of the forces: {metrics.force_cosine:.4f}", highlight=False)


def print_uncertainty(metrics: Metrics) -> None:
    """What the deviations of a committee are worth; nothing of a single model."""
    if metrics.uncertainty:
        out.print(uncertainty_table(metrics.uncertainty))


def print_elements(metrics: Metrics) -> None:
    """Table of the force errors per element."""
    table = Table("element", "force MAE", "RMSE", "unit", "atoms")
    for element, errors in metrics.by_element.items():
        numbers = (_scaled(errors[key], 1e3) for key in ("force_mae", "force_rmse"))
        table.add_row(element, *numbers, "meV/Å", f"{errors['n_atoms']:.0f}")
    out.print(table)


def print_groups(metrics: Metrics) -> None:
    """Table of the errors per group of frames."""
    shown = [
        ("energy_mae", "energy MAE (meV/atom)", 1e3),
        ("force_mae", "force MAE (meV/Å)", 1e3),
        ("stress_mae", "stress MAE (GPa)", EV_PER_ANGSTROM3_TO_GPA),
    ]
    if metrics.property_name:
        shown = [("property_mae", f"{metrics.property_name} MAE ({metrics.property_unit or '–'})", 1.0)]
    table = Table("group", *(title for _, title, _ in shown), "structures")
    for group, errors in metrics.by_group.items():
        cells = (_scaled(errors.get(key), factor) for key, _, factor in shown)
        table.add_row(group, *cells, f"{errors['n_structures']:.0f}")
    out.print(table)


def _scaled(value: float | None, factor: float) -> str:
    return number(None if value is None else value * factor, 3)


_OF_A_FRAME = ("name", "group", "source", "n_atoms")


def _write_csv(path: Path, frames: list[FrameErrors]) -> None:
    """One line per frame; errors in meV/atom, meV/Å and GPa as in the tables, empty without a reference."""
    columns = {
        "energy": ("energy_error_mev_per_atom", 1e3),
        "force_mae": ("force_mae_mev_per_angstrom", 1e3),
        "force_max": ("force_max_mev_per_angstrom", 1e3),
        "stress_mae": ("stress_mae_gpa", EV_PER_ANGSTROM3_TO_GPA),
    }
    if any(frame.property is not None for frame in frames):
        columns = {"property": ("property_error", 1.0)}
    lines: list[dict[str, Any]] = []
    for frame in frames:
        lines.append({name: getattr(frame, name) for name in _OF_A_FRAME})
        for key, (title, factor) in columns.items():
            value = getattr(frame, key)
            lines[-1][title] = None if value is None else float(f"{value * factor:.6g}")
    write_csv(path, lines, [*_OF_A_FRAME, *(title for title, _ in columns.values())])

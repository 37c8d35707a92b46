"""`dpa4 evaluate`: how far a model is from labelled structures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dpa4_core.errors import DPA4Error
from dpa4_core.predict import Metrics
from dpa4_core.predict import evaluate as compare
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.cli.console import err, number, out, plural, print_json, warn
from dpa4_flows.cli.lazy import SOME_FAILED
from dpa4_flows.model_ref import ModelRef

app = typer.Typer()


@app.callback()
def _family() -> None:
    """Evaluation."""


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Registry name, .pt or .dpa4 file, or package.module:callable.")],
    data: Annotated[Path, typer.Argument(help="Extended XYZ or ASE database with energies, forces or stresses.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    max_atoms_per_batch: Annotated[int | None, typer.Option(min=1, help="Atoms computed at the same time.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False,
) -> None:
    """Compare a model with the energies, forces and stresses stored in a file.

    For example:

      dpa4 evaluate dpa4-neo test.extxyz
    """
    potential = ModelRef(model, device=device, dtype=dtype).load()
    show_bar = err.is_terminal and not as_json
    metrics = compare(data, potential, max_atoms_per_batch=max_atoms_per_batch, progress=show_bar)
    if not metrics.n_structures and not metrics.errors:
        raise DPA4Error(f"{data} holds no structures")
    if as_json:
        print_json(dataclasses.asdict(metrics))
    else:
        _print_metrics(metrics, data)
    for name, error in metrics.errors:
        warn("not compared", f"{name}: {error}", "bold red")
    if metrics.errors:
        raise typer.Exit(SOME_FAILED)


def _print_metrics(metrics: Metrics, data: Path) -> None:
    title = f"{data}: {plural(metrics.n_structures, 'structure')}, {plural(metrics.n_atoms, 'atom')}"
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
        errors = [number(None if value is None else value * factor, 3) for value in (mae, rmse)]
        table.add_row(quantity, *errors, unit, str(count))
    out.print(table)

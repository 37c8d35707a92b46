"""`dpa4 predict` and `dpa4 relax`: files in, numbers and structures out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from dpa4_core.data.readers import NamedStructure
from dpa4_core.errors import DPA4Error, plural
from dpa4_core.model.property import is_property_file
from dpa4_core.predict import Prediction
from dpa4_core.predict import predict as predict_structures
from dpa4_core.properties import PropertyPrediction, predict_property
from dpa4_core.relax import RelaxResult
from dpa4_core.relax import relax as relax_structures
from dpa4_core.relax.optimizer import OptimizerName
from dpa4_core.relax.options import RelaxOptions
from dpa4_core.uncertainty import most_uncertain as least_certain
from dpa4_core.verdicts import FLAG_SENTENCES
from dpa4_flows.cli.console import MAX_ROWS, err, finish, number, out, print_json, say, say_rest, warn
from dpa4_flows.cli.large import RunOptions, run_large, run_task
from dpa4_flows.cli.options import AsJson, BatchMachine, Files, Model, Output, RetryErrors, flag, grouped, option
from dpa4_flows.documents.calculations import largest_force, pressure_gpa, relax_settings, static_settings
from dpa4_flows.documents.provenance import origin_row
from dpa4_flows.documents.quantities import STD
from dpa4_flows.large.launch import Resources
from dpa4_flows.plots.words import right
from dpa4_flows.reference.crystals import read_crystals
from dpa4_flows.runs.large import Workers
from dpa4_flows.structure_files import Computed, Written, formula_of, is_run_target, output_format, write_structures


@dataclass(frozen=True)
class Large:
    """How a run in a folder is gone about."""

    workers: int = option(1, "Processes that share a run folder: one for each GPU, or for a part of the cores.", min=1)
    forces: bool | None = option(None, "Forces in a run folder; by default for predict only.", "--forces/--no-forces")
    retry_errors: RetryErrors = False

    def is_asked(self, output: Path | None) -> bool:
        """Whether the output is that of a large run; refuses what only such a run can do, and unknown formats."""
        if output is not None and is_run_target(output):
            return True
        if output is not None:
            output_format(output)
        given = {
            "--workers": self.workers > 1,
            "--forces": self.forces is not None,
            "--retry-errors": self.retry_errors,
        }
        for hint in (name for name, is_given in given.items() if is_given):
            raise typer.BadParameter("needs a run folder as output, for example -o runs/relaxed", param_hint=hint)
        return False

    def options(self, machine: BatchMachine, *, as_json: bool) -> RunOptions:
        """The same for the run itself."""
        resources = Resources(machine.device, machine.threads, machine.max_atoms_per_batch)
        return RunOptions(Workers(self.workers, resources), self.retry_errors, as_json)


@dataclass(frozen=True)
class Relaxing:
    """What a relaxation ends with, and what may move in it."""

    fmax: float = option(0.02, "Largest force on atoms and cell at the end, eV/Å.")
    max_steps: int = option(500, "Optimiser steps before giving up.", min=1)
    fixed_cell: bool = flag("Relax the positions only.")
    pressure: float = option(0.0, "External pressure, GPa.")
    optimizer: OptimizerName = option("auto", "auto: L-BFGS, and FIRE for what it fails on; lbfgs; fire as in ASE.")
    max_step: float | None = option(None, "Longest displacement in a step, Å. Default: 0.2.")
    cell: str = option(
        "full", "full, all (vacuum too), fixed, volume or shape (constant), or strains: 110001 (xx yy zz yz xz xy)."
    )
    keep_symmetry: bool = flag("Keep the space group of the start.")
    check_minimum: bool = option(
        True,
        "Look for a way down from where forces vanish, and go it (with --keep-symmetry: say so).",
        "--check-minimum/--no-check-minimum",
    )

    def settings(self) -> dict[str, Any]:
        """As `RelaxOptions` takes them, which refuses what makes no sense."""
        if not 0 < self.fmax < math.inf:
            raise typer.BadParameter("must be positive", param_hint="--fmax")
        strains = len(self.cell) == 6 and set(self.cell) <= {"0", "1"}
        what: dict[str, Any] = {
            "fmax": self.fmax,
            "max_steps": self.max_steps,
            "relax_cell": not self.fixed_cell,
            "pressure_gpa": self.pressure,
            "optimizer": self.optimizer,
            "max_step": self.max_step,
            "cell": [int(digit) for digit in self.cell] if strains else self.cell,
            "keep_symmetry": self.keep_symmetry,
            "check_minimum": self.check_minimum,
        }
        RelaxOptions(**what)
        return what


app = typer.Typer()


@app.command()
@grouped
def predict(
    files: Files,
    output: Output = None,
    model: Model = "dpa4-neo",
    *,
    machine: BatchMachine,
    large: Large,
    most_uncertain: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Keep the N structures on whose forces the members of a committee agree least, the least certain "
            "first; OUT has them without energies and forces, to be labelled.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Energies, forces and stress of structures as they are; with a property model that property.

    The members of a committee give standard deviations as well. Energies are uncorrected and of the model's own level
    of theory (dpa4 info MODEL): compare them among themselves, not with those of a database.

    For example:

      dpa4 predict structures/*.cif -o energies.extxyz

      dpa4 predict POSCAR --json

      dpa4 predict many.extxyz.gz -o runs/energies --workers 4

      dpa4 predict trajectory.traj -m committee.dpa4 --most-uncertain 20 -o to_label.extxyz
    """
    in_folder = large.is_asked(output)
    if in_folder and most_uncertain is not None:
        raise typer.BadParameter("writes .extxyz, .json or .cif, not a run folder", param_hint="--most-uncertain")
    if in_folder and is_property_file(model):
        raise typer.BadParameter("a property model writes .extxyz or .json, not a run folder", param_hint="--output")
    if in_folder and output is not None:
        task = run_task(
            machine.model(model), static_settings(dtype=machine.dtype), with_forces=large.forces is not False
        )
        run_large(files, output, task, large.options(machine, as_json=as_json))
        return
    inputs = read_inputs(files)
    if is_property_file(model):
        predictor = machine.load_property(model)
        name, unit = predictor.model.config.name, predictor.model.config.unit
        columns = {name: (f"{name}, {unit}" if unit else name, 4)}
        results = _computed(inputs, partial(predict_property, model=predictor), machine, model, as_json, name)
    else:
        columns = {
            "energy_per_atom": ("eV/atom", 4),
            "max_force": ("largest force, eV/Å", 3),
            "pressure_gpa": ("GPa", 2),
        }
        compute = partial(predict_structures, potential=machine.load(model))
        results = _computed(inputs, compute, machine, model, as_json)
    if most_uncertain is not None:
        if not any(r.worst_force_std is not None for r in results) and any(r.error is None for r in results):
            raise DPA4Error(f"{model} is a single model, which has no deviations; --most-uncertain needs a committee")
        chosen = [results[i] for i in least_certain(results, most_uncertain)]
        results = chosen + [r for r in results if r.error is not None]
    _finish(results, output, columns, as_json, labelled=most_uncertain is None)


@app.command()
@grouped
def relax(
    files: Files,
    output: Output = None,
    *,
    relaxing: Relaxing,
    model: Model = "dpa4-neo",
    machine: BatchMachine,
    large: Large,
    as_json: AsJson = False,
) -> None:
    """Relax structures, many at a time, each to its own convergence.

    Fixed atoms (ASE constraints, selective dynamics) stay fixed. A structure that runs out of steps is written with
    converged=False and listed, and the exit code is 3.

    For example:

      dpa4 relax POSCAR -o relaxed.cif

      dpa4 relax candidates/ -o relaxed.extxyz --fmax 0.01

      dpa4 relax slab.cif -o slab.extxyz --fixed-cell --device cuda

      dpa4 relax film.cif -o relaxed.cif --cell 110001

      dpa4 relax candidates.tar.gz -o runs/candidates --workers 4
    """
    in_folder = large.is_asked(output)
    what = relaxing.settings()
    if in_folder and output is not None:
        task = run_task(
            machine.model(model), relax_settings(dtype=machine.dtype, **what), with_forces=large.forces is True
        )
        run_large(files, output, task, large.options(machine, as_json=as_json))
        return
    inputs = read_inputs(files)
    compute = partial(relax_structures, potential=machine.load(model), **what)
    columns = {"energy_per_atom": ("eV/atom", 4), "fmax": ("fmax, eV/Å", 3), "n_steps": ("steps", 0)}
    _finish(_computed(inputs, compute, machine, model, as_json), output, columns, as_json)


def read_inputs(files: Sequence[Path]) -> list[Computed]:
    """All structures of all files; among several files, one that cannot be read fails alone."""
    return [Computed(n.name, n.structure, error=n.error, warnings=n.warnings) for n in read_crystals(files)]


def _computed(
    inputs: Sequence[Computed],
    compute: Callable[..., Sequence[Any]],
    machine: BatchMachine,
    model: str,
    quiet: bool,
    name: str = "",
) -> list[Computed]:
    """What a function of the core that takes and gives lists has to say of what was read.

    Args:
        inputs: what was read.
        compute: `predict`, `relax` or `predict_property`, with its model and options.
        machine: how many atoms at the same time.
        model: that computes.
        quiet: no progress.
        name: of the property.
    """
    structures = [entry.structure for entry in inputs if entry.error is None]
    progress = err.is_terminal and not quiet
    results = iter(compute(structures, max_atoms_per_batch=machine.max_atoms_per_batch, progress=progress))
    origin = origin_row(machine.model(model).info())
    return [entry if entry.error is not None else _with(entry, next(results), name, origin) for entry in inputs]


def _with(
    entry: Computed, result: Prediction | RelaxResult | PropertyPrediction, name: str, origin: dict[str, str]
) -> Computed:
    if result.error is not None:
        return replace(entry, error=result.error)
    if isinstance(result, PropertyPrediction):
        return replace(entry, numbers={name: result.value, **origin})
    numbers: dict[str, Any] = {"energy_per_atom": result.energy / len(entry.structure), **origin}
    if isinstance(result, RelaxResult):
        entry = replace(entry, structure=result.structure)
        numbers |= {
            "fmax": result.fmax,
            "n_steps": result.n_steps,
            "converged": bool(result.converged),
            "minimum": result.minimum,
            "flags": " ".join(result.flags) or None,
        }
    else:
        numbers |= {"max_force": largest_force(result.forces), "pressure_gpa": pressure_gpa(result.stress)}
    if result.energy_std is not None:
        numbers |= {
            "energy_per_atom_std": result.energy_std / len(entry.structure),
            "worst_force_std": result.worst_force_std,
        }
    values = {name: getattr(result, name) for name in ("energy", "forces", "stress", "forces_std", "stress_std")}
    return replace(entry, numbers=numbers, **values)


def warn_of_inputs(inputs: Sequence[Computed | NamedStructure]) -> None:
    """What the files made doubtful, on stderr; what failed has its reason already."""
    for entry in inputs:
        if entry.error is None:
            for text in entry.warnings:
                warn("mind", f"{entry.name}: {text}")


def _finish(
    results: list[Computed],
    output: Path | None,
    columns: dict[str, tuple[str, int]],
    as_json: bool,
    *,
    labelled: bool = True,
) -> None:
    """Write the file, show the summary, list what failed."""
    kept = results if labelled else [r.unlabelled() for r in results]
    written = Written(0, []) if output is None else write_structures(output, kept)
    if as_json:
        print_json([r.row() for r in results])
    else:
        _print_table(results, columns)
        if output is not None:
            say(f"wrote {plural(written.n_structures, 'structure')} to {output}")
    for note in written.notes:
        warn("mind", note)
    warn_of_inputs(results)
    unfinished = False
    for r in results:
        numbers = r.numbers or {}
        if flags := numbers.get("flags"):
            warn("look at", f"{r.name}: {'; '.join(FLAG_SENTENCES[flag] for flag in flags.split())}")
        if numbers.get("converged") is False:
            unfinished = True
            reached = f"fmax {numbers['fmax']:.3g} eV/Å after {numbers['n_steps']} steps"
            warn("not converged", f"{r.name}: {reached}; raise --max-steps", "bold yellow")
    finish([(r.name, r.error) for r in results], unfinished=unfinished)


def _print_table(results: list[Computed], columns: dict[str, tuple[str, int]]) -> None:
    if any(r.worst_force_std is not None for r in results):
        columns = {**columns, "worst_force_std": ("largest force deviation, eV/Å", 3)}
    table = Table("name", "formula", "atoms", *right(*(title for title, _ in columns.values())))
    shown = [r for r in results if r.error is None]
    for r in shown[:MAX_ROWS]:
        numbers = r.numbers or {}
        cells = [number(numbers[key], digits, numbers.get(key + STD)) for key, (_, digits) in columns.items()]
        table.add_row(escape(r.name), formula_of(r.structure), str(len(r.structure)), *cells)
    if shown:
        out.print(table)
    say_rest(len(shown))

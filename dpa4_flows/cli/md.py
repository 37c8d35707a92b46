"""`dpa4 md`: molecular dynamics of structures in files."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from dpa4_core.errors import DPA4Error
from dpa4_core.md import MDResult, MDSettings
from dpa4_core.md import md as run_md
from dpa4_core.md.files import Paths
from dpa4_core.potential import PotentialLike
from dpa4_flows.cli.console import err, number, out, plural, print_json, remark, say, tell_failed
from dpa4_flows.cli.lazy import SOME_FAILED, USER_ERROR
from dpa4_flows.cli.options import AsJson, Files, Machine, Model, grouped
from dpa4_flows.cli.outputs import Computed, formula_of
from dpa4_flows.cli.structures import read_inputs, warn_of_inputs
from dpa4_flows.report.md_plot import Course, write_md_html, write_md_png

_PLOTS: dict[str, Callable[..., None]] = {".html": write_md_html, ".png": write_md_png}

app = typer.Typer()


@dataclass(frozen=True)
class Dynamics:
    """The flags of `MDSettings`."""

    ensemble: Annotated[str, typer.Option(help="nve, nvt or npt.")] = "nvt"
    thermostat: Annotated[str | None, typer.Option(help="langevin (nvt) or nose-hoover (nvt, npt).")] = None
    barostat: Annotated[str, typer.Option(help="full: all of the cell moves; isotropic: its volume.")] = "full"
    temperature: Annotated[float, typer.Option("--temperature", "-T", help="K.")] = 300.0
    pressure: Annotated[float, typer.Option(help="External pressure of npt, GPa.")] = 0.0
    time: Annotated[float, typer.Option(help="Length of the run, ps.")] = 1.0
    timestep: Annotated[float, typer.Option(help="fs; 0.5 with hydrogen.")] = 1.0
    friction: Annotated[float, typer.Option(help="Of the langevin thermostat, 1/ps.")] = 10.0
    every: Annotated[int, typer.Option(min=1, help="Steps between two frames.")] = 10
    seed: Annotated[int, typer.Option(min=0, help="Of velocities and random forces.")] = 0
    keep_velocities: Annotated[
        bool, typer.Option("--keep-velocities", help="Start with the velocities in the file.")
    ] = False

    def settings(self) -> MDSettings:
        """Checked; refuses what makes no sense."""
        return MDSettings(
            ensemble=self.ensemble,
            thermostat=self.thermostat,
            barostat=self.barostat,
            temperature=self.temperature,
            pressure_gpa=self.pressure,
            time_ps=self.time,
            timestep_fs=self.timestep,
            friction_per_ps=self.friction,
            every=self.every,
            seed=self.seed,
            keep_velocities=self.keep_velocities,
        )


@dataclass(frozen=True)
class _Job:
    """One structure and where its run goes; ``error`` says why there is none."""

    entry: Computed
    trajectory: Path
    result: MDResult | None = None
    error: str | None = None

    @property
    def problem(self) -> str | None:
        return self.error if self.result is None else self.result.error


@app.callback()
def _family() -> None:
    """Molecular dynamics."""


@app.command()
@grouped
def md(
    files: Files,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="OUT", help="Trajectory, .traj or .extxyz; a folder for several."),
    ],
    *,
    dynamics: Dynamics,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew where a run is.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Drift figure: .html or .png.")] = None,
    model: Model = "dpa4-neo",
    machine: Machine,
    as_json: AsJson = False,
) -> None:
    """Molecular dynamics; the same command again continues a run that was stopped.

    Beside the trajectory OUT.traj stand OUT.csv (energies, temperature, pressure), OUT.json (model, settings, averages,
    drift) and OUT.restart.npz. More --time prolongs a finished run. For several structures OUT is a folder; they run
    together where torch-sim is installed.

    For example:

      dpa4 md silicon.cif -o nve.traj --ensemble nve --temperature 600 --time 2

      dpa4 md NaCl.cif -o npt.traj --ensemble npt --pressure 1 --time 5 --plot npt.html
    """
    settings = dynamics.settings()
    if plot is not None and plot.suffix.lower() not in _PLOTS:
        raise DPA4Error(f"cannot tell the format from {plot.name!r}; end the name of the plot in .html or .png")
    jobs = _jobs(read_inputs(files), output)
    potential = machine.load(model)
    progress = err.is_terminal and not as_json
    together = _together(jobs, settings)
    if together is not None:
        jobs = _run_together(together, jobs, potential, settings, overwrite, progress)
    else:
        jobs = [_run(job, potential, settings, overwrite, progress, alone=len(jobs) == 1) for job in jobs]
    info = machine.model(model).info()
    drawn = _draw(plot, jobs, f"{info.name}: {info.level_of_theory}") if plot is not None else False
    if as_json:
        print_json([_row(job) for job in jobs])
    else:
        _print(jobs, settings)
        if drawn:
            say(f"wrote {plot}")
    warn_of_inputs([job.entry for job in jobs])
    _finish(jobs)


def _jobs(inputs: Sequence[Computed], output: Path) -> list[_Job]:
    """A trajectory for every structure: ``output`` itself, or files of their names in the folder ``output``."""
    if len(inputs) == 1:
        path = output
        if inputs[0].error is None:
            Paths.of(path)
        return [_Job(inputs[0], path, error=inputs[0].error)]
    if output.suffix or output.is_file():
        raise DPA4Error(f"{output} can hold one run, not {len(inputs)}; name a folder for several structures")
    taken: dict[str, int] = {}
    jobs = []
    for entry in inputs:
        stem = re.sub(r"[^\w+-]+", "_", Path(entry.name).name).strip("_") or "structure"
        taken[stem] = taken.get(stem, 0) + 1
        number_in = "" if taken[stem] == 1 else f"-{taken[stem]}"
        jobs.append(_Job(entry, output / f"{stem}{number_in}.traj", error=entry.error))
    return jobs


def _together(jobs: Sequence[_Job], settings: MDSettings) -> Any:
    """The module that runs several structures at once, with a line about it; None to run one after another."""
    if len(jobs) < 2:
        return None
    one_by_one = "the structures run one after another: "
    if importlib.util.find_spec("torch_sim") is None:
        remark(one_by_one + "for batches install the extra torchsim (Python 3.12 or later)")
        return None
    module = importlib.import_module("dpa4_flows.torchsim_md")
    if settings.integrator not in module.INTEGRATORS:
        remark(one_by_one + f"torch-sim has no {settings.integrator}")
        return None
    remark(f"{len(jobs)} structures run together through torch-sim")
    return module


def _run_together(
    module: Any,
    jobs: Sequence[_Job],
    potential: PotentialLike,
    settings: MDSettings,
    overwrite: bool,
    progress: bool,
) -> list[_Job]:
    done = list(jobs)
    good = [i for i, job in enumerate(jobs) if job.error is None]
    outcomes = module.md_batch(
        [jobs[i].entry.structure for i in good],
        potential,
        settings,
        [jobs[i].trajectory for i in good],
        overwrite=overwrite,
        progress=progress,
    )
    for i, outcome in zip(good, outcomes, strict=True):
        done[i] = _Job(jobs[i].entry, jobs[i].trajectory, outcome.result, outcome.error)
    return done


def _run(
    job: _Job, potential: PotentialLike, settings: MDSettings, overwrite: bool, progress: bool, *, alone: bool
) -> _Job:
    """The job with its result; among several, one that cannot run fails alone."""
    if job.error is not None:
        return job
    try:
        result = run_md(
            job.entry.structure,
            potential,
            settings,
            output=job.trajectory,
            overwrite=overwrite,
            progress=progress,
        )
    except DPA4Error as error:
        if alone:
            raise
        return _Job(job.entry, job.trajectory, error=str(error))
    return _Job(job.entry, job.trajectory, result)


def _draw(plot: Path, jobs: Sequence[_Job], words: str) -> bool:
    runs = {
        job.entry.name: Course(job.result.thermo, len(job.entry.structure))
        for job in jobs
        if job.result is not None and len(job.result.thermo.step) > 1
    }
    if runs:
        _PLOTS[plot.suffix.lower()](plot, runs, words)
    return bool(runs)


def _row(job: _Job) -> dict[str, object]:
    row: dict[str, object] = {"name": job.entry.name, "warnings": list(job.entry.warnings), "error": job.problem}
    if job.result is not None:
        row |= {"formula": formula_of(job.entry.structure), "n_atoms": len(job.entry.structure)}
        row |= {"trajectory": str(job.trajectory), **job.result.summary()}
    return row


def _print(jobs: Sequence[_Job], settings: MDSettings) -> None:
    table = Table(
        "name",
        "formula",
        caption="averages over the second half; drift of the conserved energy in meV/atom/ps",
        caption_justify="left",
    )
    for title in ("atoms", "ps", "K", "GPa", "drift", "ns/day"):
        table.add_column(title, justify="right")
    done = [job for job in jobs if job.result is not None]
    for job in done:
        result = job.result
        assert result is not None
        numbers = result.summary()
        table.add_row(
            escape(job.entry.name),
            formula_of(job.entry.structure),
            str(len(job.entry.structure)),
            f"{result.time_ps:g}",
            _with_error(numbers["temperature"], numbers["temperature_error"], 0),
            _with_error(numbers["pressure_gpa"], numbers["pressure_gpa_error"], 2),
            number(numbers["drift_mev_per_atom_ps"], 3),
            number(numbers["ns_per_day"], 2),
        )
    if done:
        out.print(table)
        where = done[0].trajectory if len(jobs) == 1 else done[0].trajectory.parent
        say(f"wrote {where}: {plural(settings.n_steps, 'step')} of {settings.timestep_fs:g} fs, {settings.integrator}")


def _with_error(mean: float | None, error: float | None, digits: int) -> str:
    return number(mean, digits) if error is None else f"{number(mean, digits)} ± {error:.{digits + 1}f}"


def _finish(jobs: Sequence[_Job]) -> None:
    """List what failed; exit with 3 if something did, with 1 if everything did."""
    failed = [job for job in jobs if job.problem is not None]
    for job in failed:
        tell_failed(job.entry.name, job.problem or "")
    if failed:
        raise typer.Exit(USER_ERROR if len(failed) == len(jobs) else SOME_FAILED)

"""`dpa4 md`: molecular dynamics of structures in files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from dpa4_core.data.readers import read_files
from dpa4_core.errors import DPA4Error, plural
from dpa4_core.md import MDSettings
from dpa4_flows.cli.console import finish, out, print_json, say
from dpa4_flows.cli.options import ANEW, OUTPUT, AsJson, Files, Machine, Model, flag, grouped, option
from dpa4_flows.cli.progress import ConsoleWatch
from dpa4_flows.cli.structures import warn_of_inputs
from dpa4_flows.cli.targets import a_file, a_file_or_folder
from dpa4_flows.documents.provenance import origin_row
from dpa4_flows.report.md_plot import Course, write_md_html, write_md_png
from dpa4_flows.runs.dynamics import Job, Origin, dynamics_table, jobs_of, run_jobs
from dpa4_flows.structure_files import formula_of

_PLOTS: dict[str, Callable[..., None]] = {".html": write_md_html, ".png": write_md_png}

app = typer.Typer()


@dataclass(frozen=True)
class Dynamics:
    """The flags of `MDSettings`."""

    ensemble: str = option("nvt", "nve, nvt or npt.")
    thermostat: str | None = option(None, "langevin (nvt) or nose-hoover (nvt, npt).")
    barostat: str = option("full", "full: all of the cell moves; isotropic: its volume.")
    temperature: float = option(300.0, "K.", "--temperature", "-T")
    pressure: float = option(0.0, "External pressure of npt, GPa.")
    time: float = option(1.0, "Length of the run, ps.")
    timestep: float = option(1.0, "fs; 0.5 with hydrogen.")
    friction: float = option(10.0, "Of the langevin thermostat, 1/ps.")
    every: int = option(10, "Steps between two frames.", min=1)
    seed: int = option(0, "Of velocities and random forces.", min=0)
    keep_velocities: bool = flag("Start with the velocities in the file.")

    def settings(self) -> MDSettings:
        """Checked; refuses what makes no sense."""
        units = {"pressure": "_gpa", "time": "_ps", "timestep": "_fs", "friction": "_per_ps"}
        return MDSettings(**{name + units.get(name, ""): value for name, value in vars(self).items()})


@app.command()
@grouped
def md(
    files: Files,
    output: Annotated[
        Path,
        typer.Option(
            *OUTPUT,
            metavar="OUT",
            callback=a_file_or_folder,
            help="Trajectory, .traj or .extxyz; a folder for several.",
        ),
    ],
    *,
    dynamics: Dynamics,
    overwrite: Annotated[bool, typer.Option(*ANEW, help="Start anew where a run is.")] = False,
    plot: Annotated[Path | None, typer.Option(callback=a_file, help="Drift figure: .html or .png.")] = None,
    model: Model = "dpa4-neo",
    machine: Machine,
    as_json: AsJson = False,
) -> None:
    """Molecular dynamics; the same command again continues a run that was stopped.

    Beside the trajectory OUT.traj stand OUT.csv (energies, temperature, pressure), OUT.json (model, settings, averages,
    drift) and OUT.restart.npz. More --time prolongs a finished run. For several structures OUT is a folder; in nve and
    nvt they run together.

    For example:

      dpa4 md silicon.cif -o nve.traj --ensemble nve --temperature 600 --time 2

      dpa4 md NaCl.cif -o npt.traj --ensemble npt --pressure 1 --time 5 --plot npt.html
    """
    settings = dynamics.settings()
    if plot is not None and plot.suffix.lower() not in _PLOTS:
        raise DPA4Error(f"cannot tell the format from {plot.name!r}; end the name of the plot in .html or .png")
    inputs = read_files(files)
    jobs = jobs_of(inputs, output, settings)
    potential = machine.load(model)
    reference = machine.model(model).resolve()
    origin = Origin([str(file.absolute()) for file in files], reference, machine.threads, together=len(jobs) > 1)
    watch = ConsoleWatch(quiet=as_json)
    jobs = run_jobs(jobs, potential, settings, origin, overwrite=overwrite, watch=watch)
    info = reference.info()
    drawn = _draw(plot, jobs, f"{info.name}: {info.level_of_theory}") if plot is not None else False
    if as_json:
        print_json([_row(job) | origin_row(info) for job in jobs])
    else:
        _print(jobs, settings)
        if drawn:
            say(f"wrote {plot}")
    warn_of_inputs([job.entry for job in jobs])
    finish((job.entry.name, job.problem) for job in jobs)


def _draw(plot: Path, jobs: Sequence[Job], words: str) -> bool:
    runs = {
        job.entry.name: Course(job.result.thermo, len(job.entry.structure))
        for job in jobs
        if job.result is not None and len(job.result.thermo.step) > 1
    }
    if runs:
        _PLOTS[plot.suffix.lower()](plot, runs, words)
    return bool(runs)


def _row(job: Job) -> dict[str, object]:
    row: dict[str, object] = {"name": job.entry.name, "warnings": list(job.entry.warnings), "error": job.problem}
    if job.result is not None:
        row |= {"formula": formula_of(job.entry.structure), "n_atoms": len(job.entry.structure)}
        row |= {"trajectory": str(job.trajectory), **job.result.summary()}
    return row


def _print(jobs: Sequence[Job], settings: MDSettings) -> None:
    done = [job for job in jobs if job.result is not None]
    if done:
        out.print(dynamics_table([_row(job) for job in done]))
        where = done[0].trajectory if len(jobs) == 1 else done[0].trajectory.parent
        say(f"wrote {where}: {plural(settings.n_steps, 'step')} of {settings.timestep_fs:g} fs, {settings.integrator}")

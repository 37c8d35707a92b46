"""Molecular dynamics: a trajectory with its files beside it, or a folder of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import ase.io
import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dpa4_core.data.batching import default_budget
from dpa4_core.data.readers import NamedStructure, read_files
from dpa4_core.data.run_names import RESTART, TRAJECTORY_SUFFIXES
from dpa4_core.data.site_data import with_cartesian_constraints
from dpa4_core.errors import DPA4Error
from dpa4_core.files import plain_name, replacing
from dpa4_core.locks import holder
from dpa4_core.md import MDResult, MDSettings, Thermo, md_many
from dpa4_core.md import md as run_md
from dpa4_core.md.files import Checkpoint, Paths, read_frame, read_frames, read_samples
from dpa4_core.md.result import Average, Drift
from dpa4_core.md.subject import structure_digest
from dpa4_core.md.together import MOST_RUNS
from dpa4_core.potential import PotentialLike
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.plots.words import right
from dpa4_flows.report.md_plot import Course, write_md_html
from dpa4_flows.runs.run import How, Nobody, Note, Outcome, Part, Run, RunStatus, RunStructure, Watch

# ---- computing


@dataclass(frozen=True)
class Origin:
    """Where structures and model of a trajectory came from; its summary keeps it, so that the run can go on.

    Attributes:
        files: of the structures, absolute, in their order.
        model: with its checksum.
        threads: of the CPU; 0 leaves it to torch.
        together: whether several structures share a folder.
    """

    files: list[str]
    model: ModelRef
    threads: int
    together: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "model": asdict(self.model)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Origin:
        return cls(**{**stored, "model": ModelRef(**stored["model"])})


@dataclass(frozen=True)
class Job:
    """One structure and where its run goes; ``error`` says why there is none."""

    entry: NamedStructure
    trajectory: Path
    result: MDResult | None = None
    error: str | None = None

    @property
    def problem(self) -> str | None:
        """What went wrong."""
        return self.error if self.result is None else self.result.error


def jobs_of(inputs: Sequence[NamedStructure], output: Path, settings: MDSettings) -> list[Job]:
    """A trajectory for every structure: ``output`` itself, or files of their names in the folder ``output``.

    A run of the same structure that stands there under another name goes on under that: names depend on what else is
    given, and on the version.

    Raises:
        DPA4Error: ``output`` is no trajectory, or no folder for several.
    """
    if len(inputs) == 1:
        if inputs[0].error is None:
            Paths.of(output)
        return [Job(inputs[0], output, error=inputs[0].error)]
    if output.suffix or output.is_file():
        raise DPA4Error(f"{output} can hold one run, not {len(inputs)}; name a folder for several structures")
    taken: dict[str, int] = {}
    jobs = []
    for entry in inputs:
        stem = plain_name(entry.name).replace(".", "_")
        taken[stem] = taken.get(stem, 0) + 1
        number = "" if taken[stem] == 1 else f"-{taken[stem]}"
        jobs.append(Job(entry, output / f"{stem}{number}.traj", error=entry.error))
    there = {_trajectory_of(restart) for restart in _restarts(output)}
    others = _Begun(there - {job.trajectory for job in jobs}, settings)
    return [
        job if job.trajectory in there else replace(job, trajectory=others.take(job.entry) or job.trajectory)
        for job in jobs
    ]


class _Begun:
    """Runs by the structures that they began with.

    Args:
        trajectories: of the runs.
        settings: of all.
    """

    def __init__(self, trajectories: Iterable[Path], settings: MDSettings) -> None:
        self._settings = settings
        self._by_digest: dict[str, list[Path]] = {}
        for path in sorted(trajectories):
            with suppress(DPA4Error):  # a restart file that cannot be read is nobody's
                digest = Checkpoint.read(Paths.of(path).restart).identity["structure"]
                self._by_digest.setdefault(digest, []).append(path)

    def take(self, entry: NamedStructure) -> Path | None:
        """The trajectory of a run of this structure, for each of them once; None if there is none."""
        if entry.error is not None or not self._by_digest:
            return None
        try:
            same = self._by_digest.get(structure_digest(entry.structure, self._settings))
        except DPA4Error:  # which its run will say
            return None
        return same.pop(0) if same else None


def run_jobs(
    jobs: Sequence[Job],
    potential: PotentialLike,
    settings: MDSettings,
    origin: Origin,
    *,
    overwrite: bool = False,
    watch: Watch | None = None,
) -> list[Job]:
    """Start or continue the runs, in nve and nvt all at once; gives the jobs with their results.

    Among several, one that cannot run fails alone.

    Raises:
        DPA4Error: the only one cannot run.
    """
    watch = watch or Nobody()
    budget = default_budget(potential.device)
    if len(jobs) > 1:
        watch.remark(_together(len(jobs), settings, budget))

    def parts() -> list[Part]:
        logs = [Paths.of(job.trajectory).log for job in jobs if job.error is None]
        steps = [samples[-1].step if (samples := read_samples(log)) else 0 for log in logs if log.is_file()]
        done, total = sum(steps), len(logs) * settings.n_steps
        return [Part("dynamics", done, total, f"{done:,}/{total:,}", "steps", finished=done >= total)]

    how: dict[str, Any] = {"overwrite": overwrite, "origin": origin.to_dict()}
    good = [job for job in jobs if job.error is None]
    structures, outputs = [job.entry.structure for job in good], [job.trajectory for job in good]
    with watch.showing(parts):
        if len(jobs) == 1 and good:
            return [replace(good[0], result=run_md(structures[0], potential, settings, output=outputs[0], **how))]
        how["max_atoms_per_batch"] = budget
        outcomes = iter(md_many(structures, potential, settings, outputs=outputs, **how))
        return [job if job.error is not None else replace(job, **next(outcomes)._asdict()) for job in jobs]


def _together(n_jobs: int, settings: MDSettings, budget: int) -> str:
    """How several structures run."""
    if settings.ensemble == "npt":
        return "the structures run one after another: npt moves their cells, which a batch keeps"
    return f"{n_jobs} structures run together, in batches of up to {budget:,} atoms and {MOST_RUNS} structures"


# ---- looking


@dataclass(frozen=True)
class _Trajectory:
    """The files of one trajectory as they are."""

    paths: Paths
    summary: dict[str, Any]
    thermo: Thermo

    @property
    def name(self) -> str:
        return self.paths.trajectory.stem

    @property
    def settings(self) -> MDSettings:
        return MDSettings(**self.summary["settings"])

    @property
    def step(self) -> int:
        return int(self.thermo.step[-1]) if len(self.thermo.step) else 0

    @property
    def error(self) -> str | None:
        """Why it ended early, if it did."""
        return (self.summary["result"] or {}).get("error")

    @property
    def state(self) -> str:
        if self.error is not None or self.step >= self.settings.n_steps:
            return "complete"
        return "stopped" if holder(self.paths.lock) is None else "running"

    def row(self) -> dict[str, Any]:
        """Averages over the second half so far, as the summary of a finished run has them."""
        n_atoms, thermo = self.summary["n_atoms"], self.thermo
        temperature, pressure = Average.of(thermo.temperature), Average.of(thermo.pressure_gpa)
        numbers = {
            "time_ps": self.step * self.settings.timestep_fs / 1000,
            "temperature": temperature.mean,
            "temperature_error": temperature.error,
            "pressure_gpa": pressure.mean,
            "pressure_gpa_error": pressure.error,
            "drift_mev_per_atom_ps": Drift.of(thermo, n_atoms).slope,
            "ns_per_day": (self.summary["result"] or {}).get("ns_per_day"),
        }
        plain = {key: None if value is None or np.isnan(value) else value for key, value in numbers.items()}
        head = {"name": self.name, "formula": self.summary["formula"], "n_atoms": n_atoms, "state": self.state}
        return {**head, "n_steps": self.step, **plain, "error": self.error}


class DynamicsRun(Run):
    """A trajectory, or a folder of trajectories."""

    kind: ClassVar[str] = "molecular dynamics"
    numbers: ClassVar[tuple[str, ...]] = ("time_ps", "temperature", "pressure_gpa")

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        return bool(_restarts(folder))

    @property
    def page(self) -> Path:
        return self.folder / "report.html" if self.folder.is_dir() else self.folder.with_suffix(".html")

    def _trajectories(self) -> list[_Trajectory]:
        return [_read(path) for path in _restarts(self.folder)]

    def status(self) -> RunStatus:
        found = self._trajectories()
        states = {one.state for one in found}
        state = next(name for name in ("running", "stopped", "complete") if name in states)
        ended = [one.step if one.error else one.settings.n_steps for one in found]
        notes = [Note("failed", f"{one.name}: {one.error}", "bold red") for one in found if one.error]
        next_step = f"continue with: dpa4 resume {self.folder}" if state == "stopped" else ""
        facts = {"runs": [one.row() for one in found], "model": found[0].summary["model"]}
        codes = tuple(sorted({one.summary["code_version"] for one in found if "code_version" in one.summary}))
        done = sum(one.step for one in found)
        return RunStatus(state, "steps", done, sum(ended), None, facts, tuple(notes), next_step, codes)

    def show(self, console: Console, *, everyone: bool = False) -> None:
        console.print(dynamics_table(list(self.table())))

    def resume(self, how: How) -> Outcome:
        groups: dict[str, list[_Trajectory]] = {}
        for one in self._trajectories():
            stored = one.summary.get("origin")
            if stored is None:
                raise DPA4Error(
                    f"{one.paths.trajectory} does not say which structure and model it came from; the command or call "
                    "that made it goes on"
                )
            place = one.paths.trajectory.parent if stored["together"] else one.paths.trajectory
            groups.setdefault(json.dumps([stored, one.summary["settings"], str(place)]), []).append(one)
        reused, n_failed = True, 0
        for members in groups.values():
            reused = reused and all(one.state == "complete" for one in members)
            n_failed += sum(job.problem is not None for job in _go_on(members, how))
        return Outcome(reused=reused, n_failed=n_failed)

    def table(self) -> Iterator[dict[str, Any]]:
        return (one.row() for one in self._trajectories())

    def report(self, path: Path) -> None:
        found = self._trajectories()
        drawn = {o.name: Course(o.thermo, o.summary["n_atoms"]) for o in found if len(o.thermo.step) > 1}
        if not drawn:
            raise DPA4Error(f"{self.folder} has no steps to draw yet; go on with `dpa4 resume {self.folder}`")
        model = found[0].summary["model"]
        write_md_html(path, drawn, f"{model['name']}: {model['level_of_theory'] or 'level of theory unknown'}")

    def structures(self) -> Iterator[RunStructure]:
        """The last frames."""
        for one in self._trajectories():
            row = one.row()
            yield RunStructure(
                one.name,
                row["formula"],
                "failed" if one.error else one.state,
                row,
                role="last frame",
                atoms=read_frame(one.paths.trajectory, -1) if len(one.thermo.step) else None,
                survives=one.error is None,
                reasons=one.error or "",
            )

    @property
    def writers(self) -> dict[str, Callable[[Path], str]]:
        return {".extxyz": self._write_frames}

    def _write_frames(self, path: Path) -> str:
        """All frames of all trajectories, one after the other."""
        n_frames = 0
        with replacing(path) as part, part.open("w", encoding="utf-8") as stream:
            for one in self._trajectories():
                for frame in read_frames(one.paths.trajectory):
                    frame.info["name"] = one.name
                    ase.io.write(stream, with_cartesian_constraints(frame), format="extxyz")
                    n_frames += 1
        return f"{n_frames:,} frames"


def dynamics_table(rows: Sequence[dict[str, Any]]) -> Table:
    """A line for each trajectory; ``rows`` with the names that `MDResult.summary` gives."""
    caption = "averages over the second half; drift of the conserved energy in meV/atom/ps"
    numbers = right("atoms", "ps", "K", "GPa", "drift", "ns/day")
    table = Table("name", "formula", *numbers, caption=caption, caption_justify="left")
    for row in rows:
        table.add_row(
            escape(row["name"]),
            row["formula"],
            str(row["n_atoms"]),
            f"{row['time_ps']:g}",
            _with_error(row["temperature"], row["temperature_error"], 0),
            _with_error(row["pressure_gpa"], row["pressure_gpa_error"], 2),
            _with_error(row["drift_mev_per_atom_ps"], None, 3),
            _with_error(row["ns_per_day"], None, 2),
        )
    return table


def _with_error(mean: float | None, error: float | None, digits: int) -> str:
    text = "–" if mean is None else f"{mean:.{digits}f}"
    return text if error is None else f"{text} ± {error:.{digits + 1}f}"


def _restarts(folder: Path) -> list[Path]:
    """What runs go on from: those in a folder, or that of a trajectory."""
    if folder.is_dir():
        return sorted(folder.glob(f"*{RESTART}"))
    if folder.suffix.lower() not in TRAJECTORY_SUFFIXES:
        return []
    restart = Paths.of(folder).restart
    return [restart] if restart.is_file() else []


def _trajectory_of(restart: Path) -> Path:
    stem = restart.name.removesuffix(RESTART)
    names = [restart.with_name(stem + suffix) for suffix in TRAJECTORY_SUFFIXES]
    return next((path for path in names if path.is_file()), names[0])


def _read(restart: Path) -> _Trajectory:
    paths = Paths.of(_trajectory_of(restart))
    try:
        summary = json.loads(paths.summary.read_text())
    except (OSError, ValueError) as error:
        raise DPA4Error(f"{paths.summary} cannot be read ({error}); the command that made the run goes on") from error
    return _Trajectory(paths, summary, Thermo.of(read_samples(paths.log) if paths.log.is_file() else []))


def _go_on(members: Sequence[_Trajectory], how: How) -> list[Job]:
    """Continue trajectories that one command began, each with the structure that it began with."""
    first = members[0]
    origin = Origin.from_dict(first.summary["origin"])
    begun = _Begun((one.paths.trajectory for one in members), first.settings)
    found = [(begun.take(entry), entry) for entry in read_files([Path(file) for file in origin.files])]
    entries = {path: entry for path, entry in found if path is not None}
    jobs = []
    for one in members:
        entry = entries.get(one.paths.trajectory)
        if entry is not None:
            jobs.append(Job(entry, one.paths.trajectory))
        elif one.state != "complete":
            error = _lost(one.paths, origin.files)
            if len(members) == 1:
                raise DPA4Error(error)
            how.watch.note("failed", f"{one.name}: {error}")
            jobs.append(Job(NamedStructure(one.name, None, error), one.paths.trajectory, error=error))
    if origin.threads:
        torch.set_num_threads(origin.threads)
    potential = origin.model.load()
    return run_jobs(jobs, potential, first.settings, origin, watch=how.watch)


def _lost(paths: Paths, files: Sequence[str]) -> str:
    """Why a run finds no structure to go on with."""
    try:
        Checkpoint.read(paths.restart)
    except DPA4Error as error:
        return str(error)
    where = files[0] if len(files) == 1 else f"the {len(files)} files that it was begun with"
    return f"{paths.trajectory} began with a structure that is not in {where} any more; put it back, or begin anew"

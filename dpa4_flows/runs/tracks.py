"""Diffusion in trajectories that are there: of molecular dynamics of ours, of other codes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure

from dpa4_core.data.readers import iter_structures
from dpa4_core.data.run_names import TRAJECTORY_SUFFIXES
from dpa4_core.data.structures import to_system
from dpa4_core.data.system import array_problem, symbol
from dpa4_core.errors import DPA4Error
from dpa4_core.md.files import Paths
from dpa4_core.md.settings import MDSettings
from dpa4_core.model.info import ModelInfo
from dpa4_flows.analysis.diffusion import unfolded
from dpa4_flows.compute.plan import Crystal, PlanError
from dpa4_flows.documents.diffusion import DiffusionDocument, DiffusivityDocument
from dpa4_flows.documents.provenance import provenance
from dpa4_flows.properties.answers import Answer, Question, Subject
from dpa4_flows.properties.diffusivity import DiffusionAt, Diffusivity, at_temperature, concluded, track_of
from dpa4_flows.properties.table import Results


@dataclass(frozen=True)
class TrajectoryReading:
    """How trajectories are to be understood.

    Attributes:
        working_ion: element that diffuses; the others are the framework.
        interval_fs: between two frames; None where a run of ours says it.
        temperatures: K, one for all trajectories or one for each; empty where runs of ours say it.
        skip_ps: left out at the beginning.
    """

    working_ion: str = "Li"
    interval_fs: float | None = None
    temperatures: tuple[float, ...] = ()
    skip_ps: float = 0.0

    def temperature(self, place: int) -> float | None:
        if not self.temperatures:
            return None
        return self.temperatures[0 if len(self.temperatures) == 1 else place]


def diffusion_in(
    trajectories: str | Path | Sequence[str | Path], reading: TrajectoryReading = TrajectoryReading()
) -> Results[DiffusivityDocument]:
    """What trajectories say of an ion, together for each composition, as `dpa4 msd` gives it.

    Args:
        trajectories: files, or folders of runs of ours.
        reading: what the files do not say.

    Raises:
        DPA4Error: a file that cannot be read, or does not say how long it takes or how warm it is.
    """
    given = [trajectories] if isinstance(trajectories, str | Path) else trajectories
    files = [file for one in given for file in _files(Path(one).expanduser())]
    if len(reading.temperatures) not in (0, 1, len(files)):
        raise DPA4Error(
            f"{len(reading.temperatures)} temperatures are given, and the number of trajectories is {len(files)}: give "
            "one for each, or one for all"
        )
    groups: dict[str, list[tuple[Structure, DiffusionDocument]]] = {}
    for place, file in enumerate(files):
        start, run = _run(file, reading, reading.temperature(place))
        groups.setdefault(run.formula, []).append((start, run))
    asked = Diffusivity(working_ion=reading.working_ion)
    answers = []
    for formula, members in groups.items():
        start, runs = members[0][0], [run for _, run in members]
        document = concluded(runs, start, runs[0].provenance)
        answers.append(Answer(Subject(formula, start), {asked.name: document}))
    return Results(Question([asked], None), answers)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise DPA4Error(f"there is no file {path}")
    if not path.is_dir():
        return [path]
    found = sorted(one for one in path.iterdir() if one.suffix.lower() in TRAJECTORY_SUFFIXES)
    if not found:
        raise DPA4Error(f"the folder {path} holds no trajectory ({', '.join(TRAJECTORY_SUFFIXES)})")
    return found


def _run(file: Path, reading: TrajectoryReading, temperature: float | None) -> tuple[Structure, DiffusionDocument]:
    settings, info = _settings(file)
    interval = reading.interval_fs
    if settings is not None:
        interval = interval or settings.timestep_fs * settings.every
        temperature = temperature or settings.temperature
    if interval is None or temperature is None:
        lacking = "how much time lies between two frames" if interval is None else "how warm it is"
        flag = "interval-fs" if interval is None else "temperature-k"
        raise DPA4Error(f"{file} does not say {lacking}: give --{flag}")
    start, positions = _positions(file, settings.every if settings is not None else 1)
    if reading.working_ion not in {site.specie.symbol for site in start}:
        raise DPA4Error(f"{file} holds no {reading.working_ion}; name the ion that diffuses as --working-ion")
    positions = positions[round(1000 * reading.skip_ps / interval) :]
    asked = DiffusionAt(working_ion=reading.working_ion, temperature_k=temperature)
    origin = provenance(info, {"calculation": "diffusion in a trajectory", "file": file.name, **vars(reading)})
    try:
        track = track_of(start, positions, reading.working_ion, interval / 1000)
        return start, at_temperature(start, track, temperature, None, origin)
    except PlanError as error:
        failed = asked.failed(Crystal(start, file.name), error)
        return start, failed.model_copy(update={"provenance": origin})


def _settings(file: Path) -> tuple[MDSettings | None, ModelInfo]:
    """What a run of ours says beside its trajectory; of another file there nothing is known."""
    nothing = ModelInfo(name="trajectory")
    if file.suffix.lower() not in TRAJECTORY_SUFFIXES:
        return None, nothing
    summary = Paths.of(file).summary
    if not summary.is_file():
        return None, nothing
    try:
        content = json.loads(summary.read_text())
        model = content["model"]
        info = ModelInfo(name=model["name"], sha256=model["sha256"], level_of_theory=model["level_of_theory"])
        return MDSettings(**content["settings"]), info
    except (OSError, ValueError, KeyError, TypeError):
        return None, nothing


def _positions(file: Path, every: int) -> tuple[Structure, np.ndarray]:
    """The first frame, and all of them, [n_frames, n_atoms, 3] Å, not folded back into the mean cell.

    The last step of a run of ours is kept whenever it comes, also where the run was prolonged: what is not at a
    multiple of ``every`` is left out.

    Raises:
        DPA4Error: a frame that cannot be read, that is no crystal, or that has other atoms.
    """
    fractional, cells, numbers = [], [], None
    for place, entry in enumerate(iter_structures(file)):
        if entry.structure is None:
            raise DPA4Error(f"{file}, frame {place}: {entry.error}")
        if entry.structure.info.get("step", 0) % every:
            continue
        system = to_system(entry.structure)
        if problem := array_problem(system):
            raise DPA4Error(f"{file}, frame {place}: {problem}")
        if not system.pbc.all():
            raise DPA4Error(f"{file}, frame {place} is not periodic along all axes; ions are followed through crystals")
        if numbers is not None and not np.array_equal(numbers, system.numbers):
            raise DPA4Error(f"{file}, frame {place} has other atoms than the first, or in another order")
        numbers = system.numbers
        fractional.append(np.linalg.solve(system.cell.T, system.positions.T).T)
        cells.append(system.cell)
    if numbers is None:
        raise DPA4Error(f"{file} holds no frames")
    lattice = np.mean(cells, axis=0)
    start = Structure(Lattice(lattice), [symbol(int(z)) for z in numbers], fractional[0])
    try:
        return start, unfolded(np.array(fractional), lattice)
    except ValueError as error:
        raise DPA4Error(f"{file}: {error}") from error

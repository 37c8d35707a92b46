"""Molecular dynamics of one structure or of many: those that move share their force calls, each keeps its own files.

The batch is that of the relaxations (`dpa4_core.relax.batch`), in which random numbers follow from seed and step:
alone or in company a structure makes the same steps, up to the rounding of the potential. npt moves cells, which
batches in motion do not, and runs one structure after another through ASE.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dpa4_core.calculator import MIN_DISTANCE_RATIO
from dpa4_core.data.batching import check_budget, default_budget, pack
from dpa4_core.data.structures import StructureError, System, check_system, to_system
from dpa4_core.errors import DPA4Error
from dpa4_core.files import WriteError
from dpa4_core.loaded import as_potential
from dpa4_core.md.progress import step_bar
from dpa4_core.md.result import MDResult
from dpa4_core.md.run import FAILURES, MAX_FORCE, Run, states_are_due
from dpa4_core.md.settings import ADVICE, MDSettings
from dpa4_core.md.shared_motion import SharedMotion
from dpa4_core.memory import release_memory
from dpa4_core.potential import PotentialLike
from dpa4_core.relax.batch import Batch
from dpa4_core.relax.state import Statistics

MOST_RUNS = 128
"""In a batch; each has three files open, and systems allow a process a thousand."""


class Outcome(NamedTuple):
    """The result of one structure, or why there is none."""

    result: MDResult | None = None
    error: str | None = None


_Results = dict[Run, MDResult | DPA4Error]


def md(
    structure: Any,
    potential: PotentialLike | str | Path,
    settings: MDSettings | None = None,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
    origin: Mapping[str, Any] | None = None,
) -> MDResult:
    """Molecular dynamics of one structure.

    With ``output`` the same call continues a run that was killed, and continues it exactly: with the same number of
    threads on a CPU the frames are those of an uninterrupted run. A longer ``time_ps`` prolongs a finished one.

    Args:
        structure: ase.Atoms, pymatgen Structure or Molecule. Fixed atoms stay fixed (nve and nvt).
        potential: a potential, or the name or path of one (loaded in float32 on the CPU).
        settings: ensemble, temperature, length, ...
        output: trajectory to write, .traj or .extxyz; log, summary and restart file get its name with other suffixes.
        overwrite: start anew where files of another run are.
        progress: show a progress bar.
        origin: what the summary says of where structure and potential came from, plain JSON types.

    Returns:
        The result; ``error`` says why a run ended early (explosion, a force call that failed).

    Raises:
        StructureError: a structure that cannot be computed.
        DPA4Error: settings that do not fit the structure, files of another run at ``output``, or no room to write.
    """
    settings, potential = settings or MDSettings(), as_potential(potential)
    run = Run(structure, potential, settings, output=output, overwrite=overwrite, origin=origin)
    try:
        with step_bar(settings.n_steps, run.step, settings.timestep_fs, shown=progress) as advance:
            found = _finished([run], potential, advance)[run]
            if isinstance(found, DPA4Error):
                raise found
            return found
    finally:
        run.close()


def md_many(
    structures: Sequence[Any],
    potential: PotentialLike | str | Path,
    settings: MDSettings | None = None,
    *,
    outputs: Sequence[str | Path | None] | None = None,
    overwrite: bool = False,
    max_atoms_per_batch: int | None = None,
    origin: Mapping[str, Any] | None = None,
) -> list[Outcome]:
    """Molecular dynamics of many structures, which share force calls in nve and nvt; one that cannot run fails alone.

    Args:
        structures: as for `md`.
        potential: as for `md`.
        settings: of all runs.
        outputs: a trajectory for each, see `md`; None keeps nothing.
        overwrite: start anew where files of another run are.
        max_atoms_per_batch: atoms that share a force call, by default what suits the device. A batch for which memory
            runs out is halved, and makes the steps since its last frames again.
        origin: as for `md`.

    Returns:
        One outcome per structure, in their order.

    Raises:
        DPA4Error: an option that makes no sense, no such model.
    """
    check_budget(max_atoms_per_batch)
    settings, potential = settings or MDSettings(), as_potential(potential)
    outputs = [None] * len(structures) if outputs is None else outputs
    budget = max_atoms_per_batch or default_budget(potential.device)
    costs = [max(_n_atoms(structure), -(-budget // MOST_RUNS)) for structure in structures]
    outcomes = [Outcome() for _ in structures]
    for part in pack(costs, budget):
        with contextlib.ExitStack() as files:
            runs: dict[int, Run] = {}
            for i in part:
                how: dict[str, Any] = {"output": outputs[i], "overwrite": overwrite, "origin": origin}
                try:
                    runs[i] = Run(structures[i], potential, settings, **how)
                except DPA4Error as error:
                    outcomes[i] = Outcome(error=str(error))
                else:
                    files.callback(runs[i].close)
            results = _finished(list(runs.values()), potential, lambda _: None)
            for i, run in runs.items():
                found = results[run]
                outcomes[i] = Outcome(error=str(found)) if isinstance(found, DPA4Error) else Outcome(found)
    return outcomes


def _n_atoms(structure: Any) -> int:
    try:
        return to_system(structure).n_atoms
    except StructureError:  # which its run will say
        return 1


def _finished(runs: Sequence[Run], potential: PotentialLike, advance: Callable[[int], None]) -> _Results:
    """The results of ``runs``, which make the steps that are missing, or why they have none: what cannot be written.

    A batch whose force call fails is halved, down to the structure that is at fault, or that memory has room for.
    """
    shared = [run for run in runs if isinstance(run.motion, SharedMotion) and not run.is_complete]
    results = _Results()
    for run in runs:
        if run not in shared:
            results[run] = _kept(partial(run.to_the_end, advance))
    began, batches = time.monotonic(), [shared] if shared else []
    while batches:
        members = batches.pop(0)
        ride = _Ride(members, potential, advance, began)
        problem = ride.to_the_end()
        results |= ride.results
        left = [run for run in ride.runs if run not in results]
        if not left:
            continue
        release_memory()
        if len(ride.runs) == 1:
            results[left[0]] = _kept(partial(left[0].finish, time.monotonic() - began, problem))
        else:
            half = len(left) // 2
            batches = [*(part for part in (left[:half], left[half:]) if part), *batches]
    return results


def _kept(action: Callable[[], MDResult]) -> MDResult | DPA4Error:
    """The result, or why there is none."""
    try:
        return action()
    except DPA4Error as error:
        return error


class _Ride:
    """Runs that make their steps together, from where each of them is.

    Attributes:
        runs: those that have not come to an end.
        results: of the others, and of those that came to an end in a step that then failed.
    """

    def __init__(
        self, runs: Sequence[Run], potential: PotentialLike, advance: Callable[[int], None], began: float
    ) -> None:
        self.runs, self.results = list(runs), _Results()
        self._elements, self._advance, self._began = potential.elements, advance, began
        self._batch = Batch(potential, crowding=True)
        self._batch.join([_motion(run).task() for run in runs])
        self._first = {run: _motion(run).phase.step for run in runs}

    def to_the_end(self) -> str | None:
        """Make the steps of all; gives what went wrong, in words of the first that is still among them."""
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # explosions, which have sentences of their own
                self._go()
        except FAILURES as error:
            first = self.runs[0]
            problem = first.broken_by(error)
            first.step = _motion(first).phase.step  # where its structure is
            return problem
        return None

    def _go(self) -> None:
        while self.runs:
            now = self._batch.compute()
            suspect, due = _suspect(now, self.runs[0].settings), states_are_due(self.runs)
            places = range(len(self.runs))
            over = np.array([self._is_over(place, int(now.n_steps[place]), suspect[place], due) for place in places])
            if over.any():
                self._batch.leave(over)
                self.runs = [run for run, gone in zip(self.runs, over, strict=True) if not gone]
            if self.runs:
                self._batch.step()

    def _is_over(self, place: int, made: int, suspect: bool, due: bool) -> bool:
        """Whether the step that was just made is the last one of a run; it ends, too, where it cannot be written."""
        try:
            return self._look(place, made, suspect, due)
        except WriteError as error:
            self.results[self.runs[place]] = error
            return True

    def _look(self, place: int, made: int, suspect: bool, due: bool) -> bool:
        """What a run keeps of the step that was just made; whether it was its last one."""
        run = self.runs[place]
        step = self._first[run] + made
        self._advance(step - run.step)
        run.step = step
        sampled = run.is_sampled() and not (run.log.samples and run.log.samples[-1].step == step)
        if not (sampled or suspect):
            return False
        found = self._batch.found(place, best=False)[0]
        system = _motion(run).arrive(found)
        error = self._problem(run, system, computed=found.forces is not None) if suspect else None
        if error is None and sampled:
            run.record()
        if error is not None or run.is_complete:
            self.results[run] = run.finish(time.monotonic() - self._began, error)
            return True
        if due and sampled:
            run.save()
        return False

    def _problem(self, run: Run, system: System, *, computed: bool) -> str | None:
        problem = check_system(system, self._elements, min_distance_ratio=MIN_DISTANCE_RATIO)
        if problem is None and computed:
            return run.explosion()
        problem = problem or "the potential gives an energy or a force that is not finite"
        return f"the run broke after {run.step} steps: {problem}; {ADVICE}"


def _suspect(now: Statistics, settings: MDSettings) -> np.ndarray:
    """Which runs are no simulation any more, or nearly so; where they begin they may be what they like."""
    wild = (now.max_force > MAX_FORCE) | (now.temperature > settings.temperature_limit)
    return np.isnan(now.max_force) | ((now.n_steps > 0) & (wild | (now.crowding * MIN_DISTANCE_RATIO > 1)))


def _motion(run: Run) -> SharedMotion:
    assert isinstance(run.motion, SharedMotion)
    return run.motion

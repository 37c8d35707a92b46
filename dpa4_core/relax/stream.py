"""In-flight batching: which structures share the next force call, and what becomes of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Iterator
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from dpa4_core.batches import NOT_FINITE, Prediction
from dpa4_core.data.batching import check_budget, default_budget
from dpa4_core.data.structures import StructureError, System, check_system, from_system
from dpa4_core.memory import is_out_of_memory, release_memory
from dpa4_core.potential import PotentialLike
from dpa4_core.relax import minimum
from dpa4_core.relax.batch import Batch
from dpa4_core.relax.dynamics import Frame
from dpa4_core.relax.fragments import flags
from dpa4_core.relax.minimum import End
from dpa4_core.relax.requests import Request
from dpa4_core.relax.results import BandResult, DynamicsResult, RelaxResult, RelaxStep, Verdict
from dpa4_core.relax.state import Found, Statistics, Task
from dpa4_core.relax.waiting import Waiting, task_of
from dpa4_core.uncertainty import spread

BATCHES_AHEAD = 4
"""Windows as large as this many batches: sizes within one differ little, and few structures are held in memory."""

Result = RelaxResult | Prediction | BandResult | DynamicsResult
Key = TypeVar("Key", bound=Hashable)


class InFlight:
    """Requests of any kind that share force calls, each with its own options. They come and go at any time:

        flight = InFlight(potential)
        flight.put([("strained", Relax(cell, RelaxOptions(cell="fixed"))), ("bulk", Static(crystal))])
        while flight:
            for key, result in flight.step():
                ...  # may put further requests

    Args:
        potential: what gives the forces.
        max_atoms_per_batch: atoms in flight, see `dpa4_core.relax`.

    Attributes:
        budget: atoms in flight; halved when memory runs out.

    """

    def __init__(self, potential: PotentialLike, max_atoms_per_batch: int | None = None) -> None:
        check_budget(max_atoms_per_batch)
        self.potential = potential
        self.budget = max_atoms_per_batch or default_budget(potential.device)
        self._waiting = Waiting(patience=BATCHES_AHEAD * self.budget)
        self._batch = Batch(potential)
        self._refused: list[tuple[Hashable, Result]] = []

    def __bool__(self) -> bool:
        """Whether a step has something to do or to give."""
        return bool(self._batch.tasks or self._waiting or self._refused)

    @property
    def n_atoms_waiting(self) -> int:
        """Atoms of requests that have found no room yet: below ``budget``, more are welcome."""
        return self._waiting.n_atoms

    @property
    def n_atoms(self) -> int:
        """Atoms that share the next force call, as far as they have joined."""
        return self._batch.n_atoms

    def put(self, requests: Iterable[tuple[Hashable, Request]]) -> None:
        """Add requests; one that cannot be computed comes out of the next step, with ``.error``."""
        for key, request in requests:
            try:
                self._waiting.add(task_of(key, request, self.potential.elements))
            except StructureError as error:
                self._refused.append((key, request.failed(str(error), "refused")))

    def join(self) -> None:
        """Let what waits join the batch as far as it fits; the next step does so too."""
        self._batch.join(self._waiting.take(self.budget - self._batch.n_atoms, at_least_one=not self._batch.tasks))

    def refused(self) -> list[tuple[Hashable, Result]]:
        """What was put since the last step and cannot be computed."""
        out, self._refused = self._refused, []
        return out

    def step(self) -> Iterator[tuple[Hashable, Result]]:
        """One force call and one step for all that are in flight; gives what is finished with its key."""
        yield from self.refused()
        self.join()
        batch = self._batch
        if not batch.tasks:
            return
        statistics = _compute(batch)
        if statistics is None:
            release_memory()
            if len(batch.tasks) > 1:  # alone, a structure may be larger than the budget
                self.budget = min(self.budget, max(1, batch.n_atoms // 2))
            yield from self._make_room()
            return
        _record(batch, statistics)
        limits = batch.limits
        finished = limits.finished(statistics) | [task.is_probe for task in batch.tasks]
        going_on: list[Task] = []
        out: list[tuple[Task, Result]] = []
        for place in np.flatnonzero(finished):
            task, verdict = batch.tasks[place], limits.verdict(statistics, int(place))
            last = verdict.converged or task.is_probe or task.course is not None
            found = batch.found(int(place), best=not last)
            after = self._after(task, found, verdict)
            if isinstance(after, Task):
                going_on.append(after)
            else:
                out.append((task, after))
        if finished.any():
            batch.leave(finished)
        if batch.tasks:
            batch.step()
        batch.join(going_on)
        for task, result in out:
            yield task.key, result

    def _after(self, task: Task, found: list[Found], verdict: Verdict) -> Task | Result:
        """What becomes of a task that leaves the batch: it joins again as another one, or ends."""
        if task.chain is not None:
            return self._band(task, found, verdict)
        if task.course is not None:
            return _trajectory(task, found[0], verdict)
        if task.options is None:
            return _prediction(found[0])
        after = minimum.after(task, found[0], verdict)
        return after if isinstance(after, Task) else self._relaxed(task, after)

    def _make_room(self) -> Iterator[tuple[Hashable, Result]]:
        """Send half of the batch back to start again later; a structure alone in it has failed."""
        batch = self._batch
        going = np.arange(len(batch.tasks)) >= len(batch.tasks) // 2
        places = np.flatnonzero(going)
        tasks = [batch.tasks[place] for place in places]
        n_atoms, alone = batch.n_atoms, len(batch.tasks) == 1
        found = [batch.found(int(place), best=alone) for place in places]
        batch.leave(going)
        if not alone:
            again = zip(tasks, found, strict=True)
            self._waiting.give_back(
                [dataclasses.replace(task, n_calls=sum(it.n_calls for it in one) // len(one)) for task, one in again]
            )
            return
        failure = Verdict.failure(f"out of memory for {n_atoms} atoms on {batch.device}", "out_of_memory")
        (task,) = tasks
        if task.chain is not None:
            yield task.key, self._band(task, found[0], failure)
        elif task.course is not None:
            yield task.key, _trajectory(task, found[0][0], failure)
        elif task.options is None:
            yield task.key, Prediction(error=failure.reason, error_code=failure.code)
        else:
            yield task.key, self._relaxed(task, minimum.interrupted(task, found[0][0], failure))

    def _sound(self, task: Task, verdict: Verdict, systems: Iterable[System]) -> Verdict:
        """``verdict``, or why what came of a task cannot be computed."""
        for system in () if verdict.failed else systems:
            ratio = task.moves.min_distance_ratio
            problem = check_system(system, self.potential.elements, min_distance_ratio=ratio)
            if problem is not None:
                what = "an image of the band" if task.chain else "the structure"
                return Verdict.failure(f"{what} relaxed into one that cannot be computed: {problem}", "refused")
        return verdict

    def _relaxed(self, task: Task, end: End) -> RelaxResult:
        return _relaxed(task, end, self._sound(task, end.verdict, [end.found.system]))

    def _band(self, task: Task, found: list[Found], verdict: Verdict) -> BandResult:
        chain, structures = task.chain, task.structure
        assert chain is not None
        verdict = self._sound(task, verdict, [one.system for one in found])
        systems = (chain.images[0], *(one.system for one in found), chain.images[-1])
        first, last = chain.energies
        return BandResult(
            images=tuple(from_system(*pair) for pair in zip(structures, systems, strict=True)),
            energies=(first, *(one.energy for one in found), last),
            converged=verdict.converged,
            n_steps=found[0].n_steps,
            fmax=max(one.fmax for one in found),
            reason=verdict.reason,
            error=verdict.reason if verdict.failed else None,
            error_code=verdict.code,
            n_force_calls=sum(one.n_calls for one in found),
        )


def stream(
    items: Iterable[tuple[Key, Request]], flight: InFlight, *, window: int | None = None
) -> Iterator[tuple[Key, Result]]:
    """Keep a batch filled from ``items`` and moving, and give what leaves it with its key, in bounded memory.

    At most a window of items is read ahead, when the one before has gone into the batch; by default as many as hold
    `BATCHES_AHEAD` batches of atoms.
    """
    source = iter(items)
    exhausted = False
    while flight or not exhausted:
        while not (exhausted or flight.n_atoms_waiting) and flight.n_atoms < flight.budget:
            for n_read, item in enumerate(source, start=1):
                flight.put([item])
                yield from cast("list[tuple[Key, Result]]", flight.refused())
                full = flight.n_atoms_waiting >= BATCHES_AHEAD * flight.budget
                if full if window is None else n_read >= window:
                    break
            else:
                exhausted = True
            flight.join()
        yield from cast("Iterator[tuple[Key, Result]]", flight.step())


def _compute(batch: Batch) -> Statistics | None:
    """A force call; None if memory ran out."""
    try:
        return batch.compute()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    return None


def _record(batch: Batch, now: Statistics) -> None:
    for place, task in enumerate(batch.tasks):
        if task.trajectory is not None:
            step = (now.energy[place], now.fmax[place], now.volume[place])
            task.trajectory.append(RelaxStep(*map(float, step)))
        if task.course is not None and task.course.keeps(int(now.n_steps[place])):
            energy, temperature = float(now.energy[place]), float(now.temperature[place])
            task.course.frames.append(Frame(batch.positions(place), temperature, energy))


def _prediction(found: Found) -> Prediction:
    if found.forces is None or not np.isfinite(found.forces).all():
        return Prediction(error=NOT_FINITE, error_code="not_finite")
    stress = _stress(found)
    return Prediction(found.energy, found.forces, stress, **spread(*found.members, periodic=stress is not None))


def _stress(found: Found) -> NDArray[np.float64] | None:
    """None where the potential has none."""
    return found.stress if found.stress is not None and np.isfinite(found.stress).all() else None


def _trajectory(task: Task, found: Found, verdict: Verdict) -> DynamicsResult:
    course = task.course
    assert course is not None
    return DynamicsResult.of(
        course.frames,
        None if verdict.failed else found.phase,
        found.n_steps,
        task.n_atoms,
        error=verdict.reason if verdict.failed else None,
        error_code=verdict.code,
        n_force_calls=found.n_calls,
    )


def _relaxed(task: Task, end: End, verdict: Verdict) -> RelaxResult:
    found = end.found
    stress = _stress(found)
    volume_change = found.system.volume / task.system.volume - 1
    further = {"saddle": end.minimum == "saddle", "vacuum_kept": task.freedom.holds_vacuum}
    return RelaxResult(
        structure=from_system(task.structure, found.system),
        energy=found.energy,
        forces=found.forces,
        stress=stress,
        converged=verdict.converged,
        n_steps=found.n_steps,
        fmax=found.fmax,
        reason=verdict.reason,
        error=verdict.reason if verdict.failed else None,
        error_code=verdict.code,
        trajectory=task.trajectory,
        n_force_calls=found.n_calls,
        volume_change=volume_change,
        flags=(*flags(task.system, found.system, volume_change), *(name for name, holds in further.items() if holds)),
        minimum="not_checked" if verdict.failed else end.minimum,
        n_check_calls=end.n_check_calls,
        **({} if found.forces is None else spread(*found.members, periodic=stress is not None)),
    )

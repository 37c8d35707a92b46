"""In-flight batching: which structures share the next force call, and what becomes of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import numpy as np

from dpa4_core.data.batching import default_budget
from dpa4_core.data.structures import from_system
from dpa4_core.memory import is_out_of_memory, release_memory
from dpa4_core.potential import PotentialLike
from dpa4_core.relax.batch import Batch
from dpa4_core.relax.fragments import flags
from dpa4_core.relax.limits import Verdict
from dpa4_core.relax.minimum import End, MinimumChecks
from dpa4_core.relax.options import RelaxOptions
from dpa4_core.relax.results import RelaxResult, RelaxStep
from dpa4_core.relax.state import Statistics, Task
from dpa4_core.relax.waiting import Check, Waiting
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA

BATCHES_AHEAD = 4
"""Windows as large as this many batches: sizes within one differ little, and few structures are held in memory."""


def stream(
    items: Iterable[tuple[Hashable, Any]], potential: PotentialLike, options: RelaxOptions, *, window: int | None
) -> Iterator[tuple[Hashable, RelaxResult]]:
    """Keep a batch filled from ``items`` and moving; yields what leaves it with its key."""
    budget = options.max_atoms_per_batch or default_budget(potential.device)
    waiting = Waiting(items, potential.elements, options, window=window, n_atoms=BATCHES_AHEAD * budget)
    limits = options.limits()
    checks = MinimumChecks(options, limits)
    batch = Batch(
        potential,
        relax_cell=options.cell_moves,
        pressure=options.pressure_gpa / EV_PER_ANGSTROM3_TO_GPA,
        optimizer=options.optimizer_settings,
    )
    while True:
        yield from _refill(batch, waiting, budget)
        if not batch.tasks:
            return
        statistics = _compute(batch)
        if statistics is None:
            release_memory()
            if len(batch.tasks) > 1:  # alone, a structure may be larger than the budget
                budget = min(budget, max(1, batch.n_atoms // 2))
            yield from _make_room(batch, waiting, checks)
            continue
        _record(batch.tasks, statistics)
        finished = limits.finished(statistics) | [task.is_probe for task in batch.tasks]
        going_on = []
        for place in np.flatnonzero(finished):
            task, verdict = batch.tasks[place], limits.verdict(statistics, int(place))
            found = batch.found(int(place), best=not (verdict.converged or task.is_probe))
            after = checks.after(task, found, verdict)
            if isinstance(after, Task):
                going_on.append(after)
            else:
                yield task.key, _result(task, after, waiting.check)
        if finished.any():
            batch.leave(finished)
        if batch.tasks:
            batch.step()
        batch.join(going_on)


def _refill(batch: Batch, waiting: Waiting, budget: int) -> Iterator[tuple[Hashable, RelaxResult]]:
    """Let as many structures join as fit; yields those that cannot be relaxed."""
    while True:
        yield from waiting.fill()
        tasks = waiting.take(budget - batch.n_atoms, at_least_one=not batch.tasks)
        batch.join(tasks)
        if waiting or not tasks:  # no room, or nothing left
            return


def _compute(batch: Batch) -> Statistics | None:
    """A force call; None if memory ran out."""
    try:
        return batch.compute()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    return None


def _make_room(batch: Batch, waiting: Waiting, checks: MinimumChecks) -> Iterator[tuple[Hashable, RelaxResult]]:
    """Send half of the batch back to start again later; a structure alone in it has failed."""
    going = np.arange(len(batch.tasks)) >= len(batch.tasks) // 2
    tasks = [task for task, goes in zip(batch.tasks, going, strict=True) if goes]
    if len(batch.tasks) == 1:
        failure = Verdict.failure(f"out of memory for {batch.n_atoms} atoms on {batch.device}")
        end = checks.interrupted(tasks[0], batch.found(0, best=True), failure)
        yield tasks[0].key, _result(tasks[0], end, waiting.check)
    else:
        waiting.give_back(
            [
                dataclasses.replace(task, n_calls=batch.found(int(place), best=False).n_calls)
                for place, task in zip(np.flatnonzero(going), tasks, strict=True)
            ]
        )
    batch.leave(going)


def _record(tasks: list[Task], statistics: Statistics) -> None:
    for task, *step in zip(tasks, statistics.energy, statistics.fmax, statistics.volume, strict=True):
        if task.trajectory is not None:
            task.trajectory.append(RelaxStep(*map(float, step)))


def _result(task: Task, end: End, check: Check) -> RelaxResult:
    held = ["vacuum_kept"] if task.freedom.holds_vacuum else []
    found, verdict, minimum = end.found, end.verdict, end.minimum
    if not verdict.failed and (problem := check(found.system)):
        verdict = Verdict.failure(f"the structure relaxed into one that cannot be computed: {problem}")
    volume_change = found.system.volume / task.system.volume - 1
    return RelaxResult(
        structure=from_system(task.structure, found.system),
        energy=found.energy,
        forces=found.forces,
        stress=found.stress,
        converged=verdict.converged,
        n_steps=found.n_steps,
        fmax=found.fmax,
        reason=verdict.reason,
        error=verdict.reason if verdict.failed else None,
        trajectory=task.trajectory,
        n_force_calls=found.n_calls,
        volume_change=volume_change,
        flags=(*flags(task.system, found.system, volume_change), *(["saddle"] if minimum == "saddle" else []), *held),
        minimum="not_checked" if verdict.failed else minimum,
        n_check_calls=end.n_check_calls,
    )

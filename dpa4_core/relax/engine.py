"""Relaxation of any number of structures: which ones are in flight, and what becomes of each."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpa4_core.data.batching import check_budget, default_budget
from dpa4_core.data.structures import (
    MIN_DISTANCE_RATIO,
    StructureError,
    System,
    cell_problem,
    check_system,
    constraint_problem,
    from_system,
    structure_list,
    to_system,
)
from dpa4_core.errors import DPA4Error
from dpa4_core.loaded import as_potential
from dpa4_core.memory import is_out_of_memory, release_memory
from dpa4_core.potential import PotentialLike
from dpa4_core.progress import structure_bar
from dpa4_core.relax.batch import Batch
from dpa4_core.relax.limits import Limits, Verdict
from dpa4_core.relax.results import RelaxResult, RelaxStep
from dpa4_core.relax.state import Found, Statistics, Task
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA


def relax(
    structures: Any,
    potential: PotentialLike | str | Path,
    *,
    fmax: float = 0.02,
    max_steps: int = 500,
    relax_cell: bool = True,
    pressure_gpa: float = 0.0,
    max_volume_change: float = 5.0,
    max_atoms_per_batch: int | None = None,
    min_distance_ratio: float = MIN_DISTANCE_RATIO,
    strict: bool = False,
    progress: bool = False,
    on_result: Callable[[int, RelaxResult], None] | None = None,
    keep_trajectory: bool = False,
) -> list[RelaxResult]:
    """Relax positions and cells with FIRE, many structures in each force call.

    The steps are those of ASE's ``FIRE`` on a ``FrechetCellFilter``. Structures of similar size share a
    batch; one that is done leaves it and the next one enters. Fixed atoms (ASE constraints, selective
    dynamics) stay where they are, in a moving cell at their fractional coordinates. Without periodicity only
    positions relax.

    The cell of a structure that is periodic along some axes only is not relaxed: with ``relax_cell`` it is an
    error.

    Args:
        structures: any mix of ase.Atoms and pymatgen Structure and Molecule, or a single one.
        potential: a potential, or the name or path of one (loaded in float32 on the CPU).
        fmax: eV/Å; converged when all forces on atoms and on rows of the cell are below.
        max_steps: optimiser steps per structure.
        relax_cell: whether cells of periodic structures relax.
        pressure_gpa: external pressure in GPa.
        max_volume_change: factor by which a volume may grow or shrink before the structure is given up.
        max_atoms_per_batch: atoms in flight, by default what suits the device; a larger structure is relaxed
            alone. Halved when memory runs out.
        min_distance_ratio: atoms closer than this fraction of the sum of covalent radii are an error, before
            and after; 0 allows everything.
        strict: raise on the first failed structure.
        progress: show a progress bar (on stderr).
        on_result: called with index and result as soon as a structure is done, in the order in which they
            finish.
        keep_trajectory: keep energy, fmax and volume of every force call.

    Returns:
        One result per structure, in the order of ``structures``.

    Raises:
        StructureError: a structure failed and ``strict`` is set, or ``structures`` is a path. Running out of steps
            is no failure.
        DPA4Error: an option that makes no sense, no such model.

    """
    limits = Limits(fmax=fmax, max_steps=max_steps, max_volume_change=max_volume_change)
    check_budget(max_atoms_per_batch)
    if not math.isfinite(pressure_gpa):
        raise DPA4Error(f"pressure_gpa must be a finite number, not {pressure_gpa}")
    if pressure_gpa and not relax_cell:
        raise DPA4Error(f"a pressure of {pressure_gpa:g} GPa has no effect with relax_cell=False; drop one of them")
    everything = structure_list(structures)
    potential = as_potential(potential)
    results: dict[int, RelaxResult] = {}
    with structure_bar("relax", len(everything), shown=progress) as advance:

        def finish(index: int, result: RelaxResult) -> None:
            if strict and result.error:
                raise StructureError(f"structure {index}: {result.error}")
            results[index] = result
            advance(1)
            if on_result is not None:
                on_result(index, result)

        check = partial(check_system, elements=potential.elements, min_distance_ratio=min_distance_ratio)
        tasks = []
        for index, structure in enumerate(everything):
            system, problem = _computable(structure, check, relax_cell=relax_cell)
            if system is None:
                finish(index, _refused(structure, problem))
            else:
                tasks.append(Task(index, system, [] if keep_trajectory else None))

        batch = Batch(potential.device, relax_cell=relax_cell, pressure=pressure_gpa / EV_PER_ANGSTROM3_TO_GPA)
        for task, found, verdict in _run(tasks, batch, potential, limits, max_atoms_per_batch):
            finish(task.index, _result(everything[task.index], task, found, verdict, check))
    return [results[index] for index in range(len(everything))]


def _run(
    tasks: list[Task], batch: Batch, potential: PotentialLike, limits: Limits, budget: int | None
) -> Iterator[tuple[Task, Found, Verdict]]:
    """Keep ``batch`` filled and moving; yields what leaves it."""
    budget = budget or default_budget(potential.device)
    queue = deque(sorted(tasks, key=lambda task: -task.system.n_atoms))
    while queue or batch.tasks:
        batch.join(_take(queue, budget - batch.n_atoms, at_least_one=not batch.tasks))
        statistics = _compute(batch, potential)
        if statistics is None:
            release_memory()
            budget = max(1, batch.n_atoms // 2)
            yield from _make_room(batch, queue, potential.device)
            continue
        _record(batch.tasks, statistics)
        finished = limits.finished(statistics)
        for place in np.flatnonzero(finished):
            verdict = limits.verdict(statistics, int(place))
            yield batch.tasks[place], batch.found(int(place), best=not verdict.converged), verdict
        if finished.any():
            batch.leave(finished)
        if batch.tasks:
            batch.step()


def _compute(batch: Batch, potential: PotentialLike) -> Statistics | None:
    """A force call; None if memory ran out."""
    try:
        return batch.compute(potential)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    return None


def _make_room(batch: Batch, queue: deque[Task], device: torch.device) -> Iterator[tuple[Task, Found, Verdict]]:
    """Send the smaller half of the batch back to start again later; a structure alone in it has failed."""
    going = np.arange(len(batch.tasks)) >= len(batch.tasks) // 2
    tasks = [task for task, goes in zip(batch.tasks, going, strict=True) if goes]
    if len(batch.tasks) == 1:
        sentence = f"out of memory for {batch.n_atoms} atoms on {device}"
        yield tasks[0], batch.found(0, best=True), Verdict.failure(sentence)
    else:
        for task in reversed(tasks):
            if task.trajectory is not None:
                task.trajectory.clear()
            queue.appendleft(task)
    batch.leave(going)


def _computable(
    structure: Any, check: Callable[[System], str | None], *, relax_cell: bool
) -> tuple[System | None, str]:
    """The system, or None and the sentence that says why it cannot be relaxed."""
    try:
        system = to_system(structure)
    except StructureError as error:
        return None, str(error)
    problem = constraint_problem(structure) or (cell_problem(structure) if relax_cell else None) or check(system)
    return (None, problem) if problem else (system, "")


def _take(queue: deque[Task], room: int, *, at_least_one: bool) -> list[Task]:
    """The next tasks that fit into ``room`` atoms.

    The queue descends in size, so whatever leaves a batch makes room for its head, and nothing has to be
    passed over.
    """
    taken: list[Task] = []
    while queue and (queue[0].system.n_atoms <= room or (at_least_one and not taken)):
        taken.append(queue.popleft())
        room -= taken[-1].system.n_atoms
    return taken


def _record(tasks: list[Task], statistics: Statistics) -> None:
    for task, *step in zip(tasks, statistics.energy, statistics.fmax, statistics.volume, strict=True):
        if task.trajectory is not None:
            task.trajectory.append(RelaxStep(*map(float, step)))


def _result(
    template: Any, task: Task, found: Found, verdict: Verdict, check: Callable[[System], str | None]
) -> RelaxResult:
    if not verdict.failed and (problem := check(found.system)):
        verdict = Verdict.failure(f"the structure relaxed into one that cannot be computed: {problem}")
    return RelaxResult(
        structure=from_system(template, found.system),
        energy=found.energy,
        forces=found.forces,
        stress=found.stress,
        converged=verdict.converged,
        n_steps=found.n_steps,
        fmax=found.fmax,
        reason=verdict.reason,
        error=verdict.reason if verdict.failed else None,
        trajectory=task.trajectory,
    )


def _refused(structure: Any, problem: str) -> RelaxResult:
    return RelaxResult(
        structure=structure,
        energy=float("nan"),
        forces=None,
        stress=None,
        converged=False,
        n_steps=0,
        fmax=float("nan"),
        reason=problem,
        error=problem,
    )

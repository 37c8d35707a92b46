"""Structures that wait for room in the batch, and how a request becomes one."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

from dpa4_core.data.structures import (
    StructureError,
    System,
    check_system,
    constraint_problem,
    to_system,
)
from dpa4_core.relax.chain import Chain
from dpa4_core.relax.dynamics import Course, first_phase
from dpa4_core.relax.options import RelaxOptions
from dpa4_core.relax.path import continuous
from dpa4_core.relax.projection import Freedom, freedom
from dpa4_core.relax.requests import Band, Dynamics, Request, Static
from dpa4_core.relax.state import Task


class Waiting:
    """What waits for room in a batch, sorted by size, so that structures of similar size are in flight together.

    The direction alternates each time that something comes to an empty queue: it begins with sizes at which the last
    ones ended, else a large structure would hold up the batch until enough small ones have left. What does not fit is
    overtaken by what does, by ``patience`` atoms at most.

    Attributes:
        n_atoms: of all that waits.

    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.n_atoms = 0
        self._queue: deque[Task] = deque()
        self._new: list[Task] = []
        self._descending = False
        self._overtaken = 0  # atoms that went before the first of the queue

    def add(self, task: Task) -> None:
        """Let a task wait."""
        self._new.append(task)
        self.n_atoms += task.n_atoms

    def _sort(self) -> None:
        if not self._new:
            return
        if not self._queue:
            self._descending = not self._descending
        # sorted() keeps the order of equal sizes in both directions
        everything = [*self._queue, *self._new]
        self._queue = deque(sorted(everything, key=lambda task: task.n_atoms, reverse=self._descending))
        self._new = []
        self._overtaken = 0

    def take(self, room: int, *, at_least_one: bool) -> list[Task]:
        """The next tasks that fit into ``room`` atoms."""
        self._sort()
        taken: list[Task] = []
        left: deque[Task] = deque()
        while self._queue and room > 0 and self._overtaken <= self.patience:
            task = self._queue.popleft()
            n_atoms = task.n_atoms
            if n_atoms <= room or (at_least_one and not taken and not left):
                taken.append(task)
                room -= n_atoms
                self._overtaken = self._overtaken + n_atoms if left else 0
            else:
                left.append(task)
        self._queue.extendleft(reversed(left))
        self.n_atoms -= sum(task.n_atoms for task in taken)
        return taken

    def give_back(self, tasks: Iterable[Task]) -> None:
        """Put tasks in front again; they start anew, their trajectories too."""
        again = [_anew(task) for task in tasks]
        self._queue.extendleft(reversed(again))
        self.n_atoms += sum(task.n_atoms for task in again)

    def __bool__(self) -> bool:
        return bool(self._queue or self._new)


def _anew(task: Task) -> Task:
    """The task with nothing recorded since it joined."""
    if task.course is not None:
        return dataclasses.replace(task, course=dataclasses.replace(task.course, frames=[]))
    if task.trajectory is None:
        return task
    return dataclasses.replace(task, trajectory=task.trajectory[: task.n_records])


def task_of(key: Hashable, request: Request, elements: frozenset[int]) -> Task:
    """A request, checked and ready to join a batch.

    Raises:
        StructureError: it cannot be computed.

    """
    if isinstance(request, Band):
        return _band(key, request, elements)
    structure = request.structure
    system = to_system(structure)
    if isinstance(request, Static):
        if problem := check_system(system, elements, min_distance_ratio=request.min_distance_ratio):
            raise StructureError(problem)
        return Task(key, structure, None, system, Freedom())
    if isinstance(request, Dynamics):
        return _in_motion(key, request, system, elements)
    options = request.options
    problem = (
        constraint_problem(structure)
        or check_system(system, elements, min_distance_ratio=options.min_distance_ratio)
        or (_pressure_problem(system) if options.pressure_gpa else None)
    )
    if problem:
        raise StructureError(problem)
    cell = options.cell if options.cell_moves else "fixed"
    system, free = freedom(system, cell, keep_symmetry=options.keep_symmetry, symprec=options.symprec)
    return Task(key, structure, options, system, free, [] if options.keep_trajectory else None)


def _band(key: Hashable, request: Band, elements: frozenset[int]) -> Task:
    options, images = request.options, list(request.images)
    if len(images) < 3:
        raise StructureError(f"a band has at least one image between its ends, not {len(images)} images in all")
    if problem := constraint_problem(images[0]):
        raise StructureError(problem)
    if not np.isfinite(request.energies).all():
        raise StructureError("an end of the band has no energy; relax it first")
    systems = continuous([to_system(image) for image in images])
    for place, system in enumerate(systems):
        if problem := check_system(system, elements, min_distance_ratio=options.min_distance_ratio):
            raise StructureError(f"image {place} of the band: {problem}")
    first, last = request.energies
    chain = Chain(systems, (float(first), float(last)), options.spring, options.climb)
    return Task(key, images, options.moves, chain.moving[0], Freedom(), chain=chain)


def _in_motion(key: Hashable, request: Dynamics, system: System, elements: frozenset[int]) -> Task:
    if problem := constraint_problem(request.structure) or check_system(system, elements):
        raise StructureError(problem)
    settings = request.settings
    begin = request.begin or first_phase(system, settings)
    n_steps = settings.n_steps if request.n_steps is None else request.n_steps
    return in_motion(key, request.structure, system, Course(settings, begin, n_steps))


def in_motion(key: Hashable, structure: Any, system: System, course: Course) -> Task:
    """A structure that is known to be computable, on its ``course``."""
    # the optimiser that asks for least, as it moves nothing here
    moves = RelaxOptions(max_steps=course.n_steps, relax_cell=False, optimizer="fire", check_minimum=False)
    at = dataclasses.replace(system, positions=course.begin.positions)
    return Task(key, structure, moves, system, Freedom(), at=at, course=course)


def _pressure_problem(system: System) -> str | None:
    if system.pbc.all() or not system.periodic:
        return None
    return (
        "a pressure acts on a volume, and the structure is not periodic along all axes; leave the pressure out, or set "
        "pbc=True to treat its vacuum as part of a crystal"
    )

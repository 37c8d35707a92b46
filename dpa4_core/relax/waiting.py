"""Structures that wait for room in the batch: read ahead a window at a time, sorted by size."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, NamedTuple

from dpa4_core.data.structures import (
    StructureError,
    System,
    check_system,
    constraint_problem,
    to_system,
)
from dpa4_core.relax.options import RelaxOptions
from dpa4_core.relax.projection import freedom
from dpa4_core.relax.results import RelaxResult
from dpa4_core.relax.state import Task

Check = Callable[[System], str | None]


class Refused(NamedTuple):
    """A structure that cannot be relaxed, with the result that says why."""

    key: Hashable
    result: RelaxResult


class Waiting:
    """The input of a relaxation, of which at most a window is in memory.

    A window is read when the one before has gone into the batch, and sorted by size, so that structures of similar
    size are in flight together. The direction alternates: the second window begins with sizes at which the first one
    ended, else a large structure would hold up the batch until enough small ones have left. Nothing is overtaken
    for longer than a window.

    Args:
        items: pairs of a key and a structure.
        elements: what the potential knows.
        options: of the relaxation.
        window: structures that are read ahead; by default as many as hold ``n_atoms``.
        n_atoms: see ``window``.

    """

    def __init__(
        self,
        items: Iterable[tuple[Hashable, Any]],
        elements: frozenset[int],
        options: RelaxOptions,
        *,
        window: int | None,
        n_atoms: int,
    ) -> None:
        self._items = iter(items)
        self._elements = elements
        self._options = options
        self._window = window
        self._n_atoms = n_atoms
        self._queue: deque[Task] = deque()
        self._descending = True

    def fill(self) -> Iterator[Refused]:
        """Read the next window if the last one has gone; yields what cannot be relaxed as soon as it is read."""
        if self._queue:
            return
        tasks: list[Task] = []
        n_atoms = 0
        for key, structure in self._items:
            try:
                tasks.append(self._task(key, structure))
            except StructureError as error:
                yield Refused(key, refused(structure, str(error)))
                continue
            n_atoms += tasks[-1].system.n_atoms
            if n_atoms >= self._n_atoms if self._window is None else len(tasks) >= self._window:
                break
        # sorted() keeps the order of equal sizes in both directions
        self._queue.extend(sorted(tasks, key=lambda task: task.system.n_atoms, reverse=self._descending))
        self._descending = not self._descending

    def take(self, room: int, *, at_least_one: bool) -> list[Task]:
        """The next tasks that fit into ``room`` atoms; the first one that does not fit waits for more room."""
        taken: list[Task] = []
        while self._queue and (self._queue[0].system.n_atoms <= room or (at_least_one and not taken)):
            taken.append(self._queue.popleft())
            room -= taken[-1].system.n_atoms
        return taken

    def give_back(self, tasks: list[Task]) -> None:
        """Put tasks in front again; they start anew, their trajectories too."""
        for task in reversed(tasks):
            if task.trajectory is not None:
                task = dataclasses.replace(task, trajectory=task.trajectory[: task.n_records])
            self._queue.appendleft(task)

    def check(self, system: System) -> str | None:
        """Why ``system`` cannot be computed; None if it can."""
        return check_system(system, self._elements, min_distance_ratio=self._options.min_distance_ratio)

    def __bool__(self) -> bool:
        return bool(self._queue)

    def _task(self, key: Hashable, structure: Any) -> Task:
        options = self._options
        system = to_system(structure)
        problem = (
            constraint_problem(structure)
            or self.check(system)
            or (_pressure_problem(system) if options.pressure_gpa else None)
        )
        if problem:
            raise StructureError(problem)
        cell = options.cell if options.cell_moves else "fixed"
        system, free = freedom(system, cell, keep_symmetry=options.keep_symmetry, symprec=options.symprec)
        return Task(key, structure, system, free, [] if options.keep_trajectory else None)


def _pressure_problem(system: System) -> str | None:
    if system.pbc.all() or not system.periodic:
        return None
    return (
        "a pressure acts on a volume, and the structure is not periodic along all axes; leave the pressure out, or set "
        "pbc=True to treat its vacuum as part of a crystal"
    )


def refused(structure: Any, problem: str) -> RelaxResult:
    """The result of a structure of which nothing was computed."""
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

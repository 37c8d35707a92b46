"""Which frames make up a step: budgets of atoms and edges, the same plan on every process, any position reachable.

A step is filled first and then dealt to the batches that make it up (processes times accumulation), so that how a
step is cut does not change what it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from dpa4_core.strict import Within

Indices = NDArray[np.int64]

_WINDOW = 1024  # frames that are packed together: enough for full batches, few enough to stay random


@dataclass(frozen=True)
class Budget:
    """Largest batch of one process.

    Attributes:
        atoms: atoms in a batch.
        edges: directed edges in a batch.
        parts: batches per step, processes times accumulation.
    """

    atoms: Annotated[int, Within(1, 1e12)]
    edges: Annotated[int, Within(0, 1e12)]
    parts: Annotated[int, Within(1, 1e9)] = 1


def plan_epoch(n_atoms: Indices, n_edges: Indices, budget: Budget, *, seed: int, epoch: int) -> Iterator[list[Indices]]:
    """Steps of one pass over all frames, each a list of ``budget.parts`` index arrays (some may be empty).

    Frames above the budget make a step of their own. The order depends on nothing but the arguments.

    Args:
        n_atoms, n_edges: sizes of the frames, [n_frames].
        budget: of one part.
        seed, epoch: of the shuffling.
    """
    random = np.random.default_rng([seed, epoch])
    waiting = random.permutation(len(n_atoms))
    pool: Indices = waiting[:0]
    while len(waiting) or len(pool):
        last = len(waiting) <= _WINDOW
        taken, waiting = waiting[:_WINDOW], waiting[_WINDOW:]
        steps, pool = _fill(np.concatenate([pool, taken]), n_atoms, n_edges, budget, keep_all=last)
        for position in random.permutation(len(steps)):
            yield steps[position]
        if last and len(pool):  # frames that found no part with room although their step had some
            waiting, pool = np.concatenate([pool, waiting]), pool[:0]


def _fill(
    frames: Indices, n_atoms: Indices, n_edges: Indices, budget: Budget, *, keep_all: bool
) -> tuple[list[list[Indices]], Indices]:
    """First-fit of the frames, largest first, into steps; and the frames of steps that stayed too empty."""
    order = frames[np.argsort(-n_edges[frames], kind="stable")]
    room = np.array([budget.atoms, budget.edges]) * budget.parts
    free = np.zeros((0, 2), dtype=np.int64)
    members: list[list[int]] = []
    for frame in order:
        need = np.array([n_atoms[frame], n_edges[frame]])
        fits = np.flatnonzero((free >= need).all(axis=1))
        if len(fits):
            place = int(fits[0])
        else:
            place = len(members)
            members.append([])
            free = np.vstack([free, room])
        members[place].append(int(frame))
        free[place] -= need
    steps: list[list[Indices]] = []
    left: list[int] = []
    filled = 1 - (free / room).min(axis=1) if len(free) else np.zeros(0)
    for place, step in enumerate(members):
        if keep_all or filled[place] >= 0.8 or len(members) == 1:
            parts, rest = _deal(np.array(step), n_atoms, n_edges, budget)
            steps.append(parts)
            left += rest
        else:
            left += step
    return steps, np.array(sorted(left), dtype=np.int64)


def _deal(step: Indices, n_atoms: Indices, n_edges: Indices, budget: Budget) -> tuple[list[Indices], list[int]]:
    """The frames of a step over its parts, balanced by edges; and those that fit into no part."""
    if budget.parts == 1:
        return [step], []
    load = np.zeros((budget.parts, 2), dtype=np.int64)
    parts: list[list[int]] = [[] for _ in range(budget.parts)]
    left: list[int] = []
    limit = np.array([budget.atoms, budget.edges])
    for frame in step:  # sorted by edges already
        need = np.array([n_atoms[frame], n_edges[frame]])
        allowed = (load + need <= limit).all(axis=1) | (load.sum(axis=1) == 0)
        if not allowed.any():
            left.append(int(frame))
            continue
        part = int(np.argmin(np.where(allowed, load[:, 1], np.iinfo(np.int64).max)))
        parts[part].append(int(frame))
        load[part] += need
    return [np.array(part, dtype=np.int64) for part in parts], left


def steps_per_epoch(n_atoms: Indices, n_edges: Indices, budget: Budget, seed: int) -> int:
    """Steps of the first pass; later ones differ by a few."""
    return sum(1 for _ in plan_epoch(n_atoms, n_edges, budget, seed=seed, epoch=0))

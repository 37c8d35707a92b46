"""What every method of optimisation gets and gives: a pair of functions over its state, `Method`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from dpa4_core.relax.batch_state import BatchState
from dpa4_core.relax.preconditioner import Preconditioner

State = TypeVar("State", bound=BatchState)


class Point(NamedTuple):
    """Where all systems are: optimiser's coordinates, forces on them [n_atoms, 3] and [n_systems, 3, 3], eV."""

    positions: Tensor
    cell: Tensor
    forces: Tensor
    cell_forces: Tensor
    energy: Tensor

    def replace_where(self, other: Point, systems: Tensor, system_idx: Tensor) -> Point:
        """``other`` in the systems where the mask [n_systems] holds."""
        atoms, cells = systems[system_idx, None], systems[:, None, None]
        masks = Point(atoms, cells, atoms, cells, systems)
        return Point(*(torch.where(*three) for three in zip(masks, other, self, strict=True)))


class Systems(NamedTuple):
    """What else a step depends on.

    Attributes:
        system_idx: [n_atoms] system of every atom.
        n_atoms: [n_systems] float64.
        max_step: [n_systems] longest step, Å.
        springs: how stiff the systems are where they are; made when asked for.
        task_idx: [n_systems] the images of a band, which move as one, have the same; None if each system has its own.

    """

    system_idx: Tensor
    n_atoms: Tensor
    max_step: Tensor
    springs: Callable[[], Preconditioner]
    task_idx: Tensor | None = None

    def dot(self, a: Tensor, a_cell: Tensor, b: Tensor, b_cell: Tensor) -> Tensor:
        """Scalar products of vectors of all coordinates, [n_systems]; those of a band over all its images."""
        products = (a_cell * b_cell).sum((1, 2)).index_add(0, self.system_idx, (a * b).sum(1))
        if self.task_idx is None:
            return products
        return torch.zeros_like(products).index_add(0, self.task_idx, products)[self.task_idx]


class Step(NamedTuple, Generic[State]):
    """One step of all systems.

    Attributes:
        state: after it.
        displacements, cell_displacements: [n_atoms, 3] and [n_systems, 3, 3], from where the systems are.
        lost: [n_systems] bool, who goes uphill all the time.
        base: the last good point, where another method should take those over.

    """

    state: State
    displacements: Tensor
    cell_displacements: Tensor
    lost: Tensor
    base: Point


class Method(NamedTuple, Generic[State]):
    """A method of optimisation.

    Attributes:
        init: the state of ``n_atoms``, ``n_systems`` on a device that have not moved yet.
        step: the next step from a force call.

    """

    init: Callable[[int, int, torch.device], State]
    step: Callable[[State, Point, Systems], Step[State]]

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


class Bands(NamedTuple):
    """Which systems of a batch move as one.

    Attributes:
        task_idx: [n_systems] the images of a band have the same, any other system has its own.
        images: [n_systems] bool, which systems are images of bands.
    """

    task_idx: Tensor
    images: Tensor

    def sum(self, values: Tensor) -> Tensor:
        """Of [n_systems] over all images of a band."""
        return torch.zeros_like(values).index_add(0, self.task_idx, values)[self.task_idx]

    def largest(self, values: Tensor) -> Tensor:
        """Of [n_systems], not below zero, of all images of a band."""
        return torch.zeros_like(values).scatter_reduce(0, self.task_idx, values, "amax")[self.task_idx]


class Paths(NamedTuple):
    """Where the images of bands are on their paths, at one step.

    Attributes:
        turned: [n_systems] bool, images of bands whose forces are of another kind than at the last step, since another
            image climbs.
        climbs: [n_systems] bool, which images climb.
        tangent: [n_atoms, 3] unit vectors along the paths; zero elsewhere.
        shift: [n_systems] Å along the tangent that would bring it close enough to the middle between its neighbours.
    """

    turned: Tensor
    climbs: Tensor
    tangent: Tensor
    shift: Tensor


class Systems(NamedTuple):
    """What else a step depends on.

    Attributes:
        system_idx: [n_atoms] system of every atom.
        n_atoms: [n_systems] float64.
        max_step: [n_systems] longest step, Å.
        springs: how stiff the systems are where they are; made when asked for.
        bands: which of them move as one; None if there is none.
        paths: where these are; None if there is none, or the method asks for no path.
    """

    system_idx: Tensor
    n_atoms: Tensor
    max_step: Tensor
    springs: Callable[[], Preconditioner]
    bands: Bands | None = None
    paths: Paths | None = None

    def dot(self, a: Tensor, a_cell: Tensor, b: Tensor, b_cell: Tensor) -> Tensor:
        """Scalar products of vectors of all coordinates, [n_systems]; those of a band over all its images."""
        products = self.dot_each(a, a_cell, b, b_cell)
        return products if self.bands is None else self.bands.sum(products)

    def dot_each(self, a: Tensor, a_cell: Tensor, b: Tensor, b_cell: Tensor) -> Tensor:
        """The same of each image by itself."""
        return (a_cell * b_cell).sum((1, 2)).index_add(0, self.system_idx, (a * b).sum(1))

    def largest(self, vectors: Tensor, of_cell: Tensor) -> Tensor:
        """The longest of vectors [n_atoms, 3] in each system, or in a band, not below ``of_cell`` [n_systems]."""
        squares = of_cell.square().scatter_reduce(0, self.system_idx, vectors.square().sum(1), "amax")
        return (squares if self.bands is None else self.bands.largest(squares)).sqrt()


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

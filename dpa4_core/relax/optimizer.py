"""Which method moves which system: FIRE, L-BFGS, or L-BFGS with FIRE for those that it does not bring down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from dpa4_core.errors import DPA4Error
from dpa4_core.relax.batch_state import BatchState
from dpa4_core.relax.fire import fire_init, fire_step
from dpa4_core.relax.lbfgs import lbfgs_init, lbfgs_step
from dpa4_core.relax.method import Bands, Method, Paths, Point, Step, Systems
from dpa4_core.relax.preconditioner import Preconditioner

OptimizerName = Literal["auto", "lbfgs", "fire"]
LBFGS, FIRE = Method(lbfgs_init, lbfgs_step), Method(fire_init, fire_step)

METHODS: dict[OptimizerName, tuple[Method[Any], Method[Any]]] = {
    "auto": (LBFGS, FIRE),
    "lbfgs": (LBFGS, LBFGS),
    "fire": (FIRE, FIRE),
}
"""For every name the method that a system starts with and the one that takes it over once it is lost. That one comes
later in the table, or is the same."""
ROWS = tuple(dict.fromkeys(method for pair in METHODS.values() for method in pair))
"""Each method once."""

LONGEST_STEP = 2.0
"""Å; a longer one may crush a cell, so that its neighbours fill the memory before anybody looks at its volume."""


@dataclass(frozen=True)
class OptimizerSettings:
    """How one system moves.

    Attributes:
        name: "fire", "lbfgs", or "auto" for L-BFGS until it goes uphill repeatedly and FIRE from there.
        max_step: longest step, Å: of an atom in L-BFGS, the norm over all degrees of freedom in FIRE.

    Raises:
        DPA4Error: no such optimiser, no such step.

    """

    name: OptimizerName = "auto"
    max_step: float = 0.2

    def __post_init__(self) -> None:
        if self.name not in tuple(METHODS):
            raise DPA4Error(f"unknown optimizer {self.name!r}; choose from {', '.join(METHODS)}")
        if not 0 < self.max_step <= LONGEST_STEP:
            raise DPA4Error(f"max_step must be a positive number of Å up to {LONGEST_STEP:g}, not {self.max_step}")


@dataclass(frozen=True)
class OptimizerState(BatchState):
    """Which methods move the systems, and the state of each.

    Attributes:
        method: [n_systems] int64, the place in `ROWS` of what moves a system now.
        successor: [n_systems] int64, of what takes over when it is lost.
        max_step: [n_systems] float64, Å.
        states: of the methods in `ROWS`; systems that a method does not move are at rest in its state.

    """

    method: Tensor
    successor: Tensor
    max_step: Tensor
    states: tuple[BatchState, ...]


class Move(NamedTuple):
    """The new state and the displacements [n_atoms, 3] and [n_systems, 3, 3]."""

    state: OptimizerState
    displacements: Tensor
    cell_displacements: Tensor


def optimizer_init(settings: Sequence[OptimizerSettings], n_atoms: int, device: torch.device) -> OptimizerState:
    """Systems that have not moved yet, of ``n_atoms`` together; ``settings`` of each."""
    places = torch.tensor([[ROWS.index(method) for method in METHODS[one.name]] for one in settings], device=device)
    return OptimizerState(
        method=places[:, 0],
        successor=places[:, 1],
        max_step=torch.tensor([one.max_step for one in settings], dtype=torch.float64, device=device),
        states=tuple(method.init(n_atoms, len(settings), device) for method in ROWS),
    )


def optimizer_step(
    state: OptimizerState,
    at: Point,
    springs: Callable[[], Preconditioner],
    system_idx: Tensor,
    n_atoms: Tensor,
    bands: Bands | None = None,
    paths: Paths | None = None,
) -> Move:
    """Advance every system by one step of its method.

    Args:
        state: of the last step.
        at: the last force call.
        springs, system_idx, n_atoms, bands, paths: see `Systems`.

    """
    systems = Systems(system_idx, n_atoms, state.max_step, springs, bands, paths)
    method, states, start = state.method, list(state.states), at
    displacements, cell_displacements = at.positions, at.cell  # of no meaning: some method moves every system
    last: Step[Any] | None = None
    for row, (_, step) in enumerate(ROWS):
        on = method == row
        n_on = int(on.sum())
        if n_on == 0:
            continue
        if last is not None:
            start = start.replace_where(last.base, last.lost, system_idx)
        last = step(states[row], start, systems)
        last = last._replace(lost=last.lost & on)
        method = torch.where(last.lost, state.successor, method)
        if n_on == len(on) and start is at:
            states[row], displacements, cell_displacements = last[:3]
            continue
        atoms, cells = on[system_idx, None], on[:, None, None]
        states[row] = states[row].replace_where(last.state, atoms[:, 0], on)
        displacements = torch.where(atoms, start.positions - at.positions + last.displacements, displacements)
        cell_displacements = torch.where(cells, start.cell - at.cell + last.cell_displacements, cell_displacements)
    return Move(replace(state, method=method, states=tuple(states)), displacements, cell_displacements)

"""Which optimiser moves which system: FIRE, L-BFGS, or L-BFGS with FIRE for those that it does not bring down."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from dpa4_core.errors import DPA4Error
from dpa4_core.relax.batch_state import BatchState
from dpa4_core.relax.fire import FireOptions, FireState, fire_init, fire_step
from dpa4_core.relax.lbfgs import LbfgsOptions, LbfgsState, Point, lbfgs_init, lbfgs_step
from dpa4_core.relax.preconditioner import Preconditioner

OptimizerName = Literal["auto", "lbfgs", "fire"]


@dataclass(frozen=True)
class OptimizerState(BatchState):
    """States of both optimisers.

    Attributes:
        fire: of the systems where ``on_fire`` holds, at rest elsewhere.
        lbfgs: of the others; without memory when nothing uses it.
        on_fire: [n_systems] bool.

    """

    fire: FireState
    lbfgs: LbfgsState
    on_fire: Tensor


class Move(NamedTuple):
    """The new state and the displacements [n_atoms, 3] and [n_systems, 3, 3]."""

    state: OptimizerState
    displacements: Tensor
    cell_displacements: Tensor


@dataclass(frozen=True)
class Optimizer:
    """The optimiser that a system starts with, what happens when it fails, and the options of both.

    Attributes:
        name: "fire", "lbfgs", or "auto" for L-BFGS until it goes uphill repeatedly and FIRE from there.
        fire, lbfgs: options.

    """

    name: OptimizerName = "auto"
    fire: FireOptions = field(default_factory=FireOptions)
    lbfgs: LbfgsOptions = field(default_factory=LbfgsOptions)

    def __post_init__(self) -> None:
        if self.name not in get_args(OptimizerName):
            raise DPA4Error(f"unknown optimizer {self.name!r}; choose from {', '.join(get_args(OptimizerName))}")

    @property
    def uses_springs(self) -> bool:
        return self.name != "fire"

    def init(self, n_atoms: int, n_systems: int, device: torch.device) -> OptimizerState:
        """Systems that have not moved yet."""
        options = self.lbfgs if self.uses_springs else dataclasses.replace(self.lbfgs, memory=0)
        return OptimizerState(
            fire=fire_init(n_atoms, n_systems, device, options=self.fire),
            lbfgs=lbfgs_init(n_atoms, n_systems, device, options=options),
            on_fire=torch.full((n_systems,), not self.uses_springs, dtype=torch.bool, device=device),
        )

    def step(
        self, state: OptimizerState, at: Point, springs: Preconditioner | None, system_idx: Tensor, n_atoms: Tensor
    ) -> Move:
        """Advance every system by one step.

        Args:
            state: of the last step.
            at: the last force call.
            springs: how stiff the systems are there; None for FIRE alone.
            system_idx: [n_atoms] system of every atom.
            n_atoms: [n_systems] float64.

        """
        if springs is None:
            move = fire_step(state.fire, at.forces, at.cell_forces, system_idx, options=self.fire)
            return Move(dataclasses.replace(state, fire=move.state), move.displacements, move.cell_displacements)
        quasi = lbfgs_step(state.lbfgs, at, springs, system_idx, n_atoms, options=self.lbfgs)
        lost = quasi.lost & ~state.on_fire
        if self.name == "lbfgs":
            state = dataclasses.replace(state, lbfgs=quasi.state.forget(lost))
            return Move(state, quasi.displacements, quasi.cell_displacements)
        on_fire = state.on_fire | lost
        if not bool(on_fire.any()):
            state = dataclasses.replace(state, lbfgs=quasi.state)
            return Move(state, quasi.displacements, quasi.cell_displacements)
        # FIRE starts where the last good step of L-BFGS led
        atoms, systems = lost[system_idx, None], lost[:, None, None]
        forces = torch.where(atoms, quasi.state.forces, at.forces)
        cell_forces = torch.where(systems, quasi.state.cell_forces, at.cell_forces)
        move = fire_step(state.fire, forces, cell_forces, system_idx, options=self.fire)
        steps = move.displacements + torch.where(atoms, quasi.state.positions - at.positions, 0.0)
        cell_steps = move.cell_displacements + torch.where(systems, quasi.state.cell - at.cell, 0.0)
        return Move(
            OptimizerState(state.fire.replace_where(move.state, on_fire[system_idx], on_fire), quasi.state, on_fire),
            torch.where(on_fire[system_idx, None], steps, quasi.displacements),
            torch.where(on_fire[:, None, None], cell_steps, quasi.cell_displacements),
        )

"""FIRE (Bitzek et al., Phys. Rev. Lett. 97, 170201, 2006) for many systems at once.

Every system has its own time step, mixing and step cap; its degrees of freedom are its atoms and three rows
for its cell, as in ASE, whose defaults and order of operations are followed so that trajectories agree step
by step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dpa4_core.relax.batch_state import BatchState


@dataclass(frozen=True)
class FireOptions:
    """Parameters of FIRE.

    Attributes:
        dt: first time step (mass 1, so Å/√(eV)).
        dt_max: longest time step.
        max_step: longest displacement of a system in one step, the norm over all of its degrees of freedom,
            Å.
        n_min: downhill steps before the time step grows.
        dt_grow, dt_shrink: factors of the time step.
        mix: first weight of the force direction in the velocity.
        mix_decay: factor of that weight while going downhill.

    """

    dt: float = 0.1
    dt_max: float = 1.0
    max_step: float = 0.2
    n_min: int = 5
    dt_grow: float = 1.1
    dt_shrink: float = 0.5
    mix: float = 0.1
    mix_decay: float = 0.99


@dataclass(frozen=True)
class FireState(BatchState, per_atom=("velocities",)):
    """Velocities and step control.

    Attributes:
        velocities: [n_atoms, 3].
        cell_velocities: [n_systems, 3, 3].
        dt: [n_systems].
        mix: [n_systems].
        n_downhill: [n_systems] steps since the last time the velocity pointed uphill.
        started: [n_systems] bool; the first step of a system starts from rest and leaves its time step alone.

    """

    velocities: Tensor
    cell_velocities: Tensor
    dt: Tensor
    mix: Tensor
    n_downhill: Tensor
    started: Tensor


class FireStep(NamedTuple):
    """One step: the new state and the displacements [n_atoms, 3] and [n_systems, 3, 3]."""

    state: FireState
    displacements: Tensor
    cell_displacements: Tensor


def fire_init(n_atoms: int, n_systems: int, device: torch.device, *, options: FireOptions) -> FireState:
    """All systems at rest."""
    ones = torch.ones(n_systems, dtype=torch.float64, device=device)
    return FireState(
        velocities=torch.zeros(n_atoms, 3, dtype=torch.float64, device=device),
        cell_velocities=torch.zeros(n_systems, 3, 3, dtype=torch.float64, device=device),
        dt=options.dt * ones,
        mix=options.mix * ones,
        n_downhill=torch.zeros(n_systems, dtype=torch.int64, device=device),
        started=torch.zeros(n_systems, dtype=torch.bool, device=device),
    )


def fire_step(
    state: FireState, forces: Tensor, cell_forces: Tensor, system_idx: Tensor, *, options: FireOptions
) -> FireStep:
    """Advance every system by one step along its forces [n_atoms, 3] and cell forces [n_systems, 3, 3]."""

    def dot(a: Tensor, a_cell: Tensor, b: Tensor, b_cell: Tensor) -> Tensor:
        return (a_cell * b_cell).sum((1, 2)).index_add(0, system_idx, (a * b).sum(1))

    velocities, cell_velocities = state.velocities, state.cell_velocities
    power = dot(forces, cell_forces, velocities, cell_velocities)
    force_norm = dot(forces, cell_forces, forces, cell_forces).sqrt()
    speed = dot(velocities, cell_velocities, velocities, cell_velocities).sqrt()

    downhill = power > 0
    # Uphill the velocity is dropped, so both weights are zero there; force_norm > 0 wherever power > 0.
    keep = torch.where(downhill, 1 - state.mix, 0.0)
    turn = torch.where(downhill, state.mix * speed / force_norm, 0.0)

    speeding = downhill & (state.n_downhill > options.n_min)
    uphill = ~downhill & state.started
    dt = torch.where(speeding, (state.dt * options.dt_grow).clamp(max=options.dt_max), state.dt)
    dt = torch.where(uphill, dt * options.dt_shrink, dt)
    mix = torch.where(speeding, state.mix * options.mix_decay, state.mix)
    mix = torch.where(uphill, options.mix, mix)
    n_downhill = torch.where(downhill, state.n_downhill + 1, 0)

    push = turn + dt
    velocities = keep[system_idx, None] * velocities + push[system_idx, None] * forces
    cell_velocities = keep[:, None, None] * cell_velocities + push[:, None, None] * cell_forces

    length = dt * dot(velocities, cell_velocities, velocities, cell_velocities).sqrt()
    scale = torch.where(length > options.max_step, dt * options.max_step / length, dt)
    return FireStep(
        FireState(velocities, cell_velocities, dt, mix, n_downhill, torch.ones_like(state.started)),
        scale[system_idx, None] * velocities,
        scale[:, None, None] * cell_velocities,
    )

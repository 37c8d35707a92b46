"""FIRE (Bitzek et al., Phys. Rev. Lett. 97, 170201, 2006) for many systems at once.

Every system has its own time step, mixing and longest step, the norm over its degrees of freedom: its atoms and three
rows for its cell, as in ASE, whose defaults and order of operations are followed so that trajectories agree step by
step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dpa4_core.relax.batch_state import BatchState
from dpa4_core.relax.method import Point, Step, Systems


@dataclass(frozen=True)
class FireOptions:
    """Parameters of FIRE.

    Attributes:
        dt: first time step (mass 1, so Å/√(eV)).
        dt_max: longest time step.
        n_min: downhill steps before the time step grows.
        dt_grow, dt_shrink: factors of the time step.
        mix: first weight of the force direction in the velocity.
        mix_decay: factor of that weight while going downhill.

    """

    dt: float = 0.1
    dt_max: float = 1.0
    n_min: int = 5
    dt_grow: float = 1.1
    dt_shrink: float = 0.5
    mix: float = 0.1
    mix_decay: float = 0.99


OPTIONS = FireOptions()


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


def fire_init(n_atoms: int, n_systems: int, device: torch.device, *, options: FireOptions = OPTIONS) -> FireState:
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


def fire_step(state: FireState, at: Point, systems: Systems, *, options: FireOptions = OPTIONS) -> Step[FireState]:
    """Advance every system by one step along its forces."""
    forces, cell_forces, system_idx, dot = at.forces, at.cell_forces, systems.system_idx, systems.dot
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
    scale = torch.where(length > systems.max_step, dt * systems.max_step / length, dt)
    return Step(
        FireState(velocities, cell_velocities, dt, mix, n_downhill, torch.ones_like(state.started)),
        scale[system_idx, None] * velocities,
        scale[:, None, None] * cell_velocities,
        lost=torch.zeros_like(state.started),
        base=at,
    )

"""Trajectories in a plan: pieces of dynamics that go on from each other, so that a killed process loses one piece."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from dpa4_core.md.settings import MDSettings
from dpa4_core.relax import Dynamics, DynamicsResult, Phase
from dpa4_flows.analysis.defects import host_cell
from dpa4_flows.compute.plan import Crystal, PlanError, Steps
from dpa4_flows.properties.part import had_room, whole_crystal

PIECE = 200
"""Steps of one request: what a kill costs at most. Each costs one further force call."""
TOO_HOT = 3.0
"""Of the temperature asked for, beyond which the steps are too long."""


class Moments(NamedTuple):
    """The part of a trajectory that counts.

    Attributes:
        positions: [n_frames, n_atoms, 3] Å, not folded back into the cell.
        temperature: mean, K.
    """

    positions: NDArray[np.float32]
    temperature: float


def supercell(crystal: Crystal, min_length: float, max_atoms: int) -> Structure:
    """The smallest one in which atoms are ``min_length`` Å from their images.

    Raises:
        PlanError: it has more than ``max_atoms`` atoms, or the structure is no crystal.
    """
    try:
        return host_cell(whole_crystal(crystal), min_length, max_atoms).perfect
    except ValueError as error:
        raise PlanError(str(error), "no_supercell") from error


def n_steps(time_ps: float, timestep_fs: float) -> int:
    return round(1000 * time_ps / timestep_fs)


def moments(start: Structure, settings: MDSettings, n_before: int) -> Steps[Moments]:
    """Run the dynamics of ``settings`` and give what comes after ``n_before`` steps.

    Raises:
        PlanError: the crystal fell apart, or the motion is far too hot.
    """
    begin: Phase | None = None
    kept: list[DynamicsResult] = []
    first = 0  # frames before those that count
    for done in range(0, settings.n_steps, PIECE):
        n = min(PIECE, settings.n_steps - done)
        found: DynamicsResult = (yield {"moved": Dynamics(start, settings, begin, n)})["moved"]
        had_room([found])
        if found.error is not None:
            time = (done + found.n_steps) * settings.timestep_fs
            raise PlanError(f"it fell apart after {time:.0f} fs: {found.error}", "fell_apart")
        begin = found.end
        if done + n <= n_before:
            first += len(found.positions)
        else:
            kept.append(found)
    skip = n_before // settings.every - first
    positions = np.concatenate([one.positions for one in kept])[skip:]
    temperature = float(np.concatenate([one.temperatures for one in kept])[skip:].mean())
    if temperature > TOO_HOT * settings.temperature:
        words = f"the motion has {temperature:.0f} K: its steps are too long, or the start is no minimum"
        raise PlanError(words, "too_hot")
    return Moments(positions, temperature)

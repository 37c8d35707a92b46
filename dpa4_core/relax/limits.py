"""When a relaxation or a trajectory is over, and the sentence that says why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpa4_core.data.structures import MAX_LENGTH
from dpa4_core.relax.results import Verdict
from dpa4_core.relax.state import Statistics, Task
from dpa4_core.verdicts import ErrorCode

MAX_FORCE = 1e4
"""eV/Å; no structure that anyone means has such a force, the potential is far outside of its training."""


class Limits(NamedTuple):
    """Bounds of the tasks in a batch, [n_tasks] each.

    Attributes:
        fmax: eV/Å below which a structure is converged; 0 for one in motion, which never is.
        max_steps: optimiser steps.
        max_volume_change: factor, both ways.
        max_temperature: K.

    """

    fmax: NDArray[np.float64]
    max_steps: NDArray[np.float64]
    max_volume_change: NDArray[np.float64]
    max_temperature: NDArray[np.float64]

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> Limits:
        """The bounds of tasks with their own options."""
        rows = [
            (
                0.0 if task.course else task.moves.fmax,
                task.moves.max_steps,
                task.moves.max_volume_change,
                task.course.settings.temperature_limit if task.course else math.inf,
            )
            for task in tasks
        ]
        return cls(*np.array(rows, dtype=np.float64).reshape(-1, 4).T)

    def finished(self, now: Statistics) -> NDArray[np.bool_]:
        """Which systems [n_systems] make no further step."""
        return self._failed(now) | (now.fmax < self.fmax) | (now.n_steps >= self.max_steps)

    def verdict(self, now: Statistics, place: int) -> Verdict:
        """Why one finished system makes no further step."""
        if self._failed(now)[place]:
            one = Statistics(*(values[place] for values in now))
            return Verdict.failure(
                *_problem(one, float(self.max_volume_change[place]), float(self.max_temperature[place]))
            )
        converged = bool(now.fmax[place] < self.fmax[place])
        return Verdict("converged" if converged else "max_steps", converged=converged)

    def _failed(self, now: Statistics) -> NDArray[np.bool_]:
        possible = now.max_force <= MAX_FORCE  # false for NaN
        deformation = np.maximum(now.deformation, np.abs(np.log(now.volume_ratio)))
        similar = deformation <= np.log(self.max_volume_change)
        # The neighbour search refuses longer systems; a step adds up to 22 %.
        compact = 1.25 * now.span <= MAX_LENGTH
        cool = now.temperature <= self.max_temperature
        return ~(possible & similar & compact & cool & (now.n_lost == 0))


def _problem(now: Statistics, max_volume_change: float, max_temperature: float) -> tuple[str, ErrorCode]:
    """Why one system has failed."""
    steps = f"after {now.n_steps:.0f} steps"
    if not now.has_stress:
        return (
            f"the potential gave a stress that is not finite {steps}; "
            "use relax_cell=False, or a potential that has the stress"
        ), "not_finite"
    if np.isnan(now.max_force):
        return f"the potential gave an energy, force or stress that is not finite {steps}", "not_finite"
    if now.max_force > MAX_FORCE:
        return f"a force reached {now.max_force:.1e} eV/Å {steps}; no potential knows such a structure", "large_force"
    if now.temperature > max_temperature:
        return (
            f"the temperature reached {now.temperature:.3g} K {steps} (limit {max_temperature:.0f} K); try a shorter "
            "time step, a relaxed start, or a lower temperature"
        ), "exploded"
    if abs(np.log(now.volume_ratio)) > math.log(max_volume_change):
        verb = "exploded" if now.volume_ratio > 1 else "collapsed"
        return (
            f"the cell {verb} to {now.volume_ratio:.2g} of its volume {steps} "
            f"(limit: a factor {max_volume_change:g}); check it or raise max_volume_change"
        ), "exploded"
    if now.deformation > math.log(max_volume_change):
        return (
            f"the cell changed its shape by more than a factor {max_volume_change:g} {steps}; "
            "check it or raise max_volume_change"
        ), "deformed"
    if now.n_lost:
        return (
            f"the structure dissociated: {now.n_lost:.0f} of its atoms have no neighbour within the cutoff of the "
            f"potential {steps}"
        ), "dissociated"
    return f"the structure extends over {now.span:.3g} Å {steps}; its atoms fly apart", "too_long"

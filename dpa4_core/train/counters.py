"""Where a run is and how it has gone so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from dpa4_core.strict import Within

Count = Annotated[int, Within(0, 2**53)]


@dataclass(frozen=True)
class Counters:
    """What a run has counted, part of its checkpoint.

    Attributes:
        step: steps taken, those without effect included.
        epoch: epochs done.
        steps_in_epoch: steps taken of the epoch that has begun.
        n_skipped: steps that were not taken since their loss or gradient was not finite.
        skipped_in_row: such steps since the last one that was taken.
        bad_validations: validations since the best one.
        seconds: wall time, that of earlier processes included.
        share: of the time limit that has passed; 0 without one.
        best: metric of the best validation, None before the first one.
        best_errors: at the best validation; not a number for what has no labels.
        base_errors: of the base before the first step, which no later best may exceed; empty from scratch.
    """

    step: Count = 0
    epoch: Count = 0
    steps_in_epoch: Count = 0
    n_skipped: Count = 0
    skipped_in_row: Count = 0
    bad_validations: Count = 0
    seconds: Annotated[float, Within(0.0, 1e12)] = 0.0
    share: Annotated[float, Within(0.0, 1.0)] = 0.0
    best: float | None = None
    best_errors: dict[str, Any] = field(default_factory=dict)
    base_errors: dict[str, Any] = field(default_factory=dict)

    def stepped(self, *, taken: bool) -> Counters:
        """After the weights were changed, or the step skipped."""
        if taken:
            return replace(self, skipped_in_row=0)
        return replace(self, skipped_in_row=self.skipped_in_row + 1, n_skipped=self.n_skipped + 1)

    def advanced(self, *, epoch_done: bool, seconds: float, share: float) -> Counters:
        """At the next step."""
        return replace(
            self,
            step=self.step + 1,
            epoch=self.epoch + epoch_done,
            steps_in_epoch=0 if epoch_done else self.steps_in_epoch + 1,
            seconds=seconds,
            share=share,
        )

    def improved(self, metric: float) -> bool:
        """Whether a validation with this metric is the best so far."""
        return math.isfinite(metric) and (self.best is None or metric < self.best)

    def validated(self, metric: float, errors: dict[str, float], *, improved: bool) -> Counters:
        """After a validation."""
        if improved:
            return replace(self, best=metric, best_errors=errors, bad_validations=0)
        return replace(self, bad_validations=self.bad_validations + 1)

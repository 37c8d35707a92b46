"""The options of a relaxation, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dpa4_core.data.batching import check_budget
from dpa4_core.data.structures import MIN_DISTANCE_RATIO
from dpa4_core.errors import DPA4Error
from dpa4_core.relax.limits import Limits
from dpa4_core.relax.optimizer import Optimizer, OptimizerName


@dataclass(frozen=True)
class RelaxOptions:
    """What `relax` and `relax_stream` take as keywords; see `relax` for each.

    Raises:
        DPA4Error: an option that makes no sense.

    """

    fmax: float = 0.02
    max_steps: int = 500
    relax_cell: bool = True
    pressure_gpa: float = 0.0
    max_volume_change: float = 5.0
    max_atoms_per_batch: int | None = None
    min_distance_ratio: float = MIN_DISTANCE_RATIO
    keep_trajectory: bool = False
    optimizer: OptimizerName = "auto"

    def __post_init__(self) -> None:
        self.limits()
        Optimizer(self.optimizer)
        check_budget(self.max_atoms_per_batch)
        if not math.isfinite(self.pressure_gpa):
            raise DPA4Error(f"pressure_gpa must be a finite number, not {self.pressure_gpa}")
        if self.pressure_gpa and not self.relax_cell:
            raise DPA4Error(
                f"a pressure of {self.pressure_gpa:g} GPa has no effect with relax_cell=False; drop one of them"
            )

    def limits(self) -> Limits:
        """The bounds among the options."""
        return Limits(fmax=self.fmax, max_steps=self.max_steps, max_volume_change=self.max_volume_change)

"""The options of a relaxation, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike

from dpa4_core.data.batching import check_budget
from dpa4_core.data.structures import MIN_DISTANCE_RATIO
from dpa4_core.errors import DPA4Error
from dpa4_core.relax.limits import Limits
from dpa4_core.relax.optimizer import OptimizerName, OptimizerSettings
from dpa4_core.relax.projection import cell_projection


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
    max_step: float | None = None
    cell: str | ArrayLike = "full"
    keep_symmetry: bool = False
    symprec: float = 0.01
    check_minimum: bool = True

    def __post_init__(self) -> None:
        self.limits()
        self.optimizer_settings  # noqa: B018 - checks them
        cell_projection(self.cell)
        check_budget(self.max_atoms_per_batch)
        if not math.isfinite(self.pressure_gpa):
            raise DPA4Error(f"pressure_gpa must be a finite number, not {self.pressure_gpa}")
        if not self.relax_cell and not (isinstance(self.cell, str) and self.cell in ("full", "fixed")):
            raise DPA4Error(f"cell={self.cell!r} contradicts relax_cell=False; drop one of them")
        if self.pressure_gpa and (not self.cell_moves or self.cell_mode == "volume"):
            option = "relax_cell=False" if not self.relax_cell else f"cell={self.cell_mode!r}"
            raise DPA4Error(f"a pressure of {self.pressure_gpa:g} GPa has no effect with {option}; drop one of them")
        if not 0 < self.symprec < math.inf:
            raise DPA4Error(f"symprec must be a positive number of Å, not {self.symprec}")

    @property
    def cell_mode(self) -> str:
        """The name given as ``cell``; "mask" for a mask."""
        return self.cell if isinstance(self.cell, str) else "mask"

    @property
    def cell_moves(self) -> bool:
        return self.relax_cell and self.cell_mode != "fixed"

    @property
    def optimizer_settings(self) -> OptimizerSettings:
        """How the systems move."""
        return OptimizerSettings(self.optimizer, *([] if self.max_step is None else [self.max_step]))

    def limits(self) -> Limits:
        """The bounds among the options."""
        return Limits(fmax=self.fmax, max_steps=self.max_steps, max_volume_change=self.max_volume_change)

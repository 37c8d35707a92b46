"""The options of one relaxation or band, checked once; structures with different ones share a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike

from dpa4_core.data.structures import MIN_DISTANCE_RATIO, check_distance_ratio
from dpa4_core.errors import DPA4Error
from dpa4_core.relax.optimizer import OptimizerName, OptimizerSettings
from dpa4_core.relax.projection import cell_projection
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA

MAX_SYMPREC = 0.5
"""Å; shorter than any bond, since spglib crashes where it takes atoms for one another."""


@dataclass(frozen=True)
class RelaxOptions:
    """What `relax` and `relax_stream` take as keywords for all structures, and a `Relax` for one; see `relax` for each.

    Raises:
        DPA4Error: an option that makes no sense.

    """

    fmax: float = 0.02
    max_steps: int = 500
    relax_cell: bool = True
    pressure_gpa: float = 0.0
    max_volume_change: float = 5.0
    min_distance_ratio: float = MIN_DISTANCE_RATIO
    keep_trajectory: bool = False
    optimizer: OptimizerName = "auto"
    max_step: float | None = None
    cell: str | ArrayLike = "full"
    keep_symmetry: bool = False
    symprec: float = 0.01
    check_minimum: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.fmax < math.inf:
            raise DPA4Error(f"fmax must be a positive number of eV/Å, not {self.fmax}")
        if not (self.max_steps >= 0 and float(self.max_steps).is_integer()):
            raise DPA4Error(f"max_steps must be a whole number from 0, not {self.max_steps}")
        if not self.max_volume_change > 1:
            raise DPA4Error(f"max_volume_change is a factor above 1, not {self.max_volume_change}")
        check_distance_ratio(self.min_distance_ratio)
        self.optimizer_settings  # noqa: B018 - checks them
        cell_projection(self.cell)
        if not math.isfinite(self.pressure_gpa):
            raise DPA4Error(f"pressure_gpa must be a finite number, not {self.pressure_gpa}")
        if not self.relax_cell and not (isinstance(self.cell, str) and self.cell in ("full", "fixed")):
            raise DPA4Error(f"cell={self.cell!r} contradicts relax_cell=False; drop one of them")
        if self.pressure_gpa and (not self.cell_moves or self.cell_mode == "volume"):
            option = "relax_cell=False" if not self.relax_cell else f"cell={self.cell_mode!r}"
            raise DPA4Error(f"a pressure of {self.pressure_gpa:g} GPa has no effect with {option}; drop one of them")
        if not 0 < self.symprec <= MAX_SYMPREC:
            raise DPA4Error(f"symprec must be a positive number of Å up to {MAX_SYMPREC:g}, not {self.symprec}")

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

    @property
    def pressure(self) -> float:
        """External pressure, eV/Å³."""
        return self.pressure_gpa / EV_PER_ANGSTROM3_TO_GPA


@dataclass(frozen=True)
class BandOptions:
    """How a band comes to rest.

    Attributes:
        fmax: eV/Å; converged when the forces perpendicular to the path are below, and all on the image that climbs.
        max_steps: of the optimiser.
        climb: whether the highest image climbs to the saddle point.
        spring: eV/Å², between neighbouring images.
        max_step: Å, the longest displacement of an atom in a step ("fire": of all atoms of all images together).
        optimizer: "auto", L-BFGS that hands over to FIRE where the forces grow repeatedly; "fire" makes the steps of
            ASE's ``FIRE`` on its ``NEB``; "lbfgs" never hands over.
        min_distance_ratio: atoms closer than this fraction of the sum of covalent radii are an error.

    Raises:
        DPA4Error: an option that makes no sense.

    """

    fmax: float = 0.05
    max_steps: int = 300
    climb: bool = True
    spring: float = 1.0
    max_step: float = 0.2
    min_distance_ratio: float = MIN_DISTANCE_RATIO
    optimizer: OptimizerName = "auto"

    def __post_init__(self) -> None:
        self.moves  # noqa: B018 - checks them
        if not 0 < self.spring < math.inf:
            raise DPA4Error(f"spring must be a positive number of eV/Å², not {self.spring}")

    @property
    def moves(self) -> RelaxOptions:
        """How the images move."""
        return RelaxOptions(
            fmax=self.fmax,
            max_steps=self.max_steps,
            relax_cell=False,
            min_distance_ratio=self.min_distance_ratio,
            optimizer=self.optimizer,
            max_step=self.max_step,
            check_minimum=False,
        )

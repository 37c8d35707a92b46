"""What a molecular dynamics run hands back: the course of energy, temperature and pressure, and what they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MIN_SAMPLES = 5
"""Rows of the log below which no slope and no error is given."""
BLOCKS = 5
"""Parts of the second half of a run whose means give the error of an average."""


class Sample(NamedTuple):
    """One row of the log. Energies in eV of the whole system; NaN where there is no stress."""

    step: int
    time_ps: float
    potential_energy: float
    kinetic_energy: float
    conserved_energy: float
    temperature: float
    pressure_gpa: float
    volume: float


class Thermo(NamedTuple):
    """The log as arrays [n_samples], one for each field of `Sample`."""

    step: NDArray[np.int64]
    time_ps: Array
    potential_energy: Array
    kinetic_energy: Array
    conserved_energy: Array
    temperature: Array
    pressure_gpa: Array
    volume: Array

    @property
    def total_energy(self) -> Array:
        return self.potential_energy + self.kinetic_energy

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Thermo:
        """The columns of ``samples``."""
        table = np.array(samples, dtype=np.float64).reshape(-1, len(cls._fields))
        return cls(table[:, 0].astype(np.int64), *(np.ascontiguousarray(column) for column in table.T[1:]))


class Average(NamedTuple):
    """Mean over the second half of a run, and its standard error from the scatter of five blocks; NaN if too short."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Array) -> Average:
        late = values[len(values) // 2 :]
        if not len(late):
            return cls(np.nan, np.nan)
        if len(late) < BLOCKS:
            return cls(float(late.mean()), np.nan)
        means = [block.mean() for block in np.array_split(late, BLOCKS)]
        return cls(float(late.mean()), float(np.std(means, ddof=1) / np.sqrt(BLOCKS)))


@dataclass(frozen=True)
class MDResult:
    """One run, complete or ended early.

    Attributes:
        structure: at the end, of the type that came in; an ``ase.Atoms`` carries its velocities.
        n_steps: steps that were made, also before a restart.
        time_ps: simulated time.
        thermo: energies, temperature and pressure, every so many steps.
        drift: slope of the conserved energy, meV/atom/ps, by least squares over the whole run; NaN for a run too short.
        ripple: standard deviation of the conserved energy about that line, meV/atom.
        temperature: K.
        pressure_gpa: GPa, kinetic part included; NaN without a stress.
        steps_per_s: of this process; NaN if it made none.
        timestep_fs: for `ns_per_day`.
        trajectory: file with the frames; None if none was asked for.
        error: why the run ended early, in one sentence; what was written until then stays.
    """

    structure: Any
    n_steps: int
    time_ps: float
    thermo: Thermo
    drift: float
    ripple: float
    temperature: Average
    pressure_gpa: Average
    steps_per_s: float
    timestep_fs: float
    trajectory: Path | None = None
    error: str | None = None

    @property
    def ns_per_day(self) -> float:
        return self.steps_per_s * self.timestep_fs * 86400 / 1e6

    def summary(self) -> dict[str, Any]:
        """The numbers in plain types; None in place of NaN."""
        numbers = {
            "n_steps": self.n_steps,
            "time_ps": self.time_ps,
            "drift_mev_per_atom_ps": self.drift,
            "ripple_mev_per_atom": self.ripple,
            "temperature": self.temperature.mean,
            "temperature_error": self.temperature.error,
            "pressure_gpa": self.pressure_gpa.mean,
            "pressure_gpa_error": self.pressure_gpa.error,
            "steps_per_s": self.steps_per_s,
            "ns_per_day": self.ns_per_day,
        }
        return {name: None if np.isnan(value) else value for name, value in numbers.items()} | {"error": self.error}


class Drift(NamedTuple):
    """Least-squares line through the conserved energy per atom: slope in meV/atom/ps, scatter about it in meV/atom."""

    slope: float
    ripple: float

    @classmethod
    def of(cls, thermo: Thermo, n_atoms: int) -> Drift:
        if len(thermo.time_ps) < MIN_SAMPLES:
            return cls(np.nan, np.nan)
        energy = 1000 * (thermo.conserved_energy - thermo.conserved_energy[0]) / n_atoms
        line = np.polynomial.Polynomial.fit(thermo.time_ps, energy, 1)
        return cls(float(line.deriv()(0.0)), float(np.std(energy - line(thermo.time_ps))))

"""What a molecular dynamics run is asked for."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from dpa4_core.errors import DPA4Error

ENSEMBLES = ("nve", "nvt", "npt")
THERMOSTATS = ("langevin", "nose-hoover")
BAROSTATS = ("full", "isotropic")
ADVICE = "try a shorter time step, a relaxed start, or a lower temperature"


@dataclass(frozen=True)
class MDSettings:
    """Options of a run, checked when they are made.

    Attributes:
        ensemble: "nve", "nvt" or "npt".
        thermostat: "langevin" (default of nvt) or "nose-hoover" (a chain of three; the only one for npt); None
            for the default, and for nve.
        barostat: "full": every component of the cell follows its stress; "isotropic": only the volume does. For npt.
        temperature: K, of the thermostat and of the initial velocities. In nve a crystal that starts at its minimum
            settles near half of it, since the other half becomes potential energy.
        pressure_gpa: external pressure, for npt.
        time_ps: length of the run.
        timestep_fs: 1 suits most materials, 0.5 those with hydrogen.
        friction_per_ps: of the Langevin thermostat; the inverse of the time in which velocities are forgotten.
        thermostat_fs: relaxation time of the Nosé–Hoover chain.
        barostat_fs: relaxation time of the barostat.
        every: steps between two frames and rows of the log.
        seed: of the initial velocities and of the Langevin thermostat.
        keep_velocities: start with the velocities of the structure instead of drawing them.
        max_temperature: K above which the run ends as exploded; by default ten times ``temperature`` plus 3000 K.
    """

    ensemble: str = "nvt"
    thermostat: str | None = None
    barostat: str = "full"
    temperature: float = 300.0
    pressure_gpa: float = 0.0
    time_ps: float = 1.0
    timestep_fs: float = 1.0
    friction_per_ps: float = 10.0
    thermostat_fs: float = 100.0
    barostat_fs: float = 1000.0
    every: int = 10
    seed: int = 0
    keep_velocities: bool = False
    max_temperature: float | None = None

    def __post_init__(self) -> None:
        _choice("ensemble", self.ensemble, ENSEMBLES)
        _choice("barostat", self.barostat, BAROSTATS)
        if self.thermostat is not None:
            _choice("thermostat", self.thermostat, THERMOSTATS)
        if self.ensemble == "nve" and self.thermostat is not None:
            raise DPA4Error("nve has no thermostat; use nvt, or leave the thermostat out")
        if self.ensemble == "npt" and self.thermostat == "langevin":
            raise DPA4Error("npt runs with the nose-hoover thermostat only; leave the thermostat out")
        for name in ("time_ps", "timestep_fs", "friction_per_ps", "thermostat_fs", "barostat_fs"):
            _positive(name, getattr(self, name))
        if self.ensemble == "nve" and self.temperature == 0.0:
            pass  # atoms at rest
        else:
            _positive("temperature", self.temperature)
        if not math.isfinite(self.pressure_gpa):
            raise DPA4Error(f"pressure must be a number of GPa, not {self.pressure_gpa}")
        if self.max_temperature is not None:
            _positive("max_temperature", self.max_temperature)
        if not (self.every >= 1 and float(self.every).is_integer()):
            raise DPA4Error(f"every must be a whole number of steps from 1, not {self.every}")
        if not (self.seed >= 0 and float(self.seed).is_integer()):
            raise DPA4Error(f"seed must be a whole number from 0, not {self.seed}")
        if math.isinf(self.time_ps * 1000 / self.timestep_fs):
            raise DPA4Error(f"{self.time_ps:g} ps are too many time steps of {self.timestep_fs:g} fs")
        if self.n_steps < 1:
            raise DPA4Error(f"{self.time_ps:g} ps is less than one time step of {self.timestep_fs:g} fs")

    @property
    def n_steps(self) -> int:
        return round(self.time_ps * 1000 / self.timestep_fs)

    @property
    def integrator(self) -> str:
        """ "nve", "langevin", "nose-hoover", "npt-full" or "npt-isotropic"."""
        if self.ensemble == "nvt":
            return self.thermostat or "langevin"
        return f"npt-{self.barostat}" if self.ensemble == "npt" else "nve"

    @property
    def temperature_limit(self) -> float:
        return self.max_temperature or 10 * self.temperature + 3000.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return dataclasses.asdict(self)

    def identity(self) -> dict[str, Any]:
        """All that decides how the atoms move: what a continued run must have in common with its beginning."""
        kept = self.to_dict()
        del kept["time_ps"], kept["max_temperature"]
        unused = {
            "nve": ("thermostat", "barostat", "pressure_gpa", "friction_per_ps", "thermostat_fs", "barostat_fs"),
            "langevin": ("barostat", "pressure_gpa", "thermostat_fs", "barostat_fs"),
            "nose-hoover": ("barostat", "pressure_gpa", "friction_per_ps", "barostat_fs"),
        }.get(self.integrator, ("friction_per_ps",))
        return {name: value for name, value in kept.items() if name not in unused} | {"thermostat": self.integrator}


def _choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise DPA4Error(f"unknown {name} {value!r}; choose from {', '.join(known)}")


def _positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise DPA4Error(f"{name} must be a positive number, not {value}")

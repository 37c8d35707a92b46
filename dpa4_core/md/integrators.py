"""The integrators of ASE, each with its conserved energy and its whole state as arrays.

They move the cells of npt, and go on with runs of any ensemble that earlier versions began with them; all others move
in batches (`dpa4_core.md.together`).

A run that stops and goes on must be the run that never stopped, so everything that a step reads is in `Motion.state`:
positions, momenta, cell, the variables of thermostat and barostat, and the random numbers. ASE keeps the variables of
its thermostats in attributes of its own; `_HIDDEN` names them, and the tests compare a continued run with an
uninterrupted one bit by bit.
"""

from __future__ import annotations

import json
import operator
from typing import Any, Protocol

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT, NoseHooverChainNVT, NoseHooverChainThermostat
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

from dpa4_core.errors import DPA4Error
from dpa4_core.md.settings import MDSettings
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA

State = dict[str, NDArray[Any]]

_CHAIN = ("_thermostat._eta", "_thermostat._p_eta")
_HIDDEN = {
    "nve": (),
    "langevin": (),
    "nose-hoover": _CHAIN,
    "npt-full": (*_CHAIN, "_barostat._xi", "_barostat._p_xi", "_p_g", "_h"),
    "npt-isotropic": (*_CHAIN, "_barostat._xi", "_barostat._p_xi", "_eps", "_p_eps", "_volume0", "_cell0"),
}


class Moving(Protocol):
    """What a run asks of whoever moves its atoms."""

    def conserved_energy(self) -> float:
        """What exact dynamics would keep, eV."""
        ...

    def state(self) -> State:
        """Everything that the next step depends on."""
        ...

    def restore(self, state: State) -> None:
        """Continue from ``state``."""
        ...


class Motion:
    """Atoms under one integrator.

    Args:
        atoms: with calculator and momenta; moved in place.
        settings: of the run.
    """

    def __init__(self, atoms: Atoms, settings: MDSettings) -> None:
        self.atoms = atoms
        self.settings = settings
        self.rng = np.random.default_rng([settings.seed, 1])  # [seed, 0] draws the initial velocities
        self._integrator = self._build()

    def step(self) -> None:
        """One time step."""
        self._integrator.step()

    def conserved_energy(self) -> float:
        """What exact dynamics would keep, eV: energy of the atoms, and of thermostat, barostat and piston."""
        if self.settings.integrator == "nve":
            return float(self.atoms.get_total_energy())
        return float(self._integrator.get_conserved_energy())

    def state(self) -> State:
        """Everything that the next step depends on."""
        atoms = self.atoms
        state: State = {
            "positions": atoms.positions.copy(),
            "momenta": atoms.get_momenta(),
            "cell": np.array(atoms.cell),
            "rng": np.array(json.dumps(self.rng.bit_generator.state)),
        }
        for name in _HIDDEN[self.settings.integrator]:
            state[name] = np.array(operator.attrgetter(name)(self._integrator))
        return state

    def restore(self, state: State) -> None:
        """Continue from ``state``."""
        place(self.atoms, state)
        self.rng = np.random.default_rng()
        self.rng.bit_generator.state = json.loads(str(state["rng"]))
        self._integrator = self._build()
        for name in _HIDDEN[self.settings.integrator]:
            owner, _, attribute = name.rpartition(".")
            holder = operator.attrgetter(owner)(self._integrator) if owner else self._integrator
            value = state[name].copy()
            setattr(holder, attribute, value if value.ndim else float(value))

    def _build(self) -> Any:
        settings, atoms = self.settings, self.atoms
        timestep = settings.timestep_fs * units.fs
        if settings.integrator == "nve":
            return VelocityVerlet(atoms, timestep)
        if settings.integrator == "langevin":
            return Langevin(
                atoms,
                timestep,
                temperature_K=settings.temperature,
                friction=settings.friction_per_ps / (1000 * units.fs),
                fixcm=False,
                rng=self.rng,
            )
        return self._chain(timestep)

    def _chain(self, timestep: float) -> MolecularDynamics:
        settings, atoms = self.settings, self.atoms
        thermal: dict[str, Any] = {
            "temperature_K": settings.temperature,
            "tdamp": settings.thermostat_fs * units.fs,
        }
        integrator: Any
        if settings.integrator == "nose-hoover":
            integrator = NoseHooverChainNVT(atoms, timestep, **thermal)
        else:
            kind = MTKNPT if settings.integrator == "npt-full" else IsotropicMTKNPT
            integrator = kind(
                atoms,
                timestep,
                pressure_au=settings.pressure_gpa / EV_PER_ANGSTROM3_TO_GPA,
                pdamp=settings.barostat_fs * units.fs,
                **thermal,
            )
        # ASE drives 3N degrees of freedom to the temperature. The total momentum is zero and stays zero, so only
        # 3N - 3 are there, and 8 atoms would end up 14 % too hot: the chain gets their number.
        integrator._thermostat = NoseHooverChainThermostat(
            num_atoms_global=degrees_of_freedom(atoms) / 3,  # type: ignore[arg-type]  # it only takes this three times
            masses=integrator.masses,
            **thermal,
        )
        return integrator


class LangevinMotion(Motion):
    """Langevin dynamics with the work of the forces summed up, since the heat bath has no energy of its own.

    The conserved energy is that of the atoms without the heat that the bath gave: initial kinetic energy + potential
    energy + W, with W = Σ ½ (F_n + F_{n+1})·(r_{n+1} − r_n) along the path that was taken.
    """

    def __init__(self, atoms: Atoms, settings: MDSettings) -> None:
        super().__init__(atoms, settings)
        self._work = 0.0
        self._initial_kinetic = float(atoms.get_kinetic_energy())

    def step(self) -> None:
        positions, forces = self.atoms.get_positions(), self.atoms.get_forces(apply_constraint=False)
        super().step()
        moved = self.atoms.positions - positions
        self._work += 0.5 * float(np.vdot(forces + self.atoms.get_forces(apply_constraint=False), moved))

    def conserved_energy(self) -> float:
        return self._initial_kinetic + float(self.atoms.get_potential_energy()) + self._work

    def state(self) -> State:
        return super().state() | {"bookkeeping": np.array([self._work, self._initial_kinetic])}

    def restore(self, state: State) -> None:
        super().restore(state)
        self._work, self._initial_kinetic = (float(value) for value in state["bookkeeping"])


def start(atoms: Atoms, settings: MDSettings) -> Motion:
    """An integrator around ``atoms``, which `prepare` has seen; under Langevin their centre of mass is held."""
    if settings.integrator != "langevin":
        return Motion(atoms, settings)
    if not atoms.constraints:
        atoms.set_constraint(FixCom())  # or the whole crystal diffuses
    return LangevinMotion(atoms, settings)


def prepare(atoms: Atoms, settings: MDSettings) -> None:
    """Check that ``atoms`` can do this, and give them velocities.

    Raises:
        DPA4Error: what these atoms cannot do in this ensemble.
    """
    if settings.ensemble == "npt" and not atoms.pbc.all():
        raise DPA4Error("npt moves the cell, but the structure is not periodic in all directions; use nvt")
    if settings.ensemble == "npt" and atoms.constraints:
        raise DPA4Error("npt moves the cell, and fixed atoms would not follow it; use nve or nvt")
    if degrees_of_freedom(atoms) < 1:
        raise DPA4Error("nothing can move: all atoms are fixed, or there is one atom only; make a supercell")
    if not settings.keep_velocities:
        draw_velocities(atoms, settings.temperature, np.random.default_rng([settings.seed, 0]))
    elif atoms.has("momenta"):
        _stop_drift(atoms)
    else:
        raise DPA4Error("the structure has no velocities to keep; leave keep_velocities out")


def draw_velocities(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Maxwell–Boltzmann momenta without total momentum, scaled to exactly ``temperature``, K."""
    masses = atoms.get_masses()
    momenta = rng.standard_normal((len(atoms), 3)) * np.sqrt(masses * units.kB * temperature)[:, None]
    atoms.set_momenta(momenta)  # applies constraints
    _stop_drift(atoms)
    current = kinetic_temperature(atoms)
    if current > 0:
        atoms.set_momenta(atoms.get_momenta() * np.sqrt(temperature / current))


def kinetic_temperature(atoms: Atoms) -> float:
    """Temperature of the degrees of freedom that can move, K."""
    return float(2 * atoms.get_kinetic_energy() / (degrees_of_freedom(atoms) * units.kB))


def degrees_of_freedom(atoms: Atoms) -> int:
    """3 for each atom, less what constraints take, less 3 where the total momentum is kept at zero."""
    n = int(atoms.get_number_of_degrees_of_freedom())
    return n if atoms.constraints else n - 3


def place(atoms: Atoms, state: State) -> None:
    """Put positions, momenta and cell of ``state`` on ``atoms``."""
    atoms.set_cell(state["cell"], scale_atoms=False)
    atoms.set_positions(state["positions"], apply_constraint=False)
    atoms.set_momenta(state["momenta"], apply_constraint=False)


def _stop_drift(atoms: Atoms) -> None:
    """Take the total momentum out, unless atoms are fixed in space, which hold the rest."""
    if any(not isinstance(constraint, FixCom) for constraint in atoms.constraints):
        return
    masses, momenta = atoms.get_masses(), atoms.get_momenta()
    atoms.set_momenta(momenta - masses[:, None] * momenta.sum(axis=0) / masses.sum())

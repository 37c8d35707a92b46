"""Molecular dynamics in a batch: atoms that a thermostat moves share force calls with whatever else is asked for.

A step is cut in two where the force call is: `Drive.arrive` ends the last step with the forces at the new positions,
so that velocities and positions are those of one moment, `Drive.depart` begins the next one.

    nve          velocity Verlet
    langevin     BAOAB (B. Leimkuhler and C. Matthews, Appl. Math. Res. Express 2013, 34), whose averages of positions
                 are those of the temperature to fourth order in the time step near a minimum
    nose-hoover  a chain of three, the steps of ASE's ``NoseHooverChainNVT`` (M. E. Tuckerman, J. Alejandre, R.
                 López-Rendón, A. L. Jochim, G. J. Martyna, J. Phys. A 39, 5629 (2006))

Random numbers follow from seed and step: a trajectory does not depend on what shares its batch, and goes on from a
`Phase` as if it had never stopped. Times and velocities are in the units of ASE, √(u/eV) Å and √(eV/u).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from ase.units import fs, kB
from numpy.typing import NDArray
from torch import Tensor

from dpa4_core.data.structures import StructureError, System
from dpa4_core.data.system import standard_masses
from dpa4_core.md.settings import MDSettings
from dpa4_core.relax.batch_state import BatchState

CHAIN = 3
"""Variables of a Nosé–Hoover chain."""
_CUBE_ROOT = 2 ** (1 / 3)
_YOSHIDA = (1 / (2 - _CUBE_ROOT), -_CUBE_ROOT / (2 - _CUBE_ROOT), 1 / (2 - _CUBE_ROOT))
"""Parts of a step of the chain, to fourth order (H. Yoshida, Phys. Lett. A 150, 262 (1990))."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Phase:
    """A moment of a trajectory, from which it goes on.

    Attributes:
        step: made so far.
        positions: [n, 3] Å, not folded back into the cell.
        velocities: [n, 3], in the unit of ASE.
        chain: [2, `CHAIN`] coordinates and momenta of a Nosé–Hoover chain; zeros without one.
    """

    step: int
    positions: Array
    velocities: Array
    chain: Array = field(default_factory=lambda: np.zeros((2, CHAIN)))


class Frame(NamedTuple):
    """What is kept of a moment: positions [n, 3] Å in float32, not folded back; K; potential energy, eV."""

    positions: NDArray[np.float32]
    temperature: float
    energy: float


@dataclass(frozen=True, eq=False)
class Course:
    """A trajectory on its way.

    Attributes:
        settings: of the motion.
        begin: where it starts.
        n_steps: that are made.
        frames: what was kept so far.
        work: of the forces along the path before ``begin``, eV.
    """

    settings: MDSettings
    begin: Phase
    n_steps: int
    frames: list[Frame] = field(default_factory=list)
    work: float = 0.0

    def keeps(self, n_steps: int) -> bool:
        """Whether the moment after ``n_steps`` is kept; the first one is where the trajectory before ended."""
        return n_steps > 0 and (self.begin.step + n_steps) % self.settings.every == 0


@dataclass(frozen=True)
class DynamicsState(BatchState, per_atom=("velocities", "way")):
    """Velocities and thermostats; at rest where nothing has dynamics.

    Attributes:
        velocities: [n_atoms, 3].
        eta, p_eta: [n_systems, `CHAIN`] coordinates and momenta of the chains.
        under_way: [n_systems] bool, whether half of a step was made.
        way: [n_atoms, 3] Å, how far the last step led.
        work: [n_systems] eV, of the forces along the path, Σ ½ (F + F′)·Δr over the steps.
    """

    velocities: Tensor
    eta: Tensor
    p_eta: Tensor
    under_way: Tensor
    way: Tensor
    work: Tensor


def masses_of(system: System) -> Array:
    """[n] u."""
    return standard_masses(system.numbers) if system.masses is None else system.masses


def n_free(system: System) -> int:
    """Degrees of freedom: those of the total momentum are not among them, unless fixed atoms hold it."""
    return int((~system.fixed).sum()) - (0 if system.fixed.any() else 3)


def first_phase(system: System, settings: MDSettings) -> Phase:
    """The structure with velocities of the Maxwell–Boltzmann distribution, those that `dpa4_core.md` draws: without
    total momentum, scaled to exactly the temperature.

    Raises:
        StructureError: nothing can move.
    """
    if n_free(system) < 1:
        raise StructureError("nothing can move: all atoms are fixed, or there is one atom only; make a supercell")
    masses = masses_of(system)[:, None]
    rng = np.random.default_rng([settings.seed, 0])
    momenta = rng.standard_normal(system.positions.shape) * np.sqrt(masses * kB * settings.temperature)
    momenta[system.fixed] = 0.0
    if not system.fixed.any():
        momenta -= masses * momenta.sum(axis=0) / masses.sum()
    now = float((momenta**2 / masses).sum()) / (n_free(system) * kB)
    if now > 0:
        momenta *= np.sqrt(settings.temperature / now)
    return Phase(0, system.positions.copy(), momenta / masses)


def chain_energy(chain: Array, n_free: int, settings: MDSettings) -> float:
    """Of a Nosé–Hoover ``chain`` [2, `CHAIN`] on ``n_free`` degrees of freedom, eV; with it the energy is conserved."""
    thermal, shares = kB * settings.temperature, np.array([n_free, *[1] * (CHAIN - 1)])
    inertia = thermal * (settings.thermostat_fs * fs) ** 2 * shares
    return float((chain[1] ** 2 / (2 * inertia) + thermal * shares * chain[0]).sum())


class Drive:
    """What moves the atoms of the systems of a batch that have dynamics.

    Args:
        courses: of every system, None for one that has none.
        systems: of the batch.
        device: of the batch.

    Attributes:
        on: [n_systems] bool, which systems it moves.
        everyone: whether it moves all of them.
    """

    def __init__(self, courses: Sequence[Course | None], systems: Sequence[System], device: torch.device) -> None:
        def tensor(values: Sequence[float] | Array) -> Tensor:
            return torch.from_numpy(np.asarray(values, dtype=np.float64)).to(device)

        settings = [course.settings if course else None for course in courses]
        counts = [system.n_atoms for system in systems]
        self._courses, self._counts, self._device = courses, counts, device
        self._system_idx = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).to(device)
        self.everyone = all(settings)
        self.on = tensor([one is not None for one in settings]) > 0
        self._chain = tensor([one is not None and one.integrator == "nose-hoover" for one in settings]) > 0
        self._random = tensor([one is not None and one.integrator == "langevin" for one in settings]) > 0
        self._any_chain, self._any_random = bool(self._chain.any()), bool(self._random.any())
        self._free_drift = tensor([0.0 if system.fixed.any() else 1.0 for system in systems])
        self._dt = tensor([one.timestep_fs * fs if one else 0.0 for one in settings])
        self._kT = tensor([kB * one.temperature if one else 1.0 for one in settings])
        friction = [one.friction_per_ps * one.timestep_fs / 1000 if one else 0.0 for one in settings]
        self._kept = torch.where(self._random, torch.exp(-tensor(friction)), 1.0)
        self._n_free = tensor([max(1, n_free(system)) for system in systems])
        tau = tensor([one.thermostat_fs * fs if one else 1.0 for one in settings])
        inertia = (self._kT * tau**2)[:, None].repeat(1, CHAIN)
        inertia[:, 0] *= self._n_free
        self._inertia = inertia
        self._mass = tensor(np.concatenate([masses_of(system) for system in systems]))[:, None]
        self._total_mass = self._sum(self._mass)
        self._moves = tensor(np.concatenate([~system.fixed for system in systems]))

    def arrive(self, state: DynamicsState, forces: Tensor) -> DynamicsState:
        """The end of a step, by the ``forces`` [n_atoms, 3] in eV/Å where it led."""
        half = 0.5 * torch.where(state.under_way & self.on, self._dt, 0.0)
        state = dataclasses.replace(
            state,
            velocities=state.velocities + half[self._system_idx, None] * forces / self._mass,
            work=state.work + self._half_work(forces, state.way),
        )
        return self._thermostat(state, self._chain & state.under_way) if self._any_chain else state

    def depart(self, state: DynamicsState, forces: Tensor, n_steps: Sequence[int]) -> tuple[DynamicsState, Tensor]:
        """The beginning of the next step, and how far it leads, [n_atoms, 3] Å.

        Args:
            state: on arrival.
            forces: [n_atoms, 3] eV/Å.
            n_steps: of every system, made since it joined.
        """
        if self._any_chain:
            state = self._thermostat(state, self._chain)
        dt = torch.where(self.on, self._dt, 0.0)[self._system_idx, None]
        velocities = state.velocities + 0.5 * dt * forces / self._mass
        way = 0.5 * dt * velocities
        if self._any_random:
            kept = self._kept[self._system_idx, None]
            velocities = kept * velocities + (1 - kept**2).sqrt() * self._noise(n_steps)
        way = way + 0.5 * dt * velocities
        state = dataclasses.replace(
            state,
            velocities=velocities,
            under_way=torch.ones_like(state.under_way),
            way=way,
            work=state.work + self._half_work(forces, way),
        )
        return state, way

    def temperature(self, state: DynamicsState) -> Tensor:
        """Of the motion, [n_systems] K; 0 where there is none."""
        return torch.where(self.on, self._twice_kinetic(state.velocities) / (self._n_free * kB), 0.0)

    def _twice_kinetic(self, velocities: Tensor) -> Tensor:
        return self._sum((self._mass * velocities**2).sum(1, keepdim=True))[:, 0]

    def _half_work(self, forces: Tensor, way: Tensor) -> Tensor:
        return 0.5 * self._sum((forces * way).sum(1, keepdim=True))[:, 0]

    def _sum(self, values: Tensor) -> Tensor:
        """Sums of ``values`` [n_atoms, k] in every system."""
        return values.new_zeros(len(self._counts), values.shape[1]).index_add(0, self._system_idx, values)

    def _noise(self, n_steps: Sequence[int]) -> Tensor:
        """Random velocities [n_atoms, 3] of the temperature, without total momentum."""
        drawn = np.zeros((len(self._system_idx), 3))
        first = 0
        for course, n_atoms, made in zip(self._courses, self._counts, n_steps, strict=True):
            if course is not None and course.settings.integrator == "langevin":
                rng = np.random.default_rng([course.settings.seed, 2, course.begin.step + made])
                drawn[first : first + n_atoms] = rng.standard_normal((n_atoms, 3))
            first += n_atoms
        width = (self._kT[self._system_idx, None] / self._mass).sqrt()
        noise = self._moves * width * torch.from_numpy(drawn).to(self._device)
        drift = self._free_drift[:, None] * self._sum(self._mass * noise) / self._total_mass
        return noise - drift[self._system_idx]

    def _thermostat(self, state: DynamicsState, on: Tensor) -> DynamicsState:
        """Half a step of the chains of the systems where ``on`` holds."""
        eta, p_eta = [list(part.unbind(1)) for part in (state.eta, state.p_eta)]
        inertia, scale = self._inertia.unbind(1), torch.ones_like(self._dt)
        kinetic = self._twice_kinetic(state.velocities)

        def push(place: int, time: Tensor) -> None:
            drag = 1.0 if place == CHAIN - 1 else torch.exp(-0.25 * time * p_eta[place + 1] / inertia[place + 1])
            excess = (
                kinetic * scale**2 - self._n_free * self._kT
                if place == 0
                else p_eta[place - 1] ** 2 / inertia[place - 1] - self._kT
            )
            p_eta[place] = (p_eta[place] * drag + 0.5 * time * excess) * drag

        for weight in _YOSHIDA:
            time = 0.5 * weight * self._dt
            for place in reversed(range(CHAIN)):
                push(place, time)
            for place in range(CHAIN):
                eta[place] = eta[place] + time * p_eta[place] / inertia[place]
            scale = scale * torch.exp(-time * p_eta[0] / inertia[0])
            for place in range(CHAIN):
                push(place, time)
        scale = torch.where(on, scale, 1.0)
        return dataclasses.replace(
            state,
            velocities=scale[self._system_idx, None] * state.velocities,
            eta=torch.where(on[:, None], torch.stack(eta, 1), state.eta),
            p_eta=torch.where(on[:, None], torch.stack(p_eta, 1), state.p_eta),
        )


def at_start(courses: Sequence[Course | None], systems: Sequence[System], device: torch.device) -> DynamicsState:
    """The state of systems that join a batch."""

    def tensor(array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    velocities = [
        course.begin.velocities if course else np.zeros((system.n_atoms, 3))
        for course, system in zip(courses, systems, strict=True)
    ]
    chains = np.stack([course.begin.chain if course else np.zeros((2, CHAIN)) for course in courses], axis=1)
    return DynamicsState(
        velocities=tensor(np.concatenate(velocities)),
        eta=tensor(chains[0]),
        p_eta=tensor(chains[1]),
        under_way=torch.zeros(len(systems), dtype=torch.bool, device=device),
        way=tensor(np.zeros((sum(system.n_atoms for system in systems), 3))),
        work=tensor(np.array([course.work if course else 0.0 for course in courses])),
    )

"""The structures that are relaxed together: their state, a force call for all, a step for all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from ase.data import covalent_radii
from numpy.typing import NDArray
from torch import Tensor

from dpa4_core.data.graph import Graph
from dpa4_core.data.skin_list import SkinList
from dpa4_core.data.structures import System
from dpa4_core.potential import Members, Output, PotentialLike
from dpa4_core.relax.cell_filter import (
    DeformedSystems,
    GeneralisedForces,
    Geometry,
    displace,
    generalised_forces,
    geometry,
)
from dpa4_core.relax.chain import Coupling
from dpa4_core.relax.dynamics import Drive, Phase, at_start
from dpa4_core.relax.limits import MAX_FORCE, Limits
from dpa4_core.relax.method import Bands, Paths, Point
from dpa4_core.relax.optimizer import LBFGS, ROWS, optimizer_init, optimizer_step
from dpa4_core.relax.preconditioner import Preconditioner, preconditioner
from dpa4_core.relax.projection import Projection
from dpa4_core.relax.springs import SpringOptions, springs
from dpa4_core.relax.state import Found, Motion, Snapshot, Statistics, Task

SPRINGS = SpringOptions()

REST = 0.5
"""Of ``fmax``; an image of a band with smaller forces stays where it is, which costs no force call, until moves of its
neighbours have turned its tangent so that its forces are larger."""

SKIN = 0.8
"""Å; the edges within it are dropped before every force call, so it costs the network nothing.

On a busy CPU core 16 small cells (130 atoms) took 25 ms a step with a search every time and 14 ms with one search of
each system in 15 to 20 steps, beside 1400 ms for the network; on a GPU a search by vesin is a copy to the host.
"""


class Batch:
    """Tasks that share their force calls, each with its own options; they join before one and leave after one.

    A task is one system of the batch, a band as many as it has images that move.

    Args:
        potential: what gives the forces.
        crowding: whether `Statistics` say how near atoms in motion are to each other.

    """

    def __init__(self, potential: PotentialLike, *, crowding: bool = False) -> None:
        self.potential, self._looks_at_crowding = potential, crowding
        self.device = potential.device
        self.limits = Limits.of([])
        self.tasks: list[Task] = []
        self._motion: Motion | None = None
        self._drive: Drive | None = None
        self._neighbours = SkinList(potential.cutoff, SKIN, potential.device)

    @property
    def n_atoms(self) -> int:
        return sum(task.n_atoms for task in self.tasks)

    def join(self, tasks: Sequence[Task]) -> None:
        """Add tasks at rest; their first force call is the next one."""
        if not tasks:
            return
        self._neighbours.join([system for task in tasks for system in task.systems])
        motion = self._at_rest(tasks)
        self._motion = self._motion.join(motion) if self._motion else motion
        self._index(self.tasks + list(tasks))

    def leave(self, finished: NDArray[np.bool_]) -> None:
        """Remove the tasks where ``finished`` [n_tasks] holds."""
        keep = torch.from_numpy(~np.repeat(finished, self._n_systems)).to(self.device)
        self._neighbours.leave(keep)
        self._motion = self._state.select(keep[self._system_idx], keep)
        self._index([task for task, gone in zip(self.tasks, finished, strict=True) if not gone])

    def compute(self) -> Statistics:
        """One force call."""
        state, system_idx = self._state, self._system_idx
        at = geometry(state.systems, system_idx)
        graph = self._neighbours.graph(at.positions, at.cell)
        out = self._computed(graph)

        moves = state.systems.cell_moves
        squares = out.forces.square().sum(1)
        stress_size = torch.where(moves, out.stress.abs().sum((1, 2)), 0.0)
        checksum = out.energy.index_add(0, system_idx, squares)
        good = torch.isfinite(checksum + stress_size)
        only_stress_bad = torch.isfinite(checksum) & ~torch.isfinite(stress_size)
        forces = torch.where(state.fixed | ~good[system_idx, None], 0.0, out.forces)
        stress = torch.where((moves & good)[:, None, None], out.stress, 0.0)
        volume = graph.volume()
        slope = generalised_forces(
            state.systems, at, forces, stress, system_idx, volume=volume, pressure=self._pressure
        )
        slope = GeneralisedForces(self._projection.atoms(slope.forces), self._projection.cells(slope.cell_forces))
        residual, climbing, turned = slope.forces, state.climbing, state.turned
        tangent, shift = state.tangent, state.shift
        if self._coupling is not None:
            coupled = self._coupling.forces(at.positions, slope.forces, out.energy, state.fixed, climbing)
            slope, residual, climbing = slope._replace(forces=coupled.forces), coupled.residual, coupled.climbing
            tangent, shift = coupled.tangent, coupled.shift
            assert self._bands is not None
            turned = self._bands.largest((climbing != state.climbing).double()) > 0

        dynamics, temperature, crowding = state.dynamics, torch.zeros_like(volume), torch.zeros_like(volume)
        if self._drive is not None:
            dynamics = self._drive.arrive(dynamics, slope.forces)
            temperature = self._drive.temperature(dynamics)
            crowding = _crowding(graph) if self._looks_at_crowding else crowding

        lonely = _lonely_atoms(graph)
        n_lonely = torch.where(state.n_lonely < 0, lonely, state.n_lonely)
        rows = slope.cell_forces.square().sum(2).amax(1)
        now = Snapshot(
            positions=at.positions,
            forces=out.forces,
            cell=at.cell,
            stress=out.stress,
            energy=out.energy,
            enthalpy=out.energy + torch.where(moves, self._pressure * volume, 0.0),
            fmax=_segment_max(residual.square().sum(1), system_idx, rows).sqrt(),
            **_of_members(out.each()),
        )
        max_force = _segment_max(squares, system_idx, torch.zeros_like(volume)).sqrt()
        better = good & (max_force <= MAX_FORCE) & (now.enthalpy < state.best.enthalpy)
        if self._bands is not None:
            ill = (~good | (max_force > MAX_FORCE)).double()
            better = torch.where(self._bands.images, self._bands.largest(ill) == 0, better)
        self._motion = dataclasses.replace(
            state,
            n_calls=state.n_calls + (~state.resting).long(),
            n_lonely=n_lonely,
            climbing=climbing,
            turned=turned,
            tangent=tangent,
            shift=shift,
            forces=slope.forces,
            cell_forces=slope.cell_forces,
            dynamics=dynamics,
            now=now,
            best=state.best.replace_where(now, better[system_idx], better),
        )
        strain = state.strain + state.systems.log_deformation
        statistics = (  # in the order of Statistics
            state.n_steps.double(),
            out.energy,
            now.fmax,
            torch.where(good, max_force, torch.nan),
            volume,
            torch.exp(strain.diagonal(dim1=1, dim2=2).sum(1)),
            torch.linalg.matrix_norm(strain),
            (~only_stress_bad).double(),
            (lonely - n_lonely).clamp(min=0).double(),
            self._span(at, graph.pbc),
            temperature,
            crowding,
        )
        starts = np.concatenate([[0], np.cumsum(self._n_systems)[:-1]])
        return Statistics(*np.maximum.reduceat(torch.stack(statistics).cpu().numpy(), starts, axis=1))

    def _computed(self, graph: Graph) -> Output:
        """What the potential says; of images of bands that rest, what it said when they had come there."""
        state = self._state
        if self._bands is None or not bool(state.resting.any()):
            return self.potential.compute(graph)
        moved = ~state.resting
        new, atoms = self.potential.compute(graph.select(moved)), moved[self._system_idx]
        now, fresh = state.now, new.each()

        def whole(old: Tensor, rows: Tensor, mask: Tensor) -> Tensor:
            out = old.clone()
            out[mask] = rows
            return out

        nothing = torch.full_like(now.energy, torch.nan)
        members = Members(
            whole(now.member_energy, fresh.energy, moved),
            whole(now.member_forces, fresh.forces, atoms),
            whole(now.member_stress, fresh.stress, moved),
        )
        return Output(
            energy=whole(now.energy, new.energy, moved),
            forces=whole(now.forces, new.forces, atoms),
            stress=whole(now.stress, new.stress, moved),
            members=members,
            atom_energies=nothing[self._system_idx],
            virial=nothing[:, None, None].expand(-1, 3, 3),
        )

    def step(self) -> None:
        """Move every system by the forces of the last force call: by one step of its optimiser, or in time."""
        drive = self._drive
        if drive is None:
            self._descend()
            return
        before = self._state
        steps = before.n_steps.tolist()
        dynamics, way = drive.depart(before.dynamics, before.forces, steps)
        if not drive.everyone:
            self._descend()
        after = self._state
        atoms = drive.on[self._system_idx, None]
        positions = torch.where(atoms, before.systems.positions + way, after.systems.positions)
        self._motion = dataclasses.replace(
            after,
            n_steps=before.n_steps + 1,
            systems=dataclasses.replace(after.systems, positions=positions),
            dynamics=dynamics,
        )

    def _descend(self) -> None:
        """One step of the optimiser for every system."""
        state, system_idx = self._state, self._system_idx
        systems = state.systems
        cell = systems.log_deformation * systems.n_atoms[:, None, None]
        at = Point(systems.positions, cell, state.forces, state.cell_forces, state.now.enthalpy)
        quiet, bands = state.now.fmax < self._rest_below, self._bands
        shift = torch.where(quiet, 0.0, state.shift)  # an image that rests does not hold up the others
        paths = None if bands is None else Paths(state.turned, state.climbing == 2, state.tangent, shift)
        move = optimizer_step(state.optimizer, at, self._springs, system_idx, systems.n_atoms, bands, paths)
        displacements = self._projection.atoms(move.displacements)
        resting = quiet & (move.state.method == ROWS.index(LBFGS))
        displacements = torch.where(resting[system_idx, None], 0.0, displacements)
        strain = self._projection.cells(move.cell_displacements) / systems.n_atoms[:, None, None]
        log_deformation = systems.log_deformation + strain
        if self._any_fixed:
            positions = displace(systems, log_deformation, displacements, state.fixed, system_idx)
        else:
            positions = systems.positions + displacements
        self._motion = dataclasses.replace(
            state,
            n_steps=state.n_steps + 1,
            resting=resting,
            systems=dataclasses.replace(systems, positions=positions, log_deformation=log_deformation),
            optimizer=move.state,
        )

    def positions(self, place: int) -> NDArray[np.float32]:
        """Of a task of one system, at the last force call."""
        row = sum(self._n_systems[:place])
        return self._state.now.positions[self._system_idx == row].float().cpu().numpy().copy()

    def _phase(self, row: int, begin: Phase) -> Phase:
        """Of a system in motion, with all that its next step depends on."""
        state, atoms = self._state, self._system_idx == row
        dynamics = state.dynamics
        chain = torch.stack((dynamics.eta[row], dynamics.p_eta[row]))
        made = int(state.n_steps[row])
        positions, velocities = _array(state.now.positions[atoms]), _array(dynamics.velocities[atoms])
        return Phase(begin.step + made, positions, velocities, _array(chain))

    def found(self, place: int, *, best: bool) -> list[Found]:
        """The last or the best force call of each system of one task."""
        first = sum(self._n_systems[:place])
        found = [self._found(first + i, one, best=best) for i, one in enumerate(self.tasks[place].systems)]
        course = self.tasks[place].course
        if course is None:
            return found
        work = float(self._state.dynamics.work[first])
        return [found[0]._replace(phase=self._phase(first, course.begin), work=work)]

    def _found(self, place: int, system: System, *, best: bool) -> Found:
        state = self._state
        chosen = state.best if best else state.now
        atoms = self._system_idx == place
        known = bool(torch.isfinite(chosen.enthalpy[place]))
        return Found(
            system=dataclasses.replace(
                system, positions=_array(chosen.positions[atoms]), cell=_array(chosen.cell[place])
            ),
            energy=float(chosen.energy[place]),
            forces=_array(chosen.forces[atoms]) if known else None,
            stress=_array(chosen.stress[place]) if known and system.periodic else None,
            fmax=float(chosen.fmax[place]),
            n_steps=int(state.n_steps[place]),
            n_calls=int(state.n_calls[place]),
            members=(
                _array(chosen.member_energy[place]),
                _array(chosen.member_forces[atoms]),
                _array(chosen.member_stress[place]),
            ),
        )

    @property
    def _state(self) -> Motion:
        assert self._motion is not None, "a batch without systems has no state"
        return self._motion

    def _index(self, tasks: list[Task]) -> None:
        self.tasks = tasks
        self._n_systems = [len(task.systems) for task in tasks]
        rows = [task for task in tasks for _ in task.systems]
        counts = torch.tensor([system.n_atoms for task in tasks for system in task.systems], dtype=torch.int64)
        self._system_idx = torch.repeat_interleave(torch.arange(len(rows)), counts).to(self.device)
        self._projection = Projection([task.freedom for task in rows], counts.tolist(), self.device)
        self.limits = Limits.of(tasks)
        self._pressure = self._tensor(np.array([task.moves.pressure for task in rows], dtype=np.float64))
        self._coupling, self._bands = None, None
        courses = [task.course for task in rows]
        systems = [system for task in tasks for system in task.systems]
        self._drive = Drive(courses, systems, self.device) if any(courses) else None
        chains = [task.chain for task in tasks]
        if any(chains):
            self._coupling = Coupling(chains, counts.tolist(), self.device)
            places = np.repeat(np.arange(len(tasks)), self._n_systems)
            images = np.array([task.chain is not None for task in rows])
            self._bands = Bands(self._tensor(places), self._tensor(images))
        below = [REST * task.moves.fmax if task.chain and task.moves.optimizer != "fire" else 0.0 for task in rows]
        self._rest_below = self._tensor(np.array(below, dtype=np.float64))
        self._any_fixed = any(bool(task.system.fixed.any()) for task in tasks)

    def _springs(self) -> Preconditioner:
        """How stiff the systems are at the last force call."""
        state = self._state
        return preconditioner(springs(self._neighbours.latest, ~state.fixed, state.systems.cell_moves, options=SPRINGS))

    def _span(self, at: Geometry, pbc: Tensor) -> Tensor:
        index = self._system_idx[:, None].expand(-1, 3)
        low = torch.full_like(at.cell[:, 0], torch.inf).scatter_reduce(0, index, at.positions, "amin")
        high = torch.full_like(at.cell[:, 0], -torch.inf).scatter_reduce(0, index, at.positions, "amax")
        vectors = at.cell.abs().amax((1, 2))
        return torch.where(pbc.all(1), vectors, torch.maximum(vectors, (high - low).amax(1)))

    def _at_rest(self, tasks: Sequence[Task]) -> Motion:
        systems = [system for task in tasks for system in task.systems]
        tasks = [task for task in tasks for _ in task.systems]
        n_systems = len(systems)
        positions = self._tensor(np.concatenate([system.positions for system in systems]))
        cell = self._tensor(np.stack([system.cell for system in systems]))
        zeros, zeros_cell = torch.zeros_like(positions), torch.zeros_like(cell)
        nothing = torch.full((n_systems,), torch.nan, dtype=torch.float64, device=self.device)
        unknown = Snapshot(
            positions=positions,
            forces=torch.full_like(positions, torch.nan),
            cell=cell,
            stress=torch.full_like(cell, torch.nan),
            energy=nothing,
            enthalpy=torch.full_like(nothing, torch.inf),
            fmax=nothing,
            **_of_members(self._no_members(len(positions), n_systems)),
        )
        return Motion(
            fixed=self._tensor(np.concatenate([system.fixed for system in systems])),
            forces=zeros,
            cell_forces=zeros_cell,
            n_steps=self._tensor(np.array([task.n_steps for task in tasks], dtype=np.int64)),
            n_calls=self._tensor(np.array([task.n_calls for task in tasks], dtype=np.int64)),
            n_lonely=torch.full((n_systems,), -1, dtype=torch.int64, device=self.device),
            climbing=torch.zeros(n_systems, dtype=torch.int64, device=self.device),
            turned=torch.zeros(n_systems, dtype=torch.bool, device=self.device),
            resting=torch.zeros(n_systems, dtype=torch.bool, device=self.device),
            tangent=zeros,
            shift=torch.zeros(n_systems, dtype=torch.float64, device=self.device),
            strain=self._tensor(np.stack([np.zeros((3, 3)) if task.strain is None else task.strain for task in tasks])),
            systems=DeformedSystems(
                positions=positions,
                log_deformation=zeros_cell,
                reference_cell=cell,
                cell_moves=self._tensor(np.array([task.system.periodic and task.moves.cell_moves for task in tasks])),
                n_atoms=self._tensor(np.array([system.n_atoms for system in systems], dtype=np.float64)),
            ),
            dynamics=at_start([task.course for task in tasks], systems, self.device),
            optimizer=optimizer_init([task.moves.optimizer_settings for task in tasks], len(positions), self.device),
            now=unknown,
            best=unknown,
        )

    def _no_members(self, n_atoms: int, n_systems: int) -> Members:
        n = len(getattr(self.potential, "members", ()))
        shapes = ((n_systems, n), (n_atoms, n, 3), (n_systems, n, 3, 3))
        return Members(*(torch.full(shape, torch.nan, dtype=torch.float64, device=self.device) for shape in shapes))

    def _tensor(self, array: NDArray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def _of_members(members: Members) -> dict[str, Tensor]:
    """Fields of a `Snapshot`."""
    return {f"member_{name}": value for name, value in members._asdict().items()}


def _array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.cpu().numpy().copy()


def _segment_max(values: Tensor, system_idx: Tensor, at_least: Tensor) -> Tensor:
    """Largest of ``values`` [n_atoms] in every system, not below ``at_least`` [n_systems]."""
    return at_least.scatter_reduce(0, system_idx, values, "amax")


def _crowding(graph: Graph) -> Tensor:
    """How near atoms are to each other, [n_systems], see `Statistics`."""
    radii = torch.from_numpy(covalent_radii).to(graph.device)[graph.atomic_numbers]
    ratio = (radii[graph.src] + radii[graph.dst]) / torch.linalg.vector_norm(graph.edge_vectors(), dim=1)
    nothing = ratio.new_zeros(graph.n_systems)
    return nothing.scatter_reduce(0, graph.system_idx[graph.dst], ratio, "amax")


def _lonely_atoms(graph: Graph) -> Tensor:
    """Number of atoms without any edge, [n_systems] int64."""
    lonely = (torch.bincount(graph.dst, minlength=graph.n_atoms) == 0).long()
    return torch.zeros(graph.n_systems, dtype=torch.int64, device=graph.device).index_add(0, graph.system_idx, lonely)

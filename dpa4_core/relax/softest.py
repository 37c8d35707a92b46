"""The softest direction of a structure at rest, from a few force calls.

Lanczos steps on B⁻¹H, with the Hessian H from differences of forces and the springs B of `springs`, which make all
stable directions about equally stiff. Every force call counts for all symmetry operations of the structure: where it
tells H·x, it tells H·(g x) = g (H·x) for each operation g. So a single call gives all of H in a cubic perovskite, and
few calls where symmetry could hold a structure on a saddle point. Directions that keep the symmetry are searched, too:
a relaxation may come to rest on a saddle point among them.

Coordinates are displacements [3·n_atoms] and n_atoms × strain [9], as in `cell_filter`, at the structure at rest.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betainc

from dpa4_core.data.deviates import random_displacements, random_strain
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import System
from dpa4_core.relax.cell_filter import DeformedSystems, displace, generalised_forces, geometry
from dpa4_core.relax.operations import Operations, operations
from dpa4_core.relax.preconditioner import preconditioner
from dpa4_core.relax.springs import SpringOptions, springs

Vector = NDArray[np.float64]

SPRING_CUTOFF = 6.0
"""Å; springs longer than this weigh nothing."""

_ATOMS_AT_ONCE = 16
"""Atoms of a structure whose operations are tried all at once; those of larger ones in parts, in bounded memory."""


@dataclass(frozen=True)
class SearchOptions:
    """Of the search.

    Attributes:
        push: Å, longest displacement of an atom, and largest n_atoms × strain; eV/Å² from differences of float32
            forces are then good to 0.01.
        downhill: eV/Å²; a curvature below minus this is a way down.
        unseen: how stiff directions are taken to be that no call has looked at, when the search asks whether they could
            turn the curvature negative: this part of the median of the known ones (in units of the springs) where half
            of all directions or more are known, less where fewer are, in the ratio of known to unknown ones.
        sure: the same for an answer that is called sure.
        chance: of having overlooked a way down, were there one, the largest for an answer that is called sure.
        unsettled: the same after the first call, when nothing tells whether the lowest stiffness has settled.
        settled: a lowest stiffness that the last call has lowered by a larger part is still on its way.
        max_calls: force calls.
        symprec: Å within which the operations hold.
        exact: error of the springs, relative, up to which an operation counts.
        alike: curvatures that differ by less, relative, are those of equivalent directions.
        level: eV/Å, a mean force below it does not tell two senses of a direction apart.
        same: smallest weight of a new direction, as a part of the largest.

    """

    push: float = 0.01
    downhill: float = 0.02
    unseen: float = 2.0
    sure: float = 0.4
    chance: float = 0.4
    unsettled: float = 0.6
    settled: float = 0.25
    max_calls: int = 16
    symprec: float = 0.01
    exact: float = 0.03
    alike: float = 0.1
    level: float = 1e-3
    same: float = 1e-3


class Space:
    """What may move around one structure at rest, and how stiff the springs make it.

    Args:
        system: the structure.
        cell: [9, 9] projection of the strains that are allowed; None if the cell stays.
        pressure: external pressure, eV/Å³.
        options: of the search.

    Attributes:
        n_directions: number of independent motions.
        operations: of the structure, on motions.

    """

    def __init__(
        self, system: System, cell: NDArray[np.float64] | None, pressure: float, options: SearchOptions
    ) -> None:
        self.system = system
        self._pressure = torch.tensor([pressure], dtype=torch.float64)
        n = system.n_atoms
        self.cell_moves = system.periodic and cell is not None
        strains = np.zeros((9, 9))
        every = operations(system, options.symprec)
        if self.cell_moves:
            assert cell is not None
            swap = np.arange(9).reshape(3, 3).T.ravel()
            symmetric = 0.5 * (np.eye(9) + np.eye(9)[swap])
            strains = cell @ symmetric
            every = every.keeping(strains)
        self._strains = strains
        self._free = ~system.fixed
        self._rigid = _rigid(system)
        n_strains = int(np.linalg.matrix_rank(strains))
        self.n_directions = int(self._free.sum()) + n_strains - self._rigid.shape[1]
        graph = build_graph([system], SPRING_CUTOFF)
        model = springs(graph, torch.from_numpy(self._free), torch.tensor([self.cell_moves]), options=SpringOptions())
        self._model, self._solver = model, preconditioner(model)
        self.operations = self._exact(every, options.exact)
        self._at_rest = DeformedSystems(
            positions=torch.from_numpy(system.positions),
            log_deformation=torch.zeros(1, 3, 3, dtype=torch.float64),
            reference_cell=torch.from_numpy(system.cell)[None],
            cell_moves=torch.tensor([self.cell_moves]),
            n_atoms=torch.tensor([float(n)], dtype=torch.float64),
        )
        self._system_idx = torch.zeros(n, dtype=torch.int64)

    def _exact(self, every: Operations, tolerance: float) -> Operations:
        """Those that the springs have, too: what holds within ``symprec`` only would tell wrong curvatures."""
        probe = np.random.default_rng(0).normal(size=3 * self.system.n_atoms + 9)
        probe[-9:] = self._strains @ probe[-9:]
        probe[:-9] *= self._free.ravel()
        stiff = self.stiffened(probe)
        images, expected = every.of(probe), every.of(stiff)
        n_parts = min(len(every), 1 + self.system.n_atoms // _ATOMS_AT_ONCE)
        parts = zip(np.array_split(images, n_parts), np.array_split(expected, n_parts), strict=True)
        wrong = [np.linalg.norm(self.stiffened(some) - out, axis=1) for some, out in parts]
        return every.only(np.concatenate(wrong) <= tolerance * np.linalg.norm(stiff))

    def allowed(self, vectors: Vector) -> Vector:
        """The part of ``vectors`` [..., 3·n_atoms + 9] that may move and is no rigid motion."""
        out = np.concatenate(
            [np.where(self._free.ravel(), vectors[..., :-9], 0.0), vectors[..., -9:] @ self._strains.T], -1
        )
        return out - (out @ self._rigid) @ self._rigid.T

    def random(self) -> Vector:
        """A vector [3·n_atoms + 9] of normal deviates, always the same for one structure."""
        return np.concatenate([random_displacements(self.system).ravel(), random_strain(self.system).ravel()])

    def reach(self, vector: Vector, length: float, strain: float) -> float:
        """How far a vector goes, in units of ``length`` Å of an atom or of a ``strain``; turned, it goes as far."""
        n = self.system.n_atoms
        atoms = np.linalg.norm(vector[:-9].reshape(n, 3), axis=1).max() / length
        return float(max(atoms, np.linalg.norm(vector[-9:]) / (n * strain)))

    def stiffened(self, vectors: Vector) -> Vector:
        """B times vectors [..., 3·n_atoms + 9]."""
        return _joined(*self._model.multiply(*_split(vectors)))

    def softened(self, vector: Vector) -> Vector:
        """B⁻¹ times a vector."""
        return _joined(*self._solver.solve(*_split(vector)))

    def moved(self, step: Vector) -> System:
        """The structure after a step."""
        atoms, strain = _split(step)
        strain = strain / self.system.n_atoms
        q = displace(self._at_rest, strain, atoms, torch.from_numpy(self.system.fixed), self._system_idx)
        there = geometry(self._deformed(strain, q), self._system_idx)
        return dataclasses.replace(self.system, positions=there.positions.numpy(), cell=there.cell[0].numpy())

    def forces(self, step: Vector, forces: Vector, stress: Vector | None) -> Vector:
        """Forces on the coordinates after ``step``, from those on atoms [n_atoms, 3] and the stress [3, 3]."""
        atoms, strain = _split(step)
        systems = self._deformed(strain / self.system.n_atoms, self._at_rest.positions + atoms)
        there = geometry(systems, self._system_idx)
        at = torch.from_numpy(np.where(self._free, forces, 0.0))
        tensor = torch.zeros(1, 3, 3, dtype=torch.float64) if stress is None else torch.from_numpy(stress)[None]
        volume = torch.tensor([dataclasses.replace(self.system, cell=there.cell[0].numpy()).volume])
        slope = generalised_forces(systems, there, at, tensor, self._system_idx, volume=volume, pressure=self._pressure)
        return _joined(*slope)

    def _deformed(self, strain: torch.Tensor, positions: torch.Tensor) -> DeformedSystems:
        rest = self._at_rest
        return DeformedSystems(positions, strain, rest.reference_cell, rest.cell_moves, rest.n_atoms)


class Softest:
    """The search around one structure at rest; asks for a force call and learns from it, in turn.

    Args:
        space: what may move.
        forces: [n_atoms, 3] eV/Å of the structure at rest.
        stress: [3, 3] eV/Å³ there; None without periodicity.
        options: of the search.

    Attributes:
        curvature: eV/Å², the lowest found; infinite before the first call.
        direction: [3·n_atoms + 9] along which it is; of several equivalent ones the one nearest to the first of all.
        finished: whether there is nothing more to ask.
        chance: that a way down, were there one, has been overlooked.
        sure: whether that is small, and what no call has looked at could not even hide a way down if it is much softer
            than expected.

    """

    def __init__(self, space: Space, forces: Vector, stress: Vector | None, *, options: SearchOptions) -> None:
        self._space = space
        self._options = options
        self._rest = space.forces(np.zeros(3 * space.system.n_atoms + 9), forces, stress)
        self.curvature = np.inf
        self.direction = np.zeros_like(self._rest)
        self.n_calls = 0
        self._lowest = np.inf  # in units of the springs
        self._known: list[tuple[Vector, ...]] = []
        self._step = np.zeros_like(self._rest)
        # as much of all motions in the metric of the springs, or more of soft ones: deviates of coordinates have a
        # hundred times as much of stiff ones
        self._first = space.allowed(space.softened(space.random()))
        self.finished = False
        self._propose(self._first, scale=1.0)
        self.chance = 0.0 if self.finished else 1.0  # nothing may move
        self.sure = self.finished

    @property
    def downhill(self) -> bool:
        """Whether a way down was found."""
        return self.curvature < -self._options.downhill

    def next(self) -> System:
        """The structure of the next force call."""
        return self._space.moved(self._step)

    def learn(self, forces: Vector, stress: Vector | None) -> None:
        """Take in the force call of `next`."""
        space, step = self._space, self._step
        hessian = space.allowed(self._rest - space.forces(step, forces, stress))
        softened = space.allowed(space.softened(hessian))
        images = space.operations.of(np.stack([step, space.stiffened(step), hessian, softened]))
        self._known.append(tuple(images.transpose(1, 0, 2)))
        self.n_calls += 1
        x, bx, hx, cx = (np.concatenate(parts).T for parts in zip(*self._known, strict=True))
        weight, mixing = np.linalg.eigh(x.T @ bx)
        kept = weight > self._options.same * weight[-1]
        mixing = mixing[:, kept] / np.sqrt(weight[kept])
        basis, stiff, force, soft = x @ mixing, bx @ mixing, hx @ mixing, cx @ mixing
        small = basis.T @ force
        small = 0.5 * (small + small.T)
        values, vectors = np.linalg.eigh(small)
        alike = vectors[:, values <= values[0] + self._options.alike * abs(values[0])]
        mix = alike @ (alike.T @ (stiff.T @ self._first))
        if not mix.any():  # the first direction knows nothing of them
            mix = alike[:, 0]
        self.direction = basis @ mix
        self.curvature = float(mix @ small @ mix / (self.direction @ self.direction))
        coupling = force - stiff @ small
        known, unknown = len(values), max(space.n_directions - len(values), 0)
        typical = max(float(np.median(values)), 1e-9)  # zero where no direction has a stiffness
        softer = max(unknown / known, 1.0) / typical if unknown else 0.0
        hidden = coupling.T @ (soft - basis @ small)

        def safe(unseen: float) -> bool:
            worst = small - softer / unseen * hidden
            return bool(values[0] > 0 and np.linalg.eigvalsh(0.5 * (worst + worst.T))[0] > 0)

        settled = self.n_calls == 1 or self._lowest - float(values[0]) < self._options.settled * float(values[0])
        done = settled and safe(self._options.unsettled if self.n_calls == 1 else self._options.unseen)
        self.chance = self._overlooked(small, hidden, stiff.T @ self._known[0][0].T) if unknown else 0.0
        self.sure = settled and safe(self._options.sure) and self.chance <= self._options.chance
        self._lowest = float(values[0])
        self.finished = self.downhill or done or self.n_calls >= self._options.max_calls
        if not self.finished:
            self._propose(softened - basis @ (stiff.T @ softened), scale=float(np.abs(softened).max()))

    def _overlooked(self, small: Vector, hidden: Vector, begun: Vector) -> float:
        """How likely the first direction, which is random, has as little of a way down as it must have to hide one.

        A direction v of negative curvature has the part a = −T⁻¹Rᵀv among the n known ones, with their stiffness T and
        the coupling R to all others. So the k images of the first direction hold no more of it than ``weight``, where
        as many random ones hold k / n_directions on average (after J. van Dorsselaer, M. Hochstenbach and H. van der
        Vorst, SIAM J. Matrix Anal. Appl. 22, 837 (2000)).

        Args:
            small: [n, n] T.
            hidden: [n, n] RᵀB⁻¹R.
            begun: [n, k] images of the first direction in terms of the known ones.

        """
        values, vectors = np.linalg.eigh(small)
        if values[0] <= 0:
            return 1.0
        left, size, _ = np.linalg.svd(begun, full_matrices=False)
        start = left[:, size**2 > self._options.same * size[0] ** 2]
        reach = vectors @ ((vectors.T @ start) / values[:, None])
        weight = float(np.linalg.eigvalsh(reach.T @ hidden @ reach)[-1])
        k, others = start.shape[1], self._space.n_directions - start.shape[1]
        return float(betainc(0.5 * k, 0.5 * others, min(max(weight, 0.0), 1.0)))

    def _propose(self, direction: Vector, *, scale: float) -> None:
        """Ask for a call along ``direction``, unless it is nothing beside ``scale``."""
        self.finished = float(np.abs(direction).max()) <= 1e-3 * scale
        if self.finished:
            return
        balanced = self._balanced(direction)
        push = self._options.push
        self._step = balanced / self._space.reach(balanced, push, push / self._space.system.n_atoms)

    def _balanced(self, direction: Vector) -> Vector:
        """A direction with the same images, but the same weight in all directions that these span.

        A random direction may have so little of one kind of motion that its curvature drowns in the noise.
        """
        pushed = self._space.stiffened(direction)
        images, stiff = self._space.operations.of(direction), self._space.operations.of(pushed)
        weight, mixing = np.linalg.eigh(images @ stiff.T)
        kept = weight > self._options.same * weight[-1]
        basis = images.T @ (mixing[:, kept] / np.sqrt(weight[kept]))
        along = basis.T @ pushed
        return basis @ (along / np.sqrt(weight[kept]))

    def down(self, length: float, strain: float) -> System:
        """The structure a little way down: no atom by more than ``length`` Å, no strain of more than ``strain``."""
        direction = self.direction / self._space.reach(self.direction, length, strain)
        return self._space.moved(-direction if self._rest @ direction < -self._options.level * length else direction)


def _split(vectors: Vector) -> tuple[torch.Tensor, torch.Tensor]:
    whole = torch.from_numpy(np.ascontiguousarray(vectors))
    return whole[..., :-9].unflatten(-1, (-1, 3)), whole[..., -9:].unflatten(-1, (1, 3, 3))


def _joined(atoms: torch.Tensor, strain: torch.Tensor) -> Vector:
    return torch.cat((atoms.flatten(-2), strain.flatten(-3)), -1).numpy()


def _rigid(system: System) -> Vector:
    """Orthonormal rigid motions [3·n_atoms + 9, n] that cost no energy: none of a structure with fixed atoms."""
    n = system.n_atoms
    if system.fixed.any():
        return np.zeros((3 * n + 9, 0))
    motions = [np.tile(axis, (n, 1)) for axis in np.eye(3)]
    if not system.periodic:
        centred = system.positions - system.positions.mean(0)
        motions += [np.cross(axis, centred) for axis in np.eye(3)]
    left, size, _ = np.linalg.svd(np.stack([motion.ravel() for motion in motions], axis=1), full_matrices=False)
    left = left[:, size > 1e-6 * size[0]]
    return np.concatenate([left, np.zeros((9, left.shape[1]))])

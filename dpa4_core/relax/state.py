"""What is known about structures on their way, by the name of each number."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dpa4_core.data.structures import System
from dpa4_core.relax.batch_state import BatchState
from dpa4_core.relax.cell_filter import DeformedSystems
from dpa4_core.relax.chain import Chain
from dpa4_core.relax.dynamics import Course, DynamicsState, Phase
from dpa4_core.relax.optimizer import OptimizerState
from dpa4_core.relax.options import RelaxOptions
from dpa4_core.relax.projection import Freedom
from dpa4_core.relax.results import RelaxStep, Verdict
from dpa4_core.relax.softest import Softest

SINGLE_POINT = RelaxOptions(max_steps=0, relax_cell=False, check_minimum=False)


@dataclass(frozen=True)
class Task:
    """A structure on its way, or the images of a band, which join and leave a batch together.

    Attributes:
        key: what the caller calls it.
        structure: what came in.
        options: of its relaxation; None for a single point.
        system: the same in arrays, made exactly symmetric where symmetry is kept.
        freedom: what may move.
        trajectory: filled call by call, if asked for.
        at: where it goes on, if it has been in the batch before; else ``system``.
        n_steps, n_calls: made before it joins the batch, also in starts that memory cut short.
        n_records: entries of ``trajectory`` from before.
        strain: [3, 3] logarithm of the deformation before.
        check: of the minimum that it reached; None while it has reached none.
        chain: of a band, whose first moving image is ``system``; ``structure`` is the list of its images.
        course: of a structure in motion, which no optimiser moves.

    """

    key: Hashable
    structure: Any
    options: RelaxOptions | None
    system: System
    freedom: Freedom
    trajectory: list[RelaxStep] | None = None
    at: System | None = None
    n_steps: int = 0
    n_calls: int = 0
    n_records: int = 0
    strain: NDArray[np.float64] | None = None
    check: MinimumCheck | None = None
    chain: Chain | None = None
    course: Course | None = None

    @property
    def systems(self) -> tuple[System, ...]:
        """What joins the batch."""
        return self.chain.moving if self.chain else (self.at or self.system,)

    @property
    def n_atoms(self) -> int:
        """Of all that joins the batch."""
        return sum(system.n_atoms for system in self.systems)

    @property
    def moves(self) -> RelaxOptions:
        """How it moves; a single point does not."""
        return SINGLE_POINT if self.options is None else self.options

    @property
    def is_probe(self) -> bool:
        """Whether one force call is wanted, where forces need not vanish."""
        return self.options is None or (self.check is not None and not self.check.descending)


@dataclass(frozen=True)
class Snapshot(BatchState, per_atom=("positions", "forces", "member_forces")):
    """Geometry and results of a force call, in the units of `Output`.

    Attributes:
        positions: [n_atoms, 3].
        forces: [n_atoms, 3], as the potential gives them.
        cell: [n_systems, 3, 3].
        stress: [n_systems, 3, 3].
        energy: [n_systems].
        enthalpy: [n_systems] energy plus pressure × volume where the cell moves.
        fmax: [n_systems].
        member_energy, member_forces, member_stress: of each member of a committee, see `Members`.

    """

    positions: Tensor
    forces: Tensor
    cell: Tensor
    stress: Tensor
    energy: Tensor
    enthalpy: Tensor
    fmax: Tensor
    member_energy: Tensor
    member_forces: Tensor
    member_stress: Tensor


@dataclass(frozen=True)
class Motion(BatchState, per_atom=("forces", "fixed", "tangent")):
    """Everything that is carried from step to step.

    Attributes:
        systems: where the systems are.
        optimizer: velocities, step control, memory.
        now: the last force call.
        best: the force call of lowest enthalpy so far; the last good one of a band, where all images belong together.
        forces: [n_atoms, 3] eV/Å on the optimiser's coordinates.
        cell_forces: [n_systems, 3, 3] eV/Å on the optimiser's coordinates.
        fixed: [n_atoms, 3] bool, Cartesian coordinates that do not move.
        n_steps: [n_systems] steps made.
        n_calls: [n_systems] force calls made.
        n_lonely: [n_systems] atoms without neighbours at the first force call.
        climbing: [n_systems] 2 for an image that climbs, 1 for the others of its band, 0 where none climbs.
        resting: [n_systems] bool, images of a band that stayed where they were in the last step.
        turned: [n_systems] bool, bands in which ``climbing`` has changed with the last force call.
        tangent, shift: see `ChainForces`.
        strain: [n_systems, 3, 3] logarithm of the deformation before the reference cell.
        dynamics: velocities and thermostats of structures in motion.

    """

    systems: DeformedSystems
    optimizer: OptimizerState
    now: Snapshot
    best: Snapshot
    forces: Tensor
    cell_forces: Tensor
    fixed: Tensor
    n_steps: Tensor
    n_calls: Tensor
    n_lonely: Tensor
    climbing: Tensor
    turned: Tensor
    tangent: Tensor
    shift: Tensor
    resting: Tensor
    strain: Tensor
    dynamics: DynamicsState


class Statistics(NamedTuple):
    """What decides about every task after a force call, [n_tasks] each; of a band the largest of all images.

    Attributes:
        n_steps: steps made.
        energy: eV.
        fmax: eV/Å, on the optimiser's coordinates.
        max_force: eV/Å, on any atom; NaN if anything that the potential gave is not finite.
        volume: Å³; NaN without periodicity.
        volume_ratio: to the volume at the start.
        deformation: largest change of the logarithm of a length, about.
        has_stress: 0 where nothing but the stress of a moving cell is not finite, else 1.
        n_lost: atoms that had neighbours at the first force call and have none now.
        span: Å, longest lattice vector component, or extent of the atoms without periodicity.
        temperature: K, of structures in motion; else 0.
        crowding: of structures in motion, the largest sum of two covalent radii over the distance of the atoms; 0 where
            nothing moves, or nobody looks at it.

    """

    n_steps: NDArray[np.float64]
    energy: NDArray[np.float64]
    fmax: NDArray[np.float64]
    max_force: NDArray[np.float64]
    volume: NDArray[np.float64]
    volume_ratio: NDArray[np.float64]
    deformation: NDArray[np.float64]
    has_stress: NDArray[np.float64]
    n_lost: NDArray[np.float64]
    span: NDArray[np.float64]
    temperature: NDArray[np.float64]
    crowding: NDArray[np.float64]


class Found(NamedTuple):
    """A force call of one system, in eV, [n, 3] eV/Å, [3, 3] eV/Å³ and eV/Å.

    Energy and ``fmax`` are NaN and forces and stress None when no force call was good. ``members`` are energies,
    forces and stresses as `spread` takes them, ``phase`` the motion of a
    structure that moves and ``work`` that of the forces along its path, eV.
    """

    system: System
    energy: float
    forces: NDArray[np.float64] | None
    stress: NDArray[np.float64] | None
    fmax: float
    n_steps: int
    n_calls: int
    members: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    phase: Phase | None = None
    work: float = 0.0


@dataclass(frozen=True)
class MinimumCheck:
    """What the check of one structure has come to.

    Attributes:
        rest: where forces vanished.
        verdict: of the relaxation that led there.
        search: around it.
        descending: whether the structure is on its way down from there.
        n_calls: force calls of searches so far.
        n_descents: ways down so far.

    """

    rest: Found
    verdict: Verdict
    search: Softest
    descending: bool = False
    n_calls: int = 0
    n_descents: int = 0

"""Preconditioned L-BFGS for many systems at once.

The inverse Hessian starts from the springs of `springs` at the present geometry and learns from the last steps
by the two-loop recursion (Nocedal, Math. Comput. 35, 773, 1980). There is no line search, since a force call costs as
much as a step: a step that raises the energy is taken back and tried again from where it started, shorter and with
what it taught about the curvature.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dpa4_core.relax.batch_state import BatchState
from dpa4_core.relax.method import Point, Step, Systems


@dataclass(frozen=True)
class LbfgsOptions:
    """Parameters of L-BFGS.

    Attributes:
        memory: steps that are remembered, at most.
        reach: Å, the way of the atom that moves most after which a step is forgotten where the cell stays: an adsorbate
            that slides to another site is held otherwise there, and what it learned before misleads it.
        strain_per_step: 1/Å, the largest change of a component of the logarithm of the deformation in one step, per
            longest displacement of an atom.
        steep: eV/Å; systems whose largest force is below make shorter steps, in proportion. Long steps along soft
            modes carry a system out of a shallow minimum: of 17 relaxations of CoO2 with the layers of LiCoO2, which
            FIRE keeps layered, 17 stayed so with these numbers, 16 with careful = 0.25, few with long steps.
        careful: the smallest fraction of the longest step that this leaves.
        held: factor by which steps that are shorter for this reason are longer where the cell stays: there layers may
            still slide, but a cell cannot grow between them. Made for adsorbates; crystals at a given volume have it,
            too.
        shrink: of a step that was taken back, the length that is tried next.
        energy_noise: eV per atom by which an energy may rise without the step being taken back.
        growth: of the length of the forces on a band, above which a step is taken back: they are no gradient of an
            energy that would tell.
        max_uphill: steps in a row that are taken back before the system is given up.
        max_idle: steps in a row after which the forces on a band have not become smaller than ever before; then it is
            given up.

    """

    memory: int = 20
    reach: float = 0.5
    strain_per_step: float = 0.3
    steep: float = 1.0
    careful: float = 0.125
    held: float = 4.0
    shrink: float = 0.4
    energy_noise: float = 1e-5
    growth: float = 2.0
    max_uphill: int = 3
    max_idle: int = 12


OPTIONS = LbfgsOptions()


@dataclass(frozen=True)
class LbfgsState(BatchState, per_atom=("steps", "changes", "positions", "forces")):
    """What the last steps taught.

    Attributes:
        steps: [n_atoms, memory, 3] displacements, the latest first.
        changes: [n_atoms, memory, 3] negative changes of the forces.
        cell_steps, cell_changes: [n_systems, memory, 3, 3] the same of the cell.
        inverse: [n_systems, memory] 1 / (step · change); zero where nothing is remembered.
        since: [n_systems, memory] Å, the way that was made since; zero where it does not matter.
        positions, cell: [n_atoms, 3], [n_systems, 3, 3], where the last accepted step led.
        forces, cell_forces: [n_atoms, 3], [n_systems, 3, 3] there.
        energy: [n_systems] there; infinite before the first step.
        radius: [n_systems] longest displacement that is allowed now, as a fraction of the longest of all.
        n_uphill: [n_systems] steps that were taken back since the last one that was not.
        least: [n_systems] length of the smallest forces on a band since another image climbs, eV/Å.
        n_idle: [n_systems] steps of a band since.

    """

    steps: Tensor
    changes: Tensor
    cell_steps: Tensor
    cell_changes: Tensor
    inverse: Tensor
    since: Tensor
    positions: Tensor
    cell: Tensor
    forces: Tensor
    cell_forces: Tensor
    energy: Tensor
    radius: Tensor
    n_uphill: Tensor
    least: Tensor
    n_idle: Tensor


def lbfgs_init(n_atoms: int, n_systems: int, device: torch.device, *, options: LbfgsOptions = OPTIONS) -> LbfgsState:
    """Nothing is known yet."""
    atoms = torch.zeros(n_atoms, 3, dtype=torch.float64, device=device)
    cells = torch.zeros(n_systems, 3, 3, dtype=torch.float64, device=device)
    history = atoms[:, None, :].repeat(1, options.memory, 1)
    cell_history = cells[:, None].repeat(1, options.memory, 1, 1)
    return LbfgsState(
        steps=history,
        changes=history,
        cell_steps=cell_history,
        cell_changes=cell_history,
        inverse=cells.new_zeros(n_systems, options.memory),
        since=cells.new_zeros(n_systems, options.memory),
        positions=atoms,
        cell=cells,
        forces=atoms,
        cell_forces=cells,
        energy=cells.new_full((n_systems,), torch.inf),
        radius=cells.new_ones(n_systems),
        n_uphill=torch.zeros(n_systems, dtype=torch.int64, device=device),
        least=cells.new_full((n_systems,), torch.inf),
        n_idle=torch.zeros(n_systems, dtype=torch.int64, device=device),
    )


def lbfgs_step(state: LbfgsState, at: Point, systems: Systems, *, options: LbfgsOptions = OPTIONS) -> Step[LbfgsState]:
    """Advance every system by one step; one that is lost begins to learn anew."""
    system_idx, n_atoms, bands = systems.system_idx, systems.n_atoms, systems.bands

    def length(step: Tensor, cell_step: Tensor) -> Tensor:  # in units of the longest step that is ever allowed
        strain = (cell_step / n_atoms[:, None, None]).abs().amax((1, 2))
        return systems.largest(step, strain / options.strain_per_step) / systems.max_step

    made = length(at.positions - state.positions, at.cell - state.cell)
    rise = options.energy_noise * n_atoms
    grown = torch.zeros_like(n_atoms, dtype=torch.bool)
    if bands is not None:
        state, at, rise, grown = _of_bands(state, at, systems, rise, options)
    uphill = at.energy > state.energy + rise
    held = (at.cell_forces == 0).all(2).all(1)
    far = held if bands is None else held & ~bands.images
    way = torch.where(far & ~uphill & torch.isfinite(state.energy), made * systems.max_step, 0.0)
    state = _remember(_forget(state, way, options), at, systems)
    n_uphill = torch.where(uphill, state.n_uphill + 1, 0)
    before = Point(state.positions, state.cell, state.forces, state.cell_forces, state.energy)
    base = at.replace_where(before, uphill, system_idx)
    step, cell_step = _quasi_newton(state, base, systems)
    if bands is not None:
        step = torch.where(bands.images[system_idx, None], _spaced(step, systems), step)
    largest = systems.largest(base.forces, torch.linalg.vector_norm(base.cell_forces, dim=2).amax(1))
    bold = torch.where(held, options.held, 1.0)
    longest = (bold * largest / options.steep).maximum(bold * options.careful).clamp(max=1.0)
    if bands is not None:
        longest = torch.where(bands.images, torch.where(grown, 0.5 * made, 1.0), longest)
    radius = torch.where(uphill, options.shrink * made, torch.minimum(2 * state.radius, longest))
    wanted = length(step, cell_step)
    scale = torch.where(wanted > radius, radius / wanted, 1.0)
    step, cell_step = scale[system_idx, None] * step, scale[:, None, None] * cell_step

    lost = (n_uphill >= options.max_uphill) | (state.n_idle >= options.max_idle)
    if bands is not None:
        base = base._replace(energy=torch.where(bands.images, torch.minimum(base.energy, state.energy), base.energy))
    state = replace(
        state,
        inverse=torch.where(lost[:, None], 0.0, state.inverse),
        **base._asdict(),
        radius=radius,
        n_uphill=torch.where(lost, 0, n_uphill),
        n_idle=torch.where(lost, 0, state.n_idle),
    )
    return Step(state, base.positions - at.positions + step, base.cell - at.cell + cell_step, lost, base)


def _of_bands(
    state: LbfgsState, at: Point, systems: Systems, rise: Tensor, options: LbfgsOptions
) -> tuple[LbfgsState, Point, Tensor, Tensor]:
    """What takes the place of energies where there are none.

    The forces that vanish on the path have no potential. Their length says whether a step was a good one.
    """
    bands, paths = systems.bands, systems.paths
    assert bands is not None and paths is not None
    along = systems.dot_each(at.forces, at.cell_forces, paths.tangent, at.cell_forces)
    along = torch.where(bands.images & ~paths.climbs, along, 0.0)
    forces = at.forces - along[systems.system_idx, None] * paths.tangent
    size = systems.dot(forces, at.cell_forces, forces, at.cell_forces).sqrt()
    state = replace(
        state,
        energy=torch.where(paths.turned, torch.inf, state.energy),
        least=torch.where(paths.turned, size, torch.minimum(state.least, size)),
        n_idle=torch.where(bands.images & ~paths.turned & (size >= state.least), state.n_idle + 1, 0),
    )
    at = at._replace(forces=forces, energy=torch.where(bands.images, size, at.energy))
    before = systems.dot(state.forces, state.cell_forces, state.forces, state.cell_forces).sqrt()
    grown = torch.isfinite(state.energy) & (size > before)
    return state, at, torch.where(bands.images, (options.growth - 1) * state.energy, rise), grown


def _spaced(step: Tensor, systems: Systems) -> Tensor:
    """The step with its part along the path such that images keep their distances; those that climb go as they want."""
    paths, nothing = systems.paths, step.new_zeros(len(systems.n_atoms), 3, 3)
    assert paths is not None
    along = systems.dot_each(step, nothing, paths.tangent, nothing)
    change = torch.where(paths.climbs, 0.0, paths.shift - along)
    return step + change[systems.system_idx, None] * paths.tangent


def _forget(state: LbfgsState, way: Tensor, options: LbfgsOptions) -> LbfgsState:
    """Without the steps that lie too far back, after a further ``way`` [n_systems], Å."""
    since = state.since + way[:, None]
    return replace(state, since=since, inverse=torch.where(since > options.reach, 0.0, state.inverse))


def _remember(state: LbfgsState, at: Point, systems: Systems) -> LbfgsState:
    """Put the last step and what it changed in front of the history, if the curvature along it is positive."""
    step, cell_step = at.positions - state.positions, at.cell - state.cell
    change, cell_change = state.forces - at.forces, state.cell_forces - at.cell_forces
    if systems.bands is not None:
        step, change = _without_wrong_way(step, change, systems)
    curvature = systems.dot_each(step, cell_step, change, cell_change)
    size = systems.dot_each(step, cell_step, step, cell_step) * systems.dot_each(
        change, cell_change, change, cell_change
    )
    good = torch.isfinite(state.energy) & (curvature > 1e-2 * size.sqrt()) & (size > 0)

    def push(history: Tensor, latest: Tensor, mask: Tensor) -> Tensor:
        moved = torch.cat((latest[:, None], history[:, :-1]), dim=1)
        return torch.where(mask.view(-1, *(1,) * (history.dim() - 1)), moved, history)

    atoms = good[systems.system_idx]
    return replace(
        state,
        steps=push(state.steps, step, atoms),
        changes=push(state.changes, change, atoms),
        cell_steps=push(state.cell_steps, cell_step, good),
        cell_changes=push(state.cell_changes, cell_change, good),
        inverse=push(state.inverse, torch.where(good, 1 / curvature, 0.0), good),
        since=push(state.since, torch.zeros_like(curvature), good),
    )


def _without_wrong_way(step: Tensor, change: Tensor, systems: Systems) -> tuple[Tensor, Tensor]:
    """Without the part along the path, but where the image climbs and has come to the top of the barrier.

    Below, the force along the path that drives it uphill grows on its way, and the method would turn it round.
    """
    bands, paths = systems.bands, systems.paths
    assert bands is not None and paths is not None
    nothing = step.new_zeros(len(systems.n_atoms), 3, 3)
    gone = systems.dot_each(step, nothing, paths.tangent, nothing)
    changed = systems.dot_each(change, nothing, paths.tangent, nothing)
    drop = bands.images & ~(paths.climbs & (gone * changed > 0))
    out = torch.where(drop[systems.system_idx, None], paths.tangent, 0.0)
    return step - gone[systems.system_idx, None] * out, change - changed[systems.system_idx, None] * out


def _quasi_newton(state: LbfgsState, base: Point, systems: Systems) -> tuple[Tensor, Tensor]:
    """The step −B⁻¹∇E by the two-loop recursion; forgotten steps have ``inverse`` zero and drop out."""
    springs, system_idx = systems.springs(), systems.system_idx
    direction, cell_direction = base.forces, base.cell_forces
    weights = []
    memory = range(state.inverse.shape[1])
    for k in memory:
        s, s_cell = state.steps[:, k], state.cell_steps[:, k]
        weight = state.inverse[:, k] * systems.dot_each(s, s_cell, direction, cell_direction)
        weights.append(weight)
        direction = direction - weight[system_idx, None] * state.changes[:, k]
        cell_direction = cell_direction - weight[:, None, None] * state.cell_changes[:, k]
    y, y_cell = state.changes[:, 0], state.cell_changes[:, 0]
    known = state.inverse[:, 0] > 0
    guess = systems.dot_each(y, y_cell, *springs.solve(y, y_cell)) * state.inverse[:, 0]
    scale = torch.where(known, 1 / guess, 1.0).clamp(0.2, 5.0)
    direction, cell_direction = springs.solve(direction, cell_direction)
    direction, cell_direction = scale[system_idx, None] * direction, scale[:, None, None] * cell_direction
    for k in reversed(memory):
        y, y_cell = state.changes[:, k], state.cell_changes[:, k]
        weight = weights[k] - state.inverse[:, k] * systems.dot_each(y, y_cell, direction, cell_direction)
        direction = direction + weight[system_idx, None] * state.steps[:, k]
        cell_direction = cell_direction + weight[:, None, None] * state.cell_steps[:, k]
    return direction, cell_direction

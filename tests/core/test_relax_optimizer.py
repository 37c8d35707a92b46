"""The quasi-Newton optimiser: its springs, its steps, what it does when it fails, and that it ends where FIRE ends."""

from __future__ import annotations

import dataclasses
import importlib
import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixCartesian
from torch import Tensor

from dpa4_core import DPA4Error
from dpa4_core.data.graph import Graph
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import to_system
from dpa4_core.potential import Output
from dpa4_core.relax import relax
from dpa4_core.relax.batch_state import BatchState
from dpa4_core.relax.lbfgs import LbfgsOptions, LbfgsState, lbfgs_init, lbfgs_step
from dpa4_core.relax.method import Method, Point, Step, Systems
from dpa4_core.relax.optimizer import OptimizerName, OptimizerSettings, optimizer_init, optimizer_step
from dpa4_core.relax.preconditioner import Factorised, Iterative, factorise, preconditioner
from dpa4_core.relax.springs import SpringOptions, Springs, springs
from dpa4_core.testing import MorsePotential

MORSE = MorsePotential()
LONGEST = 0.2


def distorted(atoms: Atoms, seed: int, strain: float = 0.03, rattle: float = 0.08) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(scale=rattle, size=atoms.positions.shape)
    return atoms


def oxide(seed: int = 1) -> Atoms:
    return distorted(bulk("MgO", "rocksalt", a=4.4, cubic=True), seed)


def mixed() -> list[Atoms]:
    held = oxide(3)
    held.set_constraint([FixAtoms([0, 1]), FixCartesian(3, (True, False, True))])
    return [oxide(), distorted(bulk("Cu", a=3.8), 2, rattle=0.0), held, molecule("H2O")]


def spring_batch(systems: list[Atoms]) -> Springs:
    members = [to_system(atoms) for atoms in systems]
    free = torch.from_numpy(~np.concatenate([system.fixed for system in members]))
    moves = torch.tensor([system.periodic for system in members])
    return springs(build_graph(members, 6.0), free, moves, options=SpringOptions())


def random_vector(batch: Springs) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    n_atoms, n_systems = len(batch.system_idx), len(batch.n_atoms)
    return (
        torch.randn(n_atoms, 3, generator=generator, dtype=torch.float64),
        torch.randn(n_systems, 3, 3, generator=generator, dtype=torch.float64),
    )


def test_springs_multiply_by_the_second_derivative_of_their_energy() -> None:
    batch = spring_batch(mixed())
    steps, cell_steps = random_vector(batch)
    steps = torch.where(batch.free, steps, 0.0).requires_grad_()
    cell_steps = torch.where(batch.cell_moves[:, None, None], cell_steps, 0.0).requires_grad_()
    strain = (cell_steps / batch.n_atoms[:, None, None])[batch.system_idx[batch.dst]]
    stretch = steps[batch.src] - steps[batch.dst] + torch.einsum("eij,ej->ei", strain, batch.vector)
    pairs = 0.25 * torch.einsum("ei,eij,ej->", stretch, batch.stiffness, stretch)  # every pair is there twice
    held = 0.5 * batch.ground * steps.square().sum()
    cell_held = 0.5 * (batch.cell_diagonal * cell_steps.square().sum((1, 2))).sum()
    gradient, cell_gradient = torch.autograd.grad(pairs + held + cell_held, (steps, cell_steps))
    product, cell_product = batch.multiply(steps.detach(), cell_steps.detach())
    torch.testing.assert_close(product, torch.where(batch.free, gradient, 0.0))
    torch.testing.assert_close(cell_product, torch.where(batch.cell_moves[:, None, None], cell_gradient, 0.0))


def test_a_triple_bond_is_as_stiff_as_its_vibration_says_and_a_single_one_as_before() -> None:
    def along(symbols: str, length: float) -> float:
        bond = spring_batch([Atoms(symbols, [[0, 0, 0], [0, 0, length]])])
        return float(bond.stiffness[0, 2, 2])

    masses = 12.011 * 15.999 / (12.011 + 15.999)
    vibration = masses * 931.494e6 * (2 * math.pi * 2170 / 1e8) ** 2  # eV/Å², 2170 cm⁻¹ (Huber and Herzberg)
    assert along("CO", 1.128) == pytest.approx(vibration, rel=0.3)
    plain = SpringOptions()
    assert along("CO", 1.43) == pytest.approx(plain.stiffness * math.exp(-plain.decay * (1.43 / 1.42 - 1)))
    assert along("AlO", 1.5) < plain.stiffness * math.exp(plain.decay * 0.2) < 0.2 * along("CO", 1.128)


def test_both_solvers_invert_the_springs() -> None:
    batch = spring_batch(mixed())
    wanted, wanted_cell = random_vector(batch)
    forces, cell_forces = batch.multiply(wanted, wanted_cell)
    exact, exact_cell = factorise(batch).solve(forces, cell_forces)
    torch.testing.assert_close(exact, wanted)
    torch.testing.assert_close(exact_cell, wanted_cell)
    close, close_cell = Iterative(batch).solve(forces, cell_forces)
    assert float((close - wanted).norm() / wanted.norm()) < 2e-3
    assert float((close_cell - wanted_cell).norm() / wanted_cell.norm()) < 2e-3


def test_large_systems_are_solved_by_iteration() -> None:
    small, large = bulk("Cu", cubic=True), bulk("Cu", cubic=True) * (6, 6, 6)
    assert isinstance(preconditioner(spring_batch([small])), Factorised)
    assert isinstance(preconditioner(spring_batch([small, large])), Iterative)


def test_ends_in_the_minimum_of_fire_with_less_than_half_of_the_force_calls() -> None:
    structures = mixed()
    structures[2].set_constraint(FixAtoms([0, 1]))  # coordinates along one axis of a moving cell depend on the path
    fire = relax(structures, MORSE, fmax=1e-4, optimizer="fire")
    quasi_newton = relax(structures, MORSE, fmax=1e-4)
    for one, other in zip(fire, quasi_newton, strict=True):
        assert one.converged and other.converged
        assert other.energy == pytest.approx(one.energy, abs=1e-6)
        assert other.n_steps < 0.5 * one.n_steps
        distances = [result.structure.get_all_distances(mic=result.structure.pbc.any()) for result in (one, other)]
        np.testing.assert_allclose(*distances, atol=2e-3)


def test_companions_do_not_matter() -> None:
    structures = mixed()
    together = relax(structures, MORSE, fmax=0.01, optimizer="lbfgs")
    alone = relax(structures, MORSE, fmax=0.01, optimizer="lbfgs", max_atoms_per_batch=1)
    for one, many in zip(alone, together, strict=True):
        assert one.n_steps == many.n_steps
        assert one.energy == pytest.approx(many.energy, abs=1e-9)


def test_a_converged_structure_stays_as_it_is() -> None:
    (first,) = relax([oxide()], MORSE, fmax=1e-3)
    (again,) = relax([first.structure], MORSE, fmax=1e-3)
    assert again.n_steps == 0
    np.testing.assert_array_equal(again.structure.positions, first.structure.positions)


class UnitSprings:
    def solve(self, forces: Tensor, cell_forces: Tensor) -> tuple[Tensor, Tensor]:
        return forces, cell_forces


def in_parabola(positions: Tensor, lie: Tensor | None = None) -> Point:
    """Atoms that are a system each, in E = ½ x·diag(1, 4, 20)·x; ``lie`` [n] replaces energies where it is a number."""
    stiffness = torch.tensor([[1.0, 4.0, 20.0]], dtype=torch.float64)
    energy = 0.5 * (stiffness * positions.square()).sum(1)
    still = torch.zeros(len(positions), 3, 3, dtype=torch.float64)
    return Point(
        positions,
        still,
        -stiffness * positions,
        still,
        energy if lie is None else torch.where(lie.isnan(), energy, lie),
    )


def parabola(state: LbfgsState, positions: Tensor, energy: float = math.nan) -> tuple[LbfgsState, Tensor]:
    """One step for a single atom with unit springs; the energy may be a lie."""
    zero, one = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.float64)
    step = lbfgs_step(state, in_parabola(positions, energy * one), Systems(zero, one, LONGEST * one, UnitSprings))
    return step.state, step.displacements


def paths(settings: list[OptimizerSettings], lying: list[bool], n_steps: int = 60) -> Tensor:
    """Positions [n_steps + 1, n_systems, 3] of atoms in one batch, of which some find that energies always rise."""
    n = len(settings)
    state = optimizer_init(settings, n, torch.device("cpu"))
    positions = [torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64).repeat(n, 1)]
    alone, one = torch.arange(n), torch.ones(n, dtype=torch.float64)
    for k in range(n_steps):
        lie = torch.where(torch.tensor(lying), float(k), torch.nan).double()
        move = optimizer_step(state, in_parabola(positions[-1], lie), UnitSprings, alone, one)
        state = move.state
        positions.append(positions[-1] + move.displacements)
    return torch.stack(positions)


EVERY_KIND = [
    (OptimizerSettings("auto"), False),
    (OptimizerSettings("auto"), True),
    (OptimizerSettings("lbfgs", max_step=0.01), False),
    (OptimizerSettings("lbfgs"), True),
    (OptimizerSettings("fire"), False),
    (OptimizerSettings("fire", max_step=0.01), True),
]


def test_systems_of_different_methods_and_longest_steps_share_a_batch_and_move_as_alone() -> None:
    together = paths(*map(list, zip(*EVERY_KIND, strict=True)))
    for place, (settings, lies) in enumerate(EVERY_KIND):
        torch.testing.assert_close(together[:, place], paths([settings], [lies])[:, 0], rtol=0, atol=1e-14)
    longest = together.diff(dim=0).norm(dim=2).amax(0)
    torch.testing.assert_close(longest[[2, 5]], torch.full((2,), 0.01, dtype=torch.float64))
    assert float(longest[[0, 4]].min()) > 0.02
    # lies drive "auto" to FIRE, which goes on downhill, and L-BFGS alone nowhere
    assert float(together[-1, 1].norm()) < 0.02 < 0.3 < float(together[-1, 3].norm())


def test_a_third_method_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def still(_n_atoms: int, _n_systems: int, _device: torch.device) -> BatchState:
        return BatchState()

    def downhill(state: BatchState, at: Point, systems: Systems) -> Step[BatchState]:
        never = torch.zeros(len(systems.n_atoms), dtype=torch.bool)
        return Step(state, 0.04 * at.forces, 0.04 * at.cell_forces, never, at)

    module = importlib.import_module("dpa4_core.relax.optimizer")
    third = Method(still, downhill)
    monkeypatch.setitem(module.METHODS, "downhill", (third, third))
    monkeypatch.setattr(module, "ROWS", (*module.ROWS, third))
    settings = [OptimizerSettings(cast("OptimizerName", name)) for name in ("downhill", "auto", "downhill")]
    found = paths(settings, [False] * 3)
    factor = 1 - 0.04 * torch.tensor([1.0, 4.0, 20.0], dtype=torch.float64)
    torch.testing.assert_close(found[-1, 0], found[0, 0] * factor**60)
    torch.testing.assert_close(found[-1, 0], found[-1, 2])
    torch.testing.assert_close(found[:, 1], paths([OptimizerSettings()], [False])[:, 0], rtol=0, atol=1e-14)
    energies = [result.energy for result in relax([molecule("H2O")] * 2, MORSE, fmax=1e-3, optimizer="downhill")]
    assert energies == pytest.approx([relax([molecule("H2O")], MORSE, fmax=1e-3)[0].energy] * 2, abs=1e-4)


def fresh() -> LbfgsState:
    return lbfgs_init(1, 1, torch.device("cpu"))


def test_a_parabola_is_at_its_minimum_after_few_steps_none_longer_than_the_limit() -> None:
    state, positions = fresh(), torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64)
    for _ in range(20):
        state, step = parabola(state, positions)
        assert float(step.norm()) <= LONGEST * (1 + 1e-12) or int(state.n_uphill) > 0
        positions = positions + step
    assert float(positions.abs().max()) < 1e-8


def test_a_step_that_raises_the_energy_is_taken_back_and_tried_shorter() -> None:
    start = torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64)
    state, step = parabola(fresh(), start)
    state, correction = parabola(state, start + step, energy=100.0)
    assert int(state.n_uphill) == 1
    np.testing.assert_array_equal(state.positions, start)
    net = float((step + correction).norm())
    assert 0 < net <= LbfgsOptions().shrink * float(step.norm()) * (1 + 1e-9)


def on_a_slope(force: float, n_steps: int, *, cell_force: float = 0.0) -> float:
    """Length of the last step of an atom that a constant force drives away."""
    zero, one = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.float64)
    forces, cell_forces = torch.tensor([[force, 0.0, 0.0]]).double(), torch.full((1, 3, 3), cell_force).double()
    state, positions, cell, length = fresh(), torch.zeros(1, 3).double(), torch.zeros(1, 3, 3).double(), 0.0
    for _ in range(n_steps):
        at = Point(positions, cell, forces, cell_forces, -force * positions[:, 0])
        state, step, cell_step, *_ = lbfgs_step(state, at, Systems(zero, one, LONGEST * one, UnitSprings))
        positions, cell, length = positions + step, cell + 1e-3 * cell_step, float(step.norm())
    return length


def test_steps_along_a_gentle_slope_are_longer_where_the_cell_stays() -> None:
    assert on_a_slope(0.11, 3) == pytest.approx(0.5 * LONGEST)
    assert on_a_slope(0.11, 3, cell_force=1e-4) == pytest.approx(0.125 * LONGEST)


def test_what_was_learned_half_an_angstrom_ago_is_forgotten() -> None:
    def known(way: float) -> int:
        state, positions = fresh(), torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64)
        for _ in range(3):
            state, step = parabola(state, positions)
            positions = positions + step
        before = int((state.inverse > 0).sum())
        state = dataclasses.replace(state, since=state.since + way)
        return before - int((parabola(state, positions)[0].inverse > 0).sum())

    assert (known(0.0), known(0.5)) == (-1, 1)


class Lying(MorsePotential):
    """Energies that rise with every call, of true forces: to L-BFGS every step goes uphill."""

    def __init__(self) -> None:
        super().__init__()
        self.n_calls = 0

    def compute(self, graph: Graph) -> Output:
        self.n_calls += 1
        out = super().compute(graph)
        return out._replace(energy=torch.full_like(out.energy, float(self.n_calls)))


def test_fire_takes_over_when_every_step_goes_uphill() -> None:
    (result,) = relax([oxide()], Lying(), fmax=0.01)
    assert result.converged
    (expected,) = relax([oxide()], MORSE, fmax=0.01)
    again = relax([result.structure], MORSE, max_steps=0)[0]
    assert again.energy == pytest.approx(expected.energy, abs=1e-3)
    stuck = relax([oxide()], Lying(), fmax=0.01, optimizer="lbfgs", max_steps=result.n_steps)[0]
    assert not stuck.converged


def test_iteration_and_factorisation_relax_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = relax(mixed(), MORSE, fmax=0.01)
    monkeypatch.setattr(importlib.import_module("dpa4_core.relax.preconditioner"), "MAX_ENTRIES", 0)
    for one, other in zip(expected, relax(mixed(), MORSE, fmax=0.01), strict=True):
        assert other.converged
        assert abs(other.n_steps - one.n_steps) <= 3
        assert other.energy == pytest.approx(one.energy, abs=1e-4)


@pytest.mark.parametrize("options", [{"optimizer": "newton"}, {"optimizer": None}])
def test_unknown_optimizers_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DPA4Error, match="auto, lbfgs, fire"):
        relax([oxide()], MORSE, **options)


def test_springs_do_not_depend_on_how_far_beyond_them_the_graph_reaches() -> None:
    options = dataclasses.replace(SpringOptions(), longest=1.5)
    system = [to_system(oxide())]
    free, moves = torch.ones(8, 3, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
    near, far = (springs(build_graph(system, cutoff), free, moves, options=options) for cutoff in (5.0, 7.0))
    torch.testing.assert_close(near.diagonal(), far.diagonal())

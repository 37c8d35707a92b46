"""Relaxation of batches: the steps of ASE, structures that come and go, failures that stay alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms, FixCartesian, FixedLine
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from ase.stress import full_3x3_to_voigt_6_stress
from pymatgen.core import Lattice, Molecule, Structure

from dpa4_core.data.graph import Graph
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import StructureError, to_system
from dpa4_core.errors import DPA4Error
from dpa4_core.potential import Output
from dpa4_core.relax import RelaxResult, relax
from dpa4_core.relax.cell_filter import log_gradient
from dpa4_core.testing import MorsePotential
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA, EV_PER_ANGSTROM3_TO_KBAR

MORSE = MorsePotential()


class MorseCalculator(Calculator):
    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        out = MORSE.compute(build_graph([to_system(atoms)], MORSE.cutoff))
        energy = float(out.energy[0])
        stress = full_3x3_to_voigt_6_stress(out.stress[0].numpy())
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": out.forces.numpy(),
            "stress": stress,
        }


class Recorder(MorsePotential):
    """Remembers the sizes of the batches."""

    def __init__(self) -> None:
        super().__init__()
        self.systems_per_call: list[int] = []
        self.atoms_per_call: list[int] = []

    def compute(self, graph: Graph) -> Output:
        self.systems_per_call.append(graph.n_systems)
        self.atoms_per_call.append(graph.n_atoms)
        return super().compute(graph)


def distorted(atoms: Atoms, seed: int, strain: float = 0.05, rattle: float = 0.1) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(scale=rattle, size=atoms.positions.shape)
    return atoms


def oxide(seed: int = 1) -> Atoms:
    return distorted(bulk("MgO", "rocksalt", a=4.4, cubic=True), seed)


def copper(seed: int = 2) -> Atoms:
    return distorted(bulk("Cu", a=3.8), seed, rattle=0.0)


def partly_fixed() -> Atoms:
    atoms = oxide(3)
    atoms.set_constraint([FixAtoms([0, 1]), FixCartesian(3, (True, False, True))])
    return atoms


def ase_relaxation(atoms: Atoms, *, relax_cell: bool, pressure_gpa: float) -> tuple[Atoms, list[float], bool]:
    """Relaxed structure, energies of all force calls, converged."""
    atoms = atoms.copy()
    atoms.calc = MorseCalculator()
    target = atoms
    if relax_cell and atoms.pbc.any():
        target = FrechetCellFilter(atoms, scalar_pressure=pressure_gpa / EV_PER_ANGSTROM3_TO_GPA)
    energies: list[float] = []
    optimizer = FIRE(target, logfile=None)
    optimizer.attach(lambda: energies.append(atoms.get_potential_energy()))
    return atoms, energies, optimizer.run(fmax=0.02, steps=100)


@pytest.mark.parametrize(
    ("structures", "relax_cell", "pressure_gpa"),
    [
        ([oxide(), copper(), partly_fixed()], True, 0.0),
        ([copper(), partly_fixed()], True, 10.0),
        ([partly_fixed(), molecule("H2O")], False, 0.0),
    ],
    ids=["cell", "cell under pressure", "positions"],
)
def test_follows_fire_and_frechet_cell_filter_of_ase_step_by_step(
    structures: list[Atoms], relax_cell: bool, pressure_gpa: float
) -> None:
    results = relax(
        structures,
        MORSE,
        max_steps=100,
        relax_cell=relax_cell,
        pressure_gpa=pressure_gpa,
        keep_trajectory=True,
        optimizer="fire",
        check_minimum=False,
    )
    assert any(result.converged for result in results)
    for start, result in zip(structures, results, strict=True):
        atoms, energies, converged = ase_relaxation(start, relax_cell=relax_cell, pressure_gpa=pressure_gpa)
        assert result.converged == converged
        assert result.n_steps == len(energies) - 1
        assert [step.energy for step in result.trajectory] == pytest.approx(energies, abs=1e-9)
        np.testing.assert_allclose(result.structure.positions, atoms.positions, atol=1e-9)
        np.testing.assert_allclose(result.structure.cell.array, atoms.cell.array, atol=1e-9)
        np.testing.assert_allclose(result.energy, energies[-1], atol=1e-9)


def test_log_gradient_is_the_chain_rule_through_the_matrix_exponential() -> None:
    generator = torch.Generator().manual_seed(0)
    log_deformation = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()
    gradient = torch.randn(4, 3, 3, generator=generator, dtype=torch.float64) * torch.tensor(
        [1e-6, 1.0, 1e3, 0.0], dtype=torch.float64
    ).view(4, 1, 1)
    (torch.linalg.matrix_exp(log_deformation) * gradient).sum().backward()
    torch.testing.assert_close(log_gradient(log_deformation.detach(), gradient), log_deformation.grad)


def test_stress_balances_the_pressure() -> None:
    (result,) = relax([copper()], MORSE, fmax=1e-4, pressure_gpa=20.0)
    np.testing.assert_allclose(result.stress * EV_PER_ANGSTROM3_TO_GPA, -20.0 * np.eye(3), atol=0.01)


def test_relaxed_lattice_is_the_minimum_of_the_energy_over_volume() -> None:
    (result,) = relax([bulk("Cu", a=3.8)], MORSE, fmax=1e-5)
    a = (4 * result.structure.cell.volume) ** (1 / 3)
    lattices = a * np.array([0.99, 1.0, 1.01])
    potential = MORSE
    graph = build_graph([to_system(bulk("Cu", a=x)) for x in lattices], potential.cutoff)
    lowest = np.polynomial.Polynomial.fit(lattices, potential.compute(graph).energy.numpy(), 2).deriv().roots()[0]
    assert a == pytest.approx(lowest, abs=2e-3)


def test_batching_does_not_change_results() -> None:
    structures = [oxide(1), copper(1), oxide(2), copper(2), molecule("H2O")]
    together = relax(structures, MORSE, fmax=0.1, max_atoms_per_batch=1000)
    alone = relax(structures, MORSE, fmax=0.1, max_atoms_per_batch=1)
    for one, many in zip(alone, together, strict=True):
        assert one.n_steps == many.n_steps
        assert one.energy == pytest.approx(many.energy, abs=1e-10)
        np.testing.assert_allclose(one.structure.positions, many.structure.positions, atol=1e-9)


def test_waiting_structures_enter_when_others_leave() -> None:
    structures = [oxide(seed) for seed in range(4)] + [copper(seed) for seed in range(4)]
    potential = Recorder()
    results = relax(structures, potential, fmax=0.1, max_atoms_per_batch=20)
    assert max(potential.atoms_per_call) <= 20
    # Two oxides at a time; as soon as one leaves the next one or several metals take its place.
    n_calls = sum(result.n_force_calls for result in results)
    assert n_calls == sum(result.n_steps + 1 + result.n_check_calls for result in results)
    assert sum(potential.systems_per_call) == n_calls
    assert len(potential.systems_per_call) < 0.6 * n_calls
    assert len(set(potential.systems_per_call)) > 2


def test_structure_larger_than_the_budget_is_relaxed_alone() -> None:
    potential = Recorder()
    results = relax([copper(), oxide(), copper(3)], potential, fmax=0.1, max_atoms_per_batch=4)
    assert all(result.converged for result in results)
    first = potential.atoms_per_call[: results[1].n_steps + 1]
    assert set(first) == {8}


def test_wrapping_does_not_matter() -> None:
    inside = oxide()
    outside = inside.copy()
    outside.positions += np.random.default_rng(0).integers(-2, 3, size=(8, 3)) @ outside.cell.array
    one, two = relax([inside, outside], MORSE, fmax=0.1)
    assert one.n_steps == two.n_steps
    assert one.energy == pytest.approx(two.energy, abs=1e-9)
    moved = two.structure.get_scaled_positions(wrap=False) - one.structure.get_scaled_positions(wrap=False)
    np.testing.assert_allclose(moved, moved.round(), atol=1e-6)


def test_results_have_type_and_order_of_the_input() -> None:
    crystal = Structure(
        Lattice.cubic(4.3).matrix @ np.array([[1, 0.02, 0], [0, 1, 0.03], [0.01, 0, 0.98]]),
        ["Mg"] * 4 + ["O"] * 4,
        bulk("MgO", "rocksalt", a=4.3, cubic=True).get_scaled_positions()[[0, 2, 4, 6, 1, 3, 5, 7]],
        site_properties={"label_of_mine": list("abcdefgh")},
    )
    cluster = Molecule(["O", "H", "H"], [[0, 0, 0], [0, 0, 1.1], [0.9, 0, -0.3]])
    atoms = copper()
    atoms.info["name"] = "mine"
    results = relax([cluster, atoms, crystal], MORSE)
    assert [type(result.structure) for result in results] == [Molecule, Atoms, Structure]
    assert results[1].structure.info["name"] == "mine"
    assert results[2].structure.site_properties["label_of_mine"] == list("abcdefgh")
    assert [len(result.forces) for result in results] == [3, 1, 8]
    assert results[0].stress is None
    assert results[2].stress.shape == (3, 3)
    assert all(result.converged and result.fmax < 0.02 and result.error is None for result in results)


def test_input_is_untouched() -> None:
    atoms = partly_fixed()
    before = atoms.copy()
    relax([atoms], MORSE, max_steps=5)
    assert atoms == before
    assert atoms.calc is None


def test_fixed_atoms_keep_their_coordinates() -> None:
    start = partly_fixed()
    (result,) = relax([start], MORSE, relax_cell=False)
    moved = result.structure.positions != start.positions
    assert not moved[:2].any()
    assert moved[2].all()
    assert moved[3].tolist() == [False, True, False]
    assert isinstance(result.structure.constraints[0], FixAtoms)
    (result,) = relax([start], MORSE)
    np.testing.assert_allclose(
        result.structure.get_scaled_positions(wrap=False)[:2],
        start.get_scaled_positions(wrap=False)[:2],
        atol=1e-12,
    )
    assert np.abs(result.forces[:2]).max() > 0.02  # of the potential; they do not count in fmax
    assert result.converged


def test_selective_dynamics_of_pymatgen_are_honoured() -> None:
    structure = Structure(
        Lattice.cubic(4.3),
        ["Mg", "O"],
        [[0, 0, 0], [0.55, 0.48, 0.5]],
        site_properties={"selective_dynamics": [[False] * 3, [True] * 3]},
    )
    (result,) = relax([structure], MORSE, relax_cell=False)
    np.testing.assert_array_equal(result.structure[0].coords, [0, 0, 0])
    assert result.n_steps > 0


def malformed() -> dict[str, Any]:
    nan = oxide()
    nan.positions[0, 0] = np.nan
    overlapping = oxide()
    overlapping.positions[0] = overlapping.positions[1] + 0.01
    frozen = Structure(Lattice.cubic(4.3), ["Mg"], [[0, 0, 0]], site_properties={"selective_dynamics": [[True, False]]})
    constrained = oxide()
    constrained.set_constraint(FixedLine(0, (1, 1, 0)))
    flat = oxide()
    flat.cell[2] = flat.cell[1]
    return {
        "not in this potential": bulk("Xe", a=6.0),
        "overlap": overlapping,
        "NaN": nan,
        "no atoms": Atoms(),
        "is not a structure": "POSCAR",
        "not supported": constrained,
        "selective_dynamics of site 0": frozen,
        "periodic axes (a, b) are missing": Atoms("Al", cell=[4, 0, 9], pbc=[True, True, False]),
        "singular": flat,
    }


def test_malformed_structures_become_sentences_and_the_others_relax() -> None:
    bad = malformed()
    structures = [oxide(), *bad.values(), copper()]
    first, *refused, last = relax(structures, MORSE, fmax=0.1)
    assert first.converged
    assert last.converged
    for sentence, structure, result in zip(bad, bad.values(), refused, strict=True):
        assert sentence in result.error
        assert result.reason == result.error
        assert "\n" not in result.error
        assert not result.converged
        assert result.structure is structure
        assert np.isnan(result.energy)
        assert result.forces is None


def test_strict_raises_on_the_first_failed_structure() -> None:
    with pytest.raises(StructureError, match=r"structure 1: .*Xe"):
        relax([copper(), bulk("Xe", a=6.0)], MORSE, strict=True)
    (result,) = relax([oxide()], MORSE, max_steps=1, strict=True)  # out of steps is no failure
    assert not result.converged


class Spoiled(MorsePotential):
    """After some calls the systems that contain copper get ``energy`` or ``force`` as results."""

    def __init__(self, after: int, energy: float = 0.0, force: float = 0.0) -> None:
        super().__init__()
        self.calls_left = after
        self.energy = energy
        self.force = force

    def compute(self, graph: Graph) -> Output:
        out = super().compute(graph)
        self.calls_left -= 1
        if self.calls_left >= 0:
            return out
        copper_atoms = graph.atomic_numbers == 29
        systems = torch.zeros(graph.n_systems, dtype=torch.bool).index_put(
            (graph.system_idx[copper_atoms],), torch.tensor(True)
        )
        return out._replace(
            energy=out.energy + torch.where(systems, self.energy, 0.0),
            forces=out.forces + torch.where(copper_atoms[:, None], self.force, 0.0),
        )


@pytest.mark.parametrize(
    ("spoiled", "sentence"),
    [
        (Spoiled(3, energy=np.nan), "not finite after 3 steps"),
        (Spoiled(3, force=np.inf), "not finite after 3 steps"),
        (Spoiled(3, force=1e5), r"a force reached 1\.7e\+05 eV/Å after 3 steps"),
    ],
)
def test_failure_on_the_way_keeps_the_best_structure_and_the_rest_of_the_batch(spoiled: Spoiled, sentence: str) -> None:
    start = copper()
    good, bad = relax([oxide(), start], spoiled, fmax=0.2, keep_trajectory=True)
    assert good.converged
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(bad.error)
    assert bad.n_steps == 3
    assert bad.energy == min(step.energy for step in bad.trajectory[:3])
    assert not np.array_equal(bad.structure.cell.array, start.cell.array)


def test_failure_of_the_first_force_call_returns_the_input() -> None:
    start = copper()
    (result,) = relax([start], Spoiled(0, energy=np.nan))
    assert "not finite after 0 steps" in result.error
    assert result.structure == start
    assert np.isnan(result.energy)
    assert result.forces is None
    assert result.stress is None


def test_slabs_relax_in_their_cell() -> None:
    slab = distorted(fcc111("Al", (1, 1, 2), vacuum=5.0), 1, strain=0.0)
    (result,) = relax([slab], MORSE, relax_cell=False)
    assert result.error is None and result.converged
    np.testing.assert_array_equal(result.structure.cell.array, slab.cell.array)


class WithoutStress(MorsePotential):
    def compute(self, graph: Graph) -> Output:
        out = super().compute(graph)
        return out._replace(stress=torch.full_like(out.stress, torch.nan))


def test_missing_stress_is_named() -> None:
    (result,) = relax([copper()], WithoutStress())
    assert result.error == (
        "the potential gave a stress that is not finite after 0 steps; "
        "use relax_cell=False, or a potential that has the stress"
    )
    assert relax([copper()], WithoutStress(), relax_cell=False)[0].error is None


def test_pressures_are_in_units_of_codata_2018() -> None:
    assert EV_PER_ANGSTROM3_TO_GPA == 160.2176634
    assert EV_PER_ANGSTROM3_TO_KBAR == 1602.176634


@pytest.mark.parametrize(("pressure_gpa", "limit", "word"), [(-200.0, 2.0, "exploded"), (5000.0, 5.0, "collapsed")])
def test_cells_that_explode_or_collapse_are_given_up(pressure_gpa: float, limit: float, word: str) -> None:
    (result,) = relax([copper()], MORSE, pressure_gpa=pressure_gpa, max_volume_change=limit)
    assert f"the cell {word} to" in result.error
    assert not result.converged
    assert result.n_steps < 200


def test_relaxed_structure_with_overlapping_atoms_is_an_error() -> None:
    (result,) = relax([bulk("Cu", a=4.4)], MORSE, min_distance_ratio=1.0)
    assert "relaxed into one that cannot be computed: atom 0 (Cu) is 2." in result.error
    assert not result.converged


class Small(Recorder):
    """Has memory for a number of atoms."""

    def __init__(self, atoms: int) -> None:
        super().__init__()
        self.atoms = atoms

    def compute(self, graph: Graph) -> Output:
        if graph.n_atoms > self.atoms:
            raise torch.OutOfMemoryError("out of memory")
        return super().compute(graph)


def test_batches_shrink_when_memory_runs_out() -> None:
    structures = [oxide(1), oxide(2), copper(1), bulk("MgO", "rocksalt", a=4.3, cubic=True) * (2, 1, 1)]
    *small, large = relax(structures, Small(9), fmax=0.1, keep_trajectory=True)
    assert large.error == "out of memory for 16 atoms on cpu"
    expected = relax(structures[:3], MORSE, fmax=0.1)
    for result, reference in zip(small, expected, strict=True):
        assert result.converged
        assert result.energy == pytest.approx(reference.energy, abs=1e-10)
        assert len(result.trajectory) == result.n_steps + 1 + result.n_check_calls


def test_out_of_steps_keeps_the_structure_of_lowest_energy() -> None:
    (result,) = relax([molecule("CH3CH2OH")], MORSE, max_steps=60, fmax=1e-8, keep_trajectory=True, optimizer="fire")
    assert (result.converged, result.reason, result.error) == (False, "max_steps", None)
    assert result.n_steps == 60
    assert len(result.trajectory) == 61
    energies = [step.energy for step in result.trajectory]
    best = int(np.argmin(energies))
    assert (result.energy, result.fmax) == (energies[best], result.trajectory[best].fmax)
    potential = MORSE
    again = potential.compute(build_graph([to_system(result.structure)], potential.cutoff))
    assert float(again.energy[0]) == pytest.approx(result.energy, abs=1e-12)
    np.testing.assert_allclose(again.forces.numpy(), result.forces, atol=1e-12)


def test_no_steps_is_a_force_call() -> None:
    (result,) = relax([oxide()], MORSE, max_steps=0, keep_trajectory=True)
    assert (result.n_steps, result.reason, len(result.trajectory)) == (0, "max_steps", 1)


def test_results_are_streamed_as_they_finish() -> None:
    seen: list[tuple[int, RelaxResult]] = []
    potential = Recorder()
    calls: list[int] = []

    def remember(index: int, result: RelaxResult) -> None:
        seen.append((index, result))
        calls.append(len(potential.atoms_per_call))

    structures = [oxide(), copper(), bulk("Xe", a=6.0), molecule("H2O")]
    results = relax(structures, potential, fmax=0.1, on_result=remember)
    assert sorted(index for index, _ in seen) == [0, 1, 2, 3]
    assert all(results[index] is result for index, result in seen)
    assert seen[0][0] == 2
    assert calls[0] == 0
    assert [results[index].n_steps for index, _ in seen] == sorted(result.n_steps for result in results)
    assert calls[-1] > calls[1]


def test_nothing_to_do() -> None:
    assert relax([], MORSE) == []


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    relax([copper(seed) for seed in range(3)], MORSE, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3/3" in captured.err
    assert "structures/s" in captured.err


@pytest.mark.parametrize(
    "options",
    [
        {"fmax": 0.0},
        {"fmax": float("nan")},
        {"fmax": float("inf")},
        {"max_steps": -1},
        {"max_steps": float("nan")},
        {"max_steps": float("inf")},
        {"max_steps": 2.5},
        {"pressure_gpa": float("nan")},
        {"pressure_gpa": float("-inf")},
        {"max_atoms_per_batch": 0},
        {"max_volume_change": 1.0},
        {"relax_cell": False, "pressure_gpa": 1.0},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DPA4Error):
        relax([copper()], MORSE, **options)


def test_result_is_immutable_data() -> None:
    (result,) = relax([copper()], MORSE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.energy = 0.0

"""What may move, and verdicts: symmetry, masks of the cell, longest steps, structures that fall apart."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import spglib
import torch
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms, FixSymmetry
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE
from ase.spacegroup import crystal
from ase.stress import full_3x3_to_voigt_6_stress

from dpa4_core import DPA4Error
from dpa4_core.data.graph import Graph
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import to_system
from dpa4_core.potential import Output
from dpa4_core.relax import relax
from dpa4_core.relax.fragments import flags, pieces
from dpa4_core.relax.operations import operations
from dpa4_core.relax.projection import cell_projection, freedom
from dpa4_core.testing import MorsePotential

MORSE = MorsePotential()


class Noisy(MorsePotential):
    """Forces and stresses that break every symmetry a little, the same in every call."""

    def compute(self, graph: Graph) -> Output:
        out = super().compute(graph)
        generator = torch.Generator().manual_seed(1)
        noise = 0.1 * torch.randn(graph.n_atoms, 3, generator=generator, dtype=torch.float64)
        strain = 0.01 * torch.randn(graph.n_systems, 3, 3, generator=generator, dtype=torch.float64)
        return out._replace(forces=out.forces + noise, stress=out.stress + strain + strain.transpose(1, 2))


class AseMorse(Calculator):
    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        out = MORSE.compute(build_graph([to_system(atoms)], MORSE.cutoff))
        energy = float(out.energy[0])
        stress = full_3x3_to_voigt_6_stress(out.stress[0].numpy())
        self.results = {"energy": energy, "free_energy": energy, "forces": out.forces.numpy(), "stress": stress}


def rutile(rattle: float = 0.0) -> Atoms:
    atoms = crystal(("Ti", "O"), [(0, 0, 0), (0.31, 0.31, 0)], spacegroup=136, cellpar=[4.7, 4.7, 3.1, 90, 90, 90])
    atoms = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)
    atoms.rattle(rattle, seed=1)
    return atoms


def space_group(atoms: Atoms, symprec: float = 1e-4) -> int:
    return spglib.get_symmetry_dataset(
        (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=symprec
    ).number


def distorted_oxide() -> Atoms:
    rng = np.random.default_rng(5)
    atoms = bulk("MgO", "rocksalt", a=4.4, cubic=True)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.05 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(scale=0.05, size=(8, 3))
    return atoms


@pytest.mark.parametrize("optimizer", ["auto", "fire"])
def test_symmetry_stays_whatever_the_forces_say(optimizer: str) -> None:
    (kept,) = relax([rutile()], Noisy(), fmax=0.01, keep_symmetry=True, optimizer=optimizer, max_steps=60)
    assert kept.n_steps > 3
    assert space_group(kept.structure) == 136
    (lost,) = relax([rutile()], Noisy(), fmax=0.01, max_steps=30)
    assert space_group(lost.structure) != 136


def test_symmetric_relaxation_ends_where_that_of_ase_ends() -> None:
    start = rutile()
    (result,) = relax([start], MORSE, fmax=0.002, keep_symmetry=True)
    theirs = start.copy()
    theirs.calc = AseMorse()
    theirs.set_constraint(FixSymmetry(theirs))
    assert FIRE(FrechetCellFilter(theirs), logfile=None).run(fmax=0.002, steps=300)
    assert result.converged
    assert result.energy == pytest.approx(theirs.get_potential_energy(), abs=1e-4)
    np.testing.assert_allclose(result.structure.cell.lengths(), theirs.cell.lengths(), atol=5e-3)


def test_symmetry_within_the_tolerance_is_made_exact() -> None:
    start = rutile(rattle=0.002)
    assert space_group(start) != 136
    (result,) = relax([start], MORSE, keep_symmetry=True, symprec=0.03)
    assert space_group(result.structure, symprec=1e-5) == 136


@pytest.mark.parametrize("raises", [True, False])
def test_a_symmetry_that_spglib_cannot_find_is_of_its_structure_alone(
    raises: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether spglib raises is set for all by packages that are imported, and in the environment by a call of ASE."""
    monkeypatch.setattr(spglib.error, "OLD_ERROR_HANDLING", not raises)
    monkeypatch.delenv("SPGLIB_OLD_ERROR_HANDLING", raising=False)
    close = Atoms("Cu2", [[0, 0, 0], [0, 0, 0.005]], cell=[4, 4, 4], pbc=True)
    assert len(operations(to_system(close), 0.01)) == 1
    structures = [rutile(), close, rutile()]
    good, bad, other = relax(structures, MORSE, keep_symmetry=True, min_distance_ratio=0, max_steps=1)
    assert [good.error, other.error] == [None, None]
    assert bad.error == "no space group was found within 0.01 Å; use another symprec"
    assert "SPGLIB_OLD_ERROR_HANDLING" not in os.environ


def test_symmetric_and_shapeless_structures_share_a_batch() -> None:
    structures = [rutile(), distorted_oxide(), bulk("Cu", a=3.9) * (2, 2, 1)]
    together = relax(structures, MORSE, fmax=0.01, keep_symmetry=True)
    alone = relax(structures, MORSE, fmax=0.01, keep_symmetry=True, max_atoms_per_batch=1)
    for one, many in zip(alone, together, strict=True):
        assert one.n_steps == many.n_steps
        assert one.energy == pytest.approx(many.energy, abs=1e-9)


def test_average_over_a_space_group_is_a_projection() -> None:
    _, free = freedom(to_system(rutile()), "full", keep_symmetry=True, symprec=0.01)
    symmetry = free.symmetry
    assert symmetry is not None
    np.testing.assert_allclose(symmetry.cell @ symmetry.cell, symmetry.cell, atol=1e-12)
    full = np.zeros((6, 6, 3, 3))
    full[symmetry.dst, symmetry.src] = symmetry.rotations
    matrix = full.transpose(0, 2, 1, 3).reshape(18, 18)
    np.testing.assert_allclose(matrix @ matrix, matrix, atol=1e-12)
    assert round(np.trace(matrix)) == 1  # the one free parameter of rutile


def test_constant_volume_relaxes_the_shape_only() -> None:
    start = distorted_oxide()
    (result,) = relax([start], MORSE, fmax=0.005, cell="volume")
    assert result.converged
    assert result.volume_change == pytest.approx(0, abs=1e-10)
    stress = result.stress
    deviator = stress - np.trace(stress) / 3 * np.eye(3)
    assert abs(np.trace(stress)) / 3 > 20 * np.abs(deviator).max()


def test_constant_shape_relaxes_the_volume_only() -> None:
    start = distorted_oxide()
    (result,) = relax([start], MORSE, fmax=0.005, cell="shape")
    ratio = result.structure.cell.array @ np.linalg.inv(start.cell.array)
    np.testing.assert_allclose(ratio, ratio[0, 0] * np.eye(3), atol=1e-12)
    assert result.converged and abs(ratio[0, 0] - 1) > 1e-3
    assert abs(np.trace(result.stress)) < 0.01 * np.abs(result.stress).max()


def test_mask_relaxes_what_ase_relaxes_with_it() -> None:
    start = bulk("Mg", "hcp", a=3.1, c=5.4)
    (result,) = relax([start], MORSE, fmax=0.002, cell=(0, 0, 1, 0, 0, 0))
    theirs = start.copy()
    theirs.calc = AseMorse()
    assert FIRE(FrechetCellFilter(theirs, mask=[0, 0, 1, 0, 0, 0]), logfile=None).run(fmax=0.002, steps=300)
    np.testing.assert_array_equal(result.structure.cell.array[:2], start.cell.array[:2])
    assert result.energy == pytest.approx(theirs.get_potential_energy(), abs=1e-5)
    assert result.structure.cell[2, 2] == pytest.approx(theirs.cell[2, 2], abs=2e-3)


def test_fixed_cell_is_the_same_as_relax_cell_false() -> None:
    one, other = (
        relax([distorted_oxide()], MORSE, **option)[0] for option in ({"cell": "fixed"}, {"relax_cell": False})
    )
    np.testing.assert_array_equal(one.structure.cell.array, distorted_oxide().cell.array)
    assert (one.energy, one.n_steps) == (other.energy, other.n_steps)


class Watch(MorsePotential):
    def __init__(self) -> None:
        super().__init__()
        self.positions: list[np.ndarray] = []

    def compute(self, graph: Graph) -> Output:
        self.positions.append(graph.positions.numpy().copy())
        return super().compute(graph)


@pytest.mark.parametrize("optimizer", ["auto", "fire"])
def test_no_step_is_longer_than_the_longest(optimizer: str) -> None:
    potential = Watch()
    relax([molecule("CH3OH")], potential, max_steps=8, max_step=0.03, optimizer=optimizer)
    steps = np.linalg.norm(np.diff(potential.positions, axis=0), axis=2).max(axis=1)
    assert 0.01 < steps.max() <= 0.03 * (1 + 1e-9)


class Repelling(MorsePotential):
    """Everything is driven apart, by 1 eV/Å per pair within the cutoff."""

    def pair_energy(self, distance: torch.Tensor, z_i: torch.Tensor, z_j: torch.Tensor) -> torch.Tensor:
        return -distance


def test_atoms_that_leave_the_range_of_the_potential_are_named() -> None:
    good, bad = relax([molecule("H2"), bulk("Cu", a=8.0)], Repelling(), relax_cell=False, max_steps=200)
    assert "dissociated: 2 of its atoms have no neighbour" in good.error
    assert not good.converged
    assert bad.error is None  # nothing moves in a fixed cell with one atom


def test_pieces_and_their_extent() -> None:
    water = molecule("H2O")
    assert pieces(to_system(water), 1.3) == (1, 0)
    two = water + water.copy()
    two.positions[3:] += 5
    assert pieces(to_system(two), 1.3) == (2, 0)
    assert pieces(to_system(bulk("MgO", "rocksalt", a=4.2)), 1.3) == (1, 3)
    layer = graphene(vacuum=5.0)
    layer.pbc = True
    assert pieces(to_system(layer), 1.3) == (1, 2)
    chain = Atoms("C", cell=[1.4, 9, 9], pbc=True)
    assert pieces(to_system(chain), 1.3) == (1, 1)


def test_flags_say_what_became_of_a_structure() -> None:
    before = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    same = to_system(before)
    assert flags(same, same, 0.0) == ()
    expanded = before.copy()
    expanded.set_cell(1.8 * before.cell.array, scale_atoms=True)
    assert flags(same, to_system(expanded), 1.8**3 - 1) == ("dissociated", "large_volume_change")
    layers = before.copy()
    layers.set_cell(before.cell.array + np.diag([0, 0, 4.0]))  # a slab: endless in two directions only
    assert "dissociated" in flags(same, to_system(layers), 0.4)
    pressed = before.copy()
    pressed.set_cell(0.55 * before.cell.array, scale_atoms=True)
    assert flags(same, to_system(pressed), 0.55**3 - 1) == ("close_contact", "large_volume_change")


def test_results_carry_flags_force_calls_and_volume_change() -> None:
    (result,) = relax([bulk("Cu", a=4.6)], MORSE)
    assert result.converged and result.flags == ("large_volume_change",)
    assert result.n_force_calls == result.n_steps + 1 + result.n_check_calls
    change = result.structure.get_volume() / bulk("Cu", a=4.6).get_volume() - 1
    assert result.volume_change == pytest.approx(change, abs=1e-12)
    assert np.isnan(relax([molecule("H2O")], MORSE, max_steps=1)[0].volume_change)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"cell": "isotropic"}, "full, fixed, volume, shape"),
        ({"cell": (0, 0, 0, 0, 0, 0)}, "not all 0"),
        ({"cell": (1, 1)}, "3 × 3"),
        ({"cell": np.triu(np.ones((3, 3)))}, "symmetric"),
        ({"cell": "volume", "relax_cell": False}, "contradicts"),
        ({"cell": "volume", "pressure_gpa": 1.0}, "no effect"),
        ({"cell": "fixed", "pressure_gpa": 1.0}, "no effect"),
        ({"max_step": 0.0}, "max_step"),
        ({"max_step": 3.0}, "max_step"),
        ({"symprec": -1.0}, "symprec"),
        ({"symprec": 1.0}, "symprec"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(DPA4Error, match=word):
        relax([distorted_oxide()], MORSE, **options)


def test_symmetry_that_cannot_be_kept_is_the_error_of_the_structure() -> None:
    held = rutile()
    held.set_constraint(FixAtoms([0]))
    cluster, fixed, good = relax([molecule("H2O"), held, rutile()], MORSE, keep_symmetry=True, max_steps=2)
    assert "needs a crystal" in cluster.error
    assert "fixed atoms" in fixed.error
    assert good.error is None
    (masked,) = relax([bulk("Cu", a=3.7)], MORSE, keep_symmetry=True, cell=(1, 0, 0, 0, 0, 0))
    assert "breaks space group 225" in masked.error


def test_projections_of_the_cell() -> None:
    strain = np.arange(9.0)
    volume, shape = cell_projection("volume") @ strain, cell_projection("shape") @ strain
    np.testing.assert_allclose(volume + shape, strain)
    assert np.trace(volume.reshape(3, 3)) == pytest.approx(0)
    assert cell_projection("full") is None
    assert (cell_projection((1, 1, 0, 0, 0, 1)) @ strain).tolist() == [0, 1, 0, 3, 4, 0, 0, 0, 0]


def test_a_search_for_symmetry_that_fails_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """The C code of spglib writes to stderr: here about tin disulfide, relaxed by DPA4-Neo from a push."""
    cell = [[3.69987, 0.0, 0.00141], [-1.84993, 3.20346, 0.00707], [0.00094, 0.00544, 7.03999]]
    fractional = [[-0.00134, -0.0004, 0.00164], [0.33096, 0.66511, 0.21106], [0.66597, 0.33432, 0.79212]]
    operations(to_system(Atoms("SnS2", cell=cell, scaled_positions=fractional, pbc=True)), 0.01)
    assert capfd.readouterr().err == ""

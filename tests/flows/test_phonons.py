"""Phonons against independent codes and closed formulas, and the criterion for imaginary modes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase.phonons import Phonons
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from toy_campaign import rocksalt

from dpa4_core import DPA4Calculator, predict, relax
from dpa4_core.testing import MorsePotential
from dpa4_flows.analysis.phonons import PhononBands, dynamical_stability, q_words, thermal_properties
from dpa4_flows.analysis.supercells import best_supercell, shortest_vector

phonopy = pytest.importorskip("phonopy")
from dpa4_flows.analysis.force_constants import (  # noqa: E402
    PhononCalculation,
    commensurate_points,
    wave_box,
)

THZ_PER_EV = 1 / 4.135667696e-3


def cesium_chloride() -> Structure:
    return Structure(Lattice.cubic(2.9), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def calculated(structure: Structure, min_length: float = 8.0, displacement: float = 0.01) -> PhononCalculation:
    potential = MorsePotential()
    relaxed = relax([structure], potential, fmax=1e-5)[0]
    calculation = PhononCalculation(relaxed.structure, min_length=min_length, displacement=displacement)
    forces = [p.forces for p in predict([calculation.primitive, *calculation.displaced], potential, strict=True)]
    calculation.set_forces(forces[1:], forces[0])
    return calculation


@pytest.fixture(scope="module")
def magnesia() -> PhononCalculation:
    return calculated(rocksalt("Mg"))


# ---- frequencies


def test_frequencies_are_those_of_ase(magnesia, tmp_path):
    """ASE displaces every atom along every axis in a supercell of its own and knows no symmetry."""
    atoms = AseAtomsAdaptor.get_atoms(magnesia.primitive, msonable=False)
    phonons = Phonons(atoms, DPA4Calculator(MorsePotential()), supercell=(4, 4, 4), delta=0.01, name=tmp_path / "ase")
    phonons.run()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ASE, on how it reads its own files
        phonons.read(acoustic=True)
    q_points = np.array([[0, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0.5], [0.25, 0.5, 0.5]])
    expected = np.sort(np.real(phonons.band_structure(q_points)), axis=1) * THZ_PER_EV
    found = magnesia.at(q_points).frequencies_thz
    assert magnesia.supercell_length == pytest.approx(shortest_vector(4 * magnesia.primitive.lattice.matrix), rel=0.5)
    np.testing.assert_allclose(found[1:], expected[1:], rtol=0.02)
    np.testing.assert_allclose(found[0, 3:], expected[0, 3:], rtol=0.02)


def test_translations_cost_nothing(magnesia):
    gamma = magnesia.at(np.zeros((1, 3)))
    assert np.abs(gamma.frequencies_thz[0, :3]).max() < 1e-4
    assert 0 < magnesia.acoustic_noise_thz < 0.1
    assert np.isnan(gamma.without_translations()).sum() == 3


def test_forces_left_by_the_relaxation_are_not_answers_to_displacements():
    loose = cesium_chloride().apply_strain(0.01, inplace=False)
    loose = Structure(loose.lattice, loose.species, [[0, 0, 0], [0.5, 0.5, 0.52]])  # symmetry low, forces large
    potential = MorsePotential()
    calculations = [PhononCalculation(loose, min_length=6, displacement=d) for d in (0.001, 0.01)]
    bands = []
    for calculation in calculations:
        forces = [p.forces for p in predict([calculation.primitive, *calculation.displaced], potential, strict=True)]
        calculation.set_forces(forces[1:], forces[0])
        bands.append(calculation.at(np.array([[0.5, 0, 0]])).frequencies_thz)
    assert np.abs(forces[0]).max() > 0.1
    np.testing.assert_allclose(bands[0], bands[1], atol=0.05)


def test_a_crystal_at_another_volume_needs_no_other_search_for_symmetry():
    """Until its atoms move within the cell: then it is begun anew."""
    potential, crystal = MorsePotential(), rocksalt("Mg")
    first = PhononCalculation(crystal, min_length=6.0)
    larger = first.primitive.apply_strain(0.01, inplace=False)
    shared, fresh = first.scaled(larger), PhononCalculation(larger, min_length=6.0)
    for calculation in (shared, fresh):
        forces = [p.forces for p in predict([calculation.primitive, *calculation.displaced], potential, strict=True)]
        calculation.set_forces(forces[1:], forces[0])
    q_points = np.array([[0.5, 0, 0], [0.5, 0.5, 0.5], [0.25, 0.1, 0]])
    np.testing.assert_allclose(shared.at(q_points).frequencies_thz, fresh.at(q_points).frequencies_thz, atol=1e-6)
    meshes = [calculation.mesh(30.0) for calculation in (shared, fresh)]
    np.testing.assert_allclose(meshes[0].frequencies_thz, meshes[1].frequencies_thz, atol=1e-5)
    np.testing.assert_allclose(meshes[0].q_lengths, meshes[1].q_lengths, atol=1e-9)
    assert (
        shared.near_gamma == pytest.approx(fresh.near_gamma) and first.displaced[0].volume < shared.displaced[0].volume
    )
    larger.translate_sites([1], [0.0, 0.0, 0.01])
    assert first.scaled(larger) is None


# ---- supercells


def alone(lattice):
    return Structure(lattice, ["Si"], [[0, 0, 0]])


def test_supercells_are_long_even_and_small():
    a = 5.43  # silicon
    primitive = alone(Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]]))
    matrix, length = best_supercell(primitive, Lattice.cubic(a), 10.0, 99)
    assert round(abs(np.linalg.det(matrix))) == 32 and length == pytest.approx(10.86)  # 2x2x2 conventional cells
    matrix, length = best_supercell(alone(Lattice.cubic(4.0)), Lattice.cubic(4.0), 10.0, 99)
    assert matrix.tolist() == (4 * np.eye(3)).tolist() and length == pytest.approx(16)
    with pytest.raises(ValueError, match="600 Å apart need .* of 3,8.* atoms, more than 300: choose a smaller"):
        best_supercell(primitive, Lattice.cubic(a), 600.0, 300)
    matrix, _ = best_supercell(alone(Lattice.tetragonal(3, 12)), Lattice.tetragonal(3, 12), 10.0, 99)
    assert matrix.tolist() == np.diag([4, 4, 1]).tolist()


def test_supercell_holds_as_many_waves_as_cells():
    matrix = np.array([[-2, 2, 2], [2, -2, 2], [2, 2, -2]])
    points = commensurate_points(matrix)
    assert len(points) == 32 and np.allclose(points[0], 0)
    np.testing.assert_allclose(points @ matrix.T, np.round(points @ matrix.T), atol=1e-9)
    differences = points[:, None] - points[None]
    same = np.abs(differences - np.round(differences)).max(axis=2) < 1e-6
    assert same.sum() == 32  # each is itself only


@pytest.mark.parametrize("q", [(0, 0, 0), (0.5, 0.5, 0.5), (0.25, 0, 0.5), (1 / 3, 1 / 3, 0), (1 / 6, -1 / 3, 0.5)])
def test_smallest_box_of_a_wave(q):
    matrix = wave_box(q)
    assert np.abs(matrix @ q - np.round(matrix @ q)).max() < 1e-6
    order = next(n for n in range(1, 100) if np.allclose(np.round(n * np.array(q)), n * np.array(q)))
    assert round(abs(np.linalg.det(matrix))) == order


def test_supercell_beyond_the_limit_is_refused():
    with pytest.raises(ValueError, match="supercell of 64 atoms, more than 50: choose a smaller min_length"):
        PhononCalculation(rocksalt("Mg"), min_length=8, max_atoms=50)


# ---- displacement along a mode


def test_displacement_along_an_imaginary_mode_follows_the_forces():
    """In the harmonic range the force on each atom is m (2πf)² u outwards, in a box that holds the wave."""
    calculation = calculated(cesium_chloride(), min_length=5.0, displacement=0.002)
    found = dynamical_stability(calculation.mesh(30), calculation.commensurate(), calculation.near_gamma)
    assert found.verdict == "unstable" and not np.allclose(found.lowest_q, 0)
    amplitude = 0.002
    moved = calculation.displaced_along(found.lowest_q, amplitude)
    still = calculation.displaced_along(found.lowest_q, 0.0)
    omega2 = (2 * np.pi * found.f_min_commensurate_thz * 1e12) ** 2
    for after, before in zip(moved, still, strict=True):
        assert len(after) > len(calculation.primitive)
        shift = after.cart_coords - before.cart_coords
        assert np.linalg.norm(shift, axis=1).max() == pytest.approx(amplitude)
        forces = predict([after], MorsePotential(), strict=True)[0].forces
        mass = np.array([float(site.specie.atomic_mass) for site in after]) * 1.66053906660e-27  # kg
        expected = mass[:, None] * omega2 * shift * 1e-10 / 1.602176634e-9  # eV/Å
        np.testing.assert_allclose(forces, expected, atol=0.03 * np.abs(expected).max())


def test_degenerate_modes_are_combined():
    calculation = calculated(cesium_chloride(), min_length=5.0)
    found = dynamical_stability(calculation.mesh(30), calculation.commensurate(), calculation.near_gamma)
    frequencies, _ = calculation.modes(found.lowest_q)
    n_degenerate = int((frequencies < frequencies[0] + 0.05).sum())
    expected = {1: 1, 2: 4, 3: 8}[n_degenerate]
    assert len(calculation.displaced_along(found.lowest_q, 0.1)) == expected


# ---- the criterion


def bands(rows: dict[tuple[float, float, float], list[float]], weights: list[float] | None = None) -> PhononBands:
    q = np.array(list(rows), dtype=float)
    return PhononBands(
        q, np.linalg.norm(q, axis=1), np.array(list(rows.values())), np.array(weights or [1.0] * len(rows))
    )


GAMMA, NEAR, EDGE, BETWEEN = (0, 0, 0), (0.02, 0, 0), (0.5, 0, 0), (0.3, 0, 0)
FINE = {GAMMA: [-0.01, 0.0, 0.01, 5, 5, 6], EDGE: [2, 2, 3, 4, 5, 5]}


@pytest.mark.parametrize(
    ("mesh", "exact", "verdict", "said"),
    [
        ({}, {}, "stable", "no imaginary mode: lowest frequency away from Γ +2.00 THz"),
        ({NEAR: [-0.25, 0, 0.1, 5, 5, 6]}, {}, "stable", "no imaginary mode"),  # interpolated acoustic branch
        ({NEAR: [-0.5, 0, 0.1, 5, 5, 6]}, {}, "marginal", "near Γ"),
        ({BETWEEN: [-0.08, 1, 1, 4, 5, 6]}, {}, "stable", "lowest frequency away from Γ -0.08"),
        ({BETWEEN: [-0.2, 1, 1, 4, 5, 6]}, {}, "marginal", "within the noise"),
        ({BETWEEN: [-2.0, 1, 1, 4, 5, 6]}, {}, "marginal", "only between the waves that the supercell holds"),
        ({}, {EDGE: [-2.0, 1, 1, 4, 5, 6]}, "unstable", "-2.00 THz at q = (1/2, 0, 0)"),
        ({}, {GAMMA: [-7.0, -7.0, 0.001, 0.001, -0.001, 6]}, "unstable", "-7.00 THz at Γ"),
        ({GAMMA: [-0.2, 0, 0, 0.01, 5, 6]}, {GAMMA: [-0.2, 0, 0, 0.01, 5, 6]}, "marginal", "within the noise"),
    ],
)
def test_verdict_on_frequencies(mesh, exact, verdict, said):
    found = dynamical_stability(bands({**FINE, **mesh}), bands({**FINE, **exact}), near_gamma=0.05)
    assert (found.verdict, said in found.reason) == (verdict, True), found.reason


def test_imaginary_fraction_counts_weights_and_not_translations():
    mesh = bands({GAMMA: [-0.2, -0.15, -0.12, 5, 5, 6], EDGE: [-2, 2, 3, 4, 5, 5]}, weights=[1, 3])
    found = dynamical_stability(mesh, bands(FINE), near_gamma=0.05)
    assert found.imaginary_fraction == pytest.approx(3 / 24)
    assert found.gamma_optical_thz == (5, 5, 6)
    assert found.f_max_thz == 6


def test_one_atom_has_no_optical_modes():
    mesh = bands({GAMMA: [0, 0, 0], EDGE: [2, 2, 3]})
    found = dynamical_stability(mesh, bands({GAMMA: [0, 0, 0]}), near_gamma=0.05)
    assert found.verdict == "stable" and found.f_min_commensurate_thz == 2 and found.gamma_optical_thz == ()


def test_waves_have_words():
    assert q_words([0, 0, 0]) == "Γ"
    assert q_words([0.5, 1 / 3, -0.25]) == "q = (1/2, 1/3, -1/4)"


# ---- thermal properties


def test_einstein_solid():
    """One frequency: closed formulas, and Dulong and Petit at high temperature."""
    f, t = 8.0, 300.0
    mesh = bands({GAMMA: [f] * 3, EDGE: [f] * 3})
    zero, room, hot = thermal_properties(mesh, [0.0, t, 1e5])
    x = f / THZ_PER_EV / (8.617333262e-5 * t)
    gas = 8.31446261815324
    assert zero.free_energy_ev_per_atom == pytest.approx(1.5 * f / THZ_PER_EV)
    assert zero.entropy_j_mol_k == zero.heat_capacity_j_mol_k == 0
    assert room.heat_capacity_j_mol_k == pytest.approx(3 * gas * x**2 * np.exp(x) / (np.exp(x) - 1) ** 2)
    assert room.entropy_j_mol_k == pytest.approx(3 * gas * (x / (np.exp(x) - 1) - np.log(1 - np.exp(-x))))
    energy = room.free_energy_ev_per_atom + t * room.entropy_j_mol_k / 96485.33212
    assert energy == pytest.approx(3 * f / THZ_PER_EV * (0.5 + 1 / (np.exp(x) - 1)))
    assert hot.heat_capacity_j_mol_k == pytest.approx(3 * gas, rel=1e-4)


def test_thermal_properties_are_those_of_phonopy(magnesia):
    rows = thermal_properties(magnesia.mesh(40), [0, 100, 300, 1000])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # phonopy says that it drops the translations
        magnesia.phonopy.run_thermal_properties(temperatures=[0, 100, 300, 1000], cutoff_frequency=1e-3)
    expected = magnesia.phonopy.thermal_properties
    n = len(magnesia.primitive)
    for i, row in enumerate(rows):
        assert row.free_energy_ev_per_atom == pytest.approx(expected.free_energy[i] / 96.48533212 / n, abs=1e-5)
        assert row.entropy_j_mol_k == pytest.approx(expected.entropy[i] / n, abs=1e-3)
        assert row.heat_capacity_j_mol_k == pytest.approx(expected.heat_capacity[i] / n, abs=1e-3)


def test_force_constants_are_a_file_of_phonopy(tmp_path):
    calculation = calculated(cesium_chloride(), min_length=5.0)
    calculation.save(tmp_path / "cscl.yaml")
    loaded = phonopy.load(tmp_path / "cscl.yaml", log_level=0)
    loaded.run_qpoints([[0.5, 0, 0]])
    found = np.sort(loaded.qpoints.frequencies[0])
    np.testing.assert_allclose(found, calculation.at(np.array([[0.5, 0, 0]])).frequencies_thz[0], atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["cscl.yaml"]

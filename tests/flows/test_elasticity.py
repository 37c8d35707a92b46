"""Elastic tensors of media whose answer is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.analysis.elasticity import ElasticTensor
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.analysis.elasticity import (
    CRITERIA,
    alike_by_symmetry,
    debye_temperature,
    elastic_deformations,
    elastic_moduli,
    fit_elastic_tensor,
    mechanical_stability,
)


def tensor(system: str, **constants: float) -> np.ndarray:
    """[6, 6] of a crystal system from its independent constants."""
    c = {f"c{i}{j}": 0.0 for i in range(1, 7) for j in range(i, 7)} | constants
    if system == "cubic":
        c |= {"c22": c["c11"], "c33": c["c11"], "c13": c["c12"], "c23": c["c12"], "c55": c["c44"], "c66": c["c44"]}
    if system in ("hexagonal", "trigonal", "tetragonal"):
        c |= {"c22": c["c11"], "c23": c["c13"], "c55": c["c44"]}
    if system in ("hexagonal", "trigonal"):
        c["c66"] = (c["c11"] - c["c12"]) / 2
    if system == "trigonal":
        c |= {"c24": -c["c14"], "c56": c["c14"], "c25": -c["c15"], "c46": -c["c15"]}
    if system == "tetragonal":
        c["c26"] = -c["c16"]
    full = np.zeros((6, 6))
    for name, value in c.items():
        i, j = int(name[1]) - 1, int(name[2]) - 1
        full[i, j] = full[j, i] = value
    return full


def stresses_of(
    c_ij_gpa: np.ndarray, deformations: list[np.ndarray], rest: np.ndarray | float = 0.0
) -> list[np.ndarray]:
    """Cauchy stresses, eV/Å³, of a medium whose second Piola-Kirchhoff stress is linear in Green's strain."""
    c = np.array(ElasticTensor.from_voigt(c_ij_gpa))
    found = []
    for f in deformations:
        green = (f.T @ f - np.eye(3)) / 2
        second = np.einsum("ijkl,kl", c, green) + rest
        found.append(f @ second @ f.T / np.linalg.det(f) / EV_PER_ANGSTROM3_TO_GPA)
    return found


def rotated(c_ij_gpa: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    c = np.array(ElasticTensor.from_voigt(c_ij_gpa))
    return np.array(ElasticTensor(np.einsum("ai,bj,ck,dl,ijkl", *[rotation] * 4, c)).voigt)


CRYSTALS = {
    "cubic": (
        Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]]).get_primitive_structure(),
        tensor("cubic", c11=166, c12=64, c44=80),
    ),
    "hexagonal": (
        Structure.from_spacegroup(
            "P6_3mc", Lattice.hexagonal(3.25, 5.2), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.38]]
        ),
        tensor("hexagonal", c11=209, c12=120, c13=104, c33=211, c44=42),
    ),
    "tetragonal": (
        Structure.from_spacegroup(
            "P4_2/mnm", Lattice.tetragonal(4.6, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
        ),
        tensor("tetragonal", c11=268, c12=175, c13=147, c33=484, c44=124, c66=190),
    ),
}


@pytest.mark.parametrize("system", CRYSTALS)
def test_tensor_is_found_from_stresses_in_any_orientation(system):
    crystal, expected = CRYSTALS[system]
    turn = Rotation.from_euler("zyx", [0.4, -1.1, 2.0]).as_matrix()
    turned = Structure(crystal.lattice.matrix @ turn.T, crystal.species, crystal.frac_coords)
    deformations = elastic_deformations()
    assert len(deformations) == 24
    found = fit_elastic_tensor(turned, deformations, stresses_of(rotated(expected, turn), deformations))
    np.testing.assert_allclose(found.c_ij_gpa, expected, atol=0.02)
    assert found.crystal_system == system
    assert found.nonlinearity < 1e-4 and found.asymmetry_gpa < 0.01
    assert found.stability.stable and found.moduli is not None


@pytest.mark.parametrize(("system", "n_distinct"), [("cubic", 6), ("hexagonal", 20), ("tetragonal", 12)])
def test_strained_cells_that_symmetry_makes_the_same_have_one_stress(system, n_distinct):
    crystal, c_ij = CRYSTALS[system]
    deformations = elastic_deformations()
    alike = alike_by_symmetry(crystal, deformations)
    assert len({one.first for one in alike}) == n_distinct
    stresses = stresses_of(c_ij, deformations)
    turned = [one.turn @ stresses[one.first] @ one.turn.T for one in alike]
    np.testing.assert_allclose(turned, stresses, atol=1e-9 * np.abs(stresses).max())


def test_stress_left_by_the_relaxation_is_not_elasticity():
    crystal, expected = CRYSTALS["cubic"]
    rest = 0.05 * np.eye(3)  # GPa
    deformations = elastic_deformations()
    stresses = stresses_of(expected, deformations, rest)
    found = fit_elastic_tensor(crystal, deformations, stresses, rest / EV_PER_ANGSTROM3_TO_GPA)
    np.testing.assert_allclose(found.c_ij_gpa, expected, atol=0.1)
    assert found.nonlinearity < 1e-3


def test_isotropic_medium():
    lame, mu = 60.0, 40.0
    c = tensor("cubic", c11=lame + 2 * mu, c12=lame, c44=mu)
    moduli = elastic_moduli(c, atoms_per_a3=0.05, density_g_cm3=4.0)
    bulk = lame + 2 * mu / 3
    for value in (moduli.k_voigt_gpa, moduli.k_reuss_gpa, moduli.k_vrh_gpa):
        assert value == pytest.approx(bulk)
    for value in (moduli.g_voigt_gpa, moduli.g_reuss_gpa, moduli.g_vrh_gpa):
        assert value == pytest.approx(mu)
    assert moduli.e_vrh_gpa == pytest.approx(mu * (3 * lame + 2 * mu) / (lame + mu))
    assert moduli.poisson_ratio == pytest.approx(lame / (2 * (lame + mu)))
    assert moduli.universal_anisotropy == pytest.approx(0, abs=1e-9)
    assert moduli.pugh_ratio == pytest.approx(bulk / mu)
    np.testing.assert_allclose(mechanical_stability(c, "cubic").eigenvalues_gpa, [2 * mu] * 5 + [3 * bulk])


def test_numbers_of_real_solids():
    """Copper: 344 K from calorimetry, Hill's mean is some per cent off. Diamond: the 95.7 GPa of Chen's paper."""
    copper = elastic_moduli(tensor("cubic", c11=176.2, c12=124.9, c44=81.8), 4 / 3.603**3, 9.02)
    assert copper.debye_temperature_k == pytest.approx(344, rel=0.03)
    assert copper.pugh_ratio > 1.75
    diamond = elastic_moduli(tensor("cubic", c11=1079, c12=124, c44=578), 8 / 3.567**3, 3.515)
    assert diamond.vickers_hardness_gpa == pytest.approx(95.7, rel=0.04)
    lead = elastic_moduli(tensor("cubic", c11=49.5, c12=42.3, c44=14.9), 4 / 4.95**3, 11.3)
    assert lead.vickers_hardness_gpa == 0  # the formula gives a negative number


def test_debye_temperature_of_one_sound_velocity():
    """With K + 4/3 G = G (K negative, for this test only) both velocities are the same: Debye's formula is exact."""
    g, density, n = 50.0, 5.0, 0.06
    velocity = (1e9 * g / (1e3 * density)) ** 0.5
    expected = 1.054571817e-34 / 1.380649e-23 * velocity * (6 * np.pi**2 * n * 1e30) ** (1 / 3)
    assert debye_temperature(-g / 3, g, n, density) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("system", "constants", "said"),
    [
        ("cubic", {"c11": 100, "c12": 110, "c44": 50}, "C11 > C12 fails (C11 100.0, C12 110.0 GPa)"),
        ("cubic", {"c11": 100, "c12": 50, "c44": -5}, "C44 > 0 fails (C44 -5.0 GPa)"),
        ("cubic", {"c11": 100, "c12": -60, "c44": 50}, "C11 + 2 C12 > 0 fails"),
        ("hexagonal", {"c11": 100, "c12": 50, "c13": 90, "c33": 80, "c44": 30}, "C33 (C11 + C12) > 2 C13² fails"),
        ("tetragonal", {"c11": 100, "c12": 50, "c13": 20, "c33": 80, "c44": 30, "c66": 20, "c16": 40}, "2 C16² fails"),
        ("trigonal", {"c11": 100, "c12": 50, "c13": 20, "c33": 80, "c44": 30, "c14": 30}, "2 (C14² + C15²) fails"),
        ("orthorhombic", {"c11": 90, "c22": 90, "c33": 90, "c12": 95, "c44": 1, "c55": 1, "c66": 1}, "C11 C22 > C12²"),
        ("monoclinic", {"c11": 90, "c22": 90, "c33": 90, "c44": 20, "c55": 20, "c66": -9}, "softest strain +1.0 xy"),
    ],
)
def test_failing_criterion_is_named(system, constants, said):
    found = mechanical_stability(tensor(system, **constants), system)
    assert not found.stable and found.eigenvalues_gpa[0] < 0
    assert any(said in text for text in found.failed), found.failed
    assert said in found.reason


@pytest.mark.parametrize("system", CRITERIA)
def test_criteria_are_the_eigenvalues(system):
    """Of random tensors, all criteria of the system hold exactly where the smallest eigenvalue is positive."""
    random = np.random.default_rng(1)
    answers = set()
    for _ in range(400):
        names = {f"c{i}{i}": random.uniform(-5, 60) for i in range(1, 7)}
        names |= {name: random.uniform(-40, 40) for name in ("c12", "c13", "c23")}
        if system == "trigonal":
            names |= {name: random.uniform(-20, 20) for name in ("c14", "c15")}
        if system == "tetragonal":
            names["c16"] = random.uniform(-20, 20)
        c = tensor(system, **names)
        holds = all(difference(c) > 0 for _, difference in CRITERIA[system])
        assert holds == bool(np.linalg.eigvalsh(c)[0] > 0), names
        answers.add(holds)
    assert answers == {True, False}


def test_eigenvalues_do_not_depend_on_orientation():
    c = tensor("trigonal", c11=87, c12=7, c13=12, c33=106, c44=58, c14=-18)
    turn = Rotation.from_euler("zyx", [0.3, 0.9, -0.5]).as_matrix()
    one, two = (mechanical_stability(x, "trigonal").eigenvalues_gpa for x in (c, rotated(c, turn)))
    np.testing.assert_allclose(one, two)


def test_tensor_near_zero_is_marginal():
    found = mechanical_stability(tensor("cubic", c11=100, c12=50, c44=0.2), "cubic")
    assert found.stable and found.marginal and "hardly costs energy" in found.reason

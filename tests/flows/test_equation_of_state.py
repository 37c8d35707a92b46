"""Equations of state: forms with known parameters, a toy crystal, and what makes a fit doubtful."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.io.ase import AseAtomsAdaptor

import dpa4_core as dpa4
from dpa4_core.testing.morse import MorsePotential
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.analysis.elasticity import elastic_deformations, fit_elastic_tensor, structure_under
from dpa4_flows.analysis.equation_of_state import (
    STRAINS,
    birch_murnaghan,
    fit_equation_of_state,
    scaled,
    vinet,
)

V0, E0, B0_GPA, B1 = 16.48, -3.74, 77.8, 4.6  # close to aluminium
VOLUMES = V0 * (1 + np.array(STRAINS))
NOISE = np.array([1, -1, 1, 1, -1, 1, -1])
FORMS = {"birch-murnaghan": birch_murnaghan, "vinet": vinet}


def energies(form: str = "birch-murnaghan", volumes: np.ndarray = VOLUMES) -> np.ndarray:
    return FORMS[form](volumes, V0, E0, B0_GPA / EV_PER_ANGSTROM3_TO_GPA, B1)


def codes(volumes: np.ndarray, values: np.ndarray) -> list[str]:
    return [doubt.code for doubt in fit_equation_of_state(volumes, values).doubts]


@pytest.mark.parametrize("form", FORMS)
def test_parameters_of_a_form_are_found_again_in_any_order(form):
    order = [3, 0, 6, 1, 5, 2, 4]
    fit = fit_equation_of_state(VOLUMES[order], energies(form)[order], form)
    assert fit.volume == pytest.approx(V0, rel=1e-6)
    assert fit.energy == pytest.approx(E0, abs=1e-8)
    assert fit.bulk_modulus_gpa == pytest.approx(B0_GPA, rel=1e-4)
    assert fit.bulk_modulus_derivative == pytest.approx(B1, rel=1e-3)
    assert fit.residual < 1e-8
    assert fit.doubts == ()


@pytest.mark.parametrize("form", FORMS)
def test_bulk_modulus_and_its_derivative_are_what_pressure_says(form):
    pressure = -np.gradient(energies(form, v := np.linspace(0.98, 1.02, 401) * V0), v)
    modulus = -v * np.gradient(pressure, v)
    assert modulus[200] * EV_PER_ANGSTROM3_TO_GPA == pytest.approx(B0_GPA, rel=1e-4)
    assert np.gradient(modulus[5:-5], pressure[5:-5])[195] == pytest.approx(B1, rel=1e-2)


def test_a_toy_crystal_has_the_bulk_modulus_of_its_elastic_tensor():
    toy = MorsePotential()
    start = AseAtomsAdaptor.get_structure(bulk("Cu", "fcc", a=3.6))
    copper = dpa4.relax([start], toy, fmax=1e-5, relax_cell=True)[0].structure
    cells = scaled(copper)
    assert [cell.volume / copper.volume - 1 for cell in cells] == pytest.approx(STRAINS)
    fit = fit_equation_of_state([cell.volume for cell in cells], [p.energy for p in dpa4.predict(cells, toy)])
    deformations = elastic_deformations()
    strained = dpa4.predict([structure_under(copper, d) for d in deformations], toy)
    tensor = fit_elastic_tensor(copper, deformations, [np.array(p.stress) for p in strained])
    assert fit.volume == pytest.approx(copper.volume, rel=2e-3)
    assert fit.bulk_modulus_gpa == pytest.approx(tensor.moduli.k_vrh_gpa, rel=0.03)
    assert fit.doubts == ()


@pytest.mark.parametrize("ends", [(1.05, 1.15), (0.88, 0.97)])
def test_a_minimum_outside_the_volumes_is_said(ends):
    away = V0 * np.linspace(*ends, 7)
    fit = fit_equation_of_state(away, energies(volumes=away))
    assert fit.volume == pytest.approx(V0, rel=1e-4)
    assert [doubt.code for doubt in fit.doubts] == ["minimum_outside"]
    assert "16.48" in fit.doubts[0].sentence


def test_a_curve_without_a_minimum_has_no_bulk_modulus():
    fit = fit_equation_of_state(VOLUMES, 0.1 * (VOLUMES - V0))
    assert (fit.volume, fit.energy, fit.bulk_modulus_gpa, fit.bulk_modulus_derivative) == (None,) * 4
    assert [doubt.code for doubt in fit.doubts] == ["no_minimum"]


@pytest.mark.parametrize("place", range(6))
def test_a_step_of_the_energy_is_found_where_it_is(place):
    values = energies() + 2e-5 * NOISE
    values[place + 1 :] -= 0.02
    found = fit_equation_of_state(VOLUMES, values).doubts
    assert "energy_jumps" in [doubt.code for doubt in found]
    sentence = next(doubt.sentence for doubt in found if doubt.code == "energy_jumps")
    assert f"{VOLUMES[place]:.2f} and {VOLUMES[place + 1]:.2f}" in sentence
    assert float(sentence.split(" by ")[1].split()[0]) == pytest.approx(-20, abs=0.3)


def test_one_energy_off_the_curve_is_named():
    values = energies()
    values[2] += 0.005
    (doubt,) = fit_equation_of_state(VOLUMES, values).doubts
    assert doubt.code == "energy_jumps"
    assert f"{VOLUMES[2]:.2f}" in doubt.sentence


def test_noise_is_a_poor_fit_and_less_of_it_is_none():
    assert codes(VOLUMES, energies() + 3e-3 * NOISE) == ["poor_fit"]
    assert codes(VOLUMES, energies() + 2e-5 * NOISE) == []
    wide = V0 * np.linspace(0.8, 1.2, 7)  # where the energies differ by much more
    assert codes(wide, energies(volumes=wide) + 2e-3 * NOISE) == ["poor_fit"]


def test_too_few_volumes_are_refused():
    with pytest.raises(ValueError, match="4 volumes are too few"):
        fit_equation_of_state(VOLUMES[:4], energies()[:4])
    with pytest.raises(ValueError, match="above -1"):
        scaled(AseAtomsAdaptor.get_structure(bulk("Cu")), [-1.0])

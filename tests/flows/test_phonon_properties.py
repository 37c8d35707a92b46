"""Bands, densities of states, thermal expansion and cheap conductivities against closed formulas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.constants as si
from pymatgen.core import Structure
from toy_campaign import MORSE, rocksalt

from dpa4_core import relax
from dpa4_core.errors import DPA4Error
from dpa4_core.testing import MorsePotential
from dpa4_flows.analysis.lattice_conductivity import cahill, clarke, gruneisen_of_poisson, slack, sound_waves
from dpa4_flows.analysis.phonons import PhononBands
from dpa4_flows.analysis.quasi_harmonic import acoustic_gruneisen, quasi_harmonic
from dpa4_flows.campaigns.semiconductor import SEMICONDUCTOR
from dpa4_flows.compute.driver import Counts, compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.heat_conductivity import HeatConductivity
from dpa4_flows.properties.phonon_bands import PhononBands as Bands
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.properties.quasi_harmonic import STRAINED_MODES, QuasiHarmonic
from dpa4_flows.report.figures_phonons import bands_and_states, expansions

pytest.importorskip("phonopy")
MODEL = ModelRef(MORSE, dtype="float64")
SMALL: dict[str, Any] = {"min_length": 5.0, "mesh_length": 18.0}
# 18 Å: the number of wave vectors by length alone would change between the volumes
EXPANDS = QuasiHarmonic(strains=(-0.02, -0.01, 0.0, 0.01, 0.02, 0.03), temperatures_k=(0.0, 150.0, 300.0), **SMALL)


@pytest.fixture(scope="module")
def magnesia() -> Structure:
    return relax([rocksalt("Mg")], MorsePotential(), fmax=1e-5)[0].structure


def documents(structure: Structure, *wanted: Any) -> list[Any]:
    found = dict(compute([(str(i), Ask(one, Crystal(structure))) for i, one in enumerate(wanted)], MODEL))
    return [found[str(i)] for i in range(len(wanted))]


# ---- bands


def test_bands_and_states_are_those_of_the_same_force_constants(magnesia):
    """Bands meet where lines meet, modes are counted once, and the supercells of stability are not computed again."""
    counts = Counts()
    asks = [("phonons", Ask(Phonons(**SMALL), Crystal(magnesia))), ("bands", Ask(Bands(**SMALL), Crystal(magnesia)))]
    found = dict(compute(asks, MODEL, counts=counts))
    bands, phonons = found["bands"], found["phonons"]
    assert counts.n_requests == 1 + phonons.n_displacements
    ends = {}
    for segment in bands.segments:
        for label, frequencies in (
            (segment.start, segment.frequencies_thz[0]),
            (segment.end, segment.frequencies_thz[-1]),
        ):
            np.testing.assert_allclose(frequencies, ends.setdefault(label, frequencies), atol=1e-3)
    assert set(ends) == {"Γ", "X", "U", "K", "L", "W"}
    np.testing.assert_allclose(sorted(ends["Γ"])[3:], sorted(phonons.gamma_optical_thz), atol=1e-3)
    states = np.array(bands.density)
    assert np.trapezoid(states, bands.frequencies_thz) == pytest.approx(6, rel=0.03)
    np.testing.assert_allclose(sum(np.array(share) for share in bands.density_by_element.values()), states, atol=1e-5)
    warm = [row.by_element["O"] for row in bands.displacements]
    assert 0 < warm[0] < warm[1] < warm[2]
    # velocities: the slope of the longitudinal branch near Γ
    line = next(segment for segment in bands.segments if segment.start == "Γ")
    slope = (line.frequencies_thz[2][2] - line.frequencies_thz[1][2]) / (line.distances[2] - line.distances[1]) * 100
    assert line.velocities_m_s[1][2] == pytest.approx(slope, rel=0.02)
    assert 0 < bands.transverse_velocity_m_s < bands.longitudinal_velocity_m_s
    assert 0.8 < bands.sound_velocity_m_s / bands.transverse_velocity_m_s < 1.2
    (block,) = bands_and_states({"MgO": bands})
    assert "LO-TO" in block.caption and "X" in "".join(block.figure.layout.xaxis.ticktext)


def test_polar_modes_split_by_the_field_that_they_make(magnesia, tmp_path):
    """The closed formula of a cubic crystal of two atoms: ω_LO² - ω_TO² = Z²/(ε₀ ε∞ μ V)."""
    path = tmp_path / "born.toml"
    path.write_text("dielectric = 3.0\nborn = { Mg = 2.0, O = -2.0 }\n")
    plain, polar = documents(magnesia, Bands(**SMALL), Bands(field_response=str(path), **SMALL))
    assert polar.polar_splitting and not plain.polar_splitting
    line = next(segment for segment in polar.segments if segment.start == "Γ")  # the limit is along a direction
    longitudinal, transverse = line.frequencies_thz[1][-1], plain.segments[0].frequencies_thz[0][-1]
    mass = si.atomic_mass / (1 / 24.305 + 1 / 15.999)
    split = (2 * si.e) ** 2 / (si.epsilon_0 * 3.0 * mass * magnesia.get_primitive_structure().volume * 1e-30)
    assert longitudinal**2 - transverse**2 == pytest.approx(split / (2e12 * si.pi) ** 2, rel=0.05)
    assert polar.provenance.settings["field_response"]["born"] == {"Mg": 2.0, "O": -2.0}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "born.toml does not exist"),
        ("dielectric = 3.0\n", "'born' is missing"),
        ("dielectric = [1.0, 2.0]\nborn = {}\n", "dielectric"),
        ("dielectric = 3.0\nborn = { Mg = 'two' }\n", "born.Mg"),
    ],
)
def test_a_file_without_charges_is_refused_before_anything_is_computed(tmp_path: Path, text, sentence):
    if text is not None:
        (tmp_path / "born.toml").write_text(text)
    with pytest.raises(DPA4Error, match=sentence):
        Bands(field_response=str(tmp_path / "born.toml")).check()


def test_an_element_without_a_charge_is_an_error_of_its_crystal(magnesia, tmp_path):
    (tmp_path / "born.toml").write_text("dielectric = 3.0\nborn = { Mg = 2.0 }\n")
    (found,) = documents(magnesia, Bands(field_response=str(tmp_path / "born.toml"), **SMALL))
    assert found.error_code == "no_charge" and "no Born effective charge for O" in found.error


# ---- thermal expansion


def einstein(volumes: np.ndarray, gruneisen: float) -> list[PhononBands]:
    """Crystals of one frequency that falls with a power of the volume."""
    q = np.array([[0.0, 0.0, 0.0], [0.3, 0.1, 0.2]])
    lengths = np.array([0.0, 0.1])
    return [PhononBands(q, lengths, np.full((2, 3), 5.0 * (v / 10) ** -gruneisen), np.ones(2)) for v in volumes]


@pytest.mark.parametrize("gruneisen", [-0.5, 1.7])
def test_expansion_of_an_einstein_crystal_is_that_of_its_gruneisen_parameter(gruneisen):
    """α B V / C_V is the parameter exactly, since all modes have the same; C_P - C_V is α² B V T."""
    volumes = np.linspace(9.7, 10.6, 7)
    energies = 0.5 * 0.6 * (volumes - 10.0) ** 2 / 10.0
    meshes = einstein(volumes, gruneisen)
    rows, ended = quasi_harmonic(volumes, energies, meshes, [0.0, 100.0, 300.0, 500.0])
    assert ended is None and len(rows) == 4
    assert rows[0].expansion_per_k == 0 and rows[0].gruneisen is None
    for row in rows[1:]:
        assert row.gruneisen == pytest.approx(gruneisen, rel=0.02)
        assert np.sign(row.volume - rows[0].volume) == np.sign(gruneisen)
    slope = (rows[3].gibbs_energy - rows[2].gibbs_energy) / 200  # -S between 300 and 500 K
    mean = (rows[3].entropy_j_mol_k + rows[2].entropy_j_mol_k) / 2
    assert -slope * si.e * si.N_A == pytest.approx(mean, rel=0.02)
    assert acoustic_gruneisen(volumes[[2, 4]], [meshes[2], meshes[4]]) == pytest.approx(abs(gruneisen))


def test_a_curve_ends_where_its_volumes_end():
    volumes = np.linspace(9.9, 10.1, 6)
    energies = 0.5 * 0.1 * (volumes - 10.0) ** 2 / 10.0
    rows, ended = quasi_harmonic(volumes, energies, einstein(volumes, 3.0), [0.0, 1000.0])
    assert len(rows) < 2 and ended is not None and ended.code == "beyond_volumes"


def test_expansion_and_conductivity_of_a_crystal(magnesia):
    """A stiff pair potential expands, and the model of Slack takes the parameter of its phonons."""
    elastic = Elastic(strains=(-0.005, 0.005))
    expands, heat, cheap = documents(
        magnesia,
        EXPANDS,
        HeatConductivity(elastic=elastic, quasi_harmonic=EXPANDS),
        HeatConductivity(gruneisen="poisson", elastic=elastic),
    )
    assert [row.temperature_k for row in expands.rows] == [0.0, 150.0, 300.0] and not expands.doubts
    assert expands.rows[0].volume > magnesia.volume / len(magnesia)  # zero-point motion
    assert 0 < expands.expansion_300k < 50 and 0 < expands.gruneisen_300k < 5
    assert expands.heat_capacity_300k < 26
    assert heat.gruneisen == expands.gruneisen_acoustic and heat.gruneisen_from == "phonons"
    assert cheap.gruneisen_from == "poisson" and cheap.clarke_w_mk == heat.clarke_w_mk
    assert heat.slack_w_mk * heat.gruneisen**2 != pytest.approx(cheap.slack_w_mk * cheap.gruneisen**2, rel=1e-3)
    assert heat.clarke_w_mk < heat.slack_w_mk
    blocks = expansions({"MgO": expands})
    assert [block.name for block in blocks] == ["expansion", "heat-capacity-p", "bulk-modulus-t"]


def test_expansion_with_modes_that_are_imaginary_at_a_volume_is_unknown_in_campaigns(magnesia):
    """Expansion of a crystal to which another one was followed down does not fall with the modes of the first."""
    (found,) = documents(magnesia, replace(EXPANDS, strains=(-0.02, -0.01, 0.0, 0.01, 0.02, 1.1)))
    (doubt,) = [one for one in found.doubts if one.code == STRAINED_MODES]
    assert "1 of 6 volumes" in doubt.sentence
    voided = set(SEMICONDUCTOR.funnel().completed(doubt).voids)
    assert voided == {"expansion_300k", "heat_capacity_300k", "bulk_modulus_300k_gpa", "gruneisen_300k"}
    of_parent = Reason(code="imaginary_modes", sentence="of the crystal before it was followed")
    assert SEMICONDUCTOR.funnel().completed(of_parent).voids == []


def test_cheap_conductivities_of_a_crystal_four_times_as_heavy_are_half(magnesia):
    """Frequencies and sound are half; all three models go with the inverse root of the mass then."""
    heavy = magnesia.copy(site_properties={"masses": [4 * float(site.specie.atomic_mass) for site in magnesia]})
    wanted = HeatConductivity(gruneisen="poisson", elastic=Elastic(strains=(-0.005, 0.005)))
    (light,), (slow,) = documents(magnesia, wanted), documents(heavy, wanted)
    for name in ("slack_w_mk", "clarke_w_mk", "cahill_w_mk"):
        assert getattr(slow, name) == pytest.approx(getattr(light, name) / 2, rel=1e-3), name


def test_too_few_strains_are_refused():
    with pytest.raises(DPA4Error, match="at least 5 strains"):
        QuasiHarmonic(strains=(0.0, 0.01)).check()


# ---- conductivities


def test_conductivities_are_those_of_the_literature():
    """Slack's constant by the formula in natural constants; limits of silicon from measured moduli."""
    theta, gamma, mass, volume, n = 395.0, 1.06, 28.0855, 20.02, 2
    factor = 0.849 * 3 * 4 ** (1 / 3) / (20 * si.pi**3 * (1 - 0.514 / gamma + 0.228 / gamma**2))
    squared = (si.k * theta / si.hbar) ** 2
    length = (n * volume) ** (1 / 3) * 1e-10
    expected = factor * squared * si.k * mass * si.atomic_mass * length / (si.hbar * gamma**2) * theta / 300
    assert slack(theta * n ** (1 / 3), gamma, mass, volume, n) == pytest.approx(expected, rel=0.01)
    waves = sound_waves(97.9, 66.6, mass, volume)
    assert (waves.longitudinal_m_s, waves.transverse_m_s) == pytest.approx((8955, 5347), abs=5)
    assert clarke(162.9, mass, volume) == pytest.approx(1.36, abs=0.02)
    assert cahill(waves, volume) == pytest.approx(1.48, abs=0.02)
    assert gruneisen_of_poisson(1 / 4) == pytest.approx(1.5)

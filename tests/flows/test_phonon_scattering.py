"""Lattice conductivity by the scattering of phonons, on a toy crystal, and its error mode by mode."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from toy_campaign import MORSE, rocksalt

from dpa4_core import relax
from dpa4_core.errors import DPA4Error
from dpa4_core.testing import MorsePotential
from dpa4_flows import extras
from dpa4_flows.analysis.phonon_scattering import LatticeConductivity, kappa_srme
from dpa4_flows.compute.driver import Counts, compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.at_rest import AtRest
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.heat_conductivity import HeatConductivity
from dpa4_flows.properties.phonon_scattering import PhononScattering, mesh_changes
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.report.figures_phonons import scattering

MODEL = ModelRef(MORSE, dtype="float64")
SMALL: dict[str, Any] = {"min_length": 5.0, "scattering_length": 5.0, "cutoff": 3.0, "mesh_length": 15.0}


@pytest.fixture(scope="module")
def magnesia() -> Structure:
    return relax([rocksalt("Mg")], MorsePotential(), fmax=1e-5)[0].structure


def test_a_lattice_conducts_less_when_warm_and_by_phonons_that_go_far(magnesia: Structure, tmp_path: Path) -> None:
    """Axes of the crystal, shares of modes, fields of polar ones, the supercells, and what a dry run foresaw."""
    pytest.importorskip("phono3py")
    asked = PhononScattering(temperatures_k=(300.0, 600.0), **SMALL)
    (tmp_path / "born.toml").write_text("[MgO]\ndielectric = 3.0\nborn = { Mg = 2.0, O = -2.0 }\n")
    squeezed = magnesia.copy()
    squeezed.apply_strain([0.0, 0.0, -0.02])  # as far as a harmonic potential of pairs stays one
    heat = HeatConductivity(
        method="rta", gruneisen="poisson", elastic=Elastic(strains=(-0.005, 0.005)), scattering=asked
    )
    counts = Counts()
    asks = [
        ("phonons", Ask(Phonons(min_length=5.0), Crystal(magnesia))),
        ("cubic", Ask(asked, Crystal(magnesia))),
        ("tetragonal", Ask(asked, Crystal(squeezed))),
        ("split", Ask(replace(asked, field_response=str(tmp_path / "born.toml")), Crystal(magnesia))),
        ("heat", Ask(heat, Crystal(magnesia))),
    ]
    found = dict(compute(asks, MODEL, counts=counts))
    cubic, tetragonal, split = found["cubic"], found["tetragonal"], found["split"]
    assert "no_splitting" in {doubt.code for doubt in cubic.doubts} - {doubt.code for doubt in split.doubts}
    assert split.error is None and split.conductivity_w_mk != pytest.approx(cubic.conductivity_w_mk, rel=1e-3)
    foreseen = heat.cost(Crystal(magnesia))[0] + asked.cost(Crystal(squeezed))[0]
    assert counts.n_requests == foreseen  # those of phonons and of their scattering are shared
    assert cubic.error is None and cubic.n_supercells % 2 == 0  # each pattern with its opposite
    cold, warm = (row.conductivity_w_mk for row in cubic.rows)
    assert warm == pytest.approx(cold / 2, rel=0.2)
    np.testing.assert_allclose(cubic.rows[0].tensor_w_mk, cold * np.eye(3), rtol=1e-3, atol=1e-3 * cold)
    assert cubic.cumulative_w_mk[-1] == pytest.approx(cold, rel=1e-3)
    assert 0 < cubic.paths_nm[0] < cubic.half_path_nm < cubic.paths_nm[-1]
    assert found["heat"].phonons_w_mk == cubic.conductivity_w_mk and found["heat"].slack_w_mk > 0
    assert HeatConductivity().parts == ()  # the models alone cost no third order
    assert cubic.anisotropy == pytest.approx(1, abs=1e-3) and tetragonal.anisotropy > 1.01
    assert tetragonal.xx_w_mk == pytest.approx(tetragonal.yy_w_mk, rel=1e-3) != tetragonal.zz_w_mk
    assert [block.name for block in scattering({"MgO": cubic})] == ["conductivity-of-phonons", "mean-free-paths"]


def test_a_crystal_with_an_imaginary_mode_has_no_conductivity() -> None:
    pytest.importorskip("phono3py")
    simple = Structure(np.eye(3) * 2.6, ["Mg"], [[0, 0, 0]])
    (found,) = dict(compute([("Mg", Ask(PhononScattering(**SMALL), Crystal(simple)))], MODEL)).values()
    assert found.error_code == "imaginary_modes" and "no phonons to scatter" in found.error


def test_without_its_package_one_sentence_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(DPA4Error, match=r"needs phono3py and symfc, .*pip install 'dpa4-flows\[kappa\]'"):
        PhononScattering().check()


def test_heat_up_to_a_length_is_that_of_the_modes_below_it() -> None:
    paths, shares = np.array([[1.0, 100.0, 10.0, np.inf]]), np.array([[2.0, 5.0, 3.0, 0.0]])
    found = LatticeConductivity((1, 1, 1), (300.0,), 10 * np.eye(3)[None], shares, paths)
    lengths, heat = found.cumulative(0, 3)
    np.testing.assert_allclose(lengths, [1, 10, 100], rtol=1e-6)
    np.testing.assert_allclose(heat, [2, 5, 10])
    assert found.means_w_mk[0] == 10


@pytest.mark.parametrize(
    ("meshes", "means", "words"),
    [
        ((12, 9, 6), (10.0, 9.5, 8.5), ""),
        ((12, 9, 6), (10.0, 8.5, 7.0), r"changed by \+18 % from \(9, 9, 9\)"),
        ((12, 9, 6), (10.0, 10.1, 2.0), r"changed by \+400 % from \(6, 6, 6\)"),
        ((4, 4, 2), (10.0, 10.0, 9.0), "too few"),
        ((3, 2, 2), (10.0, 0.0, 0.0), "changed by"),
    ],
    ids=["settled", "falling", "two agree by chance", "the same mesh", "nothing"],
)
def test_a_mesh_is_settled_where_two_coarser_ones_say_so(
    meshes: tuple[int, ...], means: tuple[float, ...], words: str
) -> None:
    fine, *coarser = (
        LatticeConductivity((n, n, n), (600.0,), mean * np.eye(3)[None], np.ones((1, 1)), np.ones((1, 1)))
        for n, mean in zip(meshes, means, strict=True)
    )
    _, told = mesh_changes(fine, coarser)
    assert re.search(words, told) if words else told == ""


def test_errors_of_modes_do_not_cancel() -> None:
    reference = np.array([3.0, 1.0, 0.0])
    assert kappa_srme(reference, reference) == 0
    assert kappa_srme(reference[::-1], reference) == pytest.approx(2 * 6 / 8)  # the sums agree
    assert kappa_srme(2 * reference, reference) == pytest.approx(2 * 4 / 12)  # twice as much, mode by mode
    assert kappa_srme(None, reference) == kappa_srme(np.array([np.nan, 1, 1]), reference) == 2


@pytest.mark.slow
@pytest.mark.network
def test_the_whole_collision_matrix_of_silicon_carries_what_relaxation_times_do() -> None:
    """Few collisions in silicon keep the heat going: both solutions are within a few percent of each other."""
    pytest.importorskip("phono3py")
    silicon = AseAtomsAdaptor.get_structure(bulk("Si"))
    coarse = {"scattering_length": 7.0, "mesh_length": 30.0, "temperatures_k": (300.0,)}
    asks = [(one, Ask(AtRest(PhononScattering(solution=one, **coarse)), Crystal(silicon))) for one in ("rta", "direct")]
    found = dict(compute(asks, ModelRef("dpa4-neo")))
    rta, direct = found["rta"], found["direct"]
    assert rta.error is direct.error is None and direct.anisotropy == pytest.approx(1, abs=1e-3)
    assert direct.conductivity_w_mk == pytest.approx(rta.conductivity_w_mk, rel=0.05)
    assert direct.cumulative_w_mk[-1] == pytest.approx(direct.conductivity_w_mk, rel=1e-3)

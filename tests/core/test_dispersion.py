"""D3(BJ) against simple-dftd3, its derivatives, and a potential with it."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.spacegroup import crystal

import dpa4_core as dpa4
from dpa4_core.data.neighbours import graph_without_edges
from dpa4_core.data.structures import to_system
from dpa4_core.dispersion import images
from dpa4_core.dispersion.d3 import D3, DAMPINGS, Range
from dpa4_core.loaded import as_potential
from dpa4_core.model.info import ModelInfo
from dpa4_core.potential import Output
from dpa4_core.terms import SumPotential, card_with_dispersion, with_dispersion
from dpa4_core.testing import MorsePotential, check_stress_against_differences, run_physics_suite
from dpa4_core.testing.morse import morse_committee
from dpa4_core.units import BOHR_ANGSTROM, HARTREE_EV

SHARP = Range(cutoff=60 * BOHR_ANGSTROM, taper=0.0, count_cutoff=40 * BOHR_ANGSTROM, count_taper=0.0, tail=False)
"""The defaults of simple-dftd3."""
SHORT = Range(cutoff=8.0, taper=3.0, count_cutoff=7.0, count_taper=2.0, tail=False)
PAIR = molecule("C6H6"), molecule("C6H6")
PAIR[1].positions += [1.6, 0.3, 3.5]
WATER = [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0], [2.9, 0.3, 0.2], [3.4, 0.9, 0.7], [3.3, -0.6, -0.1]]
COBALTATE = crystal(
    ["Li", "Co", "O"],
    [(0, 0, 0.5), (0, 0, 0), (0, 0, 0.2605)],
    spacegroup=166,
    cellpar=[2.816, 2.816, 14.05, 90, 90, 120],
    primitive_cell=True,
)
GRAPHITE = Atoms(
    "C4",
    cell=[[2.46, 0, 0], [-1.23, 2.1304224, 0], [0, 0, 6.708]],
    scaled_positions=[[0, 0, 0.25], [1 / 3, 2 / 3, 0.25], [0, 0, 0.75], [2 / 3, 1 / 3, 0.75]],
    pbc=True,
)
MOLYBDENITE = crystal(
    ["Mo", "S"],
    [(1 / 3, 2 / 3, 0.25), (1 / 3, 2 / 3, 0.621)],
    spacegroup=194,
    cellpar=[3.16, 3.16, 12.295, 90, 90, 120],
)
# dftd3 1.7.0 (PyPI), s9 = 0, with these lengths and energies: cutoffs of 60 and 40 bohr, and its Ewald sum (to 1e-10)
CASES = {
    "diamond": (bulk("C", "diamond", a=3.567), "pbe", -0.38232598221386094, -0.3825770055726503),
    "NaCl": (bulk("NaCl", "rocksalt", a=5.64), "pbe", -0.4286470685577332, -0.4290841226550312),
    "graphite": (GRAPHITE, "pbe", -0.6255412756221282, -0.6259697760726393),
    "MoS2": (MOLYBDENITE, "pbe", -2.5601372998373275, -2.5626074369698624),
    "LiCoO2": (COBALTATE, "pbe", -0.9242681030681438, -0.9250716552333297),
    "caesium": (bulk("Cs", "bcc", a=6.14), "pbe", -0.08821686053016356, -0.08845133472928655),
    "copper": (bulk("Cu", "fcc", a=3.6, cubic=True), "pbe", -2.3606363451118284, -2.3630094332133744),
    "benzene dimer": (PAIR[0] + PAIR[1], "pbe", -0.767181730881582, None),
    "water dimer": (Atoms("OHHOHH", positions=WATER), "pbe", -0.03713975470140985, None),
    "water dimer, PBEsol": (Atoms("OHHOHH", positions=WATER), "pbesol", -0.012520088899848854, None),
    "water dimer, r2SCAN": (Atoms("OHHOHH", positions=WATER), "r2scan", -0.010453981704108687, None),
    "U-Th": (Atoms("UTh", positions=[[0, 0, 0], [2.7, 0.1, 0.3]]), "pbe", -0.09470198488768061, None),
}


def computed(*structures: Atoms, reach: Range | None = None, name: str = "d3bj-pbe") -> Output:
    return D3(name, reach=reach).compute(graph_without_edges([to_system(one) for one in structures]))


@pytest.mark.parametrize("name", CASES)
def test_energies_are_those_of_simple_dftd3(name: str) -> None:
    atoms, functional, sharp, endless = CASES[name]
    found = computed(atoms, reach=SHARP, name=f"d3bj-{functional}")
    assert float(found.energy) == pytest.approx(sharp, abs=1e-9)
    assert float(found.atom_energies.sum()) == pytest.approx(sharp, abs=1e-9)
    if endless is not None:  # the reach in use is as good as none, beyond what a network says
        assert float(computed(atoms).energy) == pytest.approx(endless, abs=1e-5 * len(atoms))


def test_forces_and_virial_are_those_of_simple_dftd3() -> None:
    moved = COBALTATE.copy()
    moved.positions += [[0.1, 0, -0.05], [0, 0.07, 0.02], [-0.03, 0.05, 0.1], [0.02, -0.06, 0.04]]
    found = computed(moved, reach=SHARP)
    gradient = [
        [-0.0006866306496481219, 0.00013816401608784677, -0.0008497986859091611],
        [0.0002623047426745092, -0.0005156380152447488, 0.0015954724454980002],
        [0.00031862244015830804, 7.940013082318152e-06, 0.002846162366641196],
        [0.00010570346681530145, 0.0003695339860745811, -0.0035918361262300266],
    ]  # eV/Å
    by_strain = [
        [0.03514134128215349, -1.4046979495029113e-05, 6.480981710195351e-08],
        [-1.404697949502937e-05, 0.035095740081104485, 4.498712021277045e-06],
        [6.480981710201071e-08, 4.4987120212774525e-06, 0.03508968487745138],
    ]  # hartree
    np.testing.assert_allclose(found.forces, -np.array(gradient), atol=1e-9)
    np.testing.assert_allclose(found.virial[0], -HARTREE_EV * np.array(by_strain), atol=1e-7)


def test_a_potential_with_dispersion_passes_the_physics_suite() -> None:
    short = SumPotential(MorsePotential(), D3("d3bj-pbe", reach=SHORT), ModelInfo())
    assert [result.message for result in run_physics_suite(short) if not result.passed] == []
    # what lies beyond the taper goes with the density, and so does the stress
    endless = SumPotential(MorsePotential(), D3("d3bj-pbe", reach=dataclasses.replace(SHORT, tail=True)), ModelInfo())
    check_stress_against_differences(endless, [COBALTATE])


def test_parts_of_any_size_give_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    several = (COBALTATE, molecule("CH3OH"), GRAPHITE * (3, 3, 1), bulk("Cs", "bcc", a=6.14), bulk("Cu"))
    whole = computed(*several, reach=SHORT)
    monkeypatch.setitem(images._IMAGES_AT_ONCE, "cpu", 300)
    for one, other in zip(computed(*several, reach=SHORT)[:5], whole[:5], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_a_cell_of_two_cutoffs_has_the_energy_of_its_parts() -> None:
    reach = dataclasses.replace(SHORT, tail=True)
    part = bulk("Ar", "sc", a=0.55 * reach.cutoff)
    whole = part * (4, 4, 4)
    assert computed(whole, reach=reach).energy[0] == pytest.approx(64 * float(computed(part, reach=reach).energy[0]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_sums() -> None:
    graph = graph_without_edges([to_system(one) for one in (COBALTATE, molecule("CH3OH"), GRAPHITE, MOLYBDENITE)])
    for one, other in zip(D3("d3bj-pbe", "cuda").compute(graph)[:5], D3("d3bj-pbe").compute(graph)[:5], strict=True):
        np.testing.assert_allclose(one.cpu(), other, atol=1e-10)


def test_everything_that_takes_a_potential_takes_one_with_dispersion() -> None:
    toy, added = MorsePotential(), float(computed(GRAPHITE).energy)
    both = with_dispersion(toy, "d3bj-pbe")
    assert dpa4.predict(GRAPHITE, both)[0].energy == pytest.approx(dpa4.predict(GRAPHITE, toy)[0].energy + added)
    atoms = GRAPHITE.copy()
    atoms.calc = dpa4.DPA4Calculator(toy, dispersion="d3bj-pbe")
    assert atoms.get_potential_energy() == pytest.approx(dpa4.predict(GRAPHITE, both)[0].energy)
    one, other = (dpa4.relax([bulk("NaCl", "rocksalt", a=5.64)], of, check_minimum=False)[0] for of in (toy, both))
    assert one.converged and other.converged and other.structure.cell.volume < one.structure.cell.volume
    # deviations of a committee are those of its members
    members = morse_committee()
    plain, more = dpa4.predict(GRAPHITE, members)[0], dpa4.predict(GRAPHITE, with_dispersion(members, "d3bj-pbe"))[0]
    assert more.energy_std == pytest.approx(plain.energy_std)
    np.testing.assert_allclose(more.member_energies, plain.member_energies + added)
    assert dpa4.relax([GRAPHITE], with_dispersion(members, "d3bj-pbe"), max_steps=2)[0].member_energies.shape == (3,)


def test_a_potential_with_dispersion_is_shared_as_long_as_somebody_uses_it() -> None:
    base = MorsePotential()
    both = as_potential(base, dispersion="d3bj-pbe")
    assert as_potential(base, dispersion="d3bj-pbe") is both
    gone = weakref.ref(both)
    del both
    gc.collect()
    assert gone() is None


def test_the_card_of_a_model_with_dispersion_is_another_one() -> None:
    info = ModelInfo("mine", sha256="a" * 64, level_of_theory="PBE, PBE+U (Materials Project)")
    card = card_with_dispersion(info, "d3bj-pbe")
    assert card.sha256 != info.sha256 and card.level_of_theory.startswith(info.level_of_theory)
    assert (card.name, card.dispersion) == ("mine + d3bj-pbe", "d3bj-pbe")
    unstated = dataclasses.replace(info, level_of_theory="unknown")
    assert len({card_with_dispersion(unstated, name).sha256 for name in DAMPINGS} | {info.sha256}) == 1 + len(DAMPINGS)
    with pytest.raises(dpa4.DPA4Error, match="fitted to r2SCAN, and mine is PBE, .*; take d3bj-pbe$"):
        card_with_dispersion(info, "d3bj-r2scan")
    with pytest.raises(dpa4.DPA4Error, match="mine \\+ d3bj-pbe has dispersion \\(d3bj-pbe\\) already"):
        card_with_dispersion(card, "d3bj-pbe")
    with pytest.raises(dpa4.DPA4Error, match="unknown dispersion 'd3'; choose from d3bj-pbe, "):
        with_dispersion(MorsePotential(), "d3")
    assert with_dispersion(MorsePotential(), "d3bj-r2scan").info.name == "MorsePotential + d3bj-r2scan"
    with pytest.raises(dpa4.DPA4Error, match="without dispersion, add it in load"):
        dpa4.save(with_dispersion(MorsePotential(), "d3bj-pbe"), "x.dpa4")


@pytest.mark.slow
def test_layers_of_boron_nitride_and_molybdenite_are_as_far_apart_as_measured(neo_path: Path) -> None:
    nitride = crystal(
        ["B", "N"],
        [(1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.25)],
        spacegroup=194,
        cellpar=[2.504, 2.504, 6.661, 90, 90, 120],
    )
    both = dpa4.load(neo_path, dispersion="d3bj-pbe")
    for found, measured in zip(dpa4.relax([nitride, MOLYBDENITE], both, fmax=0.005), (6.661, 12.295), strict=True):
        assert found.converged and found.structure.cell.lengths()[2] == pytest.approx(measured, rel=0.03)

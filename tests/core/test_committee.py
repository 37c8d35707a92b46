"""Committees: several models as one potential, one file, and what their spread says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from toy_members import CONFIG, member_files

from dpa4_core import DPA4Calculator, DPA4Error, evaluate, load, predict, relax
from dpa4_core.committee import Committee
from dpa4_core.model.checkpoint import convert, write_model
from dpa4_core.model.committee import common_card, write_committee
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.testing import MorsePotential, morse_committee
from dpa4_core.testing.suite import run_physics_suite
from dpa4_core.uncertainty import Stretch, most_uncertain

INFO = ModelInfo(level_of_theory="toy", elements=(8, 12))


def rattled(amplitude: float, seed: int = 0):
    atoms = bulk("MgO", "rocksalt", a=4.2)
    atoms.rattle(amplitude, seed=seed)
    return atoms


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A base, and three members that are rank-2 adapters on it, each in a file of its own."""
    return member_files(tmp_path_factory.mktemp("members"), INFO, 3)


def test_a_committee_is_the_mean_of_its_members_and_says_how_far_they_are_apart():
    committee, structures = morse_committee(3), [rattled(0.05), rattled(0.2).repeat((1, 1, 2))]
    alone = [predict(structures, member) for member in committee.members]
    for found, *each in zip(predict(structures, committee), *alone, strict=True):
        assert found.energy == pytest.approx(np.mean([one.energy for one in each]))
        assert found.member_energies == pytest.approx([one.energy for one in each])
        assert found.energy_std == pytest.approx(np.std([one.energy for one in each], ddof=1))
        assert found.forces_std == pytest.approx(np.std([one.forces for one in each], axis=0, ddof=1))
        assert found.stress_std == pytest.approx(np.std([one.stress for one in each], axis=0, ddof=1))
    single = alone[0][0]
    assert single.energy_std is single.forces_std is single.stress_std is single.worst_force_std is None


def test_the_mean_is_a_potential_like_any_other():
    failed = [check for check in run_physics_suite(morse_committee()) if not check.passed]
    assert not failed, failed


def test_a_relaxation_on_the_mean_ends_where_the_mean_force_vanishes_with_the_spread_there():
    committee = morse_committee()
    (result,) = relax([rattled(0.1)], committee, fmax=1e-3)
    (there,) = predict([result.structure], committee)
    assert result.converged and result.fmax < 1e-3
    assert result.member_energies == pytest.approx(there.member_energies)
    assert result.forces_std == pytest.approx(there.forces_std, abs=1e-9)
    assert result.stress_std == pytest.approx(there.stress_std, abs=1e-9)
    assert relax([rattled(0.1)], MorsePotential())[0].energy_std is None


def test_what_members_disagree_about_comes_first():
    results = predict([rattled(0.02), rattled(0.3), "nothing", rattled(0.1)], morse_committee())
    assert most_uncertain(results) == [1, 3, 0]
    assert most_uncertain(results, 1) == [1]


@pytest.mark.parametrize("with_base", [True, False])
def test_a_file_of_members_opens_as_one_model_that_agrees_with_each_of_them(files, tmp_path, with_base):
    base, *members = files
    path = write_committee(members, tmp_path / "four.dpa4", base=base if with_base else None, facts={"seen": 3})
    committee = load(path, dtype="float64")
    structures = [rattled(0.1), rattled(0.2, 1)]
    for _ in range(2):  # members take turns on one network
        found = predict(structures, committee)
        for k, member in enumerate(members):
            for one, alone in zip(found, predict(structures, load(member, dtype="float64")), strict=True):
                assert one.member_energies[k] == pytest.approx(alone.energy, abs=2e-6)
    assert committee.info.sha256 and committee.info.name == "four" and committee.info.level_of_theory == "toy"
    assert len(committee.info.training["members"]) == 3 and committee.info.training["seen"] == 3
    if with_base:  # members are adapters, a third of the network with these few channels
        assert path.stat().st_size < 0.6 * sum(file.stat().st_size for file in members)


def test_what_cannot_be_a_committee_is_refused_with_one_sentence(files, tmp_path):
    base, *members = files
    with pytest.raises(DPA4Error, match="2 to 64 members, not 1"):
        write_committee(members[:1], tmp_path / "one.dpa4")
    other = write_model(DPA4(dataclasses.replace(CONFIG, channels=8)), INFO, tmp_path / "other.dpa4")
    with pytest.raises(DPA4Error, match="different form"):
        write_committee([members[0], other], tmp_path / "two.dpa4")
    r2scan = write_model(DPA4(CONFIG), dataclasses.replace(INFO, level_of_theory="r2SCAN"), tmp_path / "r2scan.dpa4")
    with pytest.raises(DPA4Error, match="different levels of theory"):
        write_committee([members[0], r2scan], tmp_path / "two.dpa4")
    with pytest.raises(DPA4Error, match="one cutoff"):
        Committee([MorsePotential(), MorsePotential(cutoff=5.0)])
    zeros = ({"Mg": "a"}, {"Mg": "b", "O": "a"}, {})
    cards = [dataclasses.replace(INFO, zeros=zero, undecided=("O",) if zero else ()) for zero in zeros]
    card = common_card(cards, "mean")
    assert card.zeros == {"Mg": "+a+b", "O": "+a"} and card.undecided == ("O",)
    path = write_committee(members, tmp_path / "three.dpa4", base=base)
    with pytest.raises(DPA4Error, match="holds a committee"):
        convert(path, tmp_path / "three.pt")


def test_a_committee_that_was_compared_with_errors_does_not_claim_less():
    structures, plain = [rattled(0.05), rattled(0.2)], morse_committee(3)
    wider = Committee(plain.members, stretch=Stretch(energy=3.0, force=2.0))
    for one, other in zip(predict(structures, plain), predict(structures, wider), strict=True):
        assert other.energy == one.energy and other.energy_std == pytest.approx(3 * one.energy_std)
        assert other.forces_std == pytest.approx(2 * one.forces_std)
        assert other.stress_std == pytest.approx(one.stress_std)
    compared = {"energy": {"n": 9, "ratio": 2.5}, "force": {"n": 40, "ratio": 0.4}, "stress": {"n": 2, "ratio": 7.0}}
    assert Stretch.of(compared) == Stretch(energy=2.5), "nothing shrinks, and two frames say nothing"


def test_deviations_are_compared_with_errors_where_there_are_labels():
    committee = morse_committee(4, 0.1)
    structures = [rattled(amplitude, seed) for seed, amplitude in enumerate((0.02, 0.1, 0.2, 0.3))]
    for atoms in structures:
        truth = DPA4Calculator(committee.members[0])
        atoms.calc = SinglePointCalculator(
            atoms, energy=truth.get_potential_energy(atoms), forces=truth.get_forces(atoms)
        )
    found = evaluate(structures, committee).uncertainty
    assert set(found) == {"energy", "force"} and found["force"]["n"] == 8
    for values in found.values():
        assert values["ratio"] == pytest.approx(values["rmse"] / values["std"])
        assert values["spearman"] > 0.7
    assert found["energy"]["rmse"] == pytest.approx(evaluate(structures, committee).energy_rmse)
    assert evaluate(structures, MorsePotential()).uncertainty == {}

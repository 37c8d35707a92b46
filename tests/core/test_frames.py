"""What a data set holds and what is wrong with it, splits, and the sign of the stress."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from labelled_files import KBAR, labelled, summarise, toy_frames

from dpa4_core.data.frame_summary import SummaryBuilder
from dpa4_core.data.frames import BrokenFrame, Frame, LabelKeys, frame_of_atoms, read_frames
from dpa4_core.data.splits import split_by_group
from dpa4_core.data.stress_check import StressCheck
from dpa4_core.data.structures import to_system
from dpa4_core.errors import DPA4Error

DATA = Path(__file__).parent.parent / "data" / "frames"
GPA = 160.2176634


def check_stress_sign(frames):
    check = StressCheck()
    for frame in frames:
        if isinstance(frame, Frame):
            check.add(frame)
    return check.verdict()


def as_frame(atoms: Atoms, name: str = "x") -> Frame:
    return frame_of_atoms(atoms, LabelKeys(), name=name)


def scan(kind: str) -> list[Frame]:
    """Strained copies of a rattled crystal, isotropic, uniaxial or sheared, with a little internal displacement."""
    shape = {
        "volume": np.eye(3),
        "uniaxial": np.diag([0, 0, 1.0]),
        "shear": np.array([[0, 1, 0], [0, 0, 0], [0, 0, 0]]),
    }
    atoms = bulk("MgO", "rocksalt", a=4.3, cubic=True)
    atoms.rattle(0.08, seed=3)
    frames = []
    for i, strain in enumerate((-0.02, -0.01, 0.0, 0.01, 0.02)):
        copy = atoms.copy()
        copy.set_cell(atoms.cell @ (np.eye(3) + strain * shape[kind]), scale_atoms=True)
        copy.rattle(0.02, seed=i)
        frames.append(as_frame(labelled(copy)))
    return frames


def with_stress(frames: list[Frame], factor: float) -> list[Frame]:
    return [
        dataclasses.replace(frame, stress=None if frame.stress is None else factor * frame.stress) for frame in frames
    ]


@pytest.mark.parametrize("kind", ["volume", "uniaxial", "shear"])
def test_stress_of_the_right_sign_and_unit_is_silent(kind: str) -> None:
    assert check_stress_sign(scan(kind)) is None


@pytest.mark.parametrize("kind", ["volume", "uniaxial"])
@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (-1, "opposite sign"),
        (-KBAR, "kbar with the sign of VASP"),
        (KBAR, "are in kbar:"),
        (GPA, "are in GPa:"),
        (-GPA, "in GPa with the opposite sign"),
        (-1 / KBAR, "taken for kbar"),
        (5.0, "times what they should be"),
    ],
)
def test_stress_of_another_sign_or_unit_is_told(kind: str, factor: float, words: str) -> None:
    sentence = check_stress_sign(with_stress(scan(kind), factor))
    assert sentence is not None and words in sentence and "\n" not in sentence


def test_nothing_is_said_of_stress_without_strained_copies() -> None:
    assert check_stress_sign([]) is None
    assert check_stress_sign(with_stress([as_frame(atoms) for atoms in toy_frames()][:1], -KBAR)) is None
    same_cell = [as_frame(labelled(bulk("Cu", cubic=True))) for _ in range(5)]
    assert check_stress_sign([*with_stress(same_cell, -KBAR), BrokenFrame("x", "y")]) is None


def test_summary_counts_what_is_there() -> None:
    frames = [as_frame(atoms, f"f{i}") for i, atoms in enumerate(toy_frames())]
    frames[1] = dataclasses.replace(frames[1], forces=None, left_out=("forces: gone",), group="other")
    water = molecule("H2O")
    water.calc = SinglePointCalculator(water, energy=-14.0)
    summary = summarise([*frames, frames[0], as_frame(water), BrokenFrame("b", "broken")])
    assert (summary.n_frames, summary.n_broken, summary.n_duplicates, summary.n_groups) == (5, 1, 1, 3)
    assert (summary.n_with_energy, summary.n_with_forces, summary.n_with_stress) == (5, 3, 4)
    assert summary.elements == {"H": 1, "O": 5, "Mg": 4}
    assert summary.atoms == (3, 8)
    assert summary.broken == [("f1", "forces: gone"), ("b", "broken")]
    assert summary.suspicious == [] and summary.warnings == []
    energies = [frame.energy / frame.system.n_atoms for frame in frames if frame.energy is not None]
    assert summary.energy_per_atom == pytest.approx((-14 / 3, max(energies)))
    norms = np.concatenate([np.linalg.norm(frame.forces, axis=1) for frame in frames if frame.forces is not None])
    norms = np.concatenate([norms, np.linalg.norm(frames[0].forces, axis=1)])
    assert summary.force_norm_max == pytest.approx(norms.max())
    assert summary.force_norm_median == pytest.approx(np.median(norms), rel=0.3)


def test_median_of_forces_is_right_to_one_percent() -> None:
    builder = SummaryBuilder()
    forces = np.random.default_rng(0).normal(size=(501, 64, 3))
    system = to_system(bulk("Cu", cubic=True).repeat((4, 2, 2)))
    for force in forces:
        builder.add(Frame(system, forces=force))
    median = float(np.median(np.linalg.norm(forces, axis=2)))
    assert builder.result().force_norm_median == pytest.approx(median, rel=0.01)


def test_empty_set_has_a_summary() -> None:
    summary = summarise([])
    assert summary.n_frames == 0 and summary.atoms is None and summary.force_norm_median is None
    assert summary.warnings == []


def _strong_force(atoms: Atoms) -> None:
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.full((len(atoms), 3), 60.0))


def _overlap(atoms: Atoms) -> None:
    atoms.positions[1] = atoms.positions[0] + [0.3, 0, 0]


def _lonely(atoms: Atoms) -> None:
    atoms.set_cell(np.diag([12.0, 12.0, 20.0]))
    atoms.positions[3] = [0, 0, 12.0]


def _dense(atoms: Atoms) -> None:
    atoms.set_cell(atoms.cell * 0.52918 * 0.8, scale_atoms=True)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_strong_force, "the force on atom 0 (O) is 103.9 eV/Å (limit 50)"),
        (_overlap, "atoms 0 (O) and 1 (O) are 0.30 Å apart, 0.23 of the sum"),
        (_lonely, "atom 3 (O) without a neighbour within 5 Å"),
        (_dense, "Å³ per atom; check that it is in Å"),
    ],
)
def test_suspicious_frames_are_named(spoil: Callable[[Atoms], None], words: str) -> None:
    atoms = toy_frames()[0]
    spoil(atoms)
    summary = summarise([as_frame(atoms, "odd")])
    assert summary.n_suspicious == len(summary.suspicious) > 0
    assert summary.suspicious[0][0] == "odd" and words in summary.suspicious[0][1]


def _sizes(energy: Callable[[int], float], symbols: tuple[str, ...] = ("Cu",)) -> list[Frame]:
    frames = []
    for i, n in enumerate((1, 2, 3, 4, 6, 8) * 2):
        atoms = bulk(symbols[i % len(symbols)], "fcc", a=3.7 + 0.01 * i).repeat((n, 1, 1))
        frames.append(Frame(to_system(atoms), energy=energy(n) + 0.01 * i))
    return frames


@pytest.mark.parametrize("symbols", [("Cu",), ("Cu", "Ag", "Au", "Pd", "Ni", "Pt", "Rh", "Ir", "Al", "Pb", "Yb", "Th")])
def test_energies_stored_per_atom_are_noticed(symbols: tuple[str, ...]) -> None:
    """By pairs of one composition, and by the trend where each composition occurs once."""
    (warning,) = summarise(_sizes(lambda n: -3.7, symbols)).warnings
    assert "stored per atom" in warning
    assert summarise(_sizes(lambda n: -3.7 * n, symbols)).warnings == []


def test_doubts_about_the_whole_set_are_told() -> None:
    frames = _sizes(lambda n: -300.0 * n)
    assert "beyond 200 eV per atom in 12 of 12 frames" in summarise(frames).warnings[0]
    same = [dataclasses.replace(frame, energy=-1.0) for frame in frames]
    assert any("exactly the same energy" in warning for warning in summarise(same).warnings)
    bare = [dataclasses.replace(frame, energy=None) for frame in frames]
    assert "no frame has an energy" in summarise(bare).warnings[0]
    gaps = [dataclasses.replace(frame, properties={"band_gap": 1.1}) for frame in bare]
    assert not summarise(gaps).warnings, "a property may be all that is trained"
    assert "1 of 13 frames have no energy" in summarise([bare[0], *_sizes(lambda n: -3.0 * n)]).warnings[0]
    again = [*_sizes(lambda n: -3.0 * n), dataclasses.replace(frames[0], energy=5.0)]
    assert any("repeated structures differ in energy" in warning for warning in summarise(again).warnings)
    bohr = []
    for frame in _sizes(lambda n: -3.0 * n):
        system = frame.system
        grown = dataclasses.replace(system, positions=system.positions / 0.529, cell=system.cell / 0.529)
        bohr.append(dataclasses.replace(frame, system=grown))
    assert any("are in Å" in warning for warning in summarise(bohr).warnings)
    stresses = with_stress(scan("volume"), -KBAR)
    assert any("sign of VASP" in warning for warning in summarise(stresses).warnings)


def test_real_frames_are_clean() -> None:
    frames = [frame for name in ("Si_train", "SiC_elastic") for frame in read_frames(DATA / f"{name}.extxyz")]
    summary = summarise(frames)
    assert summary.n_frames == 6 and summary.n_with_forces == 6
    assert summary.suspicious == summary.warnings == summary.broken == []
    assert check_stress_sign(with_stress([f for f in frames if isinstance(f, Frame)], -KBAR)) is not None


GROUPS = [f"g{i % 23}" for i in range(460)]


def test_a_split_keeps_groups_whole_and_meets_the_fraction() -> None:
    chosen = split_by_group(GROUPS, 0.2, seed=1)
    inside = {group for group, taken in zip(GROUPS, chosen, strict=True) if taken}
    outside = {group for group, taken in zip(GROUPS, chosen, strict=True) if not taken}
    assert not inside & outside
    assert chosen.mean() == pytest.approx(0.2, abs=0.03)


def test_a_split_depends_on_the_seed_and_not_on_the_order() -> None:
    chosen = split_by_group(GROUPS, 0.2, seed=1)
    order = np.random.default_rng(0).permutation(len(GROUPS))
    shuffled = split_by_group([GROUPS[i] for i in order], 0.2, seed=1)
    np.testing.assert_array_equal(shuffled, chosen[order])
    assert any((split_by_group(GROUPS, 0.2, seed) != chosen).any() for seed in (2, 3, 4))


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("groups", [["a", "b"], ["a"] * 99 + ["b"], ["a"] * 2 + ["b"] * 98])
def test_two_groups_give_one_to_each_side(groups: list[str], fraction: float) -> None:
    chosen = split_by_group(groups, fraction, seed=0)
    assert len({group for group, taken in zip(groups, chosen, strict=True) if taken}) == 1


def test_one_group_is_cut_into_two_blocks() -> None:
    assert split_by_group(["a"] * 10, 0.3, seed=5).tolist() == [False] * 7 + [True] * 3
    assert split_by_group(["a"] * 3, 0.01, seed=5).tolist() == [False, False, True]
    assert split_by_group(["a"] * 3, 0.99, seed=5).tolist() == [False, True, True]


def test_splits_of_nothing_and_senseless_fractions() -> None:
    assert split_by_group([], 0.1, 0).tolist() == []
    assert split_by_group(["a"], 0.1, 0).tolist() == [False]
    assert not split_by_group(GROUPS, 0, 0).any()
    for fraction in (-0.1, 1.0, 5.0):
        with pytest.raises(DPA4Error, match="validation fraction"):
            split_by_group(GROUPS, fraction, 0)

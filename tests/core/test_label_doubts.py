"""Labels in other units or with another sign are doubted: by themselves, and beside what a base model says."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from ase.build import bulk
from labelled_files import labelled, summarise
from toy_training import base_file, configured, of_kind, recorded, toy_structures, write

from dpa4_core.batches import Prediction
from dpa4_core.data.frames import LabelKeys, frame_of_atoms
from dpa4_core.data.label_units import ENERGY_UNITS, FORCE_UNITS, STRESS_UNITS
from dpa4_core.model.checkpoint import read_model
from dpa4_core.potential import Potential
from dpa4_core.predict import predict
from dpa4_core.train.base_check import compare
from dpa4_core.train.outcome import assess, losses
from dpa4_core.train.settings_check import compare_settings
from dpa4_core.train.standing import Standing, standing
from dpa4_core.train.trainer import train


def rattled(n=12, n_cells=1):
    """Rattled copies of MgO in one cell, or in some, with Morse labels."""
    frames = []
    for i in range(n):
        atoms = bulk("MgO", "rocksalt", a=4.2 + 0.05 * (i % n_cells), cubic=True)
        atoms = atoms.repeat((1, 1, 1 + i % 2)) if n_cells > 1 else atoms
        atoms.rattle(0.05, seed=i)
        frames.append(frame_of_atoms(labelled(atoms), LabelKeys(), name=f"frame {i}"))
    return frames


def changed(frames, *, energy=1.0, forces=1.0, stress=1.0):
    """Labels times factors, numbers or functions of the frame."""
    of = lambda factor, frame: factor(frame) if callable(factor) else factor  # noqa: E731
    return [
        dataclasses.replace(
            frame,
            energy=of(energy, frame) * frame.energy,
            forces=of(forces, frame) * frame.forces,
            stress=of(stress, frame) * frame.stress,
        )
        for frame in frames
    ]


# ---- by themselves


def test_sound_labels_raise_no_doubt():
    assert summarise(rattled()).warnings == [] and summarise(rattled(n_cells=3)).warnings == []


@pytest.mark.parametrize("factor", [STRESS_UNITS["kbar"], -STRESS_UNITS["kbar"], STRESS_UNITS["GPa"]])
def test_stresses_larger_than_any_solid_bears_are_doubted_in_one_cell(factor):
    (sentence,) = summarise(changed(rattled(), stress=factor)).warnings
    assert "stresses beyond 0.6 eV/Å³ (96 GPa) in 12 of 12 frames" in sentence and "check the unit" in sentence


@pytest.mark.parametrize(
    "changes, words",
    [
        *(({"energy": factor}, f"energies in {unit}") for unit, factor in ENERGY_UNITS.items()),
        *(
            ({"forces": factor}, f"forces in {unit}")
            for unit, factor in FORCE_UNITS.items()
            if unit in ("Hartree/Bohr", "Rydberg/Bohr", "eV/Bohr")
        ),
        ({"forces": -1.0}, "forces of the opposite sign"),
        ({"energy": lambda frame: 1 / frame.system.n_atoms}, "energies that are stored per atom, not in total"),
    ],
)
def test_forces_and_energies_that_contradict_each_other_are_doubted(changes, words):
    warnings = summarise(changed(rattled(), **changes)).warnings
    assert any(words in sentence for sentence in warnings), warnings


def test_an_energy_far_from_all_others_of_its_formula_is_named():
    frames = rattled()
    frames[7] = dataclasses.replace(frames[7], energy=frames[7].energy + 40.0)
    (sentence,) = [s for s in summarise(frames).warnings if "far apart" in s]
    assert "in 1 of 12 frames, first frame 7 by +" in sentence


# ---- beside a base model


def predictions(frames, seed=1, noise=0.2):
    """Those of a base model: soft by a fifth, with errors, and another offset per element."""
    random = np.random.default_rng(seed)
    truths = [Prediction(f.energy, f.forces, f.stress) for f in frames]
    return [
        Prediction(
            0.9 * truth.energy + float(frame.system.numbers @ np.full(frame.system.n_atoms, 0.31)),
            0.8 * truth.forces + noise * np.abs(truth.forces).mean() * random.normal(size=truth.forces.shape),
            0.85 * truth.stress + noise * np.abs(truth.stress).mean() * random.normal(size=(3, 3)),
        )
        for frame, truth in zip(frames, truths, strict=True)
    ]


def test_a_soft_model_with_other_offsets_raises_no_doubt():
    frames = rattled(n_cells=3)
    assert compare(frames, predictions(frames)) == []
    assert compare(frames[:1], predictions(frames[:1])) == []


def volume(frame):
    return abs(np.linalg.det(frame.system.cell))


@pytest.mark.parametrize(
    "changes, quantity, code, unit",
    [
        *(({"stress": s}, "stresses", "unit", unit) for unit, s in STRESS_UNITS.items()),
        *(({"stress": -s}, "stresses", "unit_and_sign", unit) for unit, s in STRESS_UNITS.items()),
        ({"stress": -1.0}, "stresses", "sign", ""),
        ({"stress": volume}, "stresses", "virial", "eV"),
        ({"stress": lambda frame: -volume(frame)}, "stresses", "virial", "eV"),
        *(({"forces": s}, "forces", "unit", unit) for unit, s in FORCE_UNITS.items() if unit != "eV/Bohr"),
        ({"forces": -1.0}, "forces", "sign", ""),
        ({"forces": -FORCE_UNITS["Hartree/Bohr"]}, "forces", "unit_and_sign", "Hartree/Bohr"),
        *(({"energy": s}, "energies", "unit", unit) for unit, s in ENERGY_UNITS.items()),
        ({"energy": lambda frame: 1 / frame.system.n_atoms}, "energies", "per_atom", ""),
    ],
)
def test_the_unit_is_told_from_a_handful_of_structures(changes, quantity, code, unit):
    frames = rattled(n_cells=3)
    expected = predictions(frames)
    (doubt,) = compare(changed(frames, **changes), expected)
    assert (doubt["quantity"], doubt["code"]) == (quantity, code)
    assert doubt["text"].startswith(f"the {quantity} ") and unit in doubt["text"]  # perhaps beside one much like it


def test_energies_of_two_settings_are_told_where_they_meet_in_one_structure():
    """As of the Materials Project: relaxations at one cutoff, a refinement of what they nearly reached at another."""
    first = rattled(6)
    twins = [dataclasses.replace(frame, name=f"twin of {frame.name}") for frame in first]
    random = np.random.default_rng(0)
    level = {frame.name: random.normal(-5, 0.1, frame.system.n_atoms) for frame in first}
    said = [
        Prediction(float(atoms.sum()), atom_energies=atoms)
        for frame in (*first, *first)
        for atoms in [level[frame.name] + random.normal(0, 3e-3, frame.system.n_atoms)]
    ]
    errors = 0.02 * random.normal(size=6)  # of the base, other for each structure

    def frames(gap):
        """Labels of the twins are ``gap`` (eV/atom) higher."""
        return [
            dataclasses.replace(frame, energy=answer.energy + frame.system.n_atoms * (errors[i % 6] + gap * (i >= 6)))
            for i, (frame, answer) in enumerate(zip((*first, *twins), said, strict=True))
        ]

    assert compare_settings(frames(0.0), said) == [] and compare_settings(frames(1e-3), said) == []
    (doubt,) = compare_settings(frames(-9e-3), said)
    assert doubt["code"] == "two_settings" and "twin of frame" in doubt["text"]
    assert "9 meV/atom" in doubt["text"] and "12 frames have such a twin" in doubt["text"]
    other = [dataclasses.replace(answer, atom_energies=answer.atom_energies[::-1] ** 2) for answer in said[6:]]
    assert compare_settings(frames(-9e-3), [*said[:6], *other]) == []  # of other structures the base may be wrong
    far = [dataclasses.replace(answer, atom_energies=answer.atom_energies + 0.018) for answer in said[6:]]
    assert compare_settings(frames(-7e-3), [*said[:6], *far]) == []  # by less than half of what they differ


@pytest.mark.parametrize("offsets", ["shift", "keep"])
def test_a_fine_tune_says_at_its_start_what_the_base_model_contradicts(tmp_path, offsets):
    """The labels are the base model's own, but for the sign of the forces."""
    base = base_file(tmp_path)
    frames = [atoms.copy() for atoms in toy_structures(10, seed=4, kinds=(0, 2))]
    for atoms, truth in zip(frames, predict(frames, Potential(*read_model(base, dtype=torch.float64))), strict=True):
        atoms.info |= {"energy": truth.energy, "stress": truth.stress.ravel()}
        atoms.arrays["forces"] = -truth.forces
    config = configured(
        *(write(tmp_path, frames), tmp_path / "run"),
        **{"preset": None, "model": None, "base": str(base), "finetune__offsets": offsets, "run__steps": 1},
    )
    _, records = recorded(config)
    (start,) = of_kind(records, "start")
    found = [(doubt["quantity"], doubt["code"]) for doubt in start["doubts"] if doubt["code"] != "rate"]
    assert found == [("forces", "sign")]


# ---- at the end


def test_the_best_is_worse_than_the_base_in_nothing_and_what_was_worse_is_told():
    base = {"energy_mae": 0.010, "force_mae": 0.050, "stress_mae": None, "step": 0, "improved": True}
    better = base | {"energy_mae": 0.005, "force_mae": 0.025, "step": 5}
    assert standing(base, base) == Standing({"energy": 1.0, "force": 1.0}) and standing(base, base).score == 1.0
    assert standing(better, base).score == pytest.approx(0.5) and standing(better, base).worse == []
    mixed = better | {"energy_mae": 0.011, "force_mae": 0.001, "improved": False}
    assert standing(mixed, base).score < 0.5 and standing(mixed, base).worse == ["energy"]
    assert standing(better | {"force_mae": math.nan}, base).worse == ["force"]
    exact = dict.fromkeys(("energy_mae", "force_mae", "stress_mae"), 1e-9)  # below what labels are known to
    assert standing(dict.fromkeys(exact, 9e-7), exact).worse == []

    assert losses([base, better]) == losses([base]) == []
    everything_worse = mixed | {"force_mae": 0.06, "step": 10}
    (entry,) = losses([base, mixed, everything_worse])
    assert entry == {"code": "worse_than_base", "quantity": "energy", "step": 5, "before": 0.010, "after": 0.011}


def test_a_fine_tune_that_made_energies_worse_says_so_in_its_metrics(tmp_path):
    """Labels of the base itself; the loss sees forces only, so that a large step ruins the energies unseen."""
    base = base_file(tmp_path)
    frames = toy_structures(12, seed=4, kinds=(0, 2))
    for atoms, truth in zip(frames, predict(frames, Potential(*read_model(base, dtype=torch.float64))), strict=True):
        atoms.info["energy"] = truth.energy
        atoms.arrays["forces"] = 1.5 * truth.forces
    config = configured(
        *(write(tmp_path, frames), tmp_path / "run"),
        **{"preset": None, "model": None, "base": str(base), "loss__energy": 0.0, "run__steps": 20, "run__ema": 0.0},
    )
    train(config)
    outcome = assess(tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "metrics.json").read_text())["warnings"]
    assert stored == outcome.worse and [(w["code"], w["quantity"]) for w in stored] == [("worse_than_base", "energy")]

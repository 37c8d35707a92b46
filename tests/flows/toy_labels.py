"""A toy data set with the labels of the Morse potential, and settings of a network that trains in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.stress import full_3x3_to_voigt_6_stress

from dpa4_core.predict import predict
from dpa4_core.testing import MorsePotential

NETWORK = {"preset": "nano", "model": {"channels": 8, "lmax": 1}}
FLAGS = ("--preset", "nano", "--set", "model.channels=8", "--set", "model.lmax=1", "--device", "cpu")


def toy_frames(number: int = 16) -> list[Atoms]:
    """Rattled and strained copper, nickel and their rocksalt, with energy, forces, stress and a ``hardness``."""
    random = np.random.default_rng(0)
    kinds = [
        bulk("Cu", cubic=True),
        bulk("Ni", cubic=True),
        bulk("CuNi", "rocksalt", a=4.6),
        bulk("Cu").repeat((1, 1, 3)),
    ]
    frames = []
    for i in range(number):
        atoms = kinds[i % 4].copy()
        atoms.set_cell(atoms.cell[:] * (1 + 0.02 * random.normal()), scale_atoms=True)
        atoms.rattle(0.05, rng=random)
        frames.append(atoms)
    for atoms, result in zip(frames, predict(frames, MorsePotential()), strict=True):
        labels = {"energy": result.energy, "forces": result.forces, "stress": full_3x3_to_voigt_6_stress(result.stress)}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        atoms.info["hardness"] = atoms.get_volume() / len(atoms)
    return frames


def write_toy(folder: Path, number: int = 16) -> Path:
    """The frames as ``toy.extxyz`` in ``folder``."""
    path = folder / "toy.extxyz"
    write(path, toy_frames(number))
    return path

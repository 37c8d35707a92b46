"""Structures without symmetry, of whatever elements a potential knows, and how the checks evaluate them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ase.data import covalent_radii

from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import System, to_system
from dpa4_core.potential import PotentialLike

FAMILIAR = (8, 3, 27, 14, 29, 1, 6)
"""Elements (O, Li, Co, Si, Cu, H, C) that samples are made of where the potential knows them."""
ATOMS_PER_CALL = 2000


class Evaluation(NamedTuple):
    """One system as the potential sees it: eV, eV/Å, eV/Å³; ``stress`` is None without periodicity."""

    energy: float
    atom_energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray
    stress: np.ndarray | None


def evaluate(potential: PotentialLike, systems: Sequence[System]) -> list[Evaluation]:
    """Every system, in batches of at most `ATOMS_PER_CALL` atoms or one system."""
    results: list[Evaluation] = []
    batch: list[System] = []
    for system in systems:
        if batch and sum(len(other.numbers) for other in batch) + len(system.numbers) > ATOMS_PER_CALL:
            results += _evaluate_batch(potential, batch)
            batch = []
        batch.append(system)
    return results + (_evaluate_batch(potential, batch) if batch else [])


def _evaluate_batch(potential: PotentialLike, systems: list[System]) -> list[Evaluation]:
    out = potential.compute(build_graph(systems, potential.cutoff, device=potential.device))
    energy, atoms, forces, virial, stress = (tensor.detach().cpu().numpy() for tensor in out[:5])
    ends = np.cumsum([len(system.numbers) for system in systems])
    return [
        Evaluation(
            float(energy[k]),
            atoms[end - len(system.numbers) : end],
            forces[end - len(system.numbers) : end],
            virial[k],
            stress[k] if system.periodic else None,
        )
        for k, (system, end) in enumerate(zip(systems, ends, strict=True))
    ]


def sample_systems(potential: PotentialLike) -> dict[str, System]:
    """A triclinic crystal, a cell smaller than the cutoff and an open cluster, by name."""
    numbers = sample_elements(potential)
    rng = np.random.default_rng(7)
    return {
        "triclinic crystal": _random_packing(numbers * 2 + numbers[:1], True, rng),
        "small cell": _random_packing(numbers[:2], True, rng),
        "open cluster": _random_packing(numbers + numbers[:2], False, rng),
    }


def sample_elements(potential: PotentialLike) -> list[int]:
    """Three atomic numbers (repeated if there are fewer) that the potential knows."""
    known = [z for z in FAMILIAR if z in potential.elements] + sorted(potential.elements - set(FAMILIAR))
    return (known * 3)[:3]


def as_systems(
    structures: Sequence[Any] | None, potential: PotentialLike, *, only_crystals: bool = False
) -> dict[str, System]:
    """Labelled systems of the user's structures, or the samples when there are none."""
    if structures is None:
        systems = sample_systems(potential)
    else:
        systems = {f"structure {k}": to_system(structure) for k, structure in enumerate(structures)}
    return {name: system for name, system in systems.items() if system.pbc.all() or not only_crystals}


def moved(system: System, positions: np.ndarray, cell: np.ndarray | None = None) -> System:
    """The same atoms elsewhere."""
    return dataclasses.replace(system, positions=positions, cell=system.cell if cell is None else cell)


def open_system(numbers: Sequence[int], positions: np.ndarray) -> System:
    """Atoms without a cell."""
    return System(
        numbers=np.array(numbers, dtype=np.int64),
        positions=np.array(positions, dtype=np.float64),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        fixed=np.zeros((len(numbers), 3), dtype=bool),
        charge_spin=None,
    )


def bond(z_i: int, z_j: int) -> float:
    """Sum of covalent radii, Å."""
    return float(covalent_radii[z_i] + covalent_radii[z_j])


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A proper rotation [3, 3]."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def supercell(system: System, repeats: tuple[int, int, int]) -> System:
    """Copies of the cell, the atoms of one copy together."""
    shifts = np.array(list(np.ndindex(*repeats))) @ system.cell
    copies = len(shifts)
    return System(
        numbers=np.tile(system.numbers, copies),
        positions=(shifts[:, None, :] + system.positions[None, :, :]).reshape(-1, 3),
        cell=np.array(repeats)[:, None] * system.cell,
        pbc=np.ones(3, dtype=bool),
        fixed=np.tile(system.fixed, (copies, 1)),
        charge_spin=system.charge_spin,
    )


def _random_packing(numbers: list[int], periodic: bool, rng: np.random.Generator) -> System:
    """Atoms placed one after the other, none nearer than 0.85 of a bond to another, itself or an image."""
    radii = covalent_radii[numbers]
    # Twice the volume of touching spheres: loose enough to fill at random, dense enough for many neighbours.
    edge = (2.0 * np.sum(4 / 3 * np.pi * radii**3)) ** (1 / 3)
    images = np.array(list(np.ndindex(3, 3, 3))) - 1 if periodic else np.zeros((1, 3))
    while True:
        shape = np.array([[1.0, 0.0, 0.0], [0.23, 0.94, 0.0], [-0.17, 0.31, 1.1]])
        cell = edge * shape @ random_rotation(rng)
        positions: list[np.ndarray] = []
        for _ in range(200):
            trial = rng.random(3) @ cell
            reach = radii[len(positions)] + radii[: len(positions)]
            gaps = np.array(positions).reshape(-1, 1, 3) + images @ cell - trial
            if np.all(np.linalg.norm(gaps, axis=2) > 0.85 * reach[:, None]):
                positions.append(trial)
            if len(positions) == len(numbers):
                packed = open_system(numbers, np.array(positions))
                return dataclasses.replace(packed, cell=cell, pbc=np.ones(3, dtype=bool)) if periodic else packed
        edge *= 1.05

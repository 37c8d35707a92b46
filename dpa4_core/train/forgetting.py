"""What a fine-tune does to systems that it was not trained on, and crystals to hold it to them.

``other_systems.json.gz`` holds 1,380 small compounds, structures only (CC BY 4.0, the source stands in each row;
`scripts/other_systems.py` chose them). Their labels are what the base says about them, so that neither a measurement
nor a replay needs data of somebody else. 20 measure, 40 others are for replay, and these with 120 more for the zero of
the elements that a run does not train: with the 40 alone, SiC by adapters changes what is measured twice as much. Of
the last 1,200, 120 tell a run what it forgets, and 1,080 bring it back at its end.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from dpa4_core.files import replacing
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.potential import Potential, PotentialLike
from dpa4_core.predict import Prediction, predict

REPLAY = "replay.extxyz"
"""What a run writes into its folder for a replay of its own."""

TOLERABLE = 2e-3
"""eV/atom, median change of the energies of other systems that is not worth a warning: a tenth of what separates
competing phases."""

_SYSTEMS = Path(__file__).with_name("other_systems.json.gz")
_ROWS = {use: {use} for use in ("measure", "replay", "judge", "back")} | {"level": {"replay", "level"}}
_BENT = ((0.05, 0.02),)
_COPIES = dict.fromkeys(_ROWS, _BENT) | {"replay": ((0.03, 0.01), (0.1, 0.03))}
"""Displacements (Å) and strains of the copies of each crystal: at rest it has neither forces nor stress to compare."""


@dataclass(frozen=True)
class Forgetting:
    """Changes of a model against its base on systems of other kinds.

    Attributes:
        n_systems: that both know.
        energy_median, energy_max: eV/atom, absolute, on the zero of the base: the shift of the offsets of the trained
            elements against those of the others is taken out.
        force_median, force_max: eV/Å, mean absolute change of a component in a system.
        worst: formula of the system whose energy changed most.
    """

    n_systems: int
    energy_median: float
    energy_max: float
    force_median: float
    force_max: float
    worst: str


def other_systems(use: Literal["measure", "replay", "level", "judge", "back"], known: Set[int]) -> list[Atoms]:
    """Distorted copies of the bundled crystals, always the same ones, as far as they consist of ``known`` elements."""
    rows = json.loads(gzip.decompress(_SYSTEMS.read_bytes()))["systems"]
    found = []
    for number, row in enumerate(rows):
        if row["use"] not in _ROWS[use] or not {*row["numbers"]} <= known:
            continue
        for displacement, strain in _COPIES[use]:
            random = np.random.default_rng([number, round(1000 * displacement)])
            atoms = Atoms(row["numbers"], cell=row["cell"], scaled_positions=row["fractions"], pbc=True)
            positions, cell = distorted(atoms.positions, atoms.cell.array, displacement, strain, random)
            found.append(Atoms(row["numbers"], positions, cell=cell, pbc=True))
    return found


def distorted(
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    displacement: float,
    strain: float,
    random: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions [n, 3] and cell [3, 3], Å, bent by up to ``strain`` and displaced by some ``displacement``, Å."""
    bent = strain * random.uniform(-1, 1, (3, 3))
    deformation = np.eye(3) + 0.5 * (bent + bent.T)
    return positions @ deformation + displacement * random.normal(size=positions.shape), cell @ deformation


def forgetting(base: Potential, model: Potential, trained: Set[int]) -> Forgetting | None:
    """Compare ``model`` with the ``base`` that it was fine-tuned from; None if the base knows none of the systems.

    Args:
        base: before.
        model: after.
        trained: atomic numbers in the training frames, whose offsets moved to their energy zero.
    """
    systems = other_systems("measure", base.elements & model.elements)
    if not systems:
        return None
    before, after = (predict(systems, potential, strict=True) for potential in (base, model))
    shifts = _shifts(base.model, model.model, trained)
    energy = [
        (b.energy - a.energy - sum(shifts.get(z, 0.0) for z in atoms.numbers)) / len(atoms)
        for atoms, a, b in zip(systems, before, after, strict=True)
    ]
    changed = np.abs(energy)
    force = np.array([np.abs(_forces(b) - _forces(a)).mean() for a, b in zip(before, after, strict=True)])
    return Forgetting(
        len(systems),
        float(np.median(changed)),
        float(changed.max()),
        float(np.median(force)),
        float(force.max()),
        systems[int(changed.argmax())].get_chemical_formula(),
    )


def _forces(prediction: Prediction) -> NDArray[np.float64]:
    assert prediction.forces is not None
    return prediction.forces


def _shifts(base: DPA4, model: DPA4, trained: Set[int]) -> Mapping[int, float]:
    """EV by which the offsets of the trained elements moved beside the common level of all others."""
    moved = {
        z: float(after - before)
        for z, before, after in zip(
            base.config.atomic_numbers, _offsets(base), _offsets(model)[: len(base.config.elements)], strict=True
        )
    }
    others = [value for z, value in moved.items() if z not in trained]
    level = float(np.median(others)) if others else 0.0
    return {z: moved[z] - level for z in trained & moved.keys()}


def _offsets(model: DPA4) -> list[float]:
    return (model.out_bias.view(-1) + model.fit_bias.view(-1)).tolist()


def write_replay(base: PotentialLike, path: Path) -> int:
    """Write crystals with what ``base`` says about them as training frames; returns their number."""
    systems = other_systems("replay", base.elements)
    frames = []
    for atoms, said in zip(systems, predict(systems, base, strict=True), strict=True):
        results: dict[str, Any] = {"energy": said.energy, "forces": said.forces}
        if said.stress is not None:
            results["stress"] = full_3x3_to_voigt_6_stress(said.stress)
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["config_type"] = "".join(sorted({chemical_symbols[z] for z in atoms.numbers}))
        frames.append(atoms)
    with replacing(path) as part:
        ase.io.write(part, frames, format="extxyz")
    return len(frames)

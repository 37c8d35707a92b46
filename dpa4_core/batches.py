"""Predictions for many systems: computed in batches, in smaller ones when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpa4_core.data.batching import pack
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import System
from dpa4_core.memory import is_out_of_memory, release_memory
from dpa4_core.potential import Output, PotentialLike
from dpa4_core.uncertainty import Uncertain, spread
from dpa4_core.verdicts import ErrorCode

Array = NDArray[np.float64]

NOT_FINITE = "the potential gives no finite energy and forces here"


@dataclass(frozen=True)
class Prediction(Uncertain):
    """What a potential says about one structure, or why it cannot; of a committee the mean, with deviations.

    Attributes:
        energy: eV; NaN with an error.
        forces: [n, 3] eV/Å.
        stress: [3, 3] eV/Å³, positive under tension, zero along open axes (see `Output`); None without periodicity.
        atom_energies: [n] eV; None if the potential has no energies per atom.
        error: one sentence; None if the numbers are there.
        error_code: the same for logic.
    """

    energy: float = np.nan
    forces: Array | None = None
    stress: Array | None = None
    atom_energies: Array | None = None
    error: str | None = None
    error_code: ErrorCode | None = None


def predict_batches(
    systems: dict[int, System],
    potential: PotentialLike,
    budget: int,
    settle: Callable[[int, Prediction], None],
) -> None:
    """Compute ``systems`` in batches and hand each result to ``settle`` with its index."""
    batches = _pack_systems(systems, list(systems), budget)
    while batches:
        batch = batches.pop(0)
        members = [systems[index] for index in batch]
        output = _compute(members, potential)
        if output is not None:
            for index, prediction in zip(batch, predictions_of(output, members), strict=True):
                settle(index, prediction)
        elif len(batch) == 1:
            n_atoms = members[0].n_atoms
            settle(
                batch[0],
                Prediction(
                    error=f"out of memory for {n_atoms} atoms on {potential.device}", error_code="out_of_memory"
                ),
            )
        else:
            left = batch + [index for later in batches for index in later]
            batches = _pack_systems(systems, left, sum(system.n_atoms for system in members) // 2)


def _pack_systems(systems: dict[int, System], indices: list[int], budget: int) -> list[list[int]]:
    batches = pack([systems[index].n_atoms for index in indices], budget)
    return [[indices[position] for position in batch] for batch in batches]


def _compute(systems: list[System], potential: PotentialLike) -> Output | None:
    """The output for one batch; None if memory ran out."""
    try:
        return potential.compute(build_graph(systems, potential.cutoff, potential.device))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    release_memory()
    return None


def predictions_of(output: Output, systems: Sequence[System]) -> list[Prediction]:
    """What ``output`` says about each of the systems that it was computed for."""
    ends = np.cumsum([system.n_atoms for system in systems])[:-1]
    energies, stresses = output.energy.cpu().numpy(), output.stress.cpu().numpy()
    forces = np.split(output.forces.cpu().numpy(), ends)
    atom_energies = np.split(output.atom_energies.cpu().numpy(), ends)
    member_energies, every_force, member_stresses = (values.cpu().numpy() for values in output.each())
    member_forces = np.split(every_force, ends)
    predictions = []
    for i, system in enumerate(systems):
        if not (np.isfinite(energies[i]) and np.isfinite(forces[i]).all()):
            predictions.append(Prediction(error=NOT_FINITE, error_code="not_finite"))
            continue
        has_stress = system.periodic and np.isfinite(stresses[i]).all()
        predictions.append(
            Prediction(
                energy=float(energies[i]),
                forces=forces[i],
                stress=stresses[i] if has_stress else None,
                atom_energies=atom_energies[i] if np.isfinite(atom_energies[i]).all() else None,
                **spread(member_energies[i], member_forces[i], member_stresses[i], periodic=has_stress),
            )
        )
    return predictions

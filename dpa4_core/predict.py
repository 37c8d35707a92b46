"""Energies, forces and stress of many structures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpa4_core.batches import Prediction, predict_batches
from dpa4_core.data.batching import check_budget, default_budget
from dpa4_core.data.structures import (
    MIN_DISTANCE_RATIO,
    StructureError,
    System,
    check_distance_ratio,
    check_system,
    formula,
    structure_list,
    to_system,
)
from dpa4_core.loaded import as_potential
from dpa4_core.potential import PotentialLike
from dpa4_core.progress import structure_bar

__all__ = ["Prediction", "predict"]


def predict(
    structures: Any,
    potential: PotentialLike | str | Path,
    *,
    max_atoms_per_batch: int | None = None,
    min_distance_ratio: float = MIN_DISTANCE_RATIO,
    strict: bool = False,
    progress: bool = False,
) -> list[Prediction]:
    """Energy, forces and stress of every structure.

    Args:
        structures: any mix of ase.Atoms and pymatgen Structure and Molecule, or a single one.
        potential: a potential, or the name or path of one (loaded in float32 on the CPU).
        max_atoms_per_batch: structures are computed together up to this number of atoms; by default what
            suits the device. Halved when memory runs out.
        min_distance_ratio: atoms closer than this fraction of the sum of covalent radii are an error; 0
            allows everything.
        strict: raise at the first structure that cannot be computed.
        progress: show a progress bar.

    Returns:
        One result per structure, in the order of ``structures``; a failed one has ``error`` set.

    Raises:
        StructureError: a structure failed and ``strict`` is set, or ``structures`` is a path.
        DPA4Error: an option that makes no sense, no such model.
    """
    check_budget(max_atoms_per_batch)
    check_distance_ratio(min_distance_ratio)
    everything = structure_list(structures)
    potential = as_potential(potential)
    results: list[Prediction | None] = [None] * len(everything)
    systems: dict[int, System] = {}
    with structure_bar("predict", len(everything), shown=progress) as advance:

        def settle(index: int, prediction: Prediction) -> None:
            if strict and prediction.error is not None:
                raise StructureError(f"structure {index}{_called(systems.get(index))}: {prediction.error}")
            results[index] = prediction
            advance(1)

        for index, structure in enumerate(everything):
            try:
                systems[index] = to_system(structure)
                problem = check_system(systems[index], potential.elements, min_distance_ratio=min_distance_ratio)
            except StructureError as error:
                problem = str(error)
            if problem is not None:
                settle(index, Prediction(error=problem, error_code="refused"))
        valid = {index: system for index, system in systems.items() if results[index] is None}
        predict_batches(valid, potential, max_atoms_per_batch or default_budget(potential.device), settle)
    return [result for result in results if result is not None]


def _called(system: System | None) -> str:
    return "" if system is None else f" ({formula(system)})"

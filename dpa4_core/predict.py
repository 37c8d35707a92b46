"""Energies, forces and stress of many structures, and how far they are from reference values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from dpa4_core.batches import Prediction, predict_batches
from dpa4_core.data.batching import check_budget, default_budget
from dpa4_core.data.readers import read_structures
from dpa4_core.data.structures import (
    MIN_DISTANCE_RATIO,
    StructureError,
    System,
    check_system,
    formula,
    structure_list,
    to_system,
)
from dpa4_core.loaded import as_potential
from dpa4_core.potential import PotentialLike
from dpa4_core.progress import structure_bar

__all__ = ["Metrics", "Prediction", "evaluate", "predict"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Metrics:
    """Errors against reference values; a value is None where no frame has the reference.

    Attributes:
        n_structures: frames that were compared.
        n_atoms: atoms in them.
        energy_mae: eV/atom, mean over frames.
        energy_rmse: eV/atom.
        force_mae: eV/Å, mean over Cartesian components.
        force_rmse: eV/Å.
        stress_mae: eV/Å³, mean over the six components.
        stress_rmse: eV/Å³.
        n_energies: frames with a reference energy.
        n_forces: force components with a reference.
        n_stresses: frames with a reference stress.
        errors: name and sentence of each frame that could not be compared, and of each label that was left out
            because it is not finite or has the wrong shape.
    """

    n_structures: int
    n_atoms: int
    energy_mae: float | None
    energy_rmse: float | None
    force_mae: float | None
    force_rmse: float | None
    stress_mae: float | None
    stress_rmse: float | None
    n_energies: int
    n_forces: int
    n_stresses: int
    errors: list[tuple[str, str]] = field(default_factory=list)


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
                settle(index, Prediction(error=problem))
        valid = {index: system for index, system in systems.items() if results[index] is None}
        predict_batches(valid, potential, max_atoms_per_batch or default_budget(potential.device), settle)
    return [result for result in results if result is not None]


def evaluate(
    frames: str | Path | Atoms | Sequence[Atoms],
    potential: PotentialLike | str | Path,
    *,
    max_atoms_per_batch: int | None = None,
    progress: bool = False,
) -> Metrics:
    """Errors of a potential on frames with reference values.

    Args:
        frames: a file that `read_structures` reads, or ase.Atoms with an attached SinglePointCalculator. A
            ``virial`` in ``atoms.info`` stands in for a missing stress. A label that is not finite or has the
            wrong shape is left out and reported.
        potential: a potential, or the name or path of one.
        max_atoms_per_batch: as in `predict`.
        progress: show a progress bar.
    """
    names: list[str] = []
    atoms_list: list[Atoms] = []
    references: list[dict[str, Array]] = []
    errors: list[tuple[str, str]] = []
    for name, atoms, error in _named_frames(frames):
        if error is not None:
            errors.append((name, error))
            continue
        reference, left_out = _reference(atoms) if isinstance(atoms, Atoms) else ({}, [])
        errors += [(name, sentence) for sentence in left_out]
        if reference:
            names.append(name)
            atoms_list.append(atoms)
            references.append(reference)
        elif not left_out:
            errors.append((name, "the frame has no reference energy, forces or stress"))
    deviations: dict[str, list[Array]] = {"energy": [], "forces": [], "stress": []}
    n_atoms = 0
    predictions = predict(
        atoms_list,
        potential,
        max_atoms_per_batch=max_atoms_per_batch,
        min_distance_ratio=0,  # labelled frames may be as extreme as their authors wanted
        progress=progress,
    )
    for name, atoms, reference, prediction in zip(names, atoms_list, references, predictions, strict=True):
        if prediction.error is not None:
            errors.append((name, prediction.error))
            continue
        n_atoms += len(atoms)
        for quantity, deviation in _deviations(prediction, reference, len(atoms)).items():
            deviations[quantity].append(deviation)
    flat = {quantity: np.concatenate([np.zeros(0), *parts]) for quantity, parts in deviations.items()}
    return Metrics(
        n_structures=len(names) - sum(prediction.error is not None for prediction in predictions),
        n_atoms=n_atoms,
        energy_mae=_mae(flat["energy"]),
        energy_rmse=_rmse(flat["energy"]),
        force_mae=_mae(flat["forces"]),
        force_rmse=_rmse(flat["forces"]),
        stress_mae=_mae(flat["stress"]),
        stress_rmse=_rmse(flat["stress"]),
        n_energies=len(deviations["energy"]),
        n_forces=len(flat["forces"]),
        n_stresses=len(deviations["stress"]),
        errors=errors,
    )


def _called(system: System | None) -> str:
    return "" if system is None else f" ({formula(system)})"


def _named_frames(frames: str | Path | Atoms | Sequence[Atoms]) -> list[tuple[str, Any, str | None]]:
    if isinstance(frames, str | Path):
        return [(entry.name, entry.structure, entry.error) for entry in read_structures(frames)]
    return [(f"frame {i}", atoms, None) for i, atoms in enumerate(structure_list(frames))]


def _reference(atoms: Atoms) -> tuple[dict[str, Array], list[str]]:
    """Stored energy [] (eV), forces [n, 3] (eV/Å) and stress [3, 3] (eV/Å³) of a frame, those that are there, and a
    sentence for each one that is there but cannot be used.
    """
    stored = getattr(atoms.calc, "results", {})
    labels = {key: stored[key] for key in ("energy", "forces", "stress") if key in stored}
    if not atoms.pbc.any():
        labels.pop("stress", None)
    elif "stress" not in labels and "virial" in atoms.info:
        labels["virial"] = atoms.info["virial"]
    reference, left_out = {}, []
    for key, label in labels.items():
        try:
            value = _usable(key, np.asarray(label, float), atoms)
        except (TypeError, ValueError):
            value = None
        if value is None:
            left_out.append(f"{key}: the reference has the wrong shape and was left out")
        elif not np.isfinite(value).all():
            left_out.append(f"{key}: the reference is not finite and was left out")
        else:
            reference["stress" if key == "virial" else key] = value
    return reference, left_out


def _usable(key: str, label: Array, atoms: Atoms) -> Array | None:
    """The label in the shape that `_reference` promises, a virial as stress; None if it has another one."""
    if key == "energy":
        return label.reshape(()) if label.size == 1 else None
    if key == "forces":
        return label if label.shape == (len(atoms), 3) else None
    if label.shape == (3, 3):
        return label if key == "stress" else -label / atoms.get_volume()
    return voigt_6_to_full_3x3_stress(label) if key == "stress" and label.shape == (6,) else None


def _deviations(prediction: Prediction, reference: dict[str, Array], n_atoms: int) -> dict[str, Array]:
    """Predicted minus reference, flat: energy per atom [1], force components [3n], Voigt stress [6]."""
    deviations = {}
    if "energy" in reference:
        deviations["energy"] = np.array([(prediction.energy - float(reference["energy"])) / n_atoms])
    if "forces" in reference and prediction.forces is not None:
        deviations["forces"] = (prediction.forces - reference["forces"]).ravel()
    if "stress" in reference and prediction.stress is not None:
        deviations["stress"] = full_3x3_to_voigt_6_stress(prediction.stress - reference["stress"])
    return deviations


def _mae(deviations: Array) -> float | None:
    return float(np.abs(deviations).mean()) if len(deviations) else None


def _rmse(deviations: Array) -> float | None:
    return float(np.sqrt(np.square(deviations).mean())) if len(deviations) else None

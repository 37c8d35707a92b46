"""Errors of a potential against reference energies, forces and stresses, or of a property model."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from dpa4_core.batches import Prediction
from dpa4_core.calibration import calibration
from dpa4_core.data.frames import BrokenFrame, Frame, LabelKeys, frame_of_atoms, labelled_frame, read_frames
from dpa4_core.data.structures import StructureError, structure_list
from dpa4_core.potential import PotentialLike
from dpa4_core.predict import predict
from dpa4_core.properties import InPlaceOfEnergy, PropertyPredictor, is_property_model, load_property

__all__ = ["FrameErrors", "Metrics", "ParityData", "evaluate"]

Array = NDArray[np.float64]

MIN_FORCE_FOR_COSINE = 0.05
"""eV/Å; below, the direction of a reference force is mostly noise."""


@dataclass(frozen=True)
class FrameErrors:
    """Errors of one frame; None where it has no reference.

    Attributes:
        name: see `Frame`, as the next two.
        group: see above.
        source: see above.
        n_atoms: atoms in the frame.
        energy: eV/atom, predicted minus reference.
        force_mae: eV/Å, mean over components.
        force_max: eV/Å, largest norm of an error.
        stress_mae: eV/Å³, mean over the six components.
        property: of a property model, in its unit.
    """

    name: str
    group: str
    source: str
    n_atoms: int
    energy: float | None
    force_mae: float | None
    force_max: float | None
    stress_mae: float | None
    property: float | None = None


@dataclass(frozen=True, eq=False)
class ParityData:
    """Reference and prediction of every value, for plots.

    Attributes:
        energy: [2, n_energies] eV/atom; row 0 is the reference, row 1 the prediction, as below.
        force: [2, n_forces] eV/Å, Cartesian components.
        stress: [2, 6 n_stresses] eV/Å³, Voigt components.
        property: [2, n_properties] of a property model, in its unit.
        frames: errors of each frame.
    """

    energy: Array
    force: Array
    stress: Array
    property: Array
    frames: list[FrameErrors]


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
        force_norm_mae: eV/Å, mean over atoms of the norm of the error.
        force_cosine: mean cosine between predicted and reference force, atoms with more than 0.05 eV/Å.
        stress_mae: eV/Å³, mean over the six components.
        stress_rmse: eV/Å³.
        n_energies: frames with a reference energy.
        n_forces: force components with a reference.
        n_stresses: frames with a reference stress.
        property_name: what a property model is about; empty for a potential.
        property_unit: of it, as of the next two.
        property_mae: mean absolute error.
        property_rmse: root mean square error.
        n_properties: frames with a reference of it.
        by_element: for each element with reference forces ``force_mae``, ``force_rmse`` (eV/Å) and ``n_atoms``.
        by_group: for each `Frame.group` ``energy_mae``, ``force_mae``, ``stress_mae`` or ``property_mae``, as far as
            there are references, and ``n_structures``.
        uncertainty: how deviations compare with errors, see `dpa4_core.calibration`; empty for a single model.
        errors: name and sentence of each frame that could not be compared, and of each label that was left out
            because it is not finite or has the wrong shape.
        parity: all values, where they were asked for.
    """

    n_structures: int
    n_atoms: int
    energy_mae: float | None
    energy_rmse: float | None
    force_mae: float | None
    force_rmse: float | None
    force_norm_mae: float | None
    force_cosine: float | None
    stress_mae: float | None
    stress_rmse: float | None
    n_energies: int
    n_forces: int
    n_stresses: int
    property_name: str = ""
    property_unit: str = ""
    property_mae: float | None = None
    property_rmse: float | None = None
    n_properties: int = 0
    by_element: dict[str, dict[str, float]] = field(default_factory=dict)
    by_group: dict[str, dict[str, float]] = field(default_factory=dict)
    uncertainty: dict[str, dict[str, float]] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)
    parity: ParityData | None = None


def evaluate(
    frames: str | Path | Atoms | Frame | Sequence[str | Path] | Sequence[Atoms | Frame],
    potential: PotentialLike | PropertyPredictor | str | Path,
    *,
    keys: LabelKeys | None = None,
    max_atoms_per_batch: int | None = None,
    keep: bool = False,
    progress: bool = False,
) -> Metrics:
    """Errors of a potential, or of a property model, on frames with reference values.

    Args:
        frames: a file or folder that `read_frames` reads, or several; or frames, or ase.Atoms with an attached
            SinglePointCalculator or labels in ``info`` and ``arrays``. A label that is not finite or has the wrong
            shape is left out and reported.
        potential: a potential or a property model, or the name or path of one.
        keys: what the labels are called, if not as usual.
        max_atoms_per_batch: as in `predict`.
        keep: also return all references and predictions.
        progress: show a progress bar.

    Raises:
        StructureError: a path is missing, empty or of an unknown format.
    """
    if isinstance(potential, str | Path) and is_property_model(potential):
        potential = load_property(potential)
    head = potential.model.config if isinstance(potential, PropertyPredictor) else None
    keys = keys or LabelKeys()
    if head is not None:
        keys = dataclasses.replace(keys, properties=tuple({*keys.properties, head.name}))
    labelled: list[Frame] = []
    errors: list[tuple[str, str]] = []
    for frame in _all_frames(frames, keys):
        if isinstance(frame, BrokenFrame):
            errors.append((frame.name, frame.error))
            continue
        if head is not None:
            if head.name in frame.properties:
                labelled.append(frame)
            else:
                errors.append((frame.name, f"the frame has no {head.name}, which the model is about"))
            continue
        errors += [(frame.name, sentence) for sentence in frame.left_out]
        if frame.has_labels:
            labelled.append(frame)
        elif not frame.left_out:
            errors.append((frame.name, "the frame has no reference energy, forces or stress"))
    predictions = predict(
        [frame.system for frame in labelled],
        InPlaceOfEnergy(potential) if isinstance(potential, PropertyPredictor) else potential,
        max_atoms_per_batch=max_atoms_per_batch,
        min_distance_ratio=0,  # labelled frames may be as extreme as their authors wanted
        progress=progress,
    )
    compared = []
    for frame, prediction in zip(labelled, predictions, strict=True):
        if prediction.error is not None:
            errors.append((frame.name, prediction.error))
        else:
            compared.append(_Comparison(frame, prediction, "" if head is None else head.name))
    metrics = _metrics(compared, errors, keep=keep)
    return metrics if head is None else dataclasses.replace(metrics, property_name=head.name, property_unit=head.unit)


def _all_frames(frames: object, keys: LabelKeys) -> Iterator[Frame | BrokenFrame]:
    if isinstance(frames, str | Path):
        yield from read_frames(frames, keys)
        return
    everything = [frames] if isinstance(frames, Frame) else structure_list(frames)
    for i, entry in enumerate(everything):
        name = f"frame {i}"
        if isinstance(entry, str | Path):
            yield from read_frames(entry, keys)
        elif isinstance(entry, Frame | BrokenFrame):
            yield entry
        else:
            try:
                is_ase = isinstance(entry, Atoms)
                yield frame_of_atoms(entry, keys, name=name) if is_ase else labelled_frame(entry, {}, name=name)
            except StructureError as error:
                yield BrokenFrame(name, str(error))


class _Comparison:
    """Reference and prediction of one frame, [2, ...] with the reference first; None without a reference."""

    def __init__(self, frame: Frame, prediction: Prediction, property_name: str = "") -> None:
        self.frame, self.prediction = frame, prediction
        n_atoms = frame.system.n_atoms
        self.energy = self.forces = self.stress = self.property = None
        if property_name:
            self.property = np.array([[frame.properties[property_name]], [prediction.energy]])  # [2, 1] in its unit
            return
        if frame.energy is not None:
            self.energy = np.array([[frame.energy], [prediction.energy]]) / n_atoms  # [2, 1] eV/atom
        if frame.forces is not None and prediction.forces is not None:
            self.forces = np.stack([frame.forces, prediction.forces])  # [2, n, 3] eV/Å
        if frame.stress is not None and prediction.stress is not None:
            self.stress = np.stack(  # [2, 6] eV/Å³
                [full_3x3_to_voigt_6_stress(frame.stress), full_3x3_to_voigt_6_stress(prediction.stress)]
            )

    def errors(self) -> FrameErrors:
        frame = self.frame
        forces = None if self.forces is None else _error(self.forces)
        return FrameErrors(
            name=frame.name,
            group=frame.group,
            source=frame.source,
            n_atoms=frame.system.n_atoms,
            energy=None if self.energy is None else float(_error(self.energy)[0]),
            force_mae=None if forces is None else _mae(forces),
            force_max=None if forces is None else float(np.linalg.norm(forces, axis=1).max()),
            stress_mae=None if self.stress is None else _mae(_error(self.stress)),
            property=None if self.property is None else float(_error(self.property)[0]),
        )


def _metrics(compared: list[_Comparison], errors: list[tuple[str, str]], *, keep: bool) -> Metrics:
    energy = _joined((c.energy for c in compared), (2, 0))
    forces = _joined((c.forces for c in compared), (2, 0, 3))
    stress = _joined((c.stress for c in compared), (2, 0))
    values = _joined((c.property for c in compared), (2, 0))
    by_group: dict[str, list[_Comparison]] = defaultdict(list)
    for comparison in compared:
        by_group[comparison.frame.group].append(comparison)
    parity = None
    if keep:
        frames = [comparison.errors() for comparison in compared]
        parity = ParityData(energy, forces.reshape(2, -1), stress, values, frames)
    return Metrics(
        n_structures=len(compared),
        n_atoms=sum(c.frame.system.n_atoms for c in compared),
        energy_mae=_mae(_error(energy)),
        energy_rmse=_rmse(_error(energy)),
        force_mae=_mae(_error(forces)),
        force_rmse=_rmse(_error(forces)),
        force_norm_mae=_mae(np.linalg.norm(_error(forces), axis=1)),
        force_cosine=_cosine(forces),
        stress_mae=_mae(_error(stress)),
        stress_rmse=_rmse(_error(stress)),
        n_energies=energy.shape[1],
        n_forces=forces[0].size,
        n_stresses=stress.shape[1] // 6,
        property_mae=_mae(_error(values)),
        property_rmse=_rmse(_error(values)),
        n_properties=values.shape[1],
        by_element=_by_element(compared, _error(forces)),
        by_group={group: _group_errors(by_group[group]) for group in sorted(by_group)},
        uncertainty=calibration((c.frame, c.prediction) for c in compared),
        errors=errors,
        parity=parity,
    )


def _by_element(compared: list[_Comparison], force_errors: Array) -> dict[str, dict[str, float]]:
    """Force errors of each element; ``force_errors`` [n, 3] are those of all frames with forces, in order."""
    numbers = np.concatenate(
        [np.zeros(0, np.int64), *(c.frame.system.numbers for c in compared if c.forces is not None)]
    )
    found = {}
    for number in np.unique(numbers):
        own = force_errors[numbers == number]
        found[chemical_symbols[number]] = {
            "force_mae": float(np.abs(own).mean()),
            "force_rmse": float(np.sqrt(np.square(own).mean())),
            "n_atoms": float(len(own)),
        }
    return found


def _group_errors(compared: list[_Comparison]) -> dict[str, float]:
    found = {
        "energy_mae": _mae(_error(_joined((c.energy for c in compared), (2, 0)))),
        "force_mae": _mae(_error(_joined((c.forces for c in compared), (2, 0, 3)))),
        "stress_mae": _mae(_error(_joined((c.stress for c in compared), (2, 0)))),
        "property_mae": _mae(_error(_joined((c.property for c in compared), (2, 0)))),
        "n_structures": float(len(compared)),
    }
    return {key: value for key, value in found.items() if value is not None}


def _joined(parts: Iterable[Array | None], empty: tuple[int, ...]) -> Array:
    """Arrays [2, ...] one after the other along their second axis."""
    return np.concatenate([np.zeros(empty), *(part for part in parts if part is not None)], axis=1)


def _error(pair: Array) -> Array:
    return pair[1] - pair[0]


def _cosine(forces: Array) -> float | None:
    norms = np.linalg.norm(forces, axis=2)  # [2, n]
    clear = norms[0] > MIN_FORCE_FOR_COSINE
    if not clear.any():
        return None
    products = (forces[0] * forces[1]).sum(axis=1)[clear]
    return float((products / np.maximum(norms[0] * norms[1], 1e-12)[clear]).mean())


def _mae(errors: Array) -> float | None:
    return float(np.abs(errors).mean()) if errors.size else None


def _rmse(errors: Array) -> float | None:
    return float(np.sqrt(np.square(errors).mean())) if errors.size else None

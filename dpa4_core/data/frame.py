"""One labelled structure, how its labels are called in files, and what makes a label usable.

Every reader in ``labelled`` hands what it found to `labelled_frame`; units and the sign of the stress have been settled
by then, shapes and finite numbers are checked here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from dpa4_core.data.parse_errors import PARSE_ERRORS, reason
from dpa4_core.data.structures import to_system
from dpa4_core.data.system import StructureError, System, check_system, symbol

Array = NDArray[np.float64]

MATERIAL_KEYS = ("material_id", "mp_id", "mat_id", "original_mp_id")
"""Keys that name the material of a frame; frames of one material must not be torn apart by a split."""

GROUP_KEYS = ("group", "config_type")
"""Keys under which data sets note the kind of a frame, such as bulk or surface."""

_PREFIXES = ("REF_", "ref_", "DFT_", "dft_", "")
_SYNONYMS = {
    "energy": ("energy",),
    "forces": ("forces", "force"),
    "stress": ("stress",),
    "virial": ("virial", "virials"),
}
_LOOK_ALIKES = {
    "energy": re.compile(r"energ|toten|^e_?(0|tot|total|dft|pot|ref)?$|(^|_)e_?(dft|tot|total)$", re.IGNORECASE),
    "forces": re.compile(r"forc|grad|^f(_|$)", re.IGNORECASE),
    "stress": re.compile(r"stress|virial|^sigma$", re.IGNORECASE),
}
"""Keys that look like a label without having its name."""

MAX_ASYMMETRY = 0.1
"""Of the largest component of a stress label; a smaller asymmetry is noise and is averaged away."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One structure with reference values; a label that is missing is None.

    Attributes:
        system: the structure.
        energy: eV, total.
        forces: [n, 3] eV/Å.
        stress: [3, 3] eV/Å³, symmetric, positive under tension (sign of ASE).
        properties: other scalar labels of the frame, such as ``band_gap``.
        name: identifier in messages, the one of the file or name of the file and number.
        group: what a split must not tear apart: the material id if there is one, else the reduced formula, with
            the ``group`` or ``config_type`` that the file notes.
        source: the file, as the user gave it.
        left_out: a sentence for each label that was there but cannot be used.
        look_alikes: label that is missing, and a key of the file that may be it, such as energy and ``energy_dft``.
        weights: factors that the file gives the terms of energy, forces and stress of this frame in a loss; NaN for
            what is no number.
    """

    system: System
    energy: float | None = None
    forces: Array | None = None
    stress: Array | None = None
    properties: dict[str, float] = field(default_factory=dict)
    name: str = ""
    group: str = ""
    source: str = ""
    left_out: tuple[str, ...] = ()
    look_alikes: tuple[tuple[str, str], ...] = ()
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def has_labels(self) -> bool:
        """Whether there is an energy, forces or a stress."""
        return self.energy is not None or self.forces is not None or self.stress is not None


@dataclass(frozen=True)
class BrokenFrame:
    """A frame that cannot be read, or the rest of a file.

    Attributes:
        name: as in `Frame`.
        error: one sentence that names file and frame.
    """

    name: str
    error: str


@dataclass(frozen=True)
class LabelKeys:
    """How the labels are called in extended XYZ files, ASE databases and trajectories.

    What is None is found by itself: ``energy``, ``forces`` (or ``force``), ``stress`` and ``virial`` (or ``virials``),
    or the same with the prefix ``REF_``, ``ref_``, ``DFT_`` or ``dft_``, in upper or lower case as in the files of
    GPUMD. All labels of a frame have the same prefix, since others may belong to another method: the one under which
    there are energy and forces; where that does not decide, a prefix comes before none.

    Attributes:
        energy: key of the total energy in eV.
        forces: key of the forces in eV/Å.
        stress: key of the stress in eV/Å³ with the sign of ASE, six (xx yy zz yz xz xy) or nine numbers.
        virial: key of the virial in eV, nine numbers, −volume · stress; used where there is no stress.
        energy_choice: which total energy of an MPtrj frame; to mix the two is a classic mistake.
        weight: key of the weight of a frame in the loss; by default ``config_weight``, which for single labels is
            multiplied by ``config_energy_weight``, ``config_forces_weight`` and ``config_stress_weight`` (or
            ``config_virials_weight``) where a file has them.
        properties: names of further scalar labels to collect.
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None
    weight: str | None = None
    energy_choice: Literal["uncorrected", "corrected"] = "uncorrected"
    properties: tuple[str, ...] = ()

    def find(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The labels among everything that a frame carries, under their plain names."""
        automatic = {name: synonyms for name, synonyms in _SYNONYMS.items() if getattr(self, name) is None}
        spelled = {key.lower(): key for key in fields if isinstance(key, str)}

        def key_of(name: str) -> str | None:
            return name if name in fields else spelled.get(name.lower())

        def wealth(prefix: str) -> tuple[int, bool]:
            there = {name for name, synonyms in automatic.items() if any(key_of(prefix + key) for key in synonyms)}
            return len(there & {"energy", "forces"}), bool(there)

        prefix = max(_PREFIXES, key=wealth)  # the first of equals
        found = {}
        for name in _SYNONYMS:
            chosen = getattr(self, name)
            key: str | None
            if chosen is not None:
                key = chosen if chosen in fields else None
            else:
                key = next(filter(None, (key_of(prefix + synonym) for synonym in automatic[name])), None)
            if key is not None:
                found[name] = fields[key]
        return found

    def look_alikes(self, fields: Mapping[str, Any], n_atoms: int) -> tuple[tuple[str, str], ...]:
        """Labels that are not among ``fields`` by any known name, each with the keys that may be them."""
        found = self.find(fields)
        missing = {name for name in ("energy", "forces") if name not in found and getattr(self, name) is None}
        if not {"stress", "virial"} & set(found) and self.stress is None and self.virial is None:
            missing.add("stress")
        pairs = []
        for key, value in fields.items() if missing else ():
            for name in sorted(missing):
                if isinstance(key, str) and _LOOK_ALIKES[name].search(key) and _has_size(value, name, n_atoms):
                    pairs.append((name, key))
        return tuple(pairs)

    def find_weights(self, fields: Mapping[str, Any]) -> tuple[float, float, float]:
        """Weights of energy, forces and stress, see `Frame.weights`."""

        def weight(*names: str) -> float:
            given = next((fields[name] for name in names if name in fields), 1.0)
            value = scalar(given)
            return math.nan if value is None else value

        whole = weight(self.weight or "config_weight")
        stress = weight("config_stress_weight", "config_virials_weight", "config_virial_weight")
        return whole * weight("config_energy_weight"), whole * weight("config_forces_weight"), whole * stress

    def find_properties(self, fields: Mapping[str, Any]) -> dict[str, float]:
        """The extra labels that are finite numbers."""
        found = {name: scalar(fields.get(name)) for name in self.properties}
        return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


def labelled_frame(
    structure: Any,
    labels: Mapping[str, Any],
    *,
    name: str = "",
    source: str = "",
    fields: Mapping[str, Any] | None = None,
    properties: Mapping[str, float] | None = None,
    look_alikes: tuple[tuple[str, str], ...] = (),
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Frame:
    """A frame from a structure and its labels, those that cannot be used left out with a sentence.

    Args:
        structure: whatever `to_system` takes.
        labels: ``energy`` (eV), ``forces`` (eV/Å), ``stress`` (eV/Å³, sign of ASE, [3, 3], 6 or 9 numbers) and
            ``virial`` (eV, −volume · stress), as far as they are there; None counts as missing.
        name: see `Frame`.
        source: see `Frame`.
        fields: everything else that the file says about the frame; names the group.
        properties: see `Frame`.
        look_alikes: see `Frame`.
        weights: see `Frame`.

    Raises:
        StructureError: the structure cannot be used.
    """
    system = to_system(structure)
    if problem := check_system(system, system.numbers.tolist(), min_distance_ratio=0):
        raise StructureError(problem)
    given = {key: value for key, value in labels.items() if value is not None}
    if not system.periodic:
        given.pop("stress", None)
        given.pop("virial", None)
    elif "stress" in given:
        given.pop("virial", None)
    usable: dict[str, Any] = {}
    left_out = []
    if system.periodic and not system.pbc.all():  # the volume of a slab is arbitrary, and so is its stress
        for key in ("stress", "virial"):
            if given.pop(key, None) is not None:
                left_out.append(
                    f"{key}: the structure is not periodic in all directions, so the reference was left out"
                )
    for key, value in given.items():
        label = _in_shape(key, value, system)
        if label is None:
            left_out.append(f"{key}: the reference has the wrong shape and was left out")
        elif not np.isfinite(label).all():
            left_out.append(f"{key}: the reference is not finite and was left out")
        elif key in ("stress", "virial") and _asymmetry(label) > MAX_ASYMMETRY:
            left_out.append(f"{key}: the reference is not symmetric and was left out")
        else:
            usable["stress" if key == "virial" else key] = label
    return Frame(
        system,
        energy=float(usable["energy"]) if "energy" in usable else None,
        forces=usable.get("forces"),
        stress=(usable["stress"] + usable["stress"].T) / 2 if "stress" in usable else None,
        properties=dict(properties or {}),
        name=name,
        group=_group(system, fields or {}),
        source=source,
        left_out=tuple(left_out),
        look_alikes=look_alikes,
        weights=weights,
    )


def frame_of_atoms(
    atoms: Atoms, keys: LabelKeys, *, name: str = "", source: str = "", fields: Mapping[str, Any] | None = None
) -> Frame:
    """The frame of ase.Atoms with labels in the attached calculator, in ``info``, in ``arrays`` or in ``fields``."""
    info = {key: value for key, value in atoms.info.items() if isinstance(key, str)}
    everything = {**atoms.arrays, **info, **(fields or {}), **getattr(atoms.calc, "results", {})}
    return labelled_frame(
        atoms,
        keys.find(everything),
        name=name,
        source=source,
        fields=everything,
        properties=keys.find_properties(everything),
        look_alikes=keys.look_alikes(everything, len(atoms)),
        weights=keys.find_weights(everything),
    )


def attempt(name: str, source: str, build: Callable[[], Frame], form: str = "") -> Frame | BrokenFrame:
    """One frame, or the reason why it cannot be read; the format as in `reason`."""
    try:
        return build()
    except PARSE_ERRORS as error:
        return BrokenFrame(name, f"{source}, {name}: {reason(error, form)}")


def broken_rest(name: str, source: str, error: Exception, form: str = "") -> BrokenFrame:
    """What is left of a file after an error that no later frame survives."""
    return BrokenFrame(name, f"{source} cannot be read from {name} on: {reason(error, form)}")


def scalar(value: Any) -> float | None:
    """The only number in ``value``; None where there is none."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return float(array.reshape(())) if array.size == 1 and value is not None else None


def _has_size(value: Any, name: str, n_atoms: int) -> bool:
    """Whether a value has as many numbers as the label."""
    array = np.asarray(value)
    sizes = {"energy": (1,), "forces": (3 * n_atoms,), "stress": (6, 9)}[name]
    return array.dtype.kind in "if" and array.size in sizes


def reduced_formula(numbers: Iterable[int]) -> str:
    """Symbols in order of atomic number with counts without common divisor."""
    elements, counts = np.unique(np.asarray(numbers), return_counts=True)
    divisor = math.gcd(*counts.tolist())
    return "".join(
        f"{symbol(int(z))}{n // divisor if n > divisor else ''}" for z, n in zip(elements, counts, strict=True)
    )


def _in_shape(key: str, value: Any, system: System) -> Array | None:
    """A label in its shape: energy [], forces [n, 3], stress [3, 3], a virial as stress; None if it has another one."""
    try:
        label = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if key == "energy":
        return label.reshape(()) if label.size == 1 else None
    if key == "forces":
        return label if label.shape == (system.n_atoms, 3) else None
    if label.shape == (9,):
        label = label.reshape(3, 3)
    if label.shape == (6,) and key == "stress":
        return voigt_6_to_full_3x3_stress(label)
    if label.shape != (3, 3):
        return None
    return label if key == "stress" else -label / abs(np.linalg.det(system.cell))


def _asymmetry(stress: Array) -> float:
    """Largest antisymmetric part over the largest component; below 1e-4 eV/Å³ (16 MPa) nothing counts."""
    return float(np.abs(stress - stress.T).max() / max(np.abs(stress).max(), 1e-4))


def _group(system: System, fields: Mapping[str, Any]) -> str:
    material = next((fields[key] for key in MATERIAL_KEYS if isinstance(fields.get(key), str | int)), None)
    if material is not None:
        return str(material)
    kind = next((fields[key] for key in GROUP_KEYS if isinstance(fields.get(key), str | int)), None)
    formula = reduced_formula(system.numbers)
    return formula if kind is None else f"{formula} {kind}"

"""Computed structures to files: extended XYZ, CIF, POSCAR or JSON, by the suffix of the name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from dpa4_core.data.labelled.pymatgen_json import STRESS_UNIT
from dpa4_core.data.site_data import SITE_DATA, as_atoms, fixed_along_lattice, site_data, with_cartesian_constraints
from dpa4_core.data.structures import constraint_problem
from dpa4_core.errors import DPA4Error
from dpa4_core.files import replacing, write_json, write_text
from dpa4_flows.site_conversion import structure_fields
from dpa4_flows.structure_texts import cif_text, poscar_text

_FORMATS = {
    ".extxyz": "extxyz",
    ".xyz": "extxyz",
    ".cif": "cif",
    ".vasp": "vasp",
    ".poscar": "vasp",
    ".json": "json",
}

HOLDS: dict[str, frozenset[str]] = {
    "extxyz": frozenset(SITE_DATA),
    "json": frozenset(SITE_DATA),
    "cif": frozenset({"oxidation states", "isotopes"}),
    "vasp": frozenset({"constraints", "isotopes"}),
}
"""What each format keeps of `SITE_DATA`."""
_APPROXIMATE = "constraints as they are (partly fixed atoms are fixed as a whole)"


@dataclass(frozen=True)
class Computed:
    """One structure with its numbers, or with the reason why there are none.

    Attributes:
        name: where it came from.
        structure: ase.Atoms or pymatgen object; None if it could not be read.
        numbers: further results for JSON and the comment line, plain types.
        energy: eV.
        forces: [n, 3] eV/Å.
        stress: [3, 3] eV/Å³.
        forces_std: [n, 3] eV/Å, where a committee computed them; as the next.
        stress_std: [3, 3] eV/Å³.
        error: one sentence.
        warnings: what the file made doubtful, one sentence each.
    """

    name: str
    structure: Any = None
    numbers: dict[str, Any] | None = None
    energy: float | None = None
    forces: NDArray[np.float64] | None = None
    stress: NDArray[np.float64] | None = None
    forces_std: NDArray[np.float64] | None = None
    stress_std: NDArray[np.float64] | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def worst_force_std(self) -> float | None:
        """Largest deviation of the force on an atom between members of a committee, eV/Å."""
        return (self.numbers or {}).get("worst_force_std")

    def unlabelled(self) -> Computed:
        """The structure with nothing that a training could take for a label."""
        return Computed(self.name, self.structure, {"worst_force_std": self.worst_force_std}, error=self.error)

    def row(self) -> dict[str, Any]:
        """Plain types for JSON, without the structure."""
        return {
            "name": self.name,
            "formula": None if self.structure is None else formula_of(self.structure),
            "n_atoms": None if self.structure is None else len(self.structure),
            "energy": self.energy,
            **(self.numbers or {}),
            "warnings": list(self.warnings),
            "error": self.error,
        }


def formula_of(structure: Any) -> str:
    """Reduced formula."""
    if isinstance(structure, Atoms):
        return str(structure.get_chemical_formula(mode="metal", empirical=True))
    return str(structure.composition.reduced_formula)


def is_run_target(path: Path) -> bool:
    """Whether an output is the folder of a large run, or a Parquet file, and not a file of structures."""
    if path.is_dir() or path.suffix.lower() == ".parquet":
        return True
    return not path.suffix and not re.match(r"(?i)(poscar|contcar)", path.name)


def output_format(path: Path) -> str:
    """Format of an output file.

    Raises:
        DPA4Error: the name tells no format.
    """
    if re.match(r"(?i)(poscar|contcar)", path.name):
        return "vasp"
    if path.suffix.lower() not in _FORMATS:
        raise DPA4Error(f"cannot tell the format from {path.name!r}; end the name in {', '.join(_FORMATS)} or .parquet")
    return _FORMATS[path.suffix.lower()]


class Written(NamedTuple):
    """What became of an output file.

    Attributes:
        n_structures: structures in it.
        notes: a sentence for what the format cannot hold.
    """

    n_structures: int
    notes: list[str]


def write_structures(path: Path, results: Sequence[Computed]) -> Written:
    """Write all results that have numbers; JSON also holds the failed ones with their errors.

    Raises:
        DPA4Error: the format holds one structure only, or no structure without lattice vectors.
    """
    kind = output_format(path)
    good = [result for result in results if result.error is None]
    if kind == "vasp" and len(good) > 1:
        raise DPA4Error(f"{path} can hold one structure, not {len(good)}; write extxyz, cif or json")
    if kind != "json" and not good:
        return Written(0, [])
    frames = [_frame(result) for result in good]
    for result, atoms in zip(good, frames, strict=True):
        if kind in ("vasp", "cif") and atoms.cell.rank < 3:
            raise DPA4Error(
                f"{path} cannot hold {result.name}, which has no three lattice vectors; write extxyz or json"
            )
    if kind == "json":
        write_json(path, [_json_row(result) for result in results])
    elif kind == "extxyz":
        with_numbers = [_with_results(atoms, result) for atoms, result in zip(frames, good, strict=True)]
        with replacing(path) as part:
            ase.io.write(part, [with_cartesian_constraints(atoms) for atoms in with_numbers], format="extxyz")
    else:
        text = cif_text if kind == "cif" else poscar_text
        write_text(path, "\n".join(text(atoms, result.name) for atoms, result in zip(frames, good, strict=True)))
    return Written(len(good), _lost(path, kind, frames))


def _lost(path: Path, kind: str, frames: Sequence[Atoms]) -> list[str]:
    """One sentence if something that a structure says about its sites is not in the file."""
    counts = Counter(what for atoms in frames for what in site_data(atoms) if what not in HOLDS[kind])
    counts.update(_APPROXIMATE for atoms in frames if not _holds_constraints(kind, atoms))
    if not counts:
        return []
    better = [suffix for suffix in ("extxyz", "json") if suffix != kind]
    where = "" if len(frames) == 1 else f" of {max(counts.values())} of {len(frames)} structures"
    return [f"{path.name} does not hold the {', '.join(counts)}{where}; write {' or '.join(better)} to keep them"]


def _holds_constraints(kind: str, atoms: Atoms) -> bool:
    """Whether the constraints are in the file as they are, if the format has any."""
    if "constraints" not in HOLDS[kind] or not atoms.constraints:
        return True
    return constraint_problem(atoms) is None if kind == "extxyz" else fixed_along_lattice(atoms)[1]


def _frame(result: Computed) -> Atoms:
    atoms = as_atoms(result.structure)
    atoms.info["name"] = result.name
    return atoms


def _with_results(atoms: Atoms, result: Computed) -> Atoms:
    atoms.info |= {key: value for key, value in (result.numbers or {}).items() if value is not None}
    if result.warnings:
        atoms.info["warnings"] = "; ".join(result.warnings)
    if result.forces_std is not None:
        atoms.arrays["forces_std"] = np.asarray(result.forces_std)
    if result.stress_std is not None:
        atoms.info["stress_std"] = np.asarray(result.stress_std)
    known: dict[str, Any] = {"energy": result.energy, "forces": result.forces}
    if result.stress is not None:
        known["stress"] = full_3x3_to_voigt_6_stress(result.stress)
    atoms.calc = SinglePointCalculator(atoms, **{key: value for key, value in known.items() if value is not None})
    return atoms


def _json_row(result: Computed) -> dict[str, Any]:
    row = result.row()
    if result.error is None:
        row["structure"] = structure_fields(as_atoms(result.structure))
        row["forces"] = None if result.forces is None else np.asarray(result.forces).tolist()
        row["stress"] = None if result.stress is None else np.asarray(result.stress).tolist()
        for name in ("forces_std", "stress_std"):
            if (deviation := getattr(result, name)) is not None:
                row[name] = np.asarray(deviation).tolist()
        row["stress_unit"] = STRESS_UNIT
    return row

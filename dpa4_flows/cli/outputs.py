"""Computed structures to files: extended XYZ, CIF, POSCAR or JSON, by the suffix of the name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray
from pymatgen.core import IMolecule, IStructure
from pymatgen.io.ase import AseAtomsAdaptor

from dpa4_core.errors import DPA4Error
from dpa4_core.files import replacing, write_json

_FORMATS = {
    ".extxyz": "extxyz",
    ".xyz": "extxyz",
    ".cif": "cif",
    ".vasp": "vasp",
    ".poscar": "vasp",
    ".json": "json",
}


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
        error: one sentence.
    """

    name: str
    structure: Any = None
    numbers: dict[str, Any] | None = None
    energy: float | None = None
    forces: NDArray[np.float64] | None = None
    stress: NDArray[np.float64] | None = None
    error: str | None = None

    def row(self) -> dict[str, Any]:
        """Plain types for JSON, without the structure."""
        return {
            "name": self.name,
            "formula": None if self.structure is None else formula_of(self.structure),
            "n_atoms": None if self.structure is None else len(self.structure),
            "energy": self.energy,
            **(self.numbers or {}),
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


def write_structures(path: Path, results: Sequence[Computed]) -> int:
    """Write all results that have numbers; JSON also holds the failed ones with their errors. Returns how many were
    written.

    Raises:
        DPA4Error: the format holds one structure only.
    """
    kind = output_format(path)
    good = [result for result in results if result.error is None]
    if kind == "vasp" and len(good) > 1:
        raise DPA4Error(f"{path} can hold one structure, not {len(good)}; write extxyz, cif or json")
    if kind == "json":
        write_json(path, [_json_row(result) for result in results])
    elif good:
        frames = [_frame(result, with_results=kind == "extxyz") for result in good]
        with replacing(path) as part:
            ase.io.write(part, frames if kind != "vasp" else frames[0], format=kind)
    return len(good)


def _frame(result: Computed, *, with_results: bool) -> Atoms:
    structure = result.structure
    atoms: Atoms = (
        structure.copy() if isinstance(structure, Atoms) else AseAtomsAdaptor.get_atoms(structure, msonable=False)
    )
    atoms.calc = None
    atoms.info["name"] = result.name
    if with_results:
        atoms.info |= {key: value for key, value in (result.numbers or {}).items() if value is not None}
        known: dict[str, Any] = {"energy": result.energy, "forces": result.forces}
        if result.stress is not None:
            known["stress"] = full_3x3_to_voigt_6_stress(result.stress)
        atoms.calc = SinglePointCalculator(atoms, **{key: value for key, value in known.items() if value is not None})
    return atoms


def _json_row(result: Computed) -> dict[str, Any]:
    row = result.row()
    if result.error is None:
        structure = result.structure
        if isinstance(structure, Atoms):
            adaptor = AseAtomsAdaptor.get_structure if structure.pbc.any() else AseAtomsAdaptor.get_molecule
            plain = structure.copy()
            plain.calc = None
            structure = adaptor(plain)
        assert isinstance(structure, IStructure | IMolecule)
        row["structure"] = structure.as_dict()
        row["forces"] = None if result.forces is None else np.asarray(result.forces).tolist()
        row["stress"] = None if result.stress is None else np.asarray(result.stress).tolist()
    return row

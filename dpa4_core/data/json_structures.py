"""What a row of a JSON file may look like, and the structure in it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from ase import Atoms
from ase.io.jsonio import decode

from dpa4_core.data.system import StructureError

HAS_PYMATGEN = importlib.util.find_spec("pymatgen") is not None


def is_database(data: Mapping[str, Any]) -> bool:
    """Whether it is a database of ASE."""
    return "ids" in data and "nextid" in data


def holds_structure(row: Mapping[str, Any]) -> bool:
    """Whether a row of a JSON file has a key that `structure_of` understands."""
    return any(key in row for key in ("structure", "sites", "lattice", "species", "atoms_json"))


def structure_of(row: Any) -> Any:
    """From {"structure": ...}, pymatgen's dictionaries, or {lattice, species, frac_coords | coords}."""
    if not isinstance(row, dict) or not holds_structure(row):
        raise StructureError("the entry has neither a structure nor sites nor lattice, species and frac_coords")
    if "structure" in row:
        return structure_of(row["structure"])
    if "atoms_json" in row:
        return decode(row["atoms_json"])
    if "sites" in row:
        if not HAS_PYMATGEN:
            raise StructureError("structures in pymatgen's JSON need pymatgen; run `pip install pymatgen`")
        core = importlib.import_module("pymatgen.core")
        return (core.Structure if "lattice" in row else core.Molecule).from_dict(row)
    lattice, species = row["lattice"], row["species"]
    cartesian = "frac_coords" not in row
    coordinates = row["coords"] if cartesian else row["frac_coords"]
    if HAS_PYMATGEN:
        core = importlib.import_module("pymatgen.core")
        return core.Structure(lattice, species, coordinates, coords_are_cartesian=cartesian)
    where = {"positions" if cartesian else "scaled_positions": coordinates}
    return Atoms(species, cell=lattice, pbc=True, **where)

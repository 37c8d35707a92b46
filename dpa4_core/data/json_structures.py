"""What a row of a JSON file may look like, and the structure in it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from dpa4_core.data.ase_fields import arrays_of, atoms_of_fields, decode_fields
from dpa4_core.data.plain_fields import checked_species, numbers_of, structure_of_fields, structure_of_lists
from dpa4_core.data.species import atoms_of
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
        stored = row["atoms_json"]
        fields = decode_fields(stored) if isinstance(stored, str) else arrays_of(stored)
        if not isinstance(fields, dict):
            raise StructureError("the entry has no structure under atoms_json")
        return atoms_of_fields(fields)
    if "sites" in row:
        if not HAS_PYMATGEN:
            raise StructureError("structures in pymatgen's JSON need pymatgen; run `pip install pymatgen`")
        return structure_of_fields(row)
    cartesian = "frac_coords" not in row
    missing = [key for key in ("lattice", "species", "coords" if cartesian else "frac_coords") if key not in row]
    if missing:
        raise StructureError(f"the entry has no {missing[0]}; a structure needs lattice, species and frac_coords")
    lattice, species, coordinates = row["lattice"], row["species"], row["coords" if cartesian else "frac_coords"]
    if HAS_PYMATGEN:
        return structure_of_lists(lattice, species, coordinates, cartesian=cartesian)
    kinds, places = checked_species(species), numbers_of(coordinates, (-1, 3), "the list of coordinates")
    cell = numbers_of(lattice, (3, 3), "the lattice")
    if len(kinds) != len(places):
        raise StructureError(f"there are {len(kinds)} species and {len(places)} coordinates; give one of each per site")
    atoms = atoms_of([str(kind) for kind in kinds], places if cartesian else places @ cell)
    atoms.cell, atoms.pbc = cell, True
    return atoms

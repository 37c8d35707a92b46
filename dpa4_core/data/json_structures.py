"""What a row of a JSON file may look like, and the structure in it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from dpa4_core.data.ase_fields import arrays_of, atoms_of_fields, decode_fields
from dpa4_core.data.bounded import storable
from dpa4_core.data.flat_rows import flat_atoms, is_flat
from dpa4_core.data.optimade import is_optimade, optimade_atoms
from dpa4_core.data.plain_fields import checked_species, numbers_of, structure_of_fields, structure_of_lists
from dpa4_core.data.species import atoms_of
from dpa4_core.data.system import StructureError

HAS_PYMATGEN = importlib.util.find_spec("pymatgen") is not None


def is_database(data: Mapping[str, Any]) -> bool:
    """Whether it is a database of ASE."""
    return "ids" in data and "nextid" in data


STRUCTURE_KEYS = (
    *("structure", "computed_structure_entry", "final_structure", "relaxed_structure", "optimized_structure"),
    "initial_structure",
)
"""Keys under which a row of a JSON file has its structure, or a computed entry with one."""


def holds_structure(row: Any) -> bool:
    """Whether a row of a JSON file has something that `structure_of` understands."""
    if not isinstance(row, Mapping):
        return False
    keys = (*STRUCTURE_KEYS, "sites", "lattice", "species", "atoms_json")
    return any(key in row for key in keys) or is_optimade(row) or is_flat(row) or is_jarvis(row)


def is_jarvis(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of JARVIS, with a lattice and coordinates under ``atoms``."""
    atoms = row.get("atoms")
    return isinstance(atoms, Mapping) and {"lattice_mat", "coords", "elements"} <= set(atoms)


def structure_of(row: Any) -> Any:
    """From a row with a structure, a computed entry, pymatgen's dictionaries, {lattice, species, frac_coords | coords},
    plain arrays by ASE's names, or a structure of OPTIMADE or JARVIS.

    Raises:
        StructureError: it is nothing of these, or a field is not what it should be.
    """
    if not holds_structure(row):
        if isinstance(row, Mapping) and isinstance(row.get("error"), str):  # of a result that there is not
            raise StructureError(f"the row has no structure, only a reason: {storable(row['error'], 200)}")
        raise StructureError("the entry has neither a structure nor sites nor lattice, species and frac_coords")
    under = [key for key in STRUCTURE_KEYS if row.get(key) is not None]
    if "structure" in under or len(under) == 1:
        return structure_of(row[under[0]])
    if under:
        raise StructureError(f"the row has {len(under)} structures ({', '.join(under)}); keep the one that is meant")
    if is_optimade(row):
        return optimade_atoms(row)
    if is_flat(row):
        return flat_atoms(row)
    if is_jarvis(row):
        atoms = row["atoms"]
        where = "coords" if atoms.get("cartesian") else "frac_coords"
        return structure_of({"lattice": atoms["lattice_mat"], "species": atoms["elements"], where: atoms["coords"]})
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

"""Structures as OPTIMADE servers give them (https://specification.optimade.org, version 1.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms

from dpa4_core.data.bounded import storable
from dpa4_core.data.plain_fields import numbers_of
from dpa4_core.data.species import atoms_of
from dpa4_core.data.system import StructureError

_NOT_A_STRUCTURE = re.compile(
    r'"x-optimade"\s*:|"type"\s*:\s*"(?:info|links|references|files|calculations|trajectories)"'
)


def is_optimade(row: Mapping[str, Any]) -> bool:
    """Whether a row is a resource of the type ``structures``, or its attributes."""
    attributes = row.get("attributes")
    return "cartesian_site_positions" in (attributes if isinstance(attributes, Mapping) else row)


def is_other_line(line: str) -> bool:
    """Whether a line of an OPTIMADE file in JSON lines is its header or another resource than a structure."""
    return _NOT_A_STRUCTURE.search(line[:300]) is not None and '"cartesian_site_positions"' not in line


def optimade_atoms(row: Mapping[str, Any]) -> Atoms:
    """The atoms of a resource or of its attributes; isotopes bring their mass, open axes stay open.

    Raises:
        StructureError: sites are partially occupied, or a field is missing or not what it should be.
    """
    inner = row.get("attributes")
    fields = inner if isinstance(inner, Mapping) else row
    positions = numbers_of(fields.get("cartesian_site_positions"), (-1, 3), "cartesian_site_positions")
    at_sites = fields.get("species_at_sites")
    if not isinstance(at_sites, list) or len(at_sites) != len(positions):
        raise StructureError("species_at_sites does not name one species for each of cartesian_site_positions")
    features = fields.get("structure_features")
    if isinstance(features, list) and "assemblies" in features:
        raise StructureError("the structure is an assembly of alternatives; choose one of them first")
    known = {kind["name"]: kind for kind in _list(fields, "species") if isinstance(kind.get("name"), str)}
    symbols, masses = {}, {}
    for name in dict.fromkeys(map(str, at_sites)):
        symbols[name], masses[name] = _symbol(known.get(name), name)
    atoms = atoms_of([symbols[str(name)] for name in at_sites], positions)
    given = [masses[str(name)] for name in at_sites]
    if any(mass is not None for mass in given):
        atoms.set_masses([own if mass is None else mass for own, mass in zip(atoms.get_masses(), given, strict=True)])
    _set_cell(atoms, fields)
    return atoms


def _list(fields: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = fields.get(key)
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _symbol(kind: Mapping[str, Any] | None, name: str) -> tuple[str, float | None]:
    """Symbol and mass of a species with one element; a species that is not described is called like its element."""
    if kind is None:
        return name, None
    symbols, shares = kind.get("chemical_symbols"), kind.get("concentration", [1.0])
    if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
        raise StructureError(f"the species {storable(name, 40)!r} has no chemical_symbols")
    occupied = numbers_of(shares, (len(symbols),), f"the concentration of {storable(name, 40)!r}")
    if len(symbols) != 1 or abs(occupied[0] - 1) > 1e-6:
        shown = ", ".join(f"{storable(symbol, 10)} {share:g}" for symbol, share in zip(symbols, occupied, strict=True))
        raise StructureError(
            f"a site is partially occupied ({shown}); write an ordered arrangement, or a CIF for `dpa4 order`"
        )
    if kind.get("attached"):
        raise StructureError(f"atoms without coordinates are attached to {storable(name, 40)!r}; add their sites")
    mass = kind.get("mass")
    if mass is None:
        return symbols[0], None
    return symbols[0], float(numbers_of(mass if isinstance(mass, list) else [mass], (1,), "the mass of a species")[0])


def _set_cell(atoms: Atoms, fields: Mapping[str, Any]) -> None:
    """Lattice vectors and periodic axes; missing vectors are null in these files."""
    vectors, axes = fields.get("lattice_vectors"), fields.get("dimension_types")
    if isinstance(vectors, list):
        rows = [[0.0, 0.0, 0.0] if not isinstance(v, list) or None in v else v for v in vectors]
        atoms.cell = numbers_of(rows, (3, 3), "lattice_vectors")
    flags = np.ones(3) if axes is None else numbers_of(axes, (3,), "dimension_types")
    atoms.pbc = flags.astype(bool) if isinstance(vectors, list) else False

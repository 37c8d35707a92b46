"""pymatgen structures with everything that ase.Atoms say about their sites; the way back is `site_data.as_atoms`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from pymatgen.core import Composition, Element, Lattice, Molecule, Species, Structure

from dpa4_core.data.isotopes import ISOTOPE_MASSES
from dpa4_core.data.site_data import OXIDATION_STATES, fixed_along_lattice
from dpa4_core.data.structures import StructureError, to_system
from dpa4_core.data.system import array_problem, axis_names, complete_cell, extent_problem

_COLUMNS = {"initial_magmoms": "magmom", "initial_charges": "charge"}
_ELSEWHERE = ("numbers", "positions", OXIDATION_STATES)


def as_pymatgen(structure: Any) -> Structure | Molecule:
    """``structure`` as a pymatgen object of plain values, which JSON can hold; a crystal if any axis is periodic.

    Args:
        structure: ase.Atoms, or a pymatgen object, which is given back as it is.

    Raises:
        StructureError: as `to_system`; or its cell has no volume, or is not of numbers.
    """
    is_ours = isinstance(structure, Atoms)
    try:
        system = to_system(structure)
    except StructureError:
        if is_ours:
            raise
        return structure  # with shared sites, which some properties are about
    if (problem := array_problem(system) or extent_problem(system)) is not None:
        raise StructureError(problem)
    if not is_ours:
        return structure
    atoms = structure
    properties = {
        _COLUMNS.get(name, name): [_or_none(value) for value in column.tolist()]
        for name, column in atoms.arrays.items()
        if name not in _ELSEWHERE
    }
    info = plain(atoms.info)
    charge = None if system.charge_spin is None else system.charge_spin[0]
    if not atoms.pbc.any():
        spin = None if system.charge_spin is None else system.charge_spin[1]
        return Molecule(
            _species(atoms),
            atoms.positions,
            charge=charge or 0,
            spin_multiplicity=spin or None,
            charge_spin_check=False,
            site_properties=properties,
            properties=info,
        )
    fixed, _ = fixed_along_lattice(atoms)
    if fixed.any():
        properties["selective_dynamics"] = (~fixed).tolist()
    return Structure(
        Lattice(complete_cell(system.cell), pbc=tuple(atoms.pbc.tolist())),
        _species(atoms),
        atoms.positions,
        coords_are_cartesian=True,
        charge=charge,
        site_properties=properties,
        properties=info,
    )


def crystal_problem(structure: Structure) -> str | None:
    """Why ``structure`` is no crystal, for what has a meaning in crystals only: hulls, elastic tensors, phonons."""
    pbc = np.array(structure.lattice.pbc)
    if pbc.all():
        return None
    return (
        f"the structure is periodic along {axis_names(pbc)} only, and this needs a crystal; set pbc to T T T if its "
        "vacuum is meant to repeat"
    )


def free_crystal(structure: Any) -> tuple[Any, list[str]]:
    """The structure without what keeps atoms in place, for properties that are about all displacements; and what to say
    of that.
    """
    if "selective_dynamics" not in structure.site_properties:
        return structure, []
    free = structure.copy()
    free.remove_site_property("selective_dynamics")
    return free, ["atoms that the file fixes were set free"]


def with_written_masses(structure: Structure | Molecule) -> Structure | Molecule:
    """``structure`` with masses that are not the standard ones in the site property ``masses`` (u), D and T as H.

    pymatgen writes its isotopes D and T into every document as hydrogen; a site property survives.
    """
    try:
        masses = to_system(structure).masses
    except StructureError:  # no potential can see it
        return structure
    if masses is None and "masses" not in structure.site_properties:
        return structure
    written = structure.copy()
    for site in written:
        if getattr(site.specie, "element", site.specie).name in ISOTOPE_MASSES:
            charged = isinstance(site.specie, Species)
            site.species = Composition({Species("H", site.specie.oxi_state) if charged else Element("H"): 1})
    if masses is None:
        written.remove_site_property("masses")
    else:
        written.add_site_property("masses", masses.tolist())
    return written


def all_with_written_masses(argument: Any) -> Any:
    """An argument of a job in which structures, alone or in a list, keep their isotopes when it becomes a document."""
    if isinstance(argument, list):
        return [all_with_written_masses(entry) for entry in argument]
    return with_written_masses(argument) if isinstance(argument, Structure | Molecule) else argument


def structure_fields(structure: Any) -> dict[str, Any]:
    """The dictionary of pymatgen for a structure of any kind, in plain values."""
    with warnings.catch_warnings():  # a total charge need not be the sum of the oxidation states, which are labels
        warnings.simplefilter("ignore")
        fields: dict[str, Any] = plain(with_written_masses(as_pymatgen(structure)).as_dict())
    return fields


def plain(value: Any) -> Any:
    """A value with arrays as lists and without what JSON cannot hold."""
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items() if _is_plain(entry)}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value if _is_plain(entry)]
    return value


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(
        value, str | bool | int | float | list | tuple | Mapping | np.ndarray | np.generic
    )


def _species(atoms: Atoms) -> list[Any]:
    symbols = atoms.get_chemical_symbols()
    if OXIDATION_STATES not in atoms.arrays:
        return symbols
    states = atoms.arrays[OXIDATION_STATES].tolist()
    return [
        symbol if _or_none(state) is None else Species(symbol, state)
        for symbol, state in zip(symbols, states, strict=True)
    ]


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value

"""Between the structures of users (ASE, pymatgen) and plain arrays.

pymatgen is recognised through ``sys.modules``: an object of a package that was never imported cannot come in.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Iterable
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, FixScaled
from numpy.typing import NDArray

from dpa4_core.data.isotopes import ISOTOPE_MASSES
from dpa4_core.data.system import (
    MAX_LENGTH,
    MIN_CELL_HEIGHT,
    MIN_DISTANCE_RATIO,
    StructureError,
    System,
    array_problem,
    check_distance_ratio,
    check_system,
    formula,
    partial_occupancy,
    unusual_masses,
)

__all__ = [
    "MAX_LENGTH",
    "MIN_DISTANCE_RATIO",
    "StructureError",
    "System",
    "check_distance_ratio",
    "check_system",
    "constraint_problem",
    "formula",
    "from_system",
    "is_structure",
    "structure_list",
    "to_system",
]

logger = logging.getLogger(__name__)


def is_structure(candidate: Any) -> bool:
    """Whether `to_system` knows the type; a pymatgen structure is a sequence, like a list of structures."""
    known = (System, Atoms, _pymatgen("structure", "IStructure"), _pymatgen("structure", "IMolecule"))
    return isinstance(candidate, known)


def structure_list(structures: Any) -> list[Any]:
    """``structures`` as a list, also a single one; what the entries are is left to `to_system`.

    Raises:
        StructureError: a name or path, or nothing that can be iterated over.
    """
    if is_structure(structures):
        return [structures]
    if isinstance(structures, str | Path):
        raise StructureError(
            f"'{structures}' is text, not a list of structures; for a file pass "
            "[entry.structure for entry in read_structures(path)]"
        )
    if not isinstance(structures, Iterable):
        raise StructureError(f"{type(structures).__name__} is neither a structure nor a list of structures")
    return list(structures)


def to_system(structure: Any) -> System:
    """Arrays of an ``ase.Atoms``, a pymatgen ``Structure`` or ``Molecule``, or a `System` itself.

    Periodicity is that of every axis, ``atoms.pbc`` or ``lattice.pbc``; along an open axis a vector may be missing
    (zero), and one that lies within the span of the others counts as missing. Fixed coordinates come from the ASE
    constraints ``FixAtoms``, ``FixCartesian`` and ``FixScaled`` and from the pymatgen site property
    ``selective_dynamics``; see `constraint_problem` for the others. Charge and spin multiplicity come from
    ``atoms.info["charge"]`` and ``["spin"]`` or from the pymatgen object; labels of other codes in the ``info``
    of a crystal, such as fractional ones, are ignored. Masses are those set on ``ase.Atoms``, those of pymatgen's
    isotopes D and T, and the site property ``masses``.

    Raises:
        StructureError: not a structure, no atoms, partial occupancy, unknown species, NaN, malformed selective
            dynamics, constraints on atoms that are not there, impossible charge, spin or mass.
    """
    if isinstance(structure, System):
        system = structure
    elif isinstance(structure, Atoms):
        system = _from_ase(structure)
    elif isinstance(structure, _pymatgen("structure", "IStructure")):
        system = _from_pymatgen_structure(structure)
    elif isinstance(structure, _pymatgen("structure", "IMolecule")):
        system = _from_pymatgen_molecule(structure)
    else:
        raise StructureError(
            f"{type(structure).__name__} is not a structure; pass ase.Atoms, pymatgen Structure or Molecule"
        )
    if problem := array_problem(system):
        raise StructureError(problem)
    if system.periodic and not system.pbc.all():
        system = dataclasses.replace(system, cell=_without_dependent_vectors(system.cell, system.pbc))
    return system


def _without_dependent_vectors(cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The cell with zeros for vectors along open axes that lie within the span of the others, or nearly so."""
    kept = np.where(pbc[:, None], cell, 0.0)
    for axis in np.flatnonzero(~pbc):
        beyond = cell[axis] - cell[axis] @ np.linalg.pinv(kept) @ kept
        if np.linalg.norm(beyond) > MIN_CELL_HEIGHT:
            kept[axis] = cell[axis]
    return kept


def from_system(template: Any, system: System) -> Any:
    """A copy of ``template`` with the positions and cell of ``system``.

    Type, order of sites, species, masses, site properties, constraints, tags, info and the vectors along axes
    without periodicity are those of ``template``; an ASE calculator is not copied, since its results belong to the
    old geometry.
    """
    if isinstance(template, System):
        if system.pbc.all():
            return system
        return dataclasses.replace(system, cell=_periodic_vectors_of(system, template.cell))
    if isinstance(template, Atoms):
        atoms = template.copy()
        atoms.set_cell(_periodic_vectors_of(system, template.cell.array), scale_atoms=False)
        atoms.set_positions(system.positions, apply_constraint=False)
        return atoms
    if isinstance(template, _pymatgen("structure", "IStructure")):
        lattice = type(template.lattice)(
            _periodic_vectors_of(system, template.lattice.matrix), pbc=template.lattice.pbc
        )
        if not isinstance(template, _pymatgen("structure", "Structure")):  # an IStructure cannot be changed
            return type(template)(
                lattice,
                template.species_and_occu,
                system.positions,
                coords_are_cartesian=True,
                charge=template._charge,
                site_properties=template.site_properties,
                labels=template.labels,
                properties=template.properties,
            )
        structure = template.copy()
        structure.lattice = lattice
        for site, fractional in zip(structure, lattice.get_fractional_coords(system.positions), strict=True):
            site.frac_coords = fractional
        return structure
    if isinstance(template, _pymatgen("structure", "IMolecule")):
        return type(template)(
            template.species_and_occu,
            system.positions,
            charge=template.charge,
            spin_multiplicity=template.spin_multiplicity,
            charge_spin_check=False,
            site_properties=template.site_properties,
            labels=template.labels,
            properties=template.properties,
        )
    raise StructureError(f"{type(template).__name__} is not a structure")


def constraint_problem(structure: Any) -> str | None:
    """Why a constraint of ``structure`` cannot be kept by fixed Cartesian coordinates; None if all can.

    A prediction does not move atoms and may ignore this; a relaxation must not.
    """
    if isinstance(structure, Atoms):
        return _ase_fixed(structure)[1]
    if isinstance(structure, _pymatgen("structure", "IStructure")):
        return _selective_dynamics(structure)[1]
    return None


def _periodic_vectors_of(system: System, cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """``cell`` with the vectors of ``system`` along its periodic axes."""
    return np.where(system.pbc[:, None], system.cell, cell)


def _pymatgen(module: str, name: str) -> Any:
    """A class of ``pymatgen.core``, or nothing to be an instance of while pymatgen is not imported."""
    loaded = sys.modules.get(f"pymatgen.core.{module}")
    return getattr(loaded, name, ())


def _from_ase(atoms: Atoms) -> System:
    numbers = atoms.numbers.astype(np.int64)
    occupancy = atoms.info.get("occupancy")
    if isinstance(occupancy, dict):  # set by ASE's CIF reader, which itself keeps only the majority species
        present = {str(kind) for kind in atoms.arrays.get("spacegroup_kinds", occupancy)}
        for kind, species in occupancy.items():
            shares = list(species.values()) if isinstance(species, dict) else []  # others are labels of other codes
            if not all(isinstance(share, Real) for share in shares) or str(kind) not in present:
                continue
            if len(shares) > 1 or any(abs(share - 1) > 1e-8 for share in shares):
                raise StructureError(partial_occupancy(species.items()))
    periodic = bool(atoms.pbc.any())
    masses = None
    if "masses" in atoms.arrays:
        masses = unusual_masses(numbers, _mass_column(atoms.arrays["masses"]))
    charge, spin = atoms.info.get("charge"), atoms.info.get("spin")
    charge_spin = None
    if charge is not None or spin is not None:
        try:
            charge_spin = _charge_and_spin(numbers, charge, spin)
        except StructureError as error:
            if not periodic:  # the charge of a molecule is meant; in a crystal these are labels of other codes
                raise
            logger.info("ignored in %s: %s", atoms.symbols, error)
    return System(
        numbers=numbers,
        positions=atoms.positions.astype(np.float64),
        cell=np.array(atoms.cell, dtype=np.float64) if periodic else np.zeros((3, 3)),
        pbc=np.array(atoms.pbc, dtype=bool),
        fixed=_ase_fixed(atoms)[0],
        charge_spin=charge_spin,
        masses=masses,
    )


def _from_pymatgen_structure(structure: Any) -> System:
    periodic = any(structure.lattice.pbc)
    numbers = _pymatgen_numbers(structure)
    # Structure.charge would fall back on oxidation states, which are labels and need not add up
    charge, spin = structure._charge, structure.properties.get("spin")
    if not isinstance(spin, int):  # a label of another code
        spin = None
    return System(
        numbers=numbers,
        positions=np.array(structure.cart_coords, dtype=np.float64).reshape(-1, 3),
        cell=np.array(structure.lattice.matrix, dtype=np.float64) if periodic else np.zeros((3, 3)),
        pbc=np.array(structure.lattice.pbc, dtype=bool),
        fixed=_selective_dynamics(structure)[0],
        charge_spin=_charge_and_spin(numbers, charge, spin) if charge or spin is not None else None,
        masses=_pymatgen_masses(structure, numbers),
    )


def _from_pymatgen_molecule(molecule: Any) -> System:
    numbers = _pymatgen_numbers(molecule)
    charge_spin = _charge_and_spin(numbers, molecule.charge, molecule.spin_multiplicity)
    return System(
        numbers=numbers,
        positions=np.array(molecule.cart_coords, dtype=np.float64).reshape(-1, 3),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        fixed=np.zeros((len(numbers), 3), dtype=bool),
        charge_spin=None if charge_spin == (0, 1) else charge_spin,
        masses=_pymatgen_masses(molecule, numbers),
    )


def _pymatgen_numbers(structure: Any) -> NDArray[np.int64]:
    dummy = _pymatgen("periodic_table", "DummySpecies")
    numbers = np.empty(len(structure), dtype=np.int64)
    for i, site in enumerate(structure):
        if not site.is_ordered:
            raise StructureError(partial_occupancy(site.species.items()))
        if isinstance(site.specie, dummy):
            raise StructureError(f"site {i} holds {site.specie}, which is not an element; replace or remove it")
        numbers[i] = site.specie.Z
    return numbers


def _pymatgen_masses(structure: Any, numbers: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Masses [n] in u that are not the standard ones; the site property is preferred to the species."""
    masses = np.full(len(numbers), np.nan)
    for i in np.flatnonzero(numbers == 1):
        species = structure[int(i)].specie
        # an isotope calls itself H in every text, and its mass is that of the nucleus
        masses[i] = ISOTOPE_MASSES.get(getattr(species, "element", species).name, np.nan)
    if (column := structure.site_properties.get("masses")) is not None:
        given = _mass_column(column)
        masses = np.where(np.isnan(given), masses, given)
    return unusual_masses(numbers, masses)


def _mass_column(column: Any) -> NDArray[np.float64]:
    """Masses [n] in u; NaN where there is none."""
    try:
        return np.array([np.nan if mass is None else float(mass) for mass in column], dtype=np.float64)
    except (TypeError, ValueError):
        raise StructureError("a mass is not a number; give masses in u, or remove the column masses") from None


def _charge_and_spin(numbers: NDArray[np.int64], charge: Any, spin: Any) -> tuple[int, int]:
    """Integers; a missing multiplicity is the lowest one that the number of electrons allows."""
    try:
        total = 0.0 if charge is None else float(charge)
        multiplicity = 1 + (numbers.sum() - total) % 2 if spin is None else float(spin)
        if total.is_integer() and abs(total) < 100 and multiplicity in range(100):
            return int(total), int(multiplicity)
    except (TypeError, ValueError, OverflowError):
        pass
    raise StructureError(f"charge {charge} and spin multiplicity {spin} must be integers within ±99 and from 0 to 99")


def _ase_fixed(atoms: Atoms) -> tuple[NDArray[np.bool_], str | None]:
    fixed = np.zeros((len(atoms), 3), dtype=bool)
    problem = None
    for constraint in atoms.constraints:
        mask: Any = True
        if isinstance(constraint, FixCartesian):
            mask = constraint.mask
        elif isinstance(constraint, FixScaled):
            mask, problem_here = _cartesian_mask(constraint.mask, np.array(atoms.cell))
            problem = problem or problem_here
        elif not isinstance(constraint, FixAtoms):
            problem = (
                f"the constraint {type(constraint).__name__} is not supported; "
                "use FixAtoms or FixCartesian, or move the atoms with ASE and DPA4Calculator"
            )
            continue
        try:
            fixed[constraint.index] |= mask
        except IndexError:
            raise StructureError(
                f"a constraint fixes atom {np.abs(constraint.index).max()} of {len(atoms)}; remove or correct it"
            ) from None
    return fixed, problem


def _selective_dynamics(structure: Any) -> tuple[NDArray[np.bool_], str | None]:
    fixed = np.zeros((len(structure), 3), dtype=bool)
    problem = None
    if "selective_dynamics" in structure.site_properties:
        for i, movable in enumerate(structure.site_properties["selective_dynamics"]):
            if movable is None:
                continue
            fixed[i], problem_here = _cartesian_mask(~_flags(movable, i), structure.lattice.matrix)
            problem = problem or problem_here
    return fixed, problem


def _flags(movable: Any, site: int) -> NDArray[np.bool_]:
    """The selective dynamics [3] of one site."""
    try:
        if len(movable) == 3 and all(flag in (True, False) for flag in movable):
            return np.array(movable, dtype=bool)
    except (TypeError, ValueError):
        pass
    shown = " ".join(str(movable).split())[:40]
    raise StructureError(
        f"selective_dynamics of site {site} is {shown!r}; give three of True and False, or remove the site property"
    )


def _cartesian_mask(mask: NDArray[np.bool_], cell: NDArray[np.float64]) -> tuple[NDArray[np.bool_], str | None]:
    """Cartesian coordinates that stay when the fractional coordinates in ``mask`` stay.

    A fractional coordinate is fixed by forbidding motion along its reciprocal vector. That is a Cartesian
    mask where the forbidden directions span Cartesian axes, for example the third one of a slab in the xy
    plane; else everything is fixed and the problem is told.
    """
    if mask.all() or not mask.any():
        return mask, None
    if not np.isfinite(cell).all():  # which is refused, but not here
        return np.ones(3, dtype=bool), None
    forbidden = np.linalg.pinv(cell).T[mask]
    projector = np.linalg.pinv(forbidden) @ forbidden
    cartesian = np.diag(projector) > 0.5
    if np.allclose(projector, np.diag(cartesian), atol=1e-6):
        return cartesian, None
    return np.ones(3, dtype=bool), (
        "selective dynamics whose fixed directions are not along x, y or z are not supported; "
        "fix whole atoms or rotate the cell"
    )

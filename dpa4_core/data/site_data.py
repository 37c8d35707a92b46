"""ase.Atoms with everything that a structure says about its sites, whatever it was before.

Beside species and coordinates these are: constraints, magnetic moments (array ``initial_magmoms``), tags, initial
charges, oxidation states (array ``oxi_states``, as pymatgen calls it in ase.Atoms), masses, and in ``info`` the total
``charge`` and the multiplicity ``spin``. Writers of files begin here, so that nothing is lost on the way to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, FixConstraint, FixScaled
from ase.data import atomic_masses
from numpy.typing import NDArray

from dpa4_core.data.isotopes import ISOTOPE_MASSES
from dpa4_core.data.structures import to_system

OXIDATION_STATES = "oxi_states"
"""Array of oxidation states; NaN where a site has none."""

SITE_DATA = (
    *("constraints", "magnetic moments", "tags", "charge", "spin", "oxidation states", "isotopes", "masses"),
    "open axes",
)
"""What a structure may say beside species and coordinates, in the words of messages."""

_COLUMNS = {"magmom": "initial_magmoms", "charge": "initial_charges"}
"""Site properties of pymatgen under ASE's names; others keep theirs."""
_ELSEWHERE = ("selective_dynamics", "masses", "forces")
"""What `to_system` reads, and results of an earlier calculation, which are not those of the structure now."""


def as_atoms(structure: Any) -> Atoms:
    """A copy of ``structure`` as ase.Atoms without calculator.

    Args:
        structure: ase.Atoms, pymatgen ``Structure`` or ``Molecule``.

    Raises:
        StructureError: as `to_system`.
    """
    if isinstance(structure, Atoms):
        atoms: Atoms = structure.copy()
        states = np.asarray(atoms.info.get(OXIDATION_STATES))
        if states.dtype.kind in "if" and states.shape == (len(atoms),):
            atoms.set_array(OXIDATION_STATES, np.asarray(atoms.info.pop(OXIDATION_STATES), dtype=np.float64))
        return atoms
    system = to_system(structure)
    lattice = getattr(structure, "lattice", None)
    atoms = Atoms(numbers=system.numbers, positions=system.positions)
    if lattice is not None:
        atoms.cell, atoms.pbc = lattice.matrix, lattice.pbc
    for name, values in structure.site_properties.items():
        column = None if name in _ELSEWHERE else _column(values)
        if column is not None:
            column = np.nan_to_num(column).astype(np.int64) if name == "tags" else column
            atoms.set_array(_COLUMNS.get(name, name), column)
    _set_species(atoms, structure)
    if system.masses is not None:
        atoms.set_masses(system.masses)
    if "selective_dynamics" in structure.site_properties:
        movable = structure.site_properties["selective_dynamics"]
        atoms.set_constraint(fractional_constraints(atoms, [~_flags(free) for free in movable]))
    if isinstance(structure.properties, Mapping):
        atoms.info.update(structure.properties)
    if system.charge_spin is not None:
        atoms.info["charge"], atoms.info["spin"] = system.charge_spin
    return atoms


def with_states_in_info(atoms: Atoms) -> Atoms:
    """``atoms``, or a copy whose oxidation states are in ``info``: ASE's trajectories hold no arrays but its own."""
    if OXIDATION_STATES not in atoms.arrays:
        return atoms
    copy = atoms.copy()
    copy.info[OXIDATION_STATES] = atoms.arrays[OXIDATION_STATES].tolist()
    copy.calc = atoms.calc
    return copy


def site_data(atoms: Atoms) -> list[str]:
    """Which of `SITE_DATA` there are in ``atoms``."""
    symbols = isotope_symbols(atoms)
    standard = [
        ISOTOPE_MASSES.get(name, mass) for name, mass in zip(symbols, atomic_masses[atoms.numbers], strict=True)
    ]
    there = {
        "constraints": bool(atoms.constraints),
        "magnetic moments": _says_something(atoms, "initial_magmoms"),
        "tags": _says_something(atoms, "tags"),
        "charge": bool(atoms.info.get("charge")),
        "spin": atoms.info.get("spin") is not None,
        "oxidation states": _says_something(atoms, OXIDATION_STATES),
        "isotopes": any(symbol in ISOTOPE_MASSES for symbol in symbols),
        "masses": not np.allclose(atoms.get_masses(), standard, rtol=1e-3),
        "open axes": not atoms.pbc.all(),
    }
    return [name for name in SITE_DATA if there.get(name)]


def fractional_constraints(atoms: Atoms, fixed: Sequence[NDArray[np.bool_]]) -> list[FixConstraint]:
    """Constraints of ASE for coordinates along lattice vectors, [3] for each atom."""
    whole = [i for i, mask in enumerate(fixed) if mask.all()]
    partly: list[FixConstraint] = [
        FixScaled(i, mask, atoms.cell) for i, mask in enumerate(fixed) if mask.any() and not mask.all()
    ]
    return [*partly, FixAtoms(whole)] if whole else partly


def cartesian_constraints(fixed: NDArray[np.bool_]) -> list[FixConstraint]:
    """Constraints of ASE for fixed coordinates [n, 3] along x, y and z."""
    whole = np.flatnonzero(fixed.all(axis=1))
    partly = np.flatnonzero(fixed.any(axis=1) & ~fixed.all(axis=1))
    constraints: list[FixConstraint] = [FixCartesian(int(i), fixed[i]) for i in partly]
    return [*constraints, FixAtoms(whole)] if len(whole) else constraints


def with_cartesian_constraints(atoms: Atoms) -> Atoms:
    """A copy in which every fixed coordinate is one along x, y or z: what extended XYZ can hold.

    Where lattice vectors lie otherwise, the atoms that are partly fixed are fixed as a whole, as in a relaxation.
    """
    calculator, copy = atoms.calc, atoms.copy()
    fixed = to_system(atoms).fixed
    copy.set_constraint(cartesian_constraints(fixed))
    copy.calc = calculator
    return copy


def fixed_along_lattice(atoms: Atoms) -> tuple[NDArray[np.bool_], bool]:
    """Fixed coordinates [n, 3] along the lattice vectors, and whether they are exactly the constraints of ``atoms``.

    A fixed direction x, y or z that no lattice vector gives fixes the atom as a whole.
    """
    fixed = np.zeros((len(atoms), 3), dtype=bool)
    exact = True
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            fixed[constraint.index] = True
        elif isinstance(constraint, FixScaled):
            fixed[constraint.index] |= np.asarray(constraint.mask, dtype=bool)
        elif isinstance(constraint, FixCartesian):
            mask = _lattice_mask(np.asarray(constraint.mask, dtype=bool), np.array(atoms.cell))
            exact = exact and mask is not None
            fixed[constraint.index] |= True if mask is None else mask
        else:
            exact = False
    return fixed, exact


def isotope_symbols(atoms: Atoms) -> list[str]:
    """Symbols, D and T where the mass of a hydrogen atom is theirs."""
    symbols = atoms.get_chemical_symbols()
    if "masses" not in atoms.arrays:
        return symbols
    for i, mass in enumerate(atoms.get_masses()):
        for isotope, known in ISOTOPE_MASSES.items():
            if symbols[i] == "H" and abs(mass - known) < 1e-3:
                symbols[i] = isotope
    return symbols


def _lattice_mask(mask: NDArray[np.bool_], cell: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    """Lattice coordinates whose fixing is that of the Cartesian ones in ``mask``; None if there are none."""
    if mask.all() or not mask.any():
        return mask
    if abs(np.linalg.det(cell)) < 1e-9:
        return None
    reciprocal = np.linalg.inv(cell).T  # to fix a fractional coordinate forbids its reciprocal vector
    target = np.diag(mask.astype(float))
    for bits in range(1, 7):
        chosen = np.array([bool(bits >> k & 1) for k in range(3)])
        span = reciprocal[chosen]
        if chosen.sum() == mask.sum() and np.allclose(np.linalg.pinv(span) @ span, target, atol=1e-6):
            return chosen
    return None


def _set_species(atoms: Atoms, structure: Any) -> None:
    """Oxidation states and spins, which pymatgen keeps in the species."""
    species = [site.specie for site in structure]
    oxidation = [getattr(kind, "oxi_state", None) for kind in species]
    if any(state is not None for state in oxidation):
        atoms.set_array(OXIDATION_STATES, np.array([np.nan if s is None else float(s) for s in oxidation]))
    spins = [getattr(kind, "spin", None) for kind in species]
    if any(spin is not None for spin in spins) and "initial_magmoms" not in atoms.arrays:
        atoms.set_array("initial_magmoms", np.array([np.nan if s is None else float(s) for s in spins]))


def _says_something(atoms: Atoms, name: str) -> bool:
    """Whether there is an array of this name with anything but zeros and gaps."""
    return name in atoms.arrays and bool(np.nan_to_num(atoms.arrays[name]).any())


def _column(values: Sequence[Any]) -> NDArray[Any] | None:
    """An array of one number or a few for each site, NaN where there is none; None for what is not numbers."""
    known = next((value for value in values if value is not None), None)
    if known is None or isinstance(known, str | Mapping):
        return None
    width = np.shape(known)
    try:
        column = np.array([np.full(width, np.nan) if value is None else value for value in values], dtype=np.float64)
    except (TypeError, ValueError):
        try:
            return np.array([np.nan if value is None else float(value) for value in values])  # Magmom of pymatgen
        except (TypeError, ValueError):
            return None
    if all(isinstance(value, int | np.integer | bool | np.bool_) for value in values):
        return np.array(values)
    return column


def _flags(movable: Any) -> NDArray[np.bool_]:
    return np.ones(3, dtype=bool) if movable is None else np.array(movable, dtype=bool)

"""The symmetry of a crystal whose atoms of one element differ in mass: no operation maps hydrogen onto deuterium."""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols
from pymatgen.core import Element, Species, Structure
from scipy.constants import atomic_mass

from dpa4_core.data.structures import to_system


def marked_by_mass(structure: Structure) -> Structure:
    """The crystal with an oxidation state for every mass that occurs, which tools of symmetry tell apart.

    A crystal of standard masses comes back as it is.
    """
    kinds = _kinds(structure)
    if not kinds:
        return structure
    system = to_system(structure)
    assert system.masses is not None
    species = [
        Species(chemical_symbols[number], kinds.index((number, mass)))
        for number, mass in zip(system.numbers.tolist(), system.masses.tolist(), strict=True)
    ]
    return Structure(structure.lattice, species, structure.frac_coords)


def unmarked(cell: Structure, structure: Structure) -> Structure:
    """Elements, and masses as a site property, for any cell made of `marked_by_mass` of ``structure``."""
    kinds = _kinds(structure)
    if not kinds:
        return cell
    of_sites = [kinds[round(site.specie.oxi_state or 0)] for site in cell]
    return Structure(
        cell.lattice,
        [Element.from_Z(number) for number, _ in of_sites],
        cell.frac_coords,
        site_properties={"masses": [mass for _, mass in of_sites]},
    )


def density_g_cm3(structure: Structure) -> float:
    """Mass density with the masses of the structure, g/cm³."""
    masses = to_system(structure).masses
    if masses is None:
        return float(structure.density)
    return float(np.sum(masses)) * atomic_mass * 1e3 / (structure.volume * 1e-24)


def _kinds(structure: Structure) -> list[tuple[int, float]]:
    """Atomic numbers with the masses that they have, in u; none where all are standard."""
    system = to_system(structure)
    if system.masses is None:
        return []
    return sorted({*zip(system.numbers.tolist(), system.masses.tolist(), strict=True)})

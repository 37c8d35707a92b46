"""CIF: one crystal from one data block, without a parser of others that drops what it does not understand.

`star` reads the syntax, `cif_sites` the rows, `cif_symmetry` the operations, `cif_orbits` makes all atoms, and
`cif_content` compares them with what the file says of itself. What does not stop the reader and a user should know is a
warning beside the structure.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any

import ase
import numpy as np
from ase.data import covalent_radii
from ase.geometry import cellpar_to_cell
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dpa4_core.data.cif_content import Verdict, has_statements, judge, refuse
from dpa4_core.data.cif_orbits import Atoms, expand
from dpa4_core.data.cif_sites import Site, SiteTable, read_sites
from dpa4_core.data.cif_symmetry import Symmetry, crystal_family_number, named_order, read_symmetry
from dpa4_core.data.isotopes import ISOTOPE_MASSES
from dpa4_core.data.operations import Operations
from dpa4_core.data.star import Block, number, parse_block, shown
from dpa4_core.data.system import StructureError, partial_occupancy

_LEAST_CONTACT = 0.75
"""Of the sum of covalent radii; settings that bring atoms closer are implausible where another does not."""


def read_block(lines: Sequence[str], *, pymatgen: bool) -> tuple[Any, tuple[str, ...]]:
    """The crystal of the lines of a data block, as a pymatgen Structure or as ase.Atoms, and warnings about it.

    Sites that several elements share, or one and nothing, are in the Structure as they are.

    Raises:
        StructureError: why it cannot be computed, one sentence.
    """
    block = parse_block(lines)
    parameters = _cell_parameters(block)
    cell = np.array(cellpar_to_cell(parameters))
    table = read_sites(block)
    symmetry = read_symmetry(block, cell)
    (_, operations), atoms, chosen = _choose(block, table, symmetry, cell)
    verdict = judge(block, table.sites, atoms, cell)
    refuse(verdict)
    said = [*symmetry.warnings, *table.warnings, *chosen, *atoms.warnings, *verdict.warnings]
    said += _doubts(block, symmetry, operations, verdict)
    build = _pymatgen_structure if pymatgen else _ase_atoms
    return build(table, atoms, parameters), tuple(dict.fromkeys(said))


def _cell_parameters(block: Block) -> list[float]:
    """Lengths (Å) and angles (degrees); what the file leaves out follows from the crystal system or is 90°.

    Raises:
        StructureError: a parameter is missing or impossible.
    """
    group = crystal_family_number(block) or 0
    hexagonal = 143 <= group <= 194
    same = {"b": group >= 75, "c": group >= 195}
    found: dict[str, float] = {}
    for name in "abc":
        key = f"_cell_length_{name}"
        text = block.text(key)
        if text is None and not same.get(name):
            raise StructureError(f"the file has no {key}; add the lengths and angles of the cell")
        value = found["a"] if text is None else number(text)
        if value is None or not 0 < value < float("inf"):
            raise StructureError(f"{key} is {shown(text)}, not a length in Å; correct it")
        found[name] = value
    for name in ("alpha", "beta", "gamma"):
        key = f"_cell_angle_{name}"
        text = block.text(key)
        value = (120.0 if hexagonal and name == "gamma" else 90.0) if text is None else number(text)
        if value is None or not 0 < value < 180:
            raise StructureError(f"{key} is {shown(text)}, not an angle from 0° to 180°; correct it")
        found[name] = value
    a, b, c = (np.cos(np.radians(found[name])) for name in ("alpha", "beta", "gamma"))
    if 1 + 2 * a * b * c - a * a - b * b - c * c < 1e-8:
        angles = ", ".join(f"{found[name]:g}°" for name in ("alpha", "beta", "gamma"))
        raise StructureError(f"the angles {angles} of the cell close to no volume; correct them")
    return list(found.values())


def _choose(
    block: Block, table: SiteTable, symmetry: Symmetry, cell: NDArray[np.float64]
) -> tuple[tuple[str, Operations], Atoms, list[str]]:
    """The candidate that agrees with the file, its atoms, and what is assumed with it.

    Raises:
        StructureError: none gives a structure, or the file contradicts itself and does not decide.
    """
    first, *others = symmetry.candidates
    if not others:
        return first, expand(table.sites, first[1], cell), []
    made: list[tuple[tuple[str, Operations], Atoms, int, bool]] = []
    problem: StructureError | None = None
    for candidate in symmetry.candidates:
        try:
            atoms = expand(table.sites, candidate[1], cell)
        except StructureError as error:
            problem = problem or error
            continue
        against = judge(block, table.sites, atoms, cell).contradictions
        made.append((candidate, atoms, against, _closest_contact(table.sites, atoms, cell) >= _LEAST_CONTACT))
    if not made:
        assert problem is not None
        raise problem
    least = min(against for _, _, against, _ in made)
    best = [one for one in made if one[2] == least]
    decided = len(best) < len(made) and has_statements(block, table.sites)
    if len(best) > 1 and any(plausible for *_, plausible in best):
        best = [one for one in best if one[3]]
    candidate, atoms, *_ = best[0]
    if len(best) == 1 and decided:
        return candidate, atoms, []
    if symmetry.refusal and not (len(best) == 1 and decided):
        raise StructureError(symmetry.refusal)
    if all(_same_atoms(atoms, other[1], table, cell) for other in best[1:]) and len(best) == len(made):
        return candidate, atoms, []
    instead = [f"{name} would give {len(other.fractions)}" for (name, _), other, *_ in made if name != candidate[0]]
    return (
        candidate,
        atoms,
        [
            f"the file gives {symmetry.open} for the space group; {candidate[0]} is taken, with {len(atoms.fractions)} "
            f"atoms ({', '.join(instead[:3]) or 'others bring atoms too close'})"
        ],
    )


def _closest_contact(sites: Sequence[Site], atoms: Atoms, cell: NDArray[np.float64]) -> float:
    """Shortest distance in units of the sum of covalent radii, within half the cell."""
    radii = covalent_radii[[_atomic_number(sites[i].element) for i in atoms.site]]
    if len(radii) < 2:
        return np.inf
    reach = min(0.49, 2 * float(radii.max()) * float(np.linalg.norm(np.linalg.inv(cell), 2)))
    pairs = cKDTree(atoms.fractions, boxsize=1.0).query_pairs(reach, output_type="ndarray")
    apart = atoms.fractions[pairs[:, 0]] - atoms.fractions[pairs[:, 1]]
    distances = np.linalg.norm((apart - np.rint(apart)) @ cell, axis=1)
    return float((distances / radii[pairs].sum(axis=1)).min(initial=np.inf))


def _same_atoms(first: Atoms, second: Atoms, table: SiteTable, cell: NDArray[np.float64]) -> bool:
    """Whether two settings give the same atoms in the same places."""
    if len(first.fractions) != len(second.fractions):
        return False
    tree = cKDTree(second.fractions, boxsize=1.0)
    apart, other = tree.query(first.fractions)
    elements = [site.element for site in table.sites]
    reach = 1e-3 * float(np.linalg.norm(np.linalg.inv(cell), 2))
    same = all(elements[i] == elements[j] for i, j in zip(first.site, second.site[other], strict=True))
    return same and bool((apart < reach).all())


def _doubts(block: Block, symmetry: Symmetry, operations: Operations, verdict: Verdict) -> list[str]:
    """Warnings about symmetry that the content did not settle."""
    if not symmetry.said:
        if verdict.odd:
            return ["the file says nothing about symmetry; its atoms are taken as all atoms of the cell"]
        return []
    listed = symmetry.candidates[0][0] == "listed"
    named = named_order(block) if listed else None
    if named is None or named[1] in (1, operations.point_order) or _confirmed(block, verdict):
        return []
    return [
        f"the file lists {len(operations)} symmetry operations that are not those of {named[0]}, which it names; the "
        "operations are used"
    ]


def _confirmed(block: Block, verdict: Verdict) -> bool:
    """Whether formula and number of formula units agree with the atoms."""
    counted = block.text("_chemical_formula_sum") and block.text("_cell_formula_units_z")
    return bool(counted) and verdict.odd == 0


def _atomic_number(element: str) -> int:
    return 1 if element in ISOTOPE_MASSES else int(ase.data.atomic_numbers[element])


def _pymatgen_structure(table: SiteTable, atoms: Atoms, parameters: Sequence[float]) -> Any:
    core = importlib.import_module("pymatgen.core")
    sites = [table.sites[i] for i in atoms.site]

    def species_of(site: Site) -> Any:
        return core.Element(site.element) if site.oxidation is None else core.Species(site.element, site.oxidation)

    def shares(row: int) -> Any:
        """What is in the places of a row: a species, or several with their shares."""
        if row not in atoms.sharing:
            return species_of(table.sites[row])
        found: dict[Any, float] = {}
        for site in (table.sites[i] for i in atoms.sharing[row]):
            found[species_of(site)] = found.get(species_of(site), 0.0) + site.occupancy
        total = max(1.0, sum(found.values()))  # rounding in the file
        return core.Composition({species: share / total for species, share in found.items()})

    species = [shares(int(row)) for row in atoms.site]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noble gases have no electronegativity to sort by
        structure = core.Structure(
            core.Lattice.from_parameters(*parameters),
            species,
            atoms.fractions,
            labels=[site.label for site in sites],
            site_properties=None if atoms.moments is None else {"magmom": atoms.moments.tolist()},
        )
        return structure.get_sorted_structure()


def _ase_atoms(table: SiteTable, atoms: Atoms, parameters: Sequence[float]) -> ase.Atoms:
    for group in atoms.sharing.values():  # which ase.Atoms cannot hold
        raise StructureError(partial_occupancy((table.sites[i].element, table.sites[i].occupancy) for i in group))
    sites = [table.sites[i] for i in atoms.site]
    crystal = ase.Atoms(
        numbers=[_atomic_number(site.element) for site in sites],
        scaled_positions=atoms.fractions,
        cell=cellpar_to_cell(parameters),
        pbc=True,
    )
    if heavy := {i: ISOTOPE_MASSES[site.element] for i, site in enumerate(sites) if site.element in ISOTOPE_MASSES}:
        masses = crystal.get_masses()
        masses[list(heavy)] = list(heavy.values())
        crystal.set_masses(masses)
    if atoms.moments is not None:
        crystal.set_initial_magnetic_moments(atoms.moments)
    return crystal

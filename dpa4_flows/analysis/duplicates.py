"""Equal structures: a content hash for caching, and groups of the same crystal in different clothes.

Grouping avoids comparing every pair. Structures are put in buckets by what equal crystals must share (reduced
formula, space group, primitive cell, orbit sizes); inside a bucket a fingerprint of coordination at unit
volume decides which of the few remaining pairs pymatgen's ``StructureMatcher`` compares.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.structure_matcher import ElementComparator, StructureMatcher
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

from dpa4_flows.results import digest

_DECIMALS = 6  # of Å and of fractional coordinates: below the precision that files carry
_SYMPREC = 0.1  # Å; loose, so that noise of 0.01 Å does not hide a symmetry
_RANGES = (1.15, 1.6, 2.2)  # radii of the fingerprint in units of the cube root of the volume per atom
_FINGERPRINT_TOLERANCE = 0.15  # neighbours, or the same fraction of them where there are many


def structure_hash(structure: Structure) -> str:
    """Hash of the content of a structure, 64 hex digits: what is computed, not how it was named.

    Covers species with their occupancies, lattice vectors and fractional coordinates modulo 1 (six decimals),
    total charge and selective dynamics. Order of atoms and choice of cell count: a result belongs to one
    array of atoms.
    """
    species = [
        site.specie.Z if site.is_ordered and hasattr(site.specie, "Z") else site.species_string for site in structure
    ]
    wrapped = np.round(np.asarray(structure.frac_coords, dtype=float), _DECIMALS) % 1.0
    lattice = np.round(structure.lattice.matrix, _DECIMALS) + 0.0  # no negative zeros
    return digest(
        species,
        lattice.tolist(),
        (np.round(wrapped, _DECIMALS) % 1.0 + 0.0).tolist(),
        [bool(p) for p in structure.lattice.pbc],
        structure._charge,
        [None if m is None else [bool(x) for x in m] for m in structure.site_properties.get("selective_dynamics", [])],
    )


def group_duplicates(
    structures: Mapping[str, Structure], *, ltol: float = 0.2, stol: float = 0.3, angle_tol: float = 5.0
) -> dict[str, str]:
    """Groups of equal crystals: {id: id of its representative}, in input order.

    The first of a group in input order represents it, itself included. Crystals are equal up to supercell,
    choice of cell, rotation, uniform scaling and small displacements; oxidation states are ignored.

    Args:
        structures: by id; partially occupied ones represent themselves.
        ltol: fractional length tolerance of the matcher.
        stol: site tolerance in units of the cube root of the volume per atom.
        angle_tol: angle tolerance, degrees.
    """
    matcher = StructureMatcher(
        ltol=ltol,
        stol=stol,
        angle_tol=angle_tol,
        primitive_cell=False,
        scale=True,
        comparator=ElementComparator(),
    )
    groups = {name: name for name in structures}
    ordered = {name: s for name, s in structures.items() if len(s) > 0 and s.is_ordered}
    formulas = {name: s.composition.reduced_formula for name, s in ordered.items()}
    how_many = Counter(formulas.values())
    buckets: dict[tuple[object, ...], _Bucket] = {}
    for name, structure in ordered.items():
        if how_many[formulas[name]] == 1:
            continue
        crystal = _crystal(name, structure)
        bucket = buckets.setdefault(crystal.key, _Bucket(crystal.fingerprint))
        for known in bucket.alike(crystal):
            if matcher.fit(crystal.primitive, known.primitive, skip_structure_reduction=True):
                groups[name] = known.name
                break
        else:
            bucket.add(crystal)
    return groups


@dataclass(frozen=True)
class _Crystal:
    """What equal crystals share, and the reduced primitive cell to compare."""

    name: str
    key: tuple[object, ...]
    primitive: Structure
    fingerprint: NDArray[np.float64]


class _Bucket:
    """Representatives that share a key."""

    def __init__(self, fingerprint: NDArray[np.float64]) -> None:
        self._crystals: list[_Crystal] = []
        self._fingerprints = np.zeros((0, len(fingerprint)))

    def add(self, crystal: _Crystal) -> None:
        self._crystals.append(crystal)
        self._fingerprints = np.vstack([self._fingerprints, crystal.fingerprint])

    def alike(self, crystal: _Crystal) -> list[_Crystal]:
        """Those whose fingerprints allow that they are equal to ``crystal``, in order."""
        tolerance = _FINGERPRINT_TOLERANCE * np.maximum(1.0, self._fingerprints)
        same = (np.abs(self._fingerprints - crystal.fingerprint) <= tolerance).all(axis=1)
        return [self._crystals[i] for i in np.flatnonzero(same)]


def _crystal(name: str, structure: Structure) -> _Crystal:
    space_group = 0
    orbits: tuple[tuple[int, int], ...] = ()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)  # of spglib 2.7
        try:
            primitive = SpacegroupAnalyzer(structure, _SYMPREC).find_primitive()
            dataset = SpacegroupAnalyzer(primitive, _SYMPREC).get_symmetry_dataset()
            space_group = int(dataset.number)
            first, sizes = np.unique(dataset.equivalent_atoms, return_counts=True)
            orbits = tuple(
                sorted((primitive[int(i)].specie.Z, int(size)) for i, size in zip(first, sizes, strict=True))
            )
        except (SymmetryUndeterminedError, ValueError):  # ValueError: no primitive cell found
            primitive = structure.get_reduced_structure()  # compared with its like
    key = (primitive.composition.reduced_formula, space_group, len(primitive), orbits)
    return _Crystal(name, key, primitive, _fingerprint(primitive))


def _fingerprint(structure: Structure) -> NDArray[np.float64]:
    """Mean numbers of neighbours by pair of elements within soft radii at unit volume per atom.

    Depends on neither cell, order of atoms nor scale, and changes smoothly with the positions.
    """
    scale = (structure.volume / len(structure)) ** (1 / 3)
    centres, neighbours, _, distances = structure.get_neighbor_list(1.15 * _RANGES[-1] * scale)
    kinds = np.array([site.specie.Z for site in structure])
    elements, counts = np.unique(kinds, return_counts=True)
    of_kind = np.searchsorted(elements, kinds)
    pair = of_kind[centres] * len(elements) + of_kind[neighbours]
    weights = [1.0 / (1.0 + np.exp((distances / scale - radius) / 0.03)) for radius in _RANGES]
    sums = [np.bincount(pair, weights=weight, minlength=len(elements) ** 2) for weight in weights]
    return np.asarray(np.stack(sums) / np.repeat(counts, len(elements))).ravel()

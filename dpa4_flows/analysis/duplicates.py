"""Equal structures: groups of the same crystal in different clothes, before and after relaxation.

Grouping avoids comparing every pair. Structures are put in buckets by reduced formula; inside a bucket a
fingerprint of coordination at unit volume decides with which few representatives, the nearest ones, pymatgen's
``StructureMatcher`` compares a structure. Symmetry decides nothing: a crystal and its slightly distorted copy,
which a relaxation takes to the same minimum, have different space groups.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.structure_matcher import ElementComparator, StructureMatcher
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.documents.schemas import RelaxationDocument

_SYMPREC = 0.1  # Å; loose, so that noise of 0.01 Å does not hide a symmetry
_RANGES = (1.15, 1.6, 2.2)  # radii of the fingerprint in units of the cube root of the volume per atom
_FINGERPRINT_TOLERANCE = 0.5  # neighbours, or the same fraction of them where there are many; matches reach 0.42
_MAX_COMPARED = 8  # representatives that one structure is compared with, however many orderings a formula has


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
    buckets: dict[str, _Bucket] = {}
    for name, structure in ordered.items():
        if how_many[formulas[name]] == 1:
            continue
        crystal = _crystal(name, structure)
        bucket = buckets.setdefault(formulas[name], _Bucket(crystal.fingerprint))
        for known in bucket.alike(crystal):
            if _fit(matcher, crystal, known):
                groups[name] = known.name
                break
        else:
            bucket.add(crystal)
    return groups


def relaxed_duplicates(
    documents: Mapping[str, RelaxationDocument],
    *,
    energy_window: float = 0.010,
    ltol: float = 0.2,
    stol: float = 0.3,
    angle_tol: float = 5.0,
) -> dict[str, str]:
    """Groups of candidates that relaxed to one minimum: {id: id of its representative}, in input order.

    The crystals must be alike as in `group_duplicates`, and their energies within ``energy_window`` of the lowest of
    the group, which represents it (the first in input order among equals). So a distorted phase and its symmetric
    parent, which a matcher takes for one, stay two if their energies tell them apart.

    Args:
        documents: relaxations by one model, by id; what failed or did not converge represents itself.
        energy_window: eV/atom; two relaxations to 0.02 eV/Å end within 5 to 10 meV/atom of each other.
        ltol: fractional length tolerance of the matcher.
        stol: site tolerance in units of the cube root of the volume per atom.
        angle_tol: angle tolerance, degrees.

    Raises:
        ValueError: relaxations by different models, whose energies cannot be compared.
    """
    if len(models := {document.provenance.model_sha256 for document in documents.values()}) > 1:
        raise ValueError(f"relaxations by {len(models)} models cannot be compared: give those of one model")
    energies: dict[str, float] = {}
    structures = {}
    for name, document in documents.items():
        if document.converged and document.structure is not None and document.energy_per_atom is not None:
            energies[name] = document.energy_per_atom
            structures[name] = structure_of_fields(document.structure)
    alike: dict[str, list[str]] = {}
    for name, first in group_duplicates(structures, ltol=ltol, stol=stol, angle_tol=angle_tol).items():
        alike.setdefault(first, []).append(name)
    groups = {name: name for name in documents}
    for names in alike.values():
        representative = ""
        for name in sorted(names, key=energies.__getitem__):  # stable: input order among equals
            if not representative or energies[name] - energies[representative] > energy_window:
                representative = name
            groups[name] = representative
    return groups


@dataclass(frozen=True)
class _Crystal:
    """The reduced primitive cell to compare, and what finds the crystals to compare it with."""

    name: str
    structure: Structure
    primitive: Structure
    fingerprint: NDArray[np.float64]

    @cached_property
    def smallest(self) -> Structure:
        """Primitive cell found from the positions alone: a strained lattice hides translations from symmetry."""
        return self.structure.get_primitive_structure().get_reduced_structure()


class _Bucket:
    """Representatives of one formula."""

    def __init__(self, fingerprint: NDArray[np.float64]) -> None:
        self._crystals: list[_Crystal] = []
        self._fingerprints = np.zeros((8, len(fingerprint)))

    def add(self, crystal: _Crystal) -> None:
        if len(self._crystals) == len(self._fingerprints):
            self._fingerprints = np.concatenate([self._fingerprints, np.zeros_like(self._fingerprints)])
        self._fingerprints[len(self._crystals)] = crystal.fingerprint
        self._crystals.append(crystal)

    def alike(self, crystal: _Crystal) -> list[_Crystal]:
        """The few whose fingerprints are nearest, if they allow that they are equal to ``crystal``."""
        known = self._fingerprints[: len(self._crystals)]
        scale = np.maximum(1.0, np.maximum(known, crystal.fingerprint))
        distances = (np.abs(known - crystal.fingerprint) / scale).max(axis=1)
        nearest = np.argsort(distances.round(6), kind="stable")[:_MAX_COMPARED]
        return [self._crystals[i] for i in nearest if distances[i] <= _FINGERPRINT_TOLERANCE]


def _fit(matcher: StructureMatcher, one: _Crystal, other: _Crystal) -> bool:
    cells = one.primitive, other.primitive
    if len(cells[0]) != len(cells[1]):
        cells = one.smallest, other.smallest
    return bool(len(cells[0]) == len(cells[1]) and matcher.fit(*cells, skip_structure_reduction=True))


def _crystal(name: str, structure: Structure) -> _Crystal:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)  # of spglib 2.7
        try:
            primitive = SpacegroupAnalyzer(structure, _SYMPREC).find_primitive() or structure
        except (SymmetryUndeterminedError, ValueError):  # ValueError: no primitive cell found
            primitive = structure
    primitive = primitive.get_reduced_structure()
    return _Crystal(name, structure, primitive, _fingerprint(primitive))


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

"""Whether a candidate is worth a calculation: cheap checks on geometry and composition, no energies."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from ase.data import covalent_radii
from pymatgen.core import Structure

from dpa4_core.data.structures import StructureError, System, check_distance_ratio, check_system, to_system
from dpa4_flows.documents.reasons import Reason

MIN_RADIUS = 0.75
"""Å; lower limit of the atomic radii in volumes, since H, N, O and F keep more distance than they bond."""

VOLUME_RATIO = (0.5, 15.0)
"""Allowed volume of a cell in units of the summed volumes of its atomic spheres (covalent radii).

Most of 5,000 structures of the Materials Project and WBM lie between 0.8 and 6; uranium has 0.6, dry ice and
the molecular solids of H, N, O and F 8 to 14."""


def check_candidate(
    structure: Structure,
    *,
    supported_elements: Collection[int],
    max_atoms: int = 200,
    min_distance_ratio: float = 0.5,
    volume_ratio: tuple[float, float] = VOLUME_RATIO,
) -> list[Reason]:
    """Why a candidate cannot or should not be computed; empty if it can.

    Args:
        structure: candidate, periodic.
        supported_elements: atomic numbers that the model was trained on.
        max_atoms: largest number of atoms in a cell.
        min_distance_ratio: atoms closer than this fraction of the sum of their covalent radii overlap.
        volume_ratio: lowest and highest cell volume in units of the volume of the atomic spheres.
    """
    check_distance_ratio(min_distance_ratio)
    try:
        system = to_system(structure)
    except StructureError as error:
        return [Reason(code="not_sane", sentence=str(error))]
    reasons = []
    geometry = check_system(system, frozenset(supported_elements), min_distance_ratio=min_distance_ratio)
    if geometry is not None:
        code = "not_sane" if {*system.numbers.tolist()} <= {*supported_elements} else "unknown_element"
        reasons.append(Reason(code=code, sentence=geometry))
    elif volume := _volume_reason(system, volume_ratio):
        reasons.append(volume)
    if system.n_atoms > max_atoms:
        words = f"{system.n_atoms} atoms in the cell; this campaign admits {max_atoms}"
        reasons.append(Reason(code="too_many_atoms", sentence=words))
    return reasons


def came_apart(structure: Structure) -> str | None:
    """Why a relaxed structure is no crystal any more, one sentence: its molecules have drifted apart, and a potential
    of crystals knows no gases. The loosest molecular crystals have 16 times the volume of their atoms.
    """
    ratio, _ = _filling(to_system(structure))
    if ratio <= 2 * VOLUME_RATIO[1]:
        return None
    formula, volume = structure.composition.reduced_formula, structure.volume / len(structure)
    return f"{formula} came apart into a gas as it relaxed: {volume:.0f} Å³ per atom are left"


def _filling(system: System) -> tuple[float, float]:
    """Volume of a cell over that of its atomic spheres, and that of the spheres, Å³."""
    radii = np.maximum(covalent_radii[system.numbers], MIN_RADIUS)
    spheres = float((4.0 / 3.0 * np.pi * radii**3).sum())
    return abs(float(np.linalg.det(system.cell))) / spheres, spheres


def _volume_reason(system: System, volume_ratio: tuple[float, float]) -> Reason | None:
    if not system.pbc.all():
        return Reason(code="not_sane", sentence="it is not periodic along all axes; this campaign needs crystals")
    ratio, spheres = _filling(system)
    low, high = volume_ratio
    if low <= ratio <= high:
        return None
    per_atom = ratio * spheres / system.n_atoms
    expected = f"{low * spheres / system.n_atoms:.1f} to {high * spheres / system.n_atoms:.0f}"
    words = f"the volume of {per_atom:.1f} Å³ per atom is implausible; {expected} is expected for its elements"
    return Reason(code="implausible_volume", sentence=words)

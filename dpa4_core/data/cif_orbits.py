"""All atoms of a cell from sites and symmetry operations.

Special positions are recognised within the digits that a coordinate has, so that (0.333, 0.667) is one atom on a
threefold axis and not three atoms 0.01 Å apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dpa4_core.data.cif_sites import FULL, LEAST_TOLERANCE, Site, listed
from dpa4_core.data.operations import UNIT, Operations
from dpa4_core.data.system import StructureError

MAX_ATOMS = 200_000
_SAME = 0.1
"""Å within which two sites of a file are the same position."""
_NOISE = 0.02
"""Å; coordinates of programs that symmetrise are off by their tolerance, 0.01 Å by custom."""
_OWN_IMAGE = 0.4
"""Å between an atom and its image by symmetry; H2 has 0.74."""


@dataclass
class Atoms:
    """The content of one cell.

    Attributes:
        fractions: [n, 3] fractional coordinates from 0 to 1.
        site: [n] row of the site that each atom comes from.
        moments: [n, 3] magnetic moments, Cartesian, μB; None without magnetism.
        sizes: atoms by site.
        sharing: by row of a site all rows that share its places, itself first; only of places that are shared, also
            with nothing.
        warnings: sentences.
    """

    fractions: NDArray[np.float64]
    site: NDArray[np.int64]
    moments: NDArray[np.float64] | None
    sizes: NDArray[np.int64]
    sharing: dict[int, tuple[int, ...]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def expand(sites: Sequence[Site], operations: Operations, cell: NDArray[np.float64]) -> Atoms:
    """Every atom of the cell once; a full list of atoms beside the operations is taken as it is.

    Raises:
        StructureError: sites that coincide, or that lie beside their own images.
    """
    if len(sites) * len(operations) > MAX_ATOMS * 48:
        raise StructureError(
            f"{len(sites)} sites and {len(operations)} operations make too many atoms (limit {MAX_ATOMS})"
        )
    parts, moments, moved = [], [], []
    for site in sites:
        fractions, members, shift = _orbit(site, operations, cell)
        parts.append(fractions)
        if shift > LEAST_TOLERANCE:
            moved.append(site.label)
        if site.moment is not None:
            moments.append(_turned_moments(site.moment, operations, members, cell))
    sizes = np.array([len(part) for part in parts])
    fractions, owner = np.vstack(parts), np.repeat(np.arange(len(sites)), sizes)
    if len(fractions) > MAX_ATOMS:
        raise StructureError(f"the cell has {len(fractions)} atoms (limit {MAX_ATOMS})")
    kept, sharing, warnings = _without_repetition(sites, fractions, owner, sizes, cell)
    if moved:
        warnings.append(
            f"the coordinates of {listed(moved)} are rounded to few digits; they are taken to be on the special "
            "position next to them"
        )
    counted = np.bincount(owner[kept], minlength=len(sites))
    for row, group in sharing.items():
        counted[list(group)] = counted[row]
    return Atoms(
        fractions=fractions[kept],
        site=owner[kept],
        moments=np.vstack(moments)[kept] if moments else None,
        sizes=counted,
        sharing=sharing,
        warnings=warnings,
    )


def _orbit(
    site: Site, operations: Operations, cell: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """Images [n, 3] of a site, the operations that make them, and how far the site was moved (fractional)."""
    shifts = operations.translations / UNIT
    place, stable = site.fractions, None
    noise = np.maximum(_NOISE / np.linalg.norm(cell, axis=1), LEAST_TOLERANCE)
    for tolerance in (np.maximum(site.tolerance, noise), noise, np.full(3, LEAST_TOLERANCE)):
        centred = _centred(site.fractions, tolerance, operations.rotations, shifts, cell)
        if centred is not None:
            place, stable = centred
            break
    images = operations.rotations @ place + shifts
    order = len(operations) // int(1 if stable is None else stable.sum())
    wrapped = np.mod(images, 1.0)
    wrapped[wrapped > 1 - 1e-9] = 0.0
    members = _first_of_equal(wrapped)
    if len(members) != order:  # equal coordinates on both sides of an edge of rounding
        members = _first_of_near(wrapped)
    return wrapped[members], members, float(np.abs(place - site.fractions).max())


def _centred(
    place: NDArray[np.float64],
    tolerance: NDArray[np.float64],
    rotations: NDArray[np.int64],
    shifts: NDArray[np.float64],
    cell: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
    """The mean of all images within the tolerance, which is the special position; None if they have none."""
    images = rotations @ place + shifts
    apart = images - place
    lattice = np.rint(apart)
    apart -= lattice
    near = (np.abs(apart) <= np.abs(rotations) @ tolerance + tolerance + 1e-9).all(axis=1)
    near &= np.linalg.norm(apart @ cell, axis=1) < _OWN_IMAGE
    centre = (images - lattice)[near].mean(axis=0)
    if (np.abs(centre - place) > tolerance + 1e-9).any():
        return None
    again = rotations @ centre + shifts - centre
    stable = (np.abs(again - np.rint(again)) < 1e-6).all(axis=1)
    return (centre, stable) if bool((stable == near).all()) else None


def _first_of_equal(wrapped: NDArray[np.float64]) -> NDArray[np.int64]:
    rounded = np.rint(wrapped * 1e6).astype(np.int64) % 1_000_000
    return np.sort(np.unique(rounded, axis=0, return_index=True)[1])


def _first_of_near(wrapped: NDArray[np.float64]) -> NDArray[np.int64]:
    kept: list[int] = []
    for i, place in enumerate(wrapped):
        apart = wrapped[kept] - place
        if not (np.abs(apart - np.rint(apart)) < 1e-5).all(axis=1).any():
            kept.append(i)
    return np.array(kept)


def _turned_moments(
    moment: NDArray[np.float64], operations: Operations, members: NDArray[np.int64], cell: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cartesian moments [n, 3] of the images: axial vectors that time reversal turns round."""
    in_cell = moment / np.linalg.norm(cell, axis=1)
    rotations = operations.rotations[members]
    signs = np.rint(np.linalg.det(rotations)) * operations.reversal[members]
    return (signs[:, None] * (rotations @ in_cell)) @ cell


def _without_repetition(
    sites: Sequence[Site],
    fractions: NDArray[np.float64],
    owner: NDArray[np.int64],
    sizes: NDArray[np.int64],
    cell: NDArray[np.float64],
) -> tuple[NDArray[np.bool_], dict[int, tuple[int, ...]], list[str]]:
    """Which atoms to keep, one orbit where a file lists all atoms of it; which rows share places; and warnings.

    Raises:
        StructureError: see `expand`.
    """
    reach = _OWN_IMAGE * float(np.linalg.norm(np.linalg.inv(cell), 2))
    pairs = np.empty((0, 2), dtype=np.int64)
    if reach < 0.5:
        pairs = cKDTree(fractions, boxsize=1.0).query_pairs(reach, output_type="ndarray")
    apart = fractions[pairs[:, 0]] - fractions[pairs[:, 1]]
    distances = np.linalg.norm((apart - np.rint(apart)) @ cell, axis=1)
    together: dict[int, set[int]] = {}
    closest: dict[int, float] = {}
    for (a, b), distance in zip(owner[pairs], distances, strict=True):
        first, second = sorted((int(a), int(b)))
        if first == second and distance < _OWN_IMAGE:
            closest[first] = min(closest.get(first, np.inf), float(distance))
        elif first != second and distance < _SAME:
            together.setdefault(first, set()).add(second)
            together.setdefault(second, set()).add(first)
    sharing = _shared_places(sites, together, sizes, cell)
    members = {row for group in sharing.values() for row in group}
    for row, distance in closest.items():
        if row in members:  # alternatives, of which an atom takes one
            continue
        raise StructureError(
            f"the site {sites[row].label} lies {distance:.2f} Å from its own image by symmetry; its coordinates are "
            "rounded or wrong: give the special position, 1/3 as 0.33333"
        )
    drop: set[int] = set()
    for row in sorted(together):
        if row in drop or row in members:
            continue
        group = sorted({row, *together[row]})
        other = next((i for i in group if sites[i].element != sites[row].element), None)
        if other is not None:
            raise StructureError(
                f"the sites {sites[row].label} and {sites[other].label} coincide, and both are fully occupied; correct "
                "their occupancies or coordinates"
            )
        if len(group) != sizes[row] or any(sizes[i] != sizes[row] for i in group):
            raise StructureError(
                f"the sites {listed([sites[i].label for i in group])} are the same by symmetry, so that atoms would be "
                "listed twice; list each once, or list all atoms of the cell without symmetry"
            )
        drop |= set(group) - {row}
    kept = ~np.isin(owner, sorted(drop | (members - set(sharing))))
    said = "the file lists all atoms beside the symmetry that makes them; each is taken once"
    return kept, sharing, [said] if drop else []


def _shared_places(
    sites: Sequence[Site], together: dict[int, set[int]], sizes: NDArray[np.int64], cell: NDArray[np.float64]
) -> dict[int, tuple[int, ...]]:
    """Rows that share places, by the first of them; a row alone shares them with nothing.

    Raises:
        StructureError: there is more than one atom at a place, a place is listed twice, or rows lie together in some
            places only.
    """
    found: dict[int, tuple[int, ...]] = {}
    taken: set[int] = set()
    for row, site in enumerate(sites):
        if site.occupancy == 1.0 or row in taken:
            continue
        group = (row, *sorted(together.get(row, set()) - {row}))
        names, total = listed([sites[i].label for i in group]), sum(sites[i].occupancy for i in group)
        for i, j in combinations(group, 2):
            apart = sites[i].fractions - sites[j].fractions
            if sites[i].element == sites[j].element and np.linalg.norm((apart - np.rint(apart)) @ cell) > _SAME:
                raise StructureError(
                    f"the sites {sites[i].label} and {sites[j].label} are the same by symmetry, and partly "
                    "occupied; list each once, or list all atoms of the cell without symmetry"
                )
        if total > 1 + FULL:
            raise StructureError(
                f"the sites {names} are in one place, and their occupancies add up to {total:g}; correct them"
            )
        if taken.intersection(group) or len({int(sizes[i]) for i in group}) > 1:
            raise StructureError(
                f"the sites {names} lie within {_SAME} Å of each other in some places only; give sites that share a "
                "place the same coordinates"
            )
        found[row] = group
        taken.update(group)
    return found

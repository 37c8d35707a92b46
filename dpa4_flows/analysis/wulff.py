"""The equilibrium shape of a crystal from the energies of its facets (G. Wulff, Z. Kristallogr. 34, 449 (1901)).

The shape is the set of points r with n·r ≤ γ for the normal n and the surface energy γ of every facet. Facets are
repeated by the Laue class of the crystal, not by the symmetry of its lattice: pyrite has (210), but not (120).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure
from scipy.spatial import HalfspaceIntersection

from dpa4_flows.analysis.facets import Miller, equivalent_facets, facet_name

Array = NDArray[np.float64]

_ROUNDING = 1e-6  # of the smallest surface energy


@dataclass(frozen=True)
class WulffFace:
    """A polygon of the shape.

    Attributes:
        family: indices that the energy was given for.
        miller: indices of this face.
        corners: places in `Wulff.vertices`, counter-clockwise seen from outside.
        area: in units of the surface energy squared, as the vertices have its unit.
    """

    family: Miller
    miller: Miller
    corners: tuple[int, ...]
    area: float


@dataclass(frozen=True)
class Wulff:
    """An equilibrium shape.

    Attributes:
        vertices: [n, 3] along the Cartesian axes of the crystal; the distance of a face from the origin is its energy.
        faces: its polygons.
        area_fractions: by indices, for every facet that an energy was given for, 0 for one that does not appear.
        surface_energy: mean over the area of the shape, J/m².
        anisotropy: standard deviation over the area by the mean, 0 if only one family appears (R. Tran et al., Sci.
            Data 3, 160080 (2016)).
    """

    vertices: Array
    faces: tuple[WulffFace, ...]
    area_fractions: dict[Miller, float]
    surface_energy: float
    anisotropy: float


def wulff(crystal: Structure, energies: Mapping[Miller, float]) -> Wulff:
    """The equilibrium shape.

    Args:
        crystal: conventional cell that the indices refer to, `Cuts.crystal`.
        energies: J/m² by indices of one facet of each family.

    Raises:
        ValueError: if a surface energy is not positive, so that the crystal would fall apart, or if the facets do not
            enclose a volume.
    """
    negative = [miller for miller, energy in energies.items() if not energy > 0]
    if negative:
        words = f"({facet_name(crystal.lattice, negative[0])}) is {energies[negative[0]]:.3g} J/m²"
        raise ValueError(f"the surface energy of {words}: there is no equilibrium shape")
    planes = [(family, miller) for family in energies for miller in equivalent_facets(crystal, family)]
    reciprocal = crystal.lattice.reciprocal_lattice_crystallographic
    normals = np.array([reciprocal.get_cartesian_coords(miller) for _, miller in planes]).reshape(-1, 3)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    if np.linalg.matrix_rank(normals, tol=1e-6) < 3:
        names = ", ".join(f"({facet_name(crystal.lattice, miller)})" for miller in energies) or "none"
        raise ValueError(
            f"facets with a surface energy, {names}, do not enclose a volume: there is no equilibrium shape"
        )
    gammas = np.array([energies[family] for family, _ in planes])
    corners = HalfspaceIntersection(np.column_stack([normals, -gammas]), np.zeros(3)).intersections
    tolerance = _ROUNDING * gammas.min()
    vertices = _distinct(corners, 10 * tolerance)
    faces = []
    for (family, miller), normal, gamma in zip(planes, normals, gammas, strict=True):
        on_it = np.flatnonzero(np.abs(vertices @ normal - gamma) < 100 * tolerance)
        if len(on_it) > 2:
            order, area = _polygon(vertices[on_it], normal)
            if area > tolerance * gamma:
                faces.append(WulffFace(family, miller, tuple(int(i) for i in on_it[order]), area))
    total = sum(face.area for face in faces)
    fractions = {family: sum(f.area for f in faces if f.family == family) / total for family in energies}
    mean = sum(share * energies[family] for family, share in fractions.items())
    variance = sum(share * (energies[family] - mean) ** 2 for family, share in fractions.items())
    return Wulff(vertices, tuple(faces), fractions, float(mean), float(np.sqrt(variance) / mean))


def _distinct(points: Array, tolerance: float) -> Array:
    """Corners where more than three planes meet are found several times."""
    found: list[Array] = []
    for point in points:
        if all(np.linalg.norm(point - known) > tolerance for known in found):
            found.append(point)
    return np.array(found)


def _polygon(points: Array, normal: Array) -> tuple[NDArray[np.int64], float]:
    """Order of coplanar points around their middle, seen against the normal, and the area that they enclose."""
    arms = points - points.mean(axis=0)
    x = arms[0] / np.linalg.norm(arms[0])
    order = np.argsort(np.arctan2(arms @ np.cross(normal, x), arms @ x))
    ring = arms[order]
    return order, float(np.cross(ring, np.roll(ring, -1, axis=0)).sum(axis=0) @ normal / 2)

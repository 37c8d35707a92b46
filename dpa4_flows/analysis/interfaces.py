"""Coherent interfaces: cells in which a film, strained to a wafer, and the wafer take turns without end.

    found = interface_cell(film, "0001", wafer, "0001", strain=0.015)
    energy = interface_energy(joined, film_energy, substrate_energy, found)

There is no vacuum, so that no surface has to be known: of the energy of the common cell that of both crystals in bulk
is taken off, the film strained as it is there, and half of the rest is one interface. Both are cut where their planes
are farthest apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray
from pymatgen.analysis.interfaces.zsl import ZSLGenerator
from pymatgen.core import Lattice, Structure

from dpa4_flows.analysis.facets import miller_of, oriented_unit_cell, standard_cells
from dpa4_flows.analysis.surface import J_M2_PER_EV_A2

Array = NDArray[np.float64]

_SAME_STRAIN = 5e-4
"""By which the strain of a match in primitive cells may lie above that of the same planes in conventional ones."""
CLOSEST = 0.85
"""Of the sum of covalent radii: as near as atoms of both sides may begin."""
_AS_WIDE, _MOST_CUTS = 0.99, 4
_FLAT, _MOST_FEET = 0.1, 3  # Å, within which atoms are of one plane
_STEP = 0.1  # Å, by which they are moved apart until then


@dataclass(frozen=True)
class InterfaceCell:
    """A film and a wafer in one cell.

    Attributes:
        film: bulk of the film, strained to the wafer in its plane; the cell may still grow along z.
        substrate: bulk of the wafer in the same plane.
        joined: both, one after the other along z, for each cut of the film, way to turn it and place in the plane.
        film_cells, substrate_cells: of ``film`` and ``substrate`` in ``joined``.
        area: of the plane, Å².
        strain: of von Mises, of the film.
    """

    film: Structure
    substrate: Structure
    joined: tuple[Structure, ...]
    film_cells: int
    substrate_cells: int
    area: float
    strain: float

    @property
    def n_atoms(self) -> int:
        return len(self.joined[0])


def interface_cell(
    film: Structure,
    film_plane: str,
    wafer: Structure,
    wafer_plane: str,
    *,
    strain: float,
    max_area: float = 200.0,
    min_thickness: float = 8.0,
    max_atoms: int = 200,
    n_places: int = 2,
) -> InterfaceCell:
    """The smallest interface of two planes whose film is not strained more than they have to.

    Args:
        film, wafer: relaxed crystals.
        film_plane, wafer_plane: names of the planes that lie on each other.
        strain: of von Mises, that the planes of both conventional cells are known to have.
        max_area: Å².
        min_thickness: of each of the two, Å.
        max_atoms: of both together.
        n_places: of each of the lowest atoms of the film along each axis of the surface cell of the wafer, beginning on
            top of its highest one; where the cell is hexagonal, two hollows besides.

    Raises:
        ValueError: there is none within bounds; one sentence.
    """
    films, below = _cuts(film, film_plane), _cuts(wafer, wafer_plane)[0]
    matched = _match(films[0], below, strain, max_area)
    if matched is None:
        raise ValueError(f"no common cell within {max_area:g} Å²")
    of_film, of_wafer, strain = matched
    substrate = _in_plane(below, of_wafer)
    strained: list[tuple[Structure, int]] = []
    for above in films:
        for one in _strained(above, of_film, substrate):
            if not any(_alike(one, other) for other, _ in strained):
                strained.append((one, len(one) // len(above)))
    first = strained[0][0]
    counts = [int(np.ceil(min_thickness / one.lattice.matrix[2, 2] - 1e-9)) for one in (first, substrate)]
    n_atoms = counts[0] * len(first) + counts[1] * len(substrate)
    if n_atoms > max_atoms:
        raise ValueError(f"the cell of the interface has {n_atoms} atoms, more than {max_atoms}")
    places = _places(below.lattice, n_places)
    joined = tuple(
        _joined(above, counts[0], substrate, counts[1], foot, place)
        for above, n_images in strained
        for foot in _feet(above, n_images)
        for place in places
    )
    area = float(abs(np.linalg.det(substrate.lattice.matrix[:2, :2])))
    return InterfaceCell(first, substrate, joined, counts[0], counts[1], area, strain)


def interface_energy(joined: float, film: float, substrate: float, cell: InterfaceCell) -> float:
    """J/m², the mean of both interfaces of a cell, from the energies of `InterfaceCell.joined`, `film` and `substrate`
    in eV.
    """
    excess = joined - cell.film_cells * film - cell.substrate_cells * substrate
    return J_M2_PER_EV_A2 * excess / (2 * cell.area)


def _cuts(crystal: Structure, plane: str) -> list[Structure]:
    """Cells of a plane whose lower and upper faces lie in the middle between planes farthest apart, one for each such
    place: the planes (100) of diamond are all equally far apart, and the bonds of every other one are turned.
    """
    conventional, primitive = standard_cells(crystal)
    cell = oriented_unit_cell(conventional, primitive, miller_of(plane))
    heights = np.unique(np.round(cell.frac_coords[:, 2] % 1.0, 5) % 1.0)
    gaps = np.diff(np.append(heights, heights[0] + 1.0))
    cells = []
    for place in np.flatnonzero(gaps > _AS_WIDE * gaps.max())[:_MOST_CUTS]:
        coords = cell.frac_coords - [0.0, 0.0, heights[place] + gaps[place] / 2]
        coords[:, 2] -= np.floor(coords[:, 2])
        cells.append(Structure(cell.lattice, cell.species, coords))
    return cells


def _match(above: Structure, below: Structure, strain: float, max_area: float) -> tuple[Array, Array, float] | None:
    """Whole numbers [2, 2] of the axes in both planes, and the strain of the film: of the smallest cell with no more
    strain than known, else of the least strained.
    """
    rows = [cell.lattice.matrix[:2] for cell in (above, below)]
    best: tuple[Array, Array, float] | None = None
    for match in ZSLGenerator(max_area=max_area)(*rows):
        vectors = (match.film_sl_vectors, match.substrate_sl_vectors)
        whole = [np.rint(np.asarray(v) @ np.linalg.pinv(row)) for v, row in zip(vectors, rows, strict=True)]
        if abs(np.linalg.det(whole[1] @ rows[1][:, :2])) > max_area:
            continue
        found = _von_mises(np.linalg.solve(whole[0] @ rows[0][:, :2], whole[1] @ rows[1][:, :2]))
        if best is None or found < best[2] - _SAME_STRAIN:
            best = whole[0], whole[1], found
        if found <= strain + _SAME_STRAIN:
            break
    return best


def _von_mises(deformation: Array) -> float:
    """Of a deformation of the plane [2, 2] that takes rows to rows."""
    green = np.zeros((3, 3))
    green[:2, :2] = (deformation @ deformation.T - np.eye(2)) / 2
    deviation = green - np.eye(3) * np.trace(green) / 3
    return float(np.sqrt(2 / 3 * (deviation**2).sum()))


def _in_plane(cell: Structure, whole: Array) -> Structure:
    """Several cells side by side, right-handed."""
    if np.linalg.det(whole) < 0:
        whole = whole[::-1]
    larger = cell.copy()
    matrix = np.eye(3, dtype=int)
    matrix[:2, :2] = whole.astype(int)
    larger.make_supercell(matrix, to_unit_cell=False)
    return larger


def _strained(cell: Structure, whole: Array, substrate: Structure) -> Iterator[Structure]:
    """Several cells of a film in the plane of a substrate, for each way to lay its mesh on that of the substrate that
    strains it least: zincblende that is turned by 90° bonds by its other planes. A mirror image lies on its other face.
    """
    goal = substrate.lattice.matrix[:2, :2]
    larger = cell.copy()
    matrix = np.eye(3, dtype=int)
    matrix[:2, :2] = whole.astype(int)
    larger.make_supercell(matrix, to_unit_cell=False)
    rows, places = larger.lattice.matrix.copy(), larger.cart_coords
    ways = []
    for axes in _MESHES:
        deformation = np.asarray(np.linalg.solve(axes @ rows[:2, :2], goal), dtype=np.float64)
        ways.append((_von_mises(deformation), axes, deformation))
    least = min(strain for strain, _, _ in ways)
    for strain, axes, deformation in ways:
        if strain > least + _SAME_STRAIN:
            continue
        move = np.eye(3)
        move[:2, :2] = deformation
        move[2, 2] = np.sign(np.linalg.det(deformation))
        turned = rows @ move
        third = turned[2] * np.sign(turned[2, 2])
        lattice = np.array([*(axes @ turned[:2]), third])
        made = Structure(Lattice(lattice), larger.species, places @ move, coords_are_cartesian=True)
        coords = made.frac_coords.copy()
        coords[:, 2] -= np.floor(np.round(coords[:, 2], 9))
        yield Structure(made.lattice, made.species, coords)


_MESHES = sorted(
    (np.array(m).reshape(2, 2) for m in itertools.product((0, 1, -1), repeat=4) if abs(m[0] * m[3] - m[1] * m[2]) == 1),
    key=lambda m: int((m != np.eye(2)).sum()),  # as it is, first
)
"""All axes of one mesh that are short, [2, 2] in terms of the given ones."""


def _alike(film: Structure, other: Structure) -> bool:
    """Whether two films in the same plane are one, but for a shift within it."""
    mesh = np.array([*film.lattice.matrix[:2], [0.0, 0.0, 1.0]])

    def apart(vectors: Array) -> Array:
        shares = vectors @ np.linalg.inv(mesh)
        shares[..., :2] -= np.round(shares[..., :2])
        return np.asarray(np.linalg.norm(shares @ mesh, axis=-1))

    if apart(film.lattice.matrix[2] - other.lattice.matrix[2]) > _FLAT:
        return False
    species, others = (np.array([site.specie.symbol for site in one]) for one in (film, other))
    same = species[:, None] == others[None]
    for first in np.flatnonzero(same[0]):
        shifted = other.cart_coords + (film.cart_coords[0] - other.cart_coords[first]) * [1.0, 1.0, 0.0]
        met = same & (apart(film.cart_coords[:, None] - shifted[None]) < _FLAT)
        if met.any(axis=1).all():
            return True
    return False


def _places(surface: Lattice, number: int) -> list[Array]:
    """Å, [3] in the plane."""
    steps = (np.arange(number) / number).tolist()
    shares = list(itertools.product(steps, steps))
    a, b = surface.abc[:2]
    if number > 1 and abs(a - b) < 1e-2 and min(abs(surface.gamma - 60), abs(surface.gamma - 120)) < 0.1:
        shares += [(1 / 3, 1 / 3), (2 / 3, 2 / 3)] if surface.gamma < 90 else [(1 / 3, 2 / 3), (2 / 3, 1 / 3)]
    return [np.array(share) @ surface.matrix[:2] for share in shares]


def _feet(film: Structure, n_images: int) -> list[int]:
    """The lowest atoms of a film, one of the images of each, which follow each other."""
    heights = film.cart_coords[:, 2]
    low = np.flatnonzero(heights < heights.min() + _FLAT) // n_images
    return [int(i) * n_images for i in dict.fromkeys(low.tolist())][:_MOST_FEET]


def _joined(film: Structure, n_film: int, substrate: Structure, n_substrate: int, foot: int, place: Array) -> Structure:
    """The substrate, and the film above it, its atom ``foot`` at a place in the plane, as close as atoms let them."""
    rows, below = substrate.lattice.matrix, substrate.lattice.matrix[2]
    above = film.lattice.matrix[2]
    lower = np.concatenate([substrate.cart_coords + i * below for i in range(n_substrate)])
    upper = np.concatenate([film.cart_coords + i * above for i in range(n_film)]) + n_substrate * below
    highest = lower[np.flatnonzero(lower[:, 2] > lower[:, 2].max() - _FLAT)[0]]
    on_top = highest - upper[foot]
    upper = upper + place + on_top * [1.0, 1.0, 0.0]
    species = [*substrate.species * n_substrate, *film.species * n_film]
    apart, up = 0.0, np.array([0.0, 0.0, 1.0])
    while True:
        lifted = upper + apart * up
        third = n_substrate * below + n_film * above + 2 * apart * up
        third -= np.rint(third @ np.linalg.inv(np.array([rows[0], rows[1], [0, 0, 1]])))[:2] @ rows[:2]
        cell = Structure(
            Lattice([rows[0], rows[1], third]), species, np.concatenate([lower, lifted]), coords_are_cartesian=True
        )
        if _closeness(cell, len(lower)) >= CLOSEST or apart > 3.0:
            return cell
        apart += _STEP


def _closeness(cell: Structure, n_lower: int) -> float:
    """Shortest distance between atoms of both sides over the sum of their covalent radii."""
    radii = covalent_radii[np.array(cell.atomic_numbers)]
    across = cell.lattice.get_all_distances(cell.frac_coords[:n_lower], cell.frac_coords[n_lower:])
    return float((across / (radii[:n_lower, None] + radii[None, n_lower:])).min())

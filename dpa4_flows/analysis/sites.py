"""Adsorption sites of a slab: where a ball that is dropped onto it comes to rest.

A ball of the size of a light atom, let down at (x, y), touches first what lies highest there. The atoms that it touches
somewhere are the surface; the kind of a site is how many of them it touches at once. So steps, troughs and oxides need
no rule of their own. Candidates are the exposed atoms, and the edges and faces of the triangles between them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray
from pymatgen.core import Structure
from scipy.spatial import Delaunay

from dpa4_flows.analysis.facets import operations
from dpa4_flows.analysis.oxidation import guess_oxidation_states

Array = NDArray[np.float64]

SiteKind = Literal["on_top", "bridge", "hollow_fcc", "hollow_hcp", "hollow_3", "hollow_4", "unsaturated"]

PROBE = 0.70
"""Å, radius of the ball: covalent radii of C, N and O are 0.76, 0.71 and 0.66 Å (B. Cordero et al., Dalton Trans. 2832
(2008))."""
CONTACT = 1.15
"""Of the sum of the radii, within which the ball at rest touches an atom: on a surface of two elements, or relaxed, it
is never exactly in contact with all of its neighbours."""
BONDED = 1.25
"""Of the sum of covalent radii, within which atoms are neighbours: 3.3 Å for copper, between the first shell of fcc
(2.55) and the second (3.61)."""
LEAST_AREA = 0.15
"""Å², that an exposed atom shows to the ball."""
SAME_SITE = 0.4
"""Å, within which two sites are one."""
TILTED = 20.0
"""Degrees from the normal, beyond which the direction of the missing neighbours of an atom is a site of its own."""
_GRID = 0.15  # Å, between places where the ball is dropped to find what is exposed


@dataclass(frozen=True)
class Site:
    """A place for an adsorbate.

    Attributes:
        kind: ``on_top``, ``bridge``; ``hollow_fcc`` and ``hollow_hcp`` on a flat triangle of equal sides without and
            with an atom of the layer beneath below it; ``hollow_3`` and ``hollow_4`` for other hollows of three, or of
            more atoms; ``unsaturated`` beside an atom, on the side where its neighbours are missing.
        elements: of the atoms that it touches, as a formula: ``Pt2Ni``.
        missing_bonds: neighbours that these atoms lack, compared with the crystal, on average.
        place: [3] Å, of the ball at rest.
        level: Å, mean height of the atoms that it touches.
        direction: [3] away from the surface; not the normal for ``unsaturated`` sites only.
        orbit: which sites symmetry makes equal.
    """

    kind: SiteKind
    elements: str
    missing_bonds: float
    place: tuple[float, float, float]
    level: float
    direction: tuple[float, float, float]
    orbit: int = -1


class Surface:
    """The upper face of a slab, whose third axis is upright and the only one across it.

    Args:
        slab: with a vacuum above.
        crystal: that it is cut from, to say which neighbours are missing.
    """

    def __init__(self, slab: Structure, crystal: Structure) -> None:
        self.slab = slab
        self.positions: Array = slab.cart_coords
        self.radii = covalent_radii[list(slab.atomic_numbers)]
        self._charges = guess_oxidation_states(crystal.composition)
        self._bulk = _mean_neighbours(crystal, self._charges)
        rows = slab.lattice.matrix[:2, :2]
        reach = 2 * (self.radii.max() + PROBE) + 2.0
        widths = abs(np.linalg.det(rows)) / np.linalg.norm(rows, axis=1)[::-1]
        spans = [range(-n, n + 1) for n in np.ceil(reach / widths).astype(int) + 1]
        shifts = np.array([[*pair, 0] for pair in itertools.product(*spans)]) @ slab.lattice.matrix
        self._index = np.tile(np.arange(len(slab)), len(shifts))
        self._all: Array = (self.positions[None] + shifts[:, None]).reshape(-1, 3)
        self._all_radii = self.radii[self._index]

    def rest(self, places: Array, radius: float | Array = PROBE) -> tuple[Array, NDArray[np.int64]]:
        """Heights [n] of a ball let down at ``places`` [n, 2 or more], and the atoms on which it comes to rest; −inf
        where it falls through. ``radius`` is that of all balls or of each.
        """
        positions, radii, atoms = self._upper
        reach = radii + np.reshape(radius, (-1, 1))
        rows = self.slab.lattice.matrix[:2, :2]
        home = np.mod(np.asarray(places)[:, :2] @ np.linalg.inv(rows), 1.0) @ rows
        left = reach**2 - (home[:, :1] - positions[:, 0]) ** 2 - (home[:, 1:] - positions[:, 1]) ** 2
        heights = np.where(left > 0, positions[:, 2] + np.sqrt(left.clip(0)), -np.inf)
        first = heights.argmax(axis=1)
        return heights[np.arange(len(first)), first], atoms[first]

    @cached_property
    def _upper(self) -> tuple[Array, Array, NDArray[np.int64]]:
        """Positions, radii and atoms of the images that a ball above the home cell can meet."""
        rows = self.slab.lattice.matrix[:2, :2]
        widths = abs(np.linalg.det(rows)) / np.linalg.norm(rows, axis=1)[::-1]
        margin = (self.radii.max() + 2 * PROBE) / widths
        shares = self._all[:, :2] @ np.linalg.inv(rows)
        met = ((shares > -margin) & (shares < 1 + margin)).all(axis=1)
        met &= self._all[:, 2] > self.positions[:, 2].max() - 6.0  # what lies deeper no ball meets
        return self._all[met], self._all_radii[met], self._index[met]

    def touched(self, place: Array, radius: float = PROBE, factor: float = CONTACT) -> NDArray[np.int64]:
        """Images of atoms that a ball at ``place`` [3] touches."""
        lengths = np.linalg.norm(self._all - place, axis=1)
        return np.flatnonzero(lengths < factor * (self._all_radii + radius))

    @cached_property
    def distance_ratios(self) -> Array:
        """[n, n] shortest distances over the sum of covalent radii."""
        return np.asarray(self.slab.distance_matrix / (self.radii[:, None] + self.radii))

    @cached_property
    def exposed(self) -> NDArray[np.int64]:
        """Atoms that the ball touches somewhere."""
        a, b = self.slab.lattice.matrix[:2]
        counts = [max(2, int(np.ceil(np.linalg.norm(axis) / _GRID))) for axis in (a, b)]
        shares = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n for n in counts], indexing="ij"), -1).reshape(-1, 2)
        atoms = np.concatenate([self._touched_first(part) for part in np.array_split(shares, len(shares) // 400 + 1)])
        area = np.linalg.norm(np.cross(a, b)) / len(shares)
        found, seen = np.unique(atoms, return_counts=True)
        return np.asarray(found[(seen * area > LEAST_AREA) & (found >= 0)])

    def _touched_first(self, shares: Array) -> NDArray[np.int64]:
        heights, atoms = self.rest(shares @ self.slab.lattice.matrix[:2])
        return np.where(np.isfinite(heights), atoms, -1)

    @cached_property
    def _neighbours(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Pairs of neighbours: centre, neighbour, and unit vector from one to the other."""
        centres, others, images, lengths = _neighbours(self.slab, self._charges)
        vectors = self.positions[others] + images @ self.slab.lattice.matrix - self.positions[centres]
        return centres, others, vectors / lengths[:, None]

    def missing(self, atom: int) -> float:
        """Neighbours that an atom lacks, compared with the crystal."""
        expected = self._bulk[self.slab[atom].specie.symbol]
        return max(0.0, expected - int((self._neighbours[0] == atom).sum()))

    def sites(self) -> list[Site]:
        """All sites of the surface cell, the first of each orbit in the order top, bridge, hollow."""
        found: list[Site] = []
        for place, direction in self._candidates():
            site = self._site(place, direction)
            if site is not None and not any(self._apart(site.place, other.place) < SAME_SITE for other in found):
                found.append(site)
        return self._with_orbits(found)

    def _candidates(self) -> Iterator[tuple[Array, Array | None]]:
        images = np.flatnonzero(np.isin(self._index, self.exposed))
        places = self._all[images]
        home = self.positions[self.exposed]
        for place in home:
            yield place, None
        for atom in self.exposed:
            direction = self._open_side(int(atom))
            if direction is not None:
                yield self.positions[atom] + (self.radii[atom] + PROBE) * direction, direction
        edges, faces = _cells(places, self.slab.lattice.matrix[:2, :2])
        for corners in (*faces, *edges):
            best = self._lowest(places[list(corners)])
            if best is not None:
                yield best, None

    def _lowest(self, corners: Array) -> Array | None:
        """Where on an edge or in a face the ball lies lowest; the middle, where that is as low."""
        shares = _shares(len(corners))
        places = shares @ corners
        heights = self.rest(places)[0]
        if not np.isfinite(heights).all():
            return None
        low = np.flatnonzero(heights < heights.min() + 0.02)
        spread = ((shares[low] - 1 / len(corners)) ** 2).sum(-1)
        return np.asarray(places[low[spread.argmin()]])

    def _open_side(self, atom: int) -> Array | None:
        """Direction in which the neighbours of an atom are missing, if there is room and it is not the normal."""
        centres, _, vectors = self._neighbours
        missing = -vectors[centres == atom].sum(0)
        length = np.linalg.norm(missing)
        if self.missing(atom) == 0 or length < 0.5:
            return None
        direction = np.asarray(missing / length)
        if direction[2] < np.cos(np.radians(70.0)) or direction[2] > np.cos(np.radians(TILTED)):
            return None
        place = self.positions[atom] + (self.radii[atom] + PROBE) * direction
        gaps = np.linalg.norm(self._all - place, axis=1) - self._all_radii - PROBE
        return direction if gaps.min() > -0.1 else None

    def _site(self, place: Array, direction: Array | None) -> Site | None:
        if direction is None:
            height = self.rest(place[None])[0][0]
            if not np.isfinite(height):
                return None
            place = np.array([place[0], place[1], height])
        touched = self.touched(place)
        kind: SiteKind = "unsaturated" if direction is not None else self._kind(place, touched)
        if kind == "on_top":
            aside = np.linalg.norm(self._all[touched, :2] - place[:2], axis=1)
            touched = touched[[aside.argmin()]]
        atoms = self._index[touched]
        symbols = [self.slab[int(atom)].specie.symbol for atom in atoms]
        counts = {symbol: symbols.count(symbol) for symbol in sorted(set(symbols))}
        return Site(
            kind=kind,
            elements="".join(f"{symbol}{n if n > 1 else ''}" for symbol, n in counts.items()),
            missing_bonds=float(np.mean([self.missing(int(atom)) for atom in atoms])),
            place=tuple(place.tolist()),
            level=float(self._all[touched, 2].mean()),
            direction=(0.0, 0.0, 1.0) if direction is None else tuple(direction.tolist()),
        )

    def _kind(self, place: Array, touched: NDArray[np.int64]) -> SiteKind:
        corners = self._all[touched]
        beneath = corners[np.linalg.norm(corners[:, :2] - place[:2], axis=1) < 0.1]
        if len(touched) == 1 or (len(beneath) and beneath[:, 2].max() > corners[:, 2].max() - 0.5):
            return "on_top"
        if len(touched) == 2:
            return "bridge"
        if len(touched) > 3:
            return "hollow_4"
        sides = [np.linalg.norm(corners[i] - corners[i - 1]) for i in range(3)]
        if np.ptp(corners[:, 2]) > 0.5 or max(sides) > 1.1 * min(sides):
            return "hollow_3"
        depths = corners[:, 2].mean() - self._all[:, 2]
        below = (np.linalg.norm(self._all[:, :2] - place[:2], axis=1) < 0.6) & (depths > 0.5)
        return "hollow_hcp" if depths[below].min(initial=np.inf) < np.mean(sides) else "hollow_fcc"

    def _apart(self, one: tuple[float, ...], other: tuple[float, ...]) -> float:
        return float(self.distances(np.array(one), np.array([other]))[0])

    def distances(self, place: Array, others: Array, *, flat: bool = False) -> Array:
        """Å from ``place`` to the nearest images of ``others`` [n, 3]; in the plane if ``flat``."""
        matrix = self.slab.lattice.matrix
        shares = (others - place)[:, :2] @ np.linalg.inv(matrix[:2, :2])
        shares -= np.rint(shares)
        steps = np.array(list(itertools.product((-1, 0, 1), repeat=2)))
        vectors = (shares[:, None] + steps) @ matrix[:2, :2]
        lengths = np.linalg.norm(vectors, axis=-1).min(axis=1)
        return np.asarray(lengths if flat else np.hypot(lengths, others[:, 2] - place[2]))

    def _with_orbits(self, sites: list[Site]) -> list[Site]:
        """Sites with the orbits under the operations that keep the face where it is."""
        rotations, translations = operations(self.slab)
        keep = (rotations[:, 2] == (0, 0, 1)).all(1) & (np.abs(translations[:, 2] - np.rint(translations[:, 2])) < 1e-3)
        matrix = self.slab.lattice.matrix
        orbits = [-1] * len(sites)
        for first, site in enumerate(sites):
            if orbits[first] >= 0:
                continue
            images = (np.array(site.place) @ np.linalg.inv(matrix)) @ rotations[keep].transpose(0, 2, 1)
            images = (images + translations[keep]) @ matrix
            for i, other in enumerate(sites):
                if orbits[i] < 0 and self.distances(np.array(other.place), images).min() < SAME_SITE / 2:
                    orbits[i] = first
        names = {orbit: number for number, orbit in enumerate(dict.fromkeys(orbits))}
        return [Site(**{**vars(site), "orbit": names[orbit]}) for site, orbit in zip(sites, orbits, strict=True)]


def distinct(sites: list[Site]) -> list[Site]:
    """One site of each orbit."""
    return list({site.orbit: site for site in reversed(sites)}.values())[::-1]


def _neighbours(
    structure: Structure, charges: Mapping[str, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array, Array]:
    """Centres, neighbours, images and lengths of pairs within `BONDED`; between ions those of opposite charge only."""
    radii = covalent_radii[list(structure.atomic_numbers)]
    centres, others, images, lengths = structure.get_neighbor_list(2 * BONDED * radii.max())
    signs = np.sign([charges.get(site.specie.symbol, 0.0) for site in structure])
    bonded = (lengths < BONDED * (radii[centres] + radii[others])) & (signs[centres] * signs[others] <= 0)
    return centres[bonded], others[bonded], images[bonded], lengths[bonded]


def _mean_neighbours(crystal: Structure, charges: Mapping[str, float]) -> dict[str, float]:
    """Number of neighbours by element."""
    counts = np.bincount(_neighbours(crystal, charges)[0], minlength=len(crystal))
    symbols = np.array([site.specie.symbol for site in crystal])
    return {symbol: float(counts[symbols == symbol].mean()) for symbol in dict.fromkeys(symbols.tolist())}


def _cells(places: Array, rows: Array) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Edges and faces of the Delaunay triangulation of exposed atoms, those with a corner or middle in the home cell;
    triangles on one circle are one face.
    """
    triangulation = Delaunay(places[:, :2])
    middles, radii = _circles(places[triangulation.simplices][..., :2])
    shares = np.mod(middles @ np.linalg.inv(rows) + 1e-6, 1.0) - 1e-6
    home = np.abs(shares @ rows - middles).max(axis=1) < 1e-3
    groups: dict[int, list[int]] = {}
    merged = -np.ones(len(middles), dtype=int)
    for i in np.flatnonzero(home):
        if merged[i] < 0:
            same = (np.linalg.norm(middles - middles[i], axis=1) < 0.1) & (np.abs(radii - radii[i]) < 0.1)
            merged[same] = i
            groups[int(i)] = np.flatnonzero(same).tolist()
    faces, edges = [], []
    for together in groups.values():
        triangles = triangulation.simplices[together]
        faces.append(tuple(sorted(set(triangles.ravel().tolist()))))
        sides = [tuple(sorted((int(t[k]), int(t[k - 1])))) for t in triangles for k in range(3)]
        edges += [side for side in dict.fromkeys(sides) if sides.count(side) == 1]
    return edges, faces


def _circles(triangles: Array) -> tuple[Array, Array]:
    """Centres [n, 2] and radii [n] of the circles through triangles [n, 3, 2]."""
    one, two = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    double = 2 * (one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0])
    double = np.where(np.abs(double) < 1e-9, np.inf, double)
    squares = (one**2).sum(1), (two**2).sum(1)
    x = (two[:, 1] * squares[0] - one[:, 1] * squares[1]) / double
    y = (one[:, 0] * squares[1] - two[:, 0] * squares[0]) / double
    return triangles[:, 0] + np.stack([x, y], 1), np.hypot(x, y)


def _shares(n_corners: int) -> Array:
    """[n, n_corners] weights of places on an edge or in a face, its middle among them."""
    steps = 12
    if n_corners == 2:
        return np.array([[i / steps, 1 - i / steps] for i in range(steps + 1)])
    middle = np.full((1, n_corners), 1 / n_corners)
    corners = np.eye(n_corners)
    edges = (corners + np.roll(corners, 1, axis=0)) / 2
    ends = np.concatenate([corners, edges])
    ways = [middle + t * (ends - middle) for t in np.linspace(0, 1, steps // 2, endpoint=False)[1:]]
    return np.concatenate([middle, *ways])

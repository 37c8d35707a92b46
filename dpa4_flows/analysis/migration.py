"""Where ions hop in a crystal, how wide the ways are, and how far a network of hops leads.

Ions move by vacancies: one jumps into a neighbouring site that is empty. Hops that the space group maps onto each other
are one kind. A network of sites and hops leads through the crystal along as many directions as there are independent
translations among its loops.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element, Lattice, Molecule, Species, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from scipy.ndimage import label
from scipy.spatial import KDTree

from dpa4_flows.analysis.facets import SYMPREC, operations, standardized
from dpa4_flows.analysis.oxidation import guess_oxidation_states
from dpa4_flows.analysis.supercells import best_supercell, shortest_vector

SMALL_CELL = 8.0
"""Å; an ion on its way that is nearer to its image feels it."""
IN_THE_WAY = 1.0
"""Å; a hop past another site of the ion that is nearer to the straight line is two hops."""

_GRID = 0.2
"""Å, of the search for the widest way."""
_MARGIN = 2.0
"""Å on all sides of the straight line, within which ways are looked for."""
_STEPS = 10

Cells = tuple[int, int, int]


class Hop(NamedTuple):
    """A way from a site of the primitive cell to one ``cells`` lattice vectors away."""

    start: int
    end: int
    cells: Cells

    @property
    def back(self) -> Hop:
        a, b, c = self.cells
        return Hop(self.end, self.start, (-a, -b, -c))


class HopKind(NamedTuple):
    """Hops that are the same by symmetry.

    Attributes:
        hops: all of them, the first one stands for all.
        length: Å.
    """

    hops: tuple[Hop, ...]
    length: float

    @property
    def both_ways(self) -> bool:
        """Whether the way back is the same hop."""
        return self.hops[0].back in self.hops


class Network(NamedTuple):
    """How far hops lead.

    Attributes:
        barriers: eV, lowest at which ions go along one, two and three directions; shorter if they never do.
        limiting: number of the hop, in the order given, that each of them rests on.
    """

    barriers: tuple[float, ...]
    limiting: tuple[int, ...]

    def dimensions(self, tolerance: float) -> int:
        """Directions along which ions go nearly as easily as along one, within ``tolerance`` eV."""
        return sum(barrier <= self.barriers[0] + tolerance for barrier in self.barriers)


class Edge(NamedTuple):
    """A hop with the highest and the lowest energy on its way, of the crystal with one vacancy, eV."""

    hop: Hop
    highest: float
    lowest: float


def primitive_crystal(structure: Structure) -> Structure:
    """The primitive cell, in the orientation of ``structure``."""
    # an idealised cell would be turned in space, and directions would be those of another crystal
    return standardized(structure, to_primitive=True, no_idealize=True)


def hop_kinds(primitive: Structure, ion: str, max_length: float) -> list[HopKind]:
    """Distinct hops between sites of ``ion`` up to ``max_length`` Å apart, the shortest first.

    A hop and its way back are one. Hops that pass another site of the ion are left out, since they are two.
    """
    lattice, coords = primitive.lattice, primitive.frac_coords
    sites = [i for i, site in enumerate(primitive) if site.specie.symbol == ion]
    found: dict[Hop, float] = {}
    for i in sites:
        near = lattice.get_points_in_sphere(coords[sites], primitive[i].coords, max_length, zip_results=False)
        for _, distance, index, cells in zip(*near, strict=True):
            if distance > 1e-3:
                a, b, c = (int(n) for n in np.rint(cells))
                found[Hop(i, sites[int(index)], (a, b, c))] = float(distance)
    free = {hop: length for hop, length in found.items() if not _passes(hop, found, primitive)}
    kinds: list[HopKind] = []
    mappings = _mappings(primitive)
    seen: set[Hop] = set()
    for hop in sorted(free, key=lambda one: (round(free[one], 3), one)):
        if hop in seen:
            continue
        same = tuple(dict.fromkeys(_taken(hop, mapping) for mapping in mappings))
        kinds.append(HopKind(same, free[hop]))
        seen |= {*same, *(one.back for one in same)}
    return kinds


def vector(primitive: Structure, hop: Hop) -> NDArray[np.float64]:
    """From start to end, Å."""
    coords = primitive.frac_coords
    return np.asarray((coords[hop.end] + np.array(hop.cells) - coords[hop.start]) @ primitive.lattice.matrix)


def direction(way: NDArray[np.float64], lattice: Lattice) -> str:
    """The line of a vector in Å in terms of ``lattice``: ``[0 1 0]``, or with decimals where no small numbers fit."""
    parts = lattice.get_fractional_coords(way)
    parts = parts / np.abs(parts).max()
    parts = parts * np.sign(parts[np.abs(parts) > 0.01][0])
    for n in range(1, 7):
        whole = np.rint(n * parts)
        if np.abs(n * parts - whole).max() < 0.05:
            return "[" + " ".join(f"{int(x)}" for x in whole) + "]"
    return "[" + " ".join(f"{x:.2f}" for x in parts) + "]"


def supercell_of(primitive: Structure, min_length: float, max_atoms: int) -> Structure:
    """The smallest supercell whose lattice points are ``min_length`` Å apart, in the orientation of ``primitive``.

    Raises:
        ValueError: it has more than ``max_atoms`` atoms.
    """
    conventional = SpacegroupAnalyzer(primitive, symprec=SYMPREC).get_conventional_standard_structure().lattice
    return best_supercell(primitive, conventional, min_length, max_atoms).of(primitive)


def too_small(cell: Structure | Molecule) -> str:
    """What is to be said of a cell in which an ion meets its image on the way; empty where it does not."""
    if not isinstance(cell, Structure):
        return ""
    vectors = cell.lattice.matrix[np.array(cell.lattice.pbc)]
    length = shortest_vector(vectors) if len(vectors) == 3 else float(np.linalg.norm(vectors, axis=1).min())
    if length >= SMALL_CELL:
        return ""
    return f"what moves is {length:.1f} Å from its image, less than {SMALL_CELL:g}: try a larger cell"


def ends_of(hop: Hop, primitive: Structure, supercell: Structure) -> tuple[Structure, Structure]:
    """The crystal with a vacancy where the hop ends, before and after; the ion that hops stays at its place in the
    list, and goes straight.
    """
    way = vector(primitive, hop)
    vacancy = primitive[hop.end].coords
    empty, moving = (_site_at(supercell, place) for place in (vacancy, vacancy - way))
    start = supercell.copy()
    start.translate_sites([moving], vacancy - way - start[moving].coords, frac_coords=False, to_unit_cell=False)
    end = start.copy()
    end.translate_sites([moving], way, frac_coords=False, to_unit_cell=False)
    for one in (start, end):
        one.remove_sites([empty])
    return start, end


def bottleneck(primitive: Structure, hop: Hop) -> float:
    """Radius of the largest sphere that gets from one site to the other between the other ions of the crystal, which
    stay, Å. Their radii are those of Shannon for oxidation states that make the crystal neutral, else atomic ones.

    All sites but the two are taken, those of the moving ion too.
    """
    way = vector(primitive, hop)
    begin = primitive[hop.start].coords
    reach = float(np.linalg.norm(way)) + _MARGIN + 4.0
    radii = ion_radii(primitive)
    free_at: list[tuple[float, NDArray[np.float64]]] = []
    for symbol, radius in radii.items():
        centres = [
            neighbour.coords
            for neighbour in primitive.get_sites_in_sphere(begin + way / 2, reach, include_index=True)
            if neighbour.specie.symbol == symbol
            and min(np.linalg.norm(neighbour.coords - place) for place in (begin, begin + way)) > 1e-3
        ]
        if centres:
            free_at.append((radius, np.array(centres)))
    low = np.minimum(begin, begin + way) - _MARGIN
    counts = np.ceil((np.abs(way) + 2 * _MARGIN) / _GRID).astype(int) + 1
    points = low + _GRID * np.stack(np.meshgrid(*(np.arange(n) for n in counts), indexing="ij"), axis=-1)
    free = np.min([KDTree(centres).query(points)[0] - radius for radius, centres in free_at], axis=0)
    start, end = (tuple(np.rint((place - low) / _GRID).astype(int)) for place in (begin, begin + way))
    narrow, wide = float(free.min()), float(min(free[start], free[end]))
    for _ in range(_STEPS):
        middle = (narrow + wide) / 2
        pieces, _ = label(free >= middle)
        if pieces[start] == pieces[end] != 0:
            narrow = middle
        else:
            wide = middle
    return narrow


def ion_radii(structure: Structure) -> dict[str, float]:
    """Radius of each element by its symbol, Å: that of Shannon if oxidation states make the crystal neutral, else the
    atomic one.
    """
    states = guess_oxidation_states(structure.composition)
    ionic = {symbol: _shannon(symbol, state) for symbol, state in states.items()}
    if ionic and all(radius is not None for radius in ionic.values()):
        return {symbol: float(radius or 0.0) for symbol, radius in ionic.items()}
    return {e.symbol: float(e.atomic_radius or e.van_der_waals_radius or 1.5) for e in structure.composition.elements}


def network(edges: Sequence[Edge]) -> Network:
    """The directions along which hops lead, as barriers rise.

    A barrier is that of the highest saddle above the deepest place of the part of the network in which ions then go.
    """
    parts = _Parts(site for edge in edges for site in (edge.hop.start, edge.hop.end))
    barriers: list[float] = []
    limiting: list[int] = []
    order = sorted(range(len(edges)), key=lambda i: edges[i].highest)
    for n_open, place in enumerate(order, start=1):
        part = parts.join(edges[place].hop)
        while parts.rank(part) > len(barriers):
            ground = min(edges[i].lowest for i in order[:n_open] if parts.part(edges[i].hop.start) == part)
            barriers.append(edges[place].highest - ground)
            limiting.append(place)
    return Network(tuple(barriers), tuple(limiting))


class _Parts:
    """Connected parts of a periodic network (union-find), and the translations among the loops of each."""

    def __init__(self, sites: Iterable[int]) -> None:
        self._above = dict.fromkeys(sites, -1)
        self._cells: dict[int, NDArray[np.int64]] = {}  # from a site to the one above
        self._loops: dict[int, list[NDArray[np.int64]]] = {site: [] for site in self._above}

    def part(self, site: int) -> int:
        return self._find(site)[0]

    def rank(self, part: int) -> int:
        loops = self._loops[part]
        return int(np.linalg.matrix_rank(np.array(loops))) if loops else 0

    def join(self, hop: Hop) -> int:
        """Add a hop; the part that it belongs to."""
        (one, to_one), (other, to_other) = self._find(hop.start), self._find(hop.end)
        # where the root of the end lies, seen from the root of the start
        apart = np.array(hop.cells) + to_other - to_one
        if one == other:
            self._loops[one].append(apart)
        else:
            self._above[other], self._cells[other] = one, -apart
            self._loops[one] += self._loops.pop(other)
        return one

    def _find(self, site: int) -> tuple[int, NDArray[np.int64]]:
        """The site that stands for the part, and the cells from ``site`` to it."""
        cells = np.zeros(3, dtype=np.int64)
        while self._above[site] != -1:
            cells, site = cells + self._cells[site], self._above[site]
        return site, cells


def _passes(hop: Hop, hops: Iterable[Hop], primitive: Structure) -> bool:
    """Whether another site of the ion lies on the straight way."""
    way = vector(primitive, hop)
    length = float(np.linalg.norm(way))
    for other in hops:
        if other.start == hop.start and other != hop:
            there = vector(primitive, other)
            along = float(there @ way) / length
            if 0 < along < length and np.linalg.norm(there - along * way / length) < IN_THE_WAY:
                return True
    return False


_Mapping = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # rotation, target, cells of each site


def _mappings(primitive: Structure) -> list[_Mapping]:
    coords, numbers = primitive.frac_coords, np.array(primitive.atomic_numbers)
    out: list[_Mapping] = []
    for rotation, translation in zip(*operations(primitive), strict=True):
        images = coords @ rotation.T + translation
        apart = images[:, None] - coords
        off = np.linalg.norm((apart - np.rint(apart)) @ primitive.lattice.matrix, axis=2)
        target = np.where(numbers[:, None] == numbers, off, np.inf).argmin(axis=1)
        out.append((rotation, target, np.rint(images - coords[target]).astype(int)))
    return out


def _taken(hop: Hop, mapping: _Mapping) -> Hop:
    rotation, target, cells = mapping
    a, b, c = (int(n) for n in rotation @ np.array(hop.cells) + cells[hop.end] - cells[hop.start])
    return Hop(int(target[hop.start]), int(target[hop.end]), (a, b, c))


def _site_at(structure: Structure, place: NDArray[np.float64]) -> int:
    apart = structure.frac_coords - structure.lattice.get_fractional_coords(place)
    return int(np.linalg.norm((apart - np.rint(apart)) @ structure.lattice.matrix, axis=1).argmin())


def _shannon(symbol: str, state: float) -> float | None:
    """Ionic radius, between those of neighbouring charges where the mean state is no whole number; None if unknown."""
    low, high = math.floor(state), math.ceil(state)
    both = [_ionic(symbol, charge) for charge in (low, high)]
    known = [radius for radius in both if radius]
    if len(known) == 2:
        return float(known[0] + (state - low) * (known[1] - known[0]))
    return known[0] if known else float(Element(symbol).average_ionic_radius) or None


def _ionic(symbol: str, charge: int) -> float | None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No (default )?ionic radius")  # of two spin states one is taken
        return None if charge == 0 else Species(symbol, charge).ionic_radius

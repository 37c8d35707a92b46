"""Neutral point defects: which there are, in which supercell, from which starts, and what their energies say.

    host = host_cell(crystal, min_length=10.0, max_atoms=300)
    for defect in point_defects(host, dopants=("P",)):
        print(defect.name, defect.added, [start for start in starts(defect, 3)])

Formation energies are E(defect) - E(perfect) - Σ n_i μ_i with n_i atoms of element i added (S. B. Zhang and J. E.
Northrup, Phys. Rev. Lett. 67, 2339 (1991)), without the term of the charge: all cells are neutral.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure
from scipy.spatial import Voronoi, cKDTree

from dpa4_core.errors import plural
from dpa4_core.units import BOLTZMANN_EV_K
from dpa4_flows.analysis.facets import SYMPREC, operations, standard_cells, symmetry
from dpa4_flows.analysis.supercells import best_supercell

Array = NDArray[np.float64]
Kind = Literal["vacancy", "antisite", "interstitial", "substitution", "dopant_interstitial", "complex"]

SAME_HOLE = 0.5
"""Å, within which two corners of Voronoi cells are one place for an atom."""
_HALF_DUMBBELL = 0.45
"""Of the shortest distance between atoms: where both atoms of a dumbbell begin."""
_MARGIN = 9.0  # Å of crystal around the home cell, so that its Voronoi cells are whole
OFF_SITE = 0.35
"""Of the shortest distance between atoms, beyond which an atom has left its lattice site: neighbours of a vacancy move
by up to a sixth of it, atoms of dumbbells by a third and more."""
HIGHEST, LOWEST = 25.0, -5.0
"""eV. Neutral defects of diamond, which cost most, have formation energies up to about 20 eV; a defect far below zero
contradicts a hull on which its host is stable."""


@dataclass(frozen=True)
class Host:
    """A crystal in which defects are made.

    Attributes:
        primitive: symmetrised cell.
        perfect: supercell; the images of each atom of ``primitive`` follow each other.
        size: cells in it.
        length: Å, shortest distance between a defect and its image.
        orbits: of each atom of ``primitive``, the first that symmetry makes equal to it.
        axes: [3, 3] directions of the conventional cell, of length 1.
    """

    primitive: Structure
    perfect: Structure
    size: int
    length: float
    orbits: NDArray[np.int64]
    axes: Array

    @property
    def spacing(self) -> float:
        """Å, shortest distance between two atoms."""
        distances = self.perfect.distance_matrix
        return float(distances[distances > 0].min()) if len(self.perfect) > 1 else float(min(self.perfect.lattice.abc))

    def sites(self) -> list[tuple[int, str, str]]:
        """Of each distinct site the atom of the primitive cell, its element, and its name: ``Ga``, or ``O1``, ``O2``
        where an element has several.
        """
        distinct = [int(i) for i in dict.fromkeys(self.orbits.tolist())]
        symbols = [self.primitive[i].specie.symbol for i in distinct]
        numbered = _numbered(symbols)
        return list(zip(distinct, symbols, numbered, strict=True))

    def density(self, site: int) -> float:
        """Sites that symmetry makes equal to one, per Å³."""
        return float((self.orbits == site).sum()) / self.primitive.volume


@dataclass(frozen=True)
class Defect:
    """A point defect before it relaxes.

    Attributes:
        name: vacancy ``v_O``, dopant or antisite ``P_Si``, interstitial ``Si_i1``, two atoms that share a site
            ``Si2_Si``, complex ``v_Si+P_Si``.
        kind: of these.
        added: atoms by element that were added; negative for those taken out.
        density: such places per Å³.
        structure: supercell.
        places: [n, 3] Å, where something was changed.
        n_empty: lattice sites without an atom.
        n_between: atoms that are on no lattice site.
        turned: the same in other directions, from which it relaxes, too.
    """

    name: str
    kind: Kind
    added: dict[str, int]
    density: float
    structure: Structure
    places: Array
    n_empty: int = 0
    n_between: int = 0
    turned: tuple[Structure, ...] = ()


class _Change(NamedTuple):
    """One site that holds something else: ``symbol`` is None for nothing."""

    name: str
    kind: Kind
    site: int
    symbol: str | None


def host_cell(structure: Structure, min_length: float, max_atoms: int) -> Host:
    """The smallest supercell with images of a defect ``min_length`` Å apart.

    Raises:
        ValueError: it has more than ``max_atoms`` atoms, or the crystal has no symmetry that could be found.
    """
    conventional, primitive = standard_cells(structure)
    supercell = best_supercell(primitive, conventional.lattice, min_length, max_atoms, even=False)
    perfect = supercell.of(primitive, to_unit_cell=True)
    rows = conventional.lattice.matrix
    axes = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    orbits = np.asarray(symmetry(primitive).equivalent_atoms, dtype=np.int64)
    return Host(primitive, perfect, supercell.size, supercell.length, orbits, axes)


def point_defects(
    host: Host,
    kinds: Collection[str] = ("vacancy", "antisite", "interstitial", "substitution"),
    dopants: Sequence[str] = (),
    complexes: Sequence[str] = (),
    max_holes: int = 2,
) -> list[Defect]:
    """All defects of some kinds, each once for all places that symmetry makes equal.

    Args:
        host: of `host_cell`.
        kinds: which; complexes are those that are named.
        dopants: elements that are not of the host; those of it are left out.
        complexes: pairs on the nearest two sites, ``v_Si+P_Si``, or ``all`` of those of one-site defects of ``kinds``.
            Sites go by their element, so that ``v_O`` is on any site of oxygen.
        max_holes: places for interstitials, the widest ones.
    """
    own = sorted({site.specie.symbol for site in host.primitive})
    foreign = [symbol for symbol in dict.fromkeys(dopants) if symbol not in own]
    changes = list(_changes(host, own, foreign))
    defects = [_single(host, change) for change in changes if change.kind in kinds]
    inserted = [*(own if "interstitial" in kinds else ()), *(foreign if "dopant_interstitial" in kinds else ())]
    holes = interstitial_sites(host.primitive)[:max_holes] if inserted else []
    for symbol in inserted:
        kind: Kind = "interstitial" if symbol in own else "dopant_interstitial"
        for hole, name in zip(holes, _numbered([f"{symbol}_i"] * len(holes)), strict=True):
            defects.append(_interstitial(host, name, kind, symbol, hole))
    if "interstitial" in kinds:
        defects += [_dumbbell(host, *site) for site in host.sites()]
    wanted = list(complexes)
    if "all" in wanted:
        singles = dict.fromkeys(_general(change) for change in changes if change.kind in kinds)
        wanted = [f"{one}+{other}" for one, other in itertools.combinations_with_replacement(singles, 2)]
    pairs = (_nearest_pair(host, name, changes) for name in wanted)
    return [*defects, *(pair for pair in pairs if pair is not None)]


class Hole(NamedTuple):
    """A place between atoms.

    Attributes:
        place: [3] fractional coordinates.
        radius: Å, to the nearest atom.
        images: [number, 3] of the places that symmetry makes equal, in the primitive cell.
    """

    place: Array
    radius: float
    images: Array

    @property
    def number(self) -> int:
        return len(self.images)


def interstitial_sites(primitive: Structure, symprec: float = SYMPREC) -> list[Hole]:
    """Corners of Voronoi cells, which are farthest from the atoms around them, each once; the widest first.

    Args:
        primitive: cell; with ``symprec`` any.
        symprec: Å, within which symmetry makes places equal.
    """
    rows = primitive.lattice.matrix
    heights = 1 / np.linalg.norm(np.linalg.inv(rows), axis=0)
    spans = [range(-n, n + 1) for n in np.ceil(_MARGIN / heights).astype(int)]
    shifts = np.array(list(itertools.product(*spans)))
    points = ((primitive.frac_coords[None] + shifts[:, None]).reshape(-1, 3)) @ rows
    corners = Voronoi(points).vertices
    shares = corners @ np.linalg.inv(rows)
    home = ((shares > -1e-6) & (shares < 1 - 1e-6)).all(axis=1)
    radii = cKDTree(points).query(corners[home])[0]
    rotations, translations = operations(primitive, symprec)
    left = sorted(zip(np.round(radii, 3).tolist(), shares[home].tolist(), strict=True), key=lambda one: -one[0])
    found: list[Hole] = []
    taken = np.zeros((0, 3))
    for radius, share in left:
        if len(taken) and primitive.lattice.get_all_distances(taken, [share]).min() < SAME_HOLE:
            continue
        images = _distinct(primitive, np.mod(rotations @ np.array(share) + translations, 1.0))
        found.append(Hole(np.array(share), float(radius), images))
        taken = np.concatenate([taken, images])
    return found


def starts(defect: Defect, count: int) -> list[Structure]:
    """Supercells from which a defect relaxes: as it was made, those of other directions, and others up to ``count``
    whose symmetry is broken.

    The first two neighbours are pulled together and pushed apart in turn by 30 % of their distance, what was put in is
    moved by 0.3 Å, and all atoms around by random vectors that fade with the distance (the ways of I. Mosquera-Lois and
    S. R. Kavanagh, npj Comput. Mater. 9, 25 (2023)). They are always the same for one defect.
    """
    made = [defect.structure, *defect.turned][:count]
    return [*made, *(_broken(defect, number) for number in range(len(made), count))]


def _broken(defect: Defect, number: int) -> Structure:
    whole = defect.structure
    rng = np.random.default_rng([number, len(whole)])
    shares = whole.lattice.get_fractional_coords(defect.places)
    distances = whole.lattice.get_all_distances(whole.frac_coords, shares).min(axis=1)
    shifts = 0.1 * rng.standard_normal((len(whole), 3)) * np.exp(-((distances / 4.0) ** 2))[:, None]
    own = np.flatnonzero(distances < 0.1)
    directions = rng.standard_normal((len(own), 3))
    shifts[own] += 0.3 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    around = np.flatnonzero(distances >= 0.1)
    shell = around[distances[around] < 1.1 * distances[around].min()]
    if len(shell) > 1:
        first, second = rng.choice(shell, 2, replace=False)
        apart = _shortest(whole, int(first), int(second))
        pull = 0.15 if number % 2 else -0.15  # of the distance, by each of the two
        shifts[first] += pull * apart
        shifts[second] -= pull * apart
    moved = whole.copy()
    for atom, shift in enumerate(shifts):
        moved.translate_sites([atom], shift, frac_coords=False, to_unit_cell=False)
    return moved


def rearrangement(host: Host, defect: Defect, end: Structure) -> str | None:
    """How a relaxed defect differs from the one that was made, in words; None where each atom kept to its place."""
    distances = end.lattice.get_all_distances(end.frac_coords, host.perfect.frac_coords)
    near = distances < OFF_SITE * host.spacing
    empty, between = int((~near.any(axis=0)).sum()), int((~near.any(axis=1)).sum())
    if (empty, between) == (defect.n_empty, defect.n_between):
        return None
    return (
        f"{plural(empty, 'lattice site')} without an atom and {plural(between, 'atom')} between sites, where "
        f"{defect.n_empty} and {defect.n_between} were made"
    )


def formation_energy(change: float, added: Mapping[str, int], potentials: Mapping[str, float]) -> float:
    """eV, from the energy of the supercell less that of the perfect one, and chemical potentials in eV/atom."""
    return change - sum(count * potentials[symbol] for symbol, count in added.items())


def implausible(energy: float) -> str | None:
    """Why a formation energy is an error of the potential, in words."""
    if LOWEST <= energy <= HIGHEST:
        return None
    return (
        f"a formation energy of {energy:+.1f} eV is beyond all that are known ({LOWEST:g} to {HIGHEST:g} eV): the "
        "potential takes the cell for another kind of material"
    )


def concentration_cm3(energy: float, density: float, temperature: float) -> float | None:
    """N exp(-E/kT) in cm⁻³, of ``density`` places per Å³; None where the energy is not positive, since the law is that
    of few defects.
    """
    return 1e24 * density * math.exp(-energy / (BOLTZMANN_EV_K * temperature)) if energy > 0 else None


def relaxation_volume(stress: Array, before: Array, volume: float, bulk_modulus: float) -> float:
    """Å³ by which a crystal grows for each defect: V (p - p₀) / B, with the pressure that a defect leaves in the cell
    of the perfect crystal (the trace of the elastic dipole over 3 B; M. Leslie and M. J. Gillan, J. Phys. C 18, 973
    (1985)).

    Args:
        stress, before: [3, 3] with the defect and without, eV/Å³, tensile positive.
        volume: of the cell, Å³.
        bulk_modulus: eV/Å³.
    """
    return -volume * float(np.trace(stress - before)) / 3 / bulk_modulus


def binding_energy(pair: float, one: float, other: float) -> float:
    """What two defects gain side by side, eV, from energies of three supercells less that of the perfect one; positive
    if they attract each other.
    """
    return one + other - pair


# ---- how they are made


def _changes(host: Host, own: Sequence[str], foreign: Sequence[str]) -> Iterator[_Change]:
    """All defects of one lattice site."""
    for site, symbol, label in host.sites():
        yield _Change(f"v_{label}", "vacancy", site, None)
        for other in own:
            if other != symbol:
                yield _Change(f"{other}_{label}", "antisite", site, other)
        for other in foreign:
            yield _Change(f"{other}_{label}", "substitution", site, other)


def _general(change: _Change) -> str:
    """Its name without the number of the site."""
    return change.name.rstrip("0123456789")


def _single(host: Host, change: _Change) -> Defect:
    atom = change.site * host.size
    structure, added, places = _changed(host, [(atom, change.symbol)])
    empty = int(change.symbol is None)
    return Defect(change.name, change.kind, added, host.density(change.site), structure, places, n_empty=empty)


def _interstitial(host: Host, name: str, kind: Kind, symbol: str, hole: Hole) -> Defect:
    place = host.primitive.lattice.get_cartesian_coords(hole.place)
    structure = host.perfect.copy()
    structure.append(symbol, place, coords_are_cartesian=True)
    density = hole.number / host.primitive.volume
    return Defect(name, kind, {symbol: 1}, density, structure, place[None], n_between=1)


def _dumbbell(host: Host, site: int, symbol: str, label: str) -> Defect:
    """Two atoms that share a lattice site: the ground state of an interstitial in most metals and in silicon. Along
    [110], [001] and [111] of the conventional cell; its density is that of the sites.
    """
    atom = site * host.size
    place, (first, second, third) = host.perfect.cart_coords[atom], host.axes
    cells = []
    for direction in (first + second, third, first + second + third):
        half = _HALF_DUMBBELL * host.spacing * direction / np.linalg.norm(direction)
        cell = host.perfect.copy()
        cell.replace(atom, symbol, coords=place + half, coords_are_cartesian=True)
        cell.append(symbol, place - half, coords_are_cartesian=True)
        cells.append(cell)
    return Defect(
        f"{symbol}2_{label}",
        "interstitial",
        {symbol: 1},
        host.density(site),
        cells[0],
        place[None],
        n_empty=1,
        n_between=2,
        turned=tuple(cells[1:]),
    )


def _nearest_pair(host: Host, name: str, changes: Sequence[_Change]) -> Defect | None:
    """Two changes side by side; None if the crystal has no such sites."""
    names = [part.strip() for part in name.split("+")]
    groups = [[change for change in changes if part in (change.name, _general(change))] for part in names]
    best: tuple[float, _Change, _Change, int, int] | None = None
    for one, other in itertools.product(*groups):
        atom = one.site * host.size
        atoms = [
            site * host.size + image
            for site in np.flatnonzero(host.orbits == other.site).tolist()
            for image in range(host.size)
            if site * host.size + image != atom
        ]
        lengths = host.perfect.distance_matrix[atom, atoms]
        if len(lengths) and (best is None or lengths.min() < best[0] - 1e-3):
            near = int((lengths < lengths.min() + 0.05).sum())
            best = float(lengths.min()), one, other, atoms[int(lengths.argmin())], near
    if best is None:
        return None
    _, one, other, partner, near = best
    structure, added, places = _changed(host, [(one.site * host.size, one.symbol), (partner, other.symbol)])
    density = host.density(one.site) * near / (2 if one == other else 1)
    empty = sum(change.symbol is None for change in (one, other))
    return Defect("+".join(names), "complex", added, density, structure, places, n_empty=empty)


def _changed(host: Host, sites: Sequence[tuple[int, str | None]]) -> tuple[Structure, dict[str, int], Array]:
    structure, added = host.perfect.copy(), dict[str, int]()
    for atom, symbol in sites:
        old = host.perfect[atom].specie.symbol
        added[old] = added.get(old, 0) - 1
        if symbol is not None:
            added[symbol] = added.get(symbol, 0) + 1
            structure.replace(atom, symbol)
    structure.remove_sites([atom for atom, symbol in sites if symbol is None])
    kept = {symbol: count for symbol, count in added.items() if count}
    return structure, kept, host.perfect.cart_coords[[atom for atom, _ in sites]]


def _numbered(names: Sequence[str]) -> list[str]:
    """Names with numbers behind those that are there several times."""
    counts: dict[str, int] = {}
    out = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        out.append(f"{name}{counts[name]}" if names.count(name) > 1 else name)
    return out


def _distinct(primitive: Structure, shares: Array) -> Array:
    kept: list[Array] = []
    for share in shares:
        if not kept or primitive.lattice.get_all_distances(np.array(kept), [share]).min() > SAME_HOLE / 2:
            kept.append(share)
    return np.array(kept)


def _shortest(structure: Structure, one: int, other: int) -> Array:
    """Å, from one atom to the nearest image of another."""
    vector = structure[other].frac_coords - structure[one].frac_coords
    image = structure.lattice.get_distance_and_image(structure[one].frac_coords, structure[other].frac_coords)[1]
    return np.asarray(structure.lattice.get_cartesian_coords(vector + image))

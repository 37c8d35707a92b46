"""Ordered cells of a crystal whose sites are shared: by elements, or by an element and nothing.

    cell = disordered_cell(partly_filled(host, "Li", 0.5), max_atoms=48)
    for arrangement in candidates(cell, 20, charges=mean_charges(cell)):
        print(cell.degeneracy(arrangement), cell.structure(arrangement))

A *parent* has sites with several species, whose shares add up to one, or to less: the rest is vacant. In a supercell
each share becomes a whole number of atoms, and an *arrangement* says what is on each shared site: an array [n_sites] of
numbers of labels. Symmetry of the supercell, its translations among it, makes arrangements equal.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Composition, Element, Lattice, Species, Structure

from dpa4_core.data.spglib_search import found_by
from dpa4_flows.analysis.oxidation import guess_oxidation_states
from dpa4_flows.analysis.supercells import shortest_vector

Arrangement = NDArray[np.int8]

VACANCY = "vacancy"
"""Label of an empty site."""
MAX_ENUMERATED = 50_000
"""Arrangements up to which all are looked at; twelve of twenty-four sites are 2.7 million."""
SHARE_TOLERANCE = 0.005
"""Of a share of a site: 0.333 in a file is a third."""
_SYMPREC = 0.01  # Å
_ANNEALINGS, _SWAPS = 8, 3000
_HOT, _COLD = 2.0, 0.05  # eV; ions that change places change the Ewald energy of a cell by electronvolts


class OrderingError(ValueError):
    """A crystal cannot be ordered; one sentence."""


@dataclass(frozen=True)
class Pool:
    """Sites that hold the same shares of the same species, and exchange them.

    Attributes:
        sites: places among the shared sites of the cell.
        counts: atoms, or vacancies, by number of the label.
    """

    sites: NDArray[np.int64]
    counts: Mapping[int, int]


@dataclass(frozen=True)
class DisorderedCell:
    """A supercell of a parent whose shares are whole numbers of atoms.

    Attributes:
        parent: primitive cell with shared sites.
        cell: supercell of it, with shared sites, too.
        matrix: [3, 3], rows of the supercell in terms of rows of the parent.
        shared: [n_sites] places of the shared sites in ``cell``.
        pools: of the shared sites.
        labels: symbols, or `VACANCY`.
        deviation: largest difference between a share and what the supercell has of it.
    """

    parent: Structure
    cell: Structure
    matrix: NDArray[np.int64]
    shared: NDArray[np.int64]
    pools: tuple[Pool, ...]
    labels: tuple[str, ...]
    deviation: float = 0.0

    def structure(self, arrangement: Arrangement) -> Structure:
        """The ordered crystal; vacancies are left out."""
        species = [site.species.elements[0].symbol for site in self.cell]
        for place, label in zip(self.shared, arrangement, strict=True):
            species[place] = self.labels[label]
        kept = [i for i, symbol in enumerate(species) if symbol != VACANCY]
        ordered = Structure(self.cell.lattice, [species[i] for i in kept], self.cell.frac_coords[kept])
        return ordered.get_sorted_structure()

    @cached_property
    def n_arrangements(self) -> int:
        """Of all, equal ones too."""
        found = 1
        for pool in self.pools:
            left = len(pool.sites)
            for count in pool.counts.values():
                found *= math.comb(left, count)
                left -= count
        return found

    @cached_property
    def permutations(self) -> NDArray[np.int64]:
        """[n, n_sites]: an arrangement taken at the places of a row is equal to it by symmetry."""
        kinds = np.array([self._kinds[site.species_string] for site in self.cell])
        lattice, fractional = self.cell.lattice.matrix, self.cell.frac_coords
        cell = lattice.tolist(), fractional.tolist(), kinds.tolist()
        found = found_by(spglib.get_symmetry, cell, symprec=_SYMPREC)
        if found is None or not len(self.shared):
            return np.arange(len(self.shared))[None]
        places, unlike = fractional[self.shared], kinds[self.shared][:, None] != kinds[self.shared]
        rows = []
        for rotation, translation in zip(found["rotations"], found["translations"], strict=True):
            apart = (places @ rotation.T + translation)[:, None] - places
            distances = np.linalg.norm((apart - np.rint(apart)) @ lattice, axis=2)
            rows.append(np.where(unlike, np.inf, distances).argmin(axis=1))
        return np.unique(np.array(rows), axis=0)

    @cached_property
    def _kinds(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(sorted({site.species_string for site in self.cell}))}

    def images(self, arrangement: Arrangement) -> NDArray[np.int8]:
        """[n, n_sites] all that are equal to an arrangement, each once, in an order that all of them share."""
        return np.unique(arrangement[self.permutations], axis=0)

    def degeneracy(self, arrangement: Arrangement) -> int:
        """How many arrangements are equal to this one by symmetry."""
        return len(self.images(arrangement))

    def name(self, arrangement: Arrangement) -> bytes:
        """The same for equal arrangements, and only for them."""
        return bytes(self.images(arrangement)[0].tobytes())

    def shuffled(self, random: np.random.Generator) -> Arrangement:
        """A random arrangement."""
        arrangement = np.empty(len(self.shared), dtype=np.int8)
        for pool in self.pools:
            content = np.repeat(list(pool.counts), list(pool.counts.values()))
            arrangement[pool.sites] = random.permutation(content)
        return arrangement

    def swapped(self, arrangement: Arrangement, random: np.random.Generator) -> Arrangement:
        """The arrangement after two different occupants of one pool have changed places."""
        mixed = [pool for pool in self.pools if len(pool.counts) > 1]  # rounding may leave one occupant in the others
        sizes = np.array([len(pool.sites) for pool in mixed], dtype=float)
        pool = mixed[random.choice(len(mixed), p=sizes / sizes.sum())]
        first = random.choice(pool.sites)
        second = random.choice(pool.sites[arrangement[pool.sites] != arrangement[first]])
        moved = arrangement.copy()
        moved[[first, second]] = moved[[second, first]]
        return moved

    def every(self) -> Iterator[Arrangement]:
        """All arrangements, equal ones too."""
        for parts in itertools.product(*(_fillings(len(pool.sites), pool.counts) for pool in self.pools)):
            arrangement = np.empty(len(self.shared), dtype=np.int8)
            for pool, part in zip(self.pools, parts, strict=True):
                arrangement[pool.sites] = part
            yield arrangement

    def distinct(self) -> list[Arrangement]:
        """One of each set of equal arrangements."""
        seen: set[bytes] = set()
        found = []
        for arrangement in self.every():
            if arrangement.tobytes() not in seen:
                images = self.images(arrangement)
                seen.update(image.tobytes() for image in images)
                found.append(images[0])
        return found


def _fillings(n_sites: int, counts: Mapping[int, int]) -> Iterator[Arrangement]:
    """All ways to put so many of each label on sites."""
    if len(counts) == 1:
        yield np.full(n_sites, next(iter(counts)), dtype=np.int8)
        return
    (label, count), *others = counts.items()
    for places in itertools.combinations(range(n_sites), count):
        chosen = np.zeros(n_sites, dtype=bool)
        chosen[list(places)] = True
        for rest in _fillings(n_sites - count, dict(others)):
            filling = np.empty(n_sites, dtype=np.int8)
            filling[chosen], filling[~chosen] = label, rest
            yield filling


# ---- from a parent to a cell


def partly_filled(host: Structure, ion: str, content: float) -> Structure:
    """A crystal in which sites of an ion hold only a share of it; the rest is vacant.

    Raises:
        OrderingError: there is no such ion, or the share is none.
    """
    if not 0 <= content <= 1:
        raise OrderingError(f"a content of {content:g} is no share; give a number from 0 to 1")
    filled = host.copy()
    found = False
    for site in filled:
        amounts = dict(site.species.items())
        ions = [species for species in amounts if species.symbol == ion]
        found = found or bool(ions)
        site.species = Composition({s: share * (content if s in ions else 1.0) for s, share in amounts.items()})
    if not found:
        raise OrderingError(f"{host.composition.reduced_formula} holds no {ion}")
    if content == 0:
        filled.remove_sites([i for i, site in enumerate(filled) if not site.species])
        if not len(filled):
            raise OrderingError(f"nothing is left of {host.composition.reduced_formula} without its {ion}")
    return filled


def disordered_cell(structure: Structure, max_atoms: int = 48, n_cells: int = 0) -> DisorderedCell:
    """The supercell in which shares become atoms, as compact as there is; of an ordered crystal its primitive cell.

    Args:
        structure: with shared sites.
        max_atoms: sites of the supercell. The largest supercell that has the composition is taken; where none has, that
            which comes nearest.
        n_cells: primitive cells of the supercell instead.

    Raises:
        OrderingError: shares that make no sense, or the primitive cell is larger than that.
    """
    bare = _bare(structure)
    parent = bare.get_primitive_structure(tolerance=_SYMPREC * 10, use_site_props=False)
    if not parent.composition.fractional_composition.almost_equals(bare.composition.fractional_composition):
        parent = bare
    largest = n_cells or max_atoms // len(parent)
    if largest < 1:
        raise OrderingError(f"its primitive cell has {len(parent)} sites, more than max_atoms = {max_atoms}")
    choices = [n_cells] if n_cells else [1] if bare.is_ordered else range(1, largest + 1)
    by_size = {size: _deviation(parent, size) for size in choices}
    exact = [size for size, deviation in by_size.items() if deviation <= SHARE_TOLERANCE]
    size = max(exact) if exact else min(by_size, key=lambda n: (round(by_size[n], 6), n))
    matrix = compact_supercell(parent.lattice, size)
    cell = parent.copy()
    cell.make_supercell(matrix)
    shared = np.array([i for i, site in enumerate(cell) if not site.is_ordered], dtype=np.int64)
    mixtures = [_shares(cell[int(i)].species) for i in shared]
    labels = tuple(dict.fromkeys(label for mixture in mixtures for label in mixture))
    pools = []
    for mixture in dict.fromkeys(tuple(one.items()) for one in mixtures):
        sites = np.array([i for i, one in enumerate(mixtures) if tuple(one.items()) == mixture], dtype=np.int64)
        counts = _whole(dict(mixture), len(sites))
        pools.append(Pool(sites, {labels.index(name): n for name, n in counts.items() if n}))
    return DisorderedCell(parent, cell, matrix, shared, tuple(pools), labels, by_size[size])


def _bare(structure: Structure) -> Structure:
    """Elements and shares alone; shares within the tolerance of one are one."""
    mixtures = []
    for number, site in enumerate(structure):
        shares: dict[Element, float] = {}
        for species, share in site.species.items():
            element = Element(species.symbol)
            shares[element] = shares.get(element, 0.0) + float(share)
        total = sum(shares.values())
        if not 0 < total <= 1 + SHARE_TOLERANCE:
            raise OrderingError(f"the shares of site {number} add up to {total:g}; they must be above 0 and at most 1")
        if total > 1 - SHARE_TOLERANCE:
            shares = {element: share / total for element, share in shares.items()}
        # full to six digits, so that equal shares of a file are equal
        mixtures.append(Composition({element: round(share, 6) for element, share in shares.items()}))
    return Structure(structure.lattice, mixtures, structure.frac_coords)


def _shares(species: Composition) -> dict[str, float]:
    """Shares by label, that of vacancies too."""
    shares = {element.symbol: float(share) for element, share in sorted(species.items())}
    vacant = 1 - sum(shares.values())
    return shares | ({VACANCY: vacant} if vacant > SHARE_TOLERANCE else {})


def _whole(shares: Mapping[str, float], n_sites: int) -> dict[str, int]:
    """Atoms on so many sites: the largest remainders are rounded up."""
    counts = {name: math.floor(share * n_sites + 1e-6) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name] * n_sites)
    for name in by_remainder[: n_sites - sum(counts.values())]:
        counts[name] += 1
    return counts


def _deviation(parent: Structure, size: int) -> float:
    """Largest difference between a share and what a supercell of ``size`` has of it."""
    mixtures: dict[tuple[tuple[str, float], ...], int] = {}
    for site in parent:
        if not site.is_ordered:
            key = tuple(_shares(site.species).items())
            mixtures[key] = mixtures.get(key, 0) + 1
    worst = 0.0
    for mixture, n in mixtures.items():
        counts = _whole(dict(mixture), n * size)
        worst = max(worst, *(abs(counts[name] / (n * size) - share) for name, share in mixture))
    return worst


def compact_supercell(lattice: Lattice, size: int) -> NDArray[np.int64]:
    """[3, 3], rows in terms of those of ``lattice``: of all supercells of so many cells that whose lattice points lie
    farthest apart, so that images of an atom disturb it least.
    """
    best: tuple[float, NDArray[np.int64]] | None = None
    for matrix in _hermite(size):
        length = shortest_vector(matrix @ lattice.matrix)
        if best is None or length > best[0] + 1e-6:
            best = length, matrix
    assert best is not None
    reduced = Lattice(best[1] @ lattice.matrix).get_lll_reduced_lattice().matrix
    return np.rint(reduced @ np.linalg.inv(lattice.matrix)).astype(np.int64)


def _hermite(size: int) -> Iterator[NDArray[np.int64]]:
    """Every sublattice of index ``size`` once, in Hermite's normal form."""
    for a in (n for n in range(1, size + 1) if size % n == 0):
        for b in (n for n in range(1, size // a + 1) if (size // a) % n == 0):
            c = size // (a * b)
            for i, j, k in itertools.product(range(b), range(c), range(c)):
                yield np.array([[a, i, j], [0, b, k], [0, 0, c]])


# ---- charges, and the arrangements that a search begins with


def mean_charges(cell: DisorderedCell, stated: Mapping[str, float] | None = None) -> dict[str, float]:
    """Mean oxidation state by element; {} where none are known.

    Args:
        cell: the cell.
        stated: by a file, by element; taken where they make the cell neutral, as those of a half-empty cathode do not.
    """
    amounts: dict[str, float] = {}
    structure = cell.structure(cell.shuffled(np.random.default_rng(0)))
    for symbol, n in structure.composition.get_el_amt_dict().items():
        amounts[symbol] = amounts.get(symbol, 0.0) + n
    if stated and set(stated) >= set(amounts) and abs(sum(stated[s] * n for s, n in amounts.items())) < 1e-3:
        return {symbol: stated[symbol] for symbol in amounts}
    composition = Composition(amounts)
    found = guess_oxidation_states(composition) or guess_oxidation_states(composition, rare_states=True)
    return found if any(found.values()) else {}


def stated_charges(structure: Structure) -> dict[str, float]:
    """Mean oxidation state by element, as a file says; {} where it does not for each."""
    sums: dict[str, tuple[float, float]] = {}
    for site in structure:
        for species, share in site.species.items():
            if not isinstance(species, Species) or species.oxi_state is None:
                return {}
            total, n = sums.get(species.symbol, (0.0, 0.0))
            sums[species.symbol] = total + share * float(species.oxi_state), n + share
    return {symbol: total / n for symbol, (total, n) in sums.items()}


@dataclass(frozen=True)
class EwaldEnergies:
    """Electrostatic energies of all arrangements of a cell, from one sum: E = Σ_ij q_i A_ij q_j.

    A is the Ewald sum between sites of unit charge, so that an arrangement costs a product of matrices and no sum of
    its own.

    Attributes:
        cell: the cell.
        charges: oxidation state by symbol.
    """

    cell: DisorderedCell
    charges: Mapping[str, float]
    _matrix: NDArray[np.float64] = field(init=False)
    _field: NDArray[np.float64] = field(init=False)
    _constant: float = field(init=False)

    def __post_init__(self) -> None:
        whole = self.cell.cell
        units = Structure(whole.lattice, [Species("H", 1)] * len(whole), whole.frac_coords)
        every = EwaldSummation(units).total_energy_matrix
        shared = self.cell.shared
        fixed = np.setdiff1d(np.arange(len(whole)), shared)
        still = np.array([self.charges[whole[int(i)].species.elements[0].symbol] for i in fixed])
        object.__setattr__(self, "_matrix", every[np.ix_(shared, shared)])
        object.__setattr__(self, "_field", 2 * every[np.ix_(shared, fixed)] @ still)
        object.__setattr__(self, "_constant", float(still @ every[np.ix_(fixed, fixed)] @ still))

    @cached_property
    def label_charges(self) -> NDArray[np.float64]:
        """[n_labels]."""
        return np.array([0.0 if name == VACANCY else self.charges[name] for name in self.cell.labels])

    def of(self, arrangements: Sequence[Arrangement] | NDArray[np.int8]) -> NDArray[np.float64]:
        """EV per cell, of each arrangement."""
        q = self.label_charges[np.asarray(arrangements)]
        return np.einsum("ni,ni->n", q @ self._matrix, q) + q @ self._field + self._constant

    def low_ones(self, number: int, random: np.random.Generator) -> list[Arrangement]:
        """Distinct arrangements of low energy, found by simulated annealing, the lowest first."""
        found: dict[bytes, tuple[float, Arrangement]] = {}
        for _ in range(_ANNEALINGS):
            now = self.cell.shuffled(random)
            q = self.label_charges[now]
            felt = 2 * q @ self._matrix + self._field  # dE/dq of each site
            energy = float(self.of([now])[0])
            for temperature in np.geomspace(_HOT, _COLD, _SWAPS):
                after = self.cell.swapped(now, random)
                step = self.label_charges[after] - q
                i, j = np.flatnonzero(after != now)
                a, b = step[i], step[j]
                change = a * felt[i] + b * felt[j]
                change += a * a * self._matrix[i, i] + b * b * self._matrix[j, j] + 2 * a * b * self._matrix[i, j]
                if change <= 0 or random.random() < math.exp(-change / temperature):
                    now, q, energy = after, q + step, energy + change
                    felt = felt + 2 * (a * self._matrix[i] + b * self._matrix[j])
                    found.setdefault(now.tobytes(), (energy, now))
        distinct: dict[bytes, Arrangement] = {}
        for _, arrangement in sorted(found.values(), key=lambda pair: pair[0]):
            distinct.setdefault(self.cell.name(arrangement), arrangement)
            if len(distinct) == number:
                break
        return list(distinct.values())


@dataclass(frozen=True)
class Candidates:
    """Arrangements that a search begins with.

    Attributes:
        arrangements: distinct ones, the most likely first.
        ewald: their electrostatic energies, eV per cell; None without charges.
        n_distinct: how many distinct ones there are; None where nobody has counted.
    """

    arrangements: list[Arrangement]
    ewald: list[float] | None
    n_distinct: int | None


def candidates(cell: DisorderedCell, number: int, charges: Mapping[str, float], seed: int = 0) -> Candidates:
    """The first arrangements of a search: of lowest electrostatic energy where charges are known, else random ones.

    Args:
        cell: the cell.
        number: of arrangements at most.
        charges: oxidation state by symbol; {} where they are not known.
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    ewald = EwaldEnergies(cell, charges) if charges else None
    n_distinct = None
    if cell.n_arrangements <= MAX_ENUMERATED:
        every = cell.distinct()
        n_distinct = len(every)
        if ewald is not None:
            energies = ewald.of(every)
            chosen = [every[i] for i in np.argsort(np.round(energies, 6), kind="stable")[:number]]
        else:
            chosen = [every[i] for i in sorted(random.permutation(len(every))[:number])]
    elif ewald is not None:
        chosen = ewald.low_ones(number, random)
    else:
        found: dict[bytes, Arrangement] = {}
        for _ in range(50 * number):
            arrangement = cell.shuffled(random)
            found.setdefault(cell.name(arrangement), arrangement)
            if len(found) == number:
                break
        chosen = list(found.values())
    return Candidates(chosen, None if ewald is None else ewald.of(chosen).tolist(), n_distinct)

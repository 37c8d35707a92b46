"""Special quasi-random cells: small cells whose atoms are correlated as little as those of a random alloy.

    cell = disordered_cell(shared(parent, "Ga", "In", 0.25), max_atoms=64)
    found = quasi_random(cell)
    cell.structure(found.arrangement), found.residual

Correlations are those of pairs, as Warren and Cowley count them: α_k = 1 − P_k(B|A)/x_B, where P_k(B|A) is the share of
B among the k-th neighbours of A on the sites that are shared. It is 0 in a random alloy, 1 where like atoms are
together, and below 0 where they avoid each other (A. Zunger et al., Phys. Rev. Lett. 65, 353 (1990)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition, Element, Structure

from dpa4_flows.analysis.orderings import Arrangement, DisorderedCell, OrderingError
from dpa4_flows.analysis.supercells import shortest_vector

_ANNEALINGS, _SWAPS = 6, 3000
_HOT, _COLD = 0.1, 1e-3  # of the objective, which is about 1 for a cell that has unmixed
_SAME_SHELL = 0.03  # Å


def shared(structure: Structure, element: str, other: str, fraction: float) -> Structure:
    """A crystal in which ``other`` takes a fraction of the sites of ``element``.

    Raises:
        OrderingError: there is no such element in it, or the other one is in it, too.
    """
    symbols = {site.specie.symbol for site in structure}
    if element not in symbols:
        raise OrderingError(f"{structure.composition.reduced_formula} holds no {element}")
    if other in symbols:
        raise OrderingError(f"{structure.composition.reduced_formula} holds {other} already, on sites of its own")
    mixed = structure.copy()
    shares = {Element(name): share for name, share in ((element, 1 - fraction), (other, fraction)) if share > 0}
    for site in mixed:
        if site.specie.symbol == element:
            site.species = Composition(shares)
    return mixed


@dataclass(frozen=True)
class PairCorrelations:
    """Correlations of a cell whose sites are shared by two elements.

    Attributes:
        cell: the cell.
        n_shells: shells of neighbours that count, the nearer the more.
    """

    cell: DisorderedCell
    n_shells: int = 6

    def __post_init__(self) -> None:
        if len(self.cell.labels) != 2 or len(self.cell.pools) != 1:
            raise OrderingError("a quasi-random cell is made of sites that two elements share, all in one proportion")

    @cached_property
    def shells(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distances [n_shells], Å, and numbers of pairs [n_shells, n_sites, n_sites], images counted."""
        sites = Structure.from_sites([self.cell.cell[int(i)] for i in self.cell.shared])
        radius = 1.5 * (sites.volume / len(sites)) ** (1 / 3)
        while True:
            i, j, _, distances = sites.get_neighbor_list(radius)
            order = np.sort(distances)
            starts = np.flatnonzero(np.diff(order, prepend=-1.0) > _SAME_SHELL)
            if len(starts) > self.n_shells:
                break
            radius *= 1.2
        edges = order[starts[: self.n_shells + 1]] - _SAME_SHELL / 2
        counts = np.zeros((self.n_shells, len(sites), len(sites)))
        shell = np.searchsorted(edges, distances) - 1
        inside = (shell >= 0) & (shell < self.n_shells)
        np.add.at(counts, (shell[inside], i[inside], j[inside]), 1.0)
        return order[starts[: self.n_shells]], counts

    def of(self, arrangement: Arrangement) -> NDArray[np.float64]:
        """α [n_shells] of an arrangement."""
        here = (arrangement == 1).astype(float)
        counts = self.shells[1]
        unlike = (counts @ (1 - here)) @ here
        x = here.mean()
        return 1 - unlike / (counts.sum(axis=(1, 2)) * x * (1 - x))

    def objective(self, arrangement: Arrangement) -> float:
        """Weighted sum of the magnitudes, 1 for the first shell, 1/k for the k-th."""
        return float(np.abs(self.of(arrangement)) @ (1 / np.arange(1, self.n_shells + 1)))


@dataclass(frozen=True)
class QuasiRandom:
    """A quasi-random arrangement.

    Attributes:
        arrangement: of the cell.
        correlations: α by shell.
        distances: of the shells, Å.
        period: shortest distance between images of an atom, Å.
    """

    arrangement: Arrangement
    correlations: list[float]
    distances: list[float]
    period: float

    @property
    def residual(self) -> float:
        """Largest magnitude of α over the shells that hold no image of an atom itself, which is always like it."""
        own = [abs(a) for a, r in zip(self.correlations, self.distances, strict=True) if r < self.period - _SAME_SHELL]
        return max(own, default=math.inf)


def quasi_random(cell: DisorderedCell, n_shells: int = 6, seed: int = 0) -> QuasiRandom:
    """The arrangement of least pair correlations that simulated annealing finds.

    Raises:
        OrderingError: the sites are not shared by two elements.
    """
    pairs = PairCorrelations(cell, n_shells)
    random = np.random.default_rng(seed)
    best: tuple[float, Arrangement] | None = None
    for _ in range(_ANNEALINGS):
        now = cell.shuffled(random)
        height = pairs.objective(now)
        for temperature in np.geomspace(_HOT, _COLD, _SWAPS):
            if best is None or height < best[0] - 1e-9:
                best = height, now
            after = cell.swapped(now, random)
            change = pairs.objective(after) - height
            if change <= 0 or random.random() < math.exp(-change / temperature):
                now, height = after, height + change
        if best is not None and best[0] < 1e-9:
            break
    assert best is not None
    return QuasiRandom(
        best[1], pairs.of(best[1]).tolist(), pairs.shells[0].tolist(), shortest_vector(cell.cell.lattice.matrix)
    )

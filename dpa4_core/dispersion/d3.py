"""Dispersion between all pairs of atoms: D3 with the damping of Becke and Johnson, D3(BJ).

    E = −Σ_pairs C6 [s6 / (r⁶ + R⁶) + s8 · 3 Q_i Q_j / (r⁸ + R⁸)],   R = a1 √(3 Q_i Q_j) + a2

(S. Grimme, S. Ehrlich, L. Goerigk, J. Comput. Chem. 32, 1456 (2011)). C6 depends on how many neighbours both atoms
have: it is the mean over pairs of reference molecules, each weighed by exp(−4 (N − N_ref)²) for both atoms, where

    N_i = Σ_j 1 / (1 + exp(−16 (R_ij / r − 1))),   R_ij = 4/3 of the sum of covalent radii

(S. Grimme, J. Antony, S. Ehrlich, H. Krieg, J. Chem. Phys. 132, 154104 (2010)). There is no three-body term: "D3(BJ)"
in VASP and in most tables has none. Derivatives are written out, since the sum over images needs no more for them than
two further products.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dpa4_core.data.graph import Graph
from dpa4_core.data.neighbours import MIN_EDGE_LENGTH
from dpa4_core.digests import digest
from dpa4_core.dispersion.images import Pairs, image_pairs
from dpa4_core.dispersion.reference import MAX_ELEMENT, reference
from dpa4_core.errors import DPA4Error
from dpa4_core.potential import Output, within_span
from dpa4_core.units import BOHR_ANGSTROM

_STEEPNESS = 16.0  # of the count of a neighbour
_SHARPNESS = 4.0  # of the weight of a reference molecule


@dataclass(frozen=True)
class Damping:
    """What D3(BJ) was fitted to for one functional: s8 and a1 are numbers, a2 is in bohr, s6 is 1.

    Attributes:
        functional: as levels of theory name it.
    """

    functional: str
    a1: float
    s8: float
    a2: float


DAMPINGS = {
    "d3bj-pbe": Damping("PBE", a1=0.4289, s8=0.7875, a2=4.4407),  # Grimme, Ehrlich, Goerigk 2011
    "d3bj-pbesol": Damping("PBEsol", a1=0.4466, s8=2.9491, a2=6.1742),  # Goerigk, Grimme, PCCP 13, 6670 (2011)
    "d3bj-r2scan": Damping("r2SCAN", a1=0.49484001, s8=0.78981345, a2=5.73083694),  # Ehlert et al., JCP 154, 061101
}


@dataclass(frozen=True)
class Range:
    """How far the sums reach; all in Å.

    Between ``cutoff − taper`` and ``cutoff`` pairs fade out with two continuous derivatives, so that energies are
    smooth when cells change. A crystal gets what is beyond from its mean density (``tail``); what has an open axis
    does not.

    Attributes:
        cutoff: of the energy of pairs.
        taper: 0 for a sharp cutoff.
        count_cutoff: of the numbers of neighbours. Every atom counts 1e-7 at least, wherever it is, so that the end is
            a part of the definition, 40 bohr (21.17 Å): here half of the taper is on either side of it.
        count_taper: as above.
        tail: whether a crystal gets the rest of the sum.
    """

    cutoff: float = 20.0
    taper: float = 6.0
    count_cutoff: float = 23.2
    count_taper: float = 4.0
    tail: bool = True


def damping_of(name: str) -> Damping:
    """The damping of that name.

    Raises:
        DPA4Error: there is none.
    """
    if name not in DAMPINGS:
        raise DPA4Error(f"unknown dispersion {name!r}; choose from {', '.join(DAMPINGS)}")
    return DAMPINGS[name]


def identity_of(name: str) -> str:
    """Checksum of what the numbers of a dispersion depend on, besides the tables.

    Raises:
        DPA4Error: there is no such dispersion.
    """
    return digest(name, asdict(damping_of(name)), asdict(Range()))


class _PairConstants(NamedTuple):
    """Of each pair, [s, p]: C6, its derivatives by the numbers of neighbours of both atoms, s8 · 3 Q Q, R⁶ and R⁸."""

    c6: Tensor
    by_first: Tensor
    by_second: Tensor
    eighth: Tensor
    damp6: Tensor
    damp8: Tensor


class D3:
    """D3(BJ) as a term of a potential, for batches on any device, in float64.

    Args:
        name: a key of `DAMPINGS`, such as ``"d3bj-pbe"``.
        device: where to compute.
        reach: how far the sums reach.

    Raises:
        DPA4Error: an unknown name.
    """

    def __init__(self, name: str, device: torch.device | str = "cpu", reach: Range | None = None) -> None:
        self.name, self.damping, self.reach = name, damping_of(name), reach or Range()
        self.device = torch.device(device)
        self.elements = frozenset(range(1, MAX_ELEMENT + 1))
        tables = reference()
        self._coordination, self._c6, self._moment, self._radius = (
            torch.from_numpy(table).to(self.device) for table in tables
        )
        self._tail6, self._tail8 = _tails(self.reach)

    def __repr__(self) -> str:
        return f"D3({self.name!r}, device={str(self.device)!r})"

    def compute(self, graph: Graph) -> Output:
        """Energies, forces, virial and stress of every system in ``graph``, whose edges are not used."""
        graph = graph.to(self.device)
        elements, kind = torch.unique(graph.atomic_numbers, return_inverse=True)
        result = _Sums(graph)
        counts = self._counts(graph)
        weights, slopes = self._reference_weights(graph.atomic_numbers, counts)
        # of an atom in each of its molecules and an element in each of its own: Σ_a W_a C6_ab
        c6 = self._c6[graph.atomic_numbers[:, None], elements]  # [n_atoms, n_elements, 7, 7]
        mixed, mixed_slopes = (torch.einsum("na,nzab->nzb", w, c6) for w in (weights, slopes))
        by_count = torch.zeros_like(counts)
        volume = torch.where(graph.pbc.all(1), graph.volume(), torch.inf)
        for pairs in image_pairs(graph, self.reach.cutoff, tail=self.reach.tail):
            first, second = pairs.first, pairs.second
            left, right = mixed[first, kind[second]], weights[second]
            moments = 3 * self._moment[graph.atomic_numbers[first]] * self._moment[graph.atomic_numbers[second]]
            radius = self.damping.a1 * moments.sqrt() + self.damping.a2 * BOHR_ANGSTROM
            constants = _PairConstants(
                c6=(left * right).sum(2),
                by_first=(mixed_slopes[first, kind[second]] * right).sum(2),
                by_second=(left * slopes[second]).sum(2),
                eighth=self.damping.s8 * moments,
                damp6=radius**6,
                damp8=radius**8,
            )
            self._add_pairs(pairs, constants, volume[pairs.systems], result, by_count)
        for pairs in image_pairs(graph, self.reach.count_cutoff):
            _, slope = self._count(graph, pairs)
            strength = 2 * pairs.weight * (by_count[pairs.first] + by_count[pairs.second])
            result.add_slopes(pairs, slope * strength[:, :, None])
        return result.output()

    def _add_pairs(
        self, pairs: Pairs, constants: _PairConstants, volume: Tensor, result: _Sums, by_count: Tensor
    ) -> None:
        """Energies and slopes of pairs at fixed C6, and what the energy gains by a neighbour more of each atom."""
        c6, by_first, by_second, eighth, damp6, damp8 = constants
        squares = pairs.squares()
        share, fade = _fading(squares, self.reach.cutoff, self.reach.taper)
        fourth = squares * squares
        sixth = fourth * squares
        sixth_part = 1 / (sixth + damp6[:, :, None])
        eighth_part = eighth[:, :, None] / (fourth.square_().add_(damp8[:, :, None]))
        value = sixth_part + eighth_part
        # by r²: −3 r⁴ / (r⁶ + R⁶)² − 4 r⁶ s8 3QQ / (r⁸ + R⁸)²
        slope = squares.square().mul_(sixth_part.square_()).mul_(-3)
        slope -= eighth_part.square_().mul_(sixth).mul_(4 / eighth[:, :, None])
        slope *= share
        if fade is not None:
            slope += fade * value
        total = (value * share).sum(2)
        result.add_slopes(pairs, slope * (-2 * pairs.weight * c6)[:, :, None])
        if self.reach.tail:
            beyond = (self._tail6 + eighth * self._tail8) / volume[:, None]
            total = total + beyond
            result.add_pressure(pairs.systems, (pairs.weight * c6 * beyond).sum(1))
        energy = -pairs.weight * c6 * total
        result.add_energies(pairs, energy)
        for atoms, derivative in ((pairs.first, by_first), (pairs.second, by_second)):
            by_count.index_add_(0, atoms.reshape(-1), (-pairs.weight * total * derivative).reshape(-1))

    def _counts(self, graph: Graph) -> Tensor:
        """Numbers of neighbours [n_atoms]."""
        counts = graph.positions.new_zeros(graph.n_atoms)
        for pairs in image_pairs(graph, self.reach.count_cutoff):
            count = pairs.weight * self._count(graph, pairs)[0].sum(2)
            for atoms in (pairs.first, pairs.second):
                counts.index_add_(0, atoms.reshape(-1), count.reshape(-1))
        return counts

    def _count(self, graph: Graph, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """How far each image counts as a neighbour, and its derivative by r², [s, p, t]."""
        squares = pairs.squares()
        share, fade = _fading(squares, self.reach.count_cutoff, self.reach.count_taper)
        distance = squares.clamp(min=MIN_EDGE_LENGTH**2).sqrt_()
        radii = self._radius[graph.atomic_numbers]
        radius = radii[pairs.first] + radii[pairs.second]
        count = torch.sigmoid(_STEEPNESS * (radius[:, :, None] / distance - 1))
        slope = count * (1 - count) * (-0.5 * _STEEPNESS * radius[:, :, None]) / distance**3
        slope *= share
        if fade is not None:
            slope += fade * count
        return count * share, slope

    def _reference_weights(self, numbers: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of the reference molecules of each atom and their derivatives by its count, [n_atoms, 7]."""
        known = self._coordination[numbers]
        off = counts[:, None] - known
        # never 0/0, however far the count is from all molecules: the nearest has all the weight
        weights = torch.softmax(torch.where(known >= 0, -_SHARPNESS * off.square(), -torch.inf), dim=1)
        pull = torch.where(known >= 0, -2 * _SHARPNESS * off, 0.0)
        return weights, weights * (pull - (weights * pull).sum(1, keepdim=True))


class _Sums:
    """What is summed up over pairs."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._atom_energies = graph.positions.new_zeros(graph.n_atoms)
        self._forces = torch.zeros_like(graph.positions)
        self._virial = torch.zeros_like(graph.cell)

    def add_energies(self, pairs: Pairs, energy: Tensor) -> None:
        """Half of the energy of each pair, [s, p], to each of its atoms."""
        for atoms in (pairs.first, pairs.second):
            self._atom_energies.index_add_(0, atoms.reshape(-1), (0.5 * energy).reshape(-1))

    def add_slopes(self, pairs: Pairs, slope: Tensor) -> None:
        """Forces and virial of energies whose derivatives by the vectors v of the images are ``slope`` · v."""
        along, square = pairs.moments(slope)
        self._forces.index_add_(0, pairs.first.reshape(-1), along.reshape(-1, 3))
        self._forces.index_add_(0, pairs.second.reshape(-1), -along.reshape(-1, 3))
        self._virial.index_add_(0, pairs.systems, -square)

    def add_pressure(self, systems: Tensor, energy: Tensor) -> None:
        """Virial of an energy −``energy`` [s] that goes with 1/V."""
        eye = torch.eye(3, dtype=energy.dtype, device=energy.device)
        self._virial.index_add_(0, systems, -energy[:, None, None] * eye)

    def output(self) -> Output:
        graph, virial = self._graph, self._virial
        energy = self._atom_energies.new_zeros(graph.n_systems).index_add(0, graph.system_idx, self._atom_energies)
        stress = within_span(-virial / graph.volume()[:, None, None], graph)
        return Output(energy, self._atom_energies, self._forces, virial, stress)


def _fading(squares: Tensor, cutoff: float, taper: float) -> tuple[Tensor, Tensor | None]:
    """The share of a pair at r² that counts, and its derivative by r² unless it is 0 everywhere.

    It is 1 up to ``cutoff − taper``; 0 beyond ``cutoff``, and where an atom is on top of another one or itself.
    """
    end, start = cutoff**2, (cutoff - taper) ** 2
    apart = squares > MIN_EDGE_LENGTH**2
    if not taper:
        return ((squares <= end) & apart).to(squares), None
    x = squares.sub(start).div_(end - start).clamp_(0, 1)
    rest = 1 - x
    share = x.mul(6).sub_(15).mul_(x).add_(10).mul_(x).mul_(x).mul_(x).neg_().add_(1).mul_(apart)
    return share, x.mul_(rest).square_().mul_(-30 / (end - start))


def _tails(reach: Range) -> tuple[float, float]:
    """∫ 4π r² (1 − share) rⁿ dr of n = −6 and −8, in Å⁻³ and Å⁻⁵: what a uniform density has beyond the taper."""
    start, end = reach.cutoff - reach.taper, reach.cutoff
    nodes, weights = np.polynomial.legendre.leggauss(40)
    r = 0.5 * (start + end) + 0.5 * (end - start) * nodes
    share, _ = _fading(torch.from_numpy(r * r), end, reach.taper)
    lost = 0.5 * (end - start) * weights * (1 - share.numpy())
    six, eight = (4 * np.pi * ((lost * r ** (2 - n)).sum() + end ** (3 - n) / (n - 3)) for n in (6, 8))
    return float(six), float(eight)

"""Voltage profiles: the lower hull of the energy over the content of the working ion, and what its corners say.

    content c   share of the ions that are in the host, 1 full, 0 empty
    E(c)        energy of a formula unit of the full compound that holds c n ions, of charge z each
    voltage     V = −[E(c₂) − E(c₁) − (c₂ − c₁) n E(A)] / ((c₂ − c₁) n z) between neighbouring corners c₁ < c₂

(M. K. Aydinol et al., Phys. Rev. B 56, 1354 (1997)). Between two corners both phases coexist, so that the voltage is a
plateau there. The plateaus over all corners average, by their capacities, to the voltage of full removal whatever lies
between: the energies of the corners cancel.

Where nothing was tried between two corners, what is known is the mean voltage over a part of the curve, and more
compositions would make smaller steps of it. Such a step is drawn as a slope that keeps its mean and meets none of its
neighbours, minmod((V − V₋)/(q − q₋), (V₊ − V)/(q₊ − q)) with q the middle of each step on the axis of capacity (B. van
Leer, J. Comput. Phys. 32, 101 (1979)); a window takes what of it is inside. Steps at the ends, and those between which
an ordering was tried and lies above the hull, stay flat: there two phases coexist, or nobody can tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from dpa4_flows.analysis.defects import SAME_HOLE, interstitial_sites
from dpa4_flows.analysis.electrode import REDOX_LIMITS, ElectrodeError
from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.analysis.orderings import DisorderedCell
from dpa4_flows.analysis.oxidation import guess_oxidation_states

_STRAIGHT = 1e-9  # eV per formula unit, by which a corner is below the line of its neighbours
_SAME_SITES = 0.1  # Å
_ROOM = 0.85  # of a distance that the ion has: sites with four and with six neighbours differ by 0.9
_SAME_CONTENT = 1e-6
_SAME_VOLTAGE = 1e-9  # V, by which a limit of the window may be missed
_LITTLE = 1e-6  # mAh/g, of which a window takes no notice


@dataclass(frozen=True)
class State:
    """One ordering of ions and vacancies at rest.

    Attributes:
        content: share of the ions that are there, 0 to 1.
        energy: eV per formula unit of the full compound.
        volume: Å³ per formula unit.
    """

    content: float
    energy: float
    volume: float


@dataclass(frozen=True)
class Couple:
    """What moves, and by how much.

    Attributes:
        n_ions: of a formula unit of the full compound.
        charge: of the ion.
        energy_metal: eV per ion in its metal.
        capacity: of all ions, mAh/g.
    """

    n_ions: float
    charge: int
    energy_metal: float
    capacity: float


@dataclass(frozen=True)
class Plateau:
    """What happens between two corners of the hull while the electrode is charged.

    Attributes:
        content_from, content_to: of the ion, the larger first.
        voltage: V against the metal, mean.
        capacity_from, capacity_to: mAh/g that have left before and behind.
        slope: of the voltage, V per mAh/g; 0 where two phases coexist.
    """

    content_from: float
    content_to: float
    voltage: float
    capacity_from: float
    capacity_to: float
    slope: float = 0.0

    @property
    def capacity(self) -> float:
        return self.capacity_to - self.capacity_from

    @property
    def ends(self) -> tuple[float, float]:
        """Voltages before and behind, V."""
        half = self.slope * self.capacity / 2
        return self.voltage - half, self.voltage + half

    def part(self, begin: float, end: float) -> Plateau:
        """What lies between two capacities inside it, mAh/g."""
        by_charge = (self.content_to - self.content_from) / self.capacity
        contents = [self.content_from + by_charge * (q - self.capacity_from) for q in (begin, end)]
        voltage = self.voltage + self.slope * (begin + end - self.capacity_from - self.capacity_to) / 2
        return Plateau(contents[0], contents[1], voltage, begin, end, self.slope)


@dataclass(frozen=True)
class Profile:
    """Voltage over capacity.

    Attributes:
        corners: numbers of the states on the hull, from full to empty.
        plateaus: between them, the voltage rises.
        mixing: of each state, energy above the line between full and empty, eV per formula unit; below it ions order.
        above_hull: of each state, eV per formula unit.
    """

    corners: tuple[int, ...]
    plateaus: tuple[Plateau, ...]
    mixing: tuple[float, ...]
    above_hull: tuple[float, ...]

    def within(self, low: float, high: float, most: float = math.inf) -> tuple[Plateau, ...]:
        """What of the plateaus is in a window of voltages, the limits included, before so much has left.

        Args:
            low, high: V.
            most: mAh/g.
        """
        found = []
        for one in self.plateaus:
            begin, end = one.capacity_from, min(one.capacity_to, most)
            first, last = one.ends
            if one.slope > 0:
                begin = max(begin, begin + (low - first) / one.slope)
                end = min(end, one.capacity_to + (high - last) / one.slope)
            elif not low - _SAME_VOLTAGE <= one.voltage <= high + _SAME_VOLTAGE:
                continue
            if end - begin > _LITTLE:
                found.append(one.part(begin, end))
        return tuple(found)


def profile(states: Sequence[State], couple: Couple) -> Profile:
    """The profile of these states.

    Raises:
        ElectrodeError: the full or the empty host is missing, or an energy is no number.
    """
    content = np.array([state.content for state in states])
    energy = np.array([state.energy for state in states])
    if not np.isfinite(energy).all():
        raise ElectrodeError("an energy of the profile is not a finite number")
    ends = [np.flatnonzero(np.abs(content - end) < _SAME_CONTENT) for end in (0.0, 1.0)]
    if not all(len(found) for found in ends):
        raise ElectrodeError("a profile needs the full and the empty host")
    empty, full = (float(energy[found].min()) for found in ends)
    mixing = energy - (1 - content) * empty - content * full
    corners = _lower_hull(content, mixing)
    above = mixing - np.interp(content, content[corners], mixing[corners])
    line = (full - empty) / couple.n_ions - couple.energy_metal  # eV per ion, of the line between full and empty
    plateaus = []
    for low, high in zip(corners[-2::-1], corners[:0:-1], strict=True):
        slope = (mixing[high] - mixing[low]) / ((content[high] - content[low]) * couple.n_ions)
        gone = [couple.capacity * (1 - float(content[i])) for i in (high, low)]
        voltage = -float(line + slope) / couple.charge
        plateaus.append(Plateau(float(content[high]), float(content[low]), voltage, gone[0], gone[1]))
    steps = _sloped(plateaus, content)
    return Profile(tuple(corners[::-1]), tuple(steps), tuple(mixing.tolist()), tuple(above.tolist()))


def _sloped(plateaus: Sequence[Plateau], content: NDArray[np.float64]) -> list[Plateau]:
    """The plateaus with slopes where nothing was tried between their ends."""
    middles = [(one.capacity_from + one.capacity_to) / 2 for one in plateaus]
    rises = [
        (after.voltage - before.voltage) / (right - left)
        for before, after, left, right in zip(plateaus, plateaus[1:], middles, middles[1:], strict=False)
    ]
    found = list(plateaus)
    for i, one in enumerate(plateaus[1:-1], start=1):
        between = (content < one.content_from - _SAME_CONTENT) & (content > one.content_to + _SAME_CONTENT)
        if not between.any():
            found[i] = replace(one, slope=min(rises[i - 1], rises[i]))
    return found


def mean_voltage(plateaus: Iterable[Plateau]) -> float | None:
    """Mean over the capacity, V; None without any."""
    found = list(plateaus)
    capacity = math.fsum(one.capacity for one in found)
    return math.fsum(one.voltage * one.capacity for one in found) / capacity if capacity else None


def _lower_hull(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[int]:
    """Numbers of the corners from small to large x; points on a line between others are none (A. M. Andrew, Inf.
    Process. Lett. 9, 216 (1979)).
    """
    hull: list[int] = []
    for i in np.lexsort((y, np.round(x / _SAME_CONTENT))).tolist():
        if hull and abs(x[i] - x[hull[-1]]) < _SAME_CONTENT:
            continue  # a lower one stands there
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            below = y[a] + (y[i] - y[a]) * (x[b] - x[a]) / (x[i] - x[a]) - y[b]
            if below > _STRAIGHT:
                break
            hull.pop()
        hull.append(i)
    return hull


def ideal_cell(structure: Structure) -> Structure:
    """The primitive cell with atoms where its symmetry has them: a relaxation that begins with a push leaves them
    beside, and orderings that are equal would seem not to be.
    """
    return SpacegroupAnalyzer(structure, symprec=_SAME_SITES).find_primitive() or structure


def with_empty_sites(full: Structure, ion: str) -> Structure:
    """A cell with the ion also where the host has room for it: in holes of the host that are as far from each of its
    elements as the sites of the ion are, nearly. They may lie so close that both are never filled.
    """
    ions = [i for i, site in enumerate(full) if site.specie.symbol == ion]
    host = full.copy()
    host.remove_sites(ions)
    hosts = {symbol: [i for i, s in enumerate(full) if s.specie.symbol == symbol] for symbol in host.symbol_set}
    apart = full.distance_matrix
    near = {symbol: apart[np.ix_(ions, atoms)].min() for symbol, atoms in hosts.items()}
    places, lattice = full.frac_coords[ions], full.lattice
    for hole in interstitial_sites(host):
        far = {s: lattice.get_all_distances(full.frac_coords[atoms], [hole.place]).min() for s, atoms in hosts.items()}
        if all(far[symbol] >= _ROOM * near[symbol] for symbol in hosts):
            images = hole.images[lattice.get_all_distances(hole.images, places).min(axis=1) > SAME_HOLE]
            places = np.concatenate([places, images])
    wide = host.copy()
    for place in places:
        wide.append(ion, place)
    return wide


def off_sites(cell: DisorderedCell, full: Structure, ion: str) -> NDArray[np.bool_]:
    """[n_sites]: which shared sites of a cell are none of those that the ion has in ``full``, a cell of the same place
    and orientation.
    """
    own = full.frac_coords[[i for i, site in enumerate(full) if site.specie.symbol == ion]]
    places = full.lattice.get_fractional_coords(cell.cell.cart_coords[cell.shared])
    off: NDArray[np.bool_] = full.lattice.get_all_distances(places, own).min(axis=1) > SAME_HOLE / 2
    return off


def whole_states(composition: Composition, ion: str) -> tuple[float, ...]:
    """Contents between full and empty, from full to empty, at which the mean oxidation state of the redox metals is a
    whole number; () where the states are not known.
    """
    amounts = composition.get_el_amt_dict()
    metals = [symbol for symbol in amounts if symbol in REDOX_LIMITS and symbol != ion]
    states = guess_oxidation_states(composition) or guess_oxidation_states(composition, rare_states=True)
    if not metals or not states or not amounts.get(ion):
        return ()
    n_metals = sum(amounts[symbol] for symbol in metals)
    charge = sum(amounts[symbol] * states[symbol] for symbol in metals)
    electrons = amounts[ion] * ion_charge(ion)
    first, last = math.floor(charge / n_metals + 1e-6) + 1, math.ceil((charge + electrons) / n_metals - 1e-6)
    return tuple(1 - (state * n_metals - charge) / electrons for state in range(first, last))


def contents_tried(n_sites: int, n_steps: int, whole: Iterable[float]) -> tuple[float, ...]:
    """Contents between empty and full that a cell with so many sites of the ion can hold, from full to empty.

    Args:
        n_sites: of the cell.
        n_steps: parts into which the way from empty to full is cut.
        whole: contents that are always among them, as near as the cell has them.
    """
    wanted = [*(step / n_steps for step in range(1, n_steps)), *whole]
    counts = {math.floor(share * n_sites + 0.5) for share in wanted}
    return tuple(count / n_sites for count in sorted(counts, reverse=True) if 0 < count < n_sites)


def cells_of(n_sites: int, n_units: float, formula_units: int, whole: Iterable[float]) -> int:
    """Primitive cells of the supercell: as many as fit, of those that hold the contents ``whole`` exactly if any do.

    Args:
        n_sites: of the ion in the primitive cell.
        n_units: formula units of the primitive cell.
        formula_units: of the supercell at most; a primitive cell that has more is taken as it is.
        whole: contents.
    """
    sizes = range(1, max(1, int(formula_units / n_units + 1e-6)) + 1)
    off = {
        size: max((abs(c * n_sites * size - round(c * n_sites * size)) for c in whole), default=0.0) for size in sizes
    }
    return max(sizes, key=lambda size: (off[size] < 1e-3, size))

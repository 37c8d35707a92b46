"""One structure in plain arrays, and whether it can be computed at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import atomic_masses, chemical_symbols, covalent_radii
from numpy.typing import NDArray

from dpa4_core.data.pairs import near_pairs
from dpa4_core.errors import DPA4Error

MIN_DISTANCE_RATIO = 0.4
"""Closest allowed pair in units of the sum of covalent radii; 1.2 in H2, about 0.6 in caesium at 100 GPa."""

MAX_DISTANCE_RATIO = 1.5
"""Of what may be asked for as the closest pair; no bond is as long."""

MIN_VOLUME_PER_ATOM = 0.3
"""Å³; metallic hydrogen at 500 GPa has about 1."""

MIN_CELL_HEIGHT = 0.01
"""Å between opposite faces of a cell; the cost of a neighbour search grows with its inverse."""

MAX_LENGTH = 1e4
"""Å; longer cells and clusters are mistakes of units, and the cell list of vesin overflows near 1e6 Å."""


_OVERLAP_SEARCH = 1.5
"""Å; the grid of vesin is as fine as its cutoff: at 0.3 Å, 216 atoms take 15 ms instead of 0.3."""


class StructureError(DPA4Error):
    """A structure, or a file of structures, that cannot be computed; one sentence."""


@dataclass(frozen=True, eq=False)
class System:
    """One structure in plain arrays.

    Attributes:
        numbers: [n] int64 atomic numbers.
        positions: [n, 3] float64, Å, not wrapped into the cell.
        cell: [3, 3] float64, Å, rows are lattice vectors; zeros without periodicity. A vector along an axis without
            periodicity has no meaning for the energy; zero if it is missing (slabs and chains).
        pbc: [3] bool, which lattice vectors repeat the structure.
        fixed: [n, 3] bool, Cartesian coordinates that must not move.
        charge_spin: total charge (e) and spin multiplicity, or None where the structure says nothing.
        masses: [n] float64, u; None where all have the standard masses of ``ase.data``.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    fixed: NDArray[np.bool_]
    charge_spin: tuple[int, int] | None = None
    masses: NDArray[np.float64] | None = None

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @property
    def periodic(self) -> bool:
        """Whether any axis repeats the structure; a crystal is periodic along all three."""
        return bool(self.pbc.any())

    @property
    def volume(self) -> float:
        """Å³; NaN without periodicity.

        A missing vector counts as 1 Å perpendicular to the others: a volume is then the area of a slab times 1 Å, or
        the length of a chain times 1 Å².
        """
        return abs(float(np.linalg.det(complete_cell(self.cell)))) if self.periodic else float("nan")


def complete_cell(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cell [3, 3] with unit vectors, perpendicular to the others and to each other, in place of zero vectors."""
    missing = ~cell.any(axis=1)
    if not missing.any():
        return cell
    complete = cell.copy()
    complete[missing] = np.linalg.svd(cell)[2][3 - np.count_nonzero(missing) :]
    return complete


def standard_masses(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Masses [n] in u of the natural mixtures of isotopes (``ase.data``)."""
    return np.array(atomic_masses[numbers], dtype=np.float64)


def unusual_masses(numbers: NDArray[np.int64], masses: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """``masses`` [n] in u as a `System` has them: None where all are the standard ones.

    NaN stands for the standard mass of an atom. A difference of 1e-7 is rounding of a file.
    """
    standard = standard_masses(numbers)
    masses = np.where(np.isnan(masses), standard, masses)
    return None if np.allclose(masses, standard, rtol=1e-7, atol=0) else masses


def formula(system: System) -> str:
    """Symbols in order of atomic number with counts, ``Li2 O1`` as ``Li2O``; for messages."""
    numbers, counts = np.unique(system.numbers, return_counts=True)
    return "".join(f"{symbol(z)}{n if n > 1 else ''}" for z, n in zip(numbers, counts, strict=True))


def check_distance_ratio(min_distance_ratio: float) -> None:
    """Refuse a ``min_distance_ratio`` that makes no sense for `check_system`."""
    if not 0 <= min_distance_ratio < MAX_DISTANCE_RATIO:
        raise DPA4Error(
            f"min_distance_ratio must be a number from 0 to below {MAX_DISTANCE_RATIO:g}, not {min_distance_ratio}"
        )


def check_system(
    system: System, elements: Iterable[int], *, min_distance_ratio: float = MIN_DISTANCE_RATIO
) -> str | None:
    """Why a potential that knows ``elements`` cannot compute ``system``, in one sentence; None if it can.

    Args:
        system: the structure.
        elements: atomic numbers that the potential knows.
        min_distance_ratio: atoms closer than this fraction of the sum of their covalent radii overlap; 0
            switches the test off (potentials with a short-range repulsion).
    """
    if problem := array_problem(system):
        return problem
    if problem := unknown_elements(np.unique(system.numbers).tolist(), elements) or extent_problem(system):
        return problem
    return _overlap_problem(system, min_distance_ratio)


def unknown_elements(numbers: Iterable[int], elements: Iterable[int]) -> str | None:
    """Which of the atomic numbers ``numbers`` a potential that knows ``elements`` does not; None if it knows all."""
    known = frozenset(elements)
    unknown = sorted({*numbers} - known)
    if not unknown:
        return None
    are = "element {} is" if len(unknown) == 1 else "elements {} are"
    symbols = ", ".join(map(symbol, unknown))
    return f"{are.format(symbols)} not in this potential ({len(known)} elements); choose one that covers it"


def array_problem(system: System) -> str | None:
    """What is wrong with the numbers themselves, whatever the potential; None if nothing."""
    if system.n_atoms == 0:
        return "the structure has no atoms"
    if not np.isfinite(system.positions).all():
        i = int(np.flatnonzero(~np.isfinite(system.positions).all(axis=1))[0])
        return f"the position of atom {i} ({symbol(system.numbers[i])}) is NaN or infinite"
    if not np.isfinite(system.cell).all():
        return "the cell contains NaN or infinity"
    unknown = (system.numbers < 1) | (system.numbers >= len(chemical_symbols))
    if unknown.any():
        i = int(np.flatnonzero(unknown)[0])
        return f"atom {i} has atomic number {system.numbers[i]}, which is not an element; replace or remove it"
    if system.masses is not None and not ((system.masses > 0) & np.isfinite(system.masses)).all():
        i = int(np.flatnonzero(~((system.masses > 0) & np.isfinite(system.masses)))[0])
        return f"the mass of atom {i} ({symbol(system.numbers[i])}) is {system.masses[i]:g} u; it must be positive"
    return None


def partial_occupancy(species: Iterable[tuple[Any, float]]) -> str:
    """What to say of a site that holds these shares of species."""
    shares = ", ".join(f"{name} {share:g}" for name, share in species)
    return f"a site is partially occupied ({shares}); `dpa4 order FILE` makes ordered cells, which can be computed"


def symbol(number: int) -> str:
    """Chemical symbol, or ``Z=number`` where there is none."""
    return chemical_symbols[number] if 0 < number < len(chemical_symbols) else f"Z={number}"


def extent_problem(system: System) -> str | None:
    """What is wrong with its cell, or where it has none with how far its atoms reach; None if nothing."""
    if not system.periodic:
        extent = float(np.ptp(system.positions, axis=0).max())
        if extent > MAX_LENGTH:
            return f"the atoms extend over {extent:.3g} Å (limit {MAX_LENGTH:g}); check that positions are in Å"
        return None
    longest = float(np.linalg.norm(system.cell, axis=1).max())
    farthest = float(np.abs(system.positions).max())
    if not system.pbc.all():
        farthest = max(farthest, float(np.ptp(system.positions, axis=0).max()))
    if max(longest, farthest) > MAX_LENGTH:
        what = "a lattice vector is" if longest > MAX_LENGTH else "a position is"
        return f"{what} {max(longest, farthest):.3g} Å long (limit {MAX_LENGTH:g}); check that the file is in Å"
    if system.pbc.all():
        volume, singular = _heights_problem(system.cell, system.pbc)
        if singular or volume < MIN_VOLUME_PER_ATOM * system.n_atoms:
            return (
                f"the cell is singular or too small ({volume:.3g} Å³ for {system.n_atoms} atoms); "
                "give three independent lattice vectors in Å, or switch periodicity off along axes that have none"
            )
    else:  # what stands along open axes decides nothing
        repeats = np.where(system.pbc[:, None], system.cell, 0.0)
        missing = system.pbc & ~repeats.any(axis=1)
        if missing.any() or _heights_problem(complete_cell(repeats), system.pbc)[1]:
            return (
                f"the lattice vectors of the periodic axes ({axis_names(system.pbc)}) are missing, too short or "
                "parallel; give them in Å, or switch periodicity off along axes that have none"
            )
    return None


def axis_names(axes: NDArray[np.bool_]) -> str:
    """Of the axes that hold: "a, b"."""
    return ", ".join(name for name, holds in zip("abc", axes, strict=True) if holds)


def _heights_problem(cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> tuple[float, bool]:
    """Volume in Å³, and whether opposite faces along a periodic axis nearly touch."""
    volume = abs(float(np.linalg.det(cell)))
    areas = np.linalg.norm(np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1)
    return volume, bool((volume <= MIN_CELL_HEIGHT * areas[pbc]).any())


def _overlap_problem(system: System, min_distance_ratio: float) -> str | None:
    if min_distance_ratio == 0:
        return None
    radii = covalent_radii[system.numbers]
    cutoff = max(2 * min_distance_ratio * float(radii.max()), _OVERLAP_SEARCH)
    pairs, _, distances = near_pairs(system.positions, system.cell, system.pbc, cutoff)
    if len(distances) == 0:
        return None
    sums = radii[pairs].sum(axis=1)
    worst = int(np.argmin(distances / sums))
    if distances[worst] >= min_distance_ratio * sums[worst]:
        return None
    i, j = sorted(int(k) for k in pairs[worst])
    first = f"atom {i} ({symbol(system.numbers[i])})"
    if i == j:
        return f"{first} is {distances[worst]:.2f} Å from its own periodic image; the cell is too small"
    return (
        f"{first} and atom {j} ({symbol(system.numbers[j])}) overlap: {distances[worst]:.2f} Å apart, below "
        f"{min_distance_ratio:g} of the sum of their covalent radii ({sums[worst]:.2f} Å)"
    )

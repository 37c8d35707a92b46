"""Atomic planes of a facet: where a crystal can be cut, and which slabs have two equal faces.

All is arithmetic on heights. Seen along a plane normal, an operation of the crystal keeps the heights (z → z + t) or
turns them over (z → t − z). A slab from height z to z + h has two equal faces if and only if 2z + h is such a t; it has
the composition of the crystal if the planes within h, beyond whole periods, have it. Two terminations are the same
surface if an operation that keeps the heights maps one onto the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray
from pymatgen.core import Structure

from dpa4_flows.analysis.facets import operations
from dpa4_flows.analysis.oxidation import guess_oxidation_states

Array = NDArray[np.float64]

PLANE = 0.1
"""Å: atoms closer in height lie in one atomic plane, between which no cut passes."""
SAME_HEIGHT = 0.05
"""Å, within which two cuts are one."""
REACH = 1.0
"""Å beyond the sum of covalent radii, where a bond has a fifteenth of its strength."""


@dataclass(frozen=True)
class Planes:
    """Heights along the normal, all in Å, of one oriented unit cell.

    Attributes:
        spacing: period.
        atoms: [n], from 0 to the spacing.
        numbers: [n] of the elements.
        charges: [n] formal; zeros where none are known.
        gaps: [n_gaps] where a cut passes between planes, those that break fewest bonds first.
        kept, turned: the t of the operations z → z + t and z → t − z.
    """

    spacing: float
    atoms: Array
    numbers: NDArray[np.int64]
    charges: Array
    gaps: Array
    kept: Array
    turned: Array

    @staticmethod
    def of(unit: Structure) -> Planes:
        """Those of an oriented unit cell."""
        spacing = float(unit.lattice.matrix[2, 2])
        heights = spacing * np.mod(unit.frac_coords[:, 2], 1.0)
        ordered = np.sort(heights)
        widths = np.diff(ordered, append=ordered[0] + spacing)
        wide = widths > min(PLANE, widths.max() - 1e-3)  # planes of high indices can all be closer: then the widest
        middles = np.mod((ordered + widths / 2)[wide], spacing)
        broken = _broken_bonds(unit, heights, middles)
        rotations, translations = operations(unit)
        shifts = spacing * np.mod(translations[:, 2], 1.0)
        axis = rotations[:, 2, :]
        states = guess_oxidation_states(unit.composition)
        return Planes(
            spacing=spacing,
            atoms=heights,
            numbers=np.array(unit.atomic_numbers),
            charges=np.array([states.get(site.specie.symbol, 0.0) for site in unit]),
            gaps=middles[np.lexsort([-widths[wide], np.round(broken, 3)])],
            kept=shifts[(axis == (0, 0, 1)).all(axis=1)],
            turned=shifts[(axis == (0, 0, -1)).all(axis=1)],
        )

    def terminations(self) -> list[float]:
        """Lower ends of slabs, one for each distinct surface, in the order of the gaps."""
        found: list[float] = []
        for gap in self.gaps:
            if not any(self._same(known + self.kept, gap).any() for known in found):
                found.append(float(gap))
        return found

    def height_of_slab(self, bottom: float, min_thickness: float, *, stoichiometric: bool = True) -> float | None:
        """Of the thinnest slab from ``bottom`` with two equal faces, or None; with the composition of the crystal, if
        there is one."""
        found: dict[bool, list[float]] = {True: [], False: []}
        for turned in self.turned:
            part = self._modulo(turned - 2 * bottom)
            periods = max(0, math.ceil((min_thickness - part) / self.spacing - 1e-8))
            height = part + self.spacing * max(periods, 0 if part > 0 else 1)
            found[self._is_stoichiometric(self._above(bottom) < part)].append(height)
        return min(found[True] or ([] if stoichiometric else found[False]), default=None)

    def whole_periods(self, min_thickness: float) -> float:
        """Height of the fewest periods that are thick enough."""
        return self.spacing * max(1, math.ceil(min_thickness / self.spacing - 1e-8))

    def dipole(self, bottom: float) -> float:
        """Of one period from ``bottom`` on, e Å."""
        return float(self.charges @ self._above(bottom))

    def _above(self, bottom: float) -> Array:
        return np.mod(self.atoms - bottom, self.spacing)

    def _modulo(self, height: float) -> float:
        """Within the period; 0 for what is a whole one but for rounding."""
        rest = float(np.mod(height, self.spacing))
        return 0.0 if min(rest, self.spacing - rest) < SAME_HEIGHT else rest

    def _same(self, heights: Array, height: float) -> NDArray[np.bool_]:
        apart = np.mod(heights - height, self.spacing)
        return np.asarray(np.minimum(apart, self.spacing - apart) < SAME_HEIGHT)

    def _is_stoichiometric(self, inside: NDArray[np.bool_]) -> bool:
        share = inside.sum() / len(inside)
        return all(
            inside[self.numbers == z].sum() == share * (self.numbers == z).sum() for z in set(self.numbers.tolist())
        )


def _broken_bonds(unit: Structure, heights: Array, gaps: Array) -> Array:
    """[n_gaps] sum of the strengths of the bonds that cross each, exp((r_i + r_j − r) / 0.37 Å) with covalent radii
    (L. Pauling, J. Am. Chem. Soc. 69, 542 (1947)): good enough to tell a bond from a contact of molecules."""
    radii = covalent_radii[list(unit.atomic_numbers)]
    centres, neighbours, images, lengths = unit.get_neighbor_list(2 * radii.max() + REACH)
    strengths = np.exp((radii[centres] + radii[neighbours] - lengths) / 0.37)
    spacing = unit.lattice.matrix[2, 2]
    low = heights[centres]
    high = heights[neighbours] + spacing * images[:, 2]
    # how many images of a gap lie between both ends; pairs that point down are counted when they point up
    crossed = np.floor((high[:, None] - gaps) / spacing) - np.floor((low[:, None] - gaps) / spacing)
    return np.asarray(strengths @ crossed.clip(0))

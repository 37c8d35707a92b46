"""Surfaces of a crystal: slabs with two equal faces and the composition of the crystal, and surface energies.

    found = cuts(structure, max_index=1, min_thickness=12.0, vacuum=15.0)
    # the energy of every cut.slab, and of every cut.oriented_unit_cell as a single point; then
    facets = facet_energies(found.slabs, slab_energies, bulk_energies)

The oriented unit cell has the in-plane axes of the slab: of two energies that are computed alike, errors cancel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pymatgen.core import Lattice, Structure
from scipy.constants import e as ELEMENTARY_CHARGE

from dpa4_flows.analysis.facets import Miller, distinct_facets, facet_name, oriented_unit_cell, standard_cells
from dpa4_flows.analysis.planes import Planes

J_M2_PER_EV_A2 = ELEMENTARY_CHARGE * 1e20
DIPOLE = 0.05
"""e Å per surface cell, below which formal charges are balanced."""


@dataclass(frozen=True)
class Cut:
    """A slab of one termination of one facet.

    Attributes:
        name: of the facet, with ``_1``, ``_2`` and so on where several terminations have slabs.
        facet: the name of the facet.
        miller: three indices, of the conventional cell.
        slab: two equal faces, in the middle of a cell whose third axis is the normal of the facet.
        oriented_unit_cell: the crystal with the in-plane axes of the slab, the same for every termination of a facet.
    """

    name: str
    facet: str
    miller: Miller
    slab: Structure
    oriented_unit_cell: Structure

    @property
    def area(self) -> float:
        """Å², of one face."""
        a, b, _ = self.slab.lattice.matrix
        return float(np.linalg.norm(np.cross(a, b)))


SkipCode = Literal["polar", "nonstoichiometric", "asymmetric", "breaks_more_bonds"]


@dataclass(frozen=True)
class Skipped:
    """Terminations of one facet that have no slab, for one reason.

    Attributes:
        facet: name.
        miller: three indices.
        code: ``polar``: the planes are charged and slabs have a dipole; ``nonstoichiometric``: a slab with two such
            faces differs from the crystal in composition; ``asymmetric``: the two faces of every slab differ;
            ``breaks_more_bonds``: than the terminations that are kept.
        n_terminations: how many.
        whole_facet: whether the facet has no slab at all, so that an equilibrium shape lacks it.
        reason: one sentence.
    """

    facet: str
    miller: Miller
    code: SkipCode
    n_terminations: int
    whole_facet: bool
    reason: str


@dataclass(frozen=True)
class Cuts:
    """What a crystal can be cut into.

    Attributes:
        crystal: conventional cell that the indices refer to.
        slabs: every termination with two equal faces and the composition of the crystal.
        skipped: the others.
    """

    crystal: Structure
    slabs: tuple[Cut, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True)
class FacetEnergy:
    """The termination of a facet that costs least.

    Attributes:
        facet: name.
        miller: three indices.
        termination: name of the cut.
        surface_energy: J/m².
    """

    facet: str
    miller: Miller
    termination: str
    surface_energy: float


def cuts(
    structure: Structure,
    max_index: int = 1,
    min_thickness: float = 12.0,
    vacuum: float = 15.0,
    max_terminations: int = 4,
) -> Cuts:
    """The distinct terminations of all distinct facets. Cell, orientation and origin of ``structure`` do not matter.

    Args:
        structure: a crystal, relaxed if the energies are to mean anything.
        max_index: largest Miller index.
        min_thickness: Å, of the slab; the next larger one that has two equal faces is taken.
        vacuum: Å, between the outermost nuclei of a slab and of its image.
        max_terminations: of one facet; those that break fewest bonds are kept. It is molecular crystals that have many.

    Raises:
        ValueError: for partial occupancies, for a crystal without a space group, and for numbers that are not positive.
    """
    if not structure.is_ordered:
        raise ValueError(f"{structure.formula} has sites that are partly occupied; order it first")
    numbers = {"max_index": max_index, "min_thickness": min_thickness, "vacuum": vacuum}
    for name, value in {**numbers, "max_terminations": max_terminations}.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be positive")
    crystal, primitive = standard_cells(structure)
    slabs: list[Cut] = []
    skipped: list[Skipped] = []
    for miller in distinct_facets(crystal, max_index):
        unit = oriented_unit_cell(crystal, primitive, miller)
        facet = facet_name(crystal.lattice, miller)
        planes = Planes.of(unit)
        heights = {bottom: planes.height_of_slab(bottom, min_thickness) for bottom in planes.terminations()}
        cut = [(bottom, height) for bottom, height in heights.items() if height is not None]
        kept = cut[:max_terminations]
        for number, (bottom, height) in enumerate(kept, start=1):
            name = facet if len(kept) == 1 else f"{facet}_{number}"
            slabs.append(Cut(name, facet, miller, _slab(unit, bottom, height, vacuum), unit))
        uncut = [bottom for bottom, height in heights.items() if height is None]
        skipped += _skipped(facet, miller, _reasons(planes, uncut, len(cut) - len(kept)), whole_facet=not cut)
    return Cuts(crystal, tuple(slabs), tuple(skipped))


def surface_energy(cut: Cut, slab_energy: float, bulk_energy_per_atom: float) -> float:
    """Surface energy in J/m².

    Args:
        cut: of a crystal.
        slab_energy: eV, of the whole slab.
        bulk_energy_per_atom: eV/atom, of the oriented unit cell.
    """
    excess = slab_energy - len(cut.slab) * bulk_energy_per_atom
    return float(excess / (2 * cut.area) * J_M2_PER_EV_A2)


def facet_energies(
    slabs: Sequence[Cut], slab_energies: Mapping[str, float], bulk_energies: Mapping[str, float]
) -> tuple[FacetEnergy, ...]:
    """The lowest termination of every facet that has an energy, facets in the order of ``slabs``.

    Args:
        slabs: of one crystal.
        slab_energies: eV by name of the cut; a termination that is missing does not count.
        bulk_energies: eV/atom of the oriented unit cell by name of the facet.
    """
    lowest: dict[str, FacetEnergy] = {}
    for cut in slabs:
        if cut.name not in slab_energies or cut.facet not in bulk_energies:
            continue
        energy = surface_energy(cut, slab_energies[cut.name], bulk_energies[cut.facet])
        if cut.facet not in lowest or energy < lowest[cut.facet].surface_energy:
            lowest[cut.facet] = FacetEnergy(cut.facet, cut.miller, cut.name, energy)
    return tuple(lowest.values())


def _slab(unit: Structure, bottom: float, height: float, vacuum: float) -> Structure:
    """The planes from ``bottom`` to ``bottom + height``, in the middle of a cell with an upright third axis."""
    rows = unit.lattice.matrix
    spacing = rows[2, 2]
    periods = math.ceil(height / spacing + 1)
    first = unit.frac_coords - np.array([0, 0, 1]) * np.floor(unit.frac_coords[:, 2:] - bottom / spacing)
    coords = np.concatenate([first + np.array([0, 0, k]) for k in range(periods)]) @ rows
    inside = coords[:, 2] < bottom + height
    coords = coords[inside]
    species = [site.specie for _ in range(periods) for site in unit]
    low, high = coords[:, 2].min(), coords[:, 2].max()
    depth = high - low + vacuum
    coords[:, 2] += (depth - low - high) / 2
    cell = Lattice([rows[0], rows[1], [0, 0, depth]])
    kept = [kind for kind, stays in zip(species, inside, strict=True) if stays]
    return Structure(cell, kept, coords, coords_are_cartesian=True, to_unit_cell=True).get_sorted_structure()


def _reasons(planes: Planes, uncut: Sequence[float], n_left: int) -> Iterator[tuple[SkipCode, int, str]]:
    """Code, number of terminations and words, for lower ends without a slab and terminations that are one too many."""
    dipoles = [abs(planes.dipole(bottom)) for bottom in uncut]
    polar = [dipole for dipole in dipoles if dipole > DIPOLE]
    dipole = f"a dipole of at least {min(polar, default=0):.1f} e Å per surface cell"
    yield "polar", len(polar), f"polar: by formal charges one period has {dipole}, and such a surface reconstructs"
    rest = len(uncut) - len(polar)
    if len(planes.turned):
        words = "a slab with two equal faces has another composition than the crystal, and an energy that depends on"
        yield "nonstoichiometric", rest, f"nonstoichiometric: {words} chemical potentials"
    else:
        words = "the two faces of every slab differ, and only the sum of their energies is defined"
        yield "asymmetric", rest, f"asymmetric: {words}"
    yield "breaks_more_bonds", n_left, "left out: they break more bonds than those that are kept"


def _skipped(
    facet: str, miller: Miller, reasons: Iterable[tuple[SkipCode, int, str]], *, whole_facet: bool
) -> Iterator[Skipped]:
    for code, count, words in reasons:
        if count:
            which = f"({facet}) is" if whole_facet else f"{count} other termination(s) of ({facet}) are"
            yield Skipped(facet, miller, code, count, whole_facet, f"{which} {words}")

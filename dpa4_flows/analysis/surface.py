"""Surfaces of a crystal: slabs of its facets, and surface energies.

    found = cuts(structure, max_index=1, min_thickness=12.0, vacuum=15.0)
    # the energy of every cut.slab, and of every cut.oriented_unit_cell as a single point; then
    facets = facet_energies(found.slabs, slab_energies, bulk_energies)

The oriented unit cell has the in-plane axes of the slab: of two energies that are computed alike, errors cancel. A slab
has an energy of its own if its two faces are equal and if it has the composition of the crystal; with another
composition its energy depends on chemical potentials.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pymatgen.core import Structure

from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.analysis.facets import Miller, chosen_facets, facet_name, oriented_unit_cell, standard_cells
from dpa4_flows.analysis.planes import Planes
from dpa4_flows.analysis.slabs import cut_slab, halved_slabs, turned_over
from dpa4_flows.documents.surfaces import SkippedTerminations

J_M2_PER_EV_A2 = EV_PER_ANGSTROM3_TO_GPA / 10
DIPOLE = 0.05
"""e Å per surface cell, below which formal charges are balanced."""


@dataclass(frozen=True)
class Cut:
    """A slab of one termination of one facet.

    Attributes:
        name: of the facet, with ``_1``, ``_2`` and so on where several terminations have slabs.
        facet: the name of the facet.
        miller: three indices, of the conventional cell.
        slab: in the middle of a cell whose third axis is the normal of the facet.
        oriented_unit_cell: the crystal with the in-plane axes of the slab, the same for every termination of a facet.
        equal_faces: whether both faces of the slab are the same surface.
        reconstructed: whether half of an outermost plane has moved to the other face, which a polar facet needs.
    """

    name: str
    facet: str
    miller: Miller
    slab: Structure
    oriented_unit_cell: Structure
    equal_faces: bool = True
    reconstructed: bool = False

    @property
    def area(self) -> float:
        """Å², of one face."""
        a, b, _ = self.slab.lattice.matrix
        return float(np.linalg.norm(np.cross(a, b)))

    @property
    def excess(self) -> dict[str, float]:
        """Atoms by element that the slab has beyond the composition of the crystal; they add up to zero."""
        unit = self.oriented_unit_cell
        amounts, crystal = self.slab.composition.get_el_amt_dict(), unit.composition.get_el_amt_dict()
        beyond = {symbol: amounts.get(symbol, 0.0) - n * len(self.slab) / len(unit) for symbol, n in crystal.items()}
        return {symbol: round(n, 6) for symbol, n in beyond.items() if abs(n) > 1e-6}


SkipCode = Literal["polar", "nonstoichiometric", "asymmetric", "breaks_more_bonds"]


@dataclass(frozen=True)
class Cuts:
    """What a crystal can be cut into.

    Attributes:
        crystal: conventional cell that the indices refer to.
        slabs: every termination that has one.
        skipped: the others.
    """

    crystal: Structure
    slabs: tuple[Cut, ...]
    skipped: tuple[SkippedTerminations, ...]


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
    *,
    facets: Sequence[Miller] = (),
    nonstoichiometric: bool = False,
    asymmetric: bool = False,
) -> Cuts:
    """The distinct terminations of all distinct facets. Cell, orientation and origin of ``structure`` do not matter.

    A facet whose terminations are all polar is reconstructed, if half of the outermost plane can move to the other face
    in the smallest surface cell (`slabs.halved_slabs`): CaF₂ (100), not MgO (111).

    Args:
        structure: a crystal, relaxed if the energies are to mean anything.
        max_index: largest Miller index.
        min_thickness: Å, of the slab; the next larger one that has two equal faces is taken.
        vacuum: Å, between the outermost nuclei of a slab and of its image.
        max_terminations: of one facet; those that break fewest bonds are kept. It is molecular crystals that have many.
        facets: these instead of all up to ``max_index``, by three indices of the conventional cell.
        nonstoichiometric: also slabs with two equal faces and another composition than the crystal.
        asymmetric: also slabs of crystals in which the two faces always differ, each face once uppermost.

    Raises:
        ValueError: for partial occupancies, for a crystal without a space group, for numbers that are not positive, and
            for indices that are no facet.
    """
    if not structure.is_ordered:
        raise ValueError(f"{structure.formula} has sites that are partly occupied; order it first")
    numbers = {"max_index": max_index, "min_thickness": min_thickness, "vacuum": vacuum}
    for name, value in {**numbers, "max_terminations": max_terminations}.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be positive")
    crystal, primitive = standard_cells(structure)
    slabs: list[Cut] = []
    skipped: list[SkippedTerminations] = []
    for miller in chosen_facets(crystal, max_index, facets):
        unit = oriented_unit_cell(crystal, primitive, miller)
        facet = facet_name(crystal.lattice, miller)
        planes = Planes.of(unit)
        cut: list[tuple[Structure, bool, bool]] = []
        uncut: list[float] = []
        for bottom in planes.terminations():
            polar = abs(planes.dipole(bottom)) > DIPOLE
            height = planes.height_of_slab(bottom, min_thickness, stoichiometric=polar or not nonstoichiometric)
            if height is not None:
                cut.append((cut_slab(unit, bottom, height, vacuum), True, False))
            elif asymmetric and not polar and not len(planes.turned):
                whole = cut_slab(unit, bottom, planes.whole_periods(min_thickness), vacuum)
                cut += [(whole, False, False), (turned_over(whole), False, False)]
            else:
                uncut.append(bottom)
        if not cut:
            for bottom in [bottom for bottom in uncut if abs(planes.dipole(bottom)) > DIPOLE]:
                if halved := halved_slabs(unit, bottom, min_thickness, vacuum):
                    cut += [(slab, True, True) for slab in halved]
                    uncut.remove(bottom)
        kept = cut[:max_terminations]
        for number, (slab, equal_faces, reconstructed) in enumerate(kept, start=1):
            name = facet if len(kept) == 1 else f"{facet}_{number}"
            slabs.append(Cut(name, facet, miller, slab, unit, equal_faces, reconstructed))
        skipped += _skipped(facet, miller, _reasons(planes, uncut, len(cut) - len(kept)), whole_facet=not cut)
    return Cuts(crystal, tuple(slabs), tuple(skipped))


def surface_energy(
    cut: Cut, slab_energy: float, bulk_energy_per_atom: float, potentials: Mapping[str, float] | None = None
) -> float:
    """Surface energy in J/m², (E − Σ nᵢμᵢ) / 2A; of a slab whose faces differ the mean of both.

    Args:
        cut: of a crystal.
        slab_energy: eV, of the whole slab.
        bulk_energy_per_atom: eV/atom, of the oriented unit cell.
        potentials: chemical potentials, eV/atom by element, of a slab with another composition; see `completed`.

    Raises:
        ValueError: the composition of the slab is another one, and a chemical potential is missing.
    """
    cost = slab_energy - len(cut.slab) * bulk_energy_per_atom
    if cut.excess:
        known = completed(potentials or {}, cut.oriented_unit_cell, bulk_energy_per_atom)
        cost -= sum(n * known[symbol] for symbol, n in cut.excess.items())
    return float(cost / (2 * cut.area) * J_M2_PER_EV_A2)


def completed(potentials: Mapping[str, float], crystal: Structure, energy_per_atom: float) -> dict[str, float]:
    """Chemical potentials of all elements of a crystal, one of which may be missing: their sum is its energy.

    Args:
        potentials: eV/atom by element, from the same model as the energy.
        crystal: of which the slab is cut.
        energy_per_atom: its energy, eV/atom.

    Raises:
        ValueError: more than one is missing.
    """
    shares = crystal.composition.fractional_composition.get_el_amt_dict()
    missing = [symbol for symbol in shares if symbol not in potentials]
    if len(missing) > 1:
        raise ValueError(f"needs chemical potentials of all but one of {', '.join(shares)}")
    known = {symbol: potentials[symbol] for symbol in shares if symbol in potentials}
    for symbol in missing:
        known[symbol] = (energy_per_atom - sum(shares[s] * known[s] for s in known)) / shares[symbol]
    return known


def facet_energies(
    slabs: Sequence[Cut],
    slab_energies: Mapping[str, float],
    bulk_energies: Mapping[str, float],
    potentials: Mapping[str, float] | None = None,
) -> tuple[FacetEnergy, ...]:
    """The lowest termination of every facet that has an energy, facets in the order of ``slabs``.

    Args:
        slabs: of one crystal.
        slab_energies: eV by name of the cut; a termination that is missing does not count.
        bulk_energies: eV/atom of the oriented unit cell by name of the facet.
        potentials: as of `surface_energy`.
    """
    lowest: dict[str, FacetEnergy] = {}
    for cut in slabs:
        if cut.name not in slab_energies or cut.facet not in bulk_energies:
            continue
        energy = surface_energy(cut, slab_energies[cut.name], bulk_energies[cut.facet], potentials)
        if cut.facet not in lowest or energy < lowest[cut.facet].surface_energy:
            lowest[cut.facet] = FacetEnergy(cut.facet, cut.miller, cut.name, energy)
    return tuple(lowest.values())


def _reasons(planes: Planes, uncut: Sequence[float], n_left: int) -> Iterator[tuple[SkipCode, int, str]]:
    """Code, number of terminations and words, for lower ends without a slab and terminations that are one too many."""
    dipoles = [abs(planes.dipole(bottom)) for bottom in uncut]
    polar = [dipole for dipole in dipoles if dipole > DIPOLE]
    dipole = f"a dipole of at least {min(polar, default=0):.1f} e Å per surface cell"
    words = "and no half of the outermost plane can move to the other face in the smallest surface cell"
    yield "polar", len(polar), f"polar: by formal charges one period has {dipole}, {words}"
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
) -> Iterator[SkippedTerminations]:
    for code, count, words in reasons:
        if count:
            which = f"({facet}) is" if whole_facet else f"{count} other termination(s) of ({facet}) are"
            yield SkippedTerminations(
                facet=facet,
                miller=miller,
                code=code,
                n_terminations=count,
                whole_facet=whole_facet,
                reason=f"{which} {words}",
            )

"""What became of an adsorbate and its slab: whether it is still what the energy is meant for.

The rules are those of the Open Catalyst project (L. Chanussot et al., ACS Catal. 11, 6059 (2021); J. Lan et al., npj
Comput. Mater. 9, 172 (2023)), on graphs of neighbours by covalent radii. A bond counts as broken or made only if it
went from below ``bonded`` to beyond ``apart`` or back: relaxed surfaces hold many distances near any single threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray
from pymatgen.core import Structure

from dpa4_flows.analysis.sites import Site, Surface
from dpa4_flows.documents.reasons import Reason

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """When something is no longer what it was.

    Attributes:
        bonded: of the sum of covalent radii, below which two atoms are bonded: longest bonds of adsorbates are at 1.15
            (O–O of OOH 1.5 Å), nearest contacts that are none at 1.5 (H···H of CH₃ 1.8 Å are bonded to no other H).
        apart: of the same, beyond which a bond is broken and a molecule is desorbed, 1.5 as in the Open Catalyst
            project: CO on Ag (111), the weakest of the chemisorbed, has 1.03; a molecule held by dispersion alone 1.6.
        moved: Å, by which an atom of the slab moves in a reconstruction (Open Catalyst, AdsorbML); below NH₂ and CO
            surface atoms rise by up to 0.4 Å.
        below: Å below all exposed atoms around it, where an atom is intercalated: N and C sink into the fourfold
            hollows of W and Ni until they are level with the surface, not below.
        around: Å in the plane, how far these exposed atoms are.
        nearer: Å, by which another site must be nearer than that of the start before an adsorbate counts as migrated.
        jump: eV per metal atom between clean and covered slab. Covalent bonds give at most 6 eV to all atoms together;
            a potential that takes an oxygen atom for the sign of a +U oxide gives 1.7 to 3.4 to each.
        largest: eV, of an adsorption energy; the strongest known with these references (N, C and S on W and Mo) lie
            within 4.
    """

    bonded: float = 1.25
    apart: float = 1.5
    moved: float = 1.0
    below: float = 0.3
    around: float = 4.0
    nearer: float = 0.3
    jump: float = 0.5
    largest: float = 6.0


LIMITS = Limits()

NOT_WHAT_WAS_ASKED = ("dissociated", "desorbed", "surface_reconstructed", "intercalated")
"""Codes of sites whose energy is that of something else than the adsorbate on the surface."""
NO_ENERGY = ("energy_jump", "implausible_energy", "not_computed")
"""Codes of sites that have no adsorption energy."""


def anomalies(clean: Surface, start: Structure, end: Structure, limits: Limits = LIMITS) -> Iterator[Reason]:
    """What happened between start and end of a relaxation, with codes.

    Args:
        clean: the relaxed slab without the adsorbate.
        start, end: the same atoms in the same order and the adsorbate behind them.
    """
    n_slab = len(clean.slab)
    places, ends = start.cart_coords[n_slab:], end.cart_coords
    radii = covalent_radii[list(end.atomic_numbers)]
    ratios = end.distance_matrix / (radii[:, None] + radii)
    was = np.linalg.norm(places[:, None] - places, axis=-1) / (radii[n_slab:, None] + radii[n_slab:])
    broken, made = _changes(was, ratios[n_slab:, n_slab:], limits)
    if broken.any() or made.any():
        symbols = [site.specie.symbol for site in end[n_slab:]]
        yield Reason(code="dissociated", sentence=f"the adsorbate {_what(broken, made, symbols)}")
    if ratios[n_slab:, :n_slab].min() > limits.apart:
        yield Reason(
            code="desorbed", sentence="the adsorbate left the surface: no atom of the slab is within its reach"
        )
    if change := _surface_change(clean, end, ratios[:n_slab, :n_slab], limits):
        yield Reason(code="surface_reconstructed", sentence=f"the surface changed: {change}")
    exposed = ends[clean.exposed]
    for place in ends[n_slab:]:
        near = clean.distances(place, exposed, flat=True) < limits.around
        if near.any() and (depth := exposed[near, 2].min() - place[2]) > limits.below:
            yield Reason(code="intercalated", sentence=f"the adsorbate went {depth:.1f} Å below the surface")
            break


def surface_change(one: Surface, other: Structure, limits: Limits = LIMITS) -> str | None:
    """What changed in a slab beyond its limits, in words."""
    sums = one.radii[:, None] + one.radii
    return _surface_change(one, other, other.distance_matrix / sums, limits)


def _surface_change(one: Surface, other: Structure, ratios: Array, limits: Limits) -> str | None:
    broken, made = _changes(one.distance_ratios, ratios, limits)
    shares = other.frac_coords[: len(ratios)] - one.slab.frac_coords
    moved = np.linalg.norm((shares - np.rint(shares)) @ other.lattice.matrix, axis=1).max()
    changes = int(np.triu(broken | made, 1).sum())
    if changes:
        return f"{changes} bonds of the slab broke or formed, and an atom of it moved by {moved:.1f} Å"
    return f"an atom of the slab moved by {moved:.1f} Å" if moved > limits.moved else None


def _changes(before: Array, after: Array, limits: Limits) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which bonds [n, n] broke, and which formed."""
    return (
        (before < limits.bonded) & (after > limits.apart),
        (before > limits.apart) & (after < limits.bonded),
    )


def energy_problem(energy: float, n_metal: int, adsorbate: str, limits: Limits = LIMITS) -> Reason | None:
    """Why an adsorption energy is an error of the potential, whatever the elements are.

    Args:
        energy: adsorption energy, eV.
        n_metal: metal atoms of the slab; all atoms where it has none.
        adsorbate: its name.
        limits: of both.
    """
    if abs(energy) > limits.jump * n_metal:
        sentence = (
            f"{adsorbate} changes the energy of the slab by {energy / n_metal:+.2f} eV per metal atom, which no bond "
            "does: the potential takes the covered slab for another kind of material (a +U oxide, for one)"
        )
        return Reason(code="energy_jump", sentence=sentence)
    if abs(energy) > limits.largest:
        sentence = f"an energy of {energy:+.1f} eV for {adsorbate} is beyond all that are known"
        return Reason(code="implausible_energy", sentence=sentence)
    return None


def nearest_site(surface: Surface, sites: list[Site], place: Array) -> tuple[Site, float]:
    """The site above or below which ``place`` [3] lies, and how far aside, Å."""
    apart = surface.distances(np.asarray(place), np.array([site.place for site in sites]), flat=True)
    return sites[int(apart.argmin())], float(apart.min())


def migration(surface: Surface, sites: list[Site], start: Site, place: Array, limits: Limits = LIMITS) -> Site:
    """The site where the bound atom is at the end: that of the start, unless one of another orbit is clearly nearer."""
    end, apart = nearest_site(surface, sites, place)
    equal = [site for site in sites if site.orbit == start.orbit]
    return start if nearest_site(surface, equal, place)[1] < apart + limits.nearer else end


def _what(broken: NDArray[np.bool_], made: NDArray[np.bool_], symbols: list[str]) -> str:
    def bonds(which: NDArray[np.bool_]) -> str:
        return ", ".join(f"{symbols[i]}-{symbols[j]}" for i, j in np.argwhere(np.triu(which)).tolist())

    parts = [f"broke its bond {bonds(broken)}"] if broken.any() else []
    parts += [f"made a bond {bonds(made)}"] if made.any() else []
    return " and ".join(parts)

"""Adsorbates: shapes to begin with, and where their atoms are on a site.

An adsorbate is bound by its first atom, which is the origin of its shape; the surface lies below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from monty.json import MSONable
from numpy.typing import NDArray
from pymatgen.core import Structure
from scipy.spatial.transform import Rotation

from dpa4_core.data.deviates import random_displacements
from dpa4_core.data.readers import read_structures
from dpa4_core.data.structures import to_system
from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.sites import PROBE, Site, Surface

Array = NDArray[np.float64]
Vector = tuple[float, float, float]

CLEARANCE = 1.10
"""Of the sum of covalent radii, from the bound atom to the surface at the start: a little too far is safe, since forces
of atoms that are too close throw an adsorbate off its site."""
PUSH = 0.12
"""Å, standard deviation of the displacement of an adsorbate off exact symmetry. From there H leaves the top
of Cu (111), a saddle, before its forces are below 0.05 eV/Å; from 0.05 Å it does not."""
ROOM = 0.9
"""Of its covalent radius, which an atom that does not bind needs above the surface at the start."""
DISTORTION = 0.02
"""Å, the same of its atoms against one another, too little for its bonds."""
_FREE = "selective_dynamics"
MOST_ATOMS = 20
"""Of a molecule file that is taken for an adsorbate."""


@dataclass(frozen=True)
class Adsorbate(MSONable):
    """Atoms that are put on a site.

    Attributes:
        name: for people.
        species: element symbols; the first atom binds.
        positions: Å, from the first atom, the surface lying below.
    """

    name: str
    species: tuple[str, ...]
    positions: tuple[tuple[float, float, float], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "species", tuple(self.species))  # JSON has lists
        object.__setattr__(self, "positions", tuple((float(x), float(y), float(z)) for x, y, z in self.positions))

    @staticmethod
    def from_short(text: str) -> dict[str, Any]:
        """Fields of an adsorbate of the table, by its name, or of a molecule file, whose lowest atom binds.

        Raises:
            DPA4Error: neither.
        """
        if text in _SHAPES:
            symbols, positions = _SHAPES[text]
            return {"name": text, "species": symbols, "positions": positions}
        path = Path(text)
        if not path.is_file():
            raise DPA4Error(f"{text!r} is neither a known adsorbate ({', '.join(_SHAPES)}) nor a molecule file")
        return _of_file(path)

    @classmethod
    def named(cls, text: str) -> Adsorbate:
        """See `from_short`."""
        return cls(**cls.from_short(text))

    @property
    def amounts(self) -> dict[str, int]:
        """Atoms by element."""
        return {symbol: self.species.count(symbol) for symbol in dict.fromkeys(self.species)}

    @property
    def is_upright(self) -> bool:
        """Whether turning it about the normal changes nothing."""
        return bool(np.abs(np.array(self.positions)[:, :2]).max() < 1e-3)

    def orientations(self, number: int) -> list[float]:
        """Angles about the normal, degrees, in which it is tried."""
        return [0.0] if self.is_upright else [k * 360.0 / number for k in range(number)]


def placed(surface: Surface, site: Site, adsorbate: Adsorbate, angle: float) -> Structure:
    """The slab of ``surface`` with an adsorbate on a site, its atoms pushed off exact symmetry; they are the last ones.

    Args:
        surface: of the slab, widened and relaxed.
        site: found on the surface cell of this slab, as it was cut.
        adsorbate: what is put there.
        angle: degrees about the normal.
    """
    radius = CLEARANCE * float(covalent_radii[atomic_numbers[adsorbate.species[0]]])
    direction, place = np.array(site.direction), np.array(site.place)
    if site.kind == "unsaturated":
        place = place + direction * (radius - PROBE)
    else:
        place[2] = max(surface.rest(place[None], radius)[0][0], site.level)  # hydrogen fits between atoms
    atoms = place + np.array(adsorbate.positions) @ _turned(angle, direction).T
    sizes = ROOM * covalent_radii[[atomic_numbers[symbol] for symbol in adsorbate.species[1:]]]
    if len(sizes):  # in a trough or beside a step it stands higher, until none of its atoms is in the surface
        atoms[:, 2] += max(0.0, (surface.rest(atoms[1:], sizes)[0] - atoms[1:, 2]).max())
    slab = surface.slab
    alone = Structure(slab.lattice, adsorbate.species, atoms, coords_are_cartesian=True)
    deviates = random_displacements(to_system(alone))
    atoms = atoms + PUSH * deviates[0] + DISTORTION * deviates
    known = slab.site_properties.get(_FREE)
    return Structure(
        slab.lattice,
        [*slab.species, *alone.species],
        np.concatenate([slab.cart_coords, atoms]),
        coords_are_cartesian=True,
        site_properties=None if known is None else {_FREE: [*known, *[[True] * 3] * len(atoms)]},
    )


def _turned(angle: float, direction: Array) -> Array:
    """Rotation [3, 3] by ``angle`` about z, and then of z to ``direction``."""
    about = Rotation.from_rotvec([0, 0, angle], degrees=True)
    axis = np.array([-direction[1], direction[0], 0.0])
    length = np.linalg.norm(axis)
    tilt = Rotation.from_rotvec(axis / length * np.arccos(direction[2]) if length > 1e-8 else [0.0, 0.0, 0.0])
    return np.asarray((tilt * about).as_matrix())


def _of_file(path: Path) -> dict[str, Any]:
    structures = read_structures(path)
    if len(structures) != 1:
        raise DPA4Error(f"{path} holds {len(structures)} structures; an adsorbate is one molecule")
    system = to_system(structures[0].structure)
    if len(system.numbers) > MOST_ATOMS:
        raise DPA4Error(f"{path} has {len(system.numbers)} atoms; an adsorbate has at most {MOST_ATOMS}")
    order = np.argsort(system.positions[:, 2], kind="stable")
    shifted = system.positions[order] - system.positions[order[0]]
    symbols = tuple(chemical_symbols[z] for z in system.numbers[order])
    return {"name": path.stem, "species": symbols, "positions": tuple(map(tuple, shifted.tolist()))}


def _at(length: float, tilt: float, azimuth: float = 0.0, start: Vector = (0.0, 0.0, 0.0)) -> Vector:
    """A place ``length`` Å from ``start``, ``tilt`` degrees from the normal."""
    t, a = math.radians(tilt), math.radians(azimuth)
    x, y, z = start
    return (
        x + length * math.sin(t) * math.cos(a),
        y + length * math.sin(t) * math.sin(a),
        z + length * math.cos(t),
    )


_HERE: Vector = (0.0, 0.0, 0.0)

_SHAPES: dict[str, tuple[tuple[str, ...], tuple[Vector, ...]]] = {
    **{symbol: ((symbol,), (_HERE,)) for symbol in ("H", "O", "N", "S")},
    "OH": (("O", "H"), (_HERE, _at(0.970, 60))),
    "OOH": (("O", "O", "H"), (_HERE, _at(1.331, 60), _at(0.971, -15.7, start=_at(1.331, 60)))),
    "CO": (("C", "O"), (_HERE, _at(1.128, 0))),
    "COOH": (
        ("C", "O", "O", "H"),
        (_HERE, _at(1.179, -63.4), _at(1.342, 63.4), _at(0.969, -9.2, start=_at(1.342, 63.4))),
    ),
    "CHO": (("C", "O", "H"), (_HERE, _at(1.175, 50), _at(1.117, -74.4))),
    "NH": (("N", "H"), (_HERE, _at(1.036, 0))),
    "N2H": (("N", "N", "H"), (_HERE, _at(1.175, 0), _at(1.060, 64, start=_at(1.175, 0)))),
    "NH2": (("N", "H", "H"), (_HERE, _at(1.024, 51.7), _at(1.024, -51.7))),
    "CH3": (("C", "H", "H", "H"), (_HERE, _at(1.079, 70.5), _at(1.079, 70.5, 120), _at(1.079, 70.5, 240))),
}
"""Bond lengths (Å) and angles are those of the free radicals and molecules (NIST Computational Chemistry Comparison and
Benchmark Database, release 22, experimental geometries; HOCO and N₂H: of their best calculations), upright or tilted as
they stand on metals; CH₃ with the angles of a tetrahedron. They are starts: what an adsorbate becomes, forces decide.
"""

KNOWN_ADSORBATES = tuple(_SHAPES)
"""Names of those that need no file."""

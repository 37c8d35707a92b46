"""What can be asked of a potential about one structure: each request says by itself how it is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dpa4_core.data.structures import MIN_DISTANCE_RATIO
from dpa4_core.relax.options import RelaxOptions

DEFAULT = RelaxOptions()


@dataclass(frozen=True, eq=False)
class Relax:
    """A structure to relax; comes back as a `RelaxResult`.

    Attributes:
        structure: ase.Atoms, pymatgen Structure or Molecule.
        options: of this relaxation.

    """

    structure: Any
    options: RelaxOptions = DEFAULT


@dataclass(frozen=True, eq=False)
class Static:
    """A structure whose energy, forces and stress are wanted as it is; comes back as a `Prediction`.

    Attributes:
        structure: ase.Atoms, pymatgen Structure or Molecule.
        min_distance_ratio: atoms closer than this fraction of the sum of covalent radii are an error.

    """

    structure: Any
    min_distance_ratio: float = MIN_DISTANCE_RATIO


Request = Relax | Static

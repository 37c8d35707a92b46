"""What can be asked of a potential: each request says by itself how it is computed."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Any

from dpa4_core.batches import Prediction
from dpa4_core.data.structures import MIN_DISTANCE_RATIO, check_distance_ratio
from dpa4_core.errors import DPA4Error
from dpa4_core.md.settings import MDSettings
from dpa4_core.relax.dynamics import Phase
from dpa4_core.relax.options import BandOptions, RelaxOptions
from dpa4_core.relax.results import BandResult, DynamicsResult, RelaxResult
from dpa4_core.verdicts import ErrorCode

DEFAULT = RelaxOptions()
DEFAULT_BAND = BandOptions()


@dataclass(frozen=True, eq=False)
class Relax:
    """A structure to relax; comes back as a `RelaxResult`.

    Attributes:
        structure: ase.Atoms, pymatgen Structure or Molecule.
        options: of this relaxation.

    """

    structure: Any
    options: RelaxOptions = DEFAULT

    @property
    def n_atoms(self) -> int:
        return len(self.structure)

    def failed(self, sentence: str, code: ErrorCode) -> RelaxResult:
        """The result where nothing was computed."""
        nothing = float("nan")
        return RelaxResult(self.structure, nothing, None, None, False, 0, nothing, sentence, sentence, code)


@dataclass(frozen=True, eq=False)
class Static:
    """A structure whose energy, forces and stress are wanted as it is; comes back as a `Prediction`.

    Attributes:
        structure: ase.Atoms, pymatgen Structure or Molecule.
        min_distance_ratio: atoms closer than this fraction of the sum of covalent radii are an error.

    Raises:
        DPA4Error: an option that makes no sense.

    """

    structure: Any
    min_distance_ratio: float = MIN_DISTANCE_RATIO

    def __post_init__(self) -> None:
        check_distance_ratio(self.min_distance_ratio)

    @property
    def n_atoms(self) -> int:
        return len(self.structure)

    def failed(self, sentence: str, code: ErrorCode) -> Prediction:
        """The result where nothing was computed."""
        return Prediction(error=sentence, error_code=code)


@dataclass(frozen=True, eq=False)
class Band:
    """A path between two structures at rest, of which the one of lowest energy is wanted; comes back as a `BandResult`.

    The images between the ends are systems of the batch like all others; the cell stays.

    Attributes:
        images: ase.Atoms or pymatgen Structures, the ends first and last, atoms in the same order (`band_path` makes
            them from the ends). Atoms that are fixed in the first one stay.
        energies: of the ends, eV, by the same potential.
        options: of this band.

    """

    images: Sequence[Any]
    energies: tuple[float, float]
    options: BandOptions = DEFAULT_BAND

    @property
    def n_atoms(self) -> int:
        """Of the images that move."""
        return sum(len(image) for image in self.images[1:-1])

    def failed(self, sentence: str, code: ErrorCode) -> BandResult:
        """The result where nothing was computed."""
        nothing = float("nan")
        energies = (self.energies[0], *[nothing] * (len(self.images) - 2), self.energies[1])
        return BandResult(tuple(self.images), energies, False, 0, nothing, sentence, sentence, code)


@dataclass(frozen=True, eq=False)
class Dynamics:
    """A structure in motion; comes back as a `DynamicsResult`.

    Its steps share force calls with everything else in the batch. The cell stays. Fixed atoms stay, too.

    Attributes:
        structure: ase.Atoms, pymatgen Structure or Molecule.
        settings: of the motion, nve or nvt; ``every`` says how often a frame is kept.
        begin: where it goes on, ``end`` of an earlier result; by default it starts at the structure, with velocities of
            the temperature.
        n_steps: that are made from there; by default those of ``settings``.

    Raises:
        DPA4Error: settings that a batch cannot follow.

    """

    structure: Any
    settings: MDSettings
    begin: Phase | None = None
    n_steps: int | None = None

    def __post_init__(self) -> None:
        if self.settings.ensemble == "npt":
            raise DPA4Error("dynamics that share a batch keep their cell: use nvt or nve, or `dpa4 md` for npt")
        if self.settings.keep_velocities:
            raise DPA4Error("dynamics that share a batch draw their velocities: give a phase to begin from instead")

    @property
    def n_atoms(self) -> int:
        return len(self.structure)

    def failed(self, sentence: str, code: ErrorCode) -> DynamicsResult:
        """The result where nothing was computed."""
        # what is refused may be no structure at all, and then has no atoms
        n_atoms = self.n_atoms if isinstance(self.structure, Sized) else 0
        return DynamicsResult.of([], None, 0, n_atoms, error=sentence, error_code=code)


Request = Relax | Static | Band | Dynamics

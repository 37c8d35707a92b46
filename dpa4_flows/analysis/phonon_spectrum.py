"""What phonons look like: bands along lines of high symmetry, density of states, sound, thermal displacements.

    lines = band_lines(calculation)  # of a `PhononCalculation` whose forces are set
    states = density_of_states(calculation, mesh_length=60.0)

Frequencies in THz, imaginary ones negative; wave vectors in units of the reciprocal primitive vectors, their lengths in
1/Å without 2π.
"""

from __future__ import annotations

import importlib
import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa4_flows.analysis.force_constants import SYMPREC, PhononCalculation

Array = NDArray[np.float64]

SPACING = 0.01
"""1/Å between two wave vectors of a line, or less: 50 points across the zone of silicon."""
N_LEVELS = 301
"""Frequencies at which a density of states is given."""
_SOUND = 0.005
"""1/Å of the waves whose velocity is that of sound: 200 Å long."""
_M_S_PER_THZ_ANGSTROM = 100.0
_FROZEN_THZ = 0.05
"""Slower modes and imaginary ones have no harmonic amplitude."""


@dataclass(frozen=True)
class BandLine:
    """Bands between two points of high symmetry.

    Attributes:
        start, end: labels of the points, ``Γ`` for the centre.
        q_points: [n, 3].
        distances: [n] from the start of the first line, 1/Å; equal where one line continues another.
        frequencies_thz: [n, n_modes].
        velocities_m_s: [n, n_modes], magnitude of the group velocity, m/s.
    """

    start: str
    end: str
    q_points: Array
    distances: Array
    frequencies_thz: Array
    velocities_m_s: Array


def band_lines(calculation: PhononCalculation, spacing: float = SPACING) -> list[BandLine]:
    """Bands along the path of Y. Hinuma et al., Comput. Mater. Sci. 128, 140 (2017), as seekpath gives it.

    Args:
        calculation: with forces.
        spacing: 1/Å between wave vectors, at most.
    """
    seekpath: Any = importlib.import_module("seekpath")
    cell = calculation.primitive
    numbers = [site.specie.Z for site in cell]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of spglib's old interface
        found = seekpath.get_path_orig_cell((cell.lattice.matrix, cell.frac_coords, numbers), symprec=SYMPREC)
    reciprocal = cell.lattice.reciprocal_lattice_crystallographic.matrix
    ends = [tuple(np.array(found["point_coords"][name]) for name in line) for line in found["path"]]
    lengths = [float(np.linalg.norm((b - a) @ reciprocal)) for a, b in ends]
    paths = [
        np.linspace(a, b, max(2, 1 + int(np.ceil(length / spacing))))
        for (a, b), length in zip(ends, lengths, strict=True)
    ]
    bands = calculation.phonopy.run_band_structure(paths, with_group_velocities=True)
    starts = np.concatenate([[0.0], np.cumsum(lengths)])
    return [
        BandLine(
            start=_symbol(names[0]),
            end=_symbol(names[1]),
            q_points=path,
            distances=starts[i] + np.linspace(0.0, lengths[i], len(path)),
            frequencies_thz=np.array(bands.frequencies[i]),
            velocities_m_s=np.linalg.norm(bands.group_velocities[i], axis=2) * _M_S_PER_THZ_ANGSTROM,
        )
        for i, (names, path) in enumerate(zip(found["path"], paths, strict=True))
    ]


def _symbol(name: str) -> str:
    """``Γ`` for GAMMA, ``Σ₀`` for SIGMA_0."""
    letters = {"GAMMA": "Γ", "DELTA": "Δ", "LAMBDA": "Λ", "SIGMA": "Σ"}
    letter, _, index = name.partition("_")
    return letters.get(letter, letter) + index.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


@dataclass(frozen=True)
class DensityOfStates:
    """Modes by frequency.

    Attributes:
        frequencies_thz: [n].
        total: [n], modes per THz of the primitive cell; the integral is three times its atoms.
        by_element: the share of each element, [n]; together they are the total.
        displacements: mean square displacement along an axis of each element, Å², [n_temperatures]; without the modes
            that are imaginary.
    """

    frequencies_thz: Array
    total: Array
    by_element: Mapping[str, Array]
    displacements: Mapping[str, Array]


def density_of_states(
    calculation: PhononCalculation, mesh_length: float, temperatures_k: Sequence[float] = ()
) -> DensityOfStates:
    """Total and projected density of states by the tetrahedron method, and thermal displacements, of one mesh.

    Args:
        calculation: with forces.
        mesh_length: Å; there are about ``mesh_length`` / (lattice constant) wave vectors along each axis.
        temperatures_k: K, of the displacements.
    """
    phonopy = calculation.phonopy
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mesh that would break the symmetry of a centred lattice is replaced
        # the projection on atoms has less symmetry than the frequencies
        phonopy.run_mesh(float(mesh_length), is_gamma_center=True, is_mesh_symmetry=False, with_eigenvectors=True)
        found = phonopy.mesh.frequencies
        margin = 0.01 * (found.max() - found.min() + 1.0)
        low, high = float(found.min() - margin), float(found.max() + margin)
        states = phonopy.run_projected_dos(freq_min=low, freq_max=high, freq_pitch=(high - low) / (N_LEVELS - 1))
        moved = phonopy.run_thermal_displacements(temperatures=list(temperatures_k), freq_min=_FROZEN_THZ)
    symbols = np.array([site.specie.symbol for site in calculation.primitive])
    elements = list(dict.fromkeys(symbols.tolist()))
    of_atoms = np.array(states.projected_dos)
    squares = np.array(moved.thermal_displacements).reshape(len(temperatures_k), len(symbols), 3).mean(axis=2)
    return DensityOfStates(
        frequencies_thz=np.array(states.frequency_points),
        total=of_atoms.sum(axis=0),
        by_element={element: of_atoms[symbols == element].sum(axis=0) for element in elements},
        displacements={element: squares[:, symbols == element].mean(axis=1) for element in elements},
    )


@dataclass(frozen=True)
class SoundVelocities:
    """Velocities of long waves, averaged over directions.

    Attributes:
        longitudinal_m_s, transverse_m_s: m/s; the fastest of the three branches, and the mean of the other two.
        mean_m_s: m/s, that of Debye's model: of the inverse cubes of all three.
    """

    longitudinal_m_s: float
    transverse_m_s: float
    mean_m_s: float


def sound_velocities(calculation: PhononCalculation) -> SoundVelocities | None:
    """Of waves 200 Å long in 26 directions; None if one of them is imaginary."""
    steps = np.array([n for n in itertools.product((-1, 0, 1), repeat=3) if any(n)], dtype=float)
    directions = steps / np.linalg.norm(steps, axis=1)[:, None]
    vectors = calculation.primitive.lattice.matrix  # q · a in units of the reciprocal vectors
    acoustic = calculation.at(_SOUND * directions @ vectors.T).frequencies_thz[:, :3]
    if acoustic.min() <= 0:
        return None
    speeds = acoustic / _SOUND * _M_S_PER_THZ_ANGSTROM
    return SoundVelocities(
        longitudinal_m_s=float(speeds[:, 2].mean()),
        transverse_m_s=float(speeds[:, :2].mean()),
        mean_m_s=float((speeds**-3.0).mean() ** (-1 / 3)),
    )

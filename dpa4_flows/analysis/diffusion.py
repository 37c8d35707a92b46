"""How fast ions go in a trajectory, how sure that is, and what follows for other temperatures.

Mean square displacements are averages over all ions and all moments at which a stretch of the trajectory begins, of
positions that are not folded back into the cell, without the drift of the framework. Their slope, where ions have made
half a hop and more, is six times the diffusivity; its error is that of the mean of five parts of the trajectory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice
from scipy import stats
from scipy.constants import Boltzmann, elementary_charge

from dpa4_core.units import BOLTZMANN_EV_K

Array = NDArray[np.float64]

CM2_PER_S = 1e-4
"""Of 1 Å²/ps."""

N_BLOCKS = 5
"""Parts of a trajectory whose slopes give the error; the longest lag is half a part, so that parts are independent."""
DIFFUSIVE = 0.5
"""Of the square of the hop length: mean square displacements below are those of ions that rattle in their places, or go
back (X. He, Y. Zhu, A. Epstein, Y. Mo, npj Comput. Mater. 4, 18 (2018))."""
MIN_HOPS = 450
"""Of all ions together. The deviation of a diffusivity from so many hops is 3.43/√n + 0.04 of it (the same), 20 %."""
MIN_TEMPERATURES = 3
MIN_R2 = 0.95
FRAMEWORK_MOVED = 1.0
"""Å², mean square displacement of a framework that is no crystal any more."""
JUMP, JUMP_SIGMA = 2.0, 3.0
"""Factor between two temperatures, and standard deviations of it, beyond which a crystal has turned superionic."""

MIN_FRAMES = 80
"""Of which a slope and its error can be taken: eight lags up to half a part."""
_ATOMS_AT_ONCE = 64
_ONE_SIGMA = 0.8413  # of a normal distribution below one standard deviation


@dataclass(frozen=True, eq=False)
class Track:
    """Where the atoms of a crystal are at equal times.

    Attributes:
        positions: [n_frames, n_atoms, 3] Å, not folded back into the cell.
        masses: [n_atoms] u.
        ions: [n_atoms] bool, those that diffuse; the others are the framework.
        symbols: [n_atoms] elements.
        interval_ps: between two frames.
        hop: Å, from site to site of the ions.
    """

    positions: NDArray[np.floating]
    masses: Array
    ions: NDArray[np.bool_]
    symbols: NDArray[np.str_]
    interval_ps: float
    hop: float

    @property
    def duration_ps(self) -> float:
        return (len(self.positions) - 1) * self.interval_ps

    @property
    def n_ions(self) -> int:
        return int(self.ions.sum())


class Slope(NamedTuple):
    """Diffusivity and its standard error, Å²/ps."""

    value: float
    error: float


class Diffusion(NamedTuple):
    """What a trajectory says of its ions.

    Attributes:
        lags_ps: [n_lags], from 0.
        msd: [n_lags] Å², of the ions.
        begin: number of the lag from which ions diffuse; None if they never do.
        tracer: of single ions; None without ``begin``.
        collective: of their centre, times their number: that which carries charge; None without ``begin``.
        n_hops: of all ions together, effective ones: those of a random walk that gets as far.
        framework_msd: Å², of the element of the framework that moves most, within half the trajectory; None without a
            framework.
    """

    lags_ps: Array
    msd: Array
    begin: int | None
    tracer: Slope | None
    collective: Slope | None
    n_hops: float
    framework_msd: float | None


def hop_length(frac_coords: Array, lattice: Lattice) -> float:
    """Mean distance of the ions at ``frac_coords`` [n, 3] to the nearest other one, Å."""
    distances = np.array(lattice.get_all_distances(frac_coords, frac_coords))
    np.fill_diagonal(distances, min(lattice.abc))
    return float(distances.min(axis=1).mean())


def unfolded(frac_coords: Array, lattice: Array) -> Array:
    """Positions [n_frames, n_atoms, 3] in Å that go on where an atom crosses the wall of the cell ``lattice`` [3, 3].

    Raises:
        ValueError: an atom goes so far from one frame to the next that nobody knows where.
    """
    steps = np.diff(frac_coords, axis=0)
    steps -= np.rint(steps)
    farthest = float(np.abs(steps).max(initial=0.0))
    if farthest > 0.4:
        raise ValueError(
            f"an atom goes {farthest:.2f} of a lattice vector from one frame to the next: frames are too far apart in "
            "time to follow it"
        )
    return np.asarray(np.concatenate([frac_coords[:1], frac_coords[:1] + np.cumsum(steps, axis=0)]) @ lattice)


def without_drift(track: Track) -> Array:
    """Positions [n_frames, n_atoms, 3] about the centre of mass of the framework; of all atoms if there is none."""
    held = ~track.ions if not track.ions.all() else track.ions
    weights = np.where(held, track.masses, 0.0) / track.masses[held].sum()
    positions = track.positions.astype(np.float64)
    drift = np.einsum("fak,a->fk", positions - positions[0], weights)
    return np.asarray(positions - drift[:, None, :])


def mean_square_displacement(positions: Array, longest: int) -> Array:
    """[longest + 1] Å², over all atoms and all origins in ``positions`` [n_frames, n_atoms, 3].

    The sum over origins of (r(t + τ) − r(t))² is that of both squares less twice the autocorrelation, which comes from
    the correlation theorem (G. R. Kneller et al., Comput. Phys. Commun. 91, 191 (1995)).
    """
    n_frames, n_atoms = positions.shape[:2]
    lags = np.arange(longest + 1)
    total = np.zeros(longest + 1)
    for first in range(0, n_atoms, _ATOMS_AT_ONCE):
        part = positions[:, first : first + _ATOMS_AT_ONCE]
        part = part - part.mean(axis=0)
        spectrum = np.fft.rfft(part, 2 * n_frames, axis=0)
        correlation = np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[: longest + 1].sum(axis=(1, 2))
        summed = np.concatenate([[0.0], np.cumsum((part**2).sum(axis=(1, 2)))])
        total += summed[n_frames - lags] + summed[n_frames] - summed[lags] - 2 * correlation
    total[0] = 0.0
    return np.asarray(total / (n_frames - lags) / n_atoms)


def slope(lags: Array, msd: Array) -> float:
    """Of the straight line through a mean square displacement by least squares, over 6: Å²/ps."""
    return float(np.polyfit(lags, msd, 1)[0]) / 6


def diffusion(track: Track) -> Diffusion:
    """Diffusivities of the ions.

    Raises:
        ValueError: too few frames.
    """
    n_frames = len(track.positions)
    if n_frames < MIN_FRAMES:
        raise ValueError(f"{n_frames} frames are too few: a slope and its error need {MIN_FRAMES} and more")
    longest = n_frames // (2 * N_BLOCKS)
    positions = without_drift(track)
    ions, framework = positions[:, track.ions], None
    lags: Array = track.interval_ps * np.arange(longest + 1, dtype=np.float64)
    msd = mean_square_displacement(ions, longest)
    others = track.symbols[~track.ions]
    if len(others):
        each = [positions[:, ~track.ions][:, others == symbol] for symbol in np.unique(others)]
        framework = max(float(mean_square_displacement(one, n_frames // 2)[-1]) for one in each)
    far = np.flatnonzero(msd >= DIFFUSIVE * track.hop**2)
    if not len(far) or far[0] > longest // 2:
        n_hops = float(msd[-1]) / lags[-1] * track.duration_ps * track.n_ions / track.hop**2
        return Diffusion(lags, msd, None, None, None, n_hops, framework)
    window = slice(int(far[0]), longest + 1)
    centre = ions.sum(axis=1, keepdims=True)
    tracer = _slope(ions, lags, window, 1)
    n_hops = max(1.0, 6 * tracer.value * track.duration_ps * track.n_ions / track.hop**2)
    # so many independent hops are counted no better, whatever the parts say
    tracer = Slope(tracer.value, max(tracer.error, abs(tracer.value) / math.sqrt(n_hops)))
    collective = _slope(centre, lags, window, track.n_ions)
    return Diffusion(lags, msd, window.start, tracer, collective, n_hops, framework)


def _slope(positions: Array, lags: Array, window: slice, n_ions: int) -> Slope:
    """Of all of the trajectory, with the standard error of the mean of its parts; few of them widen it (Student)."""

    def of(part: Array) -> float:
        return slope(lags[window], mean_square_displacement(part, len(lags) - 1)[window]) / n_ions

    parts = [of(part) for part in np.array_split(positions, N_BLOCKS)]
    error = float(np.std(parts, ddof=1)) / math.sqrt(N_BLOCKS) * float(stats.t.ppf(_ONE_SIGMA, N_BLOCKS - 1))
    return Slope(of(positions), error)


@dataclass(frozen=True)
class Arrhenius:
    """The line ln D = ln D₀ − E/kT through diffusivities, weighted by their errors.

    Attributes:
        activation_energy: E, eV.
        error: of it, eV; larger where the line fits worse than errors allow.
        ln_prefactor: ln D₀, of the unit of the diffusivities.
        covariance: [2, 2] of ln D₀ and E.
        r2: share of the variance of ln D that the line explains.
    """

    activation_energy: float
    error: float
    ln_prefactor: float
    covariance: Array
    r2: float

    def at(self, temperature_k: float) -> tuple[float, float]:
        """Logarithm of the diffusivity and its standard error."""
        row = np.array([1.0, -1 / (BOLTZMANN_EV_K * temperature_k)])
        value = self.ln_prefactor + row[1] * self.activation_energy
        return float(value), float(np.sqrt(row @ self.covariance @ row))


def arrhenius(temperatures_k: Sequence[float], values: Sequence[float], errors: Sequence[float]) -> Arrhenius:
    """The line through three and more diffusivities with their errors."""
    x, y, weights = _logarithms(temperatures_k, values, errors)
    design = np.stack([np.ones_like(x), -x], axis=1)
    found, covariance, chi2 = _fit(design, y, weights)
    covariance *= max(1.0, chi2 / (len(x) - 2))
    mean = (weights * y).sum() / weights.sum()
    spread = float((weights * (y - mean) ** 2).sum())
    r2 = 1 - chi2 / spread if spread > 0 else 0.0
    return Arrhenius(float(found[1]), float(np.sqrt(covariance[1, 1])), float(found[0]), covariance, r2)


def superionic_jump(
    temperatures_k: Sequence[float], values: Sequence[float], errors: Sequence[float]
) -> tuple[float, float, float] | None:
    """The temperatures between which a diffusivity jumps up, and the factor; None if it does not, or nobody can tell.

    A line with a step between two neighbours is set against one without; that takes four temperatures.
    """
    order = np.argsort(temperatures_k)
    temperatures = np.asarray(temperatures_k, dtype=np.float64)[order]
    x, y, weights = _logarithms(temperatures, np.asarray(values)[order], np.asarray(errors)[order])
    best: tuple[float, float, float] | None = None
    surest = JUMP_SIGMA
    for place in range(1, len(x)) if len(x) > MIN_TEMPERATURES else ():
        step = (np.arange(len(x)) >= place).astype(float)
        found, covariance, _ = _fit(np.stack([np.ones_like(x), -x, step], axis=1), y, weights)
        sure = float(found[2] / np.sqrt(covariance[2, 2]))
        if found[2] > math.log(JUMP) and sure > surest:
            surest = sure
            best = float(temperatures[place - 1]), float(temperatures[place]), float(np.exp(found[2]))
    return best


def conductivity(density: float, charge: float, diffusivity: float, temperature_k: float) -> float:
    """By Nernst and Einstein, n q² D/kT, in mS/cm.

    Args:
        density: ions per Å³.
        charge: elementary charges of each.
        diffusivity: cm²/s.
        temperature_k: K.
    """
    carried = (charge * elementary_charge) ** 2 * density * 1e24
    return 1e3 * carried * diffusivity / (Boltzmann * temperature_k)


def hopping_diffusivity(length: float, barrier: float, frequency_thz: float, temperature_k: float) -> float:
    """Of a particle that hops alone, length² ν exp(−E/kT), in cm²/s; ``length`` in Å, ``barrier`` in eV."""
    return CM2_PER_S * length**2 * frequency_thz * math.exp(-barrier / (BOLTZMANN_EV_K * temperature_k))


def _logarithms(
    temperatures_k: Sequence[float] | Array, values: Sequence[float] | Array, errors: Sequence[float] | Array
) -> tuple[Array, Array, Array]:
    """1/kT in 1/eV, ln D and the weights of the latter."""
    found = np.asarray(values, dtype=np.float64)
    relative = np.asarray(errors, dtype=np.float64) / found
    x: Array = 1 / (BOLTZMANN_EV_K * np.asarray(temperatures_k, dtype=np.float64))
    return x, np.log(found), relative**-2


def _fit(design: Array, y: Array, weights: Array) -> tuple[Array, Array, float]:
    """Weighted least squares: parameters, their covariance, and the sum of squares that is left."""
    covariance = np.linalg.inv(design.T @ (weights[:, None] * design))
    found: Array = covariance @ (design.T @ (weights * y))
    return found, np.asarray(covariance, dtype=np.float64), float((weights * (y - design @ found) ** 2).sum())

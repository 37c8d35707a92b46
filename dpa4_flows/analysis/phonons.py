"""What phonon frequencies say: is the crystal a minimum of the energy, and what is its vibrational free energy?

Frequencies are in THz, imaginary ones are negative. The criterion: no mode below -0.1 THz; between -0.1 and -0.3 THz
a calculation of forces cannot decide; near Γ, where Fourier interpolation leaves acoustic branches uncertain, down to
-0.3 THz is noise. A mode counts as found only where the supercell holds its wave, elsewhere it is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dpa4_core.units import BOLTZMANN_EV_K, FARADAY

Array = NDArray[np.float64]

NOISE_THZ = 0.1
"""Imaginary frequencies up to here are noise of forces and interpolation."""
IMAGINARY_THZ = 0.3
"""Imaginary frequencies beyond are an instability, also near Γ."""

_EV_PER_THZ = 4.135667696e-3  # h
_STILL_THZ = 1e-3  # translations of the whole crystal

Verdict = Literal["stable", "marginal", "unstable", "unknown"]


@dataclass(frozen=True)
class PhononBands:
    """Frequencies at some wave vectors.

    Attributes:
        q_points: [n, 3] in units of the reciprocal primitive vectors.
        q_lengths: [n] distance to Γ, 1/Å without 2π.
        frequencies_thz: [n, n_modes], ascending.
        weights: [n] how many points of a full mesh each stands for.
    """

    q_points: Array
    q_lengths: Array
    frequencies_thz: Array
    weights: Array

    @property
    def at_gamma(self) -> NDArray[np.bool_]:
        return self.q_lengths < 1e-8

    def without_translations(self) -> Array:
        """Frequencies with NaN for the three translations at Γ, those closest to 0."""
        kept = np.array(self.frequencies_thz, dtype=float)
        for row in np.flatnonzero(self.at_gamma):
            kept[row, np.argsort(np.abs(kept[row]))[:3]] = np.nan
        return kept


@dataclass(frozen=True)
class DynamicalStability:
    """Whether every small displacement costs energy.

    Attributes:
        verdict: stable, marginal or unstable.
        reason: one sentence.
        f_min_thz: lowest frequency away from Γ and of optical modes at Γ, THz.
        f_min_near_gamma_thz: lowest at waves longer than the supercell, without Γ itself; None if the mesh has none.
        f_min_commensurate_thz: lowest where the supercell holds the wave, THz.
        f_max_thz: highest.
        imaginary_fraction: share of the modes of the mesh below -`NOISE_THZ`.
        lowest_q: wave vector of the lowest commensurate mode, reciprocal primitive vectors.
        gamma_optical_thz: optical frequencies at Γ, without the splitting by macroscopic fields (LO-TO).
    """

    verdict: Verdict
    reason: str
    f_min_thz: float
    f_min_near_gamma_thz: float | None
    f_min_commensurate_thz: float
    f_max_thz: float
    imaginary_fraction: float
    lowest_q: tuple[float, float, float]
    gamma_optical_thz: tuple[float, ...]


def dynamical_stability(mesh: PhononBands, commensurate: PhononBands, near_gamma: float) -> DynamicalStability:
    """Judge frequencies.

    Args:
        mesh: on a Γ-centred mesh.
        commensurate: at the wave vectors whose waves fit into the supercell; Γ is one of them.
        near_gamma: 1/Å; a shorter wave vector is near Γ. Half the inverse of the supercell's length is a good choice.
    """
    of_mesh, exact = mesh.without_translations(), commensurate.without_translations()
    near = (mesh.q_lengths < near_gamma) & ~mesh.at_gamma
    f_min = float(min(np.nanmin(of_mesh[~near], initial=np.inf), np.nanmin(exact, initial=np.inf)))
    f_near = float(np.nanmin(of_mesh[near])) if near.any() else None
    if np.isfinite(exact).any():
        place = int(np.nanargmin(exact)) // exact.shape[1]
        f_exact = float(np.nanmin(exact))
    else:  # one atom in a supercell of one cell
        place, f_exact = 0, f_min
    gamma = np.flatnonzero(commensurate.at_gamma)[0]
    lowest_q = tuple(float(x) for x in commensurate.q_points[place])
    verdict, reason = _judge(f_min, f_near, f_exact, lowest_q)
    imaginary = (of_mesh < -NOISE_THZ).sum(axis=1)
    return DynamicalStability(
        verdict=verdict,
        reason=reason,
        f_min_thz=f_min,
        f_min_near_gamma_thz=f_near,
        f_min_commensurate_thz=f_exact,
        f_max_thz=float(max(np.nanmax(of_mesh), np.nanmax(exact, initial=-np.inf))),
        imaginary_fraction=float((imaginary * mesh.weights).sum() / (mesh.weights.sum() * of_mesh.shape[1])),
        lowest_q=(lowest_q[0], lowest_q[1], lowest_q[2]),
        gamma_optical_thz=tuple(float(f) for f in exact[gamma] if np.isfinite(f)),
    )


def _judge(f_min: float, f_near: float | None, f_exact: float, q: tuple[float, ...]) -> tuple[Verdict, str]:
    if f_exact < -IMAGINARY_THZ:
        return "unstable", f"imaginary mode of {f_exact:.2f} THz at {q_words(q)}: a displacement lowers the energy"
    if f_min < -IMAGINARY_THZ:
        return "marginal", (
            f"imaginary mode of {f_min:.2f} THz only between the waves that the supercell holds "
            f"(those: {f_exact:+.2f} THz or more): a longer supercell decides"
        )
    if f_near is not None and f_near < -IMAGINARY_THZ:
        return "marginal", (
            f"acoustic branch at {f_near:.2f} THz near Γ, where it is interpolated: a longer supercell or the elastic "
            "tensor decides"
        )
    if f_min < -NOISE_THZ:
        return "marginal", f"lowest frequency {f_min:.2f} THz, within the noise of -{NOISE_THZ} to -{IMAGINARY_THZ} THz"
    return "stable", f"no imaginary mode: lowest frequency away from Γ {f_min:+.2f} THz"


def q_words(q: Sequence[float]) -> str:
    """``Γ`` or ``q = (1/2, 0, 0)``."""
    if np.allclose(q, 0, atol=1e-6):
        return "Γ"
    return f"q = ({', '.join(_fraction(x) for x in q)})"


def _fraction(x: float) -> str:
    for denominator in range(1, 13):
        numerator = round(x * denominator)
        if abs(x * denominator - numerator) < 1e-4:
            return str(numerator) if denominator == 1 else f"{numerator}/{denominator}"
    return f"{x:.3f}"


@dataclass(frozen=True)
class ThermalProperties:
    """Harmonic vibrations at one temperature.

    Attributes:
        temperature_k: K.
        free_energy_ev_per_atom: zero-point energy included, eV/atom.
        entropy_j_mol_k: J/K per mole of atoms.
        heat_capacity_j_mol_k: at constant volume, J/K per mole of atoms.
    """

    temperature_k: float
    free_energy_ev_per_atom: float
    entropy_j_mol_k: float
    heat_capacity_j_mol_k: float


def thermal_properties(mesh: PhononBands, temperatures_k: Sequence[float]) -> list[ThermalProperties]:
    """Free energy, entropy and heat capacity of the modes of a mesh. Imaginary modes and translations are left out.

    Args:
        mesh: frequencies with weights.
        temperatures_k: K, 0 or more.
    """
    n_atoms = mesh.frequencies_thz.shape[1] / 3
    frequencies = mesh.frequencies_thz
    counted = frequencies > _STILL_THZ
    energy = _EV_PER_THZ * frequencies[counted]
    share = (np.broadcast_to(mesh.weights[:, None], frequencies.shape) / mesh.weights.sum())[counted] / n_atoms
    found = []
    for temperature in temperatures_k:
        free, entropy, capacity = energy / 2, np.zeros_like(energy), np.zeros_like(energy)
        if temperature > 0:
            kt = BOLTZMANN_EV_K * temperature
            x = np.minimum(energy / kt, 500.0)  # exp(500) is finite, and such a mode is frozen
            occupation = 1 / np.expm1(x)
            free = energy / 2 + kt * np.log1p(-np.exp(-x))
            entropy = BOLTZMANN_EV_K * (x * occupation - np.log1p(-np.exp(-x)))
            capacity = BOLTZMANN_EV_K * x**2 * occupation * (occupation + 1)
        found.append(
            ThermalProperties(
                temperature_k=float(temperature),
                free_energy_ev_per_atom=float((share * free).sum()),
                entropy_j_mol_k=float(FARADAY * (share * entropy).sum()),
                heat_capacity_j_mol_k=float(FARADAY * (share * capacity).sum()),
            )
        )
    return found

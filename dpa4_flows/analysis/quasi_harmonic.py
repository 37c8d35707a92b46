"""Crystals that expand: free energies of harmonic vibrations at several volumes, and the volume of the lowest one.

    curve = quasi_harmonic(volumes, energies, meshes, temperatures)

At each temperature F(V) = E(V) + F_vib(V, T) is fitted by an equation of state, and its minimum is the volume at that
temperature (S. Baroni, P. Giannozzi and E. Isaev, Rev. Mineral. Geochem. 71, 39 (2010)). Cells keep their shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA, FARADAY
from dpa4_flows.analysis.equation_of_state import Form, fit_equation_of_state
from dpa4_flows.analysis.phonons import NOISE_THZ, PhononBands, thermal_properties

Array = NDArray[np.float64]

STEP_K = 10.0
"""K between the temperatures whose differences give the expansion."""
_POLYNOMIAL = 2
"""Degree of heat capacity against volume, which is nearly straight over some percent."""


@dataclass(frozen=True)
class AtTemperature:
    """A crystal at one temperature and no pressure.

    Attributes:
        temperature_k: K.
        volume: Å³/atom.
        gibbs_energy: eV/atom, with the energy of the model at rest.
        bulk_modulus_gpa: isothermal, GPa.
        expansion_per_k: of the volume, 1/K.
        heat_capacity_j_mol_k: at constant pressure, J/K per mole of atoms.
        entropy_j_mol_k: J/K per mole of atoms.
        gruneisen: thermodynamic, α B V / C_V; None at 0 K.
    """

    temperature_k: float
    volume: float
    gibbs_energy: float
    bulk_modulus_gpa: float
    expansion_per_k: float
    heat_capacity_j_mol_k: float
    entropy_j_mol_k: float
    gruneisen: float | None


@dataclass(frozen=True)
class Ended:
    """Why a curve ends: a code and a sentence."""

    code: Literal["beyond_volumes", "no_volume"]
    sentence: str


def quasi_harmonic(
    volumes: Sequence[float],
    energies: Sequence[float],
    meshes: Sequence[PhononBands],
    temperatures_k: Sequence[float],
    form: Form = "vinet",
) -> tuple[list[AtTemperature], Ended | None]:
    """What a crystal does at temperatures, up to the first at which its volume leaves the range of ``volumes``.

    Args:
        volumes: Å³/atom, five or more.
        energies: at rest, eV/atom.
        meshes: frequencies at each volume.
        temperatures_k: K, ascending.
        form: of the equation of state.
    """
    order = np.argsort(volumes)
    v, e = np.asarray(volumes, float)[order], np.asarray(energies, float)[order]
    grid = np.arange(0.0, max(temperatures_k) + 2.5 * STEP_K, STEP_K)
    vibrations = [thermal_properties(meshes[i], grid.tolist()) for i in order]
    free = np.array([[row.free_energy_ev_per_atom for row in rows] for rows in vibrations])
    capacity = np.array([[row.heat_capacity_j_mol_k for row in rows] for rows in vibrations])
    entropy = np.array([[row.entropy_j_mol_k for row in rows] for rows in vibrations])
    found: list[tuple[float, float, float]] = []
    ended = None
    for i, temperature in enumerate(grid):
        fit = fit_equation_of_state(v.tolist(), (e + free[:, i]).tolist(), form)
        if fit.volume is None or fit.energy is None or fit.bulk_modulus_gpa is None:
            ended = Ended("no_volume", f"the free energy has no minimum at {temperature:.0f} K")
            break
        if not v[0] <= fit.volume <= v[-1]:
            words = f"at {temperature:.0f} K the volume leaves the range from {v[0]:.2f} to {v[-1]:.2f} Å³/atom"
            ended = Ended("beyond_volumes", f"{words}: give larger strains")
            break
        found.append((fit.volume, fit.energy, fit.bulk_modulus_gpa))
    if len(found) < 3:
        return [], ended
    volume, gibbs, modulus = np.array(found).T
    expansion = np.gradient(volume, STEP_K, edge_order=2) / volume
    expansion[0] = 0.0  # by the third law
    rows = []
    for temperature in temperatures_k:
        if temperature > grid[len(found) - 1]:
            break
        at = [float(np.interp(temperature, grid[: len(found)], y)) for y in (volume, gibbs, modulus, expansion)]
        rows.append(_row(temperature, at, v, *(_between(grid, of, temperature) for of in (capacity, entropy))))
    return rows, ended if len(rows) < len(temperatures_k) else None


def _between(grid: Array, values: Array, temperature: float) -> Array:
    """[n_volumes] of values [n_volumes, n_temperatures] at one temperature."""
    return np.array([np.interp(temperature, grid, row) for row in values])


def _row(temperature: float, at: list[float], volumes: Array, capacities: Array, entropies: Array) -> AtTemperature:
    volume, gibbs, modulus, expansion = at
    c_v, entropy = (float(np.polyval(np.polyfit(volumes, y, _POLYNOMIAL), volume)) for y in (capacities, entropies))
    # α B V of one atom, J/K per mole
    pressing = expansion * modulus / EV_PER_ANGSTROM3_TO_GPA * volume * FARADAY
    return AtTemperature(
        temperature_k=float(temperature),
        volume=volume,
        gibbs_energy=gibbs,
        bulk_modulus_gpa=modulus,
        expansion_per_k=expansion,
        heat_capacity_j_mol_k=c_v + expansion * pressing * temperature,
        entropy_j_mol_k=entropy,
        gruneisen=None if temperature == 0 else pressing / c_v,
    )


def acoustic_gruneisen(volumes: Sequence[float], meshes: Sequence[PhononBands]) -> float | None:
    """Root mean square of the mode Grüneisen parameters -d ln ω / d ln V of the three lowest branches.

    Args:
        volumes: two of them, Å³/atom.
        meshes: at these volumes, on the same mesh.

    Returns:
        None if one of the modes is imaginary.
    """
    (small, large), ratio = meshes, np.log(volumes[1] / volumes[0])
    kept = ~small.at_gamma
    before, after = small.frequencies_thz[kept][:, :3], large.frequencies_thz[kept][:, :3]
    if min(before.min(), after.min()) <= NOISE_THZ:
        return None
    squares = (np.log(after / before) / ratio) ** 2
    weights = np.broadcast_to(small.weights[kept][:, None], squares.shape)
    return float(np.sqrt((squares * weights).sum() / weights.sum()))

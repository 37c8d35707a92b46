"""phono3py around a crystal whose phonons are known: how phonons scatter each other, and how heat goes with them.

phonons = PhononCalculation(structure)  # with its forces set
scattering = ScatteringCalculation(phonons, min_length=10.0, cutoff=5.0)
scattering.set_forces(forces, primitive_forces)  # of every structure in scattering.displaced
found = scattering.conductivity(45.0, [300.0])

Third-order force constants are fitted, with the symmetry of the crystal, to supercells in which all atoms are displaced
at random (symfc; A. Togo and A. Seko, J. Chem. Phys. 160, 211001 (2024)): silicon needs 8 of them where pairs of
displacements need 51, and has the same conductivity.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from dpa4_flows.analysis.force_constants import PhononCalculation
from dpa4_flows.analysis.supercells import best_supercell

Array = NDArray[np.float64]

RANDOM_DISPLACEMENT = 0.03
"""Å, of every atom: the third order is then a tenth of the forces, and the fourth is small."""
_SEED = 1
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_NM_PER_ANGSTROM = 0.1
NEIGHBOURS = 2.2
"""Distances of neighbours: as far as three atoms scatter. The fourth shell of rock salt, at 2.0, matters in PbTe."""
SHORTEST_CUTOFF = 4.0
"""Å; bonds with hydrogen say nothing of the others."""


def scattering_cutoff(crystal: Structure) -> float:
    """As far as three atoms scatter, Å."""
    far = SHORTEST_CUTOFF
    return max(far, NEIGHBOURS * float(crystal.get_neighbor_list(far)[3].min(initial=far)))


@dataclass(frozen=True)
class LatticeConductivity:
    """What a mesh of wave vectors gives.

    Attributes:
        mesh: wave vectors along each axis of the reciprocal primitive cell.
        temperatures_k: K.
        tensors_w_mk: [n_temperatures, 3, 3], W/(m K), in the axes of the crystal as given.
        contributions_w_mk: [n_temperatures, n_modes], mean over the directions; they sum to a third of the traces.
        mean_free_paths_nm: [n_temperatures, n_modes], how far each mode goes; infinite where nothing scatters it.
    """

    mesh: tuple[int, int, int]
    temperatures_k: tuple[float, ...]
    tensors_w_mk: Array
    contributions_w_mk: Array
    mean_free_paths_nm: Array

    @property
    def means_w_mk(self) -> Array:
        """[n_temperatures], W/(m K): a third of the trace."""
        return np.trace(self.tensors_w_mk, axis1=1, axis2=2) / 3

    def cumulative(self, temperature: int, n_points: int = 41) -> tuple[Array, Array]:
        """Heat by modes that go no further than a length: lengths in nm, and W/(m K) up to each."""
        paths, shares = self.mean_free_paths_nm[temperature], self.contributions_w_mk[temperature]
        carries = np.isfinite(paths) & (paths > 0) & (shares != 0)
        if not carries.any():
            return np.empty(0), np.empty(0)
        order = np.argsort(paths[carries])
        paths, sums = paths[carries][order], np.cumsum(shares[carries][order])
        known = np.searchsorted(sums, 1e-3 * sums[-1])  # what carries nothing would stretch the scale
        lengths = np.geomspace(paths[min(known, len(paths) - 1)], paths[-1] * (1 + 1e-9), n_points)
        return lengths, sums[np.searchsorted(paths, lengths, side="right") - 1]


class ScatteringCalculation:
    """Displaced supercells and, once their forces are known, conductivities.

    Args:
        phonons: of the crystal, with force constants before conductivities are asked for.
        min_length: Å, shortest distance between an atom and its image in the supercells.
        cutoff: Å; atoms further apart take no part in one third-order force constant.
        excess: equations for each force constant, about.
        max_atoms: largest supercell.

    Attributes:
        displaced: supercells with all atoms displaced.

    Raises:
        ValueError: a supercell would have more than ``max_atoms`` atoms.
    """

    def __init__(
        self,
        phonons: PhononCalculation,
        *,
        min_length: float,
        cutoff: float,
        excess: float = 8.0,
        max_atoms: int = 1000,
    ) -> None:
        phono3py: Any = importlib.import_module("phono3py")  # an optional package
        self.phonons, self.cutoff = phonons, cutoff
        matrix = best_supercell(phonons.primitive, phonons.conventional, min_length, max_atoms).matrix
        self.phono3py = phono3py.Phono3py(
            phonons.phonopy.unitcell,
            supercell_matrix=matrix.T,
            primitive_matrix="P",
            phonon_supercell_matrix=phonons.supercell_matrix.T,
            is_mesh_symmetry=phonons.masses_are_standard,
            symprec=phonons.phonopy.symmetry.tolerance,
        )
        self.phono3py.generate_displacements(
            distance=RANDOM_DISPLACEMENT,
            cutoff_pair_distance=cutoff,
            number_of_snapshots="auto",
            number_estimation_factor=excess / 2,
            is_plusminus=True,  # each pattern and its opposite: the second and fourth order cancel in their sum
            random_seed=_SEED,
        )
        self.displaced = [
            Structure(c.cell, list(c.symbols), c.scaled_positions) for c in self.phono3py.supercells_with_displacements
        ]

    @property
    def n_atoms(self) -> int:
        """Atoms of a supercell."""
        return len(self.displaced[0])

    def set_forces(self, forces: Sequence[Array], primitive_forces: Array) -> None:
        """Fit the force constants; arguments as of `PhononCalculation.set_forces`, whose second order is taken."""
        supercell = self.phono3py.supercell
        of_cell = [supercell.u2u_map[i] for i in supercell.s2u_map]
        self.phono3py.forces = np.array([np.asarray(f) - np.asarray(primitive_forces)[of_cell] for f in forces])
        self.phono3py.produce_fc3(fc_calculator="symfc", fc_calculator_options=f"cutoff = {self.cutoff}")
        self.phono3py.fc2 = self.phonons.phonopy.force_constants
        self.phono3py.nac_params = self.phonons.phonopy.nac_params  # of the same primitive cell; None without

    def conductivity(
        self, mesh_length: float, temperatures_k: Sequence[float], *, direct: bool = False, isotopes: bool = True
    ) -> LatticeConductivity:
        """Solve the Boltzmann equation of phonons on a Γ-centred mesh.

        Args:
            mesh_length: Å; there are about ``mesh_length`` / (lattice constant) wave vectors along each axis.
            temperatures_k: K, above 0.
            direct: the whole collision matrix (L. Chaput, Phys. Rev. Lett. 110, 265506 (2013)) instead of relaxation
                times, which take every collision as a loss and lie below it where most collisions are none.
            isotopes: natural abundances scatter (S. Tamura, Phys. Rev. B 27, 858 (1983)); atoms whose mass the crystal
                names are of one isotope.
        """
        self.phono3py.mesh_numbers = mesh_length
        self.phono3py.init_phph_interaction()
        self.phono3py.run_thermal_conductivity(
            is_LBTE=direct,
            temperatures=list(temperatures_k),
            is_isotope=isotopes,
            mass_variances=self._mass_variances() if isotopes else None,
        )
        found = self.phono3py.thermal_conductivity
        turn = self.phonons.rotation
        tensors = np.array([turn.T @ _tensor(row) @ turn for row in np.asarray(found.kappa)[0]])
        shares = np.asarray(found.mode_kappa)[0, ..., :3].mean(axis=-1) / np.sum(found.grid_weights)
        rates = np.asarray(found.gamma)[0]
        if found.gamma_isotope is not None:
            rates = rates + np.asarray(found.gamma_isotope)[0]
        speeds = np.linalg.norm(found.group_velocities, axis=-1)  # THz Å
        with np.errstate(divide="ignore", invalid="ignore"):
            paths = np.where(rates > 0, _NM_PER_ANGSTROM * speeds / (4 * np.pi * rates), np.inf)  # half-widths in THz
        mesh = tuple(int(n) for n in self.phono3py.mesh_numbers)
        n = len(temperatures_k)
        return LatticeConductivity(
            mesh=(mesh[0], mesh[1], mesh[2]),
            temperatures_k=tuple(float(t) for t in temperatures_k),
            tensors_w_mk=tensors,
            contributions_w_mk=shares.reshape(n, -1),
            mean_free_paths_nm=paths.reshape(n, -1),
        )

    def _mass_variances(self) -> Array:
        """Of the atoms of the primitive cell: Σ abundance · (1 - mass / mean mass)²."""
        isotope: Any = importlib.import_module("phono3py.other.isotope")
        data: Any = importlib.import_module("phonopy.structure.atomic_data")
        known = data.get_atomic_data().isotope_data  # without elements that nature lacks
        symbols = self.phono3py.primitive.symbols
        natural = [float(isotope.get_mass_variances(symbols=[one])[0]) if one in known else 0.0 for one in symbols]
        return np.where(self.phonons.mass_is_standard, natural, 0.0)


def _tensor(voigt: Array) -> Array:
    tensor = np.zeros((3, 3))
    for value, (i, j) in zip(voigt, _VOIGT, strict=True):
        tensor[i, j] = tensor[j, i] = value
    return tensor


def kappa_srme(contributions: Array | None, reference: Array) -> float:
    """Error of a conductivity mode by mode, from 0 to 2: errors of modes do not cancel as they do in the sum.

    SRME = 2 Σ |κ_i - κ_i,ref| / (Σ κ_i + Σ κ_i,ref); B. Póta, P. Ahlawat, G. Csányi and M. Simoncelli,
    arXiv:2408.00755 (2024).

    Args:
        contributions: of each mode, mean over the directions, so that they sum to the conductivity; None where there is
            none, since a mode is imaginary or the symmetry was lost, which counts as wrong altogether.
        reference: of the same modes: the same mesh, branches by frequency.
    """
    if contributions is None or not np.isfinite(contributions).all():
        return 2.0
    return float(2 * np.abs(contributions - reference).sum() / (contributions.sum() + reference.sum()))

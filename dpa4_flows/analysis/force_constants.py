"""phonopy around a relaxed crystal: supercell, displacements, force constants, frequencies, displacements along a mode.

calculation = PhononCalculation(structure, min_length=10.0)
forces = ...  # of every structure in calculation.displaced, and of calculation.primitive
calculation.set_forces(forces, primitive_forces)
stability = dynamical_stability(calculation.mesh(60.0), calculation.commensurate(), calculation.near_gamma)
"""

from __future__ import annotations

import copy
import importlib
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from dpa4_core.data.structures import to_system
from dpa4_core.data.system import standard_masses
from dpa4_core.files import replacing
from dpa4_flows.analysis.isotopic_symmetry import marked_by_mass, unmarked
from dpa4_flows.analysis.phonons import PhononBands, q_words
from dpa4_flows.analysis.supercells import Supercell, best_supercell, refuse_large, shortest_vector

Array = NDArray[np.float64]

SYMPREC = 0.01
"""Å; the relaxed crystal is symmetrised within this tolerance, since every broken symmetry costs displacements."""
DISPLACEMENT = 0.01
"""Å."""
SAME_PLACE = 1e-5
"""Å; atoms that moved less than this, relative to a cell, have not moved."""
COULOMB_EV_ANGSTROM = 14.39964548
"""e²/(4π ε₀), eV Å."""
DEGENERATE_THZ = 0.05
"""Modes of one wave vector closer than this form one set."""


class PhononCalculation:
    """A crystal, its displaced supercells and, once their forces are known, its phonons.

    Args:
        structure: relaxed crystal.
        min_length: Å, shortest distance between an atom and its image in the supercell.
        displacement: Å.
        symprec: Å, for the space group.
        max_atoms: largest supercell.
        supercell_matrix: [3, 3], rows of the supercell in terms of rows of the primitive cell, instead of the one that
            ``min_length`` asks for: so that crystals of several volumes have the same.

    Attributes:
        primitive: symmetrised primitive cell, in spglib's standard setting.
        rotation: [3, 3] from the axes of the crystal as given to those of ``primitive``.
        conventional: lattice of the conventional cell, in the same axes.
        mass_is_standard: [n_atoms of ``primitive``], False where the crystal names another mass.
        displaced: supercells with one atom displaced.
        near_gamma: 1/Å, waves twice as long as the supercell or longer.
        acoustic_noise_thz: largest frequency of a translation before the sum rules are enforced, THz: the error of
            the forces and of the finite displacement.

    Raises:
        ValueError: the supercell would have more than ``max_atoms`` atoms.
    """

    def __init__(
        self,
        structure: Structure,
        *,
        min_length: float = 10.0,
        displacement: float = DISPLACEMENT,
        symprec: float = SYMPREC,
        max_atoms: int = 1000,
        supercell_matrix: NDArray[np.int64] | None = None,
    ) -> None:
        analyzer = SpacegroupAnalyzer(marked_by_mass(structure), symprec=symprec)
        self.primitive: Structure = unmarked(analyzer.find_primitive(), structure)
        self.rotation = np.array(analyzer.get_symmetry_dataset().std_rotation_matrix)
        masses = to_system(self.primitive).masses
        self.conventional = analyzer.get_refined_structure().lattice
        if supercell_matrix is None:
            supercell = best_supercell(self.primitive, self.conventional, min_length, max_atoms)
        else:
            length = shortest_vector(supercell_matrix @ self.primitive.lattice.matrix)
            supercell = Supercell(supercell_matrix, length)
            refuse_large(supercell.size * len(self.primitive), length, max_atoms)
        self.supercell_matrix, self.supercell_length = supercell
        phonopy: Any = importlib.import_module("phonopy")  # an optional package
        atoms: Any = importlib.import_module("phonopy.structure.atoms")
        cell = atoms.PhonopyAtoms(
            symbols=[site.specie.symbol for site in self.primitive],
            cell=self.primitive.lattice.matrix,
            scaled_positions=self.primitive.frac_coords,
        )
        usual = standard_masses(np.array(cell.numbers))
        self.mass_is_standard = (usual if masses is None else masses) == usual
        if masses is not None:
            cell.masses = np.where(self.mass_is_standard, cell.masses, masses)  # phonopy has a table of its own
        with warnings.catch_warnings():
            # said of cells that masses make larger than the elements would
            warnings.filterwarnings("ignore", "Warning: Point group symmetries of supercell and primitive")
            self.phonopy = phonopy.Phonopy(
                cell, supercell_matrix=self.supercell_matrix.T, primitive_matrix="P", symprec=symprec / 10
            )
        self.acoustic_noise_thz = float("nan")
        self._displace(displacement)

    def _displace(self, distance: float) -> None:
        self._distance = distance
        self.phonopy.generate_displacements(distance=distance)
        self.displaced = [
            Structure(c.cell, list(c.symbols), c.scaled_positions) for c in self.phonopy.supercells_with_displacements
        ]

    def scaled(self, structure: Structure) -> PhononCalculation | None:
        """The calculation of this crystal at another volume, with the symmetry that was found: to search supercells for
        it takes phonopy longer than everything else. None where atoms have moved within the cell, or its shape changed.
        """
        factor = (structure.volume / self.primitive.volume) ** (1 / 3)
        if structure.species != self.primitive.species:
            return None
        moved = structure.frac_coords - self.primitive.frac_coords
        moved = (moved - np.round(moved)) @ self.primitive.lattice.matrix
        sheared = structure.lattice.matrix / factor - self.primitive.lattice.matrix
        if max(np.abs(moved).max(), np.abs(sheared).max()) > SAME_PLACE:
            return None
        found = copy.copy(self)
        found.primitive = self.primitive.copy()
        found.primitive.scale_lattice(structure.volume)
        found.conventional = Lattice(factor * self.conventional.matrix)
        found.supercell_length = factor * self.supercell_length
        found.phonopy = copy.deepcopy(self.phonopy)
        for cell in (found.phonopy.unitcell, found.phonopy.supercell, found.phonopy.primitive):
            cell.cell = factor * cell.cell
        found._displace(self._distance)
        return found

    @property
    def n_atoms(self) -> int:
        """Atoms of the supercell."""
        return len(self.displaced[0])

    @property
    def masses_are_standard(self) -> bool:
        """Else waves have less symmetry than phonopy sees, which is that of the elements."""
        return bool(self.mass_is_standard.all())

    @property
    def near_gamma(self) -> float:
        return 0.5 / self.supercell_length

    def set_forces(self, forces: Sequence[Array], primitive_forces: Array) -> None:
        """Make force constants that obey the sum rules.

        Args:
            forces: [n, 3] of each of ``displaced``, eV/Å.
            primitive_forces: [n, 3] of ``primitive``, eV/Å: what the relaxation left, and is no answer to a
                displacement.
        """
        supercell = self.phonopy.supercell
        of_cell = [supercell.u2u_map[i] for i in supercell.s2u_map]
        self.phonopy.forces = [np.asarray(f) - np.asarray(primitive_forces)[of_cell] for f in forces]
        self.phonopy.produce_force_constants()
        self.acoustic_noise_thz = float(np.sort(np.abs(self.at(np.zeros((1, 3))).frequencies_thz[0]))[:3].max())
        self.phonopy.symmetrize_force_constants()

    def set_field_response(self, charges: Mapping[str, Array], dielectric: Array) -> None:
        """Let polar modes feel the field that they make (LO-TO splitting; X. Gonze and C. Lee, Phys. Rev. B 55, 10355
        (1997)).

        Args:
            charges: Born effective charge of each element, [3, 3], e, in the axes of the crystal as given.
            dielectric: [3, 3], of the electrons alone.

        Raises:
            ValueError: an element has no charge.
        """
        symbols = [site.specie.symbol for site in self.primitive]
        if missing := sorted(set(symbols) - set(charges)):
            raise ValueError(f"no Born effective charge for {', '.join(missing)}")
        symmetry: Any = importlib.import_module("phonopy.structure.symmetry")
        turned = [self.rotation @ charges[symbol] @ self.rotation.T for symbol in symbols]
        # of the symmetry of the crystal, and neutral
        born, epsilon = symmetry.symmetrize_borns_and_epsilon(
            np.array(turned), self.rotation @ dielectric @ self.rotation.T, self.phonopy.primitive
        )
        self.phonopy.nac_params = {"born": born, "dielectric": epsilon, "factor": COULOMB_EV_ANGSTROM}

    def mesh(self, length: float) -> PhononBands:
        """Frequencies on a Γ-centred mesh.

        Args:
            length: Å; there are about ``length`` / (lattice constant) points along each axis.
        """
        with warnings.catch_warnings():
            # a mesh that would break the symmetry of a centred lattice is replaced by one that does not, and said so
            warnings.simplefilter("ignore")
            self.phonopy.run_mesh(float(length), is_gamma_center=True, is_mesh_symmetry=self.masses_are_standard)
        mesh = self.phonopy.mesh
        return self._bands(np.array(mesh.qpoints), np.array(mesh.frequencies), np.array(mesh.weights, dtype=float))

    def commensurate(self) -> PhononBands:
        """Frequencies at all waves that fit into the supercell, where nothing is interpolated."""
        return self.at(commensurate_points(self.supercell_matrix))

    def at(self, q_points: Array) -> PhononBands:
        """Frequencies at wave vectors in units of the reciprocal primitive vectors."""
        self.phonopy.run_qpoints(q_points)
        frequencies = np.array(self.phonopy.qpoints.frequencies)
        return self._bands(np.asarray(q_points, dtype=float), frequencies, np.ones(len(q_points)))

    def _bands(self, q_points: Array, frequencies: Array, weights: Array) -> PhononBands:
        reciprocal = self.primitive.lattice.reciprocal_lattice_crystallographic
        return PhononBands(q_points, shortest_images(q_points, reciprocal), np.sort(frequencies, axis=1), weights)

    def modes(self, q: Sequence[float]) -> tuple[Array, Array]:
        """Frequencies [n_modes] and displacement patterns [n_modes, n_atoms, 3] (complex, atom by atom of
        ``primitive``, mass-weighted out) at one wave vector.
        """
        self.phonopy.run_qpoints([list(q)], with_eigenvectors=True)
        found = self.phonopy.qpoints
        frequencies, vectors = np.array(found.frequencies[0]), np.array(found.eigenvectors[0])
        masses = np.repeat(np.asarray(self.phonopy.primitive.masses), 3)
        patterns = (vectors / np.sqrt(masses)[:, None]).T.reshape(len(frequencies), -1, 3)
        order = np.argsort(frequencies)
        return frequencies[order], patterns[order]

    def displaced_along(self, q: Sequence[float], amplitude: float) -> list[Structure]:
        """The crystal displaced along the lowest mode at ``q``, in the smallest box that holds the wave.

        A degenerate set is followed along each of its modes and along combinations, since which direction leads
        lowest is not known: a perovskite with a soft polar mode may become tetragonal, orthorhombic or rhombohedral.

        Args:
            q: reciprocal primitive vectors, commensurate with the supercell.
            amplitude: Å, largest displacement of an atom.
        """
        frequencies, patterns = self.modes(q)
        lowest = [
            pattern for f, pattern in zip(frequencies, patterns, strict=True) if f < frequencies[0] + DEGENERATE_THZ
        ]
        box = self.primitive.make_supercell(wave_box(q), in_place=False).get_reduced_structure("LLL")
        # the place of each atom of the box in primitive coordinates, and whose image it is
        places = self.primitive.lattice.get_fractional_coords(box.cart_coords)
        owners = [_owner(self.primitive, place) for place in places]
        waves = [_wave(pattern[owners], places @ np.asarray(q, dtype=float)) for pattern in lowest]
        found = []
        for factors in _directions(len(waves)):
            shift = sum(factor * wave for factor, wave in zip(factors, waves, strict=True))
            shift = shift * (amplitude / np.linalg.norm(shift, axis=1).max())
            found.append(
                Structure(
                    box.lattice,
                    box.species,
                    box.cart_coords + shift,
                    coords_are_cartesian=True,
                    site_properties=box.site_properties,
                )
            )
        return found

    def save(self, path: Path) -> None:
        """Write a phonopy YAML file with the force constants, for phonopy and its plots."""
        settings = {"force_constants": True, "force_sets": False, "displacements": False}
        with replacing(path) as part:
            self.phonopy.save(part, settings=settings)


def _wave(pattern: Array, phase: Array) -> Array:
    """Real displacements [n, 3] of a travelling pattern: the snapshot with the largest displacements."""
    wave = pattern * np.exp(2j * np.pi * phase)[:, None]
    snapshots = [np.real(wave * np.exp(1j * angle)) for angle in np.linspace(0, np.pi, 24, endpoint=False)]
    best = max(snapshots, key=lambda u: float((u**2).sum()))
    return best / np.linalg.norm(best)


def _directions(n_modes: int) -> Iterator[tuple[float, ...]]:
    """Factors of degenerate modes: each alone, all equal pairs, all together, and one without any symmetry."""
    for i in range(n_modes):
        yield tuple(float(i == j) for j in range(n_modes))
    if n_modes > 2:
        for pair in itertools.combinations(range(n_modes), 2):
            yield tuple(float(j in pair) for j in range(n_modes))
    if n_modes > 1:
        yield (1.0,) * n_modes
        yield tuple(1.0 / (1 + 0.37 * j) for j in range(n_modes))


def _owner(primitive: Structure, place: Array) -> int:
    difference = primitive.frac_coords - place
    return int(np.argmin(np.abs(difference - np.round(difference)).sum(axis=1)))


# ---- lattices ------------------------------------------------------------------------------------------------------


def wave_box(q: Sequence[float]) -> NDArray[np.int64]:
    """The smallest supercell that holds a wave: [3, 3], rows in terms of rows of the primitive cell.

    Its determinant is the smallest number n for which n q is whole.

    Args:
        q: reciprocal primitive vectors, fractions.
    """
    wave = np.asarray(q, dtype=float)
    n = next((n for n in range(1, 1000) if np.abs(n * wave - np.round(n * wave)).max() < 1e-6 * n), None)
    if n is None:
        raise ValueError(f"no supercell of less than 1000 cells holds the wave {q_words(q)}")
    for a, b in itertools.product(range(1, n + 1), repeat=2):  # Hermite normal form
        if n % (a * b):
            continue
        c = n // (a * b)
        for d, e, f in itertools.product(range(a), range(a), range(b)):
            matrix = np.array([[a, 0, 0], [d, b, 0], [e, f, c]])
            phases = matrix @ wave
            if np.abs(phases - np.round(phases)).max() < 1e-5:
                return matrix
    raise AssertionError("a wave of order n is held by n cells")


def commensurate_points(supercell_matrix: NDArray[np.int64]) -> Array:
    """Wave vectors [n, 3], reciprocal primitive units in [-1/2, 1/2], whose waves are periodic in the supercell.

    Args:
        supercell_matrix: [3, 3], rows of the supercell in terms of rows of the primitive cell.
    """
    size = round(abs(np.linalg.det(supercell_matrix)))
    inverse = np.linalg.inv(supercell_matrix)
    reach = int(np.abs(supercell_matrix).sum(axis=1).max())
    found: dict[tuple[int, ...], Array] = {}
    for whole in itertools.product(range(-reach, reach + 1), repeat=3):
        q = inverse @ np.array(whole)
        q = q - np.round(q)
        q[np.abs(q + 0.5) < 1e-9] = 0.5
        found.setdefault(tuple(np.round(np.mod(q, 1) * size).astype(int) % size), q)
        if len(found) == size:
            break
    assert len(found) == size, "a supercell of n cells holds n waves"
    return np.array(sorted(found.values(), key=lambda q: (round(float(np.abs(q).sum()), 6), *np.round(-q, 6))))


def shortest_images(q_points: Array, reciprocal: Lattice) -> Array:
    """Distance of wave vectors to the nearest reciprocal lattice point, 1/Å."""
    q_points = q_points - np.round(q_points)
    steps = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    images = (q_points[:, None, :] + steps[None]) @ reciprocal.matrix
    return np.linalg.norm(images, axis=2).min(axis=1)

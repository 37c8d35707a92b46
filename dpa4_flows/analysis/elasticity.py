"""Elastic tensor from the stresses of strained cells, and what follows from it: mechanical stability, moduli, hardness.

    deformations = elastic_deformations()
    strained = [structure_under(structure, deformation) for deformation in deformations]
    # relax the atoms in each fixed cell and take its stress; then
    tensor = fit_elastic_tensor(structure, deformations, stresses)
    print(tensor.moduli.k_vrh_gpa, tensor.stability.stable, tensor.stability.reason)

Voigt order xx, yy, zz, yz, xz, xy; stress is positive under tension; the tensor is in the IEEE orientation of the
crystal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.elasticity import Deformation, ElasticTensor, Strain, Stress
from pymatgen.core import Structure
from pymatgen.core.tensors import SquareTensor
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.analysis.facets import symmetry
from dpa4_flows.analysis.isotopic_symmetry import density_g_cm3

Array = NDArray[np.float64]

STRAINS = (-0.01, -0.005, 0.005, 0.01)
"""Magnitudes of each of the six strains; in shear the Voigt component, twice the off-diagonal element."""
SYMPREC = 0.01
"""Å, for the space group that the tensor is symmetrised with."""
MIN_EIGENVALUE_GPA = 1.0
"""A tensor with a smaller eigenvalue is too close to zero for stress differences to decide its sign."""

_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
_HBAR_J_S = 1.054571817e-34
_K_B_J_K = 1.380649e-23


@dataclass(frozen=True)
class MechanicalStability:
    """Whether every small strain of a crystal without external stress costs energy (M. Born; F. Mouhat and F.-X.
    Coudert, PRB 90, 224104 (2014)).

    Attributes:
        stable: all eigenvalues of the tensor are positive.
        marginal: the smallest of them is positive, but below `MIN_EIGENVALUE_GPA`.
        eigenvalues_gpa: of the tensor in Kelvin notation, ascending; they do not depend on the orientation.
        failed: criteria of the crystal system that do not hold, with numbers; for systems without closed criteria
            the direction of the softest strain.
        reason: one sentence.
    """

    stable: bool
    marginal: bool
    eigenvalues_gpa: tuple[float, ...]
    failed: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class ElasticModuli:
    """Of a polycrystal, from Voigt's and Reuss' bounds and Hill's mean of both.

    Attributes:
        k_voigt_gpa, k_reuss_gpa, k_vrh_gpa: bulk modulus, GPa.
        g_voigt_gpa, g_reuss_gpa, g_vrh_gpa: shear modulus, GPa.
        e_vrh_gpa: Young's modulus, GPa.
        poisson_ratio: dimensionless.
        universal_anisotropy: 5 G_V/G_R + K_V/K_R - 6 (S. I. Ranganathan, M. Ostoja-Starzewski, PRL 101, 055504
            (2008)); 0 for an isotropic medium.
        pugh_ratio: K/G; above 1.75 a metal tends to be ductile (S. F. Pugh, Phil. Mag. 45, 823 (1954)).
        vickers_hardness_gpa: 2 (k²G)^0.585 - 3 with k = G/K (X.-Q. Chen et al., Intermetallics 19, 1275 (2011)); of
            hard materials, negative for very soft ones, which then are 0.
        debye_temperature_k: from the mean sound velocity, K.
    """

    k_voigt_gpa: float
    k_reuss_gpa: float
    k_vrh_gpa: float
    g_voigt_gpa: float
    g_reuss_gpa: float
    g_vrh_gpa: float
    e_vrh_gpa: float
    poisson_ratio: float
    universal_anisotropy: float
    pugh_ratio: float
    vickers_hardness_gpa: float
    debye_temperature_k: float


@dataclass(frozen=True)
class ElasticResult:
    """What the stresses of strained cells say.

    Attributes:
        c_ij_gpa: [6, 6] elastic tensor, symmetrised, GPa.
        crystal_system: of the structure, at `SYMPREC`.
        stability: Born criteria.
        moduli: None for an unstable crystal, which has none.
        asymmetry_gpa: largest change of a component by symmetrising, GPa: noise of the stresses.
        nonlinearity: largest deviation of a stress from the linear fit, relative to the largest stress.
    """

    c_ij_gpa: Array
    crystal_system: str
    stability: MechanicalStability
    moduli: ElasticModuli | None
    asymmetry_gpa: float
    nonlinearity: float


def elastic_deformations(strains: Sequence[float] = STRAINS) -> list[Array]:
    """Deformation gradients [3, 3] of the six independent strains, those of one strain together.

    Args:
        strains: magnitudes, none of them 0.
    """
    states = np.eye(6)
    return [np.array(Strain.from_voigt(m * state).get_deformation_matrix()) for state in states for m in strains]


def structure_under(structure: Structure, deformation: Array) -> Structure:
    """The structure with its cell and atoms deformed."""
    return Deformation(deformation).apply_to_structure(structure)


class Alike(NamedTuple):
    """A deformation that is another one seen from elsewhere.

    Attributes:
        first: number of the other one.
        turn: [3, 3], takes the stress of the other one to that of this one, turn @ stress @ turn.T.
    """

    first: int
    turn: Array


def alike_by_symmetry(structure: Structure, deformations: Sequence[Array]) -> list[Alike]:
    """For each deformation of a crystal the first one that its symmetry makes the same.

    With a symmetry R the crystal under D R D₁⁻¹ D₁ is that under D: where D R D₁⁻¹ is a rotation, it turns one strained
    crystal into the other. Mirrors are left out, since energies of the model are invariant under rotations alone.

    Args:
        structure: undeformed, with its exact symmetry.
        deformations: [3, 3] each.
    """
    operations = SpacegroupAnalyzer(structure, symprec=SYMPREC).get_symmetry_operations(cartesian=True)
    rotations = np.array([one.rotation_matrix for one in operations if np.linalg.det(one.rotation_matrix) > 0])
    found: list[Alike] = []
    for deformation in deformations:
        alike = (
            Alike(first, turn)
            for first in dict.fromkeys(one.first for one in found)
            for turn in deformation @ rotations @ np.linalg.inv(deformations[first])
            if np.allclose(turn @ turn.T, np.eye(3), rtol=0.0, atol=1e-6)
        )
        found.append(next(alike, Alike(len(found), np.eye(3))))
    return found


def fit_elastic_tensor(
    structure: Structure,
    deformations: Sequence[Array],
    stresses: Sequence[Array],
    equilibrium_stress: Array | None = None,
) -> ElasticResult:
    """Fit, symmetrise, orient and judge the elastic tensor.

    Args:
        structure: the relaxed, undeformed crystal.
        deformations: from `elastic_deformations`, applied to ``structure`` as it is oriented.
        stresses: [3, 3] Cauchy stress under each of them, eV/Å³, tensile positive, atoms relaxed.
        equilibrium_stress: [3, 3] stress of ``structure``, eV/Å³: what is left of a relaxation; None for none.
    """
    strains = [Strain.from_deformation(deformation) for deformation in deformations]
    # stress and strain of the same kind: Piola-Kirchhoff's second and Green's
    of_cells = [
        Stress(EV_PER_ANGSTROM3_TO_GPA * np.asarray(s)).piola_kirchoff_2(Deformation(d))
        for s, d in zip(stresses, deformations, strict=True)
    ]
    rest = Stress(
        EV_PER_ANGSTROM3_TO_GPA * np.asarray(np.zeros((3, 3)) if equilibrium_stress is None else equilibrium_stress)
    )
    fitted = ElasticTensor.from_independent_strains(strains, of_cells, eq_stress=rest, vasp=False)
    symmetric = fitted.fit_to_structure(structure, symprec=SYMPREC)
    system = SpacegroupAnalyzer(structure, symprec=SYMPREC).get_crystal_system()
    c_ij = np.array(symmetric.rotate(ieee_rotation(structure), tol=1e-2).voigt)
    c_ij = (c_ij + c_ij.T) / 2
    stability = mechanical_stability(c_ij, system)
    moduli = None
    if stability.eigenvalues_gpa[0] > 0:
        moduli = elastic_moduli(c_ij, len(structure) / structure.volume, density_g_cm3(structure))
    return ElasticResult(
        c_ij_gpa=c_ij,
        crystal_system=system,
        stability=stability,
        moduli=moduli,
        asymmetry_gpa=float(np.abs(np.array(fitted.voigt) - np.array(symmetric.voigt)).max()),
        nonlinearity=_nonlinearity(strains, of_cells, np.array(fitted.voigt), rest),
    )


def ieee_rotation(structure: Structure) -> Array:
    """[3, 3] from the axes of ``structure`` to those of the IEEE standard of 1987.

    Of two cells of one crystal these may be different ones, where the lattice has more symmetry than the crystal: the
    senses of a and b of a trigonal crystal, for example, and with them the sign of C14.
    """
    if SpacegroupAnalyzer(structure, symprec=SYMPREC).get_crystal_system() == "tetragonal":
        return standard_rotation(structure)  # pymatgen takes a for the fourfold axis if c is shorter than a
    return np.array(ElasticTensor.get_ieee_rotation(structure))


def standard_rotation(structure: Structure) -> Array:
    """[3, 3] from the axes of ``structure`` to those of `facets.standard_cells` of it."""
    return np.array(SquareTensor(symmetry(structure).std_rotation_matrix).refine_rotation())


def _nonlinearity(strains: list[Strain], stresses: list[Stress], c_ij: Array, rest: Stress) -> float:
    measured = np.array([np.array(stress.voigt) for stress in stresses]) - np.array(rest.voigt)
    linear = np.array([c_ij @ np.array(strain.voigt) for strain in strains])
    # a constant share is what is left of the relaxation, not of the strain
    left = (measured - linear).reshape(6, -1, 6)
    left = left - left.mean(axis=1, keepdims=True)
    return float(np.abs(left).max() / np.abs(measured).max())


# ---- stability -----------------------------------------------------------------------------------------------------


def mechanical_stability(c_ij_gpa: Array, crystal_system: str) -> MechanicalStability:
    """Born criteria of a crystal without external stress.

    Args:
        c_ij_gpa: [6, 6] Voigt, GPa, in the IEEE orientation.
        crystal_system: cubic, hexagonal, trigonal, tetragonal, orthorhombic, monoclinic or triclinic.
    """
    kelvin = np.diag([1, 1, 1, *[np.sqrt(2)] * 3])
    values, vectors = np.linalg.eigh(kelvin @ np.asarray(c_ij_gpa, dtype=float) @ kelvin)
    lowest = float(values[0])
    if lowest > MIN_EIGENVALUE_GPA:
        reason = f"every strain costs energy: smallest eigenvalue of the elastic tensor {lowest:.1f} GPa"
        return MechanicalStability(True, False, tuple(map(float, values)), (), reason)
    if lowest > 0:
        reason = (
            f"the softest strain hardly costs energy: smallest eigenvalue of the elastic tensor {lowest:.2f} GPa, "
            "within the error of its calculation"
        )
        return MechanicalStability(True, True, tuple(map(float, values)), (), reason)
    failed = tuple(_failed(np.asarray(c_ij_gpa, dtype=float), crystal_system))
    if not failed:
        failed = (f"softest strain {_strain_words(np.linalg.solve(kelvin, vectors[:, 0]))}",)
    reason = (
        f"a strain lowers the energy: {'; '.join(failed)} "
        f"({crystal_system}; smallest eigenvalue of the elastic tensor {lowest:.1f} GPa)"
    )
    return MechanicalStability(False, False, tuple(map(float, values)), failed, reason)


def _strain_words(strain: Array) -> str:
    """The large components of a strain in tensor components, scaled to 1, the largest of them positive."""
    strain = strain / strain[np.argmax(np.abs(strain))]
    parts = [f"{value:+.1f} {name}" for value, name in zip(strain, _VOIGT, strict=True) if abs(value) > 0.15]
    return " ".join(parts)


Criterion = tuple[str, Callable[[Array], float]]


def _c(c: Array, ij: int) -> float:
    return float(c[ij // 10 - 1, ij % 10 - 1])


_SHEAR: list[Criterion] = [("C44 > 0", lambda c: _c(c, 44))]
_UNIAXIAL: list[Criterion] = [
    ("C11 > |C12|", lambda c: _c(c, 11) - abs(_c(c, 12))),
    ("C33 (C11 + C12) > 2 C13²", lambda c: _c(c, 33) * (_c(c, 11) + _c(c, 12)) - 2 * _c(c, 13) ** 2),
    *_SHEAR,
]
CRITERIA: dict[str, list[Criterion]] = {
    "cubic": [
        ("C11 > C12", lambda c: _c(c, 11) - _c(c, 12)),
        ("C11 + 2 C12 > 0", lambda c: _c(c, 11) + 2 * _c(c, 12)),
        *_SHEAR,
    ],
    "hexagonal": _UNIAXIAL,
    "tetragonal": [
        *_UNIAXIAL,
        ("C66 (C11 - C12) > 2 C16²", lambda c: _c(c, 66) * (_c(c, 11) - _c(c, 12)) - 2 * _c(c, 16) ** 2),
        ("C66 > 0", lambda c: _c(c, 66)),
    ],
    "trigonal": [
        *_UNIAXIAL,
        (
            "C44 (C11 - C12) > 2 (C14² + C15²)",
            lambda c: _c(c, 44) * (_c(c, 11) - _c(c, 12)) - 2 * (_c(c, 14) ** 2 + _c(c, 15) ** 2),
        ),
    ],
    "orthorhombic": [
        ("C11 > 0", lambda c: _c(c, 11)),
        ("C11 C22 > C12²", lambda c: _c(c, 11) * _c(c, 22) - _c(c, 12) ** 2),
        ("det C[1..3, 1..3] > 0", lambda c: float(np.linalg.det(c[:3, :3]))),
        *_SHEAR,
        ("C55 > 0", lambda c: _c(c, 55)),
        ("C66 > 0", lambda c: _c(c, 66)),
    ],
}
"""Criteria by crystal system, after Mouhat and Coudert; for the other systems only the eigenvalues count."""


def _failed(c: Array, crystal_system: str) -> list[str]:
    """Criteria that do not hold, each with the constants that stand in it."""
    found = []
    for words, difference in CRITERIA.get(crystal_system, []):
        if difference(c) <= 0:
            names = list(dict.fromkeys(word.strip("()|²") for word in words.replace("²", "").split()))
            constants = [name for name in names if len(name) == 3 and name[0] == "C" and name[1:].isdigit()]
            numbers = ", ".join(f"{name} {_c(c, int(name[1:])):.1f}" for name in constants)
            found.append(f"{words} fails" + (f" ({numbers} GPa)" if numbers else ""))
    return found


# ---- moduli --------------------------------------------------------------------------------------------------------


def elastic_moduli(c_ij_gpa: Array, atoms_per_a3: float, density_g_cm3: float) -> ElasticModuli:
    """Moduli of a polycrystal of a mechanically stable crystal.

    Args:
        c_ij_gpa: [6, 6] Voigt, positive definite, GPa.
        atoms_per_a3: number density, 1/Å³, for the Debye temperature.
        density_g_cm3: mass density, g/cm³.
    """
    tensor = ElasticTensor.from_voigt(np.asarray(c_ij_gpa, dtype=float))
    k, g = float(tensor.k_vrh), float(tensor.g_vrh)
    return ElasticModuli(
        k_voigt_gpa=float(tensor.k_voigt),
        k_reuss_gpa=float(tensor.k_reuss),
        k_vrh_gpa=k,
        g_voigt_gpa=float(tensor.g_voigt),
        g_reuss_gpa=float(tensor.g_reuss),
        g_vrh_gpa=g,
        e_vrh_gpa=9 * k * g / (3 * k + g),
        poisson_ratio=(3 * k - 2 * g) / (6 * k + 2 * g),
        universal_anisotropy=float(tensor.universal_anisotropy),
        pugh_ratio=k / g,
        vickers_hardness_gpa=max(0.0, 2 * ((g / k) ** 2 * g) ** 0.585 - 3),
        debye_temperature_k=debye_temperature(k, g, atoms_per_a3, density_g_cm3),
    )


def debye_temperature(k_gpa: float, g_gpa: float, atoms_per_a3: float, density_g_cm3: float) -> float:
    """Debye temperature in K of an isotropic medium, from the mean sound velocity (O. L. Anderson, J. Phys. Chem.
    Solids 24, 909 (1963)): ħ/k_B (6π²n)^(1/3) v_m with v_m^-3 = (2 v_t^-3 + v_l^-3)/3.

    Args:
        k_gpa: bulk modulus, GPa.
        g_gpa: shear modulus, GPa.
        atoms_per_a3: number density, 1/Å³.
        density_g_cm3: mass density, g/cm³.
    """
    density = 1e3 * density_g_cm3  # kg/m³
    transverse = np.sqrt(1e9 * g_gpa / density)  # m/s
    longitudinal = np.sqrt(1e9 * (k_gpa + 4 / 3 * g_gpa) / density)
    mean = ((2 / transverse**3 + 1 / longitudinal**3) / 3) ** (-1 / 3)
    return float(_HBAR_J_S / _K_B_J_K * (6 * np.pi**2 * 1e30 * atoms_per_a3) ** (1 / 3) * mean)

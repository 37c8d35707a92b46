"""Cheap models of the thermal conductivity of a lattice: an upper estimate for a perfect crystal, and two lower limits.

    conductivity = slack(debye_temperature_k=640, gruneisen=1.0, mean_mass=28.09, volume=20.4, n_atoms=2)

They order materials and give a magnitude; a calculation of third-order force constants gives numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy.constants import Boltzmann, atomic_mass, pi

ROOM_K = 300.0


def slack(
    debye_temperature_k: float,
    gruneisen: float,
    mean_mass: float,
    volume: float,
    n_atoms: int,
    temperature_k: float = ROOM_K,
) -> float:
    """Conductivity by acoustic phonons that scatter each other, W/(m K).

    D. T. Morelli and G. A. Slack, in High Thermal Conductivity Materials (Springer, 2006), chapter 2.

    Args:
        debye_temperature_k: K, of all modes; the acoustic one is smaller by the cube root of ``n_atoms``.
        gruneisen: of the acoustic modes.
        mean_mass: of an atom, u.
        volume: of an atom, Å³.
        n_atoms: of the primitive cell.
        temperature_k: K; the model holds from about the acoustic Debye temperature upwards.
    """
    factor = 2.43e-6 / (1 - 0.514 / gruneisen + 0.228 / gruneisen**2)
    acoustic = debye_temperature_k * n_atoms ** (-1 / 3)
    length = (n_atoms * volume) ** (1 / 3)
    return factor * mean_mass * acoustic**3 * length / (gruneisen**2 * temperature_k)


def gruneisen_of_poisson(poisson_ratio: float) -> float:
    """Grüneisen parameter from elasticity alone: V. N. Belomestnykh and E. P. Tesleva, Tech. Phys. 49, 1098 (2004)."""
    return 1.5 * (1 + poisson_ratio) / (2 - 3 * poisson_ratio)


@dataclass(frozen=True)
class SoundWaves:
    """Velocities of sound of a polycrystal without texture, m/s."""

    longitudinal_m_s: float
    transverse_m_s: float


def sound_waves(bulk_modulus_gpa: float, shear_modulus_gpa: float, mean_mass: float, volume: float) -> SoundWaves:
    """From moduli in GPa, the mean mass of an atom in u and its volume in Å³."""
    density = mean_mass * atomic_mass / (volume * 1e-30)
    return SoundWaves(
        longitudinal_m_s=((bulk_modulus_gpa + 4 / 3 * shear_modulus_gpa) * 1e9 / density) ** 0.5,
        transverse_m_s=(shear_modulus_gpa * 1e9 / density) ** 0.5,
    )


def clarke(young_modulus_gpa: float, mean_mass: float, volume: float) -> float:
    """Lower limit, W/(m K), when phonons go no further than from atom to atom: D. R. Clarke, Surf. Coat. Technol. 163,
    67 (2003). Modulus in GPa, mean mass of an atom in u, its volume in Å³.
    """
    mass = mean_mass * atomic_mass
    density = mass / (volume * 1e-30)
    return float(0.87 * Boltzmann * mass ** (-2 / 3) * (young_modulus_gpa * 1e9) ** 0.5 * density ** (1 / 6))


def cahill(waves: SoundWaves, volume: float) -> float:
    """Lower limit of a disordered solid at high temperature, W/(m K): D. G. Cahill, S. K. Watson and R. O. Pohl, Phys.
    Rev. B 46, 6131 (1992). Volume of an atom in Å³.
    """
    density = 1e30 / volume
    speeds = waves.longitudinal_m_s + 2 * waves.transverse_m_s
    return float(0.5 * (pi / 6) ** (1 / 3) * Boltzmann * density ** (2 / 3) * speeds)

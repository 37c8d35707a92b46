"""At which temperature an oxide gives off oxygen.

O2 leaves where the chemical potential that a reaction leaves to it reaches that of the gas,

    μ(T, p) = 2 g(T) + kT ln(p / 1 bar)        eV per O2 from its enthalpy at 298 K

with g the measured free energy of oxygen by atom. Of the solids nothing but the energy is taken, which changes less
(L. Wang, T. Maxisch, G. Ceder, Chem. Mater. 19, 543 (2007)). The energy of O2 is that of the corrected hull: schemes
are fitted to measured enthalpies of oxides at 298 K, and no molecule of the model comes in.
"""

from __future__ import annotations

import math
from functools import cache

from pymatgen.entries.computed_entries import G_ELEMS
from scipy.constants import Boltzmann, electron_volt
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq

from dpa4_flows.analysis.thermodynamics import T_RANGE

AIR = 0.21
"""bar, of O2."""


@cache
def _by_atom() -> CubicSpline:
    """g(T), eV per atom of O2 at 1 bar: the table behind `gibbs_entries` (C. Bartel et al., Nat. Commun. 9, 4168
    (2018)), which pymatgen holds every 100 K; within 1 meV of M. W. Chase, NIST-JANAF Thermochemical Tables (1998).
    """
    table = sorted((float(temperature), float(row["O"])) for temperature, row in G_ELEMS.items() if "O" in row)
    return CubicSpline(*zip(*table, strict=True))


def oxygen_gas(temperature: float, pressure: float = 1.0) -> float:
    """Chemical potential of the gas, eV per O2 from its enthalpy at 298 K.

    Args:
        temperature: K, 300 to 2000.
        pressure: of O2, bar.
    """
    kt = Boltzmann / electron_volt * temperature
    return 2.0 * float(_by_atom()(temperature)) + kt * math.log(pressure)


def release_temperature(potential: float, pressure: float = AIR) -> float | None:
    """Temperature at which the gas has a chemical potential, K: 300 where it is so low already at this or less; None
    where it is not at 2000 K.

    Args:
        potential: eV per O2, as in `oxygen_gas`.
        pressure: of O2, bar.
    """
    low, high = T_RANGE
    if potential >= oxygen_gas(low, pressure):
        return low
    if potential < oxygen_gas(high, pressure):
        return None
    return float(brentq(lambda temperature: oxygen_gas(temperature, pressure) - potential, low, high))

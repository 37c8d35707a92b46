"""Gases that a solid takes up from air or gives off to it, in the frame of `thermodynamics.gibbs_entries`.

    μ(T, p) = ΔG°(T) + kT ln(p / 1 bar)        eV per molecule from the elements at 1 bar

with ΔG° as measured (M. W. Chase, NIST-JANAF Thermochemical Tables (1998)): the table of pymatgen behind those entries,
so that gases that come with the phases and those from here are the same.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import cache

from pymatgen.core import Composition, Element
from pymatgen.entries.computed_entries import G_GASES, ComputedEntry
from scipy.interpolate import CubicSpline

from dpa4_core.units import BOLTZMANN_EV_K
from dpa4_flows.analysis.thermodynamics import check_temperature

ELEMENTS = ("H2", "N2", "O2", "F2", "Cl2")
COMPOUNDS = ("H2O", "CO2", "CO", "H2S", "SO2", "NH3", "PH3", "HF", "HCl", "HBr", "CH4", "SiF4", "BF3", "BCl3", "PF5")

_OUT_OF_REACH = 20.0  # eV/atom


@cache
def _formation(formula: str) -> CubicSpline:
    table = G_GASES[Composition(formula).get_integer_formula_and_factor()[0]]
    points = sorted((float(t), float(g)) for t, g in table.items() if float(t) > 0)
    return CubicSpline(*zip(*points, strict=True))


def gas_potential(formula: str, temperature: float, pressure: float = 1.0) -> float:
    """Chemical potential of a gas of `ELEMENTS` or `COMPOUNDS`, eV per molecule from the elements at 1 bar.

    Args:
        formula: of the molecule.
        temperature: K, 300 to 2000.
        pressure: bar.

    Raises:
        ThermodynamicsError: a temperature outside the tables.
    """
    check_temperature(temperature)
    standard = 0.0 if formula in ELEMENTS else float(_formation(formula)(temperature))
    return standard + BOLTZMANN_EV_K * temperature * math.log(pressure)


def with_gases(
    entries: Sequence[ComputedEntry],
    symbols: Collection[str],
    temperature: float,
    pressures: Mapping[str, float],
    others: float,
) -> list[ComputedEntry]:
    """Gibbs energies in which the molecules of the table are gases at their pressures.

    Args:
        entries: from `gibbs_entries`; crystals of the molecules are left out.
        symbols: elements of the gases that may form.
        temperature: K, that of the entries.
        pressures: bar, by formula.
        others: bar, of gases without one.
    """
    known = [
        formula for formula in (*ELEMENTS, *COMPOUNDS) if set(Composition(formula).get_el_amt_dict()) <= set(symbols)
    ]
    molecules = {Composition(formula).reduced_formula for formula in known if formula in COMPOUNDS}
    frame = next((entry.data["frame"] for entry in entries if entry.data.get("frame")), None)
    data = {} if frame is None else {"frame": frame}
    gases = [
        ComputedEntry(formula, gas_potential(formula, temperature, pressures.get(formula, others)), data=dict(data))
        for formula in known
    ]
    return [*(entry for entry in entries if entry.composition.reduced_formula not in molecules), *gases]


def unreduced(entries: Sequence[ComputedEntry], gas: str) -> list[ComputedEntry]:
    """Entries in which water keeps its H⁺, or carbon dioxide its C⁴⁺: no hydrogen, hydrides, carbon, carbides and CO.

    Salts hydrolyse within minutes; that their anions reduce water, or carbon dioxide, energy allows and nobody sees.
    """
    symbol = {"H2O": "H", "CO2": "C"}[gas]

    def keeps(entry: ComputedEntry) -> bool:
        held = entry.composition.get_el_amt_dict()
        if symbol == "C":
            return "C" not in held or held.get("O", 0.0) >= 2 * held["C"]
        others = [Element(one) for one in held if one != "H"]
        return "H" not in held or any(not element.is_metal for element in others)

    # a hull needs every element
    out_of_reach = ComputedEntry(symbol, _OUT_OF_REACH, data=dict(entries[0].data))
    return [*filter(keeps, entries), out_of_reach]

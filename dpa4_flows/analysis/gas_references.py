"""Energies of gas molecules by level of theory, and of the atoms of adsorbates relative to them.

A potential trained on crystals is no good at isolated molecules (DPA4-Neo: H₂ +0.14, H₂O +0.12, CH₄ and NH₃ +0.21 eV),
while its surfaces are right. So these are numbers of the level of theory, and never those of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from dpa4_flows.analysis.frames import is_pbe, is_r2scan

PBE_GAS: Mapping[str, float] = {
    "H2": -6.77,
    "H2O": -14.22,
    "CO": -14.78,
    "CO2": -22.96,
    "N2": -16.63,
    "NH3": -19.54,
    "CH4": -24.04,
    "H2S": -11.21,
}
"""eV per molecule, VASP with PBE and its standard potentials, spin-polarised, in a large box; ±0.02 eV. H₂S: from S₂
(−7.164 eV, VASP 6 with PBE_64; github.com/janosh/matbench-discovery, diatomics) and atomization energies of VASP with
PBE (J. Paier et al., J. Chem. Phys. 122, 234102 (2005)): S₂ 115.4, H₂ 104.6, H₂S 182.0 kcal/mol; ±0.03. Measured heats
of formation (−17.6 kJ/mol at 0 K) and α-sulfur of the same potentials (−4.124 eV) give −11.20."""

R2SCAN_GAS: Mapping[str, float] = {"H2": -6.911, "N2": -18.218}
"""eV per molecule, VASP 6 with r2SCAN and PBE_64, the lowest points of the curves of both pairs (MIT;
github.com/janosh/matbench-discovery, diatomics; of PBE they give −6.775 and −16.664). Solid H₂ and N₂ of MatPES r2SCAN
are 0.001 and 0.04 eV below. Water, CO and H₂S in these settings are not public: O, C and S have to be given."""

PBE_ERRORS: Mapping[str, float] = {"CO": 0.24}
"""eV, by which PBE puts a molecule too high beside graphite, H₂ and H₂O (L. P. Granda-Marulanda et al., ACS Catal. 10,
6900 (2020)); graphite of the same potentials (−9.23 eV) and the numbers above give 0.28. It is part of energies that
are counted from CO, and not of a reaction whose ends are measured."""

GAS_MOTION: Mapping[str, tuple[float, float, float]] = {
    "H2": (0.270, 0.088, 0.404),
    "H2O": (0.558, 0.103, 0.670),
    "CO": (0.134, 0.090, 0.611),
    "N2": (0.146, 0.090, 0.592),
    "H2S": (0.403, 0.103, 0.636),
}
"""Zero-point energy, heat content H(298.15 K) − H(0) and TS, eV per molecule, at 1 bar, water at 0.035 bar, where it is
in equilibrium with the liquid: M. W. Chase, NIST-JANAF Thermochemical Tables (1998), and zero-point energies of the
NIST Computational Chemistry Comparison and Benchmark Database, release 22."""

REFERENCES: Mapping[str, Mapping[str, float]] = {
    "H": {"H2": 0.5},
    "O": {"H2O": 1, "H2": -1},
    "C": {"CO": 1, "H2": 1, "H2O": -1},
    "N": {"N2": 0.5},
    "S": {"H2S": 1, "H2": -1},
}
"""What an atom of an adsorbate is compared with; so CO is with CO, OH with H2O - 1/2 H2, NH2 with 1/2 N2 + H2."""


def reference_words(symbol: str) -> str:
    """The reference of an element as one reads it: ``"H2O - H2"``."""
    first, *others = REFERENCES[symbol].items()
    more = (f" {'+' if n > 0 else '-'} {_molecules(molecule, abs(n))}" for molecule, n in others)
    return _molecules(*first) + "".join(more)


def _molecules(molecule: str, n: float) -> str:
    return molecule if n == 1 else f"{Fraction(n)} {molecule}"


def element_references(level_of_theory: str) -> dict[str, float]:
    """Energy of an atom of each element in its reference, eV; {} if no table of this level of theory is known.

    A level that is not stated counts as PBE, as for corrections.
    """
    gas = PBE_GAS if is_pbe(level_of_theory) else R2SCAN_GAS if is_r2scan(level_of_theory) else {}
    return _by_element(gas)


def _by_element(gas: Mapping[str, float]) -> dict[str, float]:
    """A number of molecules, by the atoms of `REFERENCES` whose molecules have one."""
    known = {symbol: parts for symbol, parts in REFERENCES.items() if set(parts) <= set(gas)}
    return {symbol: sum(n * gas[molecule] for molecule, n in parts.items()) for symbol, parts in known.items()}


def carbon_error(level_of_theory: str) -> float:
    """How much too high carbon is that is counted from CO, eV per atom."""
    return PBE_ERRORS["CO"] if is_pbe(level_of_theory) else 0.0


def gas_motion(amounts: Mapping[str, float]) -> float | None:
    """Free energy of the motion of atoms in their references, eV, 298.15 K; None if an element has none.

    Args:
        amounts: of each element.
    """
    motion = {name: zero_point + heat - ts for name, (zero_point, heat, ts) in GAS_MOTION.items()}
    each = _by_element(motion)
    return sum(n * each[symbol] for symbol, n in amounts.items()) if set(amounts) <= set(each) else None


def adsorption_energy(
    covered: float, clean: float, amounts: Mapping[str, float], references: Mapping[str, float]
) -> float | None:
    """E(covered) − E(clean) − Σ nᵢμᵢ, eV; None if an element has no reference."""
    if not set(amounts) <= set(references):
        return None
    return covered - clean - sum(n * references[symbol] for symbol, n in amounts.items())

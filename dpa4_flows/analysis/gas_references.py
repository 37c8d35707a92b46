"""Energies of gas molecules by level of theory, and of the atoms of adsorbates relative to them.

A potential trained on crystals is no good at isolated molecules (DPA4-Neo: H₂ +0.14, H₂O +0.12, CH₄ and NH₃ +0.21 eV),
while its surfaces are right. So these are numbers of the level of theory, and never those of the model.
"""

from __future__ import annotations

from collections.abc import Mapping

from dpa4_flows.analysis.frames import is_pbe

PBE_GAS: Mapping[str, float] = {
    "H2": -6.77,
    "H2O": -14.22,
    "CO": -14.78,
    "CO2": -22.96,
    "N2": -16.63,
    "NH3": -19.54,
    "CH4": -24.04,
    "H2S": -11.20,
}
"""eV per molecule, VASP with PBE and its standard potentials, spin-polarised, in a large box; ±0.02 eV (H₂S ±0.05)."""

REFERENCES: Mapping[str, str] = {"H": "1/2 H2", "O": "H2O - H2", "C": "CO + H2 - H2O", "N": "1/2 N2", "S": "H2S - H2"}
"""What an atom of an adsorbate is compared with; so CO is with CO, OH with H2O - 1/2 H2, NH2 with 1/2 N2 + H2."""


def element_references(level_of_theory: str) -> dict[str, float]:
    """Energy of an atom of each element in its reference, eV; {} if no table of this level of theory is known.

    A level that is not stated counts as PBE, as for corrections.
    """
    if not is_pbe(level_of_theory):
        return {}
    gas = PBE_GAS
    hydrogen, oxygen = gas["H2"] / 2, gas["H2O"] - gas["H2"]
    return {"H": hydrogen, "O": oxygen, "C": gas["CO"] - oxygen, "N": gas["N2"] / 2, "S": gas["H2S"] - gas["H2"]}


def adsorption_energy(
    covered: float, clean: float, amounts: Mapping[str, float], references: Mapping[str, float]
) -> float | None:
    """E(covered) − E(clean) − Σ nᵢμᵢ, eV; None if an element has no reference."""
    if not set(amounts) <= set(references):
        return None
    return covered - clean - sum(n * references[symbol] for symbol, n in amounts.items())

"""Free energies of adsorbates at an electrode, after the computational hydrogen electrode.

ΔG = ΔE + (ΔZPE − TΔS) at 298 K, 1 bar (water at 0.035 bar, where it is in equilibrium with the liquid), pH 0 and 0 V
against the standard hydrogen electrode, which is 0 V against the reversible one at any pH: a proton and an electron
have the free energy of half a hydrogen molecule (J. K. Nørskov et al., J. Phys. Chem. B 108, 17886 (2004)). Every
electron that goes into an adsorbate adds eU.
"""

from __future__ import annotations

from collections.abc import Mapping

CORRECTIONS: Mapping[str, float] = {
    "H": 0.24,
    "O": 0.05,
    "OH": 0.35,
    "OOH": 0.40,
    "CO": 0.45,
    "N2H": 0.85,
    "NH2": 0.70,
}
"""ΔZPE − TΔS, eV, from the references of `gas_references` to the adsorbate: values in common use for metals, each
±0.05 (H: Nørskov et al., J. Electrochem. Soc. 152, J23 (2005)). Adsorbates that are usually referred to CO₂ are not
here: the table of gases refers their carbon to CO."""


def free_energy(
    adsorption_energy: float | None, adsorbate: str, corrections: Mapping[str, float] | None = None
) -> float | None:
    """ΔG of adsorption, eV, at 298 K and 0 V; None without an energy or a correction of this adsorbate.

    Args:
        adsorption_energy: ΔE, electronic, eV.
        adsorbate: its name.
        corrections: ΔZPE − TΔS by name, eV, that come before those of the table.

    """
    correction = {**CORRECTIONS, **(corrections or {})}.get(adsorbate)
    return None if correction is None or adsorption_energy is None else adsorption_energy + correction

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
    "CO": 0.50,
    "COOH": 0.87,
    "CHO": 0.80,
    "N": 0.26,
    "NH": 0.59,
    "NH2": 0.92,
    "N2H": 0.81,
    "S": 0.12,
    "CH3": 1.42,
}
"""ΔZPE − TΔS, eV, from the references of `gas_references` to the adsorbate, each ±0.05. H, O, OH, OOH and CO: values in
common use for metals (J. K. Nørskov et al., J. Electrochem. Soc. 152, J23 (2005) and J. Phys. Chem. B 108, 17886
(2004); A. A. Peterson et al., Energy Environ. Sci. 3, 1311 (2010)). The others: harmonic free energies on Pt (111) at
298 K, from vibrations by K. Blöndal et al., Ind. Eng. Chem. Res. 58, 17682 (2019), and the library that grew from them
(github.com/kirkbadger18/thermo_kinetics_scripts, Pt111_ads_data.py), less `gas_references.GAS_MOTION`. S: of DPA4-Neo
on Pt (111)."""


SOLVATION: Mapping[str, float] = {"OH": -0.5, "OOH": -0.4, "COOH": -0.25, "CO": -0.1, "CHO": -0.1}
"""eV, by which water lowers free energies of adsorbates on metals, ±0.1: hydroxyl, hydroxyl behind another atom, and
carbonyl (A. A. Peterson et al., Energy Environ. Sci. 3, 1311 (2010)); OOH, which published numbers put at −0.3 to −0.4,
with both of its oxygens."""


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

"""Ions that move: charges, by which voltages of electrodes and windows are counted, and potentials of their metals."""

from __future__ import annotations

from dpa4_core.errors import DPA4Error

ION_CHARGES: dict[str, int] = {
    **dict.fromkeys(("Li", "Na", "K", "Rb", "Cs", "Ag"), 1),
    **dict.fromkeys(("Mg", "Ca", "Sr", "Ba", "Zn"), 2),
    **dict.fromkeys(("Al", "Y"), 3),
}
"""Elementary charges of the common ion of a metal; metals with two common ions, as Cu, are left out."""


STANDARD_POTENTIALS: dict[str, float] = {
    **{"Li": -3.04, "Na": -2.71, "K": -2.93, "Rb": -2.98, "Cs": -3.03, "Ag": 0.80},
    **{"Mg": -2.37, "Ca": -2.87, "Sr": -2.90, "Ba": -2.91, "Zn": -0.76},
    **{"Al": -1.66, "Y": -2.37},
}
"""Of ion and metal in water, V against hydrogen (CRC Handbook of Chemistry and Physics): how far the scales of voltages
against two metals are apart, within 0.1 V or so in other solvents."""


class IonError(DPA4Error):
    """Nothing is known of an ion; one sentence."""


def ion_charge(ion: str) -> int:
    """Elementary charges that an ion carries.

    Raises:
        IonError: it is not in `ION_CHARGES`.
    """
    if ion not in ION_CHARGES:
        raise IonError(f"{ion!r} is not allowed as a working ion; expected {', '.join(ION_CHARGES)}")
    return ION_CHARGES[ion]


def against_metal(voltage: float, ion: str) -> float:
    """A voltage against lithium, V, as it is against the metal of another ion."""
    return voltage + STANDARD_POTENTIALS["Li"] - STANDARD_POTENTIALS[ion]

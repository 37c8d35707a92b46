"""Charges of ions that move: the one table by which voltages are counted, in electrodes and in windows."""

from __future__ import annotations

from dpa4_core.errors import DPA4Error

ION_CHARGES: dict[str, int] = {
    **dict.fromkeys(("Li", "Na", "K", "Rb", "Cs", "Ag"), 1),
    **dict.fromkeys(("Mg", "Ca", "Sr", "Ba", "Zn"), 2),
    **dict.fromkeys(("Al", "Y"), 3),
}
"""Elementary charges of the common ion of a metal; metals with two common ions, as Cu, are left out."""


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

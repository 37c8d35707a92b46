"""What is known of models and corrections, chemistry by chemistry: the one place that decides it.

``docs/levels-of-theory.md`` shows these tables with their reasons (a test compares them); code, campaign files and
other pages quote them. Errors are those of DPA4-Neo with the weights of `DPA4_NEO_SHA256`; nothing is known of other
weights.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

DPA4_NEO_SHA256 = "0777cc770defc4d6d2656e2dc66fd0b72baf23108ad4128d92f51f83e9bc4dd2"
"""Weights that everything here was measured with."""

U_ANIONS = frozenset({"O", "F"})
"""With one of them V, Cr, Mn, Fe, Co, Ni, Mo and W have +U, and a correction."""


class SchemeError(NamedTuple):
    """Formation energies of DPA4-Neo with one correction scheme against experiment.

    Attributes:
        mean: mean absolute error over 41 compounds, eV/atom.
        with_u: the same over the 11 oxides and fluorides of U metals.
        cobalt: mean error of CoO and Co3O4, eV/atom; negative is too stable.
    """

    mean: float
    with_u: float
    cobalt: float


SCHEME_ERRORS: dict[str, SchemeError] = {
    "OMat24": SchemeError(0.068, 0.091, -0.22),
    "MP2020": SchemeError(0.060, 0.053, 0.00),
    "none": SchemeError(0.482, 1.244, 1.13),
}

VOLTAGE_ERRORS: dict[str, float] = {"Ti": 0.30, "Mn": 0.20, "Fe": 0.10, "Co": 0.25, "Ni": 0.25}
"""Error bar of an average voltage against experiment by the metal that is oxidised, V: how far PBE+U (Ti: PBE) of the
literature lies from the middle of what was measured, in the worst case, rounded up to 0.05 and at least 0.1. What
deviates by more is an error of the model, not of its level of theory."""

OTHER_VOLTAGE_ERROR = 0.3
"""V, for metals without a known electrode."""


def voltage_error(metal: str) -> float:
    """Error bar of an average voltage, V."""
    return VOLTAGE_ERRORS.get(metal, OTHER_VOLTAGE_ERROR)


COBALT = (
    f"the OMat24 correction of Co makes CoO and Co3O4 {-SCHEME_ERRORS['OMat24'].cobalt:.1f} eV/atom too stable with "
    "DPA4-Neo, so that what decomposes to them looks less stable than it is; decide by a refit of the corrections, or "
    "by MP2020, whose value for Co agrees with the refit"
)
"""The one decision on cobalt, for every place that speaks of it."""


def needs_cobalt_decision(elements: Collection[str], scheme: str) -> bool:
    """Whether `COBALT` concerns hulls of these elements with this scheme."""
    return scheme == "OMat24" and "Co" in elements and bool(U_ANIONS & set(elements))

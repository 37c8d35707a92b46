"""Band gaps that come from elsewhere, set on one scale: that of measurements, each with its error.

A model of energies has no gap. What there is: a property model, a number in the file of a candidate, and a guess from
the composition. Gaps of PBE are too small, so that a limit on one would reject gallium arsenide as a solar cell; a line
through compounds with both raises them, and its scatter is part of the error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition, Element

from dpa4_core.units import BOLTZMANN_EV_K
from dpa4_flows.analysis.oxidation import guess_oxidation_states

Array = NDArray[np.float64]


class Level(NamedTuple):
    """How measured gaps follow from those of one level of theory: ``offset + slope * gap``, eV, within ``error``."""

    slope: float
    offset: float
    error: float


MEASURED, PBE = "measured", "PBE"
# benchmarks/band_gaps.py: 1,020 compositions with a measured gap and one of the Materials Project
LEVELS = {MEASURED: Level(1.0, 0.0, 0.1), PBE: Level(1.05, 0.65, 0.85)}
CLOSED = Level(0.0, 0.10, 0.48)
"""Of 2,171 that are metals in PBE: 7 % of them have a gap, 1.5 eV on average."""
_SAME = {"experiment": MEASURED, "GGA": PBE, "PBE+U": PBE, "GGA+U": PBE, "PBE or PBE+U": PBE}

MATERIALS_PROJECT = "PBE or PBE+U"
"""Level of the gaps of the Materials Project."""


class GapError(ValueError):
    """A stated gap that cannot be used; one sentence."""


@dataclass(frozen=True)
class Gap:
    """One estimate of a gap.

    Attributes:
        value: estimate of the measured gap, eV.
        error: its standard deviation, eV.
        stated: as its source has it, eV.
        level: level of theory of that.
        placed: whether it is known how measured gaps follow from those of this level; else ``value`` is ``stated``.
    """

    value: float
    error: float
    stated: float
    level: str
    placed: bool = True


def measured_gap(stated: float, level: str, error: float = 0.0) -> Gap:
    """What a gap at one level of theory says of the measured one.

    Args:
        stated: eV; one below zero, which only a fit gives, is that of a metal.
        level: of theory, by name.
        error: of ``stated`` against its own level, eV.
    """
    name = _SAME.get(level, level)
    known = LEVELS.get(name, Level(1.0, 0.0, 0.0))
    if name == PBE and stated <= 0:
        known = CLOSED
    value = max(0.0, known.offset + known.slope * max(0.0, stated))
    return Gap(value, math.hypot(known.error, known.slope * error), stated, level, name in LEVELS)


def stated_gap(facts: Mapping[str, Any]) -> Gap | None:
    """The gap that the file of a crystal states; None if it states none.

    Args:
        facts: ``band_gap`` in eV, ``band_gap_level``, which a ``material_id`` of the Materials Project stands for, and
            ``band_gap_error`` in eV, if it is known.

    Raises:
        GapError: it is no number, or at no level of theory.
    """
    value = facts.get("band_gap")
    if value is None:
        return None
    if not _is_size(value):
        raise GapError(f"its file says band_gap = {value!r}, which is no gap in eV")
    error = facts.get("band_gap_error")
    if error is not None and not _is_size(error):
        raise GapError(f"its file says band_gap_error = {error!r}, which is no error in eV")
    level = facts.get("band_gap_level")
    if level is None and str(facts.get("material_id", "")).startswith(("mp-", "mvc-")):
        level = MATERIALS_PROJECT
    if not isinstance(level, str) or not level:
        raise GapError(
            f"its file says band_gap = {value:g} and not at which level of theory: write band_gap_level, "
            f'"{PBE}" or "{MEASURED}" say'
        )
    found = measured_gap(float(value), level, float(error or 0.0))
    if not found.placed and error is None:
        known = ", ".join((*LEVELS, *_SAME))
        raise GapError(
            f"its file gives a gap of {level} without its error: write band_gap_error (eV); those of {known} are known"
        )
    return found


def _is_size(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


# ---- from the composition


def ionic_features(composition: Composition) -> Array | None:
    """What the gap of a compound of ions with closed shells follows, roughly; None for others, which may be metals.

    1, the difference of the electronegativities of anions and cations (Pauling), the mean periods of both.
    """
    amounts = composition.get_el_amt_dict()
    charges = guess_oxidation_states(composition)
    cations = {symbol: n for symbol, n in amounts.items() if charges.get(symbol, 0) > 0}
    anions = {symbol: n for symbol, n in amounts.items() if charges.get(symbol, 0) < 0}
    if not cations or not anions or set(anions) - _ANIONS:
        return None
    if not all(_is_closed(Element(symbol), charges[symbol]) for symbol in cations):
        return None

    def mean(of: Mapping[str, float], what: Callable[[Element], float]) -> float:
        return sum(n * float(what(Element(symbol))) for symbol, n in of.items()) / sum(of.values())

    pull = mean(anions, lambda one: one.X) - mean(cations, lambda one: one.X)
    return np.array([1.0, pull, mean(anions, lambda one: one.row), mean(cations, lambda one: one.row)])


_ANIONS = {"N", "P", "As", "Sb", "O", "S", "Se", "Te", "F", "Cl", "Br", "I"}


def _is_closed(element: Element, charge: float) -> bool:
    """Whether a cation has a whole charge and no d or f shell that is partly full."""
    if abs(charge - round(charge)) > 1e-6:
        return False
    if element.is_lanthanoid or element.is_actinoid:
        return element.symbol in ("La", "Lu")
    return not (element.is_transition_metal and 0 < element.group - charge < 10)


# benchmarks/band_gaps.py: 1,142 such compounds with a measured gap, 8 % of which the table calls metals
IONIC = np.array([4.04, 1.55, -0.32, -0.475])
IONIC_ERROR = 1.03
"""EV, of compounds with a gap that the fit has not seen; 1.57 with the mean alone."""


def composition_gap(composition: Composition) -> Gap | None:
    """A guess from the composition alone; None where there is nothing to guess from."""
    features = ionic_features(composition)
    if features is None:
        return None
    value = max(0.0, float(features @ IONIC))
    return Gap(value, IONIC_ERROR, value, f"guess from the composition, fitted to {MEASURED} gaps")


# ---- what a gap is good for

_SUN_K, _CELL_K = 5778.0, 300.0
_SUN_SHARE = 2.165e-5  # of the hemisphere


def shockley_queisser_percent(gap: float) -> float:
    """Largest efficiency of a solar cell with one gap, in %, by detailed balance of radiation alone (W. Shockley and H.
    J. Queisser, J. Appl. Phys. 32, 510 (1961)): the sun as a black body of 5778 K, the cell at 300 K.

    Args:
        gap: eV.
    """
    if not 0.05 < gap < 10:
        return 0.0
    energies = np.geomspace(1e-3, 20.0, 4000)
    above = np.linspace(gap, gap + 12.0, 4000)

    def photons(grid: Array, kelvin: float) -> Array:
        fading = np.exp(-grid / (BOLTZMANN_EV_K * kelvin))
        return np.asarray(grid**2 * fading / (1 - fading))

    shone = _SUN_SHARE * np.trapezoid(energies * photons(energies, _SUN_K), energies)
    absorbed = _SUN_SHARE * np.trapezoid(photons(above, _SUN_K), above)
    emitted = np.trapezoid(photons(above, _CELL_K), above)
    volts = np.linspace(0.0, gap, 2000)
    power = volts * (absorbed - emitted * np.expm1(volts / (BOLTZMANN_EV_K * _CELL_K)))
    return float(100 * power.max() / shone)

"""Oxidation states from a composition: the most probable charge-neutral assignment, mixed valence included.

Each atom of the reduced formula takes one of its element's states, and the sum of their frequencies in the
ICSD is maximised under charge neutrality. This is the criterion of pymatgen's
``Composition.oxi_state_guesses``; here it is solved by dynamic programming over the total charge, which takes
milliseconds where the enumeration takes minutes (Li10GeP2S12, Li7La3Zr2O12) and gives the same optimum.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.bond_valence import PRIOR_PROB
from pymatgen.core import Composition, Element

MAX_ATOMS = 500  # of the reduced formula; beyond it a cell is disordered and formal states mean little

_Scores = tuple[int, NDArray[np.float64]]  # lowest total charge, best score by total charge; -inf where unreachable


def guess_oxidation_states(composition: Composition, *, rare_states: bool = False) -> dict[str, float]:
    """Mean oxidation state by element symbol, {} if no neutral assignment exists.

    Mixed valence gives a fraction: Fe3O4 has Fe +8/3. ``rare_states`` admits every known state of an element
    instead of those that are common in the ICSD. Metals among themselves have none: Cu⁺Au⁻ would be neutral, too.
    """
    amounts = composition.get_el_amt_dict()
    if all(element.is_metal for element in composition.elements):
        return {}
    if any(amount != int(amount) for amount in amounts.values()):
        return {}
    divisor = math.gcd(*(int(amount) for amount in amounts.values()))
    if sum(amounts.values()) > MAX_ATOMS * divisor:
        return {}
    return dict(
        _guess(tuple(sorted((symbol, int(amount) // divisor) for symbol, amount in amounts.items())), rare_states)
    )


@lru_cache(maxsize=65536)
def _guess(amounts: tuple[tuple[str, int], ...], rare_states: bool) -> tuple[tuple[str, float], ...]:
    charges = _best_charges([_element_scores(symbol, n, rare_states) for symbol, n in amounts])
    if charges is None:
        return ()
    return tuple((symbol, charge / n) for (symbol, n), charge in zip(amounts, charges, strict=True))


def _element_scores(symbol: str, n_atoms: int, rare_states: bool) -> _Scores:
    """Best summed frequency of ``n_atoms`` atoms for every total charge they can carry."""
    element = Element(symbol)
    common = element.icsd_oxidation_states or element.common_oxidation_states
    states = element.oxidation_states if rare_states else common
    if not states:
        return 0, np.full(1, -np.inf)
    frequency = _frequencies()
    charges = [int(state) for state in states]
    low, span = min(charges), max(charges) - min(charges)
    scores = np.zeros(1)
    for _ in range(n_atoms):
        longer = np.full(len(scores) + span, -np.inf)
        for charge in charges:
            shift = charge - low
            part = longer[shift : shift + len(scores)]
            np.maximum(part, scores + frequency.get((symbol, charge), 0.0), out=part)
        scores = longer
    return low * n_atoms, scores


def _best_charges(elements: list[_Scores]) -> list[int] | None:
    """Total charge of each element in the best neutral assignment, None if there is none."""
    prefixes: list[_Scores] = [(0, np.zeros(1))]
    for low, scores in elements:
        start, prefix = prefixes[-1]
        combined = np.full(len(prefix) + len(scores) - 1, -np.inf)
        for i, score in enumerate(scores):
            part = combined[i : i + len(prefix)]
            np.maximum(part, prefix + score, out=part)
        prefixes.append((start + low, combined))

    charges: list[int] = []
    remaining = 0
    for (low, scores), (start, prefix) in zip(reversed(elements), reversed(prefixes[:-1]), strict=True):
        # the elements before this one carry the charge remaining - (low + i), at index [.] - start of prefix
        index = remaining - low - np.arange(len(scores)) - start
        inside = (index >= 0) & (index < len(prefix))
        total = np.where(inside, scores + prefix[np.clip(index, 0, len(prefix) - 1)], -np.inf)
        best = int(np.argmax(total))
        if not np.isfinite(total[best]):
            return None
        charges.append(low + best)
        remaining -= low + best
    return charges[::-1]


@lru_cache(maxsize=1)
def _frequencies() -> dict[tuple[str, int], float]:
    return {(species.symbol, int(species.oxi_state or 0)): float(p) for species, p in PRIOR_PROB.items()}

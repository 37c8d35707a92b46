"""How a fine-tuned model stands beside the base that it started from: worse in nothing that is labelled, and how much
better on the whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

FLOORS: dict[str, float] = {"energy": 1e-4, "force": 1e-3, "stress": 1e-5}
"""Errors (eV/atom, eV/Å, eV/Å³) that count as none: labels are not better than that."""

OTHERS = "other systems"
"""What became worse where a model changes crystals of other kinds by more than it may."""


_PRICE = 0.1
"""Of what a run gained on its base, that it may cost to bring crystals of other kinds back."""


@dataclass(frozen=True)
class Standing:
    """Mean absolute errors beside those of the base.

    Attributes:
        ratios: error over that of the base, of "energy", "force" and "stress" as far as both are known.
    """

    ratios: Mapping[str, float]

    @property
    def score(self) -> float:
        """Geometric mean of the ratios: 1 for the base, smaller is better, infinite where nothing is known."""
        if not self.ratios:
            return math.inf
        return math.prod(self.ratios.values()) ** (1 / len(self.ratios))

    @property
    def worse(self) -> list[str]:
        """The quantities in which the base is better."""
        return [quantity for quantity, ratio in self.ratios.items() if not ratio <= 1.0 + 1e-6]  # rounding is no loss


def standing(errors: Mapping[str, float | None], base: Mapping[str, float | None]) -> Standing:
    """Compare ``energy_mae``, ``force_mae`` and ``stress_mae`` of two models on the same frames."""
    ratios = {}
    for quantity, floor in FLOORS.items():
        after, before = (values.get(f"{quantity}_mae") for values in (errors, base))
        if before is None or math.isnan(before):
            continue  # no such label
        after = math.nan if after is None else after
        ratios[quantity] = (after if math.isnan(after) else max(after, floor)) / max(before, floor)
    return Standing(ratios)


def worth_less_forgetting(score: float, best: float | None) -> bool:
    """Whether a model of this score (see `Standing.score`), which changes other crystals less, goes before the best."""
    return math.isfinite(score) and (best is None or score <= best + _PRICE * max(1.0 - best, 0.0))

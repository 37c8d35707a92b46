"""Ranking by a weighted score on fixed scales, with the Pareto front beside it.

A score says where a candidate lies between the ends of each scale, whatever else is in the campaign. A value that is
missing or void is unknown: it is neither bad nor left out. The score is then an interval, with the unknown at the worst
and at the best of its scale, and candidates are ordered by its lower end: what is known of them speaks for them, and
nobody wins by being unknown. The Pareto mark needs no weights, and tells which candidates nobody can dismiss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dpa4_flows.documents.reasons import voided
from dpa4_flows.documents.schemas import RankedCandidate

_SCORE_DECIMALS = 12  # so that sums in another order do not break ties


@dataclass(frozen=True)
class Objective:
    """One ranked property.

    Attributes:
        name: key in the values of a row.
        weight: relative weight, 0 or more; 0 shows the property on the Pareto front only.
        goal: "max", "min", or "zero" for the smallest magnitude (a volume change).
        low: value (magnitude for "zero") at one end of the scale; what lies below counts as this.
        high: value at the other end; what lies above counts as this.
    """

    name: str
    weight: float = 1.0
    goal: Literal["max", "min", "zero"] = "max"
    low: float = field(kw_only=True)
    high: float = field(kw_only=True)

    def __post_init__(self) -> None:
        if self.goal not in ("max", "min", "zero"):
            raise ValueError(f"goal of {self.name} is {self.goal!r}; choose max, min or zero")
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"weight of {self.name} is {self.weight}; it must be 0 or more")
        if not self.low < self.high:
            raise ValueError(f"scale of {self.name} runs from {self.low} to {self.high}; low must be below high")


def rank_candidates(rows: Sequence[Mapping[str, Any]], objectives: Sequence[Objective]) -> list[RankedCandidate]:
    """Rows in order of the lower end of their score, best first.

    Every property is mapped linearly on 0 (worst) to 1 (best) of its scale. The score is the weighted mean over the
    properties that are known, None if there is none; its interval has each unknown one at 0 and at 1. A candidate with
    an unknown property is not on the Pareto front and keeps nobody off it. Equal ones keep the order of the input.

    Args:
        rows: mappings with ``candidate_id``, ``formula``, ``values`` (name to value) and optionally ``flags``, whose
            voided values are unknown.
        objectives: at least one, with a positive total weight.

    Raises:
        ValueError: no objective, no weight, or one property twice.
    """
    names = [objective.name for objective in objectives]
    if not objectives or sum(objective.weight for objective in objectives) <= 0:
        raise ValueError("a ranking needs at least one objective with a positive weight")
    if len(set(names)) != len(names):
        raise ValueError(f"an objective is named twice: {', '.join(names)}")
    if not rows:
        return []
    raw = np.array([_known_values(row, objectives) for row in rows])
    quality = np.stack([_quality(raw[:, k], objective) for k, objective in enumerate(objectives)], axis=1)
    weights = np.array([objective.weight for objective in objectives])
    weights /= weights.sum()
    known = np.isfinite(quality)
    weighted = np.where(known, quality, 0.0) * weights
    certain = known @ weights
    low = np.round(weighted.sum(axis=1), _SCORE_DECIMALS)
    high = np.round(low + 1.0 - certain, _SCORE_DECIMALS)
    front = pareto_front(_oriented(raw, objectives))
    ranked = []
    for rank, index in enumerate(sorted(range(len(rows)), key=lambda i: (-low[i], i)), start=1):
        share = certain[index]
        parts = {
            name: float(part) for name, part, there in zip(names, weighted[index], known[index], strict=True) if there
        }
        ranked.append(
            RankedCandidate(
                rank=rank,
                candidate_id=str(rows[index]["candidate_id"]),
                formula=str(rows[index]["formula"]),
                score=round(float(weighted[index].sum() / share), _SCORE_DECIMALS) if share > 0 else None,
                score_interval=(float(low[index]), float(high[index])),
                score_parts=parts,
                pareto=bool(front[index]),
                values=dict(rows[index]["values"]),
                flags=list(rows[index].get("flags", ())),
            )
        )
    return ranked


def pareto_front(qualities: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows [n, n_objectives] no other dominates (as high in all, higher in one); never one with NaN."""
    on_front = np.zeros(len(qualities), dtype=bool)
    complete = np.flatnonzero(np.isfinite(qualities).all(axis=1))
    # a row can only be dominated by one that comes before it in this order, and then by one of the front
    order = complete[np.lexsort(-qualities[complete].T[::-1])]
    front = np.zeros((0, qualities.shape[1]))
    for index in order:
        row = qualities[index]
        if not ((front >= row).all(axis=1) & (front > row).any(axis=1)).any():
            on_front[index] = True
            front = np.vstack([front, row])
    return on_front


def _known_values(row: Mapping[str, Any], objectives: Sequence[Objective]) -> list[float]:
    """Values as numbers, magnitudes for the goal zero; NaN where one is missing or void."""
    void = set(voided(row.get("flags", ())))
    numbers = []
    for objective in objectives:
        value = row["values"].get(objective.name)
        number = not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
        known = float(value) if number and objective.name not in void else math.nan
        numbers.append(abs(known) if objective.goal == "zero" else known)
    return numbers


def _quality(column: NDArray[np.float64], objective: Objective) -> NDArray[np.float64]:
    """0 (worst) to 1 (best); NaN stays."""
    scaled = np.clip((column - objective.low) / (objective.high - objective.low), 0.0, 1.0)
    return np.asarray(scaled if objective.goal == "max" else 1.0 - scaled)


def _oriented(raw: NDArray[np.float64], objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """Raw values with a sign that makes more better."""
    return np.asarray(raw * np.array([1.0 if objective.goal == "max" else -1.0 for objective in objectives]))

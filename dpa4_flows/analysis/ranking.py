"""Ranking by a weighted score on normalised properties, with the Pareto front beside it.

The score depends on the weights that a user chose and on the span of the campaign; the raw values therefore
stay in every row, and the Pareto flag, which needs no weights, tells which candidates nobody can dismiss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dpa4_flows.schemas import RankedCandidate

_SCORE_DECIMALS = 12  # so that sums in another order do not break ties


@dataclass(frozen=True)
class Objective:
    """One ranked property.

    Attributes:
        name: key in the values of a row.
        weight: relative weight, 0 or more; 0 shows the property on the Pareto front only.
        goal: "max", "min", or "zero" for the smallest magnitude (a volume change).
        low: value (magnitude for "zero") at one end of the scale; default: the lowest of the campaign.
        high: value at the other end; default: the highest of the campaign.
        trusted_by: name of a boolean value; where it is False the property counts as missing.
    """

    name: str
    weight: float = 1.0
    goal: Literal["max", "min", "zero"] = "max"
    low: float | None = None
    high: float | None = None
    trusted_by: str | None = None

    def __post_init__(self) -> None:
        if self.goal not in ("max", "min", "zero"):
            raise ValueError(f"goal of {self.name} is {self.goal!r}; choose max, min or zero")
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"weight of {self.name} is {self.weight}; it must be 0 or more")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"scale of {self.name} runs from {self.low} to {self.high}; low must be below high")


def rank_candidates(rows: Sequence[Mapping[str, Any]], objectives: Sequence[Objective]) -> list[RankedCandidate]:
    """Rows in order of their score, best first.

    Every property is mapped linearly on 0 (worst) to 1 (best), clipped at the ends of its scale; a property
    that is the same for all gives 1. The score is the weighted mean. A missing value counts as 0, adds a flag
    and keeps the candidate off the Pareto front. Equal scores keep the order of the input.

    Args:
        rows: mappings with ``candidate_id``, ``formula``, ``values`` (name to value) and optionally
            ``flags``.
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
    raw = np.array([[_value(row["values"], objective) for objective in objectives] for row in rows])
    quality = np.stack([_quality(raw[:, k], objective) for k, objective in enumerate(objectives)], axis=1)
    weights = np.array([objective.weight for objective in objectives])
    parts = np.nan_to_num(quality, nan=0.0) * weights / weights.sum()
    scores = np.round(parts.sum(axis=1), _SCORE_DECIMALS)
    front = pareto_front(_oriented(raw, objectives))
    order = sorted(range(len(rows)), key=lambda index: (-scores[index], index))
    return [
        RankedCandidate(
            rank=rank,
            candidate_id=str(rows[index]["candidate_id"]),
            formula=str(rows[index]["formula"]),
            score=float(scores[index]),
            score_parts={name: float(part) for name, part in zip(names, parts[index], strict=True)},
            pareto=bool(front[index]),
            values=dict(rows[index]["values"]),
            flags=[
                *rows[index].get("flags", ()),
                *_missing_flags(rows[index]["values"], raw[index], objectives),
            ],
        )
        for rank, index in enumerate(order, start=1)
    ]


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


def _value(values: Mapping[str, Any], objective: Objective) -> float:
    """The value as a number, its magnitude for the goal zero; NaN if missing or not trusted."""
    value = values.get(objective.name)
    if objective.trusted_by is not None and values.get(objective.trusted_by) is False:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return math.nan
    return abs(float(value)) if objective.goal == "zero" else float(value)


def _quality(column: NDArray[np.float64], objective: Objective) -> NDArray[np.float64]:
    """0 (worst) to 1 (best); NaN stays."""
    known = column[np.isfinite(column)]
    if not len(known):
        return column
    low = float(known.min()) if objective.low is None else objective.low
    high = float(known.max()) if objective.high is None else objective.high
    if high <= low:
        scaled = np.where(np.isfinite(column), np.where(column >= low, 1.0, 0.0), np.nan)
        return scaled if objective.goal == "max" else np.where(np.isfinite(column), (column <= high) * 1.0, np.nan)
    scaled = np.clip((column - low) / (high - low), 0.0, 1.0)
    return np.asarray(scaled if objective.goal == "max" else 1.0 - scaled)


def _oriented(raw: NDArray[np.float64], objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """Raw values with a sign that makes more better."""
    return np.asarray(raw * np.array([1.0 if objective.goal == "max" else -1.0 for objective in objectives]))


def _missing_flags(values: Mapping[str, Any], raw: NDArray[np.float64], objectives: Sequence[Objective]) -> list[str]:
    return [
        f"{objective.name} is {'not reliable' if values.get(objective.name) is not None else 'missing'} "
        "and counts as 0 in the score"
        for objective, number in zip(objectives, raw, strict=True)
        if not math.isfinite(number)
    ]

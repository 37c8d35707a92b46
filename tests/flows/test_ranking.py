"""Scores, ties, missing values and the Pareto front."""

import math
import time

import numpy as np
import pytest

from dpa4_flows.analysis.ranking import Objective, pareto_front, rank_candidates
from dpa4_flows.documents.reasons import Reason

OBJECTIVES = [
    Objective("average_voltage", 2.0, low=3.0, high=4.0),
    Objective("energy_above_hull", 1.0, "min", low=0.0, high=0.1),
]


def row(name, voltage, hull, *, voids=(), **values):
    values = {"average_voltage": voltage, "energy_above_hull": hull, **values}
    flags = [Reason(code="x", sentence="x", voids=list(voids))] if voids else []
    return {"candidate_id": name, "formula": "LiCoO2", "values": values, "flags": flags}


def test_best_in_everything_is_first_with_score_one():
    ranked = rank_candidates([row("a", 3.0, 0.05), row("b", 4.0, 0.0), row("c", 3.5, 0.1)], OBJECTIVES)
    assert [r.candidate_id for r in ranked] == ["b", "c", "a"]
    assert [r.rank for r in ranked] == [1, 2, 3]
    assert ranked[0].score == pytest.approx(1.0)
    assert ranked[1].score == pytest.approx((2 * 0.5 + 1 * 0.0) / 3)
    assert ranked[1].score_parts == pytest.approx({"average_voltage": 1 / 3, "energy_above_hull": 0.0})
    assert [r.pareto for r in ranked] == [True, False, False]
    assert ranked[0].values["average_voltage"] == 4.0
    assert all(r.score_interval == (r.score, r.score) for r in ranked)


def test_ties_keep_the_order_of_the_input():
    rows = [row(str(k), 3.0 + (k % 2), 0.1) for k in range(10)]
    ranked = rank_candidates(rows, OBJECTIVES)
    assert [r.candidate_id for r in ranked] == ["1", "3", "5", "7", "9", "0", "2", "4", "6", "8"]


@pytest.mark.parametrize("value", [None, math.nan, "3.5", True])
def test_a_missing_value_makes_the_score_an_interval(value):
    [a] = rank_candidates([row("a", value, 0.02)], OBJECTIVES)
    assert a.score == pytest.approx(0.8)  # over what is known
    assert a.score_interval == pytest.approx((0.8 / 3, (0.8 + 2) / 3))
    assert a.score_parts == pytest.approx({"energy_above_hull": 0.8 / 3})  # they add up to the lower end
    assert not a.pareto and a.flags == []


def test_a_voided_value_is_as_unknown_as_a_missing_one_and_stays_in_the_row():
    [void] = rank_candidates([row("a", 3.9, 0.02, voids=["average_voltage"])], OBJECTIVES)
    [missing] = rank_candidates([row("a", None, 0.02)], OBJECTIVES)
    assert (void.score, void.score_interval, void.pareto) == (missing.score, missing.score_interval, False)
    assert void.values["average_voltage"] == 3.9 and void.voided == ["average_voltage"]


def test_nobody_wins_by_being_unknown():
    rows = [row("unknown", None, None), row("half", None, 0.0), row("known", 3.6, 0.05)]
    ranked = rank_candidates(rows, OBJECTIVES)
    assert [r.candidate_id for r in ranked] == ["known", "half", "unknown"]
    assert ranked[1].score > ranked[0].score  # over what is known the unknown one looks better
    assert ranked[2].score is None and ranked[2].score_interval == (0.0, 1.0)


def test_a_voided_value_dominates_nobody_on_the_pareto_front():
    rows = [row("a", 9.0, -1.0, voids=["energy_above_hull"]), row("b", 3.5, 0.05)]
    assert {r.candidate_id: r.pareto for r in rank_candidates(rows, OBJECTIVES)} == {"a": False, "b": True}


def test_a_score_does_not_depend_on_who_else_is_there():
    one, two = row("a", 3.3, 0.03), row("b", 3.9, 0.0)
    alone = rank_candidates([one], OBJECTIVES)[0]
    beside = next(r for r in rank_candidates([two, one], OBJECTIVES) if r.candidate_id == "a")
    assert alone.score == beside.score


def test_beyond_an_end_of_its_scale_a_value_counts_as_the_end():
    objective = Objective("average_voltage", low=2.0, high=4.0)
    scores = [r.score for r in rank_candidates([row("a", 5.0, 0), row("b", 3.0, 0), row("c", 1.0, 0)], [objective])]
    assert scores == pytest.approx([1.0, 0.5, 0.0])


def test_for_the_goal_zero_the_magnitude_counts():
    objective = Objective("volume_change_percent", goal="zero", low=0.0, high=10.0)
    rows = [row(str(v), 3.0, 0.0, volume_change_percent=v) for v in (-5.0, 8.0, 1.0)]
    assert [(r.candidate_id, r.score) for r in rank_candidates(rows, [objective])] == [
        ("1.0", pytest.approx(0.9)),
        ("-5.0", pytest.approx(0.5)),
        ("8.0", pytest.approx(0.2)),
    ]


def test_inputs_stay_as_they_were():
    rows = [row("a", None, 0.0)]
    rank_candidates(rows, OBJECTIVES)
    assert rows == [row("a", None, 0.0)]
    assert rank_candidates([], OBJECTIVES) == []


def test_pareto_front_equals_the_definition():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, size=(300, 3)).astype(float)
    values[::17, 1] = math.nan
    expected = [
        bool(np.isfinite(v).all()) and not any((w >= v).all() and (w > v).any() for w in values) for v in values
    ]
    assert pareto_front(values).tolist() == expected


def test_ten_thousand_rows_take_seconds():
    rng = np.random.default_rng(0)
    rows = [row(str(k), v, h) for k, (v, h) in enumerate(rng.random((10_000, 2)))]
    start = time.perf_counter()
    ranked = rank_candidates(rows, OBJECTIVES)
    assert time.perf_counter() - start < 10
    scores = [r.score for r in ranked]
    assert scores == sorted(scores, reverse=True)


def test_senseless_objectives_are_refused():
    with pytest.raises(ValueError, match="goal of x"):
        Objective("x", goal="best", low=0, high=1)
    with pytest.raises(ValueError, match="weight of x"):
        Objective("x", weight=-1, low=0, high=1)
    with pytest.raises(ValueError, match="low must be below high"):
        Objective("x", low=1.0, high=1.0)
    with pytest.raises(ValueError, match="positive weight"):
        rank_candidates([], [Objective("x", weight=0, low=0, high=1)])
    with pytest.raises(ValueError, match="named twice"):
        rank_candidates([], [Objective("x", low=0, high=1)] * 2)

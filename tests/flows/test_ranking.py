"""Scores, ties, missing values and the Pareto front."""

import math
import time

import numpy as np
import pytest

from dpa4_flows.analysis.ranking import Objective, pareto_front, rank_candidates

OBJECTIVES = [Objective("average_voltage", 2.0), Objective("energy_above_hull", 1.0, "min")]


def row(name, voltage, hull, **values):
    values = {"average_voltage": voltage, "energy_above_hull": hull, **values}
    return {"candidate_id": name, "formula": "LiCoO2", "values": values, "flags": []}


def test_best_in_everything_is_first_with_score_one():
    ranked = rank_candidates([row("a", 3.0, 0.05), row("b", 4.0, 0.0), row("c", 3.5, 0.1)], OBJECTIVES)
    assert [r.candidate_id for r in ranked] == ["b", "c", "a"]
    assert [r.rank for r in ranked] == [1, 2, 3]
    assert ranked[0].score == pytest.approx(1.0)
    assert ranked[1].score == pytest.approx((2 * 0.5 + 1 * 0.0) / 3)
    assert ranked[1].score_parts == pytest.approx({"average_voltage": 1 / 3, "energy_above_hull": 0.0})
    assert [r.pareto for r in ranked] == [True, False, False]
    assert ranked[0].values["average_voltage"] == 4.0


def test_ties_keep_the_order_of_the_input():
    rows = [row(str(k), 3.0 + (k % 2), 0.1) for k in range(10)]
    ranked = rank_candidates(rows, OBJECTIVES)
    assert [r.candidate_id for r in ranked] == ["1", "3", "5", "7", "9", "0", "2", "4", "6", "8"]


@pytest.mark.parametrize("value", [None, math.nan, "3.5", True])
def test_missing_value_counts_as_zero_and_is_flagged(value):
    ranked = rank_candidates([row("a", value, 0.0), row("b", 3.0, 0.1), row("c", 4.0, 0.1)], OBJECTIVES)
    a = next(r for r in ranked if r.candidate_id == "a")
    assert a.score == pytest.approx(1 / 3)
    assert not a.pareto
    assert len(a.flags) == 1
    assert "average_voltage" in a.flags[0]
    without = {**row("d", 3.0, 0.0), "values": {"energy_above_hull": 0.0}}
    assert "average_voltage is missing" in rank_candidates([without], OBJECTIVES)[0].flags[0]


def test_untrusted_value_counts_as_missing():
    volume = Objective("volume_change_percent", 1.0, "zero", trusted_by="volume_change_reliable")
    rows = [
        row("a", 3.0, 0.0, volume_change_percent=0.1, volume_change_reliable=False),
        row("b", 3.0, 0.0, volume_change_percent=-5.0, volume_change_reliable=True),
        row("c", 3.0, 0.0, volume_change_percent=8.0, volume_change_reliable=True),
    ]
    ranked = rank_candidates(rows, [volume])
    assert [r.candidate_id for r in ranked] == ["b", "a", "c"]
    assert "not reliable" in ranked[1].flags[0]
    assert ranked[0].values["volume_change_percent"] == -5.0


def test_fixed_scale_clips():
    objective = Objective("average_voltage", low=2.0, high=4.0)
    scores = [r.score for r in rank_candidates([row("a", 5.0, 0), row("b", 3.0, 0), row("c", 1.0, 0)], [objective])]
    assert scores == pytest.approx([1.0, 0.5, 0.0])


def test_score_of_a_lone_or_constant_property_is_one():
    assert rank_candidates([row("a", 3.0, 0.0)], OBJECTIVES)[0].score == pytest.approx(1.0)
    assert {r.score for r in rank_candidates([row("a", 3.0, 0.2), row("b", 3.0, 0.2)], OBJECTIVES)} == {1.0}


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
        Objective("x", goal="best")
    with pytest.raises(ValueError, match="weight of x"):
        Objective("x", weight=-1)
    with pytest.raises(ValueError, match="low must be below high"):
        Objective("x", low=1.0, high=1.0)
    with pytest.raises(ValueError, match="positive weight"):
        rank_candidates([], [Objective("x", weight=0)])
    with pytest.raises(ValueError, match="named twice"):
        rank_candidates([], [Objective("x"), Objective("x")])

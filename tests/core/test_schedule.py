"""Learning rates by the formulas of the paper, worked out by hand."""

import json
import math

import pytest

from dpa4_core.errors import DPA4Error
from dpa4_core.train.schedule import Schedule, ScheduleConfig

# 1000 steps: 100 of warm-up, 650 of decay, 250 between
WSD = ScheduleConfig(kind="wsd", lr=1e-3, lr_min=1e-5, warmup=0.1)


def rates(config: ScheduleConfig, *steps: int) -> list[float]:
    return [Schedule(config, 1000).lr(step) for step in steps]


def test_warm_up_stable_decay():
    last = 1e-5 + (1e-3 - 1e-5) * 0.5 * (1 + math.cos(math.pi * 649 / 650))
    middle = (1e-3 + 1e-5) / 2
    expected = [2e-4, 6e-4, 1e-3, 1e-3, 1e-3, middle, last, 1e-5]
    assert rates(WSD, 0, 50, 100, 349, 350, 675, 999, 1000) == pytest.approx(expected, rel=1e-12)


def test_linear_and_inverse_linear_decay():
    linear = ScheduleConfig(lr=1e-3, lr_min=1e-5, warmup=0.1, decay_shape="linear")
    expected = [2e-4, 1e-3, 1e-3, 1e-3 - 0.5 * 99e-5, 1e-5 + 99e-5 / 650]
    assert rates(linear, 0, 100, 350, 675, 999) == pytest.approx(expected, rel=1e-12)
    inverse = ScheduleConfig(lr=1e-3, lr_min=1e-5, warmup=0.1, decay_shape="inverse-linear")
    expected = [2e-4, 1e-3, 1e-3, 1 / 50_500, 1 / (649e5 / 650 + 1e3 / 650)]
    assert rates(inverse, 0, 100, 350, 675, 999) == pytest.approx(expected, rel=1e-12)


def test_plain_cosine():
    config = ScheduleConfig(kind="cosine", lr=1e-3, lr_min=1e-5, warmup=0.1)
    last = 1e-5 + (1e-3 - 1e-5) * 0.5 * (1 + math.cos(math.pi * 899 / 900))
    expected = [2e-4, 1e-3, (1e-3 + 1e-5) / 2, last, 1e-5]
    assert rates(config, 0, 100, 550, 999, 1000) == pytest.approx(expected, rel=1e-12)


def test_constant():
    config = ScheduleConfig(kind="constant", lr=1e-3, warmup=0.1)
    assert rates(config, 0, 99, 100, 999, 5000) == pytest.approx([2e-4, 9.92e-4, 1e-3, 1e-3, 1e-3], rel=1e-12)


@pytest.mark.parametrize(
    ("warmup", "n_steps", "n_warmup", "n_decay"),
    [
        *((0.003, 10_000, 30, 6500), (0.003, 1000, 20, 650), (0.003, 20, 4, 13)),  # a fraction is some steps at least
        *((5000, 20_000, 5000, 13_000), (60, 100, 60, 40), (0, 1, 0, 1)),
    ],
)
def test_lengths_of_the_parts(warmup, n_steps, n_warmup, n_decay):
    schedule = Schedule(ScheduleConfig(warmup=warmup), n_steps)
    assert (schedule.n_warmup, schedule.n_decay, schedule.end) == (n_warmup, n_decay, n_steps)
    assert all(math.isfinite(schedule.lr(step)) for step in range(0, n_steps + 1, max(n_steps // 7, 1)))


def test_decay_on_demand_starts_from_the_present_rate():
    for config in (WSD, ScheduleConfig(kind="constant", lr=1e-3, lr_min=1e-5, warmup=0.1)):
        schedule = Schedule(config, 1000)
        schedule.start_decay(200, 100)
        assert schedule.end == 300
        expected = [1e-3, 1e-3, (1e-3 + 1e-5) / 2, 1e-5, 1e-5]
        assert [schedule.lr(t) for t in (150, 200, 250, 300, 999)] == pytest.approx(expected, rel=1e-12)


def test_decay_on_demand_inside_warm_up_and_inside_a_decay_is_continuous():
    for step in (50, 800):
        schedule = Schedule(WSD, 1000)
        before = schedule.lr(step)
        schedule.start_decay(step, 10)
        assert schedule.lr(step) == pytest.approx(before, rel=1e-12)
        assert schedule.lr(step + 5) == pytest.approx((before + 1e-5) / 2, rel=1e-12)
        assert schedule.end == step + 10


@pytest.mark.parametrize(("kind", "step", "end"), [("wsd", 200, 850), ("wsd", 900, 1000), ("cosine", 300, 1000)])
def test_decay_on_demand_does_not_lengthen_the_run_by_itself(kind, step, end):
    schedule = Schedule(ScheduleConfig(kind=kind, warmup=0.1), 1000)
    schedule.start_decay(step)
    assert schedule.end == end


def test_a_run_with_less_time_goes_through_the_same_course_with_its_whole_warm_up():
    schedule = Schedule(WSD, 1000)
    assert schedule.lr(10, share=0.5) == pytest.approx(schedule.lr(500) * (0.2 + 0.8 * 10 / 100), rel=1e-12)
    assert schedule.lr(120, share=0.675) == schedule.lr(675) and schedule.lr(120, share=1.0) == pytest.approx(1e-5)
    assert schedule.lr(700, share=0.1) == schedule.lr(700)  # time is not what ends this run
    assert schedule.decaying(schedule.place(120, 0.36)) and not schedule.decaying(schedule.place(120, 0.34))


def test_state_round_trip_through_json():
    schedule = Schedule(WSD, 1000)
    for change in (lambda: None, lambda: schedule.start_decay(333, 77)):
        change()
        again = Schedule.from_state(WSD, json.loads(json.dumps(schedule.state())))
        assert again.end == schedule.end
        assert [again.lr(t) for t in range(1001)] == [schedule.lr(t) for t in range(1001)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "step"}, "wsd, cosine, constant"),
        ({"decay_shape": "cubic"}, "cosine, linear, inverse-linear"),
        ({"lr": 1e-7}, "lr_min ≤ lr"),
        ({"lr_min": 0.0}, "lr_min"),
        ({"lr": math.nan}, "lr=nan"),
        ({"warmup": -1.0}, "warmup"),
        ({"decay": 0.0}, "decay"),
        ({"kind": "cosine", "decay_shape": "linear"}, "kind='wsd'"),
    ],
)
def test_impossible_configurations_are_refused(options, words):
    with pytest.raises(DPA4Error, match=words):
        ScheduleConfig(**options)


def test_impossible_lengths_are_refused():
    with pytest.raises(DPA4Error, match="at least one step, got 0"):
        Schedule(ScheduleConfig(), 0)
    with pytest.raises(DPA4Error, match="warm-up of 5000 steps does not fit into a run of 5000"):
        Schedule(ScheduleConfig(warmup=5000), 5000)
    with pytest.raises(DPA4Error, match="at least one step, got 0"):
        Schedule(ScheduleConfig(), 100).start_decay(5, 0)

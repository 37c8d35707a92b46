"""Which frames make up a step: everything once, within the budget, and the same however it is cut."""

from collections import Counter

import numpy as np
import pytest

from dpa4_core.train.loader import ahead
from dpa4_core.train.packing import Budget, plan_epoch, steps_per_epoch


def sizes(n, seed=0, low=2, high=60, neighbours=30):
    random = np.random.default_rng(seed)
    n_atoms = random.integers(low, high, n)
    return n_atoms, (n_atoms * random.integers(neighbours // 2, neighbours * 2, n)).astype(np.int64)


def plan(n_atoms, n_edges, budget, seed=0, epoch=0):
    return list(plan_epoch(n_atoms, n_edges, budget, seed=seed, epoch=epoch))


def frames_of(step):
    return sorted(int(i) for part in step for i in part)


def check(n_atoms, n_edges, budget, steps):
    """Every frame once, the right number of parts, no part above the budget but for single frames."""
    assert Counter(i for step in steps for i in frames_of(step)) == Counter(range(len(n_atoms)))
    for step in steps:
        assert len(step) == budget.parts and any(len(part) for part in step)
        for part in step:
            if len(part) > 1:
                assert n_atoms[part].sum() <= budget.atoms and n_edges[part].sum() <= budget.edges


@pytest.mark.parametrize("parts", [1, 2, 5])
@pytest.mark.parametrize("n", [1, 7, 300, 3000])
def test_every_frame_comes_once_and_budgets_are_kept(n, parts):
    n_atoms, n_edges = sizes(n)
    budget = Budget(200, 6000, parts)
    check(n_atoms, n_edges, budget, plan(n_atoms, n_edges, budget))


def test_a_plan_depends_on_its_arguments_only():
    n_atoms, n_edges = sizes(500)
    budget = Budget(200, 6000, 2)
    first, again, other_seed, other_epoch = (
        [[part.tolist() for part in step] for step in plan(n_atoms, n_edges, budget, seed, epoch)]
        for seed, epoch in ((3, 1), (3, 1), (4, 1), (3, 2))
    )
    assert first == again and first != other_seed and first != other_epoch
    assert steps_per_epoch(n_atoms, n_edges, budget, 3) == len(plan(n_atoms, n_edges, budget, 3, 0))


@pytest.mark.parametrize("parts", [2, 4])
def test_how_a_step_is_cut_does_not_change_what_it_holds(parts):
    n_atoms = np.full(203, 8)
    n_edges = np.full(203, 160)
    whole = plan(n_atoms, n_edges, Budget(parts * 24, parts * 480))
    cut = plan(n_atoms, n_edges, Budget(24, 480, parts))
    assert [frames_of(step) for step in cut] == [frames_of(step) for step in whole]
    assert max(len(part) for step in cut for part in step) == 3


def test_parts_of_a_step_take_about_as_long():
    n_atoms, n_edges = sizes(2000)
    steps = plan(n_atoms, n_edges, Budget(200, 6000, 4))
    loads = np.array([[n_edges[part].sum() for part in step] for step in steps[:-5]])
    assert (loads.max(axis=1) / loads.mean(axis=1)).mean() < 1.15


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(("atoms", "edges"), [(400, 10**9), (10**9, 12000), (400, 12000)])
def test_batches_of_mixed_frames_are_full(atoms, edges, parts):
    n_atoms, n_edges = sizes(5000)
    steps = plan(n_atoms, n_edges, Budget(atoms, edges, parts))
    fill = max(n_atoms.sum() / atoms, n_edges.sum() / edges) / (len(steps) * parts)
    assert fill >= 0.9


def test_steps_come_in_random_order_and_sizes_mix():
    n_atoms, n_edges = sizes(3000)
    steps = plan(n_atoms, n_edges, Budget(200, 10**9))
    largest = np.array([n_atoms[step[0]].max() for step in steps])
    half = len(largest) // 2
    assert abs(largest[:half].mean() - largest[half:].mean()) < 8
    place = np.concatenate([step[0] for step in steps])
    assert abs(np.corrcoef(np.arange(len(place)), place)[0, 1]) < 0.1


@pytest.mark.parametrize("parts", [1, 3])
def test_a_frame_above_the_budget_has_a_part_of_its_own(parts):
    n_atoms, n_edges = sizes(200)
    n_atoms[[5, 80]], n_edges[[5, 111]] = 1000, 50_000
    budget = Budget(200, 6000, parts)
    steps = plan(n_atoms, n_edges, budget)
    check(n_atoms, n_edges, budget, steps)
    for frame in (5, 80, 111):
        assert [frame] in [part.tolist() for step in steps for part in step]


def test_nasty_sizes_end_all_the_same():
    random = np.random.default_rng(0)
    for trial in range(150):
        n = int(random.integers(1, 120)) if trial % 10 else 1100
        high = int(random.choice([2, 5, 50, 1000]))
        n_atoms = random.integers(1, high, n)
        n_edges = random.integers(0, high * int(random.choice([1, 30])), n)
        if trial % 3 == 0:
            n_edges[:] = 0  # isolated atoms
        if trial % 4 == 0:
            n_atoms = np.where(random.random(n) < 0.5, 1, high)
        budget = Budget(*(int(x) for x in random.integers(1, [2 * high, 40 * high, 9])))
        steps = plan(n_atoms, n_edges, budget, trial)
        check(n_atoms, n_edges, budget, steps)
        assert len(steps) <= n


def test_no_frames_make_no_steps():
    nothing = np.zeros(0, dtype=np.int64)
    assert plan(nothing, nothing, Budget(10, 10)) == []


def test_making_ahead_keeps_the_order_and_hands_errors_on():
    assert list(ahead(lambda x: x * x, range(20))) == [x * x for x in range(20)]

    def fails(x):
        if x == 3:
            raise ValueError("three")
        return x

    made = ahead(fails, range(10))
    assert [next(made) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(made)


def test_making_ahead_does_not_run_away():
    asked = []
    made = ahead(lambda x: x, (asked.append(i) or i for i in range(1000)))
    next(made)
    made.close()
    assert len(asked) <= 4

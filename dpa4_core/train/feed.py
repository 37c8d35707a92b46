"""Which frames make the steps of a run, from any step on, and their batches, made ahead."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpa4_core.train.config import TrainConfig
from dpa4_core.train.counters import Counters
from dpa4_core.train.dataset import Dataset
from dpa4_core.train.distributed import Processes
from dpa4_core.train.loader import BatchMaker, ahead
from dpa4_core.train.packing import Budget, plan_epoch, steps_per_epoch
from dpa4_core.train.step import Batch

T = TypeVar("T")


class Work(NamedTuple):
    """One step of this process: its batches and what the whole step holds."""

    batches: list[Batch]
    counts: Tensor
    frames: list[NDArray[np.int64]]
    epoch_done: bool


def frames_of(config: TrainConfig, data: Dataset, epoch: int) -> NDArray[np.int64]:
    """The frames of an epoch: all training frames, and a changing draw of the replayed ones."""
    replay, share = data.replay, config.finetune.replay_fraction
    if not len(replay) or not share:
        return data.train
    wanted = round(len(data.train) * share / (1 - share))
    random = np.random.default_rng([config.seed(), epoch, 1])
    drawn = random.choice(replay, wanted, replace=wanted > len(replay))
    return np.concatenate([data.train, np.sort(drawn)])


def planned_steps(config: TrainConfig, data: Dataset, budget: Budget) -> int:
    """Steps of the whole run, unless it ends early."""
    run = config.run
    if run.steps:
        return run.steps
    epochs, least = (run.epochs, 1) if run.epochs else (config.recipe().epochs, config.recipe().min_steps)
    frames = frames_of(config, data, 0)
    n_atoms, n_edges = (data.store.arrays[name][frames] for name in ("n_atoms", "n_edges"))
    return max(least, math.ceil(epochs * steps_per_epoch(n_atoms, n_edges, budget, config.seed())))


def feed(
    config: TrainConfig, data: Dataset, budget: Budget, maker: BatchMaker, processes: Processes, begin: Counters
) -> Generator[Work]:
    """The steps from ``begin`` on, without end, made ahead in a thread."""
    rank, n_own, seed = processes.rank, config.batch.accumulate, config.seed()
    assert processes.size * n_own == budget.parts

    def plans() -> Iterator[tuple[int, list[NDArray[np.int64]], bool]]:
        epoch, skip, step = begin.epoch, begin.steps_in_epoch, begin.step
        while True:
            frames = frames_of(config, data, epoch)
            n_atoms, n_edges = (data.store.arrays[name][frames] for name in ("n_atoms", "n_edges"))
            steps = plan_epoch(n_atoms, n_edges, budget, seed=seed, epoch=epoch)
            for number, (parts, is_last) in enumerate(_marked_last(steps)):
                if number >= skip:
                    yield step, [frames[chosen] for chosen in parts], is_last
                    step += 1
            epoch, skip = epoch + 1, 0

    def make(plan: tuple[int, list[NDArray[np.int64]], bool]) -> Work:
        step, parts, last = plan
        counts = sum(maker.counts(chosen) for chosen in parts)
        own = parts[rank * n_own : (rank + 1) * n_own]
        batches = [maker.make(chosen, (seed, step, rank, i)) for i, chosen in enumerate(own) if len(chosen)]
        return Work(batches, torch.from_numpy(np.asarray(counts)), parts, last)

    yield from ahead(make, plans())


def _marked_last(items: Iterator[T]) -> Iterator[tuple[T, bool]]:
    """Each item, and whether it is the last one."""
    current = next(items)
    for following in items:
        yield current, False
        current = following
    yield current, True

"""What is tried with the first batches of a run before its first step: which learning rate, and how long it takes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import Parameter

from dpa4_core.train.clip import clip_gradients
from dpa4_core.train.config import TrainConfig
from dpa4_core.train.dataset import Dataset
from dpa4_core.train.feed import Work
from dpa4_core.train.judge import Judge
from dpa4_core.train.optimizer import HybridMuon
from dpa4_core.train.probe import Answers, Trials
from dpa4_core.train.step import Step

_FRAMES, _ATOMS = 12, 300
"""Training frames that trial steps are judged by: seconds on a CPU."""


@dataclass(frozen=True)
class Rehearsal:
    """The first batches of one process.

    Attributes:
        config, data: of the run.
        work: its steps from the first one on, once more at every call.
        step: the network and its loss.
        judge: what the network says about frames.
        parameters: that are trained.
        new_optimizer: one that has taken no step.
    """

    config: TrainConfig
    data: Dataset
    work: Callable[[], Generator[Work]]
    step: Step
    judge: Judge
    parameters: Sequence[Parameter]
    new_optimizer: Callable[[], HybridMuon]

    def trials(self) -> Trials:
        """Steps from the present weights by the gradient of the first batch, and what they do to some frames."""
        coming = self.work()
        gradients = self._gradients(next(coming))
        coming.close()
        arrays, first = self.data.store.arrays, self.data.store.first
        chosen = np.random.default_rng(self.config.run.seed).permutation(self.data.train)[:_FRAMES]
        chosen = chosen[: max(int(np.searchsorted(np.cumsum(arrays["n_atoms"][chosen]), _ATOMS)), 2)]
        forces = np.concatenate([arrays["forces"][first[i] : first[i + 1]] for i in chosen])
        known = np.repeat(arrays["has_forces"][chosen], arrays["n_atoms"][chosen])[:, None]
        labels = Answers(
            arrays["energy"][chosen] / arrays["n_atoms"][chosen],
            np.where(known, forces, np.nan),
            np.where(arrays["pbc"][chosen].all(1)[:, None, None], arrays["stress"][chosen], np.nan),
        )

        def take(rate: float) -> None:
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer = self.new_optimizer()
            optimizer.set_lr(rate)
            optimizer.step()

        return Trials(self.parameters, take, lambda: self.judge.answers(chosen), labels)

    def seconds_per_step(self) -> float:
        """Of the second step; the first one fills caches."""
        coming, seconds = self.work(), 0.0
        for work in itertools.islice(coming, 2):
            began = time.monotonic()
            self._gradients(work)
            seconds = time.monotonic() - began
        coming.close()
        return seconds

    def _gradients(self, work: Work) -> list[Tensor | None]:
        """Of the loss of this process, clipped."""
        device = self.judge.processes.device
        for parameter in self.parameters:
            parameter.grad = None
        for batch in work.batches:
            self.step.learn(batch.to(device), work.counts.to(device))
        clip_gradients(self.parameters, self.config.run.clip)
        return [parameter.grad for parameter in self.parameters]


@dataclass(frozen=True)
class Estimate:
    """How long a run will take.

    Attributes:
        step_s, validation_s: seconds of a step and of a validation.
        steps: how many there will be in the time that is allowed.
        seconds: for all of it.
    """

    step_s: float
    validation_s: float
    steps: int
    seconds: float

    @classmethod
    def of(cls, step_s: float, validation_s: float, planned: int, every: float, limit: float) -> Estimate:
        """From seconds, the planned steps, the steps between validations, and the seconds allowed, 0 for no limit."""
        each = step_s + validation_s / every
        if limit and planned * each > limit:
            # validations follow the run that happens: as many in fewer steps
            planned = max(int((limit - planned / every * validation_s) / step_s), 1)
            return cls(step_s, validation_s, planned, limit)
        return cls(step_s, validation_s, planned, planned * each)

"""Learning rate as a function of the step: warm-up, constant part, decay (arXiv 2606.02419).

With T steps, T_w of them warm-up, T_d decay and T_s = T − T_w − T_d between,

    t < T_w              lr₀ (0.2 + 0.8 t/T_w)
    t < T_w + T_s        lr₀
    then                 from lr₀ to lr_min, a function of τ = (t − T_w − T_s)/T_d
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from dpa4_core.errors import DPA4Error

LR_NEW = 5e-4
"""Largest learning rate of a new network where none is given."""

MIN_WARMUP = 20
"""Steps of a warm-up that is a fraction of the run: as many as the momenta of the optimiser remember; before, a step
follows a single batch. In very short runs a fifth of the steps."""

Kind = Literal["wsd", "cosine", "constant"]
DecayShape = Literal["cosine", "linear", "inverse-linear"]


@dataclass(frozen=True)
class ScheduleConfig:
    """Course of the learning rate.

    Attributes:
        kind: "wsd": warm-up, stable, decay; "cosine": the decay starts right after the warm-up; "constant": it
            starts only on demand.
        lr: lr₀, the largest value; None for the trainer's choice.
        lr_min: the value at the end of a decay.
        warmup: steps of warm-up, or below 1 their fraction of the run, which is at least `MIN_WARMUP` steps; 0: none.
        decay: fraction of the run that a "wsd" decay takes; for the others of one that starts on demand.
        decay_shape: the decay as a function of τ: ½(1 + cos πτ) between the ends, a straight line, or
            1/(τ/lr_min + (1−τ)/lr₀).
    """

    kind: Kind = "wsd"
    lr: float | None = None
    lr_min: float = 1e-6
    warmup: float = 0.003
    decay: float = 0.65
    decay_shape: DecayShape = "cosine"

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("kind", self.kind, get_args(Kind)),
            ("decay_shape", self.decay_shape, get_args(DecayShape)),
        ):
            if value not in choices:
                raise DPA4Error(f"{name} of a schedule must be one of {', '.join(choices)}, got {value!r}")
        lr = LR_NEW if self.lr is None else self.lr
        if not 0 < self.lr_min <= lr < math.inf:
            raise DPA4Error(f"learning rates must obey 0 < lr_min ≤ lr, got lr_min={self.lr_min} and lr={lr}")
        if not 0 <= self.warmup < math.inf:
            raise DPA4Error(f"warmup must be a fraction below 1 or a number of steps, got {self.warmup}")
        if not 0 < self.decay <= 1:
            raise DPA4Error(f"decay must be a fraction of the run in (0, 1], got {self.decay}")
        if self.kind == "cosine" and self.decay_shape != "cosine":
            raise DPA4Error(f"a cosine schedule cannot have decay_shape={self.decay_shape!r}; choose kind='wsd'")


class Schedule:
    """Learning rates of a run of ``n_steps`` steps, t = 0 ... n_steps − 1.

    A run with a time limit that leaves room for fewer steps goes through the same course: its place on it is the share
    of the time that has passed, `place`. Only the warm-up is always counted in steps.

    Attributes:
        end: place at which the run ends, without a time limit the number of its steps. Changed by `start_decay`.
    """

    def __init__(self, config: ScheduleConfig, n_steps: int) -> None:
        if n_steps < 1:
            raise DPA4Error(f"a run needs at least one step, got {n_steps}")
        self.config, self.n_steps, self.end = config, n_steps, n_steps
        self.n_warmup = int(config.warmup)
        if 0 < config.warmup < 1:
            self.n_warmup = max(int(config.warmup * n_steps), min(MIN_WARMUP, n_steps // 5))
        if self.n_warmup >= n_steps:
            raise DPA4Error(f"a warm-up of {self.n_warmup} steps does not fit into a run of {n_steps}")
        self._start: int | None = n_steps - self.n_decay if config.kind != "constant" else None
        self._on_demand = False
        self._lr = self._start_lr = LR_NEW if config.lr is None else config.lr

    @property
    def n_decay(self) -> int:
        """T_d: steps of the planned decay, or of one on demand."""
        longest = self.n_steps - self.n_warmup
        if self.config.kind == "cosine":
            return longest
        return min(max(int(self.config.decay * self.n_steps), 1), longest)

    def place(self, step: int, share: float) -> float:
        """Where a run is after ``step`` steps and this share of its time: whatever is further."""
        return max(float(step), share * self.n_steps)

    def lr(self, step: int, share: float = 0.0) -> float:
        """Learning rate of a step; after the end of a decay it stays at ``lr_min``.

        Args:
            step: steps that were taken.
            share: of the time limit that has passed; 0 without one.
        """
        rate = self._unwarmed(self.place(step, share))
        if step < self.n_warmup and not self._on_demand:
            rate *= 0.2 + 0.8 * step / self.n_warmup
        return rate

    def _unwarmed(self, place: float) -> float:
        """Learning rate at a place on the course, without the warm-up."""
        if self._start is None or place < self._start:
            return self._lr
        tau = min((place - self._start) / (self.end - self._start), 1.0)
        return _decayed(self.config.decay_shape, self._start_lr, self.config.lr_min, tau)

    def fallen(self, place: float) -> float:
        """How much of its decay the learning rate has behind it, 0 to 1."""
        whole = self._start_lr - self.config.lr_min
        return (self._start_lr - self._unwarmed(place)) / whole if whole and self.decaying(place) else 0.0

    def decaying(self, place: float) -> bool:
        """Whether a decay has begun."""
        return self._start is not None and place >= self._start

    def start_decay(self, step: int, n_steps: int | None = None) -> None:
        """Decay from the present learning rate, ``lr(step)``, to ``lr_min`` within ``n_steps`` steps from ``step`` on;
        both are places on the course.

        By default the decay is as long as the planned one, but does not lengthen the run. `end` is moved.
        """
        if n_steps is None:
            n_steps = max(min(self.n_decay, self.end - step), 1)
        if n_steps < 1:
            raise DPA4Error(f"a decay needs at least one step, got {n_steps}")
        self._start, self._start_lr, self.end, self._on_demand = step, self.lr(step), step + n_steps, True

    def state(self) -> dict[str, Any]:
        """What `from_state` needs besides the configuration, in types of JSON."""
        return {"n_steps": self.n_steps, "end": self.end, "start": self._start, "start_lr": self._start_lr}

    @classmethod
    def from_state(cls, config: ScheduleConfig, state: dict[str, Any]) -> Schedule:
        """The schedule as it was when `state` was called."""
        schedule = cls(config, state["n_steps"])
        schedule._on_demand = state["start"] != schedule._start
        schedule.end, schedule._start, schedule._start_lr = state["end"], state["start"], state["start_lr"]
        return schedule


def _decayed(shape: DecayShape, first: float, last: float, tau: float) -> float:
    """Value at the fraction ``tau`` of a decay."""
    if shape == "cosine":
        return last + (first - last) * 0.5 * (1 + math.cos(math.pi * tau))
    if shape == "linear":
        return last + (first - last) * (1 - tau)
    return 1 / (tau / last + (1 - tau) / first)

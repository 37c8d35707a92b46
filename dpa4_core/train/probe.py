"""Trial steps before a run: how far one step of a learning rate moves energies and forces, and the rate that moves them
by no more than there is to be gained.

A step of Muon or Adam is as long as the rate says, however good the model is already. From a good base one step at a
rate for new networks moves energies by many times the error that is to become smaller, and a run spends its time on
coming back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dpa4_core.train.standing import FLOORS

SHARE = 0.5
"""Of the error of the base, that a step may move energies or forces by: later steps add up, and the rate falls."""

_MOST, _TRIALS = 30.0, 3  # how far a rate is lowered, and in how many trials: moves are not quite linear in it

Answers = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Move:
    """What one step does.

    Attributes:
        rate: learning rate of the matrices.
        energy: eV/atom, mean absolute change of the energies among each other: what moves all of them together is
            taken out by the level of the offsets, see `dpa4_core.train.trainer`.
        together: eV/atom, that common change.
        force: eV/Å, mean absolute change of a component.
    """

    rate: float
    energy: float
    together: float
    force: float


@dataclass(frozen=True)
class Probe:
    """A rate and how it was found.

    Attributes:
        rate: learning rate to train with.
        moves: of the trial steps, in their order.
        base: errors of the base on the frames of the trial, "energy" in eV/atom and "force" in eV/Å.
        limited_by: "energy" or "force", that a step at the rate of the recipe would have moved too far; "" otherwise.
        n_frames: frames that were looked at.
    """

    rate: float
    moves: tuple[Move, ...]
    base: dict[str, float]
    limited_by: str
    n_frames: int

    def sentence(self) -> str:
        """For the log and the screen."""
        last = self.moves[-1]
        text = (
            f"{self.rate:.2g}; one step moves energies by {1e3 * last.energy:.2g} meV/atom among each other and forces "
            f"by {1e3 * last.force:.2g} meV/Å, errors of the base are {1e3 * self.base.get('energy', np.nan):.2g} and "
            f"{1e3 * self.base.get('force', np.nan):.2g}"
        )
        return text + (f" (lowered for the {self.limited_by})" if self.limited_by and len(self.moves) > 1 else "")

    def doubt(self) -> str:
        """About a rate that was given and moves too much."""
        return (
            f"at the learning rate {self.rate:.2g} one step moves the {self.limited_by} by more than half of what the "
            "base is wrong by; without --lr a rate is found that does not"
        )


class Trials:
    """Steps of any rate from the present weights, which stay as they are.

    Args:
        parameters: that are trained, with the gradient of a batch.
        take: one step of a new optimiser at a rate.
        answers: energies and forces of some frames with the present weights.
        labels: reference energies per atom [n] and forces [n_atoms, 3] of them, NaN where there are none.
    """

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],
        take: Callable[[float], None],
        answers: Callable[[], Answers],
        labels: Answers,
    ) -> None:
        self._parameters, self._take, self._answers = parameters, take, answers
        self._before = answers()
        self.n_frames = len(labels[0])
        errors = {"energy": labels[0] - self._before[0], "force": labels[1] - self._before[1]}
        self.base = {
            name: float(np.nanmean(np.abs(error))) for name, error in errors.items() if np.isfinite(error).any()
        }

    def move(self, rate: float) -> Move:
        """What one step at ``rate`` does."""
        own = [parameter.detach().clone() for parameter in self._parameters]
        try:
            self._take(rate)
            energy, force = self._answers()
        finally:
            with torch.no_grad():
                torch._foreach_copy_(list(self._parameters), own)
        change = energy - self._before[0]
        together = float(np.median(change))
        among = float(np.mean(np.abs(change - together)))
        return Move(rate, among, together, float(np.mean(np.abs(force - self._before[1]))))

    def find(self, most: float) -> Probe:
        """The largest rate up to ``most`` at which a step moves neither energies nor forces too far."""
        rate, moves, limited_by = most, [], ""
        for _ in range(_TRIALS):
            moves.append(self.move(rate))
            name, excess = self._excess(moves[-1])
            if excess <= 1.05 or rate <= most / _MOST:
                break
            limited_by, rate = name, max(rate / excess, most / _MOST)
        return Probe(rate, tuple(moves), self.base, limited_by, self.n_frames)

    def look(self, rate: float) -> Probe:
        """What a given rate does, and whether that is too much."""
        move = self.move(rate)
        name, excess = self._excess(move)
        return Probe(rate, (move,), self.base, name if excess > 1 else "", self.n_frames)

    def _excess(self, move: Move) -> tuple[str, float]:
        """The quantity that moves most beside what it may, and how much more that is."""
        moved = {"energy": move.energy, "force": move.force}
        found = [(name, moved[name] / (SHARE * max(error, FLOORS[name]))) for name, error in self.base.items()]
        return max(found, key=lambda pair: pair[1], default=("", 0.0))

    def ladder(self, middle: float) -> list[Move]:
        """Moves at rates around ``middle``, an eighth to eight times: a table to choose a rate from."""
        return [self.move(middle * 2.0**power) for power in range(-3, 4)]

"""Trial steps before a run: how far one step of a learning rate moves energies, forces and stresses, and the rate that
moves them by no more than there is to be gained.

A step of Muon or Adam is as long as the rate says, however good the model is already. From a good base one step at a
rate for new networks moves energies by many times the error that is to become smaller, and a run spends its time on
coming back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dpa4_core.train.standing import FLOORS
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA

SHARE = 0.5
"""Of the error of the base, that a step may move a quantity by: later steps add up, and the rate falls."""

_WORDS = {
    "energy": ("energies by {:.2g} meV/atom among each other", 1e3),
    "force": ("forces by {:.2g} meV/Å", 1e3),
    "stress": ("stresses by {:.2g} GPa", EV_PER_ANGSTROM3_TO_GPA),
}

_MOST, _TRIALS = 30.0, 3  # how far a rate is lowered, and in how many trials: moves are not quite linear in it


class Answers(NamedTuple):
    """What is said about some frames, NaN where nothing is.

    Attributes:
        energy: [n_frames] eV/atom.
        force: [n_atoms, 3] eV/Å.
        stress: [n_frames, 3, 3] eV/Å³.
    """

    energy: NDArray[np.float64]
    force: NDArray[np.float64]
    stress: NDArray[np.float64]


@dataclass(frozen=True)
class Move:
    """What one step does.

    Attributes:
        rate: learning rate of the matrices.
        energy: eV/atom, mean absolute change of the energies among each other: what moves all of them together is
            taken out by the level of the offsets, see `dpa4_core.train.trainer`.
        together: eV/atom, that common change.
        force: eV/Å, mean absolute change of a component.
        stress: eV/Å³, the same.
    """

    rate: float
    energy: float
    together: float
    force: float
    stress: float


@dataclass(frozen=True)
class Probe:
    """A rate and how it was found.

    Attributes:
        rate: learning rate to train with.
        moves: of the trial steps, in their order.
        base: errors of the base on the frames of the trial, "energy" in eV/atom, "force" in eV/Å and "stress" in
            eV/Å³, as far as they are labelled.
        limited_by: which of them a step at the rate of the recipe would have moved too far; "" otherwise.
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
        moved = ", ".join(
            f"{words.format(factor * getattr(last, name))} (error of the base {factor * self.base[name]:.2g})"
            for name, (words, factor) in _WORDS.items()
            if name in self.base
        )
        return f"{self.rate:.2g}; one step moves {moved}" + (
            f" (lowered for the {self.limited_by})" if self.limited_by and len(self.moves) > 1 else ""
        )

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
        answers: what the present weights say about some frames.
        labels: reference values of them, NaN where there are none.
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
        self.n_frames = len(labels.energy)
        errors = {name: getattr(labels, name) - getattr(self._before, name) for name in Answers._fields}
        self.base = {
            name: float(np.nanmean(np.abs(error))) for name, error in errors.items() if np.isfinite(error).any()
        }

    def move(self, rate: float) -> Move:
        """What one step at ``rate`` does."""
        own = [parameter.detach().clone() for parameter in self._parameters]
        try:
            self._take(rate)
            now = self._answers()
        finally:
            with torch.no_grad():
                torch._foreach_copy_(list(self._parameters), own)
        change = now.energy - self._before.energy
        together = float(np.median(change))
        among = float(np.mean(np.abs(change - together)))
        force = float(np.mean(np.abs(now.force - self._before.force)))
        moved = np.abs(now.stress - self._before.stress)
        stress = float(np.nanmean(moved)) if np.isfinite(moved).any() else 0.0
        return Move(rate, among, together, force, stress)

    def find(self, most: float) -> Probe:
        """The largest rate up to ``most`` at which a step moves nothing too far."""
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
        found = [(name, getattr(move, name) / (SHARE * max(error, FLOORS[name]))) for name, error in self.base.items()]
        return max(found, key=lambda pair: pair[1], default=("", 0.0))

    def ladder(self, middle: float) -> list[Move]:
        """Moves at rates around ``middle``, an eighth to eight times: a table to choose a rate from."""
        return [self.move(middle * 2.0**power) for power in range(-3, 4)]

"""Statistics of a stream of frames in little memory."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


class Range:
    """Smallest and largest number so far."""

    def __init__(self) -> None:
        self.limits: tuple[float, float] | None = None

    def add(self, value: float) -> None:
        """Take one more number."""
        low, high = self.limits or (value, value)
        self.limits = (min(low, value), max(high, value))


class LogHistogram:
    """Median to 1 % and exact maximum of any number of values between 1e-8 and 1e8."""

    BINS_PER_DECADE = 250
    DECADES = 16

    def __init__(self) -> None:
        self.largest: float | None = None
        self._bins = np.zeros(self.BINS_PER_DECADE * self.DECADES, dtype=np.int64)

    def add(self, values: NDArray[np.float64]) -> None:
        """Take more values, at least one."""
        with np.errstate(divide="ignore"):
            positions = (np.log10(values) + self.DECADES / 2) * self.BINS_PER_DECADE
        np.add.at(self._bins, np.clip(positions, 0, len(self._bins) - 1).astype(np.int64), 1)
        self.largest = max(self.largest or 0.0, float(values.max()))

    def median(self) -> float | None:
        """None without values, 0 if most are 0."""
        if self.largest is None:
            return None
        middle = int(np.searchsorted(self._bins.cumsum(), (self._bins.sum() + 1) // 2))
        if middle == 0:
            return 0.0
        return float(10 ** ((middle + 0.5) / self.BINS_PER_DECADE - self.DECADES / 2))


class Extensivity:
    """Whether energies grow with the number of atoms."""

    def __init__(self) -> None:
        self._extremes: dict[str, list[tuple[int, float]]] = {}
        self._sums = np.zeros(5)  # number, Σx, Σy, Σx², Σxy of x = log n, y = log |E|

    def add(self, formula: str, n_atoms: int, energy: float) -> None:
        """Take the energy (eV) of one frame and its reduced formula."""
        first = self._extremes.setdefault(formula, [(n_atoms, energy), (n_atoms, energy)])
        if n_atoms < first[0][0]:
            first[0] = (n_atoms, energy)
        if n_atoms > first[1][0]:
            first[1] = (n_atoms, energy)
        x, y = math.log(n_atoms), math.log(max(abs(energy), 1e-3))
        self._sums += (1, x, y, x * x, x * y)

    def stored_per_atom(self) -> bool:
        """By pairs of one formula where there are any, else by the growth over all frames."""
        votes = [vote for (small, large) in self._extremes.values() if (vote := self._vote(small, large)) is not None]
        if votes:
            return sum(votes) > len(votes) / 2
        number, x, y, xx, xy = self._sums
        if number < 10 or (spread := xx / number - (x / number) ** 2) < 0.1:
            return False
        return bool((xy / number - x * y / number**2) / spread < 0.3)

    @staticmethod
    def _vote(small: tuple[int, float], large: tuple[int, float]) -> bool | None:
        """Whether two cells of one formula have the same energy as stored, None if neither that nor per atom."""
        (n, energy), (n_large, energy_large) = small, large
        if n_large < 1.5 * n or max(abs(energy), abs(energy_large)) < 0.1:
            return None
        as_stored = abs(energy - energy_large) / max(abs(energy), abs(energy_large))
        per_atom = abs(energy / n - energy_large / n_large) / max(abs(energy / n), abs(energy_large / n_large))
        if min(as_stored, per_atom) > 0.2:
            return None
        return as_stored < per_atom

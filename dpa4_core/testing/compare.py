"""Comparisons that fail with a sentence that has the numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from dpa4_core.testing.samples import Evaluation

TOLERANCE = 1e-9
"""Default in eV and eV/Å, for potentials in float64. For float32 about 1e-4 is fair."""


def difference_step(tolerance: float) -> float:
    """Displacement in Å for finite differences of numbers that are good to ``tolerance``."""
    return 1e-3 if tolerance <= 1e-6 else 2e-2


def refine(check: Callable[[float], None], tolerance: float, times: int) -> None:
    """Call ``check`` with a step that shrinks up to ``times`` times by 4, until it passes.

    Finite differences see a smooth but steep place, or a kink in a higher derivative within their stencil, as
    an error. That goes away with a smaller step; a real fault stays.
    """
    step = difference_step(tolerance)
    for _ in range(times):
        try:
            check(step)
            return
        except AssertionError:
            step /= 4
    check(step)


def assert_close(
    value: ArrayLike, expected: ArrayLike, tolerance: float, what: str, unit: str, *, nan_ok: bool = False
) -> None:
    """Raise AssertionError unless all differences are at most ``tolerance``; a NaN is close to nothing."""
    value, expected = np.broadcast_arrays(np.asarray(value, dtype=float), np.asarray(expected, dtype=float))
    difference = np.abs(value - expected)
    if nan_ok:
        difference = np.where(np.isnan(value) & np.isnan(expected), 0.0, difference)
    if value.size == 0 or np.all(difference <= tolerance):
        return
    worst = np.unravel_index(np.argmax(np.where(np.isnan(difference), np.inf, difference)), difference.shape)
    where = f" at index {tuple(int(i) for i in worst)}" if worst else ""
    raise AssertionError(
        f"{what} is {value[worst]:.10g}{where}, expected {expected[worst]:.10g}: the difference of "
        f"{difference[worst]:.2e} {unit} exceeds {tolerance:.1e}"
    )


def assert_same(result: Evaluation, expected: Evaluation, tolerance: float, label: str) -> None:
    """Raise AssertionError unless every part of two evaluations agrees; energies to ``tolerance`` an atom."""
    n_atoms = len(expected.forces)
    assert_close(result.energy, expected.energy, tolerance * n_atoms, f"energy of {label}", "eV")
    assert_close(result.atom_energies, expected.atom_energies, tolerance, f"atomic energy of {label}", "eV")
    assert_close(result.forces, expected.forces, tolerance, f"force of {label}", "eV/Å")
    # Virials grow with distance and number of atoms, so their rounding does too.
    assert_close(result.virial, expected.virial, 10 * tolerance * n_atoms, f"virial of {label}", "eV")
    if result.stress is not None and expected.stress is not None:
        assert_close(result.stress, expected.stress, tolerance, f"stress of {label}", "eV/Å³")

"""All checks in one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from dpa4_core.potential import PotentialLike
from dpa4_core.testing.compare import TOLERANCE
from dpa4_core.testing.derivatives import check_forces_against_differences, check_stress_against_differences
from dpa4_core.testing.smoothness import check_continuity_at_polar_axis, check_continuity_through_cutoff
from dpa4_core.testing.symmetry import (
    check_batch_equals_single,
    check_extensivity,
    check_input_untouched,
    check_isolated_atom,
    check_open_axes,
    check_permutation,
    check_rotation,
    check_self_images,
    check_systems_do_not_couple,
    check_translation,
)


class CheckResult(NamedTuple):
    """Outcome of one check; ``message`` is the sentence of a failure, or empty."""

    name: str
    passed: bool
    message: str
    seconds: float

    def __str__(self) -> str:
        return f"passed  {self.name}" if self.passed else f"FAILED  {self.name}: {self.message}"


ON_STRUCTURES: tuple[Callable[..., None], ...] = (
    check_rotation,
    check_translation,
    check_permutation,
    check_forces_against_differences,
    check_stress_against_differences,
    check_batch_equals_single,
    check_systems_do_not_couple,
    check_extensivity,
    check_open_axes,
    check_input_untouched,
)
ON_OWN_SYSTEMS: tuple[Callable[..., None], ...] = (
    check_continuity_through_cutoff,
    check_continuity_at_polar_axis,
    check_isolated_atom,
    check_self_images,
)


def run_physics_suite(
    potential: PotentialLike, structures: Sequence[Any] | None = None, *, tolerance: float = TOLERANCE
) -> list[CheckResult]:
    """Every check on a potential; failures are returned, not raised.

    Args:
        potential: what to test.
        structures: ase.Atoms or pymatgen structures to test it on, best without symmetry; by default three
            low-symmetry samples of elements that the potential knows.
        tolerance: eV, eV/Å and eV/Å³ to which its numbers are reproducible; the default suits float64, for
            float32 about 1e-4 is fair.

    """
    calls = [partial(check, potential, structures, tolerance=tolerance) for check in ON_STRUCTURES]
    calls += [partial(check, potential, tolerance=tolerance) for check in ON_OWN_SYSTEMS]
    results = []
    for call in calls:
        start = time.perf_counter()
        try:
            call()
            message = ""
        except AssertionError as failure:
            message = str(failure)
        name = call.func.__name__.removeprefix("check_")
        results.append(CheckResult(name, not message, message, time.perf_counter() - start))
    return results

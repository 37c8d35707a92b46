"""Settings that make no sense, in one sentence each."""

from __future__ import annotations

import math

from dpa4_core.errors import DPA4Error


def check_positive(settings: object, *names: str) -> None:
    """Refuse settings that are no positive numbers.

    Raises:
        DPA4Error: one of ``names`` is not.
    """
    for name in names:
        if not 0 < getattr(settings, name) < math.inf:
            raise DPA4Error(f"{name} is {getattr(settings, name)}; it must be positive and finite")


def check_counts(settings: object, *names: str, least: int = 1) -> None:
    """Refuse numbers of something that are below ``least``, or no numbers.

    Raises:
        DPA4Error: one of ``names`` is.
    """
    for name in names:
        if not least <= getattr(settings, name) < math.inf:
            raise DPA4Error(f"{name} must be {least} or more, not {getattr(settings, name)}")


def check_voltages(low: float, high: float) -> None:
    """Refuse a window of voltages, V, that is none.

    Raises:
        DPA4Error: its ends are not finite, or in the wrong order.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise DPA4Error(f"v_min = {low:g} V must be below v_max = {high:g} V")

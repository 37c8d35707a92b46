"""Optional packages: which extra brings which, and the sentence for one that is not there."""

from __future__ import annotations

import importlib.util

from dpa4_core.errors import DPA4Error

MODULES = {"phonons": ("phonopy", "seekpath"), "kappa": ("phono3py", "symfc")}
"""Modules that an extra of the distribution installs, by the name of the extra."""


def require_extra(extra: str, purpose: str) -> None:
    """Make sure that the packages of ``extra`` are installed, before work begins.

    Args:
        extra: a key of `MODULES`.
        purpose: what needs it, the subject of the sentence.

    Raises:
        DPA4Error: one is missing; says what to type.
    """
    if missing := _missing(extra):
        verb = "is" if len(missing) == 1 else "are"
        names = " and ".join(missing)
        raise DPA4Error(f"{purpose} needs {names}, which {verb} not installed: pip install 'dpa4-flows[{extra}]'")


def has_extra(extra: str) -> bool:
    """Whether the packages of ``extra``, a key of `MODULES`, are installed."""
    return not _missing(extra)


def _missing(extra: str) -> list[str]:
    return [module for module in MODULES[extra] if importlib.util.find_spec(module) is None]

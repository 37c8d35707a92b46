"""Molecular dynamics of one structure through the integrators of ASE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpa4_core.lazy import import_when_used

if TYPE_CHECKING:
    from dpa4_core.md.result import MDResult, Thermo
    from dpa4_core.md.run import md
    from dpa4_core.md.settings import MDSettings

__all__ = ["MDResult", "MDSettings", "Thermo", "md"]

import_when_used(__name__, {"result": ("MDResult", "Thermo"), "run": ("md",), "settings": ("MDSettings",)})

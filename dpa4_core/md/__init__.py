"""Molecular dynamics of one structure through the integrators of ASE."""

from __future__ import annotations

from dpa4_core.md.result import MDResult, Thermo
from dpa4_core.md.run import md
from dpa4_core.md.settings import MDSettings

__all__ = ["MDResult", "MDSettings", "Thermo", "md"]

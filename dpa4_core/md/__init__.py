"""Molecular dynamics of one structure or of many, with files from which a run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpa4_core.lazy import import_when_used

if TYPE_CHECKING:
    from dpa4_core.md.result import MDResult, Thermo
    from dpa4_core.md.settings import MDSettings
    from dpa4_core.md.together import md, md_many

__all__ = ["MDResult", "MDSettings", "Thermo", "md", "md_many"]

import_when_used(
    __name__, {"result": ("MDResult", "Thermo"), "settings": ("MDSettings",), "together": ("md", "md_many")}
)

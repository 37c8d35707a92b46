"""Names that stored things use for modules that have moved since: a job in a database and its output name the module
of each class that they hold.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "dpa4_flows.makers.batch": "dpa4_flows.makers.named",
    "dpa4_flows.makers.hull": "dpa4_flows.makers.named",
    "dpa4_flows.makers.stability": "dpa4_flows.makers.named",
    "dpa4_flows.reasons": "dpa4_flows.documents.reasons",
    "dpa4_flows.results": "dpa4_flows.store.table",
    "dpa4_flows.schemas": "dpa4_flows.documents.schemas",
    "dpa4_flows.schemas_stability": "dpa4_flows.documents.stability",
    "dpa4_flows.schemas_training": "dpa4_flows.documents.training",
    "dpa4_flows.stores": "dpa4_flows.store.jobs",
}


class _Moved(MetaPathFinder, Loader):
    """Imports the module of today under its name of before; both are one module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(MOVED[module.__name__])


def import_moved_modules() -> None:
    """Let Python import modules by the names that they had."""
    sys.meta_path.append(_Moved())

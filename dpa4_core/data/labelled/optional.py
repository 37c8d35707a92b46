"""Packages that only some formats need."""

from __future__ import annotations

import importlib
from typing import Any

from dpa4_core.errors import DPA4Error


def optional_package(name: str, needed_for: str) -> Any:
    """The imported package.

    Raises:
        DPA4Error: it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DPA4Error(f'{needed_for} needs {name}; run `pip install "dpa4-flows[formats]"`') from error

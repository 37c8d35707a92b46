"""Version of the distribution."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("dpa4-flows")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0+source"


__version__ = _installed()

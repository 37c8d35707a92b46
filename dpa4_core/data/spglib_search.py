"""Searches of spglib that find something or nothing, and say nothing on the terminal."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_SWITCHES = {"SPGLIB_WARNING": "OFF", "SPGLIB_OLD_ERROR_HANDLING": "false"}
"""Its C code reads the first one at every message; the second one makes it raise, as some packages do for all."""
_lock = threading.Lock()  # of the environment


def found_by(search: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T | None:
    """What ``search`` of spglib, or of ASE with it, finds; None where it fails."""
    with _lock:
        before = {name: os.environ.get(name) for name in _SWITCHES}
        os.environ.update(_SWITCHES)
        try:
            return search(*arguments, **options)
        except Exception:  # noqa: BLE001  of types that depend on the versions of both; the oldest give None
            return None
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

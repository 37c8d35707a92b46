"""Searches of spglib that say nothing on the terminal: that nothing was found is for their caller to say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_SWITCH = "SPGLIB_WARNING"


@contextmanager
def quiet_spglib() -> Iterator[None]:
    """Keep spglib's C code, which reads this variable at every message, from writing to stderr."""
    before = os.environ.get(_SWITCH)
    os.environ[_SWITCH] = "OFF"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_SWITCH, None)
        else:
            os.environ[_SWITCH] = before

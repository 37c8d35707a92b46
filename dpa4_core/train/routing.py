"""The official name of a parameter under training, which decides how the optimiser moves it."""

from __future__ import annotations

from dpa4_core.model.config import DPA4Config
from dpa4_core.model.official import official_name


def official(name: str, config: DPA4Config) -> str:
    """Official name of a parameter of a `DPA4`, with or without adapters, or of a `PropertyModel` around one.

    The head of a property is moved like the fitting net.
    """
    if name.startswith("head."):
        name = "fitting." + name.removeprefix("head.")
    return official_name(name.removeprefix("backbone."), config)

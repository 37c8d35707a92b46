"""The properties as functions: `elastic`, `phonons`, ..., every name of the registry.

A function is made when it is first asked for. `functions.pyi` says the same to editors and type checkers, and names
what ``import dpa4_flows`` offers; ``scripts/typed_names.py`` writes it.
"""

from __future__ import annotations

from typing import Any

from dpa4_flows.properties.registry import property_class, property_names


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in property_names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dpa4_flows.verbs import function_of  # the loop behind it takes seconds to import, the names nothing

    globals()[name] = function_of(property_class(name))
    return globals()[name]

"""Packages whose public names are imported when they are first used: a command, a worker or a plain analysis does not
wait for what it does not need, torch above all.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


def names_in_stub(package: str, file: str) -> dict[str, tuple[str, ...]]:
    """Public names by the module of the package that holds them, as the stub beside ``__init__.py`` imports them for
    type checkers; all that a module defines, according to its own stub, where it imports ``*``.

    Args:
        package: its ``__name__``.
        file: its ``__file__``.
    """
    found: dict[str, tuple[str, ...]] = {}
    for node in _stub(Path(file)).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{package}."):
            module = node.module.removeprefix(f"{package}.")
            names = [name.name for name in node.names]
            if names == ["*"]:
                defined = _stub(Path(file).parent / f"{module.replace('.', '/')}.py").body
                names = [one.name for one in defined if isinstance(one, ast.ClassDef | ast.FunctionDef)]
            found[module] = (*found.get(module, ()), *names)
    return found


def _stub(file: Path) -> ast.Module:
    return ast.parse(file.with_suffix(".pyi").read_text(encoding="utf-8"))


def import_when_used(package: str, homes: Mapping[str, tuple[str, ...]]) -> None:
    """Let ``package`` find its public names in its modules.

    Args:
        package: its ``__name__``.
        homes: public names by the module that holds them, named from the package.
    """
    module_of = {name: f"{package}.{module}" for module, names in homes.items() for name in names}

    class Package(ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name not in module_of:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            value = getattr(importlib.import_module(module_of[name]), name)
            setattr(self, name, value)
            return value

        def __setattr__(self, name: str, value: Any) -> None:
            # the import of a module puts it in the place of a public name that is spelled alike, as `relax` is
            if not (name in module_of and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

        def __dir__(self) -> list[str]:
            return sorted({*super().__dir__(), *module_of})

    sys.modules[package].__class__ = Package

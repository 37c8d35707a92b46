"""Write what editors and type checkers see of functions and Makers that are made from the properties.

    python scripts/typed_names.py

A property of the registry has a function in ``dpa4_flows/functions.pyi`` and a Maker in
``dpa4_flows/makers/named.pyi``. A test tells when the files are not those of the properties.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import inspect
import sys
import textwrap
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import dpa4_flows
from dpa4_flows.makers import named
from dpa4_flows.properties.registry import property_class, property_names

PACKAGE = Path(dpa4_flows.__file__).parent
HEAD = '"""{}; written by scripts/typed_names.py."""'


class Imports:
    """Imports of a stub, as its text needs them."""

    def __init__(self) -> None:
        self._names: defaultdict[str, set[str]] = defaultdict(set)

    def name(self, module: str, name: str) -> str:
        self._names[module].add(name)
        return name

    def of(self, kind: type) -> str:
        return self.name(kind.__module__, kind.__name__)

    def annotation(self, kind: type, field: str) -> str:
        """The type of a field as the class writes it that has it."""
        owner = next(cls for cls in kind.__mro__ if field in inspect.get_annotations(cls))
        written: str = owner.__annotations__[field]
        for node in ast.walk(ast.parse(written)):
            if isinstance(node, ast.Name) and not hasattr(builtins, node.id):
                self.name(_imported(owner.__module__).get(node.id, owner.__module__), node.id)
        return written

    def lines(self) -> list[str]:
        return [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(self._names.items())]


@cache
def _imported(module: str) -> dict[str, str]:
    """Names that a module imports, and from where."""
    nodes = ast.walk(ast.parse(inspect.getsource(sys.modules[module])))
    return {name.name: node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names}


def functions_stub() -> str:
    """A function for every property, with its settings as keywords."""
    imports, found = Imports(), []
    for name in property_names():
        kind = property_class(name)
        if not kind.__module__.startswith("dpa4_flows."):
            continue  # of another package, which this machine happens to have
        settings = {field.name: imports.annotation(kind, field.name) for field in dataclasses.fields(kind)}
        settings["model"] = f"str | {imports.name('dpa4_flows.model_ref', 'ModelRef')}"
        if kind.starts_from_rest:
            settings["relaxation"] = f"{imports.name('dpa4_flows.compute.relaxed', 'Relaxed')} | None"
        structures = imports.name("dpa4_flows.verbs", "Structures")
        how = f"{imports.name('typing', 'Unpack')}[{imports.name('dpa4_flows.verbs', 'How')}]"
        answer = f"{imports.name('dpa4_flows.properties.table', 'Results')}[{imports.of(kind.document)}]"
        parameters = [
            f"structures: {structures}",
            "*",
            *(f"{n}: {t} = ..." for n, t in settings.items()),
            f"**how: {how}",
        ]
        found += [f"def {name}(", *(f"    {one}," for one in parameters), f") -> {answer}:", *_docstring(kind), ""]
    return _file("The properties as functions", imports, found)


def makers_stub() -> str:
    """A class for every Maker."""
    imports, found = Imports(), []
    imports.name("dataclasses", "dataclass")
    for name, (property_name, title) in named.MAKERS.items():
        kind = property_class(property_name)
        base = imports.of(getattr(named, name).__mro__[1])
        head = f"class {name}({base}[{imports.of(kind.document)}]):"
        found += ["@dataclass", head, *_docstring(getattr(named, name))]
        found += ["", f"    property: {imports.of(kind)} = ...", f'    name: str = "{title}"', ""]
    found += ["MAKERS: dict[str, tuple[str, str]]"]
    return _file("Makers of the properties, by name", imports, found)


def stubs() -> dict[Path, str]:
    """Contents of the files."""
    return {PACKAGE / "functions.pyi": functions_stub(), PACKAGE / "makers" / "named.pyi": makers_stub()}


def _docstring(kind: type[Any]) -> list[str]:
    text = inspect.getdoc(kind) or ""
    return textwrap.indent(f'"""{text}' + ("\n" if "\n" in text else "") + '"""', "    ").splitlines()


def _file(title: str, imports: Imports, found: list[str]) -> str:
    return "\n".join([HEAD.format(title), "", *imports.lines(), "", *found]).rstrip() + "\n"


if __name__ == "__main__":
    for path, content in stubs().items():
        path.write_text(content, encoding="utf-8")
        print(f"wrote {path}")

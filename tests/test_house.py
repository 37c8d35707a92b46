"""One definition of each thing: what the whole of `dpa4_flows` keeps to."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

import dpa4_flows
from dpa4_flows.documents.quantities import Quantity
from dpa4_flows.documents.stability import ElasticPart

ROOT = Path(__file__).parent.parent
FLOWS = sorted((ROOT / "dpa4_flows").rglob("*.py"))


@cache
def trees() -> list[tuple[str, ast.Module]]:
    return [(str(path.relative_to(ROOT)), ast.parse(path.read_text())) for path in FLOWS]


def test_only_one_function_says_what_lies_on_the_hull() -> None:
    found = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and "energy_above_hull" in ast.unparse(node):
                sides = [node.left, *node.comparators]
                if any(isinstance(side, ast.Constant) and isinstance(side.value, float | int) for side in sides):
                    found.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
            if isinstance(node, ast.Name) and node.id == "ON_HULL" and not path.endswith("completeness.py"):
                found.append(f"{path}:{node.lineno}: ON_HULL")
    assert not found, "ask on_hull()"


@pytest.mark.parametrize("table", ["ION_CHARGES", "ON_HULL", "METASTABLE_EV"])
def test_a_table_of_facts_is_assigned_once(table: str) -> None:
    found = [
        path
        for path, tree in trees()
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if ast.unparse(target).lstrip("_") == table
    ]
    assert len(found) == 1, found


WORDS = re.compile(r"\b(error|reason|sentence|warning|note)s?\b")
UPGRADES = re.compile("_of_earlier_version|_of_a_string|with_reliability_as_reasons")
"""Functions that give what was stored without codes its codes."""


def test_no_logic_reads_the_words_of_sentences() -> None:
    """Only texts that are written in the code: whether a name is in a sentence decides how it is shown."""
    found = []
    for path, tree in trees():
        skipped = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and UPGRADES.search(node.name)
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            text = None
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
                text = node.left, node.comparators[0]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                text = (node.args[0], node.func.value) if node.func.attr in ("startswith", "endswith") else None
            if text is None or id(node) in skipped or not isinstance(text[1], ast.Name | ast.Attribute | ast.Subscript):
                continue
            written = isinstance(text[0], ast.Constant) and isinstance(text[0].value, str)
            if (written or isinstance(node, ast.Call)) and WORDS.search(ast.unparse(text[1])):
                found.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    assert not found, "give it a code"


UNITS = {"%": "_percent", "GPa": "_gpa", "THz": "_thz", "meV/atom": "_mev", "kJ/mol": "_kj_mol", "ps": "_ps"}
"""Units other than those inside (Å, eV, eV/Å³, K, u, e), and what a name says of them."""


def models(base: type = BaseModel) -> Iterator[type[BaseModel]]:
    for found in base.__subclasses__():
        yield found
        yield from models(found)


def test_a_value_in_another_unit_carries_it_in_its_name() -> None:
    for module in pkgutil.walk_packages(dpa4_flows.__path__, "dpa4_flows."):
        if "schemas" in module.name or "config" in module.name or "documents" in module.name:
            importlib.import_module(module.name)
    wrong = []
    for model in set(models()):
        if model.__module__.startswith("dpa4_flows"):
            for name, field in model.model_fields.items():
                said = [field.description or "", *(one.unit for one in field.metadata if isinstance(one, Quantity))]
                words = [part.split(" ")[0] for part in re.split(r", |; ", ", ".join(said))]
                wrong += [f"{model.__name__}.{name}" for u, end in UNITS.items() if u in words and end not in name]
    assert not wrong


def test_the_schema_of_a_document_says_what_its_quantities_declare() -> None:
    fields = ElasticPart.model_json_schema()["properties"]
    said = {name: field.get("description", "") for name, field in fields.items()}
    assert said["k_vrh_gpa"] == "Bulk modulus, Voigt-Reuss-Hill, GPa"
    assert said["universal_anisotropy"].startswith("5 G_V/G_R"), "a description that says more stays"


def test_files_are_locked_and_read_by_the_core_alone() -> None:
    """One lock, and one reader for candidates, competing phases and whatever else holds structures."""
    found = []
    for path, tree in trees():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.Attribute):
                names = [ast.unparse(node)]
            taken = {"fcntl", "pickle", "CifParser", "Poscar", "ase.io.read", "ase.io.iread", "ase.db"} & set(names)
            taken |= {name for name in names if name.endswith((".from_file", ".from_str"))}
            found += [f"{path}:{node.lineno}: {name}" for name in taken]
    assert not found, "use dpa4_core.data.readers and dpa4_core.locks"


def test_quantities_and_options_are_declared_in_one_way() -> None:
    """``shown(...)`` beside the field of a document, ``option(...)`` and ``flag(...)`` in a group of options."""
    found = []
    for path, tree in trees():
        for node in ast.walk(tree):
            made = isinstance(node, ast.Call) and ast.unparse(node.func) == "Quantity"
            if made and not path.endswith("documents/quantities.py"):
                found.append(f"{path}:{node.lineno}: Quantity")
            fields = node.body if isinstance(node, ast.ClassDef) and "/cli/" in path else []
            for field in fields:
                if isinstance(field, ast.AnnAssign) and "typer.Option" in ast.unparse(field.annotation):
                    found.append(f"{path}:{field.lineno}: typer.Option")
    assert not found

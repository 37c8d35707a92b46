"""One definition of each thing: what the whole of `dpa4_flows` keeps to."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOWS = sorted((ROOT / "dpa4_flows").rglob("*.py"))


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

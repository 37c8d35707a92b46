"""The examples of docs/extending.md run, one after the other, as a reader would run them."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from dpa4_flows.properties.registry import property_class

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
TOY = "dpa4_core.testing:MorsePotential"


def test_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = [part.split("```")[0] for part in PAGE.read_text().split("```python\n")[1:]]
    assert len(blocks) >= 4
    module = tmp_path / "squash_of_a_reader.py"
    module.write_text("\n\n".join(blocks).replace("dpa4-neo", TOY))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module(module.stem)
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines()]
    costs = {line[0]: float(line[1]) for line in lines if line and line[0] in ("Cu", "Al", "Mg")}
    assert len(costs) == 3 and float(lines[-1][-1]) == pytest.approx(costs["Cu"])


def test_properties_that_the_page_names_exist() -> None:
    assert property_class("equation_of_state").name == "equation_of_state"

"""What editors and type checkers are told of functions and Makers is what there is."""

from __future__ import annotations

import importlib
import inspect
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import dpa4_flows
from dpa4_flows.makers.named import MAKERS
from dpa4_flows.makers.property import PropertyMaker
from dpa4_flows.properties.registry import property_names

SCRIPT = Path(__file__).parents[2] / "scripts" / "typed_names.py"


def test_the_stubs_are_those_of_the_properties() -> None:
    for path, content in runpy.run_path(str(SCRIPT))["stubs"]().items():
        assert path.read_text() == content, f"{path.name} is not of these properties: run scripts/{SCRIPT.name}"


def test_every_property_has_a_function_with_its_settings() -> None:
    assert set(property_names()) <= set(dpa4_flows.__all__)
    for name in property_names():
        function = getattr(dpa4_flows, name)
        assert function.__name__ == name and {"structures", "model", "how"} <= set(
            inspect.signature(function).parameters
        )
    assert "strains" in inspect.signature(dpa4_flows.elastic).parameters
    with pytest.raises(AttributeError, match="elastik"):
        importlib.import_module("dpa4_flows.functions").elastik  # noqa: B018


@pytest.mark.parametrize("name", MAKERS)
def test_a_maker_is_one_class_that_jobs_find_by_its_name(name: str) -> None:
    maker = getattr(dpa4_flows, name)()
    assert isinstance(maker, PropertyMaker) and maker.name == MAKERS[name][1]
    assert type(maker) is getattr(importlib.import_module(maker.as_dict()["@module"]), maker.as_dict()["@class"])
    assert type(maker).from_dict(maker.as_dict()).as_dict() == maker.as_dict()


@pytest.mark.slow
def test_a_type_checker_sees_the_keywords_of_a_function(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(
        "import dpa4_flows as d4\n"
        "d4.elastic('Cu.cif', strains=(0.01,), folder='run')[0].k_vrh_gpa\n"
        "d4.BatchSurfaceMaker(model='dpa4-neo').property.max_index\n"
        "d4.elastic('Cu.cif', strain=0.01)\n"
        "d4.hull('Cu.cif')[0].k_vrh_gpa\n"
    )
    checked = subprocess.run([sys.executable, "-m", "mypy", str(program)], capture_output=True, text=True, check=False)
    errors = [line.split(":")[1] for line in checked.stdout.splitlines() if ": error: " in line]
    assert errors == ["4", "5"], checked.stdout

"""Lists are given in one way by all commands: by commas, by repeats, or both."""

from __future__ import annotations

import importlib
import tomllib
from typing import Any

import pytest
from typer.main import get_group

from dpa4_flows.cli.app import Dpa4Group
from dpa4_flows.cli.compute import _assigned
from dpa4_flows.cli.lists import ASSIGNMENTS, SEVERAL, spread
from dpa4_flows.properties.registry import property_class, property_names
from dpa4_flows.properties.settings import settings_of


def _commands(found: Any, name: str):
    if hasattr(found, "commands"):
        for inner, command in found.commands.items():
            yield from _commands(command, f"{name} {inner}")
    else:
        yield name, found


def _lists():
    for name, lazy in Dpa4Group.commands_by_name.items():
        whole = get_group(importlib.import_module(lazy.module).app).commands[name]
        for command, found in _commands(whole, name):
            for one in found.params:
                if getattr(one, "multiple", False) and ASSIGNMENTS not in one.opts:
                    yield command, whole, one


def test_every_option_that_takes_a_list_takes_commas_and_repeats_and_says_so() -> None:
    seen = 0
    for command, whole, one in _lists():
        inner = command.split()[1:]
        for flag in one.opts:
            for line in ([flag, "1,2", flag, "3"], [f"{flag}=1, 2", f"{flag}=3"], [flag, "1", flag, "2", flag, "3"]):
                assert list(spread([*inner, *line], whole)) == [*inner, flag, "1", flag, "2", flag, "3"], command
        assert SEVERAL in one.help, f"{command} {one.opts}"
        seen += 1
    assert seen >= 8


def test_other_options_keep_their_commas_and_a_file_with_a_comma_is_one_file(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b.json").write_text("[]")
    group = get_group(importlib.import_module("dpa4_flows.cli.hull").app).commands["hull"]
    line = ["x,y.cif", "--against", "a,b.json", "--against", "c,d", "--csv", "e,f.csv", "--against"]
    assert list(spread(line, group)) == [
        *("x,y.cif", "--against", "a,b.json", "--against", "c", "--against", "d", "--csv", "e,f.csv", "--against")
    ]


@pytest.mark.parametrize("values", [["1,2", "3"], ["1", "2", "3"], ["1,2,3"], ["[1, 2, 3]"]])
def test_settings_of_properties_that_are_lists_take_the_same(values: list[str]) -> None:
    for name in property_names():
        kind = property_class(name)
        for setting in settings_of(kind):
            if isinstance(setting.default, list):
                flag = f"--{setting.name.replace('_', '-')}"
                given = [word for value in values for word in (flag, value)]
                _, assignment = _assigned(given, [name], ())
                text = assignment.partition("=")[2]
                assert [int(one) for one in tomllib.loads(f"x=[{text.strip('[]')}]")["x"]] == [1, 2, 3], (name, setting)

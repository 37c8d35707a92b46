"""Options in groups: flags follow from the fields of a dataclass, and no command takes more than twelve parameters."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_group
from typer.testing import CliRunner

import dpa4_flows.cli
from dpa4_flows.cli import app as dpa4_app
from dpa4_flows.cli.app import Dpa4Group
from dpa4_flows.cli.options import grouped
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.properties.answers import Question

MAX_PARAMETERS = 12


@dataclass(frozen=True)
class Oven:
    """A group."""

    heat: Annotated[float, typer.Option("--heat", "-T", min=0.0, help="K.")] = 300.0
    gas: Annotated[list[str] | None, typer.Option(help="What is in it.")] = None
    fan: Annotated[bool, typer.Option("--fan/--no-fan", help="Stirs.")] = True


@dataclass(frozen=True)
class HotOven(Oven):
    """A group that changes a default and adds an option at the end."""

    heat: Annotated[float, typer.Option("--heat", "-T", min=0.0, help="K, hotter.")] = 900.0
    hours: Annotated[int, typer.Option(help="h.")] = 2


app = typer.Typer()


@app.command()
@grouped
def bake(
    what: Annotated[str, typer.Argument()],
    *,
    oven: HotOven,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Bake."""
    print(what, oven, as_json)


@app.command()
def cook(
    what: Annotated[str, typer.Argument()],
    heat: Annotated[float, typer.Option("--heat", "-T", min=0.0, help="K, hotter.")] = 900.0,
    gas: Annotated[list[str] | None, typer.Option(help="What is in it.")] = None,
    fan: Annotated[bool, typer.Option("--fan/--no-fan", help="Stirs.")] = True,
    hours: Annotated[int, typer.Option(help="h.")] = 2,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Bake."""


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_group_looks_like_its_flags_one_by_one() -> None:
    assert call("bake", "--help").replace("bake", "cook") == call("cook", "--help")


def test_a_command_gets_its_groups_filled() -> None:
    assert call("bake", "bread", "--json").strip() == f"bread {HotOven()} True"
    given = call("bake", "bread", "-T", "500", "--gas", "Ar", "--gas", "O2", "--no-fan", "--hours", "3")
    assert given.strip() == f"bread {HotOven(500.0, ['Ar', 'O2'], False, 3)} False"


def test_no_function_of_the_command_line_takes_more_than_twelve_parameters() -> None:
    long = []
    for path in Path(dpa4_flows.cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                n = len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)
                if n > MAX_PARAMETERS:
                    long.append(f"{path.name}:{node.lineno} {node.name} {n}")
    assert not long


def _commands(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    found = group.commands[name]
    for inner in getattr(found, "commands", {}):
        yield from _commands(found, inner)
    if not hasattr(found, "commands"):
        yield name, found


def test_an_option_has_the_same_names_in_every_command() -> None:
    """Who knows it from one command need not look it up for the next."""
    names: dict[str, set[frozenset[str]]] = {}
    for name, lazy in Dpa4Group.commands_by_name.items():
        for command, found in _commands(get_group(importlib.import_module(lazy.module).app), name):
            for one in found.params:
                flags = frozenset(flag for flag in (*one.opts, *one.secondary_opts) if flag.startswith("-"))
                for flag in flags:
                    names.setdefault(flag, set()).add(flags)
                writes = one.name in ("output", "out", "folder") and bool(flags)
                assert not writes or "-o" in flags, f"{command}: {flags}"
    assert not {flag: found for flag, found in names.items() if len(found) > 1}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("screen battery --fmx 0.1", "No such option: --fmx"),
        ("screen battery --fmax 0.1", "Settings stand in the campaign file, in the table of their stage: fmax = VALUE"),
        ("relax x.cif --fmx 0.1", "No such option: --fmx. Did you mean --fmax"),
        ("compute elastic x.cif --strans 0.01", "Did you mean --strains"),
        ("compute elastic x.cif --n-shells 3", "It is a setting of alloy."),
        ("relax x.cif --n-shells 3", "dpa4 compute alloy FILES --set alloy.n_shells=VALUE"),
        ("train x.extxyz --clip-norm 3", "No such option: --clip-norm"),
        ("finetune x.extxyz --split-bye frame", "Did you mean --split-by"),
        ("finetune x.extxyz --lora-rank 8", "Write --set finetune.lora_rank=VALUE."),
    ],
)
def test_an_option_that_is_none_is_told_with_what_was_meant(line: str, told: str) -> None:
    result = CliRunner().invoke(dpa4_app, line.split(), env={"COLUMNS": "300", "TERM": "dumb"})
    assert result.exit_code == 2 and told in " ".join(result.stderr.split()), result.output


def test_no_name_of_a_setting_is_cut_in_a_narrow_terminal() -> None:
    for line in ("compute --list", "compute stability --help"):
        shown = CliRunner().invoke(dpa4_app, line.split(), env={"COLUMNS": "80", "TERM": "dumb"}).stdout
        assert "stability.phonons.max_supercell_atoms" in shown.split()


def test_the_options_of_a_relaxation_before_are_never_taken_for_nothing() -> None:
    """Of a property that begins with none they are its own settings, or told to do nothing."""
    own = CliRunner().invoke(dpa4_app, ["compute", "order", "x.cif", "--fmax", "often"])
    assert own.exit_code == 1 and "ordering, fmax: expected a number" in own.stderr
    none = CliRunner().invoke(dpa4_app, ["compute", "window", "x.cif", "--fmax", "1e-5"])
    told = " ".join(none.stderr.split())
    assert none.exit_code == 1 and "window begins with none" in told and "window.relaxation.fmax" in told
    for names in (["elastic"], ["elastic", "window"]):
        Question.of(names, {}, Relaxed(fmax=1e-5)).check()

"""Options in groups: flags follow from the fields of a dataclass, and no command takes more than twelve parameters."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer.testing import CliRunner

import dpa4_flows.cli
from dpa4_flows.cli.options import grouped

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

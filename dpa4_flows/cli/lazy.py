"""A command group that imports the module of a command only when that command runs.

`dpa4 --help` needs the names and one line each; torch and pymatgen take seconds to import.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from dpa4_flows.cli.lists import spread
from dpa4_flows.store.table import ResultsError

USER_ERROR = 1
"""Exit code: something the user can mend, one sentence on stderr."""
SOME_FAILED = 3
"""Exit code: the command ran to its end, but some structures could not be computed; they are listed."""


UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""A wrong command line, of click or of the copy of it that typer brings along."""


class LazyCommand(NamedTuple):
    """Where a command lives and what it does."""

    module: str
    summary: str
    panel: str


class LazyGroup(TyperGroup):
    """Group over ``commands_by_name``; prints one sentence for an error that the user can mend."""

    commands_by_name: ClassVar[Mapping[str, LazyCommand]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, lazy in self.commands_by_name.items():
            self.add_command(TyperCommand(name=name, help=lazy.summary, rich_help_panel=lazy.panel))

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands_by_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The real command in place of the stub that the help shows."""
        name, _, rest = super().resolve_command(ctx, args)
        if name is None:
            return name, None, rest
        module = importlib.import_module(self.commands_by_name[name].module)
        # a group also where the Typer application of the module has a single command
        command = get_group(module.app).commands[name]
        return name, command, list(spread(rest, command))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept --debug anywhere on the line, since one adds it after a failure at the end."""
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            args = [a for i, a in enumerate(args) if a != "--debug" or i > end]
            args.insert(0, "--debug")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, ResultsError) as error:
            if ctx.params.get("debug"):
                raise
            Console(stderr=True, soft_wrap=True).print(
                f"[bold red]error:[/] {escape(_sentence(error))}", highlight=False
            )
            raise typer.Exit(USER_ERROR) from error
        except UsageError as error:
            importlib.import_module("dpa4_flows.cli.hints").explain(error)
            raise
        finally:
            sys.stdout.flush()


def _sentence(error: Exception) -> str:
    """The message on one line; a file error without Python's number in front."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    text = " ".join(str(error).split())
    return text or "the program failed without saying why; run again with --debug"

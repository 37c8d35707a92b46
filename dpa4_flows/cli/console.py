"""What every command prints with: results on stdout, remarks on stderr, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from dpa4_core.errors import named, plural
from dpa4_flows.cli.lazy import SOME_FAILED, USER_ERROR

out = Console()
err = Console(stderr=True)

MAX_ROWS = 50
"""Structures shown in the terminal; files have all of them."""


def print_json(data: Any) -> None:
    """Write ``data`` as indented JSON; what JSON does not know is written as text."""
    typer.echo(json.dumps(data, indent=2, default=str))


def say(text: str) -> None:
    """A line on stdout, as it is."""
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def say_rest(count: int) -> None:
    """How many of ``count`` structures the table left out, if any."""
    if count > MAX_ROWS:
        say(f"and {plural(count - MAX_ROWS, 'more structure')}")


def remark(text: str) -> None:
    """A line on stderr, as it is."""
    err.print(text, markup=False, highlight=False, soft_wrap=True)


def warn(label: str, text: str, style: str = "yellow") -> None:
    """``label: text`` on stderr, the label in colour."""
    err.print(f"[{style}]{label}:[/] {escape(text)}", highlight=False, soft_wrap=True)


def tell_failed(name: str, error: str) -> None:
    """``failed: name: error`` on stderr."""
    warn("failed", named(name, error), "bold red")


def finish(errors: Iterable[tuple[str, str | None]], *, unfinished: bool = False) -> None:
    """List what failed, and `end`.

    Args:
        errors: name of each structure, and what went wrong with it, if something did.
        unfinished: whether others lack something.
    """
    everyone = list(errors)
    failed = [(name, error) for name, error in everyone if error is not None]
    for name, error in failed:
        tell_failed(name, error)
    end(len(failed), len(everyone), unfinished=unfinished)


def end(n_failed: int, n_total: int, *, unfinished: bool = False) -> None:
    """Exit with 3 if something failed or is unfinished, with 1 if everything failed."""
    if n_failed or unfinished:
        raise typer.Exit(USER_ERROR if n_failed == n_total else SOME_FAILED)


def number(value: float | None, digits: int, std: float | None = None) -> str:
    """Fixed digits, with the standard deviation where it is known; a dash where there is no number."""
    deviation = "" if std is None else f" ± {std:.{digits}f}"
    return "–" if value is None else f"{value:.{digits}f}{deviation}"

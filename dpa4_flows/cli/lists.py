"""One way of giving several values to an option, for all commands: ``--ph 0,7,14``, ``--ph 0 --ph 7``, or both."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperGroup

SEVERAL = "several by commas, or repeated"
"""For the help of an option that takes a list."""
ASSIGNMENTS = "--set"
"""The option whose values are assignments: what is behind the equals sign may be a list itself."""


def parts(value: str) -> list[str]:
    """What stands between the commas; the name of a file that is there stays whole."""
    found = [part.strip() for part in value.split(",")]
    there = os.path.exists(value)  # noqa: PTH110  false for what is too long for a name, where Path raises
    return [value] if there or not any(found) else [part for part in found if part]


def spread(args: Sequence[str], command: Any) -> Iterator[str]:
    """A command line in which each value of a list has its flag, as click reads them.

    Args:
        args: behind the name of the command.
        command: of click, or a group of commands, of which the arguments name one.
    """
    while isinstance(command, TyperGroup):
        command = next((command.commands[one] for one in args if one in command.commands), None)
    listed = (one for one in getattr(command, "params", ()) if getattr(one, "multiple", False))
    flags = {flag for one in listed for flag in one.opts if ASSIGNMENTS not in one.opts}
    rest = iter(args)
    for one in rest:
        flag, given, value = one.partition("=")
        if flag not in flags:
            yield one
        elif given or (value := next(rest, "")):
            for part in parts(value):
                yield from (flag, part)
        else:
            yield flag  # at the end of the line: what lacks is said by click

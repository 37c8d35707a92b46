"""A place that cannot be written is told before anything is computed, by every command that writes into one."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_group
from typer.testing import CliRunner

from dpa4_core.errors import DPA4Error
from dpa4_core.files import check_file, check_folder, write_text
from dpa4_flows.cli import app
from dpa4_flows.cli.app import Dpa4Group

READ = {"files", "trajectories", "start", "end", "data", "inputs", "entries", "run", "ions", "validation", "launchpad"}
"""Parameters that name what is read."""
BOTH = {"library"}
"""What may be read only: libraries are written where something lacks."""


def _commands(found: Any, name: str) -> Iterator[tuple[str, Any]]:
    if hasattr(found, "commands"):
        for inner, command in found.commands.items():
            yield from _commands(command, f"{name} {inner}")
    else:
        yield name, found


def _targets() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Every command with each of its targets: its name, the flag or none, and values for arguments before it."""
    for name, lazy in Dpa4Group.commands_by_name.items():
        group = get_group(importlib.import_module(lazy.module).app)
        for command, found in _commands(group.commands[name], name):
            before: list[str] = []
            for one in found.params:
                is_path = "Path" in str(one.type_descriptor.annotation)
                if is_path and one.name not in READ | BOTH:
                    if one.param_type_name == "argument":
                        yield command, "", tuple(before)
                    else:
                        dummies = ("x" for p in found.params if p.param_type_name == "argument" and p.required)
                        yield command, one.opts[0], tuple(dummies)
                if one.param_type_name == "argument":
                    before.append("x")


TARGETS = sorted(set(_targets()))


def test_there_are_many_targets() -> None:
    flags = {flag for _, flag, _ in TARGETS}
    assert {"", "--csv", "--plot", "--report", "--output", "--refit"} <= flags and len(TARGETS) >= 25


@pytest.mark.parametrize(("command", "flag", "values"), TARGETS, ids=[f"{c} {f}" for c, f, _ in TARGETS])
def test_a_target_within_a_file_is_refused_before_anything_is_read(
    command: str, flag: str, values: tuple[str, ...], tmp_path: Path
) -> None:
    """The inputs are not there either: what is told first is the target."""
    (tmp_path / "notes.txt").write_text("mine")
    bad = tmp_path / "notes.txt" / "result.json"
    line = [*command.split(), *values, *([f"{flag}={bad}"] if flag else [str(bad)])]
    done = CliRunner().invoke(app, line, env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == 1, done.output
    assert str(bad) in done.stderr and "notes.txt is a file, not a folder" in done.stderr
    assert done.stderr.count("\n") == 1 and (tmp_path / "notes.txt").read_text() == "mine"


def test_what_cannot_be_written_is_told_with_a_remedy_and_a_trial_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    for check, path, words in (
        (check_file, tmp_path / "here", "is a folder; give the name of a file"),
        (check_file, Path("/dev/null"), "is no file that can be replaced"),
        (check_file, Path("/proc/nothing.html"), "cannot be written"),
        (check_file, tmp_path / f"{300 * 'x'}.html", "its name is too long"),
        (check_folder, Path("/proc/nothing"), "cannot be written"),
        (check_folder, tmp_path / "x.txt" / "run", "is a file, not a folder"),
    ):
        (tmp_path / "x.txt").write_text("")
        with pytest.raises(DPA4Error, match=words):
            check(path)
    with pytest.raises(DPA4Error, match="there is no folder"):
        check_file(tmp_path / "no" / "x.csv", make_folders=False)
    (tmp_path / "x.txt").unlink()
    check_file(tmp_path / "no" / "x.csv")
    check_folder(tmp_path / "new" / "run")
    check_folder(tmp_path / "here")
    assert [path.name for path in tmp_path.rglob("*")] == ["here"]
    with pytest.raises(DPA4Error, match="is no file"):
        write_text("/dev/null", "the device stays what it is")

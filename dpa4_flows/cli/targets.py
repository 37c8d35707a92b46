"""Where commands write. What cannot be written is refused while the command line is read, before anything is computed.

Each option or argument that names a file or a folder to write has one of these as its callback; `tests/flows/
test_targets.py` looks at all commands.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from dpa4_core.files import check_file, check_folder
from dpa4_flows.structure_files import is_run_target


def _of_a_path(check: Callable[[Path], None], words: str) -> Callable[[Path | None], Path | None]:
    """A callback that checks the path that was given, if one was."""

    def callback(path: Path | None) -> Path | None:
        if path is not None:
            check(path)
        return path

    callback.__doc__ = words
    return callback


def _check_file_or_folder(path: Path) -> None:
    is_folder = is_run_target(path) and path.suffix.lower() != ".parquet"
    (check_folder if is_folder else check_file)(path)


a_file = _of_a_path(check_file, "A file; folders on the way to it are made.")
a_file_beside = _of_a_path(
    partial(check_file, make_folders=False), "A file beside the results, a table or picture, whose folder is there."
)
a_folder = _of_a_path(check_folder, "A folder, which is made.")
a_file_or_folder = _of_a_path(_check_file_or_folder, "Structures in a file, or in a folder for any number of them.")

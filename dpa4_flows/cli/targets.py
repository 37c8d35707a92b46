"""Where commands write. What cannot be written is refused while the command line is read, before anything is computed.

Each option or argument that names a file or a folder to write has one of these as its callback; `tests/flows/
test_targets.py` looks at all commands.
"""

from __future__ import annotations

from pathlib import Path

from dpa4_core.files import check_file, check_folder
from dpa4_flows.structure_files import is_run_target


def a_file(path: Path | None) -> Path | None:
    """A file; folders on the way to it are made."""
    if path is not None:
        check_file(path)
    return path


def a_file_beside(path: Path | None) -> Path | None:
    """A file beside the results, a table or picture, whose folder is there."""
    if path is not None:
        check_file(path, make_folders=False)
    return path


def a_folder(path: Path | None) -> Path | None:
    """A folder, which is made."""
    if path is not None:
        check_folder(path)
    return path


def a_file_or_folder(path: Path | None) -> Path | None:
    """Structures in a file, or in a folder for any number of them."""
    if path is not None:
        (check_folder if is_run_target(path) and path.suffix.lower() != ".parquet" else check_file)(path)
    return path

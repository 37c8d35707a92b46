"""Settings that name files: keys of what is stored hold the content of a file and never its name.

    ions: str = field(default="", metadata=names_files())

The property that has such a field, and all that hold it among their settings, get another key when the file changes
and keep theirs when it moves. Jobs and campaigns get its absolute path by the same declaration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpa4_core.errors import DPA4Error, words_of
from dpa4_core.model.registry import sha256_of


def content_digest(path: str | Path) -> str:
    """SHA-256 of a file, or of all files in a folder with their names there.

    Raises:
        DPA4Error: it cannot be read.
    """
    root = Path(path).expanduser()
    try:
        if not root.is_dir():
            return sha256_of(root)
        sha = hashlib.sha256()
        for file in sorted(root.rglob("*")):
            if not file.is_dir():
                sha.update(str(file.relative_to(root)).encode())
                sha.update(file.read_bytes())
    except OSError as error:
        raise DPA4Error(f"cannot read {root}: {words_of(error)}") from error
    return sha.hexdigest()


def _none(name: str) -> bool:
    return False


@dataclass(frozen=True)
class NamedFiles:
    """How a field names files.

    Attributes:
        content: of one, as plain values, for keys.
        unless: tells names of something else, which stand for themselves.
    """

    content: Callable[[str], Any] = content_digest
    unless: Callable[[str], bool] = _none

    def each(self, change: Callable[[str], Any], value: Any) -> Any:
        """A value of the field after ``change`` of every name of a file in it."""
        if isinstance(value, tuple | list):
            return type(value)(self.each(change, one) for one in value)
        return change(value) if value and not self.unless(value) else value

    def located(self, value: Any) -> Any:
        """The value with absolute paths."""
        return self.each(lambda name: str(Path(name).expanduser().absolute()), value)


def names_files(
    content: Callable[[str], Any] = content_digest, unless: Callable[[str], bool] = _none
) -> Mapping[str, Any]:
    """Metadata of a field that names a file, or several: see `NamedFiles`."""
    return {"files": NamedFiles(content, unless)}

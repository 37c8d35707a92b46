"""Files that are replaced as a whole: whatever happens, the old content or the new one is there, never a part.

Content is written beside its place, brought to the disk, and renamed; then the folder is brought to the disk too, so
that not even a power cut leaves a name without its content.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from dpa4_core.errors import DPA4Error

_REFUSALS = {
    errno.ENOSPC: "the disk is full; make room and run the same command again",
    errno.EDQUOT: "your quota on this disk is used up; make room and run the same command again",
    errno.EFBIG: "files may not become that large here; raise the limit (`ulimit -f`) and run the same command again",
    errno.EROFS: "this disk cannot be written; give a place on another one",
    errno.EACCES: "you may not write there; give a place where you may",
    errno.EPERM: "you may not write there; give a place where you may",
    errno.ENAMETOOLONG: "its name is too long; give a shorter one",
    errno.EIO: "the disk reports a fault; use another one",
}
_ELSEWHERE = (errno.EROFS, errno.EACCES, errno.EPERM)
_ABANDONED_S = 3600.0  # a file that nobody has written to for so long is of a process that was killed
_KEPT_OF_NAME = 60  # characters: at most 240 bytes, so that what is added still fits into a name


class WriteError(DPA4Error):
    """A file cannot be written; one sentence with the remedy."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside ``path``; what the block writes there takes the place of ``path`` if it ends without error.

    Folders on the way are made. A link stays one, and the file that it points to is replaced; a file keeps its rights.

    Raises:
        WriteError: no room, no permission, or a disk that cannot be written.
    """
    path = Path(path)
    final = Path(os.path.realpath(path))
    with _explained(path, final.parent):
        _refuse_no_file(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(final)
        part = final.with_name(f"{_prefix(final)}{uuid.uuid4().hex[:8]}.part")
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        mode = (final if final.exists() else part).stat().st_mode  # the latter: what the user's mask makes of it
        try:
            yield part
            part.chmod(mode | stat.S_IWUSR)  # some writers make a file of their own, and some go on writing to this one
            synchronise(part)
            part.replace(final)
        finally:
            part.unlink(missing_ok=True)
        synchronise(final.parent)


def check_file(path: Path, *, make_folders: bool = True) -> None:
    """Refuse a file that cannot be written, before the work whose results it shall hold.

    Args:
        path: the file; nothing is left of the trial.
        make_folders: whether folders on the way may lack, since `replacing` makes them.

    Raises:
        WriteError: it is a folder or no file, its folder is not there, or nothing can be written there.
    """
    with refused(path):
        _refuse_no_file(path)
        parent = Path(os.path.realpath(path)).parent
        if not make_folders and not parent.exists():
            raise WriteError(f"there is no folder {path.parent} for {path.name}; make it, or give another place")
        _try_in(parent, path)


def check_folder(path: Path) -> None:
    """The same for a folder, which need not be there.

    Raises:
        WriteError: it is a file, or nothing can be written there.
    """
    with refused(path):
        if path.exists() and not path.is_dir():
            raise WriteError(f"{path} is a file; give a folder")
        _try_in(Path(os.path.realpath(path)), path)


def _try_in(folder: Path, path: Path) -> None:
    """Write something where ``path`` would begin: into ``folder``, or the last one on the way to it that is there."""
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise WriteError(f"{path} cannot be written: {folder} is a file, not a folder; give another place")
    trial = folder / f".{uuid.uuid4().hex}.part"
    os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    trial.unlink()


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """Every refusal of the file system in one sentence about ``path``; who goes on in a folder needs its content."""
    try:
        yield
    except OSError as error:
        why = _REFUSALS.get(error.errno or 0, "it takes no files there; give another place")
        with suppress(OSError):  # what may not be looked into cannot be copied either
            if error.errno in _ELSEWHERE and path.is_dir() and any(path.iterdir()):
                why = "you may not write there; copy the folder to a place where you may, and go on there"
        raise WriteError(f"{path} cannot be written: {why}") from error


def _refuse_no_file(path: Path) -> None:
    if path.is_dir():
        raise WriteError(f"{path} is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise WriteError(f"{path} is no file that can be replaced; give another name")


@contextmanager
def replacing_text(path: str | Path) -> Iterator[TextIO]:
    r"""A text stream (UTF-8, line ends as written) that takes the place of ``path`` if the block ends without error.

    Characters that UTF-8 has no bytes for, as in file names that are not text, are written as ``\udc80``.

    Raises:
        WriteError: as `replacing`.
    """
    with (
        replacing(path) as part,
        part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        yield stream


def write_text(path: str | Path, text: str) -> None:
    """Replace ``path`` by ``text``; see `replacing_text`."""
    with replacing_text(path) as stream:
        stream.write(text)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Replace ``path`` by ``content``; see `replacing`."""
    with replacing(path) as part:
        part.write_bytes(content)


def write_json(path: str | Path, content: Any, **options: Any) -> None:
    """Replace ``path`` by ``content`` as JSON; see `replacing_text`.

    Args:
        path: the file.
        content: what `json.dumps` takes.
        options: of `json.dumps`.
    """
    write_text(path, json.dumps(content, **{"indent": 1, **options}))


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]], heads: Sequence[str] = ()) -> None:
    """Write rows of plain values as CSV.

    Args:
        path: the file.
        rows: by head; what a row lacks stays empty.
        heads: columns; by default all that the rows have.
    """
    heads = heads or list(dict.fromkeys(name for row in rows for name in row))
    with replacing_text(path) as stream:
        writer = csv.writer(stream)
        writer.writerow(map(csv_cell, heads))
        for row in rows:
            writer.writerow(csv_cell(row.get(head)) for head in heads)


def plain_name(name: str) -> str:
    """A name of a file that every file system takes; ``a/x`` becomes ``a_x``."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("._")[:_KEPT_OF_NAME] or "structure"


def csv_cell(value: Any) -> Any:
    """A value for a CSV file: on one line, and no text that a spreadsheet would run."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value.replace("\r", " ").replace("\n", " ")
        return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text
    return value


def append(descriptor: int, content: bytes, path: Path) -> None:
    """Add all of ``content`` to an open file, or nothing.

    A full disk may take a part; that part is cut off again, so that what follows does not join a torn line.

    Args:
        descriptor: opened for appending; no other process writes to the file.
        content: what to add.
        path: of the file, for the error.

    Raises:
        WriteError: not everything could be written.
    """
    before = os.fstat(descriptor).st_size
    left = memoryview(content)
    with _explained(path, path.parent):
        try:
            while left:
                written = os.write(descriptor, left)
                if not written:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                left = left[written:]
        except OSError:
            with suppress(OSError):  # the first error says more
                os.ftruncate(descriptor, before)
            raise


def synchronise(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # of network file systems, for folders
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path, folder: Path) -> Iterator[None]:
    """Say what a refusal of the file system means for ``path``; errors of another kind, or of files in other folders
    than the one it goes into, stay as they are.
    """
    try:
        yield
    except OSError as error:
        sentence = _REFUSALS.get(error.errno or 0)
        named = error.filename
        if sentence is None or (
            named is not None and folder not in (Path(os.fsdecode(named)), Path(os.fsdecode(named)).parent)
        ):
            raise
        raise WriteError(f"{path} cannot be written: {sentence}") from error


def _prefix(path: Path) -> str:
    return f".{path.name[:_KEPT_OF_NAME]}."


def _remove_abandoned(path: Path) -> None:
    """Remove what processes that were killed have begun to write in place of ``path``."""
    prefix, now = _prefix(path), time.time()
    with os.scandir(path.parent) as files:
        for file in files:
            if file.name.startswith(prefix) and file.name.endswith(".part"):
                with suppress(OSError):  # gone by now, or of another user
                    if now - file.stat().st_mtime > _ABANDONED_S:
                        Path(file.path).unlink()


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none, also of one that another process has just removed."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0

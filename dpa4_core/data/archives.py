"""Structures in tar and zip archives, read member by member; nothing is unpacked to disk.

Names of members only label entries, so that a member called ``../../x`` harms nobody; links and devices are passed
over. A damaged member is one failed entry.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from dpa4_core.data.bounded import LARGEST_MEMBER, decompressed, whole
from dpa4_core.data.formats import (
    ONE_STRUCTURE,
    PATH_READERS,
    NamedStructure,
    Unread,
    stem,
    stream_entries,
    stream_reader,
)
from dpa4_core.data.parse_errors import PARSE_ERRORS, reason
from dpa4_core.data.system import StructureError

_TAR_SUFFIXES = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")


def is_archive(name: str) -> bool:
    """Whether a file of this name is a tar or zip archive."""
    return name.lower().endswith((*_TAR_SUFFIXES, ".zip"))


def archive_entries(path: Path) -> Iterator[Unread]:
    """The entries of all members that have a known format, in the order of the archive.

    Raises:
        StructureError: the archive is damaged from some member on; or one of `PARSE_ERRORS`.
    """
    members = _zip_members(path) if path.name.lower().endswith(".zip") else _tar_members(path)
    for name, stream_of in members:
        if _is_ours(name):
            yield from _member_entries(name, stream_of)


def _is_ours(name: str) -> bool:
    pure = PurePosixPath(name)
    if pure.name.startswith(".") or "__MACOSX" in pure.parts:
        return False
    return stream_reader(pure.name) is not None or is_archive(pure.name) or pure.suffix.lower() in PATH_READERS


def _member_entries(name: str, stream_of: Callable[[], IO[bytes]]) -> Iterator[Unread]:
    """Entries of one member; what goes wrong while it is read is an entry of its own, and the last one."""
    file, part = Path(PurePosixPath(name).name), f"/{name}"
    reader, found = stream_reader(file.name), 0
    if reader is None:
        problem = "an archive or database inside an archive is not read; unpack it"
        yield Unread(part, partial(NamedStructure, stem(file), None, problem))
        return
    try:
        with stream_of() as raw, decompressed(file.name, raw) as stream:
            bounded = io.BytesIO(whole(stream, LARGEST_MEMBER, "the member")) if reader in ONE_STRUCTURE else stream
            for unread in stream_entries(reader, bounded, stem(file)):
                found += 1
                yield Unread(f"{part}{unread.part}", unread.read)
        problem = "" if found else "the member holds no structure"
    except PARSE_ERRORS as error:
        problem = reason(error)
    if problem:
        yield Unread(f"{part}:end" if found else part, partial(NamedStructure, stem(file), None, problem))


def _tar_members(path: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    damage: list[str] = []

    class Member(tarfile.TarInfo):
        """Remembers a damaged header, which tarfile takes for the end of the archive."""

        @classmethod
        def frombuf(cls, buf: Any, encoding: str, errors: str) -> Member:
            try:
                return super().frombuf(buf, encoding, errors)
            except tarfile.HeaderError as error:
                if len(buf) and any(buf):
                    damage.append(str(error))
                raise

    last = "its beginning"
    with tarfile.open(path, "r|*", tarinfo=Member) as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would remember all members
            if member.isreg():
                last = member.name
                yield member.name, partial(_extract, archive, member)
    if damage:
        raise StructureError(f"the archive is damaged after {last} ({damage[0]}); what follows there is lost")


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member)
    assert stream is not None  # a regular file
    return io.BufferedReader(_Forward(stream))


class _Forward(io.RawIOBase):
    """A member of an archive that is read as a stream: tarfile cannot tell text readers that it does not seek."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def _zip_members(path: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                yield member.filename, partial(archive.open, member)

"""Limits on what a file may make the program do, and the streams that keep them.

A file is data from somebody else. It may be damaged or made to harm: a few kilobytes that grow to terabytes, a line
without an end, a header that announces 10^12 atoms. Every limit lies far beyond real data, says why, and gives one
sentence where it is reached.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from dpa4_core.data.system import StructureError

LARGEST_ENTRY = 128 * 2**20
"""Bytes of one structure as text: 100,000 sites in pymatgen's wordy JSON with properties are some 40 MB."""

LARGEST_FILE = 4 * 2**30
"""Bytes of a file that can only be read as a whole: JSON databases and training sets; Python takes ten times that."""

LARGEST_MEMBER = 64 * 2**20
"""Bytes of a member of an archive that holds one structure: a CIF of 100,000 atoms has 10 MB."""

LINE_COST = 60
"""Bytes that a line takes in memory beside its characters: millions of empty lines are no small entry."""

LONGEST_LINE = 16 * 2**20
"""Characters of one line of CIF, POSCAR or XYZ: the longest are comments of extended XYZ that hold whole matrices."""

MOST_EXPANSION = 100
"""Bytes out of one compressed byte: text of structures gives 3 to 30."""

FREE_EXPANSION = 2**20
"""Bytes up to which the expansion does not matter: short texts of copies are small, however well they compress."""

MOST_COLUMNS = 1000
"""Columns of a line of atoms that a header may announce: descriptors of some hundred numbers exist."""

LONGEST_SENTENCE = 1000
"""Characters of a reason with the path that it names."""

LONGEST_SOURCE = 5000
"""Characters of the path of an entry: 4096 of the file, and where in it."""

DEEPEST_JSON = 100
"""Lists and mappings inside of each other: structures need 8; what converts a value calls itself for each level."""

LONGEST_NAME = 300
"""Characters of a name that leaves a reader: results, tables and file names must be able to hold it."""

_GZIP = b"\x1f\x8b"

OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


class _Bounded(io.RawIOBase):
    """A stream of uncompressed bytes that refuses to grow too far out of the bytes that it comes from."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, compressed: Callable[[], int]) -> None:
        self._stream, self._compressed, self._count = stream, compressed, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        self._count += len(content)
        if self._count > FREE_EXPANSION and self._count > MOST_EXPANSION * self._compressed():
            raise StructureError(
                f"the compressed text grows more than {MOST_EXPANSION} times, as no structures do; if it is what you "
                "want to read, unpack it first"
            )
        return len(content)


class _Counted(io.RawIOBase):
    """A stream that knows how many bytes were taken from it; for members of archives, which cannot tell."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.count = stream, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(size)
        self.count += len(content)
        return content


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a plain or compressed file, in bounded memory; what is gzipped may also have another name.

    Raises:
        StructureError: while reading, of a compressed file that grows beyond `MOST_EXPANSION`.
    """
    opener = OPENERS.get(path.suffix.lower())
    if opener is None:
        with path.open("rb") as stream:
            if stream.peek(2)[:2] != _GZIP:
                yield stream
                return
        opener = gzip.open
    size = path.stat().st_size
    with opener(path, "rb") as stream:
        yield io.BufferedReader(_Bounded(stream, lambda: size))


@contextmanager
def decompressed(name: str, stream: IO[bytes]) -> Iterator[IO[bytes]]:
    """The bytes of a member of an archive whose name may say that it is compressed; limits as in `open_bytes`."""
    opener = OPENERS.get(Path(name).suffix.lower())
    if opener is None:
        yield stream
        return
    counted = _Counted(stream)
    with opener(counted, "rb") as unpacked:
        yield io.BufferedReader(_Bounded(unpacked, lambda: counted.count))


def whole(stream: IO[bytes], limit: int = LARGEST_ENTRY, what: str = "the file") -> bytes:
    """All bytes of a stream that can only be read at once.

    Raises:
        StructureError: there are more than ``limit``.
    """
    parts, size = [], 0
    while part := stream.read(2**20):  # in parts: a stream may promise more than there is memory
        parts.append(part)
        size += len(part)
        if size > limit:
            raise StructureError(f"{what} has more than {limit // 2**20} MiB, the most that is read at once; split it")
    return b"".join(parts)


def whole_text(stream: IO[bytes], limit: int = LARGEST_ENTRY, what: str = "the file") -> str:
    """`whole` as text; bytes that are no UTF-8 become the sign for unknown characters."""
    return whole(stream, limit, what).decode("utf-8-sig", errors="replace")


def bounded_lines(text: IO[str], limit: int = LONGEST_LINE) -> Iterator[str]:
    """The lines of a text, one by one.

    Args:
        text: where from.
        limit: characters of the longest line.

    Raises:
        StructureError: a line is longer.
    """
    for number, line in enumerate(iter(partial(text.readline, limit), ""), 1):
        if len(line) == limit and line[-1] != "\n":
            raise StructureError(f"line {number} has more than {limit:,} characters")
        yield line


@contextmanager
def text_of(stream: IO[bytes]) -> Iterator[io.TextIOWrapper]:
    """The stream as text; who opened it closes it, also when its entries are not read to the end."""
    text = io.TextIOWrapper(cast("BinaryIO", stream), encoding="utf-8-sig", errors="replace")
    try:
        yield text
    finally:
        text.detach()


def parse_json(text: str) -> Any:
    """The value that a JSON text stands for.

    Raises:
        StructureError: the text is not JSON, or lists and mappings lie deeper in each other than `DEEPEST_JSON`.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise StructureError(json_problem(error)) from error
    except RecursionError as error:
        raise StructureError(_TOO_DEEP) from error
    except ValueError as error:  # an integer of thousands of digits
        raise StructureError("a number in the text has thousands of digits") from error
    check_depth(value)
    return value


_TOO_DEEP = f"lists and mappings lie more than {DEEPEST_JSON} deep in each other, as in no structure"


def json_problem(error: json.JSONDecodeError) -> str:
    """Where a text stops being JSON, in words."""
    return f"the text is not valid JSON from line {error.lineno}, column {error.colno} on"


def check_depth(value: Any) -> None:
    """Refuse a value of lists and mappings deeper than `DEEPEST_JSON`.

    Raises:
        StructureError: it is deeper.
    """
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEEPEST_JSON):
        if not level:
            return
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    raise StructureError(_TOO_DEEP)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def storable(text: str, limit: int = LONGEST_NAME) -> str:
    r"""The text so that every file, table and terminal can hold it: valid UTF-8, one line, of bounded length.

    What cannot be stored (parts of characters, zeros, line ends) is spelled out, ``\ud800``, so that names that differ
    stay different; a text that is too long ends with a checksum of itself.
    """
    if len(text) <= limit and text.isprintable():  # nearly always
        return text
    text = text.encode("utf-8", "backslashreplace").decode()
    text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    if len(text) <= limit:
        return text
    return f"{text[: limit - 11]}...{zlib.crc32(text.encode()):08x}"

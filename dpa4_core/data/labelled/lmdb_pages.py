"""Reading LMDB files page by page.

The library of LMDB maps a file into memory and follows its pages unchecked, so that a damaged one kills the process.
Here every page, place and length is checked against the file; what lies on a damaged page is lost and named, the rest
is read.

Layout (LMDB 0.9, 64 bit, lower bytes first): pages of equal size, each with a header of 16 bytes (number, padding,
flags, end of the list of nodes, begin of the nodes). Pages 0 and 1 are meta pages, of which the one with the larger
transaction counts. Branch pages hold keys and page numbers, leaf pages keys and values; long values lie on overflow
pages.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dpa4_core.data.bounded import LARGEST_ENTRY
from dpa4_core.data.system import StructureError

_MAGIC = 0xBEEFC0DE
_HEADER = 16
_BRANCH, _LEAF, _OVERFLOW = 0x01, 0x02, 0x04
_FAR = 0x01  # flag of a node: its value lies on overflow pages
_NO_PAGE = 2**64 - 1
_DEEPEST = 32
"""Levels of a tree; with two keys on a page, 32 levels would hold more than any disk."""


class LmdbFile:
    """The main database of a file.

    Attributes:
        n_entries: number of its entries, as the file says.
        lost: a phrase for each page that is damaged.

    Raises:
        StructureError: the file is no LMDB database, or neither of its meta pages is whole.
    """

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._size = stream, size
        head = self._bytes(0, min(size, 2**17))
        found = [meta for meta in (_meta(head, 0), _meta(head, self._page_size(head))) if meta is not None]
        if not found:
            raise StructureError("not an LMDB database, or its first pages are damaged")
        _, self._psize, self.n_entries, self._root = max(found)
        self._n_pages = size // self._psize
        self.lost: list[str] = []

    def keys(self) -> Iterator[bytes]:
        """All keys in order; pages that are damaged are passed over and noted in ``lost``."""
        self.lost.clear()
        if self._root == _NO_PAGE:
            return
        seen = 0
        waiting = [(self._root, 0)]
        while waiting:
            number, depth = waiting.pop()
            seen += 1
            if depth > _DEEPEST or seen > self._n_pages:
                self.lost.append("its pages lead in circles")
                return
            try:
                kind, page, nodes = self._page(number)
                if kind == _BRANCH:
                    waiting += [(_child(page, node), depth + 1) for node in reversed(nodes)]
                    continue
                found = [_key(page, node) for node in nodes]
            except StructureError as error:
                self.lost.append(str(error))
                continue
            yield from found

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None without it.

        Raises:
            StructureError: a page on the way to it is damaged.
        """
        number = self._root
        if number == _NO_PAGE:
            return None
        for _ in range(_DEEPEST):
            kind, page, nodes = self._page(number)
            low, high = 0, len(nodes)  # the first node whose key is larger; the first of a branch has no key
            while low < high:
                middle = (low + high) // 2
                is_first = kind == _BRANCH and middle == 0
                low, high = (middle + 1, high) if is_first or _key(page, nodes[middle]) <= key else (low, middle)
            if low == 0:
                return None
            node = nodes[low - 1]
            if kind == _LEAF:
                return self._value(page, node) if _key(page, node) == key else None
            number = _child(page, node)
        raise StructureError("the pages of the LMDB database lead in circles")

    def _page_size(self, head: bytes) -> int:
        meta = _meta(head, 0)
        return 4096 if meta is None else meta[1]

    def _page(self, number: int) -> tuple[int, bytes, list[int]]:
        """Kind, content, and places of the nodes of a page."""
        page = self._bytes(number * self._psize, self._psize)
        stored, _, flags, lower, upper = struct.unpack_from("<QHHHH", page)
        kind = flags & (_BRANCH | _LEAF | _OVERFLOW)
        if stored != number or kind not in (_BRANCH, _LEAF) or not _HEADER <= lower <= upper <= self._psize:
            raise StructureError(f"page {number} of the LMDB database is damaged")
        nodes = list(struct.unpack_from(f"<{(lower - _HEADER) // 2}H", page, _HEADER))
        if kind == _BRANCH and not nodes:
            raise StructureError(f"page {number} of the LMDB database is damaged")
        for node in nodes:
            if not upper <= node <= self._psize - 8 or node + 8 + _key_size(page, node) > self._psize:
                raise StructureError(f"page {number} of the LMDB database is damaged")
        return kind, page, nodes

    def _value(self, page: bytes, node: int) -> bytes:
        low, high, flags, key_size = struct.unpack_from("<HHHH", page, node)
        length, start = low | high << 16, node + 8 + key_size
        if not flags & _FAR:
            if start + length > self._psize:
                raise StructureError("a value of the LMDB database is longer than its page")
            return page[start : start + length]
        if start + 8 > self._psize or length > LARGEST_ENTRY:
            raise StructureError("a value of the LMDB database is longer than a structure can be")
        (number,) = struct.unpack_from("<Q", page, start)
        head = self._bytes(number * self._psize, _HEADER)
        stored, _, kind, n_pages = struct.unpack("<QHHI", head)
        if stored != number or not kind & _OVERFLOW or n_pages * self._psize < _HEADER + length:
            raise StructureError(f"page {number} of the LMDB database is damaged")
        return self._bytes(number * self._psize + _HEADER, length)

    def _bytes(self, place: int, length: int) -> bytes:
        if place + length > self._size:
            raise StructureError("the LMDB database was cut off; copy it again")
        self._stream.seek(place)
        return self._stream.read(length)


@contextmanager
def open_lmdb(path: Path) -> Iterator[LmdbFile]:
    """The database in a file, or in ``data.mdb`` of a folder; nothing is written beside it.

    Raises:
        StructureError: see `LmdbFile`.
    """
    file = path / "data.mdb" if path.is_dir() else path
    with file.open("rb") as stream:
        yield LmdbFile(stream, file.stat().st_size)


def _meta(head: bytes, place: int) -> tuple[int, int, int, int] | None:
    """Transaction, size of pages, entries and root of a meta page; None if it is none."""
    if place + 152 > len(head):
        return None
    magic, version = struct.unpack_from("<II", head, place + _HEADER)
    size = struct.unpack_from("<I", head, place + 40)[0]
    n_entries, root = struct.unpack_from("<QQ", head, place + 40 + 48 + 32)
    transaction = struct.unpack_from("<Q", head, place + 40 + 96 + 8)[0]
    if magic != _MAGIC or version != 1 or not 512 <= size <= 65536 or size & (size - 1):
        return None
    return transaction, size, n_entries, root


def _child(page: bytes, node: int) -> int:
    low, middle, high = struct.unpack_from("<HHH", page, node)
    number: int = low | middle << 16 | high << 32
    return number


def _key_size(page: bytes, node: int) -> int:
    size: int = struct.unpack_from("<H", page, node + 6)[0]
    return size


def _key(page: bytes, node: int) -> bytes:
    return page[node + 8 : node + 8 + _key_size(page, node)]

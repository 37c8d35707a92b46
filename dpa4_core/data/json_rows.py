"""The rows of a JSON list or mapping that is too large to be read at once."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import TextIO

_CHUNK = 2**20
_LARGEST_ROW = 256 * 2**20  # characters; what cannot be decoded within that is no row
_DECODER = json.JSONDecoder()


def json_rows(
    head: str, stream: TextIO, containers: Collection[str] = ()
) -> Iterator[tuple[str | None, int | str, object]]:
    """Rows one by one: None, key or number, and the row; or container, key or number in it, and the row.

    Args:
        head: the beginning of the text.
        stream: the rest of it.
        containers: keys of a mapping whose lists and mappings are read row by row as well.

    Raises:
        ValueError: the text is not JSON from some row on.
    """
    reader = _Reader(head, stream)
    if reader.peek() not in _OPENING:
        raise ValueError("expected a list or a mapping")
    for key in _items(reader):
        if key in containers and reader.peek() in _OPENING:
            assert isinstance(key, str)
            yield from ((key, inner, reader.value()) for inner in _items(reader))
        else:
            yield None, key, reader.value()


_OPENING = {"[": "]", "{": "}"}


def _items(reader: _Reader) -> Iterator[int | str]:
    """The number or key of each value of a list or mapping; whoever asks for the next one has read the value."""
    opening = reader.next_character()
    closing, number = _OPENING[opening], 0
    if reader.peek() == closing:
        reader.next_character()
        return
    while True:
        key: int | str = number
        if opening == "{":
            name = reader.value()
            if not isinstance(name, str) or reader.next_character() != ":":
                raise ValueError(f"expected a name and a colon before row {number}")
            key = name
        yield key
        number += 1
        mark = reader.next_character()
        if mark == closing:
            return
        if mark != ",":
            raise ValueError(
                f"expected a comma after row {number - 1}" if mark else f"the text ends after row {number}"
            )


class _Reader:
    def __init__(self, head: str, stream: TextIO) -> None:
        self._text, self._stream, self._place = head, stream, 0

    def _grow(self) -> bool:
        """Drop what was read and append more; False at the end of the text."""
        more = self._stream.read(max(_CHUNK, len(self._text) - self._place))
        self._text, self._place = self._text[self._place :] + more, 0
        return bool(more)

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            while self._place < len(self._text) and self._text[self._place].isspace():
                self._place += 1
            if self._place < len(self._text) or not self._grow():
                return self._text[self._place : self._place + 1]

    def next_character(self) -> str:
        character = self.peek()
        self._place += len(character)
        return character

    def value(self) -> object:
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._place)
            except json.JSONDecodeError:
                if len(self._text) - self._place > _LARGEST_ROW or not self._grow():
                    raise
                continue
            at_end = end == len(self._text)
            if at_end and self._grow():  # a number may go on
                continue
            self._place = len(self._text) if at_end else end
            return value

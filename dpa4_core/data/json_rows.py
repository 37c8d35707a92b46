"""The rows of a JSON list or mapping that is too large to be read at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TextIO

_CHUNK = 2**20
_LARGEST_ROW = 256 * 2**20  # characters; what cannot be decoded within that is no row
_DECODER = json.JSONDecoder()


def json_rows(head: str, stream: TextIO) -> Iterator[tuple[int | str, object]]:
    """Key or number of each row, and the row.

    Args:
        head: the beginning of the text.
        stream: the rest of it.

    Raises:
        ValueError: the text is not JSON from some row on.
    """
    reader = _Reader(head, stream)
    opening = reader.next_character()
    if opening not in ("[", "{"):
        raise ValueError("expected a list or a mapping")
    closing, number = ("]" if opening == "[" else "}"), 0
    while True:
        if reader.peek() == closing and not number:
            return
        key: int | str = number
        if opening == "{":
            name = reader.value()
            if not isinstance(name, str) or reader.next_character() != ":":
                raise ValueError(f"expected a name and a colon before row {number}")
            key = name
        yield key, reader.value()
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

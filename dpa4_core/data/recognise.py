"""Which text format a file has by its first lines, for files whose ending says another one."""

from __future__ import annotations

import io
import json
import re
from typing import IO, cast

HEAD = 2**16
"""Bytes to look at; long comments come first in some files."""

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][-+]?\d+)?"
_SITE = re.compile(rf"\s*[A-Za-z][A-Za-z]?\w*(?:\s+{_NUMBER}){{3}}(?:\s|$)")
_VECTOR = re.compile(rf"\s*{_NUMBER}(?:\s+{_NUMBER}){{2}}(?:\s|$)")
_SCALE = re.compile(rf"\s*{_NUMBER}\s*(?:[!#].*)?$")
_SPECIES = re.compile(r"\s*(?:[A-Za-z][\w/]*(?:\s+[A-Za-z][\w/]*)*|\d+(?:\s+\d+)*)\s*(?:[!#].*)?$")


def recognise(head: bytes) -> str | None:
    """``"cif"``, ``"poscar"``, ``"xyz"``, ``"json"``, ``"jsonl"``, or None where the first lines leave it open."""
    text = head.decode("utf-8-sig", errors="replace")
    if re.match(r'\s*(?:\{\s*["}]|\[\s*[\[{"])', text):
        return "jsonl" if _is_json_lines(text) else "json"
    lines = text.splitlines()
    if _is_cif(lines):
        return "cif"
    if len(lines) > 2 and lines[0].strip().isdecimal():
        return "xyz" if _SITE.match(lines[2]) else None
    if len(lines) > 6 and _SCALE.match(lines[1]) and all(_VECTOR.match(line) for line in lines[2:5]):
        return "poscar" if _SPECIES.match(lines[5]) else None
    return None


def _is_cif(lines: list[str]) -> bool:
    """Whether a name or a loop follows the head of a data block, or there are two of them without a head."""
    telling = (line.strip().lower() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    first, second = next(telling, ""), next(telling, "")
    is_item = re.compile(r"_\w+[\w.\-/\[\]]*(\s|$)|loop_(\s|$)").match
    return bool((first.startswith("data_") or is_item(first)) and (is_item(second) or second.startswith("save_")))


def _is_json_lines(text: str) -> bool:
    first, _, rest = text.lstrip().partition("\n")
    if not rest.lstrip().startswith("{"):
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True


class _Rejoined(io.RawIOBase):
    """A stream with what was read of it put back."""

    def __init__(self, head: bytes, stream: io.BufferedIOBase) -> None:
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self._head[: len(buffer)] if self._head else self._stream.read1(len(buffer))
        self._head = self._head[len(buffer) :]
        buffer[: len(content)] = content
        return len(content)


def peeked(stream: IO[bytes]) -> tuple[bytes, IO[bytes]]:
    """The first bytes of a stream, and the whole stream; what is damaged further on is found further on."""
    known = cast("io.BufferedIOBase", stream)  # all streams of files, compressed files and members of archives
    head = known.read1(HEAD)
    return head, io.BufferedReader(_Rejoined(head, known))

"""The syntax of CIF (STAR): data blocks, items, loops, quotes, text fields and save frames.

Only what a block holds, not what it means. The reader forgives what does no harm, such as a quote that is never closed
in a comment of the author, and counts values, so that a loop with a value too few is seen by who needs the loop.

Grammar: Hall, Allen & Brown, Acta Cryst. A47 (1991) 655; https://www.iucr.org/resources/cif/spec/version1.1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from dpa4_core.data.bounded import LARGEST_ENTRY, LINE_COST, storable
from dpa4_core.data.system import StructureError

_QUOTED = re.compile(r"""(?:'((?:[^']|'(?=\S))*)'|"((?:[^"]|"(?=\S))*)")(?=\s|$)""")
_BARE = re.compile(r"\S+")
_DATA = re.compile(r"\s*data_", re.IGNORECASE)
_SITES = re.compile(r"\s*_atom_site[_.](fract|cartn|label|type_symbol)", re.IGNORECASE)


@dataclass(frozen=True)
class Value:
    """A value with the number of its line in the block, counted from 1.

    Attributes:
        text: without quotes.
        line: where it stands.
        bare: not in quotes, so that ``?`` and ``.`` have their meaning.
    """

    text: str
    line: int
    bare: bool = True

    @property
    def known(self) -> bool:
        """Neither ``?`` (unknown) nor ``.`` (does not apply)."""
        return bool(self.text.strip()) and not (self.bare and self.text in ("?", "."))


@dataclass
class Loop:
    """A table: names of its columns and all values, row after row."""

    names: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether the values fill the rows."""
        return len(self.values) % len(self.names) == 0

    def column(self, name: str) -> list[Value]:
        """Values of one column."""
        return self.values[self.names.index(name) :: len(self.names)]

    def lines(self) -> list[str]:
        """The values as they stand in the lines of the file, for tables whose values hold blanks without quotes."""
        return [" ".join(v.text for v in row) for _, row in groupby(self.values, key=lambda value: value.line)]


@dataclass
class Block:
    """One data block. Names are in lower case, with ``_`` for the ``.`` of newer dictionaries.

    Attributes:
        title: what follows ``data_``.
        items: values outside of loops, in the order of the file; a name that is given twice has two.
        loops: all tables.
    """

    title: str = ""
    items: dict[str, list[Value]] = field(default_factory=dict)
    loops: list[Loop] = field(default_factory=list)

    def loop(self, *names: str) -> Loop | None:
        """The loop with a column of one of these names; items outside of loops make one of a single row.

        Raises:
            StructureError: several loops have such a column.
        """
        for name in names:
            found = [loop for loop in self.loops if name in loop.names]
            if len(found) > 1:
                raise StructureError(f"two tables have the column {name}; keep one of them")
            if found:
                return found[0]
            if name in self.items:
                prefix = "_".join(name.split("_")[:3])  # _atom_site
                single = {key: self.items[key][0] for key in self.items if key.startswith(prefix)}
                return Loop(list(single), list(single.values()))
        return None

    def text(self, *names: str) -> str | None:
        """The first known value of these names, outside of loops or in the first row of one.

        Raises:
            StructureError: the file gives it twice, and differently.
        """
        for name in names:
            values = self.items.get(name) or [v for loop in self.loops if name in loop.names for v in loop.column(name)]
            known = [value.text.strip() for value in values if value.known]
            if len(set(known)) > 1 and name in self.items:
                raise StructureError(
                    f"{name} is given twice, as {shown(known[0])} and as {shown(known[1])}; keep one of them"
                )
            if known:
                return known[0]
        return None


def split_blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """The lines of each data block that holds atom sites.

    A line that begins with ``data_`` begins a block, unless it stands in a text field.
    """
    block: list[str] = []
    has_sites, in_text, size = False, False, 0
    for line in lines:
        size += len(line) + LINE_COST
        if size > LARGEST_ENTRY:
            raise StructureError(f"a data block has more than {LARGEST_ENTRY // 2**20} MiB, as no crystal has")
        if line.startswith(";"):
            in_text = not in_text
        elif not in_text and _DATA.match(line):
            if has_sites:
                yield block
            block, has_sites, size = [], False, 0
        elif not in_text and not has_sites and _SITES.match(line):
            has_sites = True
        block.append(line)
    if has_sites:
        yield block


def title_of(lines: list[str]) -> str:
    """Name of the block that these lines hold; empty if it has none."""
    for line in lines:
        if _DATA.match(line):
            return line.split()[0][len("data_") :]
    return ""


def parse_block(lines: Iterable[str]) -> Block:
    """Items and loops of the lines of one data block.

    Raises:
        StructureError: a text field is never closed.
    """
    block = Block()
    loop: Loop | None = None
    name: str | None = None
    in_save = False
    for kind, value in _tokens(lines):
        if kind == "value":
            if in_save:
                continue
            if name is not None:
                block.items.setdefault(name, []).append(value)
                name = None
            elif loop is not None:
                loop.values.append(value)
            continue
        if kind == "name":
            tag = value.text.lower().replace(".", "_")
            if loop is not None and not loop.values:
                loop.names.append(tag)
            else:
                loop, name = None, tag
            continue
        name, loop = None, None
        if kind == "loop":
            loop = Loop()
            if not in_save:
                block.loops.append(loop)
        elif kind == "save":
            in_save = len(value.text) > len("save_")
        elif kind == "data":
            block.title = value.text[len("data_") :]
    block.loops = [loop for loop in block.loops if loop.names]
    return block


def _tokens(lines: Iterable[str]) -> Iterator[tuple[str, Value]]:
    text: list[str] | None = None
    began = 0
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r\n")
        if text is not None:
            if not line.startswith(";"):
                text.append(line)
                continue
            yield "value", Value("\n".join(text), began, bare=False)
            text, line = None, line[1:]
        elif line.startswith(";"):
            text, began = [line[1:]], number
            continue
        yield from _line_tokens(line, number)
    if text is not None:
        raise StructureError(f"the text field that begins in line {began} is not closed; end it with a line `;`")


def _line_tokens(line: str, number: int) -> Iterator[tuple[str, Value]]:
    place, quotes = 0, True
    while match := _BARE.search(line, place):
        place = match.start()
        if line[place] == "#":
            return
        if quotes and line[place] in "'\"":
            if quoted := _QUOTED.match(line, place):
                inside = quoted[1] if quoted[1] is not None else quoted[2]
                yield "value", Value(inside, number, bare=False)
                place = quoted.end()
                continue
            quotes = False  # never closed in this line: an apostrophe
        value = Value(match[0], number)
        yield _kind(match[0]), value
        place = match.end()


def _kind(word: str) -> str:
    if word[0] == "_":
        return "name"
    lower = word[:5].lower()
    if lower == "data_" or word.lower() == "global_":
        return "data"
    if lower == "save_":
        return "save"
    if word.lower() == "loop_":
        return "loop"
    return "stop" if word.lower() == "stop_" else "value"


def shown(text: str | None) -> str:
    """A value of a file for a sentence: in quotes and short."""
    return repr(storable(text or "", 40))


def number(value: Value | str) -> float | None:
    """A number without its standard uncertainty, ``0.123(4)``, also a fraction ``1/3``; None if it is none."""
    text = value if isinstance(value, str) else value.text
    match = re.fullmatch(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d{1,3})?)(?:\(\d+\))?", text.strip())
    if match:
        found = float(re.sub("[dD]", "e", match[1]))
        return found if math.isfinite(found) else None
    match = re.fullmatch(r"([+-]?\d{1,3})/(\d{1,3})", text.strip())
    return int(match[1]) / int(match[2]) if match and int(match[2]) else None

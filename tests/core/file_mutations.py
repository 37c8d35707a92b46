"""Ways in which a file goes wrong, on the disk or by intent; all of them repeat."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

HOSTILE: tuple[Any, ...] = (
    *(0, -1, 1, 3, 2**31, 10**15, 10**30, 0.5, 1e308, float("inf"), float("nan")),
    *(True, None, "", "many", [], [1] * 5000, {}, {"a": {"b": []}}, [[[[]]]]),
)
"""What a number, a text or a list in a configuration may have become."""


def damaged(content: bytes, n: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """``n`` copies of ``content`` with a bit flipped, bytes changed, cut out, repeated or zeroed, or cut off."""
    random = np.random.default_rng(seed)
    for i in range(n):
        place = int(random.integers(len(content)))
        if i % 3 == 0:  # half of them where names and options stand
            place = int(random.integers(min(len(content), 4000)))
        length = int(random.integers(1, 200))
        kind = ("bit", "byte", "cut", "lost", "twice", "zeros", "noise")[i % 7]
        changed = bytearray(content)
        if kind == "bit":
            changed[place] ^= 1 << int(random.integers(8))
        elif kind == "byte":
            changed[place] = (changed[place] + int(random.integers(1, 256))) % 256
        elif kind == "cut":
            del changed[place:]
        elif kind == "lost":
            del changed[place : place + length]
        elif kind == "twice":
            changed[place:place] = changed[place : place + length]
        elif kind == "zeros":
            changed[place : place + length] = bytes(len(changed[place : place + length]))
        else:
            changed[place : place + length] = random.bytes(len(changed[place : place + length]))
        yield f"{kind} at {place}", bytes(changed)


def rewritten(options: dict[str, Any], n: int, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """``n`` copies of nested ``options`` with one value changed, one key lost or one unknown key more."""
    random = np.random.default_rng(seed)
    places = list(_places(options, ()))
    order = random.permutation(len(places))
    for i in range(n):
        place = places[order[i % len(places)]]
        changed = copy.deepcopy(options)
        table = changed
        for key in place[:-1]:
            table = table[key]
        if i % 10 == 8:
            del table[place[-1]]
        elif i % 10 == 9 and isinstance(table, dict):
            table["surprise"] = 7
        else:
            table[place[-1]] = HOSTILE[int(random.integers(len(HOSTILE)))]
        yield f"{place}: {table.get(place[-1]) if isinstance(table, dict) else table!r:.80}"[:200], changed


def _places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _places(item, (*path, key))

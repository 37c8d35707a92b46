"""Names of entries that several files share."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import PurePath

from dpa4_core.data.formats import NamedStructure, stem


def told_apart(entries: Sequence[NamedStructure]) -> list[NamedStructure]:
    """The same entries; a name that several of them have gets as much of their paths as it takes to tell them apart.

    ``x`` of ``a/x.cif`` and ``b/x.cif`` becomes ``a/x`` and ``b/x``, ``Cu`` of ``Cu.cif`` and ``Cu.vasp`` these, ``7``
    in ``a/set.json`` and ``b/set.json`` ``a/set:7`` and ``b/set:7``. What repeats all the same is numbered: a file
    that was given twice. Doing it again changes nothing.
    """
    by_name: dict[str, list[NamedStructure]] = {}
    for entry in entries:
        by_name.setdefault(entry.name, []).append(entry)
    ends = {name: _telling_ends({one.origin for one in same if one.origin}) for name, same in by_name.items()}
    taken: Counter[str] = Counter()
    found: list[NamedStructure] = []
    for entry in entries:
        name = wanted = _with_end(entry, ends[entry.name].get(entry.origin))
        while taken[name]:
            name = f"{wanted}:{taken[wanted] + 1}"
            taken[wanted] += 1
        taken[name] += 1
        found.append(entry if name == entry.name else dataclasses.replace(entry, name=name))
    return found


def _with_end(entry: NamedStructure, end: str | None) -> str:
    """The name with what tells its file from others, unless it is a part of the path itself."""
    if end is None:
        return entry.name
    is_path = any(f"/{path}".endswith(f"/{entry.name}") for path in (entry.origin, _without_suffix(entry.origin)))
    return end if is_path else f"{end}:{entry.name}"


def _telling_ends(paths: Collection[str]) -> dict[str, str]:
    """The shortest ends of paths, whole folders of them, by which they differ; without suffix if that is enough."""
    for shorten in (_without_suffix, str) if len(paths) > 1 else ():
        parts = {path: shorten(path).split("/") for path in paths}
        for depth in range(1, max(map(len, parts.values())) + 1):
            ends = {path: "/".join(part[-depth:]) for path, part in parts.items()}
            if len(set(ends.values())) == len(paths):
                return ends
    return {}


def _without_suffix(path: str) -> str:
    return str(PurePath(path).with_name(stem(PurePath(path))))

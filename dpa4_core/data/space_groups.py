"""Names of space groups in all their settings, resolved to symmetry operations.

The 530 settings of International Tables as spglib lists them, found by Hermann-Mauguin symbols short and full, old
and new (``C m c a`` and ``C m c e``, ``F m 3 m`` and ``F m -3 m``), with or without blanks, with the marks of origin
and axes that databases append (``:1``, ``:H``, ``S`` and ``Z`` of ICSD).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import spglib
from numpy.typing import NDArray

from dpa4_core.data.operations import UNIT, Operations, hall_operations
from dpa4_core.data.spglib_search import found_by

N_SETTINGS = 530
METRIC_TOLERANCE = 0.02
"""Largest relative misfit between a cell and the symmetry of a group that is named: 1 % of lengths, 1° of angles."""

_E_GLIDES = {316: "a", 317: "b", 318: "b", 319: "c", 320: "c", 321: "a"} | {
    **dict.fromkeys((322, 323), "a"),
    **dict.fromkeys((324, 325), "b"),
    **dict.fromkeys((326, 327), "b"),
    **dict.fromkeys((328, 329), "c"),
    **dict.fromkeys((330, 331), "c"),
    **dict.fromkeys((332, 333), "a"),
}
"""Old letter of the glide plane e by Hall number, where it tells settings apart (Nos. 67 and 68)."""
_CUBIC_WITH_INVERSION = (*range(200, 207), *range(221, 231))


@dataclass(frozen=True)
class Setting:
    """One of the 530 settings.

    Attributes:
        hall: number of the Hall symbol in spglib, from 1.
        number: of the space group.
        symbol: Hermann-Mauguin, full for monoclinic groups.
        choice: origin ("1", "2"), axes ("H", "R") or orientation ("b1", "cab"), empty where there is none.
    """

    hall: int
    number: int
    symbol: str
    choice: str

    @property
    def operations(self) -> Operations:
        """The group."""
        found = hall_operations(_type(self.hall).hall_symbol)
        assert found is not None  # tested for all of them
        return found

    @property
    def name(self) -> str:
        """Symbol and choice for a reader."""
        return f"{self.symbol} :{self.choice}" if self.choice in ("1", "2", "H", "R") else self.symbol


@lru_cache(maxsize=N_SETTINGS)
def _type(hall: int) -> spglib.SpaceGroupType:
    found = spglib.get_spacegroup_type(hall)
    assert found is not None
    return found


@lru_cache(maxsize=1)
def settings() -> tuple[Setting, ...]:
    """All settings in the order of International Tables."""
    found = []
    for hall in range(1, N_SETTINGS + 1):
        kind = _type(hall)
        symbol = kind.international_full if 3 <= kind.number <= 15 else kind.international
        found.append(Setting(hall, kind.number, symbol.replace("_", ""), kind.choice))
    return tuple(found)


def settings_of_number(number: int) -> list[Setting]:
    """Settings of a space group, the standard one first."""
    return [setting for setting in settings() if setting.number == number]


@lru_cache(maxsize=1)
def _by_symbol() -> dict[str, list[Setting]]:
    found: dict[str, list[Setting]] = {}
    for setting in settings():
        for name in dict.fromkeys(_compressed(name) for name in _names(setting)):
            found.setdefault(name, []).append(setting)
    return found


def _names(setting: Setting) -> Iterator[str]:
    """All symbols of a setting with blanks."""
    kind = _type(setting.hall)
    names = [setting.symbol, kind.international_full]
    if 3 <= setting.number <= 15:  # P 1 21/c 1 → P 21/c
        names.append(" ".join(part for part in setting.symbol.split() if part != "1"))
    if setting.number in _CUBIC_WITH_INVERSION:
        names += [name.replace("-3", "3") for name in names]
    for name in names:
        yield name
        yield from _with_old_glides(name, setting.hall)


def _with_old_glides(name: str, hall: int) -> Iterator[str]:
    """A symbol with the glide plane e, also with the letters that stood for it until 1992, and the other way round."""
    lattice, *parts = name.split()
    for place, part in enumerate(parts):
        letters = [part[-1:]]
        if part.endswith("e"):
            letters = [_E_GLIDES[hall]] if hall in _E_GLIDES else [c for c in "abc" if c != "abc"[place]]
        elif hall in _E_GLIDES and place == 1 and name.startswith("B b c b"):
            letters = ["e"]
        for letter in letters:
            if letter != part[-1:]:
                yield " ".join([lattice, *parts[:place], part[:-1] + letter, *parts[place + 1 :]])


def _compressed(symbol: str) -> str:
    return re.sub(r"[\s_()~'\"]", "", symbol.lower().replace("−", "-").replace("–", "-"))


_CHOICES = {"s": "1", "z": "2", "o1": "1", "o2": "2", "hr": "H", "h": "H", "r": "R"}


def settings_of_symbol(symbol: str, code: str | None = None) -> list[Setting]:
    """Settings that a Hermann-Mauguin symbol may mean, the standard one first; empty if it is not understood.

    Args:
        symbol: with or without a choice of origin or axes.
        code: that choice from elsewhere in the file, ``_space_group_IT_coordinate_system_code``.
    """
    base, _, mark = symbol.partition(":")
    if not mark and (match := re.fullmatch(r"(.*?)\(?\s*\borigin(?:\s+choice)?\s*([12])\)?\s*", symbol, re.IGNORECASE)):
        base, mark = match[1], match[2]
    base, mark = _compressed(base), _compressed(mark or code or "")
    found = settings_of_number(int(base)) if base.isdecimal() else _by_symbol().get(base, [])
    if not found:  # R -3 m H, F d -3 m Z, F d -3 m O2
        for length in (1, 2):
            rest, end = base[:-length], base[-length:]
            if rest in _by_symbol() and (end in _CHOICES or end in "12"):
                found, mark = _by_symbol()[rest], mark or end
                break
    if not found or not mark:
        return list(found)
    choice = _CHOICES.get(mark, mark)
    exact = [setting for setting in found if setting.choice.lower() == choice.lower()]
    if exact:
        return exact
    if choice in ("1", "2"):
        return [setting for setting in found if setting.choice.startswith(choice)] or list(found)
    return list(found)


def metric_misfit(operations: Operations, cell: NDArray[np.float64]) -> float:
    """How far a cell [3, 3] is from the symmetry of a group: largest change of its metric, relative to its lengths."""
    metric = cell @ cell.T
    lengths = np.sqrt(np.diag(metric))
    rotations = np.unique(operations.rotations.reshape(-1, 9), axis=0).reshape(-1, 3, 3)
    turned = np.einsum("mki,kl,mlj->mij", rotations, metric, rotations)
    return float((np.abs(turned - metric) / np.outer(lengths, lengths)).max())


def number_of(operations: Operations, cell: NDArray[np.float64]) -> int | None:
    """Number of the space group of a set of operations; None if spglib finds none."""
    rotations, translations = operations.rotations.astype(np.intc), operations.translations / UNIT
    found = found_by(spglib.get_spacegroup_type_from_symmetry, rotations, translations, lattice=cell)
    return None if found is None else int(found.number)


def distinct(found: Sequence[tuple[str, Operations]]) -> list[tuple[str, Operations]]:
    """Named groups without those that are equal to one before them."""
    kept: dict[frozenset[bytes], tuple[str, Operations]] = {}
    for name, operations in found:
        kept.setdefault(operations.keys(), (name, operations))
    return list(kept.values())

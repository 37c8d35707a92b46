"""Which symmetry operations a CIF means: those that it lists, or those of the space group that it names.

A Hall symbol comes before a Hermann-Mauguin symbol, which comes before a number, since each leaves more open than the
one before; the cell decides between axes. Where a name leaves several settings open, all of them are handed on, and the
content of the file decides (`cif`). A group that is named and not understood is an error, never P 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dpa4_core.data.bounded import storable
from dpa4_core.data.operations import IDENTITY, Operations, hall_operations, parse_operations
from dpa4_core.data.space_groups import (
    METRIC_TOLERANCE,
    Setting,
    distinct,
    metric_misfit,
    number_of,
    settings_of_symbol,
)
from dpa4_core.data.star import Block, Loop, shown
from dpa4_core.data.system import StructureError

_OPERATIONS = (
    "_space_group_symop_magn_operation_xyz",
    "_space_group_symop_operation_xyz",
    "_symmetry_equiv_pos_as_xyz",
    "_space_group_symop_operation_xyz_",
    "_symmetry_equiv_pos_as_xyz_",
)
_CENTRINGS = "_space_group_symop_magn_centering_xyz"
_HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_SYMBOLS = (
    "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m",
    "_space_group_name_h-m",
    "_space_group_name_h-m_ref",
    "_space_group_name_h-m_full",
    "_space_group_name_h-m_alt_",
    "_symmetry_space_group_name_h-m_",
)
_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number", "_symmetry_int_tables_number_")
_KNOWN_NUMBERS = frozenset(map(str, range(1, 231)))
_CODE = "_space_group_it_coordinate_system_code"
_MAGNETIC = ("_space_group_magn_number_bns", "_space_group_magn_name_bns", "_space_group_magn_number_og")


@dataclass
class Symmetry:
    """What a file says about symmetry.

    Attributes:
        candidates: names and operations that it may mean, the most usual first.
        open: what the file leaves open where there are several, a clause: "no origin choice".
        said: whether it says anything.
        refusal: what to say where the content of the file does not decide; None where the first candidate is then
            taken.
        warnings: sentences.
    """

    candidates: list[tuple[str, Operations]]
    open: str = ""
    said: bool = True
    refusal: str | None = None
    warnings: list[str] = field(default_factory=list)


def read_symmetry(block: Block, cell: NDArray[np.float64]) -> Symmetry:
    """The symmetry of a block with this cell [3, 3], Å.

    Raises:
        StructureError: an operation or a space group is not understood, or does not fit the cell.
    """
    operations = _listed_operations(block)
    if operations is None:
        named = _named(block, cell)
        if named is None and (magnetic := block.text(*_MAGNETIC)):
            raise StructureError(
                f"the magnetic group {shown(magnetic)} comes without operations; list them as "
                "_space_group_symop_magn_operation.xyz"
            )
        return named or Symmetry([("P 1", IDENTITY)], said=False)
    if metric_misfit(operations.candidates[0][1], cell) > METRIC_TOLERANCE:
        operations.warnings.append("the cell does not have the symmetry of the operations; atoms are placed by them")
    return operations


def named_order(block: Block) -> tuple[str, int] | None:
    """Name and order of the point group of the space group that a block names; None if none is understood."""
    found = _settings(block)[1]
    hall = hall_operations(block.text(*_HALL) or "")
    if hall is not None:
        return str(block.text(*_HALL))[:40], hall.point_order
    return (found[0].name, found[0].operations.point_order) if found else None


def crystal_family_number(block: Block) -> int | None:
    """Number of the space group that a block names; None if none is understood."""
    found = _settings(block)[1]
    return found[0].number if found else None


def _listed_operations(block: Block) -> Symmetry | None:
    for name in _OPERATIONS:
        loop = block.loop(name)
        if loop is None:
            continue
        texts = _operation_texts(loop, name)
        if not texts:
            continue
        centrings: list[str] = []
        if name == _OPERATIONS[0] and (centring_loop := block.loop(_CENTRINGS)) is not None:
            centrings = _operation_texts(centring_loop, _CENTRINGS)
        operations, whole = parse_operations((*texts, *centrings))
        found = Symmetry([("listed", operations)])
        if not whole and len(operations) != len(texts) * max(len(centrings), 1):
            found.warnings.append(
                f"the {len(texts)} symmetry operations are not the whole of a group; all {len(operations)} that follow "
                "from them are used"
            )
        return found
    return None


def _operation_texts(loop: Loop, name: str) -> list[str]:
    """Operations, also those with blanks and without quotes, which fall into several values."""
    if loop.is_whole:
        texts = [value.text for value in loop.column(name) if value.known]
        if all(text.count(",") in (2, 3) and not text.rstrip().endswith(",") for text in texts):
            return texts
    lines = [re.sub(r"^\s*\d+\s+(?=[^,/]*[xyzXYZ,])", "", line) for line in loop.lines()]
    found = [re.search(r"[-+xyzXYZ\d./ ]+(?:,[-+xyzXYZm\d./ ]+){2,3}", line) for line in lines]
    return [line if match is None else match[0] for line, match in zip(lines, found, strict=True)]


def _settings(block: Block) -> tuple[list[str], list[Setting]]:
    """Hermann-Mauguin symbols of a block, and the settings of the first that is understood, or of the number."""
    symbols = [symbol for name in _SYMBOLS if (symbol := block.text(name))]
    code = block.text(_CODE)
    for symbol in symbols:
        if found := settings_of_symbol(symbol, code):
            return symbols, found
    number = block.text(*_NUMBERS)
    if number in _KNOWN_NUMBERS:
        return symbols, settings_of_symbol(str(number), code)
    return symbols, []


def _named(block: Block, cell: NDArray[np.float64]) -> Symmetry | None:
    hall, number = block.text(*_HALL) or "", block.text(*_NUMBERS)
    symbols, settings = _settings(block)
    of_hall = hall_operations(hall)
    if not (hall or symbols or number):
        return None
    if of_hall is None and not settings:
        named = symbols[0] if symbols else hall or number
        raise StructureError(
            f"the space group {shown(named)} is not understood; list its symmetry operations as "
            "_space_group_symop_operation_xyz, or give the symbol of International Tables"
        )
    symbol_understood = any(settings_of_symbol(symbol) for symbol in symbols)
    by_symbol = [(setting.name, setting.operations) for setting in settings]
    found = Symmetry(by_symbol)
    if of_hall is not None:
        found.candidates = [(f"{storable(hall, 40)} (Hall)", of_hall)]
        contradicts = (
            symbol_understood
            and of_hall.keys() not in [operations.keys() for _, operations in by_symbol]
            and number_of(of_hall, cell) != settings[0].number
        )
        if contradicts:
            found.candidates += by_symbol
            found.refusal = (
                f"the Hall symbol {shown(hall)} and the Hermann-Mauguin symbol {shown(symbols[0])} name different "
                "space groups; remove the wrong one"
            )
    elif hall:
        found.warnings.append(f"the Hall symbol {shown(hall)} is not understood; {settings[0].name} is used")
    if of_hall is None and symbols and not symbol_understood:
        found.warnings.append(
            f"the space group symbol {shown(symbols[0])} is not understood; the number {number} is used, "
            f"{settings[0].name}"
        )
    elif symbol_understood and number and number != str(settings[0].number):
        found.warnings.append(
            f"the space group number {number[:40]} is not that of {shown(symbols[0])} ({settings[0].number}); the "
            "symbol is used"
        )
    found.candidates = _fitting(found.candidates, cell)
    if of_hall is None and len(found.candidates) > 1:
        origins = {name.partition(":")[2] for name, _ in found.candidates} >= {"1", "2"}
        found.open = "no origin choice" if origins and symbol_understood else "no setting"
    return found


def _fitting(candidates: list[tuple[str, Operations]], cell: NDArray[np.float64]) -> list[tuple[str, Operations]]:
    """The candidates whose symmetry the cell has, each once.

    Raises:
        StructureError: the cell has none of them.
    """
    fitting = [(name, group) for name, group in candidates if metric_misfit(group, cell) <= METRIC_TOLERANCE]
    if not fitting:
        raise StructureError(
            f"the space group {candidates[0][0]} does not fit the cell ({_shown_cell(cell)}); correct one of them"
        )
    return distinct(fitting)


def _shown_cell(cell: NDArray[np.float64]) -> str:
    lengths = np.linalg.norm(cell, axis=1)
    cosines = (cell @ cell.T) / np.outer(lengths, lengths)
    angles = np.degrees(np.arccos(np.clip(cosines[[1, 0, 0], [2, 2, 1]], -1, 1)))
    parts = [f"{name} = {value:.4g}" for name, value in zip("abc", lengths, strict=True)]
    return ", ".join([*parts, *(f"{name} = {value:.4g}°" for name, value in zip("αβγ", angles, strict=True))])

"""The atom sites of a CIF, row by row: none is dropped in silence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dpa4_core.data.bounded import storable
from dpa4_core.data.cif_species import (
    Reading,
    element_of_label,
    element_of_type,
    elements_named,
    refuse_label,
    several_elements,
)
from dpa4_core.data.star import Block, Loop, Value, number, shown
from dpa4_core.data.system import StructureError

LEAST_TOLERANCE = 1e-4
"""Of fractional coordinates: atoms this close to a special position are on it."""
_MOST_TOLERANCE = 1e-3
FULL = 5e-3
"""Occupancies this close to 1 are 1."""

FORMULAS = ("_chemical_formula_sum", "_chemical_formula_structural", "_chemical_formula_moiety")
_FRACTIONS = tuple(f"_atom_site_fract_{x}" for x in "xyz")


@dataclass(frozen=True, eq=False)
class Site:
    """One row of the table of atom sites.

    Attributes:
        label: of the file.
        element: symbol, also D and T.
        fractions: [3] fractional coordinates.
        tolerance: [3] how far each may be off by rounding.
        occupancy: share of atoms that are there; 1 within 0.005 is 1.
        oxidation: oxidation number where the file has a table of them.
        attached: hydrogen atoms bound here that have no coordinates.
        reading: what type symbol or label say.
        multiplicity: atoms in the cell as the file counts them.
        moment: [3] magnetic moment along the axes of the cell, μB.
    """

    label: str
    element: str
    fractions: NDArray[np.float64]
    tolerance: NDArray[np.float64]
    occupancy: float
    oxidation: float | None
    attached: float
    reading: Reading
    multiplicity: int | None
    moment: NDArray[np.float64] | None


@dataclass
class SiteTable:
    """All sites and what was noticed while they were read.

    Attributes:
        sites: rows with atoms.
        warnings: sentences about single rows.
        is_magnetic: the file gives magnetic moments.
    """

    sites: list[Site] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    is_magnetic: bool = False


def read_sites(block: Block) -> SiteTable:
    """The sites of a block.

    Raises:
        StructureError: no table of sites, a value too few, a site without element or coordinates, an occupancy that
            is none.
    """
    loop = _site_loop(block)
    cell = _Cells(loop)
    oxidations = _oxidation_numbers(block)
    allowed = elements_named([block.text(name) for name in FORMULAS], list(oxidations))
    moments = _moments(block)
    table = SiteTable(is_magnetic=moments is not None)
    guessed, full = [], []
    for row in range(cell.n_rows):
        symbol = cell.known("_atom_site_type_symbol", row)
        raw = cell.known("_atom_site_label", row) or cell.known("_atom_site_id", row) or symbol or f"row {row + 1}"
        label = storable(raw, 40)
        if cell.known("_atom_site_calc_flag", row) == "dum":
            table.warnings.append(f"the site {label} is a dummy and left out")
            continue
        if symbol and several_elements(symbol):
            raise StructureError(
                f"the site {label} is partially occupied by several elements ({storable(symbol, 40)}); give "
                "each a row of its own, with its _atom_site_occupancy"
            )
        reading = element_of_type(symbol, allowed) if symbol else element_of_label(label, allowed)
        if reading is None:
            raise refuse_label(label, symbol)
        if reading.guessed:
            guessed.append(f"{storable(symbol or label, 40)} as {reading.element}")
        occupancy = _occupancy(cell.value("_atom_site_occupancy", row), label)
        if occupancy == 0:
            table.warnings.append(f"the site {label} has an occupancy of 0 and is left out")
            continue
        if abs(occupancy - 1) <= FULL:
            full += [f"{label} ({occupancy:g})"] if occupancy != 1 else []
            occupancy = 1.0
        fractions, tolerance = _coordinates(cell, row, label)
        table.sites.append(
            Site(
                label=label,
                element=reading.element,
                fractions=fractions,
                tolerance=tolerance,
                occupancy=occupancy,
                oxidation=_oxidation(oxidations, symbol, reading.element),
                attached=cell.count("_atom_site_attached_hydrogens", row) or 0.0,
                reading=reading,
                multiplicity=_multiplicity(cell, row),
                moment=None if moments is None else moments.get(raw, np.zeros(3)),
            )
        )
    if guessed:
        table.warnings.append(f"labels of sites are read {listed(guessed)}; a column _atom_site_type_symbol would tell")
    if full:
        table.warnings.append(f"occupancies of nearly 1 are taken as 1: {listed(full)}")
    if not table.sites:
        raise StructureError("the table of atom sites has no atoms")
    return table


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first few of many names."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _site_loop(block: Block) -> Loop:
    if block.text("_cell_modulation_dimension"):
        raise StructureError("the structure is modulated, with more than three dimensions; give an approximant")
    loop = block.loop(*_FRACTIONS)
    if loop is None:
        if block.loop("_atom_site_cartn_x") is not None:
            raise StructureError("the sites have Cartesian coordinates only; give fractional ones, _atom_site_fract_x")
        raise StructureError("the sites have no fractional coordinates, _atom_site_fract_x, _y and _z")
    if missing := [name for name in _FRACTIONS if name not in loop.names]:
        raise StructureError(f"the table of atom sites has no column {missing[0]}")
    if not loop.is_whole:
        raise StructureError(
            f"the table of atom sites has {len(loop.names)} columns and {len(loop.values)} values, which fill no whole "
            "rows; a value is missing or a value with blanks lacks its quotes"
        )
    return loop


class _Cells:
    """Values of a table by column and row."""

    def __init__(self, loop: Loop) -> None:
        self._columns = {name: loop.column(name) for name in loop.names}
        self.n_rows = len(loop.values) // len(loop.names)

    def value(self, name: str, row: int) -> Value | None:
        column = self._columns.get(name)
        return column[row] if column is not None and column[row].known else None

    def known(self, name: str, row: int) -> str | None:
        value = self.value(name, row)
        return None if value is None else value.text.strip()

    def count(self, name: str, row: int) -> float | None:
        value = self.value(name, row)
        return None if value is None else number(value)


def _occupancy(value: Value | None, label: str) -> float:
    if value is None:
        return 1.0
    occupancy = number(value)
    if occupancy is None or not 0 <= occupancy <= 1 + FULL:
        raise StructureError(
            f"the occupancy of site {label} is {shown(value.text)}, not a number from 0 to 1; correct it"
        )
    return occupancy


def _coordinates(cell: _Cells, row: int, label: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    fractions, tolerance = np.empty(3), np.empty(3)
    for i, name in enumerate(_FRACTIONS):
        value = cell.value(name, row)
        if value is None:
            raise StructureError(f"the site {label} has no coordinates; add them, or remove the site")
        found = number(value)
        if found is None or not math.isfinite(found):
            raise StructureError(f"the coordinate {shown(value.text)} of site {label} is not a number; correct it")
        fractions[i], tolerance[i] = _meant(value.text, found)
    return fractions, tolerance


def _meant(text: str, value: float) -> tuple[float, float]:
    """A coordinate and how far it may be off: 0.3333 is 1/3, and 0.333 is within 0.001 of what was meant.

    Four and more digits of a multiple of 1/6 are that fraction. Three digits may also be a general position; they
    become the fraction where symmetry asks for it.
    """
    digits = re.sub(r"\(\d*\)|[eE].*", "", text).partition(".")[2].rstrip("0")
    unit = 10.0 ** -len(digits)
    sixths = round(value * 6) / 6
    if len(digits) >= 4 and abs(value - sixths) < min(unit, LEAST_TOLERANCE) and round(value * 6) % 3:
        return sixths, LEAST_TOLERANCE
    if len(digits) == 2 and round(value * 6) % 3:  # 0.33, 0.67, 0.17
        return value, 5e-3 if abs(value - sixths) <= 5e-3 else LEAST_TOLERANCE
    return value, max(LEAST_TOLERANCE, min(unit, _MOST_TOLERANCE)) if len(digits) >= 3 else LEAST_TOLERANCE


def _oxidation_numbers(block: Block) -> dict[str, float | None]:
    """Oxidation numbers by type symbol; None where a type has none."""
    loop = block.loop("_atom_type_symbol")
    if loop is None or not loop.is_whole:
        return {}
    symbols = [value.text.strip() for value in loop.column("_atom_type_symbol")]
    if "_atom_type_oxidation_number" not in loop.names:
        return dict.fromkeys(symbols)
    return {s: number(v) for s, v in zip(symbols, loop.column("_atom_type_oxidation_number"), strict=True)}


def _oxidation(oxidations: dict[str, float | None], symbol: str | None, element: str) -> float | None:
    if all(value is None for value in oxidations.values()):
        return None
    found = oxidations.get(symbol or element)
    found = oxidations.get(element) if found is None else found
    return 0.0 if found is None else found


def _multiplicity(cell: _Cells, row: int) -> int | None:
    found = cell.count("_atom_site_site_symmetry_multiplicity", row) or cell.count(
        "_atom_site_symmetry_multiplicity", row
    )
    return int(found) if found else None


def _moments(block: Block) -> dict[str, NDArray[np.float64]] | None:
    """Magnetic moments along the axes of the cell by label; None where the file has none.

    Raises:
        StructureError: a moment is not three numbers.
    """
    loop = block.loop("_atom_site_moment_crystalaxis_x")
    if loop is None:
        return None
    names = [f"_atom_site_moment_crystalaxis_{x}" for x in "xyz"]
    labels = next((n for n in ("_atom_site_moment_label", "_atom_site_label") if n in loop.names), None)
    if labels is None or not loop.is_whole or any(name not in loop.names for name in names):
        raise StructureError("the table of magnetic moments is not whole; it needs a label and three components")
    columns: list[Callable[[int], Value]] = [loop.column(name).__getitem__ for name in names]
    found = {}
    for row, label in enumerate(loop.column(labels)):
        values = [number(column(row)) if column(row).known else 0.0 for column in columns]
        if any(value is None for value in values):
            raise StructureError(f"the magnetic moment of {shown(label.text)} is not three numbers; correct it")
        found[label.text.strip()] = np.array(values, dtype=np.float64)
    return found

"""Which element a text in a file means: a symbol, an isotope of hydrogen, an atomic number or the label of a site."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from dpa4_core.data.isotopes import ISOTOPE_MASSES
from dpa4_core.data.system import StructureError

_NUMBERS = {symbol: number for symbol, number in atomic_numbers.items() if number}
# a symbol, then what cannot belong to it: a count or a charge, or anything after a mark
_LABEL = re.compile(r"([A-Z][a-z]?)(?:[0-9][0-9A-Za-z]*[+-]?|[0-9]*[+-][0-9]*|[_./:(*'#@-].*)")


def element_of(text: str) -> tuple[int, float | None]:
    """Atomic number, and the mass in u where the text names an isotope.

    ``Mg``, ``mg`` and ``MG`` are symbols, ``D`` and ``T`` hydrogen, ``12`` an atomic number; ``Mg1``, ``O2-``,
    ``Fe_pv`` and ``C12B`` are labels that begin with a symbol.

    Raises:
        StructureError: it is none of these.
    """
    symbol = text.capitalize()
    if symbol in _NUMBERS:
        return _NUMBERS[symbol], None
    if text in ISOTOPE_MASSES:
        return 1, ISOTOPE_MASSES[text]
    if text.isdecimal() and text.isascii() and len(text) < 4 and 0 < int(text) < len(atomic_masses):
        return int(text), None
    label = _LABEL.fullmatch(text)
    if label is not None and label[1] in _NUMBERS:
        return _NUMBERS[label[1]], None
    if label is not None and label[1] == "D":  # T1, T2 are tetrahedral sites and not tritium
        return 1, ISOTOPE_MASSES["D"]
    raise StructureError(
        f"{text[:20]!r} is no element and no label that begins with one; write symbols such as Mg or O"
    )


def atoms_of(species: Sequence[str], positions: NDArray[np.float64]) -> Atoms:
    """Atoms at ``positions`` [n, 3] in Å; isotopes bring their mass.

    Raises:
        StructureError: a species is no element.
    """
    known = {text: element_of(text) for text in set(species)}
    atoms = Atoms(numbers=[known[text][0] for text in species], positions=positions)
    masses = [known[text][1] for text in species]
    if any(mass is not None for mass in masses):
        atoms.set_masses([own if mass is None else mass for own, mass in zip(atoms.get_masses(), masses, strict=True)])
    return atoms

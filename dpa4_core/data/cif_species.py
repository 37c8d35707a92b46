"""Elements of the sites of a CIF, from type symbols or, where there are none, from labels.

A label is free text that by custom begins with the element: ``Fe2a``, ``OH1`` (oxygen of a hydroxide), ``CA1``
(calcium, or the α carbon of an amino acid). What the file says elsewhere, its formula above all, decides.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ase.data import chemical_symbols

from dpa4_core.data.star import shown
from dpa4_core.data.system import StructureError

ELEMENTS = frozenset({*chemical_symbols[1:], "D", "T"})
_OF_LABELS = frozenset({*chemical_symbols[1:97], "D"})
"""Nobody solves structures of Nh and Og, while NH and OG occur in labels; T1 is a tetrahedral site, not tritium."""
_WATER = re.compile(r"(wat(er)?|hoh|dod|h2o|d2o|oh2|o-[hd])(?![a-z])", re.IGNORECASE)
_BOUND_HYDROGEN = re.compile(r"O(H|h|W|w)(?![a-z])")
_NOT_ATOMS = frozenset({"cg", "cen", "cent", "cnt", "cntr", "dum", "dummy", "du", "va", "vac", "void"})
_SCATTERING = ("val", "iv")  # Cval, Siva: valence form factors of International Tables


@dataclass(frozen=True)
class Reading:
    """What a type symbol or label says.

    Attributes:
        element: symbol, also D and T.
        group: the text, where it names several atoms of which the site is the first: ``Wat``, ``NH4``.
        hydroxide: the label says that hydrogen is bound, ``OH1``.
        guessed: another element was possible.
    """

    element: str
    group: str | None = None
    hydroxide: bool = False
    guessed: bool = False


def element_of_type(text: str, allowed: Collection[str]) -> Reading | None:
    """The element of an ``_atom_site_type_symbol``: ``Fe3+``, ``O-2``, ``CL``, ``Wat``; None if it is none.

    Args:
        text: as it stands in the file.
        allowed: elements that the file names elsewhere; empty if it names none.
    """
    text = text.strip()
    match = re.match(r"[A-Za-z]+", text)
    if match is None:
        return None
    if _WATER.match(text):
        return Reading("O", group=text[:40])
    symbol = match[0].capitalize()
    if symbol in (_OF_LABELS if match[0].isupper() else ELEMENTS) and not _is_group(match[0], symbol, allowed):
        return Reading(symbol)
    if symbol == "T":
        return Reading("T")
    atoms = _counted(re.sub(r"[-+].*", "", text)) or {}
    if len(atoms) > 1:
        return Reading(next((symbol for symbol in atoms if symbol not in ("H", "D")), "H"), group=text[:40])
    return _element(match[0], allowed)


def _is_group(word: str, symbol: str, allowed: Collection[str]) -> bool:
    """Whether ``PO`` of ``PO4`` is phosphorus with oxygen, as the elements of the file say, and not polonium."""
    return len(word) == 2 and word.isupper() and symbol not in allowed and {*word} <= {*allowed}


def several_elements(text: str) -> bool:
    """Whether a type symbol is a mixture: ``Nb,Zr``, ``0.8Nb + 0.2Zr``, ``Fe/Mn``."""
    parts = re.split(r"[,/|&]|\s\+\s", text)
    names = [re.sub(r"^[\d.\s]*", "", part).strip() for part in parts]
    return len(names) > 1 and all(re.match(r"[A-Z][a-z]?", name) for name in names)


def element_of_label(text: str, allowed: Collection[str]) -> Reading | None:
    """The element of a label; None if it begins with none. Arguments as for `element_of_type`."""
    match = re.match(r"[^A-Za-z]{0,2}([A-Za-z]+)", text.strip())  # also "1O" and "(O1)"
    if match is None:
        return None
    if _WATER.match(text.strip()):
        return Reading("O", group=text.strip()[:40])
    return _element(match[1], allowed)


def _element(word: str, allowed: Collection[str]) -> Reading | None:
    """The element that the leading letters of a label stand for."""
    two, one = word[:2].capitalize(), word[0].upper()
    readings = [symbol for symbol in dict.fromkeys((two, one)) if symbol in _OF_LABELS or symbol in allowed]
    named = [symbol for symbol in readings if symbol in allowed]
    if not named and word.lower() in _NOT_ATOMS:
        return None
    if not (named or readings):
        return None
    element = (named or readings)[0]  # the longest
    rest = word[len(element) :]
    is_word = len(rest) > 2 and rest.islower() and not rest.startswith(_SCATTERING)
    if is_word and not named:
        return None
    return Reading(
        element,
        hydroxide=element == "O" and bool(_BOUND_HYDROGEN.match(word)),
        guessed=(len(named or readings) > 1 and word[:2].isupper()) or (not named and rest[1:].islower()),
    )


_PART = re.compile(r"([A-Z][a-z]?)(\d*\.?\d*)")


def parse_formula(text: str | None) -> dict[str, float] | None:
    """Numbers of atoms of ``'H2 Mg O2'``, also ``Mg(OH)2``; None if it is not understood."""
    if text is None or len(text) > 500:
        return None
    words = text.replace(",", " ").split()
    if all(re.fullmatch(r"[A-Za-z]{1,2}\d*\.?\d*", word) for word in words):  # 'FE2 O3', each an element
        words = [re.sub(r"^[A-Za-z]+", lambda m: m[0].capitalize(), word) for word in words]
        if not all(_PART.fullmatch(word) and _PART.fullmatch(word)[1] in ELEMENTS for word in words):  # type: ignore[index]
            words = text.split()
    return _counted("".join(words))


def _counted(text: str) -> dict[str, float] | None:
    """A formula without blanks, with parentheses."""
    stack: list[dict[str, float]] = [{}]
    place = 0
    while place < len(text):
        if text[place] in "([":
            stack.append({})
            place += 1
            continue
        if text[place] in ")]":
            factor = re.match(r"\d*\.?\d*", text[place + 1 :])
            if len(stack) == 1 or factor is None:
                return None
            group, many = stack.pop(), _count(factor[0])
            if many is None:
                return None
            for symbol, count in group.items():
                stack[-1][symbol] = stack[-1].get(symbol, 0.0) + many * count
            place += 1 + factor.end()
            continue
        match = _PART.match(text, place)
        if match is None or match[1] not in ELEMENTS:
            return None
        number = _count(match[2])
        if number is None:
            return None
        stack[-1][match[1]] = stack[-1].get(match[1], 0.0) + number
        place = match.end()
    counts = {symbol: count for symbol, count in stack[0].items() if count > 0}
    return counts if len(stack) == 1 and counts else None


def _count(text: str) -> float | None:
    if text == ".":
        return None
    return float(text) if text else 1.0


def elements_named(formulas: Sequence[str | None], types: Sequence[str]) -> frozenset[str]:
    """Elements of the formulas and of the list of atom types; empty if the file names none."""
    named: set[str] = set()
    for formula in formulas:
        named |= set(parse_formula(formula) or ())
    for text in types:
        if reading := element_of_type(text, ()):
            named.add(reading.element)
    return frozenset(named)


def refuse_label(label: str, symbol: str | None) -> StructureError:
    """What to say of a site whose element is not understood."""
    if symbol is None:
        return StructureError(
            f"the label {shown(label)} of a site does not begin with an element; add a column _atom_site_type_symbol"
        )
    return StructureError(
        f"the site {shown(label)} has the type symbol {shown(symbol)}, which is not an element; correct it or "
        "remove the site"
    )

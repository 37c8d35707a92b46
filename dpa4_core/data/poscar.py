"""VASP's POSCAR and CONTCAR.

The elements stand in a line before the numbers of atoms (VASP 5), or, in files of VASP 4, alone in the first line or
behind the coordinates; other words of the first line are a title, in which "I" is no iodine.
"""

from __future__ import annotations

import re
from typing import NoReturn

import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms, FixConstraint, FixScaled
from ase.formula import Formula
from numpy.typing import NDArray

from dpa4_core.data.species import atoms_of, element_of
from dpa4_core.data.system import StructureError

MAX_ATOMS = 10_000_000
_LOGICAL = re.compile(r"\.?([tTfF])[a-zA-Z]*\.?")


def poscar_atoms(content: str) -> Atoms:
    """The atoms of a POSCAR with its selective dynamics and velocities.

    Raises:
        StructureError: the text is no POSCAR, or names no elements; one sentence.
    """
    lines = _Lines(content)
    title = lines.next("a title")
    scale = lines.next("the scale of the lattice")
    cell = np.array([lines.numbers(f"lattice vector {i + 1}", 3) for i in range(3)])
    cell, factors = _scaled(cell, scale)
    words = _words(lines.next("the elements or the numbers of atoms"))
    symbols = None
    if words and not words[0].isdecimal():
        symbols = [word.split("/")[0] for word in words]  # VASP may write Na_pv/6a2f546d
        words = _words(lines.next("the numbers of atoms"))
    if not words or not all(word.isdecimal() and len(word) < 9 for word in words):
        raise StructureError(f"the numbers of atoms are missing where {' '.join(words)[:40]!r} stands")
    counts = [int(word) for word in words]
    if not 0 < sum(counts) <= MAX_ATOMS:
        raise StructureError(f"the file announces {sum(counts)} atoms; from 1 to {MAX_ATOMS} are read")
    mode = lines.next("Direct or Cartesian").strip()
    selective = mode[:1].lower() == "s"
    if selective:
        mode = lines.next("Direct or Cartesian").strip()
    rows = [lines.next(f"the coordinates of atom {i}").split() for i in range(sum(counts))]
    coordinates = np.array([_floats(row, f"the coordinates of atom {i}", 3) for i, row in enumerate(rows)])
    positions = coordinates * factors if mode[:1].lower() in ("c", "k") else coordinates @ cell
    atoms = atoms_of(_species(symbols, counts, title, [row[6 if selective else 3 :] for row in rows]), positions)
    atoms.cell, atoms.pbc = cell, True
    if selective:
        atoms.set_constraint(_constraints(atoms, np.array([_fixed(row, i) for i, row in enumerate(rows)])))
    if (velocities := _velocities(lines, len(atoms))) is not None:
        atoms.set_velocities(velocities)
    return atoms


class _Lines:
    def __init__(self, content: str) -> None:
        self._lines, self._next = content.splitlines(), 0

    def next(self, what: str) -> str:
        """The next line.

        Raises:
            StructureError: there is none.
        """
        if self._next >= len(self._lines):
            raise StructureError(f"the file ends where {what} should stand")
        self._next += 1
        return self._lines[self._next - 1]

    def peek(self) -> str:
        """The next line without passing it; empty at the end."""
        return self._lines[self._next] if self._next < len(self._lines) else ""

    def skip(self) -> None:
        """Pass the next line, if there is one."""
        self._next += 1

    def numbers(self, what: str, n: int) -> list[float]:
        """The first ``n`` numbers of the next line."""
        return _floats(self.next(what).split(), what, n)


def _floats(words: list[str], what: str, n: int) -> list[float]:
    try:
        numbers = [float(word.replace("d", "e").replace("D", "e")) for word in words[:n]]  # Fortran writes 1.0D0
    except ValueError:
        numbers = []
    if len(numbers) < n:
        raise StructureError(f"{what} should be {n} numbers and is {' '.join(words)[:40]!r}")
    return numbers


def _words(line: str) -> list[str]:
    return re.split(r"[!#]", line)[0].split()


def _scaled(cell: NDArray[np.float64], line: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cell and the factors of Cartesian coordinates; a negative scale is the volume in Å³."""
    words = _words(line)
    scale = np.array(_floats(words, "the scale of the lattice", 1))
    if len(words) > 1 and all(re.fullmatch(r"[-+.\deEdD]+", word) for word in words[:3]):
        scale = np.array(_floats(words, "the scale of the lattice", 3))
    if (scale == 0).any() or (len(scale) == 3 and (scale < 0).any()):
        raise StructureError(
            f"the scale of the lattice is {' '.join(words)[:40]!r}; it must be positive, or one volume"
        )
    if scale[0] < 0:
        volume = abs(float(np.linalg.det(cell)))
        if volume == 0:
            raise StructureError("the scale is a volume and the lattice vectors lie in a plane")
        scale = np.cbrt(-scale / volume)
    return cell * scale, np.ones(3) * scale


def _species(symbols: list[str] | None, counts: list[int], title: str, behind: list[list[str]]) -> list[str]:
    """The species of each atom, from the line of elements, the title or the ends of the lines of coordinates."""
    if symbols is None:
        symbols = _of_title(title, counts)
    if symbols is None:
        ends = [words[0] if words and _is_element(words[0]) else "" for words in behind]
        if all(ends):
            return ends
        _no_elements(counts)
    if len(symbols) != len(counts):
        raise StructureError(
            f"the file names {len(symbols)} elements ({' '.join(symbols)[:40]}) and {len(counts)} numbers of atoms; "
            "write as many of the one as of the other"
        )
    return [symbol for symbol, count in zip(symbols, counts, strict=True) for _ in range(count)]


def _no_elements(counts: list[int]) -> NoReturn:
    example = " ".join(["Mg", "O", "Li", "Co", "Ni", "Mn", "Fe", "P", "S"][: len(counts)])
    raise StructureError(
        f"the file does not say which elements it holds; add a line with {len(counts)} element symbols, such as "
        f"{example!r}, before the line with the numbers of atoms ({' '.join(map(str, counts[:9]))})"
    )


def _of_title(title: str, counts: list[int]) -> list[str] | None:
    """The elements that a title of VASP 4 consists of, ``Mg O`` or ``Mg4O4``; None for any other title."""
    words = _words(title)
    if len(words) == len(counts) and all(_is_element(word) and not word.isdecimal() for word in words):
        return words
    try:
        amounts = Formula(words[0]).count() if len(words) == 1 else {}
    except ValueError:
        return None
    shares = {count / amount for count, amount in zip(counts, amounts.values(), strict=False)}
    return list(amounts) if len(amounts) == len(counts) and len(shares) == 1 else None


def _is_element(word: str) -> bool:
    try:
        element_of(word)
    except StructureError:
        return False
    return True


def _fixed(row: list[str], atom: int) -> list[bool]:
    flags = [_LOGICAL.fullmatch(word) for word in row[3:6]]
    if len(flags) < 3 or None in flags:
        raise StructureError(f"selective dynamics of atom {atom} is {' '.join(row[3:6])[:40]!r}; give three of T and F")
    return [flag is not None and flag[1] in "fF" for flag in flags]


def _constraints(atoms: Atoms, fixed: NDArray[np.bool_]) -> list[FixConstraint]:
    """Constraints of fractional coordinates, and one for the atoms that do not move at all."""
    whole = np.flatnonzero(fixed.all(axis=1))
    partly = np.flatnonzero(fixed.any(axis=1) & ~fixed.all(axis=1))
    constraints: list[FixConstraint] = [FixScaled(int(i), fixed[i], atoms.cell) for i in partly]
    return [*constraints, FixAtoms(whole)] if len(whole) else constraints


def _velocities(lines: _Lines, n_atoms: int) -> NDArray[np.float64] | None:
    """[n, 3] in ASE's unit from a block in Å/fs; None without one, and for one in units of an unknown time step."""
    if lines.peek().strip()[:1].lower() == "l":  # velocities of the lattice: a title, a number, two matrices
        for _ in range(8):
            lines.next("the velocities of the lattice")
    mode = lines.peek().strip()[:1].lower()
    lines.skip()
    if mode not in ("", "c", "k") or len(lines.peek().split()) < 3:  # one word begins the state of VASP's thermostat
        return None
    rows = [lines.numbers(f"the velocity of atom {i}", 3) for i in range(n_atoms)]
    return np.array(rows) * (units.Angstrom / units.fs)

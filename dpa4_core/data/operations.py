"""Symmetry operations as integers: from ``x,y,z`` and from Hall symbols, closed to groups.

Hall symbols name a setting of a space group in full, origin included: S. R. Hall, Acta Cryst. A37 (1981) 517;
International Tables B (2010), A1.4.2.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dpa4_core.data.bounded import storable
from dpa4_core.data.system import StructureError

UNIT = 55440
"""Translations are integers in units of 1/55440 = 1/(16·9·5·7·11) of the cell."""
MAX_OPERATIONS = 192 * 32
"""192 in the largest space group, times the centrings of a magnetic cell."""
_SNAP = 2e-3  # 0.333 stands for 1/3


@dataclass(frozen=True, eq=False)
class Operations:
    """A set of symmetry operations x → Wx + w on fractional coordinates.

    Attributes:
        rotations: [m, 3, 3] int64, W.
        translations: [m, 3] int64, w in units of 1/`UNIT`, from 0 to `UNIT` − 1.
        reversal: [m] int64, −1 where time is reversed (magnetic groups), else 1.
    """

    rotations: NDArray[np.int64]
    translations: NDArray[np.int64]
    reversal: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rotations)

    def keys(self) -> frozenset[bytes]:
        """The operations as a set; equal for equal groups in whatever order."""
        return frozenset(row.tobytes() for row in self.table())

    def table(self) -> NDArray[np.int64]:
        """[m, 13] one row per operation."""
        flat = self.rotations.reshape(-1, 9)
        return np.ascontiguousarray(np.hstack([flat, self.translations, self.reversal[:, None]]))

    @property
    def point_order(self) -> int:
        """Number of different rotation parts."""
        return len(np.unique(self.rotations.reshape(-1, 9), axis=0))


def _from_rows(rows: NDArray[np.int64]) -> Operations:
    return Operations(rows[:, :9].reshape(-1, 3, 3), rows[:, 9:12], rows[:, 12])


def _row(rotation: NDArray[np.int64], translation: NDArray[np.int64], reversal: int = 1) -> NDArray[np.int64]:
    return np.concatenate([rotation.ravel(), translation % UNIT, [reversal]]).astype(np.int64)


IDENTITY = _from_rows(_row(np.eye(3, dtype=np.int64), np.zeros(3, dtype=np.int64))[None])


def _products(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows [m, 13] of all ``left`` operations [m, 13] after the one of ``right`` [13]."""
    rotation, translation = right[:9].reshape(3, 3), right[9:12]
    rotations = left[:, :9].reshape(-1, 3, 3)
    moved = (rotations @ translation + left[:, 9:12]) % UNIT
    return np.hstack([(rotations @ rotation).reshape(-1, 9), moved, left[:, 12:] * right[12]])


def generate(generators: NDArray[np.int64]) -> Operations:
    """The group of operations given as rows of `Operations.table`, by adding cosets (Dimino's algorithm).

    Raises:
        StructureError: the group is larger than `MAX_OPERATIONS`.
    """
    rows = IDENTITY.table()
    known = {rows[0].tobytes()}
    used: list[NDArray[np.int64]] = []
    for generator in generators:
        if generator.tobytes() in known:
            continue
        used.append(generator)
        subgroup, pending = rows, [generator]
        while pending:
            representative = pending.pop()
            if representative.tobytes() in known:
                continue
            coset = _products(subgroup, representative)
            rows = np.vstack([rows, coset])
            known.update(row.tobytes() for row in coset)
            if len(rows) > MAX_OPERATIONS:
                raise StructureError(
                    f"the symmetry operations generate more than {MAX_OPERATIONS} of them and cannot be those of a "
                    "crystal; correct them"
                )
            pending += [_products(representative[None], g)[0] for g in used]
    return _from_rows(rows)


@lru_cache(maxsize=256)
def parse_operations(texts: tuple[str, ...]) -> tuple[Operations, bool]:
    """The group of operations ``x,y,z`` (magnetic: ``x,y,z,+1``), and whether the list held all of it.

    The order of a whole list is kept, with the identity where it stands.

    Raises:
        StructureError: a text is no symmetry operation, or they do not generate a finite group.
    """
    if len(texts) > MAX_OPERATIONS:
        raise StructureError(f"{len(texts)} symmetry operations are more than a crystal has ({MAX_OPERATIONS})")
    rows = np.array([_parse(text) for text in texts])
    listed = _from_rows(rows[np.sort(np.unique(rows, axis=0, return_index=True)[1])])
    group = generate(rows)
    return (listed, True) if len(group) == len(listed) else (group, False)


_TERM = re.compile(r"([+-]?)(?:(\d+(?:\.\d*)?|\.\d+)(?:/(\d+))?)?\*?([xyz])?")


def _parse(text: str) -> NDArray[np.int64]:
    refusal = StructureError(f"{storable(text.strip(), 60)!r} is not a symmetry operation such as 'x,1/2-y,z+1/2'")
    parts = re.sub(r"[\s'\"]", "", text.lower()).split(",")
    reversal = 1
    if len(parts) == 4 and parts[3] in ("1", "+1", "-1", "m", "-m", "+m"):
        reversal = -1 if parts.pop().startswith("-") else 1
    if len(parts) != 3:
        raise refusal
    rotation, translation = np.zeros((3, 3), dtype=np.int64), np.zeros(3, dtype=np.int64)
    for i, part in enumerate(parts):
        place = 0
        while place < len(part):
            match = _TERM.match(part, place)
            if match is None or match.end() == place or (place and not match[1]) or not (match[2] or match[4]):
                raise refusal
            place = match.end()
            if match[3] and not int(match[3]):
                raise refusal
            value = float(match[2] or 1) / int(match[3] or 1) * (-1 if match[1] == "-" else 1)
            if match[4]:
                if not value.is_integer():
                    raise refusal
                rotation[i, "xyz".index(match[4])] += int(value)
            else:
                translation[i] += _translation(value)
        if not part:
            raise refusal
    if abs(round(float(np.linalg.det(rotation)))) != 1 or np.abs(rotation).max() > 8:
        raise refusal
    return _row(rotation, translation, reversal)


def _translation(value: float) -> int:
    """In units of 1/`UNIT`; decimals near a multiple of 1/24 are that multiple."""
    twentyfourths = round(value * 24)
    if abs(value * 24 - twentyfourths) < 24 * _SNAP:
        return twentyfourths * (UNIT // 24)
    return round(value * UNIT)


_AROUND_Z = {
    1: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    2: [[-1, 0, 0], [0, -1, 0], [0, 0, 1]],
    3: [[0, -1, 0], [1, -1, 0], [0, 0, 1]],
    4: [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
    6: [[1, -1, 0], [1, 0, 0], [0, 0, 1]],
}
_FACE_DIAGONAL = {"'": [[0, -1, 0], [-1, 0, 0], [0, 0, -1]], '"': [[0, 1, 0], [1, 0, 0], [0, 0, -1]]}  # before: z
_BODY_DIAGONAL = [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
_CENTRINGS = {
    "P": [],
    "A": [(0, 6, 6)],
    "B": [(6, 0, 6)],
    "C": [(6, 6, 0)],
    "I": [(6, 6, 6)],
    "R": [(8, 4, 4), (4, 8, 8)],
    "H": [(8, 4, 0), (4, 8, 0)],
    "F": [(0, 6, 6), (6, 0, 6), (6, 6, 0)],
}
_SHIFTS = {
    "a": (6, 0, 0),
    "b": (0, 6, 0),
    "c": (0, 0, 6),
    "n": (6, 6, 6),
    "u": (3, 0, 0),
    "v": (0, 3, 0),
    "w": (0, 0, 3),
    "d": (3, 3, 3),
}
_TWELFTH = UNIT // 12


@lru_cache(maxsize=256)
def hall_operations(symbol: str) -> Operations | None:
    """The group of a Hall symbol, ``-F 4vw 2vw 3``; None if it is none."""
    text = symbol.replace("_", " ").replace("″", '"').replace("′", "'").strip()
    match = re.fullmatch(r"(-?)\s*([PABCIRHFpabcirhf])\s*((?:[^()\s]+\s*)*)(?:\(([^()]*)\))?", text)
    if match is None or len(text) > 80:
        return None
    rows = [_row(np.eye(3, dtype=np.int64), np.array(t) * _TWELFTH) for t in _CENTRINGS[match[2].upper()]]
    if match[1]:
        rows.append(_row(-np.eye(3, dtype=np.int64), np.zeros(3, dtype=np.int64)))
    order, axis = 0, "z"
    for place, word in enumerate(match[3].split()):
        read = _hall_rotation(word.lower(), place, order, axis)
        if read is None:
            return None
        rotation, translation, order, axis = read
        rows.append(_row(rotation, translation))
    basis = _hall_basis(match[4])
    if basis is None:
        return None
    rows = [_transformed(row, *basis) for row in rows]
    lattice = np.rint(basis[0].T * UNIT).astype(np.int64)  # the old lattice vectors may be centrings of the new cell
    rows += [_row(np.eye(3, dtype=np.int64), vector) for vector in lattice]
    try:
        return generate(np.array(rows))
    except StructureError:
        return None


def _hall_rotation(
    word: str, place: int, before: int, axis: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, str] | None:
    """Rotation and translation of a word of a Hall symbol, its order and its axis."""
    match = re.fullmatch(r"(-?)([12346])([1-5]?)([xyz'\"*]?)([1-5]?)([abcnuvwd]*)", word)
    if match is None or (match[3] and match[5]):
        return None
    minus, order, where, screw, letters = match[1], int(match[2]), match[4] or None, match[3] or match[5], match[6]
    if where is None:
        if place == 0 or order == 1:
            where = "z"
        elif order == 2:
            where = "x" if before in (2, 4) else "'" if before in (3, 6) else "z"
        else:
            where = "*" if order == 3 else "z"
    if where in "xyz":
        rotation = _turned(_AROUND_Z[order], where)
    elif where == "*" and order == 3:
        rotation = np.array(_BODY_DIAGONAL)
    elif where in _FACE_DIAGONAL and order == 2:
        rotation = _turned(_FACE_DIAGONAL[where], axis)
    else:
        return None
    translation = np.zeros(3, dtype=np.int64)
    for letter in letters:
        translation += _SHIFTS[letter]
    if screw:
        if where not in "xyz" or int(screw) >= order:
            return None
        translation["xyz".index(where)] += 12 * int(screw) // order
    return (-rotation if minus else rotation), translation * _TWELFTH, order, where if where in "xyz" else axis


def _turned(matrix: list[list[int]], axis: str) -> NDArray[np.int64]:
    """A rotation around z as the same around another axis, by exchanging the axes in a cycle."""
    by = {"z": 0, "x": 1, "y": 2}[axis]
    return np.roll(np.array(matrix), (by, by), axis=(0, 1))


def _hall_basis(text: str | None) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """Change of basis x' = Vx + v of a Hall symbol: ``(0 0 1)`` in twelfths, or ``(x,y,z+1/4)``."""
    if text is None:
        return np.eye(3), np.zeros(3, dtype=np.int64)
    if re.fullmatch(r"\s*(-?\d+)\s+(-?\d+)\s+(-?\d+)\s*", text):
        return np.eye(3), np.array([int(x) for x in text.split()]) * _TWELFTH
    matrix, shift = np.zeros((3, 3)), np.zeros(3, dtype=np.int64)
    parts = re.sub(r"\s", "", text.lower()).split(",")
    if len(parts) != 3:
        return None
    for i, part in enumerate(parts):
        terms = re.findall(r"([+-]?)(?:(\d+)(?:/(\d+))?)?\*?([xyz])?", part)
        if "".join("".join((s, a, "/" + b if b else "", x)) for s, a, b, x in terms) != part.replace("*", ""):
            return None
        for sign, above, below, letter in terms:
            if not above and not letter:
                continue
            if below and not int(below):
                return None
            value = (-1 if sign == "-" else 1) * int(above or 1) / int(below or 1)
            if letter:
                matrix[i, "xyz".index(letter)] += value
            else:
                shift[i] += round(value * UNIT)
    return (matrix, shift) if abs(np.linalg.det(matrix)) > 1e-6 else None


def _transformed(row: NDArray[np.int64], matrix: NDArray[np.float64], shift: NDArray[np.int64]) -> NDArray[np.int64]:
    rotation, translation = row[:9].reshape(3, 3), row[9:12]
    inverse = np.linalg.inv(matrix)
    turned = np.rint(matrix @ rotation @ inverse).astype(np.int64)
    moved = np.rint(matrix @ translation).astype(np.int64) + shift - turned @ shift
    return _row(turned, moved)

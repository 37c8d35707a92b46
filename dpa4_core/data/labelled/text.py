"""Extended XYZ, plain or compressed, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dpa4_core.data.bounded import bounded_lines, open_bytes, text_of
from dpa4_core.data.formats import stem
from dpa4_core.data.frame import BrokenFrame, Frame, LabelKeys, attempt, broken_rest, frame_of_atoms
from dpa4_core.data.identifiers import identifier
from dpa4_core.data.parse_errors import PARSE_ERRORS
from dpa4_core.data.xyz import xyz_frame, xyz_frames


def read_xyz(path: Path, keys: LabelKeys, source: str) -> Iterator[Frame | BrokenFrame]:
    """Frames in order of the file; only one is in memory."""
    names: set[str] = set()  # a trajectory repeats the identifier of its system
    number = 0
    try:
        with open_bytes(path) as stream, text_of(stream) as text:
            for number, lines in enumerate(xyz_frames(bounded_lines(text))):
                name = f"{stem(path)}:{number}"
                yield attempt(name, source, partial(_frame, lines, keys, name, source, names), "XYZ")
    except PARSE_ERRORS as error:
        yield broken_rest(f"{stem(path)}:{number}", source, error, "XYZ")


def _frame(lines: list[str], keys: LabelKeys, name: str, source: str, names: set[str]) -> Frame:
    atoms = xyz_frame(lines)
    label = identifier(atoms.info, name)
    if label in names:
        label = f"{label}:{name.rpartition(':')[2]}"
    names.add(label)
    return frame_of_atoms(atoms, keys, name=label, source=source)

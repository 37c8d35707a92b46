"""Frames of (extended) XYZ: one parser for structures and for training data."""

from __future__ import annotations

import io
from collections.abc import Iterator

import ase.io
from ase import Atoms

from dpa4_core.data.system import StructureError


def xyz_frames(stream: Iterator[str]) -> Iterator[list[str]]:
    """Lines of each frame. A line that holds one integer, and is no comment, begins a new one."""
    frame: list[str] = []
    for line in stream:
        is_comment = len(frame) == 1 and _is_count(frame[0])
        if _is_count(line) and not is_comment:
            if frame:
                yield frame
            frame = []
        if frame or line.strip():
            frame.append(line)
    if frame:
        yield frame


def _is_count(line: str) -> bool:
    return line.strip().isdecimal()


def xyz_frame(lines: list[str]) -> Atoms:
    """The atoms of one frame of an (extended) XYZ file."""
    if not _is_count(lines[0]):
        raise StructureError(f"the frame begins with {lines[0].strip()[:40]!r} and not with the number of atoms")
    n_atoms = int(lines[0])
    n_found = sum(bool(line.strip()) for line in lines[2:])
    if n_found < n_atoms or n_atoms == 0:
        raise StructureError(f"the frame announces {n_atoms} atoms and holds {n_found}")
    atoms = ase.io.read(io.StringIO("".join(lines)), format="extxyz")
    assert isinstance(atoms, Atoms)  # one, not a list, by the default index
    return atoms

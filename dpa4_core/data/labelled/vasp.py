"""VASP's ``vasprun.xml`` and ``OUTCAR``, every ionic step, through ASE.

The energy is E0, extrapolated to zero smearing, as in the Materials Project and in most data sets; VASP's forces belong
to the free energy, which differs by a few meV/atom in metals. ASE turns the sign of the stress and its unit, kbar.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import ase.io
from ase import Atoms

from dpa4_core.data.formats import read_text
from dpa4_core.data.frame import BrokenFrame, Frame, LabelKeys, attempt, broken_rest, frame_of_atoms
from dpa4_core.data.parse_errors import PARSE_ERRORS


def read_vasprun(path: Path, keys: LabelKeys, source: str) -> Iterator[Frame | BrokenFrame]:
    """Ionic steps of a ``vasprun.xml``; of a run that was cut off those that are complete."""
    return _steps(path, keys, source, "vasp-xml")


def read_outcar(path: Path, keys: LabelKeys, source: str) -> Iterator[Frame | BrokenFrame]:
    """Ionic steps of an ``OUTCAR``."""
    return _steps(path, keys, source, "vasp-out")


def _steps(path: Path, keys: LabelKeys, source: str, kind: str) -> Iterator[Frame | BrokenFrame]:
    number = 0
    try:
        stream = io.StringIO(read_text(path))
        stream.name = str(path)  # ASE looks for fixed atoms in the folder of the OUTCAR
        for atoms in ase.io.iread(stream, ":", format=kind):
            name = f"{path.parent.name}/{path.name}:{number}"
            yield attempt(name, source, partial(_frame, atoms, keys, name, source))
            number += 1
    except PARSE_ERRORS as error:
        form = "vasprun.xml" if kind == "vasp-xml" else "OUTCAR"
        yield broken_rest(f"{path.parent.name}/{path.name}:{number}", source, error, form)


def _frame(atoms: Atoms, keys: LabelKeys, name: str, source: str) -> Frame:
    return frame_of_atoms(atoms, keys, name=name, source=source)

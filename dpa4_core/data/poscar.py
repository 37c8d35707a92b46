"""VASP's POSCAR and CONTCAR."""

from __future__ import annotations

import io

import ase.io
from ase import Atoms


def poscar_atoms(content: str) -> Atoms:
    """The atoms of a POSCAR."""
    atoms = ase.io.read(io.StringIO(content), format="vasp")
    assert isinstance(atoms, Atoms)  # one, not a list, by the default index
    return atoms

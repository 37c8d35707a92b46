"""POSCAR files of every age: the elements are the file's own, and what is missing is said."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms, FixScaled

from dpa4_core.data.isotopes import ISOTOPE_MASSES
from dpa4_core.data.readers import NamedStructure, read_structures
from dpa4_core.data.structures import to_system

POSCAR = """{title}
1.0
4.2 0 0
0 4.2 0
0 0 4.2
{species}{counts}
Direct
"""
SITES = ["0 0 0", "0 .5 .5", ".5 0 .5", ".5 .5 0", ".5 .5 .5", ".5 0 0", "0 .5 0", "0 0 .5"]


def _read(
    path: Path, title: str, species: str = "", counts: str = "4 4", sites: list[str] | None = None
) -> NamedStructure:
    species = f"{species}\n" if species else ""
    path.write_text(POSCAR.format(title=title, species=species, counts=counts) + "\n".join(sites or SITES) + "\n")
    (entry,) = read_structures(path)
    return entry


@pytest.mark.parametrize("title", ["rock salt", "", "No 5", "I made this", "Mg2 O3 C5", "MgO2", "Mg O from Fe", "4 4"])
def test_a_file_without_elements_says_what_to_add(tmp_path: Path, title: str) -> None:
    error = str(_read(tmp_path / "POSCAR", title).error)
    assert "does not say which elements it holds; add a line with 2 element symbols" in error
    assert "before the line with the numbers of atoms (4 4)" in error and "Error" not in error


@pytest.mark.parametrize("title", ["Mg O", "Mg  O  ! rock salt", "MgO", "Mg4O4", "Mg_pv O"])
def test_elements_of_vasp_4_stand_alone_in_the_title(tmp_path: Path, title: str) -> None:
    entry = _read(tmp_path / "POSCAR", title)
    assert entry.error is None and entry.structure.get_chemical_formula() == "Mg4O4"


def test_elements_may_stand_behind_the_coordinates(tmp_path: Path) -> None:
    sites = [f"{site} {symbol}" for site, symbol in zip(SITES, ["Mg"] * 4 + ["O"] * 4, strict=True)]
    entry = _read(tmp_path / "POSCAR", "rock salt", sites=sites)
    assert entry.error is None and entry.structure.get_chemical_formula() == "Mg4O4"
    assert _read(tmp_path / "POSCAR", "rock salt", sites=sites[:7] + SITES[7:]).error is not None


@pytest.mark.parametrize("species", ["Mg O", "Mg_pv O_s", "Mg_pv/6a2f546d O/91", "Mg1 O2-"])
def test_labels_of_species_are_their_elements(tmp_path: Path, species: str) -> None:
    entry = _read(tmp_path / "a.vasp", "No title", species)
    assert entry.error is None and entry.structure.get_chemical_formula() == "Mg4O4"


def test_isotopes_are_hydrogen_with_their_mass(tmp_path: Path) -> None:
    entry = _read(tmp_path / "POSCAR", "lithium deuteride", "Li D")
    assert entry.error is None and entry.structure.get_chemical_formula() == "H4Li4"
    np.testing.assert_allclose(entry.structure.get_masses(), [6.94] * 4 + [ISOTOPE_MASSES["D"]] * 4)


@pytest.mark.parametrize(
    ("species", "counts", "sentence"),
    [
        ("Mg O Li", "4 4", "names 3 elements (Mg O Li) and 2 numbers of atoms"),
        ("Mg", "4 4", "names 1 elements (Mg) and 2 numbers of atoms"),
        ("Mg Qq", "4 4", "'Qq' is no element"),
        ("Mg O", "4 5", "the file ends where the coordinates of atom 8 should stand"),
        ("Mg O", "four 4", "the numbers of atoms are missing where 'four 4' stands"),
        ("Mg O", "0 0", "the file announces 0 atoms"),
        ("Mg O", "99999999 4", "the file announces 100000003 atoms"),
    ],
)
def test_what_does_not_add_up_is_said(tmp_path: Path, species: str, counts: str, sentence: str) -> None:
    error = str(_read(tmp_path / "POSCAR", "x", species, counts).error)
    assert sentence in error and "Error:" not in error


def test_broken_numbers_are_named(tmp_path: Path) -> None:
    assert "the coordinates of atom 1 should be 3 numbers and is '0 x .5'" in str(
        _read(tmp_path / "POSCAR", "x", "Mg O", sites=["0 0 0", "0 x .5", *SITES[2:]]).error
    )
    (tmp_path / "POSCAR").write_text("x\n1.0\n4.2 0\n")
    assert "lattice vector 1 should be 3 numbers" in str(read_structures(tmp_path / "POSCAR")[0].error)
    (tmp_path / "POSCAR").write_text("x\n1.0\n4.2 0 0\n")
    assert "the file ends where lattice vector 2 should stand" in str(read_structures(tmp_path / "POSCAR")[0].error)


@pytest.mark.parametrize(
    ("yes", "no"), [("T", "F"), ("t", "f"), (".TRUE.", ".FALSE."), (".T.", ".F."), ("true", "false")]
)
def test_selective_dynamics_in_every_spelling_of_fortran(tmp_path: Path, yes: str, no: str) -> None:
    flags = [f"{no} {no} {no}", f"{yes} {yes} {no}", *[f"{yes} {yes} {yes}"] * 6]
    sites = [f"{site} {flag}" for site, flag in zip(SITES, flags, strict=True)]
    entry = _read(tmp_path / "POSCAR", "x", "Mg O", "4 4\nSelective dynamics", sites=sites)
    assert entry.error is None
    fixed = to_system(entry.structure).fixed
    assert fixed.sum() == 4 and fixed[0].all() and fixed[1].tolist() == [False, False, True]


def test_flags_that_are_none_are_refused(tmp_path: Path) -> None:
    entry = _read(tmp_path / "POSCAR", "x", "Mg O", "4 4\nSelective dynamics", sites=[f"{site} T T" for site in SITES])
    assert "selective dynamics of atom 0 is 'T T'; give three of T and F" in str(entry.error)


@pytest.mark.parametrize(
    ("scale", "factors"), [("2.0", [2, 2, 2]), ("1.0 2.0 3.0", [1, 2, 3]), ("-592.704", [2, 2, 2])]
)
@pytest.mark.parametrize("mode", ["Direct", "Cartesian", "kartesisch"])
def test_scales_apply_to_cell_and_cartesian_coordinates(
    tmp_path: Path, scale: str, factors: list[int], mode: str
) -> None:
    text = POSCAR.format(title="x", species="Mg O\n", counts="1 1").replace("\n1.0\n", f"\n{scale}\n")
    rows = ["0 0 0", "0.5 0.5 0.5"] if mode == "Direct" else ["0 0 0", "2.1 2.1 2.1"]
    (tmp_path / "POSCAR").write_text(text.replace("Direct", mode) + "\n".join(rows))
    (entry,) = read_structures(tmp_path / "POSCAR")
    np.testing.assert_allclose(entry.structure.cell, np.diag(factors) * 4.2, rtol=1e-9)
    np.testing.assert_allclose(entry.structure.positions[1], 2.1 * np.array(factors), rtol=1e-9)


@pytest.mark.parametrize("direct", [True, False])
def test_what_ase_writes_is_read_as_by_ase(tmp_path: Path, direct: bool) -> None:
    atoms = bulk("MgO", "rocksalt", a=4.2)
    atoms.rattle(0.1, seed=1)
    atoms.set_constraint([FixAtoms([1]), FixScaled(0, (True, False, False))])
    atoms.set_velocities(np.arange(6.0).reshape(2, 3))
    ase.io.write(tmp_path / "POSCAR", atoms, format="vasp", direct=direct)
    theirs = ase.io.read(tmp_path / "POSCAR")
    assert isinstance(theirs, Atoms)
    (entry,) = read_structures(tmp_path / "POSCAR")
    assert entry.structure.symbols.get_chemical_formula() == theirs.symbols.get_chemical_formula()
    np.testing.assert_allclose(entry.structure.cell, theirs.cell)
    np.testing.assert_allclose(entry.structure.positions, theirs.positions)
    np.testing.assert_allclose(entry.structure.get_velocities(), theirs.get_velocities())
    np.testing.assert_array_equal(to_system(entry.structure).fixed, to_system(theirs).fixed)


def test_the_state_of_a_thermostat_is_no_velocity(tmp_path: Path) -> None:
    lattice = "Lattice velocities and vectors\n  1\n" + " 0 0 0\n" * 3 + " 4.2 0 0\n 0 4.2 0\n 0 0 4.2\n"
    entry = _read(tmp_path / "CONTCAR", "x", "Mg O", sites=[*SITES, lattice, *["0.01 0 0"] * 8])
    assert entry.error is None and entry.structure.get_velocities()[3, 0] > 0
    entry = _read(tmp_path / "CONTCAR", "x", "Mg O", sites=[*SITES, "", "1", "0.5", "1 2 3"])
    assert entry.error is None and not entry.structure.get_velocities().any()

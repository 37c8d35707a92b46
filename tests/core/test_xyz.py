"""Frames of extended XYZ: what a key or a species is called does not decide what is computed."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian
from labelled_files import summarise

from dpa4_core.data.frames import BrokenFrame, Frame, LabelKeys, read_frames
from dpa4_core.data.isotopes import ISOTOPE_MASSES
from dpa4_core.data.readers import read_structures
from dpa4_core.data.species import element_of
from dpa4_core.data.structures import to_system
from dpa4_core.data.system import StructureError

ROWS = """Mg 0 0 0 0.1 0 -0.1
Mg 0 2.1 2.1 0.1 0 -0.1
Mg 2.1 0 2.1 0.1 0 -0.1
Mg 2.1 2.1 0 0.1 0 -0.1
O 2.1 2.1 2.1 -0.1 0 0.1
O 2.1 0 0 -0.1 0 0.1
O 0 2.1 0 -0.1 0 0.1
O 0 0 2.1 -0.1 0 0.1
"""
VOLUME = 4.2**3
"""Å³."""
CELL = "4.2 0 0 0 4.2 0 0 0 4.2"


def _frame(path: Path, comment: str, rows: str = ROWS, keys: LabelKeys | None = None) -> Frame:
    path.write_text(f"{len(rows.splitlines())}\n{comment}\n{rows}")
    (frame,) = read_frames(path, keys)
    assert isinstance(frame, Frame), frame
    return frame


@pytest.mark.parametrize(
    "comment",
    [
        f'energy=-47.0 lattice="{CELL}" virial="0.5 0 0 0 0.5 0 0 0 0.5" properties=species:S:1:pos:R:3:force:R:3',
        f'ENERGY=-47.0 LATTICE="{CELL}" VIRIAL="0.5 0 0 0 0.5 0 0 0 0.5" PROPERTIES=Species:S:1:Pos:R:3:Force:R:3',
        f'Energy=-47.0 Lattice="{CELL}" Virials={{0.5 0 0 0 0.5 0 0 0 0.5}} Properties=species:S:1:pos:R:3:Forces:R:3',
        f'Ref_Energy=-47.0 lattice="{CELL}" ref_virial=[0.5,0,0,0,0.5,0,0,0,0.5] '
        "properties=species:S:1:pos:R:3:REF_forces:R:3",
        f'energy = -47 lattice="{CELL}" stress="{" ".join([str(-0.5 / VOLUME)] * 3)} 0 0 0" '
        "properties=species:S:1:pos:R:3:forces:R:3 PBC='T T T'",
    ],
)
def test_labels_and_cell_are_found_in_any_case(tmp_path: Path, comment: str) -> None:
    frame = _frame(tmp_path / "train.xyz", comment)
    (entry,) = read_structures(tmp_path / "train.xyz")
    assert entry.error is None and to_system(entry.structure).periodic
    assert entry.structure.get_volume() == pytest.approx(VOLUME)
    assert frame.energy == -47.0
    assert frame.forces is not None and frame.stress is not None
    np.testing.assert_array_equal(frame.forces[:2], [[0.1, 0, -0.1]] * 2)
    np.testing.assert_allclose(frame.stress, -0.5 / VOLUME * np.eye(3), atol=1e-12)
    assert frame.left_out == frame.look_alikes == ()


def test_of_two_spellings_the_usual_one_counts(tmp_path: Path) -> None:
    comment = f'Energy=1 energy=-47.0 lattice="9 0 0 0 9 0 0 0 9" Lattice="{CELL}" properties=species:S:1:pos:R:3'
    frame = _frame(tmp_path / "a.xyz", comment)
    assert frame.energy == -47.0
    assert abs(np.linalg.det(frame.system.cell)) == pytest.approx(VOLUME)


@pytest.mark.parametrize(
    ("key", "label", "value"),
    [
        ("energy_dft", "energy", "-47"),
        ("TotEnergy", "energy", "-47"),
        ("E0", "energy", "-47"),
        ("energy_per_atom", "energy", "-5"),
        ("dft_stress_tensor", "stress", '"0 0 0 0 0 0 0 0 0"'),
    ],
)
def test_keys_that_look_like_a_missing_label_are_a_doubt(tmp_path: Path, key: str, label: str, value: str) -> None:
    frame = _frame(tmp_path / "a.xyz", f'Lattice="{CELL}" {key}={value} Properties=species:S:1:pos:R:3')
    assert (label, key) in frame.look_alikes
    doubts = summarise([frame] * 3).warnings
    assert any(f"3 of 3 frames have no {label} but {key!r}" in doubt for doubt in doubts)
    if label == "energy":
        assert _frame(tmp_path / "a.xyz", f"{key}={value}", keys=LabelKeys(energy=key)).energy is not None


def test_columns_that_look_like_forces_are_a_doubt(tmp_path: Path) -> None:
    frame = _frame(tmp_path / "a.xyz", f'Lattice="{CELL}" energy=1 Properties=species:S:1:pos:R:3:forces_dft:R:3')
    assert ("forces", "forces_dft") in frame.look_alikes


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Mg", 12),
        ("mg", 12),
        ("MG", 12),
        ("12", 12),
        ("Mg1", 12),
        ("O2", 8),
        ("O2-", 8),
        ("Fe3+", 26),
        ("Fe_pv", 26),
        ("C12B", 6),
        ("Na_pv/6a2f", 11),
        ("H*", 1),
        ("O-3", 8),
        ("Cl-", 17),
    ],
)
def test_labels_that_begin_with_a_symbol_are_that_element(text: str, number: int) -> None:
    assert element_of(text) == (number, None)


@pytest.mark.parametrize("text", ["Wat", "OH1", "Zz1", "T1", "mg1", "119", "0", "", "_", "Mg O", "³"])
def test_what_is_no_element_is_said(text: str) -> None:
    with pytest.raises(StructureError, match="is no element and no label"):
        element_of(text)


def test_labels_as_species_are_read_by_both_readers(tmp_path: Path) -> None:
    rows = "Mg1 0 0 0\nO1 1.5 1.5 1.5\n"
    frame = _frame(tmp_path / "a.extxyz", 'Lattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3', rows)
    (entry,) = read_structures(tmp_path / "a.extxyz")
    assert frame.system.numbers.tolist() == entry.structure.numbers.tolist() == [12, 8]
    (tmp_path / "a.extxyz").write_text("1\n\nWat 0 0 0\n")
    (entry,) = read_structures(tmp_path / "a.extxyz")
    (broken,) = read_frames(tmp_path / "a.extxyz")
    assert isinstance(broken, BrokenFrame)
    for error in (str(entry.error), broken.error):
        assert "'Wat' is no element" in error and "Error" not in error


@pytest.mark.parametrize("isotope", ["D", "T"])
def test_isotopes_are_hydrogen_with_their_mass(tmp_path: Path, isotope: str) -> None:
    (tmp_path / "a.xyz").write_text(f"3\n\nO 0 0 0\n{isotope} 0 0.76 0.5\nH 0 -0.76 0.5\n")
    (entry,) = read_structures(tmp_path / "a.xyz")
    assert entry.error is None
    assert entry.structure.numbers.tolist() == [8, 1, 1]
    np.testing.assert_allclose(entry.structure.get_masses(), [15.999, ISOTOPE_MASSES[isotope], 1.008])


def _rich() -> Atoms:
    atoms = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.set_tags(range(8))
    atoms.set_initial_magnetic_moments(np.linspace(-1, 1, 8))
    atoms.set_initial_charges(np.linspace(-2, 2, 8))
    atoms.set_masses(np.arange(8) + 10.0)
    atoms.set_momenta(np.ones((8, 3)))
    atoms.set_constraint([FixAtoms([0]), FixCartesian([3], (True, False, False))])
    atoms.new_array("site", np.array(["left", "right"] * 4))
    atoms.new_array("REF_forces", np.ones((8, 3)))
    atoms.info |= {"name": "rich", "charge": 1, "note": "a = b, 'c'", "on": True, "list": [1, 2], "odd": {"a": [1]}}
    atoms.info |= {"matrix": np.arange(9.0), "REF_energy": -3.5}
    results = {"energy": -40.0, "forces": np.ones((8, 3)) * 0.1, "stress": np.arange(6) * 0.01}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("atoms", [_rich(), molecule("H2O"), bulk("Cu")], ids=["rich", "molecule", "copper"])
def test_what_ase_writes_is_read_as_by_ase(tmp_path: Path, atoms: Atoms) -> None:
    ase.io.write(tmp_path / "a.extxyz", atoms)
    theirs = ase.io.read(tmp_path / "a.extxyz")
    (entry,) = read_structures(tmp_path / "a.extxyz")
    ours = entry.structure
    assert isinstance(theirs, Atoms) and entry.error is None
    assert ours == theirs and ours.info.keys() == theirs.info.keys() and ours.arrays.keys() == theirs.arrays.keys()
    for key, value in theirs.arrays.items():
        np.testing.assert_array_equal(ours.arrays[key], value)
        assert ours.arrays[key].dtype.kind == value.dtype.kind or value.dtype == object
    for key, value in theirs.info.items():
        np.testing.assert_array_equal(ours.info[key], value)
    np.testing.assert_array_equal(to_system(ours).fixed, to_system(theirs).fixed)
    mine, expected = (getattr(a.calc, "results", {}) for a in (ours, theirs))
    assert mine.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(mine[key], value)


@pytest.mark.parametrize(
    ("comment", "rows", "sentence"),
    [
        ('Lattice="1 2 3"', "H 0 0 0\n", "Lattice needs nine numbers"),
        ('Lattice="a 0 0 0 4 0 0 0 4"', "H 0 0 0\n", "Lattice needs nine numbers"),
        ("pbc=maybe", "H 0 0 0\n", "pbc needs three of T and F"),
        ("Properties=species:S:1:pos:R", "H 0 0 0\n", "is no list of name:type:columns"),
        ("Properties=species:S:1:pos:R:9999999", "H 0 0 0\n", "is no list of name:type:columns"),
        ("Properties=species:S:1:pos:Q:3", "H 0 0 0\n", "is no list of name:type:columns"),
        ("Properties=species:S:1:pos:R:3:forces:R:3", "H 0 0 0\n", "atom 0 has 4 columns, Properties announces 7"),
        ("Properties=pos:R:3", "0 0 0\n", "names no column of species"),
        ("Properties=species:S:1:pos:R:2", "H 0 0\n", "names no column of species"),
        ("", "H 0 0 nought\n", "the column 'pos' holds something that is no number"),
        ("Properties=species:S:1:pos:R:3:move_mask:L:2", "H 0 0 0 T T\n", "move_mask needs one or three columns"),
        ('x="_JSON {"', "H 0 0 0\n", "_JSON"),
    ],
)
def test_a_wrong_frame_gets_one_sentence(tmp_path: Path, comment: str, rows: str, sentence: str) -> None:
    (tmp_path / "a.xyz").write_text(f"1\n{comment}\n{rows}1\n\nHe 0 0 0\n")
    broken, good = read_structures(tmp_path / "a.xyz")
    assert sentence in str(broken.error) and "Error" not in str(broken.error)
    assert good.error is None


def test_words_of_a_title_name_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("1\nname and id of the first helium\nHe 0 0 0\n1\nid=7\nHe 0 0 0\n")
    assert [entry.name for entry in read_structures(tmp_path / "a.xyz")] == ["a:0", "7"]

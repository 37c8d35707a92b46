"""Every format, and one clear sentence for everything that is wrong with a file."""

from __future__ import annotations

import gzip
import json
import lzma
import pickle
import random
import sqlite3
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from pymatgen.core import Lattice, Molecule, Structure

from dpa4_core.data import formats, json_structures
from dpa4_core.data.readers import read_structures
from dpa4_core.data.structures import StructureError, to_system

ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
ROW = {
    "id": "LiCoO2-layered",
    "tags": "cathode Li",
    "structure": {
        "lattice": [[-1.42, -2.46, 0.0], [-2.84, 0.0, 0.0], [-1.42, -0.82, -4.68]],
        "species": ["Li", "O", "O", "Co"],
        "frac_coords": [[0.5, 0.5, 0.5], [0.26, 0.26, 0.22], [0.74, 0.74, 0.78], [0, 0, 0]],
    },
}
CIF = """data_{name}
_cell_length_a 4.2
_cell_length_b 4.2
_cell_length_c 4.2
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Li1 Li 0 0 0 {occupancy}
O1 O 0.5 0.5 0.5 1.0
"""


def _labelled(n: int = 1) -> list[Atoms]:
    frames = []
    for i in range(n):
        atoms = bulk("Cu", a=3.6 + 0.01 * i, cubic=True)
        atoms.calc = SinglePointCalculator(atoms, energy=-14.0 - i, forces=np.zeros((4, 3)), stress=np.zeros(6))
        frames.append(atoms)
    return frames


def _write(path: Path, content: Any) -> Path:
    opener: Any = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opener(path, "wt") as stream:
        stream.write(content if isinstance(content, str) else json.dumps(content))
    return path


def test_extended_xyz_keeps_labels_and_identifiers(tmp_path: Path) -> None:
    frames = _labelled(3)
    frames[1].info["task_id"] = frames[2].info["task_id"] = "mp-30"
    ase.io.write(tmp_path / "cu.extxyz", frames)
    entries = read_structures(tmp_path / "cu.extxyz")
    assert [entry.name for entry in entries] == ["cu:0", "mp-30", "mp-30:2"]
    assert [entry.structure.get_potential_energy() for entry in entries] == [-14.0, -15.0, -16.0]
    assert all(entry.error is None for entry in entries)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_compressed_text_is_read(tmp_path: Path, suffix: str) -> None:
    ase.io.write(tmp_path / "plain.xyz", molecule("H2O"))
    path = _write(tmp_path / f"water.xyz{suffix}", (tmp_path / "plain.xyz").read_text())
    (entry,) = read_structures(path)
    assert entry.name == "water"
    assert len(entry.structure) == 3


def test_broken_frames_leave_the_others_alone(tmp_path: Path) -> None:
    good = "1\nfirst\nH 0 0 0\n"
    short = "3\nshort\nH 0 0 0\nH 0 0 1\n"
    empty = "0\nnothing\n"
    words = "2\nwords\nH 0 0 0\nH zero 0 1\n"
    not_a_number = "1\nunknown place\nH 0 nan 0\n"
    path = _write(tmp_path / "mixed.xyz", good + short + empty + words + not_a_number + "2\n7\nH 0 0 0\nH 0 0 1\n")
    entries = read_structures(path)
    assert [entry.name for entry in entries] == [f"mixed:{i}" for i in range(6)]
    assert [entry.error is None for entry in entries] == [True, False, False, False, False, True]
    assert entries[1].error == f"{path}, mixed:1: the frame announces 3 atoms and holds 2"
    assert "announces 0 atoms" in str(entries[2].error)
    assert "position of atom 0 (H) is NaN" in str(entries[4].error)


def test_text_before_the_first_frame_is_one_bad_entry(tmp_path: Path) -> None:
    entries = read_structures(_write(tmp_path / "a.xyz", "hello world\n1\n\nH 0 0 0\n"))
    assert "begins with 'hello world'" in str(entries[0].error)
    assert entries[1].error is None


def test_every_block_of_a_cif_is_an_entry(tmp_path: Path) -> None:
    text = "data_global\n_journal 'none'\n" + CIF.format(name="one", occupancy=1.0)
    text += CIF.format(name="two", occupancy=0.5) + CIF.format(name="three", occupancy=1.0).replace("4.2", "wide")
    path = _write(tmp_path / "set.cif", text)
    good, partial, broken = read_structures(path)
    assert isinstance(good.structure, Structure)
    assert good.name == "set:one" and good.error is None
    assert str(partial.error).startswith(f"{path}, set:two: a site is partially occupied (Li")
    assert broken.structure is None and str(broken.error).startswith(f"{path}, set:three: ")


def test_cif_without_pymatgen_is_read_by_ase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "HAS_PYMATGEN", False)
    (entry,) = read_structures(_write(tmp_path / "a.cif", CIF.format(name="x", occupancy=1.0)))
    assert isinstance(entry.structure, Atoms)
    (entry,) = read_structures(_write(tmp_path / "b.cif", CIF.format(name="x", occupancy=0.5)))
    assert "partially occupied" in str(entry.error)


@pytest.mark.parametrize("name", ["POSCAR", "CONTCAR", "LiO.vasp", "POSCAR_LiO", "POSCAR-2", "LiO.poscar"])
def test_poscars_are_known_by_name(tmp_path: Path, name: str) -> None:
    atoms = bulk("MgO", "rocksalt", a=4.2)
    atoms.set_constraint(FixAtoms([1]))
    ase.io.write(tmp_path / name, atoms, format="vasp")
    (entry,) = read_structures(tmp_path / name)
    assert entry.error is None
    assert to_system(entry.structure).fixed.tolist() == [[False] * 3, [True] * 3]


def test_rows_of_a_json_list_keep_their_identifier(tmp_path: Path) -> None:
    rows = [ROW, {"structure": ROCKSALT.as_dict()}, {"name": "bad", "structure": {"lattice": 3}}, 7]
    entries = read_structures(_write(tmp_path / "rows.json.gz", rows))
    assert [entry.name for entry in entries] == ["LiCoO2-layered", "rows:1", "bad", "rows:3"]
    assert entries[0].structure.composition.reduced_formula == "LiCoO2"
    assert entries[1].structure == ROCKSALT
    assert entries[2].error is not None and entries[3].error is not None


def test_json_of_pymatgen_may_be_one_structure_a_list_or_a_mapping(tmp_path: Path) -> None:
    water = Molecule(["O", "H", "H"], [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])
    (single,) = read_structures(_write(tmp_path / "mgo.json", ROCKSALT.as_dict()))
    assert single.name == "mgo" and single.structure == ROCKSALT
    both = read_structures(_write(tmp_path / "list.json", [ROCKSALT.as_dict(), water.as_dict()]))
    assert [type(entry.structure) for entry in both] == [Structure, Molecule]
    (named,) = read_structures(_write(tmp_path / "map.json", {"rocksalt": ROCKSALT.as_dict()}))
    assert named.name == "rocksalt" and named.structure == ROCKSALT
    atoms = ROCKSALT.to_ase_atoms()
    (mson,) = read_structures(_write(tmp_path / "mson.json", atoms.as_dict()))
    np.testing.assert_allclose(mson.structure.positions, atoms.positions)


def test_rows_without_pymatgen_become_atoms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_structures, "HAS_PYMATGEN", False)
    row, theirs = read_structures(_write(tmp_path / "rows.json", [ROW, ROCKSALT.as_dict()]))
    assert row.structure.get_chemical_formula() == "CoLiO2" and row.structure.pbc.all()
    assert "pip install pymatgen" in str(theirs.error)


@pytest.mark.parametrize("name", ["rows.db", "rows.json"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ase_databases_are_read_by_row(tmp_path: Path, name: str) -> None:
    with ase.db.connect(tmp_path / name) as database:
        database.write(_labelled()[0], name="copper")
        database.write(molecule("H2O"))
    entries = read_structures(tmp_path / name)
    assert [entry.name for entry in entries] == ["copper", "rows:2"]
    assert entries[0].structure.get_potential_energy() == -14.0


def test_foreign_databases_are_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (a)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StructureError, match="not one of ASE"):
        read_structures(path)
    assert path.read_bytes() == before


def test_trajectories_are_read_by_frame(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "md.traj", _labelled(2))
    entries = read_structures(tmp_path / "md.traj")
    assert [entry.name for entry in entries] == ["md:0", "md:1"]
    assert entries[1].structure.get_potential_energy() == -15.0


def test_a_folder_gives_all_its_files_in_order(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "b.xyz", molecule("H2O"))
    _write(tmp_path / "a.cif", CIF.format(name="x", occupancy=1.0))
    (tmp_path / "c.json").write_text("")
    (tmp_path / "notes.txt").write_text("not a structure")
    (tmp_path / ".hidden.xyz").write_text("1\n\nH 0 0 0\n")
    entries = read_structures(tmp_path)
    assert [entry.name for entry in entries] == ["a", "b", "c"]
    assert "c.json is empty" in str(entries[2].error)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.cif", None, "there is no file"),
        ("empty.xyz", b"", "is empty"),
        ("atoms.pkl", pickle.dumps([1]), "is a pickle"),
        ("atoms.xyz.pickle", b"x", "is a pickle"),
        ("notes.txt", b"hello", "no known format"),
        ("blank.xyz", b"\n\n\n", "holds no structure"),
        ("list.json", b"[]", "holds no structure"),
        ("number.json", b"3", "holds no structure"),
        ("cut.json", b'[{"structure": ', "cut.json: the text is not valid JSON from line 1, column 16 on"),
        ("deep.json", b"[" * 100_000, "deep.json: lists and mappings lie more than 100 deep"),
        ("words.cif", b"just words", "holds no structure"),
        ("cut.xyz.gz", gzip.compress(b"1\n\nH 0 0 0\n", mtime=0)[:-9], "cannot be read: the text ends early"),
        ("fake.json.gz", b"{}", "cannot be read: the compressed text is damaged or not compressed in this way"),
        ("fake.xz", b"abc", "no known format"),
        ("fake.json.xz", b"abc", "cannot be read: the compressed text is damaged or not compressed in this way"),
        ("fake.db", b"not a database, only text of some length", "cannot be read: the database is damaged or none"),
        ("fake.traj", b"not a trajectory at all", "the file is no trajectory of ASE"),
        ("rows.db.gz", b"x", "no known format"),
    ],
)
def test_unusable_files_are_told_in_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StructureError, match=sentence) as refusal:
        read_structures(tmp_path / name)
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="no file of structures"):
        read_structures(tmp_path)


@pytest.mark.parametrize("suffix", ["cif", "vasp", "extxyz", "json", "db", "traj", "xyz.gz"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_damaged_files_never_raise_anything_else(tmp_path: Path, suffix: str) -> None:
    intact = tmp_path / f"intact.{suffix}"
    if suffix == "cif":
        intact.write_text(CIF.format(name="x", occupancy=1.0))
    elif suffix == "json":
        _write(intact, [ROW, ROCKSALT.as_dict()])
    else:
        ase.io.write(intact, _labelled(1))
    content = intact.read_bytes()
    rng = random.Random(suffix)
    for trial in range(40):
        damaged = bytearray(content)
        if trial % 2:
            damaged = damaged[: rng.randrange(1, len(damaged))]
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.choice(b"0-. x\n\x00\xffZ9")
        path = tmp_path / f"damaged{trial}.{suffix}"
        path.write_bytes(bytes(damaged))
        try:
            entries = read_structures(path)
        except StructureError as error:
            assert str(path.name) in str(error) and "\n" not in str(error)
        else:
            assert all(entry.error is None or path.name in entry.error for entry in entries)

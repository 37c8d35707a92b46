"""No file runs code, stops a run or eats the machine; what is wrong with it is one sentence."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sqlite3
import struct
import sys
import tarfile
import zlib
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import lmdb
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian, FixScaled, Hookean
from ase.io.jsonio import encode
from monty.json import MontyDecoder
from pymatgen.core import Lattice, Molecule, Structure

from dpa4_core.data import bounded
from dpa4_core.data.bounded import DEEPEST_JSON, storable
from dpa4_core.data.frames import read_frames
from dpa4_core.data.labelled.lmdb_pages import open_lmdb
from dpa4_core.data.plain_fields import plain_value, structure_of_fields
from dpa4_core.data.readers import iter_structures, read_structures
from dpa4_core.data.structures import StructureError, constraint_problem, to_system

ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg2+", "O2-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CELL = {"lattice": [[3.6, 0, 0], [0, 3.6, 0], [0, 0, 3.6]], "species": ["Cu"], "frac_coords": [[0, 0, 0]]}
IMPORT = {"@module": "antigravity", "@class": "geohash"}
"""A recipe that opens a browser when the module is imported."""


def _json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def _errors(path: Path) -> list[str | None]:
    return [named.error for named in iter_structures(path)]


# ---- no code -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["site", "structure", "species", "lattice", "row", "label", "magmom"])
def test_a_recipe_of_an_object_in_json_is_never_followed(tmp_path: Path, where: str) -> None:
    data = json.loads(json.dumps(ROCKSALT.as_dict()))
    target = {
        "site": data["sites"][0]["properties"],
        "structure": data["properties"],
        "species": data["sites"][0]["species"][0],
        "lattice": data["lattice"],
        "row": data,
        "label": data["sites"][1],
        "magmom": data["sites"][0]["properties"],
    }[where]
    target[{"label": "label", "magmom": "magmom"}.get(where, "extra")] = IMPORT
    (entry,) = read_structures(_json(tmp_path / "a.json", data))
    assert "antigravity" not in sys.modules
    assert entry.structure.composition == ROCKSALT.composition
    assert "@class" not in json.dumps([entry.structure.properties, entry.structure.site_properties])


def test_what_is_written_again_builds_no_object_either(tmp_path: Path) -> None:
    data = {**ROCKSALT.as_dict(), "properties": {"x": [IMPORT], "deep": {"y": {"$oid": "1", "z": 3}}}}
    structure = read_structures(_json(tmp_path / "a.json", data))[0].structure
    again = MontyDecoder().process_decoded(json.loads(json.dumps(structure.as_dict())))
    assert "antigravity" not in sys.modules
    assert again.properties == {"x": [{}], "deep": {"y": {"z": 3}}}


def test_comments_of_extended_xyz_carry_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(
        '1\nProperties=species:S:1:pos:R:3 x="_JSON ' + json.dumps(IMPORT).replace('"', '\\"') + '"\nH 0 0 0\n'
    )
    (entry,) = read_structures(tmp_path / "a.xyz")
    assert "@class" not in json.dumps(entry.structure.info)


@pytest.mark.filterwarnings("ignore:Structure charge")
def test_structures_from_plain_fields_are_those_of_pymatgen() -> None:
    spins = ROCKSALT.copy(site_properties={"magmom": [1.5] * 8, "selective_dynamics": [[True, False, True]] * 8})
    mixed = Structure(Lattice.hexagonal(3, 5), [{"Fe": 0.5, "Mn3+": 0.5}, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]], charge=1)
    slab = Structure(Lattice(np.diag([3, 3, 20]), pbc=(True, True, False)), ["Cu"], [[0, 0, 0]], labels=["Cu1"])
    water = Molecule(["O", "H", "H"], [[0, 0, 0], [1, 0, 0], [0, 1, 0]], charge=1)
    for structure in (spins, mixed, slab, water):
        data = json.loads(json.dumps(structure.as_dict()))
        assert structure_of_fields(data) == structure
        assert structure_of_fields(data).as_dict() == type(structure).from_dict(data).as_dict()


def test_arrays_and_moments_that_were_objects_become_numbers() -> None:
    moment = {"@module": "pymatgen.electronic_structure.core", "@class": "Magmom", "moment": 2.5, "saxis": [0, 0, 1]}
    array = {"@module": "numpy", "@class": "array", "dtype": "float64", "data": [1.0, 2.0]}
    assert plain_value({"m": moment, "a": array, "t": "fine", "n": None}) == {
        "m": 2.5, "a": [1.0, 2.0], "t": "fine", "n": None,
    }  # fmt: skip


def test_a_constraint_is_data_and_others_are_refused_by_name(tmp_path: Path) -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.set_constraint([FixAtoms([0]), FixCartesian(1, [True, False, False]), FixScaled(2, [0, 0, 1])])
    springs = bulk("Cu", cubic=True)
    springs.set_constraint(Hookean(0, 1, 3.0, 2.0))
    ase.io.write(tmp_path / "a.traj", [atoms, springs])
    with ase.db.connect(tmp_path / "a.db") as database:
        database.write(atoms)
        database.write(springs)
    for name in ("a.traj", "a.db"):
        fixed, bound = read_structures(tmp_path / name)
        assert to_system(fixed.structure).fixed.tolist() == to_system(atoms).fixed.tolist()
        assert "Hookean is not supported" in str(constraint_problem(bound.structure))
    evil = {"name": "FixCartesianParametricRelations", "kwargs": {"expressions": ["10**10**10"]}}
    row = {"numbers": [29], "positions": [[0, 0, 0]], "constraints": [evil]}
    (entry,) = read_structures(_json(tmp_path / "a.json", {"1": row, "ids": [1], "nextid": 2}))
    assert "FixCartesianParametricRelations' is not read from files; remove it" in str(entry.error)


def test_a_worker_imports_nothing_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    from dpa4_flows.large.launch import Resources, _start

    monkeypatch.chdir(tmp_path)
    order = {"folder": str(tmp_path / "nowhere"), "resources": {"device": "cpu"}}
    assert _start(order, Resources("cpu", threads=1), tmp_path / "log").wait() != 0
    assert "nowhere is not the folder of a run" in (tmp_path / "log").read_text()  # so far it came


# ---- one entry fails alone ------------------------------------------------------------------------------------------


def test_counts_that_differ_are_one_sentence_and_leave_the_others_alone(tmp_path: Path) -> None:
    rows = [CELL, {**CELL, "species": ["Cu", "Cu"]}, {**CELL, "frac_coords": [[0, 0, 0], [0.5] * 3]}, CELL]
    first, few, many, last = _errors(_json(tmp_path / "a.json", rows))
    assert first is None and last is None
    assert str(few).endswith("there are 2 species and 1 coordinates; give one of each per site")
    assert str(many).endswith("there are 1 species and 2 coordinates; give one of each per site")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lattice": 3}, "the lattice must be 3 × 3 numbers and is one number"),
        ({"lattice": [["a", 0, 0], [0, 1, 0], [0, 0, 1]]}, "the lattice does not consist of numbers"),
        ({"lattice": {"a": 3}}, "the lattice has neither a matrix nor a, b, c, alpha, beta and gamma"),
        ({"species": "Cu"}, "the species are no list"),
        ({"species": [{"@module": "os"}]}, "site 0 holds"),
        ({"species": ["Wat"]}, "'Wat'"),
        ({"frac_coords": [[0, 0]]}, "the list of coordinates must be n × 3 numbers and is 1 × 2"),
        ({"frac_coords": [[0, 0, {}]]}, "the list of coordinates does not consist of numbers"),
        ({"frac_coords": [[0, 0, float("nan")]]}, "the position of atom 0 (Cu) is NaN or infinite"),
    ],
)
@pytest.mark.parametrize("with_pymatgen", [True, False])
def test_fields_of_the_wrong_kind_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], sentence: str, with_pymatgen: bool
) -> None:
    from dpa4_core.data import json_structures

    monkeypatch.setattr(json_structures, "HAS_PYMATGEN", with_pymatgen)
    (error,) = _errors(_json(tmp_path / "a.json", {**CELL, **change}))
    if with_pymatgen or "neither" not in sentence:
        assert sentence.replace(" is one number", "") in str(error)


def test_text_that_cannot_be_stored_is_spelled_out(tmp_path: Path) -> None:
    rows = [{**CELL, "id": name} for name in ("good", "bad\ud800", "bad\ud801", "zero\0", "two\nlines", "x" * 1000)]
    named = read_structures(_json(tmp_path / "a.json", rows))
    assert [entry.name for entry in named[:5]] == ["good", "bad\\ud800", "bad\\ud801", "zero\\x00", "two\\x0alines"]
    assert len(named[5].name) == 300
    for entry in named:
        sqlite3.connect(":memory:").execute("SELECT ?", (entry.name,))
    broken = _json(tmp_path / "b.json", [{"id": "\ud800", "structure": {"lattice": "\ud800", "sites": 1}}])
    (error,) = _errors(broken)
    assert str(error).encode().decode() == error and "\\ud800" in str(error)


def test_file_names_that_are_not_text_are_spelled_out(tmp_path: Path) -> None:
    (tmp_path / "bad\udcff.xyz").write_text("1\n\nH 0 0 0\n")
    (entry,) = iter_structures(tmp_path)
    assert entry.error is None and entry.name == "bad\\udcff"


def test_storable_text_keeps_names_apart() -> None:
    names = ["a\ud800", "a\ud801", "a\\ud800x", "b" * 400, "b" * 400 + "c", "ü", "Å³"]
    assert len({storable(name) for name in names}) == len(names)
    assert storable("LiCoO₂ (R-3m)") == "LiCoO₂ (R-3m)"


# ---- databases and trajectories -------------------------------------------------------------------------------------


def _full(seed: int = 0) -> Atoms:
    atoms = bulk("MgO", "rocksalt", a=4.2)
    atoms.rattle(0.1, seed=seed)
    atoms.set_tags([1, 2])
    atoms.set_initial_magnetic_moments([1.0, -1.0])
    atoms.set_initial_charges([0.5, -0.5])
    atoms.set_masses([24.0, 18.0])
    atoms.set_velocities([[0, 0, 1.0], [0, 0, -1.0]])
    atoms.calc = SinglePointCalculator(
        atoms, energy=-1.5, forces=np.eye(3)[:2], stress=np.arange(6.0), magmoms=np.ones(2), charges=np.zeros(2)
    )
    return atoms


@pytest.mark.parametrize("kind", ["db", "json", "traj"])
def test_rows_and_frames_hold_what_ase_wrote(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    frames = [_full(0), _full(1)]
    if kind == "traj":
        ase.io.write(path, frames)
    else:
        with ase.db.connect(path) as database:
            for i, atoms in enumerate(frames):
                database.write(atoms, name=f"row{i}", data={"array": np.arange(3.0), "text": "x"})
    for i, entry in enumerate(read_structures(path)):
        assert entry.name == (f"a:{i}" if kind == "traj" else f"row{i}")
        read, wrote = entry.structure, frames[i]
        for name in ("positions", "numbers", "tags", "initial_magmoms", "initial_charges", "masses", "momenta"):
            np.testing.assert_allclose(read.arrays[name], wrote.arrays[name])
        np.testing.assert_allclose(read.cell, wrote.cell)
        assert read.pbc.tolist() == wrote.pbc.tolist()
        for name in ("energy", "forces", "stress", "magmoms", "charges"):
            np.testing.assert_allclose(read.calc.results[name], wrote.calc.results[name])


def _sqlite(path: Path) -> Path:
    with ase.db.connect(path) as database:
        for i in range(3):
            database.write(bulk("Cu", a=3.6 + 0.1 * i))
    return path


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("UPDATE systems SET positions = x'00' WHERE id = 2", "the column positions does not hold an array"),
        ("UPDATE systems SET numbers = 'Cu' WHERE id = 2", "the column numbers does not hold an array"),
        ("UPDATE systems SET positions = zeroblob(48) WHERE id = 2", "there are 2 positions for 1 atoms"),
        ("UPDATE systems SET cell = NULL, pbc = 'x' WHERE id = 2", "the list of periodic axes does not consist"),
        ("UPDATE systems SET constraints = '[[[[' WHERE id = 2", "the text is not valid JSON"),
        ("UPDATE systems SET data = x'ffffffffffffff7f' WHERE id = 2", "the stored data of the row are damaged"),
    ],
)
def test_a_row_with_wrong_columns_fails_alone(tmp_path: Path, change: str, sentence: str) -> None:
    path = _sqlite(tmp_path / "a.db")
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    connection.close()
    first, second, third = _errors(path)
    assert first is None and third is None
    assert sentence in str(second)


def test_a_database_whose_table_is_a_program_is_refused(tmp_path: Path) -> None:
    path = _sqlite(tmp_path / "a.db")
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE systems RENAME TO other")
        connection.execute(
            "CREATE VIEW systems AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id FROM n"
        )
    connection.close()
    (error,) = _errors(path)
    assert str(error).endswith("the file is an SQLite database but not one of ASE")


def test_a_damaged_database_ends_and_keeps_its_good_rows(tmp_path: Path) -> None:
    """Every byte of the pages of a small database is turned once; nothing hangs, and other rows stay."""
    good = _sqlite(tmp_path / "a.db").read_bytes()
    kept = 0
    for place in range(100, len(good), 1009):
        bad = bytearray(good)
        bad[place] ^= 0xFF
        (tmp_path / "b.db").write_bytes(bad)
        kept += sum(error is None for error in _errors(tmp_path / "b.db"))
    assert kept > 2 * len(range(100, len(good), 1009))


def test_a_trajectory_announces_no_more_than_it_holds(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "a.traj", [_full(), _full(1)])
    content = (tmp_path / "a.traj").read_bytes()
    for old, new in (
        (b"[2, 3]", b"[9,9e9"[:6]),
        (b"[2, 3]", b"[9, 3]"),
        (b'"float64"', b'"object_"'),
        (b'"float64"', b'"S999999"'),
    ):
        (tmp_path / "b.traj").write_bytes(content.replace(old, new, 1))
        errors = _errors(tmp_path / "b.traj")
        assert sum(error is not None for error in errors) >= 1
    for count in (2**62, -1):
        (tmp_path / "c.traj").write_bytes(content[:32] + struct.pack("<q", count) + content[40:])
        (error,) = _errors(tmp_path / "c.traj")
        assert "the list of frames of the trajectory is damaged" in str(error)


# ---- the machine ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
@pytest.mark.parametrize("name", ["a.xyz", "a.json", "a.jsonl", "POSCAR", "a.cif"])
def test_a_compressed_text_that_grows_without_end_is_refused(
    tmp_path: Path, name: str, suffix: str, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "FREE_EXPANSION", 2**20)
    (tmp_path / f"{name}{suffix}").write_bytes(pack(b" \n" * 2**20))
    (error,) = _errors(tmp_path / f"{name}{suffix}")
    assert "grows more than 100 times, as no structures do" in str(error)


def test_a_member_that_grows_without_end_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "FREE_EXPANSION", 2**20)
    bomb = gzip.compress(b"\n" * 2**21)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("a.xyz", b"1\n\nH 0 0 0\n"), ("b.xyz.gz", bomb), ("c.xyz", b"1\n\nH 0 0 0\n")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    first, second, third = _errors(tmp_path / "a.tar")
    assert first is None and third is None and "grows more than 100 times" in str(second)


def test_text_of_copies_is_read_however_well_it_compresses(tmp_path: Path) -> None:
    text = b'1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nCu 0.000000 0.000000 0.000000\n' * 8_000
    (tmp_path / "a.xyz.xz").write_bytes(lzma.compress(text))
    assert sum(error is None for error in _errors(tmp_path / "a.xyz.xz")) == 8_000


@pytest.mark.parametrize("name", ["a.xyz", "a.jsonl", "a.cif"])
def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from dpa4_core.data import formats

    monkeypatch.setattr(formats, "bounded_lines", lambda text, limit=0: bounded.bounded_lines(text, 1000))
    (tmp_path / name).write_text("1\n" + "x" * 5000)
    errors = _errors(tmp_path / name)
    assert "line" in str(errors[-1]) and "characters" in str(errors[-1])


def test_json_in_json_without_end_is_refused_in_every_place(tmp_path: Path) -> None:
    for depth in (DEEPEST_JSON + 1, 900, 100_000):
        deep = "[" * depth + "]" * depth
        (tmp_path / "a.json").write_text('{"structure": {"lattice": ' + deep + ', "sites": []}}')
        (tmp_path / "b.jsonl").write_text('{"structure": ' + deep + "}\n" + json.dumps(CELL) + "\n")
        (error,) = _errors(tmp_path / "a.json")
        assert "lie more than 100 deep in each other" in str(error)
        error, other = _errors(tmp_path / "b.jsonl")
        assert "lie more than 100 deep in each other" in str(error) and other is None


def test_rows_of_an_lmdb_are_bounded_and_fail_alone(tmp_path: Path) -> None:
    def row(**fields: Any) -> bytes:
        content = {"numbers": [29], "positions": [[0, 0, 0]], "cell": 4 * np.eye(3), "pbc": [True] * 3, "energy": 1.0}
        return zlib.compress(encode({**content, **fields}).encode())

    records = {
        "1": row(),
        "2": row(positions={"__ndarray__": [[10**9, 3], "float64", []]}),
        "3": row(numbers={"__ndarray__": [[1], "S1000000000", ["x"]]}),
        "4": row(cell={"__ase_objtype__": "bandstructure", "path": 1}),
        "5": zlib.compress(b" " * (bounded.LARGEST_ENTRY + 1)),
        "6": row()[:20],
        "7": row(),
    }
    with (
        lmdb.open(str(tmp_path / "a.aselmdb"), subdir=False, map_size=2**24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, content in records.items():
            transaction.put(key.encode(), content)
    frames = list(read_frames(tmp_path / "a.aselmdb"))
    errors = [getattr(frame, "error", None) for frame in frames]
    assert errors[0] is None and errors[6] is None
    for error, sentence in zip(
        errors[1:6],
        ["must be 3000000000 numbers", "is of the type 'S1000000000'", "the cell", "when unpacked", "cut off"],
        strict=True,
    ):
        assert sentence in str(error)


def test_pages_of_an_lmdb_are_read_as_its_library_reads_them(tmp_path: Path) -> None:
    """Trees of several levels, keys that were deleted, values that fill many pages."""
    random = np.random.default_rng(0)
    content = {f"{i:05d}".encode(): random.bytes(int(random.integers(1, 60))) for i in range(3000)}
    content |= {b"large": random.bytes(300_000), b"empty": b"", b"x" * 400: b"long key"}
    path = tmp_path / "a.lmdb"
    with lmdb.open(str(path), subdir=False, map_size=2**26) as environment:
        with environment.begin(write=True) as transaction:
            for key, value in content.items():
                transaction.put(key, value)
        with environment.begin(write=True) as transaction:
            for number in range(0, 3000, 7):
                transaction.delete(f"{number:05d}".encode())
                del content[f"{number:05d}".encode()]
    with open_lmdb(path) as database:
        assert list(database.keys()) == sorted(content) and database.n_entries == len(content)
        assert all(database.get(key) == value for key, value in content.items())
        assert database.get(b"00000") is None and database.get(b"") is None and database.get(b"zzz") is None
    whole = path.read_bytes()
    for place in range(0, len(whole), 9973):
        path.write_bytes(whole[:place] + random.bytes(16) + whole[place + 16 :])
        try:
            with open_lmdb(path) as database:
                for key in list(database.keys()):
                    database.get(key)
        except StructureError:
            continue


def test_headers_of_numpy_files_announce_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "sys" / "set.000"
    folder.mkdir(parents=True)
    (tmp_path / "sys" / "type.raw").write_text("0\n")
    (tmp_path / "sys" / "type_map.raw").write_text("Cu\n")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 3), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    (folder / "coord.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 24)
    (frame,) = read_frames(tmp_path / "sys")
    assert "coord.npy announces 3000000000 numbers and ends before them; copy it again" in frame.error


def test_a_large_structure_is_read(tmp_path: Path) -> None:
    """The limits lie beyond real data: 20,000 sites with properties in a list of rows."""
    n = 20_000
    sites = [
        {
            "species": [{"element": "Cu", "occu": 1}],
            "abc": [i / n, 0.5, 0.5],
            "properties": {"magmom": 0.1},
            "label": "Cu",
        }
        for i in range(n)
    ]
    data = {"lattice": {"matrix": np.diag([2.5 * n, 4, 4]).tolist()}, "sites": sites}
    (entry,) = read_structures(_json(tmp_path / "a.json", [data]))
    assert entry.error is None and len(entry.structure) == n


def test_sentences_never_name_an_exception() -> None:
    from dpa4_core.data.parse_errors import PARSE_ERRORS, reason
    from dpa4_core.errors import words_of

    for kind in PARSE_ERRORS:
        try:
            error = kind("could not convert")
        except TypeError:
            continue
        for form in ("", "CIF", "POSCAR", "XYZ", "JSON"):
            assert "Error" not in reason(error, form) and "could not convert" not in reason(error, form)
    assert words_of(KeyError("x")) == "'x' is missing"
    assert words_of(RuntimeError("")) == "no reason was given"

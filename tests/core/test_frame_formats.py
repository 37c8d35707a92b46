"""The same frames in every format give the same arrays; damage is told and stays where it is."""

from __future__ import annotations

import gzip
import json
import lzma
import pickle
import zlib
from pathlib import Path

import ase.io
import msgpack
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.jsonio import encode
from labelled_files import KBAR, TYPE_MAP, WRITERS, ase_row, pymatgen_row, stress_of, toy_frames, write_lmdb

from dpa4_core.data.frames import BrokenFrame, Frame, LabelKeys, read_frames
from dpa4_core.data.labelled import optional
from dpa4_core.data.structures import StructureError
from dpa4_core.errors import DPA4Error

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # ASE's databases
FRAMES = toy_frames()


def good(path: Path, keys: LabelKeys | None = None) -> list[Frame]:
    entries = list(read_frames(path, keys or LabelKeys()))
    assert all(isinstance(entry, Frame) for entry in entries), entries
    return [entry for entry in entries if isinstance(entry, Frame)]


def broken(path: Path) -> BrokenFrame:
    (entry,) = [entry for entry in read_frames(path) if isinstance(entry, BrokenFrame)]
    return entry


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_arrays(tmp_path: Path, kind: str) -> None:
    frames = good(WRITERS[kind](tmp_path, FRAMES))
    assert len(frames) == 3
    for frame, atoms in zip(frames, FRAMES, strict=True):
        assert frame.left_out == ()
        assert frame.system.numbers.tolist() == atoms.numbers.tolist()
        np.testing.assert_allclose(frame.system.cell, atoms.cell, atol=1e-7)
        shift = np.linalg.solve(frame.system.cell.T, (frame.system.positions - atoms.positions).T)  # up to wrapping
        np.testing.assert_allclose(shift, np.round(shift), atol=1e-7)
        assert frame.energy == pytest.approx(atoms.calc.results["energy"], abs=1e-7)
        np.testing.assert_allclose(frame.forces, atoms.calc.results["forces"], atol=1e-7)
        np.testing.assert_allclose(frame.stress, stress_of(atoms), atol=1e-7)
    assert len({frame.name for frame in frames}) == 3
    assert {frame.group for frame in frames} <= {"OMg", "mp-1", "mp-1265"}
    assert len({frame.group for frame in frames}) == 1


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_damaged_files_give_broken_frames_and_no_other_error(tmp_path: Path, kind: str) -> None:
    path = WRITERS[kind](tmp_path, FRAMES)
    files = [path] if path.is_file() else sorted(path.rglob("*.npy"))
    rng = np.random.default_rng(len(kind))
    for file in files:
        content = file.read_bytes()
        for trial in range(12):
            damaged = bytearray(content if trial % 2 else content[: rng.integers(1, len(content))])
            for _ in range(3):
                damaged[rng.integers(len(damaged))] = rng.integers(256)
            file.write_bytes(bytes(damaged))
            for entry in read_frames(path):
                assert isinstance(entry, Frame) or "toy" in entry.error or file.name in entry.error
        file.write_bytes(content)


def test_truncated_text_keeps_the_frames_before(tmp_path: Path) -> None:
    path = WRITERS["xyz.gz"](tmp_path, FRAMES * 30)
    path.write_bytes(path.read_bytes()[:-200])
    entries = list(read_frames(path))
    assert isinstance(entries[0], Frame) and isinstance(entries[-1], BrokenFrame)
    assert "toy.xyz.gz cannot be read from toy:" in entries[-1].error


@pytest.mark.parametrize("kind", ["aselmdb", "deepmd lmdb"])
def test_truncated_lmdb_is_refused(tmp_path: Path, kind: str) -> None:
    path = WRITERS[kind](tmp_path, FRAMES * 10)
    content = path.read_bytes()
    for length in (len(content) // 2, 9000, 100):
        path.write_bytes(content[:length])
        assert path.name in broken(path).error


def test_truncated_vasprun_keeps_the_complete_steps(tmp_path: Path) -> None:
    path = WRITERS["vasprun"](tmp_path, FRAMES)
    path.write_text(path.read_text()[:-1500])
    assert [type(entry) for entry in read_frames(path)][:2] == [Frame, Frame]


def test_material_and_group_of_a_frame_are_kept_together(tmp_path: Path) -> None:
    for atoms, info in zip(
        frames := [atoms.copy() for atoms in FRAMES],
        ({"config_type": "bulk"}, {"material_id": "mp-1"}, {"group": "slab", "task_id": "t-3"}),
        strict=True,
    ):
        atoms.info = info
        atoms.calc = SinglePointCalculator(atoms, energy=0.0)
    ase.io.write(tmp_path / "a.extxyz", frames)
    found = good(tmp_path / "a.extxyz")
    assert [frame.group for frame in found] == ["OMg bulk", "mp-1", "OMg slab"]
    assert [frame.name for frame in found] == ["a:0", "mp-1", "t-3"]
    assert {frame.source for frame in found} == {str(tmp_path / "a.extxyz")}


def test_labels_under_other_names_are_found_when_told(tmp_path: Path) -> None:
    atoms = FRAMES[0].copy()
    atoms.info = {"e_dft": -3.0, "gap": 1.25, "functional": "PBE"}
    atoms.arrays["f_dft"] = np.ones((8, 3))
    ase.io.write(tmp_path / "a.extxyz", atoms)
    (frame,) = good(tmp_path / "a.extxyz")
    assert not frame.has_labels
    keys = LabelKeys(energy="e_dft", forces="f_dft", properties=("gap", "functional", "missing"))
    (frame,) = good(tmp_path / "a.extxyz", keys)
    assert frame.energy == -3.0 and frame.forces is not None and frame.forces.sum() == 24
    assert frame.properties == {"gap": 1.25}


def test_labels_of_two_methods_are_not_mixed() -> None:
    keys, zeros = LabelKeys(), np.zeros((1, 3))
    plain = {"energy": 1, "forces": zeros, "stress": zeros}
    assert keys.find(plain | {"REF_energy": 2, "REF_forces": zeros}).keys() == {"energy", "forces"}
    assert keys.find(plain | {"ref_energy": 2})["energy"] == 1  # an offset, not a label
    assert keys.find({"stress": zeros, "dft_energy": 2}) == {"energy": 2}
    assert keys.find({"REF_virials": zeros}).keys() == {"virial"}
    assert keys.find({}) == {}


def test_energy_of_mptrj_is_a_choice(tmp_path: Path) -> None:
    path = WRITERS["mptrj"](tmp_path, FRAMES)
    plain = good(path, LabelKeys(properties=("bandgap",)))
    corrected = good(path, LabelKeys(energy_choice="corrected"))
    for one, two in zip(plain, corrected, strict=True):
        assert one.energy is not None and two.energy == pytest.approx(one.energy - 1)
    assert plain[0].properties == {"bandgap": 4.5}
    assert plain[1].name == "mp-1-0-1" and plain[1].group == "mp-1"


def test_charge_and_spin_survive(tmp_path: Path) -> None:
    atoms = molecule("OH")
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((2, 3)), stress=np.zeros(6))
    atoms.info = {"charge": -1, "spin": 1}
    ase.io.write(tmp_path / "a.extxyz", atoms)
    row = encode(ase_row(atoms, data={"charge": -1, "spin": 1, "source": "x"}))
    write_lmdb(tmp_path / "b.aselmdb", {"1": zlib.compress(row.encode())})
    with ase.db.connect(tmp_path / "c.db") as database:
        database.write(atoms, charge=-1, spin=1)
    for frame in good(tmp_path):
        assert frame.system.charge_spin == (-1, 1)
        assert frame.energy == -1.0 and frame.stress is None


def test_a_label_of_wrong_shape_or_value_is_left_out_and_told(tmp_path: Path) -> None:
    rows = [pymatgen_row(atoms) | {"energy": -1.0} for atoms in FRAMES]
    rows[0]["force"][0][0] = float("nan")
    rows[1]["stress"] = [1.0, 2.0]
    rows[2] |= {"energy": "low", "stress": (KBAR * np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0]])).tolist()}
    (tmp_path / "a.json").write_text(json.dumps(rows))
    first, second, third = good(tmp_path / "a.json")
    assert first.forces is None and first.energy == -1.0
    assert first.left_out == ("forces: the reference is not finite and was left out",)
    assert second.left_out == ("stress: the reference has the wrong shape and was left out",)
    assert third.forces is not None and third.energy is None
    assert [sentence.split(":")[0] for sentence in third.left_out] == ["energy", "stress"]


def test_broken_frames_leave_the_others_alone(tmp_path: Path) -> None:
    text = Path(WRITERS["extxyz"](tmp_path, FRAMES)).read_text()
    lines = text.splitlines(keepends=True)
    lines[4] = lines[4].replace("O ", "Xx ")
    (tmp_path / "toy.extxyz").write_text("".join(lines) + "1\n\nH 0 nan 0\n3\ncut\nH 0 0 0\n")
    kinds = [type(entry) for entry in read_frames(tmp_path / "toy.extxyz")]
    assert kinds == [BrokenFrame, Frame, Frame, BrokenFrame, BrokenFrame]
    errors = [entry.error for entry in read_frames(tmp_path / "toy.extxyz") if isinstance(entry, BrokenFrame)]
    assert all(f"toy.extxyz, toy:{i}: " in error for i, error in zip((0, 3, 4), errors, strict=True))


def test_arrays_with_pickles_are_refused(tmp_path: Path) -> None:
    path = WRITERS["deepmd"](tmp_path, FRAMES)
    np.save(path / "set.000" / "energy.npy", np.array([{"x": 1}, 2, 3], dtype=object), allow_pickle=True)
    assert "holds Python objects" in broken(path).error
    record = {"coord": {"type": "object", "shape": [1], "data": pickle.dumps([1])}}
    (tmp_path / "other").mkdir()
    content = {"__metadata__": msgpack.packb({"type_map": ["H"]}), "000000000000": msgpack.packb(record)}
    write_lmdb(tmp_path / "other" / "a.lmdb", content)
    assert "Python objects" in broken(tmp_path / "other" / "a.lmdb").error
    (tmp_path / "frames.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(StructureError, match="is a pickle"):
        read_frames(tmp_path / "frames.pkl")


def test_lmdb_folders_are_read_like_files(tmp_path: Path) -> None:
    path = WRITERS["deepmd lmdb"](tmp_path, FRAMES)
    (tmp_path / "folder.lmdb").mkdir()
    path.rename(tmp_path / "folder.lmdb" / "data.mdb")
    (tmp_path / "folder.lmdb" / "lock.mdb").touch()
    assert len(good(tmp_path / "folder.lmdb")) == len(good(tmp_path)) == 3


def test_json_of_something_else_is_one_broken_entry(tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text(json.dumps({"model": {"type_map": ["O"]}, "training": {"seed": 1}}))
    assert "holds no structures" in broken(tmp_path / "input.json").error


def test_clusters_of_deepmd_have_no_cell(tmp_path: Path) -> None:
    path = WRITERS["deepmd"](tmp_path, FRAMES)
    (path / "set.000" / "box.npy").unlink()
    entries = [entry.error for entry in read_frames(path) if isinstance(entry, BrokenFrame)]
    assert len(entries) == 3 and "nopbc" in entries[0]
    (path / "nopbc").touch()
    frames = good(path)
    assert not frames[0].system.periodic and frames[0].stress is None and frames[0].forces is not None


def test_wrong_types_of_deepmd_are_told(tmp_path: Path) -> None:
    path = WRITERS["deepmd"](tmp_path, FRAMES)
    (path / "type_map.raw").write_text("O TYPE_1")
    errors = [entry.error for entry in read_frames(path) if isinstance(entry, BrokenFrame)]
    assert "TYPE_1, which is no element" in errors[0]
    (path / "type_map.raw").write_text("O")
    assert "type 1 has no entry" in next(e.error for e in read_frames(path) if isinstance(e, BrokenFrame))
    (path / "type_map.raw").unlink()
    assert "type_map.raw is missing" in broken(path).error
    assert TYPE_MAP[:2] == ["O", "Mg"]


def test_a_folder_gives_all_its_files_and_data_folders(tmp_path: Path) -> None:
    for kind in ("extxyz", "deepmd", "vasprun", "outcar"):
        (tmp_path / kind).mkdir()
        WRITERS[kind](tmp_path / kind, FRAMES)
    (tmp_path / "outcar" / "OUTCAR").rename(tmp_path / "vasprun" / "OUTCAR")  # told once more, less precisely
    (tmp_path / "notes.txt").write_text("no frames")
    (tmp_path / "cut.xyz").write_text("")
    entries = list(read_frames(tmp_path))
    assert sum(isinstance(entry, Frame) for entry in entries) == 9
    assert [entry.error for entry in entries if isinstance(entry, BrokenFrame)] == [
        f"{tmp_path / 'cut.xyz'} holds no frame"
    ]
    assert {Path(entry.source).parent.name for entry in entries if isinstance(entry, Frame)} == {
        *("deepmd", "extxyz", "vasprun")
    }


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_compressed_runs_of_vasp_are_read(tmp_path: Path, suffix: str) -> None:
    compress = {".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    for kind in ("vasprun", "outcar"):
        path = WRITERS[kind](tmp_path, FRAMES)
        packed = tmp_path / kind / (path.name + suffix)
        packed.parent.mkdir()
        packed.write_bytes(compress(path.read_bytes()))
        assert len(good(packed)) == 3


def test_structures_that_need_pymatgen_are_read_with_it(tmp_path: Path) -> None:
    row = pymatgen_row(FRAMES[0]) | {"energy": -1.0}
    charged = json.loads(json.dumps(row))
    charged["structure"]["charge"] = 2
    shared = json.loads(json.dumps(row))
    shared["structure"]["sites"][0]["species"][0]["occu"] = 0.5
    (tmp_path / "a.json").write_text(json.dumps([row, charged, shared, 7]))
    first, second, third, fourth = read_frames(tmp_path / "a.json")
    assert isinstance(first, Frame) and first.system.charge_spin is None
    assert isinstance(second, Frame) and second.system.charge_spin == (2, 1)
    assert isinstance(third, BrokenFrame) and "partially occupied" in third.error
    assert isinstance(fourth, BrokenFrame) and "a:3: the row holds no structure" in fourth.error


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.extxyz", None, "there is no file"),
        ("empty.extxyz", b"", "is empty"),
        ("POSCAR", b"x", "no known format"),
        ("notes.txt", b"hello", "no known format"),
    ],
)
def test_unusable_paths_are_refused(tmp_path: Path, name: str, content: bytes | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StructureError, match=sentence):
        read_frames(tmp_path / name)
    with pytest.raises(StructureError, match="no file of labelled structures"):
        (tmp_path / "nothing").mkdir()
        read_frames(tmp_path / "nothing")


def test_a_missing_package_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = WRITERS["deepmd lmdb"](tmp_path, FRAMES)

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(optional.importlib, "import_module", missing)
    with pytest.raises(DPA4Error, match=r'needs msgpack; run `pip install "dpa4-flows\[formats\]"`'):
        list(read_frames(path))


def test_singular_cells_are_broken(tmp_path: Path) -> None:
    flat = Atoms("H", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True)
    flat.calc = SinglePointCalculator(flat, energy=0.0, stress=np.zeros(6))
    ase.io.write(tmp_path / "a.extxyz", [flat, bulk("Cu")])
    assert "singular" in broken(tmp_path / "a.extxyz").error

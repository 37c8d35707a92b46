"""Input of any size: found entry by entry, in bounded memory, archives included."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import shutil
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from dpa4_core.data import archives, ase_database, formats
from dpa4_core.data.json_rows import json_rows
from dpa4_core.data.readers import RUN_FILE, NamedStructure, iter_entries, iter_structures, read_structures

ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
POSCAR = "MgO\n1.0\n4.2 0 0\n0 4.2 0\n0 0 4.2\nMg O\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"
CIF = ROCKSALT.to(fmt="cif")


def _tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def _one(path: Path) -> NamedStructure:
    (entry,) = iter_structures(path)
    return entry


@pytest.mark.parametrize(("suffix", "mode"), [("tar", "w"), ("tar.gz", "w:gz"), ("tgz", "w:gz"), ("tar.xz", "w:xz")])
def test_a_tarball_gives_its_members_and_a_broken_one_fails_alone(tmp_path: Path, suffix: str, mode: str) -> None:
    members = [
        ("set/a.cif", CIF.encode()),
        ("set/broken.cif", CIF.replace("4.2", "wide").encode()),
        ("set/notes.txt", b"not a structure"),
        ("set/._a.cif", b"\x00\x05\x16\x07"),
        ("set/POSCAR.bz2", bz2.compress(POSCAR.encode())),
        ("set/cut.cif.gz", gzip.compress(CIF.encode())[:-9]),
        ("set/two.xyz", b"1\n\nH 0 0 0\n1\n\nHe 0 0 0\n"),
    ]
    path = _tar(tmp_path / f"set.{suffix}", members, mode)
    found = {entry.source: entry.read() for entry in iter_entries(path, "in")}
    assert list(found) == [
        f"in/set/{x}" for x in ("a.cif", "broken.cif", "POSCAR.bz2", "cut.cif.gz", "two.xyz:0", "two.xyz:1")
    ]
    assert [named.error is None for named in found.values()] == [True, False, True, False, True, True]
    assert found["in/set/a.cif"].structure == Structure.from_str(CIF, fmt="cif")
    assert str(found["in/set/broken.cif"].error).startswith("in, set/broken.cif: ")
    assert "the text ends early" in str(found["in/set/cut.cif.gz"].error)
    assert len(read_structures(path)) == 6


def test_a_zip_gives_its_members(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.cif", CIF)
        archive.writestr("inner.tar", b"anything")
        archive.writestr("rows.jsonl", json.dumps(ROCKSALT.as_dict()) + "\n")
    a, inner, row = iter_structures(tmp_path / "set.zip")
    assert a.error is None and row.structure == ROCKSALT
    assert "inside an archive" in str(inner.error)


def test_a_member_cannot_reach_out_of_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind, target in [
            ("link.cif", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard.cif", tarfile.LNKTYPE, "x.cif"),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
        info = tarfile.TarInfo("../../../outside.cif")
        info.size = len(CIF)
        archive.addfile(info, io.BytesIO(CIF.encode()))
    before = set(tmp_path.rglob("*"))
    (entry,) = iter_structures(path)
    assert entry.error is None
    assert set(tmp_path.rglob("*")) == before
    assert not (tmp_path.parent / "outside.cif").exists()


def test_a_decompression_bomb_is_one_failed_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 2**20)
    path = _tar(tmp_path / "bomb.tar", [("bomb.cif.gz", gzip.compress(bytes(2**24))), ("a.cif", CIF.encode())], "w")
    bomb, good = iter_structures(path)
    assert "grows more than 100 times" in str(bomb.error) and good.error is None


def test_an_archive_that_breaks_off_says_where(tmp_path: Path) -> None:
    members = [(f"{i}.vasp", POSCAR.encode()) for i in range(40)]
    cut = _tar(tmp_path / "cut.tar", members, "w")
    cut.write_bytes(cut.read_bytes()[: 20 * 1024 + 700])
    *good, end = iter_entries(cut, "cut")
    assert [entry.source for entry in good[:2]] == ["cut/0.vasp", "cut/1.vasp"] and len(good) >= 20
    assert end.source in ("cut:end", "cut/20.vasp") and end.read().error
    damaged = _tar(tmp_path / "damaged.tar", members, "w")
    content = bytearray(damaged.read_bytes())
    content[1024 * 5 : 1024 * 5 + 512] = b"\xff" * 512  # the header of member 5
    damaged.write_bytes(bytes(content))
    *good, end = iter_entries(damaged, "damaged")
    assert len(good) == 5
    assert "damaged after 4.vasp" in str(end.read().error)


def test_json_lines_fail_line_by_line(tmp_path: Path) -> None:
    rows = [json.dumps({"id": "mgo", "structure": ROCKSALT.as_dict()}), '{"structure": ', "", json.dumps({"id": "x"})]
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(rows).encode()))
    found = [(entry.source, entry.read()) for entry in iter_entries(path, "rows")]
    assert [source for source, _ in found] == ["rows:0", "rows:1", "rows:2"]
    assert [named.name for _, named in found] == ["mgo", "rows:1", "x"]
    assert [named.error is None for _, named in found] == [True, False, False]


@pytest.mark.parametrize("kind", ["list", "mapping"])
def test_large_json_is_read_row_by_row_with_the_same_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    rows: list[Any] = [{"id": f"m{i}", "structure": ROCKSALT.as_dict()} for i in range(20)]
    data = rows if kind == "list" else {f"key{i}": row for i, row in enumerate(rows)}
    (tmp_path / "rows.json").write_text(json.dumps(data))
    at_once = [(e.source, e.read().name) for e in iter_entries(tmp_path / "rows.json")]
    monkeypatch.setattr(formats, "WHOLE_JSON", 1000)
    streamed = [(e.source, e.read().name) for e in iter_entries(tmp_path / "rows.json")]
    if kind == "list":
        assert streamed == at_once
    assert [source for source, _ in streamed] == [source for source, _ in at_once]
    (tmp_path / "rows.json").write_text(json.dumps(data)[:-100])
    *good, end = iter_structures(tmp_path / "rows.json")
    assert len(good) == 19 and "cannot be read" in str(end.error)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_json_rows_equal_those_of_the_library(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpa4_core.data.json_rows._CHUNK", size)
    for data in ([], [1, 23, "a,]", {"x": [None, 1.5e-3]}], {"a": 1, "b}": [2]}, [12345]):
        text = json.dumps(data, indent=1)
        rows = {key: row for _, key, row in json_rows(text[:3], io.StringIO(text[3:]))}
        assert rows == (data if isinstance(data, dict) else dict(enumerate(data)))
    for broken in ("[1 2]", "[1, 2", "3", '{"a" 1}', "[1,]"):
        with pytest.raises(ValueError):
            list(json_rows(broken, io.StringIO()))


def test_rows_of_a_database_are_found_without_reading_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ase_database, "_ROWS_AT_ONCE", 2)
    with ase.db.connect(tmp_path / "rows.db") as database:
        for i in range(5):
            database.write(bulk("Cu", a=3.6 + 0.1 * i), name=f"cu{i}")
        database.delete([3])
    found = list(iter_entries(tmp_path / "rows.db", "rows.db"))
    assert [entry.source for entry in found] == ["rows.db:1", "rows.db:2", "rows.db:4", "rows.db:5"]
    assert [entry.read().name for entry in found] == ["cu0", "cu1", "cu3", "cu4"]


def test_a_folder_is_read_with_its_subfolders_but_without_results(tmp_path: Path) -> None:
    for name in ("b/POSCAR", "a/x/POSCAR", "a/POSCAR", "runs/POSCAR"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(POSCAR)
    (tmp_path / "runs" / RUN_FILE).write_text("{}")
    for name in ("results.sqlite", "log.jsonl"):
        shutil.copytree(tmp_path / "a", tmp_path / name.partition(".")[0])
        (tmp_path / name.partition(".")[0] / name).touch()
    for name in ("a/POSCAR.restart.npz", "a/POSCAR.traj", "a/POSCAR.json", "a/POSCAR.csv"):  # dynamics beside its input
        (tmp_path / name).touch()
    (tmp_path / "b" / "empty.cif").touch()
    (tmp_path / "b" / "again").symlink_to(tmp_path)
    found = [(entry.source, entry.read().error is None) for entry in iter_entries(tmp_path, "in")]
    assert found == [("in/a/POSCAR", True), ("in/a/x/POSCAR", True), ("in/b/POSCAR", True), ("in/b/empty.cif", False)]


def test_entries_are_read_lazily_and_in_bounded_memory(tmp_path: Path) -> None:
    frame = '2\nLattice="3 0 0 0 3 0 0 0 3" note="' + "x" * 20_000 + '"\nH 0 0 0\nH 1 1 1\n'
    path = tmp_path / "long.extxyz"
    with path.open("w") as stream:
        for _ in range(500):
            stream.write(frame)  # 10 MB
    entries: Iterator[Any] = iter_entries(path)
    tracemalloc.start()
    for _ in range(3):
        assert next(entries).read().error is None
    passed = sum(1 for _ in entries)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert passed == 497
    assert peak < 3e6


def test_a_compressed_file_that_breaks_off_keeps_what_came_before(tmp_path: Path) -> None:
    content = gzip.compress(b"1\n\nH 0 0 0\n" * 20_000)
    (tmp_path / "cut.xyz.gz").write_bytes(content[: len(content) // 2])
    *good, end = iter_entries(tmp_path / "cut.xyz.gz", "cut")
    assert len(good) > 100 and good[0].read().error is None
    assert end.source == "cut:end" and "cannot be read" in str(end.read().error)
    assert "there is no file" in str(_one(tmp_path / "gone.cif").error)

"""Names of entries that several files share."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpa4_core.data.formats import NamedStructure
from dpa4_core.data.readers import read_files, read_structures
from dpa4_core.data.told_apart import told_apart
from dpa4_core.errors import named

POSCAR = """{title}
1.0
4 0 0
0 4 0
0 0 4
{title}
1
Direct
0 0 0
"""


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        ([("x", "a/x.cif"), ("x", "b/x.cif")], ["a/x", "b/x"]),
        ([("x", "run/1/a/x.cif"), ("x", "run/2/a/x.cif")], ["1/a/x", "2/a/x"]),
        ([("Cu", "Cu.cif"), ("Cu", "Cu.vasp"), ("Al", "Al.cif")], ["Cu.cif", "Cu.vasp", "Al"]),
        ([("7", "a/set.json"), ("7", "b/set.json")], ["a/set:7", "b/set:7"]),
        ([("1.5GPa", "a/1.5GPa.cif"), ("1.5GPa", "b/1.5GPa.cif")], ["a/1.5GPa", "b/1.5GPa"]),
        ([("x", "x.cif"), ("x", "x.cif"), ("x:2", "y.cif")], ["x", "x:2", "x:2:2"]),
        ([("Cu 0", ""), ("Cu 0", "Cu 0.cif")], ["Cu 0", "Cu 0:2"]),
        ([("one", "a/x.cif"), ("two", "b/x.cif")], ["one", "two"]),
    ],
)
def test_a_name_that_several_files_give_gets_what_tells_them_apart(
    entries: list[tuple[str, str]], names: list[str]
) -> None:
    found = told_apart([NamedStructure(name, None, origin=origin) for name, origin in entries])
    assert [entry.name for entry in found] == names
    assert told_apart(found) == found


def test_a_folder_of_calculations_is_read_with_its_subfolders(tmp_path: Path) -> None:
    for number, title in enumerate(("Cu", "Al", "Xx")):
        (tmp_path / f"mp-{number}").mkdir()
        (tmp_path / f"mp-{number}" / "POSCAR").write_text(POSCAR.format(title=title))
    found = read_structures(tmp_path)
    assert [entry.name for entry in found] == [f"mp-{number}/POSCAR" for number in range(3)]
    assert str(found[2].error).startswith(f"{tmp_path}/mp-2/POSCAR: 'Xx' is no element")
    paths = sorted(tmp_path.glob("*/POSCAR"))
    assert [(entry.name, entry.error) for entry in read_files(paths)] == [(e.name, e.error) for e in found]


def test_a_sentence_says_whom_it_is_about_once() -> None:
    assert named("over", "two atoms overlap") == "over: two atoms overlap"
    assert named("a.cif", "a.cif: no lattice") == "a.cif: no lattice"
    assert named("a.cif", "a.cif is empty") == "a.cif is empty"
    for name in ("runs/set.tar/b/a.cif", "b/a", "a"):
        assert named(name, error := "runs/set.tar, b/a.cif: no lattice") == error
    for name in ("set.extxyz:7", "mp-1"):
        assert named(name, error := "set.extxyz, mp-1: no lattice") == error
    assert named("a", error := "runs/a.cif.gz: no lattice") == error
    assert named("Cu, hull", "Cu, hull: no phase") == "Cu, hull: no phase"
    assert named("set", "run: it stopped") == "set: run: it stopped"
    assert named("a", "no lattice: a, b") == "a: no lattice: a, b"

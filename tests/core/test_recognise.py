"""A file is read as what it holds where its ending says something else."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from dpa4_core.data.readers import read_structures
from dpa4_core.data.recognise import recognise
from dpa4_core.data.structures import to_system

ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def _texts() -> dict[str, str]:
    atoms = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    found = {"cif": ROCKSALT.to(fmt="cif"), "json": json.dumps(ROCKSALT.as_dict())}
    found["jsonl"] = (json.dumps({"id": "a", "structure": ROCKSALT.as_dict()}) + "\n") * 2
    for name, form in (("poscar", "vasp"), ("xyz", "extxyz")):
        stream = io.StringIO()
        ase.io.write(stream, atoms, format=form)
        found[name] = stream.getvalue()
    return found


TEXTS = _texts()


@pytest.mark.parametrize("suffix", [".vasp", ".cif", ".xyz", ".extxyz", ".json", ".jsonl", ".poscar"])
@pytest.mark.parametrize("content", sorted(TEXTS))
def test_every_text_format_is_read_under_every_ending(tmp_path: Path, suffix: str, content: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text(TEXTS[content])
    if content.startswith("json") and suffix.startswith(".json") and content != suffix[1:]:
        return  # one of the same family: JSON over several lines and JSON lines stay what their endings say
    for entry in read_structures(path):
        assert entry.error is None
        assert len(to_system(entry.structure).numbers) == 8


def test_compressed_files_and_members_are_recognised_too(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.vasp.gz", "wt") as file:
        file.write(TEXTS["cif"])
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("POSCAR", TEXTS["cif"])
    for name in ("a.vasp.gz", "b.zip"):
        (entry,) = read_structures(tmp_path / name)
        assert entry.error is None and isinstance(entry.structure, Structure)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#comment\n\ndata_x\nloop_\n", "cif"),
        ("_cell_length_a 4\n_cell_length_b 4\n", "cif"),
        ("data_x is what I call it\n1.0\n4 0 0\n0 4 0\n0 0 4\nMg\n1\nDirect\n0 0 0\n", "poscar"),
        ("7\n1.0\n4 0 0\n0 4 0\n0 0 4\nMg\n1\nDirect\n0 0 0\n", None),
        ("1\n1.0\nH 0 0 0\n", "xyz"),
        ("5\n0.5\n6 0 0 0\n6 0 0 1\n6 0 0 2\n6 0 0 3\n6 0 0 4\n", None),
        ('{"a": 1}', "json"),
        ("{Mg, O}\n1.0\n4 0 0\n0 4 0\n0 0 4\nMg\n1\nDirect\n0 0 0\n", "poscar"),
        ("", None),
        ("just words\n", None),
        ("\0\1\2", None),
    ],
)
def test_only_clear_content_is_recognised(text: str, expected: str | None) -> None:
    assert recognise(text.encode()) == expected

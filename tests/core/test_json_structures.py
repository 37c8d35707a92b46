"""JSON files of databases and of our own commands: every row is found, under its own name, whatever the layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry

from dpa4_core.data import formats
from dpa4_core.data.frames import Frame, read_frames
from dpa4_core.data.identifiers import identifier
from dpa4_core.data.isotopes import ISOTOPE_MASSES
from dpa4_core.data.readers import NamedStructure, read_structures
from dpa4_core.data.structures import to_system

MGO = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
PLAIN = MGO.as_dict()
ENTRY = ComputedStructureEntry(MGO, -47.0, entry_id="e-0").as_dict()
SECOND = {**ENTRY, "entry_id": "e-1"}
NAMELESS = {**ENTRY, "entry_id": None, "data": {"mat_id": "agm1", "e_above_hull": 0.0}}
FLAT = {
    "numbers": [12, 8],
    "positions": [0, 0, 0, 2.1, 2.1, 2.1],
    "cell": [4, 0, 0, 0, 4, 0, 0, 0, 4],
    "pbc": [True] * 3,
}
JARVIS = {
    "jid": "JVASP-1",
    "atoms": {"lattice_mat": np.eye(3).tolist(), "coords": [[0, 0, 0]], "elements": ["Mg"], "cartesian": False},
}


def optimade(name: str, **changes: Any) -> dict[str, Any]:
    """A resource of an OPTIMADE server: MgO as a pair of atoms."""
    attributes = {
        "lattice_vectors": [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]],
        "dimension_types": [1, 1, 1],
        "cartesian_site_positions": [[0, 0, 0], [2, 2, 2]],
        "species_at_sites": ["Mg", "O1"],
        "species": [
            {"name": "Mg", "chemical_symbols": ["Mg"], "concentration": [1.0]},
            {"name": "O1", "chemical_symbols": ["O"], "concentration": [1.0]},
        ],
        "nsites": 2,
    }
    return {"id": name, "type": "structures", "attributes": attributes | changes, "relationships": {}}


LAYOUTS: dict[str, tuple[Any, list[str]]] = {
    "a structure": (PLAIN, ["rows"]),
    "a list of entries": ([ENTRY, SECOND], ["e-0", "e-1"]),
    "entries under a key": ({"model": "x", "settings": {"fmax": 0.1}, "entries": [ENTRY, SECOND]}, ["e-0", "e-1"]),
    "entries by name under a key": ({"entries": {"first": ENTRY, "second": SECOND}, "note": 1}, ["first", "second"]),
    "entries of Alexandria": ({"entries": [NAMELESS, ENTRY]}, ["agm1", "e-0"]),
    "rows of WBM": ([{"material_id": "wbm-1-1", "formula": "MgO", "energy": -4.0, "structure": PLAIN}], ["wbm-1-1"]),
    "a table of WBM": (
        {"material_id": {"0": "wbm-1-1", "1": "wbm-1-2"}, "computed_structure_entry": {"0": ENTRY, "1": ENTRY}},
        ["wbm-1-1", "wbm-1-2"],
    ),
    "a table by index": ({"initial_structure": {"wbm-1-1": PLAIN, "wbm-1-2": PLAIN}}, ["wbm-1-1", "wbm-1-2"]),
    "mappings in a mapping": ({"bulk": {"MgO": ENTRY}, "slabs": {"MgO-100": ENTRY}}, ["MgO", "MgO-100"]),
    "lists in a mapping": ({"rocksalt": [ENTRY, PLAIN], "other": [SECOND]}, ["e-0", "rows:rocksalt/1", "e-1"]),
    "names alone": ({"one": PLAIN, "two": ENTRY}, ["one", "two"]),
    "an answer of OPTIMADE": ({"data": [optimade("a"), optimade("b")], "meta": {}, "links": {}}, ["a", "b"]),
    "one resource of OPTIMADE": ({"data": optimade("a"), "meta": {}}, ["a"]),
    "attributes of OPTIMADE": ([optimade("a")["attributes"]], ["rows:0"]),
    "flat rows": ([{**FLAT, "name": "x"}, {**FLAT, "index": 1}], ["x", "rows:1"]),
    "rows of JARVIS": ([JARVIS], ["JVASP-1"]),
}


def _read(path: Path, content: Any) -> list[NamedStructure]:
    path.write_text(json.dumps(content))
    entries = read_structures(path)
    assert [entry.error for entry in entries] == [None] * len(entries)
    return entries


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_one_structure_for_each_row(tmp_path: Path, layout: str) -> None:
    content, names = LAYOUTS[layout]
    entries = _read(tmp_path / "rows.json", content)
    assert [entry.name for entry in entries] == names
    for entry in entries:
        system = to_system(entry.structure)
        assert set(system.numbers.tolist()) <= {12, 8} and system.pbc.all()


ONE_VALUE = ("a structure", "one resource of OPTIMADE")
"""What a large file cannot be."""


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in (*ONE_VALUE, "a table of WBM")])
def test_large_files_are_read_as_small_ones(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content, names = LAYOUTS[layout]
    small = _read(tmp_path / "rows.json", content)
    monkeypatch.setattr(formats, "WHOLE_JSON", 40)
    monkeypatch.setattr("dpa4_core.data.json_rows._CHUNK", 64)
    large = _read(tmp_path / "rows.json", content)
    assert [entry.name for entry in large] == [entry.name for entry in small] == names
    for one, two in zip(small, large, strict=True):
        np.testing.assert_array_equal(to_system(one.structure).positions, to_system(two.structure).positions)


def test_a_large_table_is_named_by_its_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "WHOLE_JSON", 40)
    content = {"material_id": {"0": "a", "1": "b"}, "computed_structure_entry": {"0": ENTRY, "1": SECOND}}
    assert [entry.name for entry in _read(tmp_path / "rows.json", content)] == ["e-0", "e-1"]


def test_a_broken_entry_of_a_large_mapping_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "WHOLE_JSON", 40)
    (tmp_path / "a.json").write_text(json.dumps({"one": PLAIN, "two": {"x": 1}, "three": 5, "four": PLAIN}))
    errors = {entry.name: entry.error for entry in read_structures(tmp_path / "a.json")}
    assert [name for name, error in errors.items() if error is None] == ["one", "four"]
    assert "'two' is no structure" in str(errors["two"]) and "'three' is no structure" in str(errors["three"])


def test_a_large_file_without_structures_says_where_they_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "WHOLE_JSON", 40)
    (tmp_path / "a.json").write_text(json.dumps({"settings": {"x": list(range(50))}, "note": "none"}))
    with pytest.raises(formats.StructureError, match="'settings' and 1 more keys .* also under entries, structures"):
        read_structures(tmp_path / "a.json")


def test_lines_of_optimade_are_read_past_their_header(tmp_path: Path) -> None:
    lines = [
        {"x-optimade": {"api_version": "1.1.0"}},
        {"type": "info", "id": "structures", "properties": {"cartesian_site_positions": {}}},
        optimade("a"),
        optimade("b"),
        {"type": "references", "id": "r-1", "attributes": {}},
    ]
    lines[1].pop("properties")
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    entries = read_structures(tmp_path / "a.jsonl")
    assert [(entry.name, entry.error) for entry in entries] == [("a", None), ("b", None)]


def test_optimade_slabs_isotopes_and_molecules(tmp_path: Path) -> None:
    heavy = [{"name": "D", "chemical_symbols": ["H"], "concentration": [1.0], "mass": [2.014]}, {"name": "O1"}]
    rows = [
        optimade("slab", dimension_types=[1, 1, 0], lattice_vectors=[[4, 0, 0], [0, 4, 0], [None] * 3]),
        optimade("molecule", dimension_types=[0, 0, 0], lattice_vectors=None),
        optimade("heavy", species_at_sites=["D", "O"], species=heavy),
        optimade("plain", species_at_sites=["D", "O"], species=None),
    ]
    slab, molecule, heavy_one, plain = _read(tmp_path / "a.json", rows)
    assert to_system(slab.structure).pbc.tolist() == [True, True, False]
    assert not to_system(molecule.structure).periodic
    assert heavy_one.structure.get_masses()[0] == pytest.approx(2.014)
    assert plain.structure.get_masses()[0] == pytest.approx(ISOTOPE_MASSES["D"])


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            optimade("a", species=[{"name": "Mg", "chemical_symbols": ["Mg", "Ca"], "concentration": [0.5, 0.5]}]),
            "partially occupied (Mg 0.5, Ca 0.5)",
        ),
        (
            optimade("a", species=[{"name": "Mg", "chemical_symbols": ["Mg", "vacancy"], "concentration": [0.9, 0.1]}]),
            "partially occupied (Mg 0.9, vacancy 0.1)",
        ),
        (
            optimade(
                "a", species=[{"name": "Mg", "chemical_symbols": ["Mg"], "concentration": [1.0], "attached": ["H"]}]
            ),
            "atoms without coordinates are attached to 'Mg'",
        ),
        (optimade("a", species_at_sites=["Mg"]), "species_at_sites does not name one species for each"),
        (optimade("a", structure_features=["assemblies"]), "an assembly of alternatives"),
        (optimade("a", lattice_vectors=[[1, 2], [3], []]), "lattice_vectors does not consist of numbers"),
        ({**FLAT, "positions": [0, 0]}, "positions does not come in threes"),
        ({**FLAT, "tags": [1, 2, 3, 4]}, "there are 4 tags for 2 atoms"),
        ({**FLAT, "fixed": [True] * 3}, "1 times three fixed coordinates for 2 atoms"),
        ({"initial_structure": PLAIN, "final_structure": PLAIN}, "the row has 2 structures"),
        ({"name": "x", "error": "the atoms fly apart"}, "no structure, only a reason: the atoms fly apart"),
    ],
)
def test_what_a_row_lacks_is_said_and_the_others_are_read(tmp_path: Path, row: Any, sentence: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps([PLAIN, row]))
    good, bad = read_structures(tmp_path / "a.json")
    assert good.error is None and sentence in str(bad.error)


def test_flat_rows_hold_all_site_data(tmp_path: Path) -> None:
    row = {**FLAT, "fixed": [True, False, False, True, True, True], "magmoms": [1.5, None], "tags": [1, 0], "charge": 1}
    row |= {"masses": [24.0, 16.0], "oxidation_states": [2, -2], "spin": 2}
    atoms = _read(tmp_path / "a.json", [row])[0].structure
    assert isinstance(atoms, Atoms)
    assert to_system(atoms).fixed.tolist() == [[True, False, False], [True] * 3]
    assert atoms.get_tags().tolist() == [1, 0] and atoms.get_masses().tolist() == [24, 16]
    assert atoms.get_initial_magnetic_moments()[0] == 1.5 and to_system(atoms).charge_spin == (1, 2)


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ({"name": "n", "material_id": "m"}, "m"),
        ({"name": "n", "entry_id": "e", "id": "i"}, "i"),
        ({"name": "n", "frame_id": "f", "mp_id": "m"}, "f"),
        ({"entry_id": None, "data": {"mat_id": "agm1"}}, "agm1"),
        ({"id": np.int64(7)}, "7"),
        ({"id": True, "name": ""}, "none"),
        ({}, "none"),
    ],
)
def test_a_row_has_one_name(labels: dict[str, Any], name: str) -> None:
    assert identifier(labels, "none") == name


@pytest.mark.parametrize(
    "layout", ["entries under a key", "entries of Alexandria", "a table of WBM", "an answer of OPTIMADE"]
)
def test_training_frames_are_found_in_the_same_layouts(tmp_path: Path, layout: str) -> None:
    content, names = LAYOUTS[layout]
    (tmp_path / "rows.json").write_text(json.dumps(content))
    frames = list(read_frames(tmp_path / "rows.json"))
    assert all(isinstance(frame, Frame) for frame in frames)
    assert [frame.name for frame in frames] == names

"""What a structure says about its sites is in every file that can hold it; a sentence names what is not."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, get_args

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms, FixCartesian, FixScaled
from pymatgen.core import Lattice, Molecule, Species, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry
from toy_campaign import MORSE
from typer.testing import CliRunner

from dpa4_core.data.flat_rows import flat_atoms
from dpa4_core.data.frames import Frame, read_frames
from dpa4_core.data.isotopes import ISOTOPE_MASSES
from dpa4_core.data.json_structures import structure_of
from dpa4_core.data.readers import iter_structures, read_structures
from dpa4_core.data.site_data import OXIDATION_STATES, SITE_DATA, as_atoms, fixed_along_lattice, site_data
from dpa4_core.data.structures import StructureError, to_system
from dpa4_core.errors import DPA4Error
from dpa4_core.md import MDSettings, md
from dpa4_core.testing import MorsePotential
from dpa4_flows.campaigns.candidates import read_candidates
from dpa4_flows.cli.app import app
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.calculations import static_settings
from dpa4_flows.documents.quantities import unit_of
from dpa4_flows.large.export import export_run
from dpa4_flows.large.folder import Task, prepare_folder
from dpa4_flows.large.worker import RunWorker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.alloy import AlloyDocument
from dpa4_flows.properties.columns import _IN_NAMES, file_head, home_of, scalar_fields
from dpa4_flows.properties.registry import property_class, property_names
from dpa4_flows.reference.catalogue import export_entries
from dpa4_flows.reference.entries_file import read_entries
from dpa4_flows.reference.library import ReferencePhase, as_crystal, load_phases
from dpa4_flows.reference.store import ReferenceStore
from dpa4_flows.site_conversion import as_pymatgen
from dpa4_flows.structure_files import HOLDS, Computed, output_format, write_structures

FILES = ["out.extxyz", "out.json", "out.cif", "out.vasp"]


def crystal() -> Atoms:
    """Mg2O2H2 in a sheared cell, so that directions and positions cannot be mistaken for others."""
    atoms = bulk("MgO", "rocksalt", a=4.2) * (2, 1, 1) + Atoms("H2", [[1.1, 0.9, 0.7], [3.3, 1.2, 1.9]])
    atoms.rattle(0.05, seed=3)
    atoms.set_cell([[5.9, 0, 0], [0.4, 3.1, 0], [0.3, 0.2, 4.4]])
    return atoms


def _constrained(atoms: Atoms) -> None:
    atoms.set_constraint([FixAtoms([0]), FixCartesian([1], (True, True, True))])


def _isotopes(atoms: Atoms) -> None:
    masses = atoms.get_masses()
    masses[4:] = ISOTOPE_MASSES["D"], ISOTOPE_MASSES["T"]
    atoms.set_masses(masses)


SET: dict[str, Any] = {
    "constraints": _constrained,
    "magnetic moments": lambda atoms: atoms.set_initial_magnetic_moments([0.5, -1.5, 0, 2, 0, 1]),
    "tags": lambda atoms: atoms.set_tags([0, 1, 2, 0, 3, 4]),
    "charge": lambda atoms: atoms.info.update(charge=2),
    "spin": lambda atoms: atoms.info.update(spin=3),
    "oxidation states": lambda atoms: atoms.set_array(OXIDATION_STATES, np.array([2.0, -2, 2, -2, 1, -1])),
    "isotopes": _isotopes,
    "masses": lambda atoms: atoms.set_masses([24.0, 18, 24, 16, 1.5, 1.008]),
    "open axes": lambda atoms: atoms.set_pbc((True, True, False)),
}
SEEN: dict[str, Any] = {
    "constraints": lambda atoms: to_system(atoms).fixed,
    "magnetic moments": lambda atoms: atoms.get_initial_magnetic_moments(),
    "tags": lambda atoms: atoms.get_tags(),
    "charge": lambda atoms: (to_system(atoms).charge_spin or (0,))[0],
    "spin": lambda atoms: (to_system(atoms).charge_spin or (0, 0))[1],
    "oxidation states": lambda atoms: atoms.arrays[OXIDATION_STATES],
    "isotopes": lambda atoms: atoms.get_masses(),
    "masses": lambda atoms: atoms.get_masses(),
    "open axes": lambda atoms: atoms.pbc,
}


def _computed(structure: Any) -> Computed:
    forces = np.full((len(structure), 3), 0.25)
    return Computed("mine", structure, {"fmax": 0.4}, energy=-3.5, forces=forces, stress=np.eye(3) * 0.01)


def _read(path: Path) -> Any:
    (entry,) = read_structures(path)
    assert entry.error is None, entry.error
    return entry.structure


def _in_order_of(atoms: Atoms, back: Atoms) -> Atoms:
    """``back`` with its sites in the order of ``atoms``, found by place and element; CIF readers may sort them."""
    np.testing.assert_allclose(back.cell.cellpar(), atoms.cell.cellpar(), atol=1e-7)
    moved = back.get_scaled_positions(wrap=False)[None] - atoms.get_scaled_positions(wrap=False)[:, None]
    same = np.abs(moved - np.round(moved)).max(axis=2) < 1e-8
    assert same.sum() == len(atoms) == len(back)
    ordered: Atoms = back[same.argmax(axis=1)]
    np.testing.assert_array_equal(ordered.numbers, atoms.numbers)
    return ordered


@pytest.mark.parametrize("as_given", [lambda atoms: atoms, as_pymatgen], ids=["ase", "pymatgen"])
@pytest.mark.parametrize(("file", "what"), list(itertools.product(FILES, SITE_DATA)))
def test_every_output_holds_what_it_can_and_says_what_it_cannot(
    tmp_path: Path, file: str, what: str, as_given: Any
) -> None:
    atoms = crystal()
    SET[what](atoms)
    assert what in site_data(atoms)
    structure = as_given(atoms)
    written = write_structures(tmp_path / file, [_computed(structure)])
    assert written.n_structures == 1
    back = _in_order_of(atoms, as_atoms(_read(tmp_path / file)))
    if what in HOLDS[output_format(tmp_path / file)]:
        np.testing.assert_allclose(SEEN[what](back), SEEN[what](as_atoms(structure)), atol=1e-6)
        np.testing.assert_allclose(SEEN[what](back), SEEN[what](atoms), atol=1e-6)
        assert written.notes == []
    else:
        (note,) = written.notes
        assert note.startswith(f"{file} does not hold the {what}") and "write extxyz or json to keep them" in note


@pytest.mark.parametrize("file", ["out.extxyz", "out.json"])
def test_all_site_data_together_survive_two_round_trips(tmp_path: Path, file: str) -> None:
    atoms = crystal()
    for what in set(SITE_DATA) - {"masses"}:
        SET[what](atoms)
    structure: Any = atoms
    for _ in range(2):
        assert write_structures(tmp_path / file, [_computed(structure)]).notes == []
        structure = _read(tmp_path / file)
    back = as_atoms(structure)
    assert site_data(back) == site_data(atoms)
    for what in site_data(atoms):
        np.testing.assert_allclose(SEEN[what](back), SEEN[what](atoms), atol=1e-6)


@pytest.mark.parametrize("file", ["out.extxyz", "out.json", "out.vasp"])
@pytest.mark.parametrize("constraint", [FixScaled(2, (False, False, True)), FixCartesian(2, (True, False, True))])
def test_partly_fixed_atoms_stay_so_in_a_rectangular_cell(tmp_path: Path, file: str, constraint: Any) -> None:
    atoms = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    atoms.set_constraint([FixAtoms([0]), constraint])
    expected = to_system(atoms).fixed
    assert 3 < expected.sum() < 6
    assert write_structures(tmp_path / file, [_computed(atoms)]).notes == []
    np.testing.assert_array_equal(to_system(_read(tmp_path / file)).fixed, expected)


def test_directions_that_a_format_does_not_have_fix_the_atom_and_are_named(tmp_path: Path) -> None:
    atoms = crystal()
    atoms.set_constraint(FixScaled(2, (True, False, False)))
    (note,) = write_structures(tmp_path / "out.extxyz", [_computed(atoms)]).notes
    assert "does not hold the constraints as they are (partly fixed atoms are fixed as a whole); write json" in note
    assert to_system(_read(tmp_path / "out.extxyz")).fixed.sum() == 3
    for file in ("out.json", "out.vasp"):
        assert write_structures(tmp_path / file, [_computed(atoms)]).notes == []
        mask, exact = fixed_along_lattice(as_atoms(_read(tmp_path / file)))
        assert exact and mask[2].tolist() == [True, False, False]
    atoms.set_constraint(FixCartesian([2], (True, False, False)))
    for file in ("out.json", "out.vasp"):
        (note,) = write_structures(tmp_path / file, [_computed(atoms)]).notes
        assert "partly fixed atoms are fixed as a whole" in note


def test_pymatgen_structures_with_gaps_and_species_are_written(tmp_path: Path) -> None:
    structure = Structure(
        Lattice.cubic(4.2),
        [Species("Fe", 3, spin=5), Species("O", -2)],
        [[0, 0, 0], [0.5, 0.5, 0.5]],
        site_properties={"selective_dynamics": [[True, True, False], None], "note": ["a", "b"], "tags": [1, None]},
    )
    for file in ("out.extxyz", "out.json"):
        write_structures(tmp_path / file, [_computed(structure)])
        back = as_atoms(_read(tmp_path / file))
        assert to_system(back).fixed.tolist() == [[False, False, True], [False] * 3]
        assert back.arrays[OXIDATION_STATES].tolist() == [3, -2] and back.get_tags().tolist() == [1, 0]
        assert back.get_initial_magnetic_moments()[0] == 5


@pytest.mark.parametrize("structure", [molecule("H2O"), Molecule(["O", "H"], [[0, 0, 0], [0, 0, 0.97]], charge=-1)])
def test_molecules_keep_charge_and_spin_or_are_refused(tmp_path: Path, structure: Any) -> None:
    expected = to_system(structure)
    for file in ("out.extxyz", "out.json"):
        assert write_structures(tmp_path / file, [_computed(structure)]).notes == []
        back = to_system(_read(tmp_path / file))
        assert not back.periodic and back.charge_spin == expected.charge_spin
        np.testing.assert_allclose(back.positions, expected.positions, atol=1e-7)
    for file in ("out.cif", "out.vasp"):
        with pytest.raises(
            DPA4Error, match="cannot hold mine, which has no three lattice vectors; write extxyz or json"
        ):
            write_structures(tmp_path / file, [_computed(structure)])


def test_a_cif_of_several_structures_keeps_their_names_and_digits(tmp_path: Path) -> None:
    several = [Computed(name, crystal(), energy=-1.0) for name in ("first one", "second")]
    assert write_structures(tmp_path / "out.cif", several).n_structures == 2
    entries = read_structures(tmp_path / "out.cif")
    assert [entry.name for entry in entries] == ["out:first_one", "out:second"]
    assert len(_in_order_of(crystal(), as_atoms(entries[1].structure))) == 6


def test_arrays_of_the_input_do_not_stop_json(tmp_path: Path) -> None:
    atoms = crystal()
    atoms.info |= {"virial": np.eye(3), "odd": {"a": np.int64(3)}, "object": object()}
    write_structures(tmp_path / "out.json", [_computed(atoms)])
    assert as_atoms(_read(tmp_path / "out.json")).info["virial"] == np.eye(3).tolist()


def test_the_command_says_what_a_file_does_not_hold(tmp_path: Path) -> None:
    atoms = bulk("MgO", "rocksalt", a=4.2)
    atoms.set_tags([1, 2])
    atoms.write(tmp_path / "in.extxyz")
    result = CliRunner().invoke(
        app, ["predict", str(tmp_path / "in.extxyz"), "-o", str(tmp_path / "out.cif"), "-m", MORSE]
    )
    assert result.exit_code == 0, result.output
    assert "out.cif does not hold the tags" in " ".join(result.output.split())


RUN_DATA = tuple(what for what in SITE_DATA if what not in ("constraints", "open axes"))


@pytest.mark.parametrize("what", [*RUN_DATA, "constraints", "open axes"])
def test_rows_of_large_runs_hold_all_site_data(tmp_path: Path, what: str) -> None:
    atoms = crystal()
    SET[what](atoms)
    atoms.write(tmp_path / "in.extxyz")
    task = Task("static", ModelRef(MORSE).resolve(), static_settings(dtype="float64"), with_forces=True)
    run = prepare_folder(tmp_path / "run", task, [tmp_path / "in.extxyz"])
    RunWorker(run, [tmp_path / "in.extxyz"], MorsePotential()).work()
    (row,) = run.rows()
    assert row["error"] is None
    np.testing.assert_allclose(SEEN[what](flat_atoms(row)), SEEN[what](atoms), atol=1e-6)
    export_run(run, tmp_path / "out.extxyz")
    np.testing.assert_allclose(SEEN[what](as_atoms(_read(tmp_path / "out.extxyz"))), SEEN[what](atoms), atol=1e-6)


@pytest.mark.parametrize("suffix", ["traj", "extxyz"])
@pytest.mark.parametrize("as_given", [lambda atoms: atoms, as_pymatgen], ids=["ase", "pymatgen"])
def test_trajectories_hold_all_site_data(tmp_path: Path, suffix: str, as_given: Any) -> None:
    atoms = crystal()
    for what in set(SITE_DATA) - {"masses"}:
        SET[what](atoms)
    settings = MDSettings(ensemble="nve", temperature=10, time_ps=2e-4, timestep_fs=0.1, every=1)
    path = tmp_path / f"run.{suffix}"
    md(as_given(atoms), MorsePotential(), settings, output=path)
    last = as_atoms(read_structures(path)[-1].structure)
    assert site_data(last) == site_data(atoms)
    for what in site_data(atoms):
        np.testing.assert_allclose(SEEN[what](last), SEEN[what](atoms), atol=1e-6)


@pytest.mark.parametrize("suffix", ["json", "jsonl", "extxyz", "db"])
def test_all_readers_call_a_row_the_same(tmp_path: Path, suffix: str) -> None:
    first = ComputedStructureEntry(
        Structure(Lattice.cubic(4.2), ["Cs", "Cl"], [[0, 0, 0], [0.5] * 3]), -4, entry_id="e"
    )
    labels: list[dict[str, Any]] = [{"name": "n", "material_id": "m-1", "entry_id": "e"}, {"name": "n-2"}]
    rows = [{**first.as_dict(), "entry_id": None, **label} for label in labels]
    path, atoms = tmp_path / f"rows.{suffix}", first.structure.to_ase_atoms()
    if suffix == "json":
        path.write_text(json.dumps({"entries": rows}))
    elif suffix == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    elif suffix == "extxyz":
        frames = [atoms.copy() for _ in labels]
        for frame, label in zip(frames, labels, strict=True):
            frame.info.update(label)
        ase.io.write(path, frames)
    else:
        with ase.db.connect(path) as database:
            for label in labels:
                database.write(atoms, key_value_pairs=label)
    names = ["m-1", "n-2"]
    assert [entry.name for entry in read_structures(path)] == names
    assert [entry.name for entry in iter_structures(path)] == names
    if suffix != "jsonl":  # no format of labels
        assert [frame.name for frame in read_frames(path)] == names
    assert [candidate.candidate_id for candidate in read_candidates([path])] == names
    assert [phase.name for phase in load_phases([path])] == names
    if suffix == "json":
        assert list(read_entries(path)) == names


class Made:
    """A source of phases."""

    name, version, reach = "made up", "1", float("inf")

    def __init__(self, structures: list[Structure]) -> None:
        self._phases = [ReferencePhase(f"p{i}", structure, "made up") for i, structure in enumerate(structures)]

    def surveys(self, chemical_system: str) -> bool:
        return True

    def phases(self, chemical_system: str) -> list[ReferencePhase]:
        return [phase for phase in self._phases if phase.elements <= set(chemical_system.split("-"))]

    def answered_by(self) -> str:
        return self.version


WRITERS = [
    *("predict.json", "predict.extxyz", "predict.cif", "run.json", "run.extxyz"),
    *("export.json", "export.json.gz", "md.traj", "md-text.extxyz"),
]
READERS: dict[str, Any] = {
    "structures": lambda path: [as_atoms(entry.structure) for entry in read_structures(path)],
    "stream": lambda path: [as_atoms(entry.structure) for entry in iter_structures(path)],
    "candidates": lambda path: [as_atoms(structure_of(c.structure)) for c in read_candidates([path])],
    "phases": lambda path: [as_atoms(phase.structure) for phase in load_phases([path])],
    "frames": lambda path: [
        Atoms(f.system.numbers, f.system.positions, cell=f.system.cell, pbc=f.system.pbc) for f in read_frames(path)
    ],
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of every command that writes structures, each of rock salt and caesium chloride."""
    folder = tmp_path_factory.mktemp("written")
    frames = [bulk("MgO", "rocksalt", a=4.2, cubic=True), bulk("MgO", "cesiumchloride", a=2.6)]
    results = [Computed(f"s{i}", atoms, energy=-3.5, stress=np.eye(3) * 0.01) for i, atoms in enumerate(frames)]
    for name in WRITERS[:3]:
        write_structures(folder / name, results)
    ase.io.write(folder / "in.extxyz", frames)
    task = Task("static", ModelRef(MORSE).resolve(), static_settings(dtype="float64"), with_forces=True)
    run = prepare_folder(folder / "run", task, [folder / "in.extxyz"])
    RunWorker(run, [folder / "in.extxyz"], MorsePotential()).work()
    for name in WRITERS[3:5]:
        export_run(run, folder / name)
    store = ReferenceStore.for_model(ModelRef(MORSE), Relaxed(fmax=1.0, max_steps=200), folder / "library")
    store.build(["Mg-O"], [Made([as_crystal(atoms) for atoms in frames])])
    for name in WRITERS[5:7]:
        assert export_entries(store, folder / name, "none") == 2
    for name in WRITERS[7:]:
        settings = MDSettings(ensemble="nve", time_ps=1e-4, timestep_fs=0.1)
        md(frames[1], MorsePotential(), settings, output=folder / name)
    return folder


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", WRITERS)
def test_what_our_commands_write_our_commands_read(written: Path, name: str, reader: str) -> None:
    if name.endswith(".cif") and reader == "frames":
        with pytest.raises(StructureError, match="has no known format"):
            list(read_frames(written / name))
        return
    found = READERS[reader](written / name)
    assert {len(atoms) for atoms in found} == ({2} if name.startswith("md") else {2, 8})
    assert all(atoms.pbc.all() and set(atoms.symbols) == {"Mg", "O"} for atoms in found)


@pytest.mark.parametrize("name", ["predict.json", "predict.extxyz"])
def test_stresses_that_we_write_are_read_in_our_unit(written: Path, name: str) -> None:
    for frame in read_frames(written / name):
        assert isinstance(frame, Frame) and frame.stress is not None and frame.energy == -3.5
        np.testing.assert_allclose(frame.stress, np.eye(3) * 0.01, atol=1e-12)


def test_every_number_in_a_table_file_tells_its_unit() -> None:
    """By the end of its name, or behind it; who has none says so."""
    silent = [
        f"{name}.{field}"
        for name in property_names()
        for kind in [property_class(name).document]
        for field in scalar_fields(kind)
        for inner, own in [home_of(kind, field)]
        if float in get_args(inner.model_fields[own].annotation) or inner.model_fields[own].annotation is float
        if unit_of(inner, own) is None and not field.endswith(tuple(f"_{unit}" for unit in _IN_NAMES))
    ]
    assert not silent
    assert file_head(AlloyDocument, "bowing_a") == "bowing_a (Å)" and file_head(AlloyDocument, "misfit") == "misfit"
    assert file_head(AlloyDocument, "omega_kj_mol") == "omega_kj_mol"

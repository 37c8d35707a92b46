"""Libraries of phases: every layout is read, broken files are named, the bundled elements are complete."""

import gzip
import json
import zipfile
from pathlib import Path

import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from pymatgen.core import Element, Lattice, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry

from dpa4_flows.campaigns.candidates import read_candidates
from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.reference.library import (
    LibraryError,
    bundled_elements,
    load_phases,
    select_for_chemsys,
)
from dpa4_flows.reference.sources import PhaseFile, find_phases

DATA = Path(__file__).parents[1] / "data"
OBSERVED = frozenset(range(1, 95)) - {2, 10, 18, 36, 54, 84, 85, 86, 87, 88}  # elements of OMat24


@pytest.fixture
def rocksalt():
    return Structure(Lattice.cubic(5.14), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def plain(structure):
    return {
        "lattice": structure.lattice.matrix.tolist(),
        "species": [site.specie.symbol for site in structure],
        "frac_coords": structure.frac_coords.tolist(),
    }


def test_every_layout_is_read(tmp_path, rocksalt):
    entry = ComputedStructureEntry(rocksalt, -7.0, entry_id="mp-1").as_dict()
    layouts = {
        "rows": [{"id": "a", "structure": plain(rocksalt), "source": "someone"}],
        "bare": [plain(rocksalt)],
        "structures": [rocksalt.as_dict()],
        "entries": {"entries": [entry]},
        "named": {"b": plain(rocksalt)},
        "one": rocksalt.as_dict(),
        "zipped": [entry],
    }
    names = {}
    for layout, content in layouts.items():
        path = tmp_path / f"{layout}.json"
        text = json.dumps(content).encode()
        path.write_bytes(gzip.compress(text) if layout == "zipped" else text)
        (phase,) = load_phases([path])
        assert phase.structure.matches(rocksalt)
        assert phase.role == "competing"
        names[layout] = (phase.name, phase.source)
    assert names["rows"] == ("a", "someone")
    assert names["bare"] == ("bare:0", "bare.json")
    assert names["entries"] == ("mp-1", "entries.json")
    assert names["named"] == ("b", "named.json")


@pytest.mark.parametrize("name", ["a.cif", "POSCAR", "a.extxyz", "a.extxyz.gz", "a.json", "a.db", "set.zip", "folder"])
def test_whatever_is_a_candidate_may_compete(tmp_path: Path, rocksalt: Structure, name: str) -> None:
    """In a campaign, a flow, `hull --against` and `reference build --from`; energies in a file do not count."""
    path, atoms = tmp_path / name, rocksalt.to_ase_atoms()
    atoms.calc = SinglePointCalculator(atoms, energy=-7.0)
    if name == "set.zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.cif", rocksalt.to(fmt="cif"))
    elif name == "folder":
        path.mkdir()
        atoms.write(path / "a.cif")
    elif name == "a.json":
        path.write_text(json.dumps([rocksalt.as_dict()]))
    else:
        atoms.write(path)
    (candidate,) = read_candidates([path])
    assert candidate.error is None
    campaign = tmp_path / "campaign.toml"
    campaign.write_text(f"[campaign]\nname = 'x'\ncandidates = ['{name}']\n[hull]\ncompeting = ['{name}']\n")
    files = load_campaign(campaign).hull.competing
    (phase,) = [phase for phase in find_phases(["Cl-Li"], files, bundled=False) if phase.role == "competing"]
    (other,) = PhaseFile(path).phases("Cl-Li")
    assert phase.name == other.name == candidate.candidate_id and len(PhaseFile(path).version) == 12
    for found in (phase.structure, other.structure):
        assert found.matches(rocksalt)


def test_many_files_keep_their_order():
    phases = load_phases([DATA / "compounds.json", DATA / "mp2020_entries.json.gz"])
    assert phases[0].name == "Li2O"
    assert len(phases) == 50 + 74
    assert {phase.role for phase in phases} == {"element", "competing"}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"no json", "is not valid JSON"),
        (b"\x1f\x8b\x08broken", "cannot be read"),
        (b"3", "holds no structure"),
        (b"[3]", "phases:?0?: the entry has neither a structure"),
        (b'[{"id": "a"}]', "a: the entry has neither a structure"),
        (b'[{"structure": {"lattice": [[1]], "species": ["Li"], "frac_coords": [[0,0,0]]}}]', "the lattice"),
        (b'[{"structure": {"lattice": [[3,0,0],[0,3,0],[0,0,3]], "species": [], "frac_coords": []}}]', "no atoms"),
        (
            b'[{"structure": {"lattice": [[3,0,0],[0,3,0],[0,0,3]], "species": ["Qq"], "frac_coords": [[0,0,0]]}}]',
            "not an element",
        ),
    ],
)
def test_broken_files_are_named(tmp_path, content, part):
    path = tmp_path / "phases.json"
    path.write_bytes(content)
    with pytest.raises(LibraryError, match=part) as error:
        load_phases([path])
    assert "phases.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(LibraryError, match=r"there is no file .*nothing.json"):
        load_phases([tmp_path / "nothing.json"])


def test_selection_keeps_what_fits_one_of_the_systems():
    phases = load_phases([DATA / "compounds.json"])
    assert [p.name for p in select_for_chemsys(phases, ["Li-O"])] == ["Li2O", "Li2O2"]
    names = {p.name for p in select_for_chemsys(phases, ["O-Co-Li", "Zn-S"])}
    assert names == {"Li2O", "Li2O2", "CoO", "Co3O4", "LiCoO2", "ZnS"}
    assert select_for_chemsys(phases, []) == []


def test_bundled_elements_cover_the_training_set():
    phases = bundled_elements()
    symbols = {symbol for phase in phases for symbol in phase.elements}
    assert {Element(symbol).Z for symbol in symbols} == OBSERVED
    assert len({phase.name for phase in phases}) == len(phases)
    assert {phase.role for phase in phases} == {"element"}
    assert max(len(phase.structure) for phase in phases) <= 42


def test_bundled_molecules_are_molecular_solids():
    for symbol, bond in (("H", 0.75), ("N", 1.11), ("O", 1.23), ("F", 1.42), ("Cl", 2.0), ("Br", 2.3), ("I", 2.7)):
        for phase in bundled_elements([symbol]):
            distances = phase.structure.distance_matrix
            shortest = distances[distances > 0.1].min()
            assert shortest == pytest.approx(bond, rel=0.08), phase.name


def test_ground_states_that_experiments_know_are_among_the_bundled():
    known = {
        "Mg": 194,
        "Cd": 194,
        "Zn": 194,
        "Fe": 229,
        "Ni": 225,
        "Co": 194,
        "Mn": 217,
        "Ti": 194,
        "Si": 227,
        "K": 229,
    }
    names = {tuple(phase.name.split("-")[:2]) for phase in bundled_elements(list(known))}
    assert {(symbol, str(group)) for symbol, group in known.items()} <= names

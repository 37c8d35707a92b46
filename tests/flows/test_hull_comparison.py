"""Two hulls of the same phases: ranks, false positives and negatives, and the command that computes one of them."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pymatgen.core import Composition, Element, Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry, ConstantEnergyAdjustment
from toy_campaign import MORSE, antifluorite, layered, rocksalt
from typer.testing import CliRunner, Result

from dpa4_flows.analysis.hull_comparison import (
    ComparisonError,
    compare_hulls,
    count_stable,
    distinct_crystals,
    rank_agreement,
)
from dpa4_flows.cli import app
from dpa4_flows.cli.validate_hull import TABLE
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.engines import run_local
from dpa4_flows.makers.named import HullComparisonMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.hull_comparison import HullComparison
from dpa4_flows.reference.entries_file import read_entries
from dpa4_flows.reference.library import LibraryError, bundled_elements
from dpa4_flows.store.table import ResultsTable

FAST = ("-m", MORSE, "--fmax", "0.05", "--threads", "1")
PNG = b"\x89PNG\r\n\x1a\n"


def entries(**formation: float) -> dict[str, ComputedEntry]:
    """Entries by id with formation energies in eV/atom; the id begins with the formula. Elements have zero."""
    found = {}
    for name, value in formation.items():
        composition = Composition(name.split("_")[0])
        found[name] = ComputedEntry(composition, value * composition.num_atoms, entry_id=name)
    return found


def n_atoms(entries: dict[str, ComputedEntry]) -> dict[str, int]:
    return {name: int(entry.composition.num_atoms) for name, entry in entries.items()}


EXPECTED = entries(Li=0.0, O2=0.0, Li2O=-2.0, Li2O_b=-1.97, Li2O2=-1.65, LiO2=-1.0, LiO3=-0.5)
FOUND = entries(Li=-3.0, O2=-5.0, Li2O=-5.4, Li2O_b=-5.5, Li2O2=-5.4, LiO2=-5.2, LiO3=-4.9)  # on a scale of its own


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def test_each_phase_stands_on_the_hull_of_its_own_method() -> None:
    phases = {p.name: p for p in compare_hulls(EXPECTED, FOUND, n_atoms=n_atoms(EXPECTED))}
    assert phases["Li2O_b"].above_hull_expected == pytest.approx(0.03)
    assert phases["Li2O_b"].above_hull_found == 0
    assert phases["Li2O"].above_hull_found == pytest.approx(0.1)
    assert phases["Li2O"].formation_expected == pytest.approx(-2.0)
    assert phases["Li2O"].formation_found == pytest.approx(-5.4 + (2 * 3 + 5) / 3)


def test_what_one_method_lacks_is_on_neither_hull() -> None:
    found = {name: entry for name, entry in FOUND.items() if name != "Li2O_b"}
    phases = {p.name: p for p in compare_hulls(EXPECTED, found, n_atoms=n_atoms(EXPECTED))}
    assert "Li2O_b" not in phases
    assert phases["Li2O"].above_hull_found == phases["Li2O"].above_hull_expected == 0
    with pytest.raises(ComparisonError, match="no phase in common"):
        compare_hulls(EXPECTED, {}, n_atoms={})
    with pytest.raises(ComparisonError, match="no energy of elemental O: a hull needs all its elements"):
        without = {name: entry for name, entry in FOUND.items() if name != "O2"}
        compare_hulls(EXPECTED, without, n_atoms=n_atoms(EXPECTED))


def test_false_positives_and_negatives_at_both_thresholds() -> None:
    phases = compare_hulls(EXPECTED, FOUND, n_atoms=n_atoms(EXPECTED))
    expected = {p.name for p in phases if p.above_hull_expected < 5e-4}
    assert expected == {"Li", "O2", "Li2O", "Li2O2", "LiO2"} - {p.name for p in phases if p.above_hull_expected > 5e-4}
    strict = count_stable(phases, 0.0)
    assert strict.false_positives == sum(p.above_hull_found < 5e-4 < p.above_hull_expected for p in phases) > 0
    assert strict.false_negatives == sum(p.above_hull_expected < 5e-4 < p.above_hull_found for p in phases) > 0
    assert strict.both + strict.false_positives + strict.false_negatives + strict.neither == len(phases)
    loose = count_stable(phases, 0.05)
    assert loose.both == strict.both + 1  # Li2O_b, by 0.03 eV/atom
    assert loose.precision == pytest.approx(loose.both / (loose.both + loose.false_positives))
    assert loose.recall == pytest.approx(loose.both / (loose.both + loose.false_negatives))


def test_ranks_are_those_of_the_compounds() -> None:
    alike = rank_agreement(compare_hulls(EXPECTED, EXPECTED, n_atoms=n_atoms(EXPECTED)))
    assert alike is not None
    assert (alike.n_phases, alike.mae_above_hull, alike.mae_formation) == (5, 0, 0)
    assert alike.spearman == pytest.approx(1)
    assert alike.kendall == pytest.approx(1)
    shifted = {name: ComputedEntry(e.composition, e.energy + 0.1 * e.composition["O"]) for name, e in EXPECTED.items()}
    moved = rank_agreement(compare_hulls(EXPECTED, shifted, n_atoms=n_atoms(EXPECTED)))
    assert moved is not None
    assert moved.mae_formation == pytest.approx(0)  # the element moves with its compounds
    wrong = rank_agreement(compare_hulls(EXPECTED, FOUND, n_atoms=n_atoms(EXPECTED)))
    assert wrong is not None and wrong.spearman is not None and wrong.spearman < 1
    near = rank_agreement(compare_hulls(EXPECTED, FOUND, n_atoms=n_atoms(EXPECTED)), within=0.04)
    assert near is not None and near.n_phases < wrong.n_phases


def test_crystal_in_several_states_counts_once_in_its_lowest() -> None:
    """CoO twice, in another magnetic state 0.3 eV/atom higher, which the judged method cannot see."""
    expected = entries(Co=0.0, O2=0.0, CoO=-1.0, CoO_other=-0.7, CoO_wurtzite=-0.9)
    found = entries(Co=0.0, O2=0.0, CoO=-1.2, CoO_other=-1.2, CoO_wurtzite=-1.25)
    wurtzite = Structure.from_spacegroup("P6_3mc", Lattice.hexagonal(3.25, 5.2), ["Co", "O"],
                                         [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.38]])  # fmt: skip
    shapes = {"CoO": rocksalt("Co"), "CoO_other": rocksalt("Co") * [1, 1, 2], "CoO_wurtzite": wurtzite}
    elements = {"Co": Structure(Lattice.cubic(2.8), ["Co"], [[0] * 3])}
    elements["O2"] = Structure(Lattice.cubic(4), ["O", "O"], [[0] * 3, [0.3, 0, 0]])
    phases = compare_hulls(expected, found, n_atoms=n_atoms(expected))
    crystals = distinct_crystals(phases, shapes | elements)
    assert [phase.name for phase in crystals] == ["Co", "O2", "CoO", "CoO_wurtzite"]
    assert count_stable(phases, 0.05).false_positives == 2  # the other state, and wurtzite
    assert count_stable(crystals, 0.05).false_positives == 1


# ---- files of entries


def structures() -> dict[str, Structure]:
    chosen = {phase.name: phase.structure for phase in bundled_elements(["Li", "Co", "O"])}
    return {**chosen, "Li2O": antifluorite(), "CoO": rocksalt("Co"), "LiCoO2": layered("Co")}


def write_entries(path: Path) -> Path:
    rows = []
    for name, structure in structures().items():
        entry = ComputedStructureEntry(
            structure,
            -3.0 * len(structure) - 2.0 * (structure.composition.num_atoms if name == "LiCoO2" else 0),
            energy_adjustments=[ConstantEnergyAdjustment(-0.25)],
            entry_id=name,
        )
        rows.append({**entry.as_dict(), "e_above_hull": 0.1, "is_stable": False})
    path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    return path


def test_entries_are_read_with_their_corrections(tmp_path: Path) -> None:
    found = read_entries(write_entries(tmp_path / "entries.json.gz"))
    assert list(found) == list(structures())
    assert found["CoO"].energy == pytest.approx(-6.25)
    assert found["CoO"].composition == Composition("CoO")
    without_sum = [{k: v for k, v in found["CoO"].as_dict().items() if k != "correction"}]
    (tmp_path / "plain.json").write_text(json.dumps(without_sum))
    assert read_entries(tmp_path / "plain.json")["CoO"].energy == pytest.approx(-6.25)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"structure": {}}], "row 0 of .* is no computed entry: it needs `structure` and `energy`"),
        ([{"structure": {}, "energy": 1.0}], "row 0 of .* is no readable entry"),
        ([], "holds no entries"),
    ],
)
def test_what_is_no_entry_is_named(tmp_path: Path, content: list[object], words: str) -> None:
    (tmp_path / "wrong.json").write_text(json.dumps(content))
    with pytest.raises(LibraryError, match=words):
        read_entries(tmp_path / "wrong.json")


# ---- the command


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def test_command_compares_relaxes_once_and_draws(tmp_path: Path) -> None:
    file = write_entries(tmp_path / "entries.json.gz")
    command = ("validate", "hull", file, *FAST, "-o", tmp_path / "kept")
    first = dpa4(*command, "--csv", tmp_path / "rows.csv", "--plot", tmp_path / "parity.png")
    assert first.exit_code == 0, first.output
    assert "false negatives" in first.stdout and "Spearman" in first.stdout
    assert (tmp_path / "parity.png").read_bytes().startswith(PNG)
    with (tmp_path / "rows.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == list(structures())
    computed = {d.key: d.provenance.created for d in ResultsTable(tmp_path / "kept" / TABLE).iter_calculations()}

    second = dpa4(*command, "--json", "--plot", tmp_path / "parity.html", "--threshold", "0.05", "--threshold", "20")
    assert second.exit_code == 0, second.output
    assert "LiCoO2" in (tmp_path / "parity.html").read_text()
    assert computed == {
        d.key: d.provenance.created for d in ResultsTable(tmp_path / "kept" / TABLE).iter_calculations()
    }
    data = json.loads(second.stdout)
    (comparison,) = data["comparisons"]
    assert comparison["scheme"] == "none"
    counts = comparison["entries"]["counts"]
    assert [count["threshold"] for count in counts] == [0.05, 20.0]
    assert counts[1]["both"] == len(rows) == len(comparison["phases"])
    assert counts[1]["recall"] == 1
    assert comparison["crystals"]["counts"][1]["both"] <= len(rows)
    lithia = next(phase for phase in comparison["phases"] if phase["name"] == "Li2O")
    lithium = min(-3.0 - 0.25 / len(s) for n, s in structures().items() if s.composition.chemical_system == "Li")
    oxygen = min(-3.0 - 0.25 / len(s) for n, s in structures().items() if s.elements == [Element("O")])
    assert lithia["formation_expected"] == pytest.approx((-9.25 - 2 * lithium - oxygen) / 3)


def test_maker_compares_as_the_command(tmp_path: Path) -> None:
    file = write_entries(tmp_path / "entries.json.gz")
    property_ = HullComparison(entries=str(file), relaxation=Relaxed(fmax=0.05), max_atoms=3)
    flow = HullComparisonMaker(model=ModelRef(MORSE), property=property_).make()
    document = run_local(flow, tmp_path / "jobs")[flow.output.uuid][1].output
    data = json.loads(dpa4("validate", "hull", file, *FAST, "--max-atoms", "3", "--json").stdout)
    (comparison,) = document.comparisons
    assert [p.above_hull_found for p in comparison.phases] == pytest.approx(
        [row["above_hull_found"] for row in data["comparisons"][0]["phases"]]
    )
    assert document.n_too_large == data["n_too_large"] > 0 and document.without_energy == {}


def test_a_crystal_is_found_on_both_hulls(tmp_path: Path) -> None:
    """By its name in the file, or as the structure that it is; what is not in the file harms nobody."""
    file = write_entries(tmp_path / "entries.json.gz")
    expected = json.loads(dpa4("validate", "hull", file, *FAST, "--json").stdout)["comparisons"][0]["phases"]
    lithia = next(phase for phase in expected if phase["name"] == "Li2O")
    (antifluorite() * [1, 1, 2]).to(str(tmp_path / "again.cif"))
    rocksalt("Mg").to(str(tmp_path / "MgO.cif"))
    asked = ("hull-comparison", tmp_path / "again.cif", tmp_path / "MgO.cif", file, "--entries", file)
    result = dpa4(*asked, "--set", "hull_comparison.relaxation.fmax=0.05", "-m", MORSE, "--json")
    assert result.exit_code == 3, result.output
    again, other, *phases = [row["hull_comparison"] for row in json.loads(result.stdout)]
    assert again["entry"] == "Li2O" and other["error"] == "entries.json.gz has no entry with this crystal"
    for found in ("above_hull_found", "above_hull_expected", "formation_found"):
        assert again[found] == pytest.approx(lithia[found])
        assert [phase[found] for phase in phases] == pytest.approx([phase[found] for phase in expected])
    assert "name it with --entries" in dpa4("hull-comparison", tmp_path / "MgO.cif", "-m", MORSE).stderr


def test_larger_cells_and_failures_are_left_out_and_named(tmp_path: Path) -> None:
    file = write_entries(tmp_path / "entries.json.gz")
    rows = json.loads(gzip.decompress(file.read_bytes()))
    overlap = Structure(rocksalt("Co").lattice, ["Co", "O"], [[0, 0, 0], [0.01, 0, 0]])
    rows.append(ComputedStructureEntry(overlap, -6.0, entry_id="overlap").as_dict())
    rows.append(ComputedStructureEntry(rocksalt("Co") * [3, 2, 2], -60.0, entry_id="large").as_dict())
    file.write_bytes(gzip.compress(json.dumps(rows).encode()))
    result = dpa4("validate", "hull", file, *FAST, "--max-atoms", "3")
    assert result.exit_code == 3, result.output
    n_large = sum(len(s) > 3 for s in structures().values())  # LiCoO2, which is on the hull of the file, is one of them
    assert f"{n_large} larger cells above the hull left out" in result.stdout
    assert "left out: CoO (overlap)" in result.stderr
    refused = dpa4("validate", "hull", file, *FAST, "--plot", tmp_path / "parity.pdf")
    assert refused.exit_code == 1
    assert "end the name of the plot in .html or .png" in refused.stderr

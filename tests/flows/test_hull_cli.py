"""`dpa4 hull` and `dpa4 reference` as a user types them."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.io import write
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry
from toy_campaign import MORSE, antifluorite, layered, rocksalt, write_campaign, write_phases
from typer.testing import CliRunner, Result

from dpa4_flows.bundled import bundled_compounds
from dpa4_flows.cli import app
from dpa4_flows.cli.competition import Competition
from dpa4_flows.properties import competition
from dpa4_flows.reference.library import load_phases
from dpa4_flows.reference.mp_cache import MaterialsProjectError
from dpa4_flows.reference.sources import MaterialsProjectPhases

FAST = ("-m", MORSE, "--fmax", "0.05", "--threads", "1")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache whose library holds Co-Li-O from the bundled phases and a file."""
    folder = tmp_path_factory.mktemp("built")
    write_phases(folder / "phases.json", {"Li2O": antifluorite(), "CoO": rocksalt("Co")})
    patch = pytest.MonkeyPatch()
    patch.setenv("DPA4_CACHE", str(folder / "cache"))
    result = dpa4("reference", "build", "Li-Co-O", "--from", folder / "phases.json", "--survey", "--no-mp", *FAST)
    patch.undo()
    assert result.exit_code == 0, result.output
    return folder / "cache"


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A copy of the built library for each test, no key, one thread."""
    shutil.copytree(built, tmp_path / "cache")
    monkeypatch.setenv("DPA4_CACHE", str(tmp_path / "cache"))
    for name in ("MP_API_KEY", "PMG_MAPI_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def answer(*arguments: object, exit_code: int = 0) -> Any:
    result = dpa4(*arguments, "--json")
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def places(*arguments: object, exit_code: int = 0) -> list[dict[str, Any]]:
    """Of the structures that have one."""
    rows = [row["hull"] for row in answer("hull", *arguments, exit_code=exit_code)]
    return [row["document"] for row in rows if row["error"] is None]


def refused(*arguments: object) -> str:
    result = dpa4(*arguments)
    assert result.exit_code == 1, result.output
    sentence = result.stderr.strip()
    assert sentence.startswith("error: ") and "\n" not in sentence, result.stderr
    return sentence


@pytest.fixture
def lithium_cobaltate(tmp_path: Path) -> Path:
    path = tmp_path / "LiCoO2.cif"
    layered("Co").to(filename=str(path))
    return path


# ---- the library


def test_library_is_listed(tmp_path: Path) -> None:
    shown = dpa4("reference", "list")
    assert shown.exit_code == 0
    assert "Co-Li-O" in shown.stdout and "file phases.json" in shown.stdout
    (library,) = json.loads(dpa4("reference", "list", "--json").stdout)
    (system,) = library["systems"]
    assert system["chemical_system"] == "Co-Li-O"
    assert system["completeness"]["grade"] == "surveyed" and system["n_phases"] == system["n_computed"] > 10
    assert "survey: file phases.json" in system["completeness"]["sentence"]
    assert library["settings"]["fmax"] == 0.05
    empty = dpa4("reference", "list", "--library", tmp_path / "nothing")
    assert "begin with: dpa4 reference build" in empty.stdout


def test_second_build_computes_nothing() -> None:
    summary = answer("reference", "build", "CoO", "Li-O", "--no-mp", *FAST)  # a formula stands for its system
    assert summary["n_computed"] == 0
    assert summary["chemical_systems"] == ["Co-O", "Li-O"]


def test_build_tells_missing_elements_and_surveys() -> None:
    result = dpa4("reference", "build", "Li-Xe", *FAST)
    assert result.exit_code == 3
    assert "no reference: Xe" in result.stderr
    assert "incomplete: no known compound, no survey of phases in Li-Xe, no reference for Xe" in result.stderr
    assert "name a chemical system" in refused("reference", "build", *FAST)
    assert "'Qq' in 'Li-Qq' is no element" in refused("reference", "build", "Li-Qq", *FAST)
    assert "'LiQq' is no element" in refused("reference", "build", "LiQq", *FAST)
    assert "gone.json" in refused("reference", "build", "Li-O", "--from", "gone.json", "--no-mp", *FAST)


def test_materials_project_that_is_asked_for_must_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> None:
        raise MaterialsProjectError("cannot reach the Materials Project")

    monkeypatch.setattr(MaterialsProjectPhases, "phases", silent)
    assert "cannot reach the Materials Project" in refused("reference", "build", "Li-Na", "--mp", *FAST)
    assert dpa4("reference", "build", "Li-Na", *FAST).exit_code == 0  # without a key it is not waited for
    monkeypatch.setenv("MP_API_KEY", "x" * 32)
    summary = answer("reference", "build", "Li-K", *FAST)
    assert summary["warnings"] == ["without the Materials Project: cannot reach the Materials Project"]


def test_build_of_a_campaign_takes_its_systems_and_files(tmp_path: Path) -> None:
    refusal = refused("reference", "build", "--campaign", write_campaign(tmp_path / "campaign"), "--no-mp")
    assert 'library = "none"' in refusal
    campaign = write_campaign(tmp_path / "campaign", hull={"library": "cache"})
    summary = answer("reference", "build", "--campaign", campaign, "--no-mp", exit_code=3)
    assert {"Co-Li-O", "Li-Ni-O", "Li-Mn-O", "Mg-O"} <= set(summary["chemical_systems"])
    assert summary["missing_elements"] == ["Xe"]
    libraries = json.loads(dpa4("reference", "list", "--json").stdout)
    assert {library["settings"]["dtype"] for library in libraries} == {"float32", "float64"}


def test_export(tmp_path: Path) -> None:
    assert dpa4("reference", "export", "all.json.gz").exit_code == 0
    content = json.loads(gzip.decompress((tmp_path / "all.json.gz").read_bytes()))
    everything = [ComputedStructureEntry.from_dict(row) for row in content["entries"]]
    assert dpa4("reference", "export", "some.json", "Li-O").exit_code == 0
    some = json.loads((tmp_path / "some.json").read_text())["entries"]
    assert 0 < len(some) < len(everything)
    assert "end the name in .json" in refused("reference", "export", "all.csv")
    assert "no phases of Na-Cl" in refused("reference", "export", "none.json", "Na-Cl")
    assert "holds nothing of dpa4-neo" in refused("reference", "export", "none.json", "--model", "dpa4-neo")
    assert dpa4("reference", "build", "Li-O", "--no-mp", *FAST, "--fmax", "0.1").exit_code == 0
    assert "choose with --fmax" in refused("reference", "export", "all.json")
    assert dpa4("reference", "export", "all.json", "--fmax", "0.1").exit_code == 0


# ---- hulls


def test_hull_of_a_file(lithium_cobaltate: Path) -> None:
    ((place,),) = ([row["hull"] for row in answer("hull", lithium_cobaltate, *FAST)],)
    row = place["document"]
    assert row["chemsys"] == place["chemsys"] == "Co-Li-O" and place["error"] is None
    assert row["completeness"]["grade"] == "surveyed" and row["completeness"]["without_energy"] == []
    assert row["n_competing"] > 10
    assert row["energy_above_hull"] >= 0 > row["formation_energy_per_atom"]
    assert sum(row["decomposition"].values()) == pytest.approx(1)
    assert row["frame"]["correction"] == place["correction"] == "none"
    assert row["competing_energies"] == "the same model"
    table = dpa4("hull", lithium_cobaltate, *FAST)
    assert table.exit_code == 0
    assert f"{row['formation_energy_per_atom']:.3f}".replace("-", "−") in table.stdout
    assert "corrections none" in table.stdout


def test_unrelaxed_structure_lies_higher(lithium_cobaltate: Path) -> None:
    (relaxed,) = places(lithium_cobaltate, *FAST)
    stretched = layered("Co")
    stretched.apply_strain(0.05)
    stretched.to(filename="stretched.cif")
    (static,) = places("stretched.cif", "--no-relax", *FAST)
    assert static["energy_above_hull"] > relaxed["energy_above_hull"] + 0.01
    assert static["n_competing"] == relaxed["n_competing"]


def test_system_that_was_not_built_is_built_and_called_incomplete() -> None:
    rocksalt("Mg").to(filename="MgO.cif")
    result = dpa4("hull", "MgO.cif", *FAST)
    assert result.exit_code == 0, result.output
    assert "MgO, hull: no known compound, no survey of phases in Mg-O; distances are lower bounds" in result.stderr
    assert "dpa4 reference build SYSTEM" in result.stderr
    (row,) = places("MgO.cif", *FAST)
    assert row["completeness"]["grade"] == "no_competitor"
    assert row["n_competing"] >= 2


def test_files_compete_for_this_hull_only(lithium_cobaltate: Path) -> None:
    better = layered("Co")
    write_phases(Path("mine.json"), {"layered": better})
    (row,) = places(lithium_cobaltate, "--against", "mine.json", *FAST)
    assert row["distance_to_competing"] == pytest.approx(0, abs=2e-3)
    assert row["energy_above_hull"] is None  # nothing but a form of its own competes
    (library,) = json.loads(dpa4("reference", "list", "--json").stdout)
    assert library["systems"][0]["n_phases"] > row["n_competing"] - 1
    assert "layered" not in {p["entry_id"] for p in exported()}
    assert Competition(against=["mine.json", "./mine.json"]).kinds == ["mine.json"]
    better.to(filename="POSCAR")  # any format of structures
    (again,) = places(lithium_cobaltate, "--against", "POSCAR", *FAST)
    assert again["n_competing"] == row["n_competing"]


def exported() -> list[dict[str, Any]]:
    dpa4("reference", "export", "exported.json")
    entries: list[dict[str, Any]] = json.loads(Path("exported.json").read_text())["entries"]
    return entries


def test_structures_compete_unless_they_stand_alone() -> None:
    layered("Co").to(filename="a.cif")
    squeezed = Structure(Lattice.cubic(2.7), ["Li", "O"], [[0.0] * 3, [0.5] * 3])
    squeezed.to(filename="b.cif")
    antifluorite().to(filename="c.cif")
    together = places("a.cif", "b.cif", "c.cif", *FAST)
    alone = places("a.cif", "b.cif", "c.cif", "--alone", *FAST)
    for one, other in zip(together, alone, strict=True):
        assert one["energy_above_hull"] >= other["energy_above_hull"] - 1e-9
        assert one["distance_to_competing"] == pytest.approx(other["distance_to_competing"])


def test_files_are_written_and_readable(lithium_cobaltate: Path) -> None:
    antifluorite().to(filename="Li2O.cif")
    files = (lithium_cobaltate, "Li2O.cif")
    result = dpa4("hull", *files, "--csv", "hull.txt", "--plot", "hull.html", "-o", "run", *FAST)
    assert result.exit_code == 0, result.output
    assert "Decomposes into" in dpa4("status", "run").stdout and "complete, 2 of 2" in dpa4("status", "run").stdout
    with Path("hull.txt").open(newline="") as stream:  # a table, whatever its name
        rows = list(csv.DictReader(stream))
    expected = [row["hull"] for row in answer("hull", *files, *FAST)]
    assert [row["name"] for row in rows] == ["LiCoO2", "Li2O"]
    for row, other in zip(rows, expected, strict=True):
        assert float(row["energy_above_hull (eV/atom)"]) == pytest.approx(other["energy_above_hull"], abs=1e-6)
        uncorrected = other["energy_per_atom_corrected"] - other["correction_per_atom"]
        assert float(row["energy_per_atom (eV/atom)"]) == pytest.approx(uncorrected, abs=1e-6)
        assert float(row["fmax (eV/Å)"]) <= 0.05 and int(row["n_steps"]) > 0 and row["converged"] == "true"
        assert row["minimum"] and row["verdict_reason"] and row["grade"] == other["document"]["completeness"]["grade"]
        assert row["level_of_theory"] and row["verdict"] == other["verdict"] and row["chemsys"] == other["chemsys"]
        assert row["decomposition"] == other["decomposition"]
    assert "phases.json" in rows[0]["verdict"]  # who surveyed it
    page = Path("hull.html").read_text()
    assert page.count("<figure>") == 2
    assert "src=" not in page.replace('src="data:', "")[-20000:]
    assert dpa4("hull", *files, "--plot", "hull.png", *FAST).exit_code == 0
    for name in ("hull-Co-Li-O.png", "hull-Li-O.png"):
        assert Path(name).read_bytes().startswith(PNG)
    assert dpa4("hull", "Li2O.cif", "--plot", "one.png", *FAST).exit_code == 0
    assert Path("one.png").read_bytes().startswith(PNG)


def test_quaternary_is_drawn() -> None:
    structure = layered("Co") * [1, 1, 2]
    structure.replace(0, "Ni")
    structure.to(filename="nmc.cif")
    for name in ("hull.html", "hull.png"):
        result = dpa4("hull", "nmc.cif", "--plot", name, *FAST)
        assert result.exit_code == 0, result.output
    assert Path("hull.png").read_bytes().startswith(PNG)
    assert "in space" in Path("hull.html").read_text()


def test_exit_codes_and_sentences(lithium_cobaltate: Path) -> None:
    Structure(Lattice.cubic(4), ["Li", "Xe"], [[0.0] * 3, [0.5] * 3]).to(filename="LiXe.cif")
    write("water.xyz", Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
    some = dpa4("hull", lithium_cobaltate, "LiXe.cif", "water.xyz", *FAST)
    assert some.exit_code == 3
    assert "failed: LiXe, hull: element Xe" in some.stderr
    assert "failed: water, hull: a molecule has no such property" in some.stderr
    rows = answer("hull", lithium_cobaltate, "LiXe.cif", "water.xyz", *FAST, exit_code=3)
    assert [row["hull"]["error"] is None for row in rows] == [True, False, False]
    assert dpa4("hull", "LiXe.cif", *FAST).exit_code == 1
    assert dpa4("hull", "water.xyz", *FAST).exit_code == 1
    assert "there is no file gone.cif" in refused("hull", "gone.cif", *FAST)
    assert "end the name of the plot in .html or .png" in refused("hull", lithium_cobaltate, "--plot", "x.pdf", *FAST)
    assert "there is no folder" in refused("hull", lithium_cobaltate, "--csv", "no/x.csv", *FAST)
    assert "no file phases" in refused("hull", lithium_cobaltate, "--against", "phases", *FAST)


def test_help_has_an_example() -> None:
    for command in ("hull", "reference", "reference build", "reference list", "reference export"):
        shown = dpa4(*command.split(), "--help")
        assert shown.exit_code == 0
        assert "For example:" in shown.stdout and f"dpa4 {command}" in shown.stdout
    assert "Stability" in dpa4("--help").stdout


# ---- energies of the Materials Project


class Client:
    """Stands for the client of the Materials Project."""

    def entries(self, chemsys: str) -> list[ComputedStructureEntry]:
        energies = {"Li": (-1.9, 1), "O": (-4.9, 2)}
        found = []
        for symbol, (energy, n) in energies.items():
            box = Structure(Lattice.cubic(9), [symbol] * n, [[0.1 * i, 0, 0] for i in range(n)])
            found.append(ComputedStructureEntry(box, energy * n, entry_id=f"mp-{symbol}"))
        assert chemsys == "Li-O"
        return found

    def database_version(self) -> str:
        return "2026.04.13"


def test_energies_of_the_materials_project_fit_models_of_its_scale_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(competition, "open_materials_project", Client)
    antifluorite().to(filename="Li2O.cif")
    fitting = ("-m", "toy_potentials:MPtrjMorse", "--fmax", "0.05", "--threads", "1")
    other = ("-m", "toy_potentials:OMatMorse", "--fmax", "0.05", "--threads", "1")
    (row,) = places("Li2O.cif", "--against", "mp", *fitting)
    assert row["competing_energies"] == "Materials Project 2026.04.13"
    assert row["n_competing"] == 2 and row["frame"]["correction"] == "MP2020"
    expected = row["energy_per_atom_corrected"] - (2 * -1.9 - 4.9) / 3
    assert row["formation_energy_per_atom"] == pytest.approx(expected)
    assert row["corrections"] == {"oxide": pytest.approx(-0.687)}

    sentence = refused("hull", "Li2O.cif", "--against", "mp", *other)
    assert "not on the scale of the Materials Project" in sentence and "--against cache" in sentence
    assert "carry MP2020" in refused("hull", "Li2O.cif", "--against", "mp", "--corrections", "none", *fitting)
    mixed = refused("hull", "Li2O.cif", "--against", "mp", "--against", "cache", *fitting)
    assert "never meet on one hull" in mixed


def test_unsafe_frames_are_told(lithium_cobaltate: Path) -> None:
    model = ("-m", "toy_potentials:OMatMorse", "--fmax", "0.05", "--threads", "1")
    (row,) = places(lithium_cobaltate, *model)
    assert row["frame"]["correction"] == "OMat24"
    assert row["corrections"].keys() == {"oxide", "Co +U"}
    [found] = answer("hull", lithium_cobaltate, "--corrections", "none", *model)
    assert any("uncorrected distances are wrong by several 0.1 eV/atom" in text for text in found["hull"]["warnings"])
    [found] = answer("hull", lithium_cobaltate, "--corrections", "MP2020", *model)
    [said] = [text for text in found["hull"]["warnings"] if text.startswith("corrections MP2020 were asked for")]
    assert "levels-of-theory.md" in said  # which prefers MP2020 for cobalt


# ---- windows, chemical potentials, temperature

OMAT = ("-m", "toy_potentials:OMatMorse", "--fmax", "0.05", "--threads", "1")


def test_window_is_shown_and_drawn() -> None:
    stretched = antifluorite()
    stretched.apply_strain(0.05)
    stretched.to(filename="Li2O.cif")
    (found,) = answer("hull", "Li2O.cif", "--no-relax", "--window", "Li", *FAST)
    window, row = found["window"], found["hull"]["document"]
    assert window["error"] is None and window["ion"] == "Li"
    assert window["energy_above_hull"] == pytest.approx(row["energy_above_hull"])
    assert row["energy_above_hull"] > 0.1  # so the window is that of the products
    assert window["equilibrium"] == row["decomposition"]
    assert window["oxidation_products"] and window["upper"] >= window["lower"] >= 0
    shown = dpa4("hull", "Li2O.cif", "--no-relax", "--window", "Li", "--plot", "hull.html", *FAST)
    assert shown.exit_code == 0, shown.output
    assert "products by voltage against Li" in shown.stdout
    assert f"that of {' + '.join(row['decomposition'])} is given" in shown.stderr
    assert f"{window['upper']:.2f}" in shown.stdout
    assert "Electrochemical windows against Li" in Path("hull.html").read_text()
    drawn = dpa4("hull", "Li2O.cif", "--no-relax", "--window", "Li", "--plot", "hull.png", *FAST)
    assert "drawn in .html files" in drawn.stderr
    assert "'Fe' is not allowed" in refused("hull", "Li2O.cif", "--window", "Fe", *FAST)


def test_window_brings_the_phases_of_the_ion() -> None:
    rocksalt("Mg").to(filename="MgO.cif")
    result = dpa4("hull", "MgO.cif", "--window", "Li", "--json", *FAST)
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert row["hull"]["chemsys"] == "Mg-O"
    assert row["window"]["upper"] is None  # it has no lithium to give
    assert "no survey of phases in Li-Mg-O: windows may be too wide" in result.stderr
    assert row["window"]["caveat"].startswith("unknown: no known competitor")


def test_region_of_chemical_potentials_has_the_formation_energy_at_each_corner() -> None:
    """Of whichever oxide this potential likes best."""
    antifluorite().to(filename="Li2O.cif")
    peroxide = next(p for p in load_phases(bundled_compounds()) if p.structure.composition.reduced_formula == "Li2O2")
    peroxide.structure.to(filename="Li2O2.cif")
    Structure(Lattice.cubic(2.7), ["Li", "O"], [[0.0] * 3, [0.5] * 3]).to(filename="LiO.cif")
    command = ("hull", "Li2O.cif", "Li2O2.cif", "LiO.cif", "--chempots", *FAST)
    rows = answer(*command)
    (low, *_), (high, *_) = (
        [row for row in rows if (row["chempots"]["error"] is None) is stable] for stable in (True, False)
    )
    assert "eV/atom above the hull and is stable at no chemical potentials" in high["chempots"]["error"]
    region, fractions = low["chempots"], Composition(low["formula"]).fractional_composition
    assert region["error"] is None and region["formula"] == low["formula"]
    for corner in region["corners"]:
        mean = sum(fractions[symbol] * potential for symbol, potential in corner.items())
        assert mean == pytest.approx(low["hull"]["formation_energy_per_atom"], abs=1e-3)
        assert max(corner.values()) < 1e-9
    result = dpa4(*command, "--plot", "hull.html")
    assert result.exit_code == 0, result.output  # there is none of what is above the hull: an answer
    assert "failed" not in result.stderr
    assert "chempots: it lies" in result.stderr and "is stable at no chemical potentials" in result.stderr
    assert "Δμ(Li)" in result.stdout
    assert f"Chemical potentials of {low['formula']}" in Path("hull.html").read_text()


def test_oxygen_leaves_oxides_at_temperature(lithium_cobaltate: Path) -> None:
    cold, warm, hot = (
        places(lithium_cobaltate, *OMAT, *more)[0] for more in ((), ("--temperature", "300"), ("--temperature", "1500"))
    )
    energies = [found["formation_energy_per_atom"] for found in (cold, warm, hot)]
    assert energies[0] < energies[1] < energies[2] - 0.1
    assert [found["provenance"]["settings"].get("temperature") for found in (cold, warm, hot)] == [None, 300.0, 1500.0]
    assert [found["provenance"].get("versions", {}).get("gibbs_entries") for found in (cold, hot)] == [None, 2]
    assert hot["frame"]["correction"] == "OMat24, Gibbs 1500 K"
    assert hot["n_competing"] < cold["n_competing"]  # one form of each element is left
    assert "temperature 77 K is outside" in refused("hull", lithium_cobaltate, "--temperature", "77", *OMAT)
    uncorrected = dpa4("hull", lithium_cobaltate, "--temperature", "900", "--corrections", "none", *OMAT)
    assert uncorrected.exit_code == 1 and "need corrections before they mean anything" in uncorrected.stderr


def test_gibbs_energies_are_those_of_hulls_at_each_temperature(lithium_cobaltate: Path) -> None:
    fast = ("--set", "gibbs.hull.relaxation.fmax=0.05", *OMAT[:2])
    (row,) = answer("gibbs", lithium_cobaltate, "--temperatures", "[1500, 300]", *fast)
    found = row["gibbs"]
    assert found["temperatures"] == [300.0, 1500.0] and found["formation"] == found["formation_energies"][0]
    (hot,) = places(lithium_cobaltate, "--temperature", "1500", *OMAT)
    assert found["formation_energies"][1] == pytest.approx(hot["formation_energy_per_atom"], abs=1e-6)
    assert found["energies_above_hull"][1] == pytest.approx(hot["energy_above_hull"], abs=1e-6)
    assert refused("gibbs", lithium_cobaltate, "--temperatures", "77", *fast).endswith("for which G was fitted")
    assert "a setting of their own" in refused("gibbs", lithium_cobaltate, "--set", "gibbs.hull.temperature=500.0")


def test_higher_form_of_an_element_has_no_gibbs_energy(lithium_cobaltate: Path) -> None:
    Structure(Lattice.cubic(2.2), ["Li"], [[0.0] * 3]).to(filename="Li.cif")
    rows = answer("hull", "Li.cif", lithium_cobaltate, "--temperature", "500", "--no-relax", *OMAT, exit_code=3)
    error = rows[0]["hull"]["error"]
    assert error is not None and "has no Gibbs energy" in error
    assert rows[1]["hull"]["error"] is None

"""`dpa4 compute`: any properties of any files, in one batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write
from pymatgen.core import Lattice, Structure
from typer.testing import CliRunner, Result

import dpa4_flows as d4
from dpa4_flows.cli import app
from dpa4_flows.cli.app import Dpa4Group
from dpa4_flows.cli.compute import _assigned, settings_given
from dpa4_flows.properties.answers import Answer, Question, Subject
from dpa4_flows.properties.registry import property_class, property_names
from dpa4_flows.properties.view import View

MORSE = ("-m", "dpa4_core.testing:MorsePotential")


def dpa4(*arguments: object, columns: int = 200) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": str(columns), "TERM": "dumb"})


def refused(*arguments: object) -> str:
    result = dpa4("compute", *arguments, *MORSE)
    assert result.exit_code == 1, result.output
    sentence = result.stderr.strip()
    assert sentence.startswith("error: ") and "\n" not in sentence
    return sentence


@pytest.fixture
def crystals(tmp_path: Path) -> Path:
    folder = tmp_path / "crystals"
    folder.mkdir()
    for name, a in (("loose", 4.5), ("tight", 4.3)):
        Structure(a / 2 * (np.ones((3, 3)) - np.eye(3)), ["Mg"], [[0, 0, 0]]).to(str(folder / f"{name}.cif"))
    return folder


def test_command_and_function_give_the_same_documents(crystals: Path) -> None:
    result = dpa4("compute", "elastic", "static", crystals, "--set", "elastic.max_steps=300", "--json", *MORSE)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    same = d4.compute(["elastic", "static"], crystals, model=MORSE[1], settings={"elastic": {"max_steps": 300}}).rows()
    for row in [*rows, *same]:
        for name in ("relaxed", "elastic", "static"):
            del row[name]["provenance"]["created"], row[name]["provenance"]["wall_time_s"]
    assert rows == same and [row["name"] for row in rows] == ["loose", "tight"]
    assert rows[0]["elastic"]["provenance"]["settings"]["max_steps"] == 300


def test_the_name_of_a_property_is_a_command(crystals: Path) -> None:
    short = dpa4("static", "relax", crystals / "loose.cif", *MORSE)
    assert (
        short.exit_code == 0
        and short.stdout == dpa4("compute", "static", "relax", crystals / "loose.cif", *MORSE).stdout
    )
    assert "equation_of_state.form" in dpa4("equation-of-state", "--help").stdout


def test_a_structure_as_it_is_shows_its_pressure_and_nothing_of_a_relaxation(crystals: Path) -> None:
    shown = d4.compute(["static", "relax"], crystals, model=MORSE[1], settings={"relax": {"check_minimum": False}})
    labels = [[column.quantity.label for column in shown[name].columns] for name in ("static", "relax")]
    assert labels[0] == ["Energy", "Largest force", "Pressure"]
    assert {"Volume change", "Optimiser steps", "Minimum"} <= set(labels[1])


def test_a_dry_run_counts_what_would_be_computed_and_computes_nothing(crystals: Path, tmp_path: Path) -> None:
    """Four trajectories of 90 steps of one atom, and the start of each; the other crystal needs a larger cell."""
    Structure(9.0 * np.eye(3), ["Mg"] * 9, np.linspace(0, 1, 27).reshape(9, 3)).to(str(crystals / "large.cif"))
    short = ["--time-ps", "0.16", "--equilibration-ps", "0.02", "--interval-fs", "2", "--min-length", "2"]
    asked = ["diffusivity", crystals, "--working-ion", "Mg", *short, "--max-atoms", "8", "-o", tmp_path / "run"]
    result = dpa4(*asked, "--dry-run", "--json", *MORSE)
    assert result.exit_code == 0, result.output
    found = {one["name"]: one for one in json.loads(result.stdout)}
    assert found["tight"]["cost"][0] == 4 * 91 and found["tight"]["refused"] == ""
    assert found["large"]["cost"] == [0, 0] and "more than 8" in found["large"]["refused"]
    shown = dpa4(*asked, "--dry-run")
    assert "364" in shown.stdout and "more than 8" in shown.stderr and not (tmp_path / "run").exists()


def test_a_dry_run_says_what_the_model_cannot_compute(crystals: Path, tmp_path: Path, monkeypatch) -> None:
    Structure(3.6 / 2 * (np.ones((3, 3)) - np.eye(3)), ["Cu"], [[0, 0, 0]]).to(str(crystals / "copper.cif"))
    asked = ["compute", "relax", "band-gap", crystals, "--dry-run", "--json", "-m"]
    result = dpa4(*asked, "toy_potentials:WithoutCopper")
    found = {(one["name"], one["property"]): one["refused"] for one in json.loads(result.stdout)}
    assert found.pop(("copper", "relax")).startswith("element Cu is not in this potential")
    assert result.exit_code == 0 and set(found.values()) == {""}  # a gap is guessed without a model
    for wrong, said in (("nowhere:Potential", "cannot be imported"), (tmp_path / "none.pt", "does not exist")):
        result = dpa4(*asked, wrong)
        assert result.exit_code == 1 and said in result.stderr and not result.stdout
    monkeypatch.setenv("DPA4_CACHE", str(tmp_path / "empty"))
    result = dpa4(*asked, "dpa4-neo")
    assert result.exit_code == 0 and "not in the cache: its elements were not checked" in result.stderr


def test_a_dry_run_asks_the_property_whether_it_takes_a_molecule(tmp_path: Path) -> None:
    write(tmp_path / "water.xyz", molecule("H2O"))
    found = json.loads(
        dpa4("compute", "relax", "elastic", tmp_path / "water.xyz", "--dry-run", "--json", *MORSE).stdout
    )
    assert [one["cost"] for one in found] == [[1, 3], [0, 0]]
    assert found[0]["refused"] == "" and "a molecule has no such property" in found[1]["refused"]


def test_a_folder_has_nothing_of_the_question_before(crystals: Path, tmp_path: Path) -> None:
    (tmp_path / "further.extxyz").write_text("cells of another question")
    written = d4.compute("static", crystals, model=MORSE[1]).write(tmp_path)
    assert "further.extxyz" not in [path.name for path in written] and not (tmp_path / "further.extxyz").exists()


def test_what_the_file_says_comes_first_then_documents_in_order() -> None:
    first, second = (View(warnings=[text, "of both"]) for text in ("of the first", "of the second"))
    answer = Answer(Subject("a", None, None, ("of the file",)), {"window": first, "chempots": second})
    assert answer.remarks == [
        ("", "of the file"),
        ("window", "of the first"),
        ("window", "of both"),
        ("chempots", "of the second"),
    ]


def test_one_bad_file_harms_nobody_and_is_listed(crystals: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.cif"
    bad.write_text("data_x\n")
    result = dpa4("compute", "elastic", bad, crystals, *MORSE)
    assert result.exit_code == 3 and result.stdout.count("loose") == 1
    assert "failed: " in result.stderr and "bad.cif holds no structure" in result.stderr
    assert dpa4("compute", "static", bad, tmp_path / "gone.cif", *MORSE).exit_code == 1


def test_a_relaxation_that_ends_early_is_no_success(crystals: Path) -> None:
    result = dpa4("compute", "elastic", crystals, "--max-steps", "1", *MORSE)
    assert result.exit_code == 3 and "not converged: loose" in result.stderr
    assert dpa4("compute", "relax", crystals, "--set", "relax.max_steps=1", *MORSE).exit_code == 3


def test_properties_and_their_settings_are_explained(crystals: Path) -> None:
    everything = dpa4("compute", "--list").stdout
    for setting in ("relax.fmax", "phonons.min_length", "follow_modes.relaxation.fmax", "surface.max_index"):
        assert setting in everything
    one = dpa4("compute", "elastic", "--help").stdout
    assert "elastic.strains" in one and "phonons.min_length" not in one
    assert "elastic.strains" in dpa4("compute", "elastic", "--list").stdout
    assert "elastic.strains" not in dpa4("compute", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("elstic", "x.cif"), "'elstic' is neither a file nor a property; did you mean 'elastic'?"),
        (("elastic", "phonon", "x.cif"), "'phonon' is neither a file nor a property; did you mean 'phonons'?"),
        (("x.cif",), "name a property, then files"),
        (("elastic",), "name the files"),
        (("elastic", "x.cif"), "no file x.cif"),
        (("elastic", "x.cif", "--set", "fmax=1"), "write for example --set elastic.fmax=1"),
        (("elastic", "x.cif", "--set", "elastic.fmx=1"), "unknown key 'fmx'; did you mean 'fmax'?"),
        (("elastic", "x.cif", "--set", "phonons.mesh_length=1"), "settings of phonons, which is not asked for"),
        (("elastic", "x.cif", "--fmax", "0"), "fmax must be a positive number of eV/Å, not 0"),
    ],
)
def test_a_slip_on_the_command_line_gets_one_sentence(arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(*arguments)


def test_a_folder_keeps_everything_and_answers_for_itself(crystals: Path, tmp_path: Path) -> None:
    twice = Structure(Lattice.cubic(5), ["Mg", "Mg"], [[0, 0, 0], [0, 0, 0.001]])
    twice.to(str(crystals / "twice.cif"))
    folder = tmp_path / "run"
    first = dpa4("compute", "elastic", "static", crystals, "-o", folder, *MORSE)
    assert first.exit_code == 3, first.output
    assert {path.name for path in folder.iterdir()} == {
        *("dpa4-run.json", "results.sqlite", "answers.json", "answers.csv", "structures.extxyz")
    }
    status = json.loads(dpa4("status", folder, "--json").stdout)
    assert (status["state"], status["n_done"], status["n_failed"]) == ("complete", 3, 1)
    assert [row["name"] for row in json.loads((folder / "answers.json").read_text())] == ["loose", "tight", "twice"]
    shown = dpa4("status", folder)
    assert "loose" in shown.stdout and "twice.cif: the sites" in shown.stderr
    # another question about the same structures finds their relaxations
    other = dpa4("compute", "equation_of_state", crystals / "loose.cif", "-o", folder, "--json", *MORSE)
    assert other.exit_code == 0 and json.loads(other.stdout)[0]["equation_of_state"]["bulk_modulus_gpa"] > 0
    assert json.loads(dpa4("status", folder, "--json").stdout)["properties"] == ["equation_of_state"]


def test_a_folder_with_something_else_is_left_alone(crystals: Path, tmp_path: Path) -> None:
    assert "holds other files" in refused("static", crystals, "-o", crystals)
    large = tmp_path / "large"
    assert dpa4("predict", crystals, "-o", large, *MORSE).exit_code == 0
    assert "holds other files" in refused("static", crystals, "-o", large)
    assert "is a file" in refused("static", crystals, "-o", crystals / "loose.cif")
    assert dpa4("compute", "static", crystals, "-o", tmp_path / "run", *MORSE).exit_code == 0
    wrong = dpa4("predict", crystals, "-o", tmp_path / "run", *MORSE)
    assert wrong.exit_code == 1 and "give another folder" in wrong.stderr and "'" not in wrong.stderr


def test_what_stability_is_made_of_is_found_in_the_folder_of_its_parts(crystals: Path, tmp_path: Path) -> None:
    pytest.importorskip("phonopy")
    folder = tmp_path / "run"
    short = ("--set", "stability.phonons.min_length=5", *MORSE)
    assert dpa4("compute", "stability", crystals / "loose.cif", "-o", folder, *short).exit_code == 0
    status = json.loads(dpa4("status", folder, "--json").stdout)
    assert status["n_done"] == status["n_total"] == 1
    again = dpa4("resume", folder)
    assert "nothing was computed" in again.stdout


FLAT = 'Lattice="4 0 0 0 4 0 4 4 0" Properties=species:S:1:pos:R:3 pbc="T T T"'


@pytest.mark.parametrize("command", [("static",), ("elastic",), ("relax", "-o", "out.extxyz"), ("hull", "--no-mp")])
def test_a_cell_without_volume_fails_alone_with_one_sentence(command, crystals: Path, monkeypatch) -> None:
    monkeypatch.chdir(crystals)
    (crystals / "flat.extxyz").write_text(f"1\n{FLAT}\nMg 0 0 0\n")
    library = ("--library", crystals / "library") if command[0] == "hull" else ()
    done = dpa4(command[0], "tight.cif", "flat.extxyz", *command[1:], *library, *MORSE)
    assert done.exit_code == 3 and "tight" in done.stdout, done.output
    (failed,) = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert "flat" in failed and "the cell is singular or too small" in failed and "give three independent" in failed


def test_a_property_as_a_command_has_help_of_its_own_with_an_example_that_works(tmp_path: Path, monkeypatch) -> None:
    """All examples: what they set exists, and its value is one that the property takes."""
    for name in property_names():
        if name not in Dpa4Group.commands_by_name:
            kind = property_class(name)
            line = list(_assigned(kind.example.split(), [name], {"-o", "--report"}))
            given = [line[i + 1] for i, word in enumerate(line) if word == "--set"]
            files = [word for word in line if word.endswith((".cif", ".json"))]
            assert files and files[0] == line[0], name
            assert not [word for word in line if word.startswith("--") and word not in ("--set", "--report")], name
            Question.of([name], settings_given(given))
    told = dpa4("window", "--help").stdout
    assert "window [OPTIONS] [FILES]..." in told and "dpa4 window Li6PS5Cl.cif" in told
    assert told.index("Electrochemical windows of one crystal or several") < told.index("For example")
    assert "Properties of the structures in files" not in told and "window.cathode_voltage" in told
    assert "--as-given" not in told and "--as-given" in dpa4("elastic", "--help").stdout

"""`dpa4 stability` as a user types it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import pytest
import torch
from ase import Atoms
from pymatgen.core import Lattice, Structure
from toy_campaign import MORSE, rocksalt
from typer.testing import CliRunner, Result

from dpa4_flows import extras
from dpa4_flows.cli import app
from dpa4_flows.compute.flight import SafeFlight

pytest.importorskip("phonopy")

FAST = ("-m", MORSE, "--min-length", "5", "--threads", "1")


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DPA4_CACHE", str(tmp_path / "cache"))
    for name in ("MP_API_KEY", "PMG_MAPI_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def magnesia(tmp_path: Path) -> str:
    rocksalt("Mg").to(filename=str(tmp_path / "MgO.cif"))
    return "MgO.cif"


@pytest.fixture
def salt(tmp_path: Path) -> str:
    cesium_chloride = Structure(Lattice.cubic(2.9), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    cesium_chloride.to(filename=str(tmp_path / "CsCl.cif"))
    return "CsCl.cif"


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def refused(*arguments: object) -> str:
    result = dpa4("stability", *arguments)
    assert result.exit_code == 1, result.output
    sentence = result.stderr.strip()
    assert sentence.startswith("error: ") and "\n" not in sentence, result.stderr
    return sentence


def answers(folder: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(Path(folder, "answers.json").read_text())
    return rows


def test_verdict_reasons_and_files(magnesia: str, salt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("stability", magnesia, salt, "--no-hull", "--follow-modes", "-T", "300", "-o", "out", *FAST)
    shown = dpa4(*arguments)
    assert shown.exit_code == 0, shown.output
    assert "undecided, hull not asked" in shown.stdout and "CsCl: verdict" in shown.stdout
    assert "along the mode" in shown.stdout and "Pm-3m →" in shown.stdout
    assert all(head in shown.stdout for head in ("K", "f min", "GPa"))
    assert "imaginary mode of -" in shown.stdout and "Born" not in shown.stderr
    stable, unstable = answers("out")
    assert stable["elastic"]["k_vrh_gpa"] > 0 and stable["hull"] is None
    assert [row["temperature_k"] for row in stable["phonons"]["thermal"]] == [300]
    assert "along_mode" not in json.dumps(unstable) and not {"elastic", "phonons"} & set(stable["stability"])
    (lower,) = ase.io.read("out/further.extxyz", index=":")
    assert lower.info["name"] == "CsCl lower" and len(lower) == unstable["followed"]["steps"][-1]["n_atoms"]
    relaxed = ase.io.read("out/structures.extxyz", index=":")
    assert len(relaxed) == 2 and relaxed[0].info["phonons.f_min_thz"] == stable["phonons"]["f_min_thz"]
    assert json.loads(dpa4("status", "out", "--json").stdout)["state"] == "complete"  # a run like any other
    assert len(list(Path("out/force_constants").glob("*.phonopy.yaml"))) >= 3  # also of the lower structures

    def forbidden(*_: object) -> None:
        raise AssertionError("everything is in the folder")

    Path("earlier").mkdir()
    Path("out/results.sqlite").rename("earlier/stability.sqlite")  # as earlier versions left it
    Path("earlier/stability.json").write_text("{}")
    arguments = ("earlier" if one == "out" else one for one in arguments)
    monkeypatch.setattr(SafeFlight, "put", forbidden)
    again = dpa4(*arguments)
    assert again.exit_code == 0 and again.stdout == shown.stdout


def test_hull_is_that_of_the_library(magnesia: str) -> None:
    shown = dpa4("stability", magnesia, "--no-elastic", "--no-phonons", "--no-mp", "--json", *FAST)
    assert shown.exit_code == 0, shown.output
    (found,) = json.loads(shown.stdout)
    row = found["stability"]
    assert "hull" not in row  # a part stands beside, once
    place = found["hull"]["document"]
    assert row["verdict"] == "undecided" and row["verdicts"]["hull"] == "unknown"
    assert place["energy_above_hull"] is None and place["distance_to_competing"] < 0
    assert row["reasons"][0].startswith("hull: unknown, unknown: no known competitor")
    assert "mind: MgO, stability: no known compound, no survey of phases in Mg-O" in shown.stderr
    (library,) = json.loads(dpa4("reference", "list", "--json").stdout)
    assert library["systems"][0]["chemical_system"] == "Mg-O"


def test_broken_structures_do_not_stop_the_others(magnesia: str) -> None:
    Structure(Lattice.cubic(4), ["Xe"], [[0, 0, 0]]).to(filename="xenon.cif")
    ase.io.write("water.xyz", Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
    some = dpa4("stability", magnesia, "xenon.cif", "water.xyz", "gone.cif", "--no-hull", "--no-phonons", *FAST)
    assert some.exit_code == 3
    assert "undecided, hull and phonons not asked" in some.stdout
    assert "failed: xenon, stability: element Xe" in some.stderr and "a molecule has no such property" in some.stderr
    assert "gone.cif" in some.stderr
    assert dpa4("stability", "xenon.cif", "--no-hull", "--no-phonons", *FAST).exit_code == 1


def test_part_that_fails_is_told(magnesia: str) -> None:
    some = dpa4("stability", magnesia, "--no-hull", "--no-elastic", "-m", MORSE, "--min-length", "40")
    assert some.exit_code == 3
    assert "failed: MgO, stability, phonons: images 40 Å apart need a supercell of" in some.stderr
    assert "undecided" in some.stdout


def test_what_makes_no_sense_is_refused(magnesia: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing is left to ask" in refused(magnesia, "--no-hull", "--no-elastic", "--no-phonons")
    assert "--follow-modes needs phonons" in refused(magnesia, "--no-phonons", "--follow-modes")
    found = importlib.util.find_spec
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name == "phonopy" else found(name))
    sentence = refused("gone.cif")  # before any file is read
    assert "pip install 'dpa4-flows[phonons]'" in sentence and "--no-phonons" in sentence


def test_help_has_an_example() -> None:
    shown = dpa4("stability", "--help")
    assert shown.exit_code == 0 and "For example:" in shown.stdout and "dpa4 stability LiCoO2.cif" in shown.stdout

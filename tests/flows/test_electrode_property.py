"""The electrode as a property: from a file, from Python and as a job, and what it says of what is no electrode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pymatgen.core import Structure
from toy_campaign import MORSE, layered, rocksalt
from typer.testing import CliRunner, Result

import dpa4_flows as d4
from dpa4_flows.cli import app
from dpa4_flows.compute.driver import Counts, compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.properties.electrode import Electrode, ElectrodeDocument

SODIUM = Electrode("Na", Relaxed(fmax=0.1, check_minimum=False))
TOY = d4.ModelRef(MORSE, dtype="float64")


def sodium(metal: str) -> Structure:
    structure = layered(metal)
    structure.replace(1, "Na")
    return structure


def dpa4(*arguments: object) -> Result:
    words = [str(a) for a in arguments]
    return CliRunner().invoke(app, [*words, "-m", MORSE], env={"COLUMNS": "200", "TERM": "dumb"})


def numbers(document: ElectrodeDocument) -> dict[str, object]:
    return document.model_dump(mode="json", exclude={"provenance"})


def asked(structure: Structure, model: d4.ModelRef = TOY, **settings: object) -> tuple[ElectrodeDocument, Counts]:
    counts = Counts()
    wanted = Electrode(**{"relaxation": SODIUM.relaxation, **settings})  # type: ignore[arg-type]
    ((_, document),) = compute([("", Ask(wanted, Crystal(structure)))], model, counts=counts)
    return document, counts


def test_command_function_and_job_give_the_same_electrode(tmp_path: Path) -> None:
    path = tmp_path / "NaNiO2.cif"
    sodium("Ni").to(str(path))
    relaxation = ("--set", "electrode.relaxation.rattle=0.0", "--set", "electrode.relaxation.fmax=0.1")
    unchecked = ("--set", "electrode.relaxation.check_minimum=false")
    said = dpa4("electrode", path, "--working-ion", "Na", *relaxation, *unchecked, "--dtype", "float64", "--json")
    assert said.exit_code == 0, said.output
    (row,) = json.loads(said.stdout)
    (function,) = d4.electrode(path, model=TOY, working_ion="Na", relaxation=SODIUM.relaxation)
    (made,) = d4.BatchElectrodeMaker(property=SODIUM, model=TOY).documents([Structure.from_file(path)])
    assert numbers(function) == numbers(made) == {k: v for k, v in row["electrode"].items() if k != "provenance"}
    assert (function.discharged_formula, function.charged_formula) == ("NaNiO2", "NiO2")
    assert function.capacity_grav == pytest.approx(235.0, abs=1)
    assert function.provenance.settings["working_ion"] == "Na"


def test_what_is_no_electrode_costs_nothing_and_says_why() -> None:
    shifted = d4.ModelRef("toy_pbe:shifted")
    for structure, model, code, said in (
        (rocksalt("Mg"), TOY, "no_host", "MgO holds no Li to remove; name the ion that moves as working_ion"),
        (Structure(rocksalt("Li").lattice, ["Li"], [[0, 0, 0]]), TOY, "no_host", "nothing is left of Li"),
        (layered("Mg"), shifted, "mixed_energy_zeros", "no common zero"),
    ):
        document, counts = asked(structure, model)
        assert document.error_code == code and said in str(document.error)
        assert document.average_voltage is None and counts.n_requests == 0


def test_energies_that_did_not_converge_give_no_voltage() -> None:
    document, _ = asked(layered("Co"), relaxation=Relaxed(max_steps=2, check_minimum=False))
    assert document.error_code == "not_converged" and "LiCoO2 did not converge" in str(document.error)


def test_an_electrode_of_inactive_metals_is_flagged() -> None:
    document, _ = asked(layered("Al"))
    assert document.error is None and "no_redox_metal" in [flag.code for flag in document.warnings]


def test_settings_of_a_property_are_options_of_the_command(tmp_path: Path) -> None:
    rocksalt("Mg").to(str(tmp_path / "MgO.cif"))
    for switch in ("--no-check-charged", "--check-charged"):
        wrong = dpa4("electrode", tmp_path / "MgO.cif", switch, "--working-ion=Xe")
        assert wrong.exit_code == 1 and "Xe" in wrong.stderr
    said = dpa4("electrode", tmp_path / "MgO.cif", "--check-charged", "--json")
    assert json.loads(said.stdout)[0]["electrode"]["provenance"]["settings"]["check_charged"] is True
    assert dpa4("static", tmp_path / "MgO.cif", "--working-ion", "Na").exit_code == 2

"""`dpa4 validate thermo` on a toy potential."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from dpa4_flows.analysis.schemes import find_scheme
from dpa4_flows.cli import app
from dpa4_flows.cli.validate import TABLE
from dpa4_flows.store.table import ResultsTable

MODEL = ("-m", "toy_pbe:pbe_u", "--dtype", "float64", "--fmax", "0.3")
pytestmark = [
    pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning"),  # spglib in pymatgen
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("thermo")


@pytest.fixture(autouse=True)
def _cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPA4_CACHE", str(folder / "cache"))


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def test_refit_is_fitted_written_and_compared(folder: Path) -> None:
    result = dpa4("validate", "thermo", *MODEL, "-o", folder, "--refit", folder / "toy.yaml", "--json")
    assert result.exit_code == 3, result.output  # toy carbon does not converge, and SiC has no reference
    data = json.loads(result.stdout)
    rows = data["thermo"]["rows"]
    name = find_scheme(str(folder / "toy.yaml")).name
    assert len(rows) == 41
    assert data["refit"]["scheme"] == name
    complete = [row for row in rows if row["error"] is None]
    assert all(set(row["formation_energies"]) == {"none", "MP2020", "OMat24", name} for row in complete)
    assert {row["formula"] for row in complete if row["hubbard_u"]} >= {"FeO", "CoO", "NiO", "FeF2"}
    lithia = next(row for row in rows if row["formula"] == "Li2O")
    assert lithia["experiment"] == pytest.approx(-2.066, abs=1e-3)
    change = lithia["formation_energies"]["OMat24"] - lithia["formation_energies"]["none"]
    assert change == pytest.approx(-0.657 / 3)
    assert lithia["correction_uncertainties"][name] > lithia["correction_uncertainties"]["OMat24"] > 0
    for scheme in ("none", "MP2020", "OMat24", name):
        errors = [abs(row["formation_energies"][scheme] - row["experiment"]) for row in complete]
        assert data["thermo"]["mae"][scheme] == pytest.approx(sum(errors) / len(errors))
    assert data["thermo"]["mae"][name] < data["thermo"]["mae"]["none"]


def test_relaxations_are_reused_and_the_refit_is_a_scheme(folder: Path) -> None:
    before = {d.key: d.provenance.created for d in ResultsTable(folder / TABLE).iter_calculations()}
    result = dpa4("validate", "thermo", *MODEL, "-o", folder, "-c", "none", "-c", folder / "toy.yaml")
    assert result.exit_code == 3, result.output
    name = find_scheme(str(folder / "toy.yaml")).name
    assert name in result.stdout
    assert "with +U" in result.stdout
    assert "relaxations found in" in result.stderr
    assert "failed: SiC cannot be decomposed: no reference for C" in result.stderr
    after = {d.key: d.provenance.created for d in ResultsTable(folder / TABLE).iter_calculations()}
    assert after == before


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("-m", "toy_pbe:r2scan", "-c", "OMat24"), "r2SCAN"),
        (("-m", "toy_pbe:r2scan", "--refit", "x.yaml"), "corrections of this form are for PBE"),
        (("-m", "toy_pbe:pbe_u", "--refit", "x.json"), "ends in .yaml"),
        (("-m", "toy_pbe:pbe_u", "-c", "MP2021"), "choose from auto, none, MP2020, OMat24"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_computed(arguments: tuple[str, ...], part: str) -> None:
    result = dpa4("validate", "thermo", *arguments)
    assert result.exit_code == 1, result.output
    assert part in result.stderr
    assert result.stderr.strip().startswith("error: ")
    assert result.stdout == ""


def test_refit_of_another_model_is_refused(folder: Path) -> None:
    result = dpa4("validate", "thermo", "-m", "dpa4_core.testing:MorsePotential", "-c", folder / "toy.yaml")
    assert result.exit_code == 1
    result = dpa4("validate", "thermo", "-m", "toy_pbe:pbe_u_again", "-c", folder / "toy.yaml")
    assert result.exit_code == 1
    assert "were fitted to model" in result.stderr


@pytest.mark.network
@pytest.mark.slow
def test_neo_is_near_the_measurements(neo_path: Path, tmp_path: Path) -> None:
    """Energies of the same checkpoint through the reference implementation: 0.482, 0.060 and 0.068 eV/atom."""
    result = dpa4("validate", "thermo", "-m", neo_path, "-o", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    errors = json.loads(result.stdout)["thermo"]["mae"]
    assert errors == {
        "none": pytest.approx(0.482, abs=0.01),
        "MP2020": pytest.approx(0.060, abs=0.005),
        "OMat24": pytest.approx(0.068, abs=0.005),
    }
    assert max(errors["MP2020"], errors["OMat24"]) <= 0.07


def test_help_names_the_command() -> None:
    assert "Check a model against measurements" in dpa4("--help").stdout
    assert "thermo" in dpa4("validate", "--help").stdout

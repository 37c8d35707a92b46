"""Campaigns and the library of competing phases: nothing is computed twice, and what the library knows competes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pymatgen.core import Structure
from ruamel.yaml import YAML
from toy_campaign import MORSE, antifluorite, layered, write_campaign

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.analysis.schemes import find_scheme, refit_name
from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.campaigns.context import REFIT_FILE
from dpa4_flows.campaigns.flow import CampaignMaker, compute_part, judge
from dpa4_flows.campaigns.library import borrow, campaign_library, give_back
from dpa4_flows.campaigns.plan import plan_campaign
from dpa4_flows.campaigns.run import PreparedRun, finish_run, prepare_run
from dpa4_flows.campaigns.sections import ConfigError
from dpa4_flows.compute.plan import Crystal
from dpa4_flows.documents.schemas import Candidate, RelaxationDocument, StageResult
from dpa4_flows.engines import run_local
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.reference.library import ReferencePhase
from dpa4_flows.reference.store import ReferenceStore
from dpa4_flows.reference.table import ReferenceTable
from dpa4_flows.store.table import ResultsTable

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")  # jobflow 0.4 with monty 2026


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def prepare(folder: Path, library: Path, name: str = "run", **sections: dict[str, Any]) -> PreparedRun:
    """A prepared toy campaign on the lithium cobalt oxide alone, with a library of its own."""
    hull = {"library": str(library), **sections.pop("hull", {})}
    path = write_campaign(folder, hull=hull, **sections)
    file = folder / "structures" / "candidates.json"
    file.write_text(json.dumps(json.loads(file.read_text())[:1]))
    return prepare_run(load_campaign(path), folder / name)


def run(prepared: PreparedRun) -> None:
    run_local(CampaignMaker(run=prepared.run).make(), prepared.folder / "jobs")
    assert finish_run(prepared) == []


def library_of(prepared: PreparedRun) -> ReferenceStore:
    store, notes = campaign_library(prepared.run)
    assert store is not None and notes == []
    return store


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> PreparedRun:
    """A run that began with an empty library and has given it its competing phases; read only."""
    folder = tmp_path_factory.mktemp("first")
    prepared = prepare(folder, folder / "library")
    assert prepared.notes == ("no correction scheme is known for model " + MORSE + ": energies are used uncorrected",)
    run(prepared)
    return prepared


def references(table: ResultsTable) -> dict[str, RelaxationDocument]:
    return table.calculations(row["key"] for row in table.get_meta("references"))


def test_what_a_campaign_relaxed_is_in_the_library(first: PreparedRun) -> None:
    store = library_of(first)
    known = references(first.table)
    assert len(known) > 5
    assert {row.key for row in store.table.phases(["Li-Co-O"])} == set(known)
    assert store.table.calculations(known) == known
    built = store.build(["Li-Co-O"], [])
    assert (built.n_computed, built.n_phases) == (0, len(known))


def test_a_chunk_job_reads_its_own_phases_only(first: PreparedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of all others: the cost of many chunks would be quadratic in the phases."""
    read: list[str] = []
    parse = structure_of_fields

    def counted(fields: Any) -> Any:
        read.append(fields["sites"][0]["species"][0]["element"])
        return parse(fields)

    monkeypatch.setattr("dpa4_flows.reference.table.structure_of_fields", counted)
    keys = [phase.key for phase in ReferenceTable.in_run(first.table).phases()]
    summary = compute_part.original(first.run, "hull", keys[:2])
    assert len(keys) > 4 and len(read) == 2 and summary.n_reused == 2


def test_next_campaign_and_its_plan_find_all_of_them(first: PreparedRun, tmp_path: Path) -> None:
    shutil.copytree(first.folder.parent / "library", tmp_path / "library")
    second = prepare(tmp_path, tmp_path / "library")
    known = references(first.table)
    assert second.table.calculations(known) == known  # before anything ran
    work = plan_campaign(second.run.campaign, tmp_path / "elsewhere").work
    stored = {item.name: item.n_stored for item in work}
    assert stored == {"candidates": 0, "competing phases": len(known), "charged hosts": 0}
    run(second)
    assert references(second.table) == known
    assert second.table.ranking() == first.table.ranking()
    assert prepare(tmp_path, tmp_path / "library").finished  # its own phases are no news


def test_a_phase_that_failed_in_library_or_run_is_taken_from_the_other(first: PreparedRun, tmp_path: Path) -> None:
    shutil.copytree(first.folder.parent / "library", tmp_path / "library")
    store = ReferenceStore.for_model(first.run.model, first.run.relaxed, tmp_path / "library")
    key, good = next(iter(references(first.table).items()))
    lost = {"error": "not enough memory", "error_code": "out_of_memory", "structure": None, "converged": False}
    bad = good.model_copy(update=lost)
    store.table.put_calculations([bad])
    assert give_back(store, first.table) == [] and store.table.calculations([key])[key] == good
    shutil.copy(first.table.path, tmp_path / "results.sqlite")
    table = ResultsTable(tmp_path / "results.sqlite")
    table.put_calculations([bad])
    borrow(store, table, [key])
    assert table.calculations([key])[key] == good
    store.table.put_calculations([bad])
    borrow(store, table, [key])
    assert table.calculations([key])[key] == good


def test_dry_run_makes_no_library(tmp_path: Path) -> None:
    campaign = load_campaign(write_campaign(tmp_path, hull={"library": str(tmp_path / "library")}))
    plan_campaign(campaign, tmp_path / "run")
    assert not (tmp_path / "library").exists()


def test_phase_of_the_library_competes_and_makes_the_run_another_one(first: PreparedRun, tmp_path: Path) -> None:
    shutil.copytree(first.folder.parent / "library", tmp_path / "library")
    store = library_of(first)
    store = ReferenceStore.for_model(store.model, store.relaxation, tmp_path / "library")
    lower = layered("Co") * [2, 1, 1]
    document = next(d for d in first.table.iter_calculations() if d.formula == "LiCoO2")
    rival = document.model_copy(
        update={
            "key": store.key(lower),
            "energy": 2 * (document.energy or 0.0) - 0.8,
            "energy_per_atom": (document.energy_per_atom or 0.0) - 0.1,
            "structure": (Structure.from_dict(document.structure or {}) * [2, 1, 1]).as_dict(),
        }
    )
    store.add([ReferencePhase("rival", lower, "another campaign")], [rival])
    shutil.copytree(first.folder, tmp_path / "run")

    second = prepare(tmp_path, tmp_path / "library")
    assert not second.finished
    assert any("1 competing phases are from the library" in note for note in second.notes)
    run(second)
    result = second.table.stage("hull")["LiCoO2"]
    assert result.values["energy_above_hull"] == pytest.approx(0.1, abs=1e-6)
    assert "rival" in {row["name"] for row in second.table.get_meta("references")}
    assert prepare(tmp_path, tmp_path / "library").finished
    alone = prepare(tmp_path, tmp_path / "library", hull={"library": "none"})
    assert not alone.finished


def test_phases_of_an_interrupted_run_are_given_back_when_it_is_prepared_again(
    first: PreparedRun, tmp_path: Path
) -> None:
    shutil.copytree(first.folder, tmp_path / "run")
    again = prepare(tmp_path, tmp_path / "new library")
    known = references(first.table)
    assert library_of(again).table.existing_keys(known) == set(known)


def test_library_that_cannot_be_used_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    prepared = prepare(tmp_path, tmp_path / "file")
    assert any("the library of competing phases cannot be used" in note for note in prepared.notes)
    assert any("cannot be used" in note for note in finish_run(prepared))


# ---- duplicates after relaxation


def add_twin(table: ResultsTable, energy_shift: float, name: str) -> None:
    """A candidate that relaxed to the supercell of LiCoO2, ``energy_shift`` eV/atom higher."""
    table.put_candidates([*table.candidates(), Candidate(candidate_id=name, formula="LiCoO2")])
    result = table.stage("relax")["LiCoO2"]
    [key] = result.calculation_keys
    document = table.calculations([key])[key]
    relaxed = Structure.from_dict(document.structure or {}) * [1, 2, 1]
    per_atom = (document.energy_per_atom or 0.0) + energy_shift
    twin = {"key": name, "structure": relaxed.as_dict(), "energy_per_atom": per_atom, "energy": 8 * per_atom}
    table.put_calculations([document.model_copy(update=twin)])
    relaxed_too = result.model_copy(update={"candidate_id": name, "calculation_keys": [name]})
    before = [StageResult(candidate_id=name, stage=stage, status="passed") for stage in ("sanity", "duplicates")]
    table.put_stages([*before, relaxed_too])


def test_candidates_that_relaxed_to_one_minimum_are_one(first: PreparedRun, tmp_path: Path) -> None:
    shutil.copytree(first.folder, tmp_path / "run")
    prepared = prepare(tmp_path, tmp_path / "library")
    table = prepared.table
    run(prepared)
    assert table.stage("relaxed_duplicates")["LiCoO2"].status == "passed"
    add_twin(table, 0.004, "twin")
    add_twin(table, 0.02, "other minimum")
    add_twin(table, -0.002, "lower twin")
    judge.original(prepared.run, "relaxed_duplicates")
    results = table.stage("relaxed_duplicates")
    assert table.survivors("relaxed_duplicates") == ["other minimum", "lower twin"]
    assert results["LiCoO2"].values["duplicate_of"] == results["twin"].values["duplicate_of"] == "lower twin"
    assert results["twin"].values["energy_above_representative"] == pytest.approx(0.006)
    assert results["twin"].thresholds == {"energy_above_representative": 0.01}
    assert (
        "relaxed to the same structure as lower twin, whose energy is lower by 0.0060"
        in results["twin"].reasons[0].sentence
    )


# ---- refitted corrections


def write_refit(path: Path, sha256: str) -> str:
    published = find_scheme("OMat24").file
    assert published is not None
    content: dict[str, Any] = dict(YAML(typ="safe").load(published.read_text()))
    content["Model"] = {"name": MORSE, "sha256": sha256, "level_of_theory": "unknown"}
    content["Corrections"]["GGAUMixingCorrections"]["O"]["Co"] = -1.5
    content["Fit"] = {"base": "OMat24", "n_compounds": 9}
    content["Name"] = refit_name(content)
    with path.open("w") as stream:
        YAML(typ="safe").dump(content, stream)
    return str(content["Name"])


def test_campaign_takes_a_refit_and_its_run_folder_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPA4_CACHE", str(tmp_path / "cache"))
    model = "toy_potentials:OMatMorse"
    sha256 = ModelRef(model).resolve().sha256 or ""
    name = write_refit(tmp_path / "my.yaml", sha256)
    prepared = prepare(tmp_path, tmp_path / "library", hull={"corrections": "my.yaml"}, model={"name": model})
    assert prepared.run.corrections == name == prepared.table.get_meta("corrections")
    assert (prepared.folder / REFIT_FILE).read_bytes() == (tmp_path / "my.yaml").read_bytes()

    monkeypatch.setenv("DPA4_CACHE", str(tmp_path / "cache of a worker"))
    assert prepared.run.scheme() == name
    run(prepared)
    result = prepared.table.stage("hull")["LiCoO2"]
    assert result.document is not None
    assert result.document["frame"]["correction"] == name
    assert result.document["corrections"] == pytest.approx({"oxide": -2 * 0.657, "Co +U": -1.5}, abs=2e-3)

    (tmp_path / "my.yaml").unlink()
    again = prepare_run(prepared.run.campaign, prepared.folder, stored_inputs=True)
    assert again.finished and again.run.corrections == name


def test_refit_of_another_model_or_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPA4_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match="correction scheme .*my.yaml does not exist"):
        prepare(tmp_path, tmp_path / "library", hull={"corrections": "my.yaml"})
    write_refit(tmp_path / "my.yaml", "0" * 64)
    with pytest.raises(ValueError, match="were fitted to model 000000000000"):
        prepare(tmp_path, tmp_path / "library", hull={"corrections": "my.yaml"})


def test_displaced_start_is_part_of_the_key(first: PreparedRun) -> None:
    pushed, model = first.run.relaxed, first.run.model
    assert pushed.rattle == 1e-4
    plain = dataclasses.replace(pushed, rattle=0.0)
    assert "rattle" not in plain.settings(model)
    assert plain.key(Crystal(antifluorite()), model) != pushed.key(Crystal(antifluorite()), model)

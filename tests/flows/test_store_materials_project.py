"""The library of competing phases filled by the genuine client, over HTTP, from a server with the real schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pymatgen.core import SETTINGS
from toy_campaign import MORSE, antifluorite
from toy_materials_project import DOCUMENTS, KEY, ToyMaterialsProject
from typer.testing import CliRunner, Result

from dpa4_flows.cli import app
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.reference.catalogue import summarise
from dpa4_flows.reference.materials_project import MaterialsProject
from dpa4_flows.reference.sources import BundledPhases, MaterialsProjectPhases
from dpa4_flows.reference.store import ReferenceStore

NEAR = {  # ids of what the source takes of Li-O
    document["material_id"]
    for document in DOCUMENTS
    if set(document["elements"]) <= {"Li", "O"} and document["energy_above_hull"] <= 0.1
}
FAST = ("-m", MORSE, "--fmax", "5", "--threads", "1")  # relaxations end where they start


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ToyMaterialsProject]:
    """A server that is the Materials Project for this test; a key, and a cache of our own."""
    toy = ToyMaterialsProject()
    monkeypatch.setenv("MP_API_KEY", KEY)
    monkeypatch.setenv("MP_API_ENDPOINT", toy.endpoint)
    monkeypatch.delenv("PMG_MAPI_KEY", raising=False)
    monkeypatch.setitem(SETTINGS, "PMG_MAPI_KEY", None)
    monkeypatch.setenv("DPA4_CACHE", str(tmp_path / "cache"))
    yield toy
    toy.close()


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def test_store_takes_the_phases_near_the_hull_and_asks_once(server: ToyMaterialsProject, tmp_path: Path) -> None:
    store = ReferenceStore.for_model(ModelRef(MORSE), Relaxed(fmax=5.0, check_minimum=False), tmp_path / "library")
    source = MaterialsProjectPhases(MaterialsProject())
    store.build(["Li-O"], [source])
    rows = store.table.phases(["Li-O"])
    from_server = [row for row in rows if row.source == "Materials Project 2026.04.13"]
    assert {row.name for row in from_server} == NEAR
    assert {row.role for row in from_server} == {"element", "competing"}
    assert len(rows) == len(from_server)
    structures = store.table.structures([row.key for row in from_server])
    volumes = {document["material_id"]: document["volume"] for document in DOCUMENTS}
    for row in from_server:
        assert structures[row.key].volume == pytest.approx(volumes[row.name])
    (answer,) = [answer for answer in store.table.answers() if answer.surveys]
    assert (answer.chemsys, answer.version, answer.reach, answer.n_phases) == ("Li-O", "2026.04.13", 0.1, len(NEAR))
    assert store.surveys(["Li-O"])["Li-O"].source == "Materials Project"
    (system,) = summarise(store).systems
    assert any("Materials Project 2026.04.13" in words for words in system.sources)

    n_asked = len(server.asked)
    store.build(["Li-O", "Li"], [BundledPhases(), MaterialsProjectPhases(MaterialsProject())])
    with_bundled = store.table.phases(["Li-O"])
    assert len(with_bundled) > len(rows)  # but some bundled phases are the very structures of the server
    assert {row for row in with_bundled if row.source == "Materials Project 2026.04.13"} == set(from_server)
    assert len(server.asked) == n_asked
    assert len(server.searches) == 1
    store.build(["Li-Co-O"], [source])  # the cache of the client has the sub-systems already
    assert server.searches[-1]["chemsys"] == "Co,Co-Li,Co-O,Co-Li-O"


def test_command_asks_with_a_key_and_works_offline_afterwards(
    server: ToyMaterialsProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built = dpa4("reference", "build", "Li-O", "--json", *FAST)
    assert built.exit_code == 0, built.output
    assert json.loads(built.stdout)["warnings"] == []
    assert KEY not in built.output
    assert len(server.searches) == 1

    monkeypatch.delenv("MP_API_KEY")  # the answers are in the cache: another library needs neither key nor server
    n_asked = len(server.asked)
    again = dpa4("reference", "build", "Li-O", "--library", tmp_path / "other", *FAST)
    assert again.exit_code == 0, again.output
    assert "no survey of phases" not in again.stderr
    assert len(server.asked) == n_asked
    antifluorite().to(filename=str(tmp_path / "Li2O.cif"))
    found = dpa4("hull", tmp_path / "Li2O.cif", "--no-relax", "--json", *FAST)
    assert found.exit_code == 0, found.output
    (row,) = json.loads(found.stdout)
    assert row["hull"]["document"]["completeness"]["survey"]["version"] == "2026.04.13"
    assert len(server.asked) == n_asked


def test_command_that_insists_says_what_the_server_said(
    server: ToyMaterialsProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MP_API_KEY", KEY[::-1])
    refused = dpa4("reference", "build", "Li-O", "--mp", *FAST)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: ") and refused.stderr.strip().count("\n") == 0
    assert KEY[::-1] not in refused.output
    tolerant = dpa4("reference", "build", "Li-O", "--json", *FAST)
    assert "without the Materials Project: " in json.loads(tolerant.stdout)["warnings"][0]

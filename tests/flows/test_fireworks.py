"""A flow on a LaunchPad, run by a worker process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from jobflow import SETTINGS, Flow, JobStore, Response, job
from maggma.stores import GridFSStore
from pymatgen.core import Lattice, Structure
from pymongo import MongoClient
from python_process import run_python

from dpa4_flows.documents.schemas import Candidate
from dpa4_flows.engines import FireWorks, open_launchpad, submit_fireworks
from dpa4_flows.makers.chunks import gathered
from dpa4_flows.makers.named import BatchRelaxMaker, StabilityMaker
from dpa4_flows.makers.relax import DPA4StaticMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.properties.stability import Stability
from dpa4_flows.store.table import ResultsTable

pytestmark = pytest.mark.fireworks

TOY = ModelRef("dpa4_core.testing:MorsePotential").resolve()


_RLAUNCH = """
from fireworks.scripts.rlaunch_run import rlaunch
from jobflow import SETTINGS
from jobflow.settings import JobflowSettings
SETTINGS.__dict__.update(vars(JobflowSettings()))  # read again: the server of these processes knew no file of them
rlaunch()
"""


@dataclass
class Site:
    """A place with a LaunchPad, a job store and workers, as a group would configure it."""

    launchpad_file: Path
    environment: dict[str, str]
    folder: Path

    def work(self) -> str:
        """Run one worker until nothing is ready; gives what it printed."""
        command = ("-c", _RLAUNCH, "-l", self.launchpad_file, "rapidfire")
        done = run_python(*command, environment=self.environment, folder=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def site(mongodb_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    name = f"dpa4_test_{uuid4().hex[:8]}"
    launchpad_file = tmp_path / "my_launchpad.yaml"
    launchpad_file.write_text(yaml.safe_dump({"host": mongodb_uri, "name": name, "uri_mode": True}))
    documents: dict[str, Any] = {"uri": mongodb_uri, "database": name, "collection_name": "outputs"}
    data = {"uri": mongodb_uri, "database": name, "collection_name": "data"}
    store = {
        "docs_store": {"type": "MongoStore", **documents},
        "additional_stores": {"data": {"type": "GridFSStore", **data}},
    }
    config = tmp_path / "jobflow.yaml"
    config.write_text(yaml.safe_dump({"JOB_STORE": store}))
    monkeypatch.setattr(SETTINGS, "JOB_STORE", JobStore.from_dict_spec(store))
    workdir = tmp_path / "worker"
    workdir.mkdir()
    environment = {
        **os.environ,
        "JOBFLOW_CONFIG_FILE": str(config),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
    }
    with open_launchpad(launchpad_file) as launchpad:
        launchpad.reset("", require_password=False)
    yield Site(launchpad_file, environment, workdir)
    with MongoClient(mongodb_uri) as client:
        client.drop_database(name)


def rocksalt(metal: str, a: float) -> Structure:
    crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [metal, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    return crystal.get_primitive_structure()


@job
def relax_in_chunks(maker: BatchRelaxMaker, table: str) -> Response:
    structures = [Structure.from_dict(candidate.structure) for candidate in ResultsTable(table).candidates()]
    return Response(replace=gathered([maker.make(structures[i : i + 2], table) for i in (0, 2)], "relax"))


def test_worker_in_another_process_fills_the_results_table(site: Site, tmp_path: Path) -> None:
    table = ResultsTable(tmp_path / "results.sqlite")
    structures = [rocksalt("Mg", 4.3), rocksalt("Ca", 4.8), rocksalt("Sr", 5.1)]
    structures.append(Structure(Lattice.cubic(4), ["Xe"], [[0, 0, 0]]))
    table.put_candidates(
        [
            Candidate(candidate_id=f"c{i}", formula=s.composition.reduced_formula, structure=s.as_dict())
            for i, s in enumerate(structures)
        ]
    )
    maker = BatchRelaxMaker(model=TOY)
    spread = relax_in_chunks(maker, str(table.path))
    static = DPA4StaticMaker(model=TOY, store_trajectory="partial").make(structures[0])
    ids = submit_fireworks(Flow([spread, static], order="linear"), site.launchpad_file, tags=["campaign-x"])

    assert len(ids) == 2
    assert FireWorks(site.launchpad_file).state(ids) == {"READY": 1, "WAITING": 1}
    with open_launchpad(site.launchpad_file) as launchpad:
        (workflow,) = launchpad.workflows.find({"metadata.tags": "campaign-x"})
        assert sorted(workflow["nodes"]) == ids
        assert "mongodb://" not in str(list(launchpad.fireworks.find()))  # no connection, so no password, in any spec

    site.work()

    assert FireWorks(site.launchpad_file).state(ids) == {"COMPLETED": 6}  # + 2 chunks, their sum, and the hand-over
    documents = table.calculations(maker.key(s) for s in structures)
    assert len(documents) == 4
    assert [documents[maker.key(s)].converged for s in structures] == [True, True, True, False]
    assert "Xe" in documents[maker.key(structures[3])].error
    store = SETTINGS.JOB_STORE
    store.connect()
    try:
        summary = store.get_output(spread.uuid)
        assert (summary.n_requested, summary.n_failed) == (4, 1)
        assert store.get_output(static.uuid, load=True)["dpa4"]["model_sha256"] == TOY.sha256
        assert isinstance(store.additional_stores["data"], GridFSStore)
        assert store.additional_stores["data"].count() > 0
    finally:
        store.close()


def test_cancelled_jobs_are_not_run(site: Site) -> None:
    engine = FireWorks(site.launchpad_file)
    engine.check()
    static = DPA4StaticMaker(model=TOY).make(rocksalt("Mg", 4.3))
    ids = engine.submit(Flow([static, DPA4StaticMaker(model=TOY).make(static.output.structure)]))
    assert engine.cancel(ids) == 2
    site.work()
    assert engine.state(ids) == {"DEFUSED": 2}
    assert engine.cancel(ids) == 0


@pytest.mark.slow
def test_stability_is_a_flow_of_values(site: Site, tmp_path: Path) -> None:
    maker = StabilityMaker(
        model=TOY, property=Stability(phonons=Phonons(min_length=5.0, temperatures_k=(300.0,)), hull=None)
    )
    flow = maker.make([rocksalt("Mg", 4.3)], tmp_path / "stability.sqlite")
    ids = submit_fireworks(flow, site.launchpad_file)
    site.work()
    assert FireWorks(site.launchpad_file).state(ids) == {"COMPLETED": 1}
    store = SETTINGS.JOB_STORE
    store.connect()
    try:
        (document,) = store.get_output(flow.output.uuid)["documents"]
    finally:
        store.close()
    assert document["verdicts"] == {"hull": "not asked", "elastic": "stable", "phonons": "stable"}
    assert document["verdict"] == "undecided"
    assert document["elastic"]["provenance"]["model_sha256"] == TOY.sha256


def test_failed_job_is_seen_and_runs_again_after_the_cause_is_gone(site: Site, tmp_path: Path) -> None:
    maker = BatchRelaxMaker(model=ModelRef("late_potential:LatePotential"))
    table = tmp_path / "results.sqlite"
    flow = Flow([maker.make(table=str(table), structures=[rocksalt("Mg", 4.3)])])
    ids = submit_fireworks(flow, site.launchpad_file)
    assert "cannot be imported" in site.work()
    assert FireWorks(site.launchpad_file).state(ids) == {"FIZZLED": 1}

    (site.folder / "late_potential.py").write_text("from dpa4_core.testing import MorsePotential as LatePotential\n")
    site.environment["PYTHONPATH"] += f"{os.pathsep}{site.folder}"
    with open_launchpad(site.launchpad_file) as launchpad:
        launchpad.rerun_fw(ids[0])
    site.work()
    assert FireWorks(site.launchpad_file).state(ids) == {"COMPLETED": 1}
    assert sum(1 for _ in ResultsTable(table).iter_calculations()) == 1


def test_workflow_that_is_gone_has_no_states(site: Site) -> None:
    assert FireWorks(site.launchpad_file).state([4711]) == {}

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from jobflow import SETTINGS, JobStore, job, run_locally
from maggma.stores import JSONStore, MemoryStore

from dpa4_flows.store.jobs import AtomicJSONStore, JobStoreError, complete_job_store, load_job_store


@job(data=["trajectory"])
def small_and_large() -> dict[str, object]:
    return {"energy": -1.5, "trajectory": [1.0, 2.0]}


def test_outputs_and_data_are_found_again_in_a_new_process(tmp_path: Path) -> None:
    task = small_and_large()
    run_locally(task, log=False, store=complete_job_store(tmp_path), root_dir=tmp_path, ensure_success=True)
    store = complete_job_store(tmp_path)
    store.connect()
    assert store.get_output(task.uuid, load=True) == {"energy": -1.5, "trajectory": [1.0, 2.0]}
    (document,) = json.loads((tmp_path / "outputs.json").read_text())
    assert set(document["output"]["trajectory"]) == {"@module", "@class", "blob_uuid", "store"}


def test_kill_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = AtomicJSONStore(tmp_path / "outputs.json")
    store.connect()
    store.update({"uuid": "a", "index": 1})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.update({"uuid": "b", "index": 1})
    monkeypatch.undo()
    again = AtomicJSONStore(tmp_path / "outputs.json")
    again.connect()
    assert [document["uuid"] for document in again.query()] == ["a"]


def test_numbers_of_yaml_readers_are_written(tmp_path: Path) -> None:
    class Number(float):
        """As ruamel.yaml reads one."""

    store = AtomicJSONStore(tmp_path / "outputs.json")
    store.connect()
    store.update({"uuid": "a", "index": 1, "output": Number(0.1)})
    assert json.loads((tmp_path / "outputs.json").read_text())[0]["output"] == 0.1


def test_store_in_memory_cannot_be_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SETTINGS, "JOB_STORE", JobStore(MemoryStore()))
    with pytest.raises(JobStoreError, match="no job store that workers share"):
        load_job_store()


def test_missing_data_store_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    documents = JSONStore(str(tmp_path / "outputs.json"), read_only=False)
    monkeypatch.setattr(SETTINGS, "JOB_STORE", JobStore(documents))
    with pytest.raises(JobStoreError, match="has no additional store called data") as caught:
        load_job_store()
    assert "\n" not in str(caught.value)


def test_complete_configuration_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = complete_job_store(tmp_path)
    monkeypatch.setattr(SETTINGS, "JOB_STORE", store)
    assert load_job_store() is store


BEFORE = {  # as jobs in databases and outputs in stores name classes of modules that have moved
    "table": {
        "@module": "dpa4_flows.results",
        "@class": "TableRef",
        "path": "/r.sqlite",
        "run_id": "a",
        "shared": False,
    },
    "summary": {
        "@module": "dpa4_flows.schemas",
        "@class": "ChunkSummary",
        "n_requested": 2,
        "n_computed": 1,
        "n_reused": 1,
        "n_failed": 0,
    },
    "reason": {"@module": "dpa4_flows.reasons", "@class": "Reason", "code": "too_far", "sentence": "it is too far"},
    "stability": {"@module": "dpa4_flows.schemas_stability", "@callable": "StabilityDocument", "@bound": None},
    "training": {"@module": "dpa4_flows.schemas_training", "@callable": "TrainingDocument", "@bound": None},
    "store": {"@module": "dpa4_flows.stores", "@callable": "AtomicJSONStore", "@bound": None},
    "makers": [
        {"@module": "dpa4_flows.makers.batch", "@class": name} for name in ("BatchStaticMaker", "BatchElasticMaker")
    ],
}


def test_jobs_of_before_are_read_by_a_worker_that_has_imported_nothing():
    code = f"""
from monty.json import MontyDecoder
found = MontyDecoder().process_decoded({BEFORE})
import dpa4_flows
from dpa4_flows.documents import reasons, schemas, stability, training
from dpa4_flows.store import jobs, table
assert type(found["table"]) is table.TableRef and found["table"].run_id == "a"
assert type(found["summary"]) is schemas.ChunkSummary and found["summary"].n_computed == 1
assert type(found["reason"]) is reasons.Reason
assert found["stability"] is stability.StabilityDocument and found["training"] is training.TrainingDocument
assert found["store"] is jobs.AtomicJSONStore
assert [type(maker) for maker in found["makers"]] == [dpa4_flows.BatchStaticMaker, dpa4_flows.BatchElasticMaker]
"""
    subprocess.run([sys.executable, "-c", code], check=True)

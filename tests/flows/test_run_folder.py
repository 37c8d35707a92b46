"""Run folders: what they take from files once, who may start them, who may read them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.io import write
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from python_process import run_python
from toy_campaign import layered, write_campaign

from dpa4_core.locks import LockedError, holder
from dpa4_flows.campaigns.candidates import read_candidates
from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.campaigns.context import scene_of
from dpa4_flows.campaigns.hull import CompetingPhases
from dpa4_flows.campaigns.run import LOCK_FILE, PreparedRun, open_run, prepare_run, run_lock
from dpa4_flows.compute.plan import Crystal
from dpa4_flows.documents.schemas import StageResult
from dpa4_flows.reference.sources import find_phases
from dpa4_flows.store.table import ResultsError, ResultsTable


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedRun:
    return prepare_run(load_campaign(write_campaign(tmp_path)), tmp_path / "run")


def test_candidate_of_another_code_loses_its_labels(tmp_path: Path) -> None:
    atoms = AseAtomsAdaptor.get_atoms(layered("Co"))
    atoms.info = {"virial": np.eye(3), "config_type": "x"}
    atoms.set_array("forces", np.zeros((4, 3)))
    write(tmp_path / "c.extxyz", atoms)
    write(tmp_path / "t.traj", atoms)
    candidates = [*read_candidates([tmp_path / "c.extxyz"]), *read_candidates([tmp_path / "t.traj"])]
    ResultsTable(tmp_path / "results.sqlite").put_candidates(candidates)
    for candidate in candidates:
        structure = Structure.from_dict(candidate.structure or {})
        assert structure.properties == structure.site_properties == {}
        assert structure.matches(layered("Co"))


# ---- files that are gone


def test_competing_phases_come_from_the_table_and_start_as_candidates_do(prepared: PreparedRun, tmp_path: Path) -> None:
    table, campaign = prepared.table, prepared.run.campaign
    phases = find_phases(["Co-Li-O"], campaign.hull.competing)
    shutil.rmtree(tmp_path / "structures")
    ids = [candidate.candidate_id for candidate in table.candidates()]
    judged = [(i, "sanity", "passed" if i == "LiCoO2" else "failed") for i in ids]
    judged += [("LiCoO2", stage, "passed") for stage in ("duplicates", "relax", "relaxed_duplicates")]
    table.put_stages([StageResult(candidate_id=i, stage=stage, status=status) for i, stage, status in judged])
    scene, wanted = scene_of(prepared.run, "hull"), prepared.run.relaxed
    assert wanted.rattle == campaign.relax.rattle > 0
    keys = {wanted.key(Crystal(phase.structure), prepared.run.model) for phase in phases}
    assert set(CompetingPhases().work(scene, ["LiCoO2"])) == keys
    assert {ask.property for _, ask in CompetingPhases().asks(scene, sorted(keys))} == {wanted}


def test_run_is_continued_without_its_files(prepared: PreparedRun, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "structures")
    again = prepare_run(prepared.run.campaign, prepared.folder, stored_inputs=True)
    assert again.table.get_meta("campaign_hash") is not None
    assert len(again.table.candidates()) == 11
    again.table.set_meta("state", "complete")
    assert prepare_run(prepared.run.campaign, prepared.folder, stored_inputs=True).finished
    assert not prepare_run(prepared.run.campaign, prepared.folder, stored_inputs=True, retry_errors=True).finished


# ---- one process at a time


def test_a_run_is_locked_while_it_is_computed_and_a_folder_of_nothing_goes_away(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with run_lock(folder):
        with pytest.raises(LockedError, match=f"being computed by process {os.getpid()} on "), run_lock(folder):
            pass
        assert holder(folder / LOCK_FILE) is not None  # the refused one has not taken it away
    assert not folder.exists()  # nothing came of it


def test_the_lock_that_an_older_version_left_keeps_nobody_out(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    with run_lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


# ---- reading


@pytest.mark.parametrize("shared", [False, True])
def test_reading_changes_nothing(tmp_path: Path, shared: bool) -> None:
    table = ResultsTable(tmp_path / "results.sqlite", shared=shared)
    table.set_meta("state", "running")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    reader = open_run(tmp_path)
    assert reader.get_meta("state") == "running"
    with pytest.raises(ResultsError, match="readonly"):
        reader.set_meta("state", "complete")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".sqlite"} == before


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_folder_of_another_user_can_be_read() -> None:
    code = (
        "import os, sys, tempfile\n"
        "from pathlib import Path\n"
        "from dpa4_flows.campaigns.run import open_run\n"
        "from dpa4_flows.store.table import ResultsTable\n"
        "folder = Path(tempfile.mkdtemp())\n"
        "ResultsTable(folder / 'results.sqlite').set_meta('state', 'complete')\n"
        "folder.chmod(0o555)\n"
        "if os.geteuid() == 0:\n    os.seteuid(65534)\n"
        "assert not os.access(folder, os.W_OK, effective_ids=True)\n"
        "assert open_run(folder).get_meta('state') == 'complete'\n"
        "if os.getuid() == 0:\n    os.seteuid(0)\n"
        "folder.chmod(0o755)\n"
        "(folder / 'results.sqlite').unlink()\n"
        "folder.rmdir()\n"
    )
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest
from fireworks import fw_config
from jobflow import SETTINGS, Flow, job

from dpa4_flows.engines import EngineError, Local, engine_of, fireworks, open_launchpad, run_local, submit_fireworks
from dpa4_flows.store.jobs import complete_job_store


@job
def add(a: float, b: float) -> float:
    return a + b


@job
def fail(a: float) -> float:
    raise RuntimeError(f"cannot work with {a}\nand more lines")


def test_flow_runs_quietly_with_its_log_beside_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = add(1, 2)
    second = add(first.output, 3)
    responses = run_local(Flow([first, second]), tmp_path / "jobs")
    assert responses[second.uuid][1].output == 6
    assert capfd.readouterr() == ("", "")
    assert "Finished job - add" in (tmp_path / "jobs" / "run.log").read_text()
    assert complete_job_store(tmp_path / "jobs").name


def test_failed_job_is_one_sentence_with_the_traceback_in_the_log(tmp_path: Path) -> None:
    before = logging.getLogger("jobflow").handlers
    first = fail(7)
    second = add(first.output, 3)
    with pytest.raises(EngineError, match="job 'fail' failed: cannot work with 7 ") as caught:
        run_local(Flow([first, second]), tmp_path)
    assert "\n" not in str(caught.value)
    log = (tmp_path / "run.log").read_text()
    assert "Traceback" in log and "job fail failed" in log
    assert "Starting job - add" not in log
    assert logging.getLogger("jobflow").handlers is before


def test_what_ran_here_is_complete_and_cannot_be_cancelled(tmp_path: Path) -> None:
    engine = engine_of("local", tmp_path)
    engine.check()
    first = add(1, 2)
    ids = engine.submit(Flow([first, add(first.output, 3)]), tags=["t"])
    assert (len(ids), engine.state(ids), engine.cancel(ids)) == (2, {"COMPLETED": 2}, 0)
    with pytest.raises(EngineError, match="job 'fail' failed"):
        Local(tmp_path).submit(fail(1))
    with pytest.raises(EngineError, match="unknown engine 'slurm'; choose from local, fireworks"):
        engine_of("slurm", tmp_path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_database_that_does_not_answer_is_said_quickly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fireworks, "CONNECT_TIMEOUT_MS", 200)
    monkeypatch.setattr(SETTINGS, "JOB_STORE", complete_job_store(tmp_path))
    file = tmp_path / "my_launchpad.yaml"
    file.write_text(f"host: 127.0.0.1\nport: {_free_port()}\nname: fireworks\npassword: secret\nusername: someone\n")
    with pytest.raises(EngineError, match=r"my_launchpad.yaml does not answer: start it or correct") as caught:
        submit_fireworks(add(1, 2), file)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "just text", "host: [", "host: mongodb://\nuri_mode: true\nname: x\n"])
def test_file_that_is_no_launchpad_is_one_sentence(text: str, tmp_path: Path) -> None:
    file = tmp_path / "my_launchpad.yaml"
    file.write_text(text)
    with pytest.raises(EngineError, match="is no LaunchPad file") as caught, open_launchpad(file):
        pass
    assert "\n" not in str(caught.value)


def test_missing_launchpad_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fw_config, "LAUNCHPAD_LOC", None)
    with (
        pytest.raises(EngineError, match=r"no LaunchPad file .*nothing\.yaml"),
        open_launchpad(tmp_path / "nothing.yaml"),
    ):
        pass

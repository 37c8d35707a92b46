"""A run that was stopped, in whatever way, goes on as if it had not been."""

import errno
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from python_process import PythonProcess, run_python
from toy_training import configured, of_kind, recorded, script, toy_frames, write

from dpa4_core.errors import DPA4Error
from dpa4_core.model.checkpoint import read_model
from dpa4_core.train import checkpoint as checkpoint_module
from dpa4_core.train import dataset as dataset_module
from dpa4_core.train import trainer as trainer_module
from dpa4_core.train.checkpoint import TrainState, read_state, write_state
from dpa4_core.train.distributed import Processes
from dpa4_core.train.log import RunLog, read_log
from dpa4_core.train.outcome import validation_frames
from dpa4_core.train.trainer import train


class Killed(BaseException):
    """Nothing in the trainer may catch this."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data"), toy_frames(24))


def without_times(records):
    """Records as the log would hold them, but for what a clock says."""
    kept = [{k: v for k, v in r.items() if k not in ("timing", "seconds")} for r in records]
    for record in kept:
        if "config" in record:
            record["config"] = record["config"] | {"output": ""}
    return kept


def assert_same_run(folder, reference):
    state, expected = (read_state(place / "checkpoint.safetensors") for place in (folder, reference))
    assert state.tensors.keys() == expected.tensors.keys() and len(expected.tensors) > 50
    for name, tensor in expected.tensors.items():
        if name != "log/sums" or state.values["meter"]:
            assert torch.equal(state.tensors[name], tensor), name
    assert state.values["schedule"] == expected.values["schedule"]
    counters, right_counters = (s.values["counters"] | {"seconds": 0.0} for s in (state, expected))
    assert counters == right_counters
    logs = [without_times(read_log(place / "log.jsonl")) for place in (folder, reference)]
    assert logs[0] == logs[1]
    assert logs[0][-1]["kind"] == "end" and logs[0][0]["kind"] == "start"
    (model, info), (right, right_info) = (read_model(place / "model.dpa4", dtype=None) for place in (folder, reference))
    assert all(torch.equal(tensor, right.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert {**info.training, "config": None} == {**right_info.training, "config": None}


def die_at(step, kind="train"):
    def notify(record):
        if record["kind"] == kind and record["step"] >= step:
            raise Killed

    return notify


VARIANTS = {
    "plain": {},
    "accumulated": {"batch__accumulate": 2, "batch__max_atoms": 8},
    "no average": {"run__ema": 0},
    "single precision": {"run__dtype": "float32"},
    "patience": {"schedule__kind": "constant", "run__patience": 1, "run__validate_every": 3, "schedule__lr": 0.05},
    "epochs": {"run__steps": 0, "run__epochs": 3},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_twenty_steps_equal_ten_and_ten(tmp_path, data, name):
    changes = {"run__save_every": 10} | VARIANTS[name]
    train(configured(data, tmp_path / "whole", **changes))
    config = configured(data, tmp_path / "torn", **changes)
    with pytest.raises(Killed):
        train(config, notify=die_at(15))
    assert read_state(tmp_path / "torn" / "checkpoint.safetensors").values["counters"]["step"] < 15
    result, records = recorded(config)
    assert result.status == "finished" and records[0]["kind"] == "resume"
    assert_same_run(tmp_path / "torn", tmp_path / "whole")


def test_a_run_goes_on_from_a_checkpoint_of_the_layout_before(tmp_path, data, monkeypatch):
    train(configured(data, tmp_path / "whole", run__save_every=10))
    config = configured(data, tmp_path / "torn", run__save_every=10)
    with pytest.raises(Killed):
        train(config, notify=die_at(15))
    path = tmp_path / "torn" / "checkpoint.safetensors"
    state = read_state(path)
    later = ("skipped_in_row", "share", "base_errors")
    counters = {name: value for name, value in state.values["counters"].items() if name not in later}
    flat = {name: value for name, value in state.values.items() if name != "counters"} | counters
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "_VERSION", "2")
        write_state(TrainState(flat, state.tensors), path)
    assert read_state(path).values == state.values | {"counters": counters}
    train(config)
    assert_same_run(tmp_path / "torn", tmp_path / "whole")


@pytest.mark.parametrize("save_every", [1, 7])
def test_the_place_of_the_checkpoint_does_not_matter(tmp_path, data, save_every):
    """Also between two records of the log, whose sums go on."""
    train(configured(data, tmp_path / "whole"))
    config = configured(data, tmp_path / "torn", run__save_every=save_every)
    for step in (5, 10, 15, 20):
        with pytest.raises(Killed):
            train(config, notify=die_at(step))
    train(config)
    log = tmp_path / "torn" / "log.jsonl"  # what may differ: how often it was stored
    log.write_text(log.read_text().replace(f'"save_every": {save_every}', '"save_every": 0'))
    assert_same_run(tmp_path / "torn", tmp_path / "whole")


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path, data):
    train(configured(data, tmp_path / "whole"))
    config = configured(data, tmp_path / "torn")
    with pytest.raises(Killed):
        train(config, notify=die_at(5))
    assert not (tmp_path / "torn" / "checkpoint.safetensors").exists()
    with (tmp_path / "torn" / "log.jsonl").open("a") as log:
        log.write('{"kind": "train", "st')  # the process died while it wrote
    train(config)
    assert_same_run(tmp_path / "torn", tmp_path / "whole")


def test_a_torn_last_line_of_the_log_is_cut_off(tmp_path, data):
    train(configured(data, tmp_path / "whole", run__save_every=5))
    config = configured(data, tmp_path / "torn", run__save_every=5)
    with pytest.raises(Killed):
        train(config, notify=die_at(15))
    with (tmp_path / "torn" / "log.jsonl").open("a") as log:
        log.write('{"kind": "train", "st')
    train(config)
    assert_same_run(tmp_path / "torn", tmp_path / "whole")


def test_a_finished_run_returns_at_once(tmp_path, data, monkeypatch):
    config = configured(data, tmp_path / "run")
    first = train(config)
    log = (tmp_path / "run" / "log.jsonl").read_bytes()
    monkeypatch.setattr(trainer_module.Trainer, "_take", None)
    assert train(config) == first
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == log


def test_restart_forgets_what_was(tmp_path, data):
    config = configured(data, tmp_path / "run")
    train(config)
    before = read_state(tmp_path / "run" / "checkpoint.safetensors")
    result, records = recorded(config, restart=True)
    assert next(r["kind"] for r in records if r["kind"] != "reading") == "start" and result.step == 20
    after = read_state(tmp_path / "run" / "checkpoint.safetensors")
    assert all(torch.equal(after.tensors[name], tensor) for name, tensor in before.tensors.items())
    assert len(of_kind(read_log(tmp_path / "run" / "log.jsonl"), "start")) == 1


@pytest.mark.parametrize("number", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)])
def test_a_signal_stops_after_the_step_and_the_run_goes_on(tmp_path, data, number):
    train(configured(data, tmp_path / "whole"))
    config = configured(data, tmp_path / "torn")
    body = f"""
def notify(record):
    if record.get("step") == 5:
        os.kill(os.getpid(), signal.{number})
result = train(config, notify=notify)
print(result.status, result.step)
"""
    status, step = run_python(script(tmp_path, config, body)).stdout.split()
    assert status == "interrupted" and 6 <= int(step) <= 7
    assert of_kind(read_log(tmp_path / "torn" / "log.jsonl"), "end") == []
    assert train(config).status == "finished"
    assert_same_run(tmp_path / "torn", tmp_path / "whole")


def test_signals_are_those_of_the_caller_again_afterwards(tmp_path, data):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    train(configured(data, tmp_path / "run", run__steps=1))
    with pytest.raises(Killed):
        train(configured(data, tmp_path / "other"), notify=die_at(5))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_run_killed_at_any_moment_ends_with_the_same_model(tmp_path, data):
    changes = {"run__steps": 40, "run__save_every": 3, "run__validate_every": 10}
    train(configured(data, tmp_path / "whole", **changes))
    config = configured(data, tmp_path / "torn", **changes)
    program = script(tmp_path, config, 'train(config, notify=lambda record: print("record", flush=True))')
    random = np.random.default_rng()
    for _ in range(2):
        process = PythonProcess(program)
        process.wait_for_line()  # it is running
        time.sleep(random.uniform(0.0, 1.0))
        process.end_by(signal.SIGKILL)
    train(config)
    assert_same_run(tmp_path / "torn", tmp_path / "whole")


# ---- the file


def test_a_state_comes_back_as_it_was(tmp_path):
    state = TrainState({"step": 3, "best": None, "list": [1, 2.5]}, {"a/b": torch.randn(3, 2), "n": torch.tensor(7)})
    write_state(state, tmp_path / "state")
    again = read_state(tmp_path / "state")
    assert again.values == state.values and again.tensors.keys() == state.tensors.keys()
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in state.tensors.items())
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_state(TrainState({"step": 1}, {"a": torch.zeros(1)}), tmp_path / "state")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DPA4Error, match="disk is full; make room"):
        write_state(TrainState({"step": 2}, {"a": torch.zeros(1)}), tmp_path / "state")
    assert read_state(tmp_path / "state").values == {"step": 1}


def test_a_run_keeps_its_split_when_the_rule_changes(tmp_path, data, monkeypatch):
    config = configured(data, tmp_path / "run", run__steps=2)
    train(config)
    before = validation_frames(tmp_path / "run")
    monkeypatch.setattr(dataset_module, "hold_out", lambda data, store, train, seed: (train < 2, "two"))
    after = validation_frames(tmp_path / "run")
    assert len(before) > 2 and [frame.name for frame in after] == [frame.name for frame in before]
    assert not trainer_module.Trainer(config, Processes(0, 1, torch.device("cpu")), print).epilogue_due


def test_a_damaged_or_foreign_checkpoint_is_named(tmp_path, data):
    config = configured(data, tmp_path / "run", run__steps=2)
    train(config)
    path = tmp_path / "run" / "checkpoint.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DPA4Error, match="checkpoint.safetensors is damaged.*delete it"):
        train(config)
    path.write_bytes((tmp_path / "run" / "model.dpa4").read_bytes())
    with pytest.raises(DPA4Error, match="no training checkpoint of this version"):
        train(config)


def test_the_log_holds_json_only(tmp_path):
    log = RunLog(tmp_path / "log.jsonl")
    record = log.write("train", step=1, loss=float("nan"), parts={"a": (1.0, float("inf"))})
    assert record == {"kind": "train", "step": 1, "loss": None, "parts": {"a": [1.0, None]}}
    log.write("train", step=2)
    log.write("start")
    log.cut(1)
    assert [r.get("step") for r in read_log(tmp_path / "log.jsonl")] == [1, None]
    assert RunLog(None).write("end", step=1) == {"kind": "end", "step": 1}


def test_a_run_without_stresses_goes_on(tmp_path):
    """Errors of what has no labels are no numbers."""
    frames = toy_frames(12)
    for atoms in frames:
        atoms.calc.results.pop("stress", None)
    config = configured(write(tmp_path, frames, "bare"), tmp_path / "run", run__steps=4, run__validate_every=2)
    train(config)
    assert np.isnan(
        read_state(tmp_path / "run" / "checkpoint.safetensors").values["counters"]["best_errors"]["stress_mae"]
    )
    assert train(config).status == "finished" and len(validation_frames(tmp_path / "run")) > 0

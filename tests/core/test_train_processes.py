"""Two processes on the loopback take the same steps as one with twice the batch."""

import json
import socket

import numpy as np
import pytest
import torch
from python_process import PythonProcess, run_python
from toy_training import configured, environment, of_kind, script, toy_frames, write

from dpa4_core.train.checkpoint import part, read_state
from dpa4_core.train.log import read_log
from dpa4_core.train.trainer import train

FEW = {"run__steps": 5, "run__log_every": 4, "run__validate_every": 5, "run__save_every": 3, "batch__max_edges": 10**6}

REPORT = """
from pathlib import Path
rank = int(os.environ["RANK"])
written = set()
import builtins, io
def spy(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[1] and set(str(arguments[1])) & set("wa+x"):
        written.add(arguments[0])
sys.addaudithook(spy)
result = train(config)
inside = sorted(name for name in written if name.startswith(config.output))
Path(config.output + f".{rank}.json").write_text(json.dumps([result.status, result.step, inside]))
"""

DIE = """
from dpa4_core.train import trainer
take = trainer.Trainer._take
def until(self, *arguments):
    if self.counters.step == 4:
        os._exit(0)
    return take(self, *arguments)
trainer.Trainer._take = until
train(config)
"""


def torchrun(program):
    how = ("--nproc_per_node", 2, "--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0")
    launched = ("-m", "torch.distributed.run", *how, "--local_addr", "127.0.0.1", program)
    done = run_python(*launched, environment=environment())
    assert done.returncode == 0, done.stderr[-3000:]


def two_processes(program):
    """As torchrun starts them, which imports everything again for each."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    shared = environment(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2")
    ranks = [PythonProcess(program, environment=shared | {"RANK": rank, "LOCAL_RANK": rank}) for rank in "01"]
    for process in ranks:
        assert process.wait() == 0, process.stderr[-3000:]


def weights(folder):
    return part("model", read_state(folder / "checkpoint.safetensors").tensors)


def assert_close(folder, reference, tolerance=1e-6):
    found, expected = weights(folder), weights(reference)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= tolerance * value.abs().max().clamp(min=1e-3), name
    for kind, ignored in (("train", ("timing",)), ("validation", ())):
        logs = [of_kind(read_log(place / "log.jsonl"), kind) for place in (folder, reference)]
        assert len(logs[0]) == len(logs[1]) > 0
        for a, b in zip(*logs, strict=True):
            for key in set(b) - {"kind", *ignored}:
                assert a[key] == pytest.approx(b[key], rel=1e-5, abs=1e-9), (kind, key)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data"), toy_frames(60, kinds=(0,)))


@pytest.fixture(scope="module")
def one(tmp_path_factory, data):
    """One process with a budget of 24 atoms, and its first weights."""
    folder = tmp_path_factory.mktemp("one")
    train(configured(data, folder / "run", batch__max_atoms=24, **FEW))
    return folder / "run"


def test_two_batches_per_step_equal_one_of_twice_the_size(tmp_path, one, data):
    config = configured(data, tmp_path / "run", batch__max_atoms=12, batch__accumulate=2, **FEW)
    train(config)
    assert_close(tmp_path / "run", one)


@pytest.fixture(scope="module")
def two(tmp_path_factory, data):
    """Two processes with a budget of 12 atoms each."""
    folder = tmp_path_factory.mktemp("two")
    torchrun(script(folder, configured(data, folder / "run", batch__max_atoms=12, **FEW), REPORT))
    return folder / "run"


def test_two_processes_equal_one_with_twice_the_batch(one, two):
    assert_close(two, one)
    first, second = (json.loads((two.parent / f"run.{rank}.json").read_text()) for rank in (0, 1))
    assert first[:2] == second[:2] == ["finished", 5]
    assert any(name.endswith("log.jsonl") for name in first[2]) and second[2] == []
    assert read_log(two / "log.jsonl")[0]["environment"]["processes"] == 2


def test_two_processes_go_on_where_they_were_stopped(tmp_path, data, two):
    """Both die at once after step 4, one after the checkpoint and in the middle of a record of the log."""
    config = configured(data, tmp_path / "run", batch__max_atoms=12, **FEW)
    two_processes(script(tmp_path, config, DIE))
    assert read_state(tmp_path / "run" / "checkpoint.safetensors").values["counters"]["step"] == 3
    two_processes(script(tmp_path, config))
    found, expected = (read_state(folder / "checkpoint.safetensors") for folder in (tmp_path / "run", two))
    assert found.values["counters"]["step"] == 5
    for name, tensor in expected.tensors.items():
        assert torch.equal(found.tensors[name], tensor), name
    logs = []
    for folder in (tmp_path / "run", two):
        records = [r for r in read_log(folder / "log.jsonl") if r["kind"] in ("train", "validation")]
        logs.append([{k: v for k, v in r.items() if k not in ("kind", "timing")} for r in records])
    assert len(logs[0]) == len(logs[1]) == 3
    for a, b in zip(*logs, strict=True):
        assert a == pytest.approx(b, rel=1e-12)


@pytest.mark.slow
def test_a_time_limit_ends_two_processes_at_the_same_step(tmp_path, data):
    config = configured(
        data,
        tmp_path / "run",
        batch__max_atoms=12,
        run__steps=10**6,
        run__max_time=2 / 60,
        run__log_every=10,
        schedule__warmup=1,
    )
    torchrun(script(tmp_path, config, REPORT))
    first, second = (json.loads((tmp_path / f"run.{rank}.json").read_text()) for rank in (0, 1))
    assert first[:2] == second[:2] and first[0] == "finished" and first[1] > 5


@pytest.mark.slow
def test_a_signal_to_the_first_process_stops_both(tmp_path, data):
    body = """
def notify(record):
    if record.get("step") == 4:
        os.kill(os.getpid(), signal.SIGTERM)
from pathlib import Path
result = train(config, notify=notify)
Path(config.output + "." + os.environ["RANK"]).write_text(f"{result.status} {result.step}")
"""
    torchrun(script(tmp_path, configured(data, tmp_path / "run", **FEW | {"run__steps": 30}), body))
    ends = [(tmp_path / f"run.{rank}").read_text() for rank in (0, 1)]
    assert ends == ["interrupted 5", "interrupted 5"]


@pytest.mark.slow
def test_a_bad_frame_is_skipped_by_both_processes(tmp_path):
    frames = toy_frames(24, kinds=(0,))
    frames[5].calc.results["stress"] = np.full(6, 1e60)
    changes = FEW | {"batch__max_atoms": 12, "run__dtype": "float32", "data__validation_fraction": 0.0}
    config = configured(write(tmp_path, frames), tmp_path / "run", **changes)
    torchrun(script(tmp_path, config, REPORT))
    first, second = (json.loads((tmp_path / f"run.{rank}.json").read_text()) for rank in (0, 1))
    assert first[:2] == second[:2] == ["finished", 5]
    assert len(of_kind(read_log(tmp_path / "run" / "log.jsonl"), "skipped")) >= 2
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())

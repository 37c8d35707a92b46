"""Two processes on the loopback take the same steps as one with twice the batch."""

import json
import subprocess
import sys

import pytest
import torch
from toy_training import configured, environment, of_kind, script, toy_frames, write

from dpa4_core.train.checkpoint import part, read_state
from dpa4_core.train.log import read_log
from dpa4_core.train.trainer import train

FEW = {"run__steps": 5, "run__log_every": 2, "run__validate_every": 5, "batch__max_edges": 10**6}

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


def torchrun(program):
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
        + ["--master_port", "0", "--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0", str(program)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]


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


def test_two_processes_equal_one_with_twice_the_batch(tmp_path, one, data):
    config = configured(data, tmp_path / "run", batch__max_atoms=12, **FEW)
    torchrun(script(tmp_path, config, REPORT))
    assert_close(tmp_path / "run", one)
    first, second = (json.loads((tmp_path / f"run.{rank}.json").read_text()) for rank in (0, 1))
    assert first[:2] == second[:2] == ["finished", 5]
    assert any(name.endswith("log.jsonl") for name in first[2]) and second[2] == []
    environment_of_run = read_log(tmp_path / "run" / "log.jsonl")[0]["environment"]
    assert environment_of_run["processes"] == 2


def test_two_processes_go_on_where_they_were_stopped(tmp_path, data):
    changes = FEW | {"batch__max_atoms": 12, "run__steps": 8, "run__save_every": 3, "run__log_every": 4}
    whole, torn = (configured(data, tmp_path / name, **changes) for name in ("whole", "torn"))
    both = script(
        tmp_path,
        torn,
        f"""
class Killed(Exception): pass
def notify(record):
    if record.get("step", 0) >= 4:
        raise Killed
import dataclasses, torch.distributed as dist
train(dataclasses.replace(config, output={str(tmp_path / "whole")!r}))
import dpa4_core.train.trainer as trainer
trainer.Trainer.save_really, steps = trainer.Trainer.save, []
def save(self):
    self.save_really()
    raise Killed  # on both processes, right after the checkpoint of step 3
trainer.Trainer.save = save
try:
    train(config)
    raise SystemExit("it was not stopped")
except Killed:
    pass
trainer.Trainer.save = trainer.Trainer.save_really
train(config)
""",
    )
    torchrun(both)
    assert whole.run.steps == 8
    found, expected = (read_state(tmp_path / name / "checkpoint.safetensors") for name in ("torn", "whole"))
    for name, tensor in expected.tensors.items():
        assert torch.equal(found.tensors[name], tensor), name
    logs = []
    for name in ("torn", "whole"):
        records = [r for r in read_log(tmp_path / name / "log.jsonl") if r["kind"] in ("train", "validation")]
        logs.append([{k: v for k, v in r.items() if k not in ("kind", "timing")} for r in records])
    assert len(logs[0]) == len(logs[1])
    for a, b in zip(*logs, strict=True):
        assert a == pytest.approx(b, rel=1e-12)

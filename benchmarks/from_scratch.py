"""A run from scratch again with deepmd-kit's own trainer: the same network, frames, loss, rates and steps.

    python examples/train_mlearn.py DATA --elements Cu --steps 2000 --output RUN
    python benchmarks/from_scratch.py RUN --reference-python REFERENCE/bin/python -o FOLDER

RUN is the folder of a run of ours with ``run.steps``; REFERENCE an environment with deepmd-kit and its PyTorch backend.
The frames of RUN are written as DeePMD npy, a system for each sequence of elements and kind of labels; of the options
only those are stated that our configuration says something about, the others are the defaults of deepmd-kit. What
differs: a batch holds frames of one system (as many as fit into our budget of atoms, at least one), and the average of
the weights begins without a warm-up, so that for thousands of steps it remembers random weights; hence two rows, the
weights as they are and their average. The optimiser orthogonalises in half precision, which a CPU without it imitates
at half the time of a step: here in single precision.

Printed are errors on the validation frames of RUN at every quarter of the steps, by our `evaluate` for both, and the
minutes of the processor. A reference that has finished is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dpa4_core as dpa4
from dpa4_core.data.frames import Frame
from dpa4_core.data.system import symbol
from dpa4_core.files import write_json
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.official import params_to_official
from dpa4_core.train.config import TrainConfig
from dpa4_core.train.dataset import prepare
from dpa4_core.train.log import read_log
from dpa4_core.train.schedule import Schedule
from dpa4_core.train.store import STORE

QUARTERS = 4
TRAIN = """
import sys, types
import torch
from deepmd.main import main
from deepmd.pt.optimizer import hybrid_muon
single = types.ModuleType("torch")
vars(single).update(vars(torch) | {"float16": torch.float32, "bfloat16": torch.float32})
hybrid_muon.torch = single
sys.argv = ["dp", "--pt", "train", "input.json"]
main()
"""


def write_npy(frames: Sequence[Frame], elements: Sequence[str], folder: Path) -> list[str]:
    """Frames as systems in ``folder``, one per sequence of elements and kind of labels; returns their paths."""
    groups: dict[tuple[tuple[str, ...], bool, bool, bool], list[Frame]] = defaultdict(list)
    for frame in frames:
        labels = (frame.energy is not None, frame.forces is not None, frame.stress is not None)
        groups[tuple(symbol(int(z)) for z in frame.system.numbers), *labels].append(frame)
    systems = []
    for number, ((symbols, *_), members) in enumerate(groups.items()):
        system = folder / f"{number:03d}-{len(symbols)}"
        part = system / "set.000"
        part.mkdir(parents=True, exist_ok=True)
        (system / "type_map.raw").write_text("".join(f"{symbol}\n" for symbol in elements))
        (system / "type.raw").write_text("".join(f"{elements.index(name)}\n" for name in symbols))
        arrays: dict[str, list[Any]] = defaultdict(list)
        for frame in members:
            cell = frame.system.cell
            values = {"coord": frame.system.positions, "box": cell, "energy": frame.energy, "force": frame.forces}
            values["virial"] = None if frame.stress is None else -abs(np.linalg.det(cell)) * frame.stress
            for name, value in values.items():
                if value is not None:
                    arrays[name].append(value)
        for name, rows in arrays.items():
            np.save(part / f"{name}.npy", np.array(rows).reshape(len(members), -1))
        systems.append(str(system))
    return systems


def reference_input(config: TrainConfig, network: DPA4Config, max_atoms: int, systems: list[str]) -> dict[str, Any]:
    """The input of ``dp train`` that says what our configuration says."""
    run, optimizer, schedule, loss = config.run, config.optimizer, config.schedule, config.loss
    assert run.dtype == "float32" and loss.kind == "mae" and schedule.kind == "wsd" and not loss.final_energy
    model = params_to_official(network, run.dtype, {})
    model["descriptor"]["seed"] = model["fitting_net"]["seed"] = run.seed
    weights = {"e": loss.energy, "f": loss.forces, "v": loss.virial}
    return {
        "model": model,
        "learning_rate": {
            "type": "wsd",
            "start_lr": schedule.lr,
            "stop_lr": schedule.lr_min,
            "warmup_steps": Schedule(schedule, run.steps).n_warmup,
            "warmup_start_factor": 0.2,
            "decay_phase_ratio": schedule.decay,
            "decay_type": schedule.decay_shape.replace("-", "_"),
        },
        "optimizer": {
            "type": "HybridMuon",
            "momentum": optimizer.momentum,
            "adam_beta1": optimizer.betas[0],
            "adam_beta2": optimizer.betas[1],
            "weight_decay": optimizer.weight_decay,
            "lr_adjust_coeff": optimizer.update_rms,
            "magma_muon": optimizer.damping,
        },
        "loss": {"type": "ener", "loss_func": "mae", "f_use_norm": True}
        | {f"{when}_pref_{label}": weight for label, weight in weights.items() for when in ("start", "limit")},
        "training": {
            "training_data": {"systems": systems, "batch_size": f"max:{max_atoms}"},
            "numb_steps": run.steps,
            "gradient_max_norm": run.clip,
            "enable_ema": run.ema > 0,
            "ema_decay": run.ema,
            "seed": run.seed,
            "save_freq": run.steps // QUARTERS,
            "disp_freq": 50,
        },
    }


def train_reference(content: dict[str, Any], python: Path, folder: Path, threads: int) -> float:
    """Train in ``folder``, or find that it was; returns the minutes of the processor."""
    done = folder / "minutes.json"
    if not done.exists():
        write_json(folder / "input.json", content)
        inner = {"DP_INTRA_OP_PARALLELISM_THREADS": str(threads), "DP_INTER_OP_PARALLELISM_THREADS": "1"}
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)} | inner
        with (folder / "log.txt").open("w") as log:
            subprocess.run(
                [str(python), "-c", TRAIN],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=True,
            )
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        write_json(done, (used.ru_utime + used.ru_stime) / 60)
    return float(json.loads(done.read_text()))


def main() -> None:
    """Export, train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run of ours")
    parser.add_argument("--reference-python", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    records = read_log(arguments.run / "log.jsonl")
    config = TrainConfig.from_dict(records[0]["config"])
    network = DPA4Config.from_dict(records[0]["network"])
    data = prepare(config, arguments.run / STORE, network.cutoff)
    frames = {name: [data.store.frame(int(i)) for i in getattr(data, name)] for name in ("train", "validation")}
    folder = arguments.output.resolve()
    systems = write_npy(frames["train"], network.elements, folder / "frames")
    content = reference_input(config, network, records[0]["budget"]["atoms"], systems)
    minutes = train_reference(content, arguments.reference_python.absolute(), folder, arguments.threads)

    print(f"{len(frames['train'])} frames, {len(frames['validation'])} for validation")
    print("step  trainer            energy (meV/atom)  force (meV/Å)  stress (GPa)")

    def row(step: int, trainer: str, energy: float, force: float, stress: float) -> None:
        print(f"{step:5d}  {trainer:20s} {1e3 * energy:14.2f} {1e3 * force:14.1f} {160.2 * stress:13.3f}")

    validations = {record["step"]: record for record in records if record["kind"] == "validation"}
    for quarter in range(1, QUARTERS + 1):
        step = quarter * config.run.steps // QUARTERS
        if step in validations:
            found = validations[step]
            row(step, "ours", found["energy_mae"], found["force_mae"], found["stress_mae"])
        for trainer, prefix in (("reference", "model.ckpt"), ("reference, average", "model_ema.ckpt")):
            path = folder / f"{prefix}-{step}.pt"
            if path.exists():
                errors = dpa4.evaluate(frames["validation"], dpa4.load(path))
                assert errors.energy_mae is not None and errors.force_mae is not None and errors.stress_mae is not None
                row(step, trainer, errors.energy_mae, errors.force_mae, errors.stress_mae)
    print(f"minutes of the processor: reference {minutes:.1f}")


if __name__ == "__main__":
    main()

"""Fine-tuning by the default recipe on sets of labelled frames, judged on frames that no run has seen.

    python benchmarks/fine_tuning.py FOLDER [--sets alloys] [--ways full lora replay] [--steps 120] [--json FILE]

FOLDER holds ``NAME_train.extxyz`` and ``NAME_test.extxyz`` (or .xz) for each set; frames for validation are taken from
the training file, as for a user. Rows: the base with its offsets shifted to the training frames, then what each way
makes of it, on the test frames. A row that is worse than the base in any labelled quantity is marked, and the exit code
is 1 then.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

import torch

import dpa4_core as dpa4
from dpa4_core.evaluate import Metrics, evaluate
from dpa4_core.potential import Potential
from dpa4_core.train.config import TrainConfig
from dpa4_core.train.distributed import Processes
from dpa4_core.train.forgetting import forgetting
from dpa4_core.train.standing import standing
from dpa4_core.train.trainer import Trainer

WAYS = {
    "full": {},
    "lora": {"lora_rank": 8},
    "replay": {"replay_own": True},
    "lora+replay": {"lora_rank": 8, "replay_own": True},
}
UNITS = (("energy", "meV/atom", 1e3), ("force", "meV/Å", 1e3), ("stress", "GPa", 160.2177))


def errors(metrics: Metrics) -> dict[str, float | None]:
    """Mean absolute errors by name, as a validation has them."""
    return {f"{name}_mae": getattr(metrics, f"{name}_mae") for name, _, _ in UNITS}


def run(folder: Path, name: str, way: str, base: str, steps: int, seed: int) -> dict[str, object]:
    """Train one way on one set and compare with the base on its test frames."""
    train, test = (next(folder.glob(f"{name}_{part}.extxyz*")) for part in ("train", "test"))
    with tempfile.TemporaryDirectory() as scratch:
        fields = {
            "data": {"train": str(train)},
            "output": scratch,
            "base": base,
            "finetune": WAYS[way],
            "run": {"steps": steps, "seed": seed, "device": "cpu"},
        }
        records: list[dict[str, object]] = []
        trainer = Trainer(TrainConfig.from_dict(fields), Processes(0, 1, torch.device("cpu")), records.append)
        before = errors(evaluate(test, Potential(trainer.network.backbone, trainer.network.info)))
        began, used = time.perf_counter(), time.process_time()
        result = trainer.run()
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
        after = errors(evaluate(test, dpa4.load(result.model)))
        forgotten = forgetting(dpa4.load(base), dpa4.load(result.model), trainer.data.trained)
    start = next(record for record in records if record["kind"] == "start")
    best = [record["step"] for record in records if record["kind"] == "validation" and record["improved"]][-1]
    return {
        "set": name,
        "way": way,
        "steps": result.step,
        "best": best,
        "rate": start["learning_rate"]["rate"],
        "atoms": start["budget"]["atoms"],
        "frames": start["data"]["n_train"],
        "cpu_s_per_step": cpu / result.step,
        "seconds": seconds,
        "before": before,
        "after": after,
        "worse": [quantity for quantity, ratio in standing(after, before).ratios.items() if ratio > 1.001],
        "forgetting": dataclasses.asdict(forgotten),
        "validations": [record for record in records if record["kind"] == "validation"],
    }


def shown(values: dict[str, float | None]) -> str:
    """Three numbers with a dash for what has no label."""
    cells = [values[f"{name}_mae"] for name, _, _ in UNITS]
    return "".join(
        "        –" if x is None else f"{scale * x:9.3g}" for x, (_, _, scale) in zip(cells, UNITS, strict=True)
    )


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", default=None)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=["full", "lora"])
    parser.add_argument("--base", default="dpa4-neo")
    parser.add_argument("--steps", type=int, default=0, help="0: as many as the recipe says")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="append a line per run")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    names = arguments.sets or sorted(
        path.name.partition("_train.")[0] for path in arguments.folder.glob("*_train.extxyz*")
    )
    print(
        f"{'':28s}" + "".join(f"{name:>9s}" for name, _, _ in UNITS) + "   " + ", ".join(unit for _, unit, _ in UNITS)
    )
    worse = False
    for name in names:
        for way in arguments.ways:
            row = run(arguments.folder, name, way, arguments.base, arguments.steps, arguments.seed)
            if way == arguments.ways[0]:
                print(f"{name:16s} base        {shown(row['before'])}")
            mark = f"   worse: {', '.join(row['worse'])}" if row["worse"] else ""
            forgotten = row["forgetting"]
            changes = "{:.2g} (at most {:.2g}) meV/atom".format(
                *(1e3 * forgotten[f"energy_{which}"] for which in ("median", "max"))
            )
            print(
                f"{'':16s} {way:11s} {shown(row['after'])}   rate {row['rate']:.1e}, best of {row['steps']} steps: "
                f"{row['best']}, {row['cpu_s_per_step']:.2f} s of processor per step, other systems {changes}{mark}",
                flush=True,
            )
            worse |= bool(row["worse"])
            if arguments.json:
                with arguments.json.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    sys.exit(worse)


if __name__ == "__main__":
    main()

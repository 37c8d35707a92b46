"""Fine-tune DPA4-Neo on a file of labelled frames, all weights and by adapters (LoRA), and table both.

The last fifth of the frames of each kind (a later stretch of a trajectory) is kept for validation. The first row is
the published model with its energy offsets shifted to the data, the others the fine-tuned ones after the same time.

    python examples/finetune_neo.py FRAMES.extxyz.xz --minutes 10
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import dpa4_core as dpa4
from dpa4_core.train.log import read_log

WAYS = {"all weights": {}, "LoRA, rank 16": {"lora_rank": 16}}


def main() -> None:
    """Train both ways, print the errors before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--batch-atoms", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    stem = arguments.frames.name.partition(".")[0]
    rows = []
    for way, options in WAYS.items():
        output = arguments.output / f"{stem}-{'lora' if options else 'full'}"
        config = dpa4.TrainConfig.from_dict(
            {
                "name": output.name,
                "output": str(output),
                "base": "dpa4-neo",
                "data": {"train": str(arguments.frames), "split_by": "block", "validation_fraction": 0.2},
                "finetune": options,
                "batch": {"max_atoms": arguments.batch_atoms},
                "run": {
                    "steps": 2000,
                    "max_time": arguments.minutes,
                    "validate_every": 100,
                    "ema": 0.99,
                    "device": "cpu",
                },
            }
        )
        result = dpa4.train(config)
        log = read_log(output / "log.jsonl")
        start = next(record for record in log if record["kind"] == "start")
        before = next(record for record in log if record["kind"] == "validation")
        if not rows:
            rows.append(("before, offsets shifted", 0, 0, before))
        rows.append((way, start["n_trained"], result.step, result.errors))
    print(f"{'':26s} trained weights  steps  energy (meV/atom)  force (meV/Å)  stress (GPa)")
    for way, n_trained, steps, errors in rows:
        scales = {"energy_mae": 1e3, "force_mae": 1e3, "stress_mae": 160.2}
        found = [scale * (errors.get(key) or float("nan")) for key, scale in scales.items()]  # nan: no such label
        print(f"{way:26s} {n_trained:15,d} {steps:6d} {found[0]:18.2f} {found[1]:14.1f} {found[2]:13.3f}")


if __name__ == "__main__":
    main()

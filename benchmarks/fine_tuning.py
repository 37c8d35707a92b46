"""Fine-tuning as `dpa4 finetune FRAMES [--lora 8] --max-time MINUTES` does it, judged on frames that no run has seen.

    python benchmarks/fine_tuning.py DATA -o FOLDER [--sets Si KCl] [--ways full lora] [--minutes 20] [--threads 1]

DATA holds the public files that `SETS` names, as extended XYZ packed with xz. The time is that of the processor, so
that other programs on the machine change nothing but the date: 20 minutes are ten on two quiet cores. A row is the base
with its offsets shifted to the training frames, beside what a run makes of it, on the test frames, and what that
changes in 20 crystals of other kinds. FOLDER keeps the frames, which `dpa4 finetune` reads as well, and rows.json; a
row that is there is not run again, and a run that was stopped goes on, so that a table can grow. The table is printed
at the end; the exit code is 1 if something in it is worse than the base.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import lzma
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms

import dpa4_core as dpa4
from dpa4_core.evaluate import Metrics, evaluate
from dpa4_core.files import write_json
from dpa4_core.locks import locked
from dpa4_core.potential import Potential
from dpa4_core.train.config import TrainConfig
from dpa4_core.train.distributed import Processes
from dpa4_core.train.forgetting import TOLERABLE, forgetting
from dpa4_core.train.log import read_log
from dpa4_core.train.standing import standing
from dpa4_core.train.trainer import Trainer

Row = dict[str, Any]

WAYS = {
    "full": {},
    "lora": {"lora_rank": 8},
    "replay": {"replay_own": True},
    "lora+replay": {"lora_rank": 8, "replay_own": True},
}
UNITS = (("energy", "meV/atom", 1e3), ("force", "meV/Å", 1e3), ("stress", "GPa", 160.2177))


@dataclass(frozen=True)
class Frames:
    """Frames for training and for the test, of every kind (`group`) in some files as many.

    Attributes:
        files: below DATA, without their suffix.
        n_train: of each kind, evenly out of its first three quarters.
        n_test: of each kind, evenly out of its last fifth; neighbours in a trajectory are nearly the same.
        unseen: files for the test in place of that.
    """

    files: tuple[str, ...]
    n_train: int
    n_test: int
    unseen: tuple[str, ...] = ()

    def write(self, data: Path, train: Path, test: Path) -> None:
        """Cut the public files."""
        kinds = list(_kinds(data, self.files))
        chosen = [a for kind in kinds for a in _evenly(kind[: 3 * len(kind) // 4], self.n_train)]
        others = _kinds(data, self.unseen) if self.unseen else (kind[4 * len(kind) // 5 :] for kind in kinds)
        ase.io.write(train, chosen, format="extxyz")
        ase.io.write(test, [a for kind in others for a in _evenly(kind, self.n_test)], format="extxyz")


SETS = {
    "Si": Frames(("mlearn/Si_train",), 16, 6),
    "Mo": Frames(("mlearn/Mo_train",), 16, 6),
    "Cu": Frames(("mlearn/Cu_train",), 16, 6),
    "NbMoTaW": Frames(
        tuple(f"snap_alloys/NbMoTaW_{pair}_SS" for pair in ("MoW", "NbMo", "NbTa", "TaW")),
        15,
        12,
        unseen=("snap_alloys/NbMoTaW_MoTa_SS", "snap_alloys/NbMoTaW_NbW_SS"),
    ),
    "LGPS": Frames(("lgps_aimd/Li10GeP2S12_aimd",), 60, 12),
    "KCl": Frames(("pbesol_displacements/KCl",), 40, 10),
    "MgO": Frames(("pbesol_displacements/MgO",), 50, 15),
    "diamond": Frames(("pbesol_displacements/C_diamond",), 60, 18),
    "SiC": Frames(("mp_task_frames/SiC_elastic",), 60, 30),
    "Li3N": Frames(("snap_alloys/Li3N_Elastic", "snap_alloys/Li3N_Lattice"), 30, 10),
}


def _kinds(data: Path, files: Iterable[str]) -> Iterable[list[Atoms]]:
    for name in files:
        kinds: dict[str, list[Atoms]] = {}
        with lzma.open(data / f"{name}.extxyz.xz", "rt") as file:
            for atoms in ase.io.read(StringIO(file.read()), ":", format="extxyz"):
                kinds.setdefault(atoms.info.get("group", ""), []).append(atoms)
        yield from kinds.values()


def _evenly(frames: Sequence[Atoms], n: int) -> list[Atoms]:
    return [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, min(n, len(frames))).round().astype(int))]


def errors(metrics: Metrics) -> dict[str, float | None]:
    """Mean absolute errors by name, as a validation has them."""
    return {f"{name}_mae": getattr(metrics, f"{name}_mae") for name, _, _ in UNITS}


def run(
    train: Path,
    test: Path,
    way: str,
    folder: Path,
    *,
    base: str = "dpa4-neo",
    steps: int = 0,
    minutes: float = 0.0,
    seed: int = 0,
) -> Row:
    """Train one way and compare with the base on the test frames; by default as long as the recipe says.

    Args:
        train, test: labelled frames.
        way: one of `WAYS`.
        folder: of the run, which goes on there if it was stopped.
        base: registry name or file.
        steps: of the run, 0 for the recipe's.
        minutes: of the processor, 0 for no limit.
        seed: of the run.
    """
    fields = {
        "data": {"train": str(train)},
        "output": str(folder),
        "base": base,
        "finetune": WAYS[way],
        "run": {"steps": steps, "max_time": minutes, "seed": seed, "device": "cpu"},
    }
    processes, begun = Processes(0, 1, torch.device("cpu")), folder / "before.json"
    trainer = Trainer(TrainConfig.from_dict(fields), processes, lambda record: None, now=time.process_time)
    if not trainer.counters.step:
        began = time.process_time()
        write_json(begun, errors(evaluate(test, Potential(trainer.network.backbone, trainer.network.info))))
        trainer.clock.add(began - time.process_time())  # a user does not look at the test
    result, before = trainer.run(), json.loads(begun.read_text())
    cpu = trainer.clock.seconds
    if result.status != "finished" or result.model is None:
        sys.exit(75)
    after = errors(evaluate(test, dpa4.load(result.model)))
    forgotten = forgetting(dpa4.load(base), dpa4.load(result.model), trainer.data.trained)
    records = read_log(folder / "log.jsonl")
    start = next(record for record in records if record["kind"] == "start")
    validations = [record for record in records if record["kind"] == "validation"]
    best = [record for record in validations if record["improved"]][-1]
    return {
        "steps": result.step,
        "best": best["step"],
        "share": best.get("share", 1.0),
        "rate": start["learning_rate"]["rate"],
        "atoms": start["budget"]["atoms"],
        "frames": start["data"]["n_train"],
        "frames_validation": start["data"]["n_validation"],
        "frame_atoms": start["data"]["n_atoms"] / start["data"]["n_train"],
        "cpu_s": cpu,
        "before": before,
        "after": after,
        "worse": [quantity for quantity, ratio in standing(after, before).ratios.items() if ratio > 1.001],
        "forgetting": None if forgotten is None else dataclasses.asdict(forgotten),
        "validations": validations,
    }


def table(rows: Iterable[Row]) -> str:
    """Markdown; what is worse than the base, or changes others by more than is tolerable, in bold."""
    units = ", ".join(f"{name} {unit}" for name, unit, _ in UNITS)
    lines = [
        f"| set, frames | way | steps of atoms, best; processor | {units.replace(', ', ' | ')} | forgotten, meV/atom |",
        "|---|---|---|---|---|---|---|",
    ]
    last = ""
    for row in sorted(rows, key=lambda row: (list(SETS).index(row["set"]), list(WAYS).index(row["way"]))):
        if row["set"] != last:
            last = row["set"]
            frames = f"{last}, {row['frames']} of {row['frame_atoms']:.3g} atoms"
            lines.append(f"| {frames} | base | | {' | '.join(_cells(row['before']))} | |")
        best = f"{row['best']}" if row["share"] == 1.0 else f"{row['share']:.3g} of the way"
        run = f"{row['steps']} of {row['atoms']}, {best}; {row['cpu_s'] / 60:.1f} min"
        cells = [
            f"**{cell}**" if name in row["worse"] else cell
            for cell, (name, _, _) in zip(_cells(row["after"]), UNITS, strict=True)
        ]
        forgotten = row["forgetting"] or {"energy_median": float("nan"), "energy_max": float("nan")}
        median, most = (f"{1e3 * forgotten[f'energy_{which}']:.2g}" for which in ("median", "max"))
        median = f"**{median}**" if forgotten["energy_median"] > TOLERABLE else median
        lines.append(f"| | {row['way']} | {run} | {' | '.join(cells)} | {median}, {most} |")
    return "\n".join(lines)


def _cells(values: dict[str, float | None]) -> list[str]:
    numbers = [values[f"{name}_mae"] for name, _, _ in UNITS]
    return ["–" if x is None else f"{scale * x:.3g}" for x, (_, _, scale) in zip(numbers, UNITS, strict=True)]


def main() -> None:
    """Parse, run what is missing, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=["full", "lora"])
    parser.add_argument("--base", default="dpa4-neo")
    parser.add_argument("--minutes", type=float, default=20.0, help="of the processor")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "rows.json"
    wanted = []
    for way in arguments.ways:
        for name in arguments.sets:
            options = {"base": arguments.base, "minutes": arguments.minutes, "seed": arguments.seed}
            key = {"set": name, "way": way, **options}
            row = next((row for row in _rows(file) if key.items() <= row.items()), None)
            if row is None:
                train, test = (arguments.out / f"{name}_{part}.extxyz" for part in ("train", "test"))
                if not (train.exists() and test.exists()):
                    SETS[name].write(arguments.data, train, test)
                folder = arguments.out / f"{name}-{way}-{arguments.minutes:g}-{arguments.seed}"
                row = key | run(train, test, way, folder, **options)
                with locked(arguments.out / ".lock", "a row is being written", wait_s=60.0):
                    write_json(file, [*_rows(file), row])
                shutil.rmtree(folder)
                print(f"{name} {way}: {row['cpu_s'] / 60:.1f} minutes of the processor", file=sys.stderr, flush=True)
            wanted.append(row)
    print(table(wanted))
    sys.exit(any(row["worse"] for row in wanted))


def _rows(file: Path) -> list[Row]:
    return json.loads(file.read_text()) if file.exists() else []


if __name__ == "__main__":
    main()

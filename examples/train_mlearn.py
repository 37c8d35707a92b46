"""Train one small model on six elements from scratch, on a CPU and within an hour, and table its errors.

The data are the training frames of the mlearn benchmark (Y. Zuo et al., J. Phys. Chem. A 124, 731 (2020)): Cu, Ge, Li,
Mo, Ni and Si as bulk, strained, surface, vacancy and molecular-dynamics cells. The last tenth of the frames of each
kind is kept for validation; the published errors are on the separate test frames of the benchmark, one model per
element, so the two columns are neighbours, not rivals.

Run it again after a kill and it goes on; ``--minutes`` sets the time that the training may take, or ``--steps`` its
length. A validation is printed with the minutes of the processor so far, which is the curve of error against time.

    python examples/train_mlearn.py FOLDER_WITH_EXTXYZ --minutes 55
    python examples/train_mlearn.py FOLDER_WITH_EXTXYZ --elements Cu --steps 2000
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from ase.data import atomic_numbers

import dpa4_core as dpa4
from dpa4_core.train.outcome import validation_frames

ELEMENTS = ("Cu", "Ge", "Li", "Mo", "Ni", "Si")
PUBLISHED = {  # mean absolute errors of GAP and MTP, meV/atom and meV/Å, as tabulated by C. Witt et al.,
    # J. Chem. Phys. 159, 164101 (2023), from Zuo et al.; forces were given to 10 meV/Å
    "Ni": (0.42, 0.48, 20, 10),
    "Cu": (0.46, 0.41, 10, 10),
    "Li": (0.49, 0.49, 10, 10),
    "Mo": (2.24, 2.83, 90, 90),
    "Si": (2.91, 2.21, 70, 60),
    "Ge": (2.06, 1.79, 50, 50),
}


def config(arguments: argparse.Namespace) -> dpa4.TrainConfig:
    """Two interaction blocks of degree 1 with 32 channels: 0.5 million parameters and cheap edges."""
    every = arguments.steps // 20 if arguments.steps else 1000
    return dpa4.TrainConfig.from_dict(
        {
            "name": "mlearn-six",
            "output": str(arguments.output),
            "level_of_theory": "PBE (VASP, mlearn data set)",
            "preset": "nano-0805",
            "model": {"cutoff": 5.0},
            "data": {
                "train": [str(arguments.folder / f"{element}_train.extxyz.xz") for element in arguments.elements],
                "split_by": "block",
                "validation_fraction": 0.1,
            },
            "schedule": {"lr": 1e-3, "decay": 0.7},
            "loss": {"final_energy": arguments.final_energy},
            "batch": {"max_atoms": arguments.batch_atoms},
            "run": {
                "steps": arguments.steps or 40000,
                "max_time": 0 if arguments.steps else arguments.minutes,
                "log_every": 50,
                "validate_every": every,
                "device": "cpu",
            },
        }
    )


def main() -> None:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, default=Path("runs/mlearn-six"))
    parser.add_argument("--elements", nargs="+", choices=ELEMENTS, default=list(ELEMENTS))
    parser.add_argument("--minutes", type=float, default=55.0)
    parser.add_argument("--steps", type=int, default=0, help="in place of the minutes")
    parser.add_argument("--batch-atoms", type=int, default=128)
    parser.add_argument("--final-energy", type=float, default=0.0, help="weight of the energy at the end; 0: no other")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    def show(record: dict) -> None:
        if record["kind"] == "validation":
            print(
                f"step {record['step']}, {time.process_time() / 60:.1f} min: "
                f"energy {1e3 * record['energy_mae']:.2f} meV/atom, force {1e3 * record['force_mae']:.1f} meV/Å, "
                f"stress {160.2 * record['stress_mae']:.3f} GPa",
                flush=True,
            )

    result = dpa4.train(config(arguments), notify=show)
    frames, potential = validation_frames(result.folder), dpa4.load(result.folder / "model.dpa4")
    print(
        "validation  frames  energy (meV/atom)  force (meV/Å)  stress (GPa)  published: GAP, MTP energy; GAP, MTP force"
    )
    for element in arguments.elements:
        mine = [frame for frame in frames if frame.system.numbers[0] == atomic_numbers[element]]
        errors = dpa4.evaluate(mine, potential)
        assert errors.energy_mae is not None and errors.force_mae is not None and errors.stress_mae is not None
        energy, force, stress = 1e3 * errors.energy_mae, 1e3 * errors.force_mae, 160.2 * errors.stress_mae
        gap_e, mtp_e, gap_f, mtp_f = PUBLISHED[element]
        print(f"{element:10s} {len(mine):7d} {energy:18.2f} {force:14.1f} {stress:13.3f}", end="  ")
        print(f"{gap_e:10.2f}, {mtp_e:.2f}; {gap_f}, {mtp_f}")


if __name__ == "__main__":
    main()

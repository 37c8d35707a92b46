"""What a step of `dpa4 md` costs beside its force call, and what running structures together saves.

The first table times force calls (neighbour list included) and steps of the same crystal in turn, for every ensemble,
with a toy potential that is much cheaper than a model, so that the difference is seen. Times are processor time of one
thread, the median over blocks. The second table compares structures one after another (ASE) with all of them in one
batch (torch-sim, where it is installed), in steps of all structures per second of wall time.

Examples:
    python benchmarks/md_step.py

    python benchmarks/md_step.py --model dpa4-neo --structures 16
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable

import torch
from ase import Atoms
from ase.build import bulk

from dpa4_core import MDSettings, md
from dpa4_core.calculator import DPA4Calculator
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import to_system
from dpa4_core.loaded import load
from dpa4_core.md.integrators import start
from dpa4_core.potential import PotentialLike
from dpa4_core.testing import MorsePotential

SUPERCELLS = {64: (2, 2, 2), 216: (3, 3, 3)}
ENSEMBLES = ("nve", "nvt", "npt")
BLOCKS = 7
STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="registry name or file; the toy potential by default")
    parser.add_argument("--structures", type=int, default=16, help="8-atom crystals of the second table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    potential: PotentialLike = load(options.model) if options.model else MorsePotential(cutoff=6.0)
    overhead_table(potential)
    batch_table(potential, options.structures)


def overhead_table(potential: PotentialLike) -> None:
    """Force call and step, ms."""
    print("atoms  ensemble  force call, ms  step, ms  beside it, ms  share")
    for n_atoms, repeats in SUPERCELLS.items():
        crystal = bulk("Si", cubic=True) * repeats
        for ensemble in ENSEMBLES:
            call, step = force_and_step(crystal, potential, ensemble)
            beside = step - call
            print(f"{n_atoms:5d}  {ensemble:8s}  {call:14.2f}  {step:8.2f}  {beside:13.2f}  {beside / step:5.0%}")


def force_and_step(crystal: Atoms, potential: PotentialLike, ensemble: str) -> tuple[float, float]:
    """Medians in ms, measured in turn."""
    atoms = crystal.copy()
    atoms.calc = DPA4Calculator(potential)
    motion = start(atoms, MDSettings(ensemble=ensemble, timestep_fs=0.1))

    def call() -> None:
        potential.compute(build_graph([to_system(atoms)], potential.cutoff, potential.device))

    calls, steps = [], []
    for _ in range(BLOCKS):
        steps.append(timed(motion.step))
        calls.append(timed(call))
    return statistics.median(calls), statistics.median(steps)


def timed(action: Callable[[], None]) -> float:
    """Processor time of one action, ms."""
    began = time.process_time()
    for _ in range(STEPS):
        action()
    return (time.process_time() - began) * 1000 / STEPS


def batch_table(potential: PotentialLike, n_structures: int) -> None:
    """Steps of all structures per second, one after another and together."""
    crystals = [bulk("Si", cubic=True, a=5.43 + 0.002 * i) for i in range(n_structures)]
    settings = MDSettings(ensemble="nve", time_ps=0.03)
    began = time.monotonic()
    for crystal in crystals:
        md(crystal, potential, settings)
    alone = n_structures * settings.n_steps / (time.monotonic() - began)
    print(f"\n{n_structures} crystals of 8 atoms, nve, one after another: {alone:.1f} steps/s")
    if importlib.util.find_spec("torch_sim") is None:
        print("together: torch-sim is not installed")
        return
    from dpa4_flows.torchsim_md import md_batch  # an optional part

    began = time.monotonic()
    md_batch(crystals, potential, settings, [None] * n_structures)
    together = n_structures * settings.n_steps / (time.monotonic() - began)
    print(f"together through torch-sim: {together:.1f} steps/s, {together / alone:.2f} times as many")


if __name__ == "__main__":
    main()

"""What a step of `dpa4 md` costs beside its force call, and what running structures together saves.

The first table times force calls (neighbour list included) and steps of the same crystal in turn, for every ensemble,
with a toy potential that is much cheaper than a model, so that the difference is seen. Times are processor time of one
thread, the median over blocks. The second table compares structures one after another with all of them in one batch.

Examples:
    python benchmarks/md_step.py

    python benchmarks/md_step.py --model dpa4-neo --only-together
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from ase import Atoms
from ase.build import bulk

from dpa4_core import MDSettings, md
from dpa4_core.data.graph import Graph
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import to_system
from dpa4_core.loaded import load
from dpa4_core.md import md_many
from dpa4_core.potential import Output, PotentialLike
from dpa4_core.testing import MorsePotential

SUPERCELLS = {64: (2, 2, 2), 216: (3, 3, 3)}
ENSEMBLES = ("nve", "nvt", "npt")
BLOCKS = 7
STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="registry name or file; the toy potential by default")
    parser.add_argument("--structures", type=int, default=8, help="crystals of the second table")
    parser.add_argument("--only-together", action="store_true", help="only the second table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    potential: PotentialLike = load(options.model) if options.model else MorsePotential(cutoff=6.0)
    if not options.only_together:
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
    system = to_system(crystal)

    def call() -> None:
        potential.compute(build_graph([system], potential.cutoff, potential.device))

    def run(n_steps: int) -> float:
        settings = MDSettings(ensemble=ensemble, timestep_fs=0.1, time_ps=n_steps * 1e-4, every=STEPS)
        return cpu_ms(lambda: md(crystal, potential, settings))

    calls, steps = [], []
    for _ in range(BLOCKS):
        steps.append((run(2 * STEPS) - run(STEPS)) / STEPS)  # without what a run costs once
        calls.append(cpu_ms(call))
    return statistics.median(calls), statistics.median(steps)


def cpu_ms(action: Callable[[], object]) -> float:
    """Processor time, ms."""
    began = time.process_time()
    action()
    return (time.process_time() - began) * 1000


class Counted:
    """A potential that counts its force calls."""

    def __init__(self, potential: PotentialLike) -> None:
        self.cutoff, self.device, self.elements = potential.cutoff, potential.device, potential.elements
        self.n_calls, self._potential = 0, potential

    def compute(self, graph: Graph) -> Output:
        """As the potential."""
        self.n_calls += 1
        return self._potential.compute(graph)


def batch_table(potential: PotentialLike, n_structures: int) -> None:
    """Force calls and processor time, one after another and together."""
    crystals = [bulk("Si", cubic=True, a=5.43 + 0.002 * i) for i in range(n_structures)]
    settings = MDSettings(time_ps=0.05)
    print(f"\n{n_structures} crystals of 8 atoms, nvt, {settings.n_steps} steps each")

    def tell(how: str, action: Callable[[PotentialLike], object]) -> float:
        counted = Counted(potential)
        seconds = cpu_ms(lambda: action(counted)) / 1000
        print(f"{how:18s} {counted.n_calls:5d} force calls  {seconds:7.2f} s of one processor")
        return seconds

    alone = tell("one after another", lambda counted: [md(crystal, counted, settings) for crystal in crystals])
    together = tell("together", lambda counted: md_many(crystals, counted, settings))
    print(f"together takes {together / alone:.2f} of the time")


if __name__ == "__main__":
    main()

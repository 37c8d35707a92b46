"""One batch of slabs on one thread, on several threads, and shared among as many processes.

    python benchmarks/shares.py --cores 2

Times are those of `predict` for 12 slabs of 17 atoms, in turn, medians; energies must agree within 1e-5 eV.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc111

from dpa4_core import load, predict, shares

METALS = ("Cu", "Pt", "Ag", "Pd", "Au", "Ni")


def slabs(n: int) -> list[Atoms]:
    """Four layers of (111) faces with a hydrogen atom each, rattled."""
    out = []
    for i in range(n):
        slab = fcc111(METALS[i % len(METALS)], (2, 2, 4), vacuum=8.0)
        add_adsorbate(slab, "H", 1.0, "fcc")
        slab.pbc = True
        slab.rattle(0.02, seed=i)
        out.append(slab)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=torch.get_num_threads())
    parser.add_argument("--slabs", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    potential, structures = load("dpa4-neo"), slabs(arguments.slabs)
    n_atoms = sum(map(len, structures))

    def call(n_threads: int, n_processes: int) -> tuple[float, list[float]]:
        torch.set_num_threads(n_threads)
        os.environ["DPA4_PROCESSES"] = str(n_processes)
        begun = time.perf_counter()
        energies = [one.energy for one in predict(structures, potential, max_atoms_per_batch=n_atoms)]
        return time.perf_counter() - begun, energies

    shares.WORTH_S = 0.0
    call(1, arguments.cores)
    while not all(worker.is_ready() for worker in shares._crew._workers):
        time.sleep(0.1)
    ways = {"one thread": (1, 1), "threads": (arguments.cores, 1), "processes": (1, arguments.cores)}
    reference = call(1, arguments.cores)[1]
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(arguments.repeats):
        for way, numbers in ways.items():
            took, energies = call(*numbers)
            times[way].append(took)
            worst = max(abs(one - other) for one, other in zip(energies, reference, strict=True))
            assert worst < 1e-5, f"{way}: energies differ by {worst} eV"
    first = statistics.median(times["one thread"])
    print(f"{len(structures)} slabs, {n_atoms} atoms, {arguments.cores} cores")
    for way, taken in times.items():
        print(f"{way:11}  {statistics.median(taken):.3f} s  {statistics.median(taken) / first:.2f}")


if __name__ == "__main__":
    main()

"""What dispersion adds to a force call, and how far its reach is from an endless one.

The first table times the force call of a model and the dispersion term on the same batches in turn: processor time of
one thread (on a GPU wall time), the least of several blocks. The second needs no model: energies with the reach in use,
and with the 95 bohr of other programs, against one of 70 Å.

Examples:
    python benchmarks/dispersion.py

    python benchmarks/dispersion.py --device cuda
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from ase import Atoms
from ase.build import bulk, mx2
from ase.lattice.hexagonal import Graphite

from dpa4_core import load
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import to_system
from dpa4_core.dispersion.d3 import D3, Range
from dpa4_core.potential import PotentialLike
from dpa4_core.units import BOHR_ANGSTROM

BLOCKS = 5
NAME = "d3bj-pbe"
ENDLESS = Range(cutoff=70.0, taper=20.0)
LONG = Range(cutoff=95 * BOHR_ANGSTROM, taper=0.0, tail=False)


def batches() -> dict[str, list[Atoms]]:
    """What force calls are made of: a cell, supercells, many cells."""
    silicon = bulk("Si", cubic=True)
    many = [bulk("NaCl", "rocksalt", a=5.6 + 0.01 * i, cubic=True) for i in range(32)]
    return {
        "8 Si": [silicon],
        "64 Si": [silicon * (2, 2, 2)],
        "216 Si": [silicon * (3, 3, 3)],
        "32 cells of 8 NaCl": many,
        "slab, 48 MoS2": [mx2("MoS2", size=(4, 4, 1), vacuum=10)],
    }


def crystals() -> dict[str, Atoms]:
    """Dense and sparse, layers and metals."""
    return {
        "diamond": bulk("C"),
        "graphite": Graphite("C", latticeconstant={"a": 2.46, "c": 6.71}),
        "NaCl": bulk("NaCl", "rocksalt", a=5.64),
        "Cu": bulk("Cu"),
        "Pb": bulk("Pb"),
        "Cs": bulk("Cs"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dpa4-neo", help="registry name or file")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    torch.set_num_threads(1)
    share_table(load(options.model, options.device))
    reach_table()


def share_table(potential: PotentialLike) -> None:
    """Force call of the model and the term, ms, and their ratio."""
    term = D3(NAME, potential.device)
    print("batch                force call, ms  dispersion, ms  share")
    for name, structures in batches().items():
        graph = build_graph([to_system(one) for one in structures], potential.cutoff, potential.device)
        calls, terms = [], []
        for _ in range(BLOCKS):
            calls.append(timed(lambda graph=graph: potential.compute(graph), potential.device))
            terms.append(timed(lambda graph=graph: term.compute(graph), potential.device))
        call, added = min(calls[1:]), min(terms[1:])  # the first of each compiles, fills caches and tables
        print(f"{name:20s} {call:14.1f} {added:15.1f} {added / call:6.1%}")


def timed(action: Callable[[], object], device: torch.device) -> float:
    """Time of one action, ms."""
    if device.type == "cpu":
        began = time.process_time()
        action()
        return (time.process_time() - began) * 1000
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    action()
    torch.cuda.synchronize(device)
    return (time.perf_counter() - began) * 1000


def reach_table() -> None:
    """Errors of a finite reach, meV/atom."""
    print("\ncrystal    E, eV/atom  in use, meV/atom  95 bohr, meV/atom")
    for name, structure in crystals().items():
        graph = build_graph([to_system(structure)], 1.0)
        endless, used, long = (
            float(D3(NAME, reach=reach).compute(graph).energy[0]) / len(structure) for reach in (ENDLESS, None, LONG)
        )
        print(f"{name:10s} {endless:10.4f} {1000 * (used - endless):17.4f} {1000 * (long - endless):18.4f}")


if __name__ == "__main__":
    main()

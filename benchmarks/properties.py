"""Elastic tensors, phonons and places on the hull of small crystals: all in one loop, beside one after the other.

    python benchmarks/properties.py                  # 30 crystals, DPA4-Neo, both ways in this process, alternating
    python benchmarks/properties.py --crystals 6 --model dpa4_core.testing:MorsePotential

Both ways compute the same documents with the same code; one after the other is how four commands would do it: relax,
strain, displace, place, each with the batch to itself. Printed: seconds, force calls of the batch, structures in them,
and how full the batch was. Take times on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dpa4_core.data.batching import default_budget
from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.compute.relaxed import TIGHT_FMAX, Relaxed
from dpa4_flows.makers.bulk_validation import bulk_solids
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.properties.stability import Stability
from dpa4_flows.store.protocol import MemoryStore

TIGHT = Relaxed(fmax=TIGHT_FMAX, max_steps=1000, check_minimum=False)
PUSHED = Relaxed(rattle=0.02)  # what a hull asks of its candidates


@dataclass
class Counted:
    """Force calls of the potential."""

    atoms: list[int] = field(default_factory=list)
    structures: int = 0


def counting(potential: Any) -> Counted:
    """Count the calls of potentials like ``potential`` from here on, those that processes share once."""
    kind = type(potential)
    counted, before = Counted(), kind.compute

    def compute_and_count(this: Any, graph: Any) -> Any:
        counted.atoms.append(graph.n_atoms)
        counted.structures += graph.n_systems
        return before(this, graph)

    kind.compute = compute_and_count
    return counted


def crystals(number: int) -> list[Crystal]:
    """Well-known solids, each also with its cell a little larger until there are enough."""
    solids = bulk_solids()
    found = []
    for i in range(number):
        structure = solids[i % len(solids)].structure.copy()
        structure.apply_strain(0.005 * (i // len(solids)))
        found.append(Crystal(structure, name=f"{solids[i % len(solids)].formula} {i}"))
    return found


def together(some: list[Crystal], model: ModelRef, phonons: Phonons) -> None:
    """Everything about everybody in one loop."""
    asks = [((c.name, "stability"), Ask(Stability(phonons=phonons), c)) for c in some]
    asks += [((c.name, "hull"), Ask(PUSHED, c)) for c in some]
    run(compute(asks, model, MemoryStore()))


def one_after_the_other(some: list[Crystal], model: ModelRef, phonons: Phonons) -> None:
    """Each property of everybody, before the next one begins."""
    store = MemoryStore()
    relaxed = run(compute([(c.name, Ask(TIGHT, c)) for c in some], model, store))
    at_rest = [Crystal(structure_of_fields(d.structure), name=n) for n, d in relaxed.items() if d.error is None]
    for part in (Elastic(), phonons):
        run(compute([(c.name, Ask(part, c)) for c in at_rest], model, store))
    run(compute([(c.name, Ask(PUSHED, c)) for c in some], model, store))


def run(found: Iterator[tuple[Any, Any]]) -> dict[Any, Any]:
    return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dpa4-neo")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--crystals", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--min-length", type=float, default=8.0, help="of phonon supercells, Å")
    options = parser.parse_args()
    model = ModelRef(options.model, device=options.device).resolve()
    potential = model.load()
    some, phonons = crystals(options.crystals), Phonons(min_length=options.min_length)
    counted = counting(potential)
    ways = {"one after the other": one_after_the_other, "together": together}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(options.repeats):
        for name in ways if repeat % 2 == 0 else reversed(ways):
            counted.atoms, counted.structures = [], 0
            start = time.perf_counter()
            ways[name](some, model, phonons)
            seconds[name].append(time.perf_counter() - start)
            full = f"{np.mean(counted.atoms):.0f} of {default_budget(options.device)} atoms"
            calls = f"{len(counted.atoms):6d} force calls of {counted.structures} structures, {full}"
            print(f"{name:20s} {seconds[name][-1]:8.1f} s  {calls}", flush=True)
    ratio = np.median(seconds["together"]) / np.median(seconds["one after the other"])
    print(f"together takes {ratio:.2f} of the time")


if __name__ == "__main__":
    main()

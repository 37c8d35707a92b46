"""Time of hull queries against a large library: 100,000 phases of all systems, 10,000 queries.

    python benchmarks/hull_scale.py                                     # generated phases of 60 elements
    python benchmarks/hull_scale.py --table oqmd_formation_sample.csv.gz  # formula,formation energy (eV/atom) per line

Our path (`phase_positions`: one small hull per chemical system) answers all queries; pymatgen's `PhaseDiagram`, built
for the chemical system of each query, answers a sample of them, and both answers are compared. A `PatchedPhaseDiagram`
of the whole library is timed for a few hundred of its systems: it builds every one before the first query.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import random
import time
from itertools import combinations
from pathlib import Path

from pymatgen.analysis.phase_diagram import PatchedPhaseDiagram, PhaseDiagram
from pymatgen.core import Composition, Element
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_flows.analysis.hull import CompetingPhases, phase_positions

MAX_FORMATION_ENERGY = 5.0  # eV/atom; rows beyond it are mistakes of their source
NUMBERS = (
    *range(3, 10),
    *range(11, 18),
    *range(19, 36),
    *range(37, 43),
    *range(47, 54),
    *range(55, 59),
    *range(72, 84),
)
ELEMENTS = [Element.from_Z(number).symbol for number in NUMBERS]


def generated_phases(count: int, seed: int = 0) -> list[ComputedEntry]:
    """Phases of one to four elements that are the more stable the more their electronegativities differ."""
    rng = random.Random(seed)
    entries = []
    while len(entries) < count:
        symbols = rng.sample(ELEMENTS, rng.choices((2, 3, 4), (0.15, 0.65, 0.2))[0])
        amounts = {symbol: rng.choice((1, 1, 1, 2, 2, 3, 4, 6)) for symbol in symbols}
        composition = Composition(amounts)
        entries.append(ComputedEntry(composition, _formation_energy(composition, rng) * composition.num_atoms))
    return entries


def _formation_energy(composition: Composition, rng: random.Random) -> float:
    pairs = combinations([(float(Element(s).X), n) for s, n in composition.fractional_composition.as_dict().items()], 2)
    return -2.0 * sum((a - b) ** 2 * n * m for (a, n), (b, m) in pairs) + rng.gauss(0.05, 0.15)


def read_phases(path: Path, count: int) -> list[ComputedEntry]:
    """The first ``count`` phases of a table."""
    entries = []
    with gzip.open(path, "rt") as stream:
        for formula, energy in list(csv.reader(stream))[1:]:
            if len(entries) < count and abs(float(energy)) < MAX_FORMATION_ENERGY:
                composition = Composition(formula)
                entries.append(ComputedEntry(composition, float(energy) * composition.num_atoms))
    return entries


def queries_for(phases: list[ComputedEntry], count: int, seed: int = 1) -> list[ComputedEntry]:
    """Hypothetical compounds: the compositions of random phases with one element exchanged or added."""
    rng = random.Random(seed)
    symbols = sorted({element.symbol for entry in phases for element in entry.composition.elements})
    queries = []
    for _ in range(count):
        amounts = dict(rng.choice(phases).composition.as_dict())
        if rng.random() < 0.7 or len(amounts) > 3:
            amounts.pop(rng.choice(sorted(amounts)))
        amounts[rng.choice([s for s in symbols if s not in amounts])] = rng.choice((1.0, 2.0, 3.0))
        composition = Composition(amounts)
        queries.append(ComputedEntry(composition, rng.uniform(-2, 0) * composition.num_atoms))
    return queries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--phases", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--compared", type=int, default=200)
    arguments = parser.parse_args()

    start = time.perf_counter()
    phases = read_phases(arguments.table, arguments.phases) if arguments.table else generated_phases(arguments.phases)
    symbols = sorted({element.symbol for entry in phases for element in entry.composition.elements})
    phases += [ComputedEntry(symbol, 0.0) for symbol in symbols]
    queries = queries_for(phases, arguments.queries)
    systems = {entry.composition.chemical_system for entry in queries}
    sizes = [len(system.split("-")) for system in systems]
    print(f"{len(phases)} phases of {len(symbols)} elements, made in {time.perf_counter() - start:.1f} s")
    print(
        f"{len(queries)} queries in {len(systems)} chemical systems: "
        + ", ".join(f"{sizes.count(size)} of {size}" for size in sorted(set(sizes)))
        + " elements"
    )

    start = time.perf_counter()
    library = CompetingPhases(phases)
    sorting = time.perf_counter() - start
    results = phase_positions(queries, library)
    ours = time.perf_counter() - start
    print(f"phase_positions: {ours:.1f} s, {1e3 * ours / len(queries):.2f} ms per query; of it sorting {sorting:.1f} s")
    start = time.perf_counter()
    for query in queries[:1000]:
        phase_positions([query], library)
    print(f"one query after another in known systems: {time.perf_counter() - start:.3f} ms each")

    by_elements: dict[frozenset[str], list[ComputedEntry]] = {}
    for entry in phases:
        by_elements.setdefault(frozenset(e.symbol for e in entry.composition.elements), []).append(entry)
    compared = random.Random(2).sample(range(len(queries)), min(arguments.compared, len(queries)))
    start, worst, used = time.perf_counter(), 0.0, []
    for index in compared:
        wanted = sorted(element.symbol for element in queries[index].composition.elements)
        subsets = (frozenset(c) for size in range(1, len(wanted) + 1) for c in combinations(wanted, size))
        inside = [entry for subset in subsets for entry in by_elements.get(subset, ())]
        used += inside
        diagram = PhaseDiagram(inside)
        distance = diagram.get_e_above_hull(queries[index], allow_negative=True)
        worst = max(worst, abs((results[index].distance_to_competing or 0.0) - distance))
    theirs = (time.perf_counter() - start) * len(queries) / len(compared)
    print(f"PhaseDiagram per query: {theirs:.0f} s for all (from {len(compared)}), {theirs / ours:.1f} times as long")
    print(f"largest difference of the distances: {worst:.1e} eV/atom")

    start = time.perf_counter()
    part = list({id(entry): entry for entry in used}.values())
    patched = PatchedPhaseDiagram(part)
    built = time.perf_counter() - start
    every = len({entry.composition.chemical_system for entry in phases})
    print(
        f"PatchedPhaseDiagram of {len(part)} phases: {built:.1f} s for {len(patched.spaces)} systems, so "
        f"{built * every / max(1, len(patched.spaces)):.0f} s for the {every} systems of the library, before any query"
    )


if __name__ == "__main__":
    main()

"""Force calls to a relaxed structure, for each optimiser: the figure that decides which one is the default.

    python benchmarks/relaxation.py                                  # built-in structures, toy potential: seconds
    python benchmarks/relaxation.py --model dpa4-neo                 # the same with DPA4-Neo: minutes
    python benchmarks/relaxation.py --model dpa4-neo wbm.json.gz candidates.json more.cif

Every structure is relaxed with every optimiser to the same fmax. The table has force calls per structure (mean, median,
95th percentile), force calls weighted by atoms against FIRE, failures, and how many structures end more than
2 meV/atom above or below FIRE. A second table has what it costs to look for a way down at the end, by file, and how
many structures went down. Files are those that `dpa4 relax` reads, or JSON with rows that hold a "structure".
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from pymatgen.core import Lattice, Structure

import dpa4_core as dpa4
from dpa4_core.potential import PotentialLike
from dpa4_core.testing import MorsePotential

OPTIMIZERS = ("fire", "lbfgs", "auto")
TOLERANCE = 0.002  # eV/atom


def distorted(atoms: Atoms, seed: int) -> Atoms:
    """Strained by some 3 %, atoms displaced by some 0.08 Å."""
    rng = np.random.default_rng(seed)
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(scale=0.08, size=atoms.positions.shape)
    return atoms


def built_in() -> Iterator[tuple[str, Any]]:
    """Metals, oxides, a semiconductor and molecules: as a handbook has them, and distorted."""
    crystals = [bulk(symbol) for symbol in ("Cu", "Al", "Fe", "Ti", "Mg")]
    crystals += [bulk(name, "rocksalt", a=a, cubic=True) for name, a in (("MgO", 4.2), ("NiO", 4.2), ("LiF", 4.0))]
    crystals += [bulk("Si", cubic=True), bulk("ZnO", "wurtzite", a=3.25, c=5.2), bulk("CsCl", "cesiumchloride", a=4.1)]
    for atoms in crystals:
        yield "handbook", atoms
    for seed, atoms in enumerate(crystals):
        yield "distorted", distorted(atoms, seed)
    for name in ("H2O", "CH3OH", "C2H6"):
        yield "molecule", molecule(name)


def from_file(path: Path) -> Iterator[Any]:
    """Structures of a file that `dpa4 relax` reads, or of rows of JSON."""
    if not path.name.endswith((".json", ".json.gz")):
        yield from (entry.structure for entry in dpa4.read_structures(path))
        return
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        rows = json.load(file)
    for row in rows:
        data = row["structure"]
        if "sites" in data:
            yield Structure.from_dict(data)
        else:
            yield Structure(Lattice(data["lattice"]), data["species"], data["frac_coords"])


def sample(paths: list[Path], n_each: int, max_atoms: int, perturb: float) -> list[tuple[str, Any]]:
    """Up to ``n_each`` structures of every file, drawn with a fixed seed, as they are or displaced by ``perturb`` Å."""
    rng = np.random.default_rng(0)
    chosen = []
    for path in paths:
        structures = [structure for structure in from_file(path) if len(structure) <= max_atoms]
        for i in rng.permutation(len(structures))[:n_each]:
            structure = structures[i].copy()
            if perturb:
                structure.perturb(perturb)
            chosen.append((path.name.split(".")[0], structure))
    return chosen


def measure(
    structures: list[Any], potential: PotentialLike, optimizer: str, fmax: float
) -> tuple[list[dpa4.RelaxResult], float]:
    """Results and seconds."""
    start = time.perf_counter()
    results = dpa4.relax(structures, potential, fmax=fmax, optimizer=optimizer, check_minimum=False)
    return results, time.perf_counter() - start


def row(
    name: str, results: list[dpa4.RelaxResult], reference: list[dpa4.RelaxResult], sizes: np.ndarray, seconds: float
) -> str:
    calls = np.array([result.n_force_calls for result in results])
    base = np.array([result.n_force_calls for result in reference])
    difference = np.array([a.energy - b.energy for a, b in zip(results, reference, strict=True)]) / sizes
    failed = sum(not result.converged for result in results)
    return (
        f"| {name} | {calls.mean():.1f} | {np.median(calls):.0f} | {np.percentile(calls, 95):.0f} "
        f"| {(calls * sizes).sum() / (base * sizes).sum():.2f} | {failed} "
        f"| {(difference > TOLERANCE).sum()} | {(difference < -TOLERANCE).sum()} | {seconds:.0f} |"
    )


def print_checks(groups: list[str], structures: list[Any], potential: PotentialLike, fmax: float) -> None:
    """What looking for a way down costs and finds, for every group and for all."""
    plain = dpa4.relax(structures, potential, fmax=fmax, check_minimum=False)
    checked = dpa4.relax(structures, potential, fmax=fmax)
    print("\n| start | structures | force calls | of the check | more, % | further down | went down | not verified |")
    print("|---|---|---|---|---|---|---|---|")
    for group in [*dict.fromkeys(groups), "all"]:
        here = [i for i, name in enumerate(groups) if group in (name, "all")]
        calls, check, total = (
            np.array([getattr(part[i], name) for i in here])
            for part, name in ((plain, "n_force_calls"), (checked, "n_check_calls"), (checked, "n_force_calls"))
        )
        gain = np.array([(plain[i].energy - checked[i].energy) / len(structures[i]) for i in here])
        more = 100 * check.sum() / calls.sum()
        open_ends = sum(checked[i].minimum != "verified" for i in here)
        print(
            f"| {group} | {len(here)} | {calls.mean():.1f} | {check.mean():.1f} | {more:.0f} "
            f"| {(total - check - calls).mean():.1f} | {(gain > TOLERANCE).sum()} | {open_ends} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--model", help="name or file of a model; a toy potential if none is named")
    parser.add_argument("--fmax", type=float, default=0.02)
    parser.add_argument("--each", type=int, default=10, help="structures of every file")
    parser.add_argument("--max-atoms", type=int, default=16)
    parser.add_argument("--perturb", type=float, default=0.0, help="Å, displacement of the atoms of files")
    parser.add_argument("--optimizers", nargs="*", default=["lbfgs", "auto"])
    arguments = parser.parse_args()
    data = list(built_in())
    if arguments.files:
        data = sample(arguments.files, arguments.each, arguments.max_atoms, arguments.perturb)
    groups, structures = [group for group, _ in data], [structure for _, structure in data]
    sizes = np.array([len(structure) for structure in structures])
    potential = dpa4.load(arguments.model) if arguments.model else MorsePotential()
    reference, seconds = measure(structures, potential, "fire", arguments.fmax)
    print(f"{len(structures)} structures, {sizes.mean():.1f} atoms each, fmax {arguments.fmax} eV/Å\n")
    print(
        "| optimizer | force calls, mean | median | 95 % | atoms × calls / FIRE | not converged | higher | lower | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    print(row("fire", reference, reference, sizes, seconds), flush=True)
    for optimizer in arguments.optimizers:
        results, seconds = measure(structures, potential, optimizer, arguments.fmax)
        print(row(optimizer, results, reference, sizes, seconds), flush=True)
        for group in dict.fromkeys(groups):
            here = [i for i, name in enumerate(groups) if name == group]
            fewer = [np.mean([part[i].n_force_calls for i in here]) for part in (reference, results)]
            print(f"  {group}: {fewer[0]:.1f} → {fewer[1]:.1f} force calls", flush=True)
        for i, (result, other) in enumerate(zip(results, reference, strict=True)):
            higher = (result.energy - other.energy) / sizes[i]
            if higher > TOLERANCE or result.error:
                name = getattr(structures[i], "formula", None) or structures[i].get_chemical_formula()
                print(f"  {name} ({groups[i]}): {1000 * higher:+.1f} meV/atom; {result.reason}", flush=True)
    print_checks(groups, structures, potential, arguments.fmax)


if __name__ == "__main__":
    main()

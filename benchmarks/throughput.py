"""Structures per second against what a user would run otherwise, side by side in one run.

    python benchmarks/throughput.py                                   # ours alone, built-in structures
    python benchmarks/throughput.py --reference-python REF/bin/python --checkpoint dpa4.pt wbm.json.gz demo.json
    python benchmarks/throughput.py ... --chgnet                      # CHGNet in the same environment, for scale

Static: energies, forces and stress of many small structures, `dpa4_core.predict` against the reference calculator one
at a time through ASE. Relaxation: to the same fmax, `dpa4_core.relax` against atomate2's ForceFieldRelaxMaker with the
reference calculator; structures that end more than 2 meV/atom higher than there are listed. REF is an environment with
the reference implementation and atomate2. Both sides get the same number of threads and never run at the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.io import write
from pymatgen.io.ase import AseAtomsAdaptor
from relaxation import built_in, sample

import dpa4_core as dpa4

REFERENCE = Path(__file__).with_name("throughput_reference.py")
TOLERANCE = 0.002  # eV/atom


def as_atoms(structure: Any) -> Atoms:
    atoms = structure if isinstance(structure, Atoms) else AseAtomsAdaptor.get_atoms(structure, msonable=False)
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def elsewhere(python: str, structures: list[Atoms], **request: Any) -> dict[str, Any]:
    """Seconds and energies of the other side."""
    with tempfile.TemporaryDirectory() as folder:
        files = {"structures": f"{folder}/in.extxyz", "result": f"{folder}/out.json"}
        write(files["structures"], structures)
        threads = str(request["threads"])
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "DP_INTRA_OP_PARALLELISM_THREADS": threads}
        environment.pop("PYTHONPATH", None)
        subprocess.run(
            [python, str(REFERENCE), json.dumps(files | request)],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return json.loads(Path(files["result"]).read_text())


def displaced(structures: list[Atoms], number: int) -> list[Atoms]:
    """``number`` structures, the given ones again and again with other displacements."""
    rng = np.random.default_rng(1)
    copies = [structures[i % len(structures)].copy() for i in range(number)]
    for atoms in copies:
        atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
    return copies


def report(name: str, n: int, ours: float, other: dict[str, Any] | None) -> None:
    line = f"{name}: {n} structures, ours {n / ours:.3g} structures/s"
    if other is not None:
        line += f", other {n / other['seconds']:.3g} structures/s, ratio {other['seconds'] / ours:.2f}"
    print(line, flush=True)


def compare_energies(ours: np.ndarray, other: list[float], structures: list[Atoms]) -> None:
    per_atom = (ours - np.array(other)) / [len(atoms) for atoms in structures]
    higher = np.flatnonzero(~(per_atom <= TOLERANCE))
    print(f"  {len(higher)} end more than 2 meV/atom higher, {(per_atom < -TOLERANCE).sum()} lower", flush=True)
    for i in higher:
        print(f"    {structures[i].get_chemical_formula()}: {1000 * per_atom[i]:+.1f} meV/atom")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--model", default="dpa4-neo")
    parser.add_argument("--reference-python", metavar="PATH")
    parser.add_argument("--checkpoint", metavar="PATH", help="of the reference; the same weights")
    parser.add_argument("--chgnet", action="store_true")
    parser.add_argument("--static", type=int, default=200, metavar="N")
    parser.add_argument("--relax", type=int, default=24, metavar="N")
    parser.add_argument("--max-atoms", type=int, default=12)
    parser.add_argument("--fmax", type=float, default=0.02)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.reference_python and not arguments.checkpoint:
        parser.error("--reference-python needs --checkpoint")
    torch.set_num_threads(arguments.threads)
    other = arguments.reference_python
    request = {"threads": arguments.threads, "checkpoint": arguments.checkpoint, "fmax": arguments.fmax}

    if arguments.files:
        each = -(-arguments.relax // len(arguments.files))
        chosen = [s for _, s in sample(arguments.files, each, arguments.max_atoms, 0.0)]
    else:
        chosen = [s for _, s in built_in()]
    structures = [as_atoms(s) for s in chosen if not isinstance(s, Atoms) or s.pbc.all()][: arguments.relax]
    potential = dpa4.load(arguments.model)

    if arguments.static:
        many = displaced(structures, arguments.static)
        dpa4.predict(many[:8], potential)
        start = time.perf_counter()
        found = dpa4.predict(many, potential, strict=True)
        seconds = time.perf_counter() - start
        result = elsewhere(other, many, task="static", **request) if other else None
        report("static", len(many), seconds, result)
        if result is not None:
            worst = max(abs(p.energy - e) for p, e in zip(found, result["energies"], strict=True))
            print(f"  largest difference of an energy {worst:.1e} eV", flush=True)

    start = time.perf_counter()
    relaxed = dpa4.relax(structures, potential, fmax=arguments.fmax)
    seconds = time.perf_counter() - start
    sizes = [len(atoms) for atoms in structures]
    calls = [r.n_force_calls for r in relaxed]
    print(
        f"relaxation of {len(relaxed)} structures of {np.mean(sizes):.1f} atoms: {np.mean(calls):.1f} force calls "
        f"each, {sum(not r.converged for r in relaxed)} not converged",
        flush=True,
    )
    result = elsewhere(other, structures, task="atomate2", **request) if other else None
    report("relaxation against atomate2", len(relaxed), seconds, result)
    if result is not None:
        compare_energies(np.array([r.energy for r in relaxed]), result["energies"], structures)
    if other and arguments.chgnet:
        result = elsewhere(other, structures, task="chgnet", **request)
        report("relaxation against CHGNet", len(relaxed), seconds, result)


if __name__ == "__main__":
    main()

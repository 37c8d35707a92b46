"""The other side of `throughput.py`: what a user would run otherwise, in an environment without dpa4-flows.

Reads extended XYZ, writes JSON with seconds, those of the processor, and total energies; started by `throughput.py`,
not by hand.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import read

warnings.filterwarnings("ignore")


def reference_calculator(checkpoint: str) -> Calculator:
    from deepmd.calculator import DP

    return DP(model=checkpoint)


def static(structures: list[Atoms], calculator: Calculator) -> list[float]:
    """One at a time through ASE: energy, forces and stress."""
    energies = []
    for atoms in structures:
        atoms.calc = calculator
        atoms.get_forces()
        atoms.get_stress()
        energies.append(float(atoms.get_potential_energy()))
    return energies


def relax_atomate2(structures: list[Atoms], checkpoint: str, fmax: float) -> list[float]:
    """One job of atomate2's ForceFieldRelaxMaker with the reference calculator for every structure."""
    from atomate2.forcefields.jobs import ForceFieldRelaxMaker
    from jobflow import JobStore, run_locally
    from maggma.stores import MemoryStore
    from pymatgen.io.ase import AseAtomsAdaptor

    maker = ForceFieldRelaxMaker(
        force_field_name="DeepMD",
        calculator_kwargs={"model": checkpoint},
        relax_kwargs={"fmax": fmax},
        steps=500,
    )
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    energies = []
    for atoms in structures:
        job = maker.make(AseAtomsAdaptor.get_structure(atoms))
        document = run_locally(job, store=store, log=False)[job.uuid][1].output
        output = document["output"] if isinstance(document, dict) else document.output
        energies.append(float(output["energy"] if isinstance(output, dict) else output.energy))
    return energies


def relax_sites(structures: list[Atoms], calculator: Calculator, fmax: float, max_steps: int) -> list[float]:
    """ASE's LBFGS in a fixed cell, one structure at a time, with the atoms fixed that are."""
    from ase.optimize import LBFGS

    energies = []
    for atoms in structures:
        atoms.calc = calculator
        LBFGS(atoms, logfile=None).run(fmax=fmax, steps=max_steps)
        energies.append(float(atoms.get_potential_energy()))
    return energies


def relax_chgnet(structures: list[Atoms], fmax: float) -> list[float]:
    """CHGNet's own relaxation, one structure at a time; its energies are on another scale."""
    from chgnet.model import StructOptimizer
    from pymatgen.io.ase import AseAtomsAdaptor

    optimizer = StructOptimizer(use_device="cpu")
    energies = []
    for atoms in structures:
        result = optimizer.relax(AseAtomsAdaptor.get_structure(atoms), fmax=fmax, steps=500, verbose=False)
        energies.append(float(result["trajectory"].energies[-1]))
    return energies


def main() -> None:
    request: dict[str, Any] = json.loads(sys.argv[1])
    torch.set_num_threads(request["threads"])
    structures = read(request["structures"], ":")
    os.chdir(tempfile.mkdtemp())  # atomate2 writes files where it runs
    run: Callable[[list[Atoms]], list[float]]
    if request["task"] == "static":
        calculator = reference_calculator(request["checkpoint"])
        run = lambda chosen: static(chosen, calculator)  # noqa: E731
    elif request["task"] == "sites":
        calculator = reference_calculator(request["checkpoint"])
        run = lambda chosen: relax_sites(chosen, calculator, request["fmax"], request["max_steps"])  # noqa: E731
    elif request["task"] == "atomate2":
        run = lambda chosen: relax_atomate2(chosen, request["checkpoint"], request["fmax"])  # noqa: E731
    else:
        run = lambda chosen: relax_chgnet(chosen, request["fmax"])  # noqa: E731
    run(structures[:1])  # imports, loading and the first call of everything are not timed
    start, cpu_start = time.perf_counter(), time.process_time()
    energies = run(structures)
    spent = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu_start}
    Path(request["result"]).write_text(json.dumps(spent | {"energies": energies}))


if __name__ == "__main__":
    main()

"""Adsorption sites per second: all in one batch, beside the same sites one after the other with ASE, in one run.

    python benchmarks/adsorption.py                                        # ours against ASE with our calculator
    python benchmarks/adsorption.py --reference-python REF/bin/python --checkpoint dpa4.pt      # and the reference
    python benchmarks/adsorption.py --metals Cu --adsorbates H --model dpa4_core.testing:MorsePotential  # dry

The sites are those of `dpa4 compute adsorption`: H, O and CO on (111) of metals, a quarter of a layer on four planes,
of which the lower half is fixed. Ours is one `dpa4_core.relax` of all of them; the other side takes ASE's LBFGS to the
same largest force, one site after the other, as users do. Starts are the same, and ends are compared, since a start
near the edge of a site may end on another one. Both get the same number of threads and never run at the same time. Both
are warm: a relaxation goes before, and the processes that share the batch (`dpa4_core.shares`), which a campaign starts
in its first seconds, have started. Take figures on a machine that does nothing else; on a busy one only the ratio of
processor seconds means something.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ase.build import bulk
from ase.optimize import LBFGS
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from throughput import elsewhere

import dpa4_core as dpa4
from dpa4_core import shares
from dpa4_flows.analysis.adsorbates import Adsorbate, placed
from dpa4_flows.analysis.sites import Surface, distinct
from dpa4_flows.analysis.slabs import widened
from dpa4_flows.analysis.surface import cuts
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.part import held

METALS = {"Cu": 3.61, "Ag": 4.14, "Au": 4.15, "Pd": 3.94, "Pt": 3.96}
"""Lattice constants, Å."""
APART = 0.02  # eV


def starts(metals: list[str], adsorbates: list[str], copies: int) -> list[Structure]:
    """Every site of every adsorbate on (111), each also pushed otherwise until there are ``copies`` of it."""
    found = []
    for metal in metals:
        crystal = AseAtomsAdaptor.get_structure(bulk(metal, "fcc", a=METALS[metal]))
        (cut,) = cuts(crystal, min_thickness=8.0, facets=[(1, 1, 1)]).slabs
        face, slab = Surface(cut.slab, crystal), held(widened(cut.slab, 1.35 * METALS[metal])[0])
        for name in adsorbates:
            found += [
                placed(Surface(slab, crystal), site, Adsorbate.named(name), 0.0) for site in distinct(face.sites())
            ]
    rng = np.random.default_rng(1)
    everything = []
    for structure in found * copies:
        pushed, free = structure.copy(), np.array(structure.site_properties["selective_dynamics"])
        for i, shift in enumerate(rng.normal(scale=0.01, size=free.shape) * free):
            pushed.translate_sites([i], shift, frac_coords=False)
        everything.append(pushed)
    return everything


def one_by_one(
    structures: list[Structure], calculator: Any, fmax: float, max_steps: int
) -> tuple[list[float], list[int]]:
    """Energies at the ends of ASE's LBFGS, and force calls."""
    energies, calls = [], []
    for structure in structures:
        atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
        atoms.calc = calculator
        optimizer = LBFGS(atoms, logfile=None)
        optimizer.run(fmax=fmax, steps=max_steps)
        energies.append(float(atoms.get_potential_energy()))
        calls.append(optimizer.nsteps + 1)
    return energies, calls


def warm(structures: list[Structure], potential: Any) -> None:
    """Start the processes that share force calls, and let them have the potential."""
    shares.WORTH_S = 0.0
    for _ in range(2):
        dpa4.relax(structures, potential, relax_cell=False, check_minimum=False, max_steps=1)
        while not all(worker.is_ready() for worker in shares._crew._workers):
            time.sleep(0.1)


def of_others() -> float:
    """Processor seconds of the processes that share force calls (on Linux)."""
    files = [Path(f"/proc/{worker._process.pid}/stat") for worker in shares._crew._workers]
    fields = [file.read_text().rsplit(")", 1)[1].split() for file in files]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


class Spent(NamedTuple):
    """Seconds of the clock, and of the processor."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Spent:
        return cls(time.perf_counter(), time.process_time() + of_others())

    def since(self, start: Spent) -> Spent:
        return Spent(self.wall - start.wall, self.cpu - start.cpu)


def tell(name: str, n: int, spent: Spent, ours: Spent, energies: list[float], expected: list[float]) -> None:
    """Sites per second of the other side, and which of its ends are others."""
    print(f"{name}: {n / spent.wall:.3g} sites/s, ours {spent.wall / ours.wall:.2f} times as fast", end="")
    print(f" ({n / spent.cpu:.3g} per processor second, ours {spent.cpu / ours.cpu:.2f} times as many)", flush=True)
    apart = np.array(energies) - np.array(expected)
    print(f"  {int((np.abs(apart) > APART).sum())} of {n} end more than {1000 * APART:g} meV apart", end="")
    print(f", {int((apart < -APART).sum())} of them lower than ours", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dpa4-neo")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--metals", nargs="+", default=list(METALS), choices=list(METALS))
    parser.add_argument("--adsorbates", nargs="+", default=["H", "O", "CO"])
    parser.add_argument("--copies", type=int, default=1, help="of every site, pushed otherwise")
    parser.add_argument("--fmax", type=float, default=0.05, help="eV/Å")
    parser.add_argument("--max-steps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--reference-python", metavar="PATH", help="of an environment with the reference")
    parser.add_argument("--checkpoint", metavar="PATH", help="of the reference; the same weights")
    options = parser.parse_args()
    if options.reference_python and not options.checkpoint:
        parser.error("--reference-python needs --checkpoint")
    torch.set_num_threads(options.threads)
    potential = ModelRef(options.model, device=options.device).load()
    sites = starts(options.metals, options.adsorbates, options.copies)
    n, atoms = len(sites), np.mean([len(site) for site in sites])
    how = {"fmax": options.fmax, "max_steps": options.max_steps}

    warm(sites[:4], potential)
    start = Spent.now()
    ends = dpa4.relax(sites, potential, relax_cell=False, check_minimum=False, strict=True, **how)
    ours = Spent.now().since(start)
    calls = f"{np.mean([end.n_force_calls for end in ends]):.1f} force calls each"
    print(f"{n} sites of {atoms:.1f} atoms on {options.device}, {calls}", flush=True)
    print(f"in one batch: {n / ours.wall:.3g} sites/s, {n / ours.cpu:.3g} per processor second", flush=True)
    energies = [float(end.energy) for end in ends]

    calculator = dpa4.DPA4Calculator(potential)
    one_by_one(sites[:1], calculator, **how)
    start = Spent.now()
    found, n_calls = one_by_one(sites, calculator, **how)
    tell(
        f"ASE, our calculator, {np.mean(n_calls):.1f} force calls each",
        n,
        Spent.now().since(start),
        ours,
        found,
        energies,
    )

    if options.reference_python:
        request = {"task": "sites", "threads": options.threads, "checkpoint": options.checkpoint, **how}
        as_atoms = [AseAtomsAdaptor.get_atoms(site, msonable=False) for site in sites]
        result = elsewhere(options.reference_python, as_atoms, **request)
        spent = Spent(result["seconds"], result["cpu_seconds"])
        tell("ASE, the reference calculator", n, spent, ours, result["energies"], energies)


if __name__ == "__main__":
    main()

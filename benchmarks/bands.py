"""Bands of several hops in one batch, beside the same bands one after the other with ASE, in one run.

    python benchmarks/bands.py                                           # vacancy hops in six fcc metals
    python benchmarks/bands.py --metals Cu Ni --images 3 --model dpa4_core.testing:MorsePotential    # dry
    python benchmarks/bands.py --device cuda --min-length 9

Every hop is that of an atom into a neighbouring vacancy; both ends are relaxed before. Both sides begin with the same
images, climb, and stop at the same largest force (that of ASE has the springs in it). ASE takes its ``NEB`` with
improved tangents and ``FIRE`` with our calculator, one band after the other. The third figure is what `dpa4 migration`
does where a hop is symmetric, as all of these are: one end and the middle alone. Both sides get the same number of
threads and never run at the same time; on a busy machine only the ratio of processor seconds means something.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from ase.build import bulk
from ase.mep import NEB
from ase.optimize import FIRE
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

import dpa4_core as dpa4
from dpa4_core.relax import mirror_of
from dpa4_flows import ModelRef
from dpa4_flows.analysis.migration import ends_of, hop_kinds, primitive_crystal, supercell_of

METALS = {"Al": 4.04, "Ni": 3.52, "Cu": 3.63, "Pd": 3.94, "Ag": 4.15, "Pt": 3.97}
"""Lattice constants of DPA4-Neo, about, Å."""
AGREE = 0.005  # eV


def hop(metal: str, min_length: float) -> tuple[Structure, Structure]:
    """Both ends of the hop to the nearest neighbour."""
    crystal = AseAtomsAdaptor.get_structure(bulk(metal, "fcc", a=METALS[metal], cubic=True))
    primitive = primitive_crystal(crystal)
    kind = hop_kinds(primitive, metal, 0.75 * METALS[metal])[0]
    return ends_of(kind.hops[0], primitive, supercell_of(primitive, min_length, 1000))


def batched(bands: list[dpa4.Band], potential: Any) -> tuple[list[float], int]:
    """Barriers by one batch in flight, and how many structures were computed."""
    flight = dpa4.InFlight(potential)
    flight.put(enumerate(bands))
    found: dict[Any, Any] = {}
    while flight:
        found |= dict(flight.step())
    results = [found[i] for i in range(len(bands))]
    assert all(one.converged for one in results), [one.reason for one in results]
    return [one.barrier for one in results], sum(one.n_force_calls for one in results)


def one_by_one(bands: list[dpa4.Band], calculator: Any) -> tuple[list[float], int]:
    """The same by ASE."""
    barriers, n_calls = [], 0
    for band in bands:
        images = [image.copy() for image in band.images]
        for image in images:
            image.calc = dpa4.DPA4Calculator(calculator.potential)
        search = NEB(images, k=band.options.spring, climb=True, method="improvedtangent")
        optimizer = FIRE(search, logfile=None)
        optimizer.run(fmax=band.options.fmax, steps=band.options.max_steps)
        barriers.append(max(float(image.get_potential_energy()) for image in images[1:-1]) - band.energies[0])
        n_calls += (optimizer.nsteps + 1) * (len(images) - 2)
    return barriers, n_calls


def middles(starts: list[Any], ends: list[Any], potential: Any) -> tuple[list[float], int]:
    """The same by the middle of a symmetric path alone."""
    others = [mirror_of(*pair) for pair in zip(starts, ends, strict=True)]
    assert all(others), "a hop is not symmetric"
    options = {"relax_cell": False, "check_minimum": False}
    first = dpa4.relax(starts, potential, **options)
    halves = [
        dpa4.band_path(one.structure, mirror.other_end(one.structure), 1, in_order=True)[1]
        for one, mirror in zip(first, others, strict=True)
        if mirror is not None
    ]
    held = dpa4.relax(halves, potential, keep_symmetry=True, **options)
    n_calls = sum(one.n_force_calls for one in (*first, *held))
    return [top.energy - one.energy for top, one in zip(held, first, strict=True)], n_calls


def timed(what: Callable[[], tuple[list[float], int]]) -> tuple[list[float], int, float, float]:
    """Result, wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    barriers, n_calls = what()
    return barriers, n_calls, time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Compute, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metals", nargs="+", default=[*METALS])
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--fmax", type=float, default=0.05)
    parser.add_argument("--min-length", type=float, default=7.0)
    parser.add_argument("--model", default="dpa4-neo")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    potential: Any = ModelRef(given.model, device=given.device).load()
    pairs = [hop(metal, given.min_length) for metal in given.metals]
    atoms = [tuple(AseAtomsAdaptor.get_atoms(one, msonable=False) for one in pair) for pair in pairs]
    options = {"relax_cell": False, "check_minimum": False, "fmax": 0.01}
    relaxed = dpa4.relax([one for pair in atoms for one in pair], potential, **options)
    asked = dpa4.BandOptions(fmax=given.fmax)
    bands = [
        dpa4.Band(dpa4.band_path(a.structure, b.structure, given.images), (a.energy, b.energy), asked)
        for a, b in zip(relaxed[::2], relaxed[1::2], strict=True)
    ]
    sides = {
        "one batch": lambda: batched(bands, potential),
        "one after the other, ASE": lambda: one_by_one(bands, dpa4.DPA4Calculator(potential)),
        "middles, one batch": lambda: middles([a for a, _ in atoms], [b for _, b in atoms], potential),
    }
    timed(lambda: batched(bands[:1], potential))  # kernels are made, memory is taken
    results = {name: timed(side) for name, side in sides.items()}
    base = results["one after the other, ASE"]
    print(f"{len(bands)} bands of {given.images} images, {bands[0].n_atoms // given.images} atoms each")
    for name, (barriers, n_calls, wall, cpu) in results.items():
        words = ", ".join(f"{metal} {barrier:.3f}" for metal, barrier in zip(given.metals, barriers, strict=True))
        print(f"{name}: {wall:.2f} s ({base[2] / wall:.2f} x), {cpu:.2f} s of processors ({base[3] / cpu:.2f} x)")
        print(f"    {n_calls} force calls; {words} eV")
    apart = max(abs(a - b) for name in sides for a, b in zip(results[name][0], base[0], strict=True))
    print(f"largest difference of barriers {1000 * apart:.1f} meV: {'agree' if apart < AGREE else 'DIFFER'}")


if __name__ == "__main__":
    main()

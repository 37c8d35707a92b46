"""Elastic tensors, phonons and thermal expansion of small crystals: one loop, beside atomate2 with the same model.

    python benchmarks/semiconductor.py                             # 20 crystals, DPA4-Neo, all cores
    python benchmarks/semiconductor.py Si MgO Cu --min-length 7 --threads 1
    python benchmarks/semiconductor.py MgO Cu --min-length 5 --model dpa4_core.testing:MorsePotential   # dry

Both sides start from the same relaxed crystals and compute the same strained cells, supercells and volumes. The other
side is atomate2's ElasticMaker, PhononMaker and ForceFieldQhaMaker with the Makers of this package in them, run by
jobflow in this process, one crystal after the other, without what ours does not compute (thermal displacements).
Both take the cores that they take by default. Numbers of both are compared. Printed: wall seconds, and with --threads 1
those of the processor, which alone mean something on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from atomate2.forcefields.flows.qha import ForceFieldQhaMaker
from jobflow import Flow, JobStore, run_locally
from maggma.stores import MemoryStore as Memory
from pymatgen.analysis.elasticity import ElasticTensor
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.compute.relaxed import TIGHT_FMAX
from dpa4_flows.makers.bulk_validation import bulk_solids
from dpa4_flows.makers.elastic_flow import DPA4ElasticMaker
from dpa4_flows.makers.phonon_flow import DPA4PhononMaker
from dpa4_flows.makers.relax import DPA4RelaxMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.at_rest import AT_REST
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.properties.quasi_harmonic import QuasiHarmonic
from dpa4_flows.store.protocol import MemoryStore

ROOM_K = 300.0
LINEAR = (-0.01, 0.02)
VOLUMES = 5

Numbers = dict[str, float]
Matrices = dict[str, list[list[int]]]
"""Supercells of the phonons of each crystal."""


def at_rest(names: list[str], number: int, model: ModelRef) -> dict[str, Structure]:
    """Well-known solids without imaginary modes, relaxed; each also a little stretched until there are enough."""
    solids = [solid for solid in bulk_solids(names) if solid.elastic and solid.phonons]
    asks = []
    for i in range(number):
        solid, turn = solids[i % len(solids)], i // len(solids)
        stretched = solid.structure.copy()
        stretched.apply_strain(0.005 * turn)
        asks.append((solid.formula if not turn else f"{solid.formula} {turn}", Ask(AT_REST, Crystal(stretched))))
    found = compute(asks, model, MemoryStore())
    # of exact symmetry: the fit of pymatgen, which atomate2 takes, breaks on cells that are not
    return {
        name: SpacegroupAnalyzer(structure_of_fields(document.structure), symprec=0.01).find_primitive()
        for name, document in found
    }


def ours(crystals: dict[str, Structure], model: ModelRef, min_length: float) -> tuple[dict[str, Numbers], Matrices]:
    strains = tuple(float((1 + e) ** 3 - 1) for e in np.linspace(*LINEAR, VOLUMES))
    phonons = Phonons(min_length=min_length, mesh_length=100.0)
    wanted = {
        "elastic": Elastic(),
        "phonons": phonons,
        "expansion": QuasiHarmonic(strains=strains, min_length=min_length, mesh_length=100.0),
    }
    asks = [((name, what), Ask(one, Crystal(s))) for name, s in crystals.items() for what, one in wanted.items()]
    found = dict(compute(asks, model, MemoryStore()))
    numbers, matrices = {}, {}
    for name in crystals:
        elastic, of_phonons, expansion = (found[name, what] for what in wanted)
        (room,) = [row for row in of_phonons.thermal if row.temperature_k == ROOM_K]
        (warm,) = [row for row in expansion.rows if row.temperature_k == ROOM_K]
        numbers[name] = {
            "K, GPa": elastic.k_vrh_gpa,
            "G, GPa": elastic.g_vrh_gpa,
            "highest frequency, THz": of_phonons.f_max_thz,
            "C_V 300 K, J/K/mol": room.heat_capacity_j_mol_k,
            "volume 300 K, Å³/atom": warm.volume,
            "bulk modulus 300 K, GPa": warm.bulk_modulus_gpa,
        }
        matrices[name] = of_phonons.supercell_matrix
    return numbers, matrices


def theirs(crystals: dict[str, Structure], model: ModelRef, matrices: Matrices) -> dict[str, Numbers]:
    name = model.name
    phonons = DPA4PhononMaker.from_model(name, relax_initial_structure=False, create_thermal_displacements=False)
    elastic = DPA4ElasticMaker.from_model(name, relax_initial_structure=False)
    expansion = ForceFieldQhaMaker(
        eos_relax_maker=DPA4RelaxMaker(
            model=name, relax_cell=False, relax_kwargs={"fmax": TIGHT_FMAX}, check_minimum=False
        ),
        phonon_maker=phonons,
        linear_strain=LINEAR,
        number_of_frames=VOLUMES,
        ignore_imaginary_modes=True,  # else volumes are left out
    )
    numbers = {}
    for crystal, structure in crystals.items():
        matrix = matrices[crystal]
        tensor = ElasticTensor.from_voigt(answer(elastic.make(structure)).elastic_tensor.ieee_format)
        bands = answer(phonons.make(structure, supercell_matrix=matrix))
        warm = answer(expansion.make(structure, supercell_matrix=matrix), last=True)
        n = (
            len(structure) / structure.composition.get_reduced_composition_and_factor()[1]
        )  # theirs are of a formula unit
        at, room = bands.temperatures.index(ROOM_K), warm.temperatures.index(ROOM_K)
        numbers[crystal] = {
            "K, GPa": tensor.k_vrh,
            "G, GPa": tensor.g_vrh,
            "highest frequency, THz": float(np.max(bands.phonon_bandstructure.bands)),
            "C_V 300 K, J/K/mol": bands.heat_capacities[at] / n,
            "volume 300 K, Å³/atom": warm.volume_temperature[room] / n,
            "bulk modulus 300 K, GPa": warm.bulk_modulus_temperature[room],
        }
    return numbers


def answer(flow: Flow, last: bool = False) -> Any:
    """Output of a flow; of its last job where it names none."""
    store = JobStore(Memory(), additional_stores={"data": Memory()})
    replies = run_locally(flow, store=store, log=False, ensure_success=True, raise_immediately=True)
    replies_of = replies[flow.jobs[-1].uuid if last else flow.output.uuid]
    return replies_of[max(replies_of)].output


def timed(run: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    wall, used = time.perf_counter(), time.process_time()
    found = run(*arguments)
    return found, time.perf_counter() - wall, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("solids", nargs="*", help="names of `dpa4 validate bulk`")
    parser.add_argument("--model", default="dpa4-neo")
    parser.add_argument("--crystals", type=int, default=20, help="where no solids are named")
    parser.add_argument("--min-length", type=float, default=8.0, help="of phonon supercells, Å")
    parser.add_argument("--threads", type=int, help="of the CPU, and processes that share force calls; all cores")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")  # atomate2 and phonopy warn of deprecated names of their own
    model = ModelRef(options.model, device="cpu").resolve()
    model.load()
    crystals = at_rest(options.solids, len(options.solids) or options.crystals, model)
    (found, matrices), wall, used = timed(ours, crystals, model, options.min_length)
    alone = torch.get_num_threads() == 1
    print(
        f"one loop          {wall:8.1f} s{f', processor {used:.1f} s' if alone else ''}, {len(crystals)} crystals",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # atomate2 writes files where it is
        others, their_wall, their_used = timed(theirs, crystals, model, matrices)
    print(f"atomate2's flows  {their_wall:8.1f} s{f', processor {their_used:.1f} s' if alone else ''}")
    print(f"ratio             {their_wall / wall:8.1f}{f', of the processor {their_used / used:.1f}' if alone else ''}")
    for quantity in next(iter(found.values())):
        apart = {name: abs(found[name][quantity] / others[name][quantity] - 1) for name in crystals}
        worst = max(apart, key=lambda name: apart[name])
        print(f"{quantity:26s} apart by at most {100 * apart[worst]:.2f} % ({worst})")


if __name__ == "__main__":
    main()

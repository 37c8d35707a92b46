"""Elastic moduli, highest phonon peaks, heat capacities and forces beside DFT, on random samples of public data.

    python benchmarks/semiconductor_tables.py DATA                       # 20 crystals of up to 4 atoms from each set
    python benchmarks/semiconductor_tables.py DATA --crystals 200 --max-atoms 12 --folder tables --csv rows.csv

DATA is a folder with

* mp_elasticity/mp_elasticity.json.gz: bulk and shear moduli of the Materials Project (PBE; M. de Jong et al., Sci. Data
  2, 150009 (2015); CC BY 4.0), as in materialyzeai/matcalc;
* matbench_phonons/matbench_phonons.json.gz: last peak of the phonon density of states (PBEsol, DFPT with LO-TO
  splitting; G. Petretto et al., Sci. Data 5, 180065 (2018); CC BY 4.0), as in matbench;
* alexandria_heat_capacity/alexandria_heat_capacity.json.gz: harmonic, 300 K (PBE; A. Loew et al., npj Comput. Mater.
  11, 178 (2025); CC BY 4.0), as in matcalc;
* pbesol_displacements/NAME.extxyz.xz: supercells with random displacements and their forces (PBEsol; from examples of
  phonopy and phono3py; BSD-3-Clause).

A set that is not there is left out. Samples are drawn with a seed from cells small enough; what was computed stays in
--folder. Printed: a table in Markdown; --csv gets every crystal.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import lzma
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.io import read
from pymatgen.core import Structure
from scipy.signal import argrelmax
from scipy.stats import spearmanr

import dpa4_core as dpa4
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal, Property
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.at_rest import AtRest
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.phonon_bands import PhononBands, PhononBandsDocument
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.store.table import ResultsTable

CM_PER_THZ = 33.35641
PEAK = 0.05
"""Of the highest value of a density of states: lower maxima are ripples of the mesh."""


class Row(NamedTuple):
    """One number of one crystal."""

    quantity: str
    crystal: str
    value: float
    reference: float


class Table(NamedTuple):
    """A file of crystals, what is computed of them, and the numbers that are compared."""

    name: str
    property: Property[Any]
    compared: Callable[[Any, dict[str, Any], int], dict[str, tuple[float, float]]]


def moduli(document: Any, row: dict[str, Any], _: int) -> dict[str, tuple[float, float]]:
    return {
        "bulk modulus, GPa": (document.k_vrh_gpa, row["bulk_modulus_vrh"]),
        "shear modulus, GPa": (document.g_vrh_gpa, row["shear_modulus_vrh"]),
    }


def peak(document: PhononBandsDocument, row: dict[str, Any], _: int) -> dict[str, tuple[float, float]]:
    density = np.array(document.density)
    (maxima,) = argrelmax(density)
    last = max(i for i in maxima if density[i] > PEAK * density.max())
    return {"last phonon peak, 1/cm": (CM_PER_THZ * document.frequencies_thz[last], row["last_phdos_peak_cm-1"])}


def capacity(document: Any, row: dict[str, Any], n_atoms: int) -> dict[str, tuple[float, float]]:
    (room,) = document.thermal
    return {"heat capacity 300 K, J/K/mol of atoms": (room.heat_capacity_j_mol_k, row["heat_capacity"] / n_atoms)}


def tables(min_length: float) -> list[Table]:
    strained = Elastic(strains=(-0.005, 0.005))
    return [
        Table("mp_elasticity", AtRest(strained), moduli),
        Table("matbench_phonons", AtRest(PhononBands(min_length=min_length)), peak),
        Table("alexandria_heat_capacity", AtRest(Phonons(min_length=min_length, temperatures_k=(300.0,))), capacity),
    ]


def sample(path: Path, model: ModelRef, options: argparse.Namespace) -> list[tuple[Structure, dict[str, Any]]]:
    """Crystals that the model knows and that are small enough, drawn at random."""
    rows = json.loads(gzip.decompress(path.read_bytes()))
    known = set(model.info().elements)
    crystals = [(Structure.from_dict(row["structure"]), row) for row in rows]
    small = [
        (crystal, row)
        for crystal, row in crystals
        if len(crystal) <= options.max_atoms and {element.Z for element in crystal.composition} <= known
    ]
    return random.Random(options.seed).sample(small, min(options.crystals, len(small)))


def of_crystals(table: Table, path: Path, model: ModelRef, store: ResultsTable, options: Any) -> Iterator[Row]:
    chosen = sample(path, model, options)
    asks = [(i, Ask(table.property, Crystal(crystal))) for i, (crystal, _) in enumerate(chosen)]
    for i, document in compute(asks, model, store):
        crystal, row = chosen[i]
        if document.error is not None:
            print(f"left out: {crystal.reduced_formula}: {document.error}")
            continue
        if getattr(document, "verdict", "stable") == "unstable" or getattr(document, "lowest_thz", 0.0) < -1:
            print(f"left out: {crystal.reduced_formula} is unstable")
            continue
        for quantity, (value, reference) in table.compared(document, row, len(crystal)).items():
            yield Row(f"{table.name}: {quantity}", crystal.reduced_formula, value, reference)


def of_frames(path: Path, model: ModelRef, options: argparse.Namespace) -> Iterator[Row]:
    """Components of forces of a few frames."""
    frames = read(io.StringIO(lzma.decompress(path.read_bytes()).decode()), ":", format="extxyz")
    chosen = random.Random(options.seed).sample(frames, min(options.frames, len(frames)))
    for frame, found in zip(chosen, dpa4.predict(chosen, model.load()), strict=True):
        for value, reference in zip(found.forces.ravel(), frame.get_forces().ravel(), strict=True):
            yield Row(f"pbesol_displacements: forces of {path.name.split('.')[0]}, eV/Å", "", value, reference)


def summary(rows: list[Row]) -> str:
    lines = ["| data | numbers | Spearman | MAE | mean deviation | mean size of the reference |"]
    lines += ["|---|---|---|---|---|---|"]
    for quantity in dict.fromkeys(row.quantity for row in rows):
        value, reference = np.array([(row.value, row.reference) for row in rows if row.quantity == quantity]).T
        size = np.abs(reference).mean()
        digits = max(0, 3 - int(np.floor(np.log10(size))))
        numbers = (np.abs(value - reference).mean(), (value - reference).mean(), size)
        mae, bias, mean = (f"{x:.{digits}f}" for x in numbers)
        lines.append(f"| {quantity} | {len(value)} | {spearmanr(value, reference)[0]:.3f} | {mae} | {bias} | {mean} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="dpa4-neo")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--crystals", type=int, default=20, help="of each set")
    parser.add_argument("--frames", type=int, default=3, help="of each file of forces")
    parser.add_argument("--max-atoms", type=int, default=4)
    parser.add_argument("--min-length", type=float, default=8.0, help="of phonon supercells, Å")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one of the sets")
    parser.add_argument("--folder", type=Path, default=Path("semiconductor-tables"))
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    model = ModelRef(options.model, device=options.device)
    options.folder.mkdir(parents=True, exist_ok=True)
    store, rows = ResultsTable(options.folder / "tables.sqlite"), []
    for table in tables(options.min_length):
        path = options.data / table.name / f"{table.name}.json.gz"
        if path.exists() and options.only in (None, table.name):
            rows += of_crystals(table, path, model, store, options)
    if options.only in (None, "pbesol_displacements"):
        for path in sorted((options.data / "pbesol_displacements").glob("*.extxyz.xz")):
            if "extreme" not in path.name:  # atoms overlap there
                rows += of_frames(path, model, options)
    print(summary(rows))
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            csv.writer(file).writerows([Row._fields, *rows])


if __name__ == "__main__":
    main()

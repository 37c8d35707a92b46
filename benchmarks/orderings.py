"""Does a model rank orderings of one composition as DFT does? Spearman's coefficient over sets of labelled structures.

    python benchmarks/orderings.py LiNiO2.json.gz LMOF.json.gz LMO_DRX.json.gz

Each file is a JSON list of rows with ``structure`` (pymatgen dictionary) and ``energy`` (eV per cell), compressed or
not. Energies are compared as they are, without relaxation, in three ways: per atom; after a fit of one energy for each
element, which is what differs between functionals; and of each composition about its own mean.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure
from scipy.stats import spearmanr

from dpa4_core import load, predict
from dpa4_core.data.plain_fields import structure_of_fields

Array = NDArray[np.float64]


class Ranking(NamedTuple):
    """How well two energies of the same structures agree.

    Attributes:
        n: structures.
        per_atom: Spearman's coefficient of energies per atom.
        fitted: the same without one energy for each element.
        n_within: structures whose composition occurs twice or more.
        within: the same of these, about the mean of their composition.
        mae_mev: mean difference of these, meV/atom.
    """

    n: int
    per_atom: float
    fitted: float
    n_within: int
    within: float
    mae_mev: float


def read(path: Path) -> tuple[list[Structure], Array]:
    """Structures and energies, eV per cell."""
    data = path.read_bytes()
    rows = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    return [structure_of_fields(row["structure"]) for row in rows], np.array([row["energy"] for row in rows])


def ranking(structures: list[Structure], first: Array, second: Array) -> Ranking:
    """Of energies in eV per cell."""
    sizes = np.array([len(structure) for structure in structures])
    one, other = first / sizes, second / sizes
    amounts = [structure.composition.get_el_amt_dict() for structure in structures]
    symbols = sorted({symbol for each in amounts for symbol in each})
    shares = np.array([[each.get(symbol, 0.0) for symbol in symbols] for each in amounts]) / sizes[:, None]
    groups: dict[tuple[float, ...], list[int]] = defaultdict(list)
    for i, row in enumerate(np.round(shares, 4)):
        groups[tuple(row)].append(i)
    several = [group for group in groups.values() if len(group) > 1]

    def residual(energies: Array) -> Array:
        return energies - shares @ np.linalg.lstsq(shares, energies, rcond=None)[0]

    def within(energies: Array) -> Array:
        return np.concatenate([energies[group] - energies[group].mean() for group in several])

    return Ranking(
        n=len(structures),
        per_atom=float(spearmanr(one, other)[0]),
        fitted=float(spearmanr(residual(one), residual(other))[0]),
        n_within=sum(map(len, several)),
        within=float(spearmanr(within(one), within(other))[0]),
        mae_mev=1000 * float(np.abs(within(one) - within(other)).mean()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--model", default="dpa4-neo")
    arguments = parser.parse_args()
    potential = load(arguments.model)
    print("| set | structures | per atom | elements fitted | within a composition | MAE there, meV/atom |")
    print("|---|---|---|---|---|---|")
    for path in arguments.files:
        structures, energies = read(path)
        found = ranking(structures, energies, np.array([p.energy for p in predict(structures, potential, strict=True)]))
        name = path.name.partition(".")[0]
        print(
            f"| {name} | {found.n} | {found.per_atom:.3f} | {found.fitted:.3f} | {found.within:.3f} "
            f"({found.n_within}) | {found.mae_mev:.1f} |"
        )


if __name__ == "__main__":
    main()

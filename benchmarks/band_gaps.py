"""Where the numbers of `dpa4_flows/analysis/band_gaps.py` come from: measured gaps beside PBE's, and compositions.

    python benchmarks/band_gaps.py expt_gap.csv mp_gap.csv

Two tables of compositions with a gap in eV (columns ``formula,target``): measured ones (Y. Zhuo, A. Mansouri Tehrani
and J. Brgoch, J. Phys. Chem. Lett. 9, 1668 (2018)) and those of the Materials Project, as matbench has them (A. Dunn et
al., npj Comput. Mater. 6, 138 (2020)), for instance in https://github.com/anthony-wang/CrabNet, data/matbench. Of a
composition with several crystals the median counts. Errors of the guess from the composition are those of a tenth of
the compositions that the fit has not seen, ten times.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Composition

from dpa4_flows.analysis.band_gaps import ionic_features

Array = NDArray[np.float64]


def table(path: str) -> dict[str, float]:
    """Median gap by reduced formula, eV."""
    found: dict[str, list[float]] = defaultdict(list)
    with Path(path).open(newline="") as stream:
        for row in csv.DictReader(stream):
            composition = Composition(row["formula"])
            if all(amount == int(amount) for amount in composition.get_el_amt_dict().values()):
                found[composition.reduced_formula].append(float(row["target"]))
    return {formula: float(np.median(gaps)) for formula, gaps in found.items()}


def spread(errors: Array) -> str:
    """Bias, standard deviation and mean absolute error."""
    return f"bias {errors.mean():+.2f}, standard deviation {errors.std():.2f}, MAE {np.abs(errors).mean():.2f} eV"


def of_pbe(measured: dict[str, float], pbe: dict[str, float]) -> None:
    """Measured gaps against those of the Materials Project."""
    both = [(measured[formula], pbe[formula]) for formula in measured if formula in pbe]
    real, computed = np.array(both).T
    opened = computed > 0
    kept = opened & (real > 0)
    slope, offset = np.polyfit(computed[kept], real[kept], 1)
    print(f"{len(both)} compositions have both; {kept.sum()} have a gap in both")
    print(f"  as they are:  {spread(computed[kept] - real[kept])}")
    print(f"  measured = {offset:.2f} + {slope:.2f} PBE: {spread(offset + slope * computed[kept] - real[kept])}")
    closed = real[~opened]
    print(f"  {len(closed)} are metals in PBE, {100 * (closed > 0).mean():.0f} % of them have a gap:")
    print(
        f"  mean of those {closed[closed > 0].mean():.2f}, of all {closed.mean():.2f}, deviation {closed.std():.2f} eV"
    )
    metals = real[opened] == 0
    print(f"  {100 * metals.mean():.0f} % of those with a gap in PBE are metals in the table of measurements")


def of_composition(measured: dict[str, float]) -> None:
    """The guess from the composition."""
    rows = [(ionic_features(Composition(formula)), gap) for formula, gap in measured.items()]
    ionic = [(features, gap) for features, gap in rows if features is not None]
    metals = sum(gap == 0 for _, gap in ionic)
    kept = [(features, gap) for features, gap in ionic if gap > 0]
    x, y = np.array([features for features, _ in kept]), np.array([gap for _, gap in kept])
    share = 100 * metals / len(ionic)
    print(f"{len(rows)} compositions, {len(ionic)} of closed shells, of which {share:.0f} % are metals in the table")
    parts = np.random.default_rng(0).permutation(len(y)) % 10
    errors = np.empty(len(y))
    for part in range(10):
        fit = np.linalg.lstsq(x[parts != part], y[parts != part], rcond=None)[0]
        errors[parts == part] = np.maximum(0.0, x[parts == part] @ fit) - y[parts == part]
    print(f"  {np.array2string(np.linalg.lstsq(x, y, rcond=None)[0], precision=3)} gives {spread(errors)}")
    print(f"  the mean alone: {spread(y.mean() - y)}")


if __name__ == "__main__":
    measured_gaps = table(sys.argv[1])
    of_pbe(measured_gaps, table(sys.argv[2]))
    of_composition(measured_gaps)

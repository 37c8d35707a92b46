"""Surface energy of an fcc (111) face against the layers of its slab, as cut and relaxed, and on other lattices: what
of a deviation from published numbers is the model, and what the slab.

    python benchmarks/surface_layers.py Ag --lattices 4.16 4.07
"""

from __future__ import annotations

import argparse

import numpy as np
from ase.build import bulk, fcc111

import dpa4_core as dpa4

J_M2 = 16.0217663
"""Of an eV/Å²."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metal", help="symbol of an fcc metal")
    parser.add_argument("--model", default="dpa4-neo", help="registry name or file")
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 5, 6, 7, 9, 12, 15])
    parser.add_argument("--lattices", type=float, nargs="*", default=[], help="Å, beside the model's own")
    given = parser.parse_args()
    model = dpa4.load(given.model, dtype="float64")
    (rest,) = dpa4.relax([bulk(given.metal, "fcc")], model, fmax=1e-4, check_minimum=False)
    for a in [float(4 * rest.structure.get_volume()) ** (1 / 3), *given.lattices]:
        (crystal,) = dpa4.predict([bulk(given.metal, "fcc", a=a)], model)
        slabs = [fcc111(given.metal, (1, 1, n), a=a, vacuum=10.0, periodic=True) for n in given.layers]
        area = float(np.linalg.norm(np.cross(*slabs[0].cell[:2])))
        ends = dpa4.relax(slabs, model, fmax=1e-3, relax_cell=False, check_minimum=False)
        print(f"lattice constant {a:.3f} Å: layers, γ in J/m² as cut, relaxed")
        for n, cut, end in zip(given.layers, dpa4.predict(slabs, model), ends, strict=True):
            both = ((one.energy - n * crystal.energy) / (2 * area) * J_M2 for one in (cut, end))
            print(f"  {n:3d}  " + "  ".join(f"{value:.4f}" for value in both))


if __name__ == "__main__":
    main()

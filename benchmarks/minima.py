"""Whether ends of relaxations are minima: what they say, against the whole Hessian of each of them.

    python benchmarks/minima.py --model dpa4-neo --each 40 perov_5.json.gz
    python benchmarks/minima.py --model dpa4-neo --each 40 --skip 200 perov_5.json.gz   # others of the same file

Structures are drawn as in `relaxation.py`, after ``--skip`` of them, and relaxed twice, without and with the check of
their ends. Then every independent motion of atoms and cell is displaced both ways: 6·n_atoms + 6 force calls for each
structure, which the table does not count. Printed: by file what the check cost, and how many of each verdict have a
curvature below ``--saddle``; then those structures one by one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from relaxation import sample

import dpa4_core as dpa4
from dpa4_core.data.structures import to_system
from dpa4_core.potential import PotentialLike
from dpa4_core.relax.softest import SearchOptions, Space
from dpa4_core.testing import MorsePotential

PUSH = 0.01
"""Å, of the atom that moves most."""


def curvatures(structure: Any, potential: PotentialLike) -> NDArray[np.float64]:
    """Eigenvalues of the Hessian of atoms and cell without rigid motions, eV/Å², the lowest first."""
    space = Space(to_system(structure), np.eye(9), 0.0, SearchOptions())
    every = space.allowed(np.eye(3 * space.system.n_atoms + 9))
    weights, vectors = np.linalg.eigh(0.5 * (every + every.T))
    motions = vectors[:, weights > 0.5].T
    lengths = PUSH / np.abs(motions).max(axis=1)
    steps = [sign * length * motion for motion, length in zip(motions, lengths, strict=True) for sign in (1, -1)]
    calls = dpa4.relax([space.moved(step) for step in steps], potential, max_steps=0, min_distance_ratio=0.0)
    forces = np.array([space.forces(step, call.forces, call.stress) for step, call in zip(steps, calls, strict=True)])
    hessian = motions @ ((forces[1::2] - forces[::2]) / (2 * lengths[:, None])).T
    return np.linalg.eigvalsh(0.5 * (hessian + hessian.T))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--model", help="name or file of a model; a toy potential if none is named")
    parser.add_argument("--each", type=int, default=40, help="structures of every file")
    parser.add_argument("--skip", type=int, default=0, help="structures of every file that are left out before")
    parser.add_argument("--max-atoms", type=int, default=16)
    parser.add_argument("--saddle", type=float, default=-0.03, help="eV/Å², a curvature below it is no minimum")
    parser.add_argument("--no-hessians", action="store_true", help="only what the check costs")
    arguments = parser.parse_args()
    potential = dpa4.load(arguments.model) if arguments.model else MorsePotential()
    print("| start | structures | force calls | of the check | more, % | verdict: ends, of which saddles |")
    print("|---|---|---|---|---|---|")
    wrong, costs = [], []
    for path in arguments.files:
        drawn = sample([path], arguments.skip + arguments.each, arguments.max_atoms, 0.0)[arguments.skip :]
        starts = [structure for _, structure in drawn]
        plain = sum(one.n_force_calls for one in dpa4.relax(starts, potential, check_minimum=False))
        ends = dpa4.relax(starts, potential)
        check = sum(one.n_check_calls for one in ends)
        costs.append((plain, check))
        verdicts: dict[str, list[float]] = {}
        for start, end in zip(starts, ends, strict=True):
            lowest = 0.0
            if not arguments.no_hessians and end.error is None:
                lowest = float(curvatures(end.structure, potential)[0])
            verdicts.setdefault(end.minimum, []).append(lowest)
            if lowest < arguments.saddle:
                wrong.append(f"{start.formula}: {end.minimum} {' '.join(end.flags)} {lowest:.3f} eV/Å²")
        said = "; ".join(
            f"{verdict}: {len(found)}, {sum(one < arguments.saddle for one in found)}"
            for verdict, found in sorted(verdicts.items(), reverse=True)
        )
        n = len(starts)
        print(
            f"| {drawn[0][0]} | {n} | {plain / n:.1f} | {check / n:.1f} | {100 * check / plain:.0f} | {said} |",
            flush=True,
        )
    calls, checks = np.sum(costs, axis=0)
    print(f"\nthe check adds {100 * checks / calls:.1f} % force calls")
    print("\n".join(wrong))


if __name__ == "__main__":
    main()

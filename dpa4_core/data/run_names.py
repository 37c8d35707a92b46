"""Names of the files of molecular dynamics: by them they are known as results where a folder is read."""

from __future__ import annotations

from collections.abc import Collection

TRAJECTORY_SUFFIXES = (".traj", ".extxyz", ".xyz")
RESTART = ".restart.npz"
"""What the name of the state ends in from which a run goes on."""


def names_of_dynamics(names: Collection[str]) -> set[str]:
    """Those of the files of a folder that dynamics wrote: ``x.traj`` is a result and ``x.xyz`` beside it is not."""
    found: set[str] = set()
    for run in (name.removesuffix(RESTART) for name in names if name.endswith(RESTART)):
        trajectories = [run + suffix for suffix in TRAJECTORY_SUFFIXES if run + suffix in names]
        found.update((f"{run}{RESTART}", f"{run}.json", f"{run}.csv", *trajectories[:1]))
    return found

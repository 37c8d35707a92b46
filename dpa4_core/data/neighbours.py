"""The batched graph of many systems: neighbour lists one system at a time by vesin, concatenated once.

On a CUDA device the list of the whole batch is built there when nvalchemi-toolkit-ops is installed
(`neighbours_cuda`); otherwise the list of vesin is copied over.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
import vesin
from numpy.typing import NDArray

from dpa4_core.data import neighbours_cuda
from dpa4_core.data.graph import UNSPECIFIED_CHARGE_SPIN, Graph
from dpa4_core.data.structures import MAX_LENGTH, StructureError, System

MIN_EDGE_LENGTH = 1e-5
"""Å; closer pairs are no edges: an atom does not see another one on top of it."""

_THREADED_FROM = 512  # atoms; below, starting threads takes longer than the search


def build_graph(
    systems: Sequence[System], cutoff: float, device: torch.device | str = "cpu", skin: float = 0.0
) -> Graph:
    """Batch ``systems`` and list all directed edges, ``MIN_EDGE_LENGTH`` < length <= ``cutoff + skin``.

    Edges of an atom to its own periodic images are included. Edges within the skin are not removed: a
    potential whose envelope ends at ``cutoff`` gives them no weight, so the graph stays exact while no atom
    moved by half the skin.

    Args:
        systems: finite and with cells that are not singular (see `check_system`).
        cutoff: Å.
        device: where the graph shall be.
        skin: Å.
    """
    for system in systems:
        _refuse_overflow(system)
    device = torch.device(device)
    radius = cutoff + skin
    if device.type == "cuda" and neighbours_cuda.AVAILABLE and systems:
        nodes = graph_without_edges(systems).to(device)
        src, dst, shift = neighbours_cuda.batched_edges(
            nodes.positions, nodes.cell, nodes.pbc, nodes.system_idx, radius, MIN_EDGE_LENGTH
        )
        return dataclasses.replace(nodes, src=src, dst=dst, shift=shift)
    pairs, shifts = _vesin_edges(systems, radius)
    return dataclasses.replace(
        graph_without_edges(systems),
        src=torch.from_numpy(np.ascontiguousarray(pairs[:, 1])),
        dst=torch.from_numpy(np.ascontiguousarray(pairs[:, 0])),
        shift=torch.from_numpy(shifts),
    ).to(device)


def graph_without_edges(systems: Sequence[System]) -> Graph:
    """The atoms of all systems, without edges, on the CPU."""
    counts = np.array([system.n_atoms for system in systems], dtype=np.int64)
    charge_spin = None
    if any(system.charge_spin is not None for system in systems):
        charge_spin = torch.tensor([system.charge_spin or UNSPECIFIED_CHARGE_SPIN for system in systems])
    none = np.zeros((0, 3))
    return Graph(
        positions=torch.from_numpy(np.concatenate([none, *(system.positions for system in systems)])),
        cell=torch.from_numpy(np.concatenate([none, *(system.cell for system in systems)]).reshape(-1, 3, 3)),
        pbc=torch.from_numpy(np.array([system.pbc for system in systems], dtype=bool).reshape(-1, 3)),
        atomic_numbers=torch.from_numpy(
            np.concatenate([np.zeros(0, dtype=np.int64), *(system.numbers for system in systems)])
        ),
        system_idx=torch.from_numpy(np.repeat(np.arange(len(systems)), counts)),
        src=torch.zeros(0, dtype=torch.int64),
        dst=torch.zeros(0, dtype=torch.int64),
        shift=torch.zeros((0, 3), dtype=torch.float64),
        n_systems=len(systems),
        charge_spin=charge_spin,
    )


def _vesin_edges(systems: Sequence[System], radius: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pairs (centre, neighbour) [n_edges, 2] sorted by centre, and periodic images [n_edges, 3]."""
    cutoff = math.nextafter(radius, math.inf)  # vesin excludes the cutoff itself
    single = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=True, n_threads=1)
    threaded = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=True)
    pairs, shifts = [np.zeros((0, 2), dtype=np.int64)], [np.zeros((0, 3), dtype=np.int32)]
    offset = 0
    for system in systems:
        search = threaded if system.n_atoms >= _THREADED_FROM else single
        pair, shift, distance = search.compute(system.positions, system.cell, system.pbc, "PSd", copy=False)
        if len(distance) and distance.min() <= MIN_EDGE_LENGTH:
            keep = distance > MIN_EDGE_LENGTH
            pair, shift = pair[keep], shift[keep]
        pairs.append(pair.astype(np.int64) + offset)  # a copy: the next search reuses the buffer
        shifts.append(shift.copy())
        offset += system.n_atoms
    return np.concatenate(pairs), np.concatenate(shifts).astype(np.float64)


def _refuse_overflow(system: System) -> None:
    # the integer cell grid of vesin ends the process (SIGFPE) when a system is 1e6 Å long
    span = np.abs(system.cell).max()
    if system.n_atoms and not system.pbc.all():
        span = max(span, np.ptp(system.positions, axis=0).max())
    if not span <= MAX_LENGTH:
        raise StructureError(f"the system is longer than {MAX_LENGTH:g} Å or not finite; check that it is in Å")

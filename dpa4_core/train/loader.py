"""Batches of a store as tensors, made ahead of the step that needs them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from dpa4_core.data.graph import UNSPECIFIED_CHARGE_SPIN
from dpa4_core.data.neighbours import build_graph
from dpa4_core.model.config import DPA4Config
from dpa4_core.potential import species_table
from dpa4_core.train.loss import Labels
from dpa4_core.train.step import Batch
from dpa4_core.train.store import FrameStore

T = TypeVar("T")
R = TypeVar("R")


class Edges(NamedTuple):
    """Neighbour list of one frame in the smallest types: src, dst [n_edges], shift [n_edges, 3]."""

    src: NDArray[np.int32]
    dst: NDArray[np.int32]
    shift: NDArray[np.int16]

    @property
    def nbytes(self) -> int:
        return self.src.nbytes + self.dst.nbytes + self.shift.nbytes


class Padding(NamedTuple):
    """Sizes that every batch is filled up to: atoms, edges and frames, each with one to spare for the padding."""

    atoms: int
    edges: int
    frames: int


class BatchMaker:
    """Turns indices of frames into a `Batch`.

    Args:
        store: frames.
        config: network that shall take them.
        dtype: its precision.
        padding: fill every batch up to this size; None leaves the sizes as they are.
        cache_gib: memory for neighbour lists.
        target: the label is the property of the frame in place of energy, forces and stress.
    """

    def __init__(
        self,
        store: FrameStore,
        config: DPA4Config,
        dtype: torch.dtype,
        *,
        padding: Padding | None = None,
        cache_gib: float = 2.0,
        target: bool = False,
    ) -> None:
        self.store, self.config, self.dtype, self.padding = store, config, dtype, padding
        self.target, arrays = target, store.arrays
        self._energy = arrays["target"] if target else arrays["energy"]
        self._has_forces = arrays["has_forces"] & (not target)
        self._has_stress = ~np.isnan(arrays["stress"][:, 0, 0]) & arrays["pbc"].all(1) & (not target)
        self._species_of = species_table(config).numpy()
        self._cache: dict[int, Edges] = {}
        self._room = cache_gib * 2**30

    def _edges(self, index: int) -> Edges:
        edges = self._cache.get(index)
        if edges is None:
            graph = build_graph([self.store.system(index)], self.config.cutoff)
            shift = graph.shift.numpy()
            edges = Edges(
                graph.src.numpy().astype(np.int32), graph.dst.numpy().astype(np.int32), shift.astype(np.int16)
            )
            if edges.nbytes < self._room:  # two threads may both count one: a few bytes, no harm
                self._room -= edges.nbytes
                self._cache[index] = edges
        return edges

    def make(self, indices: NDArray[np.int64], roll_seed: tuple[int, ...] | None = None) -> Batch:
        """The batch of these frames; an empty one is all padding.

        Args:
            indices: positions in the store.
            roll_seed: seed of the random roll of every edge about its axis; None for no roll.
        """
        store, arrays = self.store, self.store.arrays
        rows = np.concatenate(
            [np.arange(store.first[i], store.first[i + 1]) for i in indices] or [np.zeros(0, dtype=np.int64)]
        )
        n_atoms = arrays["n_atoms"][indices]
        starts = np.concatenate([[0], np.cumsum(n_atoms)])
        lists = [self._edges(int(i)) for i in indices]
        n_edges = np.array([len(edges.src) for edges in lists], dtype=np.int64)
        offset = np.repeat(starts[:-1], n_edges)
        src = _joined([edges.src for edges in lists], np.int64) + offset
        dst = _joined([edges.dst for edges in lists], np.int64) + offset
        shift = np.concatenate([np.zeros((0, 3), dtype=np.int16), *(edges.shift for edges in lists)])
        positions = arrays["positions"][rows]
        cells = arrays["cell"][indices]
        image = np.einsum("ei,eij->ej", shift.astype(np.float64), np.repeat(cells, n_edges, axis=0))
        edge_vec = positions[src] + image - positions[dst]

        volume = np.abs(np.linalg.det(cells))
        weight = np.array(arrays["weight"][indices])
        energy, stress, forces = self._energy[indices], arrays["stress"][indices], arrays["forces"][rows]
        has_forces, has_stress = np.repeat(self._has_forces[indices], n_atoms), self._has_stress[indices]
        virial = np.where(has_stress[:, None, None], -volume[:, None, None] * stress, 0.0)
        columns: dict[str, NDArray[Any]] = {
            "energy": np.nan_to_num(energy),
            "forces": np.nan_to_num(forces),
            "virial": virial,
            "energy_weight": weight[:, 0] * ~np.isnan(energy),
            "force_weight": np.repeat(weight[:, 1], n_atoms) * has_forces,
            "virial_weight": weight[:, 2] * has_stress,
            "n_atoms": n_atoms.astype(np.float64),
            "volume": np.where(arrays["pbc"][indices].all(1), volume, 1.0),
        }
        species = self._species_of[arrays["numbers"][rows]]
        system_idx = np.repeat(np.arange(len(indices)), n_atoms)
        conditioning = (
            self._conditioning(arrays["charge_spin"][indices])[system_idx] if self.config.charge_spin else None
        )
        n_real = (len(rows), len(src), len(indices))
        if (padding := self.padding) is not None:
            far = np.array([2 * self.config.cutoff, 0.0, 0.0])  # beyond the cutoff: no weight, no derivative
            atoms, edges, frames = (size - real for size, real in zip(padding, n_real, strict=True))
            if min(atoms, edges, frames) < 0 or (edges and not atoms):
                raise AssertionError(f"a batch of {n_real} atoms, edges and frames exceeds the padded size {padding}")
            edge_vec = np.concatenate([edge_vec, np.broadcast_to(far, (edges, 3))])
            src, dst = (np.pad(side, (0, edges), constant_values=padding.atoms - 1) for side in (src, dst))
            species = np.pad(species, (0, atoms))
            system_idx = np.pad(system_idx, (0, atoms), constant_values=padding.frames - 1)
            if conditioning is not None:
                conditioning = np.pad(conditioning, ((0, atoms), (0, 0)))
            for name, column in columns.items():
                missing = atoms if name in ("forces", "force_weight") else frames
                fill = 1.0 if name in ("n_atoms", "volume") else 0.0
                columns[name] = np.pad(column, [(0, missing)] + [(0, 0)] * (column.ndim - 1), constant_values=fill)
        roll = None
        if roll_seed is not None:
            turns = np.random.default_rng(roll_seed).random((len(src), 1))
            roll = torch.from_numpy(2 * math.pi * turns).to(self.dtype)
        double = {"energy", "n_atoms", "volume"}
        labels = Labels(
            **{
                name: torch.from_numpy(np.ascontiguousarray(column)).to(torch.float64 if name in double else self.dtype)
                for name, column in columns.items()
            }
        )
        return Batch(
            torch.from_numpy(np.ascontiguousarray(edge_vec)).to(self.dtype),
            torch.from_numpy(src),
            torch.from_numpy(dst),
            torch.from_numpy(species),
            torch.from_numpy(system_idx),
            None if conditioning is None else torch.from_numpy(conditioning),
            roll,
            labels,
            n_real,
        )

    def _conditioning(self, charge_spin: NDArray[np.int64]) -> NDArray[np.int64]:
        """Charge and spin of frames [n, 2], the default of the model where a frame names none."""
        unspecified = (charge_spin == np.array(UNSPECIFIED_CHARGE_SPIN)).all(axis=1, keepdims=True)
        return np.where(unspecified, np.array(self.config.charge_spin), charge_spin)

    def counts(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Frames with an energy, atoms with forces and frames with a stress among ``indices``, [3]."""
        return np.array(
            [
                np.count_nonzero(~np.isnan(self._energy[indices])),
                self.store.arrays["n_atoms"][indices][self._has_forces[indices]].sum(),
                np.count_nonzero(self._has_stress[indices]),
            ],
            dtype=np.float64,
        )


def _joined(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype=dtype), *parts]).astype(dtype, copy=False)


def ahead(make: Callable[[T], R], items: Iterable[T], *, depth: int = 3) -> Iterator[R]:
    """``make`` of each item in order, computed in a thread up to ``depth`` items before it is asked for.

    One thread only: what it waits for is the neighbour search, which releases the interpreter.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) >= depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

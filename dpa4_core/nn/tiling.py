"""How a CPU cuts edges into tiles, and the memory that it uses again from call to call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

EDGES_PER_TILE = 512
"""With 64 channels the features of a tile take 1.3 MB. 256, 384 and 512 took 1.24, 1.12 and 1 times the time."""

MAX_CACHED = 2**28
"""Numbers; a larger buffer is given back to the system after its call."""


@dataclass(frozen=True)
class Tile:
    """Consecutive edges: all those of some consecutive centres.

    Attributes:
        number: of this tile.
        start, stop: range of edges.
        centres: for every centre with edges: (atom, first edge, last edge + 1), counted from ``start``.
    """

    number: int
    start: int
    stop: int
    centres: tuple[tuple[int, int, int], ...]


@dataclass
class Tiling:
    """Tiles of the edges of one graph, for one evaluation.

    Attributes:
        tiles: in the order of the edges.
        n_workers: threads that share them.
    """

    tiles: tuple[Tile, ...]
    n_workers: int = 1
    _n_kept: int = field(default=0, repr=False)

    @property
    def largest(self) -> int:
        """Edges of the largest tile."""
        return max((tile.stop - tile.start for tile in self.tiles), default=0)

    def segments(self) -> Iterator[tuple[int, slice]]:
        """Every atom with edges, and where they are."""
        for tile in self.tiles:
            for atom, first, last in tile.centres:
                yield atom, slice(tile.start + first, tile.start + last)

    def keep_buffer(self, *shape: int, like: Tensor) -> Tensor:
        """Room that nobody else uses during this evaluation."""
        self._n_kept += 1
        return buffer(f"kept by {self._n_kept}", shape, like)


def cut(dst: Tensor, n_atoms: int, *, edges_per_tile: int = EDGES_PER_TILE) -> Tiling:
    """Cut edges sorted by ``dst`` [n_edges] between centres; a centre with more edges gets a tile of its own."""
    counts = torch.bincount(dst, minlength=n_atoms).tolist()
    tiles: list[Tile] = []
    centres: list[tuple[int, int, int]] = []
    start = stop = 0
    for atom, count in enumerate(counts):
        if not count:
            continue
        if centres and stop + count - start > edges_per_tile:
            tiles.append(Tile(len(tiles), start, stop, tuple(centres)))
            centres, start = [], stop
        centres.append((atom, stop - start, stop - start + count))
        stop += count
    if centres:
        tiles.append(Tile(len(tiles), start, stop, tuple(centres)))
    return Tiling(tuple(tiles), max(1, min(torch.get_num_threads(), len(tiles))))


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.flat: dict[tuple[str, torch.dtype], Tensor] = {}


_buffers = _Buffers()


def buffer(name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Uninitialised memory of this thread that the next call with the same name gets again.

    A fresh tensor of some MB costs more in page faults than the product that fills it.
    """
    size = 1
    for length in shape:
        size *= length
    if size > MAX_CACHED:
        return like.new_empty(shape)
    key = (name, like.dtype)
    flat = _buffers.flat.get(key)
    if flat is None or flat.numel() < size:
        flat = _buffers.flat[key] = like.new_empty(size)
    return flat[:size].view(shape)

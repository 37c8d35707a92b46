"""A force call beside what this machine can do at most: operations counted, ceilings measured, gap.

    python benchmarks/ceilings.py [--model dpa4-neo] [--threads 1] [--sizes 8 64 216]

Operations are counted from the configuration of the model: products of matrices only, a multiplication and an addition
each, energy and its gradient. Ceilings are the rate of a large square product, of the products of the mixing stack in
the cache, and of copying memory. The last column is time at the ceiling of products over the time measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from ase.build import bulk

import dpa4_core as dpa4
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import to_system
from dpa4_core.model.config import DPA4Config
from dpa4_core.nn.tiling import EDGES_PER_TILE


def per_edge(config: DPA4Config) -> dict[str, float]:
    """Operations of one edge in all blocks, forward and backward. Weights are constants: a product with them costs the
    same again for its gradient, a product of two variables twice the same.
    """
    rows, size, hidden = 3 * config.lmax + 1, (config.lmax + 1) ** 2, config.channels * config.n_focus
    even, odd = (config.lmax + 1) * config.channels, 2 * config.lmax * config.channels
    layer = 2.0 * (even**2 + odd**2)
    gate = 2.0 * config.channels * config.lmax * config.channels
    mixing = config.n_focus * (config.mixing_layers * layer + (config.mixing_layers - 1) * gate)
    rotation = 2.0 * rows * size * hidden
    rank = max(config.mixer_rank, 1)
    return {
        "mixing stack": config.n_blocks * 2 * mixing,
        "rotation in": config.n_blocks * 3 * rotation * rank,
        "rotation out": config.n_blocks * 3 * rotation,
    }


def per_atom(config: DPA4Config) -> float:
    """Operations of one atom in feed-forward networks and products on the grid, forward and backward."""
    size, frames, points = (config.lmax + 1) ** 2, 3, (3 * config.lmax + 1) ** 2 / 3
    columns = size * frames
    grid = 2.0 * 3 * (points * size + 2 * points * 2 * (size - 1))
    ffn = 2.0 * columns * config.channels * config.hidden * 3 + grid * config.hidden + 2.0 * columns * config.hidden**2
    message = config.n_focus * (2.0 * columns * config.channels**2 * 3 + grid * config.channels)
    return 2.2 * config.n_blocks * (config.ffn_blocks * ffn + (message if config.message_node else 0.0))


def best(function: Callable[[], object], repeats: int, inner: int = 1) -> float:
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(inner):
            function()
        times.append((time.perf_counter() - start) / inner)
    return min(times)


def product_rate(rows: int, inner: int) -> float:
    """Operations per second of a product [rows, inner] × [inner, inner]."""
    a, b, out = torch.randn(rows, inner), torch.randn(inner, inner), torch.empty(rows, inner)
    return 2.0 * rows * inner**2 / best(lambda: torch.mm(a, b, out=out), 7, max(1, int(3e8 / (rows * inner**2))))


def copy_rate(numbers: int) -> float:
    """Bytes per second read and written by a copy of float32 numbers."""
    a, b = torch.randn(numbers), torch.empty(numbers)
    return 8.0 * numbers / best(lambda: b.copy_(a), 7, max(1, int(1e7 / numbers)))


def fresh_rate(numbers: int) -> float:
    """Bytes per second of filling memory that the system has just given, 4 bytes a number."""
    kept: list[torch.Tensor] = []
    return 4.0 * numbers / best(lambda: kept.append(torch.empty(numbers).fill_(1.0)), 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="dpa4-neo")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 64, 216])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    fresh = fresh_rate(160_000)
    potential = dpa4.load(arguments.model)
    config = potential.model.config
    width = config.lmax * config.channels * 2
    square, stack = product_rate(1024, 1024), product_rate(EDGES_PER_TILE, width)
    print(f"{arguments.threads} threads; {arguments.model}")
    print(f"ceilings: product 1024³ {square / 1e9:.0f} GFLOP/s, mixing stack in the cache {stack / 1e9:.0f} GFLOP/s")
    print(
        f"copy in the cache {copy_rate(60_000) / 1e9:.0f} GB/s, in memory {copy_rate(2**26) / 1e9:.0f} GB/s, ", end=""
    )
    print(f"fresh memory {fresh / 1e9:.1f} GB/s")
    for name, value in per_edge(config).items():
        print(f"  per edge, {name}: {value / 1e6:.2f} MFLOP")
    print(f"  per atom: {per_atom(config) / 1e6:.0f} MFLOP\n")
    print("| atoms | edges | GFLOP | time, 8 atoms = 1 | GFLOP/s | of the ceiling |\n|---|---|---|---|---|---|")
    first = 0.0
    for n_atoms in arguments.sizes:
        repeat = round((n_atoms / 8) ** (1 / 3))
        cell = bulk("Si", "diamond", a=5.43, cubic=True) * (repeat, repeat, repeat)
        cell.rattle(0.05, seed=1)
        graph = build_graph([to_system(cell)], potential.cutoff)
        work = graph.n_edges * sum(per_edge(config).values()) + len(cell) * per_atom(config)
        seconds = best(lambda graph=graph: potential.compute(graph), 12 if n_atoms < 100 else 4)
        first = first or seconds
        rate = work / seconds
        print(
            f"| {len(cell)} | {graph.n_edges} | {work / 1e9:.1f} | {seconds / first:.2f} | {rate / 1e9:.0f} "
            f"| {rate / max(square, stack):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

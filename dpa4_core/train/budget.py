"""How many atoms and edges one batch may hold, and the padded size of compiled batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dpa4_core.errors import DPA4Error
from dpa4_core.memory import free_memory
from dpa4_core.model.config import DPA4Config
from dpa4_core.train.config import TrainConfig
from dpa4_core.train.dataset import Dataset
from dpa4_core.train.loader import Padding
from dpa4_core.train.packing import Budget
from dpa4_core.train.store import FrameStore

ATOMS_CPU, ATOMS_GPU = 192, 2000
"""Largest automatic batch: beyond, a step on the CPU only takes longer, and a GPU is busy."""

MIN_STEPS_PER_EPOCH = 40
"""Automatic batches are not larger than this leaves: small data sets need many small steps."""

_COPIES = 40.0
"""Values kept per edge feature by an eager step with second derivatives, see `bytes_per_edge`."""


def bytes_per_edge(config: DPA4Config) -> float:
    """Peak memory of an eager float32 training step per directed edge, in bytes, to a factor of about 1.5.

    Every mixing layer keeps its features (3·lmax + 1 rows of C·F) for the first and the second derivative.
    """
    features = (3 * config.lmax + 1) * config.channels * config.n_focus
    layers = config.n_blocks * (config.mixing_layers + 2)
    return 4.0 * _COPIES * features * layers / 3


def choose_budget(
    config: TrainConfig,
    data: Dataset,
    network: DPA4Config,
    device: torch.device,
    parts: int,
    stored: dict[str, Any] | None = None,
) -> Budget:
    """The budget of one process: as asked for, as it was in an interrupted run, or what suits data and memory.

    Raises:
        DPA4Error: a frame is larger and ``batch.oversize`` is "error".
    """
    if stored is not None:
        return Budget(int(stored["atoms"]), int(stored["edges"]), parts)
    n_atoms, n_edges = (data.store.arrays[name][data.train] for name in ("n_atoms", "n_edges"))
    batch = config.batch
    per_atom = float(n_edges.sum()) / float(n_atoms.sum())
    if batch.max_atoms == "auto":
        small_enough = int(n_atoms.sum()) // (MIN_STEPS_PER_EPOCH * parts)
        small_enough = max(small_enough, config.recipe().frames * int(np.median(n_atoms)) // parts)
        cap = ATOMS_CPU if device.type == "cpu" else ATOMS_GPU
        fits = 0.5 * free_memory(device) / bytes_per_edge(network) / max(per_atom, 1.0)  # inf where it is unknown
        atoms = max(int(min(small_enough, cap, fits)), 1)
        if batch.oversize != "drop":
            atoms = max(atoms, min(int(n_atoms.max()), cap))
    else:
        atoms = batch.max_atoms
    edges = int(1.1 * per_atom * atoms) + 1 if batch.max_edges == "auto" else batch.max_edges
    if batch.max_edges == "auto":
        within = n_edges[n_atoms <= atoms]
        edges = max(edges, int(within.max()) if len(within) else 1)
    over = np.flatnonzero((n_atoms > atoms) | (n_edges > edges))
    if len(over) and batch.oversize == "error":
        worst = int(over[np.argmax(n_atoms[over])])
        raise DPA4Error(
            f"frame {data.store.names[int(data.train[worst])]} has {n_atoms[worst]} atoms and {n_edges[worst]} edges, "
            f"more than a batch may hold ({atoms} and {edges}); raise batch.max_atoms and batch.max_edges or set "
            "batch.oversize to 'drop' or 'alone'"
        )
    return Budget(atoms, edges, parts)


def within_budget(data: Dataset, budget: Budget, frames: np.ndarray) -> np.ndarray:
    """Which of ``frames`` fit into a batch, [n] bool."""
    arrays = data.store.arrays
    return (arrays["n_atoms"][frames] <= budget.atoms) & (arrays["n_edges"][frames] <= budget.edges)


def padding_for(store: FrameStore, frames: np.ndarray, budget: Budget) -> Padding:
    """The one size of all compiled batches: the budget, or the largest frame if that is larger.

    Raises:
        DPA4Error: there are no frames.
    """
    n_atoms, n_edges = store.arrays["n_atoms"][frames], store.arrays["n_edges"][frames]
    if not len(frames):
        raise DPA4Error("there is no frame to train on")
    atoms, edges = max(budget.atoms, int(n_atoms.max())), max(budget.edges, int(n_edges.max()))
    most = atoms // max(int(n_atoms.min()), 1)
    return Padding(atoms + 1, edges + 1, most + 1)

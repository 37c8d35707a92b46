"""Predictions for any number of structures, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any, TypeVar

from dpa4_core.batches import Prediction
from dpa4_core.data.batching import default_budget
from dpa4_core.data.structures import MIN_DISTANCE_RATIO
from dpa4_core.errors import DPA4Error
from dpa4_core.loaded import as_potential
from dpa4_core.potential import PotentialLike
from dpa4_core.predict import predict

Key = TypeVar("Key")

_BATCHES_AHEAD = 4  # read together, so that structures of similar size share a batch


def predict_stream(
    items: Iterable[tuple[Key, Any]],
    potential: PotentialLike | str | Path,
    *,
    window: int | None = None,
    max_atoms_per_batch: int | None = None,
    min_distance_ratio: float = MIN_DISTANCE_RATIO,
) -> Iterator[tuple[Key, Prediction]]:
    """Energy, forces and stress of structures while they are read.

    Args:
        items: pairs of a key, which comes out with the result, and a structure.
        potential: a potential, or the name or path of one.
        window: structures that are read ahead, by default what fills four batches.
        max_atoms_per_batch, min_distance_ratio: see `predict`.

    Returns:
        An iterator of pairs of key and prediction, in the order of ``items``; a structure that cannot be computed has
        ``error`` set.

    Raises:
        DPA4Error: an option that makes no sense, no such model; at once, before anything is read.
    """
    if window is not None and not window >= 1:
        raise DPA4Error(f"window must be at least 1 structure, not {window}")
    potential = as_potential(potential)
    # refuses bad options before the first item
    predict([], potential, max_atoms_per_batch=max_atoms_per_batch, min_distance_ratio=min_distance_ratio)
    n_atoms = _BATCHES_AHEAD * (max_atoms_per_batch or default_budget(potential.device))

    def run() -> Iterator[tuple[Key, Prediction]]:
        for part in _windows(items, window, n_atoms):
            predictions = predict(
                [structure for _, structure in part],
                potential,
                max_atoms_per_batch=max_atoms_per_batch,
                min_distance_ratio=min_distance_ratio,
            )
            yield from zip((key for key, _ in part), predictions, strict=True)

    return run()


def _windows(items: Iterable[tuple[Key, Any]], window: int | None, n_atoms: int) -> Iterator[list[tuple[Key, Any]]]:
    part: list[tuple[Key, Any]] = []
    size = 0
    for key, structure in items:
        part.append((key, structure))
        size += len(structure) if isinstance(structure, Sized) else 1
        if size >= n_atoms if window is None else len(part) >= window:
            yield part
            part, size = [], 0
    if part:
        yield part

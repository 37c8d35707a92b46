"""Cut many structures into chunk jobs: flows of bounded size for any number of structures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jobflow import Flow, Job, job

from dpa4_flows.documents.schemas import ChunkSummary

MAX_CHUNKS = 200
"""Jobs in one fan-out. FireWorks rewrites the whole workflow document at every launch, and a job that gathers
N outputs resolves N references: both are cheap at 200 (0.4 s) and hopeless at 10,000."""


def split(ids: Sequence[str], n_atoms: Sequence[int], chunk_size: int, max_chunks: int = MAX_CHUNKS) -> list[list[str]]:
    """Chunks of similar structures and similar cost.

    Structures are sorted by size, so that a batch holds cells that take similar time, and cut where the sum
    of atoms is even, so that the chunk with the largest cells does not outlast the others.

    Args:
        ids: what to distribute.
        n_atoms: atoms of each.
        chunk_size: structures per chunk, on average; grows when there would be more than ``max_chunks``
            chunks.
        max_chunks: most chunks.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")
    if not ids:
        return []
    n_chunks = min(-(-len(ids) // chunk_size), max_chunks)
    order = np.argsort(np.asarray(n_atoms), kind="stable")
    work = np.cumsum(np.asarray(n_atoms, dtype=float)[order])
    chunk = np.minimum((work - 0.5 * work[0]) / work[-1] * n_chunks, n_chunks - 1).astype(int)
    chunks = [[ids[i] for i in order[chunk == c]] for c in range(n_chunks)]
    return [c for c in chunks if c]


def gathered(jobs: Sequence[Job], name: str) -> Flow:
    """Flow of chunk jobs, which are named and counted; its output is the `ChunkSummary` of all of them."""
    for number, chunk in enumerate(jobs, start=1):
        chunk.name = f"{name} {number}/{len(jobs)}"
    # A gather, but of a bounded number of documents of five integers each: the references also order the
    # jobs, so that whatever waits for this flow starts when the last chunk is in the table. The numbers
    # themselves never pass here.
    total = sum_chunks([chunk.output for chunk in jobs])
    total.name = f"{name} summary"
    return Flow([*jobs, total], output=total.output, name=name)


@job(output_schema=ChunkSummary)
def sum_chunks(summaries: list[ChunkSummary]) -> ChunkSummary:
    """The sums of all counts."""
    return ChunkSummary(**{field: sum(getattr(s, field) for s in summaries) for field in ChunkSummary.model_fields})

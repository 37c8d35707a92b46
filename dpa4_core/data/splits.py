"""Validation sets that share no material with the training set."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dpa4_core.errors import DPA4Error


def split_by_group(groups: Sequence[str], fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which frames are for validation: whole groups, about ``fraction`` of the frames.

    Groups are taken in the order of a hash of their name and ``seed`` as long as that brings the number of frames
    closer to the target, so the result does not depend on the order of the frames. With two groups or more, each side
    gets at least one. A single group cannot be kept whole: then the last frames of the list are for validation, one
    contiguous block, since neighbours in a trajectory are alike and must not be drawn at random.

    Args:
        groups: the group of each frame, `Frame.group`.
        fraction: of the frames, at least 0 and below 1; 0 takes none.
        seed: another seed gives another choice of groups.

    Returns:
        [n_frames] bool, True for validation.
    """
    if not 0 <= fraction < 1:
        raise DPA4Error(f"the validation fraction must be at least 0 and below 1, not {fraction:g}")
    n_frames = len(groups)
    if fraction == 0 or n_frames < 2:
        return np.zeros(n_frames, dtype=bool)
    target = fraction * n_frames
    sizes = Counter(groups)
    if len(sizes) == 1:
        n_taken = min(max(round(target), 1), n_frames - 1)
        return np.arange(n_frames) >= n_frames - n_taken
    ordered = sorted(sizes, key=lambda group: _hash(group, seed))
    chosen: set[str] = set()
    n_taken = 0
    for group in ordered:
        if abs(n_taken + sizes[group] - target) < abs(n_taken - target):
            chosen.add(group)
            n_taken += sizes[group]
    if not chosen:
        chosen = {min(ordered, key=sizes.__getitem__)}
    if len(chosen) == len(sizes):
        chosen.remove(min(ordered, key=sizes.__getitem__))
    return np.array([group in chosen for group in groups])


def _hash(group: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=16).digest()


def split_blocks(groups: Sequence[str], fraction: float) -> NDArray[np.bool_]:
    """Which frames are for validation: the last ``fraction`` of each group, one contiguous block.

    Every group is trained on, yet neighbours in a trajectory stay on one side. What rounding takes from one group goes
    to the next, so that ``fraction`` of all frames is taken also when groups are small, at least one of two or more. A
    group of a single frame is trained on.
    """
    if not 0 <= fraction < 1:
        raise DPA4Error(f"the validation fraction must be at least 0 and below 1, not {fraction:g}")
    taken = np.zeros(len(groups), dtype=bool)
    names = np.array(groups, dtype=object)
    owed = 0.0
    for group in dict.fromkeys(groups):
        members = np.flatnonzero(names == group)
        owed += fraction * len(members)
        n_taken = min(max(round(owed), 0), len(members) - 1)
        owed -= n_taken
        taken[members[len(members) - n_taken :]] = True
    if fraction and len(groups) > 1 and not taken.any():
        taken[-1] = True
    return taken


def split_frames(n_frames: int, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which of independent frames are for validation: ``fraction`` of them at random, at least one of two or more."""
    if not 0 <= fraction < 1:
        raise DPA4Error(f"the validation fraction must be at least 0 and below 1, not {fraction:g}")
    taken = np.zeros(n_frames, dtype=bool)
    n_taken = min(max(round(fraction * n_frames), 1), n_frames - 1) if fraction else 0
    taken[np.random.default_rng(seed).permutation(n_frames)[: max(n_taken, 0)]] = True
    return taken

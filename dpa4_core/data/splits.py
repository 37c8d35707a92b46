"""Validation sets that share no material with the training set."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dpa4_core.errors import DPA4Error


def split_by_group(
    groups: Sequence[str], fraction: float, seed: int, present: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Which frames are for validation: whole groups, about ``fraction`` of the frames.

    Groups are taken in the order of a hash of their name and ``seed`` as long as that brings the number of frames
    closer to the target, so the result does not depend on the order of the frames. With two groups or more, each side
    gets at least one. A single group cannot be kept whole: then the last frames of the list are for validation, one
    contiguous block, since neighbours in a trajectory are alike and must not be drawn at random.

    Args:
        groups: the group of each frame, `Frame.group`.
        fraction: of the frames, at least 0 and below 1; 0 takes none.
        seed: another seed gives another choice of groups.
        present: [n_frames, n_elements], which elements a frame holds. A group is passed over where it is the last of
            those not yet taken that holds some element, so that every element is trained.

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
    holds = holdings(groups, present)
    left = np.sum(list(holds.values()), axis=0)  # groups not taken that hold each element
    chosen: set[str] = set()
    n_taken = 0
    for group in (ordered := sorted(sizes, key=lambda group: _hash(group, seed))):
        if abs(n_taken + sizes[group] - target) < abs(n_taken - target) and (left[holds[group]] > 1).all():
            chosen.add(group)
            n_taken += sizes[group]
            left -= holds[group]
    if not chosen and (spare := [group for group in ordered if (left[holds[group]] > 1).all()]):
        chosen = {min(spare, key=sizes.__getitem__)}
    if len(chosen) == len(sizes):
        chosen.remove(min(ordered, key=sizes.__getitem__))
    return np.array([group in chosen for group in groups])


def holdings(groups: Sequence[str], present: NDArray[np.bool_] | None) -> dict[str, NDArray[np.bool_]]:
    """Which elements occur in each group, by group; none without ``present``, see `split_by_group`."""
    names = list(dict.fromkeys(groups))
    if present is None:
        return dict.fromkeys(names, np.zeros(0, dtype=bool))
    number = {name: i for i, name in enumerate(names)}
    found = np.zeros((len(names), present.shape[1]), dtype=bool)
    np.logical_or.at(found, np.array([number[group] for group in groups], dtype=np.int64), present)
    return dict(zip(names, found, strict=True))


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


def split_parts(groups: Sequence[str], n_parts: int, seed: int) -> NDArray[np.int64]:
    """Number of the part, 0 to ``n_parts`` − 1, of each frame: whole groups where there are twice as many groups as
    parts, else contiguous blocks of each group, so that neighbours in a trajectory are in one part.
    """
    names = np.array(groups, dtype=object)
    ordered = sorted(dict.fromkeys(groups), key=lambda group: _hash(group, seed))
    whole = len(ordered) >= 2 * n_parts
    parts = np.zeros(len(groups), dtype=np.int64)
    for rank, group in enumerate(ordered):
        members = np.flatnonzero(names == group)
        parts[members] = rank % n_parts if whole else np.arange(len(members)) * n_parts // len(members)
    return parts

"""Which of the training frames are set aside to validate with, and the sentence that says how they were chosen.

Neighbours in a trajectory and copies of one structure by symmetry tell nothing about each other, so that neither is
torn apart; free atoms, and whatever alone holds an element, are trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from dpa4_core.data.splits import holdings, split_blocks, split_by_group, split_parts
from dpa4_core.train.config import CommitteeConfig, DataConfig
from dpa4_core.train.store import FrameStore

Mask = NDArray[np.bool_]

_MIN_GROUPS = 5  # with fewer, a group set aside is no sample of the others
_MIN_FRAMES = 12  # errors over fewer say little; they are taken as long as that is a fifth of the data at most
_LISTED = 5


def hold_out(data: DataConfig, store: FrameStore, train: NDArray[np.int64], seed: int) -> tuple[Mask, str]:
    """Which of the frames ``train`` are for validation, and one sentence on how they were chosen.

    Whole groups are taken where that gives about the fraction that was asked for, else the last part of each group,
    else single frames: a validation set is never much smaller than asked for because groups are few, large or hold
    what must be trained.
    """
    chosen = np.zeros(len(train), dtype=bool)
    bound = np.array(store.arrays["n_edges"][train]) > 0
    n_bound = int(bound.sum())
    if not data.validation_fraction or n_bound < 2:
        return chosen, "no validation"
    wanted = max(data.validation_fraction * n_bound, min(_MIN_FRAMES, n_bound / 5))
    frames = train[bound]
    present = store.composition(store.elements)[frames] > 0
    twins = store.twins()[frames]
    groups = _of_first_twin([str(store.about["groups"][i]) for i in frames], twins)
    choice = _Choice(store, frames, present, twins, wanted, seed)
    chosen[bound], how = choice.make(data.split_by, groups)
    return chosen, f"validation: {how}" if chosen.any() else f"no validation: {how}"


def left_out_by(committee: CommitteeConfig, store: FrameStore, train: NDArray[np.int64], seed: int) -> Mask:
    """Which of the frames ``train`` a member is not trained on; an element that only these hold keeps its frames, and
    free atoms are never among them.
    """
    chosen = np.zeros(len(train), dtype=bool)
    bound = np.array(store.arrays["n_edges"][train]) > 0
    frames = train[bound]
    out = split_parts([str(store.about["groups"][i]) for i in frames], committee.members, seed) == committee.member - 1
    present = store.composition(store.elements)[frames] > 0
    alone = present[out].any(axis=0) & ~present[~out].any(axis=0)
    chosen[bound] = out & ~present[:, alone].any(axis=1)
    return chosen


def note_on_twins(store: FrameStore, train: NDArray[np.int64], validation: NDArray[np.int64]) -> str:
    """How many training frames are copies by symmetry of given validation frames; empty where there are none."""
    twins = store.twins()
    bound = np.array(store.arrays["n_edges"]) > 0
    n_copies = int((np.isin(twins[train], twins[validation]) & bound[train]).sum())
    return f"; {n_copies} training frames are copies of them by symmetry" if n_copies else ""


def _of_first_twin(groups: Sequence[str], twins: NDArray[np.int64]) -> list[str]:
    """The group of each frame, one and the same for all twins whatever their files say."""
    group_of: dict[int, str] = {}
    for twin, group in zip(twins.tolist(), groups, strict=True):
        group_of[twin] = min(group_of.get(twin, group), group)
    return [group_of[twin] for twin in twins.tolist()]


class _Choice:
    """A choice among frames that are no free atoms."""

    def __init__(
        self,
        store: FrameStore,
        frames: NDArray[np.int64],
        present: Mask,
        twins: NDArray[np.int64],
        wanted: float,
        seed: int,
    ) -> None:
        self.store, self.frames, self.present, self.twins = store, frames, present, twins
        self.wanted, self.seed, self.fraction = wanted, seed, wanted / len(frames)

    def make(self, split_by: str, groups: list[str]) -> tuple[Mask, str]:
        """The frames and how they were chosen."""
        percent, why = f"{100 * self.fraction:.3g} %", ""
        if split_by in ("group", "source"):
            what = "groups" if split_by == "group" else "files"
            chosen, how, why = self._whole(groups, what)
            if not why:
                return chosen, how
        if split_by != "frame":
            chosen = self._blocks(groups)
            if self._is_enough(chosen):
                return chosen, f"the last {percent} of the frames of each group{why}"
            why = why or f" (the ends of the groups are only {chosen.sum()} frames)"
        names = [str(twin) for twin in self.twins]
        if len(set(names)) == 1:
            return self._none(), "all frames are copies of one structure by symmetry"
        chosen = split_by_group(names, self.fraction, self.seed, self.present)
        how = f"{chosen.sum()} of {len(chosen)} frames, at random"
        return chosen, f"{how}{why}{self._held(names, 'frames')}"

    def _whole(self, groups: list[str], what: str) -> tuple[Mask, str, str]:
        """Whole groups and how they were chosen; or why they will not do."""
        sizes = Counter(groups)
        if len(sizes) < _MIN_GROUPS:
            return self._none(), "", f" (too few {what} to set whole ones aside: {len(sizes)})"
        chosen = split_by_group(groups, self.fraction, self.seed, self.present)
        held = self._held(groups, what)
        if not self._is_enough(chosen):
            return chosen, "", f" (whole {what} that can be spared are {chosen.sum()} frames{held})"
        n_chosen = len({group for group, taken in zip(groups, chosen, strict=True) if taken})
        return chosen, f"{n_chosen} of {len(sizes)} {what}, none of which is trained on{held}", ""

    def _blocks(self, groups: list[str]) -> Mask:
        """The last part of each group, without twins of what is trained on and elements that would not be trained."""
        chosen = split_blocks(groups, self.fraction)
        chosen &= ~np.isin(self.twins, self.twins[~chosen])
        lost = ~self.present[~chosen].any(axis=0)
        return chosen & ~self.present[:, lost].any(axis=1)

    def _is_enough(self, chosen: Mask) -> bool:
        return bool(0.5 * self.wanted <= chosen.sum() <= max(2 * self.wanted, 1))

    def _none(self) -> Mask:
        return np.zeros(len(self.frames), dtype=bool)

    def _held(self, groups: list[str], what: str) -> str:
        """What stays in training because nothing else holds one of its elements."""
        holds = holdings(groups, self.present)
        alone = np.sum(list(holds.values()), axis=0) == 1
        n_held = sum(bool(held[alone].any()) for held in holds.values())
        symbols = [chemical_symbols[z] for z, only in zip(self.store.elements, alone, strict=True) if only]
        if not n_held:
            return ""
        more = f" and {len(symbols) - _LISTED} more" if len(symbols) > _LISTED else ""
        verb = f"{n_held} {what} stay" if n_held > 1 else f"1 {what[:-1]} stays"
        return f"; {verb} in training, since nothing else holds {', '.join(symbols[:_LISTED])}{more}"

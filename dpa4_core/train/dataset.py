"""From the sources of a configuration to one store of frames, split into training and validation."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa4_core.data.frame_summary import DataSummary, SummaryBuilder
from dpa4_core.data.frames import BrokenFrame, Frame, data_files, read_frames
from dpa4_core.data.system import check_system
from dpa4_core.digests import digest
from dpa4_core.errors import DPA4Error
from dpa4_core.model.registry import sha256_of
from dpa4_core.train.config import SourceConfig, TrainConfig
from dpa4_core.train.forgetting import REPLAY
from dpa4_core.train.hold_out import hold_out, left_out_by, note_on_twins
from dpa4_core.train.store import FrameStore, LabelledFrame, build_store, open_store

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Frames of a run.

    Attributes:
        store: all of them.
        train, validation, replay: positions in the store.
        summaries: what each source holds, by its name.
        left_out: name and sentence of each frame that is not used.
        note: how the validation frames were chosen, one sentence.
    """

    store: FrameStore
    train: Indices
    validation: Indices
    replay: Indices
    summaries: dict[str, dict[str, Any]]
    left_out: list[tuple[str, str]]
    note: str

    @property
    def trained(self) -> set[int]:
        """Atomic numbers in the training frames."""
        held = self.store.composition(self.store.elements)[self.train].any(axis=0)
        return set(np.array(self.store.elements)[held].tolist())


def with_split(data: Dataset, validation: Indices) -> Dataset:
    """The same frames with those for validation as they were when the run began, whatever the rule says today."""
    known = validation.ndim == 1 and validation.dtype.kind == "i"
    if not (known and ((validation >= 0) & (validation < data.store.n_frames)).all()):
        raise DPA4Error("the frames set aside for validation are not among the data; start the run again")
    free = np.union1d(data.train, data.validation)
    return dataclasses.replace(data, train=np.setdiff1d(free, validation), validation=validation)


@dataclass
class _Reading:
    """What is learned while the sources stream by."""

    groups: list[str] = field(default_factory=list)
    roles: list[int] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)


_TRAIN, _VALIDATION, _REPLAY = range(3)


def prepare(
    config: TrainConfig,
    folder: Path,
    cutoff: float,
    notify: Callable[[int], None] = lambda n: None,
    known_key: str | None = None,
    *,
    anew: bool = False,
) -> Dataset:
    """Read the sources into ``folder``, or find them there from an earlier start of the same run.

    Args:
        config: the run.
        folder: for the store.
        cutoff: Å, of the network.
        notify: called with the number of frames read so far.
        known_key: key of the store of an interrupted run, which goes on with it if its sources are gone.
        anew: a run begins, for which a store is good only if the whole content of its sources is the same.

    Raises:
        DPA4Error: a source that cannot be read, nothing to train on, or nothing to validate with although asked for.
    """
    try:
        key = _key(config, cutoff)
    except (OSError, DPA4Error):
        if known_key is None or open_store(folder, known_key) is None:
            raise
        key = known_key
    store = open_store(folder, key)
    names = source_names([source for _, source in _sources(config)])
    if store is None or (anew and store.about["checksums"] != _checksums(config, names)):
        reading = _Reading()
        frames = _stream(config, reading, notify)
        about: dict[str, Any] = {"groups": reading.groups, "roles": reading.roles, "left_out": reading.left_out}
        about["checksums"] = _checksums(config, names)
        store = build_store(
            folder, frames, cutoff=cutoff, sources=names, key=key, about=about | {"summaries": reading.summaries}
        )
    about = store.about  # as read from the file: lists where tuples were
    left_out = [(str(name), str(sentence)) for name, sentence in about["left_out"]]
    roles = np.array(about["roles"], dtype=np.int64)
    train, validation, replay = (np.flatnonzero(roles == role) for role in (_TRAIN, _VALIDATION, _REPLAY))
    if not len(train):
        reason = f"; first: {left_out[0][1]}" if left_out else ""
        raise DPA4Error(f"no usable frame in {', '.join(s.path for s in config.data.train)}{reason}")
    for what, asked, found in (
        ("data.validation", config.data.validation, validation),
        ("finetune.replay", config.finetune.replay, replay),
    ):
        if asked and not len(found):
            reason = next((s for _, s in left_out if any(source.path in s for source in asked)), "see the list above")
            raise DPA4Error(f"no usable frame in {what} ({', '.join(s.path for s in asked)}); first: {reason}")
    if config.data.validation:
        note = f"validation frames were given{note_on_twins(store, train, validation)}"
    else:
        chosen, note = hold_out(config.data, store, train, config.run.seed)
        train, validation = train[~chosen], train[chosen]
    if config.committee.member and config.committee.differ_by == "folds":
        train = train[~left_out_by(config.committee, store, train, config.run.seed)]
        note += f"; member {config.committee.member} of {config.committee.members} leaves out its part of the others"
    return Dataset(store, train, validation, replay, about["summaries"], left_out, note)


def source_names(sources: Sequence[SourceConfig]) -> list[str]:
    """How sources are called in tables: their name or the stem of their path, numbered where that is not unique."""
    names: list[str] = []
    for source in sources:
        name = source.name or Path(source.path).name.partition(".")[0] or source.path
        twins = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({twins + 1})" if twins else name)
    return names


def _sources(config: TrainConfig) -> list[tuple[int, SourceConfig]]:
    """All sources; validation first, so that a frame which is in two of them is not trained on."""
    data = config.data
    return [
        *((_VALIDATION, source) for source in data.validation),
        *((_TRAIN, source) for source in data.train),
        *((_REPLAY, source) for source in config.finetune.replay),
        *((_REPLAY, SourceConfig(str(own_replay(config)))) for _ in range(config.finetune.replay_own)),
    ]


def own_replay(config: TrainConfig) -> Path:
    """The file of the base's own labels, in the folder of the run."""
    return Path(config.output) / REPLAY


def _key(config: TrainConfig, cutoff: float) -> str:
    """Identity of the data: the files as they are now and what is made of them."""
    files = []
    for role, source in _sources(config):
        own = source.path == str(own_replay(config))  # moves with the folder
        parts = data_files(source.path)
        status = [(REPLAY if own else str(part), part.stat().st_size, _ends(part)) for part in parts]
        files.append([role, REPLAY if own else source.path, source.weight, source.name, status])
    data = config.to_dict()["data"]
    used = {name: data[name] for name in ("keys", "max_force", "min_distance_ratio", "drop_duplicates")}
    target = config.property.name if config.property else ""
    text = json.dumps([files, used, cutoff, target, config.data.split_by == "source"])
    return hashlib.sha256(text.encode()).hexdigest()


def _checksums(config: TrainConfig, names: Sequence[str]) -> dict[str, str]:
    """Checksums of the sources, by their names."""
    return {name: _checksum(source) for name, (_, source) in zip(names, _sources(config), strict=True)}


def _checksum(source: SourceConfig) -> str:
    """SHA-256 of the file of a source, or of the checksums of its files."""
    parts = [sha256_of(part) for part in data_files(source.path)]
    return parts[0] if len(parts) == 1 else digest(parts)


def _ends(path: Path, size: int = 65536) -> str:
    """Checksum of the beginning and the end of a file: tells versions apart in no time, whatever their dates."""
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(size))
        file.seek(max(path.stat().st_size - size, 0))
        digest.update(file.read(size))
    return digest.hexdigest()


def _stream(config: TrainConfig, reading: _Reading, notify: Callable[[int], None]) -> Iterator[LabelledFrame]:
    n_frames, keys = 0, config.data.keys
    if config.property is not None:
        keys = dataclasses.replace(keys, properties=tuple({*keys.properties, config.property.name}))
    names = source_names([source for _, source in _sources(config)])
    for number, (role, source) in enumerate(_sources(config)):
        builder = SummaryBuilder()
        for frame in read_frames(source.path, keys):
            builder.add(frame)
            item = _accepted(frame, config, reading)
            if item is not None:
                reading.groups.append(item.source if config.data.split_by == "source" else item.group)
                reading.roles.append(role)
                yield LabelledFrame(item, source.weight, number, _target(item, config))
            n_frames += 1
            if n_frames % 100 == 0:
                notify(n_frames)
        summary: DataSummary = builder.result()
        for label in ("energy", "forces", "stress"):
            if getattr(keys, label) is not None and not getattr(summary, f"n_with_{label}"):
                raise DPA4Error(f"no frame of {source.path} has {getattr(keys, label)!r}; see data.keys.{label}")
        if keys.weight is not None and not summary.n_weighted:
            raise DPA4Error(f"no frame of {source.path} has {keys.weight!r} other than 1; see data.keys.weight")
        reading.summaries[names[number]] = dataclasses.asdict(summary)


def _target(frame: Frame, config: TrainConfig) -> float:
    return frame.properties.get(config.property.name, np.nan) if config.property else np.nan


def _accepted(frame: Frame | BrokenFrame, config: TrainConfig, reading: _Reading) -> Frame | None:
    """The frame if it can be used; otherwise the reason goes on the list."""
    if isinstance(frame, BrokenFrame):
        reading.left_out.append((frame.name, frame.error))
        return None
    frame = _weighted(frame)
    problem = _problem(frame, config)
    if problem is None and config.data.drop_duplicates:
        mark = _mark(frame)
        if mark in reading.seen:
            problem = "an exact copy of an earlier frame"
        reading.seen.add(mark)
    if problem is not None:
        reading.left_out.append((frame.name, f"{frame.source}, {frame.name}: {problem}"))
        return None
    reading.left_out += [(frame.name, f"{frame.source}, {frame.name}: {sentence}") for sentence in frame.left_out]
    return frame


def _weighted(frame: Frame) -> Frame:
    """The frame without labels of weight 0, so that nothing counts what does not count."""
    if 0.0 not in frame.weights:
        return frame
    names = ("energy", "forces", "stress")
    lost: dict[str, Any] = {name: None for name, weight in zip(names, frame.weights, strict=True) if weight == 0}
    return dataclasses.replace(frame, **lost)


def _problem(frame: Frame, config: TrainConfig) -> str | None:
    if wrong := [weight for weight in frame.weights if not 0 <= weight < np.inf]:
        return f"a weight of {wrong[0]:g}; weights in the loss (config_weight) are numbers from 0 upwards"
    if not any(frame.weights[:1] if config.property is not None else frame.weights):  # energy: what is one value
        return "its weight in the loss is 0"
    if config.property is not None:
        if config.property.name not in frame.properties:
            return f"no property {config.property.name!r}"
    elif not frame.has_labels:
        return "neither energy nor forces nor stress"
    data = config.data
    if frame.forces is not None and len(frame.forces):
        largest = float(np.linalg.norm(frame.forces, axis=1).max())
        if largest > data.max_force:
            return f"a force of {largest:.3g} eV/Å, above data.max_force = {data.max_force:g}"
    every = frame.system.numbers.tolist()
    return check_system(frame.system, every, min_distance_ratio=data.min_distance_ratio)


def _mark(frame: Frame) -> bytes:
    system = frame.system
    digest = hashlib.sha256(system.numbers.tobytes())
    digest.update(repr((system.charge_spin, sorted(frame.properties.items()))).encode())
    digest.update(system.pbc.tobytes())
    energy = None if frame.energy is None else np.array(frame.energy)
    for label, values in enumerate((system.positions, system.cell, energy, frame.forces, frame.stress)):
        if values is not None:
            digest.update(bytes([label]) + np.round(values, 8).tobytes())
    return digest.digest()[:16]

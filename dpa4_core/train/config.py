"""What a training run is: one TOML file, nested dataclasses, unknown keys are errors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ase.data import atomic_numbers

from dpa4_core.data.frames import LabelKeys
from dpa4_core.data.structures import check_distance_ratio
from dpa4_core.errors import DPA4Error
from dpa4_core.model.committee import MAX_MEMBERS
from dpa4_core.model.config import PRESETS, DPA4Config
from dpa4_core.model.property import PropertyConfig
from dpa4_core.strict import build, override, read_toml
from dpa4_core.train.loss import LossConfig
from dpa4_core.train.optimizer import OptimizerConfig
from dpa4_core.train.recipe import Recipe, recipe
from dpa4_core.train.schedule import ScheduleConfig


class TrainConfigError(DPA4Error):
    """A training configuration that makes no sense; one sentence."""


@dataclass(frozen=True)
class SourceConfig:
    """One source of labelled frames.

    Attributes:
        path: file or folder that `dpa4_core.read_frames` reads.
        name: how it is called in tables; by default the stem of the path.
        weight: factor on its terms of the loss.
    """

    path: str
    name: str = ""
    weight: float = 1.0

    @staticmethod
    def from_short(path: str) -> dict[str, str]:
        """A bare path stands for a source with weight 1."""
        return {"path": path}

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise TrainConfigError(f"the weight of {self.path} must be positive, not {self.weight}")


@dataclass(frozen=True)
class DataConfig:
    """Labelled frames and how they are used.

    Attributes:
        train: sources; a bare path stands for a source with weight 1.
        validation: sources; without any, ``validation_fraction`` of the training frames is set aside by group.
        validation_fraction: fraction of the groups, 0 for no validation.
        split_by: "group": frames of one material stay together (random splits of a trajectory leak), with few
            groups as for "block": the last part of each group; "source": the same with files in place of materials;
            "frame": at random, for independent frames.
        keys: names of the labels in the files where they are not the usual ones.
        max_force: frames with a larger force norm (eV/Å) are left out and listed.
        min_distance_ratio: frames with a pair closer than this fraction of the sum of covalent radii are left out.
        drop_duplicates: leave out exact copies of a frame.
    """

    train: tuple[SourceConfig, ...] = ()
    validation: tuple[SourceConfig, ...] = ()
    validation_fraction: float = 0.1
    split_by: Literal["group", "source", "block", "frame"] = "group"
    keys: LabelKeys = field(default_factory=LabelKeys)
    max_force: float = 50.0
    min_distance_ratio: float = 0.2
    drop_duplicates: bool = True

    def __post_init__(self) -> None:
        for name in ("train", "validation"):
            given = _as_list(getattr(self, name))
            object.__setattr__(self, name, tuple(build(SourceConfig, source, f"data.{name}") for source in given))
        if not 0 <= self.validation_fraction < 1:
            raise TrainConfigError(f"validation_fraction must lie in [0, 1), not {self.validation_fraction}")
        check_distance_ratio(self.min_distance_ratio)


@dataclass(frozen=True)
class BatchConfig:
    """How frames are packed into the batch of one step.

    Attributes:
        max_atoms: atoms in the batch of one process; "auto" takes what suits the device and the data.
        max_edges: edges in it; "auto" follows from ``max_atoms`` and the data. Memory is set by edges.
        accumulate: batches of this size per step and process, for more atoms per step than fit into memory.
        oversize: what happens to a frame above the budget: "error", "drop" (it is listed) or "alone".
        cache_gib: memory for neighbour lists of frames already seen.
    """

    max_atoms: int | Literal["auto"] = "auto"
    max_edges: int | Literal["auto"] = "auto"
    accumulate: int = 1
    oversize: Literal["error", "drop", "alone"] = "alone"
    cache_gib: float = 2.0

    def __post_init__(self) -> None:
        for name in ("max_atoms", "max_edges", "accumulate"):
            value = getattr(self, name)
            if value != "auto" and value < 1:
                raise TrainConfigError(f"batch.{name} must be at least 1, not {value}")


@dataclass(frozen=True)
class FineTuneConfig:
    """What changes when training starts from weights.

    Attributes:
        offsets: "shift": fit the mean energy error per element and add it to the offsets before the first step;
            "keep": leave them, for data of the same level of theory.
        lora_rank: rank of the adapters; 0 trains all weights.
        lora_alpha: scale of the adapters, the update is multiplied by alpha/rank; 0 takes the rank.
        freeze: names of parameter groups that stay as they are.
        elements_like: for an element that the base model does not know, a known one whose row it starts from.
        replay: sources of the base model's level of theory mixed in against forgetting.
        replay_own: mix in bundled crystals with what the base says about them; needs no data.
        replay_fraction: fraction of the frames of an epoch that come from ``replay`` or ``replay_own``.
        max_forgetting: eV/atom, median change of other crystals beyond which a validation is not the best, and they are
            brought back at the end; 0: no limit for the best, and 2 meV/atom for the end.
    """

    offsets: Literal["shift", "keep"] = "shift"
    lora_rank: int = 0
    lora_alpha: float = 0.0
    freeze: tuple[str, ...] = ()
    elements_like: dict[str, str] = field(default_factory=dict)
    replay: tuple[SourceConfig, ...] = ()
    replay_own: bool = False
    replay_fraction: float = 0.2
    max_forgetting: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.replay_fraction < 1:
            raise TrainConfigError(f"replay_fraction must lie in [0, 1), not {self.replay_fraction}")
        if self.max_forgetting < 0:
            raise TrainConfigError(f"finetune.max_forgetting must not be negative, got {self.max_forgetting}")
        if self.max_forgetting and self.offsets == "keep":
            raise TrainConfigError(
                "finetune.max_forgetting needs finetune.offsets = 'shift', which holds other elements"
            )


@dataclass(frozen=True)
class RunConfig:
    """How long, where and in which precision.

    Attributes:
        steps: optimiser steps; 0: from ``epochs``.
        epochs: passes over the training frames when ``steps`` is 0.
        seed: of the weights, of the order of frames, of the random roll.
        device: "auto", "cpu", "cuda", "cuda:1".
        dtype: precision of weights, "float32" or "float64".
        compile: compile the step; minutes at the start, one graph afterwards.
        mixed_precision: "bf16" runs the interaction blocks in bfloat16, "none" nothing.
        tf32: matrix products of float32 in TF32 on GPUs that have it.
        clip: largest global norm of the gradient.
        ema: decay of the average of the weights that is validated and saved; 0 for none.
        log_every: steps between records of the log.
        validate_every: steps between validations; 0: ten times per run.
        save_every: steps between checkpoints; 0: with every validation.
        save_minutes: minutes after which a checkpoint is written in any case; 0 for none by time.
        patience: validations without improvement after which the decay of the learning rate starts; 0: never.
        max_time: minutes of wall time; the decay starts early enough to end with them. 0: no limit.
        offsets: energies per element (eV, by symbol) to keep instead of fitting; "isolated": those of the free atoms
            among the training frames, which each element needs then.
    """

    steps: int = 0
    epochs: float = 0.0
    seed: int = 0
    device: str = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    compile: bool = False
    mixed_precision: Literal["none", "bf16"] = "none"
    tf32: bool = True
    clip: float = 5.0
    ema: float = 0.999
    log_every: int = 20
    validate_every: int = 0
    save_every: int = 0
    save_minutes: float = 10.0
    patience: int = 0
    max_time: float = 0.0
    offsets: dict[str, float] | Literal["isolated"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steps", "epochs", "seed", "validate_every", "save_every", "save_minutes", "patience", "max_time"):
            if getattr(self, name) < 0:
                raise TrainConfigError(f"run.{name} must not be negative, got {getattr(self, name)}")
        if self.log_every < 1 or not self.clip > 0:
            raise TrainConfigError(
                f"run.log_every must be at least 1 and run.clip positive, got {self.log_every}, {self.clip}"
            )
        named = self.offsets if isinstance(self.offsets, dict) else {}
        if unknown := [symbol for symbol in named if symbol not in atomic_numbers]:
            raise TrainConfigError(f"run.offsets names {unknown[0]!r}, which is no element")


@dataclass(frozen=True)
class CommitteeConfig:
    """Several models in place of one, whose spread tells where they were not trained.

    Attributes:
        members: how many; 0 trains one model.
        differ_by: "folds": in the training frames, of which each member leaves out another part, and in all that "seed"
            does: random weights, adapters and the order of frames, which from one base make hardly a difference. All
            are validated on the same frames, which none was trained on.
        member: which of them this run trains, from 1; 0 for all, one after the other.
    """

    members: int = 0
    differ_by: Literal["folds", "seed"] = "folds"
    member: int = 0

    def __post_init__(self) -> None:
        if self.members and not 2 <= self.members <= MAX_MEMBERS:
            raise TrainConfigError(f"a committee has 2 to {MAX_MEMBERS} members, not {self.members}")
        if not 0 <= self.member <= self.members:
            raise TrainConfigError(f"committee.member is 0 or one of {self.members}, not {self.member}")

    @property
    def is_whole(self) -> bool:
        """Whether all members are trained."""
        return bool(self.members) and not self.member


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        data: labelled frames.
        output: folder of the run; the same configuration in the same folder continues it.
        name: name of the model.
        preset: size of a new model, see `dpa4_core.DPA4Config.preset`; not with ``base``.
        base: registry name or file of the weights to start from; None trains from scratch.
        model: fields of `DPA4Config` that differ from the preset; ``elements`` are by default those of the data.
        loss, optimizer, schedule, batch, run, finetune: see their classes.
        committee: train several models in place of one.
        property: train a head for a scalar property instead of energies.
        level_of_theory, corrections, licence: stored with the model.
    """

    data: DataConfig
    output: str
    name: str = "model"
    preset: str | None = None
    base: str | None = None
    model: dict[str, Any] = field(default_factory=dict)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    run: RunConfig = field(default_factory=RunConfig)
    finetune: FineTuneConfig = field(default_factory=FineTuneConfig)
    committee: CommitteeConfig = field(default_factory=CommitteeConfig)
    property: PropertyConfig | None = None
    level_of_theory: str = "unknown"
    corrections: str = ""
    licence: str = "unknown"

    def __post_init__(self) -> None:
        if not self.data.train:
            raise TrainConfigError("data.train names no source; give files or folders of labelled frames")
        if self.base is not None and (self.preset is not None or self.model):
            raise TrainConfigError("base fixes the network; leave out preset and [model]")
        if self.base is None and self.finetune != FineTuneConfig():
            raise TrainConfigError("[finetune] needs base, the weights to start from")
        used = ("property",) if self.property is not None else ("energy", "forces", "virial")
        if not any(getattr(self.loss, name) for name in used):
            raise TrainConfigError(f"the loss has no term: loss.{' and loss.'.join(used)} are zero")
        if self.property is not None and self.loss.final_energy:
            raise TrainConfigError("loss.final_energy is about energies; leave it out with [property]")
        if self.property is not None and self.finetune.max_forgetting:
            raise TrainConfigError("finetune.max_forgetting is about energies; leave it out with [property]")
        if self.property is not None and self.finetune.replay_own:
            raise TrainConfigError("finetune.replay_own is about energies; leave it out with [property]")
        if self.property is not None and self.committee.members:
            raise TrainConfigError("a committee predicts energies; leave out [property]")
        if self.base is not None and self.run.offsets:
            raise TrainConfigError("run.offsets is for new networks; a base keeps its own, see finetune.offsets")
        for symbol in (*self.finetune.elements_like, *self.finetune.elements_like.values()):
            if symbol not in atomic_numbers:
                raise TrainConfigError(f"finetune.elements_like names {symbol!r}, which is no element")
        if self.schedule.lr is None and not self.finds_rate():
            object.__setattr__(self, "schedule", dataclasses.replace(self.schedule, lr=self.recipe().lr))
        for name in ("vector_rate", "row_rate"):
            if getattr(self.optimizer, name) is None:
                changed = dataclasses.replace(self.optimizer, **{name: getattr(self.recipe(), name)})
                object.__setattr__(self, "optimizer", changed)
        if self.preset is not None and self.preset not in PRESETS:
            raise TrainConfigError(f"unknown preset {self.preset!r}; choose from {', '.join(PRESETS)}")

    def recipe(self) -> Recipe:
        """What is done where nothing is said."""
        has_base, adapters = self.base is not None, bool(self.finetune.lora_rank)
        return recipe(base=has_base, adapters=adapters, head=self.property is not None)

    def finds_rate(self) -> bool:
        """Whether trial steps before the run find the learning rate: from a base that answers what is trained."""
        return self.base is not None and self.property is None and self.schedule.lr is None

    def with_rate(self, lr: float) -> TrainConfig:
        """The same with this learning rate."""
        return dataclasses.replace(self, schedule=dataclasses.replace(self.schedule, lr=lr))

    def seed(self) -> int:
        """Of weights, order of frames and roll: each member of a committee has its own, the split of the data none."""
        return self.run.seed + 10_007 * self.committee.member

    def members(self) -> list[TrainConfig]:
        """The runs of the members, each in a folder of its own within that of the committee."""
        return [
            dataclasses.replace(
                self,
                name=f"{self.name}-{k}",
                output=str(Path(self.output) / f"member-{k}"),
                committee=dataclasses.replace(self.committee, member=k),
            )
            for k in range(1, self.committee.members + 1)
        ]

    def network(self, elements: Sequence[str]) -> DPA4Config:
        """Configuration of a new network; ``elements`` are those of the data."""
        if self.property is not None and self.preset is None and not self.model:
            return DPA4Config.preset("mini", elements=tuple(elements))
        settings = dict(self.model)
        settings.setdefault("elements", list(elements))
        base = DPA4Config.preset(self.preset or "neo").to_dict()
        return DPA4Config.from_dict(base | settings)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the inverse of `from_dict`."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str = "the configuration") -> TrainConfig:
        """Build from plain types; unknown keys and wrong types are errors that name the key."""
        try:
            return build(cls, data, where)
        except DPA4Error as error:
            raise TrainConfigError(str(error)) from error

    @classmethod
    def from_toml(cls, path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
        """Read a TOML file; paths in it are relative to the file.

        Args:
            path: the file.
            overrides: ``section.key=value`` with TOML values, as on the command line.
        """
        path = Path(path)
        data = read_toml(path, "training file", TrainConfigError)
        data.setdefault("output", str(Path("runs") / path.stem))
        data.setdefault("name", path.stem)
        _resolve_paths(data, path.parent)
        return cls.from_dict(override(data, overrides), where=str(path))


def _resolve_paths(data: dict[str, Any], folder: Path) -> None:
    """Make the paths of sources relative to the folder of the file absolute where that is needed to find them."""
    for section, keys in (("data", ("train", "validation")), ("finetune", ("replay",))):
        part = data.get(section, {})
        if not isinstance(part, dict):
            continue  # `build` says what is wrong
        for key in keys:
            if key in part:
                part[key] = [_located(source, folder) for source in _as_list(part[key])]
    if isinstance(data.get("base"), str):  # a registry name stays what it is
        data["base"] = _located(data["base"], folder)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _located(source: Any, folder: Path) -> Any:
    if isinstance(source, str):
        beside = folder / Path(source).expanduser()
        return str(beside) if beside.exists() else source
    if isinstance(source, dict) and "path" in source:
        return source | {"path": _located(source["path"], folder)}
    return source


def check_same(config: TrainConfig, stored: dict[str, Any], folder: Path) -> None:
    """Refuse to continue a run with another configuration; what does not change the result may change."""
    stored = TrainConfig.from_dict(stored, where=str(folder)).to_dict()  # with what older versions did not know
    now = config.to_dict()
    free = {
        "output",
        "name",
        "run.device",
        "run.log_every",
        "run.save_every",
        "run.save_minutes",
        "run.max_time",
        "batch.cache_gib",
    }
    if config.committee.differ_by == "seed":  # members know nothing of how many there are: there may be more of them
        free.add("committee.members")
    for key, (old, new) in _differences(stored, now).items():
        found = key == "schedule.lr" and new is None  # what the run found goes on
        if key not in free and not found:
            raise TrainConfigError(
                f"the run in {folder} was begun with {key} = {old!r}, now it is {new!r}; use another output folder, or "
                "start again with --restart"
            )


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found |= _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found[prefix + key] = (a, b)
    return found

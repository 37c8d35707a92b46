"""What a run stands on before its next step: the state it goes on from, data, network, size of batches."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpa4_core.errors import DPA4Error
from dpa4_core.loaded import load
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.property import PropertyConfig
from dpa4_core.potential import DTYPES
from dpa4_core.strict import build
from dpa4_core.train import checkpoint
from dpa4_core.train import network as networks
from dpa4_core.train.budget import choose_budget, within_budget
from dpa4_core.train.checkpoint import CHECKPOINT, TrainState, load_exactly, part
from dpa4_core.train.config import TrainConfig, check_same
from dpa4_core.train.dataset import Dataset, own_replay, prepare, with_split
from dpa4_core.train.distributed import Processes
from dpa4_core.train.forgetting import write_replay
from dpa4_core.train.packing import Budget
from dpa4_core.train.store import STORE
from dpa4_core.version import code_version

MODEL = "model.dpa4"
Notify = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Beginning:
    """What a run stands on.

    Attributes:
        stored: the checkpoint to go on from; None for a new run.
        data: frames, split, and those left out.
        network: on its device, with the weights of ``stored``.
        budget: atoms and edges of a batch, the same on every process.
    """

    stored: TrainState | None
    data: Dataset
    network: networks.Network
    budget: Budget

    def about(self, config: TrainConfig, device: torch.device, n_processes: int) -> dict[str, Any]:
        """The first record of the log."""
        data, store, parameters = self.data, self.data.store, list(self.network.module.parameters())
        return {
            "config": config.to_dict(),
            "network": self.network.backbone.config.to_dict(),
            "n_parameters": sum(p.numel() for p in parameters),
            "n_trained": sum(p.numel() for p in parameters if p.requires_grad),
            "notes": self.network.notes,
            "doubts": self.network.doubts,
            "budget": dataclasses.asdict(self.budget),
            "data": {
                "n_train": len(data.train),
                "n_validation": len(data.validation),
                "n_replay": len(data.replay),
                "n_atoms": int(store.arrays["n_atoms"][data.train].sum()),
                "split": data.note,
                "left_out": data.left_out[:1000],
                "n_left_out": len(data.left_out),
                "sources": data.summaries,
            },
            "environment": {
                "code_version": code_version(),
                "torch": torch.__version__,
                "python": platform.python_version(),
                "device": str(device),
                "processes": n_processes,
                "threads": torch.get_num_threads(),
            },
        }


def begin(config: TrainConfig, processes: Processes, notify: Notify, *, restart: bool) -> Beginning:
    """Read the checkpoint in ``config.output``, the data and the network.

    Raises:
        DPA4Error: a folder that holds another run, data that changed, a frame that is too large, ....
    """
    folder, committee = Path(config.output), config.committee
    further = folder.with_name(f"member-{committee.members + 1}")
    if committee.member and folder.name == f"member-{committee.member}" and further.is_dir():
        raise DPA4Error(
            f"{further} is of a committee of more than {committee.members} members; use another output folder, or "
            "remove it"
        )
    path = folder / CHECKPOINT
    stored = _stored(path, notify) if checkpoint.exists(path) and not restart else None
    values = stored.values if stored is not None else None
    if values is not None:
        check_same(config, values["config"], folder)
        limit = values["config"]["run"]["max_time"]
        if values["counters"].get("share", 0.0) >= 1 and not 0 < config.run.max_time <= limit:
            raise DPA4Error(
                f"the run in {folder} ended with its time, {limit:g} minutes, over which its learning rate fell; for a "
                f"longer one start again with --restart, or train on into another folder from base = '{folder / MODEL}'"
            )
    cutoff = values["cutoff"] if values is not None else networks.cutoff_of(config)
    data = _prepare(config, processes, notify, cutoff, values["data"] if values is not None else None)
    if stored is not None:
        if stored.values["data"] != data.store.key:
            raise DPA4Error(
                f"the training data changed since the run in {folder} began; train into another folder with "
                f"base = '{folder / MODEL}', or start again with --restart"
            )
        data = with_split(data, stored.tensors["data/validation"].numpy())
        network = _restored(config, stored, path)
    else:
        told = lambda done, total: notify({"kind": "comparing", "frames": done, "of": total})  # noqa: E731
        network = networks.start(config, data, processes.device, told)
    networks.move_replay(data, network)
    network.module.to(processes.device)
    budget = _budget(config, processes, data, network.backbone.config, values["budget"] if values is not None else None)
    if config.batch.oversize == "drop":
        data = _without_oversized(data, budget)
    return Beginning(stored, data, network, budget)


def _stored(path: Path, notify: Notify) -> TrainState:
    """The state to go on from; where the last one is damaged, the one before it, and that is said."""
    state, path, why = checkpoint.latest_state(path)
    checkpoint.check_state(state, path)
    if why:
        notify({"kind": "damaged", "why": why, "step": state.values["counters"]["step"]})
    return state


def _prepare(
    config: TrainConfig, processes: Processes, notify: Notify, cutoff: float, known_key: str | None
) -> Dataset:
    """The data: the first process reads them, the others wait and open what it wrote."""
    place = Path(config.output) / STORE
    data = None
    if processes.is_first:
        if config.finetune.replay_own and known_key is None:
            assert config.base is not None  # [finetune] needs one
            write_replay(load(config.base, dtype=config.run.dtype), own_replay(config))
        data = prepare(
            config, place, cutoff, lambda n: notify({"kind": "reading", "frames": n}), known_key, anew=known_key is None
        )
    processes.wait()
    return data or prepare(config, place, cutoff, known_key=known_key)


def _restored(config: TrainConfig, stored: TrainState, path: Path) -> networks.Network:
    """The network of a checkpoint."""
    values = stored.values
    info = build(ModelInfo, values["info"], f"{path}, info")
    backbone = DPA4(build(DPA4Config, values["network"], str(path)), DTYPES[config.run.dtype])
    head = build(PropertyConfig, values["head"], f"{path}, head") if values["head"] else None
    module = networks.restore(backbone, dataclasses.replace(config, property=head))
    load_exactly(module, part("model", stored.tensors), path)
    return networks.Network(module, info, dict(values["notes"]), list(values["shift"]))


def _budget(
    config: TrainConfig, processes: Processes, data: Dataset, network: DPA4Config, stored: dict[str, Any] | None
) -> Budget:
    n_parts = processes.size * config.batch.accumulate
    if stored is not None and stored["parts"] != n_parts:
        raise DPA4Error(
            f"the run in {config.output} takes {stored['parts']} batches per step, now it would be "
            f"{n_parts} ({processes.size} processes × batch.accumulate = {config.batch.accumulate}); start as many "
            "processes as before"
        )
    budget = choose_budget(config, data, network, processes.device, n_parts, stored)
    # free memory differs between processes, the plan of the steps must not
    atoms, edges = processes.of_first([budget.atoms, budget.edges])
    return dataclasses.replace(budget, atoms=int(atoms), edges=int(edges))


def _without_oversized(data: Dataset, budget: Budget) -> Dataset:
    """The data without training and replay frames above the budget, which are listed."""
    kept: list[NDArray[np.int64]] = []
    left_out = list(data.left_out)
    for frames in (data.train, data.replay):
        fits = within_budget(data, budget, frames)
        kept.append(frames[fits])
        left_out += [
            (data.store.names[int(i)], f"{data.store.names[int(i)]}: larger than a batch") for i in frames[~fits]
        ]
    if not len(kept[0]):
        raise DPA4Error(
            f"every training frame is larger than a batch ({budget.atoms} atoms, {budget.edges} edges); "
            "raise batch.max_atoms and batch.max_edges or set batch.oversize to 'alone'"
        )
    return dataclasses.replace(data, train=kept[0], replay=kept[1], left_out=left_out)

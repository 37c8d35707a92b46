"""The training loop: steps, validation, checkpoints, and what happens when it is stopped."""

from __future__ import annotations

import copy
import dataclasses
import math
import platform
import resource
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpa4_core.errors import DPA4Error
from dpa4_core.memory import keep_freed_memory
from dpa4_core.model.checkpoint import write_model
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.lora import has_adapters, merge_adapters
from dpa4_core.model.property import PropertyConfig, PropertyModel, write_property_model
from dpa4_core.potential import DTYPES
from dpa4_core.strict import build
from dpa4_core.train import checkpoint
from dpa4_core.train import network as networks
from dpa4_core.train.budget import choose_budget, padding_for, within_budget
from dpa4_core.train.checkpoint import CHECKPOINT, TrainState, load_exactly, part, prefixed, write_state
from dpa4_core.train.clip import clip_gradients
from dpa4_core.train.clock import Clock, stop_signals
from dpa4_core.train.config import TrainConfig, check_same
from dpa4_core.train.dataset import Dataset, prepare, with_split
from dpa4_core.train.distributed import Processes, join
from dpa4_core.train.ema import EMA
from dpa4_core.train.loader import BatchMaker, ahead
from dpa4_core.train.log import RunLog
from dpa4_core.train.loss import SUMS, Errors, errors_from_sums
from dpa4_core.train.optimizer import HybridMuon, parameter_groups
from dpa4_core.train.packing import plan_epoch, steps_per_epoch
from dpa4_core.train.routing import official
from dpa4_core.train.schedule import Schedule
from dpa4_core.train.step import Batch, PropertyStep, Step
from dpa4_core.train.store import STORE

T = TypeVar("T")
Status = Literal["finished", "interrupted"]
MAX_SKIPPED = 10
"""Steps in a row whose loss or gradient is not finite before the run gives up."""

_EPOCHS_NEW, _EPOCHS_FINE_TUNE = 100.0, 20.0


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        status: "finished", or "interrupted" by a signal; the same call continues it.
        model: the model file, the best by validation; None before the first validation.
        folder: of the run.
        step: steps taken.
        best: metric of the best validation (the loss without padding terms), None without validation.
        errors: errors at the best validation.
    """

    status: Status
    model: Path | None
    folder: Path
    step: int
    best: float | None
    errors: dict[str, float]


class _Work(NamedTuple):
    """One step of this process: its batches and what the whole step holds."""

    batches: list[Batch]
    counts: Tensor
    frames: list[NDArray[np.int64]]
    epoch_done: bool


Notify = Callable[[dict[str, Any]], None]


def train(config: TrainConfig, *, notify: Notify | None = None, restart: bool = False) -> TrainResult:
    """Train a model, or continue a run that was stopped, whatever stopped it.

    The run lives in ``config.output``: ``log.jsonl``, ``checkpoint.safetensors``, ``model.dpa4`` and the data in
    flat arrays. The same configuration in the same folder goes on at the last checkpoint, and returns at once if
    the run is finished.

    Args:
        config: what to train on what.
        notify: called with every record of the log, for a display.
        restart: forget an earlier run in the folder.

    Raises:
        DPA4Error: a configuration, data or model that cannot work; a folder that holds another run.
    """
    processes = join(config.run.device)
    if processes.device.type == "cpu":
        keep_freed_memory()
    trainer = None
    try:
        trainer = Trainer(config, processes, notify or (lambda record: None), restart=restart)
        return trainer.run()
    finally:
        if trainer is not None:
            trainer.log.path = None
        processes.close()


class Trainer:
    """A run between two checkpoints; use `train`."""

    def __init__(self, config: TrainConfig, processes: Processes, notify: Notify, *, restart: bool = False) -> None:
        self.config, self.processes, self.notify = config, processes, notify
        self.clock = Clock(
            60 * config.run.max_time, 60 * config.run.save_minutes
        )  # reading the data takes time as well
        self.folder = Path(config.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint = self.folder / CHECKPOINT
        self.model_path = self.folder / "model.dpa4"
        self.log = RunLog(self.folder / "log.jsonl" if processes.is_first else None)
        stored = self._stored() if checkpoint.exists(self.checkpoint) and not restart else None
        if stored is not None:
            check_same(config, stored.values["config"], self.folder)
        if processes.device.type == "cuda":
            torch.set_float32_matmul_precision("high" if config.run.tf32 else "highest")

        cutoff = stored.values["cutoff"] if stored is not None else networks.cutoff_of(config)
        self.data = self._prepare(cutoff, stored.values["data"] if stored is not None else None)
        if stored is not None and stored.values["data"] != self.data.store.key:
            raise DPA4Error(
                f"the training data changed since the run in {self.folder} began; train into another folder with "
                f"base = '{self.model_path}', or start again with --restart"
            )
        if stored is not None:
            self.data = with_split(self.data, stored.tensors["data/validation"].numpy())
        self.network = self._network(stored)
        networks.move_replay(self.data, self.network)
        module = self.network.module.to(processes.device)
        self.module = module
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        backbone = self.network.backbone
        self.optimizer = HybridMuon(
            parameter_groups(module.named_parameters(), lambda name: official(name, backbone.config)), config.optimizer
        )
        self.ema = EMA(module.named_parameters(), config.run.ema) if config.run.ema else None
        store = self.data.store
        n_parts = processes.size * config.batch.accumulate
        if stored is not None and stored.values["budget"]["parts"] != n_parts:
            raise DPA4Error(
                f"the run in {self.folder} takes {stored.values['budget']['parts']} batches per step, now it would be "
                f"{n_parts} ({processes.size} processes × batch.accumulate = {config.batch.accumulate}); start as many "
                "processes as before"
            )
        budget = choose_budget(
            config, self.data, backbone.config, processes.device, n_parts, stored.values["budget"] if stored else None
        )
        # free memory differs between processes, the plan of the steps must not
        atoms, edges = processes.of_first([budget.atoms, budget.edges])
        self.budget = dataclasses.replace(budget, atoms=int(atoms), edges=int(edges))
        if config.batch.oversize == "drop":
            self.data = self._without_oversized(self.data)
        compiled = config.run.compile
        everything = np.concatenate([self.data.train, self.data.validation, self.data.replay])
        padding = padding_for(store, everything, self.budget) if compiled else None
        self.maker = BatchMaker(
            store,
            backbone.config,
            DTYPES[config.run.dtype],
            padding=padding,
            cache_gib=config.batch.cache_gib,
            target=config.property is not None,
        )
        kind = PropertyStep if config.property is not None else Step
        mixed = config.run.mixed_precision == "bf16"
        self.step_function = kind(module, config.loss, compiled=compiled, mixed_precision=mixed)
        self._restore(stored)

    # ---- beginning

    def _stored(self) -> TrainState:
        """The state to go on from; where the last one is damaged, the one before it, and that is said."""
        state, path, why = checkpoint.latest_state(self.checkpoint)
        checkpoint.check_state(state, path)
        if why:
            self.notify({"kind": "damaged", "why": why, "step": state.values["step"]})
        return state

    def _prepare(self, cutoff: float, known_key: str | None) -> Dataset:
        """The data: the first process reads them, the others wait and open what it wrote."""
        place = self.folder / STORE
        data = None
        if self.processes.is_first:
            told = lambda n: self.notify({"kind": "reading", "frames": n})  # noqa: E731
            data = prepare(self.config, place, cutoff, told, known_key)
        self.processes.wait()
        return data or prepare(self.config, place, cutoff, known_key=known_key)

    def _without_oversized(self, data: Dataset) -> Dataset:
        """The data without training and replay frames above the budget, which are listed."""
        kept: list[NDArray[np.int64]] = []
        left_out = list(data.left_out)
        for frames in (data.train, data.replay):
            fits = within_budget(data, self.budget, frames)
            kept.append(frames[fits])
            left_out += [
                (data.store.names[int(i)], f"{data.store.names[int(i)]}: larger than a batch") for i in frames[~fits]
            ]
        if not len(kept[0]):
            raise DPA4Error(
                f"every training frame is larger than a batch ({self.budget.atoms} atoms, {self.budget.edges} edges); "
                "raise batch.max_atoms and batch.max_edges or set batch.oversize to 'alone'"
            )
        return dataclasses.replace(data, train=kept[0], replay=kept[1], left_out=left_out)

    def _network(self, stored: TrainState | None) -> networks.Network:
        if stored is None:
            return networks.start(
                self.config,
                self.data,
                self.processes.device,
                lambda done, total: self.notify({"kind": "comparing", "frames": done, "of": total}),
            )
        values = stored.values
        where = str(self.checkpoint)
        info = build(ModelInfo, values["info"], f"{where}, info")
        backbone = DPA4(build(DPA4Config, values["network"], where), DTYPES[self.config.run.dtype])
        head = build(PropertyConfig, values["head"], f"{where}, head") if values["head"] else None
        module = networks.restore(backbone, dataclasses.replace(self.config, property=head))
        load_exactly(module, part("model", stored.tensors), self.checkpoint)
        return networks.Network(module, info, dict(values["notes"]), list(values["shift"]))

    def _restore(self, stored: TrainState | None) -> None:
        """The rest of the state: from the checkpoint, or as it is before the first step."""
        self.skipped_in_row = 0
        self.epilogue_due = True
        self.sums = torch.zeros(len(SUMS) + 4, dtype=torch.float64, device=self.processes.device)
        self.meter: dict[str, float] = {}
        if stored is None:
            self.step = self.epoch = self.steps_in_epoch = self.bad_validations = self.n_skipped = 0
            self.seconds, self.best, self.best_errors = 0.0, None, {}
            self.schedule = Schedule(self.config.schedule, self._planned_steps())
            self.processes.wait()
            if self.processes.is_first:  # data and configuration are sound: nothing of an earlier run is needed
                checkpoint.forget(self.checkpoint)
                self.model_path.unlink(missing_ok=True)
            self.log.cut(-1)  # what a run without a checkpoint left behind
            self._record("start", **self._about())
            if self.config.base is not None and self.config.property is None:
                self._validate()  # what the base model knows already
            return
        values = stored.values
        self.step, self.epoch, self.steps_in_epoch = values["step"], values["epoch"], values["steps_in_epoch"]
        self.bad_validations, self.n_skipped = values["bad_validations"], values["n_skipped"]
        self.seconds, self.best, self.best_errors = values["seconds"], values["best"], values["best_errors"]
        self.clock.add(self.seconds)
        self.schedule = Schedule.from_state(self.config.schedule, values["schedule"])
        self.optimizer.load_state_tensors(part("optimizer", stored.tensors))
        if self.ema is not None:
            self.ema.load_state_tensors(part("ema", stored.tensors))
        self.sums = stored.tensors["log/sums"].to(self.processes.device) / self.processes.size
        self.meter = dict(values["meter"])
        self.log.cut(self.step)
        self.epilogue_due = not self.log.holds("end")
        if self.step < self.schedule.end:
            self.notify({"kind": "resume", "step": self.step, "end": self.schedule.end})

    def _planned_steps(self) -> int:
        run = self.config.run
        if run.steps:
            return run.steps
        epochs = run.epochs or (_EPOCHS_NEW if self.config.base is None else _EPOCHS_FINE_TUNE)
        frames = self._frames_of(0)
        n_atoms, n_edges = (self.data.store.arrays[name][frames] for name in ("n_atoms", "n_edges"))
        return max(1, math.ceil(epochs * steps_per_epoch(n_atoms, n_edges, self.budget, run.seed)))

    def _about(self) -> dict[str, Any]:
        data, store = self.data, self.data.store
        return {
            "config": self.config.to_dict(),
            "network": self.network.backbone.config.to_dict(),
            "n_parameters": sum(p.numel() for p in self.module.parameters()),
            "n_trained": sum(p.numel() for p in self.parameters),
            "notes": self.network.notes,
            "doubts": self.network.doubts,
            "end": self.schedule.end,
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
                "torch": torch.__version__,
                "python": platform.python_version(),
                "device": str(self.processes.device),
                "processes": self.processes.size,
                "threads": torch.get_num_threads(),
            },
        }

    # ---- the loop

    def run(self) -> TrainResult:
        """Steps until the schedule ends or a signal comes."""
        run = self.config.run
        clock = self.clock
        with stop_signals() as stop:
            work = self._work()
            waiting = time.perf_counter()
            while self.step < self.schedule.end:
                item = next(work)
                self._count(wait=time.perf_counter() - waiting)
                started = time.perf_counter()
                decay = clock.steps_left() if self._decay_is_due(clock) else 0
                asked = [float(stop.is_set()), float(clock.save_is_due()), float(decay), float(clock.is_over())]
                stopping, saving, decay_steps, ending = self._take(
                    item, asked if self.processes.is_first else [0.0] * 4
                )
                waiting = time.perf_counter()
                self._count(busy=waiting - started)
                self.step += 1
                self.steps_in_epoch = 0 if item.epoch_done else self.steps_in_epoch + 1
                self.epoch += item.epoch_done
                self.seconds = clock.tick()
                if ending:
                    self.schedule.start_decay(self.step - 1, 1)
                    self._record("decay", step=self.step, end=self.step, why="the time is over")
                elif decay_steps:
                    self._start_decay("the time limit", int(decay_steps))
                at_end = self.step >= self.schedule.end
                if at_end or self.step % run.log_every == 0:
                    self._log_train()
                validating = at_end or self.step % self._validate_every() == 0
                if validating:
                    self._validate()
                if validating or stopping or saving or (run.save_every and self.step % run.save_every == 0):
                    self.save()
                    clock.saved()
                if stopping and not at_end:
                    work.close()
                    return self._result("interrupted")
            work.close()
        if self.epilogue_due:
            self._record(
                "end", step=self.step, seconds=self.seconds, best=self.best, skipped=self.n_skipped, **self.best_errors
            )
        return self._result("finished")

    def _work(self) -> Generator[_Work]:
        """The steps from here on, made ahead in a thread."""
        rank, size, n_own = self.processes.rank, self.processes.size, self.config.batch.accumulate
        seed = self.config.run.seed

        def plans() -> Iterator[tuple[int, list[NDArray[np.int64]], bool]]:
            epoch, skip, step = self.epoch, self.steps_in_epoch, self.step
            while True:
                frames = self._frames_of(epoch)
                arrays = self.data.store.arrays
                steps = plan_epoch(
                    arrays["n_atoms"][frames], arrays["n_edges"][frames], self.budget, seed=seed, epoch=epoch
                )
                for number, (parts, is_last) in enumerate(_marked_last(steps)):
                    if number >= skip:
                        yield step, [frames[chosen] for chosen in parts], is_last
                        step += 1
                epoch, skip = epoch + 1, 0

        def make(plan: tuple[int, list[NDArray[np.int64]], bool]) -> _Work:
            step, parts, last = plan
            counts = sum(self.maker.counts(chosen) for chosen in parts)
            own = parts[rank * n_own : (rank + 1) * n_own]
            batches = [self.maker.make(chosen, (seed, step, rank, i)) for i, chosen in enumerate(own) if len(chosen)]
            return _Work(batches, torch.from_numpy(np.asarray(counts)), parts, last)

        assert size * n_own == self.budget.parts
        yield from ahead(make, plans())

    def _frames_of(self, epoch: int) -> NDArray[np.int64]:
        """The frames of an epoch: all training frames, and a changing draw of the replayed ones."""
        replay, share = self.data.replay, self.config.finetune.replay_fraction
        if not len(replay) or not share:
            return self.data.train
        wanted = round(len(self.data.train) * share / (1 - share))
        random = np.random.default_rng([self.config.run.seed, epoch, 1])
        drawn = random.choice(replay, wanted, replace=wanted > len(replay))
        return np.concatenate([self.data.train, np.sort(drawn)])

    def _take(self, item: _Work, signals: list[float]) -> list[float]:
        """One optimiser step; returns ``signals`` of the first process."""
        device = self.processes.device
        for parameter in self.parameters:
            parameter.grad = None
        counts = item.counts.to(device)
        sums = torch.zeros(len(SUMS) + 1, dtype=torch.float64, device=device)
        for batch in item.batches:
            loss, errors = self.step_function(batch.to(device), counts)
            loss.backward()
            sums += torch.cat([errors, loss.detach().double()[None]])
            self._count(atoms=batch.n_real[0], edges=batch.n_real[1], padded=len(batch.src))
        # a loss that is not finite reaches every process through the sum
        flags = torch.cat([torch.tensor(signals, device=device).double(), 0.0 * sums[-1:]])
        flags = self.processes.sum_gradients(self.parameters, flags)
        norm, finite = clip_gradients(self.parameters, self.config.run.clip)
        # the one place where the step waits for the device
        *answers, broken, size, is_finite = torch.cat([flags.double(), norm[None], finite[None]]).tolist()
        if broken != 0.0 or not is_finite:
            self._skip(item, float(sums[-1]))
        else:
            self.optimizer.set_lr(self.schedule.lr(self.step))
            self.optimizer.step()
            if self.ema is not None:
                self.ema.update(self.module)
            self.skipped_in_row = 0
            self.sums += torch.cat([sums, counts])
            self._count(steps=1, norm=size)
        return answers

    def _skip(self, item: _Work, loss: float) -> None:
        """Leave the weights alone and say which frames were to blame."""
        self.skipped_in_row += 1
        self.n_skipped += 1
        names = [self.data.store.names[int(i)] for chosen in item.frames for i in chosen]
        self._record("skipped", step=self.step + 1, loss=loss, frames=names)
        if self.skipped_in_row >= MAX_SKIPPED:
            raise DPA4Error(
                f"{MAX_SKIPPED} steps in a row had no finite loss or gradient, the last with {', '.join(names[:5])}; "
                f"look at these frames or lower schedule.lr ({self.config.schedule.lr:g})"
            )

    def _decay_is_due(self, clock: Clock) -> bool:
        """Whether the decay must begin now, or become steeper, to end within the time limit."""
        if not clock.share_is_over(1 - self.config.schedule.decay):
            return False
        planned = self.schedule.end - self.step
        slack = 1.1 if self.schedule.shortened else 1.0  # a decay under way is not replanned for every slow step
        return planned > slack * clock.steps_left() + 1

    def _start_decay(self, why: str, n_steps: int | None = None) -> None:
        self.schedule.start_decay(self.step, n_steps)
        self._record("decay", step=self.step, end=self.schedule.end, why=why)

    # ---- validation and files

    def _validate_every(self) -> int:
        return self.config.run.validate_every or max(1, math.ceil(self.schedule.n_steps / 10))

    def _validate(self) -> None:
        if not len(self.data.validation):
            if self.processes.is_first:
                self._write_model(self.best_errors)
            return
        errors, metric = self.errors(self.data.validation)
        improved = math.isfinite(metric) and (self.best is None or metric < self.best)
        values = self._named(errors)
        if improved:
            self.best, self.best_errors, self.bad_validations = metric, values, 0
            if self.processes.is_first:
                self._write_model(values)
        else:
            self.bad_validations += 1
        self._record("validation", step=self.step, metric=metric, improved=improved, **values)
        patience = self.config.run.patience if self.step < self.schedule.end else 0
        if patience and self.bad_validations >= patience and not self.schedule.decaying(self.step):
            self._start_decay(f"no improvement in {patience} validations")

    def errors(self, frames: NDArray[np.int64]) -> tuple[Errors, float]:
        """Errors on ``frames`` with the averaged weights, and the loss that they give, on all processes together."""
        arrays, device = self.data.store.arrays, self.processes.device
        plan = plan_epoch(
            arrays["n_atoms"][frames],
            arrays["n_edges"][frames],
            dataclasses.replace(self.budget, parts=1),
            seed=0,
            epoch=0,
        )
        counts = torch.from_numpy(self.maker.counts(frames)).to(device)
        totals = torch.zeros(len(SUMS) + 1, dtype=torch.float64, device=device)
        own = (step[0] for number, step in enumerate(plan) if number % self.processes.size == self.processes.rank)
        with self.ema.swapped(self.module) if self.ema is not None else nullcontext():
            for batch in ahead(lambda chosen: self.maker.make(frames[chosen]), own):
                loss, sums = self.step_function.evaluate(batch.to(device), counts)
                totals += torch.cat([sums, loss.detach().double()[None]])
        totals = self.processes.sum(totals)
        return errors_from_sums(totals[:-1], counts), float(totals[-1])

    def _write_model(self, errors: dict[str, float]) -> None:
        """The averaged weights as a model file, adapters folded in."""
        with self.ema.swapped(self.module) if self.ema is not None else nullcontext():
            module = copy.deepcopy(self.module).cpu().requires_grad_(False)
        inner: Any = module.backbone if isinstance(module, PropertyModel) else module
        inner.block_precision = None
        if has_adapters(module):
            merge_adapters(module)
        facts = {key: value for key, value in errors.items() if math.isfinite(value)}
        training = self.network.info.training | {
            "step": self.step,
            "n_frames": len(self.data.train),
            "validation": facts,
            "config": self.config.to_dict(),
        }
        info = dataclasses.replace(self.network.info, training=training)
        if isinstance(module, PropertyModel):
            write_property_model(module, info, self.model_path)
        else:
            write_model(inner, info, self.model_path)

    def save(self) -> None:
        """Write the checkpoint."""
        sums = self.processes.sum(self.sums)
        if not self.processes.is_first:
            return
        tensors = prefixed("model", dict(self.module.state_dict())) | prefixed(
            "optimizer", self.optimizer.state_tensors()
        )
        if self.ema is not None:
            tensors |= prefixed("ema", self.ema.state_tensors())
        module = self.module
        values = {
            "config": self.config.to_dict(),
            "network": self.network.backbone.config.to_dict(),
            "head": dataclasses.asdict(module.config) if isinstance(module, PropertyModel) else None,
            "info": self.network.info.to_dict(),
            "notes": self.network.notes,
            "shift": self.network.shift,
            "cutoff": self.network.backbone.config.cutoff,
            "data": self.data.store.key,
            "budget": dataclasses.asdict(self.budget),
            "schedule": self.schedule.state(),
            "meter": self.meter,
        }
        for name in (
            "step",
            "epoch",
            "steps_in_epoch",
            "bad_validations",
            "n_skipped",
            "seconds",
            "best",
            "best_errors",
        ):
            values[name] = getattr(self, name)
        tensors |= {"log/sums": sums, "data/validation": torch.from_numpy(self.data.validation)}
        write_state(TrainState(values, tensors), self.checkpoint)

    def _result(self, status: Status) -> TrainResult:
        model = self.model_path if self.model_path.exists() else None
        return TrainResult(status, model, self.folder, self.step, self.best, dict(self.best_errors))

    # ---- records

    def _named(self, errors: Errors) -> dict[str, float]:
        """Errors for the log; a property has its own unit and no derivatives."""
        if self.config.property is not None:
            return {"property_mae": errors.energy_mae, "property_rmse": errors.energy_rmse}
        return errors._asdict()

    def _count(self, **values: float) -> None:
        for name, value in values.items():
            self.meter[name] = self.meter.get(name, 0.0) + value

    def _log_train(self) -> None:
        totals = self.processes.sum(self.sums).cpu()
        n = len(SUMS)
        # every process counted the labels of the whole step
        errors = errors_from_sums(totals[:n], totals[n + 1 :] / self.processes.size)
        meter, self.meter = self.meter, {}
        self.sums = torch.zeros_like(self.sums)
        steps, seconds = max(meter.get("steps", 0.0), 1.0), meter.get("wait", 0.0) + meter.get("busy", 0.0)
        self._record(
            "train",
            step=self.step,
            epoch=self.epoch,
            lr=self.schedule.lr(self.step - 1),
            loss=float(totals[n]) / steps,
            **self._named(errors),
            gradient_norm=meter.get("norm", 0.0) / steps,
            damping=float(self.optimizer.mean_damping()),
            skipped=self.n_skipped,
            end=self.schedule.end,
            timing={
                "steps_per_s": meter.get("steps", 0.0) / max(seconds, 1e-9),
                "atoms_per_s": meter.get("atoms", 0.0) / max(seconds, 1e-9),
                "edges_per_s": meter.get("edges", 0.0) / max(seconds, 1e-9),
                "wait_fraction": meter.get("wait", 0.0) / max(seconds, 1e-9),
                "padding_fraction": 1 - meter.get("edges", 0.0) / max(meter.get("padded", 0.0), 1.0),
                "memory_gib": _peak_memory_gib(self.processes.device),
                "seconds": self.seconds,
            },
        )

    def _record(self, kind: str, **values: Any) -> None:
        self.notify(self.log.write(kind, **values))


def _marked_last(items: Iterator[T]) -> Iterator[tuple[T, bool]]:
    """Each item, and whether it is the last one."""
    current = next(items)
    for following in items:
        yield current, False
        current = following
    yield current, True


def _peak_memory_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

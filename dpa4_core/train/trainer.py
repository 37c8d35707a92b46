"""The training loop: steps, validation, checkpoints, the end."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dpa4_core.errors import DPA4Error
from dpa4_core.memory import keep_freed_memory
from dpa4_core.model.property import PropertyModel
from dpa4_core.potential import DTYPES, known_elements
from dpa4_core.strict import build
from dpa4_core.train import checkpoint
from dpa4_core.train.begin import MODEL, Beginning, Notify, begin
from dpa4_core.train.budget import padding_for
from dpa4_core.train.change import Change
from dpa4_core.train.checkpoint import CHECKPOINT, TrainState, part, prefixed, write_state
from dpa4_core.train.clip import clip_gradients
from dpa4_core.train.clock import Clock, stop_signals
from dpa4_core.train.committee import join_members
from dpa4_core.train.config import TrainConfig
from dpa4_core.train.counters import Counters
from dpa4_core.train.distributed import Processes, is_first_process, join
from dpa4_core.train.ema import EMA
from dpa4_core.train.export import write_trained
from dpa4_core.train.feed import Work, feed, planned_steps
from dpa4_core.train.forgetting import TOLERABLE
from dpa4_core.train.judge import Judge
from dpa4_core.train.loader import BatchMaker
from dpa4_core.train.log import RunLog
from dpa4_core.train.loss import SUMS, Errors
from dpa4_core.train.meter import Meter
from dpa4_core.train.network import frames_of_level, sample_frames
from dpa4_core.train.optimizer import HybridMuon, parameter_groups
from dpa4_core.train.others import Moved, Others
from dpa4_core.train.probe import Trials
from dpa4_core.train.rehearsal import Estimate, Rehearsal
from dpa4_core.train.routing import official
from dpa4_core.train.schedule import Schedule
from dpa4_core.train.standing import OTHERS, standing, worth_less_forgetting
from dpa4_core.train.step import PropertyStep, Step
from dpa4_core.train.store import STORE, share_store
from dpa4_core.version import code_version

Status = Literal["finished", "interrupted"]
_VALIDATIONS = 10
"""Of a run that does not say how often: they take a small share of its time, and the best is not missed."""

_HALVINGS = 3
"""Of what a run changed, where it ended worse than its base: to an eighth."""

_TIME_BACK = 0.1
"""Of the time limit, that is kept for bringing other crystals back at the end, once they changed too much."""

_TURNS = 2
"""Of these: the first takes back somewhat more than half."""

_STAY_FRAMES, _STAY_ATOMS = 12, 600
"""Training frames whose energies, forces and stresses stay as they are then."""

_LEVEL_ATOMS = 1000
"""Atoms in the training frames by which the level of the energies is found, energies only: seconds on a CPU."""

_LEVEL_RATE = 0.3
"""Of the mean error of a batch, that the offsets follow: a single batch is not sure of it."""

MAX_SKIPPED = 10
"""Steps in a row whose loss or gradient is not finite before the run gives up."""


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        status: "finished", or "interrupted" by a signal; the same call continues it.
        model: the model file, the best by validation; None before the first validation.
        folder: of the run.
        step: steps taken.
        best: metric of the best validation, None without: the loss, or for a fine-tune the errors as a fraction of the
            base's, see `dpa4_core.train.standing.Standing.score`.
        errors: errors at the best validation.
    """

    status: Status
    model: Path | None
    folder: Path
    step: int
    best: float | None
    errors: dict[str, float]


def train(config: TrainConfig, *, notify: Notify | None = None, restart: bool = False) -> TrainResult:
    """Train a model, or continue a run that was stopped, whatever stopped it; of a committee all members, see
    `train_members`.

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
    if config.committee.is_whole:
        return train_members(config, train, notify=notify, restart=restart)
    processes = join(config.run.device)
    if processes.device.type == "cpu":
        keep_freed_memory()
    trainer, precision = None, torch.get_float32_matmul_precision()
    try:
        trainer = Trainer(config, processes, notify or (lambda record: None), restart=restart)
        return trainer.run()
    finally:
        if trainer is not None:
            trainer.log.path = None
        torch.set_float32_matmul_precision(precision)  # what comes after in this process is no training
        processes.close()


def train_members(
    config: TrainConfig,
    train_one: Callable[..., TrainResult],
    *,
    notify: Notify | None = None,
    restart: bool = False,
) -> TrainResult:
    """Train the members of a committee one after the other, each in a folder of its own, and join their models.

    A run that was stopped goes on with the member that it was at; members that are finished are not trained again.

    Args:
        config: of the whole committee.
        train_one: `train`, or a function like it.
        notify: called with every record of every log, and with one of the kind "member" before each.
        restart: forget earlier runs.

    Returns:
        Steps of all members, and errors of the committee.

    Raises:
        DPA4Error: what `train` raises.
    """
    heard = notify or (lambda record: None)
    runs, n_steps = config.members(), 0
    for k, member in enumerate(runs, start=1):
        heard({"kind": "member", "member": k, "of": len(runs), "folder": member.output})
        if k > 1 and is_first_process():  # the others wait for it before they open the store
            share_store(Path(runs[0].output) / STORE, Path(member.output) / STORE)
        result = train_one(member, notify=notify, restart=restart)
        n_steps += result.step
        if result.status != "finished":
            return dataclasses.replace(result, folder=Path(config.output), step=n_steps, model=None)
    processes, errors = join(config.run.device), {}
    try:
        if processes.is_first:
            told = lambda text: heard({"kind": "measuring", "text": text})  # noqa: E731
            folders = [Path(member.output) for member in runs]
            errors = join_members(config, folders, device=str(processes.device), notify=told)
        processes.wait()
    finally:
        processes.close()
    folder = Path(config.output)
    return TrainResult("finished", folder / MODEL, folder, n_steps, None, errors)


class Trainer:
    """A run between two checkpoints; use `train`."""

    def __init__(
        self,
        config: TrainConfig,
        processes: Processes,
        notify: Notify,
        *,
        restart: bool = False,
        now: Callable[[], float] | None = None,
    ) -> None:
        self.config, self.processes, self.notify = config, processes, notify
        # reading the data takes time as well
        self.clock = Clock(60 * config.run.max_time, 60 * config.run.save_minutes, now)
        self.folder = Path(config.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint, self.model_path = self.folder / CHECKPOINT, self.folder / MODEL
        self.log = RunLog(self.folder / "log.jsonl" if processes.is_first else None)
        beginning = begin(config, processes, notify, restart=restart)
        if processes.device.type == "cuda":  # of the steps: what is said of a base is said before
            torch.set_float32_matmul_precision("high" if config.run.tf32 else "highest")
        self.data, self.network, self.budget = beginning.data, beginning.network, beginning.budget
        backbone, module = self.network.backbone, self.network.module
        self.module = module
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.optimizer = self._new_optimizer()
        self.ema = EMA(module.named_parameters(), config.run.ema) if config.run.ema else None
        compiled = config.run.compile
        everything = np.concatenate([self.data.train, self.data.validation, self.data.replay])
        padding = padding_for(self.data.store, everything, self.budget) if compiled else None
        self.maker = BatchMaker(
            self.data.store,
            backbone.config,
            DTYPES[config.run.dtype],
            padding=padding,
            cache_gib=config.batch.cache_gib,
            target=config.property is not None,
        )
        kind = PropertyStep if config.property is not None else Step
        mixed = config.run.mixed_precision == "bf16"
        self.step_function = kind(module, config.loss, compiled=compiled, mixed_precision=mixed)
        self.judge = Judge(self.maker, self.step_function, self.budget, processes)
        work = partial(feed, config, self.data, self.budget, self.maker, processes, Counters())
        self._rehearsal = Rehearsal(
            config, self.data, work, self.step_function, self.judge, self.parameters, self._new_optimizer
        )
        self.meter = Meter(processes.device)
        self.counters, self.epilogue_due, self._level = Counters(), True, 0.0
        self.others: Others | None = None
        self._moved: Moved | None = None
        self._forgotten = self._inspection_s = 0.0
        self._change, self._share = Change(module) if self._from_base else None, 1.0
        if beginning.stored is None:
            self._start(beginning)
        else:
            self._resume(beginning.stored)

    def _others(self, before: Sequence[float] | None = None, products: torch.Tensor | None = None) -> Others | None:
        """Crystals that hold the run to what the base says about them; what is known of them, of a stored run."""
        if not (self._levels and self.processes.is_first):
            return None
        backbone, info = self.network.backbone, self.network.info
        known = known_elements(backbone.config, info)
        return Others(backbone, known, self.data.trained, before, products)

    def _new_optimizer(self) -> HybridMuon:
        network = self.network.backbone.config
        groups = parameter_groups(self.module.named_parameters(), lambda name: official(name, network))
        return HybridMuon(groups, self.config.optimizer)

    def _start(self, beginning: Beginning) -> None:
        """Before the first step: data and configuration are sound, so nothing of an earlier run is needed."""
        self.others = self._others()
        found = self._find_rate() if self._from_base else None
        about = beginning.about(self.config, self.processes.device, self.processes.size) | {"learning_rate": found}
        self.schedule = Schedule(self.config.schedule, planned_steps(self.config, self.data, self.budget))
        if self.config.finetune.max_forgetting and not len(self.data.validation):
            raise DPA4Error(
                "finetune.max_forgetting chooses among validations, and no frames are set aside for one; give "
                "--validation FILE or raise data.validation_fraction"
            )
        if len(self.data.validation) and not self.judge.weighs(self.data.validation):
            raise DPA4Error(
                f"none of the {len(self.data.validation)} validation frames has a label that the loss weighs, so none "
                "could tell a better model; give such frames, or train without (data.validation_fraction = 0)"
            )
        self.processes.wait()
        if self.processes.is_first:
            checkpoint.forget(self.checkpoint)
            self.model_path.unlink(missing_ok=True)
        self.log.cut(-1)  # what a run without a checkpoint left behind
        self._record("start", **about, end=self.schedule.end)
        if self._from_base:
            self._inspect()  # what the base model knows already

    def _find_rate(self) -> dict[str, Any] | None:
        """Settle the learning rate by trial steps of the first process, and say what they did."""
        given, rate, probe = self.config.schedule.lr, 0.0, None
        if self.processes.is_first:
            trials = self.trials()
            probe = trials.find(self.config.recipe().lr) if given is None else trials.look(given)
            rate = probe.rate
            self.network.notes["learning rate"] = probe.sentence()
            if given is not None and probe.limited_by:
                self.network.doubts.append({"quantity": probe.limited_by, "code": "rate", "text": probe.doubt()})
        if given is None:
            self.config = self.config.with_rate(self.processes.of_first([rate])[0])
        return None if probe is None else dataclasses.asdict(probe)

    def trials(self) -> Trials:
        """Steps of any learning rate from the present weights."""
        return self._rehearsal.trials()

    def estimate(self) -> Estimate:
        """How long the run will take on this machine as busy as it is now."""
        if not self.clock.reserve and len(self.data.validation):
            began = self.clock.now()
            self.errors(self.data.validation)
            self.clock.reserve = self.clock.now() - began
        every = self.config.run.validate_every or self.schedule.end / _VALIDATIONS
        step_s = self._rehearsal.seconds_per_step()
        return Estimate.of(step_s, self.clock.reserve, self.schedule.end, every, self.clock.limit)

    def _resume(self, stored: TrainState) -> None:
        """The rest of the state, from the checkpoint."""
        values = stored.values
        if self.config.schedule.lr is None:
            self.config = self.config.with_rate(values["config"]["schedule"]["lr"])
        if values.get("others") is not None:
            self.others = self._others(values["others"], stored.tensors.get("others/products"))
        self.counters = build(Counters, values["counters"], str(self.checkpoint))
        self.clock.add(self.counters.seconds)
        self.schedule = Schedule.from_state(self.config.schedule, values["schedule"])
        self.optimizer.load_state_tensors(part("optimizer", stored.tensors))
        if self.ema is not None:
            self.ema.load_state_tensors(part("ema", stored.tensors))
        if self._change is not None:
            first = part("start", stored.tensors)  # older versions stored none
            self._change = self._change.begun_at(first) if first else None
        self.meter.restore(values["meter"], stored.tensors["log/sums"] / self.processes.size)
        self.log.cut(self.counters.step)
        self.epilogue_due = not self.log.holds("end")
        if self._place < self.schedule.end:
            self.notify({"kind": "resume", "step": self.counters.step, "end": self._last_step()})

    @property
    def _from_base(self) -> bool:
        """Whether there is a base that answers what is trained."""
        return self.config.base is not None and self.config.property is None

    # ---- the loop

    @property
    def _place(self) -> float:
        """On the course of the learning rate."""
        return self.schedule.place(self.counters.step, self.counters.share)

    def run(self) -> TrainResult:
        """Steps until the schedule ends, by steps or by time, or a signal comes."""
        run, clock = self.config.run, self.clock
        if self.others is not None and not self.counters.step:
            self.others.prepare()
        clock.start(self.counters.share)
        with stop_signals() as stop:
            work = feed(self.config, self.data, self.budget, self.maker, self.processes, self.counters)
            waiting = time.perf_counter()
            while self._place < self.schedule.end:
                item, before = next(work), self._place
                self.meter.count(wait=time.perf_counter() - waiting)
                started = time.perf_counter()
                asked = [float(stop.is_set()), float(clock.save_is_due()), clock.share()]
                stopping, saving, share = self._take(item, asked if self.processes.is_first else [0.0] * 3)
                waiting = time.perf_counter()
                self.meter.count(busy=waiting - started)
                self.counters = self.counters.advanced(epoch_done=item.epoch_done, seconds=clock.tick(), share=share)
                at_end = self._place >= self.schedule.end
                falls = self.schedule.decaying(self._place) and not self.schedule.decaying(before)
                if falls and self._place > self.counters.step:
                    self._record("decay", step=self.counters.step, end=self._last_step(), why="the time limit")
                if at_end or self.counters.step % run.log_every == 0:
                    self._log_train()
                validating = at_end or self._validation_is_due(before)
                if validating:
                    worse = self._inspect()
                    if at_end:
                        self._finish(worse)
                if validating or stopping or saving or (run.save_every and self.counters.step % run.save_every == 0):
                    self.save()
                    clock.saved()
                if stopping and not at_end:
                    work.close()
                    return self._result("interrupted")
            work.close()
        now = self.counters
        if self.epilogue_due:
            self._record(
                "end", step=now.step, seconds=now.seconds, best=now.best, skipped=now.n_skipped, **now.best_errors
            )
        return self._result("finished")

    def _take(self, item: Work, signals: list[float]) -> list[float]:
        """One optimiser step; returns ``signals`` of the first process."""
        device = self.processes.device
        for parameter in self.parameters:
            parameter.grad = None
        counts = item.counts.to(device)
        weighed = counts.clone()
        # fewer frames to divide by are a larger weight, which does not compile the step again
        weighed[0] /= self.step_function.config.energy_factor(self.schedule.fallen(self._place))
        sums = torch.zeros(len(SUMS) + 1, dtype=torch.float64, device=device)
        for batch in item.batches:
            loss, errors = self.step_function.learn(batch.to(device), weighed)
            sums += torch.cat([errors, loss.double()[None]])
            self.meter.count(atoms=batch.n_real[0], edges=batch.n_real[1], padded=len(batch.src))
        # a loss that is not finite reaches every process through the sum
        energy = sums[SUMS.index("energy")]
        flags = torch.cat([torch.tensor(signals, device=device).double(), 0.0 * sums[-1:], energy[None]])
        flags = self.processes.sum_gradients(self.parameters, flags)
        norm, finite = clip_gradients(self.parameters, self.config.run.clip)
        # the one place where the step waits for the device
        *answers, broken, excess, size, is_finite = torch.cat([flags.double(), norm[None], finite[None]]).tolist()
        if broken != 0.0 or not is_finite:
            self._skip(item, float(sums[-1]))
        else:
            self.optimizer.set_lr(self.schedule.lr(self.counters.step, answers[-1]))
            self.optimizer.step()
            if self._levels:
                self._raise(-_LEVEL_RATE * excess / max(float(item.counts[0]), 1.0))
            if self.ema is not None:
                self.ema.update(self.module)
            self.counters = self.counters.stepped(taken=True)
            self.meter.sums += torch.cat([sums, counts])
            self.meter.count(steps=1, norm=size)
        return answers

    def _skip(self, item: Work, loss: float) -> None:
        """Leave the weights alone and say which frames were to blame."""
        self.counters = self.counters.stepped(taken=False)
        names = [self.data.store.names[int(i)] for chosen in item.frames for i in chosen]
        self._record("skipped", step=self.counters.step + 1, loss=loss, frames=names)
        if self.counters.skipped_in_row >= MAX_SKIPPED:
            raise DPA4Error(
                f"{MAX_SKIPPED} steps in a row had no finite loss or gradient, the last with {', '.join(names[:5])}; "
                f"look at these frames or lower schedule.lr ({self.config.schedule.lr:g})"
            )

    def _last_step(self) -> int:
        """The step that the run ends with, as far as is known."""
        step, place = self.counters.step, self._place
        if place >= self.schedule.end:
            return step
        left = math.ceil(self.schedule.end - place)
        in_time = self.clock.steps_left() if self.clock.limit else 0
        return step + (min(left, in_time) if in_time else left)

    # ---- validation and files

    def _validation_is_due(self, before: float) -> bool:
        """After a step that began at the place ``before``: every so many steps, or ten times on the way to the end."""
        if every := self.config.run.validate_every:
            return self.counters.step % every == 0
        tenth = self.schedule.n_steps / _VALIDATIONS
        return int(self._place / tenth) > int(before / tenth)

    def _inspect(self) -> list[str]:
        """Take back what steps did to other crystals, validate, and keep the time that the end will take.

        Returns:
            What is worse than before the first step.
        """
        began = self.clock.now()
        self._take_back()
        worse = self._validate()
        each = self._inspection_s = self.clock.now() - began
        self.clock.reserve = each * (1 + (_HALVINGS if worse else 0))
        if self.clock.limit and self.others is not None and self._forgotten > self._may_forget:
            back = self.others.seconds_at_end(self.parameters, self.clock.now)
            self.clock.reserve += each + min(back, _TIME_BACK * self.clock.limit)
        return worse

    def _finish(self, worse: list[str]) -> None:
        """Mend what the last validation found: other crystals that changed too much, then what is worse."""
        for _ in range(_TURNS):
            before = self._forgotten
            if not (before > self._may_forget and worse in ([], [OTHERS]) and self._come_back()):
                break
            worse = self._validate(before=before)
        if worse:
            self._retreat()

    def _validate(self, before: float | None = None) -> list[str]:
        """Look at the validation frames and keep the weights if they are the best so far.

        Args:
            before: eV/atom, what other crystals had changed by before they were brought back.

        Returns:
            What is worse than before the first step.
        """
        self._find_level()
        self._look()
        if not len(self.data.validation):
            if self.processes.is_first and (before is None or self._forgotten < before):
                self._write_model(self.counters.best_errors)
            return []
        errors, metric = self.errors(self.data.validation)
        values, worse = self._named(errors), []
        if self._from_base and not self.counters.step:
            self.counters = replace(self.counters, base_errors=values)
        if self.counters.base_errors:
            beside = standing(values, self.counters.base_errors)
            metric, worse = beside.score, beside.worse
        improved = not worse and self.counters.improved(metric)
        if not worse and before is not None and self._forgotten < before:
            improved = improved or worth_less_forgetting(metric, self.counters.best)
        limit = self.config.finetune.max_forgetting
        if improved and limit and self._forgotten > limit:
            improved, worse = False, [OTHERS]
        told: dict[str, Any] = dict(values)
        told |= {"forgotten": self._forgotten} if self._forgotten else {}
        told |= {"brought_back": True} if before is not None else {}
        self.counters = self.counters.validated(metric, values, improved=improved)
        if improved and self.processes.is_first:
            self._write_model(values)
        told |= {"worse": worse} if worse else {}
        told |= {"share": self._share} if self._share < 1 else {}
        self._record("validation", step=self.counters.step, metric=metric, improved=improved, **told)
        patience = self.config.run.patience if self._place < self.schedule.end else 0
        if patience and self.counters.bad_validations >= patience and not self.schedule.decaying(self._place):
            self.schedule.start_decay(int(self._place))
            why = f"no improvement in {patience} validations"
            self._record("decay", step=self.counters.step, end=self._last_step(), why=why)
        return worse

    def _retreat(self) -> None:
        """Look for the largest part of what the run changed that makes nothing worse."""
        fine, too_far = 0.0, 1.0
        for _ in range(_HALVINGS if self._change is not None else 0):
            self._share = 0.5 * (fine + too_far)
            fine, too_far = (fine, self._share) if self._validate() else (self._share, too_far)
        self._share = 1.0

    def _take_back(self) -> None:
        """Change the weights such that other crystals come back to what the base says about them."""
        way = None
        if self.others is not None and self.counters.step:
            with self._averaged():
                way = self.others.way_back(self.parameters)
        self._go(way)

    def _come_back(self) -> bool:
        """Change the weights at the end such that very many other crystals come back; whether there was time for it."""
        way = None
        if self.others is not None and self._change is not None:
            needed, share = self.others.seconds_at_end(self.parameters, self.clock.now), 1.0
            if self.clock.limit:
                left = self.clock.limit - self.clock.seconds - self._inspection_s
                share = min(max(left, 0.0) / needed, 1.0) if needed else 0.0
            self.notify({"kind": "measuring", "text": f"a way back for other crystals, {needed * share:.0f} s"})
            store, seed = self.data.store, self.config.run.seed
            chosen = sample_frames(store, self.data.train, _STAY_ATOMS, seed)[:_STAY_FRAMES]
            stay, at_start = [store.system(int(i)) for i in chosen], partial(self._change.part, 0.0)
            with self._averaged():
                way = self.others.way_back_at_end(self.parameters, at_start, stay, share)
        return self._go(way)

    def _go(self, way: Sequence[torch.Tensor] | None) -> bool:
        """Change the weights and their averages by what the first process found; whether it found something."""
        if not self.processes.of_first([float(way is not None)])[0]:
            return False
        back = [self.processes.sum(p) for p in way or [torch.zeros_like(p) for p in self.parameters]]
        torch._foreach_add_([p.detach() for p in self.parameters], back)
        if self.ema is not None:
            torch._foreach_add_(list(self.ema.averages.values()), back)
        return True

    def _look(self) -> None:
        """How other crystals changed, eV/atom in the median once their elements are held."""
        self._moved = None
        if self.others is not None and self.counters.step:
            with self._averaged():
                self._moved = self.others.look()
        (self._forgotten,) = self.processes.of_first([0.0 if self._moved is None else self._moved.unseen])

    @property
    def _may_forget(self) -> float:
        """EV/atom."""
        return self.config.finetune.max_forgetting or TOLERABLE

    def errors(self, frames: NDArray[np.int64]) -> tuple[Errors, float]:
        """Errors on ``frames`` with the averaged weights, and the loss that they give, on all processes together."""
        with self._averaged():
            return self.judge.errors(frames)

    # ---- the level of the energies

    @property
    def _levels(self) -> bool:
        """Whether the offsets follow what steps do to all energies together."""
        return self._from_base and self.config.finetune.offsets == "shift"

    def _raise(self, level: float) -> None:
        """Add ``level``, eV/atom, to the offsets of all elements: also to those that the data do not hold, since steps
        move their energies as well.
        """
        self.network.backbone.out_bias.add_(level)

    @cached_property
    def _level_frames(self) -> NDArray[np.int64]:
        """Training frames that tell the level, as many as are enough."""
        store, told = self.data.store, frames_of_level(self.data)
        return sample_frames(store, told, _LEVEL_ATOMS, self.config.run.seed) if len(told) else told

    def _find_level(self) -> None:
        """The level at which the averaged weights are right about the training frames in the mean."""
        if not (self._levels and self.counters.step and len(self._level_frames)):
            return
        self._level = 0.0
        with self._averaged():
            self._level = self.judge.level(self._level_frames)

    def _write_model(self, errors: dict[str, float]) -> None:
        """The averaged weights as a model file."""
        training = self.network.info.training | {
            "step": self.counters.step,
            "n_frames": len(self.data.train),
            "validation": {key: value for key, value in errors.items() if math.isfinite(value)},
            "config": self.config.to_dict(),
            "code_version": code_version(),
        }
        with self._averaged():
            if self.others is not None and self._moved is not None:
                self.others.hold(self._moved)
            write_trained(self.module, dataclasses.replace(self.network.info, training=training), self.model_path)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Within, the weights are the averaged ones, and the offsets at their level."""
        offsets = self.network.backbone.out_bias
        own = offsets.clone()
        changed = self._change.part(self._share) if self._change is not None else nullcontext()
        with self.ema.swapped(self.module) if self.ema is not None else nullcontext(), changed:
            self._raise(self._level)
            try:
                yield
            finally:
                offsets.copy_(own)

    def save(self) -> None:
        """Write the checkpoint."""
        sums = self.processes.sum(self.meter.sums)
        if not self.processes.is_first:
            return
        tensors = prefixed("model", dict(self.module.state_dict())) | prefixed(
            "optimizer", self.optimizer.state_tensors()
        )
        if self.ema is not None:
            tensors |= prefixed("ema", self.ema.state_tensors())
        if self._change is not None:
            tensors |= prefixed("start", self._change.start)
        if self.others is not None and self.others.products is not None:
            tensors["others/products"] = self.others.products
        module = self.module
        values = {
            "config": self.config.to_dict(),
            "network": self.network.backbone.config.to_dict(),
            "head": dataclasses.asdict(module.config) if isinstance(module, PropertyModel) else None,
            "info": self.network.info.to_dict(),
            "notes": self.network.notes,
            "shift": self.network.shift,
            "others": None if self.others is None else self.others.before,
            "cutoff": self.network.backbone.config.cutoff,
            "data": self.data.store.key,
            "budget": dataclasses.asdict(self.budget),
            "schedule": self.schedule.state(),
            "meter": self.meter.values,
            "counters": dataclasses.asdict(self.counters),
        }
        tensors |= {"log/sums": sums, "data/validation": torch.from_numpy(self.data.validation)}
        write_state(TrainState(values, tensors), self.checkpoint)

    def _result(self, status: Status) -> TrainResult:
        model, now = self.model_path if self.model_path.exists() else None, self.counters
        return TrainResult(status, model, self.folder, now.step, now.best, dict(now.best_errors))

    # ---- records

    def _named(self, errors: Errors) -> dict[str, float]:
        """Errors for the log; a property has its own unit and no derivatives."""
        if self.config.property is not None:
            return {"property_mae": errors.energy_mae, "property_rmse": errors.energy_rmse}
        return errors._asdict()

    def _log_train(self) -> None:
        means, now = self.meter.take(self.processes), self.counters
        self._record(
            "train",
            step=now.step,
            epoch=now.epoch,
            lr=self.optimizer.lr,
            loss=means.loss,
            **self._named(means.errors),
            gradient_norm=means.gradient_norm,
            damping=float(self.optimizer.mean_damping()),
            skipped=now.n_skipped,
            end=self._last_step(),
            timing=means.timing | {"seconds": now.seconds},
        )

    def _record(self, kind: str, **values: Any) -> None:
        self.notify(self.log.write(kind, **values))

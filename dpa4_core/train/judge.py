"""What the network under training says about frames: errors for a validation, values for a trial step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from dpa4_core.train.distributed import Processes
from dpa4_core.train.loader import BatchMaker, ahead
from dpa4_core.train.loss import SUMS, Errors, errors_from_sums
from dpa4_core.train.packing import Budget, plan_epoch
from dpa4_core.train.probe import Answers
from dpa4_core.train.step import Batch, Step

Indices = NDArray[np.int64]


class Judge:
    """Looks at frames with the present weights, on all processes together.

    Args:
        maker: of the batches.
        step: the network and its loss.
        budget: of a batch.
        processes: that share the work.
    """

    def __init__(self, maker: BatchMaker, step: Step, budget: Budget, processes: Processes) -> None:
        self.maker, self.step, self.processes = maker, step, processes
        self.budget = dataclasses.replace(budget, parts=1)

    def weighs(self, frames: Indices) -> bool:
        """Whether the loss says something about ``frames``."""
        config, counts = self.step.config, self.maker.counts(frames)
        weights = (config.property, 0, 0) if self.maker.target else (config.energy, config.forces, config.virial)
        return bool(np.dot(weights, counts))

    def errors(self, frames: Indices) -> tuple[Errors, float]:
        """Errors on ``frames`` and the loss that they give."""
        device = self.processes.device
        counts = torch.from_numpy(self.maker.counts(frames)).to(device)
        totals = torch.zeros(len(SUMS) + 1, dtype=torch.float64, device=device)
        for _, batch in self._batches(frames):
            loss, sums = self.step.evaluate(batch, counts)
            totals += torch.cat([sums, loss.detach().double()[None]])
        totals = self.processes.sum(totals)
        return errors_from_sums(totals[:-1], counts), float(totals[-1])

    def level(self, frames: Indices) -> float:
        """Mean of (label − energy)/N over ``frames``, eV/atom, what all energies have in common; 0 without labels.

        The mean, as in the fit of the offsets: where frames come in a few kinds, a median would side with one of them.
        """
        found = torch.zeros(len(frames), dtype=torch.float64, device=self.processes.device)
        for chosen, batch in self._batches(frames):
            labels = batch.labels
            energy, *_ = self.step.answers(batch, derivatives=False)
            found[torch.from_numpy(chosen)] = ((labels.energy - energy) / labels.n_atoms)[: len(chosen)]
        known = np.isfinite(self.maker.store.arrays["energy"][frames])
        found = self.processes.sum(found)[torch.from_numpy(known)]
        return float(found.mean()) if len(found) else 0.0

    def answers(self, frames: Indices) -> Answers:
        """What the network says about ``frames`` in order, by this process alone; no stress where an axis is open."""
        energies, forces, stresses = [], [], []
        for frame in frames:
            batch = self.maker.make(frame[None]).to(self.processes.device)
            energy, force, virial = self.step.answers(batch)
            n_atoms = batch.n_real[0]
            energies.append(float(energy[0]) / n_atoms)
            forces.append(force[:n_atoms].cpu().numpy().astype(np.float64))
            stress = -0.5 * (virial[0] + virial[0].mT) / batch.labels.volume[0]
            crystal = self.maker.store.arrays["pbc"][frame].all()  # along an open axis there is no volume
            stresses.append(np.where(crystal, stress.cpu().numpy().astype(np.float64), np.nan))
        return Answers(np.array(energies), np.concatenate(forces), np.array(stresses))

    def _batches(self, frames: Indices) -> Iterator[tuple[Indices, Batch]]:
        """Those of this process: positions in ``frames``, and the batch."""
        arrays, own = self.maker.store.arrays, self.processes
        plan = plan_epoch(arrays["n_atoms"][frames], arrays["n_edges"][frames], self.budget, seed=0, epoch=0)
        mine = (step[0] for number, step in enumerate(plan) if number % own.size == own.rank)
        for chosen, batch in ahead(lambda chosen: (chosen, self.maker.make(frames[chosen])), mine):
            yield chosen, batch.to(own.device)

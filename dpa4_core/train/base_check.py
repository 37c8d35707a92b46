"""Whether the labels of a data set mean what a base model computes for the same structures.

A published model is wrong by per cents in forces and stresses and by an offset per element in energies; another unit
or sign is wrong by far more, so that a handful of frames tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpa4_core.batches import Prediction
from dpa4_core.data.frame import Frame
from dpa4_core.data.label_units import ENERGY_UNITS, FORCE_UNITS, STRESS_UNITS, Guess, Hypothesis, guess, hypotheses

MIN_FORCE, MIN_STRESS, MIN_ENERGY = 0.05, 0.003, 0.002
"""Root mean squares of what the base model says, eV/Å, eV/Å³ and eV/atom, below which nothing is concluded."""

MIN_FRAMES = 6
"""Frames whose energies differ by more than their composition says."""

Array = NDArray[np.float64]


def compare(frames: Sequence[Frame], predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Doubts about the labels of ``frames``: ``quantity``, ``code``, ``unit``, ``factor`` and a ``text`` each."""
    pairs = [(f, p) for f, p in zip(frames, predictions, strict=True) if p.error is None]
    found = []
    for quantity, judge in (("forces", _forces), ("stresses", _stresses), ("energies", _energies)):
        verdict = judge(pairs)
        if verdict is not None:
            text = (
                f"the {quantity} {verdict.sentence}, when they are compared with what the base model says about "
                f"{len(pairs)} of the structures; expected are eV, eV/Å and eV/Å³, stress positive under tension"
            )
            found.append(
                {
                    "quantity": quantity,
                    "code": verdict.code,
                    "unit": verdict.unit,
                    "factor": verdict.factor,
                    "text": text,
                }
            )
    return found


def _forces(pairs: Sequence[tuple[Frame, Prediction]]) -> Guess | None:
    both = [(f.forces.ravel(), p.forces.ravel()) for f, p in pairs if f.forces is not None and p.forces is not None]
    if not both:
        return None
    labels, expected = (np.concatenate(part) for part in zip(*both, strict=True))
    if _rms(expected) < MIN_FORCE:
        return None
    return guess(labels, expected, hypotheses(FORCE_UNITS, len(labels), "gradients of the energy, say"))


def _stresses(pairs: Sequence[tuple[Frame, Prediction]]) -> Guess | None:
    both = [
        (f.stress.ravel(), p.stress.ravel(), np.full(9, abs(float(np.linalg.det(f.system.cell)))))
        for f, p in pairs
        if f.stress is not None and p.stress is not None and np.isfinite(p.stress).all()
    ]
    if not both:
        return None
    labels, expected, volumes = (np.concatenate(part) for part in zip(*both, strict=True))
    if _rms(expected) < MIN_STRESS:
        return None
    others = hypotheses(STRESS_UNITS, len(labels), "positive under compression, as VASP writes them")
    for sign in (-1.0, 1.0):
        others.append(Hypothesis("virial", "eV", sign * volumes, "look like virials in eV, not yet divided by volume"))
    return guess(labels, expected, others)


def _energies(pairs: Sequence[tuple[Frame, Prediction]]) -> Guess | None:
    labelled = [(f, p) for f, p in pairs if f.energy is not None]
    if len(labelled) < MIN_FRAMES:
        return None
    n_atoms = np.array([f.system.n_atoms for f, _ in labelled], dtype=np.float64)
    labels = np.array([f.energy for f, _ in labelled], dtype=np.float64) / n_atoms
    expected = np.array([p.energy for _, p in labelled]) / n_atoms
    species = np.unique(np.concatenate([f.system.numbers for f, _ in labelled]))
    fractions = np.array([[(f.system.numbers == z).mean() for z in species] for f, _ in labelled])
    rank = int(np.linalg.matrix_rank(fractions))
    if len(labelled) < rank + MIN_FRAMES - 1:
        return None
    left = expected - fractions @ np.linalg.lstsq(fractions, expected, rcond=None)[0]
    if _rms(left) < MIN_ENERGY:
        return None
    others = hypotheses(ENERGY_UNITS, len(labels), "")
    if n_atoms.min() > 1:
        others.append(Hypothesis("per_atom", "", 1 / n_atoms, "are stored per atom, not in total"))
    return guess(labels, expected, others, free=fractions)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))

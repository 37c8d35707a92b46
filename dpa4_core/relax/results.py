"""What a relaxation, a band or a trajectory hands back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from dpa4_core.relax.dynamics import Frame, Phase
from dpa4_core.uncertainty import Uncertain
from dpa4_core.verdicts import ErrorCode, Minimum


class RelaxStep(NamedTuple):
    """One force call of a relaxation.

    Attributes:
        energy: eV.
        fmax: eV/Å.
        volume: Å³; NaN without periodicity.

    """

    energy: float
    fmax: float
    volume: float


class Verdict(NamedTuple):
    """How a relaxation ended: "converged", "max_steps" or the sentence of a failure and its code."""

    reason: str
    converged: bool
    code: ErrorCode | None = None

    @property
    def failed(self) -> bool:
        return self.code is not None

    @classmethod
    def failure(cls, sentence: str, code: ErrorCode) -> Verdict:
        return cls(sentence, converged=False, code=code)


@dataclass(frozen=True)
class RelaxResult(Uncertain):
    """One relaxed structure, or what became of it.

    ``structure``, ``energy``, ``forces``, ``stress`` and ``fmax`` belong together: the last step of a
    converged relaxation, and of any other the step of lowest enthalpy. They are the input and NaN or None if
    nothing could be computed. A committee relaxes on the mean of its members; their deviations are those at the end.

    Attributes:
        structure: of the type that came in.
        energy: eV, without the pressure term.
        forces: [n, 3] eV/Å, as the potential gives them, also on fixed coordinates.
        stress: [3, 3] eV/Å³, positive under tension, without the external pressure; None without periodicity, or where
            the potential has none.
        converged: whether ``fmax`` came below the threshold.
        n_steps: optimiser steps that were made.
        fmax: eV/Å, largest force on an atom that may move or on a row of the cell (in the scale of the cell
            filter).
        reason: "converged", "max_steps", or the sentence of ``error``.
        error: why the relaxation failed, in one sentence; None if it did not, also when it ran out of steps.
        error_code: the same for logic, which never reads sentences.
        trajectory: one record for every force call, if asked for.
        n_force_calls: force calls that were made, also those of a start that ran out of memory.
        volume_change: relative change of the volume of the cell; NaN without periodicity.
        flags: what deserves a look, also in a converged structure: "dissociated" (more pieces than before, or pieces
            that are endless in fewer directions), "close_contact" (atoms nearer than 0.65 of the sum of their
            covalent radii), "large_volume_change" (by more than a factor of 1.5), "saddle" (see ``minimum``),
            "vacuum_kept" (a lattice vector across a gap of more than 8 Å did not relax). `FLAG_SENTENCES` has a
            sentence for each.
        minimum: "verified": no way down was found around it, and hardly any can be hidden. "likely": none was found, by
            a search that looked at less. "saddle": there is one, which the relaxation did not go, since the symmetry is
            kept or it was out of steps, or which led nowhere. "not_checked": not asked for, or not converged.
        n_check_calls: force calls that went into the check, part of ``n_force_calls``; those of going further down are
            not in it.

    """

    structure: Any
    energy: float
    forces: NDArray[np.float64] | None
    stress: NDArray[np.float64] | None
    converged: bool
    n_steps: int
    fmax: float
    reason: str
    error: str | None = None
    error_code: ErrorCode | None = None
    trajectory: list[RelaxStep] | None = None
    n_force_calls: int = 0
    volume_change: float = float("nan")
    flags: tuple[str, ...] = ()
    minimum: Minimum = "not_checked"
    n_check_calls: int = 0


@dataclass(frozen=True)
class BandResult:
    """A path between two structures at rest, or what became of it.

    Attributes:
        images: from end to end, of the type that came in; atoms move continuously and may leave the cell.
        energies: of the images, eV; those of the ends as they were given. NaN where nothing could be computed.
        converged: whether ``fmax`` came below the threshold.
        n_steps: optimiser steps that were made.
        fmax: eV/Å, largest force perpendicular to the path, and of all on the image that climbs.
        reason: "converged", "max_steps", or the sentence of ``error``.
        error: why the band failed, in one sentence; None if it did not, also when it ran out of steps.
        error_code: the same for logic, which never reads sentences.
        n_force_calls: structures in the force calls that were made.

    """

    images: tuple[Any, ...]
    energies: tuple[float, ...]
    converged: bool
    n_steps: int
    fmax: float
    reason: str
    error: str | None = None
    error_code: ErrorCode | None = None
    n_force_calls: int = 0

    @property
    def highest(self) -> int:
        """Place of the image of highest energy."""
        return int(np.argmax(self.energies))

    @property
    def barrier(self) -> float:
        """Of the highest image above the first, eV."""
        return self.energies[self.highest] - self.energies[0]

    @property
    def barrier_back(self) -> float:
        """Of the highest image above the last, eV."""
        return self.energies[self.highest] - self.energies[-1]


@dataclass(frozen=True)
class DynamicsResult:
    """A trajectory, or what there is of it.

    Attributes:
        positions: [n_frames, n, 3] Å in float32, every so many steps, not folded back into the cell; the first of all
            moments, where the structure was given, is not among them.
        temperatures: [n_frames] K, of the motion.
        energies: [n_frames] eV, potential.
        end: from which another trajectory goes on; None if it failed.
        n_steps: that were made.
        error: why it ended early, in one sentence.
        error_code: the same for logic, which never reads sentences.
        n_force_calls: that were made.

    """

    positions: NDArray[np.float32]
    temperatures: NDArray[np.float64]
    energies: NDArray[np.float64]
    end: Phase | None
    n_steps: int
    error: str | None = None
    error_code: ErrorCode | None = None
    n_force_calls: int = 0

    @classmethod
    def of(cls, frames: Sequence[Frame], end: Phase | None, n_steps: int, n_atoms: int, **further: Any) -> Self:
        """From what was kept of ``n_atoms`` atoms; ``further`` are the other fields."""
        positions = np.array([frame.positions for frame in frames], dtype=np.float32).reshape(len(frames), n_atoms, 3)
        temperatures = np.array([frame.temperature for frame in frames], dtype=np.float64)
        energies = np.array([frame.energy for frame in frames], dtype=np.float64)
        return cls(positions, temperatures, energies, end, n_steps, **further)

"""A run: what it keeps of its steps, when it has gone wrong, and the state from which it goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from ase.calculators.singlepoint import SinglePointCalculator

from dpa4_core.calculator import MIN_DISTANCE_RATIO, DPA4Calculator
from dpa4_core.data.structures import StructureError, System, check_system, from_system, to_system
from dpa4_core.errors import DPA4Error
from dpa4_core.files import check_file, refused, write_json
from dpa4_core.locks import locked
from dpa4_core.md.files import Checkpoint, Frames, Log, Paths, open_frames
from dpa4_core.md.integrators import Motion, Moving, kinetic_temperature, prepare, start
from dpa4_core.md.result import Average, Drift, MDResult, Sample, Thermo
from dpa4_core.md.settings import ADVICE, MDSettings
from dpa4_core.md.shared_motion import SharedMotion
from dpa4_core.md.subject import difference, identity_of, model_card, movable_atoms
from dpa4_core.memory import is_out_of_memory
from dpa4_core.potential import PotentialLike
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_core.version import code_version

MAX_FORCE = 1e3
"""eV/Å; a bond that breaks has some ten, colliding atoms some hundred."""
CHECKPOINT_S = 2.0
"""Seconds between two states; what a kill costs at most, besides the steps since the last frame."""
SAVING_S = 0.1
"""What writing states may take of `CHECKPOINT_S`, which grows where it takes longer: many runs, a slow disk."""
FAILURES = (StructureError, CalculationFailed, np.linalg.LinAlgError, RuntimeError, MemoryError)
"""What a force call raises for structures that it cannot compute, and where memory runs out."""


ENGINES = ("ase", "dpa4")
"""Who integrates: ASE, or the batches of the core. A run goes on with the one that began it."""


def engine_of(settings: MDSettings) -> str:
    """Who integrates a new run."""
    return "ase" if settings.ensemble == "npt" else "dpa4"


class Run:
    """A run in progress: atoms, their motion, and the files that it fills.

    Args:
        structure: as for `dpa4_core.md`, like all others.
        potential: computes the forces.
        settings: of the run.
        output: trajectory to write.
        overwrite: start anew where files of another run are.
        origin: what the summary says of where structure and potential came from.

    Attributes:
        motion: a `Motion` makes its steps itself, a `SharedMotion` in a batch.
        step: steps made.
        saved: when the last state was written, in seconds of `time.monotonic`.
        saving_s: how long that took.

    Raises:
        StructureError, DPA4Error: as `dpa4_core.md`.
    """

    def __init__(
        self,
        structure: Any,
        potential: PotentialLike,
        settings: MDSettings,
        *,
        output: str | Path | None = None,
        overwrite: bool = False,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        system = to_system(structure)
        problem = check_system(system, potential.elements, min_distance_ratio=MIN_DISTANCE_RATIO)
        if problem is not None:
            raise StructureError(problem)
        paths = None if output is None else Paths.of(output)
        self.structure, self.settings, self.paths = structure, settings, paths
        self.atoms = movable_atoms(structure, system)
        self._constraints = list(self.atoms.constraints)
        self.atoms.calc = DPA4Calculator(potential)
        prepare(self.atoms, settings)
        self.identity = identity_of(system, self.atoms, potential, settings)
        self._model, self._origin = model_card(potential), origin
        self.step = self.n_frames = 0
        self.saved, self.saving_s = time.monotonic(), 0.0
        self._frames: Frames | None = None
        with contextlib.ExitStack() as files:
            self._open(files, overwrite, system)
            self._files = files.pop_all()
        self.first_step = self.step
        self._write_summary(None)

    def _open(self, files: contextlib.ExitStack, overwrite: bool, system: System) -> None:
        """Lock and open the files, and go to where an earlier process came."""
        paths, found = self.paths, None
        if paths is not None:
            check_file(paths.trajectory)
            paths.trajectory.parent.mkdir(parents=True, exist_ok=True)
            files.enter_context(locked(paths.lock, "this run is being written"))
            found = self._earlier(paths, overwrite)
        engine = found.identity["engine"] if found else engine_of(self.settings)
        self.identity |= {"engine": engine}
        self.motion = self._begin(engine, system)
        if found is not None:
            self.motion.restore(found.state)
            self.step, self.n_frames = found.step, found.n_frames
        elif paths is not None:
            paths.remove()
            self._checkpoint(0, 0)
        self.log = Log(None if paths is None else paths.log, found.n_rows if found else 0)
        files.callback(self.log.close)
        if paths is not None:
            self._frames = open_frames(paths.trajectory, self.n_frames, found.n_bytes if found else 0)
            files.callback(self._frames.close)

    def _begin(self, engine: str, system: System) -> Moving:
        if engine == "dpa4":
            return SharedMotion(self.atoms, system, self.settings)
        return start(self.atoms, self.settings)

    def to_the_end(self, advance: Callable[[int], None]) -> MDResult:
        """Make the steps that are missing, with a motion that makes them itself; ``advance`` counts them."""
        began = time.monotonic()
        error = self.guarded(self.record) if not self.log.samples else None
        while error is None and self.step < self.settings.n_steps:
            error = self.guarded(self._one_step)
            advance(1)
        return self.finish(time.monotonic() - began, error)

    @property
    def is_complete(self) -> bool:
        return self.step >= self.settings.n_steps and bool(self.log.samples)

    def finish(self, elapsed: float, error: str | None) -> MDResult:
        """The result of a run that took ``elapsed`` s in this process; its last state and summary are written."""
        if error is None:
            self.save()
        made = self.step - self.first_step
        result = self._result(made / elapsed if made else np.nan, error)
        self._write_summary(result)
        return result

    def close(self) -> None:
        """Give the files back."""
        self._files.close()

    def _one_step(self) -> str | None:
        assert isinstance(self.motion, Motion)
        self.motion.step()
        self.step += 1
        if problem := self.explosion():
            return problem
        if self.is_sampled():
            self.record()
            if states_are_due([self]):
                self.save()
        return None

    def is_sampled(self) -> bool:
        """Whether the step that was just made is one for the log."""
        return self.step % self.settings.every == 0 or self.step == self.settings.n_steps

    def guarded(self, action: Callable[[], str | None]) -> str | None:
        """The sentence of what went wrong; None if nothing did."""
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # an explosion; `explosion` has the sentence
                return action()
        except FAILURES as error:
            return self.broken_by(error)

    def broken_by(self, error: Exception) -> str:
        """The sentence of one of `FAILURES`; raises it again where it is a fault of the program."""
        if not isinstance(error, RuntimeError | MemoryError):
            return f"the run broke after {self.step} steps: {error}; {ADVICE}"
        if not is_out_of_memory(error):
            raise error
        return f"out of memory after {self.step} steps with {len(self.atoms)} atoms"

    def explosion(self) -> str | None:
        """Why these atoms are no simulation any more, in one sentence; None if they are one."""
        force = float(np.linalg.norm(self.atoms.get_forces(apply_constraint=False), axis=1).max())
        if not force <= MAX_FORCE:
            return f"a force reached {force:.1e} eV/Å after {self.step} steps; {ADVICE}"
        temperature = kinetic_temperature(self.atoms)
        if not temperature <= self.settings.temperature_limit:
            limit = f"limit {self.settings.temperature_limit:.0f} K"
            return f"the temperature reached {temperature:.3g} K after {self.step} steps ({limit}); {ADVICE}"
        return None

    def record(self) -> None:
        """Add a frame and a row."""
        atoms, settings = self.atoms, self.settings
        crystal = bool(atoms.pbc.all())  # what stands along an open axis is no volume that a pressure could act on
        pressure = np.nan
        if crystal:
            stress = atoms.get_stress(voigt=False, include_ideal_gas=True)
            pressure = -float(np.trace(stress)) / 3 * EV_PER_ANGSTROM3_TO_GPA
        sample = Sample(
            step=self.step,
            time_ps=self.step * settings.timestep_fs / 1000,
            potential_energy=float(atoms.get_potential_energy()),
            kinetic_energy=float(atoms.get_kinetic_energy()),
            conserved_energy=self.motion.conserved_energy(),
            temperature=kinetic_temperature(atoms),
            pressure_gpa=pressure,
            volume=float(atoms.get_volume()) if crystal else np.nan,
        )
        if self._frames is None or self.paths is None:
            self.log.write(sample)
            return
        with refused(self.paths.trajectory):
            self.log.write(sample)
            self._frames.write(self._frame(sample))
        self.n_frames += 1

    def save(self) -> None:
        """Write the state to continue from."""
        if self._frames is not None:
            self._checkpoint(self._frames.size(), len(self.log.samples))

    def _frame(self, sample: Sample) -> Atoms:
        """The atoms as they are now, with their results."""
        frame = self._without_calculator()
        frame.info |= {"step": sample.step, "time_ps": sample.time_ps}
        results = {name: self.atoms.calc.results[name] for name in ("energy", "forces")}
        if "stress" in self.atoms.calc.results and np.isfinite(self.atoms.calc.results["stress"]).all():
            results["stress"] = self.atoms.calc.results["stress"]
        frame.calc = SinglePointCalculator(frame, **results)
        return frame

    def _without_calculator(self) -> Atoms:
        atoms = self.atoms.copy()
        atoms.set_constraint(self._constraints)
        return atoms

    def _checkpoint(self, n_bytes: int, n_rows: int) -> None:
        assert self.paths is not None
        began = time.monotonic()
        Checkpoint(self.identity, self.step, self.n_frames, n_bytes, n_rows, self.motion.state()).write(
            self.paths.restart
        )
        self.saved = time.monotonic()
        self.saving_s = self.saved - began

    def _earlier(self, paths: Paths, overwrite: bool) -> Checkpoint | None:
        """What to continue from; None to start anew."""
        if overwrite:
            return None
        if not paths.restart.exists():
            for path in (paths.trajectory, paths.log, paths.summary):
                if path.exists():
                    raise DPA4Error(f"{path} exists and is no run that could be continued; remove it or use overwrite")
            return None
        found = Checkpoint.read(paths.restart)
        engine, before = found.identity.get("engine"), {**found.identity, "engine": None}
        if before != self.identity | {"engine": None}:
            raise DPA4Error(
                f"{paths.trajectory} belongs to another run ({difference(before, self.identity)}); "
                "choose another output, or use overwrite to start anew"
            )
        if engine not in ENGINES:
            raise DPA4Error(
                f"{paths.trajectory} was begun with {engine}, whose steps this version does not make; finish it with "
                "the version that began it, or use overwrite to start anew"
            )
        if found.step > self.settings.n_steps:
            raise DPA4Error(
                f"{paths.trajectory} is {found.step * self.settings.timestep_fs / 1000:g} ps long already; "
                "ask for more, choose another output, or use overwrite to start anew"
            )
        return found

    def _result(self, steps_per_s: float, error: str | None) -> MDResult:
        thermo = Thermo.of(self.log.samples)
        drift = Drift.of(thermo, len(self.atoms))
        structure: Any = self._without_calculator()
        if not isinstance(self.structure, Atoms):
            now = dataclasses.replace(
                to_system(self.structure),
                positions=self.atoms.get_positions(),
                cell=np.array(self.atoms.cell),
            )
            structure = from_system(self.structure, now)
        return MDResult(
            structure=structure,
            n_steps=self.step,
            time_ps=self.step * self.settings.timestep_fs / 1000,
            thermo=thermo,
            drift=drift.slope,
            ripple=drift.ripple,
            temperature=Average.of(thermo.temperature),
            pressure_gpa=Average.of(thermo.pressure_gpa),
            steps_per_s=float(steps_per_s),
            timestep_fs=self.settings.timestep_fs,
            trajectory=None if self.paths is None else self.paths.trajectory,
            error=error,
        )

    def _write_summary(self, result: MDResult | None) -> None:
        """Model, settings and, at the end, the numbers."""
        if self.paths is None:
            return
        content = {
            "model": self._model,
            "settings": self.settings.to_dict(),
            "formula": self.atoms.get_chemical_formula(),
            "n_atoms": len(self.atoms),
            "ase_version": ase.__version__,
            "code_version": code_version(),
            "origin": self._origin,
            "result": None if result is None else result.summary(),
        }
        write_json(self.paths.summary, content)


def states_are_due(runs: Sequence[Run]) -> bool:
    """Whether runs that make their steps together shall write their states with the next frame."""
    took, oldest = sum(run.saving_s for run in runs), min(run.saved for run in runs)
    return time.monotonic() - oldest > CHECKPOINT_S * max(1.0, took / SAVING_S)

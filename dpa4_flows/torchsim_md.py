"""Molecular dynamics of many structures at once through torch-sim: one force call moves all of them.

Every structure keeps the files of a run of its own (`dpa4_core.md.run`): frames, log, summary and a state to continue
from. The random forces of a step follow from seed and step and are not stored; they also depend on which structures
share the batch, so a continued Langevin run is the uninterrupted one when all of its companions go on too.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch_sim as ts
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor
from torch_sim.constraints import FixCom
from torch_sim.integrators import md as ts_md
from torch_sim.integrators import npt as ts_npt
from torch_sim.integrators import nvt as ts_nvt
from torch_sim.integrators.nve import nve_init, nve_step

from dpa4_core.data.batching import default_budget, pack
from dpa4_core.data.graph import UNSPECIFIED_CHARGE_SPIN
from dpa4_core.data.structures import to_system
from dpa4_core.errors import DPA4Error
from dpa4_core.md import MDResult, MDSettings
from dpa4_core.md.integrators import State, degrees_of_freedom, place, prepare
from dpa4_core.md.progress import step_bar
from dpa4_core.md.run import CHECKPOINT_S, MAX_FORCE, Run
from dpa4_core.memory import is_out_of_memory
from dpa4_core.potential import PotentialLike
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.torchsim import TorchSimModel

ENGINE = "torch-sim"

INTEGRATORS = ("nve", "langevin", "nose-hoover", "npt-isotropic")
"""Those of `MDSettings.integrator` that torch-sim has; its barostats for all of the cell are not deterministic."""

_CHAINS = {"nose-hoover": ("chain",), "npt-isotropic": ("thermostat", "barostat")}
_CHAIN_PARTS = ("positions", "momenta", "kinetic_energy")
_CELL_PARTS = ("cell_position", "cell_momentum", "reference_cell")


class Outcome(NamedTuple):
    """The result of one structure, or why there is none."""

    result: MDResult | None = None
    error: str | None = None


def md_batch(
    structures: Sequence[Any],
    potential: PotentialLike,
    settings: MDSettings,
    outputs: Sequence[Path | None],
    *,
    overwrite: bool = False,
    progress: bool = False,
    max_atoms_per_batch: int | None = None,
    origin: Mapping[str, Any] | None = None,
) -> list[Outcome]:
    """Run all ``structures``, each to the trajectory in ``outputs``; one that cannot run fails alone.

    Args:
        structures: as for `dpa4_core.md`, without fixed atoms.
        potential: computes the forces.
        settings: of all runs; the integrator must be one of `INTEGRATORS`.
        outputs: trajectories, or None to keep nothing.
        overwrite: start anew where files of another run are.
        progress: show a progress bar.
        max_atoms_per_batch: atoms that share a force call; by default what suits the device.
        origin: as for `dpa4_core.md`.

    Raises:
        DPA4Error: an integrator that torch-sim does not have.
    """
    if settings.integrator not in INTEGRATORS:
        raise DPA4Error(f"torch-sim has no {settings.integrator}; choose from {', '.join(INTEGRATORS)}")
    outcomes: list[Outcome] = [Outcome() for _ in structures]
    runs: dict[int, Run] = {}
    with contextlib.ExitStack() as files:
        for i, (structure, output) in enumerate(zip(structures, outputs, strict=True)):
            try:
                run = Run(
                    structure,
                    potential,
                    settings,
                    output=output,
                    overwrite=overwrite,
                    begin=_begin,
                    engine=ENGINE,
                    origin=origin,
                )
            except DPA4Error as error:
                outcomes[i] = Outcome(error=str(error))
                continue
            files.callback(run.close)
            runs[i] = run
        for members in _batches(runs, max_atoms_per_batch or default_budget(potential.device)):
            batch = _Batch([runs[i] for i in members], potential, settings)
            for i, result in zip(members, batch.to_the_end(progress), strict=True):
                outcomes[i] = Outcome(result)
    return outcomes


class _Member:
    """One system of a batch as its run sees it: the arrays of the last synchronisation."""

    def __init__(self, atoms: Atoms) -> None:
        self.atoms = atoms
        self.hidden: State = {}
        self.conserved = np.nan

    def conserved_energy(self) -> float:
        return self.conserved

    def state(self) -> State:
        atoms = self.atoms
        return {
            "positions": atoms.positions.copy(),
            "momenta": atoms.get_momenta(),
            "cell": np.array(atoms.cell),
            **self.hidden,
        }

    def restore(self, state: State) -> None:
        place(self.atoms, state)
        self.hidden = {name: state[name] for name in state if name not in ("positions", "momenta", "cell")}


def _begin(atoms: Atoms, settings: MDSettings) -> _Member:
    if atoms.constraints:
        raise DPA4Error("fixed atoms cannot share a batch; run this structure alone")
    if settings.ensemble == "npt" and np.linalg.det(atoms.cell) < 0:
        raise DPA4Error("the cell is left-handed, which the barostat of torch-sim does not know; run it alone")
    if atoms.pbc.any() and atoms.cell.rank < 3:
        raise DPA4Error("a lattice vector is missing, which torch-sim needs along open axes too; run it alone")
    prepare(atoms, settings)
    member = _Member(atoms)
    if settings.integrator == "langevin":
        work_and_kinetic = np.array([0.0, atoms.get_kinetic_energy()])
        member.hidden = {"bookkeeping": work_and_kinetic, "centre": atoms.get_center_of_mass()}
    return member


def _batches(runs: dict[int, Run], budget: int) -> list[list[int]]:
    """Runs that share a batch: at the same step, with the same periodicity, within the budget of atoms."""
    groups: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for i, run in runs.items():
        groups[run.step, run.atoms.pbc.tobytes()].append(i)  # a state of torch-sim has one periodicity
    return [
        [group[k] for k in part]
        for group in groups.values()
        for part in pack([len(runs[i].atoms) for i in group], budget)
    ]


class _Remembering(TorchSimModel):
    """Keeps its last results: the states of torch-sim have no stress outside of npt."""

    last: dict[str, Tensor]

    def forward(self, state: ts.SimState, **extras: Any) -> dict[str, Tensor]:
        self.last = super().forward(state, **extras)
        return self.last


class _Batch:
    """Runs that make their steps together."""

    def __init__(self, runs: Sequence[Run], potential: PotentialLike, settings: MDSettings) -> None:
        self.runs = list(runs)
        self.settings = settings
        self.model = _Remembering(potential)
        self.kT = self._tensor(units.kB * settings.temperature)
        self.dt = self._tensor(settings.timestep_fs * units.fs)
        self.pressure = self._tensor(settings.pressure_gpa / EV_PER_ANGSTROM3_TO_GPA)
        self.results: dict[int, MDResult] = {}
        self._order = {id(run): i for i, run in enumerate(runs)}
        self._began = self._saved = time.monotonic()

    def to_the_end(self, progress: bool) -> list[MDResult]:
        """Make the steps that are missing; results in the order of the runs."""
        first, n_steps = self.runs[0].step, self.settings.n_steps
        words = f"md of {len(self.runs)}"
        shown = progress and first < n_steps
        with step_bar(n_steps, first, self.settings.timestep_fs, shown=shown, description=words) as advance:
            if first < n_steps or not self.runs[0].log.samples:
                self._assemble()
                for run in self.runs:
                    if not run.log.samples:
                        run.record()
            while self.runs and self.runs[0].step < n_steps:
                self._one_step()
                advance(1)
        for run in list(self.runs):
            self._finish(run, None)
        return [self.results[i] for i in range(len(self.results))]

    def _one_step(self) -> None:
        try:
            self._integrate(self.runs[0].step + 1)
        except (DPA4Error, RuntimeError, MemoryError) as error:
            if not (isinstance(error, DPA4Error) or is_out_of_memory(error)):
                raise
            for run in list(self.runs):
                self._finish(run, f"the batch of {len(self.runs)} structures broke after {run.step} steps: {error}")
            return
        for run in self.runs:
            run.step += 1
        lost = self._exploded()
        if lost or self.runs[0].is_sampled():
            self._synchronise()
        for run in lost:
            self._finish(run, run.explosion() or "the run exploded")
        if not self.runs:
            return
        if self.runs[0].is_sampled():
            for run in self.runs:
                run.record()
            if time.monotonic() - self._saved > CHECKPOINT_S:
                for run in self.runs:
                    run.save()
                self._saved = time.monotonic()
        if lost:
            self._assemble()

    def _finish(self, run: Run, error: str | None) -> None:
        self.runs.remove(run)
        self.results[self._order[id(run)]] = run.finish(time.monotonic() - self._began, error)

    def _assemble(self) -> None:
        """The state of torch-sim from the atoms of the runs and what they remember."""
        settings, members = self.settings, [run.atoms for run in self.runs]
        state = ts.io.atoms_to_state(members, self.model.device, torch.float64)
        self._charges(state)
        self.n_dof = self._tensor([degrees_of_freedom(atoms) for atoms in members])
        if settings.integrator == "langevin":
            hold = FixCom(list(range(len(members))))
            hold.coms = self._remembered("centre")
            state.constraints = [hold]
        begin, options = _INIT[settings.integrator](self)
        state = begin(state, self.model, kT=self.kT, **options)
        state.momenta = self._tensor(np.concatenate([atoms.get_momenta() for atoms in members]))
        self.state: Any = state
        for chain in _CHAINS.get(settings.integrator, ()):
            self._restore_chain(chain)
        if settings.integrator == "npt-isotropic" and "cell_position" in _member(self.runs[0]).hidden:
            for part in _CELL_PARTS:
                setattr(state, part, self._remembered(part))
        if settings.integrator == "langevin":
            self._work, self._initial_kinetic = self._remembered("bookkeeping").T.clone()
        self._synchronise()

    def _restore_chain(self, chain: str) -> None:
        """The variables of a thermostat or barostat; at the beginning they are zero, and the kinetic energy counts."""
        holder = getattr(self.state, chain)
        if f"{chain}.positions" in _member(self.runs[0]).hidden:
            for part in _CHAIN_PARTS:
                setattr(holder, part, self._remembered(f"{chain}.{part}"))
        elif chain != "barostat":
            holder.kinetic_energy = self._kinetic()

    def _integrate(self, step: int) -> None:
        """One time step of all systems."""
        settings, state = self.settings, self.state
        if settings.integrator == "nve":
            self.state = nve_step(state, self.model, dt=self.dt)
        elif settings.integrator == "langevin":
            before, forces = state.positions.clone(), self.model.last["forces"]
            state.rng = int(np.random.default_rng([settings.seed, 2, step]).integers(2**62))
            gamma = self._tensor(settings.friction_per_ps / (1000 * units.fs))
            self.state = ts_nvt.nvt_langevin_step(state, self.model, dt=self.dt, kT=self.kT, gamma=gamma)
            path = (forces + self.model.last["forces"]) * (self.state.positions - before)
            self._work.index_add_(0, state.system_idx, 0.5 * path.sum(dim=1))
        elif settings.integrator == "nose-hoover":
            self.state = ts_nvt.nvt_nose_hoover_step(state, self.model, dt=self.dt, kT=self.kT)
        else:
            self.state = ts_npt.npt_nose_hoover_isotropic_step(
                state, self.model, dt=self.dt, kT=self.kT, external_pressure=self.pressure
            )

    def _exploded(self) -> list[Run]:
        """The runs whose forces or temperature are beyond all bounds, NaN included."""
        strength = self.model.last["forces"].abs().amax(dim=1)
        largest = torch.zeros_like(self.n_dof).scatter_reduce_(0, self.state.system_idx, strength, "amax")
        temperature = 2 * self._kinetic() / (self.n_dof * units.kB)
        fine = (largest <= MAX_FORCE) & (temperature <= self.settings.temperature_limit)
        if bool(fine.all()):
            return []
        return [run for run, well in zip(self.runs, fine.tolist(), strict=True) if not well]

    def _synchronise(self) -> None:
        """Hand atoms, results and hidden variables to the runs."""
        state, output = self.state, {name: value.cpu().numpy() for name, value in self.model.last.items()}
        conserved = self._conserved().cpu().numpy()
        hidden = self._hidden()
        cells = state.cell.transpose(1, 2).cpu().numpy()
        ends = torch.bincount(state.system_idx).cumsum(0).tolist()
        positions, momenta = state.positions.cpu().numpy(), state.momenta.cpu().numpy()
        for i, (run, begin, end) in enumerate(zip(self.runs, [0, *ends], ends, strict=False)):
            mine, member = slice(begin, end), _member(run)
            place(run.atoms, {"positions": positions[mine], "momenta": momenta[mine], "cell": cells[i]})
            member.hidden |= {name: value[i] for name, value in hidden.items()}
            member.conserved = float(conserved[i])
            results = {"energy": float(output["energy"][i]), "forces": output["forces"][mine]}
            if run.atoms.pbc.any():
                results["stress"] = full_3x3_to_voigt_6_stress(output["stress"][i])
            run.atoms.calc = SinglePointCalculator(run.atoms, **results)

    def _hidden(self) -> State:
        """What a run must remember besides its atoms, [n_systems, ...] each."""
        hidden: dict[str, Tensor] = {}
        for chain in _CHAINS.get(self.settings.integrator, ()):
            holder = getattr(self.state, chain)
            hidden |= {f"{chain}.{part}": getattr(holder, part) for part in _CHAIN_PARTS}
        if self.settings.integrator == "npt-isotropic":
            hidden |= {part: getattr(self.state, part) for part in _CELL_PARTS}
        if self.settings.integrator == "langevin":
            hidden["bookkeeping"] = torch.stack([self._work, self._initial_kinetic], dim=1)
        return {name: value.detach().cpu().numpy().copy() for name, value in hidden.items()}

    def _conserved(self) -> Tensor:
        state, integrator = self.state, self.settings.integrator
        if integrator == "nose-hoover":
            return ts_nvt.nvt_nose_hoover_invariant(state, self.kT)
        if integrator == "npt-isotropic":
            return ts_npt.npt_nose_hoover_isotropic_invariant(state, self.kT, self.pressure)
        if integrator == "langevin":
            return self._initial_kinetic + state.energy + self._work
        return state.energy + self._kinetic()

    def _kinetic(self) -> Tensor:
        state = self.state
        return ts.calc_kinetic_energy(masses=state.masses, momenta=state.momenta, system_idx=state.system_idx)

    def _charges(self, state: ts.SimState) -> None:
        """Charge and spin, where a structure has them."""
        found = [to_system(run.atoms).charge_spin for run in self.runs]
        if any(pair is not None for pair in found):
            pairs = self._tensor([pair or UNSPECIFIED_CHARGE_SPIN for pair in found])
            state.system_extras.update(charge=pairs[:, 0].clone(), spin=pairs[:, 1].clone())

    def _remembered(self, name: str) -> Tensor:
        return self._tensor(np.stack([_member(run).hidden[name] for run in self.runs]))

    def _tensor(self, values: Any) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=torch.float64, device=self.model.device)


def _member(run: Run) -> _Member:
    assert isinstance(run.motion, _Member)
    return run.motion


_Begin = tuple[Callable[..., ts_md.MDState], dict[str, Any]]

_INIT: dict[str, Callable[[_Batch], _Begin]] = {
    "nve": lambda batch: (nve_init, {}),
    "langevin": lambda batch: (ts_nvt.nvt_langevin_init, {}),
    "nose-hoover": lambda batch: (
        ts_nvt.nvt_nose_hoover_init,
        {"dt": batch.dt, "tau": batch._tensor(batch.settings.thermostat_fs * units.fs)},
    ),
    "npt-isotropic": lambda batch: (
        ts_npt.npt_nose_hoover_isotropic_init,
        {
            "dt": batch.dt,
            "t_tau": batch._tensor(batch.settings.thermostat_fs * units.fs),
            "b_tau": batch._tensor(batch.settings.barostat_fs * units.fs),
        },
    ),
}
"""How torch-sim begins, and with which options besides the temperature."""

"""The motion of one structure whose steps a batch makes: what its run knows of it.

The steps are those of `dpa4_core.relax.dynamics`. They depend on positions, velocities, the thermostat and the number
of the step, from which the random numbers follow, so these are the state; the work of the forces is bookkeeping.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixCom
from ase.stress import full_3x3_to_voigt_6_stress

from dpa4_core.data.structures import StructureError, System, constraint_problem
from dpa4_core.md.integrators import State
from dpa4_core.md.settings import MDSettings
from dpa4_core.relax.dynamics import Course, Phase, chain_energy, masses_of, n_free
from dpa4_core.relax.state import Found, Task
from dpa4_core.relax.waiting import in_motion


class SharedMotion:
    """Where a structure was at the last step that its run looked at.

    Args:
        atoms: with momenta; follow the motion.
        system: the same in arrays.
        settings: of the run, nve or nvt.

    Attributes:
        phase: from which the motion goes on.

    Raises:
        StructureError: a constraint other than fixed coordinates.
    """

    def __init__(self, atoms: Atoms, system: System, settings: MDSettings) -> None:
        # the centre of mass stays anyway where no atom is fixed
        atoms.set_constraint([one for one in atoms.constraints if not isinstance(one, FixCom)])
        if problem := constraint_problem(atoms):
            raise StructureError(problem)
        self._atoms, self._system, self._settings = atoms, system, settings
        self._mass = masses_of(system)[:, None]
        velocities = np.where(system.fixed, 0.0, atoms.get_momenta() / self._mass)
        self._work = 0.0
        self._go_to(Phase(0, atoms.get_positions(), velocities))
        self._initial_kinetic = float(atoms.get_kinetic_energy())

    def task(self) -> Task:
        """To join a batch with, until the end of the run."""
        settings, phase = self._settings, self.phase
        course = Course(settings, phase, settings.n_steps - phase.step, work=self._work)
        return in_motion(None, self._atoms, self._system, course)

    def arrive(self, found: Found) -> System:
        """Be where the batch is now; gives the structure there."""
        assert found.phase is not None
        self._work = found.work
        self._go_to(found.phase)
        if found.forces is not None:
            results = {"energy": found.energy, "forces": found.forces}
            if found.stress is not None:
                results["stress"] = full_3x3_to_voigt_6_stress(found.stress)
            self._atoms.calc = SinglePointCalculator(self._atoms, **results)
        return found.system

    def conserved_energy(self) -> float:
        """What exact dynamics would keep, eV. Langevin's bath has no energy of its own: its heat is left out, and what
        stays is initial kinetic energy + potential energy + W, W = Σ ½ (F_n + F_{n+1})·(r_{n+1} − r_n).
        """
        if self._settings.integrator == "langevin":
            return self._initial_kinetic + float(self._atoms.get_potential_energy()) + self._work
        total = float(self._atoms.get_total_energy())
        if self._settings.integrator == "nose-hoover":
            total += chain_energy(self.phase.chain, n_free(self._system), self._settings)
        return total

    def state(self) -> State:
        """Everything that the next step depends on."""
        phase = self.phase
        return {
            "step": np.array(phase.step),
            "positions": phase.positions,
            "velocities": phase.velocities,
            "chain": phase.chain,
            "bookkeeping": np.array([self._work, self._initial_kinetic]),
        }

    def restore(self, state: State) -> None:
        """Continue from ``state``."""
        self._work, self._initial_kinetic = (float(value) for value in state["bookkeeping"])
        self._go_to(Phase(int(state["step"]), state["positions"], state["velocities"], state["chain"]))

    def _go_to(self, phase: Phase) -> None:
        self.phase = phase
        self._atoms.set_positions(phase.positions, apply_constraint=False)
        self._atoms.set_momenta(self._mass * phase.velocities, apply_constraint=False)

"""Whether a relaxation ended in a minimum, and the way down if it did not.

A relaxation stops where forces vanish. Forces keep the symmetry of a structure, so many stop on a saddle point that
they cannot see. `MinimumCheck` goes along with a structure that has converged: it searches for a direction of negative
curvature (`softest`), and sends the structure down along it. The structure that comes back is one that was reached by
the optimiser, bit by bit, never one that was pushed.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dpa4_core.data.structures import System
from dpa4_core.data.system import complete_cell
from dpa4_core.relax.limits import Limits, Verdict
from dpa4_core.relax.options import RelaxOptions
from dpa4_core.relax.projection import allowed_strains
from dpa4_core.relax.softest import SearchOptions, Softest, Space
from dpa4_core.relax.state import Found, Task
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_core.verdicts import Minimum

SEARCH = SearchOptions()

PUSH = 0.1
"""Å, the longest displacement of an atom at the start of the way down."""
PUSH_STRAIN = 0.02

MAX_DESCENTS = 5
"""Ways down from one saddle point to the next; then the structure is left where it is, and the result says so."""

GAIN = 1e-5
"""eV per atom by which the end of a way down must be lower than its start; less is noise of float32."""


class End(NamedTuple):
    """What is handed back of a structure."""

    found: Found
    verdict: Verdict
    minimum: Minimum
    n_check_calls: int = 0


@dataclass(frozen=True)
class MinimumCheck:
    """What the check of one structure has come to.

    Attributes:
        rest: where forces vanished.
        verdict: of the relaxation that led there.
        search: around it.
        descending: whether the structure is on its way down from there.
        n_calls: force calls of searches so far.
        n_descents: ways down so far.

    """

    rest: Found
    verdict: Verdict
    search: Softest
    descending: bool = False
    n_calls: int = 0
    n_descents: int = 0


class MinimumChecks:
    """Decides what becomes of a structure whose forces vanish.

    Args:
        options: of the relaxation.
        limits: of the relaxation.

    """

    def __init__(self, options: RelaxOptions, limits: Limits) -> None:
        self._options = options
        self._limits = limits
        self._pressure = options.pressure_gpa / EV_PER_ANGSTROM3_TO_GPA

    def after(self, task: Task, found: Found, verdict: Verdict) -> Task | End:
        """The task that joins the batch next, or the end.

        Args:
            task: that has left the batch.
            found: its last force call, or the best one if it did not converge.
            verdict: why it left.

        """
        check = task.check
        if check is None or (check.descending and verdict.converged):
            return self._arrived(task, found, verdict)
        if check.descending:
            return self._lost(check, found, verdict)
        if found.forces is None or verdict.failed:
            return _at_rest(check, found, "not_checked")
        check.search.learn(found.forces, found.stress)
        return self._next(task, found, dataclasses.replace(check, n_calls=check.n_calls + 1))

    def interrupted(self, task: Task, found: Found, failure: Verdict) -> End:
        """The end of a structure that cannot go on in the batch."""
        if task.check is None:
            return End(found, failure, "not_checked")
        minimum: Minimum = "saddle" if task.check.search.downhill else "not_checked"
        return _at_rest(task.check, found, minimum)

    def _arrived(self, task: Task, found: Found, verdict: Verdict) -> Task | End:
        """Forces vanish: search around, unless it is the structure that the last way down began at."""
        options, check = self._options, task.check
        if not verdict.converged or not options.check_minimum or options.max_steps == 0:
            return End(found, verdict, "not_checked", check.n_calls if check else 0)
        assert found.forces is not None
        if check is not None and not self._lower(found, check.rest):
            return _at_rest(check, found, "verified")
        space = Space(found.system, self._strains(task.system), self._pressure, SEARCH)
        search = Softest(space, found.forces, found.stress, seed=_seed(task.system), options=SEARCH)
        check = MinimumCheck(
            found,
            verdict,
            search,
            n_calls=check.n_calls if check else 0,
            n_descents=check.n_descents if check else 0,
        )
        return self._next(task, found, check)

    def _next(self, task: Task, found: Found, check: MinimumCheck) -> Task | End:
        search, rest = check.search, check.rest
        if not search.finished:
            return _again(task, found, check, search.next())
        if not search.downhill:
            return _at_rest(check, found, "verified")
        stuck = self._options.keep_symmetry or check.n_descents >= MAX_DESCENTS
        if stuck or rest.n_steps >= self._limits.max_steps:
            return _at_rest(check, found, "saddle")
        check = dataclasses.replace(check, descending=True, n_descents=check.n_descents + 1)
        return _again(task, found, check, search.down(PUSH, PUSH_STRAIN))

    def _lost(self, check: MinimumCheck, found: Found, verdict: Verdict) -> End:
        """A way down that did not converge."""
        if verdict.failed or not self._lower(found, check.rest):
            return _at_rest(check, found, "saddle")
        return End(found, verdict, "not_checked", check.n_calls)

    def _lower(self, found: Found, rest: Found) -> bool:
        return self._enthalpy(found) < self._enthalpy(rest) - GAIN * rest.system.n_atoms

    def _enthalpy(self, found: Found) -> float:
        moves = self._pressure and found.system.periodic
        return found.energy + (self._pressure * found.system.volume if moves else 0.0)

    def _strains(self, system: System) -> np.ndarray | None:
        """Projection [9, 9] of strains onto those that are allowed; None if the cell stays."""
        if not (self._options.cell_moves and system.periodic):
            return None
        strains = allowed_strains(system, self._options.cell)
        return np.eye(9) if strains is None else strains


def _again(task: Task, found: Found, check: MinimumCheck, at: System) -> Task:
    """The task with another geometry."""
    return dataclasses.replace(
        task,
        at=at,
        n_steps=check.rest.n_steps + check.descending,  # the push is a step
        n_calls=found.n_calls,
        n_records=0 if task.trajectory is None else len(task.trajectory),
        strain=_strain(task.system, at),
        check=check,
    )


def _at_rest(check: MinimumCheck, found: Found, minimum: Minimum) -> End:
    """Back where forces vanished, with all force calls that were made since."""
    return End(check.rest._replace(n_calls=found.n_calls), check.verdict, minimum, check.n_calls)


def _strain(before: System, after: System) -> np.ndarray:
    """Logarithm [3, 3] of the stretch between two cells."""
    if not before.periodic:
        return np.zeros((3, 3))
    deformation = np.linalg.solve(complete_cell(before.cell), complete_cell(after.cell)).T
    squares, axes = np.linalg.eigh(deformation @ deformation.T)
    return (axes * (0.5 * np.log(squares))) @ axes.T


def _seed(system: System) -> int:
    """The same for the same input, whatever it shares a batch with."""
    content = hashlib.sha256()
    for array in (system.numbers, system.positions, system.cell):
        content.update(np.ascontiguousarray(array).tobytes())
    return int.from_bytes(content.digest()[:8], "little")

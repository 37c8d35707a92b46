"""Whether a relaxation ended in a minimum, and the way down if it did not.

A relaxation stops where forces vanish. Forces keep the symmetry of a structure, so many stop on a saddle point that
they cannot see. `MinimumCheck` goes along with a structure that has converged: it searches for a direction of negative
curvature (`softest`), and sends the structure down along it. The structure that comes back is one that was reached by
the optimiser, bit by bit, never one that was pushed.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from dpa4_core.data.structures import System
from dpa4_core.data.system import complete_cell
from dpa4_core.relax.projection import allowed_strains
from dpa4_core.relax.results import Verdict
from dpa4_core.relax.softest import SearchOptions, Softest, Space
from dpa4_core.relax.state import Found, MinimumCheck, Task
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


def after(task: Task, found: Found, verdict: Verdict) -> Task | End:
    """What becomes of a structure that has left the batch: the task that joins the batch next, or the end.

    Args:
        task: that has left the batch.
        found: its last force call, or the best one if it did not converge.
        verdict: why it left.

    """
    check = task.check
    if check is None or (check.descending and verdict.converged):
        return _arrived(task, found, verdict)
    if check.descending:
        return _lost(task, check, found, verdict)
    if found.forces is None or verdict.failed:
        return _at_rest(check, found, "not_checked")
    check.search.learn(found.forces, found.stress)
    return _next(task, found, dataclasses.replace(check, n_calls=check.n_calls + 1))


def interrupted(task: Task, found: Found, failure: Verdict) -> End:
    """The end of a structure that cannot go on in the batch."""
    if task.check is None:
        return End(found, failure, "not_checked")
    minimum: Minimum = "saddle" if task.check.search.downhill else "not_checked"
    return _at_rest(task.check, found, minimum)


def _arrived(task: Task, found: Found, verdict: Verdict) -> Task | End:
    """Forces vanish: search around, unless it is the structure that the last way down began at."""
    options, check = task.moves, task.check
    if not verdict.converged or not options.check_minimum or options.max_steps == 0:
        return End(found, verdict, "not_checked", check.n_calls if check else 0)
    assert found.forces is not None
    if check is not None and not _lower(task, found, check.rest):
        return _at_rest(check, found, "likely")
    space = Space(found.system, _strains(task), options.pressure, SEARCH)
    search = Softest(space, found.forces, found.stress, options=SEARCH)
    check = MinimumCheck(
        found,
        verdict,
        search,
        n_calls=check.n_calls if check else 0,
        n_descents=check.n_descents if check else 0,
    )
    return _next(task, found, check)


def _next(task: Task, found: Found, check: MinimumCheck) -> Task | End:
    search, rest = check.search, check.rest
    if not search.finished:
        return _again(task, found, check, search.next())
    if not search.downhill:
        return _at_rest(check, found, "verified" if search.sure else "likely")
    stuck = task.moves.keep_symmetry or check.n_descents >= MAX_DESCENTS
    if stuck or rest.n_steps >= task.moves.max_steps:
        return _at_rest(check, found, "saddle")
    check = dataclasses.replace(check, descending=True, n_descents=check.n_descents + 1)
    return _again(task, found, check, search.down(PUSH, PUSH_STRAIN))


def _lost(task: Task, check: MinimumCheck, found: Found, verdict: Verdict) -> End:
    """A way down that did not converge."""
    if verdict.failed or not _lower(task, found, check.rest):
        return _at_rest(check, found, "saddle")
    return End(found, verdict, "not_checked", check.n_calls)


def _lower(task: Task, found: Found, rest: Found) -> bool:
    return _enthalpy(task, found) < _enthalpy(task, rest) - GAIN * rest.system.n_atoms


def _enthalpy(task: Task, found: Found) -> float:
    pressure = task.moves.pressure
    return found.energy + (pressure * found.system.volume if pressure and found.system.periodic else 0.0)


def _strains(task: Task) -> np.ndarray | None:
    """Projection [9, 9] of strains onto those that are allowed; None if the cell stays."""
    options, system = task.moves, task.system
    if not (options.cell_moves and system.periodic):
        return None
    strains = allowed_strains(system, options.cell)
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

"""Continuity of energy, force and curvature where implementations are singular: cutoff and polar axes.

A path is sampled at four points on either side of the suspected place. Cubics through each side are
extrapolated to the place itself; there they must agree in value and slope, and with the point computed
exactly on it. That finds a jump however small the step, while any smooth curve passes, be it steep.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from dpa4_core.data.structures import System
from dpa4_core.potential import PotentialLike
from dpa4_core.testing.compare import TOLERANCE, assert_close, assert_same, refine
from dpa4_core.testing.samples import bond, evaluate, moved, open_system, random_rotation, sample_elements

TO_VALUE = np.array([4.0, -6.0, 4.0, -1.0])
"""Value at 0 of the cubic through points 1, 2, 3, 4."""
TO_SLOPE = np.array([-13 / 3, 19 / 2, -7.0, 11 / 6])
"""Slope at 0 of the same cubic."""
TILTS = (0.0, 1e-14, 1e-10, 1e-7, 1e-4)
"""Angles in rad from a polar axis where results are compared with a generic orientation."""


def check_continuity_through_cutoff(potential: PotentialLike, *, tolerance: float = TOLERANCE) -> None:
    """Energy, forces and curvature are continuous while a pair crosses the cutoff.

    Once the leaving atom has another neighbour, and once it becomes an isolated atom.
    """
    z_i, z_j, z_k = sample_elements(potential)
    direction = np.array([0.48, -0.6, 0.64])
    aside = np.array([-0.64, 0.48, 0.6])

    def path(distance: float, *, alone: bool) -> System:
        far = (potential.cutoff + distance) * direction
        third = bond(z_i, z_k) * aside if alone else far - bond(z_j, z_k) * aside
        return open_system([z_i, z_j, z_k], np.array([np.zeros(3), far, third]))

    for alone, what in ((False, "bonded"), (True, "isolated")):
        label = f"Z = {z_i} and {what} Z = {z_j} {potential.cutoff:g} Å apart"
        along = partial(path, alone=alone)
        refine(partial(_compare_sides, potential, along, tolerance, label), tolerance, times=3)


def check_continuity_at_polar_axis(potential: PotentialLike, *, tolerance: float = TOLERANCE) -> None:
    """Nothing special happens when an edge points along ±x, ±y or ±z.

    Edge frames and spherical harmonics have poles there. Besides continuity, the results on the axis and very
    near it must equal those of the same atoms in a generic orientation.
    """
    z_i, z_j, z_k = sample_elements(potential)
    rng = np.random.default_rng(6)
    turn = random_rotation(rng)
    spectators = np.array([[0.62, -0.54, 0.57], [-0.52, 0.6, -0.61]]) * [[bond(z_i, z_k)], [bond(z_i, z_i)]]
    for axis in range(3):
        for sign in (1.0, -1.0):
            pole = sign * np.eye(3)[axis]
            # The sweep leaves the axis along no other axis.
            aside = np.roll(np.array([0.0, 0.6, 0.8]), axis)

            def path(angle: float, pole: np.ndarray = pole, aside: np.ndarray = aside) -> System:
                tip = bond(z_i, z_j) * (np.cos(angle) * pole + np.sin(angle) * aside)
                return open_system([z_i, z_j, z_k, z_i], np.array([np.zeros(3), tip, *spectators]))

            label = f"an edge along {'+' if sign > 0 else '-'}{'xyz'[axis]}"
            refine(partial(_compare_sides, potential, path, tolerance, label), tolerance, times=3)
            tilted = [path(tilt) for tilt in TILTS]
            rotated = [moved(system, system.positions @ turn.T) for system in tilted]
            pairs = zip(evaluate(potential, tilted), evaluate(potential, rotated), strict=True)
            for tilt, (on_axis, generic) in zip(TILTS, pairs, strict=True):
                expected = generic._replace(forces=generic.forces @ turn, virial=turn.T @ generic.virial @ turn)
                assert_same(on_axis, expected, tolerance, f"{label} (tilted by {tilt:g} rad)")


def _compare_sides(
    potential: PotentialLike, path: Callable[[float], System], tolerance: float, label: str, step: float
) -> None:
    """Both sides of ``path(0)`` and the point itself."""
    offsets = [k * step for k in (1, 2, 3, 4)]
    results = evaluate(potential, [path(x) for x in (0.0, *(-x for x in offsets), *offsets)])
    energies = np.array([result.energy for result in results])
    forces = np.array([result.forces for result in results])
    # Errors of the samples, amplified by the sum of the weights of both sides, and a cubic's own error.
    allowed = 2 * np.abs(TO_VALUE).sum() * tolerance + step**4
    allowed_slope = 2 * np.abs(TO_SLOPE).sum() * tolerance / step + 10 * step**3
    for values, what, unit in ((energies, "energy", "eV"), (forces, "force", "eV/Å")):
        before = np.tensordot(TO_VALUE, values[1:5], 1)
        after = np.tensordot(TO_VALUE, values[5:], 1)
        assert_close(after, before, allowed, f"{what} just behind {label}", unit)
        assert_close(values[0], before, allowed, f"{what} at {label}", unit)
    before = -np.tensordot(TO_SLOPE, forces[1:5], 1) / step
    after = np.tensordot(TO_SLOPE, forces[5:], 1) / step
    assert_close(after, before, allowed_slope, f"curvature (slope of the force) just behind {label}", "eV/Å²")

"""A vacuum is recognised, and its lattice vector does not relax."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule

from dpa4_core import relax
from dpa4_core.data.structures import to_system
from dpa4_core.relax.vacuum import gaps, vacuum_axes
from dpa4_core.testing import MorsePotential

MORSE = MorsePotential()


def slab(vacuum: float = 5.0) -> Atoms:
    """Two layers of copper in a cell that is periodic along all axes; the gap is twice ``vacuum``."""
    atoms = fcc111("Cu", (1, 1, 2), vacuum=vacuum)
    atoms.pbc = True
    return atoms


def graphite(distance: float) -> Atoms:
    atoms = graphene(vacuum=distance / 2)
    atoms.pbc = True
    return atoms


def test_a_gap_is_measured_across_the_faces_of_any_cell() -> None:
    atoms = slab()
    assert gaps(to_system(atoms))[2] == pytest.approx(10.0)
    atoms.set_cell(atoms.cell.array + np.outer([0, 0, 1], [3.0, 1.0, 0.0]))  # tilted, atoms stay
    assert gaps(to_system(atoms))[2] == pytest.approx(10.0)
    atoms.positions += [0, 0, 6.0]  # cut through by the boundary of the cell
    assert gaps(to_system(atoms))[2] == pytest.approx(10.0)


@pytest.mark.parametrize("distance", [3.35, 6.9])
def test_layered_crystals_are_no_slabs(distance: float) -> None:
    assert not vacuum_axes(to_system(graphite(distance))).any()
    assert not vacuum_axes(to_system(bulk("NaCl", "rocksalt", a=5.6) * (3, 3, 3))).any()
    assert vacuum_axes(to_system(graphite(8.5))).tolist() == [False, False, True]


def test_the_vacuum_of_a_slab_stays_and_is_said() -> None:
    start = slab()
    start.set_cell(start.cell.array * [[1.05], [1.05], [1.0]], scale_atoms=False)
    (kept,) = relax([start], MORSE)
    assert kept.converged and "vacuum_kept" in kept.flags
    np.testing.assert_allclose(kept.structure.cell.array[2], start.cell.array[2], atol=1e-9)
    assert np.linalg.norm(kept.structure.cell.array[0] - start.cell.array[0]) > 1e-2  # the plane relaxes
    (fixed,) = relax([start], MORSE, relax_cell=False)
    assert "vacuum_kept" not in fixed.flags


def test_vacuum_relaxes_where_it_is_asked_for() -> None:
    close = slab(4.1)
    (free,) = relax([close], MORSE, cell="all", max_steps=3)
    (masked,) = relax([close], MORSE, cell=(0, 0, 1, 0, 0, 0), max_steps=3)
    for result in (free, masked):
        assert "vacuum_kept" not in result.flags


def test_a_molecule_in_a_periodic_box_keeps_its_box() -> None:
    water = molecule("H2O", vacuum=6.0, pbc=True)
    (result,) = relax([water], MORSE)
    assert result.converged and "vacuum_kept" in result.flags
    np.testing.assert_array_equal(result.structure.cell.array, water.cell.array)

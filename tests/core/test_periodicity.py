"""Slabs and chains: along an axis without periodicity there are no images, no stress, and nothing moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100, graphene
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from dpa4_core.calculator import DPA4Calculator
from dpa4_core.data.frame import labelled_frame
from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import from_system, to_system
from dpa4_core.errors import DPA4Error
from dpa4_core.md import MDSettings, md
from dpa4_core.predict import predict
from dpa4_core.relax import relax
from dpa4_core.relax.fragments import pieces
from dpa4_core.testing import MorsePotential, check_open_axes
from dpa4_core.train.store import LabelledFrame, build_store

MORSE = MorsePotential(cutoff=5.0)


def rattled(atoms: Atoms, seed: int = 1) -> Atoms:
    atoms = atoms.copy()
    atoms.rattle(0.05, seed=seed)
    return atoms


def tight_slab() -> Atoms:
    """Copper, two layers in a cell that is as thick as they are."""
    slab = rattled(bulk("Cu", cubic=True))
    slab.pbc = (True, True, False)
    return slab


def chain() -> Atoms:
    """A zigzag of copper and oxygen along the second axis, whose other vectors are missing."""
    return Atoms(
        "CuOCu",
        [[0.1, 0.0, 0.0], [1.0, 1.7, 0.2], [-0.8, 2.9, 1.6]],
        cell=[[0, 0, 0], [0.3, 4.1, 0.2], [0, 0, 0]],
        pbc=(False, True, False),
    )


def oblique_slab() -> Atoms:
    """A slab open along its first axis, in no plane of Cartesian axes, with a tilted vector there."""
    slab = rattled(Atoms("CuOCu", [[0, 0, 0], [0.2, 2.0, 0.1], [1.9, 0.1, 1.0]]), 4)
    slab.set_cell([[2.1, 1.0, 0.4], [0.3, 4.0, 0.5], [-0.4, 0.9, 3.7]])
    slab.pbc = (False, True, True)
    return slab


OPEN = {"tight slab": tight_slab, "chain": chain, "oblique slab": oblique_slab}
open_structures = pytest.mark.parametrize("make", OPEN.values(), ids=OPEN)


def with_gaps(atoms: Atoms) -> Atoms:
    """The same as a crystal with 40 Å along open axes."""
    apart = atoms.copy()
    repeats = np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)
    cell = np.array(Atoms(cell=repeats).cell.complete())
    cell[~atoms.pbc] *= 40
    apart.set_cell(cell)
    apart.pbc = True
    return apart


def span(atoms: Atoms) -> NDArray[np.float64]:
    repeats = atoms.cell.array[atoms.pbc]
    return np.linalg.pinv(repeats) @ repeats


def strained(atoms: Atoms, strain: NDArray[np.float64]) -> Atoms:
    atoms = atoms.copy()
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=False)
    atoms.positions = atoms.positions @ (np.eye(3) + strain)
    return atoms


def energy(atoms: Atoms) -> float:
    return float(predict([atoms], MORSE)[0].energy)


@open_structures
def test_open_structures_are_those_in_crystals_with_wide_gaps(make: Any) -> None:
    atoms = make()
    ours, theirs = predict([atoms, with_gaps(atoms)], MORSE)
    assert ours.energy == pytest.approx(theirs.energy, abs=1e-12)
    np.testing.assert_allclose(ours.forces, theirs.forces, atol=1e-12)
    atoms.calc = DPA4Calculator(MORSE)
    assert atoms.get_potential_energy() == pytest.approx(theirs.energy, abs=1e-12)
    full = atoms.copy()
    full.pbc = True
    if full.cell.rank == 3:
        assert abs(energy(full) - ours.energy) > 0.1


def test_any_calculator_of_ase_sees_the_open_axes() -> None:
    slab = tight_slab()
    ours = predict([slab], EMT())[0]
    slab.calc = EMT()
    assert ours.energy == pytest.approx(slab.get_potential_energy(), abs=1e-9)
    assert not ours.stress[2].any() and not ours.stress[:, 2].any() and abs(ours.stress[0, 0]) > 1e-3


def test_toy_potential_sees_no_images_along_open_axes() -> None:
    check_open_axes(MORSE)


@open_structures
def test_stress_is_the_slope_of_the_energy_with_strains_of_the_periodic_vectors(make: Any) -> None:
    atoms = make()
    plane, h = span(atoms), 1e-4
    stress, volume = predict([atoms], MORSE)[0].stress, to_system(atoms).volume
    for i, j in np.ndindex(3, 3):
        unit = np.zeros((3, 3))
        unit[i, j] = unit[j, i] = 0.5 if i != j else 1.0
        strain = plane @ unit @ plane
        slope = (energy(strained(atoms, h * strain)) - energy(strained(atoms, -h * strain))) / (2 * h)
        assert np.sum(stress * strain) == pytest.approx(slope / volume, abs=1e-6)
    np.testing.assert_allclose(plane @ stress @ plane, stress, atol=1e-12)  # nothing along open axes


def test_missing_vectors_count_as_one_angstrom_in_volumes() -> None:
    assert to_system(chain()).volume == pytest.approx(np.linalg.norm(chain().cell.array[1]))
    sheet = graphene(a=2.46)
    assert sheet.cell.rank == 2
    assert to_system(sheet).volume == pytest.approx(2.46**2 * np.sqrt(3) / 2)
    wide = graphene(a=2.46, vacuum=5.0)
    thin, thick = (prediction.stress for prediction in predict([sheet, wide], MORSE))
    np.testing.assert_allclose(thin, thick * to_system(wide).volume / to_system(sheet).volume, atol=1e-12)


def test_vector_within_the_plane_of_a_slab_is_no_third_one() -> None:
    sheet = graphene(a=2.46)
    twisted = sheet.copy()
    twisted.set_cell([sheet.cell[0], sheet.cell[1], 3 * sheet.cell[0] + sheet.cell[1]])
    assert not to_system(twisted).cell[2].any()
    ours, theirs = predict([sheet, twisted], MORSE)
    assert ours.energy == theirs.energy
    assert from_system(twisted, to_system(twisted)).cell[2].tolist() == twisted.cell[2].tolist()


def test_pymatgen_and_ase_are_open_along_the_same_axes() -> None:
    slab = oblique_slab()
    lattice = Lattice(slab.cell.array, pbc=tuple(slab.pbc))
    structure = Structure(lattice, slab.get_chemical_symbols(), slab.positions, coords_are_cartesian=True)
    ours, theirs = predict([slab, structure], MORSE)
    assert ours.energy == pytest.approx(theirs.energy, abs=1e-12)
    (result,) = relax([structure], MORSE, fmax=0.01)
    assert result.structure.lattice.pbc == (False, True, True)
    np.testing.assert_allclose(result.structure.lattice.matrix[0], slab.cell[0])


@open_structures
@pytest.mark.parametrize("optimizer", ["fire", "lbfgs"])
def test_cell_stays_along_open_axes_and_relaxes_along_the_others(make: Any, optimizer: Any) -> None:
    atoms = make()
    (result,) = relax([atoms], MORSE, fmax=1e-3, optimizer=optimizer, max_steps=2000)
    assert result.converged and result.error is None
    after = result.structure
    np.testing.assert_array_equal(after.cell.array[~atoms.pbc], atoms.cell.array[~atoms.pbc])
    assert np.abs(after.cell.array - atoms.cell.array)[atoms.pbc].max() > 0.01
    # the plane of a slab and the direction of a chain stay
    np.testing.assert_allclose(after.cell.array[atoms.pbc] @ span(atoms), after.cell.array[atoms.pbc], atol=1e-9)
    assert result.stress is not None and np.abs(result.stress).max() * to_system(after).volume < 0.02
    assert result.volume_change == pytest.approx(to_system(after).volume / to_system(atoms).volume - 1)


def test_slab_relaxes_to_the_lattice_constant_that_ase_finds() -> None:
    slab = fcc100("Cu", (1, 1, 3), vacuum=12.0)
    slab.pbc = (True, True, False)
    (ours,) = relax([slab], MORSE, fmax=1e-4)
    theirs = with_gaps(slab)
    theirs.calc = DPA4Calculator(MORSE)
    BFGS(FrechetCellFilter(theirs, mask=[1, 1, 0, 0, 0, 1]), logfile=None).run(fmax=1e-4, steps=300)
    assert ours.energy == pytest.approx(theirs.get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(ours.structure.cell.lengths()[:2], theirs.cell.lengths()[:2], atol=1e-3)


@pytest.mark.parametrize(("cell", "kept"), [("volume", "area"), ("shape", "angles"), ((1, 0, 0, 0, 0, 0), "b")])
def test_modes_of_the_cell_hold_within_the_plane(cell: Any, kept: str) -> None:
    slab = tight_slab()
    slab.set_cell(np.diag([1.04, 0.98, 1.0]) @ slab.cell.array, scale_atoms=True)
    after = relax([slab], MORSE, fmax=0.01, cell=cell)[0].structure.cell
    before = slab.cell
    np.testing.assert_array_equal(after[2], before[2])
    assert not np.allclose(after[0], before[0], atol=1e-4)
    if kept == "area":
        assert np.linalg.norm(np.cross(*after[:2])) == pytest.approx(np.linalg.norm(np.cross(*before[:2])))
    elif kept == "angles":
        np.testing.assert_allclose(after[0] / before[0, 0], before[0] / before[0, 0] * after[1, 1] / before[1, 1])
    else:
        np.testing.assert_allclose(after[1], before[1])


def test_masks_that_allow_nothing_along_periodic_axes_are_refused() -> None:
    assert "mask of the cell" in str(relax([tight_slab()], MORSE, cell=(0, 0, 1, 0, 0, 0))[0].error)
    assert "mask of the cell" in str(relax([oblique_slab()], MORSE, cell=(1, 1, 0, 0, 0, 1))[0].error)


def test_pressure_on_vacuum_is_refused() -> None:
    assert "a pressure acts on a volume" in str(relax([tight_slab()], MORSE, pressure_gpa=1.0)[0].error)


def test_relaxation_keeps_the_symmetry_of_the_slab_and_not_that_of_the_bulk() -> None:
    slab = bulk("Cu", cubic=True).repeat((1, 1, 2))
    slab.pbc = (True, True, False)
    free, kept = (relax([slab], MORSE, fmax=1e-3, keep_symmetry=keep)[0] for keep in (False, True))
    assert kept.error is None and kept.converged
    assert kept.energy == pytest.approx(free.energy, abs=1e-4)
    heights = np.sort(kept.structure.positions[:, 2])
    gaps = np.diff(heights.reshape(-1, 2).mean(axis=1))
    assert gaps[0] != pytest.approx(gaps[1], abs=1e-3)  # the surfaces move as those of a slab do
    assert gaps[0] == pytest.approx(gaps[2], abs=1e-6)  # and alike
    np.testing.assert_array_equal(kept.structure.cell[2], slab.cell[2])
    assert "chains" in str(relax([chain()], MORSE, keep_symmetry=True)[0].error)


def test_batches_mix_crystals_slabs_chains_and_molecules() -> None:
    crystal, cluster = rattled(bulk("Cu", cubic=True)), Atoms("Cu2", [[0, 0, 0], [2.3, 0, 0]])
    mixed = [crystal, tight_slab(), chain(), cluster, oblique_slab()]
    together = relax(mixed, MORSE, fmax=1e-3, max_steps=2000)
    for atoms, result in zip(mixed, together, strict=True):
        (alone,) = relax([atoms], MORSE, fmax=1e-3, max_steps=2000)
        assert result.converged
        assert result.energy == pytest.approx(alone.energy, abs=1e-5)


def test_pieces_that_leave_a_slab_have_dissociated() -> None:
    slab = fcc100("Cu", (2, 2, 2), vacuum=3.0)
    slab.pbc = (True, True, False)
    assert "dissociated" not in relax([slab], MORSE, max_steps=0)[0].flags
    assert pieces(to_system(slab), 1.3) == (1, 2)
    slab.pbc = (True, False, False)
    assert pieces(to_system(slab), 1.3) == (1, 1)


@open_structures
def test_energy_is_conserved_in_dynamics_of_slabs_and_chains(make: Any) -> None:
    atoms = make()
    result = md(atoms, MORSE, MDSettings(ensemble="nve", temperature=100.0, time_ps=0.05))
    conserved = result.thermo.conserved_energy
    np.testing.assert_allclose(conserved, conserved[0], atol=1e-3)
    assert np.isnan(result.thermo.pressure_gpa).all()
    after = result.structure
    assert after.pbc.tolist() == atoms.pbc.tolist()
    np.testing.assert_array_equal(after.cell.array, atoms.cell.array)


def test_barostat_needs_a_crystal() -> None:
    with pytest.raises(DPA4Error, match="not periodic in all directions; use nvt"):
        md(tight_slab(), MORSE, MDSettings(ensemble="npt", time_ps=0.01))


@open_structures
def test_frames_of_training_keep_their_axes(make: Any, tmp_path: Path) -> None:
    atoms = make()
    labels = {"energy": -1.0, "forces": np.zeros((len(atoms), 3)), "stress": np.eye(3)}
    frame = labelled_frame(atoms, labels, name="one", source="file", fields={})
    assert frame.stress is None  # of whatever volume
    store = build_store(tmp_path / "store", [LabelledFrame(frame)], cutoff=5.0, sources=["file"], key="key")
    system, original = store.system(0), to_system(atoms)
    assert system.pbc.tolist() == original.pbc.tolist()
    np.testing.assert_array_equal(system.cell, original.cell)
    assert store.arrays["n_edges"][0] == build_graph([original], 5.0).n_edges

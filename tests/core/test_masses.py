"""Masses belong to the structure: isotopes, and whatever a user sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_masses
from pymatgen.core import Lattice, Molecule, Structure

from dpa4_core.data.isotopes import ISOTOPE_MASSES
from dpa4_core.data.structures import StructureError, check_system, from_system, to_system
from dpa4_core.md import MDSettings, md
from dpa4_core.predict import predict
from dpa4_core.relax import relax
from dpa4_core.testing import MorsePotential

MORSE = MorsePotential(cutoff=5.0)
D = ISOTOPE_MASSES["D"]
LITHIUM = atomic_masses[3]


def rocksalt(hydrogen: str = "H") -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.0), ["Li", hydrogen], [[0, 0, 0], [0.5, 0.5, 0.5]])


def deuteride_of_ase() -> Atoms:
    atoms = rocksalt().to_ase_atoms(msonable=False)
    atoms.set_masses([D if z == 1 else None for z in atoms.numbers])
    return atoms


def with_property() -> Structure:
    structure = rocksalt()
    structure.add_site_property("masses", [D if site.specie.Z == 1 else None for site in structure])
    return structure


DEUTERIDES: dict[str, Callable[[], Any]] = {
    "ase": deuteride_of_ase,
    "isotope of pymatgen": lambda: rocksalt("D"),
    "isotope of pymatgen with an oxidation state": lambda: rocksalt("D-"),
    "site property": with_property,
}
deuterides = pytest.mark.parametrize("make", DEUTERIDES.values(), ids=DEUTERIDES)


@deuterides
def test_deuterium_is_hydrogen_with_another_mass(make: Callable[[], Any]) -> None:
    system = to_system(make())
    assert system.masses is not None and sorted(set(system.numbers)) == [1, 3]
    np.testing.assert_allclose(system.masses, np.where(system.numbers == 1, D, LITHIUM))
    assert check_system(system, {1, 3}) is None
    (here, natural) = predict([make(), rocksalt()], MORSE)
    assert here.energy == pytest.approx(natural.energy, abs=1e-12)


def test_tritium_of_a_molecule() -> None:
    system = to_system(Molecule(["O", "T", "H"], [[0, 0, 0], [0.96, 0, 0], [-0.2, 0.94, 0]]))
    np.testing.assert_allclose(system.masses, [atomic_masses[8], ISOTOPE_MASSES["T"], atomic_masses[1]])


def test_isotopes_have_the_masses_of_the_neutral_atoms() -> None:
    # electron and binding energies aside, twice and thrice the nucleon; pymatgen has those of the nuclei, 5e-4 lower
    assert pytest.approx(2.01410178, abs=1e-7) == ISOTOPE_MASSES["D"]
    assert pytest.approx(3.01604928, abs=1e-7) == ISOTOPE_MASSES["T"]


def test_standard_masses_are_none_however_they_are_written() -> None:
    atoms = bulk("Cu")
    assert to_system(atoms).masses is None
    atoms.set_masses(atoms.get_masses())
    assert to_system(atoms).masses is None
    atoms.arrays["masses"] = np.round(atoms.get_masses(), 6)  # of a file
    assert to_system(atoms).masses is None
    atoms.set_masses([64.93])
    np.testing.assert_allclose(to_system(atoms).masses, [64.93])


@pytest.mark.parametrize(("mass", "sentence"), [(-1.0, "is -1 u"), (0.0, "is 0 u"), (np.inf, "is inf u")])
def test_impossible_masses_are_refused(mass: float, sentence: str) -> None:
    atoms = bulk("Cu")
    atoms.arrays["masses"] = np.array([mass])
    with pytest.raises(StructureError, match=sentence):
        to_system(atoms)


def test_masses_that_are_no_numbers_are_refused() -> None:
    structure = Structure(Lattice.cubic(3), ["Li"], [[0, 0, 0]], site_properties={"masses": ["heavy"]})
    with pytest.raises(StructureError, match="a mass is not a number"):
        to_system(structure)


@deuterides
def test_masses_come_back_from_a_relaxation(make: Callable[[], Any]) -> None:
    structure = make()
    (result,) = relax([structure], MORSE, fmax=0.05)
    assert result.converged and type(result.structure) is type(structure)
    np.testing.assert_allclose(to_system(result.structure).masses, to_system(structure).masses)
    again = from_system(to_system(structure), to_system(result.structure))
    np.testing.assert_allclose(again.masses, to_system(structure).masses)


@deuterides
def test_dynamics_gives_deuterium_the_velocities_of_its_mass(make: Callable[[], Any]) -> None:
    settings = MDSettings(ensemble="nve", temperature=300.0, time_ps=0.01, timestep_fs=0.5)
    heavy, light = (md(structure, MORSE, settings) for structure in (make(), rocksalt()))
    assert heavy.thermo.temperature[0] == pytest.approx(300.0)
    assert heavy.thermo.kinetic_energy[0] == pytest.approx(light.thermo.kinetic_energy[0])
    # what differs is how far hydrogen gets
    before, *after = (to_system(x).positions for x in (rocksalt(), heavy.structure, light.structure))
    hydrogen = to_system(rocksalt()).numbers == 1
    far = [np.sqrt(np.square(x - before)[hydrogen].sum()) for x in after]
    assert far[0] / far[1] == pytest.approx(np.sqrt(atomic_masses[1] / D), rel=0.15)

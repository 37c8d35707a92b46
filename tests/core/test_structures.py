"""Arrays from the structures of users and back, and which structures are refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLengths, FixCartesian, FixScaled
from pymatgen.core import IStructure, Lattice, Molecule, Structure
from pymatgen.core.surface import SlabGenerator

from dpa4_core.calculator import DPA4Calculator
from dpa4_core.data.structures import (
    StructureError,
    check_system,
    constraint_problem,
    formula,
    from_system,
    is_structure,
    to_system,
)
from dpa4_core.errors import DPA4Error
from dpa4_core.predict import predict
from dpa4_core.relax import BandOptions, Static, relax, relax_stream
from dpa4_core.stream import predict_stream
from dpa4_core.testing import MorsePotential

ALL = range(1, 119)


def _rocksalt() -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_ase_and_pymatgen_give_the_same_arrays() -> None:
    structure = _rocksalt()
    atoms = structure.to_ase_atoms()
    ours, theirs = to_system(structure), to_system(atoms)
    np.testing.assert_array_equal(ours.numbers, theirs.numbers)
    np.testing.assert_allclose(ours.positions, theirs.positions, atol=1e-12)
    np.testing.assert_allclose(ours.cell, theirs.cell)
    assert ours.periodic and theirs.periodic
    assert ours.numbers.dtype == np.int64 and ours.positions.dtype == np.float64


def test_periodicity_is_that_of_every_axis() -> None:
    assert to_system(Atoms("H", cell=[5, 5, 5], pbc=[False, False, True])).pbc.tolist() == [False, False, True]
    film = Structure(Lattice(np.eye(3) * 4, pbc=(True, False, True)), ["Na"], [[0, 0, 0]])
    assert to_system(film).pbc.tolist() == [True, False, True]
    free = to_system(Atoms("H", cell=[5, 5, 5]))
    assert not free.periodic
    assert not free.cell.any()


def test_a_system_passes_through() -> None:
    system = to_system(bulk("Cu"))
    assert to_system(system) is system
    assert from_system(system, system) is system
    assert is_structure(system) and is_structure(_rocksalt()) and not is_structure([bulk("Cu")])


def _moved(structure: Any) -> tuple[Any, Any]:
    system = to_system(structure)
    positions = system.positions * 1.02 + 0.3
    cell = system.cell * 1.02
    target = type(system)(system.numbers, positions, cell, system.pbc, system.fixed, system.charge_spin)
    return from_system(structure, target), target


def test_atoms_come_back_with_tags_constraints_and_info() -> None:
    slab = fcc111("Al", (1, 1, 3), vacuum=5.0)
    slab.set_constraint(FixAtoms([0]))
    slab.info["source"] = {"id": 7}
    slab.calc = EMT()
    moved, target = _moved(slab)
    assert type(moved) is Atoms
    np.testing.assert_allclose(moved.positions, target.positions)  # constraints do not hold positions back
    np.testing.assert_allclose(moved.cell[:2], target.cell[:2])
    np.testing.assert_array_equal(moved.cell[2], slab.cell[2])  # the vacuum is not the relaxation's
    np.testing.assert_array_equal(moved.get_tags(), slab.get_tags())
    assert moved.info == slab.info
    assert moved.constraints[0].index.tolist() == [0]
    assert moved.calc is None and slab.calc is not None


def test_cell_of_an_open_cluster_is_kept() -> None:
    cluster = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]], cell=[9, 9, 9])
    moved, _ = _moved(cluster)
    assert moved.cell.lengths().tolist() == [9, 9, 9]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # spglib, called by the slab generator
@pytest.mark.parametrize("kind", ["Structure", "IStructure", "Slab"])
def test_pymatgen_structures_come_back_as_what_they_were(kind: str) -> None:
    structure = _rocksalt()
    structure.add_site_property("magmom", [0.5 * i for i in range(8)])
    structure.properties["note"] = "kept"
    if kind == "IStructure":
        structure = IStructure.from_sites(structure.sites, properties=structure.properties)
    if kind == "Slab":
        structure = SlabGenerator(_rocksalt(), (1, 0, 0), 4, 8).get_slab()
        structure.add_site_property("magmom", [0.5 * i for i in range(len(structure))])
    before = structure.cart_coords.copy()
    moved, target = _moved(structure)
    assert type(moved) is type(structure)
    np.testing.assert_allclose(moved.cart_coords, target.positions, atol=1e-9)
    np.testing.assert_allclose(moved.lattice.matrix, target.cell)
    assert moved.site_properties["magmom"] == structure.site_properties["magmom"]
    assert moved.properties == structure.properties
    np.testing.assert_array_equal(structure.cart_coords, before)


def test_molecules_come_back_with_charge_and_spin() -> None:
    water = Molecule(["O", "H", "H"], [[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]], charge=1)
    moved, target = _moved(water)
    assert type(moved) is Molecule
    assert (moved.charge, moved.spin_multiplicity) == (1, 2)
    np.testing.assert_allclose(moved.cart_coords, target.positions)


def test_charge_and_spin_come_only_from_structures_that_name_them() -> None:
    water = molecule("H2O")
    assert to_system(water).charge_spin is None
    water.info["charge"] = -1
    assert to_system(water).charge_spin == (-1, 2)  # 11 electrons
    water.info["spin"] = 4
    assert to_system(water).charge_spin == (-1, 4)
    oxygen = Molecule(["O", "O"], [[0, 0, 0], [0, 0, 1.2]], spin_multiplicity=3)
    assert to_system(oxygen).charge_spin == (0, 3)
    assert to_system(Molecule(["He"], [[0, 0, 0]])).charge_spin is None
    decorated = _rocksalt().add_oxidation_state_by_element({"Mg": 2, "O": -1})
    assert to_system(decorated).charge_spin is None
    charged = Structure(Lattice.cubic(8), ["Na"], [[0, 0, 0]], charge=1)
    assert to_system(charged).charge_spin == (1, 1)


@pytest.mark.parametrize(("charge", "spin"), [("two", 1), (0.5, 1), (0, 1000), (500, 1)])
def test_charges_that_no_model_knows_are_refused(charge: Any, spin: Any) -> None:
    water = molecule("H2O")
    water.info.update(charge=charge, spin=spin)
    with pytest.raises(StructureError, match="must be integers"):
        to_system(water)


@pytest.mark.parametrize(
    "labels",
    [
        {"charge": 0.3},
        {"charge": 1, "spin": 2.7},
        {"spin": "up"},
        {"charge": [0.1, -0.1]},
        {"charge": np.nan, "spin": 1},
        {"occupancy": {"Mg": 0.9}},
        {"occupancy": {"0": {"Mg": "full"}}},
    ],
    ids=str,
)
def test_labels_of_other_codes_do_not_spoil_crystals(labels: dict[str, Any]) -> None:
    atoms = bulk("MgO", "rocksalt", a=4.2)
    atoms.info.update(labels)
    assert to_system(atoms).charge_spin is None
    atoms.info = {"charge": 10**400}  # no float holds it
    assert to_system(atoms).charge_spin is None
    atoms.info = {"charge": -1.0, "spin": 2.0}
    assert to_system(atoms).charge_spin == (-1, 2)
    atoms.info = {"spin": 3}
    assert to_system(atoms).charge_spin == (0, 3)


def test_ase_constraints_become_fixed_coordinates() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.set_constraint([FixAtoms([-1]), FixCartesian([0], mask=(True, False, False)), FixScaled(1, (1, 0, 1))])
    fixed = to_system(atoms).fixed
    assert fixed.tolist() == [[True, False, False], [True, False, True], [False] * 3, [True] * 3]
    assert constraint_problem(atoms) is None


def test_constraints_that_are_not_coordinates_are_named() -> None:
    atoms = molecule("H2O")
    atoms.set_constraint(FixBondLengths([(0, 1)]))
    assert "FixBondLengths is not supported" in str(constraint_problem(atoms))
    to_system(atoms)  # a prediction moves nothing


@pytest.mark.parametrize("constraint", [FixAtoms([7]), FixCartesian(7), FixScaled(-7, (1, 0, 0))], ids=repr)
def test_a_constraint_on_an_atom_that_is_not_there_is_of_its_structure_alone(constraint: Any) -> None:
    atoms = bulk("Cu")
    atoms.set_constraint(constraint)
    bad, good = predict([atoms, bulk("Cu")], MorsePotential())
    assert bad.error == "a constraint fixes atom 7 of 1; remove or correct it"
    assert good.error is None


def test_selective_dynamics_fix_what_may_not_move() -> None:
    hexagonal = Structure(Lattice.hexagonal(3, 8), ["Co", "O"], [[0, 0, 0], [1 / 3, 2 / 3, 0.2]])
    hexagonal.add_site_property("selective_dynamics", [[False, False, False], [True, True, False]])
    assert to_system(hexagonal).fixed.tolist() == [[True] * 3, [False, False, True]]
    assert constraint_problem(hexagonal) is None
    hexagonal.add_site_property("selective_dynamics", [[False, False, True], [True, True, True]])
    assert to_system(hexagonal).fixed.tolist() == [[True, True, False], [False] * 3]
    hexagonal.add_site_property("selective_dynamics", [[True, False, True], [True, True, True]])
    assert to_system(hexagonal).fixed[0].tolist() == [False, True, False]  # b* of this setting is along y
    hexagonal.add_site_property("selective_dynamics", [[False, True, True], [True, True, True]])
    assert "selective dynamics" in str(constraint_problem(hexagonal))  # a* is along no axis


@pytest.mark.parametrize("flags", [[True], [True, False], "F F T", ["F", "F", "T"], True, [[True], [False], [True]]])
def test_malformed_selective_dynamics_are_refused_in_one_sentence(flags: Any) -> None:
    structure = _rocksalt()
    structure.add_site_property("selective_dynamics", [[True] * 3, flags, *[None] * 6])
    with pytest.raises(StructureError, match="selective_dynamics of site 1 is .*; give three of True and False"):
        to_system(structure)


@pytest.mark.parametrize(
    ("structure", "sentence"),
    [
        (Atoms(), "no atoms"),
        (Atoms("H2", positions=[[0, 0, 0], [0, np.nan, 1]]), r"position of atom 1 \(H\)"),
        (Atoms("H", cell=[1, 1, np.inf], pbc=True), "cell contains NaN"),
        (Atoms("HX", positions=[[0, 0, 0], [0, 0, 1]]), "atom 1 has atomic number 0"),
        (Structure(Lattice.cubic(3), [{"Li": 0.5}], [[0, 0, 0]]), r"partially occupied \(Li 0.5\)"),
        (Structure(Lattice.cubic(3), [{"Li": 0.5, "Na": 0.5}], [[0, 0, 0]]), "partially occupied"),
        (Structure(Lattice.cubic(3), ["Xa"], [[0, 0, 0]]), "not an element"),
        ("POSCAR", "str is not a structure"),
        (None, "NoneType is not a structure"),
        ([bulk("Cu")], "list is not a structure"),
    ],
)
def test_what_is_no_structure_is_refused_in_one_sentence(structure: Any, sentence: str) -> None:
    with pytest.raises(StructureError, match=sentence) as refusal:
        to_system(structure)
    assert "\n" not in str(refusal.value)


def test_occupancies_of_ase_are_not_overlooked() -> None:
    atoms = bulk("Cu")
    atoms.info["occupancy"] = {"0": {"Cu": 1.0}}
    to_system(atoms)
    atoms.info["occupancy"] = {"0": {"Cu": 0.7, "Au": 0.3}}
    with pytest.raises(StructureError, match=r"Cu 0.7, Au 0.3"):
        to_system(atoms)


@pytest.mark.parametrize(
    "atoms",
    [
        molecule("H2"),
        Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.5]]),
        bulk("Fe", "bcc", a=2.2),
        bulk("Cs", "bcc", a=3.1),  # far beyond 100 GPa
        bulk("H", "sc", a=1.1),
        molecule("CO"),
        Atoms("UO2", positions=[[0, 0, 0], [0, 0, 1.7], [0, 0, -1.7]]),
        bulk("Al").repeat((1, 1, 30)),
    ],
)
def test_short_but_real_bonds_are_computed(atoms: Atoms) -> None:
    assert check_system(to_system(atoms), ALL) is None


def test_overlapping_atoms_are_named_with_their_distance() -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.6).repeat(2)
    atoms.positions[5] = atoms.positions[2] + [0.1, 0.0, 0.0]
    sentence = check_system(to_system(atoms), ALL)
    assert sentence is not None
    assert "atom 2 (Na) and atom 5 (Cl) overlap: 0.10 Å apart" in sentence
    assert check_system(to_system(atoms), ALL, min_distance_ratio=0.01) is None
    atoms.positions[5] = atoms.positions[2] + atoms.cell[0]
    assert "0.00 Å apart" in str(check_system(to_system(atoms), ALL))
    assert check_system(to_system(atoms), ALL, min_distance_ratio=0) is None


def test_the_pair_that_is_named_is_the_worst_one() -> None:
    crowded = Atoms("Cs2H2", positions=[[0, 0, 0], [0, 0, 1.5], [9, 0, 0], [9, 0, 0.01]])
    assert "atom 2 (H) and atom 3 (H)" in str(check_system(to_system(crowded), ALL))


@pytest.mark.parametrize(
    ("atoms", "sentence"),
    [
        (Atoms("H", cell=[4, 0, 9], pbc=[True, True, False]), r"vectors of the periodic axes \(a, b\) are missing"),
        (Atoms("H", cell=[[4, 0, 0], [4, 0, 0], [0, 0, 9]], pbc=[True, True, False]), "too short or parallel"),
        (Atoms("H", cell=[0, 0, 1e-3], pbc=[False, False, True]), r"vectors of the periodic axes \(c\)"),
        (Atoms("H", cell=[[4, 0, 0], [4, 0, 0], [0, 0, 4]], pbc=True), "singular"),
        (Atoms("H", cell=[4, 4, 1e-3], pbc=True), "singular or too small"),
        (Atoms("Cu", cell=[2, 2, 0.2], pbc=True), "its own periodic image"),
        (Atoms("H", cell=[4, 4, 1e8], pbc=True), "lattice vector is 1e.08 Å long"),
        (Atoms("H2", positions=[[0, 0, 0], [0, 0, 1e7]]), "extend over 1e.07 Å"),
        (Atoms("H", positions=[[1e9, 0, 0]], cell=[4, 4, 4], pbc=True), "position is 1e.09 Å"),
        (Atoms("HPoAt", positions=np.eye(3) * 5), "elements Po, At are not in this potential"),
        (Atoms("Pu"), r"element Pu is not in this potential \(83 elements\)"),
    ],
)
def test_what_cannot_be_computed_is_told_in_one_sentence(atoms: Atoms, sentence: str) -> None:
    found = check_system(to_system(atoms), range(1, 84))
    assert found is not None
    assert re.search(sentence, found), found
    assert "\n" not in found


def test_formulas_name_a_structure_in_messages() -> None:
    assert formula(to_system(_rocksalt())) == "O4Mg4"


@pytest.mark.parametrize("ratio", [float("nan"), float("inf"), -0.1, 1.5])
def test_a_closest_distance_that_makes_no_sense_is_refused_at_once(ratio: float) -> None:
    for ask in (
        lambda: predict([], MorsePotential(), min_distance_ratio=ratio),
        lambda: predict_stream([], MorsePotential(), min_distance_ratio=ratio),
        lambda: relax([], MorsePotential(), min_distance_ratio=ratio),
        lambda: relax_stream([], MorsePotential(), min_distance_ratio=ratio),
        lambda: DPA4Calculator(MorsePotential(), min_distance_ratio=ratio),
        lambda: Static(bulk("Cu"), min_distance_ratio=ratio),
        lambda: BandOptions(min_distance_ratio=ratio),
    ):
        with pytest.raises(DPA4Error, match=r"min_distance_ratio must be a number from 0 to below 1\.5, not "):
            ask()

"""Isotopes in workflows: what depends on masses, and what must not mix structures that differ in nothing else."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.data import atomic_masses
from monty.json import MontyDecoder, MontyEncoder
from pymatgen.core import Lattice, Molecule, Structure
from scipy.constants import atomic_mass, e
from toy_campaign import MORSE

from dpa4_core import predict, relax
from dpa4_core.data.flat_rows import flat_atoms
from dpa4_core.data.isotopes import ISOTOPE_MASSES
from dpa4_core.data.site_data import as_atoms
from dpa4_core.data.structures import to_system
from dpa4_core.errors import DPA4Error
from dpa4_core.md import MDSettings
from dpa4_core.md.subject import identity_of, movable_atoms
from dpa4_core.testing import MorsePotential
from dpa4_flows.documents.calculations import input_hash, plain_structure, relaxation_document, system_hash
from dpa4_flows.large.rows import Rows
from dpa4_flows.makers.named import BatchElasticMaker, BatchPhononMaker, BatchRelaxMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.site_conversion import all_with_written_masses

MODEL, POTENTIAL = ModelRef(MORSE), MorsePotential()
D, H = ISOTOPE_MASSES["D"], atomic_masses[1]


@pytest.fixture(scope="module")
def hydride() -> Structure:
    primitive = Structure(Lattice([[0, 2, 2], [2, 0, 2], [2, 2, 0]]), ["Li", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    return relax([primitive], MODEL.load(), fmax=1e-5, keep_symmetry=True)[0].structure


def by_species(hydride: Structure) -> Structure:
    return Structure(hydride.lattice, ["Li", "D"], hydride.frac_coords)


def by_property(hydride: Structure) -> Structure:
    return hydride.copy(site_properties={"masses": [None, D]})


ways = pytest.mark.parametrize("deuteride", [by_species, by_property])


@ways
def test_optical_modes_fall_with_the_root_of_the_reduced_mass(
    hydride: Structure, deuteride: Callable[[Structure], Structure]
) -> None:
    pytest.importorskip("phonopy")
    maker = BatchPhononMaker(
        property=Phonons(min_length=5.0, mesh_length=15.0, temperatures_k=(0.0, 300.0)), model=MODEL
    )
    light, heavy = maker.documents([hydride, deuteride(hydride)])
    assert light.error is None and heavy.error is None
    lithium = atomic_masses[3]
    ratio = np.sqrt(H * (lithium + D) / (D * (lithium + H)))
    np.testing.assert_allclose(heavy.gamma_optical_thz, ratio * np.array(light.gamma_optical_thz), rtol=1e-3)
    assert heavy.thermal[0].free_energy_ev_per_atom < light.thermal[0].free_energy_ev_per_atom  # of the zero point
    assert heavy.thermal[1].entropy_j_mol_k > light.thermal[1].entropy_j_mol_k


def test_hydrogen_and_deuterium_are_not_equal_by_symmetry(hydride: Structure) -> None:
    pytest.importorskip("phonopy")
    from dpa4_flows.analysis.force_constants import PhononCalculation

    mixed = hydride * [2, 1, 1]
    mixed.add_site_property(
        "masses", [None if site.specie.Z == 3 else D if i % 2 else None for i, site in enumerate(mixed)]
    )
    assert len(PhononCalculation(hydride * [2, 1, 1], min_length=5.0).primitive) == 2
    calculation = PhononCalculation(mixed, min_length=5.0)
    assert len(calculation.primitive) == 4
    assert sorted(calculation.phonopy.primitive.masses)[:2] == pytest.approx([H, D], rel=1e-4)
    rest, *forces = (
        prediction.forces for prediction in predict([calculation.primitive, *calculation.displaced], POTENTIAL)
    )
    calculation.set_forces(forces, rest)
    found = calculation.at(np.zeros((1, 3))).frequencies_thz[0]
    np.testing.assert_allclose(found[3:], _gamma_frequencies(calculation.primitive)[3:], rtol=2e-3)


def _gamma_frequencies(crystal: Structure) -> np.ndarray:
    """THz, from differences of forces in the cell itself."""
    atoms = as_atoms(crystal)
    n, h = len(atoms), 0.005
    moved = []
    for atom, axis, sign in itertools.product(range(n), range(3), (1, -1)):
        moved.append(atoms.copy())
        moved[-1].positions[atom, axis] += sign * h
    forces = np.array([prediction.forces.ravel() for prediction in predict(moved, POTENTIAL)])
    hessian = -(forces[::2] - forces[1::2]) / (2 * h)
    mass = np.repeat(atoms.get_masses(), 3)
    squares = np.linalg.eigvalsh((hessian + hessian.T) / 2 / np.sqrt(np.outer(mass, mass)))
    thz = 1e-12 * np.sqrt(e / atomic_mass) * 1e10 / (2 * np.pi)  # of √(eV/Å²/u)
    return np.sort(np.sign(squares) * np.sqrt(np.abs(squares))) * thz


@ways
def test_debye_temperature_falls_with_the_root_of_the_density(
    hydride: Structure, deuteride: Callable[[Structure], Structure]
) -> None:
    light, heavy = BatchElasticMaker(property=Elastic(fmax=1e-3), model=MODEL).documents([hydride, deuteride(hydride)])
    lithium = atomic_masses[3]
    assert heavy.k_vrh_gpa == pytest.approx(light.k_vrh_gpa)
    expected = np.sqrt((lithium + H) / (lithium + D))
    assert heavy.debye_temperature_k / light.debye_temperature_k == pytest.approx(expected, rel=1e-3)


@ways
def test_jobs_and_documents_keep_isotopes(hydride: Structure, deuteride: Callable[[Structure], Structure]) -> None:
    structure = deuteride(hydride)
    job = BatchPhononMaker(model=MODEL).make([structure])
    (kept,) = MontyDecoder().decode(json.dumps(job, cls=MontyEncoder)).function_args[0]
    np.testing.assert_allclose(to_system(kept).masses, [atomic_masses[3], D])
    assert input_hash(kept) == input_hash(structure) != input_hash(hydride)
    (result,) = relax([structure], MODEL.load(), fmax=0.1)
    document = relaxation_document(structure, result, MODEL.info(), BatchRelaxMaker(model=MODEL).settings())
    again = Structure.from_dict(json.loads(document.model_dump_json())["structure"])
    np.testing.assert_allclose(to_system(again).masses, [atomic_masses[3], D])


def test_molecules_keep_isotopes_too() -> None:
    water = Molecule(["O", "D", "D"], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    (kept,) = all_with_written_masses([water])
    again = Molecule.from_dict(json.loads(kept.to_json()))
    np.testing.assert_allclose(to_system(again).masses, [atomic_masses[8], D, D])
    assert input_hash(plain_structure(water)) == input_hash(water)


def test_standard_masses_leave_structures_and_hashes_as_they_were(hydride: Structure) -> None:
    assert all_with_written_masses(hydride) is hydride
    written = hydride.copy(site_properties={"masses": [float(atomic_masses[3]), float(H)]})
    assert input_hash(written) == input_hash(hydride)
    assert "masses" not in plain_structure(written).site_properties


@pytest.mark.parametrize(
    ("atoms", "of_structure", "of_run"),
    [
        (bulk("NaCl", "rocksalt", a=5.64), "e2eb5426621d47e38ac1", "63a367ec0805463acd5e"),
        (molecule("H2O"), "94d5891c3793a419f8b5", "80fe1604235bfd572b59"),
    ],
    ids=["crystal", "molecule"],
)
def test_results_stored_before_there_were_masses_and_axes_are_found(atoms, of_structure: str, of_run: str) -> None:
    system = to_system(atoms)
    assert system_hash(system).startswith(of_structure)
    identity = identity_of(system, movable_atoms(atoms, system), MorsePotential(), MDSettings())
    assert identity["structure"].startswith(of_run)


@ways
def test_rows_of_large_runs_hold_masses(hydride: Structure, deuteride: Callable[[Structure], Structure]) -> None:
    structure = deuteride(hydride)
    (result,) = relax([structure], MODEL.load(), max_steps=0)
    rows = Rows(MODEL.resolve(), {"calculation": "relax"}, with_forces=False)
    row = rows.computed(0, "file", "name", structure, result)
    np.testing.assert_allclose(flat_atoms(json.loads(json.dumps(row))).get_masses(), [atomic_masses[3], D])
    (result,) = relax([hydride], MODEL.load(), max_steps=0)
    assert "masses" not in rows.computed(0, "file", "name", hydride, result)


@pytest.mark.filterwarnings("ignore")  # atomate2 and phonopy warn about deprecated units of their own
def test_flow_that_knows_no_masses_refuses_isotopes(hydride: Structure) -> None:
    pytest.importorskip("phonopy")
    from dpa4_flows.makers.phonon_flow import DPA4PhononMaker

    with pytest.raises(DPA4Error, match="standard masses only; use BatchPhononMaker"):
        DPA4PhononMaker(model=MODEL).make(by_species(hydride))

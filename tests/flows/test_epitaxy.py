"""Films on wafers: known pairs are found, and strain costs what the elastic tensor says."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from pymatgen.analysis.elasticity import ElasticTensor
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from toy_campaign import MORSE

from dpa4_core.errors import DPA4Error
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.analysis.elasticity import elastic_deformations, fit_elastic_tensor
from dpa4_flows.analysis.epitaxy import Wafer, matches, wafers
from dpa4_flows.analysis.facets import distinct_facets, facet_name, standard_cells
from dpa4_flows.analysis.interfaces import interface_cell
from dpa4_flows.analysis.stability import primitive_cell
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.epitaxy import Epitaxy


def wurtzite(a: float, c: float, u: float, cation: str, anion: str) -> Structure:
    lattice, thirds = Lattice.hexagonal(a, c), (1 / 3, 2 / 3)
    return Structure.from_spacegroup("P6_3mc", lattice, [cation, anion], [[*thirds, 0.0], [*thirds, u]])


def rocksalt(a: float, cation: str, anion: str) -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_wafers_have_the_formulas_that_their_file_says():
    expected = {"sapphire": "Al2O3", "silicon_carbide_4h": "SiC", "spinel": "MgAl2O4", "lanthanum_aluminate": "LaAlO3"}
    found = {name: wafer.structure.composition.reduced_formula for name, wafer in wafers().items()}
    assert expected.items() <= found.items() and len(found) == 20
    assert min(min(wafer.structure.distance_matrix[0][1:]) for wafer in wafers().values()) > 1.4


def test_gallium_nitride_lies_on_sapphire_turned_by_thirty_degrees():
    """(0001) on (0001), 14 % of misfit if the cells were not turned, 16 % of the other sign if they are."""
    film = wurtzite(3.216, 5.24, 0.376, "Ga", "N")
    found = [m for m in matches(film, [wafers()["sapphire"]]) if (m.film_plane, m.substrate_plane) == ("0001", "0001")]
    (match,) = found
    assert match.area < 100 and match.strain < 0.02 and match.elastic_energy is None


def test_strain_and_its_energy_are_those_of_a_film_in_the_plane():
    """A cubic film on a cubic wafer of nearly its size: the strain of both axes is the misfit."""
    misfit, c11, c12, c44 = 0.01, 300.0, 100.0, 150.0
    film = rocksalt(4.2, "Mg", "O")
    wafer = Wafer("wider", rocksalt(4.2 * (1 + misfit), "Mg", "O"), ((1, 0, 0),))
    tensor = [[c11 if i == j else c12 for j in range(3)] + [0.0] * 3 for i in range(3)]
    tensor += [[0.0] * (3 + i) + [c44] + [0.0] * (2 - i) for i in range(3)]
    match = next(m for m in matches(film, [wafer], elastic_tensor_gpa=tensor) if m.film_plane == "100")
    green = misfit + misfit**2 / 2
    assert match.strain == pytest.approx(2 / 3 * green, rel=0.02)  # of von Mises, of two equal strains
    density = (c11 + c12 - 2 * c12**2 / c11) * green**2 / EV_PER_ANGSTROM3_TO_GPA  # the third axis without stress
    assert match.elastic_energy == pytest.approx(density * film.volume / len(film), rel=0.02)
    assert match.area == pytest.approx(4.2**2, rel=0.03)


_HEXAGONAL = Lattice.hexagonal(4.24, 6.84)


@pytest.mark.parametrize(
    "film",
    [
        Structure.from_spacegroup("P4_2/mnm", Lattice.tetragonal(4.6, 2.95), ["Ti", "O"], [[0] * 3, [0.305, 0.305, 0]]),
        Structure.from_spacegroup("P4/m", Lattice.tetragonal(5, 4), ["Ca", "O"], [[0] * 3, [0.15, 0.31, 0]]),
        Structure.from_spacegroup("P-3m1", _HEXAGONAL, ["Cd", "I"], [[0] * 3, [1 / 3, 2 / 3, 0.25]]),
        Structure.from_spacegroup("P-3", _HEXAGONAL, ["Fe", "O"], [[0] * 3, [0.317, 0.023, 0.245]]),
    ],
    ids=["rutile, c shorter than a", "4/m with C16", "-3m with C14", "-3 with C14 and C15"],
)
def test_strain_costs_the_same_in_whatever_axes_planes_are_cut(film: Structure):
    """All planes grow by 1 %. What that costs follows from the tensor and the normal in the axes of the crystal, where
    neither those of the standard nor those of a cut come in.
    """
    film, growth = primitive_cell(film), 0.01
    made = np.random.default_rng(0).normal(size=(6, 6))
    made = 25 * (made + made.T) + 120 * np.eye(6) + 60 * np.kron(np.diag([1, 0]), np.ones((3, 3)))
    stiffness = np.array(ElasticTensor.from_voigt(made).fit_to_structure(film, symprec=0.01))  # GPa
    deformations = elastic_deformations()
    stresses = []
    for one in deformations:
        second = np.einsum("ijkl,kl", stiffness, (one.T @ one - np.eye(3)) / 2)
        stresses.append(one @ second @ one.T / np.linalg.det(one) / EV_PER_ANGSTROM3_TO_GPA)
    tensor = fit_elastic_tensor(film, deformations, stresses).c_ij_gpa.tolist()
    conventional = standard_cells(film)[0]
    symmetry = SpacegroupAnalyzer(film).get_symmetry_dataset()
    rows = symmetry.std_lattice @ symmetry.std_rotation_matrix  # conventional, in the axes of the film
    wider = conventional.copy()
    wider.lattice = Lattice(conventional.lattice.matrix * (1 + growth))
    for miller in distinct_facets(conventional, 1):
        normal = np.linalg.inv(rows) @ miller
        normal /= np.linalg.norm(normal)
        strain = (growth + growth**2 / 2) * (np.eye(3) - np.outer(normal, normal))
        held = np.einsum("ijkl,kl,j->i", stiffness, strain, normal)
        answer = np.linalg.solve(np.einsum("ijkl,j,l->ik", stiffness, normal, normal), -held)
        strain += (np.outer(normal, answer) + np.outer(answer, normal)) / 2
        density = np.einsum("ij,ijkl,kl", strain, stiffness, strain) / 2 / EV_PER_ANGSTROM3_TO_GPA
        name = facet_name(conventional.lattice, miller)
        fits = matches(film, [Wafer("wider", wider, (miller,))], elastic_tensor_gpa=tensor)
        (found,) = [one.elastic_energy for one in fits if one.film_plane == name]
        assert found == pytest.approx(density * film.volume / len(film), rel=1e-6), name


def test_epitaxy_is_a_property_with_both_sides_of_the_model():
    model = ModelRef(MORSE, dtype="float64")
    film = rocksalt(4.0, "Mg", "O")
    relaxed = Ask(Relaxed(fmax=1e-3, keep_symmetry=True), Crystal(film.get_primitive_structure()))
    ((_, rest),) = compute([("film", relaxed)], model)
    wanted = Epitaxy(
        substrates=("magnesia", "strontium_titanate"),
        max_area=60.0,
        elastic=Elastic(strains=(-0.005, 0.005)),
        interfaces=1,
        interface_thickness=3.0,
        interface_places=1,
    )
    crystal = Crystal(Structure.from_dict(rest.structure), "MgO")
    ((_, found),) = compute([("film", Ask(wanted, crystal))], model)
    assert found.error is None and found.converged
    assert found.substrate in (None, "strontium_titanate") and found.n_matches == len(found.matches)
    assert (found.substrate is None) == ("no_match" in {one.code for one in found.doubts})
    tiny = replace(wanted, max_area=5.0, interfaces=0, substrates=("strontium_titanate",))
    ((_, alone),) = compute([("film", Ask(tiny, crystal))], model)
    assert alone.substrate is None and [one.code for one in alone.doubts] == ["no_match"]
    own = [m for m in found.matches if m.substrate == "magnesia"]
    same = [m for m in own if m.film_plane == m.substrate_plane]
    assert {m.film_plane for m in own} <= {"100", "110", "111"}
    assert same and all(m.strain_percent < 0.05 and m.elastic_energy_mev < 0.1 for m in same)  # on itself, no strain


def test_both_crystals_are_whole_in_the_cell_of_their_interface_and_a_crystal_on_itself_costs_nothing():
    """Also turned by thirty degrees, and in planes of centred cells."""
    film = wurtzite(3.216, 5.24, 0.376, "Ga", "N")
    wafer = replace(wafers()["sapphire"], planes=((0, 0, 1),))
    (match,) = [one for one in matches(film, [wafer]) if one.film_plane == "0001"]
    cell = interface_cell(film, "0001", wafer.structure, "0001", strain=match.strain)
    assert cell.strain == pytest.approx(match.strain, rel=0.01) and cell.area == pytest.approx(match.area, rel=0.03)
    assert len(cell.joined) % 6 == 0 and cell.n_atoms <= 200
    for joined in cell.joined:
        amounts = joined.composition
        assert amounts["Ga"] == amounts["N"] > 0 and amounts["Al"] * 1.5 == amounts["O"] > 0
        assert joined.distance_matrix[~np.eye(len(joined), dtype=bool)].min() > 1.5
    bonds = [sorted(round(n.nn_distance, 2) for n in one.get_neighbors(one[0], 2.3)) for one in (film, cell.film)]
    assert len(bonds[0]) == len(bonds[1]) == 4, "a strained film is still wurtzite"
    zincblende = Structure.from_spacegroup("F-43m", Lattice.cubic(5.65), ["Ga", "As"], [[0, 0, 0], [0.25] * 3])
    inverted = Structure(zincblende.lattice, zincblende.species, -zincblende.frac_coords)  # the crystal, turned by 90°
    silicon = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.65), ["Si"], [[0, 0, 0]])
    for film, plane in itertools.product((zincblende, inverted), ("100", "110", "111")):
        own = interface_cell(film, plane, zincblende, plane, strain=0.0)
        same = StructureMatcher(scale=False, attempt_supercell=False)
        assert own.strain == pytest.approx(0, abs=1e-9)
        assert any(same.fit(one, zincblende) for one in own.joined), f"({plane}) on itself is the crystal"
    random = np.random.default_rng(0)
    for _ in range(3):  # the axes of a surface cell hang on the last digits
        noisy = silicon.copy()
        noisy.lattice = Lattice(silicon.lattice.matrix * (1 + 1e-6 * random.standard_normal((3, 3))))
        turned = interface_cell(zincblende, "100", noisy, "100", strain=0.01)
        assert max(min(len(one.get_neighbors(site, 2.7)) for site in one) for one in turned.joined) == 4
    with pytest.raises(ValueError, match=r"has \d+ atoms, more than 20"):
        interface_cell(zincblende, "100", zincblende, "100", strain=0.0, min_thickness=40.0, max_atoms=20)


def test_a_wafer_that_nobody_sells_is_refused_with_the_closest_name():
    with pytest.raises(DPA4Error, match="no wafer 'saphire'.*sapphire"):
        Epitaxy(substrates=("saphire",)).check()

"""Films on wafers: known pairs are found, and strain costs what the elastic tensor says."""

from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure
from toy_campaign import MORSE

from dpa4_core.errors import DPA4Error
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows.analysis.epitaxy import Wafer, matches, wafers
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


def test_epitaxy_is_a_property_with_both_sides_of_the_model():
    model = ModelRef(MORSE, dtype="float64")
    film = rocksalt(4.0, "Mg", "O")
    relaxed = Ask(Relaxed(fmax=1e-3, keep_symmetry=True), Crystal(film.get_primitive_structure()))
    ((_, rest),) = compute([("film", relaxed)], model)
    wanted = Epitaxy(
        substrates=("magnesia", "calcium_fluoride"), max_area=60.0, elastic=Elastic(strains=(-0.005, 0.005))
    )
    crystal = Crystal(Structure.from_dict(rest.structure), "MgO")
    ((_, found),) = compute([("film", Ask(wanted, crystal))], model)
    assert found.error is None and found.converged
    assert found.substrate in (None, "calcium_fluoride") and found.n_matches == len(found.matches)
    own = [m for m in found.matches if m.substrate == "magnesia"]
    same = [m for m in own if m.film_plane == m.substrate_plane]
    assert {m.film_plane for m in own} <= {"100", "110", "111"}
    assert same and all(m.strain_percent < 0.05 and m.elastic_energy_mev < 0.1 for m in same)  # on itself, no strain


def test_a_wafer_that_nobody_sells_is_refused_with_the_closest_name():
    with pytest.raises(DPA4Error, match="no wafer 'saphire'.*sapphire"):
        Epitaxy(substrates=("saphire",)).check()

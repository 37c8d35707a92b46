"""Slabs, surface energies and equilibrium shapes: symmetry, sums over pairs, and shapes known in closed form."""

from __future__ import annotations

import itertools
import json
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from pymatgen.analysis.wulff import WulffShape
from pymatgen.core import Lattice, Structure
from pymatgen.core.surface import SlabGenerator
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from scipy.spatial.transform import Rotation

import dpa4_core as dpa4
import dpa4_flows
from dpa4_core.testing.morse import MorsePotential
from dpa4_flows.analysis.facets import distinct_facets, miller_of
from dpa4_flows.analysis.slabs import has_equal_faces, widened
from dpa4_flows.analysis.surface import J_M2_PER_EV_A2, Cut, Cuts, cuts, facet_energies, surface_energy
from dpa4_flows.analysis.wulff import wulff

CUBIC = {"Cu": ("fcc", 3.6), "Fe": ("bcc", 2.87), "Si": ("diamond", 5.43), "MgO": ("rocksalt", 4.21)}
CRYSTALS = {
    **{name: AseAtomsAdaptor.get_structure(bulk(name, kind, a=a)) for name, (kind, a) in CUBIC.items()},
    "Mg": AseAtomsAdaptor.get_structure(bulk("Mg", "hcp", a=3.21, c=5.21)),
    "GaAs": AseAtomsAdaptor.get_structure(bulk("GaAs", "zincblende", a=5.65)),
    "ZnO": Structure.from_spacegroup(
        "P6_3mc", Lattice.hexagonal(3.25, 5.2), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.38]]
    ),
    "TiO2": Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.6, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
    ),
    "CaF2": Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.46), ["Ca", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "SrTiO3": Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.9), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    ),
    "Al2O3": Structure.from_spacegroup(
        "R-3c", Lattice.hexagonal(4.76, 12.99), ["Al", "O"], [[0, 0, 0.352], [0.306, 0, 0.25]]
    ),
    "FeS2": Structure.from_spacegroup("Pa-3", Lattice.cubic(5.42), ["Fe", "S"], [[0, 0, 0], [0.385, 0.385, 0.385]]),
}
TOY = MorsePotential()


def energies(found: Cuts) -> dict[str, float]:
    """J/m² by name of the cut, of slabs as they are cut, with the toy potential."""
    slabs = dpa4.predict([cut.slab for cut in found.slabs], TOY)
    bulks = dpa4.predict([cut.oriented_unit_cell for cut in found.slabs], TOY)
    return {
        cut.name: surface_energy(cut, slab.energy, bulk.energy / len(cut.oriented_unit_cell))
        for cut, slab, bulk in zip(found.slabs, slabs, bulks, strict=True)
    }


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("Cu", ["100", "110", "111", "210", "211", "221"]),
        ("Mg", ["10-10_1", "10-10_2", "0001", "11-20", "10-11_1", "10-11_2", "11-21"]),
        ("TiO2", ["100", "001", "110", "101", "111_1", "111_2"]),
        ("Si", ["100", "110", "111_1", "111_2"]),
    ],
)
def test_facets_and_terminations_are_those_that_symmetry_tells_apart(name, names):
    assert [cut.name for cut in cuts(CRYSTALS[name], 2 if name == "Cu" else 1).slabs] == names


@pytest.mark.parametrize(
    ("name", "max_index", "n_facets"), [("Cu", 3, 13), ("Fe", 2, 6), ("FeS2", 2, 7), ("Mg", 1, 5), ("TiO2", 1, 5)]
)
def test_families_share_out_all_indices(name, max_index, n_facets):
    crystal = cuts(CRYSTALS[name]).crystal
    assert len(distinct_facets(crystal, max_index)) == n_facets


@pytest.mark.parametrize("name", CRYSTALS)
def test_slabs_have_the_composition_two_equal_faces_and_a_primitive_base(name):
    for cut in cuts(CRYSTALS[name], 1, min_thickness=10.0, vacuum=13.0).slabs:
        slab, unit = cut.slab, cut.oriented_unit_cell
        assert slab.composition.reduced_formula == CRYSTALS[name].composition.reduced_formula
        assert len(unit) == len(CRYSTALS[name].get_primitive_structure())
        assert slab.lattice.matrix[:2] == pytest.approx(unit.lattice.matrix[:2])
        assert slab.lattice.matrix[2, :2] == pytest.approx([0, 0])
        heights = slab.cart_coords[:, 2]
        spacing = unit.lattice.matrix[2, 2]
        assert slab.lattice.c - np.ptp(heights) == pytest.approx(13.0)
        assert heights.min() + heights.max() == pytest.approx(slab.lattice.c)
        assert 10.0 - spacing < np.ptp(heights) < 10.0 + spacing
        operations = SpacegroupAnalyzer(slab, symprec=0.02).get_symmetry_operations()
        assert any(operation.rotation_matrix[2, 2] == -1 for operation in operations), cut.name
        distances = slab.distance_matrix + 10 * np.eye(len(slab))
        inside = unit.get_neighbor_list(4.0)[3]
        assert distances.min() == pytest.approx(inside.min(), abs=1e-6)


def test_base_of_a_slab_is_reduced_and_a_crystal_keeps_its_hand():
    selenium = Structure.from_spacegroup("P3_121", Lattice.hexagonal(4.37, 4.95), ["Se"], [[0.225, 0, 1 / 3]])
    oblique = Structure(Lattice.from_parameters(2.6, 3.3, 4.4, 81, 93, 104), ["Cu"], [[0, 0, 0]])
    of_both = [cuts(crystal, index, min_thickness=3.0) for crystal, index in ((selenium, 2), (oblique, 4))]
    units = [cut.oriented_unit_cell for found in of_both for cut in found.slabs]
    for unit in units:
        a, b, _ = unit.lattice.matrix
        assert 2 * abs(a @ b) <= min(a @ a, b @ b) + 1e-6
    assert min(unit.lattice.matrix[2, 2] for unit in units) < 0.45, "planes of high indices are close"
    assert {SpacegroupAnalyzer(u).get_space_group_number() for u in units if "Se" in u.composition} == {152}


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("MgO", {"111": "polar"}),
        ("GaAs", {"100": "polar", "111": "polar"}),
        ("ZnO", {"0001": "polar", "10-11": "polar", "11-21": "polar"}),
        ("CaF2", {}),
        ("SrTiO3", {"100": "nonstoichiometric", "111": "polar"}),
        ("Cu", {}),
    ],
)
def test_facets_without_an_energy_of_their_own_say_why(name, codes):
    skipped = cuts(CRYSTALS[name]).skipped
    assert {entry.facet: entry.code for entry in skipped if entry.whole_facet} == codes
    assert all(f"({entry.facet})" in entry.reason for entry in skipped)


@pytest.mark.parametrize(("name", "facet", "half"), [("CaF2", (1, 0, 0), "F"), ("SrTiO3", (1, 1, 0), "O")])
def test_polar_facets_are_reconstructed_if_the_outermost_plane_has_a_half(name, facet, half):
    """Tasker's recipe for a stack of charged planes: half of the outermost one moves to the other face."""
    (cut,) = cuts(CRYSTALS[name], facets=[facet], min_thickness=9.0).slabs
    assert cut.reconstructed
    assert cut.equal_faces
    assert not cut.excess
    planes = _planes(cut.slab)
    assert planes[0] == planes[-1] == {half: pytest.approx(planes[2][half] / 2, abs=1e-4)}
    assert set(planes[2]) == {half}


def test_a_reconstruction_of_a_polar_facet_is_that_of_pymatgen():
    (ours,) = cuts(CRYSTALS["CaF2"], facets=[(1, 0, 0)], min_thickness=9.0).slabs
    crystal = cuts(CRYSTALS["CaF2"]).crystal.add_oxidation_state_by_guess()
    generator = SlabGenerator(crystal, (1, 0, 0), 9.0, 15.0, lll_reduce=True, max_normal_search=1, primitive=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of those without a half
        theirs = [half for slab in generator.get_slabs() for half in slab.get_tasker2_slabs(tol=0.1)]
    assert any(_planes(slab)[:2] == _planes(ours.slab)[:2] for slab in theirs)


def _planes(slab: Structure) -> list[dict[str, float]]:
    """Atoms by element in each plane, by the area of the surface, from the bottom."""
    normal = np.cross(*slab.lattice.matrix[:2])
    area = np.linalg.norm(normal)
    heights = slab.cart_coords @ normal / area
    order = np.argsort(heights)
    groups = np.split(order, np.flatnonzero(np.diff(heights[order]) > 0.3) + 1)
    return [
        {symbol: round(n / area, 4) for symbol, n in Counter(slab[i].specie.symbol for i in group).items()}
        for group in map(list, groups)
    ]


@pytest.mark.parametrize(("name", "facet", "n"), [("SrTiO3", "100", 2), ("TiO2", "110", 1)])
def test_slabs_of_another_composition_have_two_equal_faces_and_no_dipole(name, facet, n):
    slabs = [cut for cut in cuts(CRYSTALS[name], nonstoichiometric=True).slabs if cut.facet == facet]
    assert len(slabs) == n
    for cut in slabs:
        assert has_equal_faces(cut.slab)
        assert bool(cut.excess) == (name == "SrTiO3")
        assert sum(cut.excess.values()) == pytest.approx(0, abs=1e-5)


def test_both_faces_of_an_asymmetric_crystal_are_uppermost_once():
    alloy = Structure.from_spacegroup("F-43m", Lattice.cubic(4.6), ["Ni", "Cu"], [[0, 0, 0], [0.25] * 3])
    found = [cut for cut in cuts(alloy, asymmetric=True).slabs if cut.facet == "111"]
    assert not any(cut.equal_faces for cut in found)
    tops = [cut.slab[int(cut.slab.cart_coords[:, 2].argmax())].specie.symbol for cut in found]
    assert sorted(tops[:2]) == ["Cu", "Ni"]


@pytest.mark.parametrize("name", ["Cu", "TiO2"])
def test_a_widened_slab_is_the_smallest_one_in_which_images_are_that_far_apart(name):
    slab = cuts(CRYSTALS[name], facets=[(1, 1, 1)], min_thickness=3.0).slabs[0].slab
    wide, n_cells = widened(slab, 8.0)
    assert len(wide) == n_cells * len(slab)
    assert wide.density == pytest.approx(slab.density)

    def shortest(rows: np.ndarray) -> float:
        steps = np.array([s for s in itertools.product(range(-9, 10), repeat=2) if any(s)])
        return float(np.linalg.norm(steps @ rows, axis=1).min())

    assert shortest(wide.lattice.matrix[:2]) >= 8.0 - 1e-6
    smaller = [[[a, 0], [b, d]] for a, b, d in itertools.product(range(1, n_cells), repeat=3) if a * d < n_cells]
    assert all(shortest(np.array(basis) @ slab.lattice.matrix[:2]) < 8.0 for basis in smaller)


def test_surface_energies_of_published_slabs_are_reproduced():
    """Published values have four decimals: 1e-4 J/m² are 6e-6 eV/Å²."""
    data = json.loads((Path(dpa4_flows.__file__).parent / "data" / "surface_entries.json").read_text())
    crystals = {name: (Structure(**entry["structure"]), entry["energy"]) for name, entry in data["bulk"].items()}
    for entry in data["slabs"]:
        crystal, energy = crystals[entry["crystal"]]
        cut = Cut("one", "one", (1, 1, 1), Structure(**entry["structure"]), crystal)
        if entry["surface_energy_J_m2"] is not None:
            found = surface_energy(cut, entry["energy"], energy / len(crystal))
            assert found == pytest.approx(entry["surface_energy_J_m2"], abs=2e-4), entry["name"]
            continue
        n_mg, n_o = (cut.slab.composition[symbol] for symbol in ("Mg", "O"))
        for oxygen in (-8.0, -5.0):
            expected = (entry["energy"] - n_mg * energy - (n_o - n_mg) * oxygen) / 2 / cut.area * J_M2_PER_EV_A2
            assert surface_energy(cut, entry["energy"], energy / 2, {"O": oxygen}) == pytest.approx(expected, rel=1e-9)
        with pytest.raises(ValueError, match="chemical potentials of all but one of O, Mg|Mg, O"):
            surface_energy(cut, entry["energy"], energy / 2)


@pytest.mark.parametrize(
    ("name", "miller"), [("111", (1, 1, 1)), ("10-10", (1, 0, 0)), ("1 -1 10", (1, -1, 10)), ("0001", (0, 0, 1))]
)
def test_facets_are_read_as_they_are_written(name, miller):
    assert miller_of(name) == miller


@pytest.mark.parametrize("name", ["11", "1111", "abc", "1x1"])
def test_what_is_no_facet_is_refused(name):
    with pytest.raises(ValueError, match="is no facet: write its Miller indices"):
        miller_of(name)


def test_faces_of_a_crystal_without_charges_can_differ():
    alloy = Structure.from_spacegroup("F-43m", Lattice.cubic(4.6), ["Ni", "Cu"], [[0, 0, 0], [0.25] * 3])
    assert {s.facet: s.code for s in cuts(alloy).skipped} == {"100": "nonstoichiometric", "111": "asymmetric"}


def test_terminations_that_are_left_out_beside_others_are_counted():
    (other,) = cuts(CRYSTALS["Al2O3"], 1).skipped[1:2]
    assert (other.facet, other.code, other.n_terminations, other.whole_facet) == ("0001", "polar", 2, False)


def test_surface_energy_is_the_sum_of_the_pairs_that_are_cut():
    """A plane with normal n cuts r·n/Ω pairs r per area (counted once), whatever the slab."""
    copper = CRYSTALS["Cu"]
    found = cuts(copper, 2, min_thickness=12.0)
    reach = np.array(list(itertools.product(range(-5, 6), repeat=3))) @ copper.lattice.matrix
    lengths = np.linalg.norm(reach, axis=1)
    inside = (lengths > 0) & (lengths < TOY.cutoff)
    z = torch.full((int(inside.sum()),), 29)
    pair = TOY.pair_energy(torch.as_tensor(lengths[inside]), z, z).numpy()
    for cut in found.slabs:
        normal = np.array(cut.miller) / np.linalg.norm(cut.miller)
        heights = reach[inside] @ normal
        expected = -0.5 * (pair * heights.clip(0)).sum() / copper.volume * J_M2_PER_EV_A2
        assert energies(found)[cut.name] == pytest.approx(expected, rel=1e-6), cut.name


@pytest.mark.parametrize("name", ["Mg", "TiO2"])
def test_surface_energies_do_not_depend_on_thickness_vacuum_or_the_cell_that_was_given(name):
    crystal = CRYSTALS[name]
    expected = energies(cuts(crystal, 1, min_thickness=14.0, vacuum=12.0))
    turned = crystal.copy()
    turned.make_supercell([[1, 1, 0], [0, 1, 0], [0, 1, 2]])
    turned.translate_sites(range(len(turned)), [0.1, 0.23, 0.37])
    rotation = Rotation.from_euler("xyz", [0.3, 1.1, 2.0]).as_matrix()
    turned = Structure(Lattice(turned.lattice.matrix @ rotation.T), turned.species, turned.frac_coords)
    assert energies(cuts(turned, 1, min_thickness=21.0, vacuum=8.0)) == pytest.approx(expected, rel=1e-6)


def test_a_facet_has_the_energy_of_its_lowest_termination():
    slabs = cuts(CRYSTALS["Si"]).slabs
    bulks = dict.fromkeys(["100", "110", "111"], -1.0)
    costs = {"100": 2.0, "110": 2.0, "111_1": 1.0, "111_2": 3.0}
    slab_energies = {cut.name: costs[cut.name] * cut.area - len(cut.slab) for cut in slabs}
    del slab_energies["110"]  # whose relaxation failed
    found = {facet.facet: facet for facet in facet_energies(slabs, slab_energies, bulks)}
    assert list(found) == ["100", "111"]
    assert found["111"].termination == "111_1"
    assert found["111"].surface_energy == pytest.approx(0.5 * J_M2_PER_EV_A2)


def test_every_family_has_slabs_or_a_reason_however_close_its_planes_are():
    sites = [[0.1 * i, 0.13 * i, 0.17 * i] for i in range(10)]
    dense = Structure(Lattice.from_parameters(2.1, 3.3, 4.4, 81, 93, 104), ["Cu", *["H"] * 9], sites)
    found = cuts(dense, max_index=2, min_thickness=3.0)
    told = {cut.miller for cut in found.slabs} | {entry.miller for entry in found.skipped}
    assert told == set(distinct_facets(found.crystal, 2))


def test_of_many_terminations_those_that_break_fewest_bonds_are_kept():
    nitrogen = Structure(Lattice.tetragonal(4.0, 5.0), ["N", "N"], [[0, 0, 0.39], [0, 0, 0.61]])
    for crystal, facet, widest in ((nitrogen, "001", 3.9), (CRYSTALS["Si"], "111", 2.35)):
        found = cuts(crystal, max_terminations=1)
        (kept,) = [cut for cut in found.slabs if cut.facet == facet]
        heights = np.sort(kept.slab.cart_coords[:, 2])
        assert np.diff(heights).max() == pytest.approx(widest, abs=0.01)
        assert np.diff(heights)[0] < 0.5 * widest, "the widest gap is where it is cut"
        (left,) = [entry for entry in found.skipped if entry.facet == facet]
        assert (left.code, left.n_terminations, left.whole_facet) == ("breaks_more_bonds", 1, False)
        assert kept.name == facet


def test_bad_input_is_refused_in_one_sentence():
    mixed = Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    with pytest.raises(ValueError, match="partly occupied"):
        cuts(mixed)
    with pytest.raises(ValueError, match="do atoms lie on one another"):
        cuts(Structure(Lattice.cubic(3.6), ["Cu", "Cu"], [[0, 0, 0], [0, 0, 0]]))
    with pytest.raises(ValueError, match="max_index is 0; it must be positive"):
        cuts(CRYSTALS["Cu"], max_index=0)


# ---- equilibrium shape ---------------------------------------------------------------------------------------------


def test_one_family_makes_its_platonic_body():
    crystal = cuts(CRYSTALS["Cu"]).crystal
    for miller, n_faces, n_vertices, surface in (((1, 0, 0), 6, 8, 24.0), ((1, 1, 1), 8, 6, 12 * np.sqrt(3))):
        shape = wulff(crystal, {miller: 1.0})
        assert (len(shape.faces), len(shape.vertices)) == (n_faces, n_vertices)
        assert sum(face.area for face in shape.faces) == pytest.approx(surface)  # of inradius 1
        assert shape.area_fractions == {miller: pytest.approx(1.0)}
        assert (shape.surface_energy, shape.anisotropy) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-12))


def test_shape_of_an_fcc_metal_agrees_with_pymatgen():
    gammas = {(1, 0, 0): 1.47, (1, 1, 0): 1.56, (1, 1, 1): 1.34, (2, 1, 0): 1.64}  # copper
    crystal = cuts(CRYSTALS["Cu"]).crystal
    ours, theirs = wulff(crystal, gammas), WulffShape(crystal.lattice, list(gammas), list(gammas.values()))
    assert ours.area_fractions == pytest.approx(theirs.area_fraction_dict, abs=1e-6)
    assert ours.surface_energy == pytest.approx(theirs.weighted_surface_energy)
    assert ours.anisotropy == pytest.approx(theirs.anisotropy)
    for face in ours.faces:
        corners = ours.vertices[list(face.corners)]
        outward = np.cross(corners[1] - corners[0], corners[2] - corners[1]) @ corners[0]
        assert outward > 0, "corners run counter-clockwise"


def test_facets_are_repeated_by_the_crystal_not_by_its_lattice():
    pyrite = cuts(CRYSTALS["FeS2"]).crystal
    shape = wulff(pyrite, {(2, 1, 0): 1.0})
    assert len(shape.faces) == 12
    assert {face.miller for face in shape.faces} & {(2, 1, 0), (1, 2, 0)} == {(2, 1, 0)}


def test_a_facet_that_costs_too_much_does_not_appear():
    shape = wulff(cuts(CRYSTALS["Cu"]).crystal, {(1, 0, 0): 1.0, (1, 1, 0): 1.5})
    assert shape.area_fractions == {(1, 0, 0): pytest.approx(1.0), (1, 1, 0): 0.0}


@pytest.mark.parametrize(
    ("gammas", "words"),
    [({(1, 0, 0): -0.1}, r"\(100\) is -0.1 J/m²"), ({}, "do not enclose a volume")],
)
def test_no_shape_without_positive_energies_of_enclosing_facets(gammas, words):
    with pytest.raises(ValueError, match=words):
        wulff(cuts(CRYSTALS["Cu"]).crystal, gammas)
    with pytest.raises(ValueError, match=r"surface energy, \(0001\), do not enclose"):
        wulff(cuts(CRYSTALS["Mg"]).crystal, {(0, 0, 1): 0.5})

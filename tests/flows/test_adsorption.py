"""Adsorption: sites by hand-made surfaces, anomalies by hand-made ends, the property on the toy potential."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk
from ase.data import covalent_radii
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from dpa4_core.errors import DPA4Error
from dpa4_core.predict import Prediction
from dpa4_core.relax import RelaxOptions
from dpa4_flows.analysis.adsorbates import _SHAPES, Adsorbate, placed
from dpa4_flows.analysis.anomalies import LIMITS, anomalies, energy_problem, migration
from dpa4_flows.analysis.frames import seam_problem
from dpa4_flows.analysis.free_energy import CORRECTIONS, free_energy
from dpa4_flows.analysis.gas_references import (
    PBE_GAS,
    REFERENCES,
    adsorption_energy,
    element_references,
    gas_motion,
)
from dpa4_flows.analysis.sites import Surface, distinct
from dpa4_flows.analysis.slabs import widened
from dpa4_flows.analysis.surface import cuts
from dpa4_flows.analysis.vibrations import LOWEST, harmonic, mode_energies, moved
from dpa4_flows.compute.driver import Counts, compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.adsorption import Adsorption
from dpa4_flows.properties.settings import plain_settings, with_settings
from dpa4_flows.properties.vibrations import Which, free_energies
from dpa4_flows.report.figures_adsorption import site_energies
from dpa4_flows.store.table import ResultsTable

CRYSTALS = {
    **{
        name: AseAtomsAdaptor.get_structure(bulk(name, kind, a=a))
        for name, (kind, a) in {"Cu": ("fcc", 3.6), "Fe": ("bcc", 2.87), "MgO": ("rocksalt", 4.21)}.items()
    },
    "Ru": AseAtomsAdaptor.get_structure(bulk("Ru", "hcp", a=2.71, c=4.28)),
    "RuO2": Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.49, 3.11), ["Ru", "O"], [[0, 0, 0], [0.306, 0.306, 0]]
    ),
    "Pt3Ni": Structure.from_spacegroup("Pm-3m", Lattice.cubic(3.84), ["Ni", "Pt"], [[0, 0, 0], [0, 0.5, 0.5]]),
}
TOY = ModelRef("dpa4_core.testing.morse:MorsePotential")
THIN = Adsorption(
    facets=("110",), min_length=2.5, min_thickness=5.0, vacuum=9.0, references={"H": -1.0, "O": -1.0}, max_steps=100
)


def surface(name: str, miller: tuple[int, int, int], min_thickness: float = 7.0) -> Surface:
    found = cuts(CRYSTALS[name], facets=[miller], min_thickness=min_thickness, nonstoichiometric=True)
    return Surface(found.slabs[0].slab, found.crystal)


def document(wanted: Adsorption, structure: Structure, model: ModelRef = TOY):
    ((_, found),) = compute([("one", Ask(wanted, Crystal(structure)))], model)
    return found


# ---- sites ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "miller", "kinds"),
    [
        ("Cu", (1, 1, 1), ["bridge", "hollow_fcc", "hollow_hcp", "on_top"]),
        ("Cu", (1, 0, 0), ["bridge", "hollow_4", "on_top"]),
        ("Fe", (1, 1, 0), ["bridge", "bridge", "hollow_3", "on_top"]),
        ("Fe", (1, 0, 0), ["bridge", "hollow_4", "on_top"]),
        ("Ru", (0, 0, 1), ["bridge", "hollow_fcc", "hollow_hcp", "on_top"]),
    ],
)
def test_sites_of_close_packed_surfaces_are_those_of_the_textbook(name, miller, kinds):
    assert sorted(site.kind for site in distinct(surface(name, miller).sites())) == kinds


def test_an_hcp_hollow_has_an_atom_of_the_second_layer_below_it_and_an_fcc_hollow_of_the_third():
    face = surface("Cu", (1, 1, 1), 10.0)
    layers = np.unique(face.positions[:, 2].round(3))[::-1]
    for kind, layer in (("hollow_hcp", 1), ("hollow_fcc", 2)):
        (site,) = [site for site in face.sites() if site.kind == kind]
        below = [p for p in face.positions if face.distances(np.array(site.place), p[None], flat=True)[0] < 0.05]
        assert max(p[2] for p in below) == pytest.approx(layers[layer], abs=1e-3)


def test_sites_of_an_alloy_say_which_atoms_they_touch():
    found = distinct(surface("Pt3Ni", (1, 1, 1)).sites())
    hollows = sorted((site.kind, site.elements) for site in found if site.kind.startswith("hollow"))
    assert hollows == [(f"hollow_{kind}", what) for kind in ("fcc", "hcp") for what in ("NiPt2", "Pt3")]
    assert sorted(site.elements for site in found if site.kind == "on_top") == ["Ni", "Pt"]


def test_unsaturated_atoms_of_an_oxide_are_sites_and_say_what_they_lack():
    found = [site for site in distinct(surface("RuO2", (1, 1, 0), 10.0).sites()) if site.kind == "on_top"]
    lacking = {(site.elements, site.missing_bonds) for site in found}
    assert {("Ru", 1.0), ("O", 1.0)} <= lacking, "fivefold ruthenium and bridging oxygen"
    assert {site.elements for site in distinct(surface("MgO", (1, 0, 0)).sites()) if site.kind == "on_top"} == {
        "Mg",
        "O",
    }


def test_an_atom_at_a_step_lacks_more_neighbours_than_one_of_the_terrace():
    on_top = [site for site in distinct(surface("Cu", (2, 1, 1)).sites()) if site.kind == "on_top"]
    assert sorted(site.missing_bonds for site in on_top)[-2:] == [3.0, 5.0]


def test_sites_beside_an_atom_lie_where_its_neighbours_are_missing_and_touch_nothing_else():
    face = surface("RuO2", (1, 0, 1), 8.0)
    beside = [site for site in face.sites() if site.kind == "unsaturated"]
    assert beside
    for site in beside:
        lengths = face.touched(np.array(site.place), factor=0.95)
        assert len(lengths) == 0
        assert 0.3 < site.direction[2] < 0.95


@pytest.mark.parametrize(("name", "miller"), [("Cu", (1, 1, 1)), ("Ru", (1, 0, 0)), ("Pt3Ni", (1, 1, 1))])
def test_a_larger_cell_has_the_same_orbits_and_more_sites_of_each(name, miller):
    face = surface(name, miller)
    wide, n_cells = widened(face.slab, 6.0)
    sites, more = face.sites(), Surface(wide, CRYSTALS[name]).sites()
    assert n_cells > 1
    assert len(more) == n_cells * len(sites)
    assert sorted(site.kind for site in distinct(more)) == sorted(site.kind for site in distinct(sites))


@pytest.mark.parametrize("name", ["H", "OH", "OOH", "COOH", "N2H", "CH3"])
@pytest.mark.parametrize("crystal", ["Cu", "RuO2"])
def test_an_adsorbate_is_put_near_its_site_and_keeps_its_shape(name, crystal):
    face = surface(crystal, (1, 1, 0) if crystal == "RuO2" else (1, 1, 1))
    adsorbate = Adsorbate.named(name)
    wide, _ = widened(face.slab, 6.0)
    for site in distinct(face.sites()):
        for angle in adsorbate.orientations(2):
            put = placed(Surface(wide, CRYSTALS[crystal]), site, adsorbate, angle)
            assert put == placed(Surface(wide, CRYSTALS[crystal]), site, adsorbate, angle)
            assert put[: len(wide)] == wide.sites
            first = put[len(wide)]
            lengths = put.distance_matrix[len(wide) :, : len(wide)]
            sums = covalent_radii[first.specie.Z] + covalent_radii[list(wide.atomic_numbers)]
            assert 0.8 < (lengths[0] / sums).min() < 1.35
            others = covalent_radii[list(put.atomic_numbers[len(wide) :])]
            assert (lengths / (others[:, None] + covalent_radii[list(wide.atomic_numbers)])).min() > 0.75
            inside = put.distance_matrix[len(wide) :, len(wide) :]
            shape = np.array(adsorbate.positions)
            assert inside == pytest.approx(np.linalg.norm(shape[:, None] - shape, axis=-1), abs=0.15)


def test_hydrogen_does_not_begin_between_the_atoms_of_its_site():
    for crystal, miller in (("Cu", (1, 0, 0)), ("RuO2", (1, 1, 0)), ("Fe", (1, 0, 0))):
        face = surface(crystal, miller)
        for site in distinct(face.sites()):
            put = placed(face, site, Adsorbate.named("H"), 0.0)
            assert put.cart_coords[-1, 2] > site.level - 0.2


def test_shapes_of_adsorbates_have_bonds_that_hold_them_together():
    for name in _SHAPES:
        adsorbate = Adsorbate.named(name)
        shape = np.array(adsorbate.positions)
        assert shape[:, 2].min() >= 0, "nothing lies below the atom that binds"
        for i in range(1, len(shape)):
            lengths = np.linalg.norm(shape[:i] - shape[i], axis=1)
            assert 0.9 < lengths.min() < 1.4, name


def test_a_molecule_file_is_an_adsorbate_whose_lowest_atom_binds(tmp_path):
    path = tmp_path / "water.xyz"
    path.write_text("3\n\nH 0.76 0 0.59\nH -0.76 0 0.59\nO 0 0 0\n")
    water = Adsorbate.named(str(path))
    assert (water.name, water.species, water.positions[0]) == ("water", ("O", "H", "H"), (0.0, 0.0, 0.0))
    settings = with_settings(Adsorption, {"adsorbates": ["H", str(path)]})
    assert settings.adsorbates == (Adsorbate.named("H"), water)
    path.unlink()
    assert with_settings(Adsorption, json.loads(json.dumps(plain_settings(settings)))) == settings
    with pytest.raises(DPA4Error, match="neither a known adsorbate .*N2H.* nor a molecule file"):
        with_settings(Adsorption, {"adsorbates": "OHH"})


# ---- what became of it ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def covered() -> tuple[Surface, Structure]:
    """OH upright on top of Cu (111)."""
    face = surface("Cu", (1, 1, 1))
    wide = Surface(widened(face.slab, 7.0)[0], CRYSTALS["Cu"])
    (top,) = [site for site in face.sites() if site.kind == "on_top"]
    return wide, placed(wide, top, Adsorbate("OH", ("O", "H"), ((0, 0, 0), (0, 0, 0.97))), 0.0)


def codes(clean: Surface, start: Structure, *moves: tuple[int, tuple[float, float, float]]) -> list[str]:
    """Of an end in which some atoms have moved."""
    end = start.copy()
    for atom, move in moves:
        end.translate_sites([atom], move, frac_coords=False)
    return [reason.code for reason in anomalies(clean, start, end)]


def test_what_only_moves_a_little_is_intact(covered):
    rng = np.random.default_rng(0)
    clean, start = covered
    assert codes(clean, start) == []
    for _ in range(20):
        moves = [(i, tuple(rng.normal(scale=0.08, size=3))) for i in range(len(start))]
        assert codes(clean, start, *moves) == []
    n = len(clean.slab)
    assert codes(clean, start, (n, (0, 0, -0.4)), (n + 1, (0, 0, -0.4))) == []
    assert codes(clean, start, (n + 1, (0.9, 0, -0.9))) == [], "tilted"


def test_each_thing_that_goes_wrong_has_its_code(covered):
    clean, start = covered
    n = len(clean.slab)
    top = int(clean.exposed[0])
    assert codes(clean, start, (n + 1, (2.5, 0, -1.0))) == ["dissociated"]
    assert codes(clean, start, (n, (0, 0, 2.0)), (n + 1, (0, 0, 2.0))) == ["desorbed"]
    assert codes(clean, start, (top, (0.0, 0.0, 1.6)))[0] == "surface_reconstructed"
    assert codes(clean, start, (top, (0.6, 0.9, 0.0)))[0] == "surface_reconstructed"
    hydrogen = start.copy()
    hydrogen.remove_sites([n])
    assert codes(clean, hydrogen, (n, (1.3, 0.75, -3.8))) == ["intercalated"]


def test_an_adsorbate_has_migrated_when_another_kind_of_site_is_clearly_nearer():
    face = surface("Cu", (1, 1, 1))
    sites = face.sites()
    top, hollow = (next(site for site in sites if site.kind == kind) for kind in ("on_top", "hollow_fcc"))
    way = np.array(hollow.place) - np.array(top.place)
    shares = way[:2] @ np.linalg.inv(face.slab.lattice.matrix[:2, :2])
    way[:2] = (shares - np.rint(shares)) @ face.slab.lattice.matrix[:2, :2]
    for share, kind in ((0.1, "on_top"), (0.5, "on_top"), (1.0, "hollow_fcc")):
        assert migration(face, sites, top, np.array(top.place) + share * way).kind == kind
    other_top = np.array(top.place) + face.slab.lattice.matrix[0]
    assert migration(face, sites, top, other_top).kind == "on_top"


def test_an_energy_that_no_bond_explains_is_an_error_whatever_the_elements():
    assert energy_problem(-3.9, 16, "N") is None
    assert energy_problem(30.4, 16, "O").code == "energy_jump"  # O on Ni (111) with +U in the training data
    assert energy_problem(-9.0, 16, "O").code == "energy_jump"
    assert energy_problem(14.6, 64, "CO").code == "implausible_energy"
    assert LIMITS.largest == 6.0


def test_references_of_atoms_add_up_to_molecules():
    mu = element_references("PBE")
    for molecule, amounts in (("H2", "HH"), ("H2O", "HHO"), ("CO", "CO"), ("N2", "NN"), ("H2S", "HHS")):
        assert sum(mu[symbol] for symbol in amounts) == pytest.approx(PBE_GAS[molecule])
    assert set(mu) == set(REFERENCES)
    assert element_references("r2SCAN (MatPES 2025.2), no +U") == pytest.approx({"H": -3.4555, "N": -9.109})
    assert element_references("PBEsol") == {}
    assert adsorption_energy(-13.0, -10.0, {"H": 1}, {"H": -3.0}) == 0.0
    assert adsorption_energy(-13.0, -10.0, {"F": 1}, {"H": -3.0}) is None


def test_a_free_energy_is_the_adsorption_energy_with_vibrations_of_the_adsorbate():
    assert free_energy(-0.47, "H") == pytest.approx(-0.23)  # Pt (111) with the PBE gas table
    assert free_energy(-0.47, "H", {"H": 0.2}) == pytest.approx(-0.27)
    assert free_energy(None, "H") is None and free_energy(-1.0, "water") is None
    assert set(_SHAPES) <= set(CORRECTIONS)


@pytest.mark.parametrize(
    ("crystal", "adsorbate", "level", "code"),
    [
        ("Ni", "OH", "PBE+U", "plus_u_seam"),
        ("Ni", "H", "PBE+U", None),
        ("Ni", "O", "PBE", None),
        ("Ni", "O", "", "plus_u_unknown"),  # nobody said what the data follow
        ("NiO", "OH", "unknown", "plus_u_unknown"),
        ("Ni", "H", "unknown", None),
        ("Pt3Ni", "CO", "PBE+U", "plus_u_seam"),
        ("Pt", "O", "PBE+U", None),
        ("NiO", "OH", "PBE+U", "plus_u_surface"),
        ("Fe4N", "F", "PBE+U", "plus_u_seam"),
        ("MgO", "Ni", "PBE+U", "plus_u_seam"),  # from the other side
        ("Mg", "Ni", "PBE+U", None),
        ("MgO", "Ni", "", "plus_u_unknown"),
    ],
)
def test_oxygen_comes_to_a_metal_with_u_only_where_the_clean_slab_has_it_too(crystal, adsorbate, level, code):
    amounts = Composition(adsorbate).get_el_amt_dict()
    found = seam_problem(Composition(crystal), amounts, level)
    assert (found and found[0]) == code


# ---- the property ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copper():
    return document(with_(vibrations="all"), CRYSTALS["Cu"])


def test_every_site_of_every_adsorbate_is_in_the_document(copper):
    assert copper.error is None
    (facet,) = copper.facets
    assert [site.start for site in facet.sites] == [
        site.kind for site in distinct(Surface(*_cut(CRYSTALS["Cu"], (1, 1, 0))).sites())
    ]
    assert copper.n_sites == len(facet.sites)
    assert facet.coverage == pytest.approx(1.0)
    for site in facet.sites:
        assert site.adsorption_energy == pytest.approx(site.energy - facet.energy + 1.0)
        assert site.intact or set(site.codes) - {"migrated", "incomplete"}


def _cut(structure: Structure, miller: tuple[int, int, int]) -> tuple[Structure, Structure]:
    found = cuts(structure, facets=[miller], min_thickness=5.0, vacuum=9.0)
    return found.slabs[0].slab, found.crystal


def test_the_best_site_is_the_lowest_intact_one_and_keeps_its_structure():
    iron = document(with_(facets=("100",)), CRYSTALS["Fe"])  # into which H goes, in this potential
    (facet,) = iron.facets
    best = facet.best("H")
    assert best.adsorption_energy == min(site.adsorption_energy for site in facet.sites if site.intact)
    assert best.adsorption_energy > min(site.adsorption_energy for site in facet.sites)
    assert (iron.adsorption_energy, iron.best_facet) == (best.adsorption_energy, "100")
    kept = [site for site in facet.sites if site.structure is not None]
    assert [site for site in kept if site.intact] == [best]
    lost = [site for site in facet.sites if not site.intact]
    assert lost and {frozenset(site.codes) for site in lost} == {frozenset(s.codes) for s in kept if not s.intact}
    assert len(kept) == 1 + len({frozenset(site.codes) for site in lost}), "one example of each kind"
    assert len(best.structure["sites"]) == facet.n_atoms + 1


def test_the_two_lowest_starts_go_on_to_the_best_site_and_the_others_say_that_they_were_left(copper):
    found = document(with_(best_starts=2), CRYSTALS["Cu"])
    (whole,), (facet,) = copper.facets, found.facets
    left = [site for site in facet.sites if "not_followed" in site.codes]
    assert len(left) == 3 and all(
        site.adsorption_energy is None and not site.intact and site.n_steps == 4 for site in left
    )
    assert facet.best("H").adsorption_energy == pytest.approx(whole.best("H").adsorption_energy, abs=0.01)
    assert len(facet.sites) == len(whole.sites)


def test_every_site_with_an_energy_is_in_the_figure_and_one_that_went_wrong_is_a_cross(copper):
    other = copper.model_copy(deep=True)
    other.facets[0].sites[0].intact = False
    (block,) = site_energies({"a": copper, "b": other})
    energies = [site.adsorption_energy for site in copper.facets[0].sites]
    assert sorted(y for trace in block.figure.data for y in trace.y) == sorted([*energies, *energies])
    crosses = [trace for trace in block.figure.data if trace.marker.symbol == "x-open"]
    lost = {which: [y for one in crosses if one.legendgroup == which for y in one.y] for which in "ab"}
    for which, document in {"a": copper, "b": other}.items():
        assert lost[which] == [site.adsorption_energy for site in document.facets[0].sites if not site.intact]
    assert lost["a"] != lost["b"]
    at = {which: {x for trace in block.figure.data if trace.legendgroup == which for x in trace.x} for which in "ab"}
    assert max(at["a"]) < 0 < min(at["b"]), "side by side"
    assert site_energies({"none": copper.model_copy(update={"n_sites": 0})}) == []


def test_fixed_atoms_are_those_of_the_clean_slab(copper):
    (facet,) = copper.facets
    clean, best = (Structure.from_dict(fields) for fields in (facet.structure, facet.best("H").structure))
    fixed = ~np.array(clean.site_properties["selective_dynamics"])[:, 0]
    assert fixed.sum() == facet.n_fixed == 2
    assert clean.frac_coords[fixed] == pytest.approx(best.frac_coords[: len(clean)][fixed], abs=1e-9)
    cut = _cut(CRYSTALS["Cu"], (1, 1, 0))[0].cart_coords[:, 2]
    assert clean.cart_coords[fixed, 2] == pytest.approx(np.sort(cut)[:2])


def test_a_found_document_is_that_of_settings_that_went_through_json(tmp_path, copper):
    table, counts = ResultsTable(tmp_path / "results.sqlite"), Counts()
    list(compute([("one", Ask(THIN, Crystal(CRYSTALS["Cu"])))], TOY, table))
    again = Adsorption.from_dict(json.loads(THIN.to_json()))
    ((_, found),) = compute([("one", Ask(again, Crystal(CRYSTALS["Cu"])))], TOY, table, counts=counts)
    assert (counts.n_found, counts.n_requests) == (1, 0)
    assert [s.adsorption_energy for s in found.facets[0].sites] == [s.adsorption_energy for s in copper.facets[0].sites]


def test_an_adsorbate_across_the_seam_is_refused_and_the_others_go_on():
    nickel = CRYSTALS["Cu"].copy()
    nickel.replace_species({"Cu": "Ni"})
    both = with_(adsorbates=(Adsorbate.named("O"), Adsorbate.named("H")), references={"H": -1.0, "O": -1.0})
    with_u = ModelRef("toy_potentials:OMatMorse")
    found = document(both, nickel, with_u)
    assert {site.adsorbate for site in found.facets[0].sites} == {"H"}
    assert found.warnings[0].code == "plus_u_seam"
    assert found.adsorption_energy is None  # which is of the first adsorbate
    assert document(with_(adsorbates=(Adsorbate.named("O"),)), nickel, with_u).error_code == "plus_u_seam"


def with_(**settings: object) -> Adsorption:
    return Adsorption(**{**vars(THIN), **settings})


@pytest.mark.parametrize(
    ("crystal", "settings", "code", "words"),
    [
        ("MgO", {"facets": ("111",)}, "polar", r"\(111\) is polar"),
        ("Cu", {"min_length": 12.0, "max_atoms": 50}, "too_many_atoms", "atoms, more than max_atoms = 50"),
        (
            "Cu",
            {"references": {}},
            "no_reference",
            "H are known for .*; give them as references, eV per atom: H = 1/2 H2",
        ),
    ],
)
def test_a_crystal_without_an_answer_says_why(crystal, settings, code, words):
    found = document(with_(**settings), CRYSTALS[crystal])
    assert found.error_code == code
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(found.error)


def test_a_termination_is_named_by_its_number_and_one_that_is_not_there_is_told():
    def cut(*facets: str) -> tuple[list[str], list[str]]:
        _, wide, skipped = with_(facets=facets).wide_slabs(Crystal(CRYSTALS["Ru"]))
        return [one.cut.name for one in wide], [entry.reason for entry in skipped]

    assert cut("10-10", "0001_1") == (["10-10_1", "10-10_2", "0001"], [])
    words = "(10-10) has no termination 3: it has terminations 10-10_1 to 10-10_2"
    assert cut("1-100_2", "10-10_3") == (["10-10_2"], [words]), "whichever face of the family is named"


def test_an_adsorbate_may_be_put_on_the_first_facet_only():
    hydrogen, oxygen = map(Adsorbate.named, ("H", "O"))
    wanted = with_(adsorbates=(oxygen, hydrogen), facets=("110", "100"), on_first_facet=("O",), max_steps=1)
    first, second = document(wanted, CRYSTALS["Cu"]).facets
    assert {site.adsorbate for site in first.sites} == {"H", "O"} and {s.adsorbate for s in second.sites} == {"H"}
    n_slabs = {name: n for name, (n, _) in wanted.costs(Crystal(CRYSTALS["Cu"])).items()}
    assert n_slabs == {facet.name: 1 + len(facet.sites) for facet in (first, second)}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"adsorbates": ()}, "adsorbates must be named"),
        ({"facets": ("11",)}, "'11' is no facet"),
        ({"facets": ("10-10_0",)}, "'10-10_0' is no termination"),
        ({"on_first_facet": ("O",)}, "on_first_facet names O; the adsorbates are H"),
        ({"min_length": 0.0}, "min_length is 0.0; it must be positive"),
        ({"min_length": float("inf")}, "min_length is inf; it must be positive and finite"),
        ({"orientations": float("nan")}, "orientations must be 1 or more, not nan"),
        ({"orientations": 0}, "orientations must be 1 or more, not 0"),
        ({"fmax": -1.0}, "fmax must be a positive number"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_computed(settings, words):
    with pytest.raises(DPA4Error, match=words):
        with_(**settings).check()


def test_a_jump_of_energy_has_no_adsorption_energy(copper):
    found = document(with_(references={"H": 9.0}), CRYSTALS["Cu"])
    assert found.adsorption_energy is None
    assert found.n_intact == 0
    for site in found.facets[0].sites:
        assert {"energy_jump", "implausible_energy"} & set(site.codes)
        assert site.adsorption_energy is None
        assert site.energy is not None
    assert [warning.code for warning in found.warnings] == ["no_intact_site"]


# ---- vibrations ----------------------------------------------------------------------------------------------------


def test_modes_of_springs_are_those_of_the_textbook_and_motion_of_them_that_of_ase():
    thermochemistry = pytest.importorskip("ase.thermochemistry")
    pair = Structure(Lattice.cubic(9), ["Cu", "H", "H"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.6, 0.5, 0.5]])
    spring, held = 25.0, np.diag([4.0, 3.0, -1.0])  # eV/Å²; along x between both, and each to its place
    hessian = np.kron(spring * np.array([[1, -1], [-1, 1]]), np.diag([1.0, 0, 0])) + np.kron(np.eye(2), held)
    forces = {}
    for move, structure in moved(pair, 2).items():
        away = (structure.cart_coords - pair.cart_coords)[1:].ravel()
        forces[move] = np.vstack([np.zeros(3), (-hessian @ away).reshape(2, 3)])
    energies = mode_energies(pair, forces)
    expected = [-1.0, -1.0, 3.0, 3.0, 4.0, 4.0 + 2 * spring]
    assert energies == pytest.approx([0.0646541 * np.sign(k) * np.sqrt(abs(k) / 1.008) for k in expected], rel=1e-5)
    found = harmonic(energies)
    other = thermochemistry.HarmonicThermo(energies[2:])
    assert found.zero_point == pytest.approx(energies[2:].sum() / 2)
    assert found.total == pytest.approx(other.get_helmholtz_energy(298.15, verbose=False), abs=1e-6)
    assert harmonic(np.array([0.001])) == harmonic(np.array([LOWEST])), "no entropy without bound"


def test_vibrations_take_the_place_of_the_table(copper):
    (facet,) = copper.facets
    for site in facet.sites:
        assert (site.vibrations is not None) == site.intact
        below = site.vibrations is not None and min(site.vibrations.energies_mev) < 0
        assert ("imaginary_modes" in site.codes) == below
    best = facet.best("H")
    expected = harmonic(np.array(best.vibrations.energies_mev) / 1000).total - gas_motion({"H": 1})
    assert best.vibrations.correction == pytest.approx(expected) != pytest.approx(0.24, abs=1e-3)
    assert best.free_energy == pytest.approx(best.adsorption_energy + expected)


def test_vibrations_of_one_site_hold_for_all_of_its_facet_and_what_is_no_minimum_says_so(copper):
    facet = copper.facets[0].model_copy(deep=True)
    for site in facet.sites:
        site.vibrations = None
    ends = [[SimpleNamespace(structure=Structure.from_dict(facet.best("H").structure))] * len(facet.sites)]

    def answered(corrections: dict[str, float], which: Which) -> list[float]:
        plan = free_energies([facet], ends, {"H": {"H": 1}}, corrections, which)
        for requests in plan:
            with pytest.raises(StopIteration):
                plan.send(dict.fromkeys(requests, Prediction(forces=np.zeros((facet.n_atoms + 1, 3)))))
        return [site.free_energy - site.adsorption_energy for site in facet.sites]

    assert answered({}, "none") == pytest.approx([0.24] * len(facet.sites))
    assert answered({"H": 0.2}, "all") == pytest.approx([0.2] * len(facet.sites))
    assert answered({}, "best") == pytest.approx([-gas_motion({"H": 1})] * len(facet.sites)), "no mode is left"
    assert [reason.code for reason in facet.reasons] == ["imaginary_modes"]
    assert facet.best("H").codes.count("imaginary_modes") == 1


def test_options_of_the_relaxations_are_those_of_the_settings():
    assert THIN.options() == RelaxOptions(fmax=0.05, max_steps=100, relax_cell=False, check_minimum=False)

"""Neutral point defects: which there are, what they cost, and what is no energy; on a toy potential and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry
from pymatgen.io.ase import AseAtomsAdaptor

import dpa4_core as dpa4
from dpa4_core.errors import DPA4Error
from dpa4_core.testing import MorsePotential
from dpa4_flows.analysis import defects as analysis
from dpa4_flows.analysis.defects import (
    concentration_cm3,
    host_cell,
    implausible,
    interstitial_sites,
    point_defects,
    rearrangement,
    relaxation_volume,
    starts,
)
from dpa4_flows.analysis.thermodynamics import chemical_potential_region, dopant_limit
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.answers import Answer, Question, Subject
from dpa4_flows.properties.at_rest import AtRest
from dpa4_flows.properties.chemical_potentials import Reservoirs
from dpa4_flows.properties.defects import Defects
from dpa4_flows.properties.table import Results
from dpa4_flows.report.figures_defects import defect_figures
from dpa4_flows.runs.property import further_structures

SILICON = AseAtomsAdaptor.get_structure(bulk("Si", a=5.43))
COPPER = AseAtomsAdaptor.get_structure(bulk("Cu", a=3.7))
MAGNESIA = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
TOY = ModelRef("toy_potentials:OMatMorse", dtype="float64")
ALONE: dict[str, Any] = {"library": None, "bundled": False, "prototypes": False}
SMALL: dict[str, Any] = {"min_length": 5.0, "n_starts": 2, "kinds": ("vacancy",), "region": Reservoirs(**ALONE)}


def documents(wanted: Any, *structures: Structure) -> list[Any]:
    return [found for _, found in compute([(i, Ask(wanted, Crystal(s))) for i, s in enumerate(structures)], TOY)]


# ---- which there are


def test_every_defect_is_made_once_with_the_places_that_there_are_for_it() -> None:
    host = host_cell(SILICON, 7.0, 100)
    assert (len(host.perfect), host.length >= 7.0) == (16, True)
    found = {one.name: one for one in point_defects(host, dopants=("P", "Si"), complexes=("v_Si+v_Si", "v_Ge+P_Ge"))}
    assert list(found) == ["v_Si", "P_Si", "Si_i1", "Si_i2", "Si2_Si", "v_Si+v_Si"], "silicon is no dopant of silicon"
    per_cell = {name: round(one.density * host.primitive.volume, 6) for name, one in found.items()}
    assert per_cell == {"v_Si": 2, "P_Si": 2, "Si_i1": 2, "Si_i2": 4, "Si2_Si": 2, "v_Si+v_Si": 4}
    assert 1e24 * found["v_Si"].density == pytest.approx(5.0e22, rel=0.01)
    assert found["v_Si+v_Si"].added == {"Si": -2} and len(found["v_Si+v_Si"].structure) == 14
    assert all(rearrangement(host, one, one.structure) is None for one in found.values())
    with pytest.raises(ValueError, match="a supercell of 54 atoms, more than 53"):
        host_cell(SILICON, 10.0, 53)


def test_interstitials_sit_in_the_holes_of_the_lattice() -> None:
    a = 4.0
    octahedron, tetrahedron = interstitial_sites(AseAtomsAdaptor.get_structure(bulk("Al", a=a)))
    assert (octahedron.radius, octahedron.number) == (pytest.approx(a / 2, abs=1e-3), 1)
    assert (tetrahedron.radius, tetrahedron.number) == (pytest.approx(a * 3**0.5 / 4, abs=1e-3), 2)
    (hole,) = interstitial_sites(AseAtomsAdaptor.get_structure(bulk("W", a=3.17)))
    assert (hole.radius, hole.number) == (pytest.approx(3.17 * 5**0.5 / 4, abs=1e-3), 6)


def test_names_tell_sites_apart_and_vanadium_from_a_vacancy() -> None:
    quartz = Structure.from_spacegroup(
        "P4/mmm", Lattice.tetragonal(4.0, 7.0), ["Ca", "O", "O"], [[0, 0, 0], [0.5, 0.5, 0.1], [0.5, 0, 0.5]]
    )
    names = [one.name for one in point_defects(host_cell(quartz, 3.0, 99), ("vacancy", "substitution"), ("V",))]
    assert names == ["v_Ca", "V_Ca", "v_O1", "V_O1", "v_O2", "V_O2"]
    pairs = [one.name for one in point_defects(host_cell(MAGNESIA, 4.0, 99), ("vacancy",), complexes=("all",))]
    assert pairs == ["v_Mg", "v_O", "v_Mg+v_Mg", "v_Mg+v_O", "v_O+v_O"]


def test_starts_break_the_symmetry_in_different_ways_and_are_always_the_same() -> None:
    (vacancy,) = point_defects(host_cell(SILICON, 10.0, 100), ("vacancy",))
    first, pulled, pushed = starts(vacancy, 3)
    assert first.get_space_group_info()[1] > 1 and pulled.get_space_group_info()[1] == 1
    assert np.allclose(starts(vacancy, 3)[1].cart_coords, pulled.cart_coords)
    place = vacancy.structure.lattice.get_fractional_coords(vacancy.places)
    shortest = []
    for one in (first, pulled, pushed):
        shell = np.argsort(vacancy.structure.lattice.get_all_distances(vacancy.structure.frac_coords, place)[:, 0])[:4]
        distances = one.distance_matrix[np.ix_(shell, shell)]
        shortest.append(distances[distances > 0].min())
    assert shortest[1] < 0.8 * shortest[0] and shortest[2] > shortest[1]


def test_two_atoms_share_a_site_along_three_directions() -> None:
    host = host_cell(COPPER, 7.0, 99)
    dumbbell = point_defects(host, ("interstitial",))[-1]
    apart = []
    for start in starts(dumbbell, 4)[:3]:
        place = host.perfect.lattice.get_fractional_coords(dumbbell.places)
        first, second = np.argsort(start.lattice.get_all_distances(start.frac_coords, place)[:, 0])[:2]
        apart.append(np.abs(start[int(second)].coords - start[int(first)].coords))
        assert np.linalg.norm(apart[-1]) == pytest.approx(0.9 * host.spacing) and len(start) == len(host.perfect) + 1
    shares = [np.sort(one / one.max()).round(3).tolist() for one in apart]
    assert shares == [[0, 1, 1], [0, 0, 1], [1, 1, 1]], "[110], [001] and [111]"


def test_atoms_between_sites_are_noticed() -> None:
    host = host_cell(COPPER, 5.0, 99)
    vacancy, interstitial, dumbbell = point_defects(host, ("vacancy", "interstitial"), max_holes=1)
    split = vacancy.structure.copy()  # a neighbour half way into the hole: two sites share it
    neighbour = int(np.argmin(split.lattice.get_all_distances(split.frac_coords, host.perfect.frac_coords[:1])[:, 0]))
    middle = (host.perfect.cart_coords[0] + split[neighbour].coords) / 2
    image = split.lattice.get_distance_and_image(host.perfect.frac_coords[0], split[neighbour].frac_coords)[1]
    middle = middle + split.lattice.get_cartesian_coords(image) / 2
    split.translate_sites([neighbour], middle - split[neighbour].coords, frac_coords=False)
    assert rearrangement(host, vacancy, split) is not None
    assert rearrangement(host, interstitial, interstitial.structure) is None
    assert rearrangement(host, dumbbell, dumbbell.turned[1]) is None


# ---- what they cost


def test_formulas_hold_by_hand() -> None:
    assert concentration_cm3(1.0, 0.05, 1000.0) == pytest.approx(5e22 * np.exp(-1 / 0.0861733), rel=1e-3)
    assert concentration_cm3(0.0, 0.05, 1000.0) is None, "not dilute"
    assert implausible(3.6) is None and implausible(60.0) is not None and implausible(-9.0) is not None
    pressed = -0.01 * np.eye(3)  # eV/Å³, tensile positive: the cell wants to grow
    assert relaxation_volume(pressed, np.zeros((3, 3)), 1000.0, 0.5) == pytest.approx(20.0)


def test_the_relaxation_volume_is_what_the_cell_grows_by() -> None:
    ((_, rest),) = compute(
        [(0, Ask(AtRest(Defects(**SMALL | {"dopants": ("Ag",), "kinds": ("substitution",)})), Crystal(COPPER)))], TOY
    )
    (silver,) = rest.defects
    held = Structure.from_dict(silver.structure)
    (free,) = dpa4.relax([held], MorsePotential(), fmax=1e-3, check_minimum=False)
    assert silver.relaxation_volume_a3 == pytest.approx(free.structure.volume - held.volume, rel=0.1)
    assert silver.size_misfit_percent > 3 and rest.dopant_misfit_percent == silver.size_misfit_percent
    assert silver.energy_change - free.energy > 0 or silver.strain_energy > 0


def test_energies_follow_the_chemical_potentials_and_pairs_of_them_do_not() -> None:
    (found,) = documents(AtRest(Defects(**SMALL | {"complexes": ("v_Mg+v_O",)})), MAGNESIA)
    assert found.error is None and found.converged and len(found.conditions) == 2
    rows = {row.name: np.array(row.energies) for row in found.defects}
    oxygen = np.array([one.potentials["O"] for one in found.conditions])
    assert rows["v_O"] - rows["v_O"][0] == pytest.approx(oxygen - oxygen[0]), "an atom goes into the reservoir"
    assert np.ptp(rows["v_Mg"] + rows["v_O"]) == pytest.approx(0, abs=1e-6), "a formula unit goes back to the crystal"
    assert np.ptp(rows["v_Mg+v_O"]) == pytest.approx(0, abs=1e-6)
    pair = next(row for row in found.defects if row.kind == "complex")
    assert pair.binding_energy == pytest.approx(float((rows["v_Mg"] + rows["v_O"] - rows["v_Mg+v_O"])[0]))
    assert pair.binding_energy > 0
    assert found.native_defect in rows and found.native_energy == max(
        min(rows["v_O"][i], rows["v_Mg"][i]) for i in (0, 1)
    )
    figure, table = defect_figures({"MgO": found})
    assert len(figure.figure.data) == 3 and len(table.rows) == 3
    assert sorted(figure.figure.data[0].x) == sorted(one.potentials["Mg"] for one in found.conditions)
    answer = Answer(Subject("MgO", MAGNESIA), {"defects": found})
    shown = repr(Results(Question([Defects(**SMALL)], None), [answer]))
    assert all(f" {name} " in shown for name in rows) and "Formation energy, eV" in shown
    cells = {one.name: one for one in further_structures(answer, "defects", "fine")}
    assert set(cells) == {f"MgO {name}" for name in rows} and cells["MgO v_O"].survives
    assert len(cells["MgO v_O"].atoms) == found.n_atoms - 1 and cells["MgO v_O"].role == "defects"


def test_a_dopant_is_limited_by_the_phase_that_it_forms() -> None:
    """Host AB of -1 eV/atom; XB of -2: beside A μ_B = -2, so X may come up to -2, beside B up to -4."""
    made = {"Ga": 0.0, "N": 0.0, "Al": 0.0, "GaN": -1.0, "AlN": -2.0}
    entries = [ComputedEntry(name, energy * (2 if len(name) > 2 else 1)) for name, energy in made.items()]
    region = chemical_potential_region("GaN", entries)
    limits = {corner["N"]: dopant_limit(corner, "Al", entries) for corner in region.corners}
    assert {round(n, 6): round(one.potential, 6) for n, one in limits.items()} == {-2.0: -2.0, 0.0: -4.0}
    assert {one.beside for one in limits.values()} == {"AlN"} and {one.zero for one in limits.values()} == {0.0}


def test_potentials_of_a_crystal_above_the_hull_add_up_to_its_own_energy() -> None:
    entries = [ComputedEntry("Ga", 0.0), ComputedEntry("N", 0.0), ComputedEntry("GaN", 0.2)]
    region = chemical_potential_region("GaN", entries, metastable=True)
    assert region.corners == ({"Ga": pytest.approx(0.1), "N": pytest.approx(0.1)},)


# ---- what is no energy


def test_a_dopant_that_switches_u_on_is_refused_and_others_go_on() -> None:
    asked = Defects(**SMALL | {"kinds": ("substitution",), "dopants": ("Ni", "Zn"), "n_starts": 1})
    (found,) = documents(AtRest(asked), MAGNESIA)
    rows = {row.name: row for row in found.defects}
    assert [reason.code for reason in rows["Ni_Mg"].reasons] == ["plus_u_seam"] and rows["Ni_Mg"].energies == []
    assert rows["Zn_Mg"].energies and found.dopant in ("Zn_Mg", "Zn_O")
    (found,) = documents(AtRest(replace(asked, dopants=("Ni",))), MAGNESIA)
    assert found.error_code == "plus_u_seam"


def test_nonsense_is_a_code_and_not_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "HIGHEST", 0.01)
    (found,) = documents(Defects(**SMALL), COPPER)
    assert found.error_code == "implausible_energy" and found.native_energy is None


def test_settings_are_text_or_lists_and_wrong_ones_are_refused() -> None:
    assert Defects(dopants=("P,As", "Ge")).dopants == ("P", "As", "Ge")
    for wrong, words in (
        ({"dopants": ("Zz",)}, r"^dopants: the closest are Z\w(, \w+){4}$"),
        ({"dopants": ("zn",)}, "did you mean 'Zn'"),
        ({"kinds": ("vacancies",)}, "vacancy"),
        ({"complexes": ("v_Si",)}, "no pair"),
        ({"n_starts": 0}, "positive"),
        ({"temperature_k": 0.0}, "positive"),
    ):
        with pytest.raises(DPA4Error, match=words):
            Defects(**wrong).check()
    (found,) = documents(Defects(**SMALL | {"kinds": ("antisite",)}), COPPER)
    assert found.error_code == "no_defect"
    (found,) = documents(Defects(**SMALL | {"max_atoms": 3}), COPPER)
    assert found.error_code == "no_supercell"

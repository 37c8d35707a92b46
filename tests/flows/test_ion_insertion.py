"""Insertion into empty hosts: places by geometry, numbers by oxidation states, and a toy host that fills up."""

from __future__ import annotations

from typing import Any

import pytest
from pymatgen.core import Composition, Lattice, Structure
from toy_campaign import MORSE, layered, rocksalt, tetrahedral

import dpa4_flows as d4
from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.electrode import remove_ions
from dpa4_flows.analysis.ion_sites import Uptake, filled_cell, keeps_bonds, numbers_tried, places, surroundings, uptake
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.properties.electrode import Electrode
from dpa4_flows.properties.ion_insertion import IonInsertion, IonInsertionDocument
from dpa4_flows.report.figures_voltage import profiles

TOY = d4.ModelRef(MORSE, dtype="float64")
COARSE = Relaxed(fmax=0.1, check_minimum=False)
SMALL = IonInsertion(relaxation=COARSE, min_length=2.0, n_relaxed=1, v_max=50.0)


def document_of(asked: Any, structure: Structure) -> Any:
    ((_, document),) = compute([("x", Ask(asked, Crystal(structure)))], TOY)
    return document


def graphite() -> Structure:
    places = [[0, 0, 0.25], [1 / 3, 2 / 3, 0.25]]
    return Structure.from_spacegroup("P6_3/mmc", Lattice.hexagonal(2.464, 6.711), ["C", "C"], places)


def test_the_widest_place_of_an_empty_layered_oxide_is_the_octahedron_that_lithium_has_left() -> None:
    full = layered("Co")
    first, *others = places(remove_ions(full, "Li"), "Li", 5)
    assert full.lattice.get_all_distances([first.fractional], [full.frac_coords[1]])[0, 0] < 0.1
    assert first.number == 1 and all(place.room < first.room for place in others)
    assert surroundings(full, 1, "Li").startswith("6 O at 2.")
    assert not places(rocksalt("Mg"), "Cs", 5)  # a large ion finds none in a dense oxide


def test_the_cell_that_is_filled_is_the_smallest_that_keeps_ions_apart() -> None:
    cells = {length: filled_cell(graphite(), length) for length in (2.0, 4.0, 4.5)}
    assert [len(cell) for cell in cells.values()] == [4, 12, 16]  # LiC6 is one ion in each gap of the second


def test_equal_places_of_a_supercell_are_one_although_its_atoms_are_off_by_a_little() -> None:
    host = remove_ions(layered("Co"), "Li") * [2, 1, 1]
    host.perturb(0.01, seed=0)
    (octahedron, *_) = places(host, "Li", 5)
    assert octahedron.number == 2


@pytest.mark.parametrize(
    ("formula", "ion", "most", "whole"),
    [
        ("Fe4P4O16", "Li", 4, (4,)),  # Fe3+ to Fe2+
        ("Co3O6", "Li", 6, (3, 6)),  # Co4+ to Co2+
        ("Co3O6", "Mg", 3, (3,)),  # two charges each
        ("Li4Ti5O12", "Li", 5, (5,)),
        ("V4O10", "Li", 12, (4, 8, 12)),
        ("C4", "Li", None, ()),
        ("TiO", "Li", 0, ()),
    ],
)
def test_metals_pay_for_as_many_ions_as_they_can_be_reduced(
    formula: str, ion: str, most: int | None, whole: tuple[int, ...]
) -> None:
    assert uptake(Composition(formula), ion) == Uptake(most, whole)


def test_whole_oxidation_states_are_among_the_numbers_that_are_tried() -> None:
    assert numbers_tried(Uptake(6, (3, 6)), 4, 9) == (2, 3, 5, 6)
    assert numbers_tried(Uptake(4, (4,)), 1, 9) == (4,)
    assert numbers_tried(Uptake(None, ()), 4, 3) == (1, 2, 3) and numbers_tried(Uptake(0, ()), 4, 3) == ()


def test_layers_that_glide_keep_their_bonds_and_a_host_with_other_neighbours_does_not() -> None:
    carbon = graphite()
    upper = [i for i, site in enumerate(carbon) if site.frac_coords[2] > 0.5]
    glided = carbon.copy()
    glided.translate_sites(upper, [1 / 3, 2 / 3, 0])
    glided.append("Li", [0, 0, 0.5])
    assert keeps_bonds(carbon, glided, "Li")
    assert not keeps_bonds(layered("Co"), tetrahedral("Co"), "Li")
    iron = Structure(Lattice.cubic(2.87), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert not keeps_bonds(iron, iron, "Li")  # no layers that could glide


def test_a_toy_host_fills_up_to_what_removal_began_with() -> None:
    found = document_of(SMALL, remove_ions(layered("Ti"), "Li"))
    assert isinstance(found, IonInsertionDocument) and found.error is None
    assert found.charged_formula == found.host_formula == "TiO2" and found.taken == 1 and found.formula == "LiTiO2"
    assert found.ended is not None and found.ended.code == "redox_limit" and found.n_places
    removed = document_of(Electrode(relaxation=COARSE), layered("Ti"))
    assert found.mean_voltage == pytest.approx(removed.average_voltage, abs=0.05)
    assert found.full_capacity == found.usable_capacity == pytest.approx(removed.capacity_grav)
    assert [row.content for row in found.orderings] == [1.0, 0.0] and found.place.startswith("6 O at")
    assert len(profiles({"x": found})) == 3


def test_what_is_not_gained_or_not_the_same_host_ends_an_insertion(monkeypatch: pytest.MonkeyPatch) -> None:
    host = remove_ions(layered("Co"), "Li")
    refused = document_of(IonInsertion(**{**vars(SMALL), "min_voltage": 49.0}), host)
    assert refused.error_code == "takes_up_no_ion" and "below 49 V" in refused.error
    assert document_of(SMALL, rocksalt("Ti")).error_code == "redox_limit"
    assert document_of(SMALL, Structure(Lattice.cubic(3.5), ["Li"], [[0, 0, 0]])).error_code == "no_host"
    assert document_of(IonInsertion(max_atoms=5), host).error_code == "too_large"
    monkeypatch.setattr("dpa4_flows.properties.ion_insertion.host_displacement", lambda *_: 1.0)
    monkeypatch.setattr("dpa4_flows.properties.ion_insertion.keeps_bonds", lambda *_: False)
    moved = document_of(SMALL, host)
    assert moved.error_code == "takes_up_no_ion" and "other neighbours" in moved.error
    for wrong in ({"n_relaxed": 0}, {"v_min": 4.0, "v_max": 4.0}, {"min_length": 0.0}):
        with pytest.raises(DPA4Error, match=next(iter(wrong))):
            IonInsertion(**wrong).check()  # type: ignore[arg-type]


def test_a_host_with_ions_that_can_leave_is_charged_and_discharged() -> None:
    half = layered("Co") * [2, 1, 1]
    half.remove_sites([next(i for i, site in enumerate(half) if site.specie.symbol == "Li")])
    found = document_of(IonInsertion(**{**vars(SMALL), "n_steps": 2}), half)
    assert found.error is None and found.host_formula == "Li(CoO2)2" and found.taken == 1
    assert (found.formula, found.charged_formula) == ("LiCoO2", "CoO2")
    assert {0.0, 0.5, 1.0} <= {row.content for row in found.orderings}

"""Compounds near a composition."""

import dataclasses

import pytest
from pymatgen.core import Composition
from toy_campaign import hull_verdict_on

from dpa4_flows.analysis.completeness import Tally
from dpa4_flows.analysis.hull import HullResult
from dpa4_flows.analysis.nearby import composition_distance, nearest_compound

HOST = HullResult("x", "CoO2", "Co-O", -5.0, 0.0, energy_above_hull=0.02, distance_to_competing=0.02)
ELEMENTS = {"Co": 1, "O": 1}


def test_distance_is_the_share_of_atoms_to_exchange():
    assert composition_distance(Composition("CoO2"), Composition("Co2O4")) == 0.0
    assert composition_distance(Composition("CoO2"), Composition("CoO")) == pytest.approx(1 / 6)
    assert composition_distance(Composition("CoO2"), Composition("TiS2")) == pytest.approx(1.0)


def test_elements_are_no_compounds():
    assert nearest_compound(Composition("CoO2"), ["O2", "Co"]) is None
    assert nearest_compound(Composition("CoO2"), ["O2", "CoO", "Co3O4"]) == ("Co3O4", pytest.approx(2 / 21))


@pytest.mark.parametrize("distance", [-0.09, 0.02, 0.15])
@pytest.mark.parametrize(
    ("known", "flagged"), [({"CoO": 1}, True), ({"CoO": 1, "Co3O4": 1}, False), ({"CoO2": 1, "CoO": 1}, False)]
)
def test_compounds_near_a_charged_host_are_looked_up_whatever_the_energies_say(distance, known, flagged):
    place = dataclasses.replace(
        HOST,
        energy_above_hull=max(distance, 0.0),
        distance_to_competing=distance,
        competing=Tally(ELEMENTS, known),
    )
    codes = [reason.code for reason in hull_verdict_on(place, 0.2, charged=True).reasons]
    assert ("charged_far_from_phases" in codes) is flagged

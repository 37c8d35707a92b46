"""How certain a place on a hull is, by the members of a committee."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.entries.computed_entries import ComputedEntry

import dpa4_flows
from dpa4_flows.analysis.hull import phase_positions
from dpa4_flows.analysis.hull_spread import DEVIATIONS, place_spreads
from dpa4_flows.documents.calculations import RATTLE
from dpa4_flows.reference.sources import find_phases


def entry(formula, energy_per_atom, deviations=(0.0, 0.0, 0.0)):
    """A phase, and how far each member is from its energy, eV/atom."""
    n_atoms = ComputedEntry(formula, 0.0).composition.num_atoms
    return ComputedEntry(formula, energy_per_atom * n_atoms, data={DEVIATIONS: list(deviations)}, entry_id=formula)


ERROR = np.array([-0.1, 0.0, 0.1])
"""eV/atom, by which three members differ."""


def test_what_members_get_wrong_alike_in_all_phases_cancels():
    """Variances of phases would add up to 0.17 eV/atom here."""
    competing = [entry(formula, energy, ERROR) for formula, energy in (("Mg", -1.5), ("O", -4.9), ("MgO", -6.0))]
    (spread,) = place_spreads([entry("Mg3O2", -4.0, ERROR)], competing)
    assert spread.energy_above_hull == pytest.approx(0.0, abs=1e-12)
    assert spread.formation_energy_per_atom == pytest.approx(0.0, abs=1e-12)


def test_what_they_get_wrong_in_one_phase_counts_by_its_share():
    competing = [entry("Mg", -1.5), entry("O", -4.9), entry("MgO", -6.0, ERROR)]
    (spread,) = place_spreads([entry("Mg2O", -4.0)], competing)  # two thirds of the atoms become MgO
    assert spread.energy_above_hull == spread.distance_to_competing == pytest.approx(0.1 * 2 / 3)
    assert spread.formation_energy_per_atom == pytest.approx(0.0, abs=1e-12)


def test_a_phase_on_the_hull_is_as_uncertain_as_one_above_it():
    """Its distance is 0 for every member; how far it could rise before it is above the hull is not."""
    competing = [entry("Mg", -1.5), entry("O", -4.9)]
    candidates = [entry("MgO", -6.0, ERROR), entry("MgO", -5.9, ERROR)]
    positions = phase_positions(candidates, competing, candidates_compete=True)
    assert positions[0].energy_above_hull == 0 and positions[1].energy_above_hull == pytest.approx(0.1)
    stable, above = place_spreads(candidates, competing, candidates)
    assert stable.distance_to_competing == pytest.approx(0.1) == above.distance_to_competing
    # the two are the same phase to all members: what stands between them is certain
    assert stable.energy_above_hull == pytest.approx(0.0, abs=1e-12) == above.energy_above_hull


def test_members_may_disagree_about_which_phases_compete():
    competing = [entry("Mg", 0.0), entry("O", 0.0), entry("MgO", -0.05, (-0.1, 0.0, 0.1))]
    (spread,) = place_spreads([entry("Mg2O", 0.1)], competing)
    hulls = np.array([-0.15, -0.05, 0.0]) * 2 / 3  # the third member has no MgO
    assert spread.energy_above_hull == pytest.approx(np.std(0.1 - hulls, ddof=1))


def test_a_phase_without_members_leaves_the_spread_unknown():
    plain = ComputedEntry("MgO", -12.0)
    assert place_spreads([entry("Mg2O", -4.0)], [entry("Mg", -1.5), entry("O", -4.9), plain]) == [None]
    assert place_spreads([plain], [plain]) == [None]


def test_hulls_by_a_committee_carry_deviations_of_each_member_placing_all_phases():
    model, oxide = "dpa4_core.testing:morse_committee", bulk("MgO", "rocksalt", a=4.3)
    alone = {"library": None, "bundled": False, "prototypes": False, "corrections": "none"}
    places = dpa4_flows.hull([oxide], model=model, **alone)
    assert places[0].energy_above_hull_std == places[0].document.energy_above_hull_std > 0
    assert "±" in repr(places)

    phases = {p.structure.composition.reduced_formula: p.structure for p in find_phases(["Mg-O"], [], bundled=False)}
    relaxed = dpa4_flows.relax([oxide, phases["Mg"], phases["O2"]], model=model, rattle=RATTLE)
    energies, metal, gas = (np.array(one.member_energies) / one.n_atoms for one in relaxed)
    by_hand = np.std(energies - (metal + gas) / 2, ddof=1)
    assert places[0].formation_energy_per_atom_std == pytest.approx(by_hand, rel=0.01)
    assert places[0].distance_to_competing_std == pytest.approx(by_hand, rel=0.01)  # only the elements compete
    single = dpa4_flows.hull([oxide], model="dpa4_core.testing:MorsePotential", **alone)
    assert single[0].energy_above_hull_std is None and "±" not in repr(single)

"""Committees in documents, tables and commands."""

from __future__ import annotations

import pytest
from ase.build import bulk

import dpa4_flows

MORSE, COMMITTEE = "dpa4_core.testing:MorsePotential", "dpa4_core.testing:morse_committee"


def test_documents_of_a_committee_carry_deviations_and_tables_show_them():
    copper = bulk("Cu", cubic=True)
    found = dpa4_flows.relax([copper], model=COMMITTEE)
    (document,) = found
    assert len(document.member_energies) == 3 and document.energy == pytest.approx(sum(document.member_energies) / 3)
    assert document.energy_per_atom_std > 0 and document.max_force_std < 1e-6  # symmetry
    shown = repr(found)
    assert "±" in shown and "Largest force deviation" in shown
    assert found.records()[0]["energy_per_atom_std"] == document.energy_per_atom_std
    single = dpa4_flows.relax([copper], model=MORSE)
    assert single[0].member_energies is None and single[0].energy_per_atom_std is None
    assert "±" not in repr(single) and "deviation" not in repr(single)

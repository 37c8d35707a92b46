"""Each way in which a candidate can be unfit is named; fit ones pass."""

import json
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.sanity import came_apart, check_candidate
from dpa4_flows.documents.provenance import provenance
from dpa4_flows.documents.schemas import RelaxationDocument
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.reference.entries import entries_of_phases
from dpa4_flows.reference.library import bundled_elements

DATA = Path(__file__).parents[1] / "data"
SUPPORTED = frozenset(range(1, 95)) - {2, 10, 18, 36, 54, 84, 85, 86, 87, 88}


def check(structure, **options):
    return [reason.sentence for reason in check_candidate(structure, supported_elements=SUPPORTED, **options)]


@pytest.fixture
def rocksalt():
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.14), ["Li", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_real_crystals_pass():
    for row in json.loads((DATA / "compounds.json").read_text()):
        s = row["structure"]
        assert check(Structure(s["lattice"], s["species"], s["frac_coords"])) == [], row["id"]
    for phase in bundled_elements():
        assert check(phase.structure) == [], phase.name


def test_partial_occupancy(rocksalt):
    rocksalt.replace_species({"Cl": {"Cl": 0.5, "Br": 0.5}})
    (reason,) = check(rocksalt)
    assert "partially occupied" in reason


def test_unsupported_element(rocksalt):
    rocksalt.replace_species({"Li": "Po"})
    (reason,) = check(rocksalt)
    assert "Po" in reason


def test_overlapping_atoms(rocksalt):
    rocksalt.append("Li", [0.02, 0, 0])
    (reason,) = check(rocksalt)
    assert "overlap" in reason


def test_nan_position():
    broken = Structure(Lattice.cubic(4), ["Li", "Cl"], [[0, 0, 0], [np.nan, 0.5, 0.5]])
    (reason,) = check(broken)
    assert "NaN" in reason


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_implausible_volume(rocksalt, factor):
    rocksalt.scale_lattice(rocksalt.volume * factor**3)
    (reason,) = check(rocksalt, min_distance_ratio=0.1)
    assert "Å³ per atom is implausible" in reason


def test_too_many_atoms(rocksalt):
    assert check(rocksalt, max_atoms=8) == []
    assert check(rocksalt * (2, 1, 1), max_atoms=8) == ["16 atoms in the cell; this campaign admits 8"]


def test_every_reason_is_told(rocksalt):
    rocksalt.replace_species({"Li": "Po"})
    assert len(check(rocksalt, max_atoms=4)) == 2


def test_what_flies_apart_as_it_relaxes_is_no_reference() -> None:
    """F2 in a cell of 103 Å³ per atom is a gas, which a potential of crystals does not know; solid N2 of 28 is none."""
    gas = Structure(Lattice.cubic(5.91), ["F", "F"], [[0, 0, 0], [0.24, 0, 0]])
    dense = Structure(Lattice.cubic(3.82), ["N", "N"], [[0, 0, 0], [0.29, 0, 0]])
    assert came_apart(dense) is None
    fields = {"structure_hash": "x", "n_atoms": 2, "energy": -3.8, "converged": True}
    made = provenance(ModelRef("dpa4_core.testing:MorsePotential"), {})
    documents = {
        name: RelaxationDocument(key=name, formula=name, structure=one.as_dict(), provenance=made, **fields)
        for name, one in (("F2", gas), ("N2", dense))
    }
    rows = [{"name": n, "formula": n, "source": "", "role": "element", "key": n} for n in documents]
    found = entries_of_phases(rows, documents, "none")
    assert [entry.entry_id for entry in found.entries] == ["N2"]
    assert found.missing_in("F-N") == ["F2 (F2): F2 came apart into a gas as it relaxed: 103 Å³ per atom are left"]
    other = {"name": "another N2", "formula": "N2", "source": "", "role": "element", "key": "gone"}
    twice = entries_of_phases([*rows, other], documents, "none")
    assert len(twice.missing) == 2 and len(twice.missing_in("F-N")) == 1, "nobody misses a second form of an element"


def test_a_closest_distance_that_makes_no_sense_is_no_reason_against_a_candidate(rocksalt: Structure) -> None:
    with pytest.raises(DPA4Error, match="min_distance_ratio must be a number from 0"):
        check(rocksalt, min_distance_ratio=float("nan"))

"""Electrode formulas against pymatgen's InsertionElectrode and by hand."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from pymatgen.apps.battery.analyzer import BatteryAnalyzer
from pymatgen.apps.battery.insertion_battery import InsertionElectrode
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry

from dpa4_flows.analysis.electrode import (
    ElectrodeError,
    electrode_properties,
    host_displacement,
    redox_bound,
    remove_ions,
)
from dpa4_flows.analysis.ions import IonError

DATA = Path(__file__).parents[1] / "data"


def read(name):
    return json.loads(gzip.decompress((DATA / "battery_entries" / f"{name}.json.gz").read_bytes()))


@pytest.fixture(scope="module")
def compounds():
    rows = {row["id"]: row["structure"] for row in json.loads((DATA / "compounds.json").read_text())}
    return {k: Structure(r["lattice"], r["species"], r["frac_coords"]) for k, r in rows.items()}


@pytest.fixture(scope="module", params=["LiTiO2", "CaMoO2"])
def battery(request):
    """pymatgen's electrode, its working ion and the stored answers; Ca carries two charges."""
    answers = read("answers")[request.param]
    entries = [ComputedStructureEntry.from_dict(row) for row in read(f"{request.param}_entries")]
    ion = ComputedEntry(answers["working_ion"], answers["working_ion_energy_eV_per_atom"])
    return InsertionElectrode.from_entries(entries, ion), answers


def test_whole_electrode_equals_pymatgen(battery):
    electrode, answers = battery
    discharged, charged = electrode.fully_discharged_entry, electrode.fully_charged_entry
    ours = electrode_properties(
        discharged.structure,
        charged.structure,
        discharged.energy,
        charged.energy,
        answers["working_ion_energy_eV_per_atom"],
        answers["working_ion"],
    )
    assert ours.average_voltage == pytest.approx(answers["average_voltage_V"], abs=1e-6)
    assert ours.capacity_grav == pytest.approx(answers["capacity_grav_mAh_g"], rel=1e-6)
    assert ours.capacity_vol == pytest.approx(answers["capacity_vol_mAh_cm3"], rel=1e-6)
    assert ours.energy_grav == pytest.approx(float(electrode.get_specific_energy()), rel=1e-6)
    assert ours.energy_vol == pytest.approx(float(electrode.get_energy_density()), rel=1e-6)


def test_each_step_equals_pymatgen(battery):
    electrode, answers = battery
    for pair in electrode.voltage_pairs:
        ours = electrode_properties(
            pair.entry_discharge.structure,
            pair.entry_charge.structure,
            pair.entry_discharge.energy,
            pair.entry_charge.energy,
            answers["working_ion_energy_eV_per_atom"],
            answers["working_ion"],
        )
        assert ours.average_voltage == pytest.approx(pair.voltage, abs=1e-9)
        assert ours.volume_change_percent == pytest.approx(100 * (pair.vol_charge / pair.vol_discharge - 1), abs=1e-6)


def test_voltage_does_not_depend_on_the_number_of_formula_units(compounds):
    discharged, charged = compounds["LiCoO2"], remove_ions(compounds["LiCoO2"], "Li")
    n = discharged.composition["Li"]
    one = electrode_properties(discharged, charged, -22.0 * n, -17.0 * n, -1.9, "Li")
    twice = electrode_properties(discharged * (2, 1, 1), charged, -44.0 * n, -17.0 * n, -1.9, "Li")
    assert one.average_voltage == pytest.approx(22.0 - 17.0 - 1.9)
    assert twice.average_voltage == pytest.approx(one.average_voltage)
    assert twice.capacity_vol == pytest.approx(one.capacity_vol)
    assert twice.volume_change_percent == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("formula", "expected"), [("LiCoO2", 273.8), ("LiNiO2", 274.5), ("LiMn2O4", 148.2), ("LiFePO4", 169.9)]
)
def test_known_capacities(compounds, formula, expected):
    structure = compounds[formula]
    ours = electrode_properties(structure, remove_ions(structure, "Li"), -100.0, -80.0, -1.9, "Li")
    assert ours.capacity_grav == pytest.approx(expected, abs=0.1)
    assert redox_bound(structure.composition, "Li").capacity_redox == pytest.approx(expected, abs=0.1)


def test_removal_keeps_the_cell_and_the_input(compounds):
    structure = compounds["LiFePO4"]
    before = structure.as_dict()
    host = remove_ions(structure, "Li")
    assert structure.as_dict() == before
    assert host.lattice == structure.lattice
    assert host.composition.reduced_formula == "FePO4"


def test_layers_that_drift_apart_make_the_volume_change_unreliable(compounds):
    structure = compounds["LiCoO2"]
    host = remove_ions(structure, "Li")
    c_axis = host.lattice.matrix.sum(axis=0)  # threefold axis of the rhombohedral cell
    axis = c_axis / (c_axis @ c_axis) ** 0.5
    stretched = [v + 0.25 * (v @ axis) * axis for v in host.lattice.matrix]
    swollen = Structure(Lattice(stretched), host.species, host.frac_coords)
    ours = electrode_properties(structure, swollen, -22.0, -17.0, -1.9, "Li")
    assert ours.volume_change_percent == pytest.approx(25.0)
    assert ours.interlayer_change_percent == pytest.approx(25.0)
    assert not ours.volume_change_reliable
    assert "no dispersion" in ours.warnings["unreliable_vdw"]
    breathing = Structure(Lattice(1.01 * host.lattice.matrix), host.species, host.frac_coords)
    ours = electrode_properties(structure, breathing, -22.0, -17.0, -1.9, "Li")
    assert ours.volume_change_reliable
    assert ours.warnings == {}


def test_contraction_of_an_axis_is_no_drift_of_layers(compounds):
    structure = compounds["LiCoO2"]
    host = remove_ions(structure, "Li")
    for strain, reliable in (
        ([0.03, 0.0, -0.12], True),
        ([0.0, 0.0, -0.2], True),
        ([0.0, 0.0, 0.12], False),
        ([-0.04, -0.04, 0.08], False),
        ([-0.13, 0.0, 0.11], False),
    ):
        strained = host.copy()
        strained.apply_strain(strain)
        ours = electrode_properties(structure, strained, -22.0, -17.0, -1.9, "Li")
        assert ours.volume_change_reliable is reliable
        assert ("unreliable_vdw" in ours.warnings) is not reliable


def test_impossible_electrodes_get_a_sentence(compounds):
    lithium = Structure(Lattice.cubic(3.4), ["Li"], [[0, 0, 0]])
    cobaltate = compounds["LiCoO2"]
    host = remove_ions(cobaltate, "Li")
    with pytest.raises(ElectrodeError, match="nothing is left of Li"):
        remove_ions(lithium, "Li")
    with pytest.raises(ElectrodeError, match="holds no Li"):
        remove_ions(compounds["MgO"], "Li")
    with pytest.raises(IonError, match="'Fe' is not allowed as a working ion"):
        electrode_properties(cobaltate, host, -1.0, -1.0, -1.0, "Fe")
    with pytest.raises(ElectrodeError, match="do not share a host"):
        electrode_properties(cobaltate, compounds["MgO"], -1.0, -1.0, -1.0, "Li")
    with pytest.raises(ElectrodeError, match="no Li leaves"):
        electrode_properties(host, cobaltate, -1.0, -1.0, -1.0, "Li")
    with pytest.raises(ElectrodeError, match="not a finite number"):
        electrode_properties(cobaltate, host, float("nan"), -1.0, -1.0, "Li")


def test_negative_voltage_is_flagged(compounds):
    structure = compounds["LiCoO2"]
    ours = electrode_properties(structure, remove_ions(structure, "Li"), -17.0, -17.0, -1.9, "Li")
    assert ours.average_voltage == pytest.approx(-1.9)
    assert "does not take up the ion" in ours.warnings["no_insertion"]


def test_redox_bound_names_what_is_missing():
    assert redox_bound(Composition("LiAlO2"), "Li").reason == "LiAlO2 has no redox-active transition metal"
    assert redox_bound(Composition("CoO2"), "Li").reason == "CoO2 holds no Li"
    titanate = redox_bound(Composition("Li2TiO3"), "Li")
    assert titanate.capacity_redox == 0.0
    assert titanate.reason == "Ti in Li2TiO3 cannot be oxidised further"
    assert redox_bound(Composition("LiCoO2"), "Li").reason is None


def test_redox_bound_is_limited_by_the_metal():
    bound = redox_bound(Composition("Li3FeO3"), "Li")  # Fe3+ to Fe4+ pays for one of three Li
    assert bound.capacity_redox == pytest.approx(bound.capacity_ions / 3)


@pytest.mark.parametrize("formula", ["LiCoO2", "LiFePO4", "LiMn2O4", "NaCoO2"])
def test_redox_bound_equals_pymatgen_for_common_cathodes(compounds, formula):
    structure = compounds[formula].copy()
    ion = formula[:2]
    structure.add_oxidation_state_by_guess()
    theirs = BatteryAnalyzer(structure, working_ion=ion).get_max_capgrav(insert=False)
    assert redox_bound(compounds[formula].composition, ion).capacity_redox == pytest.approx(theirs, rel=1e-6)


def test_only_atoms_that_leave_their_framework_count_as_displaced(compounds):
    structure = compounds["LiFePO4"]
    host = remove_ions(structure, "Li")
    moved = host.copy()
    moved.apply_strain([0.05, -0.02, 0.03])
    moved.translate_sites(range(len(moved)), [0.4, 0.6, 0.1])
    assert host_displacement(structure, moved, "Li") == pytest.approx(0.0, abs=1e-9)
    n = len(moved)
    moved.translate_sites([3], [0.8, 0.0, 0.0], frac_coords=False)
    assert host_displacement(structure, moved, "Li") == pytest.approx(0.8 * (1 - 1 / n), abs=1e-6)
    properties = electrode_properties(structure, moved, -190.0, -165.0, -1.9, "Li")
    assert "host atoms move by up to 0.77 Å" in properties.warnings["not_topotactic"]


def _moved_host(structure, *, amount):
    """A charged host, strained, shifted as a whole, with one atom moved by ``amount`` Å."""
    host = remove_ions(structure, "Li")
    host.apply_strain([0.04, -0.02, 0.03])
    host.translate_sites(range(len(host)), [0.4, 0.6, 0.1])
    host.translate_sites([2], [amount, 0.0, 0.0], frac_coords=False)
    return host


def _shuffled(host):
    order = np.random.default_rng(1).permutation(len(host))
    return Structure.from_sites([host[i] for i in order])


def _decorated(host):
    return host.copy().add_oxidation_state_by_guess()


def _unwrapped(host):
    images = np.random.default_rng(2).integers(-2, 3, (len(host), 3))
    return Structure(host.lattice, host.species, host.frac_coords + images)


def _labelled(host):
    return host.copy(site_properties={"magmom": [0.1 * i for i in range(len(host))]})


def _other_setting(host):
    """The same crystal with axes c, a, −b and rotated in space."""
    turned = Structure(
        Lattice([[0, 0, 1], [1, 0, 0], [0, -1, 0]] @ host.lattice.matrix),
        host.species,
        host.cart_coords,
        coords_are_cartesian=True,
    )
    return Structure(Lattice.from_parameters(*turned.lattice.parameters), turned.species, turned.frac_coords)


def _skewed(host):
    """The same lattice spanned by a, b, a + c."""
    return Structure(
        Lattice([[1, 0, 0], [0, 1, 0], [1, 0, 1]] @ host.lattice.matrix),
        host.species,
        host.cart_coords,
        coords_are_cartesian=True,
    )


DISGUISES = [
    _shuffled,
    _decorated,
    _unwrapped,
    _labelled,
    _other_setting,
    _skewed,
    lambda host: _decorated(_shuffled(host)),
]


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("formula", ["LiFePO4", "LiCoO2", "LiMn2O4"])
def test_displacement_and_stretch_do_not_depend_on_order_labels_or_setting(compounds, formula, disguise):
    structure = compounds[formula]
    n = len(remove_ions(structure, "Li"))
    for amount in (0.0, 0.3):
        host = _moved_host(structure, amount=amount)
        plain = electrode_properties(structure, host, -190.0, -165.0, -1.9, "Li")
        same = electrode_properties(structure, disguise(host), -190.0, -165.0, -1.9, "Li")
        assert plain.host_displacement == pytest.approx(amount * (1 - 1 / n), abs=1e-6)
        assert same.host_displacement == pytest.approx(plain.host_displacement, abs=1e-6)
        assert same.interlayer_change_percent == pytest.approx(plain.interlayer_change_percent, abs=1e-4)


def test_a_decorated_discharged_structure_is_its_plain_one(compounds):
    decorated = _decorated(compounds["LiCoO2"])
    host = remove_ions(compounds["LiCoO2"], "Li")
    found = electrode_properties(decorated, _decorated(host), -100.0, -80.0, -1.9, "Li")
    assert found.host_displacement == pytest.approx(0.0, abs=1e-9)


def test_other_host_atoms_have_no_displacement(compounds):
    host = remove_ions(compounds["LiFePO4"], "Li")
    for pair in ((compounds["LiFePO4"], host * (2, 1, 1)), (host * (1, 1, 2), compounds["LiFePO4"])):
        assert host_displacement(*pair, "Li") == pytest.approx(0.0, abs=1e-6)  # supercells are found
    assert host_displacement(compounds["LiFePO4"], compounds["LiCoO2"], "Li") is None

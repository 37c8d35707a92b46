"""Voltage profiles: hulls of energies made by hand, and a toy electrode with the ends of the electrode property."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Composition, Lattice, Structure
from test_campaign_kind import dpa4
from toy_campaign import MORSE, layered, rocksalt, scene, write_campaign
from toy_campaign import STAGES as FULL_REMOVAL

import dpa4_flows as d4
from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.electrode import ElectrodeError
from dpa4_flows.analysis.orderings import disordered_cell, partly_filled
from dpa4_flows.analysis.voltage_profile import (
    Couple,
    Profile,
    State,
    cells_of,
    contents_tried,
    ideal_cell,
    mean_voltage,
    off_sites,
    profile,
    whole_states,
    with_empty_sites,
)
from dpa4_flows.campaigns.battery import BATTERY, OF_FULL_REMOVAL, electrode_finding
from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.campaigns.context import Case
from dpa4_flows.campaigns.plan import plan_campaign
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.provenance import provenance
from dpa4_flows.documents.reasons import Reason, voided
from dpa4_flows.documents.schemas import Candidate
from dpa4_flows.properties.electrode import Electrode, ElectrodeDocument
from dpa4_flows.properties.voltage_profile import VoltageProfile, VoltageProfileDocument
from dpa4_flows.report.figures_voltage import profiles
from dpa4_flows.store.table import ResultsTable

TOY = d4.ModelRef(MORSE, dtype="float64")
COARSE = Relaxed(fmax=0.1, check_minimum=False)
SMALL = VoltageProfile(relaxation=COARSE, formula_units=2, n_steps=2, n_relaxed=1, v_min=0.0, v_max=50.0)


def of_mixing(*mixing: float, n_ions: float = 1.0, charge: int = 1) -> Profile:
    """Equally spaced contents from empty to full with these energies against the ends; 3 V on average."""
    contents = np.linspace(0, 1, len(mixing))
    metal = -2.0
    full = n_ions * (metal - 3.0 * charge)
    states = [State(float(c), c * full + e - 10 * (1 - c), 1.0) for c, e in zip(contents, mixing, strict=True)]
    return profile(states, Couple(n_ions, charge, metal - 10 / n_ions * -1, 200.0))


def document_of(asked: Any, structure: Structure, model: d4.ModelRef = TOY) -> Any:
    ((_, document),) = compute([("x", Ask(asked, Crystal(structure)))], model)
    return document


# ---- hulls


@pytest.mark.parametrize(("n_ions", "charge"), [(1.0, 1), (2.0, 2)])
def test_an_ordering_below_the_line_makes_two_plateaus(n_ions: float, charge: int) -> None:
    found = of_mixing(0.0, 0.1, -0.5 * n_ions * charge, -0.1, 0.0, n_ions=n_ions, charge=charge)
    assert [one.voltage for one in found.plateaus] == pytest.approx([2.0, 4.0])
    assert [(one.capacity_from, one.capacity_to) for one in found.plateaus] == [(0, 100), (100, 200)]
    assert mean_voltage(found.plateaus) == pytest.approx(3.0, abs=1e-12)
    assert found.corners == (4, 2, 0) and found.above_hull[2] == 0 < found.above_hull[1]


def test_a_solid_solution_steps_through_every_composition() -> None:
    contents = np.linspace(0, 1, 9)
    found = of_mixing(*(-0.4 * contents * (1 - contents)).tolist())
    voltages = [one.voltage for one in found.plateaus]
    assert len(voltages) == 8 and voltages == sorted(voltages)
    assert max(np.diff(voltages)) < 0.11 and mean_voltage(found.plateaus) == pytest.approx(3.0, abs=1e-12)


def test_where_mixing_costs_energy_phases_separate_into_one_plateau() -> None:
    found = of_mixing(0.0, 0.02, 0.03, 0.0)
    assert [one.voltage for one in found.plateaus] == pytest.approx([3.0])
    assert found.above_hull == pytest.approx((0.0, 0.02, 0.03, 0.0))


def test_a_window_takes_level_plateaus_whole_and_its_limits_belong_to_it() -> None:
    found = of_mixing(0.0, 0.1, -0.5, -0.1, 0.0)
    upper = found.within(2.5, 4.0)
    assert [one.voltage for one in upper] == pytest.approx([4.0]) and sum(one.capacity for one in upper) == 100
    assert len(found.within(2.0, 4.5)) == 2 and not found.within(2.5, 3.5)
    assert mean_voltage(found.within(2.5, 3.5)) is None
    (half,) = found.within(2.5, 4.0, most=150.0)  # no metal is left to oxidise
    assert (half.capacity_from, half.capacity_to, half.content_to) == (100.0, 150.0, 0.25)


def test_of_a_step_between_which_nothing_was_tried_a_window_takes_the_part_inside() -> None:
    contents = np.linspace(0, 1, 9)
    found = of_mixing(*(-0.4 * contents * (1 - contents)).tolist())  # V = 3.4 - 0.8 c
    slopes = [one.slope for one in found.plateaus]
    assert slopes == pytest.approx([0, *[0.8 / 200] * 6, 0])  # the ends may be level
    for before, after in zip(found.plateaus[1:-1], found.plateaus[2:-1], strict=False):
        assert before.ends[1] == pytest.approx(after.ends[0])
    inside = found.within(2.85, 3.05)
    assert sum(one.capacity for one in inside) == pytest.approx(0.2 / 0.8 * 200)
    assert mean_voltage(inside) == pytest.approx(2.95)
    assert inside[-1].content_to == pytest.approx((3.4 - 3.05) / 0.8)
    assert [one.slope for one in of_mixing(0.0, -0.3, -0.25, -0.3, 0.0).plateaus] == [
        0,
        0,
        0,
    ]  # phases separate between


def test_a_window_is_that_of_the_electrolyte_against_the_metal_of_the_ion() -> None:
    assert VoltageProfile().window == (2.5, 4.5) and VoltageProfile("Na").window == pytest.approx((2.17, 4.17))
    assert VoltageProfile("Mg", v_max=3.0).window == pytest.approx((1.83, 3.0))


def test_of_several_orderings_the_lowest_counts_and_an_end_may_not_lack() -> None:
    couple = Couple(1.0, 1, -2.0, 200.0)
    ends = [State(0.0, 0.0, 1.0), State(1.0, -5.0, 1.0)]
    found = profile([*ends, State(0.5, -2.0, 1.0), State(0.5, -3.0, 1.0)], couple)
    assert found.corners == (1, 3, 0) and found.above_hull[2] == pytest.approx(1.0)
    for states, said in ((ends[:1], "full and the empty"), ([*ends, State(0.5, float("nan"), 1)], "finite")):
        with pytest.raises(ElectrodeError, match=said):
            profile(states, couple)


def test_whole_oxidation_states_are_among_the_compositions() -> None:
    assert whole_states(Composition("Li2CoO2"), "Li") == pytest.approx((0.5,))
    assert whole_states(Composition("Na3V2(PO4)3"), "Na") == pytest.approx((1 / 3,))  # V4+; V5+ would take four
    assert whole_states(Composition("LiCoO2"), "Li") == whole_states(Composition("LiAlO2"), "Li") == ()
    assert cells_of(3, 1, 4, (1 / 3,)) == 4 and cells_of(1, 1, 3, (0.5,)) == 2 and cells_of(4, 4, 2, ()) == 1
    assert contents_tried(6, 2, (1 / 3,)) == pytest.approx((0.5, 1 / 3))
    assert contents_tried(4, 4, (0.5,)) == (0.75, 0.5, 0.25) and contents_tried(1, 4, ()) == ()


def lithium_rich() -> Structure:
    """Li2CoO2: lithium in tetrahedra between slabs of CoO2, which leave an octahedron empty."""
    sites = {"Co": [[0, 0, 0]], "Li": [[1 / 3, 2 / 3, 0.6425], [2 / 3, 1 / 3, 0.3575]]}
    sites["O"] = [[1 / 3, 2 / 3, 0.2371], [2 / 3, 1 / 3, 0.7629]]
    species = [symbol for symbol, places in sites.items() for _ in places]
    return Structure(Lattice.hexagonal(3.153, 5.124), species, [place for places in sites.values() for place in places])


def test_ions_may_go_where_the_host_has_room_as_far_from_each_element_as_they_were() -> None:
    ideal = ideal_cell(lithium_rich())
    wide = with_empty_sites(ideal, "Li")
    assert len(wide) == len(ideal) + 1 and wide[-1].specie.symbol == "Li"
    cobalt = next(i for i, site in enumerate(wide) if site.specie.symbol == "Co")
    assert wide.get_distance(cobalt, len(wide) - 1) == pytest.approx(
        5.124 / 2, abs=1e-3
    )  # the middle of the octahedron
    assert len(with_empty_sites(layered("Co"), "Li")) == 4
    cell = disordered_cell(partly_filled(wide, "Li", 1 / 3), n_cells=2)
    assert off_sites(cell, ideal, "Li").sum() == 2 and len(cell.shared) == 6
    # twice the orderings where there are other sites: of one and of the other kind
    counts = [
        VoltageProfile(n_steps=2, n_relaxed=1, other_sites=on).cost(Crystal(lithium_rich())) for on in (False, True)
    ]
    assert [n for n, _ in counts] == [3, 4]


# ---- the property


def test_the_profile_of_a_toy_averages_to_the_voltage_of_its_electrode(monkeypatch: pytest.MonkeyPatch) -> None:
    found = document_of(SMALL, layered("Co"))
    electrode = document_of(Electrode(relaxation=COARSE), layered("Co"))
    assert found.error is None and found.mean_voltage == pytest.approx(electrode.average_voltage, abs=1e-9)
    assert found.full_capacity == electrode.capacity_grav == pytest.approx(found.usable_capacity)
    assert [row.formula for row in found.orderings] == ["LiCoO2", "Li(CoO2)2", "CoO2"]
    assert found.mixing_mev == found.orderings[1].mixing_mev and found.n_formula_units == 2
    assert [block.name for block in profiles({"x": found})] == [
        "voltage-profile",
        "voltage-orderings",
        "voltage-plateaus",
    ]
    # the same with a host that does not keep its framework, and a window above all plateaus
    monkeypatch.setattr("dpa4_flows.properties.voltage_profile.host_displacement", lambda *_: 1.0)
    left = document_of(VoltageProfile(**{**vars(SMALL), "v_min": 49.0}), layered("Co"))
    assert left.n_plateaus == left.n_left_out == 1 and left.usable_capacity == 0 and left.usable_voltage is None
    assert left.orderings[1].left_out.code == "host_rearranges" and left.orderings[1].mixing_mev is None
    assert {"orderings_left_out", "composition_missing"} <= {doubt.code for doubt in left.doubts}
    assert left.mean_voltage == pytest.approx(electrode.average_voltage, abs=1e-9)


def test_ends_alone_are_a_profile_that_says_so_and_what_is_no_electrode_has_none() -> None:
    alone = document_of(VoltageProfile(**{**vars(SMALL), "formula_units": 1}), layered("Co"))
    assert alone.n_plateaus == 1 and "ends_alone" in [doubt.code for doubt in alone.doubts]
    none = document_of(SMALL, rocksalt("Mg"))
    assert none.error_code == "no_host" and none.plateaus == []
    assert SMALL.cost_if_any(Crystal(rocksalt("Mg"))) == (0, 0)
    assert SMALL.cost(Crystal(layered("Co"))) == (3, 4 + 3 + 7)
    large = document_of(VoltageProfile(**{**vars(SMALL), "max_atoms": 7}), layered("Co"))
    assert large.error_code == "too_large"
    for wrong in ({"n_relaxed": 0}, {"v_min": 4.0, "v_max": 4.0}):
        with pytest.raises(DPA4Error, match=next(iter(wrong))):
            VoltageProfile(**wrong).check()  # type: ignore[arg-type]


def test_a_command_gives_plateaus_and_a_page(tmp_path: Path) -> None:
    layered("Co").to(str(tmp_path / "LiCoO2.cif"))
    settings = ["--set", "voltage_profile.relaxation.fmax=0.1", "--no-check-charged", "--formula-units", "2"]
    settings += ["--n-steps", "2", "--n-relaxed", "1", "--set", "voltage_profile.relaxation.check_minimum=false"]
    page = tmp_path / "page.html"
    done = dpa4("voltage-profile", tmp_path / "LiCoO2.cif", "-m", MORSE, *settings, "--report", page, "--json")
    assert done.exit_code == 0, done.output
    found = VoltageProfileDocument.model_validate(json.loads(done.stdout)[0]["voltage_profile"])
    assert found.plateaus and "Voltage against capacity" in page.read_text()


# ---- campaigns

STAGES = [name for name in BATTERY.funnel().names if name != "relaxed_duplicates"]
TABLE = {"formula_units": 2, "n_steps": 2, "n_relaxed": 1, "v_min": 0.0, "v_max": 50.0}


def test_a_battery_campaign_counts_the_orderings_that_it_is_asked_for(tmp_path: Path) -> None:
    usual = plan_campaign(load_campaign(write_campaign(tmp_path / "usual")), tmp_path / "run")
    assert "orderings of ions" not in [work.name for work in usual.work]
    file = write_campaign(tmp_path, campaign={"stages": STAGES}, profile=TABLE)
    found = plan_campaign(load_campaign(file), tmp_path / "run")
    (work,) = (work for work in found.work if work.name == "orderings of ions")
    assert work.at_most and work.n_structures > 0


def test_what_a_window_can_use_counts_where_there_is_a_profile_and_full_removal_where_there_is_none(
    tmp_path: Path,
) -> None:
    for stages, counts in ((STAGES, "usable_energy"), (FULL_REMOVAL, "energy_grav")):
        campaign = load_campaign(write_campaign(tmp_path, campaign={"stages": stages}))
        assert list(campaign.objectives) == [counts, "energy_above_hull", "energy_above_hull_charged"]
    at_work = scene("electrode", campaign={"name": "x", "candidates": ["x"], "stages": STAGES})
    document = ElectrodeDocument(
        working_ion="Li",
        discharged_formula="Li2CoO2",
        average_voltage=2.0,
        capacity_grav=50.0,
        provenance=provenance(TOY, {}),
    )
    alone = at_work.verdict(electrode_finding("x", document))
    assert alone.status == "failed" and len(alone.reasons) == 2
    known = at_work.verdict(dataclasses.replace(electrode_finding("x", document), waives=OF_FULL_REMOVAL))
    assert (
        known.status == "passed"
        and known.values["average_voltage"] == 2.0
        and "min_capacity_grav" not in known.thresholds
    )


def test_a_doubtful_profile_decides_nothing_and_leaves_the_score() -> None:
    at_work = scene("profile", campaign={"name": "x", "candidates": ["x"], "stages": STAGES})
    little = {"working_ion": "Li", "formula": "LiCoO2", "v_min": 2.5, "v_max": 4.5, "usable_capacity": 0.0}
    for code, status in (("composition_missing", "flagged"), ("orderings_left_out", "failed")):
        doubts = [Reason(code=code, sentence="x")]
        found = VoltageProfileDocument(**little, doubts=doubts, provenance=provenance(TOY, {}))
        computes = at_work.stage.computes
        assert computes is not None
        case = Case(at_work, Candidate(candidate_id="x", formula="LiCoO2"), {}, {"profile": found}, {"profile": "x"})
        verdict = at_work.verdict(computes.judged(case))
        assert verdict.status == status
        assert ("usable_energy" in voided(verdict.reasons)) is (status == "flagged")


@pytest.mark.slow
def test_a_battery_campaign_ranks_by_what_is_usable_and_tells_when_oxygen_leaves(tmp_path: Path) -> None:
    model = {"name": "toy_potentials:OMatMorse"}
    file = write_campaign(tmp_path, campaign={"stages": STAGES}, profile=TABLE, model=model)
    done = dpa4("screen", file, "--out", tmp_path / "run")
    assert done.exit_code in (0, 3), done.output
    table = ResultsTable(tmp_path / "run" / "results.sqlite")
    voltages = {name: one.values["mean_voltage"] for name, one in table.stage("profile").items() if one.values}
    electrodes = {name: one.values["average_voltage"] for name, one in table.stage("electrode").items() if one.values}
    assert electrodes and all(voltages[name] == pytest.approx(v, abs=1e-9) for name, v in electrodes.items())
    assert "usable_energy" in table.ranking()[0].score_parts
    oxygen = table.stage("oxygen_release")
    assert set(oxygen) == set(electrodes) and all("oxygen_reaction" in one.values for one in oxygen.values())
    assert dpa4("report", tmp_path / "run").exit_code == 0
    page = (tmp_path / "run" / "report.html").read_text()
    for name in ("profile-voltage-profile", "voltage-capacity", "oxygen-release", "pair-hull-Co-Li-O"):
        assert f'"{name}"' in page, name

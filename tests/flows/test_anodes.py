"""Battery campaigns with `role = "anode"`: stages of their own, on a toy potential and by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Lattice, Structure
from test_campaign_kind import dpa4
from toy_campaign import MORSE, antifluorite, layered, rocksalt

from dpa4_flows.analysis.electrode import remove_ions
from dpa4_flows.bundled import bundled_campaigns
from dpa4_flows.campaigns.battery_anode import _insertion
from dpa4_flows.campaigns.config import campaign_of, load_campaign
from dpa4_flows.campaigns.sections import ConfigError
from dpa4_flows.documents.provenance import provenance
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.ion_insertion import IonInsertionDocument
from dpa4_flows.properties.voltage_profile import OrderingOnProfile, PlateauDocument
from dpa4_flows.store.table import ResultsTable

FILE = """
[campaign]
name = "anodes"
candidates = ["candidates.json"]
[model]
name = "{model}"
dtype = "float64"
threads = 1
[relax]
fmax = 0.1
rattle = 1e-4
check_minimum = false
[hull]
competing = ["competing.json"]
energy_above_hull = {{ max = 9.0 }}
library = "none"
bundled = false
prototypes = false
corrections = "none"
[insertion]
min_length = 2.0
n_relaxed = 1
v_max = 50.0
[electrode]
role = "anode"
average_voltage = {{ max = 50.0 }}
"""


def rows(**structures: Structure) -> str:
    return json.dumps([{"id": name, "structure": one.as_dict()} for name, one in structures.items()])


def test_a_role_decides_stages_and_survives_being_stored() -> None:
    sections: dict[str, Any] = {"campaign": {"name": "x", "candidates": ["x"]}}
    usual = campaign_of(sections)
    assert usual.electrode.role == "cathode" and "delithiate" in usual.funnel.names
    anodes = campaign_of({**sections, "electrode": {"role": "anode"}})
    again = campaign_of(anodes.to_dict())
    names = ["sanity", "duplicates", "relax", "relaxed_duplicates", "hull", "insertion", "conversion", "electrode"]
    assert anodes.funnel.names == again.funnel.names == names and again.to_dict() == anodes.to_dict()
    assert anodes.objectives["average_voltage"].goal == "min" and usual.objectives["usable_energy"].goal == "max"
    with pytest.raises(ConfigError, match="electrode.role = 'both' is not allowed; expected 'cathode' or 'anode'"):
        campaign_of({**sections, "electrode": {"role": "both"}})
    with pytest.raises(ConfigError, match="charged_hull"):
        campaign_of({**sections, "electrode": {"role": "anode"}, "charged_hull": {}})


def test_limits_of_voltage_are_those_of_the_same_electrolyte_against_the_metal_of_the_ion() -> None:
    def limits(ion: str, **tables: Any) -> tuple[float, float]:
        found = campaign_of({"campaign": {"name": "x", "candidates": ["x"], "working_ion": ion}, **tables}).electrode
        return found.average_voltage.min, found.average_voltage.max

    assert [limits(ion) for ion in ("Li", "Na", "Mg")] == [(2.5, 4.5), (2.17, 4.17), (1.83, 3.83)]
    assert limits("Mg", electrode={"average_voltage": {"min": 1.0, "max": 3.0}}) == (1.0, 3.0)
    assert (
        "electrode"
        not in campaign_of(
            {"campaign": {"name": "x", "candidates": ["x"], "working_ion": "Mg", "stages": ["sanity", "relax"]}}
        ).to_dict()
    )


def test_the_bundled_anodes_can_be_read() -> None:
    campaign = load_campaign(bundled_campaigns()["battery"] / "anode.toml")
    assert campaign.funnel.names[-1] == "electrode" and campaign.campaign.working_ion == "Li"


def test_a_host_counts_by_its_own_mass_and_the_window() -> None:
    """Li4Ti5O12 to Li7Ti5O12 by hand: three electrons for 459.1 g are 175 mAh/g."""
    plateaus = [
        PlateauDocument(
            formula_from=formula,
            formula_to=after,
            content_from=high,
            content_to=low,
            voltage=voltage,
            capacity_from=0.0,
            capacity_to=1.0,
            in_window=voltage > 1,
        )
        for formula, after, high, low, voltage in (
            ("Li9Ti5O12", "Li7Ti5O12", 1.0, 0.6, 0.3),
            ("Li7Ti5O12", "Li4Ti5O12", 0.6, 0.0, 1.5),
        )
    ]
    volumes = {1.0: 160.0, 0.6: 150.0, 0.0: 149.0}
    document = IonInsertionDocument(
        working_ion="Li",
        formula="Li9Ti5O12",
        charged_formula="Li4Ti5O12",
        v_min=1.0,
        v_max=3.0,
        plateaus=plateaus,
        usable_capacity=3 * 26801.48 / 493.8,
        usable_voltage=1.5,
        contents_in_window=(0.6, 0.0),
        orderings=[OrderingOnProfile(formula="", content=c, degeneracy=1, volume=v) for c, v in volumes.items()],
        provenance=provenance(ModelRef(MORSE), {}),
    )
    found = _insertion(document, "Li")
    assert found is not None and found.capacity_grav == pytest.approx(175.1, abs=0.2)
    assert found.volume_change_percent == pytest.approx(100 / 149) and found.last_step == 1.5
    assert found.reaction == "Li4Ti5O12 to Li7Ti5O12"
    assert found.capacity_vol == pytest.approx(3 * 26801.48 / (150 * 0.602214), rel=2e-3)
    cut = document.model_copy(update={"contents_in_window": (0.6, 0.3), "usable_capacity": 1.5 * 26801.48 / 493.8})
    half = _insertion(cut, "Li")
    assert half is not None and half.volume_change_percent == pytest.approx(100 * (150 / 149.5 - 1)), "the part used"
    assert half.reaction == "Li11Ti10O24 to Li7Ti5O12"


def test_a_toy_campaign_ranks_what_inserts_and_what_converts(tmp_path: Path) -> None:
    host, metal = remove_ions(layered("Ti"), "Li"), Structure(Lattice.cubic(2.7), ["Li"], [[0, 0, 0]])
    (tmp_path / "candidates.json").write_text(rows(host=host, converts=rocksalt("Mg"), metal=metal))
    (tmp_path / "competing.json").write_text(rows(Li2O=antifluorite()))
    file = tmp_path / "anode.toml"
    file.write_text(FILE.format(model=MORSE))
    done = dpa4("screen", file, "--out", tmp_path / "run")
    assert done.exit_code in (0, 3), done.output
    table = ResultsTable(tmp_path / "run" / "results.sqlite")
    stages = {name: table.stage(name) for name in ("sanity", "insertion", "conversion", "electrode")}
    assert "nothing but Li" in stages["sanity"]["metal"].reasons[0].sentence
    assert [one.code for one in stages["insertion"]["converts"].reasons] == ["no_ion_goes_in"]
    anode = stages["electrode"]["host"]
    assert anode.values["mechanism"] == "insertion"
    inserted = stages["insertion"]["host"].values
    share = inserted["usable_capacity"] / anode.values["capacity_grav"]
    assert share == pytest.approx(host.composition.weight / (host.composition.weight + 6.94), rel=1e-3)
    with (tmp_path / "run" / "ranking.csv").open() as lines:
        ranked = {row["candidate_id"]: row for row in csv.DictReader(lines)}
    assert ranked["host"]["rank"] == "1"
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Voltage against capacity" in page and "Insertion" in page

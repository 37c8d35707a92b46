"""The semiconductor campaign goes through all that a campaign can do, on the toy potential and smallest cells."""

from __future__ import annotations

import csv
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Lattice, Structure
from toy_campaign import MORSE, NO_BUNDLE, rocksalt, scene
from typer.testing import CliRunner, Result

from dpa4_flows.bundled import bundled_campaigns
from dpa4_flows.campaigns.applications import applications
from dpa4_flows.campaigns.config import ConfigError, campaign_of, load_campaign
from dpa4_flows.campaigns.context import Case
from dpa4_flows.campaigns.library import phases_of, replace_phases
from dpa4_flows.campaigns.run import open_run, prepare_run
from dpa4_flows.cli import app
from dpa4_flows.documents.schemas import Candidate
from dpa4_flows.documents.stability import FollowedPart
from dpa4_flows.reference.table import ReferenceTable
from dpa4_flows.toml_text import toml_text

pytest.importorskip("phono3py")
pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")  # jobflow 0.4 with monty 2026
STAGES = ["sanity", "duplicates", "relax", "hull", "gap", "at_rest", "phonons", "modes", "elastic", "expansion", "heat"]
STAGES += ["scattering", "epitaxy", "defects", "finite_temperature"]
SMALL = {"min_length": 5.0, "mesh_length": 15.0}


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def written(
    folder: Path, crystals: dict[str, Structure], tables: dict[str, dict[str, Any]] | None = None, **campaign: Any
) -> Path:
    rows = [{"id": name, "structure": crystal.as_dict()} for name, crystal in crystals.items()]
    (folder / "crystals.json").write_text(json.dumps(rows))
    content: dict[str, dict[str, Any]] = {
        "campaign": {
            "name": "toy",
            "kind": "semiconductor",
            "candidates": ["crystals.json"],
            "stages": STAGES,
            **campaign,
        },
        "model": {"name": MORSE, "dtype": "float64", "threads": 1},
        "relax": {"rattle": 0.0, "check_minimum": False},
        "phonons": SMALL,
        "modes": {"max_follow_steps": 1},
        "elastic": {"strains": [-0.005, 0.005]},
        "expansion": {"strains": [-0.02, -0.01, 0.0, 0.01, 0.02], "temperatures_k": [0.0, 300.0], **SMALL},
        "scattering": {"scattering_length": 5.0, "cutoff": 3.0, **SMALL},
        "epitaxy": {"substrates": ["magnesia"], "max_area": 40.0},
        "defects": {"kinds": ["vacancy", "substitution"], "dopants": ["Ca"], "min_length": 4.0, "n_starts": 1},
        "finite_temperature": {"time_ps": 1.0, "equilibration_ps": 0.1, "timestep_fs": 5.0, "min_length": 3.0},
        "hull": NO_BUNDLE | {"energy_above_hull": {"max": 9.0}},
    } | (tables or {})
    if tables:  # of other stages
        content = {name: table for name, table in content.items() if name in (*tables, "campaign", "model", "relax")}
    (folder / "campaign.toml").write_text(toml_text(content))
    return folder / "campaign.toml"


def test_crystals_go_from_a_file_to_a_wafer(tmp_path: Path) -> None:
    """Also one that is avoided, and one whose imaginary modes lead elsewhere: what follows is about where they lead."""
    simple = Structure(Lattice.cubic(2.6), ["Mg"], [[0, 0, 0]])  # a simple cubic metal shears away
    crystals = {"MgO": rocksalt("Mg"), "CdO": rocksalt("Cd"), "Mg": simple}
    file, run = written(tmp_path, crystals, avoid=["Cd"]), tmp_path / "run"
    plan = json.loads(dpa4("screen", file, "--dry-run", "--json").stdout)
    foreseen = {work["name"]: work for work in plan["work"]}
    phonons, volumes = foreseen["phonons"], foreseen["crystals at several volumes"]
    assert foreseen["supercells at random"]["n_atoms"] > phonons["n_atoms"] > 5 * phonons["n_structures"]
    assert volumes["n_atoms"] > 5 * phonons["n_atoms"]
    cells = foreseen["defects in supercells"]
    assert cells["n_atoms"] > 5 * cells["n_structures"]
    done = dpa4("screen", file, "--out", run)
    assert done.exit_code == 0, done.output
    table = open_run(run)
    assert [reason.code for reason in table.stage("sanity")["CdO"].reasons] == ["not_wanted"]
    assert "Cd in it" in table.stage("sanity")["CdO"].reasons[0].sentence
    assert [reason.code for reason in table.stage("phonons")["Mg"].reasons] == ["imaginary_modes"]
    (along,) = table.stage("modes")["Mg"].reasons
    assert along.code == "no_minimum" and "Mg" not in table.stage("elastic"), "one step leads to no minimum"
    found = {stage: table.stage(stage)["MgO"] for stage in STAGES}
    assert {verdict.status for verdict in found.values()} <= {"passed", "flagged"}
    assert found["heat"].values["slack_w_mk"] > found["heat"].values["clarke_w_mk"] > 0
    assert found["expansion"].values["gruneisen_acoustic"] == found["heat"].values["gruneisen"]
    assert 0 < found["expansion"].values["expansion_300k"] < 50
    assert found["scattering"].values["xx_w_mk"] == pytest.approx(
        found["scattering"].values["conductivity_w_mk"], rel=1e-3
    )
    assert found["defects"].values["dopant"].startswith("Ca_") and found["defects"].values["native_energy"] > 0
    assert 0 < found["finite_temperature"].values["lindemann"] < 0.1
    head, *rows = csv.reader((run / "ranking.csv").read_text().splitlines())
    assert {"heat.slack_w_mk [W/(m K)]", "elastic.k_vrh_gpa [GPa]"} <= set(head) and len(rows) == 3
    page = (run / "report.html").read_text()
    assert "Thermal expansion" in page and "which this campaign avoids" in page
    assert "nothing was computed" in dpa4("screen", file, "--out", run).stdout


def test_a_gap_beyond_its_limit_by_more_than_its_error_rejects_and_an_unknown_one_does_not(tmp_path: Path) -> None:
    crystals = {"metal": Structure(Lattice.cubic(2.6), ["Mg"], [[0, 0, 0]])}
    for name, gap, level in (("right", 1.4, "measured"), ("wide", 2.5, "measured"), ("pbe", 1.1, "PBE")):
        crystals[name] = rocksalt("Mg")
        crystals[name].properties = {"band_gap": gap, "band_gap_level": level}
    stages = ["sanity", "relax", "gap"]
    file = written(tmp_path, crystals, {"relax": {}}, stages=stages, application="photovoltaic")
    done = dpa4("screen", file, "--out", tmp_path / "run")
    assert done.exit_code == 0 and "1.40 ± 0.10" in done.stdout, "no gap without its error"
    found = open_run(tmp_path / "run").stage("gap")
    said = {name: (verdict.status, [reason.code for reason in verdict.reasons]) for name, verdict in found.items()}
    assert said == {
        "right": ("passed", []),
        "wide": ("failed", ["band_gap_too_high"]),
        "pbe": ("flagged", ["band_gap_too_high"]),
        "metal": ("flagged", ["gap_unknown"]),
    }
    assert "by less than its error of" in found["pbe"].reasons[0].sentence
    with pytest.raises(ConfigError, match="'photovoltaic' is about the stages gap, none of which"):
        load_campaign(written(tmp_path, crystals, {}, stages=["sanity", "relax"], application="photovoltaic"))


@pytest.mark.parametrize("application", [name for name in applications() if name != "general"])
def test_an_application_sets_limits_and_ranking_of_the_bundled_file(application: str) -> None:
    data = tomllib.loads((bundled_campaigns()["semiconductor"] / "campaign.toml").read_text())
    general = campaign_of(data)
    data["campaign"]["application"] = application
    chosen = campaign_of(data)
    wanted = applications()[application]
    assert list(general.objectives) != list(chosen.objectives) and set(chosen.objectives) == set(wanted["ranking"])
    limits = [(stage, chosen.limits(stage)) for stage in chosen.funnel.stages if stage.name in wanted]
    assert limits and all(set(wanted[stage.name]) <= set(found) for stage, found in limits)
    assert campaign_of(chosen.to_dict()) == chosen


def test_an_application_sets_limits_and_ranking_where_the_file_names_none(tmp_path: Path) -> None:
    campaign = load_campaign(written(tmp_path, {"MgO": rocksalt("Mg")}, application="thermoelectric"))
    assert campaign.heat.slack_w_mk.max == 20 and set(campaign.objectives) == {"slack_w_mk", "energy_above_hull"}
    assert campaign_of(campaign.to_dict()) == campaign
    file = written(tmp_path, {"MgO": rocksalt("Mg")}, application="heat spreader")
    file.write_text(file.read_text() + "[heat]\nslack_w_mk = { min = 7.0 }\n[ranking]\nexpansion_300k = {}\n")
    own = load_campaign(file)
    assert own.heat.slack_w_mk.min == 7 and set(own.objectives) == {"expansion_300k"}
    with pytest.raises(ConfigError, match="application"):
        load_campaign(written(tmp_path, {"MgO": rocksalt("Mg")}, application="sunglasses"))


def test_the_bundled_campaign_opens_and_every_candidate_can_be_read() -> None:
    folder = bundled_campaigns()["semiconductor"]
    assert load_campaign(folder / "doping.toml").funnel.names[-1] == "defects"
    strict = load_campaign(folder / "thermoelectric.toml")
    assert strict.funnel.names[-1] == "scattering"
    assert strict.heat.slack_w_mk.max > strict.scattering.conductivity_w_mk.max
    campaign = load_campaign(folder / "campaign.toml")
    rows = json.loads(Path(campaign.campaign.candidates[0]).read_text())
    assert len(rows) == 28 and len({row["id"] for row in rows}) == 28
    assert [stage.name for stage in campaign.funnel.stages][-1] == "epitaxy"


def test_a_run_of_before_a_stage_wanted_further_phases_gets_them_when_it_goes_on(tmp_path: Path) -> None:
    tables = {"phonons": SMALL, "defects": {"kinds": ["substitution"], "dopants": ["Ca"]}, "hull": NO_BUNDLE}
    stages = ["sanity", "relax", "hull", "at_rest", "phonons", "modes", "defects"]
    file = written(tmp_path, {"MgO": rocksalt("Mg")}, tables, stages=stages)
    begun = prepare_run(load_campaign(file), tmp_path / "run")
    table, inputs = begun.table, begun.table.get_meta("inputs")
    rivals = ReferenceTable.in_run(table)
    now = {row.key: row.chemsys for row in rivals.phases()}
    assert "Ca" in now.values()
    (tmp_path / "crystals.json").unlink()
    earlier = {key: system for key, system in now.items() if "Ca" not in system}
    replace_phases(table, phases_of(rivals, [row for row in rivals.phases() if row.key in earlier]), {})
    table.set_meta("inputs", {key: value for key, value in inputs.items() if key != "further systems"})
    again = prepare_run(begun.run.campaign, begun.folder, stored_inputs=True)
    assert {row.key: row.chemsys for row in rivals.phases()} == now and again.table.get_meta("inputs") == inputs


def test_an_imaginary_mode_that_nobody_was_to_follow_rejects_nobody() -> None:
    part = FollowedPart.model_construct(verdict="unstable", reason="it is unstable", steps=[], provenance=None)
    for steps, codes in ((0, []), (1, ["no_minimum"])):
        campaign = {"name": "x", "candidates": ["x"], "kind": "semiconductor"}
        at_work = scene("modes", campaign=campaign, modes={"max_follow_steps": steps})
        case = Case(at_work, Candidate.model_construct(candidate_id="x"), {}, {"modes": part}, {"modes": "key"})
        assert [reason.code for reason in at_work.judged(case).reasons] == codes

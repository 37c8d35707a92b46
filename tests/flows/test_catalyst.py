"""The catalyst campaign: the kind goes through all that a campaign can do, on the toy potential and smallest slabs."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pymatgen.core import Lattice, Structure
from toy_campaign import scene
from typer.testing import CliRunner, Result

from dpa4_core.testing import MorsePotential
from dpa4_flows.analysis.platinum import PUBLISHED, from_top
from dpa4_flows.analysis.reactions import REACTIONS
from dpa4_flows.bundled import bundled_campaigns
from dpa4_flows.campaigns.catalyst import facets_of
from dpa4_flows.campaigns.catalyst_known import known_results
from dpa4_flows.campaigns.config import ConfigError, campaign_of, load_campaign
from dpa4_flows.campaigns.context import Case
from dpa4_flows.campaigns.run import further_models, model_of, open_run
from dpa4_flows.campaigns.snapshot import Row, Snapshot, take_snapshot
from dpa4_flows.cli import app
from dpa4_flows.compute.plan import Crystal
from dpa4_flows.documents.activity import ActivityDocument
from dpa4_flows.documents.schemas import Candidate
from dpa4_flows.documents.surfaces import SkippedTerminations
from dpa4_flows.plots.words import signed
from dpa4_flows.properties.surface import EquilibriumShape, SurfaceDocument, SurfaceEnergies, Termination

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")  # jobflow 0.4 with monty 2026

SEAM = "toy_potentials:OMatMorse"
OMAT = "PBE, PBE+U, PBE_54"
SECTIONS = ("surface-shapes", "adsorption-best-sites", "adsorption-refused-adsorption", "activity-each-HER")
STAGES = ["sanity", "duplicates", "relax", "at_rest", "surface", "adsorption", "activity"]


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def metal(symbol: str, a: float = 3.6) -> Structure:
    return Structure(Lattice([[0, a / 2, a / 2], [a / 2, 0, a / 2], [a / 2, a / 2, 0]]), [symbol], [[0.0, 0.0, 0.0]])


def campaign_file(folder: Path, crystals: Mapping[str, Structure], **tables: Mapping[str, str]) -> Path:
    rows = [{"id": name, "structure": crystal.as_dict()} for name, crystal in crystals.items()]
    (folder / "crystals.json").write_text(json.dumps(rows))
    content: dict[str, dict[str, Any]] = {
        "campaign": {
            "name": '"toy"',
            "kind": '"catalyst"',
            "candidates": '["crystals.json"]',
            "stages": json.dumps(STAGES),
        },
        "model": {"name": f'"{SEAM}"', "dtype": '"float64"', "threads": 1},
        "reaction": {"beside": '["O"]', "reference": -0.2},
        "relax": {"fmax": 0.05, "check_minimum": "false"},
        "at_rest": {"fmax": 0.05},
        "surface": {"min_thickness": 4.0, "vacuum": 8.0, "max_steps": 1},
        "adsorption": {
            "max_facets": 1,
            "min_length": 2.4,
            "min_thickness": 4.0,
            "vacuum": 8.0,
            "max_steps": 2,  # at rest the toy lets hydrogen sink in
            "references": "{ H = -1.0, O = -1.0 }",
        },
    }
    for name, keys in tables.items():
        content.setdefault(name, {}).update(keys)
    text = "".join(f"[{t}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()) for t, keys in content.items())
    (folder / "campaign.toml").write_text(text)
    return folder / "campaign.toml"


def snapshot_of(run: Path) -> tuple[Snapshot, list[Row]]:
    snapshot = take_snapshot(open_run(run))
    return snapshot, list(snapshot.rows())


def codes(run: Path, stage: str) -> dict[str, set[str]]:
    return {name: {reason.code for reason in found.reasons} for name, found in open_run(run).stage(stage).items()}


def test_metals_go_from_a_file_to_a_volcano_and_oxygen_on_nickel_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed on its way and resumed; with dry run, CSV file, report and status."""
    file = campaign_file(tmp_path, {"Cu": metal("Cu"), "again": metal("Cu"), "Ni": metal("Ni", 3.5)})
    run = tmp_path / "run"
    plan = json.loads(dpa4("screen", file, "--dry-run", "--json").stdout)
    assert [work["name"] for work in plan["work"]] == [
        "candidates",
        "candidates, tight",
        "slabs",
        "sites of adsorbates",
    ]
    slabs, sites = plan["work"][2:]
    assert slabs["n_structures"] == 6 and sites["n_structures"] >= 2 * (1 + 2 * 4)
    compute, calls = MorsePotential.compute, iter(range(10**6))

    def killed(self: MorsePotential, graph: Any) -> Any:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return compute(self, graph)

    monkeypatch.setattr(MorsePotential, "compute", killed)
    assert dpa4("screen", file, "--out", run).exit_code == 130
    monkeypatch.setattr(MorsePotential, "compute", compute)
    done = dpa4("resume", run)
    assert done.exit_code == 0, done.output
    assert codes(run, "duplicates")["again"] == {"duplicate"}
    assert "plus_u_seam" in codes(run, "adsorption")["Ni"] and "plus_u_seam" not in codes(run, "adsorption")["Cu"]

    table = open_run(run)
    verdicts = table.stage("activity")
    documents = table.documents(ActivityDocument, [v.calculation_keys[0] for v in verdicts.values()])
    found = {name: documents[verdict.calculation_keys[0]] for name, verdict in verdicts.items()}
    assert set(found["Cu"].facets[0].free_energies) == {"H", "O"} and set(found["Ni"].facets[0].free_energies) == {"H"}
    for name, document in found.items():
        assert document.from_top == pytest.approx(document.facets[0].free_energies["H"] + 0.2 - 0.09)
        assert verdicts[name].values["mean_from_top"] == pytest.approx(abs(document.from_top))
        assert len({facet.facet for facet in document.facets}) == 1
    away = {row.candidate_id: row.values["mean_from_top"] for row in table.ranking()}
    assert list(away) == sorted(away, key=away.__getitem__) == ["Cu", "Ni"]

    head, *rows = csv.reader((run / "ranking.csv").read_text().splitlines())
    assert {"activity.from_top [eV]", "adsorption.best_site", "surface.surface_energy [J/m²]"} <= set(head)
    assert len(rows) == 3
    page = (run / "report.html").read_text()
    known = {one.formula: one for one in known_results(*snapshot_of(run))}
    assert "Known metals" in page and list(known) == ["Ni", "Cu"]
    assert known["Cu"].computed == pytest.approx(found["Cu"].relative_descriptor) and known["Cu"].published == 0.28
    assert "Volcano of hydrogen evolution" in page and "refused: +U seam" in page
    parts = {name: page.partition(f'<section id="{name}">')[2].partition("</section>")[0] for name in SECTIONS}
    assert all(parts.values()), [name for name, part in parts.items() if not part]
    assert parts["adsorption-best-sites"].count("<svg") == 2 * 3, "H and O on Cu, H on Ni, from above and from the side"
    assert (
        "<td>O</td>" in parts["adsorption-refused-adsorption"] and "[reroute]" in parts["adsorption-refused-adsorption"]
    )
    model = page.partition('<section id="model">')[2]
    assert all(words in model for words in ("no barriers", "without water", "smallest cell"))
    assert "voltage" not in model.partition("</section>")[0]
    assert [stage["stage"] for stage in json.loads(dpa4("status", run, "--json").stdout)["stages"]] == STAGES
    assert "nothing was computed" in dpa4("screen", file, "--out", run).stdout


def test_a_reaction_across_the_seam_is_refused_or_computed_as_a_whole_by_the_other_model(tmp_path: Path) -> None:
    reaction = {"name": '"OER"', "beside": "[]", "scale_ooh": "true", "reference": 0.5}
    nickel = {"Ni": metal("Ni", 3.5)}
    gases = "{ H = -2.3, O = -2.3 }"  # so that the toy binds O and OH
    file = campaign_file(tmp_path, nickel, reaction=reaction, adsorption={"references": gases})
    refused = tmp_path / "refused"
    assert dpa4("screen", file, "--out", refused).exit_code == 0
    assert codes(refused, "activity")["Ni"] == {"seam_refused"}
    assert open_run(refused).stage("activity")["Ni"].status == "failed"
    assert not open_run(refused).ranking()

    other = {"model": '"toy_potentials:PlainMorse"', "references": "{ H = -2.2, O = -2.3 }"}
    tables = {"reaction": reaction, "adsorption": {"references": gases}, "reroute": other}
    file = campaign_file(tmp_path, {"Cu": metal("Cu"), **nickel}, **tables)
    run = tmp_path / "run"
    done = dpa4("screen", file, "--out", run)
    assert done.exit_code == 0, done.output
    verdicts = open_run(run).stage("activity")
    documents = open_run(run).documents(ActivityDocument, [v.calculation_keys[0] for v in verdicts.values()])
    found = {name: documents[verdict.calculation_keys[0]] for name, verdict in verdicts.items()}
    assert {name: one.level_of_theory for name, one in found.items()} == {"Cu": OMAT, "Ni": "PBE alone"}
    assert "rerouted" in codes(run, "activity")["Ni"] and "rerouted" not in codes(run, "activity")["Cu"]
    for name, document in found.items():
        assert set(document.facets[0].free_energies) == {"OH", "O", "OOH"}
        assert verdicts[name].values["mean_from_top"] == document.mean_from_top is not None
    assert found["Cu"].reference == 0.5, "as given, for the model of the campaign"
    assert found["Ni"].reference not in (None, 0.5), "the other model has its own platinum"
    head, *rows = csv.reader((run / "ranking.csv").read_text().splitlines())
    level, status = head.index("activity.level_of_theory"), head.index("status")
    assert {row[1]: (row[status], row[level]) for row in rows} == {
        "Cu": ("ranked", OMAT),
        "Ni": ("ranked", "PBE alone"),
    }
    page = (run / "report.html").read_text()
    assert '"name":"facets, best sites, PBE alone"' in page, "a sign of its own on the volcano"


def test_a_file_may_ask_what_becomes_of_a_surface_at_work(tmp_path: Path) -> None:
    alloy = Structure.from_spacegroup("Pm-3m", Lattice.cubic(3.7), ["Au", "Cu"], [[0, 0, 0], [0, 0.5, 0.5]])
    service = {"water": "false", "min_length": 2.0, "min_thickness": 7.0, "potential": "[0.0, 0.5]", "max_steps": 30}
    stages = {"stages": json.dumps([*STAGES, "service"])}
    tables = {"campaign": stages, "service": service | {"margin": '{ min = 5.0, otherwise = "flag" }'}}
    file = campaign_file(tmp_path, {"Cu3Au": alloy}, **tables)
    run = tmp_path / "run"
    done = dpa4("screen", file, "--out", run)
    assert done.exit_code == 0, done.output
    verdict = open_run(run).stage("service")["Cu3Au"]
    assert verdict.values["segregating"] in ("Cu", "Au") and "decomposition_energy" not in verdict.values
    assert verdict.values["margin"] <= verdict.values["dissolution_potential"] - 0.5 + 1e-9
    assert "margin_too_low" in {reason.code for reason in verdict.reasons} and verdict.status == "flagged"


def test_adsorbates_beside_are_of_another_level_and_meet_no_others(tmp_path: Path) -> None:
    other = {"model": '"toy_potentials:PlainMorse"', "references": "{ O = -1.0 }"}
    file = campaign_file(tmp_path, {"Ni": metal("Ni", 3.5)}, reroute=other)
    run = tmp_path / "run"
    assert dpa4("screen", file, "--out", run).exit_code == 0
    table = open_run(run)
    [key] = table.stage("activity")["Ni"].calculation_keys
    document = table.documents(ActivityDocument, [key])[key]
    assert set(document.facets[0].free_energies) == {"H"} and set(document.rerouted[0].free_energies) == {"O"}
    assert (document.level_of_theory, document.rerouted_level) == ("PBE, PBE+U, PBE_54", "PBE alone")
    assert "rerouted_beside" in codes(run, "activity")["Ni"]
    table = (run / "report.html").read_text().partition('id="activity-refused-activity"')[2].partition("</section>")[0]
    energy = signed(document.rerouted[0].free_energies["O"])
    assert f"ΔG(O) {energy} eV" in table and "PBE alone" in table and "PBE, PBE+U" in table


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        ({"reaction": {"name": "HERR"}}, "reaction.name: there is no reaction 'HERR'; did you mean 'HER'?"),
        ({"reaction": {"beside": ["OHH"]}}, "there is no adsorbate 'OHH'; did you mean"),
        ({"reaction": {"reference": "Au"}}, "reference is 'Au'; it is 'Pt', or its descriptor in eV"),
        ({"reaction": {"solvation": {"OH": -0.5}}}, "solvation is given for OH; the adsorbates are H"),
        ({"reroute": {"model": "dpa4-noe"}}, "reroute.model: unknown model 'dpa4-noe'"),
        ({"adsorption": {"min_length": -1.0}}, "adsorption: min_length is -1.0; it must be positive"),
        ({"adsorption": {"facets": ["11x"]}}, "11x"),
    ],
)
def test_what_makes_no_sense_is_refused_when_the_file_is_read(tables: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        campaign_of({"campaign": {"name": "x", "kind": "catalyst", "candidates": ["x"]}, **tables})


def test_a_model_of_a_stage_has_no_dispersion_that_was_fitted_to_that_of_the_campaign() -> None:
    tables = {"model": {"dispersion": "d3bj-pbe"}, "reroute": {"model": "dpa4-neo-matpes-r2scan"}}
    campaign = campaign_of({"campaign": {"name": "x", "kind": "catalyst", "candidates": ["x"]}, **tables})
    assert model_of(campaign).dispersion == "d3bj-pbe"
    assert [one.dispersion for one in further_models(campaign).values()] == [None]


def test_of_several_terminations_the_one_that_appears_gets_sites() -> None:
    limits = SimpleNamespace(facets=[], max_facets=2, min_share=0.1, max_terminations=2)
    scene = SimpleNamespace(run=SimpleNamespace(campaign=SimpleNamespace(adsorption=limits)))
    own = {"n_atoms": 4, "structure": {}, "surface_energy": 1.0}
    found = SurfaceDocument(
        formula="Ru",
        terminations=[
            Termination(name="10-11_1", facet="10-11", miller=(1, 0, 1), **own),
            Termination(name="10-11_2", facet="10-11", miller=(1, 0, 1), lowest=True, **own),
            Termination(name="0001", facet="0001", miller=(0, 0, 1), lowest=True, **own),
        ],
        shape=EquilibriumShape(vertices=[], faces=[], area_fractions={"0001": 0.3, "10-11": 0.65, "10-10": 0.05}),
        provenance=SurfaceEnergies().origin(Crystal(metal("Cu"))),
    )

    def chosen(surface: SurfaceDocument) -> list[str]:
        return facets_of(cast("Any", SimpleNamespace(documents={"surface": surface}, scene=scene)))

    assert chosen(found) == ["10-11_2", "0001"], "the largest share first"
    told = {"n_terminations": 1, "whole_facet": False, "reason": "no matter"}
    other = SkippedTerminations(facet="10-11", miller=(1, 0, 1), code="nonstoichiometric", **told)
    assert chosen(found.model_copy(update={"skipped": [other]})) == ["10-11", "0001"], "adsorption numbers it, too"
    limits.max_terminations = 1
    assert chosen(found) == ["10-11", "0001"]


def test_platinum_lies_where_it_is_published_whatever_the_functional() -> None:
    for name, published in PUBLISHED.items():
        reaction = REACTIONS[name]
        assert from_top(reaction, 0.123, 0.123) == pytest.approx(published - reaction.top)
        assert from_top(reaction, 0.0, None) is None
    assert from_top(REACTIONS["OER"], 1.7, None) == pytest.approx(0.1)


def test_the_bundled_campaign_is_read_and_names_every_number() -> None:
    folder = bundled_campaigns()["catalyst"]
    for file in sorted(folder.glob("*.toml")):
        campaign = load_campaign(file)
        assert campaign.funnel.names[-3:] == ["surface", "adsorption", "activity"]
        assert set(campaign.objectives) == {"mean_from_top", "energy_above_hull"}
    rows = json.loads((folder / "structures" / "candidates.json").read_text())
    assert len(rows) == len({row["id"] for row in rows}) == 43


def test_an_error_of_any_kind_says_about_what_it_is() -> None:
    campaign = {"name": "x", "candidates": ["x"], "kind": "catalyst"}
    for stage, found in (("surface", SurfaceDocument), ("activity", ActivityDocument)):
        at_work = scene(stage, campaign=campaign)
        for error_code in ("not_cut", "crashed"):
            document = found.model_construct(error="it has no facets", error_code=error_code, provenance=None)
            case = Case(at_work, Candidate.model_construct(candidate_id="x"), {}, {stage: document}, {stage: "key"})
            (reason,) = at_work.judged(case).reasons
            lost = reason.code == "not_computed"
            assert lost == (stage == "activity" and error_code == "crashed")
            phrase = "" if lost else f"{at_work.funnel.kind(reason.code).phrase}: "
            assert reason.sentence == f"{phrase}it has no facets"

"""A kind of campaign that the program does not know goes through everything that a campaign can do."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import pytest
from toy_campaign import MORSE, rocksalt
from toy_kind import Vacancy, VacancyDocument
from typer.testing import CliRunner, Result

from dpa4_core.data.graph import Graph
from dpa4_core.potential import Output
from dpa4_core.testing import MorsePotential
from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.campaigns.funnel import Funnel
from dpa4_flows.campaigns.kind import find_kind, kind_names
from dpa4_flows.campaigns.measured import Measured, relaxed
from dpa4_flows.campaigns.progress import CampaignProgress, share
from dpa4_flows.campaigns.run import open_run, prepare_run, stored_campaign
from dpa4_flows.campaigns.sections import ConfigError
from dpa4_flows.campaigns.stage import Stage
from dpa4_flows.cli import app
from dpa4_flows.compute.plan import PlanError
from dpa4_flows.documents.reasons import ReasonKind
from dpa4_flows.documents.schemas import StageResult
from dpa4_flows.documents.stability import StabilityDocument
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.stability import Stability

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")  # jobflow 0.4 with monty 2026

KIND = Path(__file__).with_name("toy_kind.py")
DOCS = Path(__file__).parent.parent.parent / "docs" / "campaigns.md"
STAGES = ["sanity", "duplicates", "relax", "relaxed_duplicates", "vacancy"]


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def campaign_file(folder: Path, **tables: Mapping[str, str]) -> Path:
    """A campaign on three oxides and a loser, with some keys as TOML."""
    crystals = {metal: rocksalt(metal) for metal in ("Mg", "Ca", "Ni")}
    overlap = rocksalt("Mg")
    overlap.translate_sites([1], [-0.49, -0.49, -0.49])
    rows = [{"id": i, "structure": s.as_dict()} for i, s in {**crystals, "overlap": overlap}.items()]
    (folder / "crystals.json").write_text(json.dumps(rows))
    content: dict[str, dict[str, Any]] = {
        "campaign": {"name": '"toy"', "kind": '"toy_kind:VACANCIES"', "candidates": '["crystals.json"]'},
        "model": {"name": f'"{MORSE}"', "dtype": '"float64"', "threads": 1},
        "relax": {"fmax": 0.05, "check_minimum": "false"},
        "engine": {"chunk_size": 2},
    }
    for name, keys in tables.items():
        content.setdefault(name, {}).update(keys)
    text = "".join(f"[{t}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()) for t, keys in content.items())
    (folder / "campaign.toml").write_text(text)
    return folder / "campaign.toml"


def test_a_new_kind_of_campaign_is_short() -> None:
    assert len(KIND.read_text().splitlines()) <= 60


def test_a_new_kind_goes_through_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, run = campaign_file(tmp_path), tmp_path / "run"
    plan = json.loads(dpa4("screen", file, "--out", run, "--dry-run", "--json").stdout)
    assert [(w["name"], w["n_structures"], w["n_atoms"], w["at_most"]) for w in plan["work"]] == [
        ("candidates", 3, 6, False),
        ("crystals with a vacancy", 3, 6, True),
    ]
    assert [(r["candidate_id"], r["stage"]) for r in plan["rejected"]] == [("overlap", "sanity")]
    assert plan["chemical_systems"] == {} and not run.exists()

    compute, calls = MorsePotential.compute, iter(range(10**6))

    def killed(self: MorsePotential, graph: Graph) -> Output:
        if next(calls) == 8:
            raise KeyboardInterrupt
        return compute(self, graph)

    monkeypatch.setattr(MorsePotential, "compute", killed)
    assert dpa4("screen", file, "--out", run).exit_code == 130
    monkeypatch.setattr(MorsePotential, "compute", compute)
    assert "resume" in dpa4("status", run).stdout
    before = {document.key for document in open_run(run).iter_calculations()}
    started = prepare_run(stored_campaign(run)[0], run, stored_inputs=True)
    assert 0.0 <= CampaignProgress(started.run).share() < 1.0

    done = dpa4("resume", run, "--json")
    assert done.exit_code == 0, done.output
    table = open_run(run)
    assert before <= {document.key for document in table.iter_calculations()}
    assert table.get_meta("stages") == STAGES
    assert [row.candidate_id for row in table.ranking()] == sorted(
        ("Mg", "Ca", "Ni"), key=lambda i: -table.stage("vacancy")[i].values["vacancy_energy"]
    )
    crystals = ("Mg", "Ca", "Ni")
    best = table.ranking()[0]
    assert set(best.values) == {"vacancy_energy", "shift"} and set(best.score_parts) == {"vacancy_energy"}
    assert CampaignProgress(started.run).share() == 1.0

    head, *rows = csv.reader((run / "ranking.csv").read_text().splitlines())
    assert {"vacancy.vacancy_energy [eV]", "vacancy.shift [Å]", "relax.fmax [eV/Å]"} <= set(head)
    assert len(rows) == 4
    page = (run / "report.html").read_text()
    assert all(words in page for words in ("Missing atom", "Vacancy energy", "the longest", "one in two cells"))
    drawn = page.partition('<section id="vacancy-all">')[2].partition("</section>")[0]
    assert all(f"<td>{name}</td>" in drawn for name in ("Ca", "Mg", "Ni")), "figures of the property"
    assert "Voltage" not in page.split("<script")[0]
    status = json.loads(dpa4("status", run, "--json").stdout)
    assert [stage["stage"] for stage in status["stages"]] == STAGES
    counts = status["calculations"]
    assert (counts["total"], counts["failed"]) == (6, 0), "three relaxations, three vacancies"
    vacancies = table.documents(VacancyDocument, [table.stage("vacancy")[i].calculation_keys[0] for i in crystals])
    assert counts["wall_time_s"] > sum(one.provenance.wall_time_s or 0.0 for one in vacancies.values()) > 0.0
    assert "Vacancy" in dpa4("status", run).stdout
    assert dpa4("export", run, "-o", tmp_path / "all.extxyz").exit_code == 0
    frames = ase.io.read(tmp_path / "all.extxyz", index=":")
    assert sorted((f.info["candidate_id"], f.info["stage"]) for f in frames) == [
        (i, "relax") for i in ("Ca", "Mg", "Ni")
    ]
    assert "nothing was computed" in dpa4("screen", file, "--out", run).stdout


def test_status_tells_what_changed_since_and_a_run_makes_anew_what_was_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the package of a stage is another one, whose versions the code of ours does not tell."""
    file, run = campaign_file(tmp_path), tmp_path / "run"
    assert dpa4("screen", file, "--out", run).exit_code == 0
    told = json.loads(dpa4("status", run, "--json").stdout)
    assert told["outdated"] == told["changed"] == []
    monkeypatch.setattr(Vacancy, "version", 2)
    told = dpa4("status", run)
    assert "mended: 3 of 3 answers behind Missing atom are from before vacancy was mended" in told.stderr
    assert f"dpa4 resume {run}" in told.stdout
    assert "nothing was computed" not in dpa4("screen", file, "--out", run).stdout
    assert "mended" not in dpa4("status", run).output
    with (tmp_path / "crystals.json").open("a") as stream:
        stream.write("\n")
    assert f"changed: {tmp_path / 'crystals.json'} was written since" in dpa4("status", run).stderr
    (tmp_path / "crystals.json").unlink()
    assert "written since" not in dpa4("status", run).output


def test_limits_flags_and_settings_of_a_new_stage_come_from_the_file(tmp_path: Path) -> None:
    limits = {
        "vacancy_energy": '{ min = 99.0, otherwise = "flag" }',
        "shift": '{ max = 1e-6, otherwise = "reject" }',
    }
    file = campaign_file(
        tmp_path,
        relax={"check_minimum": "true"},
        vacancy={**limits, "loose_below": "99.0"},
        ranking={"shift": "{}"},
    )
    assert "ranking.shift.low is missing" in dpa4("screen", file, "--dry-run").stderr
    file = campaign_file(tmp_path, vacancy=limits | {"vacancy_enrgy": "{ min = 1 }"}, ranking={"vacancy_energy": "{}"})
    assert "did you mean 'vacancy_energy'?" in dpa4("screen", file, "--dry-run").stderr
    file = campaign_file(tmp_path, relax={"check_minimum": "true"}, vacancy={**limits, "loose_below": "99.0"})
    assert dpa4("screen", file, "--out", tmp_path / "run").exit_code == 0
    results = open_run(tmp_path / "run").stage("vacancy")
    assert {result.status for result in results.values()} == {"failed"}
    codes = {tuple(reason.code for reason in result.reasons) for result in results.values()}
    assert codes == {("shift_too_high", "loose_atom", "vacancy_energy_too_low")}
    reasons = results["Mg"].reasons
    assert [reason.decides for reason in reasons] == [True, False, False]
    assert reasons[2].sentence.startswith("vacancy energy ") and reasons[2].sentence.endswith("eV is below 99 eV")
    assert reasons[0].sentence.endswith("Å is beyond ±1e-06 Å")
    assert results["Mg"].thresholds == {"min_vacancy_energy": 99.0, "shift": 1e-6}
    funnel = load_campaign(file).funnel
    assert funnel.reasons["shift_too_high"].badge == "Shift above limit"


@dataclass(frozen=True)
class NoCalcium(Stability):
    """Stability, which no crystal with calcium has."""

    def plan(self, crystal: Any) -> Any:
        if "Ca" in crystal.structure.composition:
            raise PlanError("calcium is refused", "refused")
        return (yield from super().plan(crystal))


STRAINED = Stage(
    name="strained",
    title="Strains",
    computes=Measured(NoCalcium(elastic=Elastic(strains=(-0.01, 0.01)), phonons=None, hull=None), "strains", relaxed),
    needs=("relax",),
)


def test_stability_by_another_model_is_a_stage_and_who_has_none_leaves_alone(tmp_path: Path) -> None:
    stages, other = '["sanity", "duplicates", "relax", "test_campaign_kind:STRAINED"]', "toy_potentials:ShortOMatMorse"
    wrong = campaign_file(tmp_path, campaign={"stages": stages}, strained={"model": '"dpa4-noe"'})
    assert "strained.model: unknown model 'dpa4-noe'" in dpa4("screen", wrong, "--dry-run").stderr
    strained = {"relaxation": "{ fmax = 0.01 }", "model": f'"{other}"'}
    file = campaign_file(tmp_path, campaign={"stages": stages}, strained=strained)
    assert dpa4("screen", file, "--out", tmp_path / "run").exit_code == 3
    table = open_run(tmp_path / "run")
    found = table.stage("strained")
    assert {i: one.status for i, one in found.items()} == {"Mg": "passed", "Ca": "error", "Ni": "passed"}
    assert found["Ca"].reasons[0].sentence == "calcium is refused"
    [key] = found["Mg"].calculation_keys
    document = table.documents(StabilityDocument, [key])[key]
    assert document.elastic is not None and document.elastic.k_vrh_gpa is not None
    assert document.provenance.settings["relax"]["fmax"] == 0.01 and document.verdicts["hull"] == "not asked"
    assert document.provenance.model_name == document.elastic.provenance.model_name == other
    [key] = table.stage("relax")["Mg"].calculation_keys
    assert table.calculations([key])[key].provenance.model_name == MORSE
    assert "nothing was computed" in dpa4("screen", file, "--out", tmp_path / "run").stdout
    again = prepare_run(load_campaign(campaign_file(tmp_path, campaign={"stages": stages})), tmp_path / "run")
    assert not again.finished


def test_progress_counts_the_atoms_that_a_stage_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare_run(load_campaign(campaign_file(tmp_path)), tmp_path / "run")
    steps = CampaignProgress(prepared.run).steps()
    assert [step.name for step in steps] == STAGES
    assert share(steps) == 0.0
    assert sum(step.total_atoms for step in steps) > 0 and not any(step.finished for step in steps)

    sound = [StageResult(candidate_id=i, stage="sanity", status="passed") for i in ("Mg", "Ca", "Ni")]
    prepared.table.put_stages(sound)
    monkeypatch.setattr(Vacancy, "cost", lambda self, crystal: (5, 100 * len(crystal.structure)))
    atoms = {step.name: step.total_atoms for step in CampaignProgress(prepared.run).steps()}
    assert atoms["vacancy"] == 100 * atoms["relax"] > 0


def test_a_run_whose_kind_is_not_installed_is_still_read(tmp_path: Path) -> None:
    file, run = campaign_file(tmp_path), tmp_path / "run"
    assert dpa4("screen", file, "--out", run).exit_code == 0
    table = open_run(run)
    stored = table.get_meta("campaign")
    stored["campaign"]["kind"] = "gone:KIND"
    prepare_run(load_campaign(file), run).table.set_meta("campaign", stored)
    for command in (("status", run), ("report", run), ("export", run, "-o", tmp_path / "all.csv")):
        assert dpa4(*command).exit_code == 0
    refused = dpa4("resume", run)
    assert refused.exit_code == 1 and "campaign.kind: 'gone:KIND' cannot be imported" in refused.stderr


def test_the_stage_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its code as it stands there, in a kind of its own and as one more stage of battery campaigns."""
    text = DOCS.read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "my_stages.py").write_text("\n".join(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    (toml,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    file = campaign_file(tmp_path)
    (tmp_path / "candidates.json").write_text("[]")
    (tmp_path / "shown.toml").write_text(toml)
    shown = load_campaign(tmp_path / "shown.toml")
    assert shown.funnel.names[3] == "stiffness" and shown.stiffness.bulk_modulus_gpa.min == 50
    assert list(shown.objectives) == ["energy_grav", "bulk_modulus_gpa"]
    file.write_text(file.read_text().replace("toy_kind:VACANCIES", "my_stages:STIFF"))
    assert dpa4("screen", file, "--out", tmp_path / "run").exit_code == 0
    table = open_run(tmp_path / "run")
    stiff = {i: verdict.values["bulk_modulus_gpa"] for i, verdict in table.stage("stiffness").items()}
    assert len(stiff) == 3 and all(value > 0 for value in stiff.values())
    assert [row.candidate_id for row in table.ranking()] == sorted(
        (i for i, value in stiff.items() if value >= 20), key=lambda i: -min(stiff[i], 400.0)
    )


def test_a_code_has_one_effect_in_all_stages_of_a_kind() -> None:
    for name in kind_names():
        effects: dict[str, set[tuple[str, bool]]] = {}
        for stage in dict.fromkeys(find_kind(name).every):
            for code, kind in stage.kinds.items():
                effects.setdefault(code, set()).add((kind.status, kind.disqualifies))
        assert [code for code, several in effects.items() if len(several) > 1] == [], name
    stages = [
        Stage(one, one, reasons={"torn": ReasonKind("torn", "it is torn", status=status)})
        for one, status in (("one", "failed"), ("two", "flagged"))
    ]
    with pytest.raises(ConfigError, match="'two' and a stage before it give 'torn' another effect"):
        Funnel(tuple(stages))

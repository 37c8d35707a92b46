from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from jobflow.core.job import Response
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from toy_campaign import MORSE, STAGES, candidates, hull_verdict_on, layered, rocksalt, sanity_verdict, write_campaign

from dpa4_core.data.graph import Graph
from dpa4_core.data.system import StructureError
from dpa4_core.errors import DPA4Error
from dpa4_core.potential import Output
from dpa4_core.testing import MorsePotential
from dpa4_flows.analysis.completeness import Tally
from dpa4_flows.analysis.hull import HullResult
from dpa4_flows.campaigns import battery
from dpa4_flows.campaigns.battery import BATTERY
from dpa4_flows.campaigns.candidates import read_candidates
from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.campaigns.context import Scene, Screening, scene_of
from dpa4_flows.campaigns.flow import CampaignMaker, judge, rank
from dpa4_flows.campaigns.library import replace_phases
from dpa4_flows.campaigns.plan import plan_campaign
from dpa4_flows.campaigns.run import PreparedRun, open_run, prepare_run, stored_campaign
from dpa4_flows.campaigns.sections import ConfigError
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.documents.calculations import rattled
from dpa4_flows.documents.hull import products_text
from dpa4_flows.documents.reasons import Reason, voided
from dpa4_flows.documents.schemas import Candidate, StageResult, Status
from dpa4_flows.engines import run_local
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.electrode import Electrode
from dpa4_flows.store.table import ResultsTable

FUNNEL = BATTERY.funnel(STAGES)

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")  # jobflow 0.4 with monty 2026

STRICT = {
    "electrode": {"average_voltage": {"min": 0.0, "max": 6.35}},
    "charged_hull": {"energy_above_hull_charged": {"max": 0.2}},
}

LEFT = {  # where each loser leaves, and words of the reason
    "LiCoXe2": ("sanity", "element Xe"),
    "overlap": ("sanity", "overlap"),
    "MgO": ("sanity", "no Li in it"),
    "LiAlO2": ("sanity", "no redox-active transition metal"),
    "LiCoO2-half": ("sanity", "partially occupied"),
    "LiCoO2-supercell": ("duplicates", "same structure as LiCoO2"),
    "LiNiO2-open": ("relaxed_duplicates", "relaxed to the same structure as LiNiO2"),
    "LiNiO2-flat": ("hull", "eV/atom above the hull, more than 0.6"),
}


def run(prepared: PreparedRun) -> dict[str, dict[int, Response]]:
    return run_local(CampaignMaker(run=prepared.run).make(), prepared.folder / "jobs")


def n_stored(table: ResultsTable) -> int:
    return sum(1 for _ in table.iter_calculations())


def verdicts(table: ResultsTable) -> dict[str, dict[str, Any]]:
    return {stage: {i: (r.status, r.values, r.reasons) for i, r in table.stage(stage).items()} for stage in STAGES}


def summary(table: ResultsTable) -> list[tuple[str, float]]:
    """Ranked ids with voltages, rounded above the noise of sums in another order."""
    return [(row.candidate_id, round(row.values["average_voltage"], 5)) for row in table.ranking()]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Toy force calls are too small to share."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> PreparedRun:
    """The toy campaign, run to its end; read only."""
    folder = tmp_path_factory.mktemp("battery")
    prepared = prepare_run(
        load_campaign(write_campaign(folder)), folder / "run", campaign_file=folder / "campaign.toml"
    )
    assert not prepared.finished
    run(prepared)
    return prepared


@pytest.fixture
def copy(finished: PreparedRun, tmp_path: Path) -> Path:
    """Run folder of the finished campaign, to be changed; the campaign file lies beside it."""
    write_campaign(tmp_path)
    shutil.copytree(finished.folder, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def no_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(self: MorsePotential, graph: Graph) -> Output:
        raise AssertionError("everything should have been found in the results table")

    monkeypatch.setattr(MorsePotential, "compute", compute)


def test_every_candidate_keeps_its_stage_and_reason(finished: PreparedRun) -> None:
    table = finished.table
    assert [c.candidate_id for c in table.candidates()] == list(candidates())
    for candidate_id, (stage, words) in LEFT.items():
        result = table.stage(stage)[candidate_id]
        assert result.status == "failed"
        assert words in " ".join(reason.sentence for reason in result.reasons)
        assert all(reason.decides and reason.code in FUNNEL.reasons for reason in result.reasons)
        for later in STAGES[STAGES.index(stage) + 1 :]:
            assert candidate_id not in table.stage(later)
    ranked = [row.candidate_id for row in table.ranking()]
    assert sorted(ranked) == ["LiCoO2", "LiMnO2", "LiNiO2"]
    assert set(ranked) | set(LEFT) == set(candidates())
    assert table.get_meta("state") == "complete"


def test_ranked_values_are_named_as_the_reports_expect(finished: PreparedRun) -> None:
    first = finished.table.ranking()[0]
    assert set(first.values) >= {
        "formation_energy_per_atom",
        "energy_above_hull",
        "decomposition",
        "n_competing",
        "average_voltage",
        "capacity_grav",
        "capacity_vol",
        "energy_grav",
        "energy_vol",
        "volume_change_percent",
        "energy_above_hull_charged",
    }
    assert first.values["decomposition"].startswith("unknown: ")  # the toys lie far below the few toys that compete
    assert "energy_above_hull" in first.voided and first.doubtful
    assert set(first.score_parts) == {"energy_grav", "energy_above_hull_charged"} - set(first.voided)


def test_voltage_is_the_energy_difference_of_the_stored_calculations(finished: PreparedRun) -> None:
    """V = −[E(LiMO2) − E(MO2) − E(Li)] per Li, all uncorrected and by the same model."""
    table = finished.table
    forms = scene_of(finished.run, "electrode").competing.phases(["Li"])
    lithium = min(found.energy_per_atom for found in table.calculations(form.key for form in forms).values())
    for candidate_id in ("LiCoO2", "LiNiO2"):
        [full], [empty] = (table.stage(s)[candidate_id].calculation_keys for s in ("relax", "relax_charged"))
        documents = table.calculations([full, empty])
        expected = -(documents[full].energy - documents[empty].energy - lithium)
        assert table.stage("electrode")[candidate_id].values["average_voltage"] == pytest.approx(expected, abs=1e-9)


def test_the_property_finds_what_the_campaign_relaxed_and_says_the_same(copy: Path, no_computation: None) -> None:
    run, table = open_run(copy), ResultsTable(copy / "results.sqlite")
    campaign, _ = stored_campaign(copy)
    asked = Electrode("Li", Screening("", ModelRef(MORSE), campaign, "none").relaxed)
    inputs = {c.candidate_id: Structure.from_dict(c.structure) for c in run.candidates(["LiCoO2", "LiNiO2"])}
    asks = [(name, Ask(asked, Crystal(structure, name))) for name, structure in inputs.items()]
    for name, document in compute(asks, ModelRef(MORSE, dtype="float64"), table):
        verdict = run.stage("electrode")[name]
        assert {value: getattr(document, value) for value in verdict.values} == verdict.values
        assert document.warnings == [] == verdict.reasons


def test_documents_carry_frame_and_provenance(finished: PreparedRun) -> None:
    result = finished.table.stage("hull")["LiCoO2"]
    assert result.document is not None
    assert result.provenance is not None
    assert result.document["frame"]["model_sha256"] == finished.run.model.sha256 == result.provenance.model_sha256
    assert result.document["frame"]["correction"] == "none"
    assert result.units["energy_above_hull"] == "eV/atom"
    assert result.document["distance_to_competing"] == result.values["distance_to_competing"]
    assert result.thresholds == {"energy_above_hull": 0.6}
    summary = finished.table.get_meta("hull_summary")
    assert set(summary) == {"Co-Li-O", "Li-Ni-O", "Li-Mn-O"}
    assert {row["role"] for row in finished.table.get_meta("references")} == {"element", "competing"}


def test_charged_hosts_stay_in_their_basin_unless_asked(tmp_path: Path) -> None:
    """A voltage is that of the host as the ions leave it; everything else is searched for a way down."""
    for wanted, expected in ((None, False), (True, True)):
        sections = {"relax": {"check_minimum": True}, "relax_charged": {"check_minimum": wanted}}
        campaign = load_campaign(write_campaign(tmp_path / str(wanted), **sections))
        run = Screening(table=str(tmp_path / "x.sqlite"), model=ModelRef(MORSE), campaign=campaign, corrections="none")
        assert run.relaxed.check_minimum
        scene = Scene(run, FUNNEL.stage("relax_charged"), ResultsTable(tmp_path / "x.sqlite"))
        assert FUNNEL.stage("relax_charged").computes.settled(scene).check_minimum is expected


def test_run_again_is_recognised_as_finished(finished: PreparedRun, no_computation: None) -> None:
    campaign, engine = stored_campaign(finished.folder)
    assert engine == "local"
    assert prepare_run(campaign, finished.folder).finished


def test_new_thresholds_only_change_verdicts(
    finished: PreparedRun, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = verdicts(finished.table)
    strict = write_campaign(copy.parent, **STRICT)
    second = prepare_run(load_campaign(strict), copy)
    assert not second.finished
    monkeypatch.setattr(MorsePotential, "compute", None)
    n_before = n_stored(second.table)
    run(second)
    assert n_stored(second.table) == n_before
    after = verdicts(second.table)
    assert after["sanity"].keys() == before["sanity"].keys()  # its sentences name the file, which is another one
    for stage in ("duplicates", "relax", "hull", "relax_charged"):
        assert after[stage] == before[stage]
    assert "average voltage 6.41 V is above 6.35 V" in after["electrode"]["LiNiO2"][2][0].sentence
    assert "the charged host CoO2 lies" in after["charged_hull"]["LiCoO2"][2][0].sentence
    assert [row.candidate_id for row in second.table.ranking()] == ["LiMnO2"]


def test_stopped_run_continues_where_it_was(
    tmp_path: Path, finished: PreparedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = load_campaign(write_campaign(tmp_path))
    compute, calls = MorsePotential.compute, iter(range(10**6))

    def compute_until_stopped(self: MorsePotential, graph: Graph) -> Output:
        if next(calls) == 60:
            raise KeyboardInterrupt
        return compute(self, graph)

    monkeypatch.setattr(MorsePotential, "compute", compute_until_stopped)
    prepared = prepare_run(campaign, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run(prepared)
    before = {document.key: document for document in prepared.table.iter_calculations()}
    assert before
    assert prepared.table.get_meta("state") == "running"

    again = prepare_run(campaign, tmp_path / "run")
    assert not again.finished
    run(again)
    assert before.items() <= {document.key: document for document in again.table.iter_calculations()}.items()
    assert n_stored(again.table) == n_stored(finished.table)
    assert again.table.stage_counts() == finished.table.stage_counts()
    assert summary(again.table) == summary(finished.table)


def test_unconverged_relaxation_leaves_with_the_force_it_reached(tmp_path: Path) -> None:
    campaign = load_campaign(write_campaign(tmp_path, relax={"max_steps": 3}))
    prepared = prepare_run(campaign, tmp_path / "run")
    run(prepared)
    result = prepared.table.stage("relax")["LiCoO2"]
    assert result.status == "error"
    assert f"fmax {result.values['fmax']:.3g} eV/Å after 3 steps, wanted 0.05 eV/Å" in result.reasons[0].sentence
    assert prepared.table.stage("hull") == {}
    assert prepared.table.ranking() == []
    assert prepared.table.get_meta("state") == "complete"


def test_candidates_that_left_the_campaign_leave_the_run(copy: Path) -> None:
    file = copy.parent / "structures" / "candidates.json"
    file.write_text(json.dumps(json.loads(file.read_text())[1:]))
    second = prepare_run(load_campaign(copy.parent / "campaign.toml"), copy)
    n_before = n_stored(second.table)
    run(second)
    assert n_stored(second.table) == n_before + 2  # the supercell, which now stands for LiCoO2, and its charged host
    assert "LiCoO2" not in {c.candidate_id for c in second.table.candidates()}
    assert "LiCoO2" not in {row.candidate_id for row in second.table.ranking()}


def test_force_forgets_calculations(copy: Path) -> None:
    campaign = load_campaign(copy.parent / "campaign.toml")
    assert prepare_run(campaign, copy).finished
    again = prepare_run(campaign, copy, force=True)
    assert not again.finished
    assert n_stored(again.table) == 0


def test_dry_run_says_what_would_be_computed(tmp_path: Path, finished: PreparedRun, no_computation: None) -> None:
    campaign = load_campaign(write_campaign(tmp_path))
    plan = plan_campaign(campaign, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert {v.candidate_id: v.stage for v in plan.rejected} == {
        i: stage for i, (stage, _) in LEFT.items() if stage in ("sanity", "duplicates")
    }
    candidates_work, phases, hosts = plan.work
    assert hosts.at_most and (hosts.name, hosts.n_structures) == ("charged hosts", 5)
    assert (candidates_work.n_structures, candidates_work.n_stored) == (5, 0)
    assert phases.n_structures > 4
    assert set(plan.completeness) == {"Co-Li-O", "Li-Mn-O", "Li-Ni-O"}
    assert {found.grade for found in plan.completeness.values()} <= {"unsurveyed", "no_competitor"}
    done = plan_campaign(campaign, finished.folder)
    assert all(item.n_stored == item.n_structures for item in done.work if not item.at_most)
    json.dumps(done.to_dict())


def test_same_table_for_any_order_of_chunks(tmp_path: Path, finished: PreparedRun) -> None:
    campaign = load_campaign(write_campaign(tmp_path, engine={"chunk_size": 100, "max_atoms_per_batch": 9}))
    prepared = prepare_run(campaign, tmp_path / "run")
    run(prepared)
    assert summary(prepared.table) == summary(finished.table)


def test_rattle_is_small_and_always_the_same() -> None:
    structure = layered("Ni")
    moved = rattled(structure, 0.02)
    assert moved == rattled(structure, 0.02)
    assert moved != rattled(layered("Co"), 0.02)
    distances = [site.distance(other) for site, other in zip(structure, moved, strict=True)]
    assert 0 < max(distances) < 0.1
    assert structure == layered("Ni")
    assert rattled(structure, 0.0) is structure
    rounded = Structure.from_str(str(CifWriter(structure, significant_figures=5)), "cif")
    apart, others = (np.sort(found.distance_matrix.ravel()) for found in (moved, rattled(rounded, 0.02)))
    np.testing.assert_allclose(others, apart, atol=1e-3)  # a file that sorts and turns is no other structure


def test_rattle_leaves_fixed_coordinates_where_they_are() -> None:
    structure = layered("Ni")
    free = rattled(structure, 0.02)
    structure.add_site_property("selective_dynamics", [[False] * 3, [True] * 3, None, [True] * 3])
    moved = rattled(structure, 0.02)
    assert (moved[0].coords == structure[0].coords).all()
    assert all(moved[i].distance(structure[i]) > 0 for i in (1, 2, 3))
    assert all(free[i].distance(layered("Ni")[i]) > 0 for i in range(4))


def test_repeated_candidate_id_is_refused(tmp_path: Path) -> None:
    rows = [{"id": "a", "structure": layered("Co").as_dict()}] * 2
    file = tmp_path / "twice.json"
    file.write_text(json.dumps(rows))
    with pytest.raises(ConfigError, match="candidate id 'a' occurs twice"):
        read_candidates([file])


def test_a_name_that_files_of_candidates_share_is_told_apart_by_path(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        layered("Co").to(tmp_path / folder / "x.cif")
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([{"id": "7", "structure": layered("Co").as_dict()}]))
    files = [tmp_path / "a" / "x.cif", rows, tmp_path / "b" / "x.cif"]
    assert [one.candidate_id for one in read_candidates(files)] == ["a/x", "7", "b/x"]
    assert [one.candidate_id for one in read_candidates(files[:2])] == ["x", "7"]
    (tmp_path / "more.json").write_text(rows.read_text())
    with pytest.raises(ConfigError, match="'7' occurs in .*rows.json and in .*more.json"):
        read_candidates([*files, tmp_path / "more.json"])


def test_candidate_keeps_source_tags_and_loses_oxidation_states(tmp_path: Path) -> None:
    structure = layered("Co").add_oxidation_state_by_element({"Li": 1, "Co": 3, "O": -2})
    file = tmp_path / "c.json"
    file.write_text(json.dumps([{"id": "a", "structure": structure.as_dict(), "tags": "cathode Li", "source": "book"}]))
    [candidate] = read_candidates([file])
    assert (candidate.formula, candidate.source, candidate.tags) == ("LiCoO2", "book", ["cathode", "Li"])
    assert Structure.from_dict(candidate.structure or {}) == layered("Co")


def test_unreadable_file_of_candidates_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text("[{")
    with pytest.raises(StructureError, match="c.json: the text is not valid JSON from line 1"):
        read_candidates([file])
    with pytest.raises(DPA4Error, match="is not a run folder"):
        open_run(tmp_path)


COMPETING = Tally({"Li": 1, "O": 1, "S": 1, "Ti": 1, "X": 1}, {"Li2O": 1, "TiS2": 1})


def test_lower_bound_of_a_distance_is_flagged() -> None:
    position = HullResult("x", "LiXO2", "Li-O-X", -5.0, 0.0, energy_above_hull=0.02, competing=COMPETING,
                          missing_references=["X"])  # fmt: skip
    result = hull_verdict_on(position)
    assert result.status == "flagged"
    assert "lower bound" in result.reasons[0].sentence
    assert hull_verdict_on(position, 0.01, charged=True).status == "failed"


def test_phase_far_below_its_competitors_is_flagged() -> None:
    position = HullResult("x", "LiTiS2", "Li-S-Ti", -5.0, 0.0, energy_above_hull=0.0, distance_to_competing=-0.099,
                          competing=COMPETING)  # fmt: skip
    result = hull_verdict_on(position)
    assert (result.status, result.values["distance_to_competing"]) == ("flagged", -0.099)
    assert voided(result.reasons) == []
    assert result.units["distance_to_competing"] == "eV/atom"
    assert [reason.code for reason in result.reasons] == ["below_competitors"]
    assert "0.099 eV/atom below all competing phases" in result.reasons[0].sentence
    near = dataclasses.replace(position, distance_to_competing=-0.01)
    assert hull_verdict_on(near).status == "passed"
    far = hull_verdict_on(dataclasses.replace(position, distance_to_competing=-0.101))
    assert [(r.code, r.disqualifies) for r in far.reasons] == [("far_below_competitors", True)]
    assert voided(far.reasons) == ["energy_above_hull"]
    assert "is unknown: 0.101 eV/atom below all competing phases" in far.reasons[0].sentence


def test_campaign_without_redox_metals_has_no_bound_by_them() -> None:
    candidate = Candidate(candidate_id="a", formula="LiAlO2", structure=layered("Al").as_dict())
    result = sanity_verdict(candidate, require_redox_metal=False)
    assert (result.status, result.reasons) == ("passed", [])
    assert result.values["capacity_bound"] == pytest.approx(406.5, abs=0.5)  # all lithium


def add_lower_host(table: ResultsTable, *, status: Status, reliable: bool) -> None:
    """Give LiCoO2 a rival whose charged host lies 1 eV/atom lower and whose electrode was judged so."""
    table.put_candidates([*table.candidates(), Candidate(candidate_id="rival", formula="LiCoO2")])
    results = {stage: table.stage(stage)["LiCoO2"] for stage in STAGES}
    [key] = results["relax_charged"].calculation_keys
    host = table.calculations([key])[key]
    n = host.n_atoms
    update = {"key": "rival", "energy": host.energy - n, "energy_per_atom": host.energy_per_atom - 1.0}
    table.put_calculations([host.model_copy(update=update)])
    results["relax_charged"].calculation_keys = ["rival"]
    results["electrode"].status = status
    results["electrode"].reasons = (
        [] if reliable else [FUNNEL.completed(Reason(code="unreliable_vdw", sentence="it fell apart"))]
    )
    table.put_stages([result.model_copy(update={"candidate_id": "rival"}) for result in results.values()])


def test_hosts_rejected_by_their_voltage_compete_on_the_charged_hull(copy: Path) -> None:
    prepared = prepare_run(load_campaign(copy.parent / "campaign.toml"), copy)
    judge.original(prepared.run, "charged_hull")
    before = prepared.table.stage("charged_hull")["LiCoO2"].values["energy_above_hull_charged"]
    add_lower_host(prepared.table, status="failed", reliable=True)
    judge.original(prepared.run, "charged_hull")
    after = prepared.table.stage("charged_hull")["LiCoO2"].values["energy_above_hull_charged"]
    assert before < 0.5
    assert after == pytest.approx(1.0, abs=1e-6)


def test_host_that_fell_apart_is_judged_but_does_not_compete(copy: Path) -> None:
    prepared = prepare_run(load_campaign(copy.parent / "campaign.toml"), copy)
    before = prepared.table.stage("charged_hull")["LiCoO2"].values["energy_above_hull_charged"]
    add_lower_host(prepared.table, status="flagged", reliable=False)
    judge.original(prepared.run, "charged_hull")
    results = prepared.table.stage("charged_hull")
    assert results["LiCoO2"].values["energy_above_hull_charged"] == pytest.approx(before, abs=1e-9)
    assert results["rival"].status == "flagged"
    assert voided(results["rival"].reasons) == ["energy_above_hull_charged"]
    rank.original(prepared.run)
    rival = next(row for row in prepared.table.ranking() if row.candidate_id == "rival")
    assert "energy_above_hull_charged" not in rival.score_parts and not rival.pareto
    low, high = rival.score_interval or (0.0, 0.0)
    assert high - low == pytest.approx(
        0.25 * len({"energy_above_hull", "energy_above_hull_charged"} & set(rival.voided))
    )


def test_electrodes_without_energy_of_the_ion_metal_get_one_sentence(copy: Path) -> None:
    prepared = prepare_run(load_campaign(copy.parent / "campaign.toml"), copy)
    replace_phases(prepared.table, {}, {})
    assert judge.original(prepared.run, "electrode").n_error == 3
    assert "no form of elemental Li has an energy" in prepared.table.stage("electrode")["LiCoO2"].reasons[0].sentence


def test_no_voltage_mixes_two_energy_zeros(copy: Path) -> None:
    prepared = prepare_run(load_campaign(copy.parent / "campaign.toml"), copy)
    table = prepared.table
    documents = list(table.iter_calculations())
    for document in documents:
        document.provenance.zeros = {"Li": "data", "O": "data"}
    table.put_calculations(documents)
    for stage in ("hull", "electrode"):
        judge.original(prepared.run, stage)
        codes = {reason.code for verdict in table.stage(stage).values() for reason in verdict.reasons}
        assert "mixed_energy_zeros" in codes, stage


def test_verdicts_of_some_candidates(finished: PreparedRun) -> None:
    table = finished.table
    whole = table.stage("hull")
    assert table.stage("hull", ["LiNiO2", "MgO"]) == {"LiNiO2": whole["LiNiO2"]}
    assert table.stage("hull", []) == {}
    assert table.stage("hull", [*map(str, range(700)), *whole]) == whole  # more than one query


def test_chunks_read_their_own_verdicts_only(finished: PreparedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, sizes = ResultsTable.stage, []

    def counted(self: ResultsTable, name: str, ids: list[str] | None = None) -> dict[str, StageResult]:
        sizes.append(len(found := stage(self, name, ids)))
        return found

    monkeypatch.setattr(ResultsTable, "stage", counted)
    [case] = scene_of(finished.run, "electrode").cases(["LiNiO2"])
    assert sizes == [1, 1] and set(case.calculations) == {"relax", "relax_charged"}


def test_products_are_named_in_atomic_percent():
    assert products_text("LiCoO2", {"LiCoO2": 1.0}) == "another structure of LiCoO2"
    assert products_text("LiCo2O4", {"LiCoO2": 4 / 7, "CoO2": 3 / 7}) == "57 % LiCoO2 + 43 % CoO2 (by atoms)"


def test_a_candidate_needs_the_ion_and_a_host_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(battery, "ion_of", lambda _: "Li")
    scene = SimpleNamespace(run=SimpleNamespace(campaign=None))
    alone = Structure(Lattice.cubic(3.44), ["Li", "Li"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    for structure, said in ((rocksalt("Mg"), "no Li in it, the working ion"), (alone, "an electrode needs a host")):
        (reason,) = battery._no_host(SimpleNamespace(scene=scene, structure=structure))  # type: ignore[arg-type]
        assert said in reason

"""Within a leg of the funnel every candidate goes from stage to stage by itself, and one batch computes for all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from toy_campaign import layered, rocksalt, scene
from toy_kind import VACANCY

from dpa4_core.data.graph import Graph
from dpa4_core.potential import Output
from dpa4_core.testing import MorsePotential
from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.campaigns.context import Case, Scene
from dpa4_flows.campaigns.flow import CampaignMaker
from dpa4_flows.campaigns.kind import CampaignKind, find_kind
from dpa4_flows.campaigns.measured import Measured, relaxed
from dpa4_flows.campaigns.progress import CampaignProgress
from dpa4_flows.campaigns.relaxed import RELAX
from dpa4_flows.campaigns.run import PreparedRun, prepare_run, stored_campaign
from dpa4_flows.campaigns.sanity import SANITY
from dpa4_flows.campaigns.stage import Finding, Stage
from dpa4_flows.compute.flight import SafeFlight
from dpa4_flows.documents.schemas import Candidate, StageResult
from dpa4_flows.engines import run_local
from dpa4_flows.properties.equation_of_state import EquationOfState, EquationOfStateDocument
from dpa4_flows.store.table import ResultsTable

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")  # jobflow 0.4 with monty 2026

BUDGET = 16
METALS = ("Mg", "Ca", "Ni", "Co", "Mn", "Fe", "Zn", "Sr")


class Recorded(MorsePotential):
    """Writes down the atoms of every force call."""

    atoms: ClassVar[list[int]] = []
    kill_after: ClassVar[int | None] = None

    def compute(self, graph: Graph) -> Output:
        if self.kill_after is not None and len(self.atoms) >= self.kill_after:
            raise KeyboardInterrupt
        self.atoms.append(graph.n_atoms)
        return super().compute(graph)


def judge_stiffness(case: Case) -> Finding:
    if case.id == "Zn-1":
        raise ArithmeticError("a fault of the judge")
    return Finding(case.id, values=case.found, keys=[case.key])


STIFF = Stage(
    "stiffness",
    "Stiffness",
    judge=judge_stiffness,
    quantities=EquationOfStateDocument,
    needs=("relax",),
    computes=Measured(EquationOfState(fmax=0.02), "scaled cells", relaxed),
)
CHAIN = CampaignKind("chain", (SANITY, RELAX, STIFF, VACANCY), {"vacancy_energy": {}})


def prepared(folder: Path) -> PreparedRun:
    """A campaign on crystals of 2 and 4 atoms that are distorted in many ways."""
    rows, random = [], np.random.default_rng(0)
    for number, name in enumerate(f"{metal}-{n}" for n in (1, 2) for metal in METALS):
        structure = rocksalt(name[:2]) if number % 3 else layered(name[:2])
        structure.apply_strain(0.01 * (number % 5) - 0.02)
        for site in range(len(structure)):
            structure.translate_sites([site], random.normal(scale=0.03, size=3), frac_coords=False)
        rows.append({"id": name, "structure": structure.as_dict()})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "crystals.json").write_text(json.dumps(rows))
    (folder / "campaign.toml").write_text(
        f"""[campaign]
name = "chain"
kind = "{__name__}:CHAIN"
candidates = ["crystals.json"]
[model]
name = "{__name__}:Recorded"
dtype = "float64"
[relax]
check_minimum = false
[engine]
max_atoms_per_batch = {BUDGET}
chunk_size = 5
"""
    )
    return prepare_run(load_campaign(folder / "campaign.toml"), folder / "run")


def run(one: PreparedRun) -> ResultsTable:
    run_local(CampaignMaker(run=one.run).make(), one.folder / "jobs")
    return one.table


def numbers(found: StageResult) -> dict[str, float]:
    """Values to six decimals: which structures share a force call changes the last digits."""
    return {name: round(value, 6) for name, value in found.values.items() if isinstance(value, float)}


def verdicts(table: ResultsTable) -> dict[tuple[str, str], Any]:
    return {
        (stage, i): (found.status, found.calculation_keys, [reason.code for reason in found.reasons], numbers(found))
        for stage in table.stage_counts()
        for i, found in table.stage(stage).items()
    }


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> tuple[ResultsTable, list[int], int]:
    """The table of a run, the atoms of its force calls, and how many of these were before the last request."""
    Recorded.atoms, asked, put = [], [], SafeFlight.put

    def recorded(self: SafeFlight, requests: Iterable[Any]) -> None:
        asked.append(len(Recorded.atoms))
        put(self, requests)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SafeFlight, "put", recorded)
        table = run(prepared(tmp_path_factory.mktemp("chain")))
    return table, [*Recorded.atoms], asked[-1]


def test_stages_of_single_candidates_make_one_leg() -> None:
    def names(kind: str) -> list[list[str]]:
        return [[stage.name for stage in leg] for leg in find_kind(kind).funnel().legs]

    start = [["sanity", "duplicates"], ["relax", "relaxed_duplicates"], ["hull"]]
    assert names("catalyst") == [*start, ["at_rest", "surface", "adsorption", "activity"]]
    assert names("battery")[:3] == start and ["profile", "delithiate", "relax_charged"] in names("battery")
    assert names(f"{__name__}:CHAIN") == [["sanity", "relax", "stiffness", "vacancy"]]


def test_the_batch_stays_full_from_the_first_stage_to_the_last(computed: tuple[ResultsTable, list[int], int]) -> None:
    table, atoms, last = computed
    assert np.mean(atoms[:last]) >= 0.8 * BUDGET, (np.mean(atoms[:last]), last, len(atoms))
    assert {stage: sum(n.values()) for stage, n in table.stage_counts().items()} == {
        **dict.fromkeys(("sanity", "relax", "stiffness"), 16),
        "vacancy": 15,
    }


def test_a_candidate_that_a_stage_cannot_judge_leaves_alone(computed: tuple[ResultsTable, list[int], int]) -> None:
    found = computed[0].stage("stiffness")
    assert {i for i, verdict in found.items() if not verdict.goes_on} == {"Zn-1"}
    assert found["Zn-1"].status == "error" and "a fault of the judge" in found["Zn-1"].reasons[0].sentence
    assert len(computed[0].ranking()) == 15


def test_workers_that_share_a_run_find_the_same_in_chunks(
    computed: tuple[ResultsTable, list[int], int], tmp_path: Path
) -> None:
    one = prepared(tmp_path)
    one = replace(one, run=replace(one.run, shared_table=True))
    responses = run_local(CampaignMaker(run=one.run).make(), tmp_path / "jobs")
    assert len(responses) == 7  # the leg, four chunks, their sum, the ranking
    assert verdicts(one.table) == verdicts(computed[0])
    assert CampaignProgress(one.run).share() == 1.0


def test_a_run_that_was_killed_in_a_leg_computes_the_rest(
    computed: tuple[ResultsTable, list[int], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepared(tmp_path)
    monkeypatch.setattr(Recorded, "atoms", [])
    monkeypatch.setattr(Recorded, "kill_after", len(computed[1]) // 2)
    with pytest.raises(KeyboardInterrupt):
        run(one)
    there = one.table.stage_counts()
    assert sum(there["relax"].values()) > sum(there["vacancy"].values()) > 0, "several stages were at work"
    assert 0 < CampaignProgress(one.run).share() < 1
    before = {document.key: document for document in one.table.iter_calculations()}
    monkeypatch.setattr(Recorded, "kill_after", None)
    monkeypatch.setattr(Recorded, "atoms", [])
    again = prepare_run(stored_campaign(one.folder)[0], one.folder, stored_inputs=True)
    assert verdicts(run(again)) == verdicts(computed[0])
    assert sum(Recorded.atoms) < 0.7 * sum(computed[1])
    assert before.items() <= {document.key: document for document in one.table.iter_calculations()}.items()


class OneIsLost(Measured):
    """No calculation, and one of which it says nothing."""

    def ask(self, case: Case) -> None:
        return None

    def failed(self, case: Case) -> Finding | None:
        return Finding(case.id, keys=["lost"]) if case.id == "b" else None


def test_a_stage_about_all_may_go_through_them_twice_or_stop_early() -> None:
    def twice(at_work: Scene, cases: Iterable[Case]) -> Iterable[Finding]:
        first = [case.id for case in cases]
        return [Finding(case.id, keys=first) for case in cases]

    def first_one(at_work: Scene, cases: Iterable[Case]) -> Iterable[Finding]:
        return [Finding(next(iter(cases)).id)]

    crystal = rocksalt("Mg").as_dict()
    for judge, found in (
        (twice, {"a": ["a", "c"], "c": ["a", "c"], "b": ["lost"]}),
        (first_one, {"a": [], "b": ["lost"]}),
    ):
        at_work = scene("sanity")
        at_work.table.put_candidates([Candidate(candidate_id=i, structure=crystal, formula="MgO") for i in "abc"])
        at_work.stage = replace(SANITY, judge=None, over_all=judge, computes=OneIsLost(EquationOfState()))
        assert {one.candidate_id: one.calculation_keys for one in at_work.verdicts()} == found

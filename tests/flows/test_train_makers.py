"""Training as jobs: the model of one job feeds the next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from atomate2.forcefields.flows.elastic import ElasticMaker
from jobflow import SETTINGS, Flow, Job
from monty.json import MontyDecoder, MontyEncoder
from pymatgen.core import Lattice, Structure
from test_fireworks import Site
from test_fireworks import site as site  # a fixture
from toy_labels import NETWORK, write_toy

from dpa4_core.errors import DPA4Error
from dpa4_core.train import trainer
from dpa4_core.train.config import TrainConfig
from dpa4_flows.documents.training import TrainingDocument
from dpa4_flows.engines import EngineError, run_local, submit_fireworks
from dpa4_flows.makers.named import BatchStaticMaker
from dpa4_flows.makers.relax import DPA4RelaxMaker, DPA4StaticMaker
from dpa4_flows.makers.train import EvaluateMaker, FineTuneMaker, TrainMaker
from dpa4_flows.model_ref import ModelRef

pytestmark = pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning")  # jobflow 0.4 with monty 2026

SHORT = NETWORK | {"run": {"steps": 4, "device": "cpu"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_toy(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def copper() -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])


@pytest.fixture(scope="module")
def trained(data: str, tmp_path_factory: pytest.TempPathFactory) -> TrainingDocument:
    """Document of a training job; read only."""
    folder = tmp_path_factory.mktemp("trained")
    return output(TrainMaker(config=SHORT, folder=str(folder / "run")).make(data), folder)


def output(flow: Flow | Job, folder: Path) -> Any:
    """Output of a job, or of the last job of a flow."""
    last = flow if isinstance(flow, Job) else list(flow.iterflow())[-1][0]
    responses = run_local(flow, folder)[last.uuid]
    return responses[max(responses)].output


def test_document_says_what_was_trained_on_what(trained: TrainingDocument) -> None:
    assert Path(trained.model.name).is_absolute() and trained.model.sha256
    assert trained.model.info().sha256 == trained.model.sha256 == trained.provenance.model_sha256
    assert trained.finished and trained.n_steps == 4 and trained.shortened is None
    assert trained.n_frames_train + trained.n_frames_validation == 16
    assert trained.validation is not None and trained.train is not None
    assert trained.validation.energy_mae == pytest.approx(trained.errors["energy_mae"], rel=1e-3)
    assert {row.name for row in trained.train.by_element} == {"Cu", "Ni"}
    assert trained.errors_before is None
    assert trained.report is not None and Path(trained.report).stat().st_size > 1e6
    assert TrainConfig.from_dict(trained.configuration).run.steps == 4
    again = MontyDecoder().decode(json.dumps(trained, cls=MontyEncoder))
    assert isinstance(again, TrainingDocument) and again == trained


def test_model_of_a_training_job_relaxes_in_the_same_flow(data: str, copper: Structure, tmp_path: Path) -> None:
    train = TrainMaker(config=SHORT, report=False).make(data)
    relax = DPA4RelaxMaker(model=train.output.model, steps=2).make(copper)
    chunk = BatchStaticMaker(model=train.output.model).make([copper], tmp_path / "results.sqlite")
    evaluation = EvaluateMaker(model=train.output.model).make(data)
    assert {train.uuid} == set(relax.input_uuids) == set(chunk.input_uuids) == set(evaluation.input_uuids)
    responses = run_local(Flow([evaluation, relax, chunk, train]), tmp_path)  # jobflow finds the order
    document = responses[train.uuid][1].output
    assert responses[relax.uuid][1].output.dpa4.model_sha256 == document.model.sha256
    assert responses[chunk.uuid][1].output.n_computed == 1
    evaluated = responses[evaluation.uuid][1].output
    assert evaluated.provenance.model_sha256 == document.model.sha256
    assert evaluated.metrics.n_structures == 16
    assert list(tmp_path.glob(f"training-{train.uuid[:8]}/model.dpa4"))


def test_reference_reaches_the_jobs_that_an_atomate2_flow_makes_on_the_way(
    trained: TrainingDocument, data: str, copper: Structure, tmp_path: Path
) -> None:
    assert trained.finished  # the run of this folder: the job returns at once
    train = TrainMaker(config=SHORT, folder=trained.folder).make(data)
    flow = ElasticMaker(
        bulk_relax_maker=DPA4RelaxMaker(model=train.output.model, steps=1),
        elastic_relax_maker=DPA4StaticMaker(model=train.output.model),
    ).make(copper)
    responses = run_local(Flow([train, flow]), tmp_path)
    stamped = [r.output.dpa4 for by_index in responses.values() for r in by_index.values() if hasattr(r.output, "dpa4")]
    assert len(stamped) >= 2
    assert {stamp.model_sha256 for stamp in stamped} == {trained.model.sha256}


@pytest.mark.parametrize(
    "maker",
    [
        TrainMaker(config=SHORT, folder="/somewhere"),
        FineTuneMaker(base=ModelRef("dpa4-neo", sha256="abc"), config={"run": {"epochs": 2.0}}),
        EvaluateMaker(model=ModelRef("my.dpa4")),
    ],
)
def test_makers_and_their_jobs_survive_serialisation(maker: Any) -> None:
    text = json.dumps(maker, cls=MontyEncoder)
    assert MontyDecoder().decode(text).as_dict() == maker.as_dict()
    again = MontyDecoder().decode(json.dumps(maker.make("frames.extxyz"), cls=MontyEncoder))
    assert again.maker.as_dict() == maker.as_dict()
    relax = DPA4RelaxMaker(model=again.output.model).make(Structure(Lattice.cubic(3), ["Ni"], [[0, 0, 0]]))
    decoded = MontyDecoder().decode(json.dumps(relax, cls=MontyEncoder))
    assert decoded.input_uuids == (again.uuid,)


def test_fine_tuning_takes_the_base_from_a_job_and_says_what_it_gained(
    trained: TrainingDocument, data: str, tmp_path: Path
) -> None:
    base = TrainMaker(config=SHORT, folder=trained.folder).make(data)
    short = {"run": {"steps": 2, "device": "cpu"}, "finetune": {"lora_rank": 2}}
    tuned = FineTuneMaker(base=base.output.model, config=short, report=False).make(data)
    document = output(Flow([base, tuned]), tmp_path)
    assert document.errors_before is not None and document.errors_before["force_mae"] > 0
    assert document.n_trained < document.n_parameters
    assert document.configuration["base"] == trained.model.name
    assert "shifted" in document.notes["offsets"]


def test_wrong_base_is_refused_before_training(trained: TrainingDocument, data: str) -> None:
    wrong = FineTuneMaker(base=ModelRef(trained.model.name, sha256="0" * 64), config={"run": {"steps": 1}})
    with pytest.raises(DPA4Error, match="has sha256"):
        wrong.run(data)
    with pytest.raises(DPA4Error, match="trained without dispersion, drop it"):
        FineTuneMaker(base=ModelRef(trained.model.name, dispersion="d3bj-pbe")).run(data)
    with pytest.raises(DPA4Error, match="give it as base='other.dpa4'"):
        FineTuneMaker(config={"base": "other.dpa4"}).run(data)


def test_job_that_is_run_again_continues(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = TrainMaker(
        config=NETWORK | {"run": {"steps": 6, "save_every": 2, "device": "cpu"}}, folder=str(tmp_path / "r")
    )
    maker.report = False

    take = trainer.Trainer._take
    monkeypatch.setattr(trainer.Trainer, "_take", lambda self, item, asked: _stop_at(3, self, take, item, asked))
    with pytest.raises(EngineError, match="training was stopped after step 4"):
        output(maker.make(data), tmp_path)
    monkeypatch.undo()
    document = output(maker.make(data), tmp_path)
    assert document.n_steps == 6 and document.finished
    steps = [json.loads(line)["kind"] for line in (tmp_path / "r" / "log.jsonl").read_text().splitlines()]
    assert steps.count("start") == 1


def _stop_at(step: int, self: Any, take: Any, item: Any, asked: list[bool]) -> list[bool]:
    """A step after which a signal seems to have come."""
    answers = take(self, item, asked)
    return [self.counters.step == step, *answers[1:]]


def test_configuration_of_a_maker_is_checked(data: str) -> None:
    with pytest.raises(DPA4Error, match="unknown key 'stepz'"):
        TrainMaker(config={"run": {"stepz": 3}}).run(data)
    with pytest.raises(DPA4Error, match=r"data\.train names no source"):
        TrainMaker(config=NETWORK).run()
    plain = TrainMaker(config=TrainConfig.from_dict(SHORT | {"data": {"train": data}, "output": "x"}))
    assert isinstance(plain.config, dict)
    assert plain.configuration().data.train[0].path == data


@pytest.mark.fireworks
def test_workers_of_a_launchpad_train_and_use_the_model(site: Site, data: str, copper: Structure) -> None:
    train = TrainMaker(config=SHORT, report=False).make(data)
    static = DPA4StaticMaker(model=train.output.model).make(copper)
    submit_fireworks(Flow([train, static]), site.launchpad_file)
    site.work()
    with SETTINGS.JOB_STORE as store:
        trained, computed = (store.query_one({"uuid": job.uuid})["output"] for job in (train, static))
    assert computed["dpa4"]["model_sha256"] == trained["model"]["sha256"]
    assert Path(trained["model"]["name"]).is_relative_to(site.folder)


def test_a_committee_is_a_job_for_each_member_and_one_that_joins_them(
    trained: TrainingDocument, data: str, copper: Structure, tmp_path: Path
) -> None:
    base = ModelRef(trained.model.name)
    flow = FineTuneMaker(
        base=base,
        config={"run": {"steps": 1, "device": "cpu"}, "schedule": {"lr": 1e-3}},
        folder=str(tmp_path / "run"),
        report=False,
    ).make_committee(2, data)
    *members, last = (job for job, _ in flow.iterflow())
    assert len(members) == 2 and set(last.input_uuids) == {job.uuid for job in members}
    static = DPA4StaticMaker(model=flow.output.model).make(copper)
    responses = run_local(Flow([flow, static]), tmp_path)
    document = responses[last.uuid][1].output
    assert document.n_steps == 2 and document.validation.uncertainty["energy"]["std"] >= 0
    assert document.model.name == str(tmp_path / "run" / "model.dpa4")
    assert responses[static.uuid][1].output.dpa4.model_sha256 == document.model.sha256 == document.model.info().sha256
    trained_by = [responses[job.uuid][1].output.model.name for job in members]
    assert trained_by == [str(tmp_path / "run" / f"member-{k}" / "model.dpa4") for k in (1, 2)]
    with pytest.raises(DPA4Error, match="share a folder"):
        FineTuneMaker().make_committee(2, data)

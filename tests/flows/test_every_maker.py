"""What holds for every exported Maker: it computes with DPA4, takes a model in any form, and ignores nothing."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from atomate2.forcefields.jobs import ForceFieldRelaxMaker, ForceFieldStaticMaker
from jobflow import Flow, Job, Maker, OutputReference, job
from monty.json import MontyDecoder, MontyEncoder
from pymatgen.core import Structure
from test_campaign_kind import campaign_file
from toy_campaign import MORSE, rocksalt

import dpa4_flows
from dpa4_core.errors import DPA4Error
from dpa4_core.model.registry import sha256_of
from dpa4_flows import CampaignMaker, ModelRef, Screening
from dpa4_flows.campaigns.config import campaign_of, load_campaign
from dpa4_flows.campaigns.run import prepare_run
from dpa4_flows.engines import run_local
from dpa4_flows.makers.model_reference import takes_model
from dpa4_flows.makers.property import PropertyMaker
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.hull import Hull
from dpa4_flows.properties.stability import Stability

pytest.importorskip("phonopy")  # of DPA4PhononMaker

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # atomate2's phonons lag behind phonopy
    EXPORTED = [getattr(dpa4_flows, name) for name in dpa4_flows.__all__]
MAKERS = [cls for cls in EXPORTED if isinstance(cls, type) and issubclass(cls, Maker)]
FORCE_FIELD_JOBS = [cls for cls in MAKERS if issubclass(cls, ForceFieldRelaxMaker) or hasattr(cls, "calculator_meta")]
ATOMATE2_FLOWS = [cls for cls in MAKERS if hasattr(cls, "from_force_field_name")]
FROM_SCRATCH = "TrainMaker"  # has no model to start with
HALF = Structure(rocksalt("Mg").lattice, [{"Mg": 0.5, "Ca": 0.5}, "O"], [[0] * 3, [0.5] * 3])
NEO = ModelRef("dpa4-neo")
OTHER = ModelRef("toy_potentials:OMatMorse").resolve()

every_maker = pytest.mark.parametrize("cls", MAKERS, ids=lambda cls: cls.__name__)


def made(cls: type[Maker], model: Any = None) -> Maker:
    """A Maker without arguments, or with a model, and with what it cannot do without."""
    if cls is PropertyMaker:
        return cls(property=Elastic()) if model is None else cls(property=Elastic(), model=model)
    if cls is CampaignMaker:
        campaign = campaign_of({"campaign": {"name": "x", "candidates": ["x.cif"]}})
        return CampaignMaker(run=Screening("/x.sqlite", NEO, campaign, "none"), model=model)
    return cls() if model is None else cls(model=model)


def values(maker: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a Maker and in what it holds, with the way to it."""
    for field in dataclasses.fields(maker):
        value = getattr(maker, field.name)
        yield f"{at}.{field.name}", value
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from values(value, f"{at}.{field.name}")


def models(maker: Maker) -> dict[str, Any]:
    return {way: value for way, value in values(maker) if isinstance(value, ModelRef | OutputReference)}


@every_maker
def test_maker_without_arguments_computes_with_dpa4(cls: type[Maker]) -> None:
    maker = made(cls)
    if cls.__name__ == FROM_SCRATCH:
        assert models(maker) == {}
        return
    assert set(models(maker).values()) == {NEO}
    holders = [maker, *(value for _, value in values(maker) if isinstance(value, Maker))]
    for holder in holders:
        if isinstance(holder, ForceFieldRelaxMaker):
            assert isinstance(holder, dpa4_flows.DPA4RelaxMaker | dpa4_flows.DPA4StaticMaker)
            assert "CHGNet" not in json.dumps(holder, cls=MontyEncoder)


@every_maker
def test_names_paths_handles_and_outputs_are_models(
    cls: type[Maker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cls.__name__ == FROM_SCRATCH:
        return
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.dpa4"
    file.write_bytes(b"weights")
    pinned = ModelRef(str(file), sha256=sha256_of(file))
    output = OutputReference("a job").model
    for given, expected in (
        ("dpa4-neo", NEO),
        (MORSE, ModelRef(MORSE)),
        ("mine.dpa4", pinned),
        (file, pinned),
        ("mine.dpa4#branch", dataclasses.replace(pinned, name=f"{file}#branch")),
        ("/of/the/worker.dpa4", ModelRef("/of/the/worker.dpa4")),
        (ModelRef("mine.dpa4", dtype="float64"), ModelRef(str(file), dtype="float64")),
        (ModelRef("hub:someone/models/best.pt"), ModelRef("hub:someone/models/best.pt")),
        (output, output),
    ):
        maker = made(cls, given)
        found = models(maker)
        assert found and all(value == expected for value in found.values()), given


@every_maker
def test_what_is_no_model_is_refused_when_the_maker_is_made(cls: type[Maker]) -> None:
    if cls.__name__ == FROM_SCRATCH:
        return
    for given, sentence in (
        ("dpa4-noe", r"unknown model 'dpa4-noe' \(did you mean dpa4-neo\?\)"),
        (ModelRef("DPA4-NEO"), "did you mean dpa4-neo"),
        ("not/here.dpa4", "no model file not/here.dpa4 in .*absolute path"),
        (3, "job.output.model"),
    ):
        with pytest.raises(DPA4Error, match=sentence) as caught:
            made(cls, given)
        assert "\n" not in str(caught.value)


@every_maker
@pytest.mark.parametrize("model", [None, MORSE, OutputReference("a job").model], ids=str)
def test_maker_survives_json(cls: type[Maker], model: Any) -> None:
    maker = made(cls, None if cls.__name__ == FROM_SCRATCH else model)
    text = json.dumps(maker, cls=MontyEncoder)
    again = MontyDecoder().decode(text)
    assert type(again) is cls and json.dumps(again, cls=MontyEncoder) == text
    assert models(again) == models(maker)


@every_maker
def test_powerup_changes_the_model(cls: type[Maker]) -> None:
    if cls.__name__ == FROM_SCRATCH:
        return
    changed = models(made(cls).update_kwargs({"model": MORSE}))
    assert changed and set(changed.values()) == {ModelRef(MORSE)}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("force_field_name", "CHGNet"),
        ("force_field_name", "dpa4-neo"),
        ("force_field_name", {"@module": "ase.calculators.emt", "@callable": "EMT"}),
        ("calculator_meta", "deepmd.calculator.DP"),
        ("calculator_kwargs", {"model": "my.pt"}),
    ],
)
@pytest.mark.parametrize("cls", FORCE_FIELD_JOBS)
def test_fields_of_atomate2_without_effect_are_refused(cls: Any, field: str, value: Any) -> None:
    with pytest.raises(DPA4Error, match=rf"^{field} has no effect on {cls.__name__}.*: give model="):
        cls(**{field: value})
    with pytest.raises(DPA4Error, match=f"^{field} has no effect"):
        cls().update_kwargs({field: value})


@pytest.mark.parametrize("cls", ATOMATE2_FLOWS)
def test_flow_of_dpa4_refuses_another_force_field(cls: Any) -> None:
    with pytest.raises(DPA4Error, match=rf"use {cls.__name__}\(model="):
        cls.from_force_field_name("CHGNet")
    for field in (name for name in cls.__dataclass_fields__ if name.endswith("_maker")):
        with pytest.raises(DPA4Error, match=f"^{field} "):
            cls(**{field: ForceFieldStaticMaker(force_field_name="CHGNet")})
    assert cls.from_model(MORSE).as_dict() == cls(model=MORSE).as_dict()
    assert cls.from_model(MORSE, relax_initial_structure=False).bulk_relax_maker is None
    if "code" in cls.__dataclass_fields__:
        for field, value in (("code", "vasp"), ("socket", True)):
            with pytest.raises(DPA4Error, match=f"^{field} has no effect"):
                cls(**{field: value})


def test_lists_of_this_file_are_not_empty() -> None:
    assert len(MAKERS) >= 15 and len(FORCE_FIELD_JOBS) == 3 and len(ATOMATE2_FLOWS) == 2


def test_two_models_in_one_flow_are_refused() -> None:
    other = dpa4_flows.BatchRelaxMaker(model="toy_potentials:OMatMorse")
    with pytest.raises(
        DPA4Error, match=r"'DPA4 batch relax' has the model toy_potentials:OMatMorse .*name the model once"
    ):
        dpa4_flows.CorrectionRefitMaker(relax_maker=other, model=MORSE)


@job
def chosen() -> dict[str, ModelRef]:
    """Stands for a training job: its model is known when it has run."""
    return {"model": OTHER}


@dataclasses.dataclass
class TwoSteps(Maker):
    """A Maker of a user: others in a list and in a table."""

    name: str = "two steps"
    first: list[Maker] = dataclasses.field(default_factory=list)
    then: dict[str, Maker] = dataclasses.field(default_factory=dict)

    @takes_model(job)
    def make(self, structure: Structure) -> list[str]:
        made = [maker.make.original(maker, structure) for maker in (*self.first, *self.then.values())]
        return [document.dpa4.model_name for document in made]


def test_references_in_lists_and_tables_of_makers_are_found(tmp_path: Path) -> None:
    first = chosen()
    parts = [dpa4_flows.DPA4StaticMaker(model=first.output["model"]), dpa4_flows.DPA4StaticMaker(model=MORSE)]
    last = TwoSteps(first=parts, then={"again": parts[0]}).make(rocksalt("Mg"))
    answer = run_local(Flow([first, last]), tmp_path)[last.uuid]
    assert answer[max(answer)].output == [OTHER.name, MORSE, OTHER.name]


def test_a_campaign_takes_the_model_of_an_earlier_job(tmp_path: Path) -> None:
    file = campaign_file(tmp_path, model={"name": f'"{OTHER.name}"'})
    run = prepare_run(load_campaign(file), tmp_path / "run").run
    first = chosen()
    flow = CampaignMaker(run=run, model=first.output["model"]).make()
    run_local(Flow([first, flow]), tmp_path / "jobs")
    table = run.open()
    assert len(table.ranking()) == 3
    assert {d.provenance.model_sha256 for d in table.iter_calculations()} == {OTHER.sha256}


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: dpa4_flows.DPA4RelaxMaker().make(), r"DPA4RelaxMaker\.make needs structure"),
        (lambda: dpa4_flows.DPA4RelaxMaker().make("Mg.cif"), "structure is a pymatgen Structure or .*, not 'Mg.cif'"),
        (
            lambda: dpa4_flows.DPA4RelaxMaker().make(rocksalt("Mg"), fmax=1),
            "takes no fmax; it takes structure, prev_dir",
        ),
        (lambda: dpa4_flows.DPA4StaticMaker().make(HALF), "partial"),
        (lambda: dpa4_flows.DPA4ElasticMaker().make("Mg.cif"), "structure is a pymatgen Structure.*, not 'Mg.cif'"),
        (lambda: dpa4_flows.BatchRelaxMaker().make([3]), "structures is .*, or the output of a job, not .3."),
        (lambda: dpa4_flows.TrainMaker(config={"run": {"stepz": 5}}), "unknown key 'stepz'; did you mean 'steps'"),
        (lambda: dpa4_flows.TrainMaker().make(), "data.train names no source"),
        (lambda: dpa4_flows.TrainMaker().make(5), "train_data is text or a list .*, not 5"),
        (lambda: dpa4_flows.FineTuneMaker(config={"finetune": {"offsets": "none"}}), "must be one of shift, keep"),
        (lambda: dpa4_flows.EvaluateMaker(keys={"enrgy": "E"}), "unknown key 'enrgy'; did you mean 'energy'"),
    ],
)
def test_arguments_are_checked_when_a_flow_is_built(build: Any, sentence: str) -> None:
    """Not when its jobs run, after a training was paid for."""
    with pytest.raises(DPA4Error, match=sentence) as caught:
        build()
    assert "\n" not in str(caught.value)


def flows_of(model: OutputReference, crystal: Structure, folder: Path) -> dict[str, Flow | Job]:
    table = str(folder / "results.sqlite")
    hull = dpa4_flows.ConvexHullMaker(property=Hull(corrections="none", library=None))
    stability = Stability(phonons=None, elastic=None, hull=hull.property)
    return {
        "hull in stability": dpa4_flows.StabilityMaker(model=model, property=stability).make([crystal], table),
        "hull": dataclasses.replace(hull, model=model).make([crystal], table),
        "strains": dpa4_flows.BatchElasticMaker(property=Elastic(strains=(-0.01, 0.01)), model=model).make([crystal]),
    }


@pytest.mark.parametrize("kind", flows_of(OutputReference("a job").model, rocksalt("Mg"), Path()))
def test_output_of_a_job_is_a_model_at_any_depth(kind: str, tmp_path: Path) -> None:
    first = chosen()
    flow = flows_of(first.output["model"], rocksalt("Mg"), tmp_path)[kind]
    replies = run_local(Flow([first, flow]), tmp_path)[flow.output.uuid]
    output = replies[max(replies)].output
    table = dpa4_flows.ResultsTable(tmp_path / "results.sqlite")
    if kind == "strains":
        assert [part["provenance"]["model_name"] for part in output.documents] == [OTHER.name]
        return
    assert [d.provenance.model_name for d in output.documents] == [OTHER.name]
    assert {d.provenance.model_sha256 for d in table.iter_calculations()} == {OTHER.sha256}

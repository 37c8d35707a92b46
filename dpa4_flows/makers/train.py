"""Training, fine-tuning and evaluation as jobs; the model that comes out feeds later jobs of the same flow.

train = FineTuneMaker(config={"run": {"epochs": 20}}).make("/data/frames.extxyz")
relax = DPA4RelaxMaker(model=train.output.model).make(structure)
responses = run_local(Flow([train, relax]), "run")
"""

from __future__ import annotations

import json
import time
from dataclasses import InitVar, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from jobflow import CURRENT_JOB, Flow, Maker, OutputReference, job

from dpa4_core.data.frames import LabelKeys
from dpa4_core.errors import DPA4Error
from dpa4_core.evaluate import Metrics, evaluate
from dpa4_core.strict import build
from dpa4_core.train.config import TrainConfig
from dpa4_flows.documents.provenance import provenance
from dpa4_flows.documents.training import ErrorRow, EvaluationDocument, MetricsDocument, TrainingDocument
from dpa4_flows.makers.model_reference import ModelField, ModelLike, takes_model
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.report.committee import write_committee_report
from dpa4_flows.report.training import write_training_report
from dpa4_flows.training import (
    MODEL_FILE,
    committee_members,
    measure,
    members_without_gain,
    read_run,
    ready,
    run_training,
    worse_sentences,
)

MAX_GROUPS = 1000
"""Longer lists of groups do not belong into a document of a database."""

MAX_ERRORS = 1000

_UNKNOWN_YET = "what an earlier job writes"


@dataclass
class TrainMaker(Maker):
    """Train a model on labelled frames.

    Args:
        name: name of the job, and of the model unless ``config`` has one.
        config: a `dpa4_core.train.config.TrainConfig` or its fields as plain nested values; what is given to ``make``
            takes the place of its data.
        folder: where the run lives, best absolute and on a file system that outlives the job; a job that is run again
            continues the run it finds there. None: ``output`` of ``config``, or else a folder in the one that the job
            runs in.
        report: write ``report.html``.
    """

    name: str = "DPA4 train"
    config: dict[str, Any] = field(default_factory=dict)
    folder: str | None = None
    report: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.config, TrainConfig):
            self.config = self.config.to_dict()
        self._configured({"train": _UNKNOWN_YET}, {})

    def at_build(self, train_data: Any = None, validation_data: Any = None, *others: Any, **more: Any) -> None:
        """What is known of the configuration when the job is made, checked there.

        Raises:
            TrainConfigError: it cannot work, as without any data.
        """
        given = {"train": train_data, "validation": validation_data}
        data = {k: _UNKNOWN_YET if isinstance(v, OutputReference) else v for k, v in given.items() if v is not None}
        self._configured({}, data)

    def _configured(self, data_by_default: dict[str, Any], data: dict[str, Any]) -> TrainConfig:
        fields: dict[str, Any] = {
            "name": self.name,
            "output": "",
            **json.loads(json.dumps(self.config)),
            **self._base(),
        }
        fields["data"] = {**data_by_default, **fields.get("data", {}), **data}
        return TrainConfig.from_dict(fields, where=self.name)

    def _base(self) -> dict[str, Any]:
        return {}

    @takes_model(job(output_schema=TrainingDocument))
    def make(
        self,
        train_data: str | list[str] | None = None,
        validation_data: str | list[str] | None = None,
        prev_dir: str | Path | None = None,
        members: list[str] | None = None,
    ) -> TrainingDocument:
        """Train, or continue a run that was stopped.

        Args:
            train_data: files or folders of labelled frames, absolute where another machine does the work; by default
                what ``config`` names.
            validation_data: frames to validate on; by default some of ``train_data`` are set aside.
            prev_dir: not used; there because other atomate2 Makers have it.
            members: folders of the members of a committee that earlier jobs have trained.

        Raises:
            DPA4Error: data, model or configuration that cannot work; a run that was stopped by a signal: run the job
                again.
        """
        return self.run(train_data, validation_data)

    def make_committee(
        self,
        n_members: int,
        train_data: str | list[str] | None = None,
        validation_data: str | list[str] | None = None,
        *,
        differ_by: Literal["folds", "seed"] = "folds",
    ) -> Flow:
        """Train several models side by side, a job each, and join them; the output of the flow is the document of all.

        Args:
            n_members: models.
            train_data, validation_data: as for `make`.
            differ_by: see `dpa4_core.train.config.CommitteeConfig`.

        Raises:
            DPA4Error: there is no ``folder``, which the jobs must share.
        """
        if self.folder is None:
            raise DPA4Error("the jobs of a committee share a folder: name one that all of them see, folder='/...'")
        name = self.config.get("name", self.name)
        jobs = []
        for member in range(n_members + 1):
            config = {"committee": {"members": n_members, "differ_by": differ_by, "member": member}, "name": name}
            maker = replace(self, config={**self.config, **config})
            if member:
                maker.name, maker.config["name"] = f"{self.name}, member {member}", f"{name}-{member}"
                maker.folder = str(Path(self.folder) / f"member-{member}")
            jobs.append(maker)
        whole, *each = jobs
        trained = [maker.make(train_data, validation_data) for maker in each]
        last = whole.make(train_data, validation_data, members=[job.output.folder for job in trained])
        return Flow([*trained, last], output=last.output, name=f"{self.name}, committee")

    def run(
        self, train_data: str | list[str] | None = None, validation_data: str | list[str] | None = None
    ) -> TrainingDocument:
        """What the job does, without jobflow."""
        config = self.configuration(train_data, validation_data)
        started = time.monotonic()
        result = run_training(config)
        if result.status != "finished" or result.model is None:
            raise DPA4Error(f"training was stopped after step {result.step}; the same job continues in {result.folder}")
        measured, whole = measure(result.folder, device=config.run.device), config.committee.is_whole
        write_report = write_committee_report if whole else write_training_report
        report = write_report(result.folder) if self.report else None
        document = _committee_document if whole else _document
        return document(result.folder, config, measured, report, time.monotonic() - started)

    def configuration(
        self, train_data: str | list[str] | None = None, validation_data: str | list[str] | None = None
    ) -> TrainConfig:
        """The whole configuration of the run, see `make`."""
        given = {"train": train_data, "validation": validation_data}
        config = self._configured({}, {key: files for key, files in given.items() if files is not None})
        return ready(replace(config, output=self.folder or config.output or _own_folder()))


@dataclass
class FineTuneMaker(TrainMaker):
    """Train a model further on labelled frames; the offsets of the energies are shifted to those of the frames first.

    Args:
        name: name of the job, and of the model unless ``config`` has one.
        base: model to start from; or ``job.output.model`` of an earlier job in the same flow.
        model: another name of ``base``.

    The other fields are those of `TrainMaker`; ``config={"finetune": {"lora_rank": 8}}`` trains adapters only.
    """

    name: str = "DPA4 fine-tune"
    base: ModelField = ModelField()
    model: InitVar[ModelLike | None] = field(default=None, kw_only=True)

    def __post_init__(self, model: ModelLike | None) -> None:
        if model is not None:
            self.base = model
        super().__post_init__()
        named = self.config.get("base")
        if named is not None and ModelRef(named).located().name != self.base.name:
            raise DPA4Error(f"config names the base {named!r}: give it as base={named!r} instead")

    def _base(self) -> dict[str, Any]:
        return {"base": "" if isinstance(self.base, OutputReference) else self.base.name}

    @takes_model(job(output_schema=TrainingDocument))
    def make(
        self,
        train_data: str | list[str] | None = None,
        validation_data: str | list[str] | None = None,
        prev_dir: str | Path | None = None,
        members: list[str] | None = None,
    ) -> TrainingDocument:
        """Fine-tune, or continue a run that was stopped; arguments as for `TrainMaker`."""
        return self.run(train_data, validation_data)

    def configuration(
        self, train_data: str | list[str] | None = None, validation_data: str | list[str] | None = None
    ) -> TrainConfig:
        """The whole configuration of the run; the checksum of the base model is checked."""
        if self.base.dispersion is not None:
            raise DPA4Error(f"{self.base.title} cannot be fine-tuned: networks are trained without dispersion, drop it")
        base = self.base.resolve()
        return super(FineTuneMaker, replace(self, base=base)).configuration(train_data, validation_data)


@dataclass
class EvaluateMaker(Maker):
    """Compare a model with the energies, forces and stresses of labelled frames.

    Args:
        name: name of the job.
        model: potential; or ``job.output.model`` of a training job in the same flow.
        max_atoms_per_batch: atoms computed at the same time; None leaves it to the device.
        keys: what the labels are called, if not as usual: fields of `dpa4_core.data.frames.LabelKeys`.
    """

    name: str = "DPA4 evaluate"
    model: ModelField = ModelField()
    max_atoms_per_batch: int | None = None
    keys: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        build(LabelKeys, self.keys, f"{self.name}, keys")

    @takes_model(job(output_schema=EvaluationDocument))
    def make(self, data: str | list[str], prev_dir: str | Path | None = None) -> EvaluationDocument:
        """Evaluate.

        Args:
            data: files or folders of labelled frames.
            prev_dir: not used; there because other atomate2 Makers have it.
        """
        started = time.monotonic()
        files = [data] if isinstance(data, str) else list(data)
        model = self.model
        potential: Any
        potential = model.head() or model.load()
        model = model.resolve()
        info = model.info()
        budget = self.max_atoms_per_batch
        metrics = evaluate(files, potential, keys=LabelKeys(**self.keys), max_atoms_per_batch=budget)
        settings = {"dtype": self.model.dtype, "keys": self.keys}
        return EvaluationDocument(
            model=model,
            data=files,
            metrics=metrics_document(metrics),
            provenance=provenance(info, settings, wall_time_s=time.monotonic() - started),
        )


def metrics_document(metrics: Metrics | dict[str, Any]) -> MetricsDocument:
    """Document of what `dpa4_core.evaluate` found, or of the same as plain values."""
    found = metrics if isinstance(metrics, dict) else vars(metrics)
    plain = {name: found[name] for name in MetricsDocument.model_fields if name in found}
    groups = found["by_group"] if len(found["by_group"]) <= MAX_GROUPS else {}
    return MetricsDocument(
        **plain
        | {
            "by_element": [_row(name, values, "n_atoms") for name, values in found["by_element"].items()],
            "by_group": [_row(name, values, "n_structures") for name, values in groups.items()],
            "errors": [tuple(error) for error in found["errors"][:MAX_ERRORS]],
        }
    )


def _row(name: str, values: dict[str, float], count: str) -> ErrorRow:
    return ErrorRow(name=name, n=int(values[count]), **{key: value for key, value in values.items() if key != count})


def _committee_document(
    folder: Path, config: TrainConfig, measured: dict[str, Any], report: Path | None, wall_time_s: float
) -> TrainingDocument:
    """The document of the first member with the model and the errors of the whole, and the effort of all members."""
    members = [_document(member, config, {}, None, wall_time_s) for member in committee_members(folder)]
    model = ModelRef(str(folder / MODEL_FILE), dtype=config.run.dtype).resolve()
    validation = measured.get("validation") or {}
    changes = {name: sum(getattr(one, name) for one in members) for name in ("n_steps", "n_skipped", "n_trained")}
    return members[0].model_copy(
        update={
            **changes,
            "model": model,
            "folder": str(folder),
            "report": None if report is None else str(report),
            "finished": all(one.finished for one in members),
            "errors": {key: value for key, value in validation.items() if key in members[0].errors},
            "validation": metrics_document(validation) if validation else None,
            "warnings": [
                *dict.fromkeys(text for one in members for text in one.warnings),
                *members_without_gain(folder),
            ],
            "provenance": provenance(model, members[0].provenance.settings, wall_time_s=wall_time_s),
        }
    )


def _document(
    folder: Path, config: TrainConfig, measured: dict[str, Any], report: Path | None, wall_time_s: float
) -> TrainingDocument:
    run = read_run(folder)
    model_file = run.folder / MODEL_FILE
    model = ModelRef(str(model_file), dtype=config.run.dtype).resolve()
    info = model.info()
    data = run.start["data"]
    best = run.best or {}
    parts = {name: measured.get(name) for name in ("validation", "train")}
    return TrainingDocument(
        model=model,
        folder=str(run.folder),
        report=None if report is None else str(report),
        finished=run.end is not None,
        shortened=run.decay[-1]["why"] if run.decay else None,
        n_steps=run.step,
        n_skipped=len(run.skipped),
        n_parameters=run.start["n_parameters"],
        n_trained=run.start["n_trained"],
        n_frames_train=data["n_train"],
        n_frames_validation=data["n_validation"],
        n_frames_left_out=data["n_left_out"],
        errors={key: value for key, value in best.items() if key.endswith(("_mae", "_rmse")) and value is not None},
        errors_before=measured.get("base"),
        forgetting=measured.get("forgetting"),
        learning_rate=run.start.get("learning_rate"),
        **{name: None if part is None else metrics_document(part) for name, part in parts.items()},
        notes=run.start["notes"],
        warnings=[
            *(sentence for source in data["sources"].values() for sentence in source["warnings"]),
            *(doubt["text"] for doubt in run.start.get("doubts", ())),
            *worse_sentences(measured, run.config),
        ],
        configuration=config.to_dict(),
        provenance=provenance(info, {"steps": run.step, "seed": config.run.seed}, wall_time_s=wall_time_s),
    )


def _own_folder() -> str:
    """A folder of this job in the one that it runs in: the jobs of a local flow share that."""
    current = CURRENT_JOB.job
    return str(Path("training" if current is None else f"training-{current.uuid[:8]}").absolute())

"""Documents of training and evaluation jobs; apart from the others because a `ModelRef` needs torch."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dpa4_flows.documents.schemas import Document, Provenance
from dpa4_flows.model_ref import ModelRef


class ErrorRow(Document):
    """Errors on the atoms of one element, or on the frames of one group."""

    name: str = Field(description="Element or group")
    n: int = Field(description="Atoms of the element with reference forces, or frames of the group")
    energy_mae: float | None = Field(None, description="Mean absolute error of the energy, eV/atom")
    force_mae: float | None = Field(None, description="Mean absolute error of force components, eV/Å")
    force_rmse: float | None = Field(None, description="Root mean square error of force components, eV/Å")
    stress_mae: float | None = Field(None, description="Mean absolute error of stress components, eV/Å³")
    property_mae: float | None = Field(None, description="Mean absolute error of a property model, in its unit")


class MetricsDocument(Document):
    """Errors of a model on labelled frames; None where no frame has the label."""

    n_structures: int = Field(description="Frames that were compared")
    n_atoms: int = Field(description="Atoms in them")
    energy_mae: float | None = Field(None, description="Mean absolute error of the energy, eV/atom")
    energy_rmse: float | None = Field(None, description="Root mean square error of the energy, eV/atom")
    force_mae: float | None = Field(None, description="Mean absolute error of force components, eV/Å")
    force_rmse: float | None = Field(None, description="Root mean square error of force components, eV/Å")
    force_norm_mae: float | None = Field(None, description="Mean norm of the force error per atom, eV/Å")
    force_cosine: float | None = Field(None, description="Mean cosine between predicted and reference forces")
    stress_mae: float | None = Field(None, description="Mean absolute error of stress components, eV/Å³")
    stress_rmse: float | None = Field(None, description="Root mean square error of stress components, eV/Å³")
    property_name: str = Field("", description="What a property model is about; empty for a potential")
    property_unit: str = Field("", description="Its unit")
    property_mae: float | None = Field(None, description="Mean absolute error of a property model, in its unit")
    property_rmse: float | None = Field(None, description="Root mean square error of a property model, in its unit")
    by_element: list[ErrorRow] = Field(default_factory=list, description="Force errors per element")
    by_group: list[ErrorRow] = Field(default_factory=list, description="Errors per group; empty above 1000 groups")
    uncertainty: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="Of a committee, for energy (eV/atom), force (eV/Å) and stress (eV/Å³): root mean squares of "
        "errors (rmse) and deviations (std), their ratio and rank correlation (spearman); see dpa4_core.calibration",
    )
    errors: list[tuple[str, str]] = Field(
        default_factory=list, description="Name and sentence of frames that could not be compared, the first thousand"
    )


class TrainingDocument(Document):
    """A trained model and how it came about."""

    model: ModelRef = Field(description="The model: absolute path and checksum; input of later jobs")
    folder: str = Field(description="Folder of the run, absolute")
    report: str | None = Field(None, description="HTML report, absolute path")
    finished: bool = Field(description="Whether the learning-rate schedule came to its end")
    shortened: str | None = Field(None, description="Why the run ended early, for example the time limit")
    n_steps: int = Field(description="Optimiser steps")
    n_skipped: int = Field(0, description="Steps without a finite loss or gradient, which were not taken")
    n_parameters: int = Field(description="Parameters of the network")
    n_trained: int = Field(description="Parameters that were trained")
    n_frames_train: int = Field(description="Labelled frames that were trained on")
    n_frames_validation: int = Field(description="Labelled frames set aside for validation")
    n_frames_left_out: int = Field(0, description="Frames or labels that were not used")
    errors: dict[str, float] = Field(
        default_factory=dict, description="Errors at the best validation: eV/atom, eV/Å, eV/Å³, or the property's unit"
    )
    errors_before: dict[str, float] | None = Field(
        None, description="The same before the first step, with shifted offsets, for a fine-tuned model"
    )
    validation: MetricsDocument | None = Field(None, description="Errors of the stored model on the validation frames")
    train: MetricsDocument | None = Field(None, description="The same on a sample of the training frames")
    forgetting: dict[str, Any] | None = Field(
        None,
        description="Changes of other systems against the base, median and largest: energy in eV/atom, force in eV/Å; "
        "of a fine-tuned model",
    )
    learning_rate: dict[str, Any] | None = Field(
        None, description="Largest learning rate and the trial steps that found it, see dpa4_core.train.probe.Probe"
    )
    notes: dict[str, Any] = Field(default_factory=dict, description="What was done before the first step")
    warnings: list[str] = Field(
        default_factory=list, description="Doubts about data and model, one sentence each with the setting to change"
    )
    configuration: dict[str, Any] = Field(description="The whole configuration, as TrainConfig.to_dict gives it")
    provenance: Provenance


class EvaluationDocument(Document):
    """Errors of a model on labelled frames."""

    model: ModelRef = Field(description="The model that was evaluated, with its checksum")
    data: list[str] = Field(description="Files and folders of the frames")
    metrics: MetricsDocument
    provenance: Provenance

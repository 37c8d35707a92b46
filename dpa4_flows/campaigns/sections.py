"""Tables of a campaign file that every kind of campaign has, and what the tables of its stages are made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from dpa4_core.dispersion.d3 import damping_of
from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.schemes import PUBLISHED as SCHEMES
from dpa4_flows.analysis.schemes import REFIT
from dpa4_flows.documents.calculations import RATTLE
from dpa4_flows.documents.quantities import Goal
from dpa4_flows.model_ref import ModelRef

REFIT_SUFFIXES = (".yaml", ".yml")
CACHE, NONE = "cache", "none"
"""Names that stand for the library in the cache folder of the program, and for no library."""

_MODEL_FILE_SUFFIXES = (".pt", ".dpa4", ".safetensors")


class ConfigError(DPA4Error):
    """A campaign file cannot be used; one sentence that names file, key and remedy."""


class Section(BaseModel):
    """One table of a campaign file. Unknown keys are errors: a typing mistake never runs with a default in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def part_of(table: Section, kind: type[Section]) -> dict[str, Any]:
    """The values of a table whose keys are those of ``kind``, without its limits and what else it holds."""
    return {name: getattr(table, name) for name in kind.model_fields}


class InputFile(str):
    """Absolute path of a file that a campaign reads: what is in it decides about results, and not where it lies."""

    __slots__ = ()


def files_in(value: Any) -> list[InputFile]:
    """Those that the value of a key names."""
    return [one for one in (value if isinstance(value, list | tuple) else (value,)) if isinstance(one, InputFile)]


def checked_path(value: str, info: ValidationInfo, what: str) -> Path:
    """Absolute path, which must exist while a campaign file is read.

    A job that gets the campaign on another machine, or a later `dpa4 resume`, need not have the files.
    """
    path = Path(value).expanduser()
    if not info.context:
        return path if path.is_absolute() else path.resolve()
    path = (info.context["folder"] / path).resolve()
    if not path.exists():
        raise ValueError(f"{what} {path} does not exist")
    return path


def input_file(value: str, info: ValidationInfo, what: str = "file") -> InputFile:
    """Absolute path of a file; relative to the folder of the campaign file."""
    return InputFile(checked_path(value, info, what))


def _model_name(value: str, info: ValidationInfo) -> str:
    """A registry name, hub address or import path as it is; a model file as an absolute path."""
    file, mark, branch = value.partition("#")
    if value.startswith("hub:") or not file.endswith(_MODEL_FILE_SUFFIXES):
        return value
    return f"{checked_path(file, info, 'model file')}{mark}{branch}"


def _dispersion(value: str) -> str:
    """The name of a dispersion."""
    try:
        damping_of(value)
    except DPA4Error as error:
        raise ValueError(str(error)) from None
    return value


def _further_model(value: str, info: ValidationInfo) -> str:
    """The same of a model that is not that of the campaign, which must exist."""
    found = _model_name(value, info)
    ModelRef(found).located()
    return found


def _correction_scheme(value: str, info: ValidationInfo) -> str:
    """A published scheme or a refit by name; the file of a refit as an absolute path."""
    if value in (*SCHEMES, "auto") or value.startswith(REFIT):
        return value
    if value.endswith(REFIT_SUFFIXES):
        return input_file(value, info, "correction scheme")
    raise ValueError(
        f"{value!r} is not allowed; expected 'auto', {', '.join(map(repr, SCHEMES))} or the .yaml file of a refit"
    )


def _library(value: str, info: ValidationInfo) -> str:
    """``cache``, ``none``, or a folder as an absolute path; it need not exist yet."""
    if value in (CACHE, NONE):
        return value
    folder = info.context["folder"] if info.context else Path()
    return str((folder / Path(value).expanduser()).resolve())


ModelName = Annotated[str, AfterValidator(_further_model)]
StructureFile = Annotated[str, AfterValidator(input_file)]


class Limits(Section):
    """What a quantity may be. Limits on a quantity whose magnitude counts are on its magnitude."""

    min: float | None = None
    max: float | None = None
    otherwise: Literal["reject", "flag"] = Field("reject", description="What becomes of a candidate beyond them")

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise ValueError(f"min {self.min:g} is not below max {self.max:g}")
        return self


class CampaignSection(Section):
    """What is screened, and in which stages."""

    name: str = Field(description="Name of the campaign and of its run folder")
    kind: str = Field(description="Name of the kind of campaign, or package.module:NAME")
    stages: list[str] = Field(description="The stages in their order; all of its kind where a file does not say")
    candidates: list[StructureFile] = Field(min_length=1, description="Files with candidate structures")

    @model_validator(mode="after")
    def _name_is_a_folder_name(self) -> CampaignSection:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(f"name {self.name!r} must consist of letters, digits, '-', '_' and '.'")
        return self


class ModelSection(Section):
    """Which potential computes everything in the campaign."""

    name: Annotated[str, AfterValidator(_model_name)] = Field(
        "dpa4-neo", description="Registry name, model file, or package.module:callable"
    )
    sha256: str | None = Field(None, description="Refuse any other file; None takes what the registry says")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:0, mps")
    dtype: Literal["float32", "float64"] = "float32"
    dispersion: Annotated[str, AfterValidator(_dispersion)] | None = Field(
        None, description="Dispersion that is added, d3bj-pbe; a file without the key has none"
    )
    threads: int = Field(0, ge=0, description="CPU threads, 0 leaves the choice to torch")


class EngineSection(Section):
    """How the work is cut into jobs; changes no number."""

    chunk_size: int = Field(100, ge=1, description="Structures in one job, where workers share the run")
    max_atoms_per_batch: int | None = Field(
        None, ge=1, description="Atoms relaxed at the same time; None is what suits the device"
    )


class ObjectiveSection(Section):
    """How one quantity counts in the score; what a file does not say is what the quantity declares."""

    weight: float = Field(1.0, ge=0, description="Share of the score, relative to the other weights")
    goal: Goal = Field(description="More is better, less is better, small magnitude is")
    low: float = Field(description="Value at one end of the scale; what lies below counts as this")
    high: float = Field(description="Value at the other end; what lies above counts as this")

    @model_validator(mode="after")
    def _scale(self) -> ObjectiveSection:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        return self


class RelaxSection(Section):
    """When a relaxation has ended: of candidates and of everything that is compared with them."""

    fmax: float = Field(0.02, gt=0, le=1, description="Largest generalised force, eV/Å")
    max_steps: int = Field(500, ge=1, description="Optimiser steps before a structure counts as unconverged")
    rattle: float = Field(RATTLE, ge=0, le=0.2, description="Width of the random displacements before relaxing, Å")
    check_minimum: bool = Field(True, description="Look for a way down from where forces vanish, and go it")


class HullSection(Section):
    """Competing phases and corrections."""

    competing: list[StructureFile] = Field(default_factory=list, description="Files with competing phases")
    bundled: bool = Field(True, description="Compounds that come with the program compete; elements always do")
    prototypes: bool = Field(True, description="Propose compounds of two or three elements where none is known")
    corrections: Annotated[str, AfterValidator(_correction_scheme)] = Field(
        "auto", description="Correction scheme, or the .yaml file of a refit; auto is the one that fits the model"
    )
    library: Annotated[str, AfterValidator(_library)] = Field(
        CACHE, description="Library of competing phases to take from and to add to: cache, none, or a folder"
    )

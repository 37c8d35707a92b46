"""Campaign files: TOML to frozen, validated settings, and one sentence for everything that can be wrong with them.

A campaign file names candidates, model and thresholds. Paths in it are relative to the file. Unknown keys are
errors, so that a typing mistake never runs with a default in silence.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from dpa4_core.digests import digest
from dpa4_core.errors import DPA4Error
from dpa4_flows.analysis.ions import ion_charge
from dpa4_flows.analysis.schemes import PUBLISHED as SCHEMES
from dpa4_flows.analysis.schemes import REFIT
from dpa4_flows.calculations import RATTLE
from dpa4_flows.quantities import quantity

_REFIT_SUFFIXES = (".yaml", ".yml")
_MODEL_FILE_SUFFIXES = (".pt", ".dpa4", ".safetensors")


class ConfigError(DPA4Error):
    """A campaign file cannot be used; one sentence that names file, key and remedy."""


def _existing_file(value: str, info: ValidationInfo) -> str:
    """Absolute path of a structure file; relative to the folder of the campaign file."""
    return str(_checked_path(value, info, "file"))


def _model_name(value: str, info: ValidationInfo) -> str:
    """A registry name, hub address or import path as it is; a model file as an absolute path."""
    file, mark, branch = value.partition("#")
    if value.startswith("hub:") or not file.endswith(_MODEL_FILE_SUFFIXES):
        return value
    return f"{_checked_path(file, info, 'model file')}{mark}{branch}"


def _working_ion(value: str) -> str:
    ion_charge(value)
    return value


def _correction_scheme(value: str, info: ValidationInfo) -> str:
    """A published scheme or a refit by name; the file of a refit as an absolute path."""
    if value in (*SCHEMES, "auto") or value.startswith(REFIT):
        return value
    if value.endswith(_REFIT_SUFFIXES):
        return str(_checked_path(value, info, "correction scheme"))
    raise ValueError(
        f"{value!r} is not allowed; expected 'auto', {', '.join(map(repr, SCHEMES))} or the .yaml file of a refit"
    )


def _library(value: str, info: ValidationInfo) -> str:
    """``cache``, ``none``, or a folder as an absolute path; it need not exist yet."""
    if value in ("cache", "none"):
        return value
    folder = info.context["folder"] if info.context else Path()
    return str((folder / Path(value).expanduser()).resolve())


def _checked_path(value: str, info: ValidationInfo, what: str) -> Path:
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


StructureFile = Annotated[str, AfterValidator(_existing_file)]


class Section(BaseModel):
    """One table of a campaign file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelSection(Section):
    """Which potential computes everything in the campaign."""

    name: Annotated[str, AfterValidator(_model_name)] = Field(
        "dpa4-neo", description="Registry name, model file, or package.module:callable"
    )
    sha256: str | None = Field(None, description="Refuse any other file; None takes what the registry says")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:0, mps")
    dtype: Literal["float32", "float64"] = "float32"
    threads: int = Field(0, ge=0, description="CPU threads, 0 leaves the choice to torch")


class SanitySection(Section):
    """What a structure must satisfy before any computer time is spent on it."""

    max_atoms: int = Field(200, ge=1, description="Atoms in the input cell")
    min_distance_ratio: float = Field(
        0.5, gt=0, lt=1.5, description="Shortest distance over the sum of the covalent radii"
    )
    require_redox_metal: bool = Field(True, description="An oxidisable transition metal must be present")


class RelaxSection(Section):
    """When a relaxation has ended."""

    fmax: float = Field(0.02, gt=0, le=1, description="Largest generalised force, eV/Å")
    max_steps: int = Field(500, ge=1, description="Optimiser steps before a structure counts as unconverged")
    rattle: float = Field(RATTLE, ge=0, le=0.2, description="Width of the random displacements before relaxing, Å")
    check_minimum: bool = Field(True, description="Look for a way down from where forces vanish, and go it")
    max_volume_change_percent: float = Field(30.0, gt=0, description="Larger changes on relaxation are flagged, %")
    duplicate_window: float = Field(
        0.01, ge=0, le=0.1, description="Equal structures this close in energy after relaxation are one, eV/atom"
    )


class HullSection(Section):
    """Competing phases, corrections and how far above the hull a candidate may lie."""

    competing: list[StructureFile] = Field(default_factory=list, description="Files with competing phases")
    bundled: bool = Field(True, description="Compounds that come with the program compete; elements always do")
    prototypes: bool = Field(True, description="Propose compounds of two or three elements where none is known")
    corrections: Annotated[str, AfterValidator(_correction_scheme)] = Field(
        "auto", description="Correction scheme, or the .yaml file of a refit; auto is the one that fits the model"
    )
    library: Annotated[str, AfterValidator(_library)] = Field(
        "cache", description="Library of competing phases to take from and to add to: cache, none, or a folder"
    )
    max_energy_above_hull: float = Field(0.05, ge=0, description="eV/atom")


class ChargedSection(Section):
    """Stability of the host without the working ion."""

    check_minimum: bool = Field(False, description="Look for a way down from where forces vanish, and go it")
    max_energy_above_hull: float = Field(0.2, ge=0, description="eV/atom")


class ElectrodeSection(Section):
    """Limits on the electrode properties."""

    min_voltage: float = Field(2.5, description="V against the working-ion metal")
    max_voltage: float = Field(4.5, description="V against the working-ion metal")
    min_capacity_grav: float = Field(100.0, ge=0, description="mAh/g of the discharged material")
    max_volume_change_percent: float = Field(10.0, gt=0, description="Absolute change, %; larger ones are flagged")

    @model_validator(mode="after")
    def _ordered(self) -> ElectrodeSection:
        if self.min_voltage >= self.max_voltage:
            raise ValueError(f"min_voltage {self.min_voltage} V is not below max_voltage {self.max_voltage} V")
        return self


class ObjectiveSection(Section):
    """How one property counts in the score."""

    weight: float = Field(1.0, ge=0, description="Share of the score, relative to the other weights")
    goal: Literal["max", "min", "zero"] = Field(description="More is better, less is better, small magnitude is")
    low: float = Field(description="Value at one end of the scale; what lies below counts as this")
    high: float = Field(description="Value at the other end; what lies above counts as this")

    @model_validator(mode="after")
    def _scale(self) -> ObjectiveSection:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        return self


class RankingSection(Section):
    """Properties of the score; a property that is not named does not count.

    An end of a scale that is not named is that of the quantity (`quantities.QUANTITIES`), never that of the sample.
    """

    average_voltage: ObjectiveSection | None = None
    capacity_grav: ObjectiveSection | None = None
    capacity_vol: ObjectiveSection | None = None
    energy_grav: ObjectiveSection | None = None
    energy_vol: ObjectiveSection | None = None
    volume_change_percent: ObjectiveSection | None = None
    formation_energy_per_atom: ObjectiveSection | None = None
    energy_above_hull: ObjectiveSection | None = None
    energy_above_hull_charged: ObjectiveSection | None = None

    @property
    def objectives(self) -> dict[str, ObjectiveSection]:
        """The properties that count, by value name."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: objective for name, objective in given.items() if objective is not None}

    @model_validator(mode="before")
    @classmethod
    def _scales_of_quantities(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        filled = dict(data)
        for name, objective in data.items():
            if isinstance(objective, dict) and (scale := quantity(name).scale):
                given = {key: value for key, value in objective.items() if value is not None}
                filled[name] = dict(zip(("low", "high"), scale, strict=True)) | given
        return filled

    @model_validator(mode="after")
    def _something_counts(self) -> RankingSection:
        if not any(objective.weight > 0 for objective in self.objectives.values()):
            raise ValueError("no property has a weight; give one, for example energy_grav = { goal = 'max' }")
        return self


DEFAULT_RANKING = RankingSection.model_validate(
    {
        "energy_grav": {"goal": "max"},
        "energy_above_hull": {"weight": 0.5, "goal": "min"},
        "energy_above_hull_charged": {"weight": 0.5, "goal": "min"},
    }
)


class EngineSection(Section):
    """How the work is cut into jobs; changes no number."""

    chunk_size: int = Field(100, ge=1, description="Structures in one job")
    max_atoms_per_batch: int | None = Field(
        None, ge=1, description="Atoms relaxed at the same time; None is what suits the device"
    )


class BatteryCampaignSection(Section):
    """What is screened."""

    name: str = Field(description="Name of the campaign and of its run folder")
    kind: Literal["battery"] = "battery"
    working_ion: Annotated[str, AfterValidator(_working_ion)] = "Li"
    candidates: list[StructureFile] = Field(min_length=1, description="Files with candidate structures")

    @model_validator(mode="after")
    def _name_is_a_folder_name(self) -> BatteryCampaignSection:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(f"name {self.name!r} must consist of letters, digits, '-', '_' and '.'")
        return self


class BatteryCampaign(Section):
    """A screening of insertion electrodes; see ``workflows/battery/README.md`` for the science."""

    campaign: BatteryCampaignSection
    model: ModelSection = ModelSection()
    sanity: SanitySection = SanitySection()
    relax: RelaxSection = RelaxSection()
    hull: HullSection = HullSection()
    charged: ChargedSection = ChargedSection()
    electrode: ElectrodeSection = ElectrodeSection()
    ranking: RankingSection = DEFAULT_RANKING
    engine: EngineSection = EngineSection()


CAMPAIGN_KINDS: dict[str, type[BatteryCampaign]] = {"battery": BatteryCampaign}
"""Campaign class by ``campaign.kind``."""


def load_campaign(path: str | Path) -> BatteryCampaign:
    """Read and check a campaign file.

    Raises:
        ConfigError: one sentence that names the file, the key and what to write instead.
    """
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"campaign file {path} does not exist") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; name the campaign file in it") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text file") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    section = data.get("campaign")
    kind = section.get("kind", "battery") if isinstance(section, dict) else "battery"
    if kind not in CAMPAIGN_KINDS:
        raise ConfigError(f"{path}: campaign.kind = {kind!r} is unknown; choose from {sorted(CAMPAIGN_KINDS)}")
    schema = CAMPAIGN_KINDS[kind]
    try:
        return schema.model_validate(data, context={"folder": path.parent})
    except ValidationError as error:
        raise ConfigError(f"{path}: {_sentence(error, schema)}") from None


def input_checksums(campaign: BatteryCampaign) -> dict[str, list[str]]:
    """SHA-256 of the files that a campaign names; a correction scheme without a file by its name."""
    scheme = campaign.hull.corrections
    return {
        "corrections": [_file_sha256(scheme) if scheme.endswith(_REFIT_SUFFIXES) else scheme],
        "candidates": [_file_sha256(p) for p in campaign.campaign.candidates],
        "competing": [_file_sha256(p) for p in campaign.hull.competing],
    }


def campaign_hash(
    campaign: BatteryCampaign,
    model_sha256: str,
    code_version: str,
    inputs: Mapping[str, list[str]] | None = None,
) -> str:
    """SHA-256 of everything that decides the result: settings, contents of the structure files, model and code.

    Folder names, device, threads and batching are left out: they may change without changing the science.

    Args:
        campaign: the settings.
        model_sha256: checksum of the model.
        code_version: version of the program.
        inputs: `input_checksums`, where the files need not be there any more; with ``library``, the keys of competing
            phases that no file names.
    """
    inputs = input_checksums(campaign) if inputs is None else inputs
    settings = campaign.model_dump(
        mode="json", exclude={"engine": True, "model": {"name", "sha256", "device", "threads"}}
    )
    settings["campaign"]["candidates"] = inputs["candidates"]
    settings["hull"]["competing"] = inputs["competing"]
    settings["hull"]["corrections"] = inputs.get("corrections", [settings["hull"]["corrections"]])
    settings["hull"]["library"] = inputs.get("library", [])
    return digest(settings, model_sha256, code_version)


def _file_sha256(path: str) -> str:
    """Checksum of a file, or of all files of a folder by name."""
    target = Path(path)
    files = sorted(p for p in target.rglob("*") if p.is_file()) if target.is_dir() else [target]
    sha = hashlib.sha256()
    for file in files:
        sha.update(file.name.encode())
        sha.update(file.read_bytes())
    return sha.hexdigest()


def _sentence(error: ValidationError, schema: type[Section]) -> str:
    """The first problem of a validation error in plain words; unknown keys first, since they explain missing ones."""
    problem = min(error.errors(), key=lambda p: p["type"] != "extra_forbidden")
    location = problem["loc"]
    key = ".".join(str(part) for part in location)
    match problem["type"]:
        case "extra_forbidden":
            return _unknown_key(location, schema)
        case "missing":
            return f"key {key} is missing"
        case "value_error":
            message = str(problem["ctx"]["error"])
            return f"{key}: {message}" if key else message
        case "literal_error":
            return f"{key} = {problem['input']!r} is not allowed; expected {problem['ctx']['expected']}"
        case _:
            value = problem["input"]
            shown = f"{value!r}" if not isinstance(value, float) or math.isfinite(value) else str(value)
            message = problem["msg"].replace("Input should be", "should be")
            return f"{key} = {shown} {message}" if message.startswith("should") else f"{key} = {shown}: {message}"


def _unknown_key(location: tuple[int | str, ...], schema: type[Section]) -> str:
    """Name the closest key that exists, or all of them."""
    *sections, unknown = (str(part) for part in location)
    valid_type = schema
    for name in sections:
        annotation = valid_type.model_fields[name].annotation
        [valid_type] = [
            t for t in (annotation, *get_args(annotation)) if isinstance(t, type) and issubclass(t, Section)
        ]
    valid = list(valid_type.model_fields)
    where = f"[{'.'.join(sections)}]" if sections else "the top level"
    close = difflib.get_close_matches(unknown, valid, n=1)
    if close:
        return f"unknown key {unknown!r} in {where}; did you mean {close[0]!r}?"
    return f"unknown key {unknown!r} in {where}; valid keys are {', '.join(valid)}"

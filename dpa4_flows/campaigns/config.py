"""Campaign files: TOML to frozen, validated settings, and one sentence for everything that can be wrong with them.

The tables of a campaign are those of its stages: what they compute, their settings, and limits on the quantities that
they find. Paths in it are relative to the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import BeforeValidator, ValidationError, create_model, model_validator

from dpa4_core.digests import digest
from dpa4_core.strict import meant, read_toml
from dpa4_flows.campaigns.funnel import Funnel
from dpa4_flows.campaigns.kind import CampaignKind, find_kind
from dpa4_flows.campaigns.sections import (
    CampaignSection,
    ConfigError,
    EngineSection,
    HullSection,
    InputFile,
    Limits,
    ModelSection,
    ObjectiveSection,
    Section,
    files_in,
)
from dpa4_flows.campaigns.stage import Stage
from dpa4_flows.compute.files import content_digest
from dpa4_flows.documents.quantities import Quantity, is_number, quantities

DEFAULT_KIND = "battery"
"""Kind of a file that names none, as the first files did."""


class Campaign(Section):
    """A campaign file: of what kind, with which model, and one table for each stage, which `load_campaign` adds."""

    campaign: CampaignSection
    model: ModelSection = ModelSection()
    engine: EngineSection = EngineSection()

    if TYPE_CHECKING:

        def __getattr__(self, table: str) -> Any: ...

    @property
    def funnel(self) -> Funnel:
        """The stages."""
        return find_kind(self.campaign.kind).funnel(self.campaign.stages)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, from which `campaign_of` makes it again; what is not set is left out."""
        tables = self.model_dump(mode="json", exclude_none=True)
        return {name: table for name, table in tables.items() if name != "ranking" or table}

    @property
    def competition(self) -> HullSection | None:
        """Which phases compete with the candidates; None without a stage that compares them."""
        return getattr(self, "hull", None)

    @property
    def objectives(self) -> dict[str, ObjectiveSection]:
        """What counts in the score, by name of the value."""
        given = {name: getattr(self.ranking, name) for name in type(self.ranking).model_fields}
        return {name: objective for name, objective in given.items() if objective is not None}

    @property
    def further_models(self) -> list[str]:
        """Names of the models that tables name beside that of the campaign."""
        tables = (getattr(self, name) for name in type(self).model_fields)
        return sorted({name for table in tables if (name := getattr(table, "model", None)) is not None})

    def limits(self, stage: Stage) -> dict[str, Limits]:
        """Limits on the quantities of a stage, by name."""
        table = getattr(self, stage.name, Section())
        given = {name: getattr(table, name) for name in type(table).model_fields}
        return {name: limits for name, limits in given.items() if isinstance(limits, Limits)}


class Ranking(Section):
    """What counts in the score; a value that is not named does not. One key for each number that a stage finds."""

    @model_validator(mode="after")
    def _something_counts(self) -> Ranking:
        given = [getattr(self, name) for name in type(self).model_fields]
        if given and not any(objective is not None and objective.weight > 0 for objective in given):
            raise ValueError(
                f"no value has a weight; give one, as in {next(iter(type(self).model_fields))} = {{ weight = 1.0 }}"
            )
        return self


def load_campaign(path: str | Path) -> Campaign:
    """Read and check a campaign file.

    Raises:
        ConfigError: one sentence that names the file, the key and what to write instead.
    """
    path = Path(path)
    data = read_toml(path, "campaign file", ConfigError)
    try:
        return campaign_of(data, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def campaign_of(data: Mapping[str, Any], folder: Path | None = None) -> Campaign:
    """Campaign from the content of its file, or from `Campaign.to_dict` of one, also of an earlier version.

    Args:
        data: tables by name.
        folder: of the file, whose paths must exist; without it they are taken as they are.

    Raises:
        ConfigError: one sentence that names the key and what to write instead.
    """
    section = _section(data)
    kind = find_kind(str(section.get("kind", DEFAULT_KIND)))
    if kind.variant is not None and (variant := kind.variant(data)) != kind.name:
        kind = find_kind(variant)
        data = {**data, "campaign": {**section, "kind": variant}}
    data = kind.upgrade(dict(data))
    stages = _section(data).get("stages")
    if stages is not None and not (isinstance(stages, list) and all(isinstance(name, str) for name in stages)):
        raise ConfigError(f"campaign.stages = {stages!r} should be a list of names of stages")
    if stages is None and (front := [stage.name for stage in kind.front if stage.name in data]):
        stages = [*front, *kind.funnel().names]
    funnel = kind.funnel(stages)
    schema = _schema(kind, funnel.stages)
    if isinstance(data.get("campaign"), dict):
        named = {"kind": kind.name, "stages": funnel.names} | data["campaign"]
        data["campaign"] = named
    try:
        return schema.model_validate(data, context=None if folder is None else {"folder": folder})
    except ValidationError as error:
        raise ConfigError(_sentence(error, schema, kind)) from None


def _section(data: Mapping[str, Any]) -> dict[str, Any]:
    """The table ``[campaign]``; empty where it is none."""
    section = data.get("campaign")
    return section if isinstance(section, dict) else {}


@cache
def _schema(kind: CampaignKind, stages: tuple[Stage, ...]) -> type[Campaign]:
    """The class of campaigns with these stages: a field for each of their tables, a key for each of their limits."""
    funnel = Funnel(stages)
    tables: dict[str, dict[type[Section], None]] = {}
    limits: dict[str, dict[str, Any]] = {}
    ranked: dict[str, Any] = {}
    for stage in stages:
        for name, section in (*(stage.computes.tables.items() if stage.computes else ()), ("", stage.settings)):
            tables.setdefault(name or stage.name, {})[section] = None
        for name in quantities(stage.quantities) if stage.quantities else ():
            assert stage.quantities is not None
            if not is_number(stage.quantities, name):
                continue
            own = any(name in section.model_fields for section in tables[stage.name])
            if not own:  # a setting of the same name is a limit that the stage itself applies
                default = stage.criteria.get(name)
                limits.setdefault(stage.name, {})[name] = (_limits_type(default), default)
            known = partial(_objective, funnel.quantity(name))
            ranked[name] = (Annotated[ObjectiveSection | None, BeforeValidator(known)], None)
    fields: dict[str, Any] = {}
    for name, sections in tables.items():
        bases = tuple(s for s in sections if not any(s is not o and issubclass(o, s) for o in sections))
        table = create_model(f"Table_{name}", __base__=bases, **limits.get(name, {}))
        optional = not any(field.is_required() for field in table.model_fields.values())
        if table.model_fields:
            fields[name] = (table, table() if optional else ...)
    in_order = sorted(ranked, key=lambda name: funnel.quantity(name).priority)
    counting = {
        name: ObjectiveSection.model_validate(_objective(funnel.quantity(name), said))
        for first, said in kind.ranking.items()
        if (name := other if (other := kind.instead.get(first)) in ranked else first) in ranked
    }
    ranking = create_model("Ranking", __base__=Ranking, **{name: ranked[name] for name in in_order})
    given: Ranking = ranking(**counting) if counting else ranking.model_construct()
    return create_model("Campaign", __base__=Campaign, campaign=(kind.section, ...), **fields, ranking=(ranking, given))


def _limits_type(default: Limits | None) -> Any:
    """Limits of a file, which do with a candidate what those of the stage do unless it says something else."""
    otherwise = "reject" if default is None else default.otherwise

    def filled(value: Any) -> Any:
        return {"otherwise": otherwise} | value if isinstance(value, dict) else value

    return Annotated[Limits | None, BeforeValidator(filled)]


def _objective(declared: Quantity, value: Any) -> Any:
    """What a file says of an objective, with goal and scale of the quantity where it says nothing."""
    if not isinstance(value, Mapping):
        return value
    known: dict[str, Any] = {} if declared.scale is None else dict(zip(("low", "high"), declared.scale, strict=True))
    known |= {} if declared.goal is None else {"goal": declared.goal}
    return known | {key: given for key, given in value.items() if given is not None}


def input_checksums(campaign: Campaign) -> dict[str, list[str]]:
    """SHA-256 of the files that a campaign names, by ``table.key``; what is named beside files by its name."""
    return {
        place: [content_digest(one) if isinstance(one, InputFile) else one for one in named]
        for place, named in named_files(campaign).items()
    }


def named_files(campaign: Campaign) -> dict[str, list[str]]:
    """What the keys of a campaign hold that name files, by ``table.key``."""
    found = {}
    for name in type(campaign).model_fields:
        table = getattr(campaign, name)
        for key in type(table).model_fields:
            if files_in(value := getattr(table, key)):
                found[f"{name}.{key}"] = list(value) if isinstance(value, list | tuple) else [value]
    return found


def campaign_hash(
    campaign: Campaign,
    model_sha256: str,
    code_version: str,
    inputs: Mapping[str, list[str]] | None = None,
    models: Mapping[str, str | None] = MappingProxyType({}),
) -> str:
    """SHA-256 of everything that decides the result: settings, contents of the structure files, model and code.

    Folder names, device, threads and batching are left out: they may change without changing the science.

    Args:
        campaign: the settings.
        model_sha256: checksum of the model.
        code_version: version of the program.
        inputs: `input_checksums`, where the files need not be there any more; with ``library``, the keys of competing
            phases that no file names.
        models: checksums of the models that stages name for themselves, by name.
    """
    inputs = input_checksums(campaign) if inputs is None else inputs
    settings = campaign.to_dict()
    del settings["engine"]
    for table in settings.values():
        if "model" in table:
            table["model"] = models.get(table["model"])
    settings["model"] = {"dtype": campaign.model.dtype}
    for place in named_files(campaign):
        table, _, key = place.partition(".")
        settings[table][key] = None  # wherever they lie
    if campaign.competition is not None:
        settings["hull"]["library"] = None
    return digest(settings, dict(inputs), model_sha256, code_version)


def _sentence(error: ValidationError, schema: type[Section], kind: CampaignKind) -> str:
    """The first problem of a validation error in plain words; unknown keys first, since they explain missing ones."""
    problem = min(error.errors(), key=lambda p: p["type"] != "extra_forbidden")
    location = problem["loc"]
    key = ".".join(str(part) for part in location)
    match problem["type"]:
        case "extra_forbidden":
            return _unknown_key(location, schema, kind)
        case "missing":
            return f"key {key} is missing"
        case "model_type" if location[-1] not in schema.model_fields:
            return f"{key} = {problem['input']!r} should be a table such as {{ max = 1.0 }}"
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


def _unknown_key(location: tuple[int | str, ...], schema: type[Section], kind: CampaignKind) -> str:
    """Name the closest key that exists, or all of them; of a stage that was left out, say so."""
    *sections, unknown = (str(part) for part in location)
    for stage, value, _ in Funnel(tuple(dict.fromkeys(kind.every))).values():
        if (sections, unknown) == ([], stage.name) or (sections, unknown) == (["ranking"], value):
            what = f"table [{unknown}]" if not sections else f"ranking.{unknown}"
            return f"{what} is about the stage {stage.name!r}, which is not in campaign.stages"
    valid_type = schema
    for name in sections:
        annotation = valid_type.model_fields[name].annotation
        [valid_type] = [
            t for t in (annotation, *get_args(annotation)) if isinstance(t, type) and issubclass(t, Section)
        ]
    valid = list(valid_type.model_fields)
    where = f"[{'.'.join(sections)}]" if sections else "the top level"
    return f"unknown key {unknown!r} in {where}; {meant(unknown, valid)}"

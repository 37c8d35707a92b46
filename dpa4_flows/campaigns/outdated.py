"""What of a run is from before something changed: answers whose science was mended, files that were written since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from dpa4_flows.campaigns.config import Campaign, named_files
from dpa4_flows.campaigns.funnel import Funnel
from dpa4_flows.campaigns.sections import InputFile
from dpa4_flows.compute.files import content_digest
from dpa4_flows.compute.plan import mended_since
from dpa4_flows.store.table import ResultsTable


class Outdated(NamedTuple):
    """Answers behind the verdicts of a stage.

    Attributes:
        title: of the stage.
        property: what was mended, its own property or one that this rests on.
        number: of the answers from before, of
        total: all without an error.
    """

    title: str
    property: str
    number: int
    total: int


def mended_stages(table: ResultsTable, funnel: Funnel) -> Iterator[Outdated]:
    """Stages with answers that the next run makes anew; those with an error may be made anew in any case."""
    for stage in funnel.stages:
        if stage.of_each is None or stage.shown is None:
            continue
        found = table.versions_behind(stage.name, stage.shown.name, stage.shown.document)
        numbers: dict[str, int] = {}
        for made, number in found:
            for name in mended_since(stage.shown, made):
                numbers[name] = numbers.get(name, 0) + number
        total = sum(number for _, number in found)
        yield from (Outdated(stage.title, name, number, total) for name, number in numbers.items())


def changed_files(campaign: Campaign, inputs: Mapping[str, list[str]]) -> list[Path]:
    """Files that a campaign names and that hold something else than the run has read.

    Args:
        campaign: as the run stored it.
        inputs: what identifies the content of its files, see `input_checksums`; one that is gone has not changed.
    """
    return [
        Path(name)
        for place, names in named_files(campaign).items()
        for name, checksum in zip(names, inputs.get(place, ()), strict=False)
        if isinstance(name, InputFile) and Path(name).exists() and content_digest(name) != checksum
    ]

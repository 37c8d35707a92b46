"""Properties against the phases that a campaign was prepared with, for stages that ask them of one candidate at a time.

The phases do not change while it runs, so that documents are stored and found again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.digests import digest
from dpa4_flows.campaigns.config import Campaign
from dpa4_flows.campaigns.context import Scene
from dpa4_flows.campaigns.hull import OfRun
from dpa4_flows.campaigns.ion import ion_of
from dpa4_flows.campaigns.measured import Measured, relaxed, section_of
from dpa4_flows.campaigns.sections import HullSection, RelaxSection, Section
from dpa4_flows.compute.plan import Property
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.competition import Competing, joined
from dpa4_flows.reference.bundled_phases import bundled_keys
from dpa4_flows.reference.entries import chemical_system

_OF_THE_RUN = ("model", "working_ion", *(item.name for item in dataclasses.fields(Competing)))
"""Keys that no table of such a stage has."""
COMPETITION: Mapping[str, type[Section]] = {"hull": HullSection, "relax": RelaxSection}
"""Tables of a campaign that say which phases compete in it."""


@dataclass(frozen=True)
class Stored(OfRun):
    """A property of a run, behind which it is to be named, whose documents are found again as long as the same phases
    compete.

    Attributes:
        phases: checksum of them.
    """

    anew: ClassVar[bool] = False

    phases: str = ""

    @classmethod
    def of_scene(cls, scene: Scene, **settings: Any) -> Self:
        """With the settings of the campaign and the phases that compete in it, and other settings."""
        return cls.of_run(scene.run, phases=scene.shared(_phases), **settings)

    def settings(self, model: ModelRef) -> dict[str, Any]:
        return {**Property.settings(self, model), **super().settings(model)}


@dataclass(frozen=True)
class AgainstPhases(Measured):
    """Such a property for each candidate as it was relaxed, with model, relaxations and corrections of the run."""

    crystal: Any = relaxed

    @property
    def tables(self) -> Mapping[str, type[Section]]:
        own = section_of(self.measures, without=(*_OF_THE_RUN, "run", "phases"))
        return {"": own, **COMPETITION}

    def settled(self, scene: Scene) -> Property[Any]:
        run, settings = scene.run, self._of_table(scene.run.campaign, scene.settings)
        told = {"relaxation": run.relaxed, "corrections": run.scheme(), "run": run, "phases": scene.shared(_phases)}
        return dataclasses.replace(settings, **told)

    def further_systems(self, campaign: Campaign, table: Section) -> Iterable[str]:
        return self._of_table(campaign, table).further()

    def _of_table(self, campaign: Campaign, table: Section) -> Any:
        names = {item.name for item in dataclasses.fields(self.measures)}
        given = {name: getattr(table, name) for name in names & {*type(table).model_fields}}
        ion = {"working_ion": ion_of(campaign)} if "working_ion" in names else {}
        return dataclasses.replace(self.measures, **given, **ion)

    def foreseen(self, scene: Scene, ids: Sequence[str]) -> tuple[int, int]:
        """Phases of the wider chemical systems that have no relaxation; the candidates have theirs."""
        further = list(self.further_systems(scene.run.campaign, scene.settings))
        structures = [structure_of_fields(c.structure) for c in scene.table.candidates(ids) if c.structure is not None]
        systems = {joined(chemical_system(structure), one) for structure in structures for one in further}
        rows = {row.key: row.n_atoms for row in scene.competing.phases(systems)}
        there = bundled_keys(scene.run.model.sha256 or "", rows.keys()) | scene.table.existing_keys(rows)
        lacking = [n for key, n in rows.items() if key not in there]
        return len(lacking), sum(lacking)


def _phases(scene: Scene) -> str:
    return digest(sorted(phase.key for phase in scene.competing.phases()))

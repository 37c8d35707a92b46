"""The way of a candidate through a leg of the funnel: the next stage begins as soon as the one before has let it go on.

It is a plan like that of a property: what the stages compute shares one batch with whatever other candidates are at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dpa4_flows.campaigns.context import Case, Scene, Screening, scene_of, with_structure
from dpa4_flows.campaigns.stage import Stage
from dpa4_flows.compute.plan import Ask, Crystals, Plan, PlanError, Property
from dpa4_flows.documents.schemas import Document, StageResult


class Passed(Document):
    """A candidate has come to the end of a leg, or has left."""

    error: str | None = None


@dataclass(frozen=True, eq=False)
class Passage(Property[Passed]):
    """One candidate on its way. What it finds is stored by the stages; the passage itself is made anew each time.

    Attributes:
        scenes: the stages at work, in their order.
        case: the candidate, with what stages before the leg have found.
        told: gets every verdict.
        at: the stages that were begun.
    """

    name: ClassVar[str] = "passage"
    document: ClassVar[type[Document]] = Passed
    anew: ClassVar[bool] = True

    scenes: tuple[Scene, ...]
    case: Case
    told: Callable[[StageResult], None]
    at: list[Scene] = field(default_factory=list)

    def plan(self, crystal: Any) -> Plan[Passed]:
        known = self.case
        for scene in self.scenes:
            self.at.append(scene)
            stage, case = scene.stage, _needed(known, scene)
            ask = None if stage.of_each is None else stage.of_each.ask(case)
            if ask is not None:
                found = yield {stage.name: ask}
                for seen in (known, case):
                    seen.keys[stage.name], seen.documents[stage.name] = scene.key(ask), found[stage.name]
            if stage.over_all is not None:
                break
            verdict = scene.judged(case)
            self.told(verdict)
            if not verdict.goes_on:
                return Passed(error=verdict.reasons[0].sentence if verdict.status == "error" else None)
            candidate = known.candidate
            if ask is not None and stage in scene.funnel.orders:
                candidate = with_structure(candidate, case.found)
            known = dataclasses.replace(known, candidate=candidate, verdicts={**known.verdicts, stage.name: verdict})
        return Passed()

    def failed(self, crystal: Any, error: PlanError) -> Passed:
        """A candidate that a stage cannot make sense of leaves there, alone."""
        self.told(self.at[-1].not_judged(self.case.id, error))
        return Passed(error=str(error))


def passages(
    run: Screening, leg: Sequence[Stage], ids: Sequence[str], told: Callable[[StageResult], None]
) -> Iterator[tuple[str, Ask[Passed]]]:
    """Candidates on their way through the stages of a leg, read as there is room."""
    table = run.open()
    scenes = tuple(scene_of(run, stage.name, table) for stage in leg)
    needs = {name: None for stage in leg for name in stage.needs}
    before = [name for name in needs if name not in {stage.name for stage in leg}]
    for case in scenes[0].cases(ids, own=False, needs=before) if scenes else ():
        yield case.id, Ask(Passage(scenes, case, told), Crystals())


def _needed(known: Case, scene: Scene) -> Case:
    """What a stage is shown of a candidate: what it says that it needs."""

    def part(found: Mapping[str, Any], names: Collection[str] = scene.stage.needs) -> dict[str, Any]:
        return {name: found[name] for name in names if name in found}

    return Case(scene, known.candidate, part(known.verdicts), part(known.documents), part(known.keys))

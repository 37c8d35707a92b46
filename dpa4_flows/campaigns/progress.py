"""How far a campaign is, read from its results table: for each stage, and as a share of the work, measured in atoms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dpa4_flows.campaigns.context import Scene, Screening, scene_of
from dpa4_flows.campaigns.stage import Stage
from dpa4_flows.store.table import ResultsTable


@dataclass(frozen=True)
class Step:
    """The verdicts of a stage with the calculations behind them, or a computation for all candidates.

    Attributes:
        name: of the stage; of a computation with its object.
        title: for people.
        done: calculations, or candidates judged.
        total: of them.
        done_atoms, total_atoms: of calculations; before a computation begins an estimate by who is left.
        finished: nothing is left to do.
        counts: verdicts by status.
    """

    name: str
    title: str
    done: int
    total: int
    done_atoms: int = 0
    total_atoms: int = 0
    finished: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)


class CampaignProgress:
    """Looks at a run again and again, and asks for what is new.

    Args:
        run: the run.
        table: where it is read, by default the table of the run.
    """

    def __init__(self, run: Screening, table: ResultsTable | None = None) -> None:
        self._run, self._funnel = run, run.campaign.funnel
        self._table = run.open() if table is None else table
        self._sizes = {
            c.candidate_id: len(c.structure["sites"]) for c in self._table.candidates() if c.structure is not None
        }
        self._work: dict[str, dict[str, int]] = {}
        self._done: dict[str, set[str]] = {}

    def steps(self) -> list[Step]:
        """Every step in its order, as it is now."""
        counts, found = self._table.stage_counts(), []
        entered, begun = len(self._table.candidate_ids()), True  # ``begun``: all before is finished
        for stage in self._funnel.stages:
            own = counts.get(stage.name, {})
            judged = begun and sum(own.values()) >= entered
            judging = Step(stage.name, stage.title, sum(own.values()), entered, finished=judged, counts=own)
            if stage.computes is not None and stage in self._funnel.computing:
                computing = self._computation(stage, begun, judged, entered)
                if not stage.computes.judges:
                    found.append(computing)
                elif judged:
                    judging = replace(judging, done_atoms=computing.done_atoms, total_atoms=computing.total_atoms)
                else:
                    judging = replace(computing, name=stage.name, title=stage.title, counts=own)
            found.append(judging)
            begun = judged
            if begun:
                entered = own.get("passed", 0) + own.get("flagged", 0)
        return found

    def share(self) -> float:
        """Done atoms of all atoms, 0 to 1; 1 for a campaign that computes nothing."""
        return share(self.steps())

    def _computation(self, stage: Stage, begun: bool, judged: bool, entered: int) -> Step:
        assert stage.computes is not None
        name, title = f"{stage.name}: {stage.computes.of}", stage.computes.of.capitalize()
        if not begun:
            mean = sum(self._sizes.values()) / max(len(self._sizes), 1)
            return Step(name, title, 0, entered, 0, round(mean * entered))
        if stage.name not in self._work:
            scene: Scene = scene_of(self._run, stage.name, self._table)
            self._work[stage.name], self._done[stage.name] = stage.computes.work(scene, scene.ids()), set()
        work, done = self._work[stage.name], self._done[stage.name]
        done |= work.keys() if judged else stage.computes.stored(self._table, work.keys() - done)
        atoms = sum(work[key] for key in done)
        return Step(name, title, len(done), len(work), atoms, sum(work.values()), finished=judged)


def share(steps: list[Step]) -> float:
    """Done atoms of all atoms in ``steps``."""
    total = sum(step.total_atoms for step in steps)
    return sum(step.done_atoms for step in steps) / total if total else float(all(step.finished for step in steps))

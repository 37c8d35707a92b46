"""How far a campaign is, read from its results table: for each stage, and as a share of the work, measured in atoms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dpa4_flows.campaigns.context import Scene, Screening, scene_of
from dpa4_flows.campaigns.stage import Stage
from dpa4_flows.reference.bundled_phases import bundled_keys
from dpa4_flows.store.table import ResultsTable

_SAMPLE = 12
"""Candidates that are asked how much a stage has to compute for one: cutting the slabs of a crystal takes 0.2 s."""


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
        self._sizes = self._table.sizes()
        self._verdicts: dict[str, dict[str, str]] = {}
        self._last_row = 0
        self._work: dict[str, dict[str, int]] = {}
        self._done: dict[str, set[str]] = {}
        self._growth: dict[str, float] = {}

    def steps(self) -> list[Step]:
        """Every step in its order, as it is now."""
        for row, candidate, stage_name, status in self._table.verdicts_since(self._last_row):
            self._verdicts.setdefault(stage_name, {})[candidate] = status
            self._last_row = row
        found, begun = [], True  # ``begun``: all before is finished
        inside = dict(self._sizes)  # may still come, as far as is known
        for stage in self._funnel.stages:
            own = self._verdicts.get(stage.name, {})
            counts, n_atoms = Counter(own.values()), sum(inside.values())
            step = Step(stage.name, stage.title, len(own), len(inside), counts=counts)
            step = replace(step, finished=begun and len(own) >= len(inside))
            if stage in self._funnel.computing:
                if stage.of_each is None:
                    found.append(self._of_all(stage, Step("", "", 0, len(inside), 0, n_atoms), begun, step.finished))
                else:
                    growth = self._growth_of(stage, list(inside))
                    done_atoms = round(growth * sum(self._sizes[i] for i in own))
                    step = replace(step, done_atoms=done_atoms, total_atoms=round(growth * n_atoms))
            found.append(step)
            begun = step.finished
            inside = {i: size for i, size in inside.items() if own.get(i) not in ("failed", "error")}
        return found

    def share(self) -> float:
        """Done atoms of all atoms, 0 to 1; 1 for a campaign that computes nothing."""
        return share(self.steps())

    def _growth_of(self, stage: Stage, ids: list[str]) -> float:
        """Atoms that a stage computes for each atom of a candidate: slabs and supercells are larger than crystals."""
        if stage.name not in self._growth:
            assert stage.of_each is not None
            first = self._verdicts.get(self._funnel.stages[0].name, {})
            sound = [i for i in ids if first.get(i) in ("passed", "flagged")]
            sample = sound[:: max(1, len(sound) // _SAMPLE)][:_SAMPLE]
            n_atoms = sum(self._sizes[i] for i in sample)
            if not n_atoms:
                return 1.0
            found = stage.of_each.foreseen(scene_of(self._run, stage.name, self._table), sample)
            self._growth[stage.name] = max(1.0, found[1] / n_atoms) if found else 1.0
        return self._growth[stage.name]

    def _of_all(self, stage: Stage, estimate: Step, begun: bool, judged: bool) -> Step:
        """What a stage computes for all candidates together."""
        computes = stage.of_all
        assert computes is not None
        named = replace(estimate, name=f"{stage.name}: {computes.of}", title=computes.of.capitalize())
        if not begun:
            return named
        if stage.name not in self._work:
            scene: Scene = scene_of(self._run, stage.name, self._table)
            atoms_of = computes.work(scene, scene.ids())
            relaxed = bundled_keys(self._run.model.sha256 or "", atoms_of.keys())  # no work
            self._work[stage.name] = {key: 0 if key in relaxed else n for key, n in atoms_of.items()}
            self._done[stage.name] = set()
        work, done = self._work[stage.name], self._done[stage.name]
        done |= work.keys() if judged else computes.stored(self._table, work.keys() - done)
        atoms = sum(work[key] for key in done)
        return replace(
            named, done=len(done), total=len(work), done_atoms=atoms, total_atoms=sum(work.values()), finished=judged
        )


def share(steps: list[Step]) -> float:
    """Done atoms of all atoms in ``steps``."""
    total = sum(step.total_atoms for step in steps)
    return sum(step.done_atoms for step in steps) / total if total else float(all(step.finished for step in steps))

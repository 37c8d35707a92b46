"""Progress of a campaign, read from its results table: a part for each stage, in atoms where structures are computed.

The table is all that is needed, so it works for a run in this process and would for one elsewhere; it costs the
computation nothing but a query now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pymatgen.core import Structure

from dpa4_flows.campaigns.battery import STAGES, BatteryRun, charged_structures
from dpa4_flows.makers.references import reference_sizes
from dpa4_flows.makers.sources import find_structures
from dpa4_flows.report.labels import stage_title
from dpa4_flows.results import ResultsTable
from dpa4_flows.runs.run import Part

_RELAXATIONS = {"relax": "duplicates", "relax_charged": "delithiate"}
"""Stages that compute structures, and the stage whose survivors these are."""

REFERENCES = "references"
"""The step between two stages that relaxes competing phases; it judges no candidate."""

_STEPS = tuple(step for stage in STAGES for step in ((REFERENCES, stage) if stage == "hull" else (stage,)))


@dataclass
class _Work:
    """Calculations of one step: atoms by key, as a measure of time."""

    atoms: dict[str, int]
    done: set[str]


class CampaignProgress:
    """The parts of a run as they are now, each time it is asked.

    Args:
        run: the run.
    """

    def __init__(self, run: BatteryRun) -> None:
        self._run = run
        self._table: ResultsTable = run.open()
        self._finished: dict[str, Part] = {}
        self._work: dict[str, _Work] = {}

    def __call__(self) -> list[Part]:
        counts = self._table.stage_counts()
        for step in _STEPS:
            if step in self._finished:
                continue
            if step in counts:
                self._finish(step, sum(counts[step].values()), _verdict(counts[step]))
            elif step == REFERENCES and "hull" in counts:
                self._finish(step, len(self._table.get_meta("references", [])), "")
            else:
                return [*self._finished.values(), *self._at_work(step)]
        return list(self._finished.values())

    def _at_work(self, step: str) -> list[Part]:
        """How far the current step is, if it computes anything."""
        if step not in self._work:
            self._work[step] = _Work(self._calculations(step), set())
        work = self._work[step]
        if not work.atoms:
            del self._work[step]  # not known yet
            return []
        work.done |= self._table.existing_keys(work.atoms.keys() - work.done)
        done = sum(work.atoms[key] for key in work.done)
        return [Part(_title(step), done, sum(work.atoms.values()), f"{len(work.done)}/{len(work.atoms)}")]

    def _finish(self, step: str, count: int, verdict: str) -> None:
        self._finished[step] = Part(_title(step), 1, 1, str(count), verdict, finished=True)

    def _calculations(self, step: str) -> dict[str, int]:
        """Keys and sizes of the structures that a step computes; empty if it computes none or has not begun."""
        maker = self._run.relax_maker(step, charged=step == "relax_charged")
        structures: Sequence[Structure] = ()
        if step == REFERENCES:
            return reference_sizes(self._table)
        if step == "relax":
            structures = find_structures(self._table, self._table.survivors(_RELAXATIONS[step]))
        if step == "relax_charged":
            structures = charged_structures(self._table, self._table.survivors(_RELAXATIONS[step]))
        return {maker.key(structure): len(structure) for structure in structures}


def _title(step: str) -> str:
    return "Competing phases" if step == REFERENCES else stage_title(step)


def _verdict(counts: dict[str, int]) -> str:
    """``7 go on, 2 rejected``."""
    on = counts.get("passed", 0) + counts.get("flagged", 0)
    parts = [f"{on} go on"]
    if rejected := counts.get("failed", 0):
        parts.append(f"{rejected} rejected")
    if errors := counts.get("error", 0):
        parts.append(f"{errors} failed")
    return ", ".join(parts)

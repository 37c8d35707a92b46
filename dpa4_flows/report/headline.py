"""Which candidate a report names as the best: the first one that no flag bars."""

from __future__ import annotations

from dataclasses import dataclass

from dpa4_flows.campaigns.funnel import Funnel
from dpa4_flows.campaigns.snapshot import Snapshot
from dpa4_flows.documents.schemas import RankedCandidate
from dpa4_flows.plots.words import formula_text
from dpa4_flows.report.labels import badge_text

_NAMED = 3


@dataclass(frozen=True)
class Headline:
    """The best candidate and who stands above it.

    Attributes:
        best: first candidate of the ranking without a flag that disqualifies; None if every one has one.
        higher: doubtful candidates with a better rank, or all of them.
        funnel: the stages that gave the flags.
    """

    best: RankedCandidate | None
    higher: tuple[RankedCandidate, ...]
    funnel: Funnel

    @property
    def doubts(self) -> str:
        """``2 higher ones are doubtful: Li₂CoO₂ (not topotactic), …``; empty if there is none."""
        if not self.higher:
            return ""
        number = len(self.higher)
        who = "higher " if self.best else ""
        lead = f"{number} {who}one{'s are' if number > 1 else ' is'} doubtful: "
        named = [f"{formula_text(row.formula)} ({', '.join(self._doubts_of(row))})" for row in self.higher[:_NAMED]]
        return lead + ", ".join(named) + (f", and {number - _NAMED} more" if number > _NAMED else "")

    def _doubts_of(self, row: RankedCandidate) -> list[str]:
        return list(dict.fromkeys(badge_text(flag, self.funnel) for flag in row.flags if flag.disqualifies))


def headline(snapshot: Snapshot) -> Headline | None:
    """The headline of a ranking; None without one."""
    rows = sorted(snapshot.ranking.values(), key=lambda row: row.rank)
    if not rows:
        return None
    best = next((row for row in rows if not row.doubtful), None)
    higher = tuple(row for row in rows if row.doubtful and (best is None or row.rank < best.rank))
    return Headline(best, higher, snapshot.funnel)

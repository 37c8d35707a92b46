"""Words of a campaign for people: outcomes, scores, and flags as badges, phrases and sentences."""

from __future__ import annotations

import re

from dpa4_flows.campaigns.funnel import Funnel
from dpa4_flows.documents.reasons import Reason
from dpa4_flows.documents.schemas import RankedCandidate

OUTCOME_TITLES: dict[str, str] = {
    "ranked": "ranked",
    "passed": "passed",
    "in progress": "in progress",
    "rejected": "rejected",
    "error": "not computable",
}


def score_text(row: RankedCandidate) -> str:
    """The score, or the interval in which it lies where a ranked property is unknown."""
    low, high = row.score_interval or (row.score, row.score)
    if low is None or high is None:
        return "–"
    return f"{low:.3f}" if high - low < 5e-4 else f"{low:.2f}–{high:.2f}"


def score_low(row: RankedCandidate) -> float | None:
    """What the ranking sorts by: the lower end of the score."""
    return row.score if row.score_interval is None else row.score_interval[0]


def flag_phrase(flag: Reason, funnel: Funnel) -> str:
    """What a flag says in general, for a legend: one phrase for all candidates that carry it."""
    kind = funnel.reasons.get(flag.code)
    return kind.phrase if kind else re.split("[:;]", flag.sentence, maxsplit=1)[0]


def flag_text(flag: Reason, funnel: Funnel) -> str:
    """A flag for people: the phrase and then the numbers; why a candidate left in its own words."""
    kind = funnel.reasons.get(flag.code)
    return f"{kind.phrase} ({flag.sentence})" if kind and not flag.decides else flag.sentence


def badge_text(flag: Reason, funnel: Funnel) -> str:
    """A few words for a badge; the sentence itself goes into the tooltip."""
    if kind := funnel.reasons.get(flag.code):
        return kind.badge
    sentence = flag.sentence.removeprefix("the ")
    head = re.split(r"[:;,(]", sentence, maxsplit=1)[0].strip().replace("_", " ")
    return head if 0 < len(head) <= 28 else sentence[:26].rsplit(" ", 1)[0].rstrip() + "…"

"""Counts why candidates left, by stage and code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dpa4_flows.campaigns.funnel import Funnel
from dpa4_flows.documents.reasons import NOTE, Reason

NO_REASON = "no reason was recorded"


class ReasonCount(NamedTuple):
    """One reason for leaving, and how many left for it.

    Attributes:
        stage: its name.
        reason: what the code says of all candidates, with the first sentence where it is not their fault; of one alone,
            or without a declared code, the sentence.
        number: of candidates.
    """

    stage: str
    reason: str
    number: int


def count_reasons(
    reasons: Iterable[tuple[str, Sequence[Reason]]], stages: Sequence[str], funnel: Funnel
) -> tuple[ReasonCount, ...]:
    """Reasons by stage, the most frequent first.

    Args:
        reasons: stage and reasons of each candidate that left.
        stages: all stages in funnel order.
        funnel: declares what codes say.
    """
    numbers: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for stage, told in reasons:
        said = {one.code if one.code != NOTE else one.sentence: one.sentence for one in reversed(told)}
        for code, sentence in (said or {NO_REASON: NO_REASON}).items():
            numbers[stage, code] += 1
            first.setdefault((stage, code), sentence)

    def words(stage: str, code: str) -> str:
        kind, example = funnel.reasons.get(code), first[stage, code]
        if numbers[stage, code] == 1 or kind is None:
            return example
        return f"{kind.phrase}, for example: {example}" if kind.status == "error" else kind.phrase

    listed = sorted(numbers, key=lambda one: (stages.index(one[0]), -numbers[one], one[1]))
    return tuple(ReasonCount(stage, words(stage, code), numbers[stage, code]) for stage, code in listed)

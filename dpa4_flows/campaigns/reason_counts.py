"""Counts why candidates left: sentences that differ only in numbers, formulas and ids are one reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

NO_REASON = "no reason was recorded"

_VARIABLE = re.compile(r"[^\s,:;()\[\]=/]*\d[^\s,:;()\[\]=/]*")
"""Words with a digit: numbers, formulas, most ids."""


class ReasonCount(NamedTuple):
    """One reason for leaving, with dots for what differs, and the first sentence as an example."""

    stage: str
    reason: str
    number: int
    example: str


def count_reasons(reasons: Iterable[tuple[str, Sequence[str]]], stages: Sequence[str]) -> tuple[ReasonCount, ...]:
    """Reasons by stage, the most frequent first.

    Args:
        reasons: stage and sentences of each candidate that left.
        stages: all stages in funnel order.
    """
    groups: dict[tuple[str, str], _ReasonGroup] = {}
    for stage, sentences in reasons:
        for sentence in dict.fromkeys(sentences or [NO_REASON]):
            groups.setdefault((stage, reason_pattern(sentence)), _ReasonGroup()).add(sentence)
    order = {name: i for i, name in enumerate(stages)}
    listed = sorted(groups.items(), key=lambda item: (order[item[0][0]], -item[1].size, item[0][1]))
    return tuple(ReasonCount(stage, group.sentence(), group.size, group.first) for (stage, _), group in listed)


def reason_pattern(sentence: str) -> str:
    """First clause with "…" for every word that holds a digit, so that like reasons are equal."""
    return _VARIABLE.sub("…", _first_clause(sentence))


def _first_clause(sentence: str) -> str:
    return sentence.split(";", 1)[0]


class _ReasonGroup:
    """Sentences of one pattern; words that are the same in all of them are kept."""

    def __init__(self) -> None:
        self.size = 0
        self.first = ""
        self.words: list[str | None] = []

    def add(self, sentence: str) -> None:
        words = _VARIABLE.findall(_first_clause(sentence))
        if not self.size:
            self.first, self.words = sentence, list(words)
        self.words = [a if a == b else None for a, b in zip(self.words, words, strict=True)]
        self.size += 1

    def sentence(self) -> str:
        words = iter(self.words)
        return _VARIABLE.sub(lambda _: next(words) or "…", _first_clause(self.first))

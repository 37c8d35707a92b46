"""Reasons: what a funnel says about a candidate, with a code for programs and a sentence for people.

No logic reads the sentence. A reason names the values that it voids: they leave score, Pareto front, headline and plots
together. A stage declares its codes once, each with a `ReasonKind`; a quantity says which of them void it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dpa4_core.verdicts import FLAG_SENTENCES

NOTE = "note"
"""Code of a reason that nothing follows from, such as a sentence of a table that was written without codes."""

_CODE = re.compile(r"[a-z]+(_[a-z]+)+")


class Reason(BaseModel):
    """Why a candidate left or carries a flag. A plain string is a `NOTE`, as tables of before hold them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str = Field(NOTE, description="What is the case, for programs")
    sentence: str = Field(description="The same for readers, with the numbers of this candidate")
    voids: list[str] = Field(default_factory=list, description="Names of the values that mean nothing because of it")
    disqualifies: bool = Field(False, description="Whether no headline may name the candidate")
    decides: bool = Field(False, description="Whether a candidate leaves because of it; a flag goes on")

    @model_validator(mode="before")
    @classmethod
    def _of_a_string(cls, data: Any) -> Any:
        if not isinstance(data, str):
            return data
        code, _, sentence = data.partition(": ")
        return {"code": code, "sentence": sentence} if sentence and _CODE.fullmatch(code) else {"sentence": data}


@dataclass(frozen=True)
class ReasonKind:
    """What is the same for all candidates that carry a code.

    Attributes:
        badge: a few words.
        phrase: what it says in general, for a legend.
        status: what becomes of the candidate: ``flagged`` goes on, ``failed`` is rejected, ``error`` is not computable.
        disqualifies: whether no headline may name the candidate.
    """

    badge: str
    phrase: str
    status: Literal["flagged", "failed", "error"] = "flagged"
    disqualifies: bool = False


def of_flags(flags: Iterable[str]) -> list[Reason]:
    """What the flags of a relaxation say."""
    return [Reason(code=flag, sentence=FLAG_SENTENCES[flag]) for flag in flags]


def voided(reasons: Iterable[Reason]) -> list[str]:
    """Names of the values that mean nothing, each once."""
    return list(dict.fromkeys(name for reason in reasons for name in reason.voids))


def remarks(document: BaseModel) -> list[str]:
    """What a document says of its own numbers, sentences: its reasons, in whatever field, its warnings, its caveat."""
    found: list[Any] = []
    for name in type(document).model_fields:
        value = getattr(document, name)
        if isinstance(value, list):
            found += [one for one in value if isinstance(one, Reason) or name == "warnings"]
        elif name == "caveat" and value:
            found.append(value)
    return list(dict.fromkeys(one if isinstance(one, str) else one.sentence for one in found))


def decisive(reasons: Sequence[Reason]) -> list[Reason]:
    """Why a candidate left, without the flags that it carries beside; all of them where none is marked."""
    return [reason for reason in reasons if reason.decides] or list(reasons)


def with_reliability_as_reasons(data: Any, reasons: str) -> Any:
    """Fields of a document that marked doubtful values by a companion, ``volume_change_reliable`` being false.

    Args:
        data: fields as stored.
        reasons: name of the field that holds the reasons.
    """
    values = data.get("values") if isinstance(data, dict) else None
    marks = {name: good for name, good in (values or {}).items() if name.endswith("_reliable")}
    if not values or not marks:
        return data
    stems = [name.removesuffix("_reliable") for name, good in marks.items() if good is False]
    doubtful = [name for name in values if name not in marks and any(name.startswith(stem) for stem in stems)]
    said = list(data.get(reasons) or [])
    if doubtful:
        said.append(Reason(code="not_reliable", sentence=f"not reliable: {', '.join(doubtful)}", voids=doubtful))
    return {**data, "values": {n: v for n, v in values.items() if n not in marks}, reasons: said}

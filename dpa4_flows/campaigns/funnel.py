"""The stages of one campaign in their order, and all that follows from them by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from dpa4_flows.campaigns.sections import ConfigError
from dpa4_flows.campaigns.stage import Stage
from dpa4_flows.documents.quantities import Quantity, plain_quantity, quantities
from dpa4_flows.documents.reasons import NOTE, Reason, ReasonKind

NOT_READABLE = "not_readable"
NOT_JUDGED = "not_judged"
_COMMON = {
    NOT_READABLE: ReasonKind("not readable", "its file cannot be used", status="failed"),
    NOT_JUDGED: ReasonKind("not judged", "what was computed could not be analysed", status="error"),
}


@dataclass(frozen=True)
class Funnel:
    """Stages in the order in which candidates pass them. One without stages knows nothing and guesses all words.

    Raises:
        ConfigError: a stage is there twice, or without what it needs, or a code decides differently in two stages.
    """

    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        before: list[str] = []
        told: dict[str, ReasonKind] = {}
        for stage in self.stages:
            for code, kind in stage.kinds.items():
                known = told.setdefault(code, kind)
                if (known.status, known.disqualifies) != (kind.status, kind.disqualifies):
                    raise ConfigError(f"{stage.name!r} and a stage before it give {code!r} another effect: rename one")
            if stage.name in before:
                raise ConfigError(f"campaign.stages names {stage.name!r} twice")
            for needed in stage.needs:
                if needed not in before:
                    where = "comes after it" if needed in self.names else "is not among the stages"
                    raise ConfigError(
                        f"campaign.stages: {stage.name!r} needs {needed!r}, which {where}; put {needed!r} before it, "
                        f"or leave {stage.name!r} out"
                    )
            before.append(stage.name)

    @property
    def names(self) -> list[str]:
        return [stage.name for stage in self.stages]

    def stage(self, name: str) -> Stage:
        return self._by_name[name]

    def before(self, name: str) -> str | None:
        """The stage whose survivors enter ``name``; None for the first, which all candidates enter."""
        index = self.names.index(name)
        return self.names[index - 1] if index else None

    @cached_property
    def legs(self) -> list[tuple[Stage, ...]]:
        """The stages in groups. Within one a candidate goes on as soon as it has passed; between two all wait for the
        last, since a stage looks at all of them, or computes something for all.
        """
        legs: list[list[Stage]] = []
        for stage in self.stages:
            if not legs or legs[-1][-1].over_all is not None or stage.of_all is not None:
                legs.append([])
            legs[-1].append(stage)
        return [tuple(leg) for leg in legs]

    @cached_property
    def computing(self) -> list[Stage]:
        """The stages that compute something which none before them has computed."""
        found: list[Stage] = []
        for stage in self.stages:
            done = [other.computes for other in found if other.computes is not None]
            if stage.computes is not None and not any(other.covers(stage.computes) for other in done):
                found.append(stage)
        return found

    @cached_property
    def orders(self) -> list[Stage]:
        """The stages that order candidates whose sites are shared."""
        return [stage for stage in self.stages if stage.computes is not None and stage.computes.gives_structures]

    def title(self, name: str) -> str:
        return self._by_name[name].title if name in self._by_name else name.replace("_", " ").capitalize()

    def values(self) -> Iterator[tuple[Stage, str, Quantity]]:
        """Every value that a stage declares, in their order."""
        for stage in self.stages:
            for name, declared in quantities(stage.quantities).items() if stage.quantities else ():
                yield stage, name, declared

    def quantity(self, name: str, stage: str | None = None) -> Quantity:
        """What is declared of a value of ``stage``, or of that in the ranking; a guess if nothing is."""
        found = self._declared.get((stage, name)) or self._declared.get((None, name))
        return found or plain_quantity(name)

    def completed(self, reason: Reason) -> Reason:
        """A reason with what its code declares and the values that it voids; of a document, it need not be declared."""
        kind = self.kind(reason.code)
        return Reason(
            code=reason.code,
            sentence=reason.sentence,
            voids=[name for name, codes in self._voids.items() if reason.code in codes],
            disqualifies=kind.disqualifies,
            decides=kind.status != "flagged",
        )

    def kind(self, code: str) -> ReasonKind:
        """What is declared of a code; a flag in the words of the code if nothing is."""
        words = code.replace("_", " ")
        return self.reasons.get(code) or ReasonKind(words, words)

    @cached_property
    def reasons(self) -> dict[str, ReasonKind]:
        """Kind of every reason by code; those of limits are declared by the quantities."""
        found = dict(_COMMON) if self.stages else {}
        for _, name, declared in self.values():
            label = declared.short or declared.label
            for code, side in zip(limit_codes(name, declared), ("below", "above"), strict=True):
                words = f"{declared.label[0].lower()}{declared.label[1:]} {side} its limit"
                found[code] = ReasonKind(f"{label} {side} limit", words, status="failed")
        for stage in self.stages:
            found |= stage.kinds
        return found

    @cached_property
    def _by_name(self) -> dict[str, Stage]:
        return {stage.name: stage for stage in self.stages}

    @cached_property
    def _declared(self) -> dict[tuple[str | None, str], Quantity]:
        """By stage and name; under no stage what a ranking shows, which is no detail where two share a name."""
        found: dict[tuple[str | None, str], Quantity] = {}
        for stage, name, declared in self.values():
            found[stage.name, name] = declared
            if (None, name) not in found or found[None, name].detail:
                found[None, name] = declared
        return found

    @cached_property
    def _voids(self) -> dict[str, set[str]]:
        """Codes that void a value, by its name."""
        found: dict[str, set[str]] = {}
        for _, name, declared in self.values():
            found.setdefault(name, set()).update(declared.voided_by)
        return {name: codes - {NOTE} for name, codes in found.items()}


def limit_codes(name: str, declared: Quantity) -> tuple[str, str]:
    """Codes of the reasons for a value below and above its limits."""
    return declared.too_low or f"{name}_too_low", declared.too_high or f"{name}_too_high"

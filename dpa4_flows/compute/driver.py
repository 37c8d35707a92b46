"""The loop that computes everything: the requests of all plans of all candidates share one batch in flight.

    asks = ((crystal.name, Ask(ElasticTensor(), crystal)) for crystal in crystals)
    for name, document in compute(asks, ModelRef("dpa4-neo"), table):
        print(name, document.verdict)

A plan that has its answers puts its next requests into the batch at once, and waits for nobody else. Equal requests of
several plans are computed once. What a plan has got is kept in the store: a killed process finds it again, and so does
a property whose science was mended, whose documents of before are made anew. Plans are begun only when the batch has
room: memory does not grow with their number.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from dpa4_core.predict import Prediction
from dpa4_core.properties import InPlaceOfEnergy
from dpa4_core.relax import Request as Calculation
from dpa4_core.relax import Result
from dpa4_core.verdicts import ErrorCode
from dpa4_flows.compute.flight import SafeFlight
from dpa4_flows.compute.parts import part_of_text, request_key, text_of_part
from dpa4_flows.compute.plan import Answer, Ask, Plan, Request, Until, marked, mended, of_this_crystal, versions_of
from dpa4_flows.documents.schemas import ChunkSummary, Document
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.store.protocol import MemoryStore, Store
from dpa4_flows.store.writer import Writer

Key = TypeVar("Key", bound=Hashable)

_LOOK_S = 0.1  # between two looks at what happens elsewhere
_AT_ONCE = 100  # asks that are looked up together, and documents that wait for the caller

OUT_OF_MEMORY: ErrorCode = "out_of_memory"


@dataclass(frozen=True)
class Retry:
    """Which stored failures are computed again; those for want of memory always are, which is no property of a crystal.

    Attributes:
        errors: all.
        since: those from before this time.
    """

    errors: bool = False
    since: datetime | None = None

    def again(self, document: Any) -> bool:
        if not document.failed:
            return False
        early = self.since is not None and document.provenance.created < self.since
        return self.errors or early or getattr(document, "error_code", None) == OUT_OF_MEMORY


@dataclass(eq=False)
class _Running:
    """A plan on its way.

    Attributes:
        name: of the plan among all that are on their way.
        ask: what it is to answer.
        model: that computes.
        store: of its document.
        stored_as: key of its document, and owner of its parts in the store; None for one that is not stored.
        generator: the plan; None while it has not begun.
        wanted: names of the answers that it waits for by the name of the request.
        answers: those that are there, by the name of the request.
        new: results that are not in the store yet.
        versions: of the science of what it has asked for so far, see `Provenance`.
        parents: plans that wait for the document.
        callers: keys of the caller that wait for it.
    """

    name: str
    ask: Ask[Any]
    model: ModelRef
    store: Store
    stored_as: str | None
    generator: Plan[Any] | None = None
    wanted: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    new: dict[str, Result] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    parents: list[_Running] = field(default_factory=list)
    callers: list[Hashable] = field(default_factory=list)

    @property
    def waits(self) -> bool:
        return any(name not in self.answers for name in self.wanted.values())


def compute(
    asks: Iterable[tuple[Key, Ask[Any]]],
    model: ModelRef,
    store: Store | None = None,
    *,
    max_atoms_per_batch: int | None = None,
    retry: Retry = Retry(),
    keep_failures: bool = False,
    counts: Counts | None = None,
) -> Iterator[tuple[Key, Any]]:
    """Documents of all that is asked for, as they are finished.

    Args:
        asks: pairs of a key, which comes out with the document, and an `Ask`; read as there is room.
        model: the potential, where an ask names no other one; each is loaded when it is first needed.
        store: finds and keeps documents; in memory by default.
        max_atoms_per_batch: atoms in flight, of each model; None leaves it to the device.
        retry: which stored failures are computed again.
        keep_failures: store those of all properties, so that they are found again.
        counts: told what is done.

    Returns:
        An iterator of pairs of key and document, one for each item of ``asks``, in any order. A crystal that fails
        comes out with the document of its failure.

    Raises:
        DPA4Error: what another crystal would meet, too: no such model, a store that cannot be written.
    """
    store = MemoryStore() if store is None else store
    return _Loop(asks, model, store, max_atoms_per_batch, retry, keep_failures, counts or Counts()).run()


@dataclass
class Counts:
    """What a loop has done so far.

    Attributes:
        n_found: documents of the caller that the store had.
        n_made: documents of the caller that were made.
        n_failed: of both, with an error.
        n_unconverged: of both, without an error, but not converged.
        n_asked: calculations that were begun.
        n_requests: calculations.
        n_atoms: of the calculations.
        n_force_calls: structures in all force calls.
    """

    n_found: int = 0
    n_made: int = 0
    n_failed: int = 0
    n_unconverged: int = 0
    n_asked: int = 0
    n_requests: int = 0
    n_atoms: int = 0
    n_force_calls: int = 0

    def summary(self, n_requested: int) -> ChunkSummary:
        """What a job on ``n_requested`` structures hands on."""
        return ChunkSummary(
            n_requested=n_requested,
            n_computed=self.n_made,
            n_reused=n_requested - self.n_made,
            n_failed=self.n_failed,
            n_unconverged=self.n_unconverged,
        )


class _Loop:
    def __init__(
        self,
        asks: Iterable[tuple[Hashable, Ask[Any]]],
        model: ModelRef,
        store: Store,
        max_atoms_per_batch: int | None,
        retry: Retry,
        keep_failures: bool,
        counts: Counts,
    ) -> None:
        self._asks = iter(asks)
        self._model = model
        self._store = store
        self._max_atoms = max_atoms_per_batch
        self._retry = retry
        self._keep_failures = keep_failures
        self._counts = counts
        self._flights: dict[ModelRef, SafeFlight] = {}  # one for each model that is asked for
        self._writer = Writer()
        self._plans: dict[str, _Running] = {}  # begun or about to, by name
        self._begin: deque[_Running] = deque()  # of the caller, not begun yet
        self._ready: deque[_Running] = deque()  # have all answers
        self._requests: dict[str, Calculation] = {}  # in the batch, by name
        self._wanted_by: dict[str, list[_Running]] = {}
        self._out: deque[tuple[Hashable, Document]] = deque()
        self._tried: set[str] = set()  # what this loop has made and would make again, were it of another one
        self._known: dict[int, bool] = {}  # whether calculations of plans are kept, by store
        self._got: dict[str, _Running] = {}  # plans with results since the last look, by name
        self._fresh: dict[str, Result] = {}  # these results without those that failed
        self._until: dict[str, tuple[_Running, Until]] = {}  # what plans wait for that is not computed here
        self._looked = -_LOOK_S  # when, at these
        self._exhausted = False
        self._number = 0

    def run(self) -> Iterator[tuple[Any, Any]]:
        with self._writer:
            while True:
                self._advance()
                while self._out:
                    yield self._out.popleft()
                if self._requests:
                    for flight in filter(None, list(self._flights.values())):
                        for name, result in flight.step():  # one force call for all that are in flight
                            self._arrived(str(name), result)
                elif self._until and not (self._ready or self._begin):
                    time.sleep(_LOOK_S)
                elif self._exhausted and not (self._ready or self._begin):
                    assert not self._plans, f"plans wait for each other: {sorted(self._plans)}"
                    return

    # ---- plans -------------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Give answers to the plans that have all of theirs, and begin others as long as the batch has room."""
        if self._until and time.monotonic() - self._looked >= _LOOK_S:
            for name, (plan, until) in list(self._until.items()):
                if until.so_far():
                    del self._until[name]
                    self._answer(plan, name, True)
            self._looked = time.monotonic()
        while len(self._out) < _AT_ONCE:
            if self._ready:
                self._send(self._ready.popleft())
            elif any(flight.n_atoms_waiting >= flight.budget for flight in self._flights.values()):
                break
            elif self._begin:
                self._send(self._begin.popleft())
            elif not self._read():
                break
        for plan in self._got.values():
            if plan.stored_as is not None and (plan.name in self._plans or plan.ask.property.keeps_calculations):
                good = {name: result for name, result in plan.new.items() if result.error is None}
                parts = {name: text_of_part(result) for name, result in good.items()}
                self._writer.add_parts(plan.store, plan.stored_as, parts)
                self._known[id(plan.store)] = True
            plan.new = {}
        self._got, self._fresh = {}, {}

    def _read(self) -> bool:
        """Take the next asks of the caller; False if there are none."""
        part = list(islice(self._asks, _AT_ONCE))
        if not part:
            self._exhausted = True
            return False
        for (key, _), answer in zip(part, self._look_up([ask for _, ask in part], self._model), strict=True):
            if isinstance(answer, _Running):
                if not answer.callers and not answer.parents:
                    self._begin.append(answer)
                answer.callers.append(key)
            else:
                self._counts.n_found += 1
                self._hand_out(key, answer)
        return True

    def _look_up(self, asks: list[Ask[Any]], model: ModelRef) -> list[_Running | Document]:
        """For each ask the stored document or the plan that makes it, begun or not; by ``model`` if it names none."""
        keys = [ask.key(model) for ask in asks]
        stored: dict[tuple[int, str], Document] = {}
        groups: dict[tuple[int, type[Document]], list[str]] = {}
        stores: dict[int, Store] = {}
        for ask, key in zip(asks, keys, strict=True):
            store = ask.store or self._store
            stores[id(store)] = store
            if key is not None:
                groups.setdefault((id(store), ask.property.document), []).append(key)
        for (place, kind), group in groups.items():
            waiting = self._writer.waiting(stores[place])
            found = stores[place].documents(kind, [key for key in group if key not in waiting])
            stored |= {(place, key): document for key, document in found.items()}
            stored |= {(place, key): waiting[key] for key in group if key in waiting}
        out: list[_Running | Document] = []
        for ask, key in zip(asks, keys, strict=True):
            store = ask.store or self._store
            if key is None:
                self._number += 1
                name = f"plan {self._number}"
            else:
                name = key if store is self._store else f"{key} in {id(store)}"
                document = stored.get((id(store), key))
                again = document is not None and (self._retry.again(document) or mended(ask.property, document))
                if document is not None and (name in self._tried or not again):
                    out.append(document)
                    continue
            plan = self._plans.get(name)
            if plan is None:
                plan = self._plans[name] = _Running(name, ask, ask.model or model, store, key)
            out.append(plan)
        return out

    def _send(self, plan: _Running) -> None:
        """Go on with a plan until it waits for a calculation or another plan, or is done."""
        while True:
            answers = {name: plan.answers[wanted] for name, wanted in plan.wanted.items()}
            try:
                if plan.generator is None:
                    plan.generator = self._generator(plan)
                    requests = next(plan.generator)
                else:
                    requests = plan.generator.send(answers)
            except StopIteration as end:
                self._finish(plan, end.value)
                return
            except Exception as problem:  # noqa: BLE001 - whatever an analysis may raise about a strange crystal
                error = of_this_crystal(problem, plan.ask.property.name)
                self._finish(plan, plan.ask.property.failed(self._crystal(plan), error))
                return
            plan.answers = {}
            self._want(plan, requests)
            if plan.waits:
                return

    def _crystal(self, plan: _Running) -> Any:
        return replace(plan.ask.crystal, model=plan.model, info=plan.model.info())

    def _generator(self, plan: _Running) -> Plan[Any]:
        plan.ask.property.check_model(plan.model)
        return plan.ask.property.plan(self._crystal(plan))

    def _want(self, plan: _Running, requests: Mapping[str, Request]) -> None:
        """Let a plan wait for its requests; what is known comes at once."""
        plan.wanted = dict.fromkeys(requests, "")  # answers come in the order of the requests
        asks = {name: request for name, request in requests.items() if isinstance(request, Ask)}
        for name, answer in zip(asks, self._look_up(list(asks.values()), plan.model), strict=True):
            if isinstance(answer, _Running):
                plan.wanted[name] = answer.name
                if not answer.callers and not answer.parents:
                    self._ready.append(answer)
                if plan not in answer.parents:
                    answer.parents.append(plan)
            else:
                plan.wanted[name] = f"document {name}"
                plan.answers[plan.wanted[name]] = answer
                plan.versions |= versions_of(answer)
            plan.versions[asks[name].property.name] = asks[name].property.version
        new: dict[str, Calculation] = {}
        for name, request in requests.items():
            if isinstance(request, Ask):
                continue
            if isinstance(request, Until):
                self._number += 1
                plan.wanted[name] = f"until {self._number}"
                self._until[plan.wanted[name]] = plan, request
                continue
            plan.wanted[name] = request_key(request, plan.model)
            new[plan.wanted[name]] = request  # equal requests of one plan are one
        kept = self._kept(plan.store, new) if new and plan.stored_as is not None else {}
        for wanted, request in new.items():
            if (part := kept.get(wanted)) is not None:
                plan.answers[wanted] = part
                continue
            self._wanted_by.setdefault(wanted, []).append(plan)
            if wanted not in self._requests:
                self._requests[wanted] = request
                self._counts.n_asked += 1
                self._batch(plan.model).put([(wanted, request)])

    def _kept(self, store: Store, requests: Mapping[str, Calculation]) -> dict[str, Result | None]:
        """Results of the calculations that have just arrived, or that a store keeps, or is about to, for plans of this
        process or one before; None of one that cannot be read.
        """
        if id(store) not in self._known:
            self._known[id(store)] = store.has_parts()
        found: dict[str, Result | None] = {}
        if self._known[id(store)]:
            texts = {**store.parts(requests), **self._writer.parts(store, requests)}
            found = {name: part_of_text(text, requests[name]) for name, text in texts.items()}
        return found | {name: self._fresh[name] for name in requests if name in self._fresh}

    def _finish(self, plan: _Running, document: Document) -> None:
        asked = plan.ask.property
        failed = getattr(document, "failed", False)
        versions = plan.versions | asked.versions
        document = marked(document, versions)
        if plan.stored_as is not None:
            if failed or mended(asked, document):
                self._tried.add(plan.name)
            if self._keep_failures or asked.keeps_failures or not failed:
                self._writer.add(plan.store, plan.stored_as, document)
        del self._plans[plan.name]
        for parent in plan.parents:
            parent.versions |= versions
            self._answer(parent, plan.name, document)
        self._counts.n_made += len(plan.callers)
        for key in plan.callers:
            self._hand_out(key, document)

    def _hand_out(self, key: Hashable, document: Document) -> None:
        failed = getattr(document, "failed", False)
        self._counts.n_failed += failed
        self._counts.n_unconverged += not (failed or getattr(document, "converged", True))
        self._out.append((key, document))

    def _answer(self, plan: _Running, name: str, answer: Answer) -> None:
        """Tell a plan what it waits for; it goes on when nothing else lacks."""
        plan.answers[name] = answer
        if not plan.waits:
            self._ready.append(plan)

    # ---- calculations ------------------------------------------------------------------------------------------------

    def _batch(self, model: ModelRef) -> SafeFlight:
        if model not in self._flights:
            head = model.head()
            self._flights[model] = SafeFlight(model.load() if head is None else InPlaceOfEnergy(head), self._max_atoms)
        return self._flights[model]

    def _arrived(self, name: str, result: Result) -> None:
        request = self._requests.pop(name)
        self._counts.n_requests += 1
        self._counts.n_atoms += request.n_atoms
        self._counts.n_force_calls += 1 if isinstance(result, Prediction) else result.n_force_calls
        if result.error is None:
            self._fresh[name] = result
        for plan in self._wanted_by.pop(name):
            plan.new[name] = result
            self._got[plan.name] = plan
            self._answer(plan, name, result)

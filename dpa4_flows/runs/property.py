"""Properties of structures in a folder: what `dpa4 compute -o` and the functions of the package keep there.

The structures and every document are in the results table, what was asked about them in a file beside it. Another
question about other structures may be asked in the same folder: it finds what was computed before.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from dpa4_core.data.plain_fields import structure_of_fields
from dpa4_core.data.readers import RUN_FILE
from dpa4_core.data.site_data import as_atoms
from dpa4_core.digests import digest
from dpa4_core.errors import DPA4Error
from dpa4_core.files import write_json
from dpa4_core.locks import holder, locked
from dpa4_core.version import code_version
from dpa4_flows.compute.driver import Counts, Retry
from dpa4_flows.compute.driver import compute as compute_asks
from dpa4_flows.compute.plan import mended
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.calculations import plain_structure
from dpa4_flows.documents.provenance import codes_of
from dpa4_flows.documents.schemas import Candidate, Document
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.answers import RELAXED, Answer, Question, Subject, gathered, parts_of, stored_answers
from dpa4_flows.properties.registry import property_class
from dpa4_flows.properties.settings import plain_settings, with_settings
from dpa4_flows.properties.table import Results
from dpa4_flows.report.properties import write_properties_report
from dpa4_flows.runs.run import ROWS, How, Note, Outcome, Part, Run, RunStatus, RunStructure
from dpa4_flows.store.protocol import MemoryStore, Store
from dpa4_flows.store.table import ResultsTable, move_table

TABLE_FILE = "results.sqlite"
LOCK_FILE = "run.lock"
FORMAT_VERSION = 1
_EARLIER = ("stability.sqlite", "stability.json", "relaxed.extxyz", "lower.extxyz", "force_constants")
"""What `dpa4 stability` of earlier versions left in its folder: a results table, and what was written from it."""

_KIND = "property"
_NOT_STORED = "documents not stored"
"""Meta entry: failures of the last run, which the next one tries again, and documents that are made anew each time."""
_SHARED = "shared by documents"
"""Meta entry: values of these that are the same for many, such as the hull of a chemical system, by checksum."""


class PropertyRun(Run):
    """The folder of properties."""

    kind: ClassVar[str] = _KIND
    numbers: ClassVar[tuple[str, ...]] = ("energy_ev",)

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        try:
            stored = json.loads((folder / RUN_FILE).read_text())
        except (OSError, ValueError):
            return False
        return isinstance(stored, dict) and stored.get("kind") == _KIND

    # ---- begun and computed ------------------------------------------------------------------------------------------

    @classmethod
    def asked_in(
        cls,
        folder: Path,
        question: Question,
        subjects: Sequence[Subject],
        model: ModelRef,
        how: How,
        max_atoms_per_batch: int | None = None,
    ) -> Results[Any]:
        """Answers to a question about structures in a folder, which takes the place of the one before.

        Raises:
            DPA4Error: the folder holds something else, or another process computes there.
        """
        if not cls.is_in(folder):
            _refuse_others(folder)
        run, model = cls(folder), model.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with run._locked():  # who computes there keeps the question that it answers
            if (folder / _EARLIER[0]).exists() and not cls.is_in(folder):
                move_table(folder / _EARLIER[0], folder / TABLE_FILE)
            run._begin(question, subjects, model)
            return run._compute(how, Counts(), max_atoms_per_batch)

    def _locked(self) -> AbstractContextManager[None]:
        return locked(self.folder / LOCK_FILE, "this run is being computed")

    def _begin(self, question: Question, subjects: Sequence[Subject], model: ModelRef) -> None:
        table = ResultsTable(self.folder / TABLE_FILE)
        table.put_candidates([_candidate(subject, number) for number, subject in enumerate(subjects)])
        table.set_meta(_NOT_STORED, {})
        relaxation = question.relaxation
        stored = {
            "kind": _KIND,
            "format_version": FORMAT_VERSION,
            "properties": {
                name: plain_settings(one) for name, one in zip(question.names, question.properties, strict=True)
            },
            "relaxation": None if relaxation is None else plain_settings(relaxation),
            "model": asdict(model),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "code_version": code_version(),
        }
        write_json(self.folder / RUN_FILE, stored)

    def _compute(self, how: How, counts: Counts, max_atoms_per_batch: int | None = None) -> Results[Any]:
        """Everything that is asked; what the folder holds is found. Writes the answers into files, too."""
        question, model = self.asked()
        table = ResultsTable(self.folder / TABLE_FILE)
        subjects = _subjects(table)
        results = compute(question, subjects, model, table, how, max_atoms_per_batch, counts)
        stored = stored_answers(question, subjects, model, table)
        shared: dict[str, Any] = {}
        not_stored = {
            f"{number} {name}": _kept(document, shared)
            for number, (one, there) in enumerate(zip(results.answers, stored, strict=True))
            for name, document in one.documents.items()
            if there.documents[name] is None
        }
        table.put_meta({_NOT_STORED: not_stored, _SHARED: shared})
        results.write(self.folder)
        return results

    def resume(self, how: How) -> Outcome:
        counts = Counts()
        with self._locked():
            results = self._compute(how, counts)
        bad = {failure.name for failure in results.failed} | set(results.unconverged)
        facts = {"properties": results.question.names, "n_structures": len(results)}
        return Outcome(reused=counts.n_requests == 0, n_failed=len(bad), facts=facts)

    # ---- what is there -----------------------------------------------------------------------------------------------

    def asked(self) -> tuple[Question, ModelRef]:
        """The question and the model.

        Raises:
            DPA4Error: the file is of another version, or a property is not installed here.
        """
        stored = json.loads((self.folder / RUN_FILE).read_text())
        if stored["format_version"] != FORMAT_VERSION:
            raise DPA4Error(
                f"{self.folder} has version {stored['format_version']}, this program reads {FORMAT_VERSION}; use the "
                "program that made it"
            )
        properties = [with_settings(property_class(name), given) for name, given in stored["properties"].items()]
        relaxation = stored["relaxation"]
        rest = None if relaxation is None else with_settings(Relaxed, relaxation)
        return Question(properties, rest), ModelRef(**stored["model"])

    def results(self) -> Results[Any]:
        """What is computed so far."""
        question, model = self.asked()
        table = ResultsTable(self.folder / TABLE_FILE, read_only=True)
        subjects = _subjects(table)
        answers = stored_answers(question, subjects, model, table)
        shared = table.get_meta(_SHARED, {})
        for key, fields in table.get_meta(_NOT_STORED, {}).items():
            number, _, name = key.partition(" ")
            found = answers[int(number)].documents
            if found[name] is None:
                found[name] = _found(question.kinds[name].document, fields, shared)
        return Results(question, answers, _parts(question, subjects, model, table))

    def status(self) -> RunStatus:
        results = self.results()
        _, model = self.asked()
        n_done = sum(_is_done(one) for one in results.answers)
        state = "complete" if n_done == len(results) else "stopped"
        if holder(self.folder / LOCK_FILE) is not None:
            state = "running"
        by = {"model": model.title, "model_sha256": model.sha256} if results.computed else {}
        facts = {
            "properties": results.question.names,
            **by,
            "n_failed": len({failure.name for failure in results.failed}),
            "unconverged": results.unconverged,
        }
        notes = [Note("failed", f.words, "bold red") for f in results.failed]
        notes += [Note("not converged", name, "bold yellow") for name in results.unconverged]
        older = _older(results)
        notes += [
            Note(
                "mended", f"{n} of {len(results)} answers about {name.replace('_', ' ')} are from before it was mended"
            )
            for name, n in older.items()
        ]
        steps = {"stopped": f"continue with: dpa4 resume {self.folder}"}
        if older:
            steps["complete"] = f"compute those anew, from the calculations that are kept: dpa4 resume {self.folder}"
        codes = codes_of(document for one in results.answers for document in one.documents.values())
        next_step = steps.get(state, "")
        return RunStatus(state, "structures", n_done, len(results), None, facts, tuple(notes), next_step, codes)

    def show(self, console: Console, *, everyone: bool = False) -> None:
        results = self.results()
        results.print(console, None if everyone else ROWS)

    def table(self) -> Iterator[dict[str, Any]]:
        yield from self.results().records()

    def report(self, path: Path) -> None:
        _, model = self.asked()
        write_properties_report(self.results(), path, title=self.folder.resolve().name, model=model)

    def structures(self) -> Iterator[RunStructure]:
        results = self.results()
        unconverged = set(results.unconverged)
        for one, found in zip(results.answers, results.structures(), strict=True):
            errors = one.errors(results.question.kinds)
            verdict = "failed" if errors else "not converged" if one.subject.name in unconverged else "fine"
            yield RunStructure(
                one.subject.name,
                one.formula or "",
                verdict,
                {"energy_ev": found.energy},
                atoms=None if found.error is not None or found.structure is None else as_atoms(found.structure),
                survives=verdict == "fine",
                reasons="; ".join(dict.fromkeys([*errors.values(), *(sentence for _, sentence in one.remarks)])),
            )
            for name in results.question.names:
                yield from further_structures(one, name, verdict)

    @property
    def writers(self) -> dict[str, Callable[[Path], str]]:
        def write(path: Path) -> str:
            results = self.results()
            results.to(path)
            return f"{len(results):,} structures"

        return dict.fromkeys((".csv", ".json", ".extxyz"), write)


def compute(
    question: Question,
    subjects: Sequence[Subject],
    model: ModelRef,
    store: Store | None,
    how: How,
    max_atoms_per_batch: int | None = None,
    counts: Counts | None = None,
) -> Results[Any]:
    """Everything that is asked about structures, while somebody may look on.

    Args:
        question: what is asked.
        subjects: about these.
        model: the potential.
        store: finds and keeps documents; in memory by default.
        how: who looks on, and whether failures are computed again.
        max_atoms_per_batch: atoms in flight; None leaves it to the device.
        counts: told what is done.

    Raises:
        DPA4Error: what another structure would meet, too.
    """
    question.check()
    counts, done, limit, store = counts or Counts(), 0, max_atoms_per_batch, MemoryStore() if store is None else store
    total = sum(1 for _ in question.asks(subjects))
    at_once = any(one.together for one in question.kinds.values())  # then answers come at the end, all together

    def part() -> list[Part]:
        words = f"{counts.n_force_calls:,} force calls" if counts.n_force_calls else ""
        n_done, n_all = (counts.n_requests, counts.n_asked) if at_once and counts.n_asked else (done, total)
        return [Part("compute", n_done, n_all, f"{n_done:,}/{n_all:,}", words, finished=done >= total)]

    def counted() -> Iterator[tuple[tuple[int, str], Any]]:
        nonlocal done
        asks, retry = question.asks(subjects), Retry(errors=how.retry_errors)
        for pair in compute_asks(asks, model, store, max_atoms_per_batch=limit, retry=retry, counts=counts):
            done += 1
            yield pair

    with how.watch.showing(part):
        answers = gathered(question, subjects, counted(), model)
    return Results(question, answers, _parts(question, subjects, model.resolve(), store))


def _parts(question: Question, subjects: Sequence[Subject], model: ModelRef, store: Store) -> Results[Any] | None:
    """What a store has of all that the properties of a question rest on; None where they rest on nothing."""
    asked = parts_of(question)
    return Results(asked, stored_answers(asked, subjects, model, store)) if asked.properties else None


def compute_in(
    folder: Path | None,
    question: Question,
    subjects: Sequence[Subject],
    model: ModelRef,
    how: How,
    max_atoms_per_batch: int | None = None,
) -> Results[Any]:
    """The same in a folder, or in memory without one."""
    if folder is None:
        return compute(question, subjects, model, None, how, max_atoms_per_batch)
    return PropertyRun.asked_in(folder, question, subjects, model, how, max_atoms_per_batch)


def _older(results: Results[Any]) -> Counter[str]:
    """How many documents of each property are from before its science, or that of what it rests on, was mended; those
    with an error are made anew in any case.
    """
    return Counter(
        name
        for one in results.answers
        for name, property_ in results.question.kinds.items()
        if (document := one.documents[name]) is not None
        and getattr(document, "error", None) is None
        and mended(property_, document)
    )


def _kept(document: Document, shared: dict[str, Any]) -> dict[str, Any]:
    """A document as a folder keeps it: what files leave out, since it is the same for many, stands in ``shared``."""
    fields = document.model_dump(mode="json")
    for name in _left_out(type(document)):
        value = getattr(document, name)
        fields[name] = digest(value)
        shared[fields[name]] = value
    return fields


def _found(kind: type[Document], fields: dict[str, Any], shared: Mapping[str, Any]) -> Document:
    """The same back; folders of before have no shared values."""
    there = {name: shared[fields[name]] for name in _left_out(kind) if name in fields}
    return kind.model_validate(fields | there)


def _left_out(kind: type[Document]) -> list[str]:
    return [name for name, field in kind.model_fields.items() if field.exclude]


def _refuse_others(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DPA4Error(f"{folder} is a file; give a folder")
    ours = (TABLE_FILE, LOCK_FILE, *_EARLIER)  # of a process that was killed while it began
    others = [path.name for path in folder.iterdir() if not path.name.startswith(ours)] if folder.exists() else []
    if others:
        raise DPA4Error(f"{folder} holds other files ({others[0]}); give the name of a new folder")


def further_structures(one: Answer, name: str, verdict: str) -> Iterator[RunStructure]:
    """Structures within the document of a property: supercells with defects, cells of an alloy, images of a path."""
    for label, fields in getattr(one.documents[name], "further", {}).items():
        structure = structure_of_fields(fields)
        yield RunStructure(
            f"{one.subject.name} {label}",
            structure.composition.reduced_formula,
            verdict,
            {},
            atoms=as_atoms(structure),
            survives=verdict == "fine",
            role=name,
        )


def _is_done(one: Answer) -> bool:
    """Whether all that was asked has an answer; of what is refused as it is nothing is relaxed."""
    return one.subject.error is not None or all(
        document is not None for name, document in one.documents.items() if name != RELAXED
    )


def _candidate(subject: Subject, number: int) -> Candidate:
    structure = subject.structure
    return Candidate(
        candidate_id=str(number),
        formula=subject.formula or "?",
        structure=None if structure is None else plain_structure(structure).as_dict(),
        source=subject.name,
        warnings=list(subject.warnings),
        error=subject.error,
    )


def _subjects(table: ResultsTable) -> list[Subject]:
    return [
        Subject(
            one.source,
            None if one.structure is None else structure_of_fields(one.structure),
            one.error,
            tuple(one.warnings),
        )
        for one in table.candidates()
    ]

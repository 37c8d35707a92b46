"""Relaxations and predictions of any number of structures into a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from rich.console import Console

from dpa4_core.data.flat_rows import flat_atoms
from dpa4_core.errors import named
from dpa4_core.verdicts import FLAG_SENTENCES
from dpa4_flows.large.claims import file_time, read_workers
from dpa4_flows.large.export import SUMMARY_COLUMNS, WRITERS, export_run
from dpa4_flows.large.folder import COMMANDS, RunFolder, is_run_folder, open_folder, prepare_folder
from dpa4_flows.large.launch import Ended, Resources, run_workers, share
from dpa4_flows.large.summary import Summary, count_done, summarise
from dpa4_flows.large.worker import RunWorker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.report.large import write_large_report
from dpa4_flows.runs.run import How, Note, Outcome, Part, Run, RunStatus, RunStructure


@dataclass(frozen=True)
class Workers:
    """Who computes.

    Attributes:
        number: processes on this machine.
        resources: of all of them together, or of the only one.
    """

    number: int = 1
    resources: Resources = field(default_factory=Resources)


THIS_PROCESS = Workers()


class LargeRun(Run):
    """The folder of a large run."""

    kind: ClassVar[str] = "large"
    numbers: ClassVar[tuple[str, ...]] = ("energy_ev", "energy_per_atom_ev", "converged")

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        return is_run_folder(folder)

    def status(self) -> RunStatus:
        run = open_folder(self.folder)
        summary = summarise(run)
        facts = {**run.facts(), "created": run.created, "inputs": run.inputs, **summary.to_dict()}
        idle = not summary.complete and not summary.n_workers
        return RunStatus(
            facts["state"],
            "structures",
            summary.n_done,
            summary.n_structures,
            summary.per_second or None,
            facts=facts,
            notes=tuple(notes_of(summary)),
            next_step=f"nobody is at work; continue with: dpa4 resume {self.folder}" if idle else "",
            codes=(run.code_version,) if run.code_version else (),
        )

    def show(self, console: Console, *, everyone: bool = False) -> None:
        run = open_folder(self.folder)
        summary = summarise(run)

        def line(text: str) -> None:
            console.print(text, markup=False, highlight=False, soft_wrap=True)

        line(f"  {summary.words}")
        if summary.n_flagged:
            line(f"  {summary.n_flagged:,} deserve a look, see the columns `flags` and `warnings`")
        settings = ", ".join(f"{name} {value}" for name, value in run.task.settings.items())
        line(f"  model {run.task.model.title} ({str(run.task.model.sha256)[:12]}…), {settings}")
        if everyone:
            for row in run.rows(["source", "error", "converged"]):
                if not row["converged"]:
                    line(f"  {row['source']}: {row['error'] or 'not converged'}")

    def resume(self, how: How) -> Outcome:
        run = open_folder(self.folder)
        files = run.input_paths()
        compute(prepare_folder(self.folder, run.task, files), files, run.task.model, how)
        summary = summarise(run)
        return Outcome(n_failed=summary.n_failed + summary.n_unconverged, facts=summary.to_dict())

    def table(self) -> Iterator[dict[str, Any]]:
        return open_folder(self.folder).rows(SUMMARY_COLUMNS)

    def report(self, path: Path) -> None:
        write_large_report(open_folder(self.folder), path)

    def structures(self) -> Iterator[RunStructure]:
        run = open_folder(self.folder)
        role = {"relax": "relaxed"}.get(run.task.calculation, run.task.calculation)
        for row in run.rows():
            failed = row["error"] is not None
            verdict = "failed" if failed else "fine" if row["converged"] else "not converged"
            yield RunStructure(
                row["name"] or row["source"],
                row["formula"] or "",
                verdict,
                dict(zip(self.numbers, (row["energy"], row["energy_per_atom"], row["converged"]), strict=True)),
                role=role,
                atoms=None if failed else flat_atoms(row),
                survives=verdict == "fine",
                reasons=row["error"]
                or "; ".join([*(FLAG_SENTENCES[flag] for flag in row["flags"] or []), *(row.get("warnings") or [])]),
            )

    @property
    def writers(self) -> dict[str, Callable[[Path], str]]:
        def write(path: Path) -> str:
            run = open_folder(self.folder)
            return f"{export_run(run, path):,} of {run.n_structures:,} structures"

        return dict.fromkeys(WRITERS, write)


def notes_of(summary: Summary) -> list[Note]:
    """What did not work, the first of each kind by name."""
    bad, slow = "bold red", "bold yellow"
    notes = [Note("failed", named(source, error), bad) for source, error in summary.failures]
    if summary.n_failed > len(summary.failures):
        more = summary.n_failed - len(summary.failures)
        notes.append(Note("failed", f"and {more:,} more, in the column `error`", bad))
    notes += [Note("not converged", f"{source}; raise --max-steps", slow) for source in summary.unconverged]
    if summary.n_unconverged > len(summary.unconverged):
        notes.append(Note("not converged", f"and {summary.n_unconverged - len(summary.unconverged):,} more", slow))
    return notes


def compute(run: RunFolder, files: Sequence[Path], model: ModelRef, how: How, workers: Workers = THIS_PROCESS) -> None:
    """Compute what is missing in a run.

    Args:
        run: the run.
        files: its input.
        model: that of the run, as this machine finds it.
        how: who looks on, and whether failures are computed again.
        workers: who computes.
    """
    since = file_time(run.path / "workers") if how.retry_errors else None
    before = count_done(run)
    if before:
        how.watch.remark(f"{before:,} of {run.n_structures:,} structures were computed before")
    if since is not None:
        before -= summarise(run).n_failed
    elif not run.unfinished():
        return
    counts: Counter[str] = Counter()
    with how.watch.showing(lambda: [_part(run, before, counts)]):
        if workers.number > 1:
            _compute_with_others(run, files, model, workers, how, since, counts)
            return
        if workers.resources.threads:
            torch.set_num_threads(workers.resources.threads)
        RunWorker(
            run,
            files,
            replace(model, device=workers.resources.device).load(),
            max_atoms_per_batch=workers.resources.max_atoms_per_batch,
            retry_since=since,
            on_result=lambda row: counts.update(done=1, failed=int(row.get("error") is not None)),
        ).work()


def _part(run: RunFolder, before: int, counts: Counter[str]) -> Part:
    done, total = before + counts["done"], run.n_structures
    words = f"{counts['failed']:,} failed"
    verb = COMMANDS[run.task.calculation]
    return Part(verb, done, total, f"{done:,}/{total:,}", words, finished=done >= total)


def _compute_with_others(
    run: RunFolder,
    files: Sequence[Path],
    model: ModelRef,
    workers: Workers,
    how: How,
    since: float | None,
    counts: Counter[str],
) -> None:
    before = _counts(run)

    def look() -> None:
        now = _counts(run)
        counts.update({name: now[name] - before[name] - counts[name] for name in now})

    def ended(process: Ended) -> None:
        how.watch.note("worker", f"{process.number} has ended: {process.why} (more in {process.log})")

    shares = share(workers.resources, workers.number)
    run_workers(run, files, model, shares, retry_since=since, look=look, ended=ended)
    look()


def _counts(run: RunFolder) -> Counter[str]:
    """Structures that all processes of the run have done, and those of them that failed."""
    found = read_workers(run.path / "workers").values()
    return Counter(done=sum(w["n_done"] for w in found), failed=sum(w["n_failed"] for w in found))

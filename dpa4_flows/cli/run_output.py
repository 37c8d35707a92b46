"""What a command says of a run folder: how far it is, what became of it, how to go on after Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from dpa4_flows.cli.console import out, print_json, remark, say, warn
from dpa4_flows.cli.lazy import SOME_FAILED
from dpa4_flows.runs import Note, Outcome, Run, RunStatus

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""
STOPPED = 75
"""Exit code: stopped by a signal, and the same command goes on (EX_TEMPFAIL of sysexits.h)."""


def show_status(run: Run, answer: RunStatus, *, everyone: bool = False, name: Path | None = None) -> None:
    """Print how far a run is and what came out.

    Args:
        run: the run.
        answer: its status.
        everyone: all lines of long tables.
        name: what to call it; by default its folder.
    """
    say(f"{name or run.folder}: {answer.words}")
    run.show(out, everyone=everyone)
    if answer.codes:
        say(f"made by dpa4-flows {', '.join(answer.codes)}")
    if answer.next_step:
        say(answer.next_step)
    show_notes(answer.notes)


def show_notes(notes: Iterable[Note]) -> None:
    """What to read beside the numbers."""
    for note in notes:
        warn(note.label, note.text, note.style)


def present(run: Run, outcome: Outcome, *, as_json: bool) -> None:
    """Show what became of a run, and exit with 3 if something could not be computed."""
    if as_json:
        files = {key: str(path) for key, path in outcome.files.items()}
        print_json({"folder": str(run.folder), "reused": outcome.reused, **files, **outcome.facts})
    elif outcome.words:
        for line in outcome.words:
            say(line)
    else:
        if outcome.reused:
            say(f"{run.folder} was complete before; nothing was computed")
        show_status(run, run.status())
        for label, path in outcome.files.items():
            say(f"{label}: {path}")
    if outcome.n_failed:
        where = "the report lists" if "html" in outcome.files else "dpa4 status tells"
        warn("note", f"{outcome.n_failed:,} could not be computed or did not converge; {where} the reasons")
        raise typer.Exit(SOME_FAILED)


@contextmanager
def interruptible(again: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block with a line that says how to go on."""
    by_signal = False

    def stop(number: int, frame: object) -> None:
        nonlocal by_signal
        by_signal = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        remark(f"\nstopped; what is computed is kept. Continue with: {again}")
        raise typer.Exit(STOPPED if by_signal else INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)

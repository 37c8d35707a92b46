"""A lock ends with its process, however that ends, and says who holds it as long as it is held."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dpa4_core import locks
from dpa4_core.locks import LockedError, holder, locked, locked_names

WORDS = "this run is being computed"


@contextmanager
def other_process(path: Path, then: str = "input()") -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock ``path`` until it is killed or gets a line."""
    code = f"""
from pathlib import Path
from dpa4_core.locks import locked
with locked(Path({str(path)!r}), "words"):
    print("held", flush=True)
    {then}
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_who_holds_a_lock_is_told_and_nothing_stays_behind(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with other_process(path) as process:
        with (
            pytest.raises(LockedError, match=f"{WORDS} by process {process.pid} on .* since 2.*{path}"),
            locked(path, WORDS),
        ):
            pass
        assert holder(path).pid == process.pid
        process.communicate("\n")
    assert holder(path) is None
    with locked(path, WORDS):
        assert holder(path).pid == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_process_keeps_itself_out_and_the_refusal_takes_nothing_away(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with locked(path, WORDS):
        for _ in range(2):
            with pytest.raises(LockedError, match=f"process {os.getpid()} on "), locked(path, WORDS):
                pass
        assert holder(path) is not None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path, number: int) -> None:
    path = tmp_path / "run.lock"
    with other_process(path) as process:
        process.send_signal(number)
        process.wait()
        assert path.exists()
        assert holder(path) is None
        with locked(path, WORDS):
            pass


@pytest.mark.parametrize(
    "content",
    [
        "",  # the disk was full
        json.dumps({"host": os.uname().nodename, "pid": os.getpid()}),  # the same number after a container's restart
        json.dumps({"host": os.uname().nodename, "pid": 1, "since": "2026-01-01T00:00:00+00:00"}),  # lives for ever
        json.dumps({"host": "another-host", "pid": 7}),
        "[1, 2]",
        "\0\xff",
    ],
    ids=["full disk", "own number", "number of init", "another host", "a list", "no text"],
)
def test_no_content_of_a_file_that_nobody_holds_keeps_anybody_out(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.lock"
    path.write_text(content)
    assert holder(path) is None
    with locked(path, WORDS):
        assert holder(path).pid == os.getpid()


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"pid": 3, "of": "another program"}'])
def test_a_lock_that_tells_nothing_still_holds(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.lock"
    with other_process(path):
        path.write_text(content)
        with pytest.raises(LockedError, match=f"{WORDS} by another process"), locked(path, WORDS):
            pass


def test_a_full_disk_does_not_keep_a_lock_from_holding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(locks.os, "pwrite", full)
    path = tmp_path / "run.lock"
    with locked(path, WORDS):
        assert holder(path) == locks.Holder()
    assert not path.exists()


def test_a_child_does_not_hold_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    code = "import os, time; child = os.fork(); child or time.sleep(60); print(child, flush=True); input()"
    with other_process(path, then=code) as process:
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        try:
            deadline = time.monotonic() + 10  # the child lets go when it first runs
            while holder(path) is not None and time.monotonic() < deadline:
                time.sleep(0.02)
            assert holder(path) is None
        finally:
            os.kill(child, signal.SIGKILL)


def test_who_waits_is_told_for_whom_and_gets_the_lock_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_REPORT_S", 0.3)
    path, told = tmp_path / "run.lock", []
    with other_process(path) as process:
        timer = threading.Timer(1.0, process.kill)
        timer.start()
        with locked(path, WORDS, wait_s=60, report=told.append):
            assert holder(path).pid == os.getpid()
        timer.join()
    assert told[0].startswith(f"{WORDS} by process {process.pid} on ")
    with other_process(path), pytest.raises(LockedError, match="also after 0.6 s"), locked(path, WORDS, wait_s=0.6):
        pass


def _count(path: Path, counter: Path, n: int) -> None:
    for _ in range(n):
        with locked(path, WORDS, wait_s=60):
            counter.write_text(str(int(counter.read_text()) + 1))


def test_never_two_hold_a_lock_although_its_file_comes_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, counter = tmp_path / "run.lock", tmp_path / "counter"
    counter.write_text("0")
    monkeypatch.setattr(locks, "_POLL_S", 0.001)
    start = multiprocessing.get_context("fork").Process
    processes = [start(target=_count, args=(path, counter, 30)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert counter.read_text() == "90"


def test_looking_at_a_lock_refuses_nobody_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    path.touch()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            holder(path)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(20):
            path.touch()
            with locked(path, WORDS):
                pass
    finally:
        stop.set()
        thread.join()
    assert holder(tmp_path / "missing" / "run.lock") is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_gets_a_warning_and_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    monkeypatch.setattr(locks.fcntl, "lockf", refuse)
    with pytest.warns(UserWarning, match="keeps no locks"), locked(tmp_path / "run.lock", WORDS):
        pass
    with (
        pytest.warns(UserWarning, match="keeps no locks"),
        locked_names(tmp_path / "x.lock", ["Li-O"], wait=False) as got,
    ):
        assert got == ["Li-O"]


def test_names_that_another_process_holds_are_left_out_and_free_after_its_end(tmp_path: Path) -> None:
    path = tmp_path / "library.lock"
    code = f"""
from pathlib import Path
from dpa4_core.locks import locked_names
with locked_names(Path({str(path)!r}), ["Li-O", "Co-O"], wait=False) as held:
    print(*held, flush=True)
    input()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:
        assert process.stdout.readline() == "Co-O Li-O\n"
        with locked_names(path, ["Li-O", "Mn-O", "Li-Mn"], wait=False) as held:
            assert held == ["Li-Mn", "Mn-O"]
        process.kill()
        process.wait()
    with locked_names(path, ["Li-O"], wait=True) as held:
        assert held == ["Li-O"]

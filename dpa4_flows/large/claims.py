"""Who computes which slice: leases in a folder that processes and machines share, and heartbeats.

A lease is a file ``NUMBER.GENERATION`` that only one process can create. It holds as long as its owner lives: as long
as the owner's heartbeat file is touched and, on the owner's own machine, its process exists. A dead owner's slice is
taken over with the next generation, which again only one process can create; so nobody ever removes the lease of
another, and no two processes hold a slice unless one was silent for longer than a lease lasts.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dpa4_core.files import WriteError, write_text
from dpa4_core.locks import holder, locked

logger = logging.getLogger(__name__)

LEASE_S = 60.0
"""Silence after which a process of another machine counts as dead."""
BEAT_S = 5.0
"""Between two heartbeats."""


class Worker:
    """How others see this process: a file with its counts that is touched by a thread while the block runs.

    Args:
        folder: shared by all processes of a run.
    """

    def __init__(self, folder: Path) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._path = folder / f"{self.name}.json"
        self._facts: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.time(),
            "n_done": 0,
            "n_failed": 0,
            "n_unconverged": 0,
            "state": "running",
        }
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._alive = ExitStack()
        self._thread = threading.Thread(target=self._beat, name="dpa4-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        lock = _lock(self._path)
        self._alive.enter_context(locked(lock, "this worker is at work"))
        self._facts["locked"] = holder(lock) is not None  # not so where the file system keeps no locks
        try:
            self.write()
        except BaseException:
            self._alive.close()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._facts["state"] = "stopped"
        with suppress(OSError, WriteError):  # the error that ends the block matters more
            self.write()
        self._alive.close()

    def count(self, *, failed: bool, unconverged: bool) -> None:
        """One more structure is done."""
        with self._lock:
            self._facts["n_done"] += 1
            self._facts["n_failed"] += failed
            self._facts["n_unconverged"] += unconverged

    def write(self) -> None:
        """Tell the others the counts, and that this process lives."""
        with self._lock:
            text = json.dumps({**self._facts, "seconds": time.time() - self._facts["started"]})
            write_text(self._path, text)

    def now(self) -> float:
        """Time of the file system, which is the same on all machines, in s since 1970."""
        os.utime(self._path)
        return self._path.stat().st_mtime

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            try:
                self.write()
            except (OSError, WriteError) as error:  # a full disk: the worker itself will say so
                logger.warning("no heartbeat: %s", error)


def read_workers(folder: Path) -> dict[str, dict[str, Any]]:
    """What the workers of a run said last, by name, and whether they are ``alive``."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError):
            facts = json.loads(path.read_text())
            facts["alive"] = _is_alive(path, time.time())
            found[path.stem] = facts
    return found


class Claims:
    """Leases on slices for one worker.

    Args:
        folder: of the leases.
        workers: of the heartbeat files.
        worker: this process.
    """

    def __init__(self, folder: Path, workers: Path, worker: Worker) -> None:
        self._folder, self._workers, self._worker = folder, workers, worker
        self._own: dict[int, int] = {}  # generation by slice

    def free(self, numbers: Iterable[int]) -> set[int]:
        """Those of the slices that nobody alive holds at the moment."""
        newest, now, alive = self._newest(), self._worker.now(), dict[str, bool]()
        return {n for n in numbers if n not in newest or not self._holds(n, newest[n], now, alive)}

    def take(self, number: int) -> int | None:
        """The generation of a new lease on slice ``number``; None if somebody alive has one."""
        last = self._newest().get(number, -1)
        if last >= 0 and self._holds(number, last, self._worker.now(), {}):
            return None
        try:
            with self._path(number, last + 1).open("x") as file:
                self._own[number] = last + 1
                file.write(self._worker.name)
        except (FileExistsError, FileNotFoundError):  # somebody was faster, or has ended the run
            return None
        except OSError:  # a full disk: an empty lease would keep others away for a while
            self.give_back(number)
            raise
        return last + 1

    def _newest(self) -> dict[int, int]:
        """The newest generation of every slice that has a lease."""
        newest: dict[int, int] = {}
        with suppress(FileNotFoundError), os.scandir(self._folder) as files:
            for file in files:
                number, _, generation = file.name.partition(".")
                if number.isdecimal() and generation.isdecimal():
                    newest[int(number)] = max(newest.get(int(number), -1), int(generation))
        return newest

    def is_mine(self, number: int) -> bool:
        """Whether nobody has taken slice ``number`` over, as happens to a process that was suspended."""
        return number in self._own and not self._path(number, self._own[number] + 1).exists()

    def give_back(self, number: int) -> None:
        """Let others have slice ``number``."""
        self._path(number, self._own.pop(number)).unlink(missing_ok=True)

    def give_all_back(self) -> None:
        for number in list(self._own):
            self.give_back(number)

    def keep(self, number: int) -> None:
        """Slice ``number`` is done: its lease stays until the run has ended, so that nobody takes it by mistake."""
        del self._own[number]

    def _path(self, number: int, generation: int) -> Path:
        return self._folder / f"{number:06d}.{generation}"

    def _holds(self, number: int, generation: int, now: float, alive: dict[str, bool]) -> bool:
        path = self._path(number, generation)
        try:
            owner = path.read_text()
            age = now - path.stat().st_mtime
        except FileNotFoundError:
            return False  # given back
        if not owner:  # just being written, unless its writer died in between
            return age < LEASE_S
        if owner == self._worker.name:  # nobody waits for himself
            return self._own.get(number) == generation
        if owner not in alive:
            alive[owner] = _is_alive(self._workers / f"{owner}.json", now)
        return alive[owner]


def file_time(folder: Path) -> float:
    """The time of the file system of ``folder``, which a clock of another machine may not show; s since 1970."""
    probe = folder / f".time-{uuid.uuid4().hex}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def _lock(heartbeat: Path) -> Path:
    """What a worker holds as long as it lives."""
    return heartbeat.with_suffix(".lock")


def _is_alive(path: Path, now: float) -> bool:
    try:
        facts = json.loads(path.read_text())
        silence = now - path.stat().st_mtime
        host, pid = str(facts["host"]), int(facts["pid"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False  # a heartbeat file is whole and comes before the first lease
    if facts.get("state") != "running" or silence > LEASE_S:
        return False
    if host != socket.gethostname():
        return True
    if facts.get("locked"):  # the number of a process says little: in a container that started again it is the same
        return holder(_lock(path)) is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True

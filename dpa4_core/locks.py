"""Locks that end with their process: the operating system keeps them, so none is ever left behind.

A lock is held by an open file. Killed processes, restarted containers and full disks need no hand; what stands in the
file only tells others who holds it. ``flock`` works on local disks and, on Linux, over NFS, where the server keeps it.
A file system may refuse locks; then a warning says so and the user keeps others away. Systems without ``fcntl``
(Windows) are not supported.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from dpa4_core.errors import DPA4Error
from dpa4_core.files import refused

_POLL_S = 0.1
_PATIENCE_S = 0.5  # `holder` has the lock for a moment, which must not refuse anybody
_REPORT_S = 30.0  # between two sentences while waiting
_PLACES = 2**31 - 1
_held: set[int] = set()  # descriptors of this process
_named: dict[Path, tuple[int, Counter[int]]] = {}  # of files of names, and how many blocks hold each place


class LockedError(DPA4Error):
    """Another process holds a lock; one sentence that says who."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as far as its file tells.

    Attributes:
        host, pid: of the process; None where it could not write them, as on a full disk.
        since: ISO 8601.
    """

    host: str | None = None
    pid: int | None = None
    since: str | None = None

    def __str__(self) -> str:
        if self.pid is None:
            return "another process"
        return f"process {self.pid} on {self.host} since {self.since}"


@contextmanager
def locked(
    path: Path, words: str, *, wait_s: float = 0.0, report: Callable[[str], None] = lambda text: None
) -> Iterator[None]:
    """Hold a lock file while the block runs; it is removed afterwards.

    Args:
        path: of the lock, in a folder that exists.
        words: what is done under the lock, for others: "this run is being computed".
        wait_s: how long to wait for another process, s; 0 refuses at once.
        report: told now and then who is waited for.

    Raises:
        LockedError: another process holds it, or still holds it after ``wait_s``.
        WriteError: nothing can be written into its folder.
    """
    descriptor = _acquire(path, words, wait_s, report)
    _held.add(descriptor)
    own = Holder(socket.gethostname(), os.getpid(), datetime.now(UTC).isoformat(timespec="seconds"))
    try:
        with suppress(OSError):  # a full disk: the lock holds all the same
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(asdict(own)).encode(), 0)
        yield
    finally:
        if descriptor in _held:  # not so in a forked process, which never held it
            with suppress(OSError):  # a folder that was removed meanwhile, or cannot be written any more
                path.unlink()
            _held.remove(descriptor)
            os.close(descriptor)


def holder(path: Path) -> Holder | None:
    """Who holds a lock at this moment; None if nobody does. Writes nothing, also where it could."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(descriptor)
    except OSError:  # a file system that keeps no locks
        return None
    finally:
        os.close(descriptor)
    return None


@contextmanager
def locked_names(path: Path, names: Iterable[str], *, wait: bool) -> Iterator[list[str]]:
    """Hold names while the block runs, any number of them with one file; gives those that are held.

    Each name is one byte of the file. A block that waits should ask for one name, or two processes might wait for each
    other. A process does not keep itself out: a name is free for others when its last block has ended.

    Args:
        path: the lock file, made if missing; it stays.
        names: what to hold.
        wait: wait for other processes; otherwise what they hold is left out.
    """
    path = path.absolute()
    if path not in _named:  # one descriptor for all blocks: closing any of a file would end all its locks
        _named[path] = _opened(path), Counter()
        _held.add(_named[path][0])
    descriptor, holders = _named[path]
    places: list[int] = []
    try:
        held = []
        for name in sorted(set(names)):
            place = int(hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest(), 16) % _PLACES
            try:
                if not holders[place]:
                    fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, place)
            except (BlockingIOError, PermissionError):  # POSIX allows either for a lock that is held
                continue
            except OSError as error:
                _warn_of_refusal(path, error)
            holders[place] += 1
            places.append(place)
            held.append(name)
        yield held
    finally:
        if _named.get(path, (-1, None))[1] is holders:  # not so in a forked process, which never held it
            for place in places:
                holders[place] -= 1
                if not holders[place]:
                    with suppress(OSError):
                        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, place)
            if not any(holders.values()):
                del _named[path]
                _held.remove(descriptor)
                os.close(descriptor)


def _opened(path: Path) -> int:
    """A descriptor of the lock file, which is made.

    Raises:
        WriteError: nothing can be written into its folder.
    """
    with refused(path.parent):
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _acquire(path: Path, words: str, wait_s: float, report: Callable[[str], None]) -> int:
    """A descriptor that holds the lock of the file that is at ``path`` at the end."""
    started = time.monotonic()
    told = started + min(1.0, _REPORT_S) - _REPORT_S  # the first sentence after a second
    while True:
        descriptor = _opened(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return descriptor
            other = Holder()  # who has removed it just now
        except BlockingIOError:
            other = _read(descriptor)
        except OSError as error:
            _warn_of_refusal(path, error)
            return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        now = time.monotonic()
        if now - started >= max(wait_s, _PATIENCE_S):
            waited = f", also after {wait_s:g} s" if wait_s else ""
            raise LockedError(f"{words} by {other}{waited} ({path} is locked); wait until it has ended")
        if now - told >= _REPORT_S:
            told = now
            report(f"{words} by {other}; waiting for it")
        time.sleep(_POLL_S)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> Holder:
    """Who wrote into a lock file; what is no such text tells nothing."""
    try:
        return Holder(**json.loads(os.pread(descriptor, 4096, 0)))
    except (OSError, ValueError, TypeError):
        return Holder()


def _warn_of_refusal(path: Path, error: OSError) -> None:
    warnings.warn(
        f"the file system of {path} keeps no locks ({error.strerror}): make sure that nobody else works there",
        stacklevel=3,
    )


def _forget_in_child() -> None:
    """Close what a forked process has inherited: it would hold the locks of its parent beyond the parent's end."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()
    _named.clear()


os.register_at_fork(after_in_child=_forget_in_child)

"""Force calls of many systems shared out among processes, where a CPU has several cores.

Threads hardly help small crystals: an operation on a tile takes some tens of microseconds, and Python lets one thread
at a time begin one. So once a process has spent `WORTH_S` seconds on calls that could have been shared, it starts
others, which hold the same potential and compute a part of the systems of every further call (`share_worker`).

``torch.get_num_threads()`` is the number of processes, this one included; the environment variable DPA4_PROCESSES takes
its place, and 1 shares nothing. They end with this process, however it ends. When one is lost, this process says so and
computes alone from then on.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import pickle
import select
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from dpa4_core.data.graph import Graph
from dpa4_core.errors import DPA4Error
from dpa4_core.memory import free_memory, share_memory
from dpa4_core.share_worker import Order, arrays_of, read, result_of, tensors_of, write
from dpa4_core.threads import one_thread

logger = logging.getLogger(__name__)

WORTH_S = 4.0
"""Seconds of force calls that could have been shared, after which processes are started: what starting one costs."""
CALL_EDGES = 600
"""What a call costs beside its edges, in edges: the dispatch of some 4,000 operations, however small."""
MIN_GAIN = 1.3
"""Time of the whole over that of the longest share; below it the threads of this process do as well."""
PROCESS_BYTES = 1.5e9
"""Memory that must be free for each process: libraries, weights, and its share of a batch."""


class Joinable(Protocol):
    """Output of a force call: a named tuple of tensors."""

    @classmethod
    def join(cls, parts: Any) -> Any:
        """Outputs of systems that follow each other as one."""
        ...


Out = TypeVar("Out", bound=Joinable)


class Shareable(Generic[Out]):
    """A potential whose force calls may be shared.

    Attributes:
        device: where it computes.
        shared: whether they are: it is on a CPU, and its weights do not change. What cannot be pickled
            computes alone.
    """

    device: torch.device
    shared = False

    def compute(self, graph: Graph) -> Out:
        """Energies, forces, virial and stress of every system in ``graph``.

        Raises:
            DPA4Error: an element that is not in the model's type map.
            MemoryError: less memory is free than a CPU would need; a GPU says so itself.
        """
        graph = graph.to(self.device)
        n = n_processes() if self.shared and graph.n_systems > 1 else 1
        if n == 1 or not _lock.acquire(blocking=False):  # another thread uses the processes, or this is a share
            return self.compute_alone(graph)
        try:
            return _crew.compute(self, graph, n)
        finally:
            _lock.release()

    def compute_alone(self, graph: Graph) -> Out:
        """As `compute`, in this process; ``graph`` is on the device."""
        raise NotImplementedError


def n_processes() -> int:
    """Processes that may share force calls, this one included.

    Raises:
        DPA4Error: DPA4_PROCESSES is no number.
    """
    if os.name != "posix":  # nobody says whether a pipe has something to read
        return 1
    stated = os.environ.get("DPA4_PROCESSES", "")
    if not stated:
        return torch.get_num_threads()
    if not (stated.isascii() and stated.isdigit() and int(stated)):
        raise DPA4Error(f"the environment variable DPA4_PROCESSES is {stated!r}; give a number from 1, or unset it")
    return int(stated)


def _pickled(potential: Shareable[Any]) -> bytes:
    return pickle.dumps(potential, protocol=pickle.HIGHEST_PROTOCOL)


def even_shares(costs: Tensor, n: int) -> list[int]:
    """Ends of at most ``n`` runs of neighbouring systems, whose ``costs`` [n_systems] are positive and add up alike."""
    total = torch.cumsum(costs.double(), 0)
    wanted = total[-1] * torch.arange(1, n, dtype=torch.float64) / n
    last = torch.searchsorted(total, wanted)  # the system in which a share should end goes to where most of it lies
    middle = total[last] - costs[last] / 2
    return sorted({*(last + (middle <= wanted).long()).tolist(), len(costs)} - {0})


class _LostError(Exception):
    """A process has ended, or does not speak as it should."""


class _Worker:
    """A process that computes shares."""

    def __init__(self, n_processes: int) -> None:
        package = str(Path(__file__).resolve().parent.parent)
        paths = [package, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "DPA4_PROCESSES"), "1")
        self._process = subprocess.Popen(  # noqa: S603  this program
            [sys.executable, "-P", "-m", "dpa4_core.share_worker", str(n_processes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **one, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._known: set[int] = set()
        self._said_hello = False

    def is_ready(self) -> bool:
        """Whether it has started."""
        if not self._said_hello and select.select([self._stdout], [], [], 0)[0]:
            self.receive()
            self._said_hello = True
        return self._said_hello

    def knows(self, number: int) -> bool:
        """Whether a potential was sent to it."""
        return number in self._known

    def send(self, number: int, packed: bytes | None, graph: Graph, kept: tuple[int, ...]) -> None:
        """Let it compute ``graph`` by a potential, which is ``packed`` the first time; see `Order`."""
        order = Order(number, packed, arrays_of(graph), kept)
        try:
            write(order, self._stdin)
        except OSError as error:
            raise _LostError(str(error)) from error
        self._known.add(number)

    def receive(self) -> Any:
        """What it has found; or the error that it met."""
        try:
            return read(self._stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise _LostError(f"it ended with {self._process.poll()}") from error

    def end(self, *, forked: bool = False) -> None:
        """Let it go; of a parent's process a fork only closes its own copies of the pipes."""
        for pipe in (self._stdin, self._stdout):
            with suppress(OSError):  # what was not sent
                pipe.close()
        if forked:
            self._process.returncode = 0  # nobody's child here
            return
        self._process.terminate()
        self._process.wait()


class _Crew:
    """The processes of this one; none before they are worth it, none after one was lost."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        self._started = False
        self._spent = 0.0
        self._numbers: weakref.WeakKeyDictionary[Shareable[Any], int] = weakref.WeakKeyDictionary()
        self._packed: weakref.WeakKeyDictionary[Shareable[Any], bytes] = weakref.WeakKeyDictionary()
        self._unsendable: weakref.WeakSet[Shareable[Any]] = weakref.WeakSet()
        self._next = itertools.count()

    def compute(self, potential: Shareable[Out], graph: Graph, n: int) -> Out:
        try:
            ready = [worker for worker in self._workers if worker.is_ready()]
        except _LostError as problem:
            ready = self._give_up(problem)
        if self._started and not ready:
            return potential.compute_alone(graph)
        edges = torch.bincount(graph.system_idx[graph.dst], minlength=graph.n_systems)
        ends = even_shares(edges + 1, 1 + len(ready) if self._started else n)
        longest = max(int(part.sum()) for part in torch.tensor_split(edges, ends[:-1]))
        worth = (CALL_EDGES + graph.n_edges) / (CALL_EDGES + longest) >= MIN_GAIN
        if worth and self._started and self._can_be_sent(potential):
            try:
                return self._share(potential, graph, ends, ready)
            except _LostError as problem:
                self._give_up(problem)
        begun = time.monotonic()
        output = potential.compute_alone(graph)
        if worth and not self._started:
            self._spent += time.monotonic() - begun
            if self._spent > WORTH_S:
                self._start(n)
        return output

    def _can_be_sent(self, potential: Shareable[Any]) -> bool:
        """Whether other processes can read it; a hook or a counter that hangs on it may forbid that."""
        if potential not in self._numbers and potential not in self._unsendable:
            try:
                self._packed[potential] = _pickled(potential)
            except (pickle.PicklingError, AttributeError, TypeError) as problem:
                logger.info("a potential cannot be sent to other processes (%s) and computes alone", problem)
                self._unsendable.add(potential)
            else:
                self._numbers[potential] = next(self._next)
        return potential not in self._unsendable

    def _start(self, n: int) -> None:
        self._started = True
        n = int(min(n, 1 + free_memory(torch.device("cpu")) / PROCESS_BYTES))
        try:
            self._workers = [_Worker(n) for _ in range(n - 1)]
        except OSError as problem:  # no more processes are permitted
            self._give_up(problem)
        share_memory(1 + len(self._workers))

    def _share(self, potential: Shareable[Out], graph: Graph, ends: list[int], ready: list[_Worker]) -> Out:
        """The output for ``graph``, of which every process takes the systems up to one of ``ends``.

        Raises:
            _LostError: a process has ended meanwhile.
        """
        busy, number, kept = ready[: len(ends) - 1], self._numbers[potential], tuple(self._numbers.values())
        if potential not in self._packed and not all(worker.knows(number) for worker in busy):
            self._packed[potential] = _pickled(potential)  # for processes that were started anew
        try:
            with one_thread():  # the other cores are busy
                for worker, first, last in zip(busy, ends, ends[1:], strict=False):
                    packed = None if worker.knows(number) else self._packed[potential]
                    worker.send(number, packed, graph.part(first, last), kept)
                outputs = [result_of(potential, graph.part(0, ends[0]))]
                outputs += [worker.receive() for worker in busy]  # all of them, before an error of one is raised
        except BaseException:  # by the user, too: an answer that nobody read would be taken for the next one
            self.end()
            self._started, self._spent = False, 0.0
            raise
        if all(worker.knows(number) for worker in self._workers):
            self._packed.pop(potential, None)
        for output in outputs:
            if isinstance(output, Exception):
                raise output
        own, *others = outputs
        return type(own).join([own, *(tensors_of(other) for other in others)])

    def _give_up(self, problem: Exception) -> list[_Worker]:
        logger.warning(
            "a process that shared force calls is lost (%s); the others end, too, and this one goes on", problem
        )
        self.end()
        self._started = True  # and none is started again
        return []

    def end(self, *, forked: bool = False) -> None:
        """Let all of them go."""
        for worker in self._workers:
            worker.end(forked=forked)
        self._workers = []
        share_memory(1)


_crew = _Crew()
_lock = threading.Lock()
atexit.register(lambda: _crew.end())


def _after_fork() -> None:
    """A fork has processes of its own, when they are worth it."""
    global _crew, _lock
    _crew.end(forked=True)
    _crew, _lock = _Crew(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

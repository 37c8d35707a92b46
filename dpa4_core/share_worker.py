"""A process that computes shares of force calls for the one that started it: ``python -m dpa4_core.share_worker N``.

Orders come on stdin and results go to stdout, both as pickles, which only these two processes write. It ends when stdin
does, that is with the process that started it.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import sys
from contextlib import suppress
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dpa4_core.data.graph import Graph
from dpa4_core.memory import keep_freed_memory, share_memory


class Order(NamedTuple):
    """What a process is to compute.

    Attributes:
        number: of the potential.
        potential: itself, pickled, the first time.
        graph: fields of a `Graph`, tensors as arrays.
        kept: numbers of the potentials that are still in use.
    """

    number: int
    potential: bytes | None
    graph: dict[str, Any]
    kept: tuple[int, ...]


def result_of(potential: Any, graph: Graph) -> Any:
    """Output of a potential, or the error that it met."""
    try:
        return potential.compute_alone(graph)
    except Exception as error:  # noqa: BLE001  raised where the whole was asked for
        return error


def arrays_of(value: Any) -> Any:
    """A graph as a dictionary, an output as it is, with arrays instead of tensors: they travel much faster."""
    if isinstance(value, Graph):
        return {field.name: arrays_of(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return _mapped(value, Tensor, Tensor.numpy)


def tensors_of(value: Any) -> Any:
    """The reverse of `arrays_of`, for an output."""
    return _mapped(value, np.ndarray, torch.from_numpy)


def write(message: Any, stream: IO[bytes]) -> None:
    """Send a message."""
    stream.write(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))
    stream.flush()


def read(stream: IO[bytes]) -> Any:
    """Wait for a message."""
    return pickle.load(stream)  # noqa: S301  of a process of ours


def _mapped(value: Any, kind: type, function: Any) -> Any:
    if isinstance(value, kind):
        return function(value)
    return type(value)(*(_mapped(one, kind, function) for one in value)) if isinstance(value, tuple) else value


def serve(orders: IO[bytes], results: IO[bytes]) -> None:
    """Compute what is ordered, until nobody orders any more, be it in the middle of a message."""
    potentials: dict[int, Any] = {}
    with suppress(EOFError, pickle.UnpicklingError, BrokenPipeError):
        write("ready", results)
        while True:
            order: Order = read(orders)
            if order.potential is not None:
                potentials[order.number] = pickle.loads(order.potential)  # noqa: S301  of a process of ours
            potentials = {number: one for number, one in potentials.items() if number in order.kept}
            graph = Graph(**{name: tensors_of(value) for name, value in order.graph.items()})
            write(arrays_of(result_of(potentials[order.number], graph)), results)


def main(n_processes: int) -> None:
    """Serve the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one decides
    orders, results = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no result
    keep_freed_memory()
    share_memory(n_processes)
    serve(orders, results)
    os._exit(0)  # Python would try once more to send what nobody reads, and say that it cannot


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]))

"""Several processes for one run on one machine: a share of the cores, or a GPU, for each.

OpenMP threads of two processes that spin on the same cores slow each other down by more than ten times, so every
process gets cores // workers threads, and they sleep while they wait.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from dpa4_flows.large.folder import RunFolder, RunFolderError, open_folder
from dpa4_flows.large.worker import RunWorker
from dpa4_flows.model_ref import ModelRef

_POLL_S = 0.5
_GRACE_S = 20.0  # for giving leases back after a signal


@dataclass(frozen=True)
class Resources:
    """What one process may use.

    Attributes:
        device: torch's name of it, or ``"auto"``.
        threads: of the CPU; 0 leaves it to torch.
        max_atoms_per_batch: atoms computed at the same time; None leaves it to the device.
    """

    device: str = "auto"
    threads: int = 0
    max_atoms_per_batch: int | None = None


def share(resources: Resources, n_workers: int) -> list[Resources]:
    """What each of the processes gets of what there is: GPUs in turn, or its part of the cores."""
    n_gpus = torch.cuda.device_count() if resources.device in ("auto", "cuda") else 0
    threads = resources.threads or max(1, n_cores() // n_workers)
    devices = [f"cuda:{i % n_gpus}" if n_gpus else resources.device for i in range(n_workers)]
    return [replace(resources, device=device, threads=threads) for device in devices]


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Ended:
    """A process that ended before the run was complete.

    Attributes:
        number: which one, from 0.
        why: a phrase.
        log: what it had to say.
    """

    number: int
    why: str
    log: Path


def run_workers(
    run: RunFolder,
    inputs: Sequence[Path],
    model: ModelRef,
    resources: Sequence[Resources],
    *,
    retry_since: float | None = None,
    look: Callable[[], None] = lambda: None,
    ended: Callable[[Ended], None] = lambda process: None,
) -> None:
    """Start one process for each entry of ``resources`` and wait until the run is complete.

    Args:
        run: the run.
        inputs: its files and folders, in their order.
        model: that of the run, as this machine finds it.
        resources: of the processes.
        retry_since: see `RunWorker`.
        look: called about twice a second.
        ended: told of a process that failed or was killed; the others take its work over.

    Raises:
        RunFolderError: all processes ended and something is left.
    """
    processes: dict[int, subprocess.Popen[bytes]] = {}
    try:
        for number, one in enumerate(resources):
            order = {
                "folder": str(run.path.resolve()),
                "inputs": [str(path.resolve()) for path in inputs],
                "model": asdict(replace(model, device=one.device)),
                "resources": asdict(one),
                "n_workers": len(resources),
                "retry_since": retry_since,
            }
            processes[number] = _start(order, one, _log(run, number))
        last = None
        while processes:
            time.sleep(_POLL_S)
            look()
            for number in [n for n, process in processes.items() if process.poll() is not None]:
                code = processes.pop(number).returncode
                if code:
                    last = Ended(number, _why(code, _log(run, number)), _log(run, number))
                    ended(last)
    finally:
        _stop(list(processes.values()))
    if left := run.unfinished():
        reason = f"; the last one: {last.why} (more in {last.log})" if last is not None else ""
        raise RunFolderError(
            f"all processes have ended, and {len(left)} of {run.n_slices} parts of {run.path} are left{reason}; "
            "the same command goes on"
        )


def work_as_ordered() -> None:
    """What a process of `run_workers` does; the order comes as JSON on stdin."""
    order = json.load(sys.stdin)
    resources = Resources(**order["resources"])
    if resources.threads:
        torch.set_num_threads(resources.threads)
    run = open_folder(Path(order["folder"]))
    RunWorker(
        run,
        [Path(path) for path in order["inputs"]],
        ModelRef(**order["model"]).load(),
        n_workers=order["n_workers"],
        max_atoms_per_batch=resources.max_atoms_per_batch,
        retry_since=order["retry_since"],
    ).work()


def _start(order: dict[str, object], resources: Resources, log: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(resources.threads),
        "MKL_NUM_THREADS": str(resources.threads),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "dpa4_flows.large"],  # -P: no module comes from the current folder
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as pipe:  # it ended already, and its code says so
        pipe.write(json.dumps(order).encode())
    return process


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ask the processes to give their leases back and end; insist after a while."""
    for process in processes:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_S
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _log(run: RunFolder, number: int) -> Path:
    return run.path / "logs" / f"worker-{number}.log"


def _why(code: int, log: Path) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (", often for want of memory" if name == "SIGKILL" else "")
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else f"exit code {code}"

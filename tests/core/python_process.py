"""Processes of their own that start at once.

A process that runs the package begins with four seconds of imports. `PythonProcess` stands for
``subprocess.Popen([sys.executable, ...])`` in tests: a server, one for each process of pytest, has imported what is
heavy, and forks. The fork is a program as any other and ends as one, by a signal too. Tests of what a program imports
start Python itself.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

HEAVY = ("dpa4_core.train.trainer", "dpa4_flows.cli.screen", "dpa4_flows.cli.structures", "dpa4_flows.cli.train")
LONGEST = 1_000_000  # bytes of an order


class PythonProcess:
    """A Python program with the arguments of Python: ``-m MODULE``, ``-c CODE`` or a file, and the program's own.

    Attributes:
        pid: of the process.
        returncode: None while it runs; negative where a signal ended it.
        stdout, stderr: what it said, when it has ended.
    """

    def __init__(
        self,
        *arguments: object,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        largest_file: int | None = None,
    ) -> None:
        """Start it; ``largest_file`` are the bytes that a file may have, as on a disk that is full."""
        order = {
            "arguments": [str(one) for one in arguments],
            "environment": dict(os.environ if environment is None else environment),
            "folder": str(folder or Path.cwd()),
            "largest_file": largest_file,
        }
        self._files = [tempfile.TemporaryFile() for _ in ("stdout", "stderr")]  # noqa: SIM115  closed by `wait`
        self._news, theirs = socket.socketpair()
        with theirs:
            fds = [*(file.fileno() for file in self._files), theirs.fileno()]
            socket.send_fds(_server(), [json.dumps(order).encode()], fds)
        self.pid = int(self._news.recv(64))
        self.returncode: int | None = None
        self.stdout = self.stderr = ""

    def wait_for_line(self) -> str:
        """The first line that it prints."""
        while b"\n" not in (said := _content(self._files[0])):
            assert self.poll() is None
            time.sleep(0.01)
        return said.decode().partition("\n")[0]

    def poll(self) -> int | None:
        """The return code, if it has ended."""
        with contextlib.suppress(TimeoutError):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float = 120.0) -> int:
        """The return code, when it has ended."""
        if self.returncode is None:
            if not select.select([self._news], [], [], timeout)[0]:
                raise TimeoutError(f"process {self.pid} still runs after {timeout:g} s")
            self.returncode = int(self._news.recv(64))
            self.stdout, self.stderr = (_content(file).decode() for file in self._files)
            for opened in (self._news, *self._files):
                opened.close()
        return self.returncode

    def end_by(self, number: int) -> int:
        """The return code after this signal, unless it has ended before."""
        if self.poll() is None:
            os.kill(self.pid, number)
        return self.wait()


def run_python(*arguments: object, **how: Any) -> PythonProcess:
    """A Python program that has ended."""
    process = PythonProcess(*arguments, **how)
    process.wait()
    return process


def _content(file: IO[bytes]) -> bytes:
    """Of a file that another process writes: its place in the file is left alone."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


@functools.cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(theirs.fileno())]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    server = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()], **pipes)
    theirs.close()

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


def _next_program(orders: socket.socket) -> list[str]:
    """Serve until nobody asks any more; returns in each new process, with its arguments."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # guards that have ended leave nothing behind
    while True:
        message, fds, _, _ = socket.recv_fds(orders, LONGEST, 3)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            orders.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _guarded(json.loads(message), *fds)
        for fd in fds:
            os.close(fd)


def _guarded(order: dict[str, Any], stdout: int, stderr: int, news: int) -> list[str]:
    """Returns in a process that is as ordered; this one waits for it and tells how it ended."""
    if pid := os.fork():
        os.close(stdout)
        os.write(news, str(pid).encode())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(news, str(code).encode())
        os._exit(0)
    os.close(news)
    for source, target in ((stdout, 1), (stderr, 2)):
        os.dup2(source, target)
        os.close(source)
    os.environ.clear()
    os.environ |= order["environment"]
    os.chdir(order["folder"])
    if order["largest_file"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest_file"], resource.RLIM_INFINITY))
    arguments: list[str] = order["arguments"]
    return arguments


def _run(arguments: list[str]) -> None:
    sys.path[:0] = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kind, *rest = arguments
    if kind == "-c":
        code, *rest = rest
        sys.argv = ["-c", *rest]
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        module, *rest = rest
        sys.argv = [module, *rest]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    for name in HEAVY:
        importlib.import_module(name)
    _run(_next_program(socket.socket(fileno=int(sys.argv[1]))))

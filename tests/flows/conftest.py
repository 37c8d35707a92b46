"""A MongoDB for tests, and hulls without the phases that come with the program.

The database is the one that DPA4_TEST_MONGODB_URI names, or SecantusDB as a process of its own: it is GPL, started,
never imported, and no requirement of the package.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from dpa4_flows.analysis import prototypes
from dpa4_flows.reference import bundled_phases

_START_S = 30.0


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flows make their tables where the process stands, which is not to be the source."""
    monkeypatch.chdir(tmp_path)


_WHOLE = (bundled_phases._table, prototypes._prototypes)


@pytest.fixture(scope="session", autouse=True)
def no_bundle() -> Iterator[None]:
    """Neither compounds nor structure types compete: toys would relax them for minutes, and tests count phases."""
    none = bundled_phases._table().slice(0, 0)
    with pytest.MonkeyPatch.context() as patch:  # for the fixtures of modules, too
        patch.setattr(bundled_phases, "_table", lambda: none)
        patch.setattr(prototypes, "_prototypes", tuple)
        yield


@pytest.fixture
def whole_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled compounds and the structure types, for tests that want them."""
    monkeypatch.setattr(bundled_phases, "_table", _WHOLE[0])
    monkeypatch.setattr(prototypes, "_prototypes", _WHOLE[1])


@pytest.fixture(scope="session")
def mongodb_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a database server for this session."""
    if uri := os.environ.get("DPA4_TEST_MONGODB_URI"):
        yield uri
        return
    program = shutil.which(
        "secantusd-py", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    )
    if program is None:
        pytest.skip("no MongoDB: pip install secantusdb, or set DPA4_TEST_MONGODB_URI")
    port = _free_port()
    folder = tmp_path_factory.mktemp("secantusdb")
    command = [
        program,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--storage-path",
        ":memory:",
        "--cache-size",
        "256M",
    ]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        uri = f"mongodb://127.0.0.1:{port}"
        _wait(uri, server, folder / "server.log")
        yield uri
    finally:
        server.terminate()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait(uri: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    with MongoClient(uri, serverSelectionTimeoutMS=200) as client:
        while True:
            try:
                client.admin.command("ping")
                return
            except PyMongoError as error:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the test database did not start: {log.read_text()[-2000:]}") from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

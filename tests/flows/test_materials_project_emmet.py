"""The client against the Materials Project's own server code, with S3 under watch.

Needs a Python with emmet-api and moto[server], which DPA4_TEST_EMMET_PYTHON names (by default the running one).
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from pymatgen.analysis.phase_diagram import PhaseDiagram
from toy_materials_project import DOCUMENTS, KEY

from dpa4_flows.reference import mp_server
from dpa4_flows.reference.materials_project import MaterialsProject

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent
DATA = FOLDER.parent / "data" / "mp" / "thermo_Co-Li-O.json.gz"


@pytest.fixture(scope="module")
def python():
    program = os.environ.get("DPA4_TEST_EMMET_PYTHON", sys.executable)
    probe = [program, "-c", "import emmet.api, uvicorn, moto.server, flask"]
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("no emmet-api or no moto[server]: set DPA4_TEST_EMMET_PYTHON to a Python that has them")
    return program


def start(command, log, address, environment=None):
    with log.open("w") as stream:
        server = subprocess.Popen(command, stdout=stream, stderr=stream, env=os.environ | (environment or {}))
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return server
        except (urllib.error.URLError, OSError):
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                raise RuntimeError(f"{command[1]} did not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.2)


def stop(server):
    server.terminate()
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def emmet(python, mongodb_uri, tmp_path_factory):
    """Endpoint and log of the server."""
    port = free_port()
    log = tmp_path_factory.mktemp("emmet") / "log"
    address = f"http://127.0.0.1:{port}/"
    command = [python, str(FOLDER / "emmet_server.py"), str(port), mongodb_uri, str(DATA)]
    server = start(command, log, address + "heartbeat", {"MAPI_DB_VERSION": "2026.04.13"})
    yield address, log
    stop(server)


@pytest.fixture
def s3(python, tmp_path, monkeypatch):
    """Log of an S3 server to which this process's S3 requests go."""
    port = free_port()
    log = tmp_path / "log"
    server = start([python, "-m", "moto.server", "-p", str(port)], log, f"http://127.0.0.1:{port}/moto-api/data.json")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    yield log
    stop(server)


def test_every_question_goes_to_the_endpoint_and_none_to_s3(emmet, s3, tmp_path, monkeypatch):
    endpoint, log = emmet
    monkeypatch.setattr(mp_server, "_PAGE", 30)
    mp = MaterialsProject(tmp_path / "cache", api_key=KEY, endpoint=endpoint)
    phases = mp.phases("Li-Co-O", max_above_hull=0.02)
    assert {phase.material_id for phase in phases} == {
        row["material_id"] for row in DOCUMENTS if row["energy_above_hull"] <= 0.02
    }
    assert mp.database_version() == "2026.04.13"

    entries = mp.entries("Li-Co-O")
    hull = PhaseDiagram(entries)
    served = {row["material_id"]: row["energy_above_hull"] for row in DOCUMENTS}
    assert len(entries) == len(served)
    for entry in entries:
        assert hull.get_e_above_hull(entry) == pytest.approx(served[entry.data["material_id"]], abs=1e-9)

    text = log.read_text()
    assert "thermo_types=GGA_GGA%2BU" in text
    assert "_skip=60" in text
    assert KEY not in text
    assert "materialsproject-build" not in s3.read_text()

    offline = MaterialsProject(tmp_path / "cache", endpoint=endpoint, offline=True)
    assert len(offline.phases("Li-O", max_above_hull=0.01)) > 5  # from the entries


def test_the_default_call_of_the_genuine_client_goes_to_s3(emmet, s3):
    """Why the calls are chosen by hand: this one does not know the endpoint."""
    from mp_api.client import MPRester  # takes seconds, which a run that deselects this file should not pay
    from mp_api.client.core.exceptions import MPRestError

    with MPRester(KEY, endpoint=emmet[0], mute_progress_bars=True) as rester, pytest.raises((MPRestError, OSError)):
        rester.materials.thermo.get_phase_diagram_from_chemsys("Li-O", thermo_type="GGA_GGA+U")
    assert "materialsproject-build" in s3.read_text()

"""Fetching and caching of weights, without a network."""

import functools
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from oracle_data import ORACLE

from dpa4_core.errors import DPA4Error
from dpa4_core.model import registry
from dpa4_core.model.registry import REGISTRY, RegistryEntry, WheelFile, fetch, known_checksums, resolve, sha256_of

NANO = ORACLE / "tiny" / "nano_like.pt"


class FileSource:
    """A source that hands out one file and counts."""

    def __init__(self, path):
        self.path, self.calls = path, 0

    def __str__(self):
        return f"file {self.path.name}"

    def fetch(self, target):
        self.calls += 1
        if not self.path.is_file():
            raise OSError("out of reach")
        shutil.copy(self.path, target)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DPA4_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def register(monkeypatch, *sources, sha256=""):
    entry = RegistryEntry("toy", sources, "PBE", "none", "toys", sha256=sha256)
    monkeypatch.setitem(REGISTRY, "toy", entry)
    return entry


def test_sources_are_tried_in_order_and_once(cache, monkeypatch, tmp_path):
    lost, good = FileSource(tmp_path / "missing.pt"), FileSource(NANO)
    register(monkeypatch, lost, good, sha256=sha256_of(NANO))
    lines = []
    assert fetch("toy", lines.append) == cache / "toy.pt" == fetch("toy")
    assert (lost.calls, good.calls) == (1, 1)
    assert lines == ["fetching toy from file missing.pt", "fetching toy from file nano_like.pt"]


def test_wrong_checksum_is_never_kept(cache, monkeypatch):
    register(monkeypatch, FileSource(NANO), sha256="0" * 64)
    with pytest.raises(DPA4Error, match=r"could not be fetched .*checksum .* instead of 000000000000"):
        fetch("toy")
    assert not (cache / "toy.pt").exists()


def test_checksum_of_the_first_fetch_is_verified_from_then_on(cache, monkeypatch):
    register(monkeypatch, FileSource(NANO))
    path = fetch("toy")
    assert known_checksums() == {"toy": sha256_of(NANO)}
    path.write_bytes(b"junk")
    with pytest.raises(DPA4Error, match="does not match the checksum of toy; delete it"):
        fetch("toy")


def test_file_copied_by_hand_is_recorded_too(cache, monkeypatch, tmp_path):
    register(monkeypatch, FileSource(tmp_path / "missing.pt"))
    cache.mkdir()
    shutil.copy(NANO, cache / "toy.pt")
    assert resolve("toy")[0] == cache / "toy.pt"
    (cache / "toy.pt").write_bytes(b"junk")
    with pytest.raises(DPA4Error, match="does not match"):
        fetch("toy")


def test_offline_says_what_to_do(cache, monkeypatch, tmp_path):
    register(monkeypatch, FileSource(tmp_path / "missing.pt"))
    with pytest.raises(DPA4Error, match=r"out of reach.*run `dpa4 fetch toy`, or copy the file to"):
        fetch("toy")


def test_hub_files_of_one_name_do_not_meet():
    a, b = registry.lookup("hub:A/X/dpa4-neo.pt"), registry.lookup("hub:B/Y/dpa4-neo.pt")
    assert len({a.file_name, b.file_name, REGISTRY["dpa4-neo"].file_name}) == 3


def test_damaged_record_and_unusable_cache_are_sentences(cache, monkeypatch, tmp_path):
    cache.mkdir()
    (cache / "checksums.json").write_text("{")
    register(monkeypatch, FileSource(NANO))
    with pytest.raises(DPA4Error, match=r"checksums\.json is damaged"):
        fetch("toy")
    (tmp_path / "file").touch()
    monkeypatch.setenv("DPA4_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DPA4Error, match="set DPA4_CACHE"):
        fetch("toy")


def test_wheel_that_does_not_exist_is_an_error_of_that_source(tmp_path):
    with pytest.raises(OSError):
        WheelFile("not a requirement ==", "x.pt").fetch(tmp_path / "x.pt")


class Stub(SimpleHTTPRequestHandler):
    """Announces more than it sends, or sends an error page."""

    def do_GET(self):  # the name is the protocol's
        body = NANO.read_bytes()[:1000] if "short" in self.path else b"<html>not found</html>"
        self.send_response(200)
        self.send_header("Content-Length", "100000" if "short" in self.path else str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("name, message", [("short.pt", "broke off"), ("page.pt", "not a torch checkpoint")])
def test_broken_transfers_are_not_kept(cache, monkeypatch, tmp_path, name, message):
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Stub, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        with pytest.raises(OSError, match="not https"):
            registry.download(url, tmp_path / "x")
        monkeypatch.setattr(registry, "_SCHEMES", ("http://",))
        with pytest.raises(OSError, match=message):
            registry.download(url, tmp_path / "x")
    finally:
        server.shutdown()
        server.server_close()

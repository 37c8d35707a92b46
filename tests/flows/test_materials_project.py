"""The client asks politely, remembers on disk, says each failure in one sentence and never shows the key."""

import gzip
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta

import pytest
from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.core import SETTINGS, Composition
from python_process import PythonProcess
from toy_materials_project import DOCUMENTS, KEY, ToyMaterialsProject

from dpa4_core.errors import DPA4Error
from dpa4_flows.reference import mp_http, mp_server
from dpa4_flows.reference.crystals import read_crystals
from dpa4_flows.reference.materials_project import MaterialsProject, MaterialsProjectError
from dpa4_flows.reference.mp_cache import Query, ResponseCache, _header, cache_dir

OK = (200, {}, None)


@pytest.fixture
def server():
    toy = ToyMaterialsProject()
    yield toy
    toy.close()


@pytest.fixture(scope="module", autouse=True)
def remembered_fields():
    """The genuine client builds a JSON schema for each field of each search, 0.4 s in all; here once a module."""
    from mp_api.client.core import BaseRester

    genuine = BaseRester.available_fields
    remembered = {}

    def available_fields(rester):
        kind = type(rester)
        if kind not in remembered:
            remembered[kind] = genuine.__get__(rester)
        return remembered[kind]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseRester, "available_fields", property(available_fields))
        yield


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    """A key in the environment, a cache of our own, and no waiting; yields the waits asked for."""
    waits = []
    monkeypatch.setenv("MP_API_KEY", KEY)
    for name in ("PMG_MAPI_KEY", "MP_API_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(SETTINGS, "PMG_MAPI_KEY", None)
    monkeypatch.setenv("DPA4_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(mp_http.time, "sleep", waits.append)
    return waits


def client(server, **options):
    return MaterialsProject(endpoint=server.endpoint, **options)


def files():
    return sorted(cache_dir().rglob("*.json.gz"))


def answers(folder=None):
    """Headers of the readable answers in a cache."""
    found = (_header(path) for path in sorted((folder or cache_dir()).glob("*/*/*.json.gz")))
    return [header for header in found if header is not None]


def failure(server, **options):
    """The sentence with which a question ends."""
    with pytest.raises(MaterialsProjectError) as caught:
        client(server, **options).phases("Li-O")
    sentence = str(caught.value)
    assert KEY not in sentence
    assert "\n" not in sentence
    return sentence


def age(days):
    """Make every cached answer older."""
    for path in files():
        header, *documents = gzip.decompress(path.read_bytes()).decode().splitlines()
        row = json.loads(header)
        row["checked"] = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        path.write_bytes(gzip.compress("\n".join([json.dumps(row), *documents, ""]).encode()))


def test_a_material_is_a_structure_like_one_of_a_file(server, monkeypatch):
    monkeypatch.setenv("MP_API_ENDPOINT", server.endpoint)
    lithia = min(
        (document for document in DOCUMENTS if document["formula_pretty"] == "Li2O" and "entries" in document),
        key=lambda document: document["energy_above_hull"],
    )
    name = lithia["material_id"]
    by_id, by_formula = read_crystals([name, "Li2O"])
    assert by_id.name == name and by_formula.warnings[0].startswith(f"is {name} of the Materials Project 2026.04.13")
    assert by_id.structure == by_formula.structure and by_id.structure.composition.reduced_formula == "Li2O"
    n_asked = len(server.asked)
    assert read_crystals([name])[0].structure == by_id.structure and len(server.asked) == n_asked
    with pytest.raises(MaterialsProjectError, match="it has no LiO7"):
        read_crystals(["LiO7"])
    with pytest.raises(MaterialsProjectError, match="mp-99999999 is no material of the Materials Project"):
        read_crystals(["mp-99999999"])


def test_without_a_key_materials_come_from_the_cache_or_one_sentence_says_why_not(server, monkeypatch):
    monkeypatch.setenv("MP_API_ENDPOINT", server.endpoint)
    client(server).phases("Li-O")
    monkeypatch.delenv("MP_API_KEY")
    found, gone = read_crystals(["mp-1960", "NaCl"])
    assert found.structure.composition.reduced_formula == "Li2O"
    assert gone.error == (
        "there is no file NaCl, and the Materials Project does not give that material without a key: set MP_API_KEY to "
        "the one of materialsproject.org/api"
    )
    with pytest.raises(DPA4Error, match="there is no file Xy2"):  # no elements: a file that is not there
        read_crystals(["Xy2"])


def test_phases_are_those_of_the_system_and_its_sub_systems(server):
    phases = client(server).phases("O-Li", max_above_hull=0.05)
    expected = {
        document["material_id"]: document
        for document in DOCUMENTS
        if set(document["elements"]) <= {"Li", "O"} and document["energy_above_hull"] <= 0.05
    }
    assert {phase.material_id for phase in phases} == expected.keys()
    for phase in phases:
        document = expected[phase.material_id]
        assert phase.structure.composition == Composition(document["composition"])
        assert phase.structure.volume == pytest.approx(document["volume"])
        assert phase.energy_above_hull == document["energy_above_hull"]
        assert (phase.thermo_type, phase.deprecated, phase.database_version) == ("GGA_GGA+U", False, "2026.04.13")


def test_without_limit_every_phase_comes(server):
    assert len(client(server).phases("Li-O", max_above_hull=None)) == 53


def test_hull_of_the_entries_is_the_hull_of_the_materials_project(server):
    entries = client(server).entries("Li-Co-O")
    assert len(entries) == len(DOCUMENTS)
    assert {adjustment.name.split("(")[0] for entry in entries for adjustment in entry.energy_adjustments} == {
        "MP2020 anion correction ",
        "MP2020 GGA/GGA+U mixing correction ",
    }
    hull = PhaseDiagram(entries)
    served = {document["material_id"]: document["energy_above_hull"] for document in DOCUMENTS}
    for entry in entries:
        assert hull.get_e_above_hull(entry) == pytest.approx(served[entry.data["material_id"]], abs=1e-9)


def test_entries_of_the_mixed_type_are_refused_because_their_scales_differ(server):
    with pytest.raises(MaterialsProjectError, match="on different scales"):
        client(server).entries("Li-O", thermo_type="GGA_GGA+U_R2SCAN")
    assert not server.asked


def test_every_search_names_system_and_thermo_type_and_only_the_fields_it_needs(server):
    client(server).phases("Li-O")
    (query,) = server.searches
    assert query["chemsys"] == "Li,O,Li-O"
    assert query["thermo_types"] == "GGA_GGA+U"
    assert query["energy_above_hull_max"] == "0.1"
    assert query["_fields"].split(",") == list(mp_server.FIELDS)


def test_a_cached_answer_needs_no_request(server):
    first = client(server).phases("Li-Co-O")
    n_asked = len(server.asked)
    again = client(server)
    assert [phase.material_id for phase in again.phases("O-Co-Li")] == [phase.material_id for phase in first]
    assert {phase.material_id for phase in again.phases("Li-O")} < {phase.material_id for phase in first}
    assert again.database_version() == "2026.04.13"
    assert len(server.asked) == n_asked


def test_only_the_missing_sub_systems_are_asked_for(server):
    mp = client(server)
    mp.phases("Li-O")
    mp.phases("Li-Co-O")
    assert server.searches[1]["chemsys"] == "Co,Co-Li,Co-O,Co-Li-O"


def test_empty_systems_are_remembered_too(server):
    mp = client(server)
    assert mp.phases("He-Ne") == []
    assert mp.phases("He-Ne") == []
    assert len(server.searches) == 1


def test_an_answer_without_limit_serves_a_narrower_question(server):
    mp = client(server)
    mp.entries("Li-O")
    n_asked = len(server.asked)
    assert max(phase.energy_above_hull for phase in mp.phases("Li-O", max_above_hull=0.01)) <= 0.01
    assert len(server.asked) == n_asked


def test_offline_with_a_warm_cache_needs_no_server_no_key_and_no_client(server, monkeypatch):
    client(server).phases("Li-O")
    n_asked = len(server.asked)
    monkeypatch.delenv("MP_API_KEY")
    monkeypatch.setitem(sys.modules, "mp_api.client", None)  # to import it is an error
    age(days=4000)
    mp = client(server, offline=True, max_age_days=0)
    assert len(mp.phases("Li-O")) > 10
    assert mp.database_version() == "2026.04.13"
    assert len(server.asked) == n_asked


def test_offline_with_a_cold_cache_names_the_missing_query(server):
    message = r"lacks Li \(GGA_GGA\+U, up to 0.1 eV/atom above the hull\) and 2 more of its answers, .* offline=False"
    with pytest.raises(MaterialsProjectError, match=message):
        client(server, offline=True).phases("Li-O")
    client(server).phases("Li-O")
    with pytest.raises(MaterialsProjectError, match=r"lacks Co \(.* and 3 more"):
        client(server, offline=True).phases("Li-Co-O")
    with pytest.raises(MaterialsProjectError, match=r"lacks Li \(GGA_GGA\+U, all\)"):
        client(server, offline=True).entries("Li-O")


def test_offline_the_version_is_that_of_the_cache(server):
    with pytest.raises(MaterialsProjectError, match="is empty"):
        client(server, offline=True).database_version()
    assert not server.asked
    assert client(server).database_version() == "2026.04.13"  # asks: nothing is cached
    client(server).phases("Li")
    assert client(server, offline=True).database_version() == "2026.04.13"


def test_an_answer_never_mixes_versions(server):
    client(server).phases("Li-O")
    server.version = "2026.10.01"
    mp = client(server)
    phases = mp.phases("Li-Co-O")
    assert {phase.database_version for phase in phases} == {mp.database_version()} == {"2026.10.01"}
    assert server.searches[1]["chemsys"].split(",")[:3] == ["Co", "Li", "O"]
    assert {phase.database_version for phase in client(server).phases("Li-O")} == {"2026.10.01"}


def test_an_old_answer_is_confirmed_by_a_heartbeat_or_replaced(server):
    client(server).phases("Li-O")
    age(days=40)
    fetched = [query.fetched for query in answers()]
    n_asked = len(server.asked)
    client(server, max_age_days=30).phases("Li-O")
    assert [path for path, _ in server.asked[n_asked:]] == ["/heartbeat"]
    assert [query.fetched for query in answers()] == fetched
    client(server, max_age_days=30).phases("Li-O")
    assert len(server.asked) == n_asked + 1
    age(days=40)
    server.version = "2026.10.01"
    assert client(server, max_age_days=30).phases("Li-O")[0].database_version == "2026.10.01"


@pytest.mark.parametrize(
    ("status", "sentence", "attempts"),
    [
        (400, "did not accept the query", 1),
        (401, "refused the API key", 1),
        (403, "refused the API key", 1),
        (404, "there is no Materials Project API", 1),
        (302, "redirects to another address", 1),
        (429, "limits the rate of requests", 5),
        (500, "server error", 5),
        (503, "server error", 5),
    ],
)
def test_a_refusal_is_one_sentence_after_a_bounded_number_of_attempts(server, status, sentence, attempts):
    server.thermo = deque([(status, {"Location": "http://127.0.0.1:1/"}, {"detail": f"no: {KEY}"})])
    assert sentence in failure(server)
    assert len(server.searches) == attempts
    assert not files()


def test_a_wrong_key_is_named_as_such(server):
    assert "refused the API key (HTTP 401" in failure(server, api_key=KEY[::-1])


def test_a_passing_failure_is_waited_out(server, settings):
    server.thermo = deque([(503, {}, {}), (429, {"Retry-After": "7"}, {}), (502, {}, b"<html>"), OK])
    server.heartbeat = deque([(500, {}, {}), OK])
    assert client(server).phases("Li-O")
    assert len(server.searches) == 4
    assert settings == [1.0, 1.0, 7.0, 9.0]


def test_a_server_that_asks_for_hours_is_not_waited_for(server, settings):
    server.thermo = deque([(429, {"Retry-After": "7200"}, {})])
    assert "limits the rate" in failure(server)
    assert settings == []


def test_an_answer_that_breaks_off_is_asked_for_again(server):
    server.thermo = deque([(200, {"Content-Length": "99999"}, b'{"data": ['), OK])
    assert client(server).phases("Li-O")
    server.thermo = deque([(200, {"Content-Length": "99999"}, b'{"data": [')])
    with pytest.raises(MaterialsProjectError, match="cannot reach"):
        client(server).phases("Co")


def test_no_network_is_one_sentence(server, settings):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(MaterialsProjectError, match="cannot reach .* check the network .* offline=True"):
        MaterialsProject(endpoint=closed).phases("Li-O")
    assert len(settings) == len(mp_http.PAUSES_S)


def test_a_forbidden_heartbeat_does_not_stop_the_search(server):
    server.heartbeat = deque([(403, {}, {})])
    mp = client(server)
    assert mp.phases("Li-O")
    assert mp.database_version() == "unknown"


@pytest.mark.parametrize("body", [b"<html>log in</html>", {"status": "OK"}, {"db_version": "../../x"}, [1]])
def test_a_heartbeat_of_another_kind_is_no_materials_project(server, body):
    server.heartbeat = deque([(200, {}, body)])
    assert "does not answer like the Materials Project" in failure(server)


@pytest.mark.parametrize("body", [b"<html>", {"docs": []}, {"data": [{"name": 1}], "meta": {}}, {"data": None}])
def test_an_answer_of_another_form_says_so(server, body):
    server.thermo = deque([(200, {}, body)])
    assert "update mp-api" in failure(server)
    assert not files()


@pytest.mark.parametrize("field", ["material_id", "chemsys", "thermo_type", "energy_above_hull", "entries"])
def test_a_missing_field_is_named_and_nothing_is_stored(server, field):
    server.documents = [{name: value for name, value in row.items() if name != field} for row in DOCUMENTS]
    if field in ("chemsys", "thermo_type"):  # the toy selects by these
        served = [row for row in server.documents if set(row["elements"]) <= {"Li"}]
        server.thermo = deque([(200, {}, {"data": served, "meta": {"total_doc": len(served)}})])
    sentence = failure(server)
    assert "update mp-api" in sentence
    assert field == "chemsys" or f"lacks '{field}'" in sentence
    assert not files()


def test_entries_without_their_corrections_are_refused(server):
    server.documents = json.loads(json.dumps(DOCUMENTS))
    for row in server.documents:
        for entry in row["entries"].values():
            del entry["energy_adjustments"]
    assert "lacks 'energy_adjustments'" in failure(server)


@pytest.mark.parametrize("field", ["structure", "energy", "composition", "correction"])
def test_a_changed_entry_is_one_sentence_and_nothing_is_stored(server, field):
    changed = json.loads(json.dumps(DOCUMENTS))
    for row in changed:
        for entry in row["entries"].values():
            entry[field] = {"value": 1}
    server.documents = changed
    assert "its format changed" in failure(server)
    assert not files()


def test_long_answers_come_in_pages_and_are_counted(server, monkeypatch):
    monkeypatch.setattr(mp_server, "_PAGE", 20)
    assert len(client(server).entries("Li-O")) == 53
    skips = [query.get("_skip") for query in server.searches]
    assert skips == [None, "20", "40", None]


def test_pages_that_overlap_are_refused(server, monkeypatch):
    monkeypatch.setattr(mp_server, "_PAGE", 20)
    search = server.search
    monkeypatch.setattr(server, "search", lambda query: search({**query, "_skip": "0"}))
    with pytest.raises(MaterialsProjectError, match="some twice or not at all"):
        client(server).entries("Li-O")
    assert not files()


def test_a_large_system_is_asked_for_in_addresses_of_bounded_length(server, monkeypatch):
    monkeypatch.setattr(mp_server, "_LONGEST_LIST", 200)
    client(server).phases("Li-Na-K-Rb-Cs-Mg")
    asked = [query["chemsys"] for query in server.searches]
    assert len(set(",".join(asked).split(","))) == 2**6 - 1
    assert 1 < len(asked) < 10
    assert max(map(len, asked)) <= 200


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (None, "no Materials Project API key: set MP_API_KEY"),
        ("abcDEF1234567890", "legacy Materials Project"),
        ("short", "it has 5 characters"),
        ("0123456789abcdefABCDEF012345678!", "32 letters and digits"),
        ("0123456789abcdef\nABCDEF012345678", "32 letters and digits"),
    ],
)
def test_what_cannot_be_a_key_is_said_without_showing_it(server, monkeypatch, key, sentence):
    monkeypatch.delenv("MP_API_KEY")
    message = failure(server, api_key=key)
    assert sentence in message
    assert key is None or key not in message
    assert not server.searches


@pytest.mark.parametrize("place", ["argument", "MP_API_KEY", "PMG_MAPI_KEY", "settings"])
def test_the_key_comes_from_the_usual_places(server, monkeypatch, place):
    monkeypatch.delenv("MP_API_KEY")
    if place == "settings":
        monkeypatch.setitem(SETTINGS, "PMG_MAPI_KEY", KEY)
    elif place != "argument":
        monkeypatch.setenv(place, f" {KEY}\n")
    assert client(server, api_key=KEY if place == "argument" else None).phases("Li-O")


def test_the_key_appears_nowhere(server, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    mp = client(server, api_key=KEY)
    mp.phases("Li-O")
    server.thermo = deque([(422, {}, {"detail": [{"loc": ["x", "y"], "msg": f"header {KEY}"}]})])
    with pytest.raises(MaterialsProjectError) as caught:
        mp.phases("Co")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    shown = [repr(mp), repr(mp._server), str(caught.value), caplog.text, *capfd.readouterr()]
    assert not any(KEY in text for text in shown)
    for path in cache_dir().rglob("*"):
        assert KEY not in str(path)
        assert path.is_dir() or KEY not in gzip.decompress(path.read_bytes()).decode()


@pytest.mark.parametrize("length", [0, 10, 60, -300, -9, -1])
def test_a_half_written_file_is_refused_offline_and_replaced_online(server, length):
    client(server).phases("Li-O")
    path = next(path for path in files() if path.name.startswith("Li-O."))
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    with pytest.raises(MaterialsProjectError, match=r"lacks Li-O \(GGA"):
        client(server, offline=True).phases("Li-O")
    assert client(server).phases("Li-O")
    assert server.searches[1]["chemsys"] == "Li-O"
    client(server, offline=True).phases("Li-O")


@pytest.mark.parametrize(
    "change", [{"n_documents": 3}, {"format": "else"}, {"endpoint": "http://other/"}, {"query": 1}]
)
def test_a_file_that_is_not_what_its_name_says_is_not_used(server, change):
    client(server).phases("Li-O")
    for path in files():
        header, *documents = gzip.decompress(path.read_bytes()).decode().splitlines()
        path.write_bytes(gzip.compress("\n".join([json.dumps(json.loads(header) | change), *documents]).encode()))
    with pytest.raises(MaterialsProjectError, match="lacks Li "):
        client(server, offline=True).phases("Li-O")


def test_a_writer_that_dies_leaves_the_old_answer(tmp_path, monkeypatch):
    cache = ResponseCache(tmp_path, "http://here/")
    query = Query("Li", "GGA_GGA+U")
    cache.store(query, "1", [{"n": 1}])

    def die(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        cache.store(query, "1", [{"n": 2}])
    assert cache.load(query, "1")[1] == [{"n": 1}]
    assert [path.suffix for path in (tmp_path / "here" / "1").iterdir()] == [".gz"]


def test_a_killed_writer_harms_nobody(tmp_path):
    script = (
        "import sys, pathlib\n"
        "from dpa4_flows.reference.mp_cache import Query, ResponseCache\n"
        "cache = ResponseCache(pathlib.Path(sys.argv[1]), 'http://here/')\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    cache.store(Query('Li', 'R2SCAN'), '1', [{'n': i, 'x': 'y' * 1000} for i in range(500)])\n"
    )
    cache = ResponseCache(tmp_path, "http://here/")
    writer = PythonProcess("-c", script, tmp_path)
    assert writer.wait_for_line() == "ready"
    deadline = time.monotonic() + 20
    while cache.load(Query("Li", "R2SCAN"), "1") is None and time.monotonic() < deadline:
        os.sched_yield()
    writer.end_by(signal.SIGKILL)
    assert len(cache.load(Query("Li", "R2SCAN"), "1")[1]) == 500
    assert len(answers(tmp_path)) == 1


def test_two_writers_and_a_reader_never_meet_a_broken_answer(tmp_path):
    cache = ResponseCache(tmp_path, "http://here/")
    query = Query("Li-O", "GGA_GGA+U", 0.1)
    cache.store(query, "1", [{"writer": -1}] * 50)
    errors = []

    def write(number):
        try:
            for _ in range(20):
                cache.store(query, "1", [{"writer": number}] * (50 + number))
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in (0, 1)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        _, documents = cache.load(query, "1")
        assert len({document["writer"] for document in documents}) == 1
    for writer in writers:
        writer.join()
    assert not errors
    assert len(list((tmp_path / "here" / "1").iterdir())) == 1


def test_answers_are_kept_apart_by_question_and_by_cache(server, tmp_path):
    assert answers() == []
    client(server).phases("Li-O")
    client(server, cache=tmp_path / "own").entries("Co")
    assert [str(item.query) for item in answers(tmp_path / "own")] == ["Co (GGA_GGA+U, all)"]
    listed = answers()
    assert [item.query.chemsys for item in listed] == ["Li-O", "Li", "O"]
    assert {item.endpoint for item in listed} == {server.endpoint}
    assert {item.database_version for item in listed} == {"2026.04.13"}
    assert all(item.path.is_file() and 0 <= item.age_days < 1 and item.n_documents for item in listed)


def test_a_cached_answer_is_plain_json_with_its_source(server):
    client(server).phases("Li")
    (path,) = files()
    header, *documents = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert header["query"] == {"chemsys": "Li", "thermo_type": "GGA_GGA+U", "max_above_hull": 0.1}
    assert header["database_version"] == "2026.04.13"
    assert "CC BY 4.0" in header["source"]
    assert documents == [
        {name: row[name] for name in mp_server.FIELDS}
        for row in sorted(DOCUMENTS, key=lambda row: row["material_id"])
        if row["elements"] == ["Li"] and row["energy_above_hull"] <= 0.1
    ]


def test_a_folder_that_cannot_be_written_is_one_sentence(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MaterialsProjectError, match="set DPA4_CACHE"):
        client(server, cache=tmp_path / "file").phases("Li")


@pytest.mark.parametrize(
    "endpoint", ["api.materialsproject.org", "http://me:secret@here/", "ftp://here", "http://[", "http://h/?k=secret"]
)
def test_an_endpoint_is_an_address_without_secrets(endpoint):
    with pytest.raises(DPA4Error, match="must be an address such as") as caught:
        MaterialsProject(endpoint=endpoint)
    assert "secret" not in str(caught.value)


def test_the_endpoint_comes_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("MP_API_ENDPOINT", server.endpoint.rstrip("/"))
    assert MaterialsProject().phases("Li")


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ({"chemsys": "Li-Xx"}, "'Xx' is not an element"),
        ({"chemsys": ""}, "'' is not an element"),
        ({"chemsys": "Li-*"}, "'\\*' is not an element"),
        ({"chemsys": "H-Li-Na-K-Rb-Cs-Mg-Ca-Sr-Ba"}, "more than 9 elements"),
        ({"chemsys": "Li", "thermo_type": "PBE"}, "unknown thermo type 'PBE'; choose from"),
        ({"chemsys": "Li", "max_above_hull": -1.0}, "max_above_hull is -1.0"),
        ({"chemsys": "Li", "max_above_hull": float("nan")}, "max_above_hull is nan"),
    ],
)
def test_a_question_without_sense_is_not_sent(server, question, sentence):
    with pytest.raises(MaterialsProjectError, match=sentence):
        client(server).phases(**question)
    assert not server.asked

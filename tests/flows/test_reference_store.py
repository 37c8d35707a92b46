"""The library of competing phases: built once, shared, safe against kills, quick to ask."""

from __future__ import annotations

import gzip
import json
import signal
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry, ComputedStructureEntry
from python_process import PythonProcess
from toy_campaign import MORSE, antifluorite, layered, rocksalt

from dpa4_core.errors import DPA4Error
from dpa4_core.model.info import ModelInfo
from dpa4_flows.analysis.hull import phase_positions
from dpa4_flows.compute.driver import Counts, compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.engines import run_local
from dpa4_flows.makers.named import ConvexHullMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.hull import Hull
from dpa4_flows.reference.catalogue import export_entries, stores, summarise
from dpa4_flows.reference.entries import document_entry
from dpa4_flows.reference.library import ReferencePhase, load_phases
from dpa4_flows.reference.mp_frame import check_materials_project_scale, materials_project_references
from dpa4_flows.reference.sources import BundledPhases, MaterialsProjectPhases, PhaseFile
from dpa4_flows.reference.store import ReferenceStore, canonical_system

DATA = Path(__file__).parents[1] / "data"
MODEL, RELAXED = ModelRef(MORSE), Relaxed(fmax=0.05, check_minimum=False)
SLOW = ModelRef("toy_potentials:SlowMorse")
XENON = Structure(Lattice.cubic(4), ["Li", "Xe"], [[0.0] * 3, [0.5] * 3])


class Phases:
    """A source that counts how often it is asked."""

    name, version, reach = "made up", "1", float("inf")

    def __init__(self, *structures: Structure) -> None:
        self.structures = structures
        self.asked: list[str] = []

    def phases(self, chemical_system: str) -> list[ReferencePhase]:
        self.asked.append(chemical_system)
        found = [ReferencePhase(f"phase-{i}", s, "made up") for i, s in enumerate(self.structures)]
        return [p for p in found if p.elements <= set(chemical_system.split("-"))]

    def surveys(self, chemical_system: str) -> bool:
        return True

    def answered_by(self) -> str:
        return self.version


class Client:
    """Stands for the client of the Materials Project."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float | None]] = []

    def phases(self, chemsys: str, *, max_above_hull: float | None = 0.1) -> list[Any]:
        self.asked.append((chemsys, max_above_hull))
        good, withdrawn = (
            SimpleNamespace(material_id=name, structure=structure, deprecated=old, database_version="2026.04.13")
            for name, structure, old in (("mp-1", antifluorite(), False), ("mp-2", antifluorite() * 2, True))
        )
        return [good, withdrawn]

    def database_version(self) -> str:
        return "2026.04.13"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def store(tmp_path: Path) -> ReferenceStore:
    return ReferenceStore.for_model(MODEL, RELAXED, tmp_path / "library")


def test_systems_are_written_in_one_way() -> None:
    assert canonical_system("Li-Co-O") == canonical_system("O-Co-Li-O") == "Co-Li-O"
    with pytest.raises(DPA4Error, match="'Qq' in 'Li-Qq' is no element"):
        canonical_system("Li-Qq")


def test_build_computes_what_is_missing(store: ReferenceStore) -> None:
    source = Phases(antifluorite(), rocksalt("Co"), layered("Co"))
    small = store.build(["O-Li"], [BundledPhases(), source])
    assert small.chemical_systems == ["Li-O"]
    assert small.n_computed == small.n_phases > 3
    assert small.failures == small.missing_elements == []
    times = {d.key: d.provenance.created for d in store.table.iter_calculations()}

    large = store.build(["Li-Co-O", "Li-O"], [BundledPhases(), source])
    assert large.n_reused == small.n_phases
    assert large.n_computed == large.n_phases - small.n_phases > 0
    assert source.asked == ["Li-O", "Co-Li-O"]
    assert times.items() <= {d.key: d.provenance.created for d in store.table.iter_calculations()}.items()

    again = store.build(["Co-O", "Co-Li-O"], [BundledPhases(), source])  # a sub-system came with the answer
    assert again.n_computed == 0
    assert len(source.asked) == 2
    assert set(store.surveys(["Co-Li-O", "Co-Ni", "Ni"])) == {"Co-Li-O"}
    graded = store.completeness(["Co-Li-O", "Co-Ni"])
    assert graded["Co-Li-O"].grade == "surveyed" and graded["Co-Ni"].grade == "element_missing"


def test_new_version_of_a_source_and_refresh_ask_again(store: ReferenceStore) -> None:
    source = Phases(antifluorite())
    store.build(["Li-O"], [source])
    source.version = "2"
    source.structures = (antifluorite(), rocksalt("Li"))
    assert store.build(["Li-O"], [source]).n_computed == 1
    store.build(["Li-O"], [source], refresh=True)
    assert source.asked == ["Li-O"] * 3


def test_references_equal_those_of_the_relaxed_structures(store: ReferenceStore) -> None:
    store.build(["Li-O"], [BundledPhases()])
    first, second = (store.references(["Li-O"], "none") for _ in range(2))
    third = ReferenceStore.open(store.table.path).references(["O-Li"], "none")  # from the stored entries
    for entries in (second.entries, third.entries):
        assert [e.as_dict() for e in entries] == [e.as_dict() for e in first.entries]
    documents = store.table.calculations(e.data["key"] for e in first.entries)
    for entry in first.entries:
        whole = document_entry(documents[entry.data["key"]], "none", "x").entry
        assert whole is not None
        assert entry.energy_per_atom == pytest.approx(whole.energy_per_atom, abs=1e-12)
        assert entry.data["frame"] == whole.data["frame"]


def test_corrections_survive_storing(tmp_path: Path) -> None:
    store = ReferenceStore.for_model(ModelRef("toy_potentials:MPtrjMorse"), RELAXED, tmp_path)
    store.build(["Co-Li-O"], [BundledPhases(), Phases(layered("Co"))])
    for entries in (
        store.references(["Co-Li-O"], "MP2020"),
        ReferenceStore.open(store.table.path).references(["Co-Li-O"], "MP2020"),
    ):
        lithium_cobaltate = [e for e in entries.entries if e.composition.reduced_formula == "LiCoO2"]
        assert lithium_cobaltate
        for entry in lithium_cobaltate:
            assert entry.correction == pytest.approx((2 * -0.687 - 1.638) * entry.composition["Co"], abs=1e-9)
            assert {a.name for a in entry.energy_adjustments} == {
                "MP2020 anion correction (oxide)",
                "MP2020 GGA/GGA+U mixing correction (Co)",
            }


def test_phase_that_fails_is_told_and_can_be_tried_again(store: ReferenceStore) -> None:
    summary = store.build(["Li-Xe"], [BundledPhases(), Phases(XENON)])
    assert summary.missing_elements == ["Xe"]
    assert len(summary.failures) == 1 and summary.failures[0].startswith("LiXe (phase-0): element Xe")
    assert store.build(["Li-Xe"], []).n_computed == 0
    assert store.build(["Li-Xe"], [], retry_errors=True).n_computed == 1
    (sentence,) = store.references(["Li-Xe"], "none").missing_in("Li-Xe")
    assert "element Xe" in sentence


def test_materials_project_gives_structures_once(store: ReferenceStore) -> None:
    client = Client()
    summary = store.build(["Li-O"], [BundledPhases(), MaterialsProjectPhases(client)])
    store.build(["Li-O"], [MaterialsProjectPhases(client)])
    assert client.asked == [("Li-O", 0.1)]
    row = next(row for row in store.table.phases(["Li-O"]) if row.name == "mp-1")
    assert row.source == "Materials Project 2026.04.13"
    assert "mp-2" not in {row.name for row in store.table.phases()}  # withdrawn
    assert summary.n_phases == len(store.table.phases())
    store.build(["Li-O"], [MaterialsProjectPhases(client, reach=0.3)])  # further up: another question
    assert client.asked[1:] == [("Li-O", 0.3)]
    (system,) = summarise(store).systems
    assert system.completeness.grade == "surveyed"
    assert any(source.startswith("Materials Project 2026.04.13, 1 phases, 20") for source in system.sources)


def test_hull_query_takes_milliseconds_without_model_and_network(
    store: ReferenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.build(["Co-Li-O"], [BundledPhases(), Phases(layered("Co"))])
    candidate = store.references(["Co-Li-O"], "none").entries[-1]

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a query needs neither model nor network")

    monkeypatch.setattr(ModelRef, "load", forbidden)
    monkeypatch.setattr("socket.socket.connect", forbidden)
    opened = ReferenceStore.open(store.table.path)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        references = opened.references(["Co-Li-O"], "none")
        (position,) = phase_positions([candidate], references.entries)
        times.append(time.perf_counter() - start)
        assert position.energy_above_hull is not None
    assert min(times) < 0.05  # 5 ms on a free machine


def test_store_knows_its_model_and_settings(store: ReferenceStore, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    other = ReferenceStore.for_model(MODEL, replace(RELAXED, fmax=0.1), folder)
    assert other.table.path != store.table.path
    assert [summarise(s).settings["fmax"] for s in stores(folder)] in ([0.05, 0.1], [0.1, 0.05])
    opened = ReferenceStore.open(store.table.path)
    assert opened.relaxation == store.relaxation and opened.model == store.model
    assert opened.key(rocksalt("Co")) == store.key(rocksalt("Co"))
    assert stores(tmp_path / "nothing") == []


RELAXATIONS = [
    Relaxed(),
    Relaxed(check_minimum=False),
    Relaxed(0.03, 321, False, 1.5, 0.01, "fire", 0.07, [1, 1, 0, 0, 0, 1], True, True),
    Relaxed(0.03, 321, True, -1.5, 0.01, "lbfgs", 0.07, "volume", True, False),
]


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_reopened_library_has_every_setting_of_its_relaxation(relaxation: Relaxed, tmp_path: Path) -> None:
    """Also those that settings leave out, as they were before there were so many."""
    store = ReferenceStore.for_model(MODEL, relaxation, tmp_path)
    opened = ReferenceStore.open(store.table.path)
    assert opened.relaxation == relaxation and opened.key(rocksalt("Co")) == store.key(rocksalt("Co"))
    differing = {f.name for f in fields(Relaxed) for other in RELAXATIONS if getattr(other, f.name) != f.default}
    assert differing == {f.name for f in fields(Relaxed)}


def test_export_is_a_file_of_phases(store: ReferenceStore, tmp_path: Path) -> None:
    store.build(["Li-O"], [BundledPhases(), Phases(antifluorite())])
    path = tmp_path / "export.json.gz"
    assert export_entries(store, path, "none") == len(store.table.phases())
    content = json.loads(gzip.decompress(path.read_bytes()))
    assert content["corrections"] == "none" and content["model"]["sha256"] == store.info.sha256
    entries = [ComputedStructureEntry.from_dict(row) for row in content["entries"]]
    energies = sorted(e.energy_per_atom for e in store.references(["Li-O"], "none").entries)
    assert sorted(e.energy_per_atom for e in entries) == pytest.approx(energies)
    assert {p.source for p in load_phases([path])} >= {"made up"}
    assert {p.role for p in load_phases([path])} >= {"element"}
    second = ReferenceStore.for_model(MODEL, RELAXED, tmp_path / "second")
    assert second.build(["Li-O"], [PhaseFile(path)]).n_phases == len(entries)


_BUILD = """
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.reference.sources import BundledPhases
from dpa4_flows.reference.store import ReferenceStore
relaxed = Relaxed(fmax=0.05, check_minimum=False)
store = ReferenceStore.for_model(ModelRef("toy_potentials:SlowMorse"), relaxed, {folder!r})
print(store.build({systems!r}, [BundledPhases()], max_atoms_per_batch={atoms}).n_computed)
"""


def building(folder: Path, systems: list[str], atoms: int) -> PythonProcess:
    return PythonProcess("-c", _BUILD.format(folder=str(folder), systems=systems, atoms=atoms))


def test_kill_loses_only_what_is_in_flight(tmp_path: Path) -> None:
    store = ReferenceStore.for_model(SLOW, RELAXED, tmp_path)
    systems = ["Ca-O", "Mg-O"]
    process = building(tmp_path, systems, atoms=8)
    try:
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if sum(1 for _ in store.table.iter_calculations()):
                break
            time.sleep(0.02)
    finally:
        ended = process.end_by(signal.SIGKILL)
    assert ended == -signal.SIGKILL
    survived = {d.key: d for d in store.table.iter_calculations()}
    n_phases = len(store.table.phases(systems))
    assert 0 < len(survived) < n_phases
    assert store.references(systems, "none").missing  # told, not left out in silence

    summary = store.build(systems, [BundledPhases()])
    assert (summary.n_computed, summary.n_reused) == (n_phases - len(survived), len(survived))
    assert survived.items() <= {d.key: d for d in store.table.iter_calculations()}.items()
    assert not store.references(systems, "none").missing


@pytest.mark.parametrize("kind", ["build", "hull"])
def test_two_processes_share_the_work(tmp_path: Path, kind: str) -> None:
    store = ReferenceStore.for_model(SLOW, RELAXED, tmp_path)
    other = building(tmp_path, ["Li-Mg", "Mg"], atoms=100)
    while not store.table.phases() and other.poll() is None:
        time.sleep(0.02)
    counts = Counts()
    if kind == "build":
        store.build(["Mg", "Li-Mg"], [BundledPhases()], counts=counts)
    else:
        crystal = Crystal(Structure(Lattice.cubic(3.3), ["Li", "Mg"], [[0.0] * 3, [0.5] * 3]))
        ((_, found),) = compute([("", Ask(Hull(RELAXED, library=str(tmp_path)), crystal))], SLOW, counts=counts)
        assert found.n_competing == len(store.table.phases(["Li-Mg"]))
    other.wait()
    computed = int(other.stdout)
    n_own = counts.n_requests - (kind == "hull")
    assert computed + n_own == len(store.table.phases()) == sum(1 for _ in store.table.iter_calculations())


def test_hull_maker_takes_phases_from_the_library(tmp_path: Path) -> None:
    maker = ConvexHullMaker(model=MODEL, property=Hull(RELAXED, library=str(tmp_path / "library")))
    flow = maker.make([layered("Co")], tmp_path / "hull.sqlite")
    result = run_local(flow, tmp_path / "jobs")[flow.output.uuid][1].output
    (document,) = result.documents
    store = ReferenceStore.for_model(MODEL, RELAXED, tmp_path / "library")
    assert document.n_competing == len(store.table.phases(["Co-Li-O"]))
    assert document.completeness.survey is None and document.verdict.reason != "surveyed"
    assert result.completeness == store.completeness(["Co-Li-O"])
    without = ConvexHullMaker(model=MODEL, property=Hull(RELAXED, library=None))
    alone = without.make([layered("Co")], tmp_path / "alone.sqlite")
    (other,) = run_local(alone, tmp_path / "jobs")[alone.output.uuid][1].output.documents
    assert other.formation_energy_per_atom == pytest.approx(document.formation_energy_per_atom)


# ---- energies of the Materials Project


MPTRJ = ModelInfo(
    name="toy-mptrj",
    sha256="f" * 64,
    level_of_theory="PBE, PBE+U (Materials Project, MPtrj)",
    corrections="MP2020",
)


@pytest.mark.parametrize("file", ["hull/na_fe_p_o.json.gz", "li_co_ni_o_hull.json.gz"])
def test_quaternary_hulls_of_the_materials_project_are_rebuilt(file: str) -> None:
    rows = json.loads(gzip.decompress((DATA / file).read_bytes()))
    entries = [ComputedEntry(r["composition"], r["energy"], r["correction"], entry_id=r["entry_id"]) for r in rows]
    results = phase_positions(entries, entries)
    assert [r.energy_above_hull for r in results] == pytest.approx([row["e_above_hull"] for row in rows], abs=1e-6)
    assert [r.formation_energy_per_atom for r in results] == pytest.approx(
        [row["e_form_per_atom"] for row in rows], abs=1e-6
    )


def test_materials_project_entries_get_the_corrections_that_candidates_get() -> None:
    path = DATA / "mp2020_entries.json.gz"
    rows = json.loads(gzip.decompress(path.read_bytes()))
    entries = [
        ComputedStructureEntry(phase.structure, row["energy"], entry_id=phase.name)
        for phase, row in zip(load_phases([path]), rows, strict=True)
    ]
    found = materials_project_references(entries, MPTRJ)
    assert found.missing == []
    for row, entry in zip(rows, found.entries, strict=True):
        assert entry.correction == pytest.approx(sum(row["corrections"].values()), abs=1e-6)
        assert entry.data["frame"]["model_sha256"] == MPTRJ.sha256
    plain = replace_run_type(entries, "GGA")
    kept = materials_project_references(plain, MPTRJ).entries
    assert 0 < len(kept) < len(plain)  # PBE energies of cells that need +U have no place beside the others
    assert not any({"Co", "O"} <= set(Composition(e.composition).get_el_amt_dict()) for e in kept)


def replace_run_type(entries: list[ComputedStructureEntry], run_type: str) -> list[ComputedStructureEntry]:
    return [ComputedStructureEntry.from_dict({**e.as_dict(), "parameters": {"run_type": run_type}}) for e in entries]


def test_models_off_the_scale_of_the_materials_project_are_refused() -> None:
    check_materials_project_scale(MPTRJ, "MP2020")
    omat = replace(MPTRJ, name="dpa4-neo", level_of_theory="PBE, PBE+U, PBE_54", corrections="OMat24")
    scan = replace(MPTRJ, level_of_theory="r2SCAN", corrections="none")
    for info in (omat, scan, replace(omat, corrections=""), replace(scan, corrections="MP2020")):
        with pytest.raises(DPA4Error, match="not on the scale of the Materials Project.*use --against cache"):
            check_materials_project_scale(info, "MP2020")
        with pytest.raises(DPA4Error, match="not on the scale"):
            materials_project_references([], info)
    with pytest.raises(DPA4Error, match="carry MP2020 corrections"):
        check_materials_project_scale(MPTRJ, "none")

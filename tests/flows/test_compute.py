"""One loop computes everything: plans share a batch, wait for nobody, fail alone, and resume."""

from __future__ import annotations

import shutil
import sqlite3
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from dpa4_core.data.graph import Graph
from dpa4_core.errors import DPA4Error
from dpa4_core.potential import Output
from dpa4_core.relax import Relax, RelaxOptions, Static
from dpa4_core.testing import MorsePotential
from dpa4_flows.compute import driver
from dpa4_flows.compute.driver import Counts, Retry, compute
from dpa4_flows.compute.plan import Ask, Crystal, Plan, PlanError, Property, Until, checked
from dpa4_flows.compute.relaxed import Energy, Relaxed
from dpa4_flows.documents.schemas import Document, Provenance, RelaxationDocument
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.answers import Question, Subject
from dpa4_flows.properties.at_rest import AtRest
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.runs.property import compute as computed
from dpa4_flows.runs.run import How
from dpa4_flows.store.protocol import MemoryStore
from dpa4_flows.store.table import ResultsTable, move_table, table_files

MORSE = ModelRef("dpa4_core.testing:MorsePotential")


class Recorded(MorsePotential):
    """Writes down the atoms of every force call; breaks, or is killed, on request."""

    atoms: ClassVar[list[int]] = []
    kill_after: ClassVar[int | None] = None
    hates: ClassVar[int | None] = None  # number of atoms of a structure that breaks it

    def compute(self, graph: Graph) -> Output:
        counts = np.bincount(graph.system_idx.numpy())
        if self.hates is not None and self.hates in counts:
            raise ArithmeticError("a structure that this potential cannot stand")
        if self.kill_after is not None and len(self.atoms) >= self.kill_after:
            raise KeyboardInterrupt
        self.atoms.append(graph.n_atoms)
        return super().compute(graph)


class Twin(Recorded):
    """Another potential."""

    def __init__(self) -> None:
        super().__init__(stiffness=1.2)


RECORDED, TWIN = ModelRef(f"{__name__}:Recorded"), ModelRef(f"{__name__}:Twin")


@pytest.fixture(autouse=True)
def recorder():
    Recorded.atoms, Recorded.kill_after, Recorded.hates = [], None, None
    return Recorded


def fcc(a: float = 4.45, n: int = 1, push: int | None = None) -> Structure:
    cell = Structure(a / 2 * (np.ones((3, 3)) - np.eye(3)), ["Mg"], [[0, 0, 0]])
    cell.make_supercell([n, 1, 1])
    if push is not None:
        shifts = np.random.default_rng(push).normal(scale=0.05, size=(len(cell), 3))
        for i, shift in enumerate(shifts):
            cell.translate_sites([i], shift, frac_coords=False)
    return cell


class CompressedDocument(Document):
    cost: float
    n_steps: int = 0
    error: str | None = None
    error_code: str | None = None
    provenance: Provenance


@dataclass(frozen=True)
class Compressed(Property[CompressedDocument]):
    """Toy with two rounds: what it costs to press a relaxed crystal together."""

    name: ClassVar[str] = "compressed"
    document: ClassVar[type[CompressedDocument]] = CompressedDocument
    strain: float = 0.02
    fails: bool = False
    breaks: bool = False

    def plan(self, crystal: Crystal) -> Plan[CompressedDocument]:
        relaxed = checked((yield {"rest": Relax(crystal.structure, RelaxOptions(check_minimum=False))})["rest"])
        if self.fails:
            raise PlanError("it has no such property", "toy")
        if self.breaks:
            raise ZeroDivisionError("a fault of the analysis")
        smaller = relaxed.structure.copy()
        smaller.apply_strain(-self.strain)
        found = yield {"pressed": Static(smaller), "again": Static(relaxed.structure)}
        cost = checked(found["pressed"]).energy - found["again"].energy
        return CompressedDocument(cost=cost, n_steps=relaxed.n_steps, provenance=self.origin(crystal))

    def failed(self, crystal: Crystal, error: PlanError) -> CompressedDocument:
        return CompressedDocument(cost=np.nan, error=str(error), error_code=error.code, provenance=self.origin(crystal))


@dataclass(frozen=True)
class Sum(Property[CompressedDocument]):
    """Toy that asks for documents: of two strains of one crystal."""

    name: ClassVar[str] = "sum"
    document: ClassVar[type[CompressedDocument]] = CompressedDocument

    def plan(self, crystal: Crystal) -> Plan[CompressedDocument]:
        found = yield {str(s): Ask(Compressed(s), crystal) for s in (0.01, 0.02)}
        cost = sum(document.cost for document in found.values())
        return CompressedDocument(cost=cost, provenance=self.origin(crystal))

    def failed(self, crystal: Crystal, error: PlanError) -> CompressedDocument:
        return Compressed().failed(crystal, error)


@dataclass(frozen=True)
class Differs(Property[CompressedDocument]):
    """Toy that asks two models."""

    name: ClassVar[str] = "differs"
    document: ClassVar[type[CompressedDocument]] = CompressedDocument

    def plan(self, crystal: Crystal) -> Plan[CompressedDocument]:
        found = yield {"own": Ask(Compressed(), crystal), "twin": Ask(Compressed(), crystal, model=TWIN)}
        cost = found["own"].cost - found["twin"].cost
        return CompressedDocument(cost=cost, provenance=self.origin(crystal))


def asks(property_: Property, structures: list[Structure]):
    return [(i, Ask(property_, Crystal(structure))) for i, structure in enumerate(structures)]


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    return MemoryStore() if request.param == "memory" else ResultsTable(tmp_path / "results.sqlite")


def test_everything_is_computed_once_and_found_again(store):
    structures = [fcc(push=i, n=2) for i in range(3)]
    counts = Counts()
    first = dict(compute(asks(Sum(), structures), MORSE, store, counts=counts))
    # three relaxations, shared by two documents each, three points at rest and six compressed ones
    assert (counts.n_made, counts.n_requests) == (3, 12)
    counts = Counts()
    again = dict(compute(asks(Sum(), structures), MORSE, store, counts=counts))
    assert (counts.n_found, counts.n_requests) == (3, 0)
    assert {i: d.cost for i, d in again.items()} == {i: d.cost for i, d in first.items()}
    found = dict(compute(asks(Compressed(0.02), structures), MORSE, store, counts=counts))
    assert counts.n_requests == 0 and found[0].cost < first[0].cost
    assert found[0].provenance.settings["strain"] == 0.02 and found[0].provenance.model_name == MORSE.name


@dataclass(frozen=True)
class InTurn(Property[CompressedDocument]):
    """Toy that asks for the second of two documents when the first is there."""

    name: ClassVar[str] = "in turn"
    document: ClassVar[type[CompressedDocument]] = CompressedDocument
    anew: ClassVar[bool] = True

    def plan(self, crystal: Crystal) -> Plan[CompressedDocument]:
        yield {"first": Ask(Compressed(0.01), crystal)}
        return (yield {"second": Ask(Compressed(0.02), crystal)})["second"]


@pytest.mark.parametrize("late", [False, True])
def test_what_a_plan_has_got_is_not_computed_again_for_one_that_comes_later(late: bool, tmp_path: Path) -> None:
    """Such as the stage of a campaign that has calculations in common with the one before."""
    table, counts, structure = ResultsTable(tmp_path / "results.sqlite"), Counts(), fcc(push=1, n=2)

    def in_time() -> Iterator[tuple[Any, Ask[Any]]]:
        yield 0, Ask(InTurn(), Crystal(structure))
        if late:
            yield from ((i, Ask(Energy(), Crystal(fcc(push=i, n=2)))) for i in range(2, 500))  # while all is written
            yield 1, Ask(Compressed(0.03), Crystal(structure))

    found = dict(compute(in_time(), MORSE, table, counts=counts, max_atoms_per_batch=8))
    assert found[0].error is None and counts.n_requests == 4 + late * (498 + 1)


@pytest.mark.parametrize(
    ("bad", "code", "said"),
    [
        (Compressed(fails=True), "toy", "it has no such property"),
        (Compressed(breaks=True), "analysis_failed", "a fault of the analysis"),
    ],
)
def test_a_plan_that_fails_or_breaks_fails_alone_and_is_tried_again(store, bad, code, said):
    items = [("bad", Ask(bad, Crystal(fcc(push=1)))), *asks(Compressed(), [fcc(push=2, n=2)])]
    found = dict(compute(items, MORSE, store))
    assert found["bad"].error_code == code and said in found["bad"].error
    assert found[0].error is None
    counts = Counts()
    dict(compute(items, MORSE, store, counts=counts))
    assert (counts.n_found, counts.n_made) == (1, 1)


def test_a_structure_that_cannot_be_computed_fails_alone(store):
    twice = Structure(Lattice.cubic(5), ["Mg", "Mg"], [[0, 0, 0], [0, 0, 0.001]])
    found = dict(compute(asks(Compressed(), [twice, fcc(push=1)]), MORSE, store))
    assert "a calculation failed" in found[0].error and found[1].error is None
    counts = Counts()
    found = dict(compute(asks(Relaxed(), [twice, fcc(push=1)]), MORSE, store))
    assert found[0].error_code == "refused" and found[1].converged
    again = dict(compute(asks(Relaxed(), [twice, fcc(push=1)]), MORSE, store, counts=counts))
    assert counts.n_found == 2 and again[0].error == found[0].error
    dict(compute(asks(Relaxed(), [twice]), MORSE, store, counts=counts, retry=Retry(errors=True)))
    assert counts.n_made == 1


def test_a_structure_that_breaks_the_potential_fails_alone(store, recorder):
    recorder.hates = 3
    structures = [fcc(push=i, n=n) for i, n in enumerate((1, 2, 3, 4))]
    found = dict(compute(asks(Relaxed(), structures), RECORDED, store))
    assert [found[i].error_code for i in range(4)] == [None, None, "crashed", None]
    assert "a structure that this potential cannot stand" in found[2].error


def test_a_killed_loop_finds_what_it_had(tmp_path, recorder):
    structures = [fcc(4.3 + 0.05 * i, n=1 + i % 2) for i in range(4)]
    all_counts = Counts()
    expected = dict(compute(asks(Elastic(), structures), RECORDED, counts=all_counts, max_atoms_per_batch=16))
    whole, recorder.atoms = len(recorder.atoms), []
    table = ResultsTable(tmp_path / "results.sqlite")
    recorder.kill_after = whole // 2
    with pytest.raises(KeyboardInterrupt):
        dict(compute(asks(Elastic(), structures), RECORDED, table, max_atoms_per_batch=16))
    recorder.kill_after, counts = None, Counts()
    found = dict(compute(asks(Elastic(), structures), RECORDED, table, counts=counts, max_atoms_per_batch=16))
    assert counts.n_requests < 0.75 * all_counts.n_requests
    for i, document in found.items():
        np.testing.assert_allclose(document.c_ij_gpa, expected[i].c_ij_gpa, atol=1e-6)


def test_what_is_torn_or_of_another_version_counts_as_absent(tmp_path, recorder):
    table = ResultsTable(tmp_path / "results.sqlite")
    recorder.kill_after = 3
    with pytest.raises(KeyboardInterrupt):
        dict(compute(asks(Compressed(), [fcc(push=1), fcc(push=2), fcc(push=3)]), RECORDED, table))
    recorder.kill_after = None
    expected = dict(compute(asks(Compressed(), [fcc(), fcc(4.3), fcc(4.6)]), RECORDED, table))
    for torn in (b"not packed", zlib.compress(b'{"energy": 1.0, "of_tomorrow": 2}'), zlib.compress(b"[[1")):
        with sqlite3.connect(table.path) as connection:
            assert connection.execute("UPDATE parts SET document = ?", (torn,)).rowcount > 3
            connection.execute("DELETE FROM documents")
        again = dict(compute(asks(Compressed(), [fcc(), fcc(4.3), fcc(4.6)]), RECORDED, table))
        assert [again[i].cost for i in range(3)] == pytest.approx([expected[i].cost for i in range(3)], abs=1e-9)


def test_what_happens_elsewhere_is_looked_at_now_and_then_while_others_compute(recorder):
    began, looks = time.monotonic(), []

    def so_far() -> bool:
        looks.append(len(recorder.atoms))
        return len(recorder.atoms) >= 12

    @dataclass(frozen=True)
    class Waits(Compressed):
        name: ClassVar[str] = "waits"

        def plan(self, crystal: Crystal) -> Plan[CompressedDocument]:
            yield {"elsewhere": Until(so_far)}
            return (yield from super().plan(crystal))

    others = [(i, Ask(Compressed(0.001 * i), Crystal(fcc(push=i, n=2)))) for i in range(1, 8)]
    found = dict(compute([(0, Ask(Waits(), Crystal(fcc()))), *others], RECORDED, max_atoms_per_batch=4))
    assert found[0].error is None and looks[-1] >= 12
    assert len(looks) <= (time.monotonic() - began) / driver._LOOK_S + 1


def test_a_plan_may_ask_another_model_and_a_killed_loop_finds_what_both_had(tmp_path, recorder):
    structures = [fcc(push=i, n=2) for i in range(3)]
    one, two = (dict(compute(asks(Compressed(), structures), model)) for model in (RECORDED, TWIN))
    assert abs(one[0].cost - two[0].cost) > 1e-3
    recorder.atoms, recorder.kill_after, table = [], 20, ResultsTable(tmp_path / "results.sqlite")
    with pytest.raises(KeyboardInterrupt):
        dict(compute(asks(Differs(), structures), RECORDED, table, max_atoms_per_batch=4))
    recorder.kill_after, counts = None, Counts()
    found = dict(compute(asks(Differs(), structures), RECORDED, table, counts=counts, max_atoms_per_batch=4))
    assert 0 < counts.n_requests < 18  # three for each structure and model
    for i, document in found.items():
        assert document.cost == pytest.approx(one[i].cost - two[i].cost, abs=1e-9)
        assert document.provenance.model_name == RECORDED.name
    # a model that nothing is asked of is not loaded
    ask = Ask(Compressed(), Crystal(structures[0]), model=TWIN)
    ((_, again),) = compute([(0, ask)], ModelRef("no_such_module:model"), table)
    assert again.cost == two[0].cost and again.provenance.model_name == TWIN.name


def test_a_plan_waits_for_nobody_and_the_batch_stays_full(recorder):
    """200 plans of four kinds: the mean of atoms in flight until the last plan has put in its last request."""
    pytest.importorskip("phonopy")
    budget = 96
    kinds = (Elastic(fmax=0.01), Phonons(min_length=5.0), *4 * [Compressed(), Relaxed(fmax=1e-3)])
    items = [(i, Ask(kinds[i % 10], Crystal(fcc(4.4 + 0.0005 * i, n=1 + i // 10 % 2)))) for i in range(200)]
    n_open: list[int] = []

    def source():
        for item in items:
            n_open.append(len(recorder.atoms))
            yield item

    found = dict(compute(source(), RECORDED, max_atoms_per_batch=budget))
    assert len(found) == 200 and not any(document.error for document in found.values())
    until_last = recorder.atoms[: n_open[-1]]
    assert np.mean(until_last) >= 0.8 * budget, np.mean(until_last)
    # the first plan with two rounds was done long before the last one was begun: plans are begun as there is room
    assert n_open[0] < n_open[-1]


def test_memory_holds_a_bounded_number_of_plans(recorder):
    alive = 0
    most = 0

    class Source:
        def __iter__(self):
            nonlocal alive, most
            for i in range(600):
                alive += 1
                most = max(most, alive)
                yield i, Ask(Energy(), Crystal(fcc(4.4 + 0.0001 * i)))

    for _ in compute(Source(), MORSE, max_atoms_per_batch=8):
        alive -= 1
    assert most <= 250


def test_a_fault_of_the_store_ends_the_loop(tmp_path):
    table = ResultsTable(tmp_path / "results.sqlite")
    generator = compute(asks(Relaxed(), [fcc(push=i) for i in range(3)]), MORSE, table)
    next(generator)
    table.path.unlink()
    with pytest.raises(DPA4Error, match=r"results\.sqlite"):
        list(generator)


def test_documents_of_an_earlier_table_are_found(tmp_path):
    """Parts of stability were facts of the table once."""
    table = ResultsTable(tmp_path / "results.sqlite")
    crystal = Crystal(fcc())
    key = Elastic().key(crystal, MORSE)
    document = dict(compute([(0, Ask(Elastic(), crystal))], MORSE))[0]
    with table._connect() as connection:
        connection.execute("INSERT INTO meta VALUES (?, ?)", (key, document.model_dump_json()))
        connection.execute("UPDATE meta SET value = '2' WHERE name = 'schema_version'")
        connection.execute("DROP TABLE documents")
    reader = ResultsTable(table.path, read_only=True)
    assert reader.documents(Elastic.document, [key]) == {key: document}
    counts = Counts()
    found = dict(compute([(0, Ask(Elastic(), crystal))], MORSE, ResultsTable(table.path), counts=counts))
    assert counts.n_found == 1 and found[0] == document and table.get_meta(key) is None


def test_calculations_stay_where_every_other_reader_finds_them(tmp_path):
    table = ResultsTable(tmp_path / "results.sqlite")
    (document,) = dict(compute(asks(Relaxed(), [fcc(push=1)]), MORSE, table)).values()
    assert isinstance(document, RelaxationDocument)
    assert table.calculations([document.key])[document.key].energy == document.energy


@pytest.mark.parametrize(
    ("name", "settings", "code"),
    [
        ("alloy", {}, "no_substitute"),
        ("alloy", {"substitute": "Ga:In"}, "nothing_to_replace"),
        ("alloy", {"substitute": "Mg:O"}, "nothing_to_replace"),
        ("migration", {}, "no_ion"),
        ("diffusivity", {}, "no_ion"),
        ("segregation", {}, "no_alloy"),
        ("dissolution", {}, "no_alloy"),
    ],
)
def test_what_no_relaxation_could_give_is_refused_before_one(name: str, settings: dict[str, str], code: str) -> None:
    magnesia = Structure.from_spacegroup(225, Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    question = Question.of([name], {name: settings})
    (alone,) = dict(compute([("", Ask(AtRest(*question.properties), Crystal(magnesia)))], MORSE)).values()
    counts = Counts()
    results = computed(question, [Subject("MgO", magnesia)], MORSE, None, How(), counts=counts)
    assert (results[0].error_code, alone.error_code) == (code, code) and len(results.failed) == 1
    assert counts.n_requests == 0


def test_a_table_gets_another_name_with_what_a_killed_process_left_beside_it(tmp_path):
    table = ResultsTable(tmp_path / "results.sqlite")
    table.set_meta("one", 1)
    open_one = sqlite3.connect(table.path)  # so that the log is not put into the table
    open_one.execute("SELECT * FROM meta").fetchall()
    table.put_meta({"two": 2, "three": 3})
    killed = tmp_path / "killed"
    killed.mkdir()
    for file in table_files(table.path):
        if file.exists():
            shutil.copy(file, killed / file.name.replace("results", "stability"))
    open_one.close()
    assert (killed / "stability.sqlite-wal").stat().st_size
    move_table(killed / "stability.sqlite", killed / "results.sqlite")
    assert not list(killed.glob("stability*"))
    moved = ResultsTable(killed / "results.sqlite")
    assert [moved.get_meta(name) for name in ("one", "two", "three")] == [1, 2, 3]

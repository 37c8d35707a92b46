from __future__ import annotations

import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_potentials
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.io import write
from ase.optimize import FIRE
from pymatgen.core import Lattice, Molecule, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from python_process import PythonProcess
from toy_campaign import scene

from dpa4_core.data.graph import Graph
from dpa4_core.errors import DPA4Error
from dpa4_core.potential import Output
from dpa4_core.testing import MorsePotential
from dpa4_flows.campaigns.context import Case
from dpa4_flows.campaigns.relaxed import judge_relaxation
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.calculations import input_hash, plain_structure, relaxation_key
from dpa4_flows.documents.schemas import Candidate, ChunkSummary, RelaxationDocument
from dpa4_flows.engines import run_local
from dpa4_flows.makers.chunks import MAX_CHUNKS, gathered, split
from dpa4_flows.makers.named import BatchRelaxMaker, BatchStaticMaker
from dpa4_flows.makers.property import RETRY_SINCE, PropertyMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.store.table import ResultsError, ResultsTable
from dpa4_flows.store.writer import Writer

TOY = ModelRef("dpa4_core.testing:MorsePotential")


def rocksalt(metal: str = "Mg", a: float = 4.4) -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [metal, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def primitive(metal: str = "Mg", a: float = 4.4) -> Structure:
    return rocksalt(metal, a).get_primitive_structure()


@pytest.fixture
def table(tmp_path: Path) -> ResultsTable:
    return ResultsTable(tmp_path / "results.sqlite")


def put_candidates(table: ResultsTable, structures: list[Structure]) -> list[str]:
    candidates = [
        Candidate(candidate_id=f"c{i}", formula=s.composition.reduced_formula, structure=s.as_dict(), source="test")
        for i, s in enumerate(structures)
    ]
    table.put_candidates(candidates)
    return [c.candidate_id for c in candidates]


def only(table: ResultsTable) -> RelaxationDocument:
    (document,) = table.iter_calculations()
    return document


def test_a_chunk_may_be_a_part_of_files(table: ResultsTable, tmp_path: Path) -> None:
    frames = [bulk("Cu", a=3.5 + 0.02 * i) for i in range(8)]
    write(tmp_path / "cu.extxyz", frames)
    (tmp_path / "broken.xyz").write_text("2\n\nCu 0 0 0\n")
    maker = BatchStaticMaker(model=TOY)
    files = [str(tmp_path / name) for name in ("cu.extxyz", "broken.xyz")]
    summaries: list[ChunkSummary] = []
    for start in (0, 3, 6):
        chunk = maker.make(table=str(table.path), files=files, start=start, stop=start + 3)
        summaries.append(run_local(chunk, tmp_path / "run")[chunk.uuid][1].output)
    assert [(s.n_requested, s.n_computed, s.n_failed) for s in summaries] == [(3, 3, 0), (3, 3, 0), (3, 2, 1)]
    stored = {document.structure_hash for document in table.iter_calculations()}
    assert stored == {input_hash(AseAtomsAdaptor.get_structure(atoms)) for atoms in frames}


# ---- keys --------------------------------------------------------------------------------------------------
# ------------


def test_hash_is_of_what_a_potential_sees() -> None:
    structure = rocksalt()
    assert input_hash(structure) == input_hash(Structure.from_dict(structure.as_dict()))
    decorated = structure.copy()
    decorated.add_oxidation_state_by_element({"Mg": 2, "O": -2})
    assert input_hash(decorated) == input_hash(structure)
    assert input_hash(structure.copy(site_properties={"magmom": [1.0] * 8})) == input_hash(structure)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.translate_sites([0], [1e-6, 0, 0], frac_coords=False),
        lambda s: s.replace(0, "Ca"),
        lambda s: s.apply_strain(1e-6),
        lambda s: s.add_site_property("selective_dynamics", [[False] * 3] + [[True] * 3] * 7),
        lambda s: s.set_charge(1),
    ],
)
def test_every_change_of_the_calculation_changes_the_hash(change: Any) -> None:
    structure = rocksalt()
    before = input_hash(structure)
    change(structure)
    assert input_hash(structure) != before


def test_key_depends_on_model_and_settings() -> None:
    maker = BatchRelaxMaker(model=TOY)
    structure = rocksalt()
    keys = {
        maker.key(structure),
        BatchRelaxMaker(property=Relaxed(fmax=0.01), model=TOY).key(structure),
        BatchRelaxMaker(property=Relaxed(relax_cell=False), model=TOY).key(structure),
        BatchRelaxMaker(model=ModelRef("ase.calculators.emt:EMT")).key(structure),
        BatchStaticMaker(model=TOY).key(structure),
    }
    assert len(keys) == 5
    assert maker.key(structure) == relaxation_key(structure, TOY.resolve(), maker.settings())
    assert maker.key(structure) == BatchRelaxMaker(model=TOY, max_atoms_per_batch=3, retry_errors=True).key(structure)


# ---- chunks
# ------------------------------------------------------------------------------------------------------------


def test_chunk_relaxes_and_stores(table: ResultsTable) -> None:
    structures = [rocksalt(), primitive("Ca"), primitive("Mg")]
    maker = BatchRelaxMaker(model=TOY)
    summary = maker.run(table, structures)
    assert summary == ChunkSummary(n_requested=3, n_computed=3, n_reused=0, n_failed=0)
    documents = table.calculations([maker.key(s) for s in structures])
    conventional, calcium, magnesium = (documents[maker.key(s)] for s in structures)
    assert conventional.energy_per_atom == pytest.approx(magnesium.energy_per_atom, abs=1e-3)
    assert conventional.energy == pytest.approx(8 * conventional.energy_per_atom)
    assert calcium.formula == "CaO" and calcium.n_atoms == 2
    assert all(d.converged and d.fmax < 0.02 and abs(d.pressure_gpa) < 1 for d in documents.values())
    final = Structure.from_dict(magnesium.structure)
    assert magnesium.volume == pytest.approx(final.volume)
    assert magnesium.volume_change_percent == pytest.approx(100 * (final.volume / structures[2].volume - 1))
    assert magnesium.provenance.model_name == TOY.name
    assert magnesium.provenance.settings["fmax"] == 0.02
    assert magnesium.provenance.wall_time_s > 0


def test_what_is_stored_is_not_computed_again(table: ResultsTable, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = BatchRelaxMaker(model=ModelRef("toy_potentials:SlowMorse"))
    assert maker.run(table, [primitive()]).n_computed == 1
    monkeypatch.setattr(toy_potentials.SlowMorse, "compute", toy_potentials.ForbiddenMorse.compute)
    summary = maker.run(table, [primitive(), primitive()])
    assert (summary.n_requested, summary.n_computed, summary.n_reused) == (2, 0, 2)


def test_equal_structures_are_computed_once(table: ResultsTable) -> None:
    summary = BatchRelaxMaker(model=TOY).run(table, [primitive(), primitive(), primitive("Ca")])
    assert (summary.n_requested, summary.n_computed, summary.n_reused) == (3, 2, 1)


def test_failure_is_stored_beside_the_others_and_retried_only_on_request(table: ResultsTable) -> None:
    overlapping = Structure(Lattice.cubic(4), ["Mg", "O"], [[0, 0, 0], [0.01, 0, 0]])
    noble = Structure(Lattice.cubic(4), ["Xe"], [[0, 0, 0]])
    partial = Structure(Lattice.cubic(4), [{"Mg": 0.5, "Ca": 0.5}], [[0, 0, 0]])
    structures = [overlapping, primitive(), noble, partial]
    maker = BatchRelaxMaker(model=TOY)
    summary = maker.run(table, structures)
    assert (summary.n_computed, summary.n_failed) == (4, 3)
    documents = table.calculations(maker.key(s) for s in structures)
    assert documents[maker.key(primitive())].error is None
    for bad, word in ((overlapping, "overlap"), (noble, "Xe"), (partial, "partially occupied")):
        document = documents[maker.key(bad)]
        assert word in document.error and document.energy is None and not document.converged
    assert (again := maker.run(table, structures)).n_computed == 0 and again.n_failed == 3
    assert BatchRelaxMaker(model=TOY, retry_errors=True).run(table, structures).n_computed == 3


def test_want_of_memory_is_tried_again_and_other_failures_after_a_time_that_the_table_names(
    table: ResultsTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = BatchRelaxMaker(model=TOY)
    noble = Structure(Lattice.cubic(4), ["Xe"], [[0, 0, 0]])

    def no_room(self: MorsePotential, graph: Graph) -> Output:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(MorsePotential, "compute", no_room)
        assert maker.run(table, [primitive(), noble]).n_failed == 2
    assert "out of memory" in table.calculations([maker.key(primitive())])[maker.key(primitive())].error
    summary = maker.run(table, [primitive(), noble])
    assert (summary.n_computed, summary.n_failed) == (1, 1)

    table.set_meta(RETRY_SINCE, datetime.now(UTC).isoformat())
    assert maker.run(table, [primitive(), noble]).n_computed == 1
    assert maker.run(table, [primitive(), noble]).n_computed == 0  # a restarted chunk job fails only once


def test_labels_of_other_codes_are_left_out(table: ResultsTable) -> None:
    labelled = primitive()
    labelled.properties = {"virial": np.eye(3)}
    labelled.add_site_property("forces", list(np.zeros((2, 3))))
    labelled.add_site_property("selective_dynamics", list(np.ones((2, 3), dtype=bool)))
    ragged = Structure(Lattice.cubic(4), [{"Mg": 0.5, "Ca": 0.5}], [[0, 0, 0]], site_properties={"f": [np.zeros(3)]})
    assert BatchRelaxMaker(model=TOY).run(table, [labelled, ragged]).n_failed == 1
    (document,) = [d for d in table.iter_calculations() if d.error is None]
    assert Structure.from_dict(document.structure).site_properties == {"selective_dynamics": [[True] * 3] * 2}
    molecule = Molecule(["O", "H"], [[0, 0, 0], [0, 0, 1.0]], charge=-1, site_properties={"f": [np.zeros(3)] * 2})
    assert input_hash(plain_structure(molecule)) == input_hash(molecule)


def test_unconverged_is_stored_and_counted(table: ResultsTable) -> None:
    summary = BatchRelaxMaker(property=Relaxed(max_steps=1), model=TOY).run(table, [primitive()])
    assert (summary.n_unconverged, summary.n_failed) == (1, 0)
    assert not only(table).converged


def test_static_keeps_the_structure(table: ResultsTable) -> None:
    structure = rocksalt()
    structure.perturb(0.05, seed=1)
    summary = BatchStaticMaker(model=TOY).run(table, [structure])
    document = only(table)
    assert summary.n_failed == 0
    assert Structure.from_dict(document.structure) == structure
    assert document.converged and document.n_steps == 0 and document.fmax > 0.02
    assert document.volume_change_percent == 0


def test_any_ase_calculator_relaxes(table: ResultsTable) -> None:
    copper = bulk("Cu", "fcc", 3.5)
    maker = BatchRelaxMaker(property=Relaxed(fmax=1e-3), model=ModelRef("ase.calculators.emt:EMT"))
    assert maker.run(table, [AseAtomsAdaptor.get_structure(copper)]).n_failed == 0
    copper.calc = EMT()
    FIRE(FrechetCellFilter(copper), logfile=None).run(fmax=1e-3)
    assert only(table).energy == pytest.approx(copper.get_potential_energy(), abs=1e-5)
    assert only(table).volume == pytest.approx(copper.get_volume(), rel=1e-3)


def test_molecule_has_no_volume(table: ResultsTable) -> None:
    molecule = Molecule(["O", "H", "H"], [[0, 0, 0], [0, 0.76, 0.59], [0, -0.76, 0.59]])
    assert BatchRelaxMaker(model=TOY).run(table, [molecule]).n_failed == 0
    assert only(table).volume is None and only(table).pressure_gpa is None


# ---- streaming
# ---------------------------------------------------------------------------------------------------------


def documents(table: ResultsTable, number: int) -> list[RelaxationDocument]:
    other = ResultsTable(table.path.with_name("other.sqlite"))
    BatchStaticMaker(model=TOY).run(other, [primitive(a=4.4 + 0.01 * i) for i in range(number)])
    return list(other.iter_calculations())


def count(table: ResultsTable) -> int:
    return sum(1 for _ in table.iter_calculations())


def test_finished_results_do_not_wait_for_the_next_one(table: ResultsTable) -> None:
    one, two, three = documents(table, 3)
    with Writer(every_s=0.1, every=2) as writer:
        writer.add(table, one.key, one)
        assert count(table) == 0
        writer.add(table, two.key, two)  # two make a transaction
        assert count(table) == 2
        writer.add(table, three.key, three)
        deadline = time.monotonic() + 5
        while count(table) < 3 and time.monotonic() < deadline:  # nothing comes any more: the timer writes
            time.sleep(0.02)
        assert count(table) == 3


def test_closing_writes_what_waits_even_after_an_error(table: ResultsTable) -> None:
    with pytest.raises(RuntimeError, match="out of memory"), Writer(every_s=60) as writer:
        (one,) = documents(table, 1)
        writer.add(table, one.key, one)
        raise RuntimeError("out of memory")
    assert count(table) == 1


def test_failed_write_is_not_lost(table: ResultsTable, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise ResultsError("results table cannot be used: disk full")

    (document,) = documents(table, 1)
    with Writer(every_s=0.2) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(table, "put_calculations", full)
            writer.add(table, document.key, document)
            time.sleep(0.4)
        assert count(table) == 0
    assert count(table) == 1


def test_kill_loses_only_what_is_in_flight(table: ResultsTable) -> None:
    """SIGKILL in the middle of a chunk: what was finished is in the table, and the next run computes the
    rest."""
    structures = [primitive(m, 4.2 + 0.01 * i) for i in range(16) for m in ("Mg", "Ca")]
    put_candidates(table, structures)
    code = (
        "from dpa4_flows import BatchRelaxMaker, ResultsTable\n"
        "from dpa4_flows.compute.relaxed import Relaxed\n"
        "p = Relaxed(check_minimum=False)\n"
        "m = BatchRelaxMaker(model='toy_potentials:SlowMorse', property=p, max_atoms_per_batch=4)\n"
        f"given = [c.structure for c in ResultsTable({str(table.path)!r}).candidates()]\n"
        f"m.make.original(m, given, {str(table.path)!r})"
    )
    process = PythonProcess("-c", code)
    try:
        deadline = time.monotonic() + 60
        while count(table) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        ended = process.end_by(signal.SIGKILL)
    assert ended == -signal.SIGKILL
    survived = {d.key: d for d in table.iter_calculations()}
    assert 2 <= len(survived) < len(structures)

    maker = BatchRelaxMaker(model=ModelRef("toy_potentials:SlowMorse"), property=Relaxed(check_minimum=False))
    summary = maker.run(table, structures)
    assert summary.n_reused == len(survived)
    assert summary.n_computed == len(structures) - len(survived)
    after = {d.key: d for d in table.iter_calculations()}
    assert len(after) == len(structures)
    assert all(after[key] == document for key, document in survived.items())


# ---- fan-out
# -----------------------------------------------------------------------------------------------------------


def test_chunks_hold_everything_once_by_size_and_even_in_work() -> None:
    sizes = [2, 50, 3, 4, 40, 2, 2, 60, 8, 9] * 10
    ids = [f"c{i}" for i in range(len(sizes))]
    size_of = dict(zip(ids, sizes, strict=True))
    chunks = split(ids, sizes, chunk_size=20)
    assert sorted(i for c in chunks for i in c) == sorted(ids)
    assert len(chunks) == 5
    assert [size_of[i] for c in chunks for i in c] == sorted(sizes)
    work = [sum(size_of[i] for i in c) for c in chunks]
    assert max(work) - min(work) <= 120  # two of the largest structures


def test_chunks_grow_instead_of_becoming_too_many() -> None:
    ids = [str(i) for i in range(10_000)]
    assert len(split(ids, [4] * len(ids), chunk_size=1)) == MAX_CHUNKS
    assert split([], [], 5) == []
    assert split(["a"], [3], 5) == [["a"]]
    with pytest.raises(ValueError, match="at least 1"):
        split(["a"], [3], 0)


def test_flow_of_chunks_sums_up(table: ResultsTable, tmp_path: Path) -> None:
    bad = Structure(Lattice.cubic(4), ["Xe"], [[0, 0, 0]])
    maker = BatchRelaxMaker(model=TOY)
    chunks = [[primitive(), primitive("Ca")], [rocksalt(), bad], [primitive()]]
    flow = gathered([maker.make(chunk, str(table.path)) for chunk in chunks], "relax")
    assert {j.name for j in flow.jobs} == {"relax 1/3", "relax 2/3", "relax 3/3", "relax summary"}
    responses = run_local(flow, tmp_path / "jobs")
    summary = responses[flow.output.uuid][1].output
    assert (summary.n_requested, summary.n_failed) == (5, 1)
    assert summary.n_computed == 4  # two candidates are equal


def test_settings_that_make_no_sense_are_refused_where_the_flow_is_built() -> None:
    copper = AseAtomsAdaptor.get_structure(bulk("Cu"))
    with pytest.raises(DPA4Error, match="rattle must be 0 Å or more"):
        BatchRelaxMaker(property=Relaxed(rattle=-0.1)).make([copper])


def test_maker_survives_serialisation() -> None:
    maker = BatchRelaxMaker(property=Relaxed(fmax=0.01), model=TOY, retry_errors=True)
    assert BatchRelaxMaker.from_dict(maker.as_dict()) == maker
    assert isinstance(maker, PropertyMaker)


def test_what_was_not_checked_for_a_way_down_does_not_stand_for_what_was(table: ResultsTable) -> None:
    """A square lattice stays on its saddle if nobody looks; the results of old settings are found under these only."""
    square = Structure(Lattice.cubic(2.5), ["Cu"], [[0, 0, 0]])
    plain = BatchRelaxMaker(property=Relaxed(check_minimum=False), model=TOY)
    checked = BatchRelaxMaker(model=TOY)
    assert set(plain.settings()) == {"calculation", "fmax", "max_steps", "relax_cell", "pressure_gpa", "dtype"}
    assert {"optimizer", "max_step", "cell", "keep_symmetry", "check_minimum"} <= set(checked.settings())
    for maker in (plain, checked, BatchRelaxMaker(property=Relaxed(keep_symmetry=True), model=TOY)):
        assert maker.run(table, [square]).n_computed == 1
    held, free, kept = (
        table.calculations([maker.key(square)])[maker.key(square)]
        for maker in (plain, checked, BatchRelaxMaker(property=Relaxed(keep_symmetry=True), model=TOY))
    )
    assert (held.minimum, free.minimum, kept.minimum) == ("not_checked", "verified", "saddle")
    assert free.energy_per_atom < held.energy_per_atom - 0.1
    stage = scene("relax")
    case = Case(stage, Candidate(candidate_id="square", formula="X"), {}, {"relax": kept})
    verdict = stage.verdict(judge_relaxation(case))
    assert verdict.status == "flagged" and [reason.code for reason in verdict.reasons] == ["saddle"]
    assert verdict.reasons[0].disqualifies and "energy_above_hull" in verdict.reasons[0].voids

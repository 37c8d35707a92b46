"""Slabs and chains in workflows: kept as they are where they have a meaning, refused where only crystals have one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pymatgen.core import Lattice, Structure
from toy_campaign import MORSE
from typer.testing import CliRunner

from dpa4_core.data.flat_rows import flat_atoms
from dpa4_core.data.readers import read_structures
from dpa4_core.data.structures import to_system
from dpa4_core.errors import DPA4Error
from dpa4_core.relax import relax
from dpa4_flows.analysis.sanity import check_candidate
from dpa4_flows.cli import app
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.calculations import input_hash, system_hash
from dpa4_flows.large.rows import Rows
from dpa4_flows.makers.elastic_flow import DPA4ElasticMaker
from dpa4_flows.makers.named import BatchElasticMaker, BatchPhononMaker, BatchRelaxMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.reference.entries import document_entry
from dpa4_flows.reference.library import LibraryError, as_crystal
from dpa4_flows.site_conversion import as_pymatgen
from dpa4_flows.store.table import ResultsTable

MODEL = ModelRef(MORSE)
PERIODIC = "periodic along a, b only, and this needs a crystal"


def slab() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.pbc = (True, True, False)
    atoms.rattle(0.05, seed=2)
    return atoms


def bare_slab() -> Atoms:
    atoms = slab()
    atoms.cell[2] = 0
    return atoms


def chain() -> Atoms:
    return Atoms(
        "CuO", [[0, 0, 0], [0.5, 0.2, 1.7]], cell=[[0, 0, 0], [0, 0, 0], [0.3, 0, 3.6]], pbc=(False, False, True)
    )


OPEN = {"slab": slab, "slab without a third vector": bare_slab, "chain": chain}
open_structures = pytest.mark.parametrize("make", OPEN.values(), ids=OPEN)


@pytest.mark.parametrize("maker", [BatchPhononMaker, BatchElasticMaker])
def test_parts_that_need_a_crystal_say_so(maker: Any) -> None:
    if maker is BatchPhononMaker:
        pytest.importorskip("phonopy")
    (part,) = maker(model=MODEL).documents([as_pymatgen(slab())])
    assert part.verdict == "unknown" and PERIODIC in part.error


def test_flows_of_atomate2_that_need_a_crystal_say_so() -> None:
    with pytest.raises(DPA4Error, match=PERIODIC):
        DPA4ElasticMaker(model=MODEL).make(as_pymatgen(slab()))


@open_structures
def test_nothing_but_crystals_comes_onto_the_hull(make: Any, tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="this needs a crystal"):
        as_crystal(make())
    structure = as_pymatgen(make())
    table = ResultsTable(tmp_path / "table.sqlite")
    relaxation = BatchRelaxMaker(property=Relaxed(fmax=0.05), model=MODEL)
    relaxation.run(table, [structure])
    (document,) = table.calculations([relaxation.key(structure)]).values()
    assert document.error is None and document.converged
    entry = document_entry(document, "none", "slab")
    assert entry.entry is None and "this needs a crystal" in entry.reason
    refused = check_candidate(structure, supported_elements={8, 29}, volume_ratio=(0.0, 100.0))
    assert any("not periodic along all axes" in reason.sentence for reason in refused)


@open_structures
def test_rows_of_large_runs_give_back_the_axes(make: Any) -> None:
    atoms = make()
    (result,) = relax([atoms], MODEL.load(), fmax=0.05)
    rows = Rows(MODEL.resolve(), {"calculation": "relax"}, with_forces=False)
    row = json.loads(json.dumps(rows.computed(0, "file", "name", atoms, result)))
    back = flat_atoms(row)
    assert back.pbc.tolist() == atoms.pbc.tolist()
    np.testing.assert_allclose(back.cell.array, result.structure.cell.array)
    assert row["volume_change"] == pytest.approx(result.volume_change)


def test_hash_follows_the_axes() -> None:
    hashes = set()
    for pbc in ((1, 1, 1), (1, 1, 0), (1, 0, 1), (0, 0, 1), (0, 0, 0)):
        atoms = slab()
        atoms.pbc = pbc
        hashes.add(system_hash(to_system(atoms)))
    assert len(hashes) == 5
    atoms = slab()
    lattice = Lattice(atoms.cell.array, pbc=tuple(atoms.pbc))
    same = Structure(lattice, atoms.get_chemical_symbols(), atoms.positions, coords_are_cartesian=True)
    assert input_hash(same) == system_hash(to_system(atoms))


@open_structures
@pytest.mark.parametrize("output", ["out.extxyz", "out.json"])
def test_commands_keep_open_axes(make: Any, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    atoms = make()
    ase.io.write("in.extxyz", atoms)
    expected = relax([ase.io.read("in.extxyz")], MODEL.load(), fmax=0.05)[0]
    done = CliRunner().invoke(app, ["relax", "in.extxyz", "--model", MORSE, "--fmax", "0.05", "-o", output])
    assert done.exit_code == 0, done.output
    (entry,) = read_structures(output)
    back = to_system(entry.structure)
    assert back.pbc.tolist() == atoms.pbc.tolist()
    np.testing.assert_allclose(back.positions, expected.structure.positions, atol=1e-4)
    np.testing.assert_allclose(back.cell[back.pbc], expected.structure.cell.array[back.pbc], atol=1e-4)

"""`dpa4 validate bulk`: the table on a toy potential, and some of its facts with DPA4-Neo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from dpa4_flows.cli import app
from dpa4_flows.makers.bulk_validation import bulk_document, bulk_solids
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.properties.stability import Stability
from dpa4_flows.store.table import ResultsTable

pytest.importorskip("phonopy")

TOY = ("-m", "dpa4_core.testing:MorsePotential", "--min-length", "5")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def dpa4(*arguments: object) -> Result:
    command = ["validate", "bulk", *(str(a) for a in arguments)]
    return CliRunner().invoke(app, command, env={"COLUMNS": "220", "TERM": "dumb"})


def test_table_holds_known_solids() -> None:
    solids = bulk_solids()
    assert len(solids) == 26
    sizes = {solid.formula: len(solid.structure) for solid in solids}
    assert (sizes["Si"], sizes["Cu"], sizes["BaTiO3"], sizes["TiO2"]) == (2, 1, 5, 6)
    assert sum(solid.elastic for solid in solids) == 23 and sum(solid.phonons for solid in solids) == 16
    assert {solid.formula for solid in bulk_solids(quick=True)} == {"Si", "MgO", "Cu", "BaTiO3"}
    groups = {solid.facts["prototype"]: solid.structure.get_space_group_info()[0] for solid in solids}
    assert groups == {
        "diamond": "Fd-3m",
        "zincblende": "F-43m",
        "rocksalt": "Fm-3m",
        "fcc": "Fm-3m",
        "bcc": "Im-3m",
        "perovskite": "Pm-3m",
        "rutile": "P4_2/mnm",
    }


def test_numbers_stand_beside_their_references(tmp_path: Path) -> None:
    result = dpa4("MgO", "Cu", *TOY, "-o", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    rows: dict[tuple[str, str], dict[str, Any]] = {(r["formula"], r["quantity"]): r for r in document["rows"]}
    edge = rows["MgO", "a"]
    assert edge["deviation"] == pytest.approx(edge["value"] - 4.254)
    assert edge["passed"] == (abs(edge["deviation"]) <= 0.006 * 4.254)
    k, c11, c12 = (rows["MgO", q]["value"] for q in ("K", "C11", "C12"))
    assert k == pytest.approx((c11 + 2 * c12) / 3)
    assert not rows["MgO", "C11"]["passed"]  # a toy
    top = rows["Cu", "f max"]
    assert top["reference"] == [7.3, 7.4] and ("Cu", "f Γ") not in rows
    ends = [top["value"] - 7.3, top["value"] - 7.4]
    assert top["deviation"] == pytest.approx(0 if ends[1] <= 0 <= ends[0] else min(ends, key=abs))
    assert document["n_passed"] == sum(r["passed"] for r in document["rows"])
    (error,) = [e for e in document["errors"] if e["quantity"] == "a"]
    deviations = [abs(rows[s, "a"]["deviation"]) for s in ("MgO", "Cu")]
    assert error["reference"] == pytest.approx(sum(deviations) / 2) and error["n"] == 2
    shown = dpa4("MgO", "Cu", *TOY, "-o", tmp_path)
    assert "within the tolerance" in shown.stdout and "mean absolute deviation" in shown.stdout


def test_solid_that_fails_is_told() -> None:
    some = dpa4("MgO", "Cu", "--no-phonons", "-m", "toy_potentials:WithoutCopper")
    assert some.exit_code == 3
    assert "failed: Cu: element Cu" in some.stderr and "MgO" in some.stdout


def test_mistakes_are_one_sentence() -> None:
    for arguments, part in (
        (("Si", "--quick"), "--quick chooses the solids"),
        (("Qq",), "'Qq' is not in the table; choose from Si, C,"),
    ):
        result = dpa4(*arguments, *TOY)
        assert result.exit_code == 1 and part in result.stderr


@pytest.mark.network
def test_neo_gives_elastic_constants_and_phonons(neo_path: Path, tmp_path: Path) -> None:
    """Through the reference implementation: silicon 5.467 Å, 87.0 GPa, 155/53/74 GPa, 15.13 THz; cubic BaTiO3 has an
    imaginary polar mode at 7.4i THz."""
    asked = Stability(phonons=Phonons(temperatures_k=(300.0,)))
    solids, table = bulk_solids(["Si", "BaTiO3"]), ResultsTable(tmp_path / "bulk.sqlite")
    document = bulk_document(ModelRef(str(neo_path)), table, asked, solids, min_length=8.0)
    assert document.failures == {}
    found = {(row.formula, row.quantity): row.value for row in document.rows}
    assert found["Si", "a"] == pytest.approx(5.467, abs=0.003)
    assert found["Si", "K"] == pytest.approx(87.0, abs=1)
    for name, expected in (("C11", 155), ("C12", 53), ("C44", 76)):
        assert found["Si", name] == pytest.approx(expected, abs=2)
    assert found["Si", "f max"] == pytest.approx(15.13, abs=0.05)
    assert found["Si", "S 300 K"] == pytest.approx(19.3, abs=0.15)
    assert found["BaTiO3", "f Γ"] == pytest.approx(-7.4, abs=0.15)
    assert all(row.passed for row in document.rows), [row for row in document.rows if not row.passed]


@pytest.mark.network
@pytest.mark.slow
def test_neo_keeps_the_whole_table(neo_path: Path, tmp_path: Path) -> None:
    result = dpa4("-m", neo_path, "-o", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    missed = {(row["formula"], row["quantity"]) for row in document["rows"] if not row["passed"]}
    assert missed <= KNOWN_MISSES, missed - KNOWN_MISSES


# lithium is a weak spot of the model
KNOWN_MISSES = {("Li", "K")}

"""`dpa4 validate semiconductor`: the table on a toy potential, and its numbers with DPA4-Neo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dpa4_flows.cli import app
from dpa4_flows.makers.semiconductor_validation import semiconductor_document
from dpa4_flows.makers.validation import order
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.store.table import ResultsTable

pytest.importorskip("phonopy")


def dpa4(*arguments: object) -> Result:
    command = ["validate", "semiconductor", *(str(a) for a in arguments)]
    return CliRunner().invoke(app, command, env={"COLUMNS": "200", "TERM": "dumb"})


def test_cells_phonons_and_polymorphs_stand_beside_their_references(tmp_path: Path) -> None:
    toy = ("-m", "toy_potentials:ShortOMatMorse", "--threads", 1)
    result = dpa4("--quick", *toy, "-o", tmp_path, "--json")
    assert result.exit_code == 3 and "outside the tolerance: Si a" in result.stderr
    rows = {(row["formula"], row["quantity"]): row for row in json.loads(result.stdout)["rows"]}
    assert {"a", "K", "f max", "S 300 K", "imaginary modes"} <= {name for solid, name in rows if solid == "Si"}
    assert ("Si", "C11") not in rows  # those are of `dpa4 validate bulk`
    form = rows["GaN", "zincblende above wurtzite"]
    assert form["reference"] == [5.0, 8.0] and form["passed"] == (3.0 <= form["value"] <= 10.0)
    refused = dpa4("--quick", "-m", "dpa4_core.testing:MorsePotential")
    assert refused.exit_code == 1 and "the references are PBE" in refused.stderr


def test_an_order_is_kept_or_told() -> None:
    kept = order({"C": 2900.0, "Si": 290.0}, "κ", "W/(m K)", "experiment")
    assert kept.passed and kept.formula == "C > Si" and kept.quantity == "κ: C 2900.0, Si 290.0 W/(m K)"
    assert not order({"C": 20.0, "Si": 290.0}, "κ", "W/(m K)", "experiment").passed


@pytest.mark.network
@pytest.mark.slow
def test_neo_keeps_the_whole_table(neo_path: Path, tmp_path: Path) -> None:
    """But for the bulk modulus of lithium: 17.3 GPa against 13.9."""
    document = semiconductor_document(ModelRef(str(neo_path)), ResultsTable(tmp_path / "semiconductor.sqlite"))
    assert document.failures == {}
    assert [(row.formula, row.quantity) for row in document.rows if not row.passed] == [("Li", "K")]

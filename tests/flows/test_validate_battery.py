"""`dpa4 validate battery`: the table on a toy potential, published entries, and its numbers with DPA4-Neo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dpa4_flows.cli import app
from dpa4_flows.makers.battery_validation import _published_entries, battery_document
from dpa4_flows.makers.validation import references
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.store.table import ResultsTable


def dpa4(*arguments: object) -> Result:
    command = ["validate", "battery", *(str(a) for a in arguments)]
    return CliRunner().invoke(app, command, env={"COLUMNS": "200", "TERM": "dumb"})


def test_published_entries_are_answered_exactly() -> None:
    rows = list(_published_entries(references("battery_entries")))
    assert {row.formula for row in rows} == {"LiTiO2", "CaMoO2", "CoO2"} and len(rows) == 13
    assert all(row.passed for row in rows), [row for row in rows if not row.passed]
    shifted = json.loads(json.dumps(references("battery_entries")))
    shifted["electrodes"]["LiTiO2"]["metal"] += 0.001
    assert [row.quantity for row in _published_entries(shifted) if not row.passed] == [
        f"arithmetic, {what} voltage" for what in ("mean", "highest", "lowest")
    ]


def test_what_cannot_be_compared_is_one_sentence() -> None:
    for arguments, part in (
        (("--quick", "--long"), "drop one of them"),
        (("--quick", "-m", "dpa4_core.testing:MorsePotential"), "the references are PBE"),
    ):
        result = dpa4(*arguments)
        assert result.exit_code == 1 and part in result.stderr


@pytest.mark.slow
def test_numbers_outside_their_tolerance_are_named(tmp_path: Path) -> None:
    result = dpa4("--quick", "-m", "toy_potentials:ShortOMatMorse", "-o", tmp_path, "--json", "--threads", 1)
    assert result.exit_code == 3, result.output
    rows = {(row["formula"], row["quantity"]): row for row in json.loads(result.stdout)["rows"]}
    assert {"LiTiS2", "LiFePO4", "LiF", "Si"} <= {formula for formula, _ in rows}
    voltage = rows["LiTiS2", "voltage against Li"]
    assert voltage["deviation"] == pytest.approx(voltage["value"] - 1.87) and not voltage["passed"]


@pytest.mark.network
@pytest.mark.slow
def test_neo_keeps_the_quick_table(neo_path: Path, tmp_path: Path) -> None:
    document = battery_document(ModelRef(str(neo_path)), ResultsTable(tmp_path / "battery.sqlite"), quick=True)
    assert document.failures == {}
    assert all(row.passed for row in document.rows), [row for row in document.rows if not row.passed]

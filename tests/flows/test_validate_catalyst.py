"""`dpa4 validate catalyst`: the table on a toy potential, and its numbers with DPA4-Neo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dpa4_flows.cli import app
from dpa4_flows.makers.catalyst_validation import catalyst_document
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.store.table import ResultsTable


def dpa4(*arguments: object) -> Result:
    command = ["validate", "catalyst", *(str(a) for a in arguments)]
    return CliRunner().invoke(app, command, env={"COLUMNS": "200", "TERM": "dumb"})


def test_numbers_outside_their_tolerance_are_named_and_end_the_command(tmp_path: Path) -> None:
    result = dpa4("Al", "Fe", "-m", "toy_potentials:ShortOMatMorse", "-o", tmp_path, "--json", "--threads", 1)
    assert result.exit_code == 3
    assert "outside" in result.stderr and "Al γ (111)" in result.stderr
    rows = {(row["formula"], row["quantity"]): row for row in json.loads(result.stdout)["rows"]}
    facet = rows["Al", "γ (111)"]
    assert facet["deviation"] == pytest.approx(facet["value"] - 0.77) and not facet["passed"]
    assert "Sci. Data 3" in facet["reference_source"]
    assert rows["Fe", "O: plus_u_seam"]["passed"]  # refused, since the toy says +U
    arithmetic = [row for (_, quantity), row in rows.items() if "arithmetic" in quantity]
    assert len(arithmetic) == 5 and all(row["passed"] and abs(row["value"]) < 0.1 for row in arithmetic)


def test_what_cannot_be_compared_is_one_sentence() -> None:
    toy = ("-m", "dpa4_core.testing:MorsePotential")
    for arguments, part in (
        (("Cu", "--quick"), "--quick chooses the metals"),
        (("Qq", "-m", "toy_potentials:ShortOMatMorse"), "'Qq' is not in the table; choose from Al, Cu"),
        (("Cu", *toy), "the references are PBE"),
    ):
        result = dpa4(*arguments)
        assert result.exit_code == 1 and part in result.stderr


@pytest.mark.network
@pytest.mark.slow
def test_neo_keeps_the_quick_table(neo_path: Path, tmp_path: Path) -> None:
    """Cu, Pt and Ni: surface energies, H, O, OH and CO, the order of H, CO in the hollow of Pt, O on Ni refused."""
    document = catalyst_document(ModelRef(str(neo_path)), ResultsTable(tmp_path / "catalyst.sqlite"), quick=True)
    assert document.failures == {} and len(document.rows) == 21
    assert all(row.passed for row in document.rows), [row for row in document.rows if not row.passed]

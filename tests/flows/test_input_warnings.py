"""What a file makes doubtful stands beside the number, in every table and every JSON."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import ase.io
import pyarrow.parquet as pq
import pytest
from toy_campaign import MORSE, sanity_verdict
from typer.testing import CliRunner, Result

from dpa4_core.data import formats
from dpa4_core.data.readers import read_structures
from dpa4_flows.campaigns.candidates import read_candidates
from dpa4_flows.cli import app

OXIDE = """data_LiCoO2
_symmetry_space_group_name_H-M 'R -3 m'
_cell_length_a 2.816
_cell_length_b 2.816
_cell_length_c 14.054
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
_cell_volume 99.9
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Li1 Li 0 0 0
Co1 Co 0 0 0.5
O1 O 0 0 0.23968
"""
SAID = "_cell_volume says 99.9"


@pytest.fixture
def oxide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CIF whose volume is not that of its cell."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "oxide.cif"
    path.write_text(OXIDE)
    return path


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


@pytest.mark.parametrize("command", ["predict", "relax"])
def test_doubt_is_beside_the_energy(oxide: Path, command: str) -> None:
    shown = dpa4(command, oxide, "-m", MORSE, "-o", "out.json")
    assert f"mind: oxide: lengths and angles of the cell give 96.515 Å³, and {SAID}" in shown.stderr
    (row,) = json.loads(Path("out.json").read_text())
    assert SAID in row["warnings"][0]
    (row,) = json.loads(dpa4(command, oxide, "-m", MORSE, "--json", "-o", "out.extxyz").stdout)
    assert SAID in row["warnings"][0]
    assert SAID in ase.io.read("out.extxyz").info["warnings"]


def test_doubt_is_a_column_of_large_runs(oxide: Path) -> None:
    shown = dpa4("predict", oxide, "-m", MORSE, "-o", "run")
    assert "1 deserve a look, see the columns `flags` and `warnings`" in shown.stdout + shown.stderr
    assert dpa4("export", "run", "-o", "out.csv").exit_code == 0
    with Path("out.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert SAID in row["warnings"] and row["flags"] == ""
    (shard,) = Path("run/shards").glob("*.parquet")
    table = pq.read_table(shard)
    assert SAID in table["warnings"].to_pylist()[0][0]
    pq.write_table(table.drop_columns(["warnings"]), shard)  # a shard of an older version
    assert dpa4("status", "run").exit_code == 0
    for suffix in ("csv", "json", "extxyz", "parquet"):
        assert dpa4("export", "run", "-o", f"old.{suffix}").exit_code == 0


def test_doubt_flags_the_candidate_of_a_campaign(oxide: Path) -> None:
    (candidate,) = read_candidates([oxide])
    assert SAID in candidate.warnings[0]
    verdict = sanity_verdict(candidate)
    assert verdict.status == "flagged" and SAID in verdict.reasons[0].sentence


def test_warnings_of_parsers_about_content_are_kept_and_those_about_code_are_not(
    oxide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Any = formats.read_block

    def talkative(lines: list[str], *, pymatgen: bool) -> Any:
        warnings.warn("two atoms\n share a label", stacklevel=1)
        warnings.warn("this argument goes away", DeprecationWarning, stacklevel=1)
        return read(lines, pymatgen=pymatgen)

    monkeypatch.setattr(formats, "read_block", talkative)
    (entry,) = read_structures(oxide)
    assert entry.warnings[1:] == ("two atoms share a label",) and SAID in entry.warnings[0]

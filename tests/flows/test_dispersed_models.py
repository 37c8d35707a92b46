"""A model with dispersion is another model: for keys, libraries, frames, commands and campaigns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ase.build import bulk
from ase.io import write
from pymatgen.core import Structure
from test_electrode_property import SODIUM, sodium
from toy_campaign import MORSE
from typer.testing import CliRunner, Result

import dpa4_core
from dpa4_core.errors import DPA4Error
from dpa4_core.terms import checksum_with_dispersion
from dpa4_core.testing import MorsePotential
from dpa4_flows.analysis.frames import FrameError, check_same_frame
from dpa4_flows.analysis.hull_warnings import scheme_warnings
from dpa4_flows.campaigns.config import campaign_of, load_campaign
from dpa4_flows.campaigns.run import model_of
from dpa4_flows.campaigns.sections import ConfigError
from dpa4_flows.cli import app
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.compute.relaxed import Energy
from dpa4_flows.documents.provenance import energy_frame
from dpa4_flows.model_ref import ModelRef, ModelRefError
from dpa4_flows.properties import electrode
from dpa4_flows.properties.competition import PUSHED
from dpa4_flows.reference.bundled_phases import bundled_keys
from dpa4_flows.reference.entries import document_entry
from dpa4_flows.reference.library import bundled_elements
from dpa4_flows.reference.mp_frame import check_materials_project_scale
from dpa4_flows.reference.store import ReferenceStore
from dpa4_flows.report.caveats import model_caveats

PLAIN = ModelRef(MORSE)
MORE = ModelRef(MORSE, dispersion="d3bj-pbe")
SALT = bulk("NaCl", "rocksalt", a=5.64)


def dpa4(*arguments: object) -> Result:
    words = [str(a) for a in arguments]
    return CliRunner().invoke(app, [*words, "-m", MORSE], env={"COLUMNS": "200", "TERM": "dumb"})


def test_keys_libraries_and_frames_are_those_of_model_and_dispersion(tmp_path: Path) -> None:
    salt, ask = Structure.from_ase_atoms(SALT), Energy()
    (_, one), (_, other) = (next(iter(compute([("", Ask(ask, Crystal(salt)))], model))) for model in (PLAIN, MORE))
    added = dpa4_core.predict(SALT, MORE.load())[0].energy - dpa4_core.predict(SALT, MorsePotential())[0].energy
    assert added < -0.3 and other.energy - one.energy == pytest.approx(added)
    assert one.key != other.key and other.provenance.dispersion == "d3bj-pbe"
    with pytest.raises(FrameError, match="dispersion is '' for one and 'd3bj-pbe' for another"):
        check_same_frame(document_entry(found, "none", "x").entry.data["frame"] for found in (one, other))
    with pytest.raises(FrameError, match="dispersion"):
        check_same_frame(energy_frame(model) for model in (PLAIN, MORE))

    stores = [ReferenceStore.for_model(model, PUSHED, tmp_path) for model in (PLAIN, MORE)]
    assert stores[0].table.path != stores[1].table.path
    opened = ReferenceStore.open(stores[1].table.path).model
    assert opened == replace(MORE.resolve(), device=opened.device) and opened.load() is MORE.load()
    with pytest.raises(ModelRefError, match=f"model {MORSE} \\+ d3bj-pbe has sha256"):
        replace(MORE, sha256=PLAIN.resolve().sha256).load()


@pytest.mark.slow
def test_bundled_relaxations_are_not_those_of_the_model_with_dispersion(neo_path: Path) -> None:
    plain = ModelRef(str(neo_path))
    (lithium, *_) = (phase.structure for phase in bundled_elements(["Li"]))
    known = [
        bundled_keys(model.info().sha256, [PUSHED.key(Crystal(lithium), model)])
        for model in (plain, replace(plain, dispersion="d3bj-pbe"))
    ]
    assert [len(keys) for keys in known] == [1, 0]


def test_commands_add_dispersion_and_keep_runs_apart(tmp_path: Path) -> None:
    file = tmp_path / "salt.extxyz"
    write(file, SALT)
    said = [dpa4("predict", file, "--json", *more) for more in ((), ("--dispersion", "d3bj-pbe"))]
    plain, more = (json.loads(one.stdout)[0]["energy"] for one in said)
    assert plain == pytest.approx(dpa4_core.predict(SALT, PLAIN.load())[0].energy)
    assert more == pytest.approx(dpa4_core.predict(SALT, MORE.load())[0].energy) and more < plain
    unknown = dpa4("relax", file, "--dispersion", "d4")
    assert unknown.exit_code == 1 and "unknown dispersion 'd4'; choose from d3bj-pbe" in unknown.output
    folder = tmp_path / "run"
    assert dpa4("predict", file, "-o", folder, "--dispersion", "d3bj-pbe").exit_code == 0
    again = dpa4("predict", file, "-o", folder)
    assert again.exit_code == 1 and f"holds results of model {MORSE} + d3bj-pbe" in again.output.replace("\n", " ")


def test_campaigns_name_the_dispersion(tmp_path: Path) -> None:
    def campaign(**model: Any) -> Any:
        return campaign_of({"campaign": {"name": "x", "candidates": ["x"]}, "model": {"name": MORSE, **model}})

    assert model_of(campaign()).dispersion is None
    pinned = model_of(campaign(dispersion="d3bj-pbe", sha256=PLAIN.resolve().sha256))
    assert pinned.sha256 == MORE.resolve().sha256 == checksum_with_dispersion(PLAIN.resolve().sha256 or "", "d3bj-pbe")
    assert pinned.load() is MORE.load()
    (tmp_path / "candidates.json").write_text("[]")
    (tmp_path / "c.toml").write_text(
        '[campaign]\nname = "x"\ncandidates = ["candidates.json"]\n[model]\ndispersion = "d4"\n'
    )
    with pytest.raises(ConfigError, match="model.dispersion: unknown dispersion 'd4'; choose from d3bj-pbe"):
        load_campaign(tmp_path / "c.toml")


def test_published_corrections_and_energies_are_told_to_have_no_dispersion() -> None:
    info = replace(MORE.info(), level_of_theory="PBE, PBE+U, with D3(BJ)", corrections="MP2020")
    (warning,) = scheme_warnings(info.level_of_theory, "MP2020", "MP2020", (), info.dispersion)
    assert "MP2020 was fitted to energies without dispersion" in warning
    assert scheme_warnings(info.level_of_theory, "MP2020", "MP2020") == []
    caveats = " ".join(model_caveats(info.to_dict(), ["MP2020"]))
    assert "MP2020 was fitted to energies without dispersion" in caveats
    assert "Dispersion was added to the model (d3bj-pbe)" in caveats and "has no dispersion" not in caveats
    with pytest.raises(DPA4Error, match="energies of the Materials Project have no dispersion"):
        check_materials_project_scale(info, "MP2020")


@pytest.mark.parametrize("model", [PLAIN, MORE], ids=["plain", "dispersion"])
def test_volume_changes_of_layers_count_where_dispersion_holds_them(
    monkeypatch: pytest.MonkeyPatch, model: ModelRef
) -> None:
    # a toy whose layers drift apart, as far as the verdict can tell
    monkeypatch.setattr("dpa4_flows.analysis.electrode.UNRELIABLE_CHANGE_PERCENT", -100.0)
    wanted = electrode.Electrode("Na", SODIUM.relaxation)
    ((_, found),) = compute([("", Ask(wanted, Crystal(sodium("Ni"))))], replace(model, dtype="float64"))
    assert found.error is None and found.volume_change_reliable is (model is MORE)
    assert ("unreliable_vdw" in {reason.code for reason in found.warnings}) is (model is PLAIN)

"""Band gaps from a property model, a file and a composition: never without level of theory and error."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Composition, Structure
from test_semiconductor import written
from toy_campaign import MORSE, rocksalt
from typer.testing import CliRunner

from dpa4_core.errors import DPA4Error
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.property import PropertyConfig, PropertyModel, write_property_model
from dpa4_flows.analysis.band_gaps import composition_gap, measured_gap, shockley_queisser_percent
from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.campaigns.plan import plan_campaign
from dpa4_flows.campaigns.run import prepare_run
from dpa4_flows.cli import app
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.answers import Question, Subject
from dpa4_flows.properties.band_gap import BandGap
from dpa4_flows.properties.equation_of_state import EquationOfState
from dpa4_flows.report.properties import write_properties_report
from dpa4_flows.runs.property import compute_in
from dpa4_flows.runs.run import How

TOY = ModelRef(MORSE, dtype="float64")
DEFAULT = BandGap()
INFO = ModelInfo(name="gaps", level_of_theory="PBE", elements=(8, 12), training={"validation": {"property_rmse": 0.3}})


def head(path: Path, gap: float, info: ModelInfo = INFO, unit: str = "eV") -> ModelRef:
    """A property model that says the same of everything."""
    backbone = DPA4(DPA4Config.preset("nano", elements=("O", "Mg")))
    model = PropertyModel(backbone, PropertyConfig("band_gap", unit, mean=gap))
    for parameter in model.head.parameters():
        parameter.data.zero_()
    return ModelRef(str(write_property_model(model, info, path)))


def stating(**facts: Any) -> Structure:
    crystal = rocksalt("Mg")
    crystal.properties = facts
    return crystal


def answers(*crystals: Structure, model: ModelRef = TOY, wanted: BandGap = DEFAULT) -> list[Any]:
    asks = [(i, Ask(wanted, Crystal(crystal))) for i, crystal in enumerate(crystals)]
    found = dict(compute(asks, model))
    return [found[i] for i in range(len(crystals))]


def test_what_is_known_best_counts_and_everything_has_an_error_and_a_level(tmp_path: Path) -> None:
    model = head(tmp_path / "gap.dpa4", 4.0)
    stated = stating(band_gap=7.8, band_gap_level="measured")
    of_project = stating(band_gap=4.4, material_id="mp-1265")
    real, project, alone = answers(stated, of_project, rocksalt("Mg"), model=model)
    assert (real.source, real.band_gap, real.band_gap_std) == ("file", 7.8, 0.1)
    assert [one.source for one in real.estimates] == ["file", "property model", "composition"]
    assert project.source == "file" and project.gap_level == "PBE or PBE+U", "the model adds an error of its own"
    assert project.band_gap > 4.4, "PBE is low"
    assert (alone.source, alone.stated_gap, alone.gap_level) == ("property model", pytest.approx(4.0), "PBE")
    raised = measured_gap(4.0, "PBE", 0.3)
    assert (alone.band_gap, alone.band_gap_std) == (pytest.approx(raised.value), pytest.approx(raised.error))
    guessed, unknown = answers(rocksalt("Mg"), Structure(np.eye(3) * 3, ["Mg"], [[0, 0, 0]]))
    assert guessed.source == "composition" and guessed.band_gap_std > 0.5
    assert unknown.band_gap is None and unknown.error is None and not unknown.estimates
    assert answers(rocksalt("Mg"), wanted=BandGap(guess=False))[0].band_gap is None


def test_a_gap_without_its_level_or_error_is_no_gap(tmp_path: Path) -> None:
    bare, other = answers(stating(band_gap=1.1), stating(band_gap=1.1, band_gap_level="HSE06"), wanted=BandGap(False))
    assert bare.band_gap is other.band_gap is None
    assert [reason.code for reason in (*bare.doubts, *other.doubts)] == ["gap_not_usable"] * 2
    assert "PBE" in other.doubts[0].sentence, "levels whose errors are known are named"
    (kept,) = answers(stating(band_gap=1.1, band_gap_level="HSE06", band_gap_error=0.3))
    assert kept.band_gap == 1.1 and [reason.code for reason in kept.doubts] == ["gap_as_stated"]
    numpy = stating(band_gap=np.float32(1.5), band_gap_level="PBE", is_gap_direct=np.bool_(True))
    assert [one.stated_gap for one in answers(numpy, stating(band_gap=1.5, band_gap_level="PBE"))] == [1.5, 1.5]
    nameless = dataclasses.replace(INFO, level_of_theory="unknown")
    unproven = dataclasses.replace(INFO, training={})
    for name, model, words in (
        ("level", head(tmp_path / "level.dpa4", 1.0, nameless), "its level of theory: train it with level_of_theory"),
        ("error", head(tmp_path / "error.dpa4", 1.0, unproven), "how far its gaps are off"),
        ("unit", head(tmp_path / "unit.dpa4", 1.0, unit="GPa"), r"is about band_gap \(intensive, in GPa\)"),
    ):
        with pytest.raises(DPA4Error, match=f"{name}.dpa4 .*{words}"):
            answers(rocksalt("Mg"), model=model)


def test_a_property_model_is_no_potential(tmp_path: Path) -> None:
    model = head(tmp_path / "gap.dpa4", 4.0)
    asks: list[Any] = [(i, Ask(one, Crystal(rocksalt("Mg")))) for i, one in enumerate((BandGap(), EquationOfState()))]
    with pytest.raises(DPA4Error, match="holds a property model"):
        dict(compute(asks, model))
    iron = Structure(np.eye(3) * 2.8, ["Fe"], [[0, 0, 0]])
    (foreign,) = answers(iron, model=model)
    assert foreign.band_gap is None and [reason.code for reason in foreign.doubts] == ["gap_not_computed"]


def test_a_model_that_a_stage_cannot_use_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    head(tmp_path / "unproven.dpa4", 1.0, dataclasses.replace(INFO, training={}))
    head(tmp_path / "gap.dpa4", 1.0)
    for model, stage, words in (
        ("unproven.dpa4", "gap", "how far its gaps are off"),
        ("gap.dpa4", "finite_temperature", "holds a property model"),
    ):
        stages = ["sanity", "relax", "gap", "at_rest", "phonons", "modes", "finite_temperature"]
        file = written(tmp_path, {"MgO": rocksalt("Mg")}, {stage: {"model": model}}, stages=stages)
        with pytest.raises(DPA4Error, match=words):
            prepare_run(load_campaign(file), tmp_path / "run")
        with pytest.raises(DPA4Error, match=words):
            plan_campaign(load_campaign(file), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_the_command_reads_what_rows_state_and_names_no_model_that_did_not_compute(tmp_path: Path) -> None:
    rows = [{"id": "MgO", "structure": rocksalt("Mg").as_dict(), "band_gap": 7.8, "band_gap_level": "measured"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    folder = tmp_path / "run"
    done = CliRunner().invoke(
        app, ["band-gap", str(tmp_path / "rows.json"), "-m", MORSE, "-o", str(folder)], env={"COLUMNS": "200"}
    )
    assert done.exit_code == 0 and "7.80 ± 0.10" in done.stdout and "file" in done.stdout, done.output
    gap, both = (Question.of(names, {}) for names in (["band_gap"], ["static", "band_gap"]))
    subjects = [Subject("MgO", stating(band_gap=7.8, band_gap_level="measured"))]
    for question, model, says in (
        (gap, TOY, "band gap of 1 structure."),
        (both, TOY, f"static of 1 structure with {MORSE}; band gap without a model."),
        (gap, head(tmp_path / "gap.dpa4", 4.0), f"band gap of 1 structure with {tmp_path / 'gap.dpa4'}."),
    ):
        results = compute_in(None, question, subjects, model, How())
        write_properties_report(results, tmp_path / "page.html", title="Gaps", model=model)
        page = (tmp_path / "page.html").read_text()
        assert says in page and (model.name in page) == (says != "band gap of 1 structure."), says


def test_gaps_of_pbe_are_raised_and_a_best_solar_cell_has_one_point_three() -> None:
    assert measured_gap(0.6, "PBE").value > 1.0 > measured_gap(0.0, "PBE").value, "silicon, and what PBE closes"
    assert measured_gap(-0.2, "measured").value == 0
    gaps = np.linspace(0.4, 3.0, 53)
    efficiency = [shockley_queisser_percent(gap) for gap in gaps]
    assert 1.1 < gaps[int(np.argmax(efficiency))] < 1.5 and 29 < max(efficiency) < 32, "as published"
    order = [composition_gap(Composition(formula)) for formula in ("LiF", "MgO", "ZnS", "CdTe", "PbTe")]
    values = [gap.value for gap in order if gap is not None]
    assert values == sorted(values, reverse=True) and len(values) == 5
    assert composition_gap(Composition("NiAl")) is None and composition_gap(Composition("Si")) is None

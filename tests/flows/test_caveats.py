"""What must be known before a number is quoted goes wherever the number goes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from toy_campaign import MORSE, scene

import dpa4_flows as d4
from dpa4_core.data.structures import to_system
from dpa4_core.relax.vacuum import vacuum_axes
from dpa4_core.verdicts import FLAG_SENTENCES
from dpa4_flows.campaigns.battery import judge_charged
from dpa4_flows.campaigns.context import Case
from dpa4_flows.campaigns.relaxed import judge_relaxation
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.reasons import Reason, remarks
from dpa4_flows.documents.schemas import Candidate, RelaxationDocument
from dpa4_flows.engines import run_local
from dpa4_flows.makers.relax import DPA4RelaxMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.hull import HullPlace
from dpa4_flows.properties.oxygen_release import OxygenReleaseDocument
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.properties.windows import WindowDocument
from dpa4_flows.report.properties import write_properties_report
from dpa4_flows.runs.export import export
from dpa4_flows.runs.kinds import open_run

VACUUM = FLAG_SENTENCES["vacuum_kept"]
SAID = Reason(code="of_the_numbers", sentence="they are doubtful")
LOOSE = Relaxed(fmax=0.05, check_minimum=False)


@pytest.fixture
def sheet() -> Structure:
    """Two layers of MgO in a box that is periodic along all axes, strained in their plane and across it."""
    places = [[0, 0, 0.1], [0.5, 0.5, 0.1], [0, 0, 0.28], [0.5, 0.5, 0.28]]
    return Structure(Lattice.tetragonal(3.1, 14.0), ["Mg", "O", "O", "Mg"], places)


@pytest.fixture
def relaxed(sheet: Structure) -> RelaxationDocument:
    return d4.relax([sheet], model=MORSE, fmax=0.05, check_minimum=False)[0]


def test_a_document_keeps_the_flags_of_its_relaxation(relaxed: RelaxationDocument, sheet: Structure) -> None:
    assert [doubt.code for doubt in relaxed.doubts] == ["vacuum_kept"] and remarks(relaxed) == [VACUUM]
    assert vacuum_axes(to_system(sheet)).tolist() == [False, False, True]
    lattice = Structure.from_dict(relaxed.structure).lattice
    assert lattice.c == pytest.approx(14.0, abs=1e-9) and abs(lattice.a - 3.1) > 0.01


def test_a_saddle_that_was_stored_before_there_were_doubts_is_one(relaxed: RelaxationDocument) -> None:
    stored = relaxed.model_dump(mode="json") | {"minimum": "saddle"}
    del stored["doubts"]
    assert [doubt.code for doubt in RelaxationDocument.model_validate(stored).doubts] == ["saddle"]


def test_a_campaign_flags_what_a_relaxation_doubts(relaxed: RelaxationDocument) -> None:
    for stage, judge, suffix in (("relax", judge_relaxation, ""), ("relax_charged", judge_charged, "_charged")):
        at = scene(stage)
        verdict = at.verdict(judge(Case(at, Candidate(candidate_id="sheet", formula="MgO"), {}, {stage: relaxed})))
        assert [reason.code for reason in verdict.reasons] == [f"vacuum_kept{suffix}"] and verdict.status == "flagged"
        assert verdict.reasons[0].code in at.funnel.reasons  # with words of its own


def test_the_maker_of_atomate2_holds_a_vacuum_and_says_so(sheet: Structure, tmp_path: Path) -> None:
    for check in (False, True):
        job = DPA4RelaxMaker(model=ModelRef(MORSE), check_minimum=check, relax_kwargs={"fmax": 0.05}).make(sheet)
        document = run_local(job, tmp_path)[job.uuid][1].output
        assert [doubt.code for doubt in document.doubts] == ["vacuum_kept"]
        np.testing.assert_allclose(document.structure.lattice.matrix[2], [0, 0, 14.0], atol=1e-9)
        assert abs(document.structure.lattice.a - 3.1) > 0.01  # the plane relaxes
    fixed = DPA4RelaxMaker(model=ModelRef(MORSE), relax_cell=False, check_minimum=False).make(sheet)
    assert run_local(fixed, tmp_path)[fixed.uuid][1].output.doubts == []


def test_hull_and_stability_say_that_a_cell_holds_a_vacuum(sheet: Structure) -> None:
    hull = {"library": None, "bundled": False, "prototypes": False, "relaxation": LOOSE}
    place = d4.hull([sheet], model=MORSE, **hull)[0]
    assert VACUUM in place.document.warnings and any(VACUUM in text for text in place.warnings)
    stable = d4.stability([sheet], model=MORSE, hull=None, phonons=None, relaxation=LOOSE)[0]
    assert VACUUM in stable.warnings


@pytest.fixture
def asked(sheet: Structure, tmp_path: Path) -> Any:
    """Answers with a doubt, kept in a folder."""
    return d4.relax([sheet], model=MORSE, fmax=0.05, check_minimum=False, folder=tmp_path / "run")


def test_every_form_of_an_answer_carries_its_caveats(asked: Any, tmp_path: Path) -> None:
    assert VACUUM in repr(asked) and VACUUM in asked._repr_html_()
    assert asked.records()[0]["warnings"] == VACUUM == asked.to_dataframe()["warnings"][0]
    with (tmp_path / "run" / "answers.csv").open() as stream:
        assert next(csv.DictReader(stream))["warnings"] == VACUUM
    assert VACUUM in json.dumps(json.loads((tmp_path / "run" / "answers.json").read_text()), ensure_ascii=False)
    assert VACUUM.split(",")[0] in (tmp_path / "run" / "structures.extxyz").read_text()
    write_properties_report(asked, tmp_path / "page.html", title="x", model=ModelRef(MORSE).resolve())
    assert VACUUM in (tmp_path / "page.html").read_text()
    export(open_run(tmp_path / "run"), tmp_path / "export")
    with (tmp_path / "export" / "index.csv").open() as stream:
        assert next(csv.DictReader(stream))["reasons"] == VACUUM


def test_a_sentence_about_many_structures_is_said_once(sheet: Structure) -> None:
    found = d4.relax([sheet, sheet.copy().scale_lattice(130), *[sheet * (2, 1, 1)] * 3], model=MORSE, max_steps=2)
    [remark] = [remark for remark in found.remarks if remark.sentence == VACUUM]
    assert len(remark.names) == 5 and remark.words == f"MgO 0, MgO 1, MgO 2 and 2 more, relax: {VACUUM}"


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (OxygenReleaseDocument, "flags", [SAID]),
        (WindowDocument, "doubts", [SAID]),
        (WindowDocument, "caveat", SAID.sentence),
        (HullPlace, "warnings", [SAID.sentence]),
    ],
)
def test_what_a_document_says_against_itself_is_found_in_whatever_field(kind: Any, field: str, value: Any) -> None:
    assert remarks(kind.model_construct(**{field: value}, provenance=None)) == [SAID.sentence]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_phonons_judge_the_symmetry_of_the_file_and_what_goes_down_without_them_says_so() -> None:
    pytest.importorskip("phonopy")
    square = Structure(Lattice.cubic(2.5), ["Cu"], [[0, 0, 0]])
    phonons = Phonons(min_length=5.0, mesh_length=10.0, temperatures_k=(300.0,))
    held = d4.stability([square], model=MORSE, hull=None, elastic=None, phonons=phonons)[0]
    assert held.relaxed.space_group == held.relaxed.space_group_before == "Pm-3m" and held.warnings == []
    free = d4.stability([square], model=MORSE, hull=None, phonons=None)[0]
    before, after = free.relaxed.space_group_before, free.relaxed.space_group
    assert before == "Pm-3m" != after and free.relaxed.minimum in ("verified", "likely")
    assert f"it relaxed from {before} to {after}: strains and phonons are those of {after}" in free.warnings

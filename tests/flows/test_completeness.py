"""Who may call a phase stable: counts, verdicts, and every place that hands out the word."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.entries.computed_entries import ComputedEntry
from toy_campaign import MORSE, besides, hull_verdict_on, rocksalt, write_campaign, write_phases
from typer.testing import CliRunner, Result

from dpa4_flows.analysis.completeness import (
    FAR_BELOW,
    ON_HULL,
    PROTOTYPE,
    HullCompleteness,
    Survey,
    Tally,
    hull_completeness,
    hull_verdict,
    tally,
)
from dpa4_flows.analysis.hull import HullResult, phase_positions
from dpa4_flows.analysis.ranking import Objective, rank_candidates
from dpa4_flows.analysis.thermodynamics import chemical_potential_region
from dpa4_flows.campaigns.config import load_campaign
from dpa4_flows.campaigns.library import run_library
from dpa4_flows.campaigns.run import prepare_run
from dpa4_flows.cli import app
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.reasons import voided
from dpa4_flows.documents.schemas import HullDocument
from dpa4_flows.engines import run_local
from dpa4_flows.makers.named import BatchRelaxMaker, ConvexHullMaker, StabilityMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.gibbs import _view
from dpa4_flows.properties.hull import Hull
from dpa4_flows.properties.stability import Stability
from dpa4_flows.reference.catalogue import export_entries
from dpa4_flows.reference.sources import BundledPhases, PhaseFile
from dpa4_flows.reference.store import ReferenceStore
from dpa4_flows.report.figures_hull import hull_caveat, hull_figures

FAST = ("-m", MORSE, "--fmax", "0.05", "--threads", "1")
MAKER = BatchRelaxMaker(property=Relaxed(fmax=0.05), model=ModelRef(MORSE))
ELEMENTS = {"Fe": 1, "Na": 1, "O": 1}
SURVEY = Survey(source="Materials Project", version="2026.04.13", date="2026-11-29")


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DPA4_CACHE", str(tmp_path / "cache"))
    for name in ("MP_API_KEY", "PMG_MAPI_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def dpa4(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "TERM": "dumb"})


def graded(**values: Any) -> HullCompleteness:
    known = values.pop("known", {"Na2O": 1, "Fe2O3": 2})
    phases = Tally(values.pop("elements", ELEMENTS), known, values.pop("prototypes", {}))
    return hull_completeness("Fe-Na-O", phases, formula="NaFeO2", **values)


# ---- what competes


def test_compounds_count_once_and_elements_and_forms_of_the_phase_do_not() -> None:
    roles = {"Fe": "element", "Na2O": "competing", "Na3O": PROTOTYPE, "NaFeO2": "competing", "Fe2O3": None}
    counted = tally((Composition(formula), role) for formula, role in [*roles.items(), ("Fe4O6", "competing")])
    found = hull_completeness("Fe-Na-O", counted, formula="NaFeO2")
    assert (found.n_known, found.n_prototypes, found.n_forms) == (2, 1, 1)
    assert found.missing_elements == ["Na", "O"] and found.grade == "element_missing"
    assert found.competitors == "2 known compounds + 1 prototype"


def test_grades_from_best_to_worst() -> None:
    assert graded(survey=SURVEY).grade == "surveyed"
    assert graded(survey=SURVEY, without_energy=["FeO (x): failed"]).grade == "incomplete"
    assert graded().grade == "unsurveyed"
    assert graded(known={}, survey=SURVEY).grade == "no_competitor"  # who was asked and knew nothing is named
    assert "survey: Materials Project 2026.04.13 (2026-11-29)" in graded(known={}, survey=SURVEY).sentence
    assert graded(elements={"Fe": 1, "O": 1}).grade == "element_missing"
    assert graded().sentence == "2 known compounds, no survey of phases in Fe-Na-O"


@pytest.mark.parametrize(
    ("above", "distance", "completeness", "code", "reason"),
    [
        (0.0, -0.05, graded(survey=SURVEY), "stable", "surveyed"),
        (ON_HULL, ON_HULL, graded(), "stable", "unsurveyed"),
        (0.0, -0.05, graded(known={}, prototypes={"Na3O": 2}), "stable", "unsurveyed"),
        (0.0, -0.01, graded(known={}), "unknown", "no_known_competitor"),
        (0.0, -0.01, graded(known={}, survey=SURVEY), "unknown", "no_known_competitor"),
        (0.0, -0.01, graded(known={"NaFeO2": 3}), "unknown", "no_known_competitor"),  # forms of its own
        (0.0, -FAR_BELOW - 1e-3, graded(survey=SURVEY), "unknown", "far_below_competitors"),
        (0.0, 0.0, graded(elements={"Fe": 1, "O": 1}), "unknown", "element_missing"),
        (0.02, 0.02, graded(elements={"Fe": 1, "O": 1}), "above_hull", "above_hull"),  # a lower bound is still above
        (0.3, 0.3, graded(known={}), "above_hull", "no_known_competitor"),
        (0.02, -2.6, graded(), "above_hull", "far_below_competitors"),  # above another candidate
    ],
)
def test_stable_is_said_only_near_competing_compounds(
    above: float, distance: float, completeness: HullCompleteness, code: str, reason: str
) -> None:
    verdict = hull_verdict(above, distance, completeness)
    assert (verdict.code, verdict.reason) == (code, reason)
    assert verdict.documented == (reason in ("surveyed", "unsurveyed", "above_hull"))
    assert verdict.sentence.startswith("stable against ") == (code == "stable")
    if code == "stable" and completeness.survey is None:
        assert verdict.sentence.endswith("no survey")


def test_elements_stand_against_forms_of_their_own() -> None:
    found = hull_completeness("Fe", Tally({"Fe": 3}))
    assert hull_verdict(0.0, 0.0, found).sentence == "stable against 3 known forms of Fe, no survey"
    assert hull_verdict(0.0, 0.0, hull_completeness("Fe", Tally())).code == "unknown"


def test_phase_within_the_tolerance_has_a_region() -> None:
    entries = [ComputedEntry(f, e * Composition(f).num_atoms) for f, e in (("Li", -1.0), ("O2", -1.0), ("Li2O", -2.0))]
    touching = ComputedEntry("Li2O2", 4 * (-1 - 0.75 + 0.5 * ON_HULL))  # on the line from Li2O to O2, nearly
    region = chemical_potential_region("Li2O2", [*entries, touching])
    for corner in region.corners:
        assert (corner["Li"] + corner["O"]) / 2 == pytest.approx(-0.75, abs=2 * ON_HULL)


def test_a_phase_within_the_tolerance_passes_the_strictest_limit() -> None:
    per_atom = {"Li": -1.0, "O2": -1.0, "Li2O": -2.0}
    competing = [ComputedEntry(formula, e * Composition(formula).num_atoms) for formula, e in per_atom.items()]
    for above, goes_on in ((0.9 * ON_HULL, True), (1.1 * ON_HULL, False)):
        (position,) = phase_positions([ComputedEntry("Li2O2", 4 * (-1.75 + above))], competing)
        assert hull_verdict_on(position, 0.0).goes_on is goes_on


def test_stored_documents_of_earlier_versions_load_and_claim_nothing() -> None:
    (position,) = phase_positions([ComputedEntry("Li2O", -6.0)], [ComputedEntry("Li", -1.0), ComputedEntry("O2", -2.0)])
    old = {
        **{"formula": "Li2O", "chemsys": "Li-O", "energy_per_atom_corrected": -2.0, "correction_per_atom": 0.0},
        **{"formation_energy_per_atom": -1.0, "energy_above_hull": 0.0, "n_competing": position.n_competing},
        **{"references_complete": True, "missing_references": []},
        "frame": {"model_sha256": "f", "level_of_theory": "toy", "correction": "none"},
        "provenance": {"model_name": "toy", "model_sha256": "f", "level_of_theory": "toy", "code_version": "0"},
    }
    document = HullDocument.model_validate(old)
    assert document.energy_above_hull is None and document.verdict.reason == "not_recorded"
    assert HullDocument.model_validate(old | {"energy_above_hull": 0.2}).verdict.code == "above_hull"
    assert HullDocument.model_validate_json(document.model_dump_json()) == document


# ---- surveys


def test_file_is_no_survey_because_it_was_named(tmp_path: Path) -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0] * 3, [0.5] * 3])
    salt.to(filename="NaCl.cif")
    built = dpa4("reference", "build", "Na-Fe-O", "--from", "NaCl.cif", "--no-mp", "--json", *FAST)
    found = json.loads(built.stdout)["completeness"]["Fe-Na-O"]
    assert found["survey"] is None and found["grade"] == "unsurveyed"
    said = dpa4("reference", "build", "Na-Fe-O", "--from", "NaCl.cif", "--survey", "--no-mp", *FAST)
    assert "NaCl.cif does not count as a survey of Fe-Na-O" in said.stderr
    (library,) = json.loads(dpa4("reference", "list", "--json").stdout)
    assert {system["completeness"]["survey"] for system in library["systems"]} == {None}
    assert "--survey speaks of the files" in dpa4("reference", "build", "Na-O", "--survey", *FAST).stderr


def test_survey_that_the_user_declares_is_stored_with_file_and_date(tmp_path: Path) -> None:
    store = ReferenceStore.for_model(MAKER.model, MAKER.property, tmp_path / "library")
    file = write_phases(tmp_path / "phases.json", besides("Mg"))
    store.build(["Mg-O"], [BundledPhases(), PhaseFile(file)])
    assert store.completeness(["Mg-O"])["Mg-O"].grade == "unsurveyed"
    store.build(["Mg-O"], [PhaseFile(file, is_survey=True)])  # the same file: only what is said of it is new
    survey = store.surveys(["Mg-O"])["Mg-O"]
    assert survey.source == "file phases.json" and len(survey.version) == 12 and survey.date.startswith("20")
    assert store.surveys(["Mg-O", "Mg-Na-O"]).keys() == {"Mg-O"}

    exported = tmp_path / "export.json"
    export_entries(store, exported, "none", ["Mg-O"])
    other = ReferenceStore.for_model(MAKER.model, MAKER.property, tmp_path / "other")
    other.build(["Mg-O"], [PhaseFile(exported)])
    inherited = other.surveys(["Mg-O"])["Mg-O"]
    assert inherited.source == f"file export.json of {survey.words}"


def test_export_with_a_phase_lost_is_no_survey(tmp_path: Path) -> None:
    store = ReferenceStore.for_model(MAKER.model, MAKER.property, tmp_path / "library")
    lost = Structure(Lattice.cubic(4), ["Mg", "O", "Xe"], [[0] * 3, [0.5] * 3, [0.5, 0.5, 0]])
    file = write_phases(tmp_path / "phases.json", {**besides("Mg"), "lost": lost})
    store.build(["Mg-O-Xe"], [BundledPhases(), PhaseFile(file, is_survey=True)])
    export_entries(store, tmp_path / "export.json", "none")
    assert json.loads((tmp_path / "export.json").read_text())["surveys"] == {}


def test_library_of_an_earlier_version_opens_and_its_files_survey_nothing(tmp_path: Path) -> None:
    store = ReferenceStore.for_model(MAKER.model, MAKER.property, tmp_path / "library")
    store.build(["Mg-O"], [BundledPhases()], prototypes=False)
    with sqlite3.connect(store.table.path) as connection:  # as earlier versions wrote
        for source in ("file phases.json", "Materials Project"):
            row = ("Mg-Na-O", source, "v", 0.1, 1, 0, "2025-01-01T00:00:00+00:00")
            connection.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    old = ReferenceStore.open(store.table.path)
    told = {answer.source: answer.surveys for answer in old.table.answers()}
    assert told == {"bundled": False, "file phases.json": False, "Materials Project": True}
    assert old.surveys(["Mg-O"])["Mg-O"] == Survey(source="Materials Project", version="v", date="2025-01-01")


def test_survey_that_a_file_tells_of_counts_wherever_the_file_competes(tmp_path: Path) -> None:
    """In a campaign, a Maker and the command; its date is that of the survey, so that no run changes overnight."""
    told = {"surveys": {"Mg-O": SURVEY.model_dump(), "Co-Li-O": SURVEY.model_dump()}}
    rows = json.loads(write_phases(tmp_path / "phases.json", besides("Mg")).read_text())
    export = tmp_path / "export.json"
    export.write_text(json.dumps({"entries": rows, **told}))
    survey = Survey(source=f"file export.json of {SURVEY.source}", version=SURVEY.version, date=SURVEY.date)

    campaign = write_campaign(tmp_path / "campaign", hull={"competing": [str(export)]})
    planned = json.loads(dpa4("screen", campaign, "--dry-run", "--json").stdout)["completeness"]
    graded = {system: found["survey"] for system, found in planned.items()}
    assert graded["Co-Li-O"] == survey.model_dump() and graded["Li-Mn-O"] is None
    prepared = prepare_run(load_campaign(campaign), tmp_path / "run")
    assert run_library(prepared.run).surveys(["Co-Li-O"])["Co-Li-O"] == survey

    hull = Hull(MAKER.property, library=None, files=(str(export),), bundled=False, prototypes=False)
    maker = ConvexHullMaker(model=MAKER.model, property=hull)
    flow = maker.make([rocksalt("Mg")], tmp_path / "hull.sqlite")
    (document,) = run_local(flow, tmp_path / "jobs")[flow.output.uuid][1].output.documents
    assert document.completeness.survey == survey

    rocksalt("Mg").to(filename="MgO.cif")
    (row,) = json.loads(dpa4("hull", "MgO.cif", "--against", export, "--json", *FAST).stdout)
    assert row["hull"]["document"]["completeness"]["survey"] == survey.model_dump()


# ---- every place that hands out the word


def test_command_calls_a_phase_without_competitors_unknown_everywhere() -> None:
    rocksalt("Mg").to(filename="MgO.cif")
    shown = dpa4("hull", "MgO.cif", "--no-mp", "--csv", "hull.csv", "--plot", "hull.html", *FAST)
    assert shown.exit_code == 0, shown.output
    assert "unknown: no known competitor" in shown.stdout and "stable" not in shown.stdout
    with Path("hull.csv").open(newline="") as stream:
        (line,) = csv.DictReader(stream)
    assert line["verdict_code"] == "unknown" and line["energy_above_hull (eV/atom)"] == ""
    assert float(line["distance_to_competing (eV/atom)"]) < -FAR_BELOW
    page = Path("hull.html").read_text()
    assert "whether MgO is stable is unknown" in page and "Before quoting these numbers" in page
    (row,) = json.loads(dpa4("hull", "MgO.cif", "--no-mp", "--json", *FAST).stdout)
    place = row["hull"]["document"]
    assert place["energy_above_hull"] is None and place["verdict"]["reason"] == "no_known_competitor"
    assert place["completeness"]["n_known"] == 0


def test_command_names_what_stable_is_measured_against() -> None:
    rocksalt("Mg").to(filename="MgO.cif")
    write_phases(Path("phases.json"), besides("Mg"))
    shown = dpa4("hull", "MgO.cif", "--against", "phases.json", *FAST)
    assert "stable against 2 known compounds, no survey" in shown.stdout
    built = dpa4("reference", "build", "Mg-O", "--from", "phases.json", "--survey", "--no-mp", *FAST)
    assert built.exit_code == 0, built.output
    surveyed = dpa4("hull", "MgO.cif", "--no-mp", *FAST)
    assert "survey: file phases.json" in surveyed.stdout and "lower bounds" not in surveyed.stderr


def test_maker_and_stability_call_it_unknown(tmp_path: Path) -> None:
    hull = ConvexHullMaker(model=MAKER.model, property=Hull(MAKER.property, library=None))
    flow = hull.make([rocksalt("Mg")], tmp_path / "hull.sqlite")
    (document,) = run_local(flow, tmp_path / "jobs")[flow.output.uuid][1].output.documents
    assert document.verdict.code == "unknown" and document.completeness.grade == "no_competitor"
    maker = StabilityMaker(model=MAKER.model, property=Stability(elastic=None, phonons=None, hull=hull.property))
    flow = maker.make([rocksalt("Mg")], tmp_path / "stability.sqlite")
    (answer,) = run_local(flow, tmp_path / "jobs")[flow.output.uuid][1].output.documents
    assert answer.verdict == "undecided"
    assert answer.verdicts == {"hull": "unknown", "elastic": "not asked", "phonons": "not asked"}


@pytest.mark.parametrize(
    ("distance", "known"), [(-2.6, {"Na2O": 1}), (-0.05, {})], ids=["far below", "nothing competes"]
)
def test_unknown_distance_is_evidence_and_does_not_rank(distance: float, known: dict[str, int]) -> None:
    """A candidate of whose competitors nothing is known is no better than one that lies just above the hull."""
    place = HullResult(
        *("x", "NaFeO2", "Fe-Na-O", -5.0, 0.0),
        energy_above_hull=0.0,
        distance_to_competing=distance,
        competing=Tally(ELEMENTS, known),
    )
    result = hull_verdict_on(place)
    assert result.status == "flagged" and result.values["energy_above_hull"] == 0.0
    assert voided(result.reasons) == ["energy_above_hull"] and result.reasons[0].disqualifies
    assert "stable" not in str(result.values["decomposition"]) and "unknown" in result.reasons[0].sentence
    rows = [
        {"candidate_id": "x", "formula": "NaFeO2", "values": result.values, "flags": result.reasons},
        {"candidate_id": "y", "formula": "NaMnO2", "values": {"energy_above_hull": 0.01}},
    ]
    objective = Objective("energy_above_hull", goal="min", low=0.0, high=0.05)
    assert [row.candidate_id for row in rank_candidates(rows, [objective])] == ["y", "x"]


def test_figures_carry_the_caveat_and_draw_the_unknown_in_grey() -> None:
    phase = {"formula": "MgO", "x": {"Mg": 0.5, "O": 0.5}, "formation_energy_per_atom": -2.0, "energy_above_hull": 0.0}
    summary = {
        "Mg-O": {
            "n_competing": 2,
            "missing": [],
            "completeness": hull_completeness("Mg-O", Tally({"Mg": 1, "O": 1})).model_dump(),
            "phases": [phase | {"candidate": True, "verdict": "unknown", "entry_id": "a", "source": ""}],
        }
    }
    assert "no known compound, no survey of phases in Mg-O" in hull_caveat("Mg-O", summary["Mg-O"])
    (block,) = hull_figures(summary, ())
    assert "no survey of phases in Mg-O" in block.caption
    assert any("no survey of phases" in note.text.replace("<br>", " ") for note in block.figure.layout.annotations)
    points = block.figure.data[1]
    assert points.marker.symbol == ("diamond-open",) and "unknown" in points.customdata[0]
    assert points.marker.color == ("#7a8a99",)


def test_dry_run_counts_what_competes_in_each_system(tmp_path: Path) -> None:
    shown = dpa4("screen", write_campaign(tmp_path / "campaign"), "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "Li-Mn-O" in shown.stdout and "no survey of phases in Li-Mn-O" in shown.stdout.replace("\n", " ")
    plan = json.loads(dpa4("screen", write_campaign(tmp_path / "campaign"), "--dry-run", "--json").stdout)
    assert plan["completeness"].keys() == plan["chemical_systems"].keys()
    assert all(found["survey"] is None for found in plan["completeness"].values())


def test_who_is_stable_to_where_nothing_is_known_turns_into_nothing() -> None:
    def place(distance: float) -> HullDocument:
        completeness = graded(survey=SURVEY)
        verdict = hull_verdict(max(distance, 0.0), distance, completeness)
        above = None if verdict.code == "unknown" else max(distance, 0.0)
        fields = {"formula": "NaFeO2", "formation_energy_per_atom": -1.0, "decomposition": {"Fe2O3": 0.5, "Na2O": 0.5}}
        return HullDocument.model_construct(
            energy_above_hull=above, verdict=verdict, completeness=completeness, **fields
        )

    temperatures = [300.0, 600.0, 900.0]
    lost = _view(temperatures, [place(-0.01), place(-2 * FAR_BELOW), place(0.1)])
    assert (lost.stable_to, lost.products, lost.energies_above_hull[1]) == (300.0, [], None)
    assert lost.caveat is not None and lost.caveat.startswith("above 300 K unknown: ")
    decomposed = _view(temperatures, [place(-0.01), place(-0.01), place(0.1)])
    assert (decomposed.stable_to, decomposed.products) == (600.0, ["Fe2O3", "Na2O"])
    assert not decomposed.caveat

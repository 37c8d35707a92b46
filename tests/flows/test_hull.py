"""Hulls against the Materials Project and against pymatgen."""

import gzip
import json
import time
from pathlib import Path

import pytest
from pymatgen.analysis.phase_diagram import PhaseDiagram
from pymatgen.entries.computed_entries import ComputedEntry

from dpa4_flows.analysis.frames import FrameError
from dpa4_flows.analysis.hull import CompetingPhases, hull_summary, phase_positions

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def rows():
    return json.loads(gzip.decompress((DATA / "li_co_ni_o_hull.json.gz").read_bytes()))


@pytest.fixture(scope="module")
def entries(rows):
    return [ComputedEntry(r["composition"], r["energy"], r["correction"], entry_id=r["entry_id"]) for r in rows]


def entry(formula, energy_per_atom, **data):
    composition = ComputedEntry(formula, 0.0).composition
    return ComputedEntry(composition, energy_per_atom * composition.num_atoms, data=data, entry_id=f"id-{formula}")


LI_O = [entry("Li", -1.9), entry("O2", -4.9), entry("Li2O", -4.8), entry("Li2O2", -4.85)]


def test_hull_of_the_materials_project_is_rebuilt(rows, entries):
    results = phase_positions(entries, entries)
    for row, result in zip(rows, results, strict=True):
        assert result.energy_above_hull == pytest.approx(row["e_above_hull"], abs=1e-9)
        assert result.formation_energy_per_atom == pytest.approx(row["e_form_per_atom"], abs=1e-9)
        assert result.missing_references == []
        assert result.entry_id == row["entry_id"]


def test_decompositions_equal_those_of_pymatgen(entries):
    diagram = PhaseDiagram(entries)
    for candidate, result in list(zip(entries, phase_positions(entries, entries), strict=True))[::25]:
        theirs = diagram.get_decomposition(candidate.composition)
        expected = {phase.composition.reduced_formula: fraction for phase, fraction in theirs.items()}
        assert result.decomposition == pytest.approx(expected, abs=1e-6)


def test_candidate_below_the_hull_is_on_it():
    (result,) = phase_positions([entry("LiO3", -5.5)], LI_O)
    assert result.energy_above_hull == 0.0
    assert result.distance_to_competing < -0.1
    assert set(result.decomposition) == {"O2", "Li2O2"}
    assert sum(result.decomposition.values()) == pytest.approx(1.0)


def test_candidate_of_a_known_composition_is_measured_from_the_known_phase():
    worse, better = phase_positions([entry("Li4O2", -4.7), entry("Li2O", -4.83)], LI_O)
    assert worse.energy_above_hull == pytest.approx(0.1)
    assert worse.decomposition == pytest.approx({"Li2O": 1.0})
    assert better.energy_above_hull == 0.0
    assert better.distance_to_competing == pytest.approx(-0.03)


def test_candidates_compete_with_each_other_on_request():
    pair = [entry("LiO3", -5.5), entry("LiO4", -4.95)]
    alone = phase_positions(pair, LI_O)[1]
    together = phase_positions(pair, LI_O, candidates_compete=True)[1]
    assert together.energy_above_hull > alone.energy_above_hull
    assert together.distance_to_competing == alone.distance_to_competing
    assert phase_positions(pair, LI_O, candidates_compete=True)[0].energy_above_hull == 0.0


def test_only_the_rivals_stand_against_candidates():
    good, bad = entry("LiO4", -4.95), entry("LiO3", -5.5)
    alone = phase_positions([good, bad], LI_O)
    [judged, fallen] = phase_positions([good, bad], LI_O, rivals=[good])  # the second is judged, and counts for nothing
    assert judged.energy_above_hull == pytest.approx(alone[0].energy_above_hull)
    assert fallen.energy_above_hull == 0.0
    [judged] = phase_positions([good], LI_O, rivals=[bad])
    assert judged.energy_above_hull > alone[0].energy_above_hull
    assert judged.distance_to_competing == pytest.approx(alone[0].distance_to_competing)


def test_missing_element_is_named_and_the_distance_is_a_lower_bound(entries):
    lithium_cobalt = [e for e in entries if e.composition.chemical_system in ("Co-Li-O", "Li-O", "Co-O", "Li", "O")]
    cobalt = [e for e in entries if e.composition.reduced_formula == "Co"]
    candidates = [e for e in lithium_cobalt if e.composition.chemical_system == "Co-Li-O"][::10]
    complete = phase_positions(candidates, [*lithium_cobalt, *cobalt])
    incomplete = phase_positions(candidates, lithium_cobalt)
    for whole, part in zip(complete, incomplete, strict=True):
        assert part.missing_references == ["Co"]
        assert part.completeness().grade == "element_missing"
        assert part.formation_energy_per_atom is None
        assert part.energy_above_hull <= whole.energy_above_hull + 1e-8
        assert part.n_competing == whole.n_competing - len(cobalt)


def test_candidate_that_cannot_be_decomposed_gets_a_sentence():
    (result,) = phase_positions([entry("LiF", -4.8)], LI_O)
    assert result.energy_above_hull is None
    assert result.missing_references == ["F"]
    assert result.error == "LiF cannot be decomposed: no reference for F"
    (nothing,) = phase_positions([entry("LiF", -4.8)], [])
    assert nothing.missing_references == ["F", "Li"]


def test_unconverged_energies_do_not_enter():
    competing = [*LI_O, entry("LiO3", -9.0, converged=False)]
    good, bad = phase_positions([entry("LiO3", -4.5), entry("LiO4", -4.5, converged=False)], competing)
    assert good.n_competing == len(LI_O)
    assert good.energy_above_hull < 1.0
    assert bad.energy_above_hull is None
    assert "did not converge" in bad.error


def test_frames_never_mix():
    frame = {"model_sha256": "a", "level_of_theory": "PBE", "correction": "none"}
    other = {**frame, "correction": "OMat24"}
    competing = [entry("Li", -1.9, frame=frame), entry("O2", -4.9, frame=frame)]
    assert phase_positions([entry("Li2O", -4.8, frame=frame)], competing)[0].energy_above_hull == 0.0
    with pytest.raises(FrameError, match="correction is"):
        phase_positions([entry("Li2O", -4.8, frame=other)], competing)
    with pytest.raises(FrameError, match="no energy frame"):
        phase_positions([entry("Li2O", -4.8)], competing)


def test_element_is_a_candidate_like_any_other():
    (result,) = phase_positions([entry("Li", -1.85)], LI_O)
    assert result.energy_above_hull == pytest.approx(0.05)
    assert result.formation_energy_per_atom == pytest.approx(0.05)
    assert result.chemsys == "Li"


def test_summary_lists_the_phases_by_distance(entries):
    summary = hull_summary(["Li-Co-O", "Co-F"], entries)
    phases = summary["Li-Co-O"]["phases"]
    distances = [phase["energy_above_hull"] for phase in phases]
    assert distances == sorted(distances)
    assert {p["formula"] for p in phases if p["energy_above_hull"] < 1e-9} >= {"Li", "Co", "O2", "Li2O", "LiCoO2"}
    assert summary["Li-Co-O"]["n_competing"] == len(phases)
    assert next(p for p in phases if p["formula"] == "LiCoO2")["x"] == {"Co": 0.25, "Li": 0.25, "O": 0.5}
    assert summary["Co-F"]["missing"] == ["F"]
    json.dumps(summary)


def test_summary_marks_candidates():
    phases = hull_summary(["Li-O"], LI_O, [entry("LiO3", -5.5)])["Li-O"]["phases"]
    assert [p["formula"] for p in phases if p["candidate"]] == ["LiO3"]


def test_thousands_of_candidates_take_seconds(entries):
    start = time.perf_counter()
    results = phase_positions(entries * 13, entries)
    assert len(results) == 13 * len(entries)
    assert time.perf_counter() - start < 20


def test_competing_phases_keep_their_hulls(entries):
    phases = CompetingPhases(entries)
    queries = entries[::20]
    assert phase_positions(queries, phases) == phase_positions(queries, entries)
    system = frozenset(("Li", "O"))
    assert phases.hull(system) is phases.hull(system)
    framed = CompetingPhases([entry("Li", -1.9, frame={"model_sha256": "a", "level_of_theory": "", "correction": ""})])
    with pytest.raises(FrameError):
        phase_positions([entry("Li", -1.8)], framed)


def test_facets_are_those_of_pymatgen(entries):
    hull = CompetingPhases(entries).hull(frozenset(("Li", "Co", "Ni", "O")))
    theirs = PhaseDiagram(entries)
    expected = {frozenset(theirs.qhull_entries[i].entry_id for i in facet) for facet in theirs.facets}
    assert {frozenset(phase.entry_id for phase in facet) for facet in hull.facets} == expected


def test_products_lie_on_the_same_hull_as_the_distance():
    """A candidate beaten by another candidate turns into that one, not into phases above itself."""
    best, second = phase_positions([entry("LiO3", -5.5), entry("Li2O6", -5.4)], LI_O, candidates_compete=True)
    assert second.energy_above_hull == pytest.approx(0.1)
    assert second.decomposition == pytest.approx({"LiO3": 1.0})
    assert best.energy_above_hull == 0.0

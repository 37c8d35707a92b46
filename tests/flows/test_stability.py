"""From structures to verdicts, with a toy potential."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from jobflow import Flow, job
from pymatgen.core import Lattice, Structure
from toy_campaign import MORSE, besides, rocksalt, write_phases

from dpa4_core import InFlight, predict, relax
from dpa4_core.errors import DPA4Error
from dpa4_core.testing import MorsePotential
from dpa4_core.units import EV_PER_ANGSTROM3_TO_GPA
from dpa4_flows import extras
from dpa4_flows.analysis.completeness import HullCompleteness, Tally, hull_completeness, hull_verdict
from dpa4_flows.analysis.stability import hull_part, overall_verdict
from dpa4_flows.campaigns.measured import by_verdict
from dpa4_flows.compute.driver import compute
from dpa4_flows.compute.plan import Ask, Crystal, PlanError
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.schemas import RelaxationDocument
from dpa4_flows.documents.stability import ElasticPart, FollowedPart, PhononPart, StabilityDocument, StabilitySet
from dpa4_flows.engines import run_local
from dpa4_flows.makers.named import BatchElasticMaker, BatchPhononMaker, StabilityMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.elastic import Elastic
from dpa4_flows.properties.hull import Hull
from dpa4_flows.properties.modes import FollowedModes
from dpa4_flows.properties.phonons import Phonons
from dpa4_flows.properties.stability import Stability

pytest.importorskip("phonopy")

MODEL = ModelRef(MORSE)
PHONONS = Phonons(min_length=5.0, mesh_length=20.0, temperatures_k=(0.0, 300.0))


def cesium_chloride() -> Structure:
    """Unstable with the toy potential: it wants more space between the anions."""
    return Structure(Lattice.cubic(2.9), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def xenon() -> Structure:
    return Structure(Lattice.cubic(4), ["Xe"], [[0, 0, 0]])


def run(maker: StabilityMaker, structures: list[Structure], folder: Path) -> StabilitySet:
    flow = maker.make(structures, folder / "stability.sqlite")
    return run_local(flow, folder / "jobs")[flow.output.uuid][1].output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stability")


@pytest.fixture(scope="module")
def maker(folder: Path) -> StabilityMaker:
    return StabilityMaker(
        model=MODEL,
        property=Stability(
            phonons=PHONONS,
            max_follow_steps=2,
            hull=Hull(
                relaxation=Relaxed(fmax=0.05, rattle=0.02),
                files=(str(write_phases(folder / "phases.json", besides("Mg"))),),
                library=str(folder / "library"),
            ),
        ),
    )


@pytest.fixture(scope="module")
def found(maker: StabilityMaker, folder: Path) -> StabilitySet:
    fixed = rocksalt("Mg")
    fixed.add_site_property("selective_dynamics", [[False] * 3, [True] * 3])
    return run(maker, [fixed, cesium_chloride() * [2, 2, 1], xenon()], folder)


def document(found: StabilitySet, index: int) -> StabilityDocument:
    return found.documents[index]


def test_stable_crystal_is_stable_in_every_part(found: StabilitySet) -> None:
    magnesia = document(found, 0)
    assert magnesia.formula == "MgO" and magnesia.verdict == "stable"
    assert magnesia.hull is not None and magnesia.elastic is not None and magnesia.phonons is not None
    assert [part.verdict for part in (magnesia.hull, magnesia.elastic, magnesia.phonons)] == ["stable"] * 3
    assert magnesia.followed is None
    assert [text.split(":")[0] for text in magnesia.reasons] == ["hull", "elastic", "phonons"]
    assert magnesia.reasons[0] == "hull: stable, stable against 2 known compounds, no survey"
    assert magnesia.verdicts == dict.fromkeys(("hull", "elastic", "phonons"), "stable")
    freed, lacking = magnesia.warnings
    assert freed == "atoms that the file fixes were set free" and lacking.endswith("distances are lower bounds")
    c = np.array(magnesia.elastic.c_ij_gpa)
    assert magnesia.elastic.k_vrh_gpa == pytest.approx((c[0, 0] + 2 * c[0, 1]) / 3)
    assert magnesia.elastic.crystal_system == "cubic" and magnesia.elastic.nonlinearity < 0.1
    assert magnesia.phonons.thermal[1].temperature_k == 300 and magnesia.phonons.thermal[1].entropy_j_mol_k > 0
    assert magnesia.relaxed.space_group == "Fm-3m" and magnesia.relaxed.fmax < 1e-3


def test_every_part_says_what_it_rests_on(found: StabilitySet) -> None:
    magnesia = document(found, 0)
    for part in (magnesia.hull, magnesia.elastic, magnesia.phonons):
        assert part is not None and part.converged and part.error is None
        assert part.provenance.model_name == MORSE and part.provenance.settings
    assert magnesia.phonons is not None
    assert magnesia.phonons.provenance.settings["min_length"] == 5.0
    assert magnesia.provenance.settings["relax"]["fmax"] == 1e-3


def test_bulk_modulus_is_that_of_compression(found: StabilitySet) -> None:
    """K from 24 strains against the pressure of a compressed and an expanded cell."""
    magnesia = document(found, 0)
    structure = Structure.from_dict(magnesia.relaxed.structure)
    strained = [structure.apply_strain(strain, inplace=False) for strain in (-0.002, 0.002)]
    low, high = (np.trace(p.stress) / 3 for p in predict(strained, MODEL.load(), strict=True))
    slope = EV_PER_ANGSTROM3_TO_GPA * (high - low) / (3 * 0.004)
    assert magnesia.elastic is not None and magnesia.elastic.k_vrh_gpa == pytest.approx(slope, rel=0.02)


def test_unstable_crystal_is_followed_to_a_minimum(found: StabilitySet) -> None:
    salt = document(found, 1)
    assert salt.verdict == "unstable"
    assert salt.phonons is not None and salt.phonons.verdict == "unstable" and salt.phonons.thermal == []
    way = salt.followed
    assert way is not None and way.structure is not None
    assert way.space_group_before == "Pm-3m" != way.space_group
    assert way.energy_gain_ev_per_atom == pytest.approx(sum(step.energy_gain_ev_per_atom for step in way.steps))
    assert all(step.energy_gain_ev_per_atom > 0 and step.converged for step in way.steps)
    assert way.verdict == way.steps[-1].phonons.verdict == "stable"
    assert way.steps[0].frequency_thz == salt.phonons.f_min_commensurate_thz
    assert any("with its atoms displaced it relaxes to a structure" in text for text in salt.warnings)
    assert "Pm-3m →" in way.reason and "no imaginary mode is left" in way.reason


def test_broken_structure_fails_alone(found: StabilitySet) -> None:
    assert "Xe is not in this potential" in (found.documents[2].error or "")
    assert [document.error for document in found.documents[:2]] == [None, None]


def test_documents_are_json(found: StabilitySet) -> None:
    text = json.dumps(found.model_dump(mode="json"), allow_nan=False)
    assert StabilitySet.model_validate_json(text).model_dump(mode="json") == found.model_dump(mode="json")


def test_second_run_computes_nothing(
    maker: StabilityMaker, found: StabilitySet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("everything is in the table")

    monkeypatch.setattr(InFlight, "step", forbidden)
    again = run(maker, [rocksalt("Mg"), cesium_chloride() * [2, 2, 1]], folder)
    assert [d.elastic for d in again.documents] == [d.elastic for d in found.documents[:2]]
    ways = [d.followed for s in (again, found) for d in s.documents if d.followed is not None]
    ends = [[Structure.from_dict(step.structure) for step in way.steps] for way in ways]
    assert len(ends[0]) > 0 and ends[0] == ends[1]


def test_parts_are_optional_and_structures_may_come_from_a_job(tmp_path: Path) -> None:
    @job
    def make_structures() -> list[Structure]:
        return [rocksalt("Mg")]

    first = make_structures()
    maker = StabilityMaker(model=MODEL, property=Stability(phonons=None, hull=None))
    flow = maker.make(first.output, tmp_path / "s.sqlite")
    (answer,) = run_local(Flow([first, flow]), tmp_path / "jobs")[flow.output.uuid][1].output.documents
    assert answer.hull is None and answer.phonons is None and answer.elastic is not None
    assert answer.verdict == "undecided" and answer.elastic.verdict == "stable"
    assert answer.verdicts == {"hull": "not asked", "elastic": "stable", "phonons": "not asked"}
    assert answer.reasons[0] == "hull: not asked" and answer.reasons[2] == "phonons: not asked"


def test_model_may_come_from_a_job(tmp_path: Path) -> None:
    @job
    def choose_model() -> ModelRef:
        return MODEL

    first = choose_model()
    maker = StabilityMaker(model=first.output, property=Stability(phonons=None, hull=None))
    flow = maker.make([rocksalt("Mg")], tmp_path / "s.sqlite")
    (answer,) = run_local(Flow([first, flow]), tmp_path / "jobs")[flow.output.uuid][1].output.documents
    assert answer.elastic.verdict == "stable" and answer.elastic.provenance.model_name == MORSE


def test_parts_are_jobs_of_their_own(tmp_path: Path) -> None:
    working = BatchElasticMaker(model=MODEL).make([rocksalt("Mg")])
    (fields,) = run_local(working, tmp_path)[working.output.uuid][1].output.documents
    part = ElasticPart.model_validate(fields)
    assert part.c_ij_gpa is not None and part.crystal_system == "cubic"
    assert not part.converged and "GPa is left on the cell: relax it before" in part.warnings[0]


def test_supercell_that_is_too_large_fails_alone() -> None:
    big = rocksalt("Mg") * [2, 2, 3]
    big.translate_sites([0], [0.02, 0.01, 0.005])
    small = BatchPhononMaker(property=Phonons(min_length=5.0, max_supercell_atoms=16), model=MODEL)
    parts = small.documents([cesium_chloride(), big])
    assert parts[0].error is None
    assert parts[1].verdict == "unknown" and "more than 16" in (parts[1].error or "")


def test_missing_package_is_said_before_work(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name == "phonopy" else found(name))
    with pytest.raises(DPA4Error, match=r"phonopy, which is not installed: pip install 'dpa4-flows\[phonons\]'"):
        StabilityMaker(model=MODEL).make([rocksalt("Mg")])
    StabilityMaker(model=MODEL, property=Stability(phonons=None)).make([rocksalt("Mg")])


def test_makers_are_values() -> None:
    maker = StabilityMaker(model=MODEL, property=Stability(phonons=PHONONS))
    again = StabilityMaker.from_dict(json.loads(json.dumps(maker.as_dict())))
    assert again.property.settings(MODEL) == maker.property.settings(MODEL)
    assert again.property.phonons.key(Crystal(rocksalt("Mg")), MODEL) == PHONONS.key(Crystal(rocksalt("Mg")), MODEL)


def test_worst_part_decides() -> None:
    assert overall_verdict({"hull": "stable", "elastic": "unstable"}) == "unstable"
    assert overall_verdict({"hull": "unstable", "elastic": "unknown"}) == "unstable"
    assert overall_verdict({"hull": "metastable", "phonons": "marginal"}) == "undecided"
    assert overall_verdict({"hull": "metastable", "elastic": "stable", "phonons": "stable"}) == "metastable"
    assert overall_verdict({"hull": "metastable", "phonons": "stable"}) == "undecided"  # strain was not asked
    assert overall_verdict({"hull": "stable", "elastic": "stable", "phonons": "not asked"}) == "undecided"
    assert overall_verdict({}) == "undecided"


def test_distance_to_the_hull_has_words() -> None:
    known = Tally({"Mg": 1, "O": 1}, {"MgO2": 1})
    alone = hull_completeness("Mg-O", Tally({"Mg": 1, "O": 1}), formula="MgO")
    competing = hull_completeness("Mg-O", known, formula="MgO")

    def part(above: float, completeness: HullCompleteness) -> tuple[str, str]:
        return hull_part(hull_verdict(above, above, completeness), completeness, above, "0.5 A + 0.5 B")

    assert part(0.0002, competing) == ("stable", "stable against 1 known compound, no survey")
    verdict, reason = part(0.045, competing)
    assert verdict == "metastable" and "45 meV/atom above the hull, towards 0.5 A + 0.5 B" in reason
    assert "lower bound" in reason
    assert part(0.2, competing)[0] == "unstable"
    assert part(0.0, alone)[0] == "unknown"
    assert part(0.045, alone)[0] == "unknown"  # above the elements: perhaps far above what is not known
    assert part(0.2, alone)[0] == "unstable"


# ---- modes that lead nowhere, without a calculation


def way_of(phonons: PhononPart, *ends: RelaxationDocument, start: RelaxationDocument | None = None) -> FollowedPart:
    """What is said of a crystal with these phonons whose displaced cells end so."""
    crystal = rocksalt("Mg")
    plan = FollowedModes().plan(Crystal(crystal, relaxed=None if start else ending(energy_per_atom=-1.0)))
    next(plan)
    answers: list[dict[str, Any]] = [{"relaxed": start}] if start else []
    answers += [{"phonons": phonons}, {str(i): end for i, end in enumerate(ends)}]
    with pytest.raises(StopIteration) as finished:
        for found in answers:
            plan.send(found)
    return finished.value.value


def ending(**fields: Any) -> RelaxationDocument:
    return RelaxationDocument.model_construct(structure=rocksalt("Mg").as_dict(), **fields)


def phonons_of(verdict: str) -> PhononPart:
    along = [rocksalt("Mg").as_dict()] * 2 if verdict == "unstable" else []
    return PhononPart.model_construct(verdict=verdict, reason=f"it is {verdict}", along_mode=along, converged=True)


def test_who_has_no_imaginary_mode_has_the_verdict_of_its_phonons() -> None:
    for verdict in ("stable", "marginal"):
        found = way_of(phonons_of(verdict))
        assert (found.verdict, found.reason, found.steps) == (verdict, f"it is {verdict}", [])


def test_an_imaginary_mode_along_which_nothing_lower_is_found_stays_imaginary() -> None:
    higher = way_of(phonons_of("unstable"), *[ending(energy_per_atom=-1.0, converged=True)] * 2)
    assert higher.verdict == "unstable" and higher.reason.endswith("was found along the mode")
    lost = ending(error="it exploded", error_code="exploded")
    with pytest.raises(PlanError, match="no displaced cell could be relaxed: it exploded") as failed:
        way_of(phonons_of("unstable"), lost, lost)
    assert failed.value.code == "exploded", "a failure is no finding about the crystal"


def test_a_mode_is_not_judged_where_a_calculation_lacked_memory_or_its_start_failed() -> None:
    full = ending(error="out of memory: 9 GB", error_code="out_of_memory")
    good = ending(energy_per_atom=-1.0, converged=True)
    with pytest.raises(PlanError, match="out of memory") as caught:
        way_of(phonons_of("unstable"), good, full)
    assert caught.value.code == "out_of_memory"
    with pytest.raises(PlanError, match="it exploded") as caught:
        way_of(phonons_of("stable"), start=ending(error="it exploded", error_code="exploded"))
    assert caught.value.code == "exploded"


@pytest.fixture(scope="module")
def copper() -> Structure:
    """Hexagonal, whose planes glide when it is sheared."""
    start = Structure(Lattice.hexagonal(2.6, 4.2), ["Cu", "Cu"], [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]])
    return relax([start], MorsePotential(), fmax=1e-5)[0].structure


def parts_of(crystal: Structure, wanted: Elastic | Phonons) -> ElasticPart | PhononPart:
    ((_, found),) = compute([("", Ask(wanted, Crystal(crystal)))], ModelRef(MORSE, dtype="float64"))
    return found


def test_strains_and_displacements_that_end_too_early_are_no_verdict(copper: Structure) -> None:
    """Atoms that have not followed a strain make a crystal too stiff, here by a sixth."""
    whole, short = (parts_of(copper, Elastic(strains=(-0.005, 0.005), max_steps=n)) for n in (500, 1))
    assert (whole.verdict, short.verdict) == ("stable", "marginal") and short.g_vrh_gpa > 1.1 * whole.g_vrh_gpa
    assert "5 of 10 strained cells did not reach" in short.reason
    pushed = copper.copy()
    pushed.translate_sites([0], [0, 0, 0.004])
    still, moved = (parts_of(one, PHONONS) for one in (copper, pushed))
    assert (still.verdict, moved.verdict) == ("stable", "marginal") and "on undisplaced atoms" in moved.reason


@pytest.mark.parametrize(("scale", "verdict"), [(0.97, "stable"), (1.3, "marginal"), (1.4, "marginal")])
def test_a_stress_as_large_as_the_softest_eigenvalue_leaves_strain_undecided(
    copper: Structure, scale: float, verdict: str
) -> None:
    strained = copper.copy()
    strained.scale_lattice(scale * copper.volume)
    part = parts_of(strained, Elastic(strains=(-0.005, 0.005)))
    (bulk,) = predict([strained], MorsePotential())
    stress = np.abs(bulk.stress).max() * EV_PER_ANGSTROM3_TO_GPA
    assert part.verdict == verdict and (abs(part.eigenvalues_gpa[0]) < 2 * stress) == (verdict == "marginal")


@pytest.mark.parametrize("verdict", ["stable", "unstable"])
def test_campaigns_hear_of_strained_cells_that_did_not_come_to_rest(verdict: str) -> None:
    words = "3 of 7 strained cells did not reach 0.001 eV/Å: raise max_steps"
    part = ElasticPart.model_construct(verdict=verdict, reason="of a strain", converged=False, warnings=[words])
    case: Any = SimpleNamespace(document=lambda kind: part, found=part, id="MgO", key="")
    said = {reason.code: reason.sentence for reason in by_verdict(unstable="born_unstable")(case).reasons}
    assert said == {"not_at_rest": words} | ({"born_unstable": "of a strain"} if verdict == "unstable" else {})

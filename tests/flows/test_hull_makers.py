from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jobflow import Flow, job
from pymatgen.core import Lattice, Molecule, Structure

import dpa4_flows
from dpa4_core.model.info import ModelInfo
from dpa4_flows.analysis.adsorbates import Adsorbate
from dpa4_flows.compute.driver import Counts, compute
from dpa4_flows.compute.plan import Ask, Crystal, Crystals, PlanError, Property
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.documents.schemas import RelaxationDocument
from dpa4_flows.engines import run_local
from dpa4_flows.makers.named import BatchRelaxMaker, ConvexHullMaker
from dpa4_flows.makers.property import RETRY_SINCE
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.adsorption import Adsorption
from dpa4_flows.properties.air import Air
from dpa4_flows.properties.alloy import Alloy
from dpa4_flows.properties.chemical_potentials import ChemicalPotentials, Reservoirs
from dpa4_flows.properties.hull import Hull, HullSet
from dpa4_flows.properties.pourbaix import Pourbaix
from dpa4_flows.properties.windows import ElectrochemicalWindows
from dpa4_flows.reference.entries import correction_scheme
from dpa4_flows.reference.sources import find_phases
from dpa4_flows.store.table import ResultsTable

MAKER = BatchRelaxMaker(property=Relaxed(fmax=0.05), model=ModelRef("dpa4_core.testing:MorsePotential"))


def binary(metal: str, anion: str, a: float) -> Structure:
    crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [metal, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])
    return crystal.get_primitive_structure()


def cesium_chloride(metal: str, anion: str, a: float) -> Structure:
    return Structure(Lattice.cubic(a), [metal, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture
def library(tmp_path: Path) -> str:
    phases = [
        {"id": "rocksalt", "source": "test", "structure": binary("Mg", "O", 4.3).as_dict()},
        {"id": "other-system", "source": "test", "structure": binary("Na", "Cl", 5.6).as_dict()},
    ]
    path = tmp_path / "phases.json"
    path.write_text(json.dumps(phases))
    return str(path)


@pytest.fixture
def table(tmp_path: Path) -> ResultsTable:
    return ResultsTable(tmp_path / "results.sqlite")


def test_phases_are_the_elements_and_what_lies_in_the_systems(library: str) -> None:
    phases = find_phases(["Mg-O"], [library])
    assert {p.structure.composition.reduced_formula for p in phases} == {"Mg", "O2", "MgO"}
    assert {p.role for p in phases if p.name == "rocksalt"} == {"competing"}


def test_scheme_follows_the_model_unless_asked_for() -> None:
    assert correction_scheme(ModelInfo(corrections="OMat24")) == "OMat24"
    assert correction_scheme(ModelInfo()) == "none"
    assert correction_scheme(ModelInfo(corrections="OMat24"), "MP2020") == "MP2020"
    with pytest.raises(ValueError, match="unknown correction scheme 'MP2019'"):
        correction_scheme(ModelInfo(), "MP2019")


def test_hull_of_any_structures(library: str, tmp_path: Path) -> None:
    """Rock salt is on the hull, caesium chloride above it by their energy difference; a bad structure harms
    neither."""
    bad = Structure(Lattice.cubic(4), ["Mg", "Xe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    structures = [binary("Mg", "O", 4.4), cesium_chloride("Mg", "O", 2.7), bad]
    flow = alone(MAKER.model, library).make(structures, str(tmp_path / "hull.sqlite"))
    result = run_local(flow, tmp_path / "jobs")[flow.output.uuid][1].output
    assert isinstance(result, HullSet)
    rocksalt, cscl, nothing = result.documents
    assert nothing is None and "Xe" in (result.errors[2] or "")
    assert rocksalt is not None and cscl is not None
    assert rocksalt.chemsys == "Mg-O" and rocksalt.n_competing == len(find_phases(["Mg-O"], [library]))
    assert rocksalt.distance_to_competing == pytest.approx(0, abs=2e-3)
    assert rocksalt.energy_above_hull is None and rocksalt.verdict.code == "unknown"  # its own form says nothing
    assert cscl.verdict.code == "above_hull" and not cscl.verdict.documented
    table = ResultsTable(tmp_path / "hull.sqlite")
    stored = table.calculations(MAKER.key(s) for s in structures[:2])
    energies = [stored[MAKER.key(s)].energy_per_atom or 0 for s in structures[:2]]
    assert cscl.energy_above_hull == pytest.approx(energies[1] - energies[0], abs=2e-3)
    assert cscl.decomposition == {"MgO": pytest.approx(1)}
    elements = {d.formula: d.energy_per_atom or 0.0 for d in sorted(table.iter_calculations(), key=_height)}
    assert cscl.formation_energy_per_atom == pytest.approx(energies[1] - (elements["Mg"] + elements["O2"]) / 2)
    assert rocksalt.completeness.grade == "no_competitor" and rocksalt.completeness.n_forms == 1
    assert result.completeness["Mg-O"].n_known == 1 and result.completeness["Mg-O"].survey is None
    assert rocksalt.frame == result.frame and rocksalt.frame.correction == "none"
    assert rocksalt.provenance.pymatgen_version
    assert set(result.summary) == {"Mg-O"}


def test_energies_of_two_zeros_do_not_meet(library: str) -> None:
    """A fine-tuned model has hulls within the elements whose zeros its data tell, and no others."""
    crystals = Crystals(tuple(Crystal(binary(*pair, 4.4)) for pair in (("Mg", "O"), ("Ca", "O"), ("Na", "Cl"))))
    model = ModelRef("toy_pbe:shifted")
    hull = Hull(MAKER.property, library=None, files=(library,), prototypes=False)
    ((_, found),) = compute([("hull", Ask(hull, crystals))], model)
    assert found.error_codes == [None, "mixed_energy_zeros", "undecided_energy_zeros"]
    assert "zero of O and not that of Ca" in (found.errors[1] or "") and "Na, Cl" not in (found.errors[1] or "")
    assert found.documents[0] is not None and found.documents[0].formation_energy_per_atom is not None
    assert any("CorrectionRefitMaker" in warning for warning in found.warnings)
    counts = Counts()
    ((_, alone),) = compute([("hull", Ask(hull, crystals.crystals[1]))], model, counts=counts)
    assert alone.error_code == "mixed_energy_zeros" and counts.n_requests == 0


@pytest.mark.parametrize(
    "foreign",
    [
        ElectrochemicalWindows(library=None, working_ion="Ca"),
        Reservoirs(library=None, dopant="Ca"),
        Air(library=None),
        Pourbaix(library=None),
        Alloy("Mg:Ca"),
        Adsorption(adsorbates=(Adsorbate.named("O"),)),
    ],
    ids=lambda one: str(one.name),
)
def test_elements_that_a_property_adds_need_the_zero_of_the_crystal(foreign: Property[Any]) -> None:
    """The model was fine-tuned on oxides of magnesium: Ca, H and C are on the zero of its base."""
    counts = Counts()
    asks = [("foreign", Ask(foreign, Crystal(binary("Mg", "O", 4.4))))]
    ((_, found),) = compute(asks, ModelRef("toy_pbe:shifted"), counts=counts)
    assert found.error_code == "mixed_energy_zeros" and "no common zero" in str(found.error)
    assert counts.n_requests == 0


def test_structures_may_come_from_a_job(tmp_path: Path) -> None:
    @job
    def make_structures() -> list[Structure]:
        return [binary("Mg", "O", 4.4)]

    first = make_structures()
    flow = alone(MAKER.model).make(first.output, str(tmp_path / "hull.sqlite"))
    (document,) = run_local(Flow([first, flow]), tmp_path / "jobs")[flow.output.uuid][1].output.documents
    assert document.energy_above_hull is None and document.formation_energy_per_atom < 0
    assert document.verdict.reason == "no_known_competitor"


def test_energies_of_two_models_do_not_meet(library: str, tmp_path: Path) -> None:
    """In one table each has the phases that it relaxed itself."""
    path = str(tmp_path / "hull.sqlite")
    both = []
    for model in (MAKER.model, ModelRef("toy_potentials:SlowMorse")):
        flow = alone(model, library).make([binary("Mg", "O", 4.4)], path)
        both.append(run_local(flow, tmp_path / "jobs")[flow.output.uuid][1].output)
    assert both[0].frame != both[1].frame and not any(found.errors[0] for found in both)
    keys = Counter(d.provenance.model_sha256 for d in ResultsTable(path).iter_calculations())
    assert len(keys) == 2 and len(set(keys.values())) == 1


def test_a_crystal_of_another_model_has_no_place_on_a_hull() -> None:
    crystals = [Crystal(binary("Mg", "O", 4.4)), Crystal(cesium_chloride("Mg", "O", 2.7))]
    models = (MAKER.model, ModelRef("toy_potentials:OMatMorse"))
    asks = [(i, Ask(MAKER.property, crystal, model=models[i])) for i, crystal in enumerate(crystals)]
    relaxed = dict(compute(asks, MAKER.model))
    at_rest = tuple(Crystal(crystal.structure, relaxed=relaxed[i]) for i, crystal in enumerate(crystals))
    hull, counts = Hull(MAKER.property, library=None, prototypes=False), Counts()
    subjects = {"both": Crystals(at_rest), "one": Crystals(at_rest[:1])}
    found = dict(compute([(name, Ask(hull, one)) for name, one in subjects.items()], MAKER.model, counts=counts))
    assert counts.n_requests == found["one"].documents[0].n_competing  # the crystals themselves are not relaxed again
    first, second = found["both"].documents
    assert second is None and first.distance_to_competing == found["one"].documents[0].distance_to_competing
    assert found["both"].error_codes == [None, "not_comparable"]
    assert "OMatMorse" in found["both"].errors[1] and "do not meet on a hull" in found["both"].errors[1]


# ---- what is read off a hull


def test_what_is_read_off_hulls_is_computed_in_one_batch(library: str, tmp_path: Path) -> None:
    """Hull, window and chemical potentials of some crystals share every relaxation, also with single crystals."""
    settings: dict[str, Any] = {"relaxation": MAKER.property, "library": None, "files": (library,)}
    crystals = Crystals((Crystal(binary("Mg", "O", 4.4)), Crystal(cesium_chloride("Mg", "O", 2.7))))
    counts = Counts()
    asks = {
        "hull": Ask(Hull(**settings), crystals),
        "window": Ask(ElectrochemicalWindows(**settings, working_ion="Mg"), crystals),
        "chempots": Ask(ChemicalPotentials(**settings), crystals),
        "alone": Ask(Hull(**settings), crystals.crystals[1]),
    }
    table = ResultsTable(tmp_path / "results.sqlite")
    found = dict(compute(asks.items(), MAKER.model, table, counts=counts))
    assert counts.n_requests == sum(1 for _ in table.iter_calculations())
    assert found["alone"].distance_to_competing == found["hull"].documents[1].distance_to_competing
    window, region = found["window"].documents[0], found["chempots"].documents[0]
    assert window.error is None and window.ion == "Mg" and window.lower == 0
    for corner in region.corners:
        mean = (corner["Mg"] + corner["O"]) / 2
        assert mean == pytest.approx(found["hull"].documents[0].formation_energy_per_atom, abs=2e-3)
    assert found["chempots"].documents[1].error_code == "above_hull"


def test_hulls_and_windows_are_asked_by_name(library: str, tmp_path: Path) -> None:
    settings = {"relaxation": {"fmax": 0.05}, "library": str(tmp_path / "library"), "files": [library]}
    window = {**settings, "working_ion": "Mg"}
    found = dpa4_flows.compute(
        ["hull", "window"],
        [cesium_chloride("Mg", "O", 2.7), cesium_chloride("Mg", "Xe", 4.0)],
        model=MAKER.model,
        settings={"hull": settings, "window": window},
    )
    above = found["hull"][0].energy_above_hull
    assert above is not None and above > 0.05 and found["hull"][0].document.decomposition == {"MgO": pytest.approx(1)}
    assert found["window"][0].energy_above_hull == pytest.approx(above)
    assert found["window"][0].equilibrium == {"MgO": pytest.approx(1)}
    assert "Xe" in (found["hull"][1].error or "") and found["window"][1].error == found["hull"][1].error
    with pytest.raises(ValueError, match="'Fe' is not allowed"):
        dpa4_flows.compute("window", binary("Mg", "O", 4.4), settings={"window": {"working_ion": "Fe"}})


def test_one_that_is_no_crystal_fails_alone() -> None:
    molecule = Crystal(Molecule(["O", "O"], [[0, 0, 0], [0, 0, 1.2]]))
    hull = Hull(MAKER.property, library=None, prototypes=False)
    subject = Crystals((molecule, Crystal(binary("Mg", "O", 4.4))))
    ((_, found),) = compute([(0, Ask(hull, subject))], MAKER.model)
    assert found.error_codes == ["no_crystal", None] and found.documents[1] is not None
    cold = Hull(MAKER.property, library=None, prototypes=False, temperature=77.0)
    ((_, nothing),) = compute([(0, Ask(cold, subject))], MAKER.model)
    assert nothing.error_code == "not_comparable" and "temperature 77 K is outside" in (nothing.error or "")


def test_failures_before_the_time_that_a_table_names_are_computed_again(library: str, table: ResultsTable) -> None:
    crystal, model, asked = binary("Mg", "O", 4.4), MAKER.model, MAKER.property
    failed = asked.failed(Crystal(crystal, model=model, info=model.info()), PlanError("the disk was full", "crashed"))
    maker = alone(model, library)
    for since, error in ((None, "the disk was full"), ((datetime.now(UTC) + timedelta(hours=1)).isoformat(), None)):
        table.put_calculations([failed])
        table.set_meta(RETRY_SINCE, since)
        found = maker.make.original(maker, [crystal], str(table.path))
        assert found.errors == [error]


def alone(model: ModelRef, *files: str) -> ConvexHullMaker:
    return ConvexHullMaker(model=model, property=Hull(MAKER.property, library=None, files=files))


def _height(document: RelaxationDocument) -> float:
    return -(document.energy_per_atom or 0.0)

"""Phases that come with the program: sources, the relaxations beside them, proposals where nothing is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Structure
from toy_campaign import MORSE, antifluorite, rocksalt

from dpa4_core.data.structures import to_system
from dpa4_flows.analysis.completeness import PROTOTYPE
from dpa4_flows.analysis.prototypes import balance, proposals
from dpa4_flows.compute.driver import Counts
from dpa4_flows.compute.relaxed import PUSHED, Relaxed
from dpa4_flows.makers.named import BatchRelaxMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.reference import bundled_phases
from dpa4_flows.reference.bundled_phases import (
    BundledPhases,
    bundled_keys,
    bundled_relaxations,
    compounds,
    relaxed_file,
    write_compounds,
    write_relaxed,
)
from dpa4_flows.reference.library import ReferencePhase
from dpa4_flows.reference.proposed import uncovered, with_proposals
from dpa4_flows.reference.store import ReferenceStore
from dpa4_flows.store.table import ResultsTable


def toy_library(folder: Path) -> ReferenceStore:
    return ReferenceStore.for_model(toy_maker().model, toy_maker().property, folder)


def toy_maker() -> BatchRelaxMaker:
    return BatchRelaxMaker(property=Relaxed(fmax=0.05), model=ModelRef(MORSE, dtype="float64"))


def formulas(phases: list[ReferencePhase]) -> list[str]:
    return [phase.structure.composition.reduced_formula for phase in phases]


@pytest.mark.usefixtures("whole_bundle")
def test_compounds_name_an_open_source_and_can_be_computed() -> None:
    phases = compounds(BundledPhases().chemical_systems())
    assert len(phases) > 4000
    assert len({phase.name for phase in phases}) == len(phases)
    for phase in phases:
        assert "CC BY 4.0" in phase.source and len(phase.elements) > 1
        to_system(phase.structure)


@pytest.mark.usefixtures("whole_bundle")
def test_a_system_holds_the_compounds_of_its_parts() -> None:
    found = formulas(BundledPhases().phases("Cs-I-Pb"))
    assert {"Cs", "I", "Pb", "CsI", "PbI2"} <= set(found)
    assert set(formulas(BundledPhases(elements_only=True).phases("Cs-I-Pb"))) == {"Cs", "I", "Pb"}


def test_compounds_survive_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "compounds.parquet"
    written = [ReferencePhase("b", rocksalt("Ni"), "made up"), ReferencePhase("a", antifluorite(), "made up")]
    write_compounds(written, path)
    table = bundled_phases.pq.read_table(path)
    monkeypatch.setattr(bundled_phases, "_table", lambda: table)
    [found] = compounds(["Li-O-S"])
    assert (found.name, found.source) == ("a", "made up")
    np.testing.assert_allclose(found.structure.lattice.matrix, antifluorite().lattice.matrix, atol=1e-6)
    assert formulas(compounds(["Ni-O", "Li-O"])) == ["Li2O", "NiO"]
    assert compounds([]) == []  # a campaign without a candidate


def test_relaxations_that_come_with_the_program_are_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = BundledPhases(elements_only=True)
    computed = toy_library(tmp_path / "first")
    computed.build(["Ni"], [source])
    documents = computed.table.calculations(row.key for row in computed.table.phases())
    (tmp_path / "relaxed").mkdir()
    assert write_relaxed(tmp_path / "relaxed" / "toy.parquet", documents.values()) == len(documents) > 0

    monkeypatch.setattr(bundled_phases, "_DATA", tmp_path)
    assert bundled_keys(computed.info.sha256, [*documents, "no key"]) == documents.keys()
    found = bundled_relaxations(computed.info.sha256, documents.keys())
    for key, document in documents.items():
        assert found[key].energy == document.energy and found[key].provenance.settings == document.provenance.settings
        expected, shipped = (Structure.from_dict(d.structure or {}) for d in (document, found[key]))
        np.testing.assert_allclose(shipped.lattice.matrix, expected.lattice.matrix, atol=1e-6)
    assert bundled_relaxations("another model", documents.keys()) == {}

    fresh = toy_library(tmp_path / "second")
    counts = Counts()
    summary = fresh.build(["Ni"], [source], counts=counts)
    assert (summary.n_computed, summary.n_phases) == (0, len(documents)) and not counts.n_asked
    anew = toy_library(tmp_path / "third").build(["Ni"], [source], precomputed=False)
    assert anew.n_computed == len(documents)


def test_relaxations_of_two_models_do_not_share_a_file(tmp_path: Path) -> None:
    store = toy_library(tmp_path / "library")
    store.build(["Ni"], [BundledPhases(elements_only=True)])
    [one, *_] = store.table.calculations(row.key for row in store.table.phases()).values()
    other = one.model_copy(update={"provenance": one.provenance.model_copy(update={"model_sha256": "other"})})
    with pytest.raises(ValueError, match="relaxations of 2 models"):
        write_relaxed(tmp_path / "relaxed.parquet", [one, other])


@pytest.mark.network
@pytest.mark.usefixtures("whole_bundle")
def test_shipped_energies_are_those_of_the_model(tmp_path: Path) -> None:
    """A compound and elements; the push of a relaxation is always the same, so that it can be repeated."""
    maker = BatchRelaxMaker(property=PUSHED)
    model = maker.model.resolve()
    phases = [*compounds(["Cl-Na"]), *BundledPhases().phases("Li")]
    keyed = {maker.key(phase.structure): phase.structure for phase in phases}
    shipped = bundled_relaxations(model.sha256 or "", keyed)
    assert shipped.keys() == keyed.keys(), f"{relaxed_file('dpa4-neo')} lacks phases; run scripts/competing_phases.py"
    table = ResultsTable(tmp_path / "results.sqlite")
    maker.run(table, list(keyed.values()))
    for key, again in table.calculations(keyed).items():
        assert shipped[key].energy_per_atom == pytest.approx(again.energy_per_atom, abs=5e-4), again.formula


# ---- proposals -------------------------------------------------------------------------------------------------------


def test_salts_are_balanced_and_alloys_are_not() -> None:
    assert balance({"Cs": 1, "Pb": 1, "I": 3}) == {"Cs": 1, "Pb": 2, "I": -1}
    assert balance({"Mg": 1, "Cr": 2, "O": 4}) == {"Mg": 2, "Cr": 3, "O": -2}
    assert balance({"Na": 1, "Cl": 2}) is None
    assert balance({"Cs": 1, "Pb": 3}) is None


@pytest.mark.usefixtures("whole_bundle")
def test_structure_types_take_the_elements_that_balance_them() -> None:
    found = proposals(["Cr", "O"])
    assert any(p.structure.composition.reduced_formula == "Cr2O3" and len(p.structure) == 10 for p in found)  # corundum
    for proposal in found:
        radii = np.array([site.specie.average_ionic_radius for site in proposal.structure])
        first, second, _, distances = proposal.structure.get_neighbor_list(6.0)
        assert 0.5 < float(np.min(distances / (radii[first] + radii[second]))) < 1.6, proposal.name
    assert proposals(["Cs", "Pb"]) == [] and proposals(["O"]) == [] and proposals(["Li", "Fe", "P", "O"]) == []


@pytest.mark.usefixtures("whole_bundle")
def test_proposals_fill_only_what_is_empty() -> None:
    known = [ReferencePhase("NiO", rocksalt("Ni"), "made up")]
    found = with_proposals(["Mg-Ni-O"], known)
    proposed = [phase for phase in found if phase.role == PROTOTYPE]
    systems = {"-".join(sorted(phase.elements)) for phase in proposed}
    assert "Mg-O" in systems and "Mg-Ni-O" in systems and "Ni-O" not in systems
    assert found[0] is known[0]


def test_a_library_proposes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_type(chemical_system: str) -> list[ReferencePhase]:
        asked.append(chemical_system)
        return [ReferencePhase("NiO as rocksalt", rocksalt("Ni"), "a structure type", PROTOTYPE)]

    asked: list[str] = []
    monkeypatch.setattr("dpa4_flows.reference.store.proposed_phases", one_type)
    store = toy_library(tmp_path)
    for _ in range(2):
        store.build(["Ni-O"], [BundledPhases(elements_only=True)])
    assert asked == ["Ni-O"]
    assert [row.name for row in store.table.phases(["Ni-O"]) if row.role == PROTOTYPE] == ["NiO as rocksalt"]
    store = toy_library(tmp_path / "without")
    assert store.build(["Ni-O"], [BundledPhases(elements_only=True)], prototypes=False).n_phases == len(
        BundledPhases(elements_only=True).phases("Ni-O")
    )


def test_a_proposal_that_comes_to_nothing_is_no_missing_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overlapping(chemical_system: str) -> list[ReferencePhase]:
        broken = rocksalt("Ni")
        broken.translate_sites([1], broken.frac_coords[0] - broken.frac_coords[1] + 0.01)
        return [ReferencePhase("NiO that overlaps", broken, "a structure type", PROTOTYPE)]

    monkeypatch.setattr("dpa4_flows.reference.store.proposed_phases", overlapping)
    store = toy_library(tmp_path)
    summary = store.build(["Ni-O"], [BundledPhases(elements_only=True)])
    assert not summary.failures and summary.n_computed > 1
    found = store.completeness(["Ni-O"])["Ni-O"]
    assert found.grade == "no_competitor" and not found.without_energy
    assert not store.references(["Ni-O"], "none").missing_in("Ni-O")


@pytest.mark.usefixtures("whole_bundle")
def test_nothing_is_proposed_of_elements_that_the_model_does_not_know() -> None:
    assert uncovered(["Li-O-Xe"], [], [3, 8]) == ["Li-O"]
    assert uncovered(["Li-O-Xe"], ["Li-O"]) == ["Li-O-Xe", "Li-Xe", "O-Xe"]

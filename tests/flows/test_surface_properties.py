"""Surface energies and equations of state as properties, on the toy potential."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Molecule, Structure
from pymatgen.io.ase import AseAtomsAdaptor

import dpa4_core as dpa4
from dpa4_core.data.graph import Graph
from dpa4_core.errors import DPA4Error
from dpa4_core.model.info import ModelInfo
from dpa4_core.potential import Output
from dpa4_core.relax import Static
from dpa4_core.testing.morse import MorsePotential
from dpa4_flows.analysis.surface import J_M2_PER_EV_A2, cuts, surface_energy
from dpa4_flows.compute.driver import Counts, compute
from dpa4_flows.compute.plan import Ask, Crystal, Property
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.properties.chemical_potentials import ChemicalPotentials, RegionDocument
from dpa4_flows.properties.equation_of_state import EquationOfState
from dpa4_flows.properties.settings import with_settings
from dpa4_flows.properties.surface import SurfaceEnergies
from dpa4_flows.store.table import ResultsTable

TOY = ModelRef("dpa4_core.testing.morse:MorsePotential")
THIN = SurfaceEnergies(min_thickness=6.0, vacuum=8.0)


def document(wanted: Property, structure: Structure | Molecule):
    ((_, found),) = compute([("one", Ask(wanted, Crystal(structure)))], TOY)
    return found


@pytest.fixture(scope="module")
def copper() -> Structure:
    start = AseAtomsAdaptor.get_structure(bulk("Cu", "fcc", a=3.6))
    return dpa4.relax([start], MorsePotential(), fmax=1e-4)[0].structure


def test_surface_document_holds_what_the_analysis_says_of_each_slab_alone(copper):
    found = document(THIN, copper)
    assert found.error is None
    assert [slab.name for slab in found.terminations] == ["100", "110", "111"]
    cut = next(cut for cut in cuts(copper, 1, 6.0, 8.0).slabs if cut.name == "111")
    (whole,) = dpa4.relax([cut.slab], MorsePotential(), fmax=0.02, relax_cell=False)
    (crystal,) = dpa4.predict([copper], MorsePotential())
    close_packed = found.terminations[2]
    assert close_packed.surface_energy == pytest.approx(surface_energy(cut, whole.energy, crystal.energy), rel=1e-4)
    assert close_packed.surface_energy_ev_a2 * 16.0218 == pytest.approx(close_packed.surface_energy, rel=1e-4)
    assert all(slab.converged and slab.lowest and slab.relaxation_energy >= 0 for slab in found.terminations)
    assert found.lowest_surface_energy == min(slab.surface_energy for slab in found.terminations)
    assert found.lowest_surface_energy < found.surface_energy < 1.3 * found.lowest_surface_energy
    assert sum(found.shape.area_fractions.values()) == pytest.approx(1)
    assert min(found.shape.area_fractions.values()) > 0.1
    assert found.warnings == []


def test_only_the_lowest_termination_shapes_a_crystal():
    silicon = AseAtomsAdaptor.get_structure(bulk("Si", "diamond", a=5.43))
    found = document(SurfaceEnergies(min_thickness=5.0, vacuum=8.0, max_steps=0), silicon)
    by_name = {slab.name: slab for slab in found.terminations}
    assert by_name["111_1"].surface_energy < by_name["111_2"].surface_energy
    assert (by_name["111_1"].lowest, by_name["111_2"].lowest) == (True, False)
    assert set(found.shape.area_fractions) == {"100", "110", "111"}
    codes = [warning.code for warning in found.warnings]
    assert "slab_not_converged" in codes
    assert "strained_crystal" in codes


def test_a_slab_that_came_apart_shapes_no_crystal(copper):
    """Nor is its energy the lowest, whatever it is."""
    plan = THIN.plan(Crystal(copper, model=TOY, info=ModelInfo()))
    wanted = next(plan)
    plain = {name: one for name, one in wanted.items() if isinstance(one, Static)}
    found = dict(zip(plain, dpa4.predict([one.structure for one in plain.values()], MorsePotential()), strict=True))
    for name in wanted.keys() - plain.keys():
        (found[name],) = dpa4.relax([wanted[name].structure], MorsePotential(), fmax=0.02, relax_cell=False)
    apart = found["slab 110"]
    found["slab 110"] = replace(apart, energy=apart.energy - 1.0, flags=(*apart.flags, "dissociated"))
    with pytest.raises(StopIteration) as ended:
        plan.send(found)
    document = ended.value.value
    energies = {slab.name: slab.surface_energy for slab in document.terminations}
    assert energies["110"] is None and document.terminations[1].error == "it came apart"
    assert set(document.shape.area_fractions) == {"100", "111"}
    assert document.lowest_surface_energy == min(energies["100"], energies["111"])
    assert [one.code for one in document.warnings] == ["slab_dissociated"]


def test_terminations_of_another_composition_cost_what_chemical_potentials_say():
    alloy = Structure(Lattice.cubic(2.6), ["Cu", "Au"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert [entry.code for entry in document(THIN, alloy).skipped if entry.facet == "100"] == ["nonstoichiometric"]

    def costs(gold: float) -> dict[str, float]:
        found = document(replace(THIN, max_steps=0, chemical_potentials={"Au": gold}), alloy)
        return {slab.name: slab.surface_energy for slab in found.terminations if slab.facet == "100"}

    poor, rich = costs(-3.0), costs(-2.9)
    found = document(replace(THIN, max_steps=0, chemical_potentials={"Au": -3.0}), alloy)
    for slab in found.terminations:
        if slab.facet == "100":
            assert slab.excess == {"Cu": -slab.excess["Au"], "Au": slab.excess["Au"]}
            # an excess of gold beyond copper: mu(Cu) falls as mu(Au) rises
            per_area = -2 * slab.excess["Au"] * 0.1 / (2 * 2.6**2) * J_M2_PER_EV_A2
            assert rich[slab.name] - poor[slab.name] == pytest.approx(per_area, rel=1e-5)
    assert set(poor) == {"100_1", "100_2"}
    assert (
        document(replace(THIN, max_steps=0, chemical_potentials={"O": 0.0}), alloy).error_code == "chemical_potentials"
    )


@dataclass(frozen=True)
class Known(ChemicalPotentials):
    """A region that needs no hull."""

    why: str | None = None

    def plan(self, crystal):
        yield from ()
        corners = [{"Cu": 0.0, "Au": -0.2}, {"Cu": -0.2, "Au": 0.0}]
        limits = dict.fromkeys(("Cu", "Au"), (-0.2, 0.0))
        told = {"error": self.why} if self.why else {"corners": corners, "limits": limits}
        return RegionDocument(formula="CuAu", zeros={"Cu": -3.0, "Au": -2.9}, **told)


@pytest.mark.parametrize(("asked", "gold"), [("hull", -3.0), ("Au-rich", -2.9), ("Au-poor", -3.1)])
def test_chemical_potentials_of_the_hull_are_those_of_its_middle_or_an_end(asked, gold):
    alloy = Structure(Lattice.cubic(2.6), ["Cu", "Au"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    thin = replace(THIN, max_steps=0, max_index=1)
    found = document(replace(thin, chemical_potentials=asked, region=Known()), alloy)
    assert found.chemical_potentials == pytest.approx({"Cu": -5.9 - 0.2 - gold, "Au": gold})
    assert {slab.facet for slab in found.terminations} == {"100", "110", "111"}
    assert replace(thin, chemical_potentials=asked).key(Crystal(alloy), TOY) is None


def test_a_crystal_above_the_hull_has_the_terminations_of_its_composition_and_says_so(copper):
    alloy = Structure(Lattice.cubic(2.6), ["Cu", "Au"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    asked = replace(THIN, max_steps=0, chemical_potentials="hull", region=Known(why="it lies above the hull"))
    found = document(asked, alloy)
    assert {slab.facet for slab in found.terminations} == {"110"}
    assert found.warnings[0].code == "no_chemical_potentials"
    assert found.chemical_potentials is None
    with pytest.raises(DPA4Error, match="'O2-rich'; they must be numbers by element, hull, or an element with -rich"):
        with_settings(SurfaceEnergies, {"chemical_potentials": "O2-rich"})
    foreign = document(replace(asked, chemical_potentials="O-rich", region=Known()), alloy)
    assert (foreign.error_code, foreign.error[-24:]) == ("chemical_potentials", "CuAu has no such element")


def test_facets_without_slabs_are_told_and_missing_from_the_shape():
    oxide = AseAtomsAdaptor.get_structure(bulk("MgO", "rocksalt", a=4.2))
    found = document(THIN, dpa4.relax([oxide], MorsePotential(), fmax=1e-3)[0].structure)
    assert [(entry.facet, entry.code) for entry in found.skipped] == [("111", "polar")]
    assert "facets_missing" in [warning.code for warning in found.warnings]
    assert set(found.shape.area_fractions) == {"100", "110"}


@pytest.mark.parametrize(
    ("structure", "code"),
    [
        (Molecule(["O", "O"], [[0, 0, 0], [0, 0, 1.2]]), "no_crystal"),
        (Structure(Lattice.cubic(3.6), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]]), "not_cut"),
        (
            Structure(
                Lattice.from_parameters(4, 5, 6, 80, 95, 105),
                ["Cu", "Ni", "Au"],
                [[0, 0, 0], [0.5] * 3, [0.1, 0.4, 0.8]],
            ),
            "no_slab",
        ),
        (Structure(Lattice.cubic(3.6), ["Xe"], [[0, 0, 0]]), "not_computed"),
    ],
)
def test_a_crystal_without_surface_energies_says_why(structure, code):
    found = document(THIN, structure)
    assert found.error_code == code
    assert found.error
    assert found.terminations == []


@pytest.mark.parametrize("wanted", [THIN, EquationOfState()])
def test_a_document_is_found_again_in_a_table_also_by_settings_that_went_through_json(wanted, copper, tmp_path):
    table, counts = ResultsTable(tmp_path / "results.sqlite"), Counts()
    ((_, made),) = compute([("one", Ask(wanted, Crystal(copper)))], TOY, table)
    again = type(wanted).from_dict(json.loads(wanted.to_json()))
    ((_, found),) = compute([("one", Ask(again, Crystal(copper)))], TOY, table, counts=counts)
    assert (counts.n_found, counts.n_requests) == (1, 0)
    assert found.model_dump(mode="json") == made.model_dump(mode="json")
    assert made.converged


@pytest.mark.parametrize(("wanted", "n_atoms"), [(THIN, 5), (EquationOfState(), 1)])
def test_want_of_memory_is_no_property_of_a_crystal(wanted, n_atoms, copper, monkeypatch):
    def no_room(self: MorsePotential, graph: Graph) -> Output:
        if n_atoms in np.bincount(graph.system_idx.numpy()) and (n_atoms > 1 or graph.n_edges > 50):
            raise MemoryError
        return whole(self, graph)

    whole = MorsePotential.compute
    monkeypatch.setattr(MorsePotential, "compute", no_room)
    found = document(wanted, copper)
    assert found.error_code == "out_of_memory"


def test_equation_of_state_finds_the_crystal_that_the_relaxation_found(copper):
    found = document(EquationOfState(), copper)
    assert found.volume == pytest.approx(copper.volume, rel=2e-3)
    (crystal,) = dpa4.predict([copper], MorsePotential())
    assert found.energy == pytest.approx(crystal.energy, abs=1e-3)
    assert np.array(found.volumes) / copper.volume - 1 == pytest.approx(EquationOfState().strains)
    vinet = document(EquationOfState(form="vinet"), copper)
    assert vinet.bulk_modulus_gpa == pytest.approx(found.bulk_modulus_gpa, rel=0.02)
    assert (found.doubts, vinet.doubts) == ([], [])


def test_an_equation_of_state_of_a_crystal_that_was_not_relaxed_is_doubted(copper):
    swollen = copper.copy()
    swollen.scale_lattice(1.2 * copper.volume)
    assert "minimum_outside" in [doubt.code for doubt in document(EquationOfState(), swollen).doubts]


def test_few_strains_give_no_equation_of_state(copper):
    found = document(EquationOfState(strains=(-0.01, 0.0, 0.01)), copper)
    assert (found.error_code, found.volume) == ("too_few", None)


def test_example_of_the_documentation_runs(copper, capsys):
    text = (Path(__file__).parents[2] / "docs" / "surfaces.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[1].split("```")[0]
    for name in ("Al", "Cu"):
        copper.copy().replace_species({"Cu": name}).to_file(f"{name}.cif")
    assert '"dpa4-neo"' in example
    exec(example.replace('"dpa4-neo"', repr(TOY.name)), {})
    surface, modulus = map(float, capsys.readouterr().out.split())
    assert surface > 0
    assert modulus > 0

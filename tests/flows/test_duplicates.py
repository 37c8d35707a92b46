"""Equal crystals are found in every disguise, different ones are kept apart, in linear time."""

import itertools
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from toy_campaign import scene

from dpa4_flows.analysis import duplicates
from dpa4_flows.analysis.duplicates import group_duplicates, relaxed_duplicates
from dpa4_flows.campaigns import context
from dpa4_flows.documents.schemas import Provenance, RelaxationDocument
from dpa4_flows.store.table import ResultsTable

DATA = Path(__file__).parents[1] / "data"
pytestmark = pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning")  # spglib in pymatgen


@pytest.fixture(scope="module")
def compounds():
    rows = {row["id"]: row["structure"] for row in json.loads((DATA / "compounds.json").read_text())}
    return {k: Structure(r["lattice"], r["species"], r["frac_coords"]) for k, r in rows.items()}


def disguised(structure, seed=0):
    """A supercell in another cell, rotated, shuffled, shifted, strained and rattled."""
    rng = np.random.default_rng(seed)
    other = structure.copy()
    other.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    other.apply_strain(0.02)
    other.perturb(0.01)
    other.translate_sites(list(range(len(other))), [0.13, 0.29, 0.41])
    order = rng.permutation(len(other))
    lattice = Lattice.from_parameters(*other.lattice.parameters)
    return Structure(lattice, [other[i].specie for i in order], [other[i].frac_coords for i in order])


def test_disguised_copies_are_found(compounds):
    structures = dict(compounds)
    structures |= {f"{name} again": disguised(structure) for name, structure in compounds.items()}
    groups = group_duplicates(structures)
    assert list(groups) == list(structures)
    for name in compounds:
        assert groups[name] == name
        assert groups[f"{name} again"] == name


def test_polymorphs_are_kept_apart(compounds):
    names = ["SiO2", "SiO2-cristobalite", "TiO2", "TiO2-anatase", "ZnO", "ZnO-zb", "GaN", "GaN-zb"]
    groups = group_duplicates({name: compounds[name] for name in names})
    assert all(groups[name] == name for name in names)


def test_small_distortions_do_not_hide_equal_crystals(compounds):
    """Their space groups and primitive cells differ: Jahn-Teller distortion, antiferromagnetic order."""
    distorted = Structure(  # Materials Project mp-865631, CC BY 4.0
        [[-1.401672, -2.427771, -0.001215], [1.540143, -2.507196, -0.066531], [1.256029, -0.721495, 9.50865]],
        ["Li", "Li", "Ni", "Ni", "O", "O", "O", "O"],
        [
            [0.749552, 0.500192, 0.249941],
            [0.250454, 0.499792, 0.750068],
            [0.500027, 0.999947, 0.500035],
            [0.999978, 0.000049, 0.999962],
            [0.386349, 0.226227, 0.112872],
            [0.886523, 0.229153, 0.612707],
            [0.113486, 0.770819, 0.387317],
            [0.613630, 0.773820, 0.887098],
        ],
    )
    magnetic = Structure(  # Materials Project mp-1274279, CC BY 4.0
        Lattice.from_parameters(3.102294, 5.375696, 5.443817, 110.556657, 91.096992, 89.9466),
        ["Fe", "Fe", "Fe", "Fe", "O", "O", "O", "O"],
        [
            [0.5, 0, 0.5],
            [0, 0.5, 0.5],
            [0, 0, 0],
            [0.500001, 0.5, 0],
            [0.968291, 0.251676, 0.742066],
            [0.468313, 0.251673, 0.242068],
            [0.031709, 0.748324, 0.257934],
            [0.531686, 0.748327, 0.757932],
        ],
    )
    structures = {name: compounds[name] for name in ("LiNiO2", "FeO")} | {"distorted": distorted, "magnetic": magnetic}
    groups = group_duplicates(structures)
    assert groups["distorted"] == "LiNiO2" and groups["magnetic"] == "FeO"


def test_orderings_of_one_formula_cost_few_comparisons(monkeypatch):
    """Vacancy orderings of one framework: all look alike, and each meets a bounded number of others."""
    compared = Counter()

    def fit(matcher, one, other):
        compared[one.name] += 1
        return False

    monkeypatch.setattr(duplicates, "_fit", fit)
    parent = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Li", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    parent.make_supercell([2, 1, 1])
    lithium = [i for i, site in enumerate(parent) if site.specie.symbol == "Li"]
    orderings = {}
    for i, pair in enumerate(itertools.combinations(lithium, 2)):
        orderings[str(i)] = parent.copy()
        orderings[str(i)].remove_sites(pair)
    assert len(group_duplicates(orderings)) == 28
    assert 0 < max(compared.values()) <= 8


def test_oxidation_states_do_not_matter(compounds):
    decorated = compounds["LiCoO2"].copy()
    decorated.add_oxidation_state_by_element({"Li": 1, "Co": 3, "O": -2})
    assert group_duplicates({"a": compounds["LiCoO2"], "b": decorated})["b"] == "a"


def test_partly_occupied_structures_stand_alone(compounds):
    disordered = compounds["LiCoO2"].copy()
    disordered.replace_species({"Co": {"Co": 0.5, "Ni": 0.5}})
    assert group_duplicates({"a": disordered, "b": disordered}) == {"a": "a", "b": "b"}


def test_time_is_not_quadratic():
    """Distinct crystals of one formula and space group: the fingerprint spares the pairwise comparison."""
    rng = np.random.default_rng(0)
    structures = {}
    for k in range(200):
        lattice = Lattice.from_parameters(4 + 2 * rng.random(), 4 + 2 * rng.random(), 6, 83, 95, 101)
        structures[str(k)] = Structure(lattice, ["Li", "Co", "O", "O"], rng.random((4, 3)))
    start = time.perf_counter()
    groups = group_duplicates(structures)
    assert time.perf_counter() - start < 20
    assert len(set(groups.values())) > 150


def relaxed(structure, energy_per_atom, *, model="a" * 64, **values):
    return RelaxationDocument(
        key="k",
        structure_hash="h",
        formula=structure.composition.reduced_formula,
        n_atoms=len(structure),
        structure=structure.as_dict(),
        energy=energy_per_atom * len(structure),
        energy_per_atom=energy_per_atom,
        provenance=Provenance(model_name="m", model_sha256=model, level_of_theory="PBE", code_version="0"),
        **{"converged": True, **values},
    )


def test_candidates_that_relaxed_to_one_minimum_are_one(compounds):
    documents = {
        "first": relaxed(disguised(compounds["LiCoO2"]), -5.000),
        "better": relaxed(compounds["LiCoO2"], -5.004),
        "other": relaxed(compounds["NaCoO2"], -5.002),
    }
    assert relaxed_duplicates(documents) == {"first": "better", "better": "better", "other": "other"}


def test_energy_tells_crystals_apart_that_look_alike(compounds):
    rutile = compounds["TiO2"]
    documents = {name: relaxed(rutile, energy) for name, energy in (("a", -8.0), ("b", -8.03), ("c", -8.035))}
    assert relaxed_duplicates(documents) == {"a": "a", "b": "c", "c": "c"}
    assert relaxed_duplicates(documents, energy_window=0.004) == {"a": "a", "b": "b", "c": "c"}
    assert relaxed_duplicates(documents, energy_window=0.05) == {"a": "c", "b": "c", "c": "c"}


def test_crystals_of_one_energy_stay_apart(compounds):
    documents = {name: relaxed(compounds[name], -8.0) for name in ("TiO2", "TiO2-anatase")}
    assert relaxed_duplicates(documents) == {"TiO2": "TiO2", "TiO2-anatase": "TiO2-anatase"}


def test_what_did_not_converge_is_nobodys_duplicate(compounds):
    rutile = compounds["TiO2"]
    documents = {
        "good": relaxed(rutile, -8.0),
        "stopped": relaxed(rutile, -8.0, converged=False),
        "failed": relaxed(rutile, -8.0, converged=False, error="atoms too close"),
    }
    assert relaxed_duplicates(documents) == {"good": "good", "stopped": "stopped", "failed": "failed"}
    with pytest.raises(ValueError, match="2 models"):
        relaxed_duplicates({**documents, "other": relaxed(rutile, -8.0, model="b" * 64)})


def test_candidates_of_one_formula_are_judged_together_and_others_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    formulas = {"a": "MgO", "b": "CaO", "c": "MgO", "d": "SrO", "e": "CaO"}
    monkeypatch.setattr(ResultsTable, "formulas", lambda _: formulas)
    monkeypatch.setattr(context.Scene, "ids", lambda _: list(formulas))
    monkeypatch.setattr(context, "SLICE", 2)
    for stage, parts in (("duplicates", [["a", "c"], ["b", "e"], ["d"]]), ("hull", [list(formulas)])):
        assert list(scene(stage)._apart()) == parts

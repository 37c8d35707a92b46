"""Corrections fitted to one model: the published fit is reproduced, and the result belongs to its model."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from pymatgen.analysis import compatibility
from pymatgen.analysis.compatibility.correction_calculator import CorrectionCalculator
from pymatgen.core import Composition, Structure
from pymatgen.entries.computed_entries import CompositionEnergyAdjustment, ComputedEntry

from dpa4_core.errors import DPA4Error
from dpa4_core.model.info import ModelInfo
from dpa4_flows.analysis.correction_fit import (
    Measurement,
    experimental_formation_energies,
    fit_corrections,
    refit_content,
    write_refit,
)
from dpa4_flows.analysis.corrections import corrected_entry
from dpa4_flows.analysis.frames import FrameError
from dpa4_flows.analysis.schemes import SchemeError, find_scheme, scheme_name
from dpa4_flows.compute.relaxed import Relaxed
from dpa4_flows.engines import run_local
from dpa4_flows.makers.corrections import CorrectionRefitMaker, bundled_compounds
from dpa4_flows.makers.named import BatchRelaxMaker
from dpa4_flows.model_ref import ModelRef
from dpa4_flows.reference.entries import correction_scheme

DATA = Path(__file__).parents[1] / "data"
FRAME = {"model_sha256": "a" * 64, "level_of_theory": "PBE / PBE+U", "correction": "OMat24"}
METALS = ("V", "Cr", "Mn", "Fe", "Co", "Ni", "W", "Mo")
pytestmark = [
    pytest.mark.filterwarnings("ignore:Set OLD_ERROR_HANDLING:DeprecationWarning"),  # spglib in pymatgen
    pytest.mark.filterwarnings("ignore:cd is deprecated:FutureWarning"),  # jobflow 0.4 with monty 2026
]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DPA4_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def compounds():
    rows = json.loads((DATA / "compounds.json").read_text())
    structures = {r["id"]: r["structure"] for r in rows}
    return {name: Structure(s["lattice"], s["species"], s["frac_coords"]) for name, s in structures.items()}


def entry(formula, formation_energy, counts):
    """Compound whose elements have energy 0, with ``counts`` corrected atoms of each kind in the formula."""
    composition = Composition(formula)
    adjustments = [
        CompositionEnergyAdjustment(-0.1, n, name=f"x {'mixing' if kind in METALS else 'anion'} correction ({kind})")
        for kind, n in counts.items()
    ]
    energy = formation_energy * composition.num_atoms
    return ComputedEntry(composition, energy, energy_adjustments=adjustments, data={"frame": FRAME})


def elements(*symbols):
    return [ComputedEntry(symbol, 0.0) for symbol in symbols]


def test_bundled_measurements_are_per_atom():
    table = experimental_formation_energies()
    assert len(table) > 2000
    assert table["NaCl"].formation_energy == pytest.approx(-411.2 / 96.485 / 2, abs=2e-3)  # kJ/mol, JANAF
    assert table["Al2O3"].uncertainty is None
    assert table["NaCl"].uncertainty == pytest.approx(0.0021, abs=1e-4)


@pytest.mark.filterwarnings("ignore:Compound")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_published_fit_is_reproduced():
    """The Materials Project's own entries give MP2020, as pymatgen's calculator does, errors included."""
    folder = Path(compatibility.__file__).parent
    theirs = CorrectionCalculator()
    published = theirs.compute_from_files(str(folder / "exp_compounds.json.gz"), str(folder / "calc_compounds.json.gz"))
    sigma = np.array(theirs.exp_uncer)
    sigma[sigma == 0] = np.nan
    sigma = np.where(np.isnan(sigma), np.nanmean(sigma), sigma)
    table = experimental_formation_energies()
    entries, experiment = [], {}
    for name, row, difference, uncertainty in zip(theirs.names, theirs.coeff_mat, theirs.diffs, sigma, strict=True):
        n_atoms = Composition(name).num_atoms
        counts = {kind: x * n_atoms for kind, x in zip(theirs.species, row, strict=True) if x}
        entries.append(entry(name, table[name].formation_energy - difference, counts))
        experiment[name] = Measurement(table[name].formation_energy, uncertainty)
    symbols = {e.symbol for x in entries for e in x.composition.elements}
    fit = fit_corrections(entries, elements(*symbols), experiment, scatter=0.0, max_deviation=math.inf)
    assert len(fit.kinds) == 22
    for kind in fit.kinds:
        value, error = published[kind.removesuffix(" +U")]
        assert fit.values[kind] == pytest.approx(value, abs=6e-4), kind
        assert fit.errors[kind] == pytest.approx(error, abs=6e-5), kind
    assert fit.values["Co +U"] == pytest.approx(-1.638, abs=6e-4)
    # with the scatter of the functional the same data are far less certain than the published errors say
    honest = fit_corrections(entries, elements(*symbols), experiment, max_deviation=math.inf)
    assert 0.05 < honest.scatter < 0.2
    assert honest.errors["oxide"] > 5 * fit.errors["oxide"]


def synthetic(noise, seed=0):
    """Oxides, sulfides and cobalt oxides with corrections -0.7, -0.5 and -2.0 eV and a random error."""
    rng = np.random.default_rng(seed)
    entries, experiment = [], {}
    metals = ("Li", "Na", "K", "Rb", "Cs", "Be", "Mg", "Ca", "Sr", "Ba", "Sc", "Y", "La", "Zn", "Cd", "Al", "Ga", "In")
    for metal in metals:
        for formula, counts in (
            (f"{metal}2O", {"oxide": 1}),
            (f"{metal}S", {"S": 1}),
            (f"{metal}CoO2", {"oxide": 2, "Co": 1}),
        ):
            composition = Composition(formula)
            shift = -0.7 * counts.get("oxide", 0) - 0.5 * counts.get("S", 0) - 2.0 * counts.get("Co", 0)
            energy = float(rng.uniform(-1.5, -0.5))
            entries.append(entry(formula, energy, counts))
            measured = energy + shift / composition.num_atoms + float(rng.normal(0, noise))
            experiment[composition.reduced_formula] = Measurement(measured, 0.003)
    return entries, elements(*metals, "Co", "O", "S"), experiment


def test_known_corrections_and_their_scatter_are_found():
    inside = 0
    for seed in range(20):
        fit = fit_corrections(*synthetic(0.05, seed), max_deviation=math.inf)
        assert fit.scatter == pytest.approx(0.05, abs=0.02)
        truth = {"oxide": -0.7, "S": -0.5, "Co +U": -2.0}
        inside += sum(abs(fit.values[kind] - value) < fit.errors[kind] for kind, value in truth.items())
        assert fit.left_out_mae > fit.mae
    assert 0.5 < inside / 60 < 0.85  # one standard error: 68 %


def test_exact_data_have_no_scatter():
    fit = fit_corrections(*synthetic(0.0))
    assert fit.scatter == 0.0
    assert fit.values == pytest.approx({"oxide": -0.7, "S": -0.5, "Co +U": -2.0}, abs=1e-9)
    assert fit.frame.correction == "none"


def test_wrong_measurement_is_left_out_and_named():
    entries, references, experiment = synthetic(0.02)
    experiment["CaS"] = Measurement(experiment["CaS"].formation_energy + 0.6, 0.003)
    fit = fit_corrections(entries, references, experiment)
    assert fit.left_out["CaS"].startswith("-0.59 eV/atom")
    assert fit.values["S"] == pytest.approx(-0.5, abs=0.03)


def test_left_out_compounds_have_a_reason(compounds):
    entries, references, experiment = synthetic(0.0)
    pyrite = corrected_entry(
        compounds["FeS2"], -10.0, scheme="OMat24", entry_id="x", **{k: FRAME[k] for k in FRAME if k != "correction"}
    ).entry
    stopped = entry("BaO2", -2.0, {"oxide": 2})
    stopped.data["converged"] = False
    extra = [
        pyrite,
        stopped,
        entry("NiAl", -0.6, {}),
        entry("TiO", -2.0, {"oxide": 1}),
        entry("MgO7", -1, {"oxide": 7}),
    ]
    more = {
        "AlNi": Measurement(-0.64, 0.01),
        "TiO": Measurement(-2.8, 0.9),
        "FeS2": Measurement(-0.6, 0.01),
        "BaO2": Measurement(-2.2, 0.01),
    }
    fit = fit_corrections([*entries, *extra], [*references, *elements("Fe", "Ni", "Al")], {**experiment, **more})
    assert fit.left_out == {
        "FeS2": "S-S bonds: a polysulfide, not a sulfide",
        "BaO2": "the relaxation did not converge",
        "AlNi": "nothing to correct",
        "TiO": "no reference for Ti",
        "MgO7": "no measured formation energy",
    }
    fit = fit_corrections([*entries, extra[3]], [*references, *elements("Ti")], {**experiment, **more})
    assert fit.left_out == {"TiO": "measured to 32 % only"}


def test_undecided_corrections_are_refused():
    entries, references, experiment = synthetic(0.0)
    only_together = [e for e in entries if "Co" in e.composition.get_el_amt_dict()]
    with pytest.raises(SchemeError, match="do not decide the 2 corrections oxide, Co"):
        fit_corrections(only_together, references, experiment)


def test_energies_of_two_models_are_not_fitted_together():
    entries, references, experiment = synthetic(0.0)
    entries[0].data["frame"] = {**FRAME, "model_sha256": "b" * 64}
    with pytest.raises(FrameError, match="model_sha256"):
        fit_corrections(entries, references, experiment)


# ---- the file


@pytest.fixture
def refit(tmp_path):
    content = refit_content(fit_corrections(*synthetic(0.0)), "toy")
    path = tmp_path / "corrections.yaml"
    write_refit(content, path)
    return path


def correct(structure, scheme, sha256="a" * 64):
    return corrected_entry(
        structure, -20.0, scheme=scheme, entry_id="x", model_sha256=sha256, level_of_theory="PBE / PBE+U"
    )


def test_refit_is_applied_to_its_model(refit, compounds):
    result = correct(compounds["LiCoO2"], str(refit))
    assert result.corrections == pytest.approx({"oxide": -1.4, "Co +U": -2.0}, abs=1e-3)
    assert result.entry.data["frame"]["correction"] == find_scheme(str(refit)).name
    assert result.entry.data["frame"]["correction"].startswith("refit:")
    published = correct(compounds["LiF"], "OMat24").corrections
    assert correct(compounds["LiF"], str(refit)).corrections == published  # no fluoride was fitted


def test_uncertainties_are_carried_along(tmp_path, compounds):
    fit = fit_corrections(*synthetic(0.05))
    path = tmp_path / "noisy.yaml"
    write_refit(refit_content(fit, "toy"), path)
    error = correct(compounds["LiCoO2"], str(path)).entry.correction_uncertainty
    assert error == pytest.approx(math.hypot(2 * fit.errors["oxide"], fit.errors["Co +U"]), rel=1e-2)
    assert error > 0.01


def test_refit_is_refused_for_another_model(refit, compounds):
    with pytest.raises(FrameError, match="were fitted to model aaaaaaaaaaaa… and not to bbbbbbbbbbbb…"):
        correct(compounds["LiCoO2"], str(refit), "b" * 64)
    with pytest.raises(FrameError, match="fit them to this model"):
        correction_scheme(ModelInfo(sha256="b" * 64), str(refit))


def test_refit_is_found_by_name_once_it_was_used(refit, compounds):
    name = find_scheme(str(refit)).name
    with pytest.raises(SchemeError, match="give the path of its file"):
        correct(compounds["LiCoO2"], name)
    assert correction_scheme(ModelInfo(sha256="a" * 64), str(refit)) == name
    refit.unlink()
    assert correct(compounds["LiCoO2"], name).corrections["Co +U"] == pytest.approx(-2.0, abs=1e-3)
    assert scheme_name(name) == name


def test_edited_or_foreign_file_is_refused(refit, tmp_path, compounds):
    refit.write_text(refit.read_text().replace("Co: -2.0", "Co: -2.5"))
    with pytest.raises(SchemeError, match="fit again instead of editing"):
        correct(compounds["LiCoO2"], str(refit))
    other = tmp_path / "other.yaml"
    other.write_text("- 1\n- 2\n")
    with pytest.raises(SchemeError, match="is not a correction scheme"):
        find_scheme(str(other))
    with pytest.raises(SchemeError, match="there is no file"):
        find_scheme(str(tmp_path / "nothing.yaml"))
    with pytest.raises(DPA4Error, match="choose from auto, none, MP2020, OMat24"):
        correction_scheme(ModelInfo(), "MP2021")
    with pytest.raises(SchemeError, match=r"ends in \.yaml"):
        write_refit({}, tmp_path / "refit.json")


def test_new_numbers_have_a_new_name():
    one = refit_content(fit_corrections(*synthetic(0.05, 0)), "toy")
    other = refit_content(fit_corrections(*synthetic(0.05, 1)), "toy")
    assert one["Name"] != other["Name"]
    assert one["Fit"]["kept"] == other["Fit"]["kept"]
    assert "F" in one["Fit"]["kept"]
    assert "Fe +U" in one["Fit"]["kept"]


# ---- the maker


def test_every_correction_has_bundled_compounds():
    phases = bundled_compounds()
    names = {phase.structure.composition.reduced_formula for phase in phases}
    assert len(names) == len(phases)
    assert names <= set(experimental_formation_energies())
    assert len(bundled_compounds("validation")) == 41
    kinds = {}
    for phase in phases:
        found = correct(phase.structure, "OMat24")
        assert found.reason is None
        for kind in found.corrections:
            kinds.setdefault(kind, []).append(phase.name)
    omat = YAML_KINDS - set(kinds)
    assert omat == {"ozonide"}
    assert min(len(found) for found in kinds.values()) >= 2


YAML_KINDS = {
    *("oxide", "peroxide", "superoxide", "ozonide", "S", "F", "Cl", "Br", "I", "N", "Se", "Si", "Sb", "Te", "H"),
    *(f"{metal} +U" for metal in METALS),
}


def test_flow_relaxes_fits_and_writes(tmp_path):
    model = ModelRef("toy_pbe:pbe_u", dtype="float64")
    maker = CorrectionRefitMaker(
        relax_maker=BatchRelaxMaker(property=Relaxed(fmax=0.5, check_minimum=False), model=model)
    )
    flow = maker.make(tmp_path / "refit.sqlite", tmp_path / "toy.yaml")
    responses = run_local(flow, tmp_path / "jobs")
    document = responses[flow.output.uuid][1].output
    assert document.scheme == find_scheme(str(tmp_path / "toy.yaml")).name
    assert find_scheme(document.scheme).model_sha256 == model.info().sha256
    assert document.provenance.model_sha256 == model.info().sha256
    assert set(document.values) == set(document.errors) >= {"oxide", "F", "Co +U"}
    assert document.mae < document.left_out_mae
    assert (tmp_path / "toy.yaml").read_text().startswith("# Energy corrections fitted to one model")

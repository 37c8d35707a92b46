from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import units
from atomate2.common.flows.eos import PostProcessEosEnergy
from atomate2.forcefields.flows.elastic import ElasticMaker
from atomate2.forcefields.flows.eos import ForceFieldEosMaker
from jobflow import Flow, Job
from monty.json import MontyDecoder, MontyEncoder
from pymatgen.core import Lattice, Molecule, Structure

from dpa4_core.predict import predict
from dpa4_core.relax import relax
from dpa4_flows.engines import run_local
from dpa4_flows.makers.relax import DPA4MDMaker, DPA4RelaxMaker, DPA4StaticMaker, DPA4TaskDocument
from dpa4_flows.model_ref import ModelRef

TOY = ModelRef("dpa4_core.testing:MorsePotential").resolve()


@pytest.fixture(scope="module")
def copper() -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])


def output(flow: Flow | Job, folder: Path) -> Any:
    """Output of a job, or of the last job of a flow."""
    last = flow if isinstance(flow, Job) else list(flow.iterflow())[-1][0]
    return run_local(flow, folder)[last.uuid][1].output


def test_relaxation_gives_the_result_of_the_core(copper: Structure, tmp_path: Path) -> None:
    strained = copper.copy().apply_strain(0.03)
    document = output(DPA4RelaxMaker(model=TOY).make(strained), tmp_path)
    (expected,) = relax([strained], TOY.load())
    assert isinstance(document, DPA4TaskDocument)
    assert document.output.energy_per_atom == pytest.approx(expected.energy / 4, abs=1e-4)
    assert document.structure.volume == pytest.approx(expected.structure.volume, rel=1e-2)
    assert document.is_force_converged and document.state.value == "successful"
    assert np.abs(document.output.forces).max() < 0.02
    assert not (tmp_path / "final_atoms_object.xyz").exists()


@pytest.mark.filterwarnings("ignore:Only FixAtoms and FixCartesian is supported")  # of atomate2 with fix_symmetry
def test_relaxation_leaves_a_saddle_and_says_so(tmp_path: Path) -> None:
    cubic = Structure(Lattice.cubic(2.5), ["Cu"], [[0, 0, 0]])
    held = output(DPA4RelaxMaker(model=TOY, check_minimum=False).make(cubic), tmp_path)
    free = output(DPA4RelaxMaker(model=TOY).make(cubic), tmp_path)
    kept = output(DPA4RelaxMaker(model=TOY, fix_symmetry=True).make(cubic), tmp_path)
    assert (held.minimum, free.minimum, kept.minimum) == ("not_checked", "verified", "saddle")
    assert free.output.energy < held.output.energy - 0.01
    assert free.input.structure == held.input.structure


def test_document_names_the_model(copper: Structure, tmp_path: Path) -> None:
    document = output(DPA4StaticMaker(model=TOY).make(copper), tmp_path)
    assert document.forcefield_name == TOY.name
    assert document.dpa4.model_sha256 == TOY.sha256
    assert document.dpa4.level_of_theory == "none (toy potential)"
    assert document.dpa4.settings["dtype"] == "float32"
    assert document.entry.parameters["model_sha256"] == TOY.sha256
    stored = json.loads((tmp_path / "outputs.json").read_text())[0]["output"]
    assert stored["dpa4"]["model_sha256"] == TOY.sha256
    assert DPA4TaskDocument.model_validate(stored).dpa4.settings == document.dpa4.settings


def test_static_is_a_single_point_in_atomate2_units(copper: Structure, tmp_path: Path) -> None:
    strained = copper.copy().apply_strain([0.02, 0, 0])
    document = output(DPA4StaticMaker(model=TOY).make(strained), tmp_path)
    (expected,) = predict([strained], TOY.load())
    assert document.output.energy == pytest.approx(expected.energy)
    np.testing.assert_allclose(document.output.stress, -1602.1766208 * expected.stress, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(document.structure.lattice.matrix, strained.lattice.matrix)


def test_list_is_computed_in_one_job(copper: Structure, tmp_path: Path) -> None:
    documents = output(DPA4StaticMaker(model=TOY).make([copper, copper.copy().apply_strain(0.01)]), tmp_path)
    assert [type(d) for d in documents] == [DPA4TaskDocument] * 2
    assert documents[0].output.energy != documents[1].output.energy


def test_molecule_is_computed(tmp_path: Path) -> None:
    water = Molecule(["O", "H", "H"], [[0, 0, 0], [0, 0.76, 0.59], [0, -0.76, 0.59]])
    document = output(DPA4RelaxMaker(model=TOY).make(water), tmp_path)
    assert document.molecule.composition.reduced_formula == "H2O"
    assert document.dpa4.model_sha256 == TOY.sha256


@pytest.mark.parametrize("cls", [DPA4RelaxMaker, DPA4StaticMaker])
def test_deprecated_arguments_reach_atomate2(cls: Any, copper: Structure) -> None:
    """atomate2 alone decides what `task_document_kwargs` do; it warns where they are used, and only there."""
    given = {"note": "x"}
    maker = cls(model=TOY, task_document_kwargs=given)
    assert maker.task_document_kwargs == given == {"note": "x"}
    assert MontyDecoder().decode(json.dumps(maker, cls=MontyEncoder)).task_document_kwargs == given
    with pytest.warns(DeprecationWarning, match="task_document_kwargs"):
        cls.make.original(maker, copper)
    assert cls(model=TOY).task_document_kwargs == {}


@pytest.mark.filterwarnings("ignore:Use thermalize_momenta:DeprecationWarning")  # atomate2 lags behind ASE
@pytest.mark.filterwarnings("ignore:The implementation of .fixcm=True.:FutureWarning")
@pytest.mark.parametrize("ensemble", ["nve", "nvt", "npt"])
def test_molecular_dynamics_runs(ensemble: str, copper: Structure, tmp_path: Path) -> None:
    times = {"tdamp": 100 * units.fs, "pdamp": 1000 * units.fs} if ensemble == "npt" else {}
    maker = DPA4MDMaker(model=TOY, n_steps=3, ensemble=ensemble, pressure=0.0, time_step=2.0, ase_md_kwargs=times)
    document = output(maker.make(copper), tmp_path)
    assert document.output.n_steps == 4
    assert document.dpa4.settings["ensemble"] == ensemble
    assert document.dpa4.settings["time_step"] == 2.0


def test_elastic_flow_of_atomate2(copper: Structure, tmp_path: Path) -> None:
    """C_ij of a cubic crystal, and the bulk modulus against a finite difference of the pressure."""
    tight = {"relax_kwargs": {"fmax": 1e-4}}
    flow = ElasticMaker(
        bulk_relax_maker=DPA4RelaxMaker(model=TOY, **tight),
        elastic_relax_maker=DPA4RelaxMaker(model=TOY, relax_cell=False, **tight),
    ).make(copper)
    document = output(flow, tmp_path)
    tensor = np.array(document.elastic_tensor.ieee_format)
    np.testing.assert_allclose(tensor[0, 0], [tensor[1, 1], tensor[2, 2]], rtol=1e-3)
    assert document.derived_properties.k_vrh == pytest.approx((tensor[0, 0] + 2 * tensor[0, 1]) / 3, rel=1e-3)
    (relaxed,) = relax([copper], TOY.load(), fmax=1e-4)
    cells = [relaxed.structure.copy().apply_strain(e) for e in (-1e-3, 1e-3)]
    low, high = (np.trace(p.stress) / 3 * 160.21766 for p in predict(cells, TOY.load()))
    assert document.derived_properties.k_vrh == pytest.approx((high - low) / 6e-3, rel=0.02)


def test_equation_of_state_flow_of_atomate2(copper: Structure, tmp_path: Path) -> None:
    flow = ForceFieldEosMaker(
        initial_relax_maker=DPA4RelaxMaker(model=TOY, relax_kwargs={"fmax": 1e-3}),
        eos_relax_maker=DPA4RelaxMaker(model=TOY, relax_cell=False),
        linear_strain=(-0.02, 0.02),
        number_of_frames=4,
        postprocessor=PostProcessEosEnergy(),
    ).make(copper)
    result = output(flow, tmp_path)
    (relaxed,) = relax([copper], TOY.load(), fmax=1e-3)
    fit = result["relax"]["EOS"]["birch_murnaghan"]
    assert fit["v0"] == pytest.approx(relaxed.structure.volume, rel=5e-3)


def test_powerup_changes_jobs_of_a_flow(copper: Structure) -> None:
    flow = ForceFieldEosMaker(
        initial_relax_maker=DPA4RelaxMaker(model=TOY),
        eos_relax_maker=DPA4RelaxMaker(model=TOY, relax_cell=False),
    ).make(copper)
    flow.update_maker_kwargs(
        {"_set": {"relax_kwargs->fmax": 1e-5, "model->dtype": "float64"}},
        dict_mod=True,
        class_filter=DPA4RelaxMaker,
    )
    makers = [job.maker for job, _ in flow.iterflow() if isinstance(job.maker, DPA4RelaxMaker)]
    assert makers
    for maker in makers:
        assert maker.relax_kwargs["fmax"] == 1e-5
        assert maker.model == ModelRef(TOY.name, sha256=TOY.sha256, dtype="float64")


@pytest.mark.parametrize("cls", [DPA4RelaxMaker, DPA4StaticMaker, DPA4MDMaker])
def test_maker_survives_serialisation(cls: Any, copper: Structure) -> None:
    maker = cls(model=TOY, tags=["x"])
    text = json.dumps(maker, cls=MontyEncoder)
    assert json.dumps(MontyDecoder().decode(text), cls=MontyEncoder) == text
    again = MontyDecoder().decode(json.dumps(maker.make(copper), cls=MontyEncoder))
    assert again.maker.model == TOY and again.maker.as_dict() == maker.as_dict()
    assert copy.deepcopy(maker) == maker


def test_own_relax_kwargs_keep_the_tight_threshold() -> None:
    assert DPA4RelaxMaker(relax_kwargs={"verbose": True}).relax_kwargs["fmax"] == 0.02
    assert DPA4RelaxMaker(relax_kwargs={"fmax": 0.1}).relax_kwargs["fmax"] == 0.1
    assert DPA4RelaxMaker().steps == 500

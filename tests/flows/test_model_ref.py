from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from jobflow import Flow, job
from monty.json import MontyDecoder, MontyEncoder

from dpa4_core import loaded
from dpa4_core.ase_potential import ASEPotential
from dpa4_core.loaded import save
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.info import ModelInfo
from dpa4_core.potential import Potential
from dpa4_core.predict import predict
from dpa4_core.testing import MorsePotential
from dpa4_flows.documents.provenance import energy_frame, provenance
from dpa4_flows.model_ref import ModelRef, ModelRefError

TOY = "dpa4_core.testing:MorsePotential"
TOY_SHA256 = hashlib.sha256(TOY.encode()).hexdigest()


@pytest.fixture
def model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is taken for a model, so that references to files are tested without weights."""

    def load(file: Path, device: str, dtype: str, compile: bool | str = "auto") -> MorsePotential:
        potential = MorsePotential(device=device)
        potential.info = ModelInfo(name=file.stem, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
        return potential

    monkeypatch.setattr(loaded, "load", load)
    path = tmp_path / "toy.pt"
    path.write_bytes(b"weights")
    return path


def test_a_model_is_loaded_once_per_process() -> None:
    assert isinstance(ModelRef(TOY).load(), MorsePotential)
    assert ModelRef(TOY).load() is ModelRef(TOY, sha256=None, device="auto").load()
    assert ModelRef(TOY, device="cpu").load() is ModelRef(TOY, device="auto").load()  # no CUDA asked for by name


def test_toy_is_identified_by_its_import_path() -> None:
    info = ModelRef(TOY).info()
    assert (info.name, info.sha256) == (TOY, TOY_SHA256)
    assert 8 in info.elements and 2 not in info.elements
    assert ModelRef(TOY).resolve() == ModelRef(TOY, sha256=TOY_SHA256)


def test_reference_survives_jobs_and_json() -> None:
    reference = ModelRef(TOY, sha256=TOY_SHA256, device="cpu", dtype="float64")
    assert MontyDecoder().decode(json.dumps(reference, cls=MontyEncoder)) == reference

    @job
    def name_of(model: ModelRef) -> str:
        assert isinstance(model, ModelRef)
        return model.name

    flow = Flow([name_of(reference)])
    again = MontyDecoder().decode(json.dumps(flow, cls=MontyEncoder))
    assert again.jobs[0].function_args[0] == reference


def test_file_is_hashed_and_reloaded_when_it_changes(model_file: Path) -> None:
    reference = ModelRef(str(model_file))
    first = reference.load()
    assert reference.load() is first
    model_file.write_bytes(b"other weights")
    assert reference.load() is not first


def test_resolved_file_is_absolute_and_pinned(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model_file.parent)
    resolved = ModelRef("toy.pt").resolve()
    assert resolved.name == str(model_file)
    assert resolved.sha256 == hashlib.sha256(b"weights").hexdigest()
    model_file.write_bytes(b"other weights")
    with pytest.raises(ModelRefError, match=r"has sha256 .* as asked"):
        resolved.resolve()


def test_reference_to_a_saved_model_names_its_contents(tmp_path: Path) -> None:
    model = DPA4(DPA4Config.preset("nano"))
    path = save(Potential(model, ModelInfo(name="mine", level_of_theory="PBE")), tmp_path / "mine.dpa4")
    info = ModelRef(str(path), dtype="float64").info()
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (info.name, info.level_of_theory) == ("mine", "PBE")


def test_wrong_checksum_is_refused() -> None:
    with pytest.raises(ModelRefError, match=f"sha256 {TOY_SHA256[:12]}…, not 0000"):
        ModelRef(TOY, sha256=64 * "0").load()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no_such_module:thing", "cannot be imported"),
        ("dpa4_core.testing:Nothing", "cannot be imported"),
        ("builtins:dict", "returned a dict"),
    ],
)
def test_what_is_no_model_is_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(ModelRefError, match=sentence) as caught:
        ModelRef(name).load()
    assert "\n" not in str(caught.value)


def test_ase_calculator_computes_as_in_ase() -> None:
    potential = ModelRef("ase.calculators.emt:EMT").load()
    assert isinstance(potential, ASEPotential)
    structures = [
        bulk("Cu", "fcc", 3.5),
        bulk("Au", "fcc", 4.2, cubic=True),
        bulk("Cu", "fcc", 3.7).repeat((2, 1, 1)),
    ]
    structures[1].rattle(0.05, seed=1)
    for atoms, prediction in zip(structures, predict(structures, potential), strict=True):
        atoms.calc = EMT()
        assert prediction.error is None
        assert prediction.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(prediction.forces, atoms.get_forces(), atol=1e-10)
        np.testing.assert_allclose(prediction.stress, atoms.get_stress(voigt=False), atol=1e-10)


def test_structure_that_a_calculator_refuses_does_not_harm_the_others() -> None:
    potential = ModelRef("ase.calculators.emt:EMT").load()
    good, bad = predict([bulk("Cu"), bulk("Si")], potential)
    assert good.error is None
    assert bad.error is not None


def test_provenance_and_frame_name_the_model() -> None:
    stamp = provenance(ModelRef(TOY), {"fmax": 0.02}, with_pymatgen=True)
    assert (stamp.model_name, stamp.model_sha256, stamp.settings) == (TOY, TOY_SHA256, {"fmax": 0.02})
    assert stamp.pymatgen_version
    frame = energy_frame(ModelRef(TOY), "MP2020")
    assert (frame.model_sha256, frame.correction) == (TOY_SHA256, "MP2020")

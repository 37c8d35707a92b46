"""Files: both formats, both directions, and every way in which a file can be wrong."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle_data import ORACLE, RELEASED, assert_matches, system

import dpa4_core as dpa4
from dpa4_core.data.neighbours import build_graph
from dpa4_core.errors import DPA4Error
from dpa4_core.model.checkpoint import convert, read_model
from dpa4_core.model.config import DPA4Config
from dpa4_core.model.official import to_official

TINY = ORACLE / "tiny"


def official_state(name):
    return torch.load(TINY / f"{name}.pt", weights_only=True)["model"]


def write_state(path, state):
    torch.save({"model": state}, path)
    return path


@pytest.mark.parametrize("name", RELEASED)
def test_official_to_ours_to_official_keeps_every_tensor(name, tmp_path):
    convert(TINY / f"{name}.pt", tmp_path / "own.dpa4")
    convert(tmp_path / "own.dpa4", tmp_path / "back.pt")
    before = official_state(name)
    after = torch.load(tmp_path / "back.pt", weights_only=True)["model"]
    if name == "lora":  # adapters are folded into the matrices
        before = {key: value for key, value in before.items() if ".A_" not in key and ".B_" not in key}
        before = {key: value for key, value in before.items() if not key.endswith("lora_scaling")}
    before.pop("_extra_state"), after.pop("_extra_state")
    assert set(before) <= set(after)
    folded = (".weight", "weight_m0", "weight_m.0") if name == "lora" else ()
    for key, value in before.items():
        if key.endswith(folded) and folded:
            continue
        if key.endswith(("min_nbor_dist", "dens_force_rmsd")):  # statistics of the training data, not used
            continue
        assert value.shape == after[key].shape and value.dtype == after[key].dtype, key
        torch.testing.assert_close(after[key], value, rtol=1e-6, atol=0.0, msg=key)


@pytest.mark.parametrize("name", ["neo_like", "lora", "zbl", "pro_mptrj_like_v10"])
def test_function_survives_both_conversions(name, tmp_path):
    convert(TINY / f"{name}.pt", tmp_path / "own.dpa4")
    convert(tmp_path / "own.dpa4", tmp_path / "back.pt")
    with np.load(TINY / f"{name}.npz") as archive:
        reference = {key: archive[key] for key in archive}
    for path in ("own.dpa4", "back.pt"):
        potential = dpa4.load(tmp_path / path, dtype="float32")
        graph = build_graph([system(reference, "f0")], potential.cutoff)
        assert_matches(potential.compute(graph), reference, "f0", "float32")


def test_identity_card_is_stored(tmp_path):
    potential = dpa4.load(TINY / "neo_like.pt")
    dpa4.save(potential, tmp_path / "mine.dpa4")
    again = dpa4.load(tmp_path / "mine.dpa4")
    assert again.info.elements == potential.info.elements == (1, 6, 8, 14, 29)
    assert len(again.info.sha256) == 64 and again.info.sha256 != potential.info.sha256
    assert again.model.config == potential.model.config


def test_first_version_of_our_format_stays_readable():
    with np.load(TINY / "nano_like.npz") as archive:
        reference = {key: archive[key] for key in archive}
    potential = dpa4.load(ORACLE / "own_v1.dpa4", dtype="float64")
    assert_matches(
        potential.compute(build_graph([system(reference, "f0")], potential.cutoff)), reference, "f0", "float64"
    )


def test_pickle_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps({"model": print}))
    with pytest.raises(DPA4Error, match=r"model\.pt .*refused for safety"):
        dpa4.load(path)


def test_truncated_checkpoints_are_named(tmp_path):
    for suffix, source in ((".pt", TINY / "neo_like.pt"), (".dpa4", ORACLE / "own_v1.dpa4")):
        whole = source.read_bytes()
        for size in (0, 5, 200, len(whole) // 2, len(whole) - 7):
            path = tmp_path / f"cut{size}{suffix}"
            path.write_bytes(whole[:size])
            with pytest.raises(DPA4Error, match=f"cut{size}"):
                dpa4.load(path)


def test_a_folder_is_no_model_file(tmp_path):
    with pytest.raises(DPA4Error, match="is a folder"):
        dpa4.load(tmp_path)


def test_missing_file_and_unknown_name():
    with pytest.raises(DPA4Error, match=r"nowhere\.pt does not exist"):
        dpa4.load("nowhere.pt")
    with pytest.raises(DPA4Error, match="unknown model 'dpa4-huge'.*dpa4-neo"):
        dpa4.load("dpa4-huge")


def test_wrong_tensors_are_named(tmp_path):
    state = official_state("nano_like")
    key = "model.Default.atomic_model.descriptor.film_scale_strength_log"
    lacking = {k: v for k, v in state.items() if k != key}
    with pytest.raises(DPA4Error, match="lacks the tensor 'atomic_model.descriptor.film_scale_strength_log'"):
        dpa4.load(write_state(tmp_path / "a.pt", lacking))
    extra = state | {"model.Default.atomic_model.descriptor.mystery": torch.zeros(2)}
    with pytest.raises(DPA4Error, match=r"unknown tensor 'atomic_model\.descriptor\.mystery'"):
        dpa4.load(write_state(tmp_path / "b.pt", extra))
    with pytest.raises(DPA4Error, match=r"has shape \(3,\), expected \(1,\)"):
        dpa4.load(write_state(tmp_path / "c.pt", state | {key: torch.zeros(3)}))


@pytest.mark.parametrize(
    "option, value",
    [
        ("so2_norm", True),
        ("mmax", 2),
        ("kmax", 2),
        ("focus_dim", 4),
        ("edge_cartesian", True),
        ("so3_readout", "glu"),
        ("grid_branch", [0, 0, 3]),
        ("basis_type", "chebyshev"),
        ("radial_so2_mode", "degree"),
        ("brand_new_option", 5),
    ],
)
def test_unsupported_options_are_named(tmp_path, option, value):
    state = official_state("neo_like")
    state["_extra_state"]["model_params"]["descriptor"][option] = value
    with pytest.raises(DPA4Error, match=option):
        dpa4.load(write_state(tmp_path / "x.pt", state))


def test_later_forms_of_options_are_understood(tmp_path):
    """Presets after 3.2.0 write three switches, one exponent and fixed Gaussian centres."""
    state = official_state("mini_like")
    descriptor = state["_extra_state"]["model_params"]["descriptor"]
    descriptor |= {"edge_norm": [False, False, False], "env_exp": 5, "basis_type": "gaussian/fix"}
    model, _ = read_model(write_state(tmp_path / "x.pt", state))
    assert model.config.radial.basis_envelope is None and model.config.radial.message_envelope == 5
    assert not model.basis.frequencies.requires_grad


def test_branches_of_a_multi_task_checkpoint(tmp_path):
    state = official_state("nano_like")
    params = state["_extra_state"]["model_params"]
    many = {"_extra_state": {"model_params": {"model_dict": {"crystal": params, "molecule": params}}}}
    for branch in ("crystal", "molecule"):
        many |= {k.replace("Default", branch): v for k, v in state.items() if k != "_extra_state"}
    path = write_state(tmp_path / "many.pt", many)
    with pytest.raises(DPA4Error, match=r"branches crystal, molecule; choose one by appending '#NAME'"):
        dpa4.load(path)
    assert dpa4.load(f"{path}#molecule").model.config == dpa4.load(TINY / "nano_like.pt").model.config


def test_a_branch_of_a_file_without_branches_is_refused(tmp_path):
    path = convert(ORACLE / "tiny" / "neo_like.pt", tmp_path / "one.dpa4")
    with pytest.raises(DPA4Error, match=r"has no branches, but 'crystal' was asked for; leave out '#crystal'"):
        dpa4.load(f"{path}#crystal")


def test_a_checkpoint_of_a_training_that_goes_on_is_read_without_the_state_of_its_optimizer(tmp_path):
    optimizer = {"state": {0: {"step": torch.ones(())}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
    state = official_state("neo_like")
    torch.save({"model": state, "optimizer": optimizer}, tmp_path / "model.ckpt-500.pt")
    read = read_model(tmp_path / "model.ckpt-500.pt")[0].state_dict()
    for name, value in read_model(TINY / "neo_like.pt")[0].state_dict().items():
        assert torch.equal(read[name], value), name
    with pytest.raises(DPA4Error, match="unknown entry 0"):
        read_model(write_state(tmp_path / "numbered.pt", state | {0: torch.ones(1)}))


def test_half_written_file_is_never_taken_for_a_model(tmp_path, monkeypatch):
    potential = dpa4.load(TINY / "nano_like.pt")
    target = tmp_path / "mine.dpa4"

    def fail(*_args, **_kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        dpa4.save(potential, target)
    assert list(tmp_path.iterdir()) == []


def test_config_round_trip_and_unknown_key():
    config = dpa4.load(TINY / "zbl.pt").model.config
    assert DPA4Config.from_dict(config.to_dict()) == config
    with pytest.raises(DPA4Error, match="unknown key 'chanels'"):
        DPA4Config.from_dict({"chanels": 3})
    with pytest.raises(DPA4Error, match="unknown preset 'huge'"):
        DPA4Config.preset("huge")


def test_registered_file_is_recognised_by_its_checksum(neo_path, tmp_path):
    shutil.copy(neo_path, tmp_path / "renamed.pt")
    assert dpa4.load(tmp_path / "renamed.pt").info.name == "dpa4-neo"
    convert(tmp_path / "renamed.pt", tmp_path / "mine.dpa4")
    assert dpa4.load(tmp_path / "mine.dpa4").info.corrections == "OMat24"


def test_export_of_a_new_model_has_all_constants():
    config = DPA4Config.preset("neo", elements=("H", "C", "O", "Si", "Cu"), channels=8, cutoff=4.5)
    exported = to_official(dpa4.DPA4(config), {"observed_type": list(config.elements)}, {})
    assert set(official_state("neo_like")) - set(exported) <= {
        "model.Default.atomic_model.descriptor._empty_tensor",
    }


@pytest.mark.parametrize("place", ["fitting_net", "top"])
@pytest.mark.parametrize("option, value", [("activation_function", "tanh"), ("resnet_dt", True), ("nonsense", 7)])
def test_options_outside_the_descriptor_are_refused_by_name(tmp_path, place, option, value):
    state = official_state("nano_like")
    params = state["_extra_state"]["model_params"]
    (params["fitting_net"] if place == "fitting_net" else params)[option] = value
    with pytest.raises(DPA4Error, match=option):
        dpa4.load(write_state(tmp_path / "x.pt", state))


@pytest.mark.parametrize(
    "key", ["model.Default.atomic_model.descriptor.foo.running_mean", "model.Other.weight", "ema.weight"]
)
def test_no_tensor_slips_through(tmp_path, key):
    with pytest.raises(DPA4Error, match=key.removeprefix("model.Default.")):
        dpa4.load(write_state(tmp_path / "x.pt", official_state("nano_like") | {key: torch.zeros(2)}))


def test_identity_goes_along_into_the_official_layout_and_back(neo_path, tmp_path):
    convert(neo_path, tmp_path / "a.dpa4")
    convert(tmp_path / "a.dpa4", tmp_path / "b.pt")
    before, after = dpa4.load(neo_path).info, dpa4.load(tmp_path / "b.pt").info
    for name in ("name", "level_of_theory", "corrections", "licence", "trained_for", "elements", "n_parameters"):
        assert getattr(after, name) == getattr(before, name), name


def test_conversion_keeps_double_precision(tmp_path):
    torch.manual_seed(3)
    model = dpa4.DPA4(DPA4Config.preset("nano", elements=("H", "O"), channels=8), torch.float64)
    dpa4.save(dpa4.Potential(model), tmp_path / "a.dpa4")
    for step in ("b.pt", "c.dpa4"):
        convert(tmp_path / "a.dpa4", tmp_path / step)
        again, _ = read_model(tmp_path / step, dtype=None)
        assert again.dtype == torch.float64
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_saved_files_follow_the_umask_and_odd_folders_work(tmp_path):
    folder = tmp_path / "run#3"
    potential = dpa4.load(TINY / "nano_like.pt")
    path = dpa4.save(potential, folder / "m.dpa4")
    (folder / "plain").touch()
    assert path.stat().st_mode == (folder / "plain").stat().st_mode
    assert dpa4.load(path).model.config == potential.model.config
    with pytest.raises(DPA4Error, match=r"end the name in \.dpa4"):
        dpa4.save(potential, tmp_path / "m.pt")

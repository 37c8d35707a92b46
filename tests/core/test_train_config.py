"""The configuration of a run: strict, complete, and the same after a round trip."""

import dataclasses
import json
import re

import pytest
from toy_training import configured, settings, toy_frames, write

from dpa4_core.data.frames import LabelKeys
from dpa4_core.errors import DPA4Error
from dpa4_core.model.property import PropertyConfig
from dpa4_core.strict import override, typed
from dpa4_core.train.config import FineTuneConfig, SourceConfig, TrainConfig, TrainConfigError
from dpa4_core.train.trainer import train

MINIMAL = {"data": {"train": "a.extxyz"}, "output": "run"}

EVERYTHING = """
preset = "mini"
level_of_theory = "PBE"

[data]
train = [{path = "a.extxyz", weight = 2}, "b.extxyz"]
validation = "c.extxyz"
max_force = 30

[data.keys]
energy = "dft_energy"

[model]
channels = 16

[loss]
kind = "huber"
energy = 5

[optimizer]
betas = [0.9, 0.99]

[schedule]
lr = 1e-3

[batch]
max_atoms = 100

[run]
steps = 10
offsets = {O = -1.5, Mg = 2}

[property]
name = "band_gap"
kind = "intensive"
hidden = [16, 8]
"""


def refused(changes, match):
    with pytest.raises(DPA4Error, match=match):
        TrainConfig.from_dict(override(MINIMAL, changes))


def test_everything_in_a_file_arrives(tmp_path):
    (tmp_path / "steel.toml").write_text(EVERYTHING)
    for name in "abc":
        (tmp_path / f"{name}.extxyz").touch()
    config = TrainConfig.from_toml(tmp_path / "steel.toml", ["run.steps=12", "schedule.kind=cosine", "loss.forces=3"])
    assert config.data.train == (
        SourceConfig(str(tmp_path / "a.extxyz"), weight=2.0),
        SourceConfig(str(tmp_path / "b.extxyz")),
    )
    assert [source.path for source in config.data.validation] == [str(tmp_path / "c.extxyz")]
    assert config.data.max_force == 30.0 and isinstance(config.data.max_force, float)
    assert config.data.keys == LabelKeys(energy="dft_energy")
    assert (config.loss.kind, config.loss.energy, config.loss.forces) == ("huber", 5.0, 3.0)
    assert config.optimizer.betas == (0.9, 0.99)
    assert (config.run.steps, config.run.offsets) == (12, {"O": -1.5, "Mg": 2.0})
    assert config.schedule.kind == "cosine" and config.batch.max_atoms == 100 and config.batch.max_edges == "auto"
    assert config.property == PropertyConfig("band_gap", hidden=(16, 8))
    assert config.name == "steel" and config.output.endswith("steel")
    assert config.network(["H", "C"]).channels == 16 and config.network(["H", "C"]).elements == ("H", "C")


def test_configuration_survives_json(tmp_path):
    (tmp_path / "steel.toml").write_text(EVERYTHING)
    for config in (
        TrainConfig.from_toml(tmp_path / "steel.toml"),
        TrainConfig.from_dict(MINIMAL),
        TrainConfig.from_dict(
            MINIMAL | {"base": "dpa4-neo", "finetune": {"lora_rank": 4, "elements_like": {"Tc": "Mn"}, "replay": "r"}}
        ),
    ):
        again = TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))
        assert again == config and again.to_dict() == config.to_dict()


def test_a_misspelt_key_is_named_with_the_one_that_was_meant():
    refused(["run.stepps=3"], "run: unknown key 'stepps'; did you mean 'steps'?")
    refused(["schedul.lr=3"], "unknown key 'schedul'; did you mean 'schedule'?")
    refused(["loss.zzz=3"], "loss: unknown key 'zzz'; choose from energy, forces")
    refused(["data.keys.energie=x"], "data, keys: unknown key 'energie'; did you mean 'energy'?")


@pytest.mark.parametrize(
    ("assignment", "match"),
    [
        ("run.steps=1.5", "run, steps: expected a whole number, got 1.5"),
        ("run.steps=true", "run, steps: expected a whole number, got True"),
        ("run.steps=many", "run, steps: expected a whole number, got 'many'"),
        ("run.compile=1", "run, compile: expected true or false, got 1"),
        ("run.dtype=float16", "must be one of float32, float64, not 'float16'"),
        ("loss.energy=high", "loss, energy: expected a number, got 'high'"),
        ("batch.max_atoms=lots", "batch, max_atoms: 'lots' fits none of a whole number, 'auto'"),
        ("optimizer.betas=[0.9]", "betas: expected 2 values, got 1"),
        ("run.offsets=3", "run, offsets: 3 fits none of a table, 'isolated'"),
        ("run=3", "run: expected a table for RunConfig, got 3"),
        ("data.train=[]", "data.train names no source"),
        ("data.validation_fraction=1", "validation_fraction must lie in"),
        ("data.min_distance_ratio=inf", "min_distance_ratio must be a number from 0"),
        ("schedule.kind=wds", "schedule, kind must be one of wsd, cosine, constant, not .wds."),
        ("loss.energy=-1", "loss: the weights of the loss"),
        ("preset=huge", "unknown preset 'huge'; choose from nano"),
        ("finetune.lora_rank=4", "needs base"),
        ("property.kind=intensive", "'name' is missing"),
    ],
)
def test_values_of_the_wrong_kind_are_refused(assignment, match):
    refused([assignment], match)


def test_a_base_fixes_the_network():
    refused(["base=dpa4-neo", "preset=neo"], "base fixes the network")
    refused(["base=dpa4-neo", "model.channels=8"], "base fixes the network")
    gap = ["base=dpa4-neo", 'property.name="gap"', 'property.unit="eV"', 'property.kind="intensive"']
    refused([*gap, "finetune.replay_own=true"], "replay_own is about energies")


def test_what_is_missing_is_named():
    with pytest.raises(TrainConfigError, match="'output' is missing"):
        TrainConfig.from_dict({"data": {"train": "a"}})
    refused(["run.steps"], "'run.steps' is no assignment; write section.key=value")


def test_commas_on_the_command_line_divide_where_a_list_is_asked_for():
    given = override({}, ["numbers=600,800.5", "words=Li, LiCoO2", "one=Li", "text=a,b", 'whole="a,b"', "wrong=6,hot"])
    assert typed(tuple[float, ...], given["numbers"], "") == (600.0, 800.5)
    assert typed(list[str], given["words"], "") == ["Li", "LiCoO2"] and typed(list[str], given["one"], "") == ["Li"]
    assert typed(str | None, given["text"], "") == "a,b" and typed(tuple[str, ...], given["whole"], "") == ("a,b",)
    with pytest.raises(DPA4Error, match="expected a number, got 'hot'"):
        typed(tuple[float, ...], given["wrong"], "numbers")


def test_overrides_are_toml_or_else_text():
    changed = override({"run": {"steps": 1}}, ["run.steps=2", "run.device=cuda:1", 'name="a b"', "x.y.z=[1, 2]"])
    assert changed == {"run": {"steps": 2, "device": "cuda:1"}, "name": "a b", "x": {"y": {"z": [1, 2]}}}
    original = {"run": {"steps": 1}}
    override(original, ["run.steps=5"])
    assert original == {"run": {"steps": 1}}


def test_paths_are_looked_for_beside_the_file_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "near.extxyz").touch()
    (tmp_path / "sets" / "c.toml").write_text(
        'base = "dpa4-neo"\n[data]\ntrain = ["near.extxyz", "far.extxyz"]\n[finetune]\nreplay = "near.extxyz"\n'
    )
    config = TrainConfig.from_toml("sets/c.toml")
    assert [source.path for source in config.data.train] == ["sets/near.extxyz", "far.extxyz"]
    assert config.finetune.replay[0].path == "sets/near.extxyz"
    assert config.output == "runs/c"


def test_a_damaged_file_is_one_sentence(tmp_path):
    (tmp_path / "c.toml").write_text("steps = = 3")
    with pytest.raises(TrainConfigError, match=r"c\.toml is not valid TOML"):
        TrainConfig.from_toml(tmp_path / "c.toml")


# ---- continuing


def test_a_changed_configuration_is_refused_by_naming_the_key(tmp_path):
    data = write(tmp_path, toy_frames(8))
    config = configured(data, tmp_path / "run", run__steps=2)
    train(config)
    for assignment, key, value in (
        ("schedule.lr=1e-3", "schedule.lr", "0.001"),
        ("loss.kind=mse", "loss.kind", "'mse'"),
        ("run.seed=7", "run.seed", "7"),
        ("model.channels=16", "model.channels", "16"),
        ("run.steps=40", "run.steps", "40"),
    ):
        with pytest.raises(TrainConfigError, match=f"begun with {re.escape(key)} = .*, now it is {value}; use another"):
            train(configured(data, tmp_path / "run", "run.steps=2", assignment))
    assert train(config).status == "finished"


def test_what_does_not_change_the_result_may_change(tmp_path):
    data = write(tmp_path, toy_frames(8))
    train(configured(data, tmp_path / "run", run__steps=2))
    free = ["run.log_every=1", "run.save_every=1", "run.save_minutes=1", "run.max_time=9", "batch.cache_gib=0.5"]
    assert train(configured(data, tmp_path / "run", *free, "name=other", run__steps=2)).step == 2


def test_changed_data_are_refused(tmp_path):
    frames = toy_frames(9)
    data = write(tmp_path, frames[:8])
    config = configured(data, tmp_path / "run", run__steps=2)
    train(config)
    write(tmp_path, frames)
    with pytest.raises(Exception, match="training data changed since the run in .* began.*--restart"):
        train(config)
    assert train(config, restart=True).step == 2


def test_unknown_key_of_a_network_is_refused(tmp_path):
    config = TrainConfig.from_dict(settings("a.extxyz", tmp_path, model__chanels=3))
    with pytest.raises(Exception, match="unknown key 'chanels'"):
        config.network(["H"])


def test_defaults_are_a_complete_run():
    config = TrainConfig.from_dict(MINIMAL)
    assert config.finetune == FineTuneConfig() and config.property is None
    assert config.network(["H", "O"]).elements == ("H", "O")
    assert dataclasses.replace(config, preset="nano").network(["H"]).channels == 32

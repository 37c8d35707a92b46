"""How a run behaves: bad frames, early stop, time limits, validation, and that it learns."""

import dataclasses
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy_training import CUTOFF, configured, labelled, of_kind, recorded, toy_frames, toy_structures, write

import dpa4_core as dpa4
from dpa4_core.errors import DPA4Error
from dpa4_core.model.checkpoint import read_model
from dpa4_core.testing import MorsePotential
from dpa4_core.train import clock as clock_module
from dpa4_core.train import trainer as trainer_module
from dpa4_core.train.checkpoint import part, read_state
from dpa4_core.train.log import read_log
from dpa4_core.train.trainer import train


def weights(folder):
    return part("model", read_state(folder / "checkpoint.safetensors").tensors)


# ---- bad frames


def with_absurd_stress(n, bad):
    """A finite label whose deviation is infinite in float32."""
    frames = toy_frames(n, kinds=(0,))
    for i in bad:
        frames[i].calc.results["stress"] = np.full(6, 1e60)
    return frames


def test_a_step_without_a_finite_loss_is_skipped_and_its_frames_are_named(tmp_path):
    config = configured(
        write(tmp_path, with_absurd_stress(16, [3])),
        tmp_path / "run",
        data__validation_fraction=0.0,
        run__dtype="float32",
        batch__max_atoms=4,
    )
    result, records = recorded(config)
    skipped = of_kind(records, "skipped")
    # two frames per step, 16 frames: the bad one comes once in each of the 8 steps of an epoch
    assert result.status == "finished" and 2 <= len(skipped) <= 3
    store_names = {name for record in skipped for name in record["frames"]}
    bad = set.intersection(*(set(record["frames"]) for record in skipped))
    assert len(bad) == 1 and len(store_names) > 1
    assert next(iter(bad)).endswith("3") and all(record["loss"] is None for record in skipped)
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())
    last = of_kind(records, "train")[-1]
    assert last["skipped"] == len(skipped) == of_kind(records, "end")[0]["skipped"]
    assert all(math.isfinite(record[key]) for record in of_kind(records, "train") for key in ("loss", "gradient_norm"))
    assert all(math.isfinite(record["stress_mae"]) for record in of_kind(records, "train"))


def test_ten_bad_steps_in_a_row_end_the_run(tmp_path):
    config = configured(
        write(tmp_path, with_absurd_stress(8, range(8))),
        tmp_path / "run",
        data__validation_fraction=0.0,
        run__dtype="float32",
        run__save_every=1,
    )
    with pytest.raises(DPA4Error, match="10 steps in a row had no finite loss or gradient, the last with .*toy"):
        train(config)
    assert len(of_kind(read_log(tmp_path / "run" / "log.jsonl"), "skipped")) == 10


def test_a_step_without_a_finite_gradient_is_skipped_too(tmp_path, monkeypatch):
    config = configured(write(tmp_path, toy_frames(12)), tmp_path / "run", run__steps=6)
    clip = trainer_module.clip_gradients
    calls = []

    def spoil(parameters, limit):
        calls.append(1)
        if len(calls) in (2, 4):
            parameters[3].grad.view(-1)[0] = float("nan")
        return clip(parameters, limit)

    monkeypatch.setattr(trainer_module, "clip_gradients", spoil)
    result, records = recorded(config)
    assert result.step == 6 and [record["step"] for record in of_kind(records, "skipped")] == [2, 4]
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())


def test_a_skipped_step_leaves_the_weights_alone(tmp_path, monkeypatch):
    """Neither weights nor averages nor momenta move; only the step is counted."""
    frames = toy_frames(12)
    config = configured(write(tmp_path, frames), tmp_path / "run", run__steps=4, run__save_every=1)
    clip, states = trainer_module.clip_gradients, []

    def spoil(parameters, limit):
        if len(states) == 2:
            parameters[0].grad.view(-1)[0] = float("inf")
        return clip(parameters, limit)

    save = trainer_module.Trainer.save

    def keep(self):
        save(self)
        states.append(read_state(self.checkpoint).tensors)

    monkeypatch.setattr(trainer_module, "clip_gradients", spoil)
    monkeypatch.setattr(trainer_module.Trainer, "save", keep)
    train(config)
    same = [all(torch.equal(a[name], b[name]) for name in a) for a, b in itertools.pairwise(states)]
    assert same == [False, True, False]


# ---- how it ends


def test_patience_starts_the_decay_and_the_run_ends_earlier(tmp_path, monkeypatch):
    metrics = iter([5.0, 4.0, 4.5, 4.2, *[9.0] * 50])
    errors = trainer_module.Trainer.errors
    monkeypatch.setattr(trainer_module.Trainer, "errors", lambda self, frames: (errors(self, frames)[0], next(metrics)))
    config = configured(
        write(tmp_path, toy_frames(12)),
        tmp_path / "run",
        schedule__kind="constant",
        schedule__warmup=0,
        schedule__decay=0.2,
        run__steps=50,
        run__validate_every=3,
        run__patience=2,
        run__log_every=1,
    )
    result, records = recorded(config)
    (decay,) = of_kind(records, "decay")
    assert decay["step"] == 12 and decay["end"] == 22 and "no improvement in 2 validations" in decay["why"]
    assert result.step == 22 and result.status == "finished" and result.best == 4.0
    rates = [record["lr"] for record in of_kind(records, "train")]
    assert rates[:12] == [3e-3] * 12 and rates[13] < 3e-3
    assert rates[12:] == sorted(rates[12:], reverse=True) and rates[-1] < 0.1 * rates[0]


def test_patience_at_the_very_end_does_not_lengthen_the_run(tmp_path, monkeypatch):
    metrics = iter([4.0, *[9.0] * 50])
    errors = trainer_module.Trainer.errors
    monkeypatch.setattr(trainer_module.Trainer, "errors", lambda self, frames: (errors(self, frames)[0], next(metrics)))
    config = configured(
        write(tmp_path, toy_frames(12)),
        tmp_path / "run",
        schedule__kind="constant",
        run__steps=6,
        run__validate_every=3,
        run__patience=1,
    )
    assert train(config).step == 6


def test_a_time_limit_ends_the_run_in_time_with_a_decayed_learning_rate(tmp_path, monkeypatch):
    """By a clock that moves when somebody looks at it: a busy machine is no other."""
    looks = itertools.count()
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(monotonic=lambda: 0.1 * next(looks)))
    config = configured(
        write(tmp_path, toy_frames(24)),
        tmp_path / "run",
        run__steps=10**6,
        run__max_time=40 / 60,
        run__log_every=1,
        run__validate_every=0,
        schedule__warmup=2,
    )
    result, records = recorded(config)
    assert 0.1 * next(looks) < 44
    assert result.status == "finished" and result.model is not None and 40 < result.step < 200
    (decay,) = of_kind(records, "decay")
    # the decay takes 65 % of the time
    assert 0.1 * result.step < decay["step"] < 0.6 * result.step and "time" in decay["why"]
    rates = [record["lr"] for record in of_kind(records, "train")]
    assert max(rates) == 3e-3 and rates[-1] < 0.2 * max(rates)
    falling = rates[decay["step"] :]
    assert falling == sorted(falling, reverse=True)
    validated = [record["step"] for record in of_kind(records, "validation")]
    assert validated[-1] == result.step and 8 <= len(validated) <= 10  # on the run that happens, not the planned one
    longer = dataclasses.replace(config, run=dataclasses.replace(config.run, max_time=2.0))
    with pytest.raises(dpa4.DPA4Error, match="ended with its time, 0.666667 minutes.*--restart"):
        train(longer)
    assert train(config).step == result.step  # nothing to do


def test_a_run_that_ends_before_its_time_limit_does_not_notice_it(tmp_path):
    data = write(tmp_path, toy_frames(12))
    losses = []
    for limit in (0.0, 60.0):
        config = configured(data, tmp_path / f"{limit}", run__max_time=limit, schedule__kind="constant")
        result, records = recorded(config)
        losses.append([record["loss"] for record in of_kind(records, "train")])
        assert result.step == 20 and not of_kind(records, "decay")
    assert losses[0] == losses[1]


# ---- what it hands out


def test_the_model_is_the_best_one_by_validation(tmp_path, monkeypatch):
    metrics = iter([5.0, 4.0, 6.0, 7.0])
    errors = trainer_module.Trainer.errors
    monkeypatch.setattr(trainer_module.Trainer, "errors", lambda self, frames: (errors(self, frames)[0], next(metrics)))
    config = configured(write(tmp_path, toy_frames(12)), tmp_path / "run", run__validate_every=5)
    result, records = recorded(config)
    assert [record["improved"] for record in of_kind(records, "validation")] == [True, True, False, False]
    model, info = read_model(result.model, dtype=None)
    assert info.training["step"] == 10 and result.best == 4.0
    live = weights(tmp_path / "run")
    assert any(not torch.equal(live[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("mixed_precision", ["none", "bf16"])
def test_errors_of_the_best_validation_are_those_of_the_model_file(tmp_path, mixed_precision):
    """Computed once more by the public functions, from the file and with labels in the user's units."""
    frames, held = toy_frames(24), toy_frames(9, 77)
    config = configured(
        write(tmp_path, frames),
        tmp_path / "run",
        data__validation=write(tmp_path, held, "held"),
        run__validate_every=4,
        run__mixed_precision=mixed_precision,
    )
    result = train(config)
    predictions = dpa4.predict(held, dpa4.load(result.model, dtype="float64"))
    delta_e = [(p.energy - a.calc.results["energy"]) / len(a) for p, a in zip(predictions, held, strict=True)]
    delta_f = np.concatenate([p.forces - a.calc.results["forces"] for p, a in zip(predictions, held, strict=True)])
    delta_s = [
        p.stress.ravel()[[0, 4, 8, 5, 2, 1]] - a.calc.results["stress"]
        for p, a in zip(predictions, held, strict=True)
        if a.pbc.all()
    ]
    expected = {
        "energy_mae": np.abs(delta_e).mean(),
        "energy_rmse": np.sqrt(np.square(delta_e).mean()),
        "force_mae": np.abs(delta_f).mean(),
        "force_rmse": np.sqrt(np.square(delta_f).mean()),
        "force_norm_mae": np.linalg.norm(delta_f, axis=1).mean(),
        "stress_mae": np.abs(delta_s).mean(),
        "stress_rmse": np.sqrt(np.square(delta_s).mean()),
    }
    assert result.errors == pytest.approx(expected, rel=1e-6)


def test_without_validation_the_last_average_is_the_model(tmp_path):
    config = configured(write(tmp_path, toy_frames(9)), tmp_path / "run", data__validation_fraction=0.0)
    result = train(config)
    tensors = read_state(tmp_path / "run" / "checkpoint.safetensors").tensors
    model, info = read_model(result.model, dtype=None)
    assert result.best is None and info.training["step"] == 20
    for name, value in model.named_parameters():
        assert torch.equal(value, tensors[f"ema/{name}/average"])


def test_offsets_are_fitted_or_taken_from_the_configuration(tmp_path):
    structures = toy_structures(12, kinds=(1,))
    data = write(tmp_path, labelled(structures, shift={"O": -100.0, "Mg": -30.0}))
    train(configured(data, tmp_path / "a", run__steps=1))
    model, _ = read_model(tmp_path / "a" / "model.dpa4")
    fitted = dict(zip(model.config.elements, model.out_bias.view(-1).tolist(), strict=True))
    assert fitted["O"] == pytest.approx(-100, abs=3) and fitted["Mg"] == pytest.approx(-30, abs=3)
    train(configured(data, tmp_path / "b", "run.offsets.O=-99.5", run__steps=1))
    model, _ = read_model(tmp_path / "b" / "model.dpa4")
    assert model.out_bias.view(-1)[model.config.elements.index("O")] == -99.5


def test_epochs_count_passes_over_the_data(tmp_path):
    frames = toy_frames(20, kinds=(0,))
    config = configured(
        write(tmp_path, frames),
        tmp_path / "run",
        data__validation_fraction=0.0,
        batch__max_atoms=8,
        batch__max_edges=10**6,
        run__steps=0,
        run__epochs=2.5,
    )
    assert train(config).step == 13  # five steps per pass


def test_an_element_that_the_network_lacks_is_named(tmp_path):
    config = configured(write(tmp_path, toy_frames(6)), tmp_path / "run", "model.elements=['O']")
    with pytest.raises(DPA4Error, match="the data hold Mg, which model.elements does not list"):
        train(config)


# ---- learning


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A run on 60 frames of a Morse crystal, seconds on one thread."""
    folder = tmp_path_factory.mktemp("learned")
    config = configured(
        write(folder, toy_frames(60, kinds=(0, 2), rattle=0.15)),
        folder / "run",
        "batch.max_atoms=24",
        "run.log_every=20",
        "run.validate_every=50",
        "run.steps=250",
        "run.dtype=float32",
        "schedule.lr=1e-2",
        "run.ema=0.99",
        "run.seed=1",  # of a split without the largest outlier, whose error would be all that is seen
        "level_of_theory=Morse",
    )
    return recorded(config)


def test_force_errors_fall_to_a_fraction_in_a_fixed_number_of_steps(learned):
    result, records = learned
    first = of_kind(records, "train")[0]
    assert result.errors["force_mae"] < first["force_mae"] / 4
    assert result.errors["energy_mae"] < first["energy_mae"] / 4
    assert result.errors["stress_mae"] < first["stress_mae"] / 3
    assert result.step == 250


def test_a_trained_model_predicts_relaxes_and_survives_the_official_format(learned, tmp_path):
    result, _ = learned
    potential = dpa4.load(result.model)
    assert potential.info.level_of_theory == "Morse" and potential.elements == {8, 12}
    held = toy_frames(4, 99, kinds=(0, 2), rattle=0.1)
    predictions = dpa4.predict(held, potential)
    deviation = [np.abs(p.forces - a.calc.results["forces"]).mean() for p, a in zip(predictions, held, strict=True)]
    assert np.mean(deviation) < 0.3 * np.mean([np.abs(a.calc.results["forces"]).mean() for a in held])

    (relaxed,) = dpa4.relax(toy_structures(1, 3, rattle=0.05), potential, fmax=0.02, relax_cell=True)
    (truth,) = dpa4.relax(toy_structures(1, 3, rattle=0.05), MorsePotential(cutoff=CUTOFF), fmax=0.02, relax_cell=True)
    assert relaxed.converged and truth.converged
    volumes = [abs(np.linalg.det(np.array(r.structure.cell))) for r in (relaxed, truth)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.15)

    dpa4.convert(result.model, tmp_path / "model.pt")
    dpa4.convert(tmp_path / "model.pt", tmp_path / "again.dpa4")
    for path in (tmp_path / "model.pt", tmp_path / "again.dpa4"):
        again = dpa4.predict(held, dpa4.load(path))
        assert [p.energy for p in again] == [p.energy for p in predictions]
        assert dpa4.load(path).info.level_of_theory == "Morse"

"""Training from weights: offsets, new elements, adapters, frozen parts, replay, and properties."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from toy_training import (
    CUTOFF,
    base_file,
    configured,
    everything,
    labelled,
    of_kind,
    recorded,
    toy_frames,
    toy_structures,
    write,
)

import dpa4_core as dpa4
from dpa4_core.data.neighbours import build_graph
from dpa4_core.errors import DPA4Error
from dpa4_core.model.checkpoint import convert, read_model, write_model
from dpa4_core.model.registry import sha256_of
from dpa4_core.properties import load_property, predict_property
from dpa4_core.train import network as network_module
from dpa4_core.train.checkpoint import part, read_state
from dpa4_core.train.distributed import Processes
from dpa4_core.train.recipe import ALL_WEIGHTS
from dpa4_core.train.standing import FLOORS
from dpa4_core.train.trainer import Trainer, train

SHIFT = {"O": 1.5, "Mg": -4.0}
STILL = {"schedule__lr": 1e-9, "schedule__lr_min": 1e-9}
"""Steps that move nothing, and so neither the level of the energies."""


def finetuned(data, folder, base, *assignments, **changes):
    """A short run from ``base``."""
    defaults = {"preset": None, "model": None, "base": str(base), "run__steps": 6, "schedule__lr": 1e-3}
    defaults["data__validation_fraction"] = 0.0  # the file holds the last weights, better or not
    return configured(data, folder, *assignments, **defaults | changes)


def trainer_of(config):
    return Trainer(config, Processes(0, 1, torch.device("cpu")), lambda record: None)


def answered(frames, base, shift=None):
    """Frames whose labels are what the base model says, ``shift`` eV more per atom."""
    structures = [atoms.copy() for atoms in frames]
    frames = labelled(structures, shift=shift)
    for atoms, truth in zip(frames, dpa4.predict(structures, dpa4.load(base, dtype="float64")), strict=True):
        extra = sum((shift or {}).get(symbol, 0.0) for symbol in atoms.symbols)
        atoms.calc.results |= {"energy": truth.energy + extra, "forces": truth.forces}
        if truth.stress is not None:
            atoms.calc.results["stress"] = truth.stress.ravel()[[0, 4, 8, 5, 2, 1]]
    return frames


def offsets(path):
    model, _ = read_model(path, dtype=None)
    total = (model.out_bias.view(-1) + model.fit_bias.view(-1)).tolist()
    return dict(zip(model.config.elements, total, strict=True))


def test_a_constant_error_per_element_is_gone_before_the_first_step(tmp_path):
    base = base_file(tmp_path)
    data = write(tmp_path, answered(toy_structures(24), base, SHIFT))
    config = finetuned(data, tmp_path / "run", base, run__log_every=1, **STILL)
    result, records = recorded(config)
    first = of_kind(records, "train")[0]
    assert first["energy_mae"] < 1e-6 and first["force_mae"] < 1e-6 and first["stress_mae"] < 1e-6
    before, after = offsets(base), offsets(result.model)
    for symbol, value in SHIFT.items():
        assert after[symbol] - before[symbol] == pytest.approx(value, abs=1e-5)
    note = of_kind(records, "start")[0]["notes"]["offsets"]
    assert "O +1.500" in note and "Mg -4.000" in note
    kept, kept_records = recorded(finetuned(data, tmp_path / "kept", base, finetune__offsets="keep", run__log_every=1))
    assert of_kind(kept_records, "train")[0]["energy_mae"] > 0.5
    assert offsets(kept.model) == before


def test_fine_tuning_starts_from_the_base_and_names_it(tmp_path):
    base = base_file(tmp_path)
    data = write(tmp_path, toy_frames(12))
    result = train(finetuned(data, tmp_path / "run", base, schedule__lr=1e-9, schedule__lr_min=1e-9))
    old, new = read_model(base, dtype=None)[0], read_model(result.model, dtype=None)
    for name, value in old.named_parameters():
        torch.testing.assert_close(new[0].get_parameter(name), value, rtol=1e-6, atol=1e-7)
    info = new[1]
    assert info.name == "model" and info.training["base"] == "base"
    assert info.training["fine_tuned_on"] == ["O", "Mg"]
    assert dpa4.load(base).info.sha256 == info.training["base_sha256"] != ""


def found(records):
    """The learning rate of a run as its first record has it."""
    start = of_kind(records, "start")[0]
    assert start["config"]["schedule"]["lr"] == start["learning_rate"]["rate"]
    assert start["notes"]["learning rate"].startswith(f"{start['learning_rate']['rate']:.2g}; one step moves energies")
    return start["learning_rate"]


def test_the_learning_rate_is_what_the_errors_of_the_base_allow(tmp_path):
    """Labels near the answers of the base call for small steps, others for those of the recipe; a given rate stays."""
    base = base_file(tmp_path)
    near = answered(toy_structures(12), base)
    for atoms in near:
        atoms.calc.results["forces"] = 1.001 * atoms.calc.results["forces"]
    free = {"schedule__lr": None, "run__steps": 2}
    files = {"far": write(tmp_path, toy_frames(12), "far"), "near": write(tmp_path, near, "near")}
    runs = {name: recorded(finetuned(path, tmp_path / f"run {name}", base, **free))[1] for name, path in files.items()}
    far, near = (found(runs[name]) for name in files)
    assert far["rate"] == ALL_WEIGHTS.lr and far["limited_by"] == "" and len(far["moves"]) == 1
    assert near["rate"] < 0.5 * far["rate"] and near["limited_by"] in ("energy", "force", "stress")
    last = near["moves"][-1]
    assert last["force"] <= 0.6 * max(near["base"]["force"], FLOORS["force"])
    assert last["energy"] <= 0.6 * max(near["base"]["energy"], FLOORS["energy"])

    _, records = recorded(finetuned(files["near"], tmp_path / "given", base, schedule__lr=0.1, run__steps=2))
    assert found(records)["rate"] == 0.1
    assert [d["code"] for d in of_kind(records, "start")[0]["doubts"]] == ["rate"]
    # what was found goes on with the run, and the trial left no trace in the weights
    trainer = trainer_of(finetuned(files["near"], tmp_path / "run near", base, **free))
    assert trainer.config.schedule.lr == near["rate"]
    fresh = trainer_of(finetuned(files["near"], tmp_path / "fresh", base, **free))
    for name, value in read_model(base, dtype=None)[0].named_parameters():
        assert torch.equal(fresh.network.backbone.get_parameter(name), value)
    ladder = fresh.trials().ladder(1e-4)
    assert [move.rate for move in ladder] == sorted(move.rate for move in ladder)
    assert ladder[-1].force > 20 * ladder[0].force


def test_free_atoms_do_not_move_the_level_of_the_energies(tmp_path):
    """Of them a base knows nothing: it is wrong by eV, and stays so."""
    base = base_file(tmp_path)
    bound = answered(toy_structures(12, kinds=(0,)), base)
    free = []
    for symbol in ("Mg", "O"):
        atom = Atoms(symbol, cell=np.zeros((3, 3)))
        atom.calc = SinglePointCalculator(atom, energy=30.0)
        free.append(atom)
    options = {**STILL, "run__steps": 4, "run__validate_every": 2}
    held = write(tmp_path, bound[:3], "held")
    config = finetuned(write(tmp_path, bound[3:] + free), tmp_path / "run", base, data__validation=held, **options)
    records = of_kind(recorded(config)[1], "validation")
    assert max(record["energy_mae"] for record in records) < 1e-4


def test_what_has_no_stress_does_not_lower_the_learning_rate_found(tmp_path):
    base, free = base_file(tmp_path), {"schedule__lr": None, "run__steps": 1, "data__validation_fraction": 0.0}
    frames = {"crystals": (0,), "mixed": (0, 1)}
    moves = {}
    for name, kinds in frames.items():
        path = write(tmp_path, toy_frames(12, kinds=kinds), name)
        moves[name] = found(recorded(finetuned(path, tmp_path / f"run {name}", base, **free))[1])["moves"][0]["stress"]
    assert 0 < moves["mixed"] < 5 * moves["crystals"]


def test_energies_that_move_together_are_no_error(tmp_path):
    """The offsets of all elements, also of those that no frame holds, follow what steps do to every energy."""
    base = base_file(tmp_path, elements=("O", "Mg", "Ca"))
    data = write(tmp_path, answered(toy_structures(12), base))
    config = finetuned(data, tmp_path / "run", base, loss__energy=0.0, schedule__lr=3e-2, run__steps=5)
    result = train(config)
    before, after = offsets(base), offsets(result.model)
    moved = {symbol: after[symbol] - before[symbol] for symbol in before}
    assert [moved["O"], moved["Mg"]] == pytest.approx([moved["Ca"]] * 2, rel=1e-3)
    assert abs(moved["Ca"]) > 1e-3
    frames = answered(toy_structures(12), base)
    said = dpa4.predict([atoms.copy() for atoms in frames], dpa4.load(result.model, dtype="float64"))
    off = [(p.energy - a.calc.results["energy"]) / len(a) for p, a in zip(said, frames, strict=True)]
    assert abs(np.mean(off)) < 0.02 * abs(moved["Ca"])


def published(folder, elements=("O", "Mg", "Ca")):
    """A base whose card is that of a published model."""
    path = base_file(folder, elements=elements)
    model, info = read_model(path, dtype=None)
    card = {"level_of_theory": "PBE, PBE+U", "corrections": "OMat24", "trained_for": "inorganic crystals"}
    return write_model(model, replace(info, **card), folder / "published.dpa4")


def test_a_card_says_what_the_data_have_changed(tmp_path):
    """After a shift of the offsets, nothing of the energy scale of the base is left for the elements of the data."""
    base = published(tmp_path)
    data = write(tmp_path, answered([*toy_structures(8), *(bulk(e, "fcc", a=4.0) for e in ("Mg", "O"))], base, SHIFT))
    result = train(finetuned(data, tmp_path / "shifted", base, finetune__freeze=["species"], run__steps=1))
    info = dpa4.load(result.model).info
    assert (info.corrections, info.level_of_theory) == ("none", "unknown")
    assert set(info.zeros) == {"O", "Mg"} and len(set(info.zeros.values())) == 1 and info.undecided == ()
    assert info.elements == (8, 12, 20) and info.trained_for.startswith("10 frames of O, Mg (toy)")
    assert info.training["data"]["toy"] == {"sha256": sha256_of(Path(data)), "n_frames": 10}
    assert info.training["frozen"] == ["species"] and info.training["base_level_of_theory"] == "PBE, PBE+U"

    converted = tmp_path / "shifted.pt"
    convert(result.model, converted)
    again = read_model(converted)[1]
    assert (again.zeros, again.undecided, again.corrections) == (info.zeros, info.undecided, "none")

    named = {"level_of_theory": "PBEsol", "corrections": "MP2020", "run__steps": 1}
    info = dpa4.load(train(finetuned(data, tmp_path / "named", base, **named)).model).info
    assert (info.corrections, info.level_of_theory) == ("MP2020", "PBEsol")
    info = dpa4.load(train(finetuned(data, tmp_path / "kept", base, finetune__offsets="keep", run__steps=1)).model).info
    assert (info.corrections, info.level_of_theory, info.zeros) == ("OMat24", "PBE, PBE+U", {})


def test_a_second_shift_has_a_zero_of_its_own(tmp_path):
    base = published(tmp_path)
    pure = {e: [bulk(e, "fcc", a=a) for a in (3.9, 4.0, 4.1)] for e in ("Mg", "Ca")}
    paths = [write(tmp_path, answered(frames, base, SHIFT), e) for e, frames in pure.items()]
    for number, path in enumerate(paths):
        base = train(finetuned(path, tmp_path / str(number), base, run__steps=1)).model
    zeros = dpa4.load(base).info.zeros
    assert set(zeros) == {"Mg", "Ca"} and zeros["Mg"] != zeros["Ca"]


def test_one_frame_of_another_composition_tells_elements_apart(tmp_path, monkeypatch):
    """It is among those that the base is compared with, however few these are."""
    monkeypatch.setattr(network_module, "_SAMPLE_ATOMS", {"cpu": 4})
    base = published(tmp_path)
    other = toy_structures(1, kinds=(2,))
    other[0].symbols[0] = "Mg" if other[0].symbols[0] == "O" else "O"
    lone = answered([Atoms("O")], base, {"O": 7.0})  # of a free atom the base knows nothing
    frames = answered([*toy_structures(20, kinds=(0,)), *other], base, SHIFT)
    trainer = trainer_of(finetuned(write(tmp_path, [*frames, *lone]), tmp_path / "run", base))
    shift = dict(zip(trainer.network.backbone.config.elements, trainer.network.shift, strict=True))
    assert shift["O"] == pytest.approx(SHIFT["O"], abs=1e-5) and shift["Mg"] == pytest.approx(SHIFT["Mg"], abs=1e-5)
    assert trainer.network.info.undecided == ()


def test_elements_in_fixed_proportions_are_told(tmp_path):
    """Frames of one compound shift its energy, and say nothing about the zero of each element."""
    base = published(tmp_path)
    data = write(tmp_path, answered(toy_structures(6, kinds=(0, 2)), base, SHIFT))
    network = trainer_of(finetuned(data, tmp_path / "run", base)).network
    assert network.info.undecided == ("Mg", "O") and "Mg, O only together" in network.notes["energy zeros"]
    assert network.shift[:2] == pytest.approx([(SHIFT["Mg"] + SHIFT["O"]) / 2] * 2, abs=1e-5)  # O, Mg


def test_a_new_element_starts_like_a_known_one(tmp_path):
    base = base_file(tmp_path)
    structures = toy_structures(16)
    for atoms in structures:
        atoms.symbols[atoms.numbers == 12] = "Ca"
        atoms.set_cell(atoms.cell * 1.1, scale_atoms=True)
    data = write(tmp_path, [*labelled(structures), *toy_frames(8)])
    config = finetuned(data, tmp_path / "run", base, finetune__elements_like={"Ca": "Mg"})
    trainer = trainer_of(config)
    model = trainer.network.backbone
    names = model.config.elements
    assert names == ("O", "Mg", "Ca")
    assert torch.equal(model.species.table[2], model.species.table[1])
    assert "Ca like Mg" in trainer.network.notes["new elements"]
    result = train(config)
    potential = dpa4.load(result.model)
    assert potential.elements == {8, 12, 20}
    assert np.isfinite(dpa4.predict(structures[0], potential)[0].energy)
    without = finetuned(data, tmp_path / "scratch", base)
    assert "Ca from scratch" in trainer_of(without).network.notes["new elements"]
    assert train(without).status == "finished"


@pytest.mark.parametrize("group", ["backbone", "fitting", "species", "blocks.0"])
def test_frozen_groups_stay_as_they_are(tmp_path, group):
    base = base_file(tmp_path)
    data = write(tmp_path, toy_frames(12))
    result = train(finetuned(data, tmp_path / "run", base, finetune__freeze=[group], run__ema=0))
    old, new = read_model(base, dtype=None)[0], read_model(result.model, dtype=None)[0]
    same = {name for name, value in old.named_parameters() if torch.equal(new.get_parameter(name), value)}
    begins = {
        "backbone": ("species.", "film.", "basis.", "radial.", "blocks."),
        "fitting": ("fitting.",),
        "species": ("species.", "film.species."),
        "blocks.0": ("blocks.0.",),
    }[group]
    frozen = {name for name, _ in old.named_parameters() if name.startswith(begins)}
    assert frozen and frozen <= same and len(same) < len(dict(old.named_parameters()))


def test_an_unknown_group_is_refused(tmp_path):
    config = finetuned(write(tmp_path, toy_frames(6)), tmp_path / "run", base_file(tmp_path), finetune__freeze=["head"])
    with pytest.raises(DPA4Error, match="unknown parameter group 'head'"):
        train(config)


LORA = {"finetune__lora_rank": 2, "finetune__lora_alpha": 4.0, "schedule__lr": 1e-2, "run__ema": 0}


def test_adapters_are_trained_merged_and_leave_the_rest_alone(tmp_path):
    base = base_file(tmp_path)
    data = write(tmp_path, toy_frames(16))
    config = finetuned(data, tmp_path / "run", base, data__validation_fraction=0.0, **LORA)
    result, records = recorded(config)
    start = of_kind(records, "start")[0]
    assert start["n_trained"] < start["n_parameters"] and "rank 2" in start["notes"]["adapters"]
    old, new = read_model(base, dtype=None)[0], read_model(result.model, dtype=None)[0]
    assert new.state_dict().keys() == old.state_dict().keys()  # no adapters in the file
    stored = part("model", read_state(tmp_path / "run" / "checkpoint.safetensors").tensors)
    adapted = {name.removesuffix(".base.weight") for name in stored if name.endswith(".base.weight")}
    assert adapted
    for name in adapted:  # the matrices themselves did not move, the file holds their sum with the adapters
        assert torch.equal(stored[f"{name}.base.weight"], old.get_parameter(f"{name}.weight"))
        down, up = stored[f"{name}.adapter.down"], stored[f"{name}.adapter.up"]
        update = 2.0 * (up @ down).transpose(-1, -2)
        change = new.get_parameter(f"{name}.weight") - old.get_parameter(f"{name}.weight")
        torch.testing.assert_close(change, update, rtol=1e-9, atol=1e-12)
        assert update.abs().max() > 0
    # beside them the rows of the elements are trained: what these take over changes nothing else
    assert not torch.equal(new.species.table[:2], old.species.table[:2])
    assert not torch.equal(new.film.species.table[:2], old.film.species.table[:2])
    assert torch.equal(new.basis.frequencies, old.basis.frequencies)
    assert any(not torch.equal(new.get_parameter(n), p) for n, p in old.named_parameters() if n.startswith("fitting"))
    (prediction,) = dpa4.predict(toy_structures(1), dpa4.load(result.model))
    assert np.isfinite(prediction.energy)


def test_merged_model_answers_like_the_one_under_training(tmp_path):
    base = base_file(tmp_path)
    data = write(tmp_path, toy_frames(16))
    config = finetuned(data, tmp_path / "run", base, finetune__offsets="keep", **LORA)
    result = train(config)
    trainer = trainer_of(config)  # at its last checkpoint
    assert trainer.counters.step == 6
    system = trainer.data.store.system(1)
    graph = build_graph([system], CUTOFF)
    mine = dpa4.Potential(trainer.network.backbone).compute(graph)
    stored = dpa4.load(result.model, dtype="float64").compute(graph)
    torch.testing.assert_close(stored.energy, mine.energy, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(stored.forces, mine.forces, rtol=1e-9, atol=1e-10)


def test_a_run_that_ends_worse_than_its_base_keeps_part_of_its_change(tmp_path):
    """One step that is too long: a part of it is better in everything, and the file holds that part."""
    base = base_file(tmp_path)
    model, info = read_model(base, dtype=None)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.03 * torch.randn_like(parameter)
    data = write(tmp_path, answered(toy_structures(24), write_model(model, info, tmp_path / "truth.dpa4")))
    changes = {"data__validation_fraction": 0.2, "batch__max_atoms": 100, "run__steps": 1, "run__ema": 0}
    changes |= {"schedule__lr": 0.03, "schedule__kind": "constant", "schedule__warmup": 0, "optimizer__row_rate": 0.1}
    result, records = recorded(finetuned(data, tmp_path / "run", base, **changes))
    first, last, *parts = of_kind(records, "validation")
    assert last["worse"] and "share" not in last and [len(parts), parts[0]["share"]] == [3, 0.5]
    kept = [record for record in parts if record["improved"]][-1]
    assert all(kept[f"{name}_mae"] < first[f"{name}_mae"] for name in ("energy", "force", "stress"))
    assert kept["metric"] == min(record["metric"] for record in parts if "worse" not in record)
    stored = read_state(tmp_path / "run" / "checkpoint.safetensors").tensors
    start, end = part("start", stored), part("model", stored)
    new = read_model(result.model, dtype=None)[0]
    for name, value in start.items():
        torch.testing.assert_close(new.get_parameter(name), value + kept["share"] * (end[name] - value))
    assert result.errors["force_mae"] == kept["force_mae"]


@pytest.mark.parametrize(
    "options", [LORA, {"finetune__freeze": ["species", "radial"]}, {"finetune__elements_like": {"Ca": "Mg"}}]
)
def test_a_fine_tuning_run_goes_on_where_it_was_stopped(tmp_path, options):
    base = base_file(tmp_path)
    frames = toy_frames(12)
    for atoms in frames[8:]:
        if "finetune__elements_like" in options:
            atoms.symbols[atoms.numbers == 12] = "Ca"
    data = write(tmp_path, frames)
    replay = write(tmp_path, toy_frames(6, 8), "old")
    changes = {"finetune__replay": replay, "run__save_every": 3, "run__log_every": 1} | options
    train(finetuned(data, tmp_path / "whole", base, **changes))
    torn = finetuned(data, tmp_path / "torn", base, **changes)

    def notify(record):
        if record.get("step") == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(torn, notify=notify)
    train(torn)
    states = [read_state(tmp_path / name / "checkpoint.safetensors") for name in ("torn", "whole")]
    assert states[0].values["counters"]["step"] == 6
    for name, tensor in states[1].tensors.items():
        assert torch.equal(states[0].tensors[name], tensor), name


def test_replayed_energies_move_with_the_offsets(tmp_path):
    """What the base model said about its own data stays right when its zero of energy moves."""
    base = base_file(tmp_path)
    data = write(tmp_path, answered(toy_structures(12), base, SHIFT), "new")
    old = answered(toy_structures(9, 4), base)
    changes = {"finetune__replay": write(tmp_path, old, "old"), "finetune__replay_fraction": 0.5, "run__log_every": 1}
    config = finetuned(data, tmp_path / "run", base, **changes)
    trainer = trainer_of(config)
    arrays = trainer.data.store.arrays
    for i, atoms in zip(trainer.data.replay, old, strict=True):
        moved = atoms.calc.results["energy"] + sum(SHIFT[symbol] for symbol in atoms.symbols)
        assert arrays["energy"][i] == pytest.approx(moved, abs=1e-4)
        assert trainer.maker.make(np.array([i])).labels.energy.item() == arrays["energy"][i]
    errors, _ = trainer.errors(everything(trainer.data.store))
    assert max(errors) < 1e-5
    # the move is not made twice when the run goes on
    train(config)
    again = trainer_of(config)
    np.testing.assert_allclose(again.data.store.arrays["energy"], arrays["energy"], rtol=0, atol=1e-12)


def test_a_base_that_was_fine_tuned_can_be_fine_tuned(tmp_path):
    base = base_file(tmp_path)
    data = write(tmp_path, toy_frames(12))
    first = train(finetuned(data, tmp_path / "a", base))
    second = train(finetuned(data, tmp_path / "b", first.model, name="second"))
    info = dpa4.load(second.model).info
    assert info.name == "second" and info.training["base"] == "model"


# ---- properties


def with_property(n, seed=0):
    """Frames that carry their binding energy per atom as if it were a gap."""
    frames = toy_frames(n, seed)
    for atoms in frames:
        atoms.info["gap"] = -atoms.calc.results["energy"] / len(atoms)
    return frames


def property_run(data, folder, **changes):
    defaults = {
        "data__keys": {"properties": ["gap"]},
        "property": {"name": "gap", "unit": "eV"},
        "run__steps": 60,
        "run__validate_every": 20,
        "schedule__lr": 3e-2,
        "run__ema": 0.9,
    }
    return configured(data, folder, **defaults | changes)


@pytest.mark.parametrize("kind", ["intensive", "extensive"])
def test_a_property_is_learned_stored_and_loaded(tmp_path, kind):
    frames = with_property(40)
    factor = [len(atoms) if kind == "extensive" else 1 for atoms in frames]
    for atoms, n in zip(frames, factor, strict=True):
        atoms.info["gap"] *= n
    config = property_run(write(tmp_path, frames), tmp_path / "run", property__kind=kind)
    result, records = recorded(config)
    values = of_kind(records, "validation")
    spread = np.std([atoms.info["gap"] / n for atoms, n in zip(frames, factor, strict=True)])
    size = np.mean(factor)
    assert set(result.errors) == {"property_mae", "property_rmse"}
    assert result.errors["property_mae"] < 0.7 * spread * size  # the mean alone is off by 0.8
    assert values[-1]["property_mae"] == pytest.approx(result.errors["property_mae"])
    assert "energy_mae" not in of_kind(records, "train")[0]

    predictor = load_property(result.model, dtype="float64")
    head = predictor.model.config
    assert (head.name, head.unit, head.kind) == ("gap", "eV", kind) and predictor.info.name == "model"
    held = with_property(6, 50)
    found = [
        prediction.value / (len(atoms) if kind == "extensive" else 1)
        for prediction, atoms in zip(predict_property(held, predictor), held, strict=True)
    ]
    assert np.abs(np.array(found) - [atoms.info["gap"] for atoms in held]).mean() < 0.6 * spread


def test_a_property_run_goes_on_where_it_was_stopped(tmp_path):
    data = write(tmp_path, with_property(16))
    changes = {"run__steps": 6, "run__save_every": 3, "run__log_every": 1}
    whole = train(property_run(data, tmp_path / "whole", **changes))
    torn = property_run(data, tmp_path / "torn", **changes)

    def notify(record):
        if record.get("step") == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(torn, notify=notify)
    assert train(torn).errors == whole.errors
    states = [read_state(tmp_path / name / "checkpoint.safetensors") for name in ("torn", "whole")]
    assert all(torch.equal(states[0].tensors[name], tensor) for name, tensor in states[1].tensors.items())


def test_a_property_on_a_pretrained_descriptor(tmp_path):
    base = base_file(tmp_path)
    data = write(tmp_path, with_property(12))
    common = {"preset": None, "model": None, "base": str(base), "run__steps": 4}
    for name, changes in {
        "plain": {},
        "adapters": {"finetune__lora_rank": 2},
        "frozen": {"finetune__freeze": ["backbone"]},
    }.items():
        result = train(property_run(data, tmp_path / name, **common | changes))
        assert np.isfinite(result.errors["property_mae"])
        predictor = load_property(result.model)
        assert len(predict_property(toy_structures(2), predictor)) == 2


def test_frames_without_the_property_are_left_out(tmp_path):
    frames = [*with_property(8), *toy_frames(2, 30)]
    _, records = recorded(property_run(write(tmp_path, frames), tmp_path / "run", run__steps=1))
    data = of_kind(records, "start")[0]["data"]
    assert data["n_left_out"] == 2 and "no property 'gap'" in data["left_out"][0][1]


def test_charges_that_the_network_does_not_see_are_named(tmp_path):
    frames = toy_frames(6)
    for atoms in frames[:2]:
        atoms.info.update(charge=1, spin=2)
    config = configured(write(tmp_path, frames), tmp_path / "run", run__steps=1)
    assert trainer_of(config).network.notes["charge and spin"].startswith("2 frames")
    seeing = configured(write(tmp_path, frames), tmp_path / "seeing", run__steps=1, model__charge_spin=[0, 1])
    assert "charge and spin" not in trainer_of(seeing).network.notes


def test_offsets_keep_all_their_digits_in_single_precision(tmp_path):
    """An all-electron energy of 10⁵ eV has no room for meV in float32."""
    base = base_file(tmp_path)
    shift = {"O": -2041.123456, "Mg": -54321.654321}
    data = write(tmp_path, answered(toy_structures(12), base, shift), "new")
    train(finetuned(data, tmp_path / "run", base, run__dtype="float32", run__steps=1, run__ema=0.0, **STILL))
    before, after = (read_model(path, dtype=None)[0] for path in (base, tmp_path / "run" / "model.dpa4"))
    assert after.dtype == torch.float32 and after.out_bias.dtype == torch.float64
    moved = (after.out_bias - before.out_bias).ravel().tolist()
    assert moved == pytest.approx([shift[symbol] for symbol in after.config.elements], abs=5e-4)

"""What a fine-tune does to other systems, measured and held off with labels of the base itself."""

import dataclasses
from contextlib import contextmanager

import ase.io
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from toy_training import base_file, configured, of_kind, recorded, toy_frames, write

import dpa4_core as dpa4
from dpa4_core.data.structures import to_system
from dpa4_core.model.checkpoint import read_model, write_model
from dpa4_core.train import others as others_module
from dpa4_core.train import standing as standing_module
from dpa4_core.train import trainer as trainer_module
from dpa4_core.train.distributed import Processes
from dpa4_core.train.forgetting import REPLAY, forgetting, other_systems
from dpa4_core.train.others import Others
from dpa4_core.train.outcome import assess
from dpa4_core.train.trainer import Trainer, train

EVERYTHING = set(range(1, 95))


def test_other_systems_are_many_kinds_of_crystal_and_those_of_replay_are_others():
    measured, replayed = (other_systems(use, EVERYTHING) for use in ("measure", "replay"))
    kinds = [{atoms.get_chemical_formula() for atoms in systems} for systems in (measured, replayed)]
    assert len(measured) == len(kinds[0]) == 20 and not kinds[0] & kinds[1]
    for systems, n in ((measured, 60), (replayed, 80)):
        assert len({z for atoms in systems for z in atoms.numbers.tolist()}) >= n
        for atoms in systems:
            assert atoms.pbc.all() and atoms.get_all_distances(mic=True)[~np.eye(len(atoms), dtype=bool)].min() > 0.7
    level = other_systems("level", EVERYTHING)
    formulas = {atoms.get_chemical_formula() for atoms in level}
    assert len(formulas) == 160 and kinds[1] < formulas and not formulas & kinds[0]
    judge, back = (compositions(other_systems(use, EVERYTHING)) for use in ("judge", "back"))
    assert len(judge) == 120 and len(back) == 1080 and not judge & back
    assert not compositions(measured + level) & (judge | back)
    again = other_systems("measure", EVERYTHING)
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(measured, again, strict=True))
    assert other_systems("measure", {8, 12}) == []  # only what the model knows


@pytest.fixture
def broad(tmp_path, monkeypatch):
    """A base that knows every element of the bundled systems, beside fewer of those that bring a run back: seconds."""

    def fewer(use, known):
        return other_systems(use, known)[:: 10 if use == "back" else 1]

    monkeypatch.setattr(others_module, "other_systems", fewer)
    return base_file(tmp_path, elements=tuple(chemical_symbols[z] for z in sorted(EVERYTHING)), cutoff=3.0)


def compositions(systems):
    return {atoms.symbols.formula.reduce()[0].format("hill") for atoms in systems}


def changed(base, path, change):
    """The model in ``base`` after ``change``."""
    model, info = read_model(base, dtype=None)
    with torch.no_grad():
        change(model)
    return dpa4.load(write_model(model, info, path), dtype="float64")


def test_shifted_offsets_of_the_trained_elements_are_no_change_and_a_common_level_is_one(broad, tmp_path):
    base = dpa4.load(broad, dtype="float64")
    trained = {8, 12, 22}
    rows = [base.model.config.atomic_numbers.index(z) for z in trained]

    def moved(level, shift):
        def change(model):
            model.out_bias += level
            model.out_bias[0, rows] += shift

        return forgetting(base, changed(broad, tmp_path / "moved.dpa4", change), trained)

    still = moved(0.0, 5.0)
    assert still.n_systems == 20 and still.energy_max < 1e-9 and still.force_max < 1e-9
    raised = moved(0.3, 5.0)
    assert raised.energy_median == pytest.approx(0.3) == raised.energy_max
    bent = forgetting(base, changed(broad, tmp_path / "bent.dpa4", lambda m: m.fitting.weights[0].mul_(1.1)), trained)
    assert bent.energy_max > bent.energy_median > 1e-4 and bent.force_max > bent.force_median > 1e-4


def test_elements_that_are_not_trained_stay_on_the_zero_of_the_base(broad, tmp_path, monkeypatch):
    """Steps move the energies of all elements; only those of the trained ones have data to follow."""
    trained = {8, 12, 22}
    base, model = (dpa4.load(broad, dtype="float64") for _ in range(2))
    numbers = base.model.config.atomic_numbers
    others = Others(model.model, EVERYTHING, trained)
    model.model.fit_bias += 0.3
    model.model.fit_bias.view(-1)[numbers.index(79)] += 0.1
    others.hold(others.look())
    moved = (model.model.out_bias - base.model.out_bias).view(-1)
    assert not moved[[numbers.index(z) for z in trained]].any()
    assert -0.4 < moved[numbers.index(79)] < -0.305 < -0.302 < moved[numbers.index(11)] < -0.298
    assert forgetting(base, model, trained).energy_median < 1e-3

    # the model of a run is such a one by its offsets alone, also of one that goes on
    monkeypatch.setattr(trainer_module, "_TURNS", 0)
    frames = toy_frames(12)
    common = {"preset": None, "model": None, "base": str(broad), "run__steps": 4, "schedule__lr": 1e-2}
    config = configured(write(tmp_path, frames), tmp_path / "run", data__validation_fraction=0.0, **common)
    train(config)
    model, trained = (
        dpa4.load(tmp_path / "run" / "model.dpa4", dtype="float64"),
        {*np.concatenate([a.numbers for a in frames])},
    )
    moved = (model.model.out_bias - base.model.out_bias).view(-1)
    rest = [row for row, z in enumerate(numbers) if z not in trained]
    found = forgetting(base, model, trained)
    assert found.energy_median < 0.5 * abs(float(moved[rest].median()))
    again = Trainer(config, Processes(0, 1, torch.device("cpu")), lambda record: None)
    judges = other_systems("judge", EVERYTHING - trained)
    assert len(again.others.before) == len(again.others.systems) == 160 + len(judges) and len(judges) > 60


def test_the_weights_take_back_what_offsets_cannot_say(broad):
    model = dpa4.load(broad, dtype="float64")
    parameters = list(model.model.requires_grad_(True).parameters())
    others = Others(model.model, EVERYTHING, {8, 12, 22})
    others.prepare()
    assert others.way_back(parameters) is None  # nothing has happened
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in parameters:
            parameter += 1e-2 * torch.randn_like(parameter)
    way, own, offsets = (
        others.way_back(parameters),
        [p.detach().clone() for p in parameters],
        model.model.out_bias.clone(),
    )
    left, unseen = {}, {}
    for share in (-1, 0, 1, 2):
        with torch.no_grad():
            torch._foreach_copy_(parameters, torch._foreach_add(own, way, alpha=share))
        model.model.out_bias.copy_(offsets)
        moved = others.look()
        left[share] = float(np.median(np.abs(moved.left_out[others._apart])))
        unseen[share] = moved.unseen
    assert 0.9 * left[0] > left[1] > left[2] and left[-1] > left[0] > 1e-3, left
    assert unseen[-1] > unseen[0] > unseen[1], unseen  # crystals that gave no gradient, too
    assert max(float(step.abs().max()) for step in way) < 1e-2


def test_very_many_crystals_are_brought_back_at_the_end_of_a_run_that_changed_others_too_much(
    broad, tmp_path, monkeypatch
):
    """Random weights know no kinship of elements, so that here those that judge are asked, too."""

    def judged_by_asked(use, known):
        return other_systems("back", known)[::10] if use in ("back", "judge") else other_systems(use, known)

    monkeypatch.setattr(others_module, "other_systems", judged_by_asked)
    monkeypatch.setattr(trainer_module, "_STAY_FRAMES", 3)
    frames = toy_frames(12)
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())  # one quantity to become better
    common = {"preset": None, "model": None, "base": str(broad), "data__split_by": "frame"}
    common |= {"run__steps": 12, "schedule__lr": 5e-3}
    data, ends = write(tmp_path, frames), {}
    for name, price, changes in (
        ("dear", 0.0, {}),
        ("cheap", 0.9, {}),
        ("late", 0.9, {"run__max_time": 1e-4}),
        ("blind", 0.9, {"data__validation_fraction": 0.0, "run__steps": 8, "schedule__lr": 1e-2}),
    ):
        monkeypatch.setattr(standing_module, "_PRICE", price)
        config = configured(data, tmp_path / name, **common | changes)
        result, records = recorded(config)
        ends[name] = result, of_kind(records, "validation"), of_kind(records, "measuring")
    for name, preferred in {"dear": False, "cheap": True}.items():
        result, (*_, end, first, back), said = ends[name]
        assert end["step"] == first["step"] == back["step"] == 12 and len(said) == 2
        assert first["brought_back"] and back["brought_back"] and "brought_back" not in end
        assert end["forgotten"] > 1.1 * back["forgotten"] and first["forgotten"] > 2e-3
        assert 1.1 * end["metric"] > back["metric"] > end["metric"] and back["improved"] == preferred
        assert (result.errors["energy_mae"] == back["energy_mae"]) == preferred
    # nothing is brought back where no second is left, and without validation all the same
    assert not any("brought_back" in record for record in ends["late"][1])
    assert ends["blind"][2]


def test_coming_back_leaves_trained_frames_as_they_are(broad):
    model = dpa4.load(broad, dtype="float64")
    frames = toy_frames(6)
    parameters = list(model.model.requires_grad_(True).parameters())
    beside = Others(model.model, EVERYTHING, {z for atoms in frames for z in atoms.numbers.tolist()})
    first = [p.detach().clone() for p in parameters]
    torch.manual_seed(0)
    own = [p + 1e-2 * torch.randn_like(p) for p in first]

    @torch.no_grad()
    def put(values):
        torch._foreach_copy_(parameters, values)

    @contextmanager
    def at_start():
        put(first)
        yield
        put(own)

    def answers():
        said = dpa4.predict(frames, model, strict=True)
        energies = np.array([p.energy / len(p.forces) for p in said])
        return (
            energies - energies.mean(),
            np.concatenate([p.forces for p in said]),
            np.array([p.stress for p in said if p.stress is not None]),
        )

    changes, left = {}, {}
    for name, stay in {"free": frames[:0], "held": frames}.items():
        put(own)
        before, forgotten = answers(), beside.look().left[beside._apart]
        way = beside.way_back_at_end(parameters, at_start, [to_system(atoms) for atoms in stay], 0.3)
        put(torch._foreach_add(own, way))
        changes[name] = [np.abs(a - b).mean() for a, b in zip(answers(), before, strict=True)]
        left[name] = np.median(np.abs(beside.look().left[beside._apart])) / np.median(np.abs(forgotten))
    assert left["free"] < left["held"] < 0.8
    assert all(held < 0.5 * free for held, free in zip(changes["held"], changes["free"], strict=True)), changes


@pytest.mark.parametrize(
    ("score", "best", "worth"),
    [
        (0.5, 0.6, True),
        (0.63, 0.6, True),
        (0.65, 0.6, False),
        (1.01, 1.0, False),
        (0.9, None, True),
        (float("nan"), 0.6, False),
    ],
)
def test_less_forgetting_may_cost_a_tenth_of_what_was_gained(score, best, worth):
    assert standing_module.worth_less_forgetting(score, best) == worth


def test_a_run_measures_what_it_forgets_and_reminds_itself_with_labels_of_the_base(broad, tmp_path):
    data = write(tmp_path, toy_frames(12))
    common = {"preset": None, "model": None, "base": str(broad), "run__steps": 3, "data__validation_fraction": 0.0}
    config = configured(data, tmp_path / "run", finetune__replay_own=True, finetune__replay_fraction=0.5, **common)
    _, records = recorded(config)
    n_systems = len(other_systems("replay", EVERYTHING))
    assert of_kind(records, "start")[0]["data"]["n_replay"] == n_systems == 80
    said = ase.io.read(tmp_path / "run" / REPLAY, ":")
    answers = dpa4.predict([atoms.copy() for atoms in said], dpa4.load(broad, dtype="float64"))
    for atoms, answer in zip(said, answers, strict=True):
        assert atoms.get_potential_energy() == pytest.approx(answer.energy, abs=1e-6)
        np.testing.assert_allclose(atoms.get_forces(), answer.forces, atol=1e-6)
    found = assess(tmp_path / "run").forgetting
    assert found.n_systems == 20 and found.energy_max >= found.energy_median > 0

    # the folder may move, and another base writes its own labels
    (tmp_path / "run").rename(tmp_path / "moved")
    assert train(
        configured(data, tmp_path / "moved", finetune__replay_own=True, finetune__replay_fraction=0.5, **common)
    )
    broad.unlink()
    assert assess(tmp_path / "moved").forgetting is None


def test_the_best_model_is_one_that_changes_other_systems_by_less_than_is_allowed(broad, tmp_path):
    frames = toy_frames(12)
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())  # one quantity to become better
    common = {"preset": None, "model": None, "base": str(broad), "run__steps": 6, "run__validate_every": 2}
    config = configured(write(tmp_path, frames), tmp_path / "run", schedule__lr=3e-3, data__split_by="frame", **common)

    def of_limit(limit):
        changed = dataclasses.replace(
            config,
            output=str(tmp_path / f"run{limit}"),
            finetune=dataclasses.replace(config.finetune, max_forgetting=limit),
        )
        result, records = recorded(changed)
        return result, [record for record in of_kind(records, "validation") if record["step"]]

    _, free = of_limit(0.0)
    result, loose = of_limit(1.0)
    assert [r["improved"] for r in loose] == [r["improved"] for r in free] and any(r["improved"] for r in free)
    measured = assess(result.folder).forgetting.energy_median
    assert 0.3 * measured < [r["forgotten"] for r in loose if r["improved"]][-1] < 3 * measured
    result, tight = of_limit(1e-7)
    assert not any(r["improved"] for r in tight) and any(r.get("worse") == ["other systems"] for r in tight)
    (warning,) = assess(result.folder).worse
    assert warning["code"] == "forgets_too_much" and warning["after"] == min(
        r["forgotten"] for r in tight if "forgotten" in r
    )
    with pytest.raises(dpa4.DPA4Error, match="data.validation_fraction"):
        recorded(
            dataclasses.replace(
                config,
                data=dataclasses.replace(config.data, validation_fraction=0.0),
                finetune=dataclasses.replace(config.finetune, max_forgetting=1.0),
                output=str(tmp_path / "none"),
            )
        )


def test_without_the_base_nothing_is_replayed(tmp_path):
    with pytest.raises(dpa4.DPA4Error, match="needs base"):
        Trainer(configured(write(tmp_path, toy_frames(6)), tmp_path / "run", finetune__replay_own=True), None, None)

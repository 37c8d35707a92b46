"""From files to the frames of a run: what is left out and why, how it is split, and that it is read once."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from toy_training import (
    CUTOFF,
    base_file,
    configured,
    labelled,
    of_kind,
    recorded,
    stored_frames,
    toy_frames,
    toy_structures,
    write,
)

from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.splits import split_blocks
from dpa4_core.data.structures import to_system
from dpa4_core.data.twins import invariants, twin_classes
from dpa4_core.errors import DPA4Error
from dpa4_core.train import dataset as dataset_module
from dpa4_core.train import store as store_module
from dpa4_core.train.dataset import prepare
from dpa4_core.train.distributed import Processes
from dpa4_core.train.feed import frames_of
from dpa4_core.train.network import sample_frames
from dpa4_core.train.store import open_store
from dpa4_core.train.trainer import Trainer, train


def prepared(config, folder):
    return prepare(config, folder, CUTOFF)


def trainer_of(config):
    return Trainer(config, Processes(0, 1, torch.device("cpu")), lambda record: None)


def test_frames_arrive_as_they_are(tmp_path):
    frames = toy_frames(7)
    data = prepared(configured(write(tmp_path, frames), tmp_path, data__validation_fraction=0.0), tmp_path / "store")
    store, arrays = data.store, data.store.arrays
    assert store.n_frames == 7 and data.train.tolist() == list(range(7)) and not len(data.validation)
    assert store.elements == (8, 12)
    for i, atoms in enumerate(frames):
        system, original = store.system(i), to_system(atoms)
        assert system.numbers.tolist() == original.numbers.tolist() and system.pbc.tolist() == original.pbc.tolist()
        np.testing.assert_allclose(system.positions, atoms.positions, atol=1e-7)  # the file has eight digits
        np.testing.assert_allclose(system.cell, np.array(atoms.cell) if system.periodic else 0, atol=1e-7)
        assert arrays["energy"][i] == pytest.approx(atoms.calc.results["energy"], abs=1e-7)
        rows = slice(store.first[i], store.first[i + 1])
        np.testing.assert_allclose(arrays["forces"][rows], atoms.calc.results["forces"], atol=1e-7)
        assert arrays["n_edges"][i] == build_graph([original], CUTOFF).n_edges
        assert np.isnan(arrays["stress"][i]).all() == (not system.periodic)
    assert store.composition((12, 1, 8)).tolist() == [
        [list(atoms.numbers).count(z) for z in (12, 1, 8)] for atoms in frames
    ]


def test_frames_that_cannot_be_used_are_listed_with_their_reasons(tmp_path):
    frames = toy_frames(6)
    hard, close, copy, bare, wrong = (frames[i].copy() for i in (0, 1, 2, 3, 4))
    for atoms, original in ((hard, 0), (close, 1), (copy, 2), (wrong, 4)):
        atoms.calc = type(frames[0].calc)(atoms, **frames[original].calc.results)
    hard.positions += 0.1
    hard.calc.results["forces"] = np.array([[60.0, 0.0, 0.0], [-60.0, 0.0, 0.0]])
    close.positions[1] = close.positions[0] + [0.2, 0.0, 0.0]
    wrong.positions += 0.05
    wrong.calc.results["forces"] = wrong.calc.results["forces"] * np.nan
    wrong.calc.results.pop("stress", None)
    path = write(tmp_path, [*frames, hard, close, copy, bare, wrong])
    with Path(path).open("a") as file:
        file.write('2\nLattice="1 0 0 0 1 0 0 0 1" Properties=species:S:1:pos:R:3\nO 0 0\n')
    data = prepared(configured(path, tmp_path), tmp_path / "store")
    assert data.store.n_frames == 7  # the one without finite forces has an energy
    reasons = [sentence for _, sentence in data.left_out]
    for number, expected in enumerate(
        (
            "a force of 60 eV/Å, above data.max_force = 50",
            "apart",
            "an exact copy of an earlier frame",
            "neither energy nor forces nor stress",
            "forces: the reference is not finite and was left out",
        )
    ):
        assert expected in reasons[number] and "toy.extxyz" in reasons[number], reasons
    assert len(reasons) == 6 and "toy.extxyz" in reasons[5]  # the broken end of the file
    assert len({name for name, _ in data.left_out}) == 6
    assert not data.store.arrays["has_forces"][6] and np.isfinite(data.store.arrays["energy"][6])

    loose = configured(path, tmp_path, "data.max_force=100", "data.min_distance_ratio=0", "data.drop_duplicates=false")
    assert prepared(loose, tmp_path / "loose").store.n_frames == 10


def test_left_out_frames_are_in_the_log(tmp_path):
    frames = toy_frames(8)
    _, records = recorded(configured(write(tmp_path, [*frames, frames[2]]), tmp_path / "run", run__steps=1))
    (start,) = of_kind(records, "start")
    assert start["data"]["n_left_out"] == 1 and "exact copy" in start["data"]["left_out"][0][1]
    assert start["data"]["sources"]["toy"]["n_frames"] == 9


def test_nothing_to_train_on_is_one_sentence(tmp_path):
    bare = toy_structures(3)
    config = configured(write(tmp_path, bare), tmp_path / "run")
    with pytest.raises(DPA4Error, match="no usable frame in .*toy.extxyz; first: .*neither energy nor forces"):
        train(config)
    with pytest.raises(DPA4Error, match="there is no file .*missing.extxyz"):
        train(configured(str(tmp_path / "missing.extxyz"), tmp_path / "other"))


def grouped_frames():
    """Ten frames each of four materials in turn, told by ``group``."""
    frames = toy_frames(40, kinds=(0,))
    for i, atoms in enumerate(frames):
        atoms.info["group"] = "abcd"[i % 4]
    return frames


def split(tmp_path, how, **changes):
    config = configured(write(tmp_path, grouped_frames()), tmp_path, data__split_by=how, **changes)
    data = prepared(config, tmp_path / "store")
    assert sorted([*data.train, *data.validation]) == list(range(40))
    return data


def of_groups(tmp_path, groups):
    """The data of frames that say which group they belong to."""
    frames = labelled(toy_structures(len(groups), kinds=(0,)))
    for frame, group in zip(frames, groups, strict=True):
        frame.info["config_type"] = group
    config = configured(write(tmp_path, frames), tmp_path, data__split_by="group")
    return prepared(config, tmp_path / "store")


def test_groups_stay_together(tmp_path):
    data = of_groups(tmp_path, [f"g{i % 10}" for i in range(40)])
    assert len(data.validation) == 8 and len(set(data.validation % 10)) == 2
    assert data.note == "validation: 2 of 10 groups, none of which is trained on"


def test_files_stay_together_when_asked_to(tmp_path):
    frames = labelled(toy_structures(40, kinds=(0,)))
    (tmp_path / "files").mkdir()
    for number in range(10):
        write(tmp_path / "files", frames[4 * number : 4 * number + 4], f"f{number}")
    config = configured(str(tmp_path / "files"), tmp_path, data__split_by="source")
    data = prepared(config, tmp_path / "store")
    assert len(data.validation) == 8 and len(set(data.validation // 4)) == 2
    assert data.note == "validation: 2 of 10 files, none of which is trained on"


def test_few_groups_give_the_end_of_each(tmp_path):
    data = split(tmp_path, "group")
    assert data.validation.tolist() == list(range(32, 40)) and "too few groups" in data.note


def test_an_element_is_never_taken_out_of_training(tmp_path):
    kinds = [0] * 24 + [1] * 6  # the second kind of structure holds elements of its own
    frames = labelled(toy_structures(30, kinds=(0,)))
    for number in range(24, 30):
        frames[number].symbols[:] = "Al"
    for number, kind in enumerate(kinds):
        frames[number].info["config_type"] = f"k{kind}-{number // 4 if not kind else 0}"
    for seed in range(4):
        place = tmp_path / str(seed)
        place.mkdir()
        config = configured(write(place, frames), place, data__split_by="group", run__seed=seed)
        data = prepared(config, place / "store")
        assert (data.store.composition(data.store.elements)[data.train].sum(axis=0) > 0).all()
        assert 3 <= len(data.validation) <= 12


def materials(n, elements, seed=0):
    """One frame each of ``n`` binary compounds that say which material they are."""
    random = np.random.default_rng(seed)
    structures = []
    for i in range(n):
        a, b = random.choice(len(elements), 2, replace=False)
        atoms = bulk("MgO", "cesiumchloride", a=3.1 + 0.002 * i)
        atoms.symbols[:] = [elements[a], elements[b]]
        atoms.info["material_id"] = f"m-{i}"
        structures.append(atoms)
    return structures


def split_of(tmp_path, frames, name="store", **changes):
    for i, atoms in enumerate(frames):
        atoms.calc = SinglePointCalculator(atoms, energy=float(i), forces=np.zeros((len(atoms), 3)))
    config = configured(write(tmp_path, frames), tmp_path, **{"data__split_by": "group"} | changes)
    return prepared(config, tmp_path / name)


def test_rare_elements_do_not_use_up_the_frames_for_validation(tmp_path):
    """Most of the 80 elements are in few of the 200 materials, some in one only."""
    frames = materials(200, chemical_symbols[3:83])
    for number, symbol in ((3, "Ac"), (90, "Th"), (91, "Pa")):
        frames[number].symbols[0] = symbol
    data = split_of(tmp_path, frames, data__validation_fraction=0.1)
    assert 18 <= len(data.validation) <= 22
    assert (data.store.composition(data.store.elements)[data.train].sum(axis=0) > 0).all()
    assert "200 groups, none of which is trained on" in data.note
    assert "since nothing else holds" in data.note and "Ac, Th, Pa" in data.note


@pytest.mark.parametrize("split_by", ["group", "block", "frame"])
def test_copies_by_symmetry_are_on_one_side(tmp_path, split_by):
    """Turned, mirrored, shifted, reordered and repeated copies that call themselves other materials."""
    random = np.random.default_rng(1)
    frames = toy_structures(12, kinds=(2,))
    for original in list(frames):
        other = original.copy()
        other.rotate(random.uniform(0, 180), random.normal(size=3), rotate_cell=True)
        other = other[random.permutation(len(other))]
        other.positions += random.normal(size=3)
        other.wrap()
        mirrored = original.repeat((1, 2, 1))
        mirrored.set_cell(mirrored.cell * [-1, 1, 1], scale_atoms=True)
        frames += [other, mirrored]
    for number, atoms in enumerate(frames):
        atoms.info["material_id"] = f"m{number if split_by == 'group' else number // 12}"
    data = split_of(tmp_path, frames, data__split_by=split_by)
    origin = np.array([i if i < 12 else (i - 12) // 2 for i in range(36)])
    assert 6 <= len(data.validation) <= 9
    assert not set(origin[data.validation]) & set(origin[data.train])
    config = configured(write(tmp_path, frames[:12], "a"), tmp_path, data__validation=write(tmp_path, frames[12:], "b"))
    assert "12 training frames are copies of them by symmetry" in prepared(config, tmp_path / "given").note


def test_displaced_atoms_are_no_copy():
    perfect = bulk("MgO", "rocksalt", a=4.2, cubic=True)
    systems = [to_system(perfect)]
    for seed in range(5):
        moved = perfect.copy()
        moved.rattle(0.01, seed=seed)
        systems.append(to_system(moved))
    vectors = np.array([invariants(build_graph([system], CUTOFF), CUTOFF) for system in systems])
    classes = twin_classes(np.concatenate([vectors, vectors + 1e-7]), np.full((12, 2), 4))
    assert len(set(classes[:6])) == 6 and (classes[:6] == classes[6:]).all()
    assert twin_classes(vectors[[0, 0]], np.array([[4, 4], [8, 8]])).tolist() == [0, 0]
    assert len(set(twin_classes(vectors[[0, 0]], np.array([[4, 4], [4, 8]])))) == 2


def test_many_small_or_few_large_groups_leave_enough_to_validate(tmp_path):
    """Where whole groups will not do, the sentence says why, and what is taken is about what was asked for."""
    frames = toy_structures(40, kinds=(0,))
    for number, atoms in enumerate(frames):
        atoms.info["material_id"] = "most" if number < 34 else f"m{number}"
    data = split_of(tmp_path, frames, "large", data__validation_fraction=0.5)
    assert len(data.validation) >= 10 and "whole groups that can be spared are 6 frames" in data.note
    frames = toy_structures(4, kinds=(0,))
    for number, atoms in enumerate(frames):
        atoms.info["material_id"] = f"m{number}"
    data = split_of(tmp_path, frames, "few", data__validation_fraction=0.5)
    assert len(data.validation) and "too few groups to set whole ones aside: 4" in data.note
    data = split_of(tmp_path, [frames[0], frames[0].repeat((1, 1, 2))], "copies")
    assert not len(data.validation) and "copies of one structure" in data.note


def test_small_groups_share_what_is_set_aside(tmp_path):
    groups = [f"g{i // 4}" for i in range(40)]
    taken = split_blocks(groups, 0.1)
    assert taken.sum() == 4 and all(taken[i] <= taken[i + 1] for i in range(39) if groups[i] == groups[i + 1])
    assert split_blocks(["a"] * 4, 0.1).tolist() == [False, False, False, True]


def test_nothing_but_a_store_is_ever_replaced(tmp_path):
    config = configured(write(tmp_path, toy_frames(6)), tmp_path)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "mine.txt").write_text("precious")
    with pytest.raises(DPA4Error, match=r"mine\.txt"):
        prepared(config, tmp_path / "store")
    assert (tmp_path / "store" / "mine.txt").read_text() == "precious"


def test_validation_that_cannot_be_used_is_an_error(tmp_path):
    paths = write(tmp_path, toy_frames(6), "a"), tmp_path / "b.extxyz"
    ase.io.write(paths[1], toy_structures(2))
    with pytest.raises(DPA4Error, match=r"no usable frame in data\.validation"):
        prepared(configured(paths[0], tmp_path, data__validation=str(paths[1])), tmp_path / "store")


def test_a_run_goes_on_when_its_sources_are_touched_or_gone(tmp_path):
    path = Path(write(tmp_path, toy_frames(6)))
    config = configured(str(path), tmp_path)
    first = prepared(config, tmp_path / "store")
    os.utime(path, (0, 0))
    assert prepared(config, tmp_path / "store").store.key == first.store.key
    path.unlink()
    again = prepare(config, tmp_path / "store", 4.0, known_key=first.store.key)
    assert again.train.tolist() == first.train.tolist()


def test_sources_of_one_name_keep_their_summaries(tmp_path):
    for name, n in (("c1", 3), ("c2", 4)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, toy_frames(n, seed=n), "OUT")
    config = configured([str(tmp_path / name / "OUT.extxyz") for name in ("c1", "c2")], tmp_path)
    data = prepared(config, tmp_path / "store")
    assert [summary["n_frames"] for summary in data.summaries.values()] == [3, 4]


def test_a_key_that_no_frame_has_is_an_error(tmp_path):
    config = configured(write(tmp_path, toy_frames(6)), tmp_path, data__keys={"energy": "E_dft"})
    with pytest.raises(DPA4Error, match="E_dft"):
        prepared(config, tmp_path / "store")


def test_blocks_are_the_end_of_each_group(tmp_path):
    data = split(tmp_path, "block")
    assert data.validation.tolist() == list(range(32, 40)) and "the last 20 % of the frames" in data.note


def test_frames_are_drawn_at_random_when_asked_to(tmp_path):
    data = split(tmp_path, "frame")
    assert len(data.validation) == 8 and data.validation.tolist() != list(range(32, 40))
    other = split(tmp_path, "frame", run__seed=1)
    assert other.validation.tolist() != data.validation.tolist()


def test_given_validation_frames_are_used_as_they_are(tmp_path):
    frames = toy_frames(9)
    train_path, validation_path = write(tmp_path, frames[:6], "a"), write(tmp_path, frames[6:], "b")
    data = prepared(configured(train_path, tmp_path, data__validation=validation_path), tmp_path / "store")
    assert len(data.train) == 6 and data.validation.tolist() == [0, 1, 2]
    assert data.note == "validation frames were given" and set(data.summaries) == {"a", "b"}


def test_a_frame_for_validation_is_not_trained_on(tmp_path):
    frames = toy_frames(6)
    paths = write(tmp_path, frames, "a"), write(tmp_path, [*toy_frames(3, 9), frames[1]], "b")
    data = prepared(configured(paths[0], tmp_path, data__validation=paths[1]), tmp_path / "store")
    assert len(data.validation) == 4 and len(data.train) == 5 and len(data.left_out) == 1


def test_a_store_is_read_once(tmp_path, monkeypatch):
    config = configured(write(tmp_path, toy_frames(9)), tmp_path)
    first = prepared(config, tmp_path / "store")
    monkeypatch.setattr(dataset_module, "read_frames", None)
    again = prepared(config, tmp_path / "store")
    assert again.train.tolist() == first.train.tolist() and again.validation.tolist() == first.validation.tolist()
    assert again.left_out == first.left_out and again.summaries == json.loads(json.dumps(first.summaries))
    for name, array in first.store.arrays.items():
        np.testing.assert_array_equal(again.store.arrays[name], array)
    assert again.store.names == first.store.names


@pytest.mark.parametrize("restart", [False, True])
def test_a_run_that_begins_reads_what_was_corrected_in_the_middle_of_a_file(tmp_path, restart):
    path = Path(write(tmp_path, toy_frames(300, kinds=(2,))))
    config = configured(str(path), tmp_path / "run", run__steps=1)
    if restart:
        train(config)
    else:  # a run that was stopped before its first checkpoint
        prepared(config, tmp_path / "run" / store_module.STORE)
    text = path.read_bytes()
    place = text.index(b"energy=-", len(text) // 2) + len(b"energy=-")
    path.write_bytes(text[:place] + b"5" + text[place + 1 :])
    assert len(text) > 2 * 65536 + 1000
    changed = (
        trainer_of(config)
        if not restart
        else Trainer(config, Processes(0, 1, torch.device("cpu")), lambda record: None, restart=True)
    )
    energies = [atoms.get_potential_energy() for atoms in ase.io.read(path, ":")]
    np.testing.assert_allclose(changed.data.store.arrays["energy"], energies, atol=1e-6)


def test_frames_that_differ_in_stress_or_periodicity_only_are_no_copies(tmp_path):
    frames = []
    for stress, pbc in ((0.01, True), (0.02, True), (None, True), (None, (True, True, False)), (0.01, True)):
        atoms = toy_structures(1, kinds=(2,))[0]
        atoms.pbc = pbc
        labels = {"energy": 1.0} if stress is None else {"stress": np.full(6, stress)}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    config = configured(write(tmp_path, frames), tmp_path, data__validation_fraction=0.0)
    data = prepared(config, tmp_path / "store")
    assert len(data.train) == 4 and [name for name, _ in data.left_out] == ["toy:4"]


@pytest.mark.parametrize("change", ["data.max_force=40", "data.drop_duplicates=false", "data.keys.energy=energy"])
def test_a_store_of_other_settings_is_not_reused(tmp_path, monkeypatch, change):
    path = write(tmp_path, toy_frames(9))
    first = prepared(configured(path, tmp_path), tmp_path / "store")
    read = []
    monkeypatch.setattr(
        dataset_module, "read_frames", lambda *a, original=dataset_module.read_frames: read.append(a) or original(*a)
    )
    again = prepared(configured(path, tmp_path, change), tmp_path / "store")
    assert len(read) == 1 and again.store.key != first.store.key


def test_an_unfinished_or_damaged_store_is_built_again(tmp_path):
    config = configured(write(tmp_path, toy_frames(9)), tmp_path)
    key = prepared(config, tmp_path / "store").store.key
    (tmp_path / "store" / "index.json").unlink()
    assert open_store(tmp_path / "store", key) is None
    assert prepared(config, tmp_path / "store").store.n_frames == 9
    (tmp_path / "store" / "index.json").write_text('{"key"')
    assert prepared(config, tmp_path / "store").store.n_frames == 9
    assert open_store(tmp_path / "store", "another key") is None


def test_many_frames_pass_through_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "_CHUNK", 4)
    frames = toy_frames(10)
    store = stored_frames(tmp_path / "store", frames)
    assert store.n_frames == 10 and store.arrays["n_atoms"].tolist() == [len(atoms) for atoms in frames]
    np.testing.assert_array_equal(store.system(9).positions, to_system(frames[9]).positions)


def test_weights_of_sources_reach_the_loss(tmp_path):
    """The first step of a run on two sources equals the sum of the weighted parts."""
    frames = labelled(toy_structures(6, kinds=(0,)), seed=3)
    paths = write(tmp_path, frames[:3], "a"), write(tmp_path, frames[3:], "b")
    losses = {}
    for weights in ((1, 1), (2, 1), (1, 2), (3, 0.5)):
        config = configured(
            [{"path": path, "weight": weight} for path, weight in zip(paths, weights, strict=True)],
            tmp_path / f"{weights}",
            data__validation_fraction=0.0,
            batch__max_atoms=1000,
            run__steps=1,
            run__log_every=1,
        )
        losses[weights] = of_kind(recorded(config)[1], "train")[0]["loss"]
    first, second = losses[2, 1] - losses[1, 1], losses[1, 2] - losses[1, 1]
    assert first > 1 and second > 1
    assert losses[1, 1] == pytest.approx(first + second, rel=1e-12)
    assert losses[3, 0.5] == pytest.approx(3 * first + 0.5 * second, rel=1e-12)


def test_frames_have_weights_of_their_own(tmp_path):
    """Those of the file act like those of a source, label by label; what counts nothing is no label."""
    frames = labelled(toy_structures(3, kinds=(0,)), seed=3)
    changes = {"data__validation_fraction": 0.0, "batch__max_atoms": 1000, "run__steps": 1, "run__log_every": 1}

    def loss(name, weights, **more):
        for atoms, weight in zip(frames, weights, strict=True):
            atoms.info = dict(weight)
        config = configured(write(tmp_path, frames, name), tmp_path / name, **changes | more)
        return of_kind(recorded(config)[1], "train")

    plain = loss("plain", [{}] * 3)[0]
    assert loss("twice", [{"config_weight": 2.0}] * 3)[0]["loss"] == pytest.approx(2 * plain["loss"], rel=1e-12)
    parts = [{f"config_{label}_weight": 3.0} for label in ("energy", "forces", "stress")]
    extra = [loss(f"part{i}", [part] * 3)[0]["loss"] - plain["loss"] for i, part in enumerate(parts)]
    assert min(extra) > 0.1 and sum(extra) == pytest.approx(2 * plain["loss"], rel=1e-9)
    named = loss("named", [{"w": 2.0, "config_weight": 9.0}] * 3, data__keys={"weight": "w"})[0]["loss"]
    assert named == pytest.approx(2 * plain["loss"], rel=1e-12)
    bare = {"config_energy_weight": 0.0, "config_forces_weight": 0}
    assert loss("bare", [bare] * 3)[0]["energy_mae"] is None
    for atoms, weight in zip(frames, (0.0, -1.0, 1.0), strict=True):
        atoms.info = {"config_weight": weight}
    data = prepared(configured(write(tmp_path, frames, "odd"), tmp_path / "odd"), tmp_path / "store")
    (_, none), (_, wrong) = data.left_out
    assert "its weight in the loss is 0" in none and "odd.extxyz" in wrong and "a weight of -1; weights" in wrong
    with pytest.raises(DPA4Error, match="no frame of .*odd.extxyz has 'weight'"):
        prepared(configured(str(tmp_path / "odd.extxyz"), tmp_path, data__keys={"weight": "weight"}), tmp_path / "none")


def test_a_choice_of_frames_ends_where_hardly_anything_is_left_to_be_told():
    """One large cell with a vacancy among stoichiometric ones: a combination of no others, by a millionth."""
    counts = np.vstack([np.ones((200, 2)), [[256.0, 255.0]]])
    store = SimpleNamespace(
        elements=(8, 12), composition=lambda elements: counts, arrays={"n_atoms": counts.sum(axis=1).astype(int)}
    )
    chosen = sample_frames(store, np.arange(201), 100, 0)
    assert 0 < len(chosen) <= 201 and len(set(chosen.tolist())) == len(chosen)


def test_validation_frames_without_a_label_that_counts_are_refused(tmp_path):
    frames = toy_frames(9, kinds=(0,))
    held = [atoms.copy() for atoms in frames[:3]]
    for atoms, labelled_one in zip(held, frames, strict=False):
        atoms.rattle(0.05, seed=5)
        atoms.calc = SinglePointCalculator(atoms, energy=labelled_one.get_potential_energy())
    held = write(tmp_path, held, "held")
    config = configured(write(tmp_path, frames), tmp_path / "run", data__validation=held, loss__energy=0.0)
    with pytest.raises(DPA4Error, match="none of the 3 validation frames has a label that the loss weighs"):
        recorded(config)


def test_a_property_of_weight_zero_does_not_count(tmp_path):
    frames = toy_frames(4, kinds=(0,))
    errors = []
    for weight, n in ((1.0, 2), (0.0, 4)):
        for number, atoms in enumerate(frames):
            atoms.info = {"gap": 1.0 + number, "config_energy_weight": weight if number >= 2 else 1.0}
        head = {"name": "gap", "unit": "eV", "kind": "intensive"}
        changes = {"data__validation_fraction": 0.0, "run__steps": 1, "run__log_every": 1, "batch__max_atoms": 100}
        config = configured(write(tmp_path, frames[:n], f"{n}"), tmp_path / f"run {n}", property=head, **changes)
        errors.append(of_kind(recorded(config)[1], "train")[0]["property_mae"])
    assert errors[0] == errors[1] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "kept", [("energy",), ("forces",), ("stress",), ("energy", "forces"), ("in turn",)], ids="-".join
)
def test_any_mixture_of_labels_is_trained_on(tmp_path, kept):
    frames = toy_frames(12, kinds=(0,))
    for number, atoms in enumerate(frames):
        names = [{"energy"}, {"forces", "stress"}, {"energy", "forces"}][number % 3] if kept == ("in turn",) else kept
        atoms.calc.results = {name: value for name, value in atoms.calc.results.items() if name in names}
    result, records = recorded(configured(write(tmp_path, frames), tmp_path / "run", run__steps=3))
    last = of_kind(records, "validation")[-1]
    assert result.status == "finished" and np.isfinite(last["metric"])
    for label, error in (("energy", "energy_mae"), ("forces", "force_mae"), ("stress", "stress_mae")):
        assert kept == ("in turn",) or (last[error] is not None) == (label in kept)


def free(symbol, energy):
    atoms = Atoms(symbol)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((1, 3)))
    return atoms


def test_energies_of_free_atoms_are_the_offsets_when_asked_for(tmp_path):
    atoms = [free("Mg", -1.5), free("O", -2.5)]
    frames = [*toy_frames(6), *atoms]
    config = configured(write(tmp_path, frames), tmp_path / "run", run__offsets="isolated")
    model = trainer_of(config).network.backbone
    assert model.out_bias.view(-1).tolist() == pytest.approx([-2.5, -1.5])  # O, Mg
    bound = trainer_of(configured(write(tmp_path, frames), tmp_path / "fitted"))
    alone = trainer_of(configured(write(tmp_path, frames[:6], "bound"), tmp_path / "alone"))
    torch.testing.assert_close(bound.network.backbone.out_bias, alone.network.backbone.out_bias)
    assert "2 frames are trained on" in bound.network.notes["free atoms"] and len(bound.data.train) == 7
    for changed, sentence in (
        (frames[:-1], "there is none of O; add them"),
        ([*frames, free("O", -2.0)], r"free O has -2.5 eV in .* and -2 eV in .*run\.offsets\.O = -2.5"),
    ):
        path = write(tmp_path, changed, f"n{len(changed)}")
        with pytest.raises(DPA4Error, match=sentence):
            trainer_of(configured(path, tmp_path / f"n{len(changed)}", run__offsets="isolated"))


def test_replayed_frames_are_a_changing_draw(tmp_path):
    paths = write(tmp_path, toy_frames(20), "new"), write(tmp_path, toy_frames(30, 5), "old")
    for fraction, expected in ((0.5, 20), (0.2, 5), (0.8, 80), (0.0, 0)):
        changes = {"base": str(base_file(tmp_path)), "preset": None, "model": None, "data__validation_fraction": 0.0}
        config = configured(
            paths[0],
            tmp_path / f"{fraction}",
            finetune__replay=paths[1],
            finetune__replay_fraction=fraction,
            **changes,
        )
        trainer = trainer_of(config)
        assert len(trainer.data.replay) == 30
        draws = [frames_of(trainer.config, trainer.data, epoch) for epoch in (0, 0, 1)]
        assert draws[0].tolist() == draws[1].tolist()
        assert draws[0][:20].tolist() == trainer.data.train.tolist()
        assert len(draws[0]) == 20 + expected and set(draws[0][20:]) <= set(trainer.data.replay)
        if 0 < expected < 30:
            assert len(set(draws[0][20:])) == expected and draws[0].tolist() != draws[2].tolist()


def test_frames_above_the_budget_are_refused_dropped_or_alone(tmp_path):
    frames = toy_frames(12, kinds=(0,)) + toy_frames(1, kinds=(2,))
    path = write(tmp_path, frames)
    budget = {"batch__max_atoms": 3, "run__steps": 2, "data__validation_fraction": 0.0}
    with pytest.raises(DPA4Error, match="has 4 atoms and .* edges, more than a batch may hold"):
        train(configured(path, tmp_path / "error", batch__oversize="error", **budget))
    dropped = trainer_of(configured(path, tmp_path / "drop", batch__oversize="drop", **budget))
    assert len(dropped.data.train) == 12 and "larger than a batch" in dropped.data.left_out[0][1]
    alone = trainer_of(configured(path, tmp_path / "alone", batch__oversize="alone", **budget))
    assert len(alone.data.train) == 13
    assert train(configured(path, tmp_path / "alone", batch__oversize="alone", **budget)).step == 2


def test_a_budget_that_drops_every_frame_is_one_sentence(tmp_path):
    config = configured(write(tmp_path, toy_frames(6)), tmp_path / "run", batch__max_atoms=1, batch__oversize="drop")
    with pytest.raises(DPA4Error):
        train(config)


def test_molecules_only_and_single_atoms_can_be_trained_on(tmp_path):
    frames = toy_frames(6, kinds=(1,))
    lone = Atoms("O")
    lone.calc = type(frames[0].calc)(lone, energy=-0.08, forces=np.zeros((1, 3)))
    result, records = recorded(configured(write(tmp_path, [*frames, lone]), tmp_path / "run", run__steps=3))
    assert result.status == "finished" and result.errors["stress_mae"] != result.errors["stress_mae"]
    assert of_kind(records, "validation")[-1]["stress_mae"] is None

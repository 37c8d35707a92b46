"""Training of committees: what members differ in, how a run that was stopped goes on, what comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from toy_training import CUTOFF, base_file, configured, of_kind, recorded, toy_frames, write

from dpa4_core import evaluate, load
from dpa4_core.data.splits import split_parts
from dpa4_core.errors import DPA4Error
from dpa4_core.train.config import TrainConfigError
from dpa4_core.train.dataset import prepare
from dpa4_core.train.outcome import validation_frames
from dpa4_core.train.store import STORE
from dpa4_core.train.trainer import train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return write(folder, toy_frames(16))


def test_a_committee_is_trained_member_by_member_and_goes_on_where_it_was_stopped(data, tmp_path):
    changes = {"base": str(base_file(tmp_path)), "finetune__lora_rank": 1, "run__steps": 2, "run__validate_every": 1}
    changes |= {"committee__members": 2}
    config = configured(data, tmp_path / "run", preset=None, model=None, **changes)

    class Stopped(Exception):
        pass

    seen = []

    def stop_in_the_second(record):
        seen.append(record)
        if len(of_kind(seen, "member")) == 2 and record["kind"] == "validation" and record["step"] == 1:
            raise Stopped

    with pytest.raises(Stopped):
        train(config, notify=stop_in_the_second)
    first = tmp_path / "run" / "member-1" / "model.dpa4"
    written = first.stat().st_mtime_ns
    result, records = recorded(config)
    assert first.stat().st_mtime_ns == written and len(of_kind(records, "member")) == 2
    assert result.status == "finished" and result.model == tmp_path / "run" / "model.dpa4"

    folders = [Path(member.output) for member in config.members()]
    held = [sorted(frame.name for frame in validation_frames(folder)) for folder in folders]
    assert held[0] == held[1] and held[0]
    committee = load(result.model, dtype="float64")
    assert len(committee.members) == 2 and committee.info.name == config.name
    ratio = committee.info.training["uncertainty"]["force"]["ratio"]
    assert ratio > 1, "two steps from one base: members are wrong together"
    assert committee.stretch.force == pytest.approx(ratio)
    stretched = evaluate(validation_frames(folders[0]), committee).uncertainty
    assert stretched["force"]["ratio"] == pytest.approx(1.0, rel=1e-3), "deviations are as large as errors"
    assert result.errors["energy_mae"] > 0 and set(result.errors) == set(committee.info.training["validation"])
    assert any("down" in name for name in _tensors(result.model)), "adapters are stored as such"
    again, records = recorded(config)
    assert again == result and not of_kind(records, "train")


def test_members_by_seed_have_other_weights_and_may_become_more(data, tmp_path):
    changes = {"run__steps": 2, "run__validate_every": 2, "committee__differ_by": "seed"}
    config = configured(data, tmp_path / "run", committee__members=2, **changes)
    train(config)
    first, second = (load(Path(m.output) / "model.dpa4", dtype="float64").model for m in config.members())
    assert not torch.equal(first.species.table, second.species.table)
    more, records = recorded(configured(data, tmp_path / "run", committee__members=3, **changes))
    assert len(load(more.model).members) == 3
    assert len(of_kind(records, "start")) == 1, "only the new member is trained"
    for restart in (False, True):
        with pytest.raises(DPA4Error, match="member-3 is of a committee of more than 2 members"):
            train(config, restart=restart)
    assert len(load(more.model).members) == 3


def test_free_atoms_are_trained_on_by_every_member(tmp_path):
    frames = toy_frames(20)
    for symbol, energy in (("Mg", -1.5), ("O", -2.5)):
        atom = Atoms(symbol)
        atom.calc = SinglePointCalculator(atom, energy=energy)
        frames.append(atom)
    changes = {"committee__members": 3, "run__offsets": "isolated", "run__steps": 1}
    config = configured(write(tmp_path, frames), tmp_path / "run", **changes)
    n_bound = []
    for member in config.members():
        data = prepare(member, Path(member.output) / STORE, CUTOFF)
        is_free = data.store.arrays["n_atoms"][data.train] == 1
        assert is_free.sum() == 2
        n_bound.append(int((~is_free).sum()))
    assert max(n_bound) < 16 and sum(n_bound) == 2 * 16, "each leaves out a third of the others"


def test_parts_are_whole_groups_or_contiguous_blocks_and_hold_everything():
    groups = [f"material {i // 3}" for i in range(24)]
    parts = split_parts(groups, 4, 0)
    assert sorted(np.bincount(parts)) == [6, 6, 6, 6]
    assert all(len(set(parts[i : i + 3])) == 1 for i in range(0, 24, 3))
    assert split_parts(["trajectory"] * 8, 4, 0).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_committees_that_make_no_sense_are_refused(data, tmp_path):
    with pytest.raises(TrainConfigError, match="2 to 64 members, not 1"):
        configured(data, tmp_path, committee__members=1)
    with pytest.raises(TrainConfigError, match="predicts energies"):
        configured(data, tmp_path, committee__members=2, property__name="gap")


def _tensors(path):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return list(file.keys())

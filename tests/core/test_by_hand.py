"""The strategy of training on a CPU against the plain formula: loss and gradient of the weights."""

import numpy as np
import pytest
import torch
from toy_training import gradients, largest_difference, maker, stored_frames, tiny_model, toy_frames

from dpa4_core.nn import by_hand
from dpa4_core.nn.edges import PLAIN
from dpa4_core.nn.tiling import cut
from dpa4_core.train import step as train_step
from dpa4_core.train.loss import LossConfig
from dpa4_core.train.step import Step

NETWORKS = {
    "neo": {"lmax": 2, "mixer_rank": 1, "mixing_layers": 3, "n_focus": 2},
    "two ranks, one layer": {"lmax": 3, "mixer_rank": 2, "mixing_layers": 1},
    "nano": {"mixer_rank": 0, "mixing_layers": 2},
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", ["mae", "mse"])
def test_loss_and_gradient_of_every_weight_are_those_of_the_plain_formula(network, kind, tmp_path, monkeypatch):
    store = stored_frames(tmp_path / "store", toy_frames(6, 3))
    model, chosen = tiny_model(**NETWORKS[network]), np.arange(6)
    batches = maker(store, model)
    batch, counts = batches.make(chosen, (0, 1)), torch.from_numpy(batches.counts(chosen))
    monkeypatch.setattr(by_hand, "EDGES_PER_TILE", 17)
    found = {}
    for name, strategy in (("by hand", train_step.trained_strategy), ("plain", lambda *_: PLAIN)):
        monkeypatch.setattr(train_step, "trained_strategy", strategy)
        loss, sums = Step(model, LossConfig(kind=kind))(batch, counts)
        loss.backward()
        found[name] = loss.detach(), sums, gradients(model)
    (loss, sums, own), (plain_loss, plain_sums, plain) = found["by hand"], found["plain"]
    torch.testing.assert_close(loss, plain_loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(sums, plain_sums, rtol=1e-10, atol=1e-12)
    assert largest_difference(own, plain) < 1e-11
    for name, value in plain.items():  # also the weights whose gradients are small
        torch.testing.assert_close(own[name], value, rtol=1e-6, atol=1e-9 * float(value.abs().max()) + 1e-14)


def test_frozen_matrices_get_no_gradient_and_others_keep_theirs(tmp_path):
    store = stored_frames(tmp_path / "store", toy_frames(3, 3))
    model, chosen = tiny_model(**NETWORKS["neo"]), np.arange(3)
    batches = maker(store, model)
    batch, counts = batches.make(chosen), torch.from_numpy(batches.counts(chosen))
    Step(model, LossConfig())(batch, counts)[0].backward()
    whole = gradients(model)
    frozen = {name for name, _ in model.named_parameters() if "mixing" in name}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    Step(model, LossConfig())(batch, counts)[0].backward()
    part = gradients(model)
    assert frozen and not any(part[name].any() for name in frozen)
    for name in part.keys() - frozen:
        torch.testing.assert_close(part[name], whole[name], rtol=1e-10, atol=1e-12)


def test_energies_forces_and_errors_of_a_validation_are_those_of_the_plain_formula(tmp_path, monkeypatch):
    store = stored_frames(tmp_path / "store", toy_frames(6, 3))
    model, chosen = tiny_model(**NETWORKS["neo"]), np.arange(6)
    batches, step = maker(store, model), Step(model, LossConfig())
    batch, counts = batches.make(chosen), torch.from_numpy(batches.counts(chosen))
    (loss, sums), answers = step.evaluate(batch, counts), step.answers(batch)
    monkeypatch.setattr(train_step, "strategy_for", lambda *_: PLAIN)
    plain_loss, plain_sums = step.evaluate(batch, counts)
    torch.testing.assert_close(loss, plain_loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(sums, plain_sums, rtol=1e-10, atol=1e-12)
    for one, other in zip(answers, step.answers(batch), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("place", ["centre", "neighbour"])
def test_products_over_edges_and_atoms_have_right_derivatives_of_any_order(place, monkeypatch):
    monkeypatch.setattr(by_hand, "EDGES_PER_TILE", 4)
    generator = torch.Generator().manual_seed(0)
    at = torch.tensor([0, 0, 2, 3, 3, 3] if place == "centre" else [3, 0, 2, 3, 0, 3])  # atoms 1 and 4 have no edges
    where = by_hand.AtCentre(cut(at, 5, edges_per_tile=3)) if place == "centre" else by_hand.AtNeighbour(at)
    rows, z = (torch.randn(6, 2, k, generator=generator, dtype=torch.float64, requires_grad=True) for k in (3, 4))

    def collected(rows, z):
        return by_hand.collect(rows, z, where, 5)

    expected = torch.zeros(5, 3, 4, dtype=torch.float64).index_add(0, at, rows.mT @ z)
    torch.testing.assert_close(collected(rows, z), expected)
    assert torch.autograd.gradcheck(collected, (rows, z))
    assert torch.autograd.gradgradcheck(collected, (rows, z))

"""Averages of the weights."""

import pytest
import torch
from torch import nn

from dpa4_core.errors import DPA4Error
from dpa4_core.train.ema import EMA


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def walk(net: nn.Module, ema: EMA, n: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    history = []
    for _ in range(n):
        with torch.no_grad():
            for p in net.parameters():
                p += torch.randn(p.shape, generator=generator)
        history.append({name: p.detach().clone() for name, p in net.named_parameters()})
        ema.update(net)
    return history


@pytest.mark.parametrize("warmup", [False, True])
def test_average_follows_its_formula(warmup):
    net = model().double()
    expected = {name: p.detach().clone() for name, p in net.named_parameters()}
    ema = EMA(net.named_parameters(), decay=0.5, warmup=warmup)
    for t, weights in enumerate(walk(net, ema, 20)):
        # the warm-up reaches 0.5 at t = 8
        decay = min(0.5, (1 + t) / (10 + t)) if warmup else 0.5
        expected = {name: decay * a + (1 - decay) * weights[name] for name, a in expected.items()}
    for name, average in ema.averages.items():
        torch.testing.assert_close(average, expected[name], rtol=1e-12, atol=1e-12)


def test_frozen_parameters_are_left_out():
    net = model()
    net[0].weight.requires_grad_(False)
    assert "0.weight" not in EMA(net.named_parameters()).averages


def test_swapped_model_has_the_averages_and_then_its_own_weights():
    net = model()
    ema = EMA(net.named_parameters())
    walk(net, ema, 3)
    own = {name: value.clone() for name, value in net.state_dict().items()}
    averages = {name: value.clone() for name, value in ema.averages.items()}
    addresses = [p.data_ptr() for p in net.parameters()]
    with ema.swapped(net):
        assert all(torch.equal(p, averages[name]) for name, p in net.named_parameters())
        assert not torch.equal(net[0].weight, own["0.weight"])
        assert [p.data_ptr() for p in net.parameters()] == addresses
    assert all(torch.equal(value, own[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(value, averages[name]) for name, value in ema.averages.items())


def test_swapped_model_gets_its_weights_back_after_an_exception():
    net = model()
    ema = EMA(net.named_parameters())
    walk(net, ema, 3)
    own = net[0].weight.detach().clone()
    with pytest.raises(RuntimeError, match="validation"), ema.swapped(net):
        raise RuntimeError("validation failed")
    assert torch.equal(net[0].weight, own)


def test_resumed_average_is_bitwise_the_same():
    net = model()
    ema = EMA(net.named_parameters(), decay=0.9)
    walk(net, ema, 4)
    again = model()
    again.load_state_dict(net.state_dict())
    resumed = EMA(again.named_parameters(), decay=0.9)
    resumed.load_state_tensors({key: value.clone() for key, value in ema.state_tensors().items()})
    for weights, averages in ((net, ema), (again, resumed)):
        walk(weights, averages, 4, seed=1)
    assert resumed.n_updates == 8
    assert all(torch.equal(value, resumed.averages[name]) for name, value in ema.averages.items())


def test_foreign_averages_and_decays_are_refused():
    ema = EMA(model().named_parameters())
    with pytest.raises(DPA4Error, match="averaged weights: 0.bias/average is missing"):
        ema.load_state_tensors({k: v for k, v in ema.state_tensors().items() if k != "0.bias/average"})
    with pytest.raises(DPA4Error, match=r"\[0, 1\), got 1"):
        EMA(model().named_parameters(), decay=1.0)

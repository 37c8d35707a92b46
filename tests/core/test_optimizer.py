"""HybridMuon against the reference, and the properties it owes to its definition."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import Parameter
from torch.utils._python_dispatch import TorchDispatchMode

from dpa4_core.errors import DPA4Error
from dpa4_core.model.config import PRESETS, DPA4Config, NormConfig
from dpa4_core.model.dpa4 import DPA4
from dpa4_core.model.official import official_name
from dpa4_core.train.clip import clip_gradients
from dpa4_core.train.optimizer import HybridMuon, OptimizerConfig, orthogonalise, parameter_groups, route

DATA = Path(__file__).parent.parent / "data" / "optimizer"


class NoWaiting(TorchDispatchMode):
    """Refuses operations that bring a value from the device to Python."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a value was read"
        return func(*args, **(kwargs or {}))


def optimizer_of(parameters, config=None, **options) -> HybridMuon:
    """Over parameters whose names are official ones already."""
    return HybridMuon(parameter_groups(parameters.items(), lambda name: name), config, **options)


def example(dtype=torch.float32) -> dict[str, Parameter]:
    shapes = {"a.weight": (5, 3), "b.weight": (3, 5), "c.weight": (2, 4, 4), "d.bias": (3,), "e.adamw_w": (2, 3)}
    return {name: Parameter(torch.randn(shape, dtype=dtype)) for name, shape in shapes.items()}


def take_steps(optimizer, parameters, n, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        for p in parameters.values():
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        optimizer.step()


def counts_by_route(config: DPA4Config) -> dict[str, tuple[int, int]]:
    found = {}
    for name, p in DPA4(config).named_parameters():
        if p.requires_grad:
            found.setdefault(route(official_name(name, config), p.shape), []).append(p.numel())
    return {key: (len(sizes), sum(sizes)) for key, sizes in found.items()}


@pytest.mark.parametrize("damping", [False, True], ids=["plain", "damped"])
@pytest.mark.parametrize(("precision", "gate"), [("float32", 1e-6), ("bfloat16", 4e-5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_five_steps_equal_the_reference(damping, precision, gate, dtype):
    """The learning rates add up to 8e-3: bfloat16 differs by its rounding, where normalisation precedes it here."""
    data = np.load(DATA / "trajectories.npz")
    names = sorted({key.rsplit("/", 1)[0] for key in data if "/" in key})
    parameters = {name: Parameter(torch.tensor(data[f"{name}/initial"], dtype=dtype)) for name in names}
    optimizer = optimizer_of(parameters, OptimizerConfig(damping=damping), precision=getattr(torch, precision))
    assert {group["route"] for group in optimizer.param_groups} == {"adam", "adamw", "muon"}
    for step, lr in enumerate(data["lr"]):
        for name, p in parameters.items():
            p.grad = torch.tensor(data[f"{name}/gradients"][step], dtype=dtype)
        optimizer.set_lr(float(lr))
        optimizer.step()
    tag = f"{precision}_{'damped' if damping else 'plain'}"
    for name, p in parameters.items():
        np.testing.assert_allclose(p.detach(), data[f"{name}/{tag}"], rtol=0, atol=gate, err_msg=name)


@pytest.mark.parametrize("preset", PRESETS)
def test_routes_of_presets_equal_the_reference(preset):
    data = np.load(DATA / "routes.npz")
    config = DPA4Config.preset(preset, elements=("H", "O"))
    ours = {}
    for name, p in DPA4(config).named_parameters():
        if p.requires_grad:
            name = official_name(name, config)
            ours[name] = (route(name, p.shape), p.numel())
    columns = (data[f"{preset}/{column}"].tolist() for column in ("names", "routes", "numbers"))
    assert ours == {name: (kind, number) for name, kind, number in zip(*columns, strict=True)}


def test_counts_of_the_published_mini_example():
    """The example of the training notes has no edge norms; the preset adds three with 32 scales each."""
    published = {"muon": (58, 648_640), "adam": (27, 1_580), "adamw": (4, 128)}
    norms = NormConfig(radial=False, film=False, focus=False)
    assert counts_by_route(DPA4Config.preset("mini", elements=("H", "O"), norms=norms)) == published
    preset = counts_by_route(DPA4Config.preset("mini", elements=("H", "O")))
    assert preset == published | {"adam": (27 + 3, 1_580 + 3 * 32)}


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("net.0.b", (4, 4), "adam"),
        ("fitting.bias_atom_e", (4, 4), "adam"),
        ("norm.Adam_Scale", (4, 4), "adam"),
        ("conv.adamw_gate", (4,), "adamw"),
        ("weights.3", (4, 4), "muon"),
        ("weights.3", (1, 4, 1), "adam"),
        ("weights.3", (), "adam"),
        ("conv.weight_m0.A", (2, 8), "muon"),
        ("conv.weight_m0.B", (8, 2), "muon"),
        ("conv.weight_m0.B", (8, 1), "adam"),
        ("conv.adapter_m0.up", (8, 2), "muon"),
        ("adam_block.weight", (2, 3, 3), "muon"),
    ],
)
def test_route_follows_the_last_word_of_the_name(name, shape, expected):
    assert route(name, shape) == expected


def test_groups_are_sorted_and_trainable():
    parameters = example()
    parameters["b.weight"].requires_grad_(False)
    shuffled = dict(reversed(parameters.items()))
    groups = parameter_groups(shuffled.items(), lambda name: name)
    assert [(g["route"], [n for n, _ in g["params"]]) for g in groups] == [
        ("adam", ["d.bias"]),
        ("adamw", ["e.adamw_w"]),
        ("muon", ["a.weight", "c.weight"]),
    ]
    optimizer = HybridMuon(groups)
    optimizer.set_lr(1e-2)
    assert [g["lr"] for g in optimizer.param_groups] == [1e-2] * 3


def test_rows_of_elements_have_a_rate_of_their_own():
    table = Parameter(torch.ones(4, 3))
    groups = parameter_groups((example() | {"x.adam_type_embedding": table}).items(), lambda name: name)
    optimizer = HybridMuon(groups, OptimizerConfig(vector_rate=0.1, row_rate=10.0))
    optimizer.set_lr(1e-3)
    rates = {name: g["lr"] for g in optimizer.param_groups for name in g["param_names"]}
    assert rates["x.adam_type_embedding"] == pytest.approx(1e-2) and rates["a.weight"] == 1e-3
    assert rates["d.bias"] == rates["e.adamw_w"] == pytest.approx(1e-4)
    table.grad = torch.zeros(4, 3)
    table.grad[1] = 0.3
    optimizer.step()
    assert not (table[[0, 2, 3]] - 1).any() and (table[1] - 1).abs().min() > 5e-3  # only elements in the data move


def test_polar_factor_equals_the_singular_value_decomposition():
    x = torch.randn(7, 12, 20, dtype=torch.float64)
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    for precision, gate in ((torch.float64, 2e-3), (torch.float32, 2e-3), (torch.bfloat16, 2e-2)):
        assert (orthogonalise(x, precision).double() - u @ vh).abs().max() < gate
        torch.testing.assert_close(orthogonalise(1e3 * x, precision), orthogonalise(x, precision), rtol=0, atol=gate)


def test_elements_of_an_undamped_update_have_the_configured_size():
    """Whatever the shape and the size of the gradient, and for slices one by one."""
    shapes = {"tall": (30, 6), "wide": (6, 30), "slices": (3, 8, 8), "thin": (1, 1, 5, 2)}
    parameters = {name: Parameter(torch.zeros(shape, dtype=torch.float64)) for name, shape in shapes.items()}
    optimizer = optimizer_of(parameters, OptimizerConfig(damping=False), lr=0.01)
    for p, size in zip(parameters.values(), (1e-4, 1.0, 1e3, 1e9), strict=True):
        p.grad = size * torch.randn_like(p)
    optimizer.step()
    for name, p in parameters.items():
        rows, cols = [n for n in p.shape if n > 1][-2:]
        size = p.detach().reshape(-1, rows, cols).square().mean((-2, -1)).sqrt()
        torch.testing.assert_close(size, torch.full_like(size, 0.18 * 0.01), rtol=3e-3, atol=0, msg=name)


@pytest.mark.parametrize(("sign", "expected"), [(1.0, 1.0), (0.0, 0.55)])
def test_damping_tends_to_its_limits(sign, expected):
    """Gradient along the momentum: no damping; no gradient: the middle."""
    parameters = {"w": Parameter(torch.randn(4, 4, dtype=torch.float64))}
    optimizer = optimizer_of(parameters)
    assert optimizer.mean_damping().item() == pytest.approx(0.55)
    gradient = torch.randn(4, 4, dtype=torch.float64)
    for _ in range(150):
        parameters["w"].grad = sign * gradient
        optimizer.step()
    assert optimizer.mean_damping().item() == pytest.approx(expected, abs=1e-6)
    plain = optimizer_of(parameters, OptimizerConfig(damping=False))
    assert plain.mean_damping().item() == 1.0


def test_opposing_gradients_are_damped():
    parameters = {"w": Parameter(torch.randn(4, 4))}
    optimizer = optimizer_of(parameters)
    gradient = torch.randn(4, 4)
    for size in (100.0, -1.0):
        parameters["w"].grad = size * gradient
        optimizer.step()
    # scores 0.5 → 0.9·0.5 + 0.1·1 → 0.9·0.55 + 0.1·0
    assert optimizer.mean_damping().item() == pytest.approx(0.1 + 0.9 * 0.9 * 0.55, abs=1e-5)


@pytest.mark.parametrize("absent", [False, True], ids=["zero", "none"])
def test_without_gradients_only_the_decay_acts(absent):
    parameters = example()
    before = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = optimizer_of(parameters, OptimizerConfig(weight_decay=0.1), lr=0.5)
    for p in parameters.values():
        p.grad = None if absent else torch.zeros_like(p)
    optimizer.step()
    for name, p in parameters.items():
        factor = 1.0 if name == "d.bias" else 1 - 0.5 * 0.1
        torch.testing.assert_close(p.detach(), factor * before[name], msg=name)


def test_tiny_gradients_are_not_blown_up():
    """A momentum that has died out moves nothing; denormal numbers stay finite."""
    for size in (1e-15, 1e-30, 1e-44):
        parameters = {"w": Parameter(torch.zeros(6, 6)), "adam_v": Parameter(torch.zeros(6))}
        optimizer = optimizer_of(parameters, lr=1.0)
        for p in parameters.values():
            p.grad = torch.full_like(p, size)
        optimizer.step()
        assert parameters["w"].abs().max() < 0.01
        assert parameters["adam_v"].isfinite().all()


def test_half_precision_weights_and_empty_sets_are_refused():
    with pytest.raises(DPA4Error, match=r"w is torch.bfloat16"):
        optimizer_of({"w": Parameter(torch.zeros(3, 3, dtype=torch.bfloat16))})
    with pytest.raises(DPA4Error, match="no parameter is trainable"):
        optimizer_of({"w": Parameter(torch.zeros(3, 3), requires_grad=False)})
    with pytest.raises(DPA4Error, match="momentum"):
        OptimizerConfig(momentum=1.0)
    with pytest.raises(DPA4Error, match="weight_decay"):
        OptimizerConfig(weight_decay=math.nan)


@pytest.mark.parametrize("form", ["state_dict", "tensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_resumed_run_is_bitwise_the_same(form, dtype):
    first = example(dtype)
    optimizer = optimizer_of(first)
    take_steps(optimizer, first, 3, seed=1)
    second = {name: Parameter(p.detach().clone()) for name, p in reversed(first.items())}
    resumed = optimizer_of(second)
    if form == "tensors":
        tensors = {key: value.clone() for key, value in optimizer.state_tensors().items()}
        assert all(isinstance(value, torch.Tensor) for value in tensors.values())
        resumed.load_state_tensors(tensors)
    else:
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    second = {name: second[name] for name in first}
    for parameters, run in ((first, optimizer), (second, resumed)):
        take_steps(run, parameters, 3, seed=2)
    for name, p in first.items():
        assert torch.equal(p, second[name]), name
    ours, theirs = optimizer.state_tensors(), resumed.state_tensors()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in ours)
    assert ours["step"] == 6


def test_foreign_state_is_refused():
    optimizer = optimizer_of(example())
    tensors = optimizer.state_tensors()
    with pytest.raises(DPA4Error, match=r"a.weight/momentum is missing"):
        optimizer.load_state_tensors({k: v for k, v in tensors.items() if k != "a.weight/momentum"})
    with pytest.raises(DPA4Error, match=r"z/mean is not known"):
        optimizer.load_state_tensors(tensors | {"z/mean": torch.zeros(1)})
    with pytest.raises(DPA4Error, match=r"d.bias/mean has shape \(4,\) instead of \(3,\)"):
        optimizer.load_state_tensors(tensors | {"d.bias/mean": torch.zeros(4)})


def test_step_and_clipping_never_wait_for_the_device():
    parameters = example()
    optimizer = optimizer_of(parameters)
    for p in parameters.values():
        p.grad = torch.randn_like(p)
    with NoWaiting():
        clip_gradients(parameters.values(), 5.0)
        optimizer.set_lr(1e-3)
        optimizer.step()
        optimizer.mean_damping()


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e30])
def test_clipping_limits_the_global_norm(size):
    parameters = list(example().values())
    for p in parameters:
        p.grad = size * torch.randn_like(p)
    expected = math.sqrt(sum(p.grad.double().square().sum().item() for p in parameters))
    directions = [p.grad / size for p in parameters]
    result = clip_gradients(parameters, 5.0)
    assert result.finite
    assert result.norm.item() == pytest.approx(expected, rel=1e-12)
    after = math.sqrt(sum(p.grad.double().square().sum().item() for p in parameters))
    assert after == pytest.approx(min(expected, 5.0), rel=1e-6)
    for p, direction in zip(parameters, directions, strict=True):
        torch.testing.assert_close(p.grad * (expected / after / size), direction)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_gradients_that_are_not_finite_become_zero(bad):
    parameters = list(example().values())
    for p in parameters:
        p.grad = torch.randn_like(p)
    parameters[1].grad[0, 0] = bad
    result = clip_gradients(parameters)
    assert not result.finite
    assert all((p.grad == 0).all() for p in parameters)


def test_clipping_without_gradients():
    norm, finite = clip_gradients([Parameter(torch.ones(2))])
    assert norm == 0
    assert finite

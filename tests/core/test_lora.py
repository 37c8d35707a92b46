"""Low-rank adapters: nothing changes when they are put on, and everything is kept when they are folded."""

import copy
import re

import pytest
import torch
from ase.build import bulk, molecule
from oracle_data import ORACLE
from test_presets import random_potential

from dpa4_core.data.neighbours import build_graph
from dpa4_core.data.structures import to_system
from dpa4_core.errors import DPA4Error
from dpa4_core.model.checkpoint import read_model, write_model, write_official
from dpa4_core.model.info import ModelInfo
from dpa4_core.model.lora import add_adapters, has_adapters, merge_adapters
from dpa4_core.potential import Potential, species_table
from dpa4_core.testing import run_physics_suite

PRESETS = ("nano", "neo", "pro")


def inputs(model):
    graph = build_graph([to_system(molecule("CH3OH")), to_system(bulk("Cu"))], model.config.cutoff)
    return graph.edge_vectors(), graph.src, graph.dst, species_table(model.config)[graph.atomic_numbers]


def adapted(preset, rank=3, alpha=6.0):
    """A model with random weights under adapters whose factors B are random too."""
    model = random_potential(preset).model
    add_adapters(model, rank, alpha)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(std=0.1)
    return model


@pytest.mark.parametrize("preset", PRESETS)
def test_new_adapters_leave_the_energies_unchanged_to_the_bit(preset):
    base = random_potential(preset).model.requires_grad_(False)
    model = copy.deepcopy(base)
    add_adapters(model)
    model.requires_grad_(False)  # torch.matmul takes another path for what is trained, which rounds differently
    assert torch.equal(model(*inputs(model)), base(*inputs(base)))


@pytest.mark.parametrize("preset", PRESETS)
def test_merged_model_equals_the_model_with_adapters(preset):
    model = adapted(preset)
    before = random_potential(preset).model
    keys = set(before.state_dict())
    changed = model(*inputs(model))
    merged = copy.deepcopy(model)
    merge_adapters(merged)
    assert not has_adapters(merged) and set(merged.state_dict()) == keys
    torch.testing.assert_close(merged(*inputs(merged)), changed, rtol=1e-12, atol=1e-12)
    assert (changed - before(*inputs(before))).abs().max() > 1e-3
    assert has_adapters(model) and torch.equal(model(*inputs(model)), changed)  # a copy was merged


def test_adapters_keep_the_physics():
    model = adapted("neo")
    potential = Potential(model, ModelInfo(elements=model.config.atomic_numbers))
    failures = [result for result in run_physics_suite(potential) if not result.passed]
    assert not failures, failures


def test_adapters_sit_where_the_reference_has_them():
    """Per-degree and SO(2) linear maps, with A [r, in] and B [out, r]; frame maps of the message product have none."""
    path = ORACLE / "tiny" / "lora.pt"
    state = torch.load(path, weights_only=True)["model"]
    shapes = {
        factor: [tuple(value.shape) for key, value in state.items() if re.search(rf"\.{letter}_(by_l|m0|m\.0)$", key)]
        for factor, letter in {"down": "A", "up": "B"}.items()
    }
    model, _ = read_model(path)
    names = add_adapters(model, rank=2, alpha=3.0)
    for factor, expected in shapes.items():
        ours = [tuple(p.shape) for name, p in model.named_parameters() if name.endswith(f".{factor}")]
        assert len(ours) == 10 and sorted(ours, key=str) == sorted(expected, key=str)
    assert "blocks.0.conv.mixing.0" in names and not any("message_node" in name for name in names)


def test_what_is_trained_beside_the_adapters():
    model = adapted("neo")
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    for name in ("fitting.out", "radial.weights.0", "film.out", "film.log_scale", "blocks.0.conv.query"):
        assert name in trained, name
    for name in ("blocks.1.conv_post.bias", "blocks.0.conv.qk_norm.scale", "blocks.0.conv.floor_raw"):
        assert name in trained, name
    for name in ("species.table", "film.species.table", "basis.frequencies", "blocks.0.conv.gates.0"):
        assert name in frozen, name
    for name in ("blocks.0.conv.pre_mix.base.weight", "readout.expand.base.weight"):
        assert name in frozen, name
    assert all(name in trained for name, _ in model.named_parameters() if ".adapter" in name)
    down = model.blocks[0].conv.pre_mix.adapter.down
    assert down.std().item() == pytest.approx(3**-0.5, rel=0.2)


def test_adapters_depend_on_the_seed_alone():
    base = random_potential("nano").model
    models = [copy.deepcopy(base) for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        torch.rand(3)
        add_adapters(model, seed=seed)
    first, second, other = (model.blocks[0].conv.pre_mix.adapter.down for model in models)
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_files_hold_plain_models_only(tmp_path):
    model = adapted("nano")
    for write in (write_model, write_official):
        with pytest.raises(DPA4Error, match="merge_adapters"):
            write(model, ModelInfo(), tmp_path / "x")
    energies = model(*inputs(model))
    merge_adapters(model)
    write_model(model, ModelInfo(elements=model.config.atomic_numbers), tmp_path / "x.dpa4")
    back, _ = read_model(tmp_path / "x.dpa4", dtype=None)
    assert not has_adapters(back)
    torch.testing.assert_close(back(*inputs(back)), energies, rtol=1e-12, atol=1e-12)


def test_adapters_on_adapters_and_rank_zero_are_refused():
    model = adapted("nano")
    with pytest.raises(DPA4Error, match="has adapters already"):
        add_adapters(model)
    with pytest.raises(DPA4Error, match="at least 1, got 0"):
        add_adapters(random_potential("nano").model, rank=0)


def test_compiled_and_functional_gradients_pass_through_adapters():
    model = adapted("neo")
    edge_vec, src, dst, species = inputs(model)
    parameters = [p for p in model.parameters() if p.requires_grad]

    def energy(vectors, src, dst, species):
        return model(vectors, src, dst, species).sum()

    def step(*arguments):
        return torch.func.grad_and_value(energy)(*arguments)

    leaf = edge_vec.clone().requires_grad_()
    expected_energy = energy(leaf, src, dst, species)
    (expected,) = torch.autograd.grad(expected_energy, leaf, create_graph=True)
    expected_step = torch.autograd.grad(expected.square().mean() + expected_energy, parameters, allow_unused=True)
    compiled = torch.compile(step, fullgraph=True, backend="eager")
    for function in (step, compiled):
        gradient, value = function(edge_vec, src, dst, species)
        torch.testing.assert_close(value, expected_energy)
        torch.testing.assert_close(gradient, expected)
        got = torch.autograd.grad(gradient.square().mean() + value, parameters, allow_unused=True)
        for ours, reference in zip(got, expected_step, strict=True):
            assert (ours is None) == (reference is None)
            if ours is not None:
                torch.testing.assert_close(ours, reference, rtol=1e-8, atol=1e-8)

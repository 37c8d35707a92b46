"""Complete models of every released option set against the reference."""

import numpy as np
import pytest
import torch
from oracle_data import ORACLE, RELEASED, assert_matches, names, system

from dpa4_core.data.neighbours import build_graph
from dpa4_core.errors import DPA4Error
from dpa4_core.loaded import load
from dpa4_core.model.official import official_name
from dpa4_core.potential import derive

CAPTURED = {  # our modules → names of the reference's intermediates
    "blocks.0": "block0_out",
    "blocks.1": "block1_out",
    "blocks.0.conv": "block0_conv_out",
    "blocks.0.ffns.0": "block0_ffn0_out",
}


def data(name):
    with np.load(ORACLE / "tiny" / f"{name}.npz") as archive:
        return {key: archive[key] for key in archive}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", RELEASED)
def test_energies_forces_virials(name, dtype):
    reference = data(name)
    potential = load(ORACLE / "tiny" / f"{name}.pt", dtype=dtype)
    for frame in names(reference):
        output = potential.compute(build_graph([system(reference, frame)], potential.cutoff))
        assert_matches(output, reference, frame, dtype)


@pytest.mark.parametrize("name", RELEASED)
def test_all_frames_in_one_batch(name):
    reference = data(name)
    frames = names(reference)  # of the conditioned model, some frames name a charge and spin and some do not
    potential = load(ORACLE / "tiny" / f"{name}.pt", dtype="float64")
    systems = [system(reference, frame) for frame in frames]
    output = potential.compute(build_graph(systems, potential.cutoff))
    start = 0
    for index, (frame, one) in enumerate(zip(frames, systems, strict=True)):
        stop = start + len(one.numbers)
        assert_matches(output, reference, frame, "float64", index, slice(start, stop))
        start = stop


@pytest.mark.parametrize("name", RELEASED)
def test_intermediates(name):
    reference = data(name)
    potential = load(ORACLE / "tiny" / f"{name}.pt", dtype="float64")
    captured = {}
    for path, module in potential.model.named_modules():
        if path in CAPTURED:
            module.register_forward_hook(
                lambda _, inputs, out, key=CAPTURED[path]: captured.update({key: out, f"{key}:in": inputs[0]})
            )
    graph = build_graph([system(reference, "f0")], potential.cutoff)
    potential.compute(graph)
    captured["block0_in"] = captured["block0_out:in"]
    compared = 0
    for key, ours in captured.items():
        if f"f0/i/{key}" in reference:
            np.testing.assert_allclose(ours.detach().numpy(), reference[f"f0/i/{key}"], atol=1e-10, rtol=1e-9)
            compared += 1
    assert compared >= 3
    species = potential._species_of[graph.atomic_numbers]
    with torch.no_grad():
        descriptor = potential.model.descriptor(graph.edge_vectors(), graph.src, graph.dst, species)
    np.testing.assert_allclose(descriptor.numpy(), reference["f0/i/descriptor"], atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("name", ["mmax2_heads_widefocus", "scatter_gaussian_noseed"])
def test_options_outside_the_released_models_are_refused_by_name(name):
    with pytest.raises(DPA4Error, match="n_atten_head=.* is outside the released DPA4 models"):
        load(ORACLE / "tiny" / f"{name}.pt")


@pytest.mark.parametrize("rolled", [False, True])
def test_parameter_gradients_of_a_force_and_virial_loss(rolled):
    """Training draws a random roll of every edge frame: a gauge, so gradients stay the same."""
    reference = data("neo_like")
    gradients = data("neo_like_param_grad")
    potential = load(ORACLE / "tiny" / "neo_like.pt", dtype="float64")
    model = potential.model.requires_grad_(True)
    graph = build_graph([system(reference, "f0")], potential.cutoff)
    edge_vec = graph.edge_vectors().requires_grad_()
    roll = 2 * np.pi * torch.rand(graph.n_edges, 1, dtype=torch.float64) if rolled else None
    energies = model(edge_vec, graph.src, graph.dst, potential._species_of[graph.atomic_numbers], roll=roll)
    out = derive(energies, edge_vec, graph, create_graph=True)
    loss = (
        out.energy.sum()
        + (out.forces * torch.from_numpy(gradients["force_w"][0])).sum()
        + 0.1 * out.forces.square().sum()
        + 0.01 * (out.virial.reshape(-1) * torch.from_numpy(gradients["virial_w"][0])).sum()
    )
    np.testing.assert_allclose(loss.item(), gradients["loss"], rtol=1e-11)
    loss.backward()
    for name, parameter in model.named_parameters():
        expected = gradients.get(f"grad:model.Default.{official_name(name, model.config)}")
        assert expected is not None, name
        ours = np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.numpy()
        scale = max(np.abs(expected).max(), 1e-8)
        np.testing.assert_allclose(ours / scale, expected / scale, atol=1e-9, err_msg=name)
